"""CPU-shaped plans of attention: operands packed into panels and matrices in the compute type, one launch over blocks of rows."""

from __future__ import annotations

from portable_nn.core.call import Call
from portable_nn.core.dtypes import TAGS
from portable_nn.core.spec import Spec
from portable_nn_kernels.launch import Arg, Const, Define, Launch, Out, Plan, Ref, Scratch

from .attention_problem import Problem
from .copies import copy_launch, fill_launch

_BN = 64  # columns of a tile: c/attention_cpu.c


class _Packer:
    """Copies of one call's operands; an operand is (batch, heads, positions, features) at any strides."""

    def __init__(self, it: Problem) -> None:
        self.it = it
        self.lanes = 64 // it.compute.itemsize

    def _new(self, shape: tuple[int, ...], fill: bool) -> tuple[Spec, Ref]:
        spec = Spec(shape, self.it.compute)
        self.it.scratch.append(spec)
        ref = Scratch(len(self.it.scratch) - 1)
        if fill:
            self.it.launches.append(fill_launch(spec, ref, 0.0, self.it.profile))
        return spec, ref

    def _copy(self, source: Spec, ref: Ref, target: Spec, to: Ref, start: int = 0, at: int = 0) -> None:
        self.it.launches.append(copy_launch(source, ref, target, to, self.it.profile, start, at))

    def padded(self, features: int) -> int:
        """Return the features filled up to whole vectors."""
        return -(-features // self.lanes) * self.lanes

    def rows(self, x: tuple[Spec, Ref]) -> Ref:
        """Return x in C order and the compute type."""
        spec, ref = x
        if spec.contiguous and spec.dtype == self.it.compute:
            return ref
        target, to = self._new(spec.shape, False)
        self._copy(spec, ref, target, to)
        return to

    def matrix(self, x: tuple[Spec, Ref]) -> Ref:
        """Return x with its features filled up with zeros."""
        spec, ref = x
        b, h, n, e = spec.shape
        wide = self.padded(e)
        if wide == e:
            return self.rows(x)
        target, to = self._new((b, h, n, wide), True)
        self._copy(spec, ref, Spec(spec.shape, target.dtype, target.strides), to)
        return to

    def panels(self, x: tuple[Spec, Ref]) -> Ref:
        """Return x as (batch, heads, tile, features, 64), the last tile filled up with zeros."""
        spec, ref = x
        b, h, n, e = spec.shape
        whole, rest = divmod(n, _BN)
        target, to = self._new((b, h, whole + (rest > 0), e, _BN), rest > 0)
        sb, sh, sn, se = spec.strides
        tb, th, tt, te, _ = target.strides
        if whole:
            tiles = (b, h, whole, e, _BN)
            self._copy(Spec(tiles, spec.dtype, (sb, sh, _BN * sn, se, sn)), ref, Spec(tiles, target.dtype, target.strides), to)
        if rest:
            last = (b, h, e, rest)
            self._copy(Spec(last, spec.dtype, (sb, sh, se, sn)), ref, Spec(last, target.dtype, (tb, th, te, 1)), to, whole * _BN * sn, whole * tt)
        return to


def _launch(it: Problem, kernel: str, kind: int, refs: tuple[Ref, ...], positions: int, heads: int, pack: _Packer) -> Plan:
    block = 16 if positions >= 16 else 4 if positions >= 4 else 1
    count = -(-positions // block) * heads * it.batch
    chunk = -(-count // min(count, 8 * it.profile.units))
    tags: tuple[tuple[str, Define], ...] = (
        ("T", TAGS[it.dtype]), ("TMASK", it.mask_tag), ("VW", pack.lanes), ("BR", block), ("EP", pack.padded(it.width)), ("FP", pack.padded(it.depth)),
        ("CAUSAL", int(it.causal)), ("MASK", it.mask), ("KIND", kind),
    )  # fmt: skip
    numbers = (it.heads, it.shared, it.length, it.span, it.width, it.depth)
    args: tuple[Arg, ...] = (
        *refs, *(Const("i64", v) for v in numbers), Const(TAGS[it.compute], it.scale), *(Const("i64", v) for v in (*it.strides[-4:], count, chunk))
    )  # fmt: skip
    it.launches.append(Launch(kernel, "attention_cpu.c", (-(-count // chunk),), (1,), args, tags))
    return it.plan()


def forward(it: Problem, lse: Ref) -> Plan:
    """Plan the forward pass."""
    pack = _Packer(it)
    q, k, v = it.operands
    refs = (pack.rows(q), pack.panels(k), pack.matrix(v), it.mask_ref, Out(0), lse)
    return _launch(it, "pnn_attention_cpu", 0, refs, it.length, it.heads, pack)


def backward(it: Problem, call: Call, g: Ref, lse: Ref, delta: Ref) -> Plan:
    """Plan the gradient by query, or those by key and value; g is in C order."""
    pack = _Packer(it)
    q, k, v = it.operands
    cotangent = (Spec((it.batch, it.heads, it.length, it.depth), it.dtype), g)
    refs: tuple[Ref, ...]
    if call.op == "attention_grad_query":
        refs = (pack.rows(cotangent), pack.rows(q), pack.panels(k), pack.panels(v), pack.matrix(k), lse, delta, it.mask_ref, Out(0))
        return _launch(it, "pnn_attention_cpu_query", 2, refs, it.length, it.heads, pack)
    refs = (
        pack.rows(k), pack.rows(v), pack.panels(q), pack.panels(cotangent), pack.matrix(q), pack.matrix(cotangent), lse, delta, it.mask_ref, Out(0), Out(1)
    )  # fmt: skip
    return _launch(it, "pnn_attention_cpu_key_value", 4, refs, it.span, it.heads // it.shared, pack)
