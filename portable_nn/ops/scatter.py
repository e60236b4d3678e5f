"""Scattering along an axis, deterministic: gather, scatter_add, scatter_reduce, index_add, in PyTorch's spelling.

Terms that meet at one place are taken in the order of their positions, on every device: indices are sorted (stably),
and every place adds its run. Over 250 lines because each op carries its record and its page.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np

from ..core import dtypes
from ..core.array import Array
from ..core.axes import axis_of
from ..core.call import Call
from ..core.errors import DeviceValueError, DTypeError, SettingError, ShapeError
from ..core.op import op, setting_int
from ..core.registry import find
from ..core.samples import A, bad, bench, s
from ..core.spec import Spec
from ..core.tape import Saved
from .gather import check_indices, check_integer, take

_FLOATS = ("float32", "float64", "float16", "bfloat16")
REDUCTIONS = ("sum", "mean", "amax", "amin")


def _index(*shape: int, size: int, **more: Any) -> A:
    return A(shape, low=0, high=size, dtype=more.pop("dtype", "int64"), **more)


def _lines(name: str, input: Spec, index: Spec, dim: Any) -> int:
    """Check that `index` has the shape of `input` but for axis `dim`; return that axis."""
    check_integer(name, "index", index)
    at = axis_of(name, dim, input.ndim)
    if index.ndim != input.ndim or (*index.shape[:at], *index.shape[at + 1 :]) != (*input.shape[:at], *input.shape[at + 1 :]):
        raise ShapeError(f"{name}: index has shape {index.shape} but input {input.shape}; all axes but {at} must be equal: slice input first")
    return at


def _gather_out(input: Spec, dim: Any, index: Spec) -> Spec:
    _lines("gather", input, index, dim)
    return Spec(index.shape, input.dtype)


def _gather_vjp(c: Saved, g: Any) -> dict[str, Any]:
    spec = c.spec_of("input")
    at = axis_of("gather", c.dim, spec.ndim)
    return {"input": lambda: gather_grad(g, c.index, spec.shape[at], at)}


@op(
    out=_gather_out, vjp=_gather_vjp, saves=("index",),
    samples=(
        s("labels", A((7, 10)), 1, _index(7, 1, size=10)),
        s("first axis", A((5, 3)), 0, _index(2, 3, size=5, dtype="int32")),
        s("longer", A((2, 3)), -1, _index(2, 40, size=3)),
        s("middle", A((2, 5, 40)), 1, _index(2, 3, 40, size=5)),
        s("views", A((33, 5), view="transposed"), 1, _index(33, 4, size=5, view="transposed")),
        s("empty", A((0, 3)), 1, _index(0, 2, size=3)),
    ),
    bad=(
        bad("shape", ShapeError, ("(3, 1)", "(2, 5)"), A((2, 5)), 1, _index(3, 1, size=5)),
        bad("float index", DTypeError, ("float32", "integer"), A((2, 5)), 1, A((2, 1), dtype="float32")),
        bad("index", DeviceValueError, ("gather", "-1", "position 0", "[0, 5)"), A((2, 5)), 1, A((2, 1), dtype="int64", values=(-1, 2))),
    ),
    bench=(bench("rows", A((8192, 1000)), 1, _index(8192, 100, size=1000)),), flops=lambda call: 0,
)  # fmt: skip
def gather(input: Array, dim: int, index: Array) -> Array:
    """Gather along an axis: ``y[k, j] = input[k, index[k, j]]``, PyTorch's ``gather``.

    As `take_along_dim`, with a gradient that sorts: for many indices per line.

    Parameters
    ----------
    input : array
    dim : int
    index : array
        Integers in [0, n); shape of `input` but for axis `dim` (PyTorch also takes smaller ones: slice `input`).

    Returns
    -------
    array
        Shape of `index`, dtype of `input`.

    Raises
    ------
    ShapeError, DTypeError
        Shapes that do not fit; an index that is not integer.
    DeviceValueError
        An index out of range: at once on NumPy, at the next synchronisation on a device.
    """
    at = dim % input.ndim
    check_indices("gather", index, input.shape[at])
    return np.take_along_axis(input, index.astype(np.int64), at)


def _gather_grad_out(g: Spec, index: Spec, size: Any, dim: Any) -> Spec:
    check_integer("gather_grad", "index", index)
    at = axis_of("gather_grad", dim, g.ndim)
    if g.shape != index.shape:
        raise ShapeError(f"gather_grad: g has shape {g.shape} but index {index.shape}; they must be equal")
    if not dtypes.is_float(g.dtype):
        raise DTypeError(f"gather_grad: g is {g.dtype.name} but float is needed")
    return Spec((*g.shape[:at], setting_int("gather_grad", "size", size), *g.shape[at + 1 :]), g.dtype)


def _taken(call: Call) -> int:
    """Return how many terms may meet at one place."""
    k = call.spec(1)
    return k.shape[axis_of(call.op, call.settings["dim"], call.spec(0).ndim)] if k.ndim == call.spec(0).ndim else k.size


def _added(input: Any, dim: int, index: Any, src: Any) -> Any:
    made = np.moveaxis(input, dim, -1).copy()
    places, terms = np.moveaxis(index, dim, -1).astype(np.int64), np.moveaxis(src, dim, -1)
    rest = np.indices(places.shape, sparse=True)[:-1]
    np.add.at(made, (*rest, places), terms)
    return np.moveaxis(made, -1, dim)


@op(
    out=_gather_grad_out, vjp=lambda c, g: {"g": partial(gather, g, c.dim, c.index)}, saves=("index",),
    samples=(
        s("labels", A((7, 1)), _index(7, 1, size=10), 10, 1),
        s("repeats", A((3, 9)), _index(3, 9, size=4), 4, 1),
        s("many repeats", A((2, 300)), _index(2, 300, size=3), 3, -1),
        s("first axis", A((50, 4)), _index(50, 4, size=3, dtype="int32"), 3, 0),
        s("views", A((33, 5), view="transposed"), _index(33, 5, size=4, view="reversed"), 4, 1),
        s("no index", A((2, 0)), _index(2, 0, size=3), 3, 1),
    ),
    bad=(bad("shape", ShapeError, ("(2, 2)", "(2, 1)"), A((2, 2)), _index(2, 1, size=3), 3, 1),),
    flops=lambda call: call.spec(0).size, reduces=_taken,
)  # fmt: skip
def gather_grad(g: Array, index: Array, size: int, dim: int) -> Array:
    """Gradient of `gather`: ``y[k, v] = Σ_j [index[k, j] = v] g[k, j]``, `size` long along `dim`; j in order.

    Parameters
    ----------
    g : array
        Cotangent of `gather`; real floating.
    index : array
        Shape of `g`.
    size : int
        Length of the result along `dim`.
    dim : int

    Returns
    -------
    array
        Shape of `g` with `size` along `dim`; dtype of `g`.
    """
    at = dim % g.ndim
    check_indices("gather_grad", index, size)
    return _added(np.zeros((*g.shape[:at], size, *g.shape[at + 1 :]), g.dtype), at, index, g)


def _scatter_out(name: str, input: Spec, dim: Any, index: Spec, src: Spec) -> Spec:
    _lines(name, input, index, dim)
    if src.shape != index.shape or src.dtype != input.dtype:
        raise ShapeError(f"{name}: src is {src.dtype.name} {src.shape} but index has shape {index.shape} and input {input.dtype.name}; they must be equal")
    if dtypes.kind(input.dtype) not in ("int", "float"):
        raise DTypeError(f"{name}: input is {input.dtype.name} but int or float is needed; convert with astype")
    return Spec(input.shape, input.dtype)


def _add_vjp(c: Saved, g: Any) -> dict[str, Any]:
    return {"input": lambda: g, "src": lambda: gather(g, c.dim, c.index)}


def _samples(**settings: Any) -> tuple[Any, ...]:
    def unique(*shape: int, view: str = "") -> A:
        return A(shape, view=view, unique=True)

    return (
        s("rows", unique(3, 5), 1, _index(3, 4, size=5), A((3, 4), 3, 4), **settings),
        s("first axis", unique(5, 3), 0, _index(7, 3, size=5, dtype="int32"), A((7, 3), 3, 4), **settings),
        s("middle", unique(2, 5, 40), 1, _index(2, 3, 40, size=5, dtype="uint8"), A((2, 3, 40), 3, 4), **settings),
        s("runs past a block", unique(2, 3), -1, _index(2, 300, size=3), A((2, 300)), **settings),
        s("views", unique(33, 5, view="transposed"), 1, _index(33, 4, size=5, view="reversed"), A((33, 4), 3, 4, view="strided"), **settings),
        s("one axis", unique(6), 0, _index(9, size=6), A((9,), 3, 4), **settings),
        s("int", A((4, 6), dtype="int32", low=-9, high=9), 1, _index(4, 9, size=6), A((4, 9), dtype="int32", low=-9, high=9), **settings),
        s("no index", unique(3, 5), 1, _index(3, 0, size=5), A((3, 0)), **settings),
        s("empty", A((0, 5)), 1, _index(0, 3, size=5), A((0, 3)), **settings),
    )


_BAD = (
    bad("shape", ShapeError, ("(3, 1)", "(2, 5)"), A((2, 5)), 1, _index(3, 1, size=5), A((3, 1))),
    bad("src", ShapeError, ("(2, 3)", "(2, 1)"), A((2, 5)), 1, _index(2, 1, size=5), A((2, 3))),
    bad("float index", DTypeError, ("float32", "integer"), A((2, 5)), 1, A((2, 1), dtype="float32"), A((2, 1))),
)
_BENCH = (bench("rows", A((1024, 1000)), 1, _index(1024, 1000, size=1000), A((1024, 1000))), bench("nodes", A((10000, 64)), 0, _index(40000, 64, size=10000), A((40000, 64))))


@op(
    out=partial(_scatter_out, "scatter_add"), vjp=_add_vjp, saves=("index",), samples=_samples(),
    bad=(*_BAD, bad("index", DeviceValueError, ("scatter_add", "5", "position 1", "[0, 5)"), A((2, 5)), 1, A((2, 1), dtype="int64", values=(2, 5)), A((2, 1)))),
    bench=_BENCH, flops=lambda call: call.spec(2).size, reduces=_taken,
)  # fmt: skip
def scatter_add(input: Array, dim: int, index: Array, src: Array) -> Array:
    """Add at indices along an axis: ``y[k, v] = input[k, v] + Σ_j [index[k, j] = v] src[k, j]``.

    Parameters
    ----------
    input : array
        Integer or real floating.
    dim : int
    index : array
        Integers in [0, n); shape of `input` but for axis `dim`.
    src : array
        Shape of `index`, dtype of `input`.

    Returns
    -------
    array
        Shape and dtype of `input`, a new array.

    Raises
    ------
    ShapeError, DTypeError, SettingError
        Shapes or dtypes that do not fit; an axis that is not there.
    DeviceValueError
        An index out of range: at once on NumPy, at the next synchronisation on a device.

    Notes
    -----
    The terms of a place are added in the order of j, in blocks of 64, then to `input`: the same bits in every run.
    Halves are summed in float32 and rounded once. Sorting costs about ``log2`` of the indices per line; one addition
    per index. The convention is PyTorch's, with shapes that must be equal where PyTorch takes the smaller.
    """
    at = dim % input.ndim
    check_indices("scatter_add", index, input.shape[at])
    return _added(input, at, index, src)


def _reduce_out(input: Spec, dim: Any, index: Spec, src: Spec, reduce: Any, include_self: Any) -> Spec:
    if reduce not in REDUCTIONS:
        raise SettingError(f"scatter_reduce: reduce is {reduce!r} but must be one of {', '.join(map(repr, REDUCTIONS))}")
    if reduce == "mean" and not dtypes.is_float(input.dtype):
        raise DTypeError(f"scatter_reduce: input is {input.dtype.name} but the mean needs float; convert with astype")
    return _scatter_out("scatter_reduce", input, dim, index, src)


def _reduce_vjp(c: Saved, g: Any) -> dict[str, Any]:
    where, equal, divide, add = find("where"), find("equal"), find("divide"), find("add")
    zeros_like, ones_like, cast, dtype = find("zeros_like"), find("ones_like"), find("astype"), c.spec_of("input").dtype
    if c.spec_of("index").size == 0:
        return {"input": lambda: g, "src": lambda: zeros_like(c.src)}

    def count_of(hit: Any) -> Any:
        return scatter_add(zeros_like(c.input), c.dim, c.index, hit)

    if c.reduce in ("amax", "amin"):
        hit = equal(c.src, gather(c.y, c.dim, c.index))
        own = equal(c.input, c.y)
        ties = count_of(cast(hit, dtype))
        each = divide(g, add(ties, cast(own, dtype)) if c.include_self else ties)
        touched = {"input": lambda: where(own, each, 0.0), "src": lambda: where(hit, gather(each, c.dim, c.index), 0.0)}
    else:
        each = g
        if c.reduce == "mean":
            each = divide(g, add(count_of(ones_like(c.src)), 1.0) if c.include_self else count_of(ones_like(c.src)))
        touched = {"input": lambda: each, "src": lambda: gather(each, c.dim, c.index)}
    if not c.include_self:  # what no index names keeps its value, and the rest of input counts for nothing
        touched["input"] = lambda: where(equal(count_of(ones_like(c.src)), 0.0), g, 0.0)
    return touched


@op(
    out=_reduce_out, vjp=_reduce_vjp, saves=("input", "index", "src", "y"),
    samples=(
        *_samples(reduce="sum")[:5],
        *(s(f"{one.name}, {how}", *one.args, reduce=how, include_self=own) for how, own in (("mean", True), ("amax", False), ("amin", True)) for one in _samples()
          if not (how == "mean" and one.name == "int") and not (how != "mean" and one.name == "middle")),
        *(s(f"{one.name}, {how}, without input", *one.args, reduce=how, include_self=False) for how in ("sum", "mean", "amin") for one in _samples()[:2]),
        s("amax with input", A((3, 5), unique=True), 1, _index(3, 4, size=5), A((3, 4), -0.06, 0.06), reduce="amax", dtypes=("float64",)),
        s("ties", A((2, 2), values=(1.0, 2.0, 2.0, 0.0)), 1, A((2, 3), dtype="int64", values=(0, 0, 1, 0, 0, 0)), A((2, 3), values=(1.0, 1.0, 2.0, 3.0, 3.0, 1.0)), reduce="amax", gradient=False, why="ties are kinks"),
        s("NaN", A((1, 2), values=(1.0, 2.0)), 1, A((1, 2), dtype="int64", values=(0, 0)), A((1, 2), values=(float("nan"), 2.0)), reduce="amin", gradient=False, dtypes=("float32", "float16"), why="NaN"),
    ),
    bad=(
        *_BAD, bad("reduce", SettingError, ("'prod'", "'amax'"), A((2, 5)), 1, _index(2, 1, size=5), A((2, 1)), "prod"),
        bad("mean of int", DTypeError, ("int32", "mean"), A((2, 5), dtype="int32"), 1, _index(2, 1, size=5), A((2, 1), dtype="int32"), "mean"),
    ),
    bench=tuple(bench(b.name, *b.args, reduce="mean") for b in _BENCH), flops=lambda call: call.spec(2).size, reduces=_taken,
)  # fmt: skip
def scatter_reduce(input: Array, dim: int, index: Array, src: Array, reduce: str = "sum", *, include_self: bool = True) -> Array:
    """Combine at indices along an axis: ``y[k, v]`` is the sum, mean, maximum or minimum of all ``src[k, j]`` with ``index[k, j] = v``.

    Parameters
    ----------
    input : array
        Integer or real floating; "mean" needs floating.
    dim : int
    index : array
        Integers in [0, n); shape of `input` but for axis `dim`.
    src : array
        Shape of `index`, dtype of `input`.
    reduce : "sum", "mean", "amax" or "amin"
        A NaN makes the maximum and the minimum NaN.
    include_self : bool
        Whether ``input[k, v]`` is one of the terms. Places no index names keep their value either way.

    Returns
    -------
    array
        Shape and dtype of `input`, a new array.

    Notes
    -----
    Order, rounding and errors are those of `scatter_add`. The gradient of a maximum is shared equally among the terms
    that are the maximum, as PyTorch does.
    """
    at = dim % input.ndim
    check_indices("scatter_reduce", index, input.shape[at])
    made = np.moveaxis(input, at, -1).copy()
    places, terms = np.moveaxis(index, at, -1).astype(np.int64), np.moveaxis(src, at, -1)
    for line in np.ndindex(places.shape[:-1]):
        for v in np.unique(places[line]):
            found = terms[line][places[line] == v]
            if include_self:
                found = np.concatenate([made[line][v : v + 1], found])
            made[(*line, v)] = getattr(np, reduce)(found).astype(made.dtype)  # np.amax and np.amin have these names
    return np.moveaxis(made, -1, at)


def _index_out(input: Spec, dim: Any, index: Spec, source: Spec, alpha: Any) -> Spec:
    check_integer("index_add", "index", index)
    at = axis_of("index_add", dim, input.ndim)
    wanted = (*input.shape[:at], index.size, *input.shape[at + 1 :])
    if index.ndim != 1 or source.shape != wanted or source.dtype != input.dtype:
        raise ShapeError(
            f"index_add: index has shape {index.shape} and source is {source.dtype.name} {source.shape}, but input, {input.dtype.name} {input.shape}, "
            f"needs one axis of indices and one slice of input along axis {at} for each"
        )
    whole = dtypes.is_integer(input.dtype)
    if not (whole or dtypes.is_float(input.dtype)):
        raise DTypeError(f"index_add: input is {input.dtype.name} but int or float is needed; convert with astype")
    if not isinstance(alpha, int if whole else int | float):
        raise SettingError(f"index_add: alpha is {alpha!r} but must be a number{', a whole one for ' + input.dtype.name if whole else ''}")
    return Spec(input.shape, input.dtype)


def _index_vjp(c: Saved, g: Any) -> dict[str, Any]:
    def by_source() -> Any:
        taken = take(g, c.index, c.dim)
        return taken if c.alpha == 1 else find("multiply")(taken, float(c.alpha))

    return {"input": lambda: g, "source": by_source}


@op(
    out=_index_out, vjp=_index_vjp, saves=("index",),
    samples=(
        s("rows", A((5, 3)), 0, _index(7, size=5), A((7, 3))),
        s("alpha", A((5, 40)), 0, _index(3, size=5, dtype="int32"), A((3, 40)), alpha=-0.5, dtypes=_FLOATS),
        s("last axis", A((3, 4, 6)), -1, _index(9, size=6), A((3, 4, 9))),
        s("runs past a block", A((3, 2)), 0, _index(300, size=3), A((300, 2))),
        s("views", A((33, 40), view="transposed"), 0, _index(6, size=33, view="reversed"), A((6, 40), view="strided")),
        s("int", A((4, 6), dtype="int32", low=-9, high=9), 1, _index(9, size=6), A((4, 9), dtype="int32", low=-9, high=9), alpha=3),
        s("no index", A((3, 5)), 1, _index(0, size=5), A((3, 0))),
    ),
    bad=(
        bad("shape", ShapeError, ("(2, 2)", "(3, 2)"), A((3, 2)), 0, _index(2, 2, size=3), A((2, 2))),
        bad("alpha", SettingError, ("0.5", "whole", "int32"), A((3,), dtype="int32"), 0, _index(2, size=3), A((2,), dtype="int32"), alpha=0.5),
        bad("index", DeviceValueError, ("index_add", "3", "position 1", "[0, 3)"), A((3, 2)), 0, A((2,), dtype="int64", values=(0, 3)), A((2, 2))),
    ),
    bench=(bench("rows", A((10000, 256)), 0, _index(4096, size=10000), A((4096, 256))),), flops=lambda call: call.spec(2).size, reduces=_taken,
)  # fmt: skip
def index_add(input: Array, dim: int, index: Array, source: Array, *, alpha: float = 1) -> Array:
    """Add slices at indices of an axis: ``y[.., v, ..] = input[.., v, ..] + alpha Σ_j [index[j] = v] source[.., j, ..]``.

    Parameters
    ----------
    input : array
        Integer or real floating.
    dim : int
    index : array
        One axis, integers in [0, n).
    source : array
        Shape of `input` with one slice per index along `dim`; dtype of `input`.
    alpha : float
        A whole number for integers.

    Returns
    -------
    array
        Shape and dtype of `input`, a new array.

    Notes
    -----
    Order, rounding and errors are those of `scatter_add`; the indices are sorted once for all lines.
    """
    at = dim % input.ndim
    check_indices("index_add", index, input.shape[at])
    added = np.zeros((input.shape[at], *np.moveaxis(source, at, 0).shape[1:]), input.dtype)
    np.add.at(added, index.astype(np.int64), np.moveaxis(source, at, 0))
    return (input + np.asarray(alpha, input.dtype) * np.moveaxis(added, 0, at)).astype(input.dtype)
