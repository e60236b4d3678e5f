"""Scaled dot-product attention and its gradients, in memory linear in both sequence lengths.

With scores ``s[i, j] = scale sum_e q[i, e] k[j, e] + mask[i, j]`` (-inf where a key is not allowed) and one number kept per
query, ``lse[i] = log sum_j exp(s[i, j])``, the probabilities ``p[i, j] = exp(s[i, j] - lse[i])`` can be made again a tile at
a time. With the cotangent g of y and ``delta[i] = sum_f g[i, f] y[i, f]``:

    dv[j] = sum_i p[i, j] g[i]      ds[i, j] = p[i, j] (g[i] . v[j] - delta[i])
    dq[i] = scale sum_j ds[i, j] k[j]      dk[j] = scale sum_i ds[i, j] q[i]      dmask = ds

A query without any allowed key gets zeros and gives no gradient: PyTorch's rule since 2.5 (before, NaN).
Over 250 lines because the four records share their checks and their reference.
"""

from __future__ import annotations

from math import prod, sqrt
from typing import Any

import numpy as np

from ..core import dtypes
from ..core.array import Array
from ..core.call import Call
from ..core.errors import DTypeError, SettingError, ShapeError
from ..core.op import op
from ..core.registry import find
from ..core.samples import A, bad, bench, s
from ..core.spec import Spec, broadcast_shapes
from ..core.tape import Saved


def _check(
    name: str, query: Spec, key: Spec, value: Spec, attn_mask: Spec | None, is_causal: Any, scale: Any, enable_gqa: Any
) -> None:
    """Raise unless the operands fit together."""
    for operand, spec in (("query", query), ("key", key), ("value", value)):
        if spec.ndim < 2:
            raise ShapeError(f"{name}: {operand} has shape {spec.shape} but at least two axes (..., length, features) are needed")
        if not dtypes.is_float(spec.dtype) or spec.dtype != query.dtype:
            raise DTypeError(f"{name}: {operand} is {spec.dtype.name} and query {query.dtype.name}; one floating dtype is needed, convert with astype")
    if query.shape[-1] != key.shape[-1] or query.shape[-1] == 0:
        raise ShapeError(f"{name}: query of shape {query.shape} has {query.shape[-1]} features and key of shape {key.shape} has {key.shape[-1]}; they must be the same, at least 1")
    if key.shape[-2] != value.shape[-2]:
        raise ShapeError(f"{name}: key of shape {key.shape} has {key.shape[-2]} positions but value of shape {value.shape} has {value.shape[-2]}")
    batch = query.shape[:-2]
    if key.shape[:-2] != value.shape[:-2]:
        raise ShapeError(f"{name}: key has shape {key.shape} and value {value.shape}; all axes before the last two must be the same")
    if enable_gqa:
        if not batch or key.ndim != query.ndim or key.shape[:-3] != batch[:-1]:
            raise ShapeError(f"{name}: with enable_gqa, query {query.shape} and key {key.shape} must be (..., heads, length, features) with equal axes before the heads")
        if key.shape[-3] < 1 or batch[-1] % key.shape[-3]:
            raise ShapeError(f"{name}: query has {batch[-1]} heads and key {key.shape[-3]}; with enable_gqa the first must be a multiple of the second")
    elif key.shape[:-2] != batch:
        raise ShapeError(
            f"{name}: query has shape {query.shape} and key {key.shape}; all axes before the last two must be the same "
            f"(enable_gqa=True lets query have a multiple of key's heads)"
        )
    if attn_mask is not None:
        if is_causal:
            raise SettingError(f"{name}: attn_mask was given and is_causal is True; put the causal part into the mask")
        if attn_mask.dtype != dtypes.bool_ and attn_mask.dtype != query.dtype:
            raise DTypeError(f"{name}: attn_mask is {attn_mask.dtype.name} but bool or query's {query.dtype.name} is needed; convert with astype")
        full = (*batch, query.shape[-2], key.shape[-2])
        if attn_mask.ndim > len(full) or broadcast_shapes(name, attn_mask.shape, full) != full:
            raise ShapeError(f"{name}: attn_mask has shape {attn_mask.shape}, which does not broadcast to the scores' {full}")
    if scale is not None and (isinstance(scale, bool) or not isinstance(scale, int | float)):
        raise SettingError(f"{name}: scale is {scale!r} but must be a number or None")


def _terms(call: Call) -> int:
    """Return how many terms one result sums, at most."""
    names = ("query", "key", "value")
    at = 0 if call.op == "scaled_dot_product_attention" else 1
    query, key, value = (call.spec(at + i) for i in range(len(names)))
    repeat = query.shape[-3] // max(key.shape[-3], 1) if call.settings["enable_gqa"] else 1
    return max(query.shape[-1], value.shape[-1]) + max(key.shape[-2], query.shape[-2] * repeat)


def _flops(call: Call) -> int:
    backward = call.op != "scaled_dot_product_attention"
    query, key, value = (call.spec(i + backward) for i in range(3))
    pairs = prod(query.shape[:-1]) * key.shape[-2]
    e, f = query.shape[-1], value.shape[-1]
    products = {"attention_grad_query": 2 * e + f, "attention_grad_key_value": 2 * e + 2 * f}.get(call.op, e + f)
    return pairs * (2 * products + 4)


def _repeated(x: Any, query: Any) -> Any:
    """Return key or value with each head repeated for the query heads that share it."""
    return x if x.ndim < 3 or x.shape[-3] == query.shape[-3] else np.repeat(x, query.shape[-3] // x.shape[-3], axis=-3)


def _scores(query: Any, key: Any, attn_mask: Any, is_causal: bool, scale: float | None) -> Any:
    """Return the scores, -inf where a key is not allowed."""
    given = 1 / sqrt(query.shape[-1]) if scale is None else scale
    scores = query @ np.swapaxes(_repeated(key, query), -1, -2) * query.dtype.type(given)
    if attn_mask is not None:
        return np.where(attn_mask, scores, -np.inf).astype(query.dtype) if attn_mask.dtype == np.bool_ else scores + attn_mask
    if is_causal:
        allowed = np.arange(key.shape[-2])[None, :] <= np.arange(query.shape[-2])[:, None]
        return np.where(allowed, scores, -np.inf).astype(query.dtype)
    return scores


def _probabilities(scores: Any, lse: Any) -> Any:
    with np.errstate(all="ignore"):
        return np.exp(scores - np.where(np.isneginf(lse), 0, lse).astype(scores.dtype)[..., None])


def _score_gradient(g: Any, query: Any, key: Any, value: Any, y: Any, lse: Any, attn_mask: Any, is_causal: bool, scale: float | None) -> tuple[Any, Any]:
    """Return p and ds."""
    p = _probabilities(_scores(query, key, attn_mask, is_causal, scale), lse)
    delta = np.sum(g * y, axis=-1, keepdims=True)
    return p, p * (g @ np.swapaxes(_repeated(value, query), -1, -2) - delta)


# -- forward ----------------------------------------------------------------------------------------------------------


def _out(
    query: Spec, key: Spec, value: Spec, attn_mask: Spec | None, dropout_p: Any, is_causal: Any, scale: Any, enable_gqa: Any
) -> tuple[Spec, Spec]:
    name = "scaled_dot_product_attention"
    _check(name, query, key, value, attn_mask, is_causal, scale, enable_gqa)
    if dropout_p:
        raise SettingError(f"{name}: dropout_p is {dropout_p!r} but attention without dropout is all there is; pass 0 and use dropout after it")
    return Spec((*query.shape[:-1], value.shape[-1]), query.dtype), Spec(query.shape[:-1], dtypes.accumulator(query.dtype))


def _vjp(c: Saved, g: Array) -> dict[str, Any]:
    settings = {name: c.call.settings[name] for name in ("is_causal", "scale", "enable_gqa")}
    args = (g, c.query, c.key, c.value, c.y, c.lse, c.attn_mask)
    given: dict[str, Any] = {"query": lambda: attention_grad_query(*args, **settings)}
    if c.needs("key") or c.needs("value"):
        given["key"], given["value"] = attention_grad_key_value(*args, **settings)
    if c.needs("attn_mask"):
        given["attn_mask"] = find("sum_to")(attention_grad_mask(*args, **settings), c.spec_of("attn_mask").shape)
    return given


_Q, _K, _V = A((2, 3, 7, 5)), A((2, 3, 9, 5)), A((2, 3, 9, 6))
_INF = float("-inf")


@op(
    out=_out,
    residuals=("lse",),
    vjp=_vjp,
    saves=("query", "key", "value", "attn_mask", "y", "lse"),
    flops=_flops,
    reduces=_terms,
    samples=(
        s("odd", _Q, _K, _V),
        s("one of everything", A((1, 1)), A((1, 1)), A((1, 1))),
        s("two axes", A((5, 8)), A((6, 8)), A((6, 3))),
        s("three axes", A((2, 5, 8)), A((2, 6, 8)), A((2, 6, 8)), scale=0.5),
        s("five axes", A((2, 2, 1, 5, 4)), A((2, 2, 1, 6, 4)), A((2, 2, 1, 6, 4)), A((2, 2, 1, 1, 6))),
        s("several tiles", A((1, 2, 70, 20)), A((1, 2, 67, 20)), A((1, 2, 67, 40))),
        s("causal", A((1, 2, 40, 8)), A((1, 2, 40, 8)), A((1, 2, 40, 8)), is_causal=True),
        s("causal, fewer keys", A((1, 1, 70, 8)), A((1, 1, 37, 8)), A((1, 1, 37, 8)), is_causal=True),
        s("bool mask", A((2, 2, 6, 5)), A((2, 2, 40, 5)), A((2, 2, 40, 5)), A((2, 1, 6, 40), dtype="bool")),
        s("bias", _Q, _K, _V, A((3, 7, 9))),
        s("bias per key", _Q, _K, _V, A((2, 1, 1, 9))),
        s("grouped queries", A((2, 6, 5, 4)), A((2, 2, 7, 4)), A((2, 2, 7, 4)), enable_gqa=True),
        s("one head of keys, causal", A((1, 4, 35, 4)), A((1, 1, 35, 4)), A((1, 1, 35, 4)), is_causal=True, enable_gqa=True),
        s("wide heads", A((1, 1, 5, 130)), A((1, 1, 6, 130)), A((1, 1, 6, 150))),
        s("length before heads", A((2, 5, 3, 4), view="transposed"), A((2, 5, 3, 4), view="transposed"), A((2, 5, 3, 4), view="reversed")),
        s("views", A((3, 2, 5, 4), view="expanded"), A((3, 2, 5, 4), view="strided"), A((3, 2, 5, 4), view="channels_last"), A((5, 5), view="transposed")),
        s("queries without keys allowed", A((1, 1, 3, 4)), A((1, 1, 2, 4)), A((1, 1, 2, 4)),
          A((3, 2), dtype="bool", values=(True, False, False, False, True, True)), dropout_p=0, why="lse is -inf"),
        s("bias of -inf", A((1, 3, 4)), A((1, 2, 4)), A((1, 2, 4)), A((3, 2), values=(0.0, _INF, _INF, _INF, 1.0, 0.5)), gradient=False, why="inf"),
        s("large scores", A((1, 2, 3), values=(100.0, 0.0, 50.0, -100.0, 1.0, 2.0)), A((1, 2, 3), values=(100.0, 0.0, 0.0, -50.0, 1.0, 3.0)),
          A((1, 2, 3)), gradient=False, why="too steep for differences"),
        s("no keys", A((2, 3, 4)), A((2, 0, 4)), A((2, 0, 4)), why="lse is -inf"),
        s("no queries", A((2, 0, 4)), A((2, 3, 4)), A((2, 3, 4))),
        s("NaN stays in its query", A((2, 2), values=(1.0, float("nan"), 1.0, 2.0)), A((3, 2)), A((3, 2)), gradient=False, why="NaN"),
    ),
    bad=(
        bad("features", ShapeError, ("(2, 4)", "4 features", "has 5"), A((2, 4)), A((3, 5)), A((3, 5))),
        bad("positions", ShapeError, ("3 positions", "has 4"), A((2, 4)), A((3, 4)), A((4, 4))),
        bad("heads", ShapeError, ("(4, 2, 4)", "(2, 3, 4)", "enable_gqa"), A((4, 2, 4)), A((2, 3, 4)), A((2, 3, 4))),
        bad("grouped", ShapeError, ("3 heads", "multiple"), A((3, 2, 4)), A((2, 3, 4)), A((2, 3, 4)), enable_gqa=True),
        bad("axes", ShapeError, ("(4,)", "two axes"), A((4,)), A((3, 4)), A((3, 4))),
        bad("mask shape", ShapeError, ("(3, 3)",), A((2, 4)), A((3, 4)), A((3, 4)), A((3, 3))),
        bad("mask dtype", DTypeError, ("int32", "bool"), A((2, 4)), A((3, 4)), A((3, 4)), A((2, 3), dtype="int32")),
        bad("mask and causal", SettingError, ("is_causal",), A((2, 4)), A((3, 4)), A((3, 4)), A((2, 3)), is_causal=True),
        bad("dropout", SettingError, ("dropout_p is 0.1",), A((2, 4)), A((3, 4)), A((3, 4)), dropout_p=0.1),
        bad("scale", SettingError, ("scale is '1'",), A((2, 4)), A((3, 4)), A((3, 4)), scale="1"),
        bad("dtypes", DTypeError, ("float32", "float64"), A((2, 4), dtype="float32"), A((3, 4), dtype="float64"), A((3, 4), dtype="float64")),
    ),
    bench=(
        bench("ViT-B/16", A((8, 12, 197, 64)), A((8, 12, 197, 64)), A((8, 12, 197, 64))),
        bench("GPT-2, causal", A((1, 12, 1024, 64)), A((1, 12, 1024, 64)), A((1, 12, 1024, 64)), is_causal=True),
        bench("grouped, decoding", A((1, 32, 1, 128)), A((1, 8, 4096, 128)), A((1, 8, 4096, 128)), enable_gqa=True),
    ),
)  # fmt: skip
def scaled_dot_product_attention(
    query: Array,
    key: Array,
    value: Array,
    attn_mask: Array | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Any:
    """Attention, as `torch.nn.functional.scaled_dot_product_attention`: ``y[i] = sum_j softmax_j(s[i, j]) v[j]``.

    ``s[i, j] = scale sum_e q[i, e] k[j, e] + mask[i, j]``. The scores are never in memory as a whole.

    Parameters
    ----------
    query : Array, shape (..., H, L, E)
        Floating.
    key : Array, shape (..., H, S, E)
        Of query's dtype.
    value : Array, shape (..., H, S, F)
        Of query's dtype.
    attn_mask : Array, optional
        Broadcast to (..., H, L, S). bool: True where a key may be seen. Of query's dtype: added to the scores, and
        differentiable.
    dropout_p : float
        There for PyTorch's signature: must be 0.
    is_causal : bool
        Query i sees the keys j <= i. Not together with `attn_mask`.
    scale : float, optional
        1 / sqrt(E) when left out.
    enable_gqa : bool
        Key and value may have fewer heads, a divisor of H: each serves as many neighbouring query heads.

    Returns
    -------
    Array, shape (..., H, L, F)
        query's dtype, in C order; softmax and sums in float32 or wider.

    Raises
    ------
    ShapeError, DTypeError, SettingError
        Operands that do not fit, a mask that does not broadcast, a mask and `is_causal`, dropout.

    Notes
    -----
    2 L S (E + F) flop per head and 4 per score. Memory beside the operands: L numbers per head, kept for the gradient. A
    query without any allowed key gets zeros. A NaN in a query stays there; keys and values must be finite even where masked.
    Gradients are summed in a fixed order. Idea: FlashAttention (Dao et al. 2022, arXiv:2205.14135), online softmax (Milakov
    and Gimelshein 2018, arXiv:1805.02867).
    """
    del dropout_p, enable_gqa
    scores = _scores(query, key, attn_mask, is_causal, scale)
    with np.errstate(all="ignore"):
        top = np.max(scores, axis=-1, keepdims=True, initial=-np.inf)
        top = np.where(np.isneginf(top), 0, top).astype(scores.dtype)
        e = np.exp(scores - top)
        total = e.sum(axis=-1, keepdims=True)
        y = e @ _repeated(value, query) / np.where(total == 0, 1, total).astype(scores.dtype)
        return y, (top + np.log(total))[..., 0]


# -- backward ---------------------------------------------------------------------------------------------------------


def _check_grad(
    name: str, g: Spec, query: Spec, key: Spec, value: Spec, y: Spec, lse: Spec, attn_mask: Spec | None, is_causal: Any, scale: Any, enable_gqa: Any
) -> None:
    _check(name, query, key, value, attn_mask, is_causal, scale, enable_gqa)
    made = (*query.shape[:-1], value.shape[-1])
    if g.shape != made or y.shape != made or lse.shape != made[:-1]:
        raise ShapeError(f"{name}: g {g.shape} and y {y.shape} must be {made}, lse {lse.shape} must be {made[:-1]}; pass those of the forward call")
    if g.dtype != query.dtype or y.dtype != query.dtype or not dtypes.is_float(lse.dtype):
        raise DTypeError(f"{name}: g is {g.dtype.name}, y {y.dtype.name} and lse {lse.dtype.name}; query's {query.dtype.name} is needed (lse: floating)")


def _samples() -> tuple[Any, ...]:
    """Return samples of the three gradients; lse is drawn large, so that no probability overflows."""

    def given(q: tuple[int, ...], k: tuple[int, ...], f: int, *mask: A, view: str = "", key_view: str = "") -> tuple[Any, ...]:
        y, v = (*q[:-1], f), (*k[:-1], f)
        return (A(y, view=view), A(q, view=view), A(k, view=key_view), A(v, view=key_view), A(y), A(q[:-1], 2.0, 3.0), *(mask or (None,)))

    return (
        s("odd", *given((2, 3, 7, 5), (2, 3, 9, 5), 6)),
        s("two axes", *given((5, 8), (6, 8), 3), scale=0.3),
        s("several tiles", *given((1, 2, 70, 20), (1, 2, 67, 20), 40)),
        s("causal", *given((2, 40, 8), (2, 40, 8), 8), is_causal=True),
        s("causal, more keys", *given((2, 35, 4), (2, 70, 4), 8), is_causal=True),
        s("bool mask", *given((2, 6, 5), (2, 40, 5), 5, A((2, 6, 40), dtype="bool"))),
        s("bias", *given((2, 3, 7, 5), (2, 3, 9, 5), 6, A((3, 1, 9), view="transposed"))),
        s("grouped queries", *given((2, 6, 5, 4), (2, 2, 7, 4), 4), enable_gqa=True),
        s("wide heads", *given((1, 5, 130), (1, 6, 130), 150)),
        s("views", *given((3, 2, 5, 4), (3, 2, 5, 4), 4, view="transposed", key_view="reversed")),
        s("queries without keys allowed", A((2, 3)), A((2, 4)), A((3, 4)), A((3, 3)), A((2, 3)), A((2,), values=(2.0, _INF)),
          A((2, 3), dtype="bool", values=(True, True, False, False, False, False)), gradient=False, why="lse is -inf"),
        s("no queries", *given((2, 0, 4), (2, 3, 4), 4)),
        s("no keys", *given((2, 3, 4), (2, 0, 4), 4)),
    )  # fmt: skip


_GRAD_BAD = (
    bad("shapes", ShapeError, ("g (2, 3)", "(2, 5)"), A((2, 3)), A((2, 4)), A((3, 4)), A((3, 5)), A((2, 5)), A((2,)), None),
    bad("dtypes", DTypeError, ("float64",), A((2, 5), dtype="float64"), A((2, 4), dtype="float32"), A((3, 4), dtype="float32"),
        A((3, 5), dtype="float32"), A((2, 5), dtype="float32"), A((2,), dtype="float32"), None),
)  # fmt: skip
_HEAD = A((1, 12, 1024, 64))
_GRAD_BENCH = (bench("GPT-2, causal", _HEAD, _HEAD, _HEAD, _HEAD, _HEAD, A((1, 12, 1024), 6.0, 7.0), None, is_causal=True),)


def _query_out(g: Spec, query: Spec, key: Spec, value: Spec, y: Spec, lse: Spec, attn_mask: Spec | None, is_causal: Any, scale: Any, enable_gqa: Any) -> Spec:
    _check_grad("attention_grad_query", g, query, key, value, y, lse, attn_mask, is_causal, scale, enable_gqa)
    return Spec(query.shape, query.dtype)


@op(out=_query_out, outputs=("dq",), flops=_flops, reduces=_terms, samples=_samples(), bad=_GRAD_BAD, bench=_GRAD_BENCH)
def attention_grad_query(
    g: Array, query: Array, key: Array, value: Array, y: Array, lse: Array, attn_mask: Array | None,
    *, is_causal: bool = False, scale: float | None = None, enable_gqa: bool = False,
) -> Array:  # fmt: skip
    """Gradient of `scaled_dot_product_attention` by query: ``dq[i] = scale sum_j ds[i, j] k[j]``.

    ``ds[i, j] = p[i, j] (g[i] . v[j] - g[i] . y[i])`` with the probabilities ``p[i, j] = exp(s[i, j] - lse[i])``, made again
    tile by tile.

    Parameters
    ----------
    g, y : Array, shape (..., H, L, F)
        Cotangent and result of the forward call.
    query, key, value, attn_mask, is_causal, scale, enable_gqa
        Those of the forward call.
    lse : Array, shape (..., H, L)
        Logarithm of the sums of exponentials of the scores; -inf for a query without allowed keys.

    Returns
    -------
    Array, shape (..., H, L, E)

    Raises
    ------
    ShapeError, DTypeError, SettingError
        Operands that are not those of one forward call.

    Notes
    -----
    2 L S (2 E + F) flop per head and 4 per score. Memory beside the operands: L numbers per head.
    """
    del enable_gqa
    _, ds = _score_gradient(g, query, key, value, y, lse, attn_mask, is_causal, scale)
    made: Array = ds @ _repeated(key, query) * query.dtype.type(1 / sqrt(query.shape[-1]) if scale is None else scale)
    return made


def _key_value_out(
    g: Spec, query: Spec, key: Spec, value: Spec, y: Spec, lse: Spec, attn_mask: Spec | None, is_causal: Any, scale: Any, enable_gqa: Any
) -> tuple[Spec, Spec]:
    _check_grad("attention_grad_key_value", g, query, key, value, y, lse, attn_mask, is_causal, scale, enable_gqa)
    return Spec(key.shape, key.dtype), Spec(value.shape, value.dtype)


@op(out=_key_value_out, outputs=("dk", "dv"), flops=_flops, reduces=_terms, samples=_samples(), bad=_GRAD_BAD, bench=_GRAD_BENCH)
def attention_grad_key_value(
    g: Array, query: Array, key: Array, value: Array, y: Array, lse: Array, attn_mask: Array | None,
    *, is_causal: bool = False, scale: float | None = None, enable_gqa: bool = False,
) -> Any:  # fmt: skip
    """Gradients of `scaled_dot_product_attention` by key and value: ``dk[j] = scale sum_i ds[i, j] q[i]``, ``dv[j] = sum_i p[i, j] g[i]``.

    p and ds as in `attention_grad_query`. With `enable_gqa` the sums run over all query heads that share a key head.

    Parameters
    ----------
    g, y : Array, shape (..., H, L, F)
        Cotangent and result of the forward call.
    query, key, value, attn_mask, is_causal, scale, enable_gqa
        Those of the forward call.
    lse : Array, shape (..., H, L)
        As in `attention_grad_query`.

    Returns
    -------
    dk : Array, shape (..., H, S, E)
    dv : Array, shape (..., H, S, F)
        With key's number of heads.

    Raises
    ------
    ShapeError, DTypeError, SettingError
        Operands that are not those of one forward call.

    Notes
    -----
    2 L S (2 E + 2 F) flop per head and 4 per score, summed in a fixed order.
    """
    del enable_gqa
    p, ds = _score_gradient(g, query, key, value, y, lse, attn_mask, is_causal, scale)
    dk = np.swapaxes(ds, -1, -2) @ query * query.dtype.type(1 / sqrt(query.shape[-1]) if scale is None else scale)
    dv = np.swapaxes(p, -1, -2) @ g
    return _shared(dk, key), _shared(dv, value)


def _shared(x: Any, like: Any) -> Any:
    """Sum over the query heads that share a head of `like`."""
    if x.shape == like.shape:
        return x
    return x.reshape(*like.shape[:-2], -1, *like.shape[-2:]).sum(axis=-3)


def _mask_out(g: Spec, query: Spec, key: Spec, value: Spec, y: Spec, lse: Spec, attn_mask: Spec | None, is_causal: Any, scale: Any, enable_gqa: Any) -> Spec:
    _check_grad("attention_grad_mask", g, query, key, value, y, lse, attn_mask, is_causal, scale, enable_gqa)
    return Spec((*query.shape[:-1], key.shape[-2]), query.dtype)


@op(out=_mask_out, outputs=("ds",), flops=_flops, reduces=_terms, samples=_samples(), bad=_GRAD_BAD, bench=_GRAD_BENCH)
def attention_grad_mask(
    g: Array, query: Array, key: Array, value: Array, y: Array, lse: Array, attn_mask: Array | None,
    *, is_causal: bool = False, scale: float | None = None, enable_gqa: bool = False,
) -> Array:  # fmt: skip
    """Gradient of `scaled_dot_product_attention` by an added mask: ``ds[i, j] = p[i, j] (g[i] . v[j] - g[i] . y[i])``.

    Parameters
    ----------
    g, y : Array, shape (..., H, L, F)
        Cotangent and result of the forward call.
    query, key, value, attn_mask, is_causal, scale, enable_gqa
        Those of the forward call.
    lse : Array, shape (..., H, L)
        As in `attention_grad_query`.

    Returns
    -------
    Array, shape (..., H, L, S)
        For every score, before it is summed to the mask's own shape: the only array here that grows like L S.

    Raises
    ------
    ShapeError, DTypeError, SettingError
        Operands that are not those of one forward call.

    Notes
    -----
    2 L S (E + F) flop per head and 4 per score.
    """
    del enable_gqa
    made: Array = _score_gradient(g, query, key, value, y, lse, attn_mask, is_causal, scale)[1]
    return made
