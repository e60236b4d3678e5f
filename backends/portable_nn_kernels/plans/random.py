"""Plans of random draws and dropout: one launch each, two where dropout's operand must first be brought into C order."""

from __future__ import annotations

from portable_nn.core.call import Call
from portable_nn.core.dtypes import TAGS, bool_, float64
from portable_nn.core.random import FOLD, SPLIT
from portable_nn.core.spec import Spec
from portable_nn_kernels.launch import Arg, Const, Define, In, Launch, Out, Plan, Profile, Ref, Scratch, Term, Value

from . import plans
from .copies import copy_launch
from .mapping import Operand, ScalarArg, map_launch

_KEPT = {"f32": 24, "f16": 11, "bf16": 8, "f64": 53}


def _draw(
    call: Call, profile: Profile, kind: str, key: int, a: float = 1, b: float = 0, limit: int = 0, x: Ref | None = None,
    y: Spec | None = None, out: Ref | None = None,
) -> Launch:  # fmt: skip
    """Return the launch that fills output 0 (or `out`, laid out as `y`), which is in C order and not empty."""
    y = y or call.outputs[0]
    tag = TAGS[y.dtype]
    number = {"BITS": "u32", "BERNOULLI": "i32"}.get(kind, "f64" if y.dtype == float64 else "f32")
    per = 2 if y.dtype == float64 and kind in ("UNIFORM", "NORMAL") else 4
    blocks = -(-y.size // per)
    group = 64 if profile.shape == "cpu" else min(profile.size("gpu.random.group"), profile.group_limit)
    wanted = min(-(-blocks // profile.size("cpu.random.blocks")), 4 * profile.units) if profile.shape == "cpu" else -(-blocks // group)
    groups = max(1, min(wanted, 2**31 - 1))
    each = -(-blocks // groups)
    chunk = -(-each // group) * group
    defines: list[tuple[str, Define]] = [("T", tag), ("DRAW", kind), ("PER", per), ("GROUP", group)]
    if kind == "UNIFORM":
        defines.append(("KEPT", _KEPT[tag]))
    args: list[Arg] = [In(key), *([x] if x is not None else []), out or Out(0), Const("i64", call.spec(key).strides[0])]
    args += [Const("i64", y.size), Const("i64", chunk), Const(number, a), Const(number, b)]
    args += [Const("u32", min(limit, 2**32 - 1)), Const("i32", int(limit == 2**32))]
    return Launch("pnn_random", "random.c", (-(-blocks // chunk),), (group,), tuple(args), tuple(defines))


@plans("random_bits")
def random_bits(call: Call, profile: Profile) -> Plan:
    """Draw words."""
    return Plan((_draw(call, profile, "BITS", 0),) if call.outputs[0].size else ())


@plans("uniform")
def uniform(call: Call, profile: Profile) -> Plan:
    """Draw fractions."""
    low, high = call.settings["low"], call.settings["high"]
    return Plan((_draw(call, profile, "UNIFORM", 0, high - low, low),) if call.outputs[0].size else ())


@plans("normal")
def normal(call: Call, profile: Profile) -> Plan:
    """Draw pairs of normal numbers."""
    std, mean = call.settings["std"], call.settings["mean"]
    return Plan((_draw(call, profile, "NORMAL", 0, std, mean),) if call.outputs[0].size else ())


@plans("bernoulli")
def bernoulli(call: Call, profile: Profile) -> Plan:
    """Compare words with p."""
    return Plan((_draw(call, profile, "BERNOULLI", 0, limit=round(call.settings["p"] * 2**32)),) if call.outputs[0].size else ())


@plans("dropout")
def dropout(call: Call, profile: Profile) -> Plan:
    """Scale what a word keeps. The words count elements in C order, so that on GPUs other layouts are copied first."""
    x, p = call.spec(0), call.settings["p"]
    if x.size == 0:
        return Plan(())
    scale = 1 / (1 - p) if p < 1 else 0
    limit = round(p * 2**32)
    if profile.shape == "cpu":
        # The draw is made of integer multiplications, and a CPU runtime makes vectors of it only if nothing else is in the
        # kernel: a mask of one byte per element, which stays in the cache, costs less than what fusing would save.
        mask = Spec(x.shape, bool_)
        drawn = _draw(call, profile, "BERNOULLI", 1, limit=limit, y=mask, out=Scratch(0))
        read = [Operand("x", x, In(0)), Operand("dropped", mask, Scratch(0))]
        tag = "f64" if x.dtype == float64 else "f32"
        factor = ScalarArg("scale", tag, Const(tag, scale))
        value = Term(tag, "where(dropped, 0, x * scale)")
        kept = map_launch(x.shape, read, [Operand("y", call.outputs[0], Out(0))], [], [value], profile, [factor])
        return Plan((drawn, kept), (mask,))
    if x.contiguous:
        return Plan((_draw(call, profile, "DROPOUT", 1, scale, limit=limit, x=In(0)),))
    plain = Spec(x.shape, x.dtype)
    copy = copy_launch(x, In(0), plain, Scratch(0), profile)
    return Plan((copy, _draw(call, profile, "DROPOUT", 1, scale, limit=limit, x=Scratch(0))), (plain,))


def _keys(call: Call, rows: int, mark: int, number: Const | Value, more: Spec | None) -> Plan:
    defines: tuple[tuple[str, Define], ...] = (("MARK", f"{mark}u"), *((("NUMBER", TAGS[more.dtype]),) if more else ()))
    args: list[Arg] = [In(0), *([In(1)] if more else []), Out(0)]
    args += [Const("i64", call.spec(0).strides[0]), number, Const("i64", rows)]
    return Plan((Launch("pnn_random_key", "random_key.c", (-(-rows // 64),), (64,), tuple(args), defines),) if rows else ())


@plans("fold_in")
def fold_in(call: Call, profile: Profile) -> Plan:
    """One key; the number is passed by value or read from a 0-d array."""
    del profile
    n = call.inputs[1]
    if isinstance(n, Spec):
        return _keys(call, 1, FOLD, Const("i64", 0), n)
    return _keys(call, 1, FOLD, Value("i64", 1), None)


@plans("split_key")
def split_key(call: Call, profile: Profile) -> Plan:
    """Rows counted from 0."""
    del profile
    return _keys(call, call.outputs[0].shape[0], SPLIT, Const("i64", 0), None)
