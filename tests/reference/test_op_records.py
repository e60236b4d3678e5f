"""Every record is complete: what dispatch, tests, docs and benchmarks read of it is there and consistent. Generated."""

import ast
import inspect
import re
import textwrap

import numpy as np
import pytest

import portable_nn as pnn
from portable_nn.core import dtypes
from portable_nn.core.errors import NoGradient
from portable_nn.core.op import LIST, SETTING, Op
from portable_nn.core.registry import OPS
from portable_nn.core.samples import A
from portable_nn.core.spec import Spec
from portable_nn.testing.cases import described, drawn, dtypes_of, spec_of, specs

ALL = [pytest.param(op, id=name) for name, op in sorted(OPS.items())]
# Ops made from another's record: gradients of elementwise ops.
MADE = {name for name, op in OPS.items() if op.expression is not None and re.search(r"_grad(_\w+)?$", name)}
WRITTEN = [pytest.param(op, id=name) for name, op in sorted(OPS.items()) if name not in MADE]


def is_backward(op: Op) -> bool:
    return bool(re.search(r"_grad(_\w+)?$", op.name))


@pytest.mark.parametrize("op", ALL)
def test_name_and_place(op):
    assert re.fullmatch(r"[a-z][a-z0-9_]*", op.name)
    assert OPS[op.name] is op
    if op.name not in MADE:
        assert getattr(pnn.ops, op.name) is op, f"{op.name} is not in portable_nn.ops"


@pytest.mark.parametrize("op", WRITTEN)
def test_docstring_is_a_page(op):
    text = inspect.cleandoc(op.__doc__ or "")
    first = text.splitlines()[0] if text else ""
    assert len(first) > 15, f"{op.name}: the docstring must begin with what it computes"
    assert first.endswith((".", ":")) or "``" in first
    if op.expression is not None and len(op.operands) <= 2:
        return  # a sentence or a formula says it all
    referred = re.search(r"[Ss]ee `(\w+)`", text)
    if referred and referred.group(1) in OPS and "Parameters\n---" in inspect.cleandoc(OPS[referred.group(1)].__doc__ or ""):
        return  # the page of a sibling has the sections
    for section in ("Parameters", "Returns"):
        assert re.search(rf"^{section}\n-+$", text, re.MULTILINE), f"{op.name}: no section {section}"
    body = text.split("Parameters\n", 1)[1]
    for name in op.signature.parameters:
        assert re.search(rf"(^|[\s,*`]){re.escape(name)}\b", body), f"{op.name}: parameter {name} is not described"


@pytest.mark.parametrize("op", ALL)
def test_samples(op):
    assert op.samples or op.name in MADE, f"{op.name} has no samples"
    least = 1 if op.expression is not None else 3
    if op.name not in MADE:
        assert len(op.samples) >= least, f"{op.name} has {len(op.samples)} samples, at least {least} are needed"
    names = [s.name for s in op.samples]
    assert len(names) == len(set(names)), f"{op.name}: two samples have one name"
    for sample in op.samples:
        assert sample.gradient or sample.why, f"{op.name}, {sample.name}: says no gradient but not why"
        assert dtypes_of(op, sample), f"{op.name}, {sample.name}: legal in no dtype"


@pytest.mark.parametrize("op", WRITTEN)
def test_every_setting_is_varied_by_some_sample(op):
    for name, role in op.roles.items():
        if role != SETTING:
            continue
        default = op.signature.parameters[name].default
        seen: list[object] = []
        for sample in op.samples:
            given = drawn(sample, dtypes_of(op, sample)[0], 0).named(op)
            seen.append(given.get(name, default))
        if default is inspect.Parameter.empty:
            assert seen, f"{op.name}: {name}"
        else:
            seen += [drawn(wrong, "float32", 0).named(op).get(name, default) for wrong in op.bad]  # or its refusal is tested
            varied = any(type(v) is not type(default) or v != default for v in seen)
            assert varied, f"{op.name}: no sample sets {name} to anything but {default!r}"


@pytest.mark.parametrize("op", WRITTEN)
def test_some_sample_is_a_view(op):
    if op.expression is not None or not any(len(a.shape) > 1 for s in op.samples for a in described(s)):
        return  # elementwise ops share one plan, tested through the arithmetic ones
    assert any(a.view for s in op.samples for a in described(s)), f"{op.name}: no sample has a strided operand"


@pytest.mark.parametrize("op", WRITTEN)
def test_gradient_rule_or_reason(op):
    """An op on floats has a rule, or its docstring (or that of its outputs being integers) says why it has none."""
    if op.vjp is not None or all(name in op.integer_outputs for name in op.outputs):
        return
    floats = any(
        a.dtype is None and dtypes.is_float(dtypes.canonical(d)) for s in op.samples for d in dtypes_of(op, s) for a in described(s)
    )
    if not floats or is_backward(op):
        return
    text = (op.__doc__ or "").lower()
    assert "gradient" in text or "differentia" in text or "derivative" in text, (
        f"{op.name} has no gradient rule and its docstring does not say why"
    )


@pytest.mark.parametrize("op", ALL)
def test_saves_name_what_exists(op):
    known = {*op.operands, *op.outputs, *op.residuals}
    assert set(op.saves) <= known, f"{op.name} saves {set(op.saves) - known}"
    assert set(op.integer_outputs) <= set(op.outputs)
    assert not set(op.outputs) & set(op.residuals)
    if op.vjp is None:
        assert not op.saves, f"{op.name} saves values for a rule it does not have"


@pytest.mark.parametrize("op", [p for p in WRITTEN if not is_backward(p.values[0])])
def test_forward_ops_have_bench_sizes(op):
    computes = any(a.dtype is None for s in op.samples for a in described(s))  # not a filling or a key
    if op.expression is None and op.view is None and computes and not op.name.endswith("_like"):
        assert op.bench, f"{op.name} has no benchmark sizes"
    for case in op.bench:
        given = drawn(case, "float32", 0) if sum(np.prod(a.shape) for a in described(case)) < 1 << 22 else None
        if given is not None:
            specs(op, given)


@pytest.mark.parametrize("op", [p for p in WRITTEN if not is_backward(p.values[0]) and p.values[0].expression is None])
def test_bad_calls_are_listed(op):
    assert op.bad, f"{op.name} lists no wrong calls"
    assert all(b.words and all(b.words) for b in op.bad), f"{op.name}: a wrong call without words"
    names = [b.name for b in op.bad]
    assert len(names) == len(set(names)), f"{op.name}: two wrong calls of one name"


@pytest.mark.parametrize("op", ALL)
def test_shape_rule_and_counts(op):
    """The shape rule gives specs for every output and residual; flops and terms are whole numbers."""
    for sample in op.samples:
        for dtype in dtypes_of(op, sample)[:1]:
            given = drawn(sample, dtype, 0)
            made = specs(op, given)
            made = made if isinstance(made, tuple) else (made,)
            assert all(isinstance(s, Spec) for s in made)
            assert len(made) == len(op.outputs) + len(op.residuals), f"{op.name}: {len(made)} specs"
            with pnn.use_backend("numpy"):
                _, entry = op.apply(given.args, dict(given.settings))
            for count in (op.flops, op.reduces):
                if count is not None:
                    value = count(entry.call)
                    assert isinstance(value, int | np.integer), f"{op.name}: {count} gives {value!r}"
                    assert value >= 0


def _called(op):
    try:
        tree = ast.parse(textwrap.dedent(inspect.getsource(op.body)))
    except (OSError, IndentationError, SyntaxError):
        return set()
    inside = [n for n in ast.walk(tree) if isinstance(n, ast.FunctionDef) and n.name == op.name]
    return {n.func.id for f in inside for n in ast.walk(f) if isinstance(n, ast.Call) and isinstance(n.func, ast.Name) and n not in f.decorator_list}


@pytest.mark.parametrize("op", [p for p in WRITTEN if p.values[0].expression is None])
def test_body_uses_no_other_op(op):
    """By name in its own source, and by running it with dispatch switched off."""
    scope = op.body.__globals__
    used = {name for name in _called(op) if isinstance(scope.get(name), Op)}
    assert not used, f"the reference of {op.name} calls the ops {sorted(used)}"


@pytest.mark.parametrize("op", ALL)
def test_body_runs_without_dispatch(op, monkeypatch):
    def refuse(self, *args, **kwargs):
        raise AssertionError(f"the reference of {op.name} calls the op {self.name}")

    monkeypatch.setattr(Op, "apply", refuse)
    for sample in op.samples[:3]:
        for dtype in dtypes_of(op, sample)[:1]:
            given = drawn(sample, dtype, 0)
            with np.errstate(all="ignore"):
                op.body(*given.args, **given.settings)


@pytest.mark.parametrize("op", ALL)
def test_body_leaves_its_operands_alone(op):
    for sample in op.samples[:3]:
        given = drawn(sample, dtypes_of(op, sample)[0], 0)
        before = [x.tobytes() for x in given.arrays()]
        with np.errstate(all="ignore"):
            op.body(*given.args, **given.settings)
        assert [x.tobytes() for x in given.arrays()] == before, f"the reference of {op.name} writes to an operand"


@pytest.mark.parametrize("op", [p for p in WRITTEN if p.values[0].vjp is None])
def test_no_rule_is_an_error_never_zeros(op):
    for sample in op.samples[:1]:
        given = drawn(sample, dtypes_of(op, sample)[0], 0)
        arrays = [x for x in given.arrays() if dtypes.is_float(spec_of(x).dtype)]
        if not arrays or all(name in op.integer_outputs for name in op.outputs):
            return
        with pnn.Tape() as tape:
            watched = given.map(lambda x: tape.watch(x) if dtypes.is_float(x.dtype) else x, np.ndarray)
            with pytest.raises(NoGradient, match=op.name):
                op(*watched.args, **watched.settings)


def test_lists_come_at_most_once():
    for op in OPS.values():
        assert list(op.roles.values()).count(LIST) <= 1, f"{op.name}: two lists of arrays"


def test_sample_views_are_known():
    views = {a.view for op in OPS.values() for s in op.samples for a in described(s)}
    assert views <= {"", "transposed", "strided", "reversed", "offset", "expanded", "channels_last"}
    assert isinstance(A((1,)), A)
