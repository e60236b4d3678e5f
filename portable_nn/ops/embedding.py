"""Embedding: rows of a table by integer, its deterministic gradient, and one-hot vectors."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..core import dtypes
from ..core.array import Array
from ..core.errors import DeviceValueError, DTypeError, SettingError, ShapeError
from ..core.op import op, setting_dtype, setting_int
from ..core.samples import A, bad, bench, s
from ..core.spec import Spec
from ..core.tape import Saved
from .gather import check_indices, check_integer


def _index(*shape: int, size: int, **more: Any) -> A:
    return A(shape, low=0, high=size, dtype=more.pop("dtype", "int64"), **more)


def _padding(name: str, padding_idx: Any, rows: int) -> None:
    if padding_idx is None:
        return
    if not -rows <= setting_int(name, "padding_idx", padding_idx) < rows:
        raise SettingError(f"{name}: padding_idx is {padding_idx} but the table has {rows} rows")


def _out(input: Spec, weight: Spec, padding_idx: Any) -> Spec:
    check_integer("embedding", "input", input)
    if weight.ndim != 2:
        raise ShapeError(f"embedding: weight has shape {weight.shape} but a table (rows, features) is needed")
    _padding("embedding", padding_idx, weight.shape[0])
    return Spec((*input.shape, weight.shape[1]), weight.dtype)


def _vjp(c: Saved, g: Any) -> dict[str, Any]:
    rows = c.spec_of("weight").shape[0]
    return {"weight": lambda: embedding_grad(g, c.input, rows, c.padding_idx)}


@op(
    out=_out, vjp=_vjp, saves=("input",),
    samples=(
        s("tokens", _index(2, 3, size=5), A((5, 4))),
        s("one token", _index(size=5), A((5, 40))),
        s("int32, long rows", _index(7, size=9, dtype="int32"), A((9, 300))),
        s("padding", A((4,), dtype="int64", values=(0, 2, 0, 1)), A((3, 5)), padding_idx=0, gradient=False, why="the padded row has none"),
        s("padding from the end", A((4,), dtype="int64", values=(0, 2, 2, 1)), A((3, 5)), padding_idx=-1, gradient=False, why="the padded row has none"),
        s("views", _index(3, 4, size=6, view="transposed"), A((6, 5), view="transposed")),
        s("no token", _index(0, size=5), A((5, 4))),
    ),
    bad=(
        bad("float tokens", DTypeError, ("float32", "integer"), A((2,), dtype="float32"), A((3, 4))),
        bad("table", ShapeError, ("(3,)", "(rows, features)"), _index(2, size=3), A((3,))),
        bad("padding", SettingError, ("7", "3 rows"), _index(2, size=3), A((3, 4)), padding_idx=7),
        bad("token", DeviceValueError, ("embedding", "9", "position 1", "[0, 3)"), A((2,), dtype="int64", values=(0, 9)), A((3, 4))),
    ),
    bench=(bench("tokens", _index(64, 128, size=10000), A((10000, 256))),), flops=lambda call: 0,
)  # fmt: skip
def embedding(input: Array, weight: Array, padding_idx: int | None = None) -> Array:
    """Look rows up in a table: ``y[n, d] = weight[input[n], d]``.

    Parameters
    ----------
    input : array
        Integers in [0, rows), any shape.
    weight : array
        Table of shape (rows, features).
    padding_idx : int, optional
        Row without a gradient; negative counts from the end.

    Returns
    -------
    array
        Shape of `input` with the features appended; dtype of `weight`.

    Raises
    ------
    DeviceValueError
        An index out of range: at once on NumPy, at the next synchronisation on a device.
    """
    check_indices("embedding", input, weight.shape[0])
    return weight[input.astype(np.int64)]


def _grad_out(g: Spec, input: Spec, num_embeddings: Any, padding_idx: Any) -> Spec:
    check_integer("embedding_grad", "input", input)
    rows = setting_int("embedding_grad", "num_embeddings", num_embeddings)
    if g.ndim != input.ndim + 1 or g.shape[:-1] != input.shape:
        raise ShapeError(f"embedding_grad: g has shape {g.shape} but input of shape {input.shape} needs {(*input.shape, 'features')}")
    if not dtypes.is_float(g.dtype):
        raise DTypeError(f"embedding_grad: g is {g.dtype.name} but float is needed")
    _padding("embedding_grad", padding_idx, rows)
    return Spec((rows, g.shape[-1]), g.dtype)


@op(
    out=_grad_out, vjp=lambda c, g: {"g": lambda: _grad_pull(c, g)}, saves=("input",),
    samples=(
        s("tokens", A((2, 3, 4)), _index(2, 3, size=5), 5),
        s("many repeats", A((300, 40)), _index(300, size=3), 3),
        s("padding", A((9, 4)), _index(9, size=3), 3, padding_idx=1, gradient=False, why="the padded row is cut"),
        s("views", A((33, 5), view="transposed"), _index(33, size=7, view="reversed"), 7),
        s("no token", A((0, 4)), _index(0, size=5), 5),
    ),
    bad=(bad("shape", ShapeError, ("(3, 4)", "(2,)"), A((3, 4)), _index(2, size=3), 3),),
    bench=(bench("tokens", A((64, 128, 256)), _index(64, 128, size=10000), 10000),),
    flops=lambda call: call.spec(0).size, reduces=lambda call: call.spec(1).size,
)  # fmt: skip
def embedding_grad(g: Array, input: Array, num_embeddings: int, padding_idx: int | None = None) -> Array:
    """Gradient of `embedding` by its table: ``z[v, d] = Σ_n [input[n] = v] g[n, d]``; 0 in row `padding_idx`.

    Indices are sorted stably, then each row adds its run in the order of the positions: deterministic, no atomics.

    Parameters
    ----------
    g : array
        Cotangent; shape of `input` with the features appended, real floating.
    input : array
        Integers in [0, num_embeddings).
    num_embeddings : int
        Rows of the table.
    padding_idx : int, optional
        Row that gets 0.

    Returns
    -------
    array
        Shape (num_embeddings, features), dtype of `g`.
    """
    check_indices("embedding_grad", input, num_embeddings)
    made = np.zeros((num_embeddings, g.shape[-1]), g.dtype)
    np.add.at(made, input.reshape(-1).astype(np.int64), g.reshape(input.size, g.shape[-1]))
    if padding_idx is not None:
        made[padding_idx] = 0
    return made


def _grad_pull(c: Saved, g: Any) -> Any:
    if c.padding_idx is not None:
        raise SettingError("embedding_grad: its own gradient is there for padding_idx=None only")
    return embedding(c.input, g)


def _one_hot_out(x: Spec, num_classes: Any, dtype: Any) -> Spec:
    check_integer("one_hot", "x", x)
    classes = setting_int("one_hot", "num_classes", num_classes)
    if classes < 1:
        raise SettingError(f"one_hot: num_classes is {classes} but must be at least 1; it is not inferred, the values live on the device")
    made = setting_dtype(dtype=dtype, op_name="one_hot")
    if dtypes.kind(made) == "complex":
        raise DTypeError(f"one_hot: dtype is {made.name} but bool, int or float is needed")
    return Spec((*x.shape, classes), made)


@op(
    out=_one_hot_out, integer_outputs=("y",),
    samples=(
        s("labels", _index(7, size=10), 10),
        s("float", _index(2, 3, size=5, dtype="int32"), 5, dtype="float32"),
        s("half, view", _index(4, 5, size=40, view="transposed"), 40, dtype="bfloat16"),
        s("bool", _index(size=3, dtype="uint8"), 3, dtype="bool"),
        s("empty", _index(0, size=3), 3),
    ),
    bad=(
        bad("classes", SettingError, ("-1", "at least 1"), _index(2, size=3), -1),
        bad("float", DTypeError, ("float32", "integer"), A((2,), dtype="float32"), 3),
        bad("label", DeviceValueError, ("one_hot", "4", "position 1", "[0, 3)"), A((2,), dtype="int64", values=(0, 4)), 3),
    ),
    bench=(bench("labels", _index(8192, size=1000), 1000),), flops=lambda call: call.outputs[0].size,
)  # fmt: skip
def one_hot(x: Array, num_classes: int, dtype: Any = "int64") -> Array:
    """One-hot vectors: ``y[n, c] = 1 if x[n] = c else 0``, the classes appended as last axis; no gradient.

    `x` holds integers in [0, num_classes); int64 by default, as in PyTorch.

    Parameters
    ----------
    x : array
        Integers, any shape.
    num_classes : int
        At least 1; not inferred from the values.
    dtype : dtype
        bool, integer or real floating.

    Returns
    -------
    array
        Shape of `x` with the classes appended.
    """
    check_indices("one_hot", x, num_classes)
    return (x[..., None] == np.arange(num_classes)).astype(setting_dtype(dtype=dtype, op_name="one_hot"))
