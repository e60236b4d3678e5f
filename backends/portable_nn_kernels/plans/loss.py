"""Plans of cross entropy and negative log-likelihood: rows, then the sum of the rows; backward in one launch."""

from __future__ import annotations

from portable_nn.core import dtypes
from portable_nn.core.call import Call
from portable_nn.core.device_errors import code
from portable_nn.core.dtypes import TAGS
from portable_nn.core.spec import Spec
from portable_nn_kernels.launch import Arg, Const, Define, ErrorWord, In, Launch, Out, Plan, Profile, Ref, Scratch

from . import plans
from .lines import Line, Lines, compute, lines

_MOST_GROUPS = 1024  # partials the finishing group adds


def _class_axis(shape: tuple[int, ...]) -> int:
    return 1 if len(shape) > 1 else 0


def _per_row(spec: Spec, axis: int) -> Spec:
    """Return a spec of one element per row as one with the class axis put back."""
    if spec.ndim == 0:
        return spec
    return Spec((*spec.shape[:axis], 1, *spec.shape[axis:]), spec.dtype, (*spec.strides[:axis], 1, *spec.strides[axis:]))


def _error(op: str, classes: int) -> ErrorWord:
    return ErrorWord(code(op, f"label {{value}} at position {{index}} is not in [0, {classes}) and is not ignore_index"))


def _smoothing(call: Call, classes: int, tag: str) -> tuple[Const, Const, Const]:
    smoothing = float(call.settings.get("label_smoothing", 0.0))
    ignore = call.settings["ignore_index"]
    return Const(tag, 1.0 - smoothing), Const(tag, smoothing / classes), Const("i64", int(ignore))


def _defines(call: Call, dtype: dtypes.DType, target: Spec, weight: Spec | None) -> list[tuple[str, Define]]:
    found: list[tuple[str, Define]] = [("T", TAGS[dtype]), ("R", TAGS[compute(dtype)]), ("L", TAGS[target.dtype])]
    if dtypes.is_float(target.dtype):
        found.append(("SOFT", 1))
    elif call.settings.get("label_smoothing", 0.0):
        found.append(("SMOOTH", 1))
    if weight is not None:
        found.append(("HAS_W", 1))
    if call.op.startswith("nll_loss"):
        found.append(("NLL", 1))
    return found


def _weight(spec: Spec | None, index: int) -> tuple[Arg, ...]:
    return () if spec is None else (In(index), Const("i64", spec.strides[0]))


@plans("cross_entropy", "nll_loss")
def loss(call: Call, profile: Profile) -> Plan:
    """Walk the rows; then add up what the groups found, if anything asks for it."""
    x, t = call.spec(0), call.spec(1)
    weight = call.inputs[2] if isinstance(call.inputs[2], Spec) else None
    nll = call.op == "nll_loss"
    soft = dtypes.is_float(t.dtype)
    axis = _class_axis(x.shape)
    tag = TAGS[compute(x.dtype)]
    reduction = call.settings["reduction"]
    kept = call.residuals
    target = Line(t, In(1)) if soft else Line(_per_row(t, axis), In(1), per_line=True)
    empty = x.size == 0
    found = lines(x.shape, axis, [target, Line(x, In(0))], profile, fixed=0, alone=nll)
    partials = reduction != "none" or kept
    groups = 0 if empty else min(found.groups, _MOST_GROUPS)
    defines = _defines(call, x.dtype, t, weight)
    scratch = list(found.scratch)
    refs: list[Ref] = []
    launches: list[Launch] = [] if empty else list(found.copies)
    if reduction == "none":
        defines.append(("EACH_ROW", 1))
        refs.append(Out(0))
    row_defines = [*defines, *found.defines]
    if kept and not nll:
        row_defines.append(("KEEP_LSE", 1))
        refs.append(Out(1))
    partial = Scratch(len(scratch))
    if partials:
        row_defines.append(("PARTIALS", 1))
        refs.append(partial)
        scratch.append(Spec((2, max(groups, 1)), compute(x.dtype)))
    if not empty:
        target_ref, x_ref = found.refs
        args: list[Arg] = [x_ref, target_ref, *_weight(weight, 2), *refs, *found.sizes, *found.steps(1), *found.steps(0)]
        args += [*_smoothing(call, found.length, tag), _error(call.op, found.length)]
        launches.append(Launch("pnn_loss", "loss.c", (groups,), (found.group,), tuple(args), (*row_defines, ("PART", 0))))
    if partials:
        group = 16 if profile.shape == "cpu" else 64
        outs: list[Ref] = [] if reduction == "none" else [Out(0)]
        finish: list[tuple[str, Define]] = [d for d in defines if d[0] in ("T", "R", "EACH_ROW")]
        finish += [("G", group), ("LANES", 1), ("PART", 1)]
        if reduction == "mean":
            finish.append(("MEAN", 1))
        if kept:
            finish.append(("KEEP_TOTAL", 1))
            outs.append(Out(1 if nll else 2))
        launches.append(Launch("pnn_loss_finish", "loss.c", (1,), (group,), (partial, *outs, Const("i64", groups)), tuple(finish)))
    return Plan(tuple(launches), tuple(scratch))


def _grad(
    call: Call, found: Lines, target: Spec, weight: int, total: int, order: tuple[int, ...], more: tuple[tuple[str, Define], ...] = ()
) -> Plan:
    z, w, divisor = call.outputs[0], call.inputs[weight], call.spec(total)
    weights = w if isinstance(w, Spec) else None
    tag = TAGS[compute(z.dtype)]
    defines = [*_defines(call, z.dtype, target, weights), *found.defines, ("PART", 2), ("TOTAL", TAGS[divisor.dtype]), *more]
    if call.settings["reduction"] == "mean":
        defines.append(("MEAN", 1))
    g, t, *rest = (found.refs[i] for i in order)
    steps = [s for i in order for s in found.steps(i)]
    args: list[Arg] = [g, In(total), t, *_weight(weights, weight), *rest, *found.sizes, *steps]
    args += [*_smoothing(call, found.length, tag), _error(call.op, found.length)]
    launch = Launch("pnn_loss_grad", "loss.c", (found.groups,), (found.group,), tuple(args), tuple(defines))
    return Plan((*found.copies, launch), found.scratch)


@plans("cross_entropy_grad")
def cross_entropy_grad(call: Call, profile: Profile) -> Plan:
    """Walk the rows once; the log-sum-exp is there."""
    g, x, t, lse = (call.spec(i) for i in range(4))
    z = call.outputs[0]
    if z.size == 0:
        return Plan(())
    axis = _class_axis(x.shape)
    target = Line(t, In(2)) if dtypes.is_float(t.dtype) else Line(_per_row(t, axis), In(2), per_line=True)
    operands = [Line(_per_row(g, axis), In(0), per_line=True), target, Line(x, In(1)), Line(_per_row(lse, axis), In(3), per_line=True)]
    found = lines(x.shape, axis, [*operands, Line(z, Out(0))], profile)
    return _grad(call, found, t, 5, 4, (0, 1, 2, 3, 4), (("LSE", TAGS[lse.dtype]),))


@plans("nll_loss_grad")
def nll_loss_grad(call: Call, profile: Profile) -> Plan:
    """Write zeros and, at the labels, the gradient."""
    g, t = call.spec(0), call.spec(1)
    z = call.outputs[0]
    if z.size == 0:
        return Plan(())
    axis = _class_axis(z.shape)
    operands = [Line(_per_row(g, axis), In(0), per_line=True), Line(_per_row(t, axis), In(1), per_line=True)]
    found = lines(z.shape, axis, [*operands, Line(z, Out(0))], profile)
    return _grad(call, found, t, 3, 2, (0, 1, 2))
