"""Gated linear unit and its gradient."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..core import dtypes
from ..core.array import Array
from ..core.axes import axis_of
from ..core.errors import DTypeError, SettingError, ShapeError
from ..core.op import op
from ..core.samples import A, bad, bench, s
from ..core.spec import Spec
from ..core.tape import Saved


def _half(name: str, x: Spec, dim: Any) -> tuple[int, ...]:
    """Return the shape of half of x."""
    if not dtypes.is_float(x.dtype):
        raise DTypeError(f"{name}: x is {x.dtype.name} but a floating dtype is needed; convert it with astype")
    axis = axis_of(name, dim, x.ndim)
    if x.shape[axis] % 2:
        raise ShapeError(f"{name}: axis {axis} of x of shape {x.shape} has length {x.shape[axis]}, which must be even to be halved")
    return tuple(n // 2 if i == axis else n for i, n in enumerate(x.shape))


def _out(x: Spec, dim: Any) -> Spec:
    return Spec(_half("glu", x, dim), x.dtype)


def _vjp(c: Saved, g: Array) -> dict[str, Any]:
    return {"x": glu_grad(g, c.x, c.dim)}


@op(
    out=_out, vjp=_vjp, saves=("x",), flops=lambda call: 4 * call.outputs[0].size,
    samples=(
        s("last axis", A((3, 10), -3.0, 3.0)),
        s("first axis", A((6, 5), -3.0, 3.0), 0),
        s("channels", A((2, 6, 4, 5), -3.0, 3.0), dim=1),
        s("one axis", A((2,))),
        s("long", A((2, 2062), -3.0, 3.0)),
        s("transposed", A((6, 8), view="transposed"), 1),
        s("strided", A((3, 4, 6), view="strided")),
        s("channels last", A((2, 6, 4, 5), view="channels_last"), 1),
        s("reversed", A((6, 8), view="reversed"), 0),
        s("empty", A((0, 4))),
        s("special", A((2, 4), values=(1.0, float("nan"), -90.0, 90.0, float("inf"), 2.0, 1.0, float("nan"))), gradient=False, why="NaN, inf"),
    ),
    bad=(
        bad("odd", ShapeError, ("(3, 5)", "even"), A((3, 5))),
        bad("axis", SettingError, ("axis 2",), A((3, 4)), 2),
        bad("integers", DTypeError, "int32", A((4,), dtype="int32")),
    ),
    bench=(bench("transformer", A((8192, 4096))), bench("WaveNet", A((8, 512, 4000)), 1)),
)  # fmt: skip
def glu(x: Array, dim: int = -1) -> Array:
    """Gated linear unit: ``y = a sigmoid(b)`` where a and b are the halves of x along `dim`, as `torch.nn.functional.glu`.

    Parameters
    ----------
    x : array
        Floating; of even length along `dim`.
    dim : int

    Returns
    -------
    array
        Half as long along `dim`, of x's dtype.

    Raises
    ------
    ShapeError, DTypeError, SettingError
        An odd length, integers, an axis that is not there.

    Notes
    -----
    4 operations per result. NaN in either half makes the result NaN. Dauphin et al. 2017, arXiv:1612.08083.
    """
    a, b = np.split(x, 2, axis=dim)
    with np.errstate(all="ignore"):
        return np.asarray(a * (1 / (1 + np.exp(-b))))


def _grad_out(g: Spec, x: Spec, dim: Any) -> Spec:
    half = _half("glu_grad", x, dim)
    if g.shape != half or g.dtype != x.dtype:
        raise ShapeError(f"glu_grad: g is {g.dtype.name} {g.shape} but half of x is {x.dtype.name} {half}; they must be the same")
    return Spec(x.shape, x.dtype)


@op(
    out=_grad_out, outputs=("gx",), flops=lambda call: 8 * call.spec(0).size,
    samples=(
        s("last axis", A((3, 5)), A((3, 10), -3.0, 3.0), -1),
        s("channels", A((2, 3, 4, 5)), A((2, 6, 4, 5), -3.0, 3.0), 1),
        s("first axis", A((3, 4), view="transposed"), A((6, 4), view="reversed"), 0),
        s("expanded", A((3, 4), view="expanded"), A((3, 8), view="strided"), 1),
        s("empty", A((0, 2)), A((0, 4)), 1),
    ),
    bad=(bad("shapes", ShapeError, ("(3, 4)", "(3, 2)"), A((3, 4)), A((3, 4)), 1),),
    bench=(bench("transformer", A((8192, 2048)), A((8192, 4096)), 1),),
)  # fmt: skip
def glu_grad(g: Array, x: Array, dim: int) -> Array:
    """Gradient of `glu`: ``ga = g s`` and ``gb = g a s (1 - s)`` with ``s = sigmoid(b)``, side by side along `dim`.

    Parameters
    ----------
    g : array
        The cotangent, half as long as x along `dim`.
    x : array
    dim : int

    Returns
    -------
    array
        Of x's shape and dtype.
    """
    a, b = np.split(x, 2, axis=dim)
    with np.errstate(all="ignore"):
        share = 1 / (1 + np.exp(-b))
        return np.concatenate([g * share, g * a * share * (1 - share)], axis=dim)
