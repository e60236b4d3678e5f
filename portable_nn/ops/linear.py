"""Matrix products: `matmul` in the array API's semantics, `linear` in PyTorch's.

The algebra of the gradients. Forward contracts ``[m, k] [k, n] -> [m, n]``. With the cotangent ``g [m, n]``:

    ga [m, k] = g [m, n] b^T [n, k]          gb [k, n] = a^T [k, m] g [m, n]

A 1-D operand is a matrix with one row (left) or one column (right); a broadcast batch axis is summed.
"""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np

from ..core import dtypes
from ..core.array import Array
from ..core.call import Call
from ..core.errors import DTypeError, NoGradient, ShapeError
from ..core.op import op
from ..core.registry import find
from ..core.samples import A, bad, bench, s
from ..core.spec import Spec, broadcast_shapes
from ..core.tape import Saved


def _no_bool(name: str, dtype: dtypes.DType) -> None:
    if dtype == dtypes.bool_:
        raise DTypeError(f"{name}: bool arrays were given but numbers are needed; convert with astype")


def _matmul_out(a: Spec, b: Spec) -> Spec:
    dtype = dtypes.promote("matmul", a.dtype, b.dtype)
    _no_bool("matmul", dtype)
    if a.ndim == 0 or b.ndim == 0:
        raise ShapeError(f"matmul: a 0-d array was given (shapes {a.shape} and {b.shape}) but at least one axis is needed; use multiply")
    k_left, k_right = a.shape[-1], b.shape[-2] if b.ndim > 1 else b.shape[0]
    if k_left != k_right:
        raise ShapeError(
            f"matmul: a has {k_left} columns (shape {a.shape}) but b has {k_right} rows (shape {b.shape}); they must be the same"
        )
    batch = broadcast_shapes("matmul", a.shape[:-2], b.shape[:-2])
    rows = a.shape[-2:-1] if a.ndim > 1 else ()
    columns = b.shape[-1:] if b.ndim > 1 else ()
    return Spec((*batch, *rows, *columns), dtype)


def _transposed(x: Any) -> Any:
    axes = tuple(range(len(x.shape)))
    return find("permute")(x, (*axes[:-2], axes[-1], axes[-2]))


def _matmul_vjp(c: Saved, g: Array) -> dict[str, Any]:
    a, b = c.spec_of("a"), c.spec_of("b")
    if dtypes.kind(a.dtype) == "complex" or dtypes.kind(b.dtype) == "complex":
        raise NoGradient("matmul: complex operands have no gradient rule; differentiate the real and imaginary parts")
    reshape, sum_to, astype = find("reshape"), find("sum_to"), find("astype")
    # Shapes with the missing row or column of a 1-D operand put back.
    batch = g.shape[: len(g.shape) - (a.ndim > 1) - (b.ndim > 1)]
    m = a.shape[-2] if a.ndim > 1 else 1
    n = b.shape[-1] if b.ndim > 1 else 1
    full = reshape(g, (*batch, m, n))

    def ga() -> Array:
        right = c.b if b.ndim > 1 else reshape(c.b, (b.shape[0], 1))
        made = sum_to(matmul(full, _transposed(right)), (*a.shape[:-2], m, a.shape[-1]))
        return _as(reshape(made, a.shape), a, astype)

    def gb() -> Array:
        left = c.a if a.ndim > 1 else reshape(c.a, (1, a.shape[0]))
        made = sum_to(matmul(_transposed(left), full), (*b.shape[:-2], left.shape[-1], n))
        return _as(reshape(made, b.shape), b, astype)

    return {"a": ga, "b": gb}


def _as(x: Any, spec: Spec, astype: Any) -> Any:
    return x if x.dtype == spec.dtype else astype(x, spec.dtype)


def _depth(call: Call) -> int:
    return call.spec(0).shape[-1]


@op(
    out=_matmul_out,
    vjp=_matmul_vjp,
    saves=("a", "b"),
    flops=lambda call: 2 * call.outputs[0].size * _depth(call),
    reduces=_depth,
    samples=(
        s("square", A((5, 5)), A((5, 5))),
        s("odd", A((7, 33)), A((33, 5))),
        s("tile edge", A((65, 63)), A((63, 33))),
        s("past a tile", A((17, 129)), A((129, 131))),
        s("left transposed", A((9, 17), view="transposed"), A((17, 4))),
        s("right transposed", A((9, 17)), A((17, 12), view="transposed")),
        s("both transposed", A((31, 8), view="transposed"), A((8, 32), view="transposed")),
        s("reversed", A((6, 7), view="reversed"), A((7, 6), view="reversed")),
        s("strided", A((6, 8), view="strided"), A((8, 5), view="strided")),
        s("batch", A((3, 4, 5)), A((3, 5, 2))),
        s("batch broadcast", A((2, 1, 4, 5)), A((3, 5, 6))),
        s("matrix vector", A((33, 17)), A((17,))),
        s("vector matrix", A((17,)), A((17, 33))),
        s("dot", A((130,)), A((130,))),
        s("batched vector", A((2, 3, 5)), A((5,))),
        s("one", A((1, 1)), A((1, 1))),
        s("no depth", A((3, 0)), A((0, 4)), gradient=False, why="nothing depends on the operands"),
        s("no rows", A((0, 3)), A((3, 4))),
        s("golden", A((2, 2), values=(1, 2, 3, 4)), A((2, 2), values=(5, 6, 7, 8))),
        s("NaN column", A((2, 2), values=(1, float("nan"), 3, 4)), A((2, 2), values=(5, 6, 7, float("inf"))), gradient=False, dtypes=("float32", "float64"), why="NaN"),
        s("complex", A((5, 7)), A((7, 3)), gradient=False, dtypes=("complex64", "complex128"), why="no gradient rule"),
        s("integer", A((5, 7)), A((7, 3)), gradient=False, dtypes=("int32", "int64", "uint8"), why="integers"),
        s("long", A((3, 4099)), A((4099, 2))),
        s("deep, rows of a page", A((9, 521)), A((521, 1024)), gradient=False, why="half a million numbers, each by differences"),
        s("large", A((17, 1031)), A((1031, 2050)), gradient=False, why="two million numbers, each by differences"),
    ),
    bad=(
        bad("depth", ShapeError, ("(2, 3)", "(4, 5)", "3 columns", "4 rows"), A((2, 3)), A((4, 5))),
        bad("zero-d", ShapeError, ("0-d", "multiply"), A(()), A((4, 5))),
        bad("batch", ShapeError, ("(2,)", "(3,)"), A((2, 4, 5)), A((3, 5, 6))),
        bad("kinds", DTypeError, ("int32", "float32"), A((2, 3), dtype="int32"), A((3, 2), dtype="float32")),
        bad("bool", DTypeError, ("bool", "astype"), A((2, 3), dtype="bool"), A((3, 2), dtype="bool")),
    ),
    bench=(
        bench("256", A((256, 256)), A((256, 256))),
        bench("1024", A((1024, 1024)), A((1024, 1024))),
        bench("gemv 4096", A((4096, 4096)), A((4096,))),
        bench("batch", A((32, 64, 64)), A((32, 64, 64))),
    ),
)  # fmt: skip
def matmul(a: Array, b: Array) -> Array:
    """Matrix product: ``y[.., m, n] = sum over k of a[.., m, k] b[.., k, n]``.

    Parameters
    ----------
    a : array, shape (..., M, K) or (K,)
    b : array, shape (..., K, N) or (K,)
        Batch axes broadcast. Any strides: a transposed operand is read as it is, without a copy.
        Integer, real or complex; kinds do not mix.

    Returns
    -------
    array, shape (..., M, N)
        Promoted dtype; M or N is left out for a 1-D operand. Sums are kept in float32 for float16 and bfloat16,
        in the dtype itself otherwise; integers wrap. K = 0 gives zeros.

    Raises
    ------
    ShapeError
        K of both differ, batch axes that do not broadcast, 0-d operands.
    DTypeError
        bool, or kinds that do not mix.

    Notes
    -----
    2 M N K operations per matrix. Semantics of the array API's ``matmul``. NaN and inf follow IEEE 754.
    """
    return np.matmul(a, b)


def linear_out(x: Spec, weight: Spec, bias: Spec | None, name: str = "linear") -> Spec:
    """Return the spec of ``x weight^T + bias``, or raise."""
    if weight.ndim != 2:
        raise ShapeError(f"{name}: weight has shape {weight.shape} but two axes (O, I) are needed")
    if x.ndim < 1 or x.shape[-1] != weight.shape[1]:
        raise ShapeError(
            f"{name}: x has {x.shape[-1] if x.ndim else 'no'} features (shape {x.shape}) but weight takes {weight.shape[1]} (shape {weight.shape})"
        )
    if bias is not None and bias.shape != weight.shape[:1]:
        raise ShapeError(f"{name}: bias has shape {bias.shape} but weight of shape {weight.shape} needs {weight.shape[:1]}")
    dtype = dtypes.promote(name, x.dtype, weight.dtype, *(() if bias is None else (bias.dtype,)))
    _no_bool(name, dtype)
    return Spec((*x.shape[:-1], weight.shape[0]), dtype)


def linear_vjp(c: Saved, g: Array) -> dict[str, Any]:
    """Return the gradients of x, weight and bias; `g` is the cotangent of ``x weight^T + bias``."""
    x, weight, bias = c.spec_of("x"), c.spec_of("weight"), c.spec_of("bias")
    reshape, astype = find("reshape"), find("astype")
    rows = prod(x.shape[:-1])
    flat = reshape(g, (rows, weight.shape[0]))
    return {
        "x": lambda: _as(matmul(g, c.weight), x, astype),
        "weight": lambda: _as(matmul(_transposed(flat), reshape(c.x, (rows, x.shape[-1]))), weight, astype),
        "bias": lambda: _as(find("sum")(flat, axis=0), bias, astype),
    }


@op(
    out=linear_out,
    vjp=linear_vjp,
    saves=("x", "weight"),
    flops=lambda call: call.outputs[0].size * (2 * _depth(call) + (call.inputs[2] is not None)),
    reduces=lambda call: _depth(call) + 1,
    samples=(
        s("bias", A((5, 7)), A((3, 7)), A((3,))),
        s("no bias", A((5, 7)), A((3, 7))),
        s("digits", A((64, 120)), A((84, 120)), A((84,))),
        s("tile edge", A((33, 65)), A((31, 65)), A((31,))),
        s("dot products", A((33, 209)), A((22, 209)), A((22,))),
        s("few dot products", A((16, 200)), A((18, 200)), A((18,))),
        s("batch axes", A((2, 3, 9)), A((4, 9)), A((4,))),
        s("vector", A((9,)), A((4, 9)), A((4,))),
        s("views", A((6, 8), view="transposed"), A((5, 8), view="strided"), A((5,), view="reversed")),
        s("wider bias", A((2, 3)), A((4, 3)), A((4,), dtype="float32"), dtypes=("bfloat16",)),
        s("one", A((1, 1)), A((1, 1)), A((1,))),
        s("empty batch", A((0, 3)), A((4, 3)), A((4,)), gradient=False, why="nothing is summed"),
        s("no features", A((3, 0)), A((4, 0)), A((4,)), gradient=False, why="nothing depends on x"),
        s("golden", A((1, 2), values=(1, 2)), A((2, 2), values=(3, 4, 5, 6)), A((2,), values=(10, 20))),
    ),
    bad=(
        bad("features", ShapeError, ("7 features", "(5, 7)", "8", "(3, 8)"), A((5, 7)), A((3, 8))),
        bad("bias", ShapeError, ("bias", "(4,)", "(3,)"), A((5, 7)), A((3, 7)), A((4,))),
        bad("weight axes", ShapeError, ("(7,)", "(O, I)"), A((5, 7)), A((7,))),
        bad("kinds", DTypeError, ("int32", "float32"), A((5, 7), dtype="int32"), A((3, 7), dtype="float32")),
    ),
    bench=(bench("lenet fc1", A((64, 400)), A((120, 400)), A((120,))), bench("mlp", A((128, 784)), A((512, 784)), A((512,))), bench("4096x1024", A((64, 4096)), A((1024, 4096)), A((1024,)))),
)  # fmt: skip
def linear(x: Array, weight: Array, bias: Array | None = None) -> Array:
    """Affine map: ``y[.., o] = sum over i of x[.., i] weight[o, i] + bias[o]``.

    Parameters
    ----------
    x : array, shape (..., I)
    weight : array, shape (O, I)
    bias : array, shape (O,), optional

    Returns
    -------
    array, shape (..., O)
        Promoted dtype; sums in float32 or wider.

    Raises
    ------
    ShapeError
        Features of x and weight that differ; a bias of another length.
    DTypeError
        bool, or kinds that do not mix.

    Notes
    -----
    ``(2 I + 1) O`` operations per row. Same convention as ``torch.nn.functional.linear``.
    """
    y = np.matmul(x, np.swapaxes(weight, 0, 1))
    return y if bias is None else y + bias
