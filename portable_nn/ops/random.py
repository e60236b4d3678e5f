"""Random numbers: the same draws on every backend, from a key (see `core.random`), and dropout without a stored mask.

Element ``e`` in C order of a draw reads word ``e % 4`` of block ``e // 4`` (float64: two words from ``2 e`` on), so a larger
draw with the same key begins with the smaller one.

Over 250 lines because each op carries its record and its page.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from math import pi, prod
from typing import Any

import numpy as np

from ..core import dtypes
from ..core.array import Array, ArrayOrScalar
from ..core.errors import DTypeError, SettingError, ShapeError
from ..core.op import op, setting_dtype, setting_int
from ..core.random import FOLD, SPLIT, blocks, check_key, philox
from ..core.samples import A, bad, bench, s
from ..core.spec import Spec, Weak
from ..core.tape import Saved

_KEY = A((4,), dtype="uint32", low=0, high=2**32 - 1)
_ZERO = A((4,), dtype="uint32", values=(0, 0, 0, 0))
_BAD_KEY = bad("key", ShapeError, ("(2,)", "four uint32 words"), A((2,), dtype="uint32", low=0, high=9), (3,))


def shape_of(name: str, shape: Any) -> tuple[int, ...]:
    """Return a shape setting as a tuple, or raise."""
    sizes = tuple(setting_int(name, "a size in shape", n) for n in (shape if isinstance(shape, list | tuple) else (shape,)))
    if any(n < 0 for n in sizes):
        raise ShapeError(f"{name}: shape {sizes} has a negative size")
    return sizes


def threshold(name: str, p: float) -> int:
    """Return how many of the 2**32 words count as an event of probability `p`."""
    if not 0 <= p <= 1:
        raise SettingError(f"{name}: p is {p} but must be a probability, from 0 to 1")
    return round(p * 2**32)


def _float(name: str, dtype: Any) -> Any:
    made = setting_dtype(name, dtype) or dtypes.float32
    if not dtypes.is_float(made):
        raise DTypeError(f"{name}: dtype is {made.name} but a real floating dtype is needed")
    return made


def _words(key: Any, count: int) -> Any:
    return blocks(key, -(-count // 4)).reshape(-1)[:count]


def _fraction(words: Any) -> Any:
    """Return float64 from 53 bits of each pair of words, as integers."""
    pairs = words.reshape(-1, 2).astype(np.float64)
    return np.floor(pairs[:, 0] / 32) * 2**26 + np.floor(pairs[:, 1] / 64)


def _fold_in_out(key: Spec, n: Spec | Weak) -> Spec:
    check_key("fold_in", key)
    if isinstance(n, Weak) and n.kind != "int":
        raise DTypeError(f"fold_in: n is a Python {n.kind} but must be an integer")
    if isinstance(n, Spec) and (n.shape != () or not dtypes.is_integer(n.dtype)):
        raise ShapeError(f"fold_in: n has shape {n.shape} and dtype {n.dtype.name} but must be an integer or a 0-d integer array")
    return key.with_dtype(key.dtype)


@op(
    out=_fold_in_out,
    integer_outputs=("y",),
    samples=(
        s("number", _KEY, 7), s("zero", _ZERO, 0), s("negative", _KEY, -1), s("large", _KEY, 2**40 + 3),
        s("array", _KEY, A((), dtype="int64", low=0, high=2**40)), s("small array", _KEY, A((), dtype="uint8", low=0, high=255)),
        s("view", A((4,), dtype="uint32", low=0, high=2**32 - 1, view="strided"), 5),
    ),
    bad=(
        bad("key", ShapeError, ("(2,)", "four uint32 words"), A((2,), dtype="uint32", low=0, high=9), 3),
        bad("float", DTypeError, ("fold_in", "float"), _KEY, 0.5),
        bad("vector", ShapeError, ("fold_in", "(3,)"), _KEY, A((3,), dtype="int32", low=0, high=9)),
    ),
    flops=lambda call: 0,
)  # fmt: skip
def fold_in(key: Array, n: ArrayOrScalar) -> Array:
    """Derive a key from a key and an integer, such as the number of a step or of a layer.

    Parameters
    ----------
    key : array
        Four uint32 words.
    n : int or 0-d integer array
        Taken modulo 2**64. It may change from call to call at no cost, and may live on the device.

    Returns
    -------
    array
        Four uint32 words: Philox of the counter ``n`` under the key, whose word 1 is marked so that no draw meets it.

    Raises
    ------
    ShapeError, DTypeError
        Not a key, or not one integer.
    """
    k0, k1, high, higher = (int(word) for word in np.asarray(key))
    number = int(n) % 2**64
    return philox((number & 0xFFFFFFFF, number >> 32, high, higher), (k0, k1 ^ FOLD))


def _split_out(key: Spec, n: int) -> Spec:
    check_key("split_key", key)
    if setting_int("split_key", "n", n) < 0:
        raise SettingError(f"split_key: n is {n} but must not be negative")
    return Spec((int(n), 4), key.dtype)


@op(
    out=_split_out,
    integer_outputs=("y",),
    samples=(s("two", _KEY), s("many", _KEY, 70), s("none", _KEY, 0), s("zero key", _ZERO, 3)),
    bad=(bad("negative", SettingError, "-1", _KEY, -1),),
    flops=lambda call: 0,
)
def split_key(key: Array, n: int = 2) -> Array:
    """Derive `n` keys from one; row ``i`` of the result is a key.

    Parameters
    ----------
    key : array
        Four uint32 words.
    n : int

    Returns
    -------
    array
        uint32, shape (n, 4).

    Raises
    ------
    ShapeError, SettingError
        Not a key; a negative `n`.
    """
    return blocks(key, n, SPLIT)


def _drawn(name: str, key: Spec, shape: Any, dtype: Any) -> Spec:
    check_key(name, key)
    return Spec(shape_of(name, shape), dtype)


@op(
    out=lambda key, shape: _drawn("random_bits", key, shape, dtypes.uint32),
    integer_outputs=("y",),
    samples=(
        s("zero key", _ZERO, (4,)), s("odd", _KEY, (3, 7)), s("one", _KEY, 1), s("long", _KEY, 20011), s("zero-d", _KEY, ()),
        s("empty", _KEY, (0, 3)), s("key of a view", A((4,), dtype="uint32", low=0, high=2**32 - 1, view="reversed"), 9),
    ),
    bad=(_BAD_KEY, bad("size", ShapeError, "(-1,)", _KEY, (-1,))),
    bench=(bench("16M", _ZERO, (4096, 4096)),),
    flops=lambda call: 0,
)  # fmt: skip
def random_bits(key: Array, shape: int | Sequence[int]) -> Array:
    """Draw uniform 32-bit words.

    Parameters
    ----------
    key : array
        Four uint32 words.
    shape : int or sequence of int

    Returns
    -------
    array
        uint32. Element ``e`` in C order is word ``e % 4`` of Philox4x32-10 with counter ``(e // 4, key[2], key[3])`` under
        ``(key[0], key[1])``.

    Raises
    ------
    ShapeError
        Not a key, or a negative size.
    """
    sizes = shape_of("random_bits", shape)
    return _words(key, prod(sizes)).reshape(sizes)


_DTYPES = tuple(s(name, _KEY, (3, 11), dtype=name) for name in ("float16", "bfloat16", "float32", "float64"))


def _uniform_out(key: Spec, shape: Any, low: float, high: float, dtype: Any) -> Spec:
    if not low <= high:
        raise SettingError(f"uniform: low is {low} and high is {high}; low must not be larger")
    return _drawn("uniform", key, shape, _float("uniform", dtype))


@op(
    out=_uniform_out,
    integer_outputs=("y",),
    samples=(
        *_DTYPES, s("range", _KEY, (5, 13), -2.0, 3.0), s("range float64", _KEY, 33, -0.1, 0.7, dtype="float64"), s("long", _KEY, 20011),
        s("empty", _KEY, (0,)), s("zero-d", _KEY, ()),
    ),
    bad=(
        _BAD_KEY,
        bad("crossed", SettingError, ("1.0", "0.0"), _KEY, (3,), 1.0, 0.0),
        bad("dtype", DTypeError, "int32", _KEY, (3,), dtype="int32"),
    ),
    bench=(bench("16M", _ZERO, (4096, 4096)),),
    flops=lambda call: 2 * call.outputs[0].size,
)  # fmt: skip
def uniform(key: Array, shape: int | Sequence[int], low: float = 0.0, high: float = 1.0, *, dtype: Any = None) -> Array:
    """Draw from the uniform distribution: ``y = low + (high - low) u`` with ``u`` in [0, 1).

    Parameters
    ----------
    key : array
        Four uint32 words.
    shape : int or sequence of int
    low, high : float
    dtype : dtype, optional
        A floating dtype, float32 by default. ``u`` has 24 random bits in float32, 53 in float64, 11 in float16, 8 in bfloat16.

    Returns
    -------
    array
        The same bits on every backend. With other bounds than 0 and 1, rounding may give `high` itself.

    Raises
    ------
    SettingError, ShapeError, DTypeError
        Crossed bounds; not a key, a negative size; not a floating dtype.
    """
    sizes, made = shape_of("uniform", shape), _float("uniform", dtype)
    count = prod(sizes)
    if made == dtypes.float64:
        u = _fraction(_words(key, 2 * count)) * 2.0**-53
    else:
        kept = {dtypes.float32: 24, dtypes.float16: 11, dtypes.bfloat16: 8}[made]
        u = (_words(key, count) >> np.uint32(32 - kept)).astype(np.float32) * np.float32(2.0**-kept)
    y = u * u.dtype.type(high - low) + u.dtype.type(low)
    return y.astype(made).reshape(sizes)


def _normal_out(key: Spec, shape: Any, mean: float, std: float, dtype: Any) -> Spec:
    if not std >= 0:
        raise SettingError(f"normal: std is {std} but must not be negative (mean is {mean})")
    return _drawn("normal", key, shape, _float("normal", dtype))


@op(
    out=_normal_out,
    integer_outputs=("y",),
    samples=(*_DTYPES, s("shifted", _KEY, (5, 13), 2.0, 0.5), s("long", _KEY, 20011), s("empty", _KEY, (0,)), s("zero-d", _KEY, ())),
    bad=(_BAD_KEY, bad("std", SettingError, "-1.0", _KEY, (3,), 0.0, -1.0)),
    bench=(bench("16M", _ZERO, (4096, 4096)),),
    flops=lambda call: 8 * call.outputs[0].size,
)
def normal(key: Array, shape: int | Sequence[int], mean: float = 0.0, std: float = 1.0, *, dtype: Any = None) -> Array:
    """Draw from the normal distribution, by Box and Muller: ``z = sqrt(-2 log u) cos(2 pi v)``, and with ``sin``, in turn.

    Parameters
    ----------
    key : array
        Four uint32 words.
    shape : int or sequence of int
    mean, std : float
    dtype : dtype, optional
        A floating dtype, float32 by default.

    Returns
    -------
    array
        ``mean + std z``. The same bits go in on every backend; its logarithm and cosine may differ in the last place.

    Raises
    ------
    SettingError, ShapeError, DTypeError
        A negative `std`; not a key, a negative size; not a floating dtype.

    Notes
    -----
    The largest ``|z|`` is 6.76 (float64: 8.57).
    """
    sizes, made = shape_of("normal", shape), _float("normal", dtype)
    count = prod(sizes)
    pairs = -(-count // 2)
    if made == dtypes.float64:
        parts = _fraction(_words(key, 4 * pairs)).reshape(-1, 2)
        u, v = (parts[:, 0] + 1) * 2.0**-53, parts[:, 1] * 2.0**-53
    else:
        words = _words(key, 2 * pairs).reshape(-1, 2)
        u = (words[:, 0].astype(np.float32) + np.float32(0.5)) * np.float32(2.0**-32)
        v = (words[:, 1] >> np.uint32(8)).astype(np.float32) * np.float32(2.0**-24)
    kind = u.dtype.type
    radius, angle = np.sqrt(kind(-2) * np.log(u)), kind(2 * pi) * v
    z = np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=1).reshape(-1)[:count]
    return (z * kind(std) + kind(mean)).astype(made).reshape(sizes)


def _bernoulli_out(key: Spec, shape: Any, p: float) -> Spec:
    threshold("bernoulli", p)
    return _drawn("bernoulli", key, shape, dtypes.bool_)


@op(
    out=_bernoulli_out,
    integer_outputs=("y",),
    samples=(s("half", _KEY, (3, 11)), s("rare", _KEY, 301, 0.01), s("always", _KEY, 9, 1.0), s("never", _KEY, 9, 0.0), s("empty", _KEY, 0)),
    bad=(_BAD_KEY, bad("p", SettingError, "1.5", _KEY, (3,), 1.5)),
    flops=lambda call: 0,
)
def bernoulli(key: Array, shape: int | Sequence[int], p: float = 0.5) -> Array:
    """Draw bools that are true with probability `p`, to 2**-32.

    Parameters
    ----------
    key : array
        Four uint32 words.
    shape : int or sequence of int
    p : float

    Returns
    -------
    array
        bool: whether the word of `random_bits` is below ``p 2**32``. The same on every backend.

    Raises
    ------
    SettingError, ShapeError
        `p` outside 0 to 1; not a key, a negative size.
    """
    sizes = shape_of("bernoulli", shape)
    return (_words(key, prod(sizes)).astype(np.uint64) < np.uint64(threshold("bernoulli", p))).reshape(sizes)


def _dropout_out(x: Spec, p: float, key: Spec, training: bool) -> Spec:
    threshold("dropout", p)
    check_key("dropout", key)
    if not dtypes.is_float(x.dtype):
        raise DTypeError(f"dropout: x is {x.dtype.name} but a real floating dtype is needed; convert it with astype")
    return x if not training or p == 0 else Spec(x.shape, x.dtype)


def _dropout_vjp(c: Saved, g: Any) -> dict[str, Any]:
    return {"x": partial(dropout, g, c.p, c.key, c.training), "key": None}


@op(
    out=_dropout_out,
    view=lambda call: None if call.settings["training"] and call.settings["p"] else (call.spec(0).strides, 0),
    vjp=_dropout_vjp,
    saves=("key",),
    samples=(
        s("half", A((3, 11)), 0.5, _KEY),
        s("little", A((2, 3, 4, 5)), 0.1, _KEY),
        s("transposed", A((33, 7), view="transposed"), 0.3, _KEY),
        s("channels last", A((2, 3, 4, 5), view="channels_last"), 0.3, _KEY),
        s("long", A((20011,)), 0.25, _KEY),
        s("all", A((9,)), 1.0, _KEY),
        s("none", A((9,)), 0.0, _KEY),
        s("evaluation", A((9,)), 0.5, _KEY, training=False),
        s("zero-d", A(()), 0.5, _KEY),
        s("empty", A((0, 3)), 0.5, _KEY),
        s("NaN inf", A((8,), values=(float("nan"), float("inf")) * 4), 0.5, _KEY, gradient=False, why="NaN and inf"),
    ),
    bad=(
        bad("p", SettingError, "1.5", A((3,)), 1.5, _KEY),
        bad("key", ShapeError, "four uint32 words", A((3,)), 0.5, A((3,), dtype="uint32", low=0, high=9)),
        bad("int", DTypeError, "int32", A((3,), dtype="int32"), 0.5, _KEY),
    ),
    bench=(bench("activation", A((32, 64, 56, 56)), 0.1, _ZERO),),
)
def dropout(x: Array, p: float, key: Array, training: bool = True) -> Array:
    """Set elements to 0 with probability `p` and scale the others: ``y = x / (1 - p)`` where a draw keeps it, else 0.

    Parameters
    ----------
    x : array
        A floating dtype.
    p : float
        Probability of an element to be dropped.
    key : array
        Four uint32 words; use a new one in every call (`fold_in`).
    training : bool
        False returns `x` itself.

    Returns
    -------
    array
        In C order. What is dropped is 0, NaN included. The same elements are dropped on every backend.

    Raises
    ------
    SettingError, ShapeError, DTypeError
        `p` outside 0 to 1; not a key; not a floating dtype.

    Notes
    -----
    Element ``e`` in C order is dropped where its word of `random_bits` is below ``p 2**32``. The backward pass draws the mask
    again from the key, so none is stored.
    """
    if not training or p == 0:
        return x
    dropped = _words(key, x.size).astype(np.uint64) < np.uint64(threshold("dropout", p))
    wide = dtypes.accumulator(x.dtype).type
    scale = wide(1 / (1 - p) if p < 1 else 0)
    kept = (x.astype(wide) * scale).astype(x.dtype)
    return np.where(dropped.reshape(x.shape), x.dtype.type(0), kept)
