"""Writes one page per op and the index by family from the registry of records.

Everything on a page is read or computed from the record: nothing about an op is written twice.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
from bound_section import error_bound
from numpydoc.docscrape_sphinx import get_doc_object
from sphinx.application import Sphinx

import portable_nn.ops  # noqa: F401  (fills the registry)
from portable_nn.core import dtypes
from portable_nn.core.call import Call
from portable_nn.core.op import SETTING, Op
from portable_nn.core.registry import OPS
from portable_nn.core.samples import A, Bad, Bench, Sample
from portable_nn.core.spec import WEAK, Spec
from portable_nn.testing import coverage
from portable_nn.testing.cases import Drawn, dtypes_of, legal
from portable_nn.testing.suite import gradient_dtypes
from portable_nn_kernels.plans import RULES
from portable_nn_kernels.plans import all as _every_plan  # noqa: F401  (fills RULES)
from portable_nn_numpy.overrides import OVERRIDES

Row = tuple[str, ...]


def family(op: Op) -> str:
    """Return the name of the file the op is written in."""
    return str(op.body.__module__).rpartition(".")[2]


def table(head: Row, rows: list[Row], widths: str = "auto") -> list[str]:
    """Return a list-table."""
    lines = [".. list-table::", "   :header-rows: 1", f"   :widths: {widths}", ""]
    for row in (head, *rows):
        lines += [f"   {'* -' if i == 0 else '  -'} {cell}".rstrip() for i, cell in enumerate(row)]
    return [*lines, ""]


def _heading(text: str, line: str = "-") -> list[str]:
    return [text, line * len(text), ""]


def _literal(text: str) -> str:
    return f"``{text}``" if text else ""


def _value(value: Any) -> str:
    """Return an argument of a sample as people read it: shape, layout, fixed dtype; or the value."""
    if isinstance(value, A):
        notes = [value.dtype or "", value.view.replace("_", " ")]
        told = ", ".join(note for note in notes if note)
        return f"{value.shape}{f' {told}' if told else ''}"
    if isinstance(value, list | tuple) and any(isinstance(v, A) for v in value):
        return "[" + ", ".join(map(_value, value)) + "]"
    return repr(value)


def _call(case: Sample | Bad | Bench) -> str:
    parts = [_value(a) for a in case.args] + [f"{k}={_value(v)}" for k, v in case.settings.items()]
    return _literal(", ".join(parts))


def _number(n: float) -> str:
    for step, name in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if n >= step:
            return f"{n / step:.3g} {name}"
    return f"{n:.0f} "


def call_of(op: Op, case: Sample | Bench, dtype: str) -> Call:
    """Return the call a case makes, without running it: operands have shapes and dtypes, no values."""
    given = Drawn(case.args, case.settings).map(lambda a: Spec(a.shape, dtypes.canonical(a.dtype or dtype)), A)
    bound = op.signature.bind(*given.args, **given.settings)
    bound.apply_defaults()

    def one(value: Any) -> Any:
        return value if value is None or isinstance(value, Spec) else WEAK.get(type(value))

    operands: dict[str, Any] = {}
    for name in op.operands:
        value = bound.arguments[name]
        operands[name] = [one(v) for v in value] if isinstance(value, list | tuple) else one(value)
    settings = {name: bound.arguments[name] for name, role in op.roles.items() if role == SETTING}
    made = op.out(**operands, **settings)
    inputs = [v for value in operands.values() for v in (value if isinstance(value, list) else [value])]
    return Call(op.name, tuple(inputs), (made if isinstance(made, tuple) else (made,))[: len(op.outputs)], settings)


def _moved(call: Call) -> int:
    """Return the bytes of every operand and output: the least that must move."""
    return sum(s.nbytes for s in (*call.inputs, *call.outputs) if isinstance(s, Spec))


def _settings(op: Op) -> list[str]:
    rows = []
    for name, role in op.roles.items():
        if role == SETTING:
            default = op.signature.parameters[name].default
            shown = "required" if default is inspect.Parameter.empty else _literal(repr(default))
            rows.append((_literal(name), _literal(str(op.signature.parameters[name].annotation)), shown))
    return [*_heading("Settings"), *table(("name", "type", "default"), rows)] if rows else []


def _expressions(op: Op) -> Iterator[str]:
    rule = op.expression
    if rule is None:
        return
    texts = [(f"``{name}``", text) for name, text in rule.texts.items()]
    texts += [(f"gradient of ``{name}``", text) for name, text in rule.gradients.items()]
    rows = []
    for name, text in texts:
        variants = (text,) if isinstance(text, str) else text.texts
        rows += [(name, _literal(v), "" if len(variants) == 1 else "one of several, by the settings") for v in variants]
    yield from _heading("Expressions")
    yield "The whole op: rendered to NumPy and to kernel text from these lines. ``g`` is the cotangent, ``y`` the output."
    yield ""
    yield from table(("of", "expression", ""), rows)


def _facts(op: Op) -> list[str]:
    accepted = [d.name for d in dtypes.ALL if op.samples and any(legal(op, s, d.name) for s in op.samples[:2])]
    rows = [
        ("dtypes", ", ".join(accepted) or "fixed by the operands"),
        ("outputs", ", ".join(_literal(n) + (" (no gradient)" if n in op.integer_outputs else "") for n in op.outputs)),
    ]
    if op.residuals:
        rows.append(("kept for the gradient", ", ".join(map(_literal, op.residuals))))
    rows.append(("gradient", "none" if op.vjp is None else "yes" + (f"; saves {', '.join(map(_literal, op.saves))}" if op.saves else "")))
    rows += [(f"computed on {name} by", how) for name, how in computed(op).items()]
    rows += [(f"proven on ``{name}``, {direction}", told) for name, direction, told in _proofs(op)]
    rows += [("version", op.version), ("written in", _literal(f"portable_nn/ops/{family(op)}.py"))]
    return table(("fact", ""), rows, "25 75")


def _proofs(op: Op) -> Iterator[Row]:
    """Yield backend, direction, and in which dtypes the op is proven there, by the runs that ship with the package."""
    known = coverage.of(op.name)
    for backend, directions in known.items():
        for direction, states in directions.items():
            told = "; ".join(f"{text}: {', '.join(d for d in states if states[d] == s)}" for s, text in coverage.STATES.items() if s in states.values())
            yield backend, direction, told


def computed(op: Op) -> dict[str, str]:
    """Return how each group of backends computes the op."""
    numpy = "a faster override" if op.name in OVERRIDES else "the reference"
    if op.expression is not None:
        device = "the elementwise plan, from its expressions"
    elif op.name in RULES:
        device = f"plan ``{RULES[op.name].__module__.rpartition('.')[2]}``"
    else:
        device = "none yet"
    if op.view is not None:
        device = f"a view where strides allow; else {device}" if device != "none yet" else "always a view"
    return {"numpy": numpy, "devices": device}


def _error_bound(op: Op) -> Iterator[str]:
    tested = [call_of(op, sample, dtypes_of(op, sample)[0]) for sample in op.samples if dtypes_of(op, sample)]
    if not tested and op.expression is None:
        return
    yield from _heading("Error bound")
    for part in error_bound(op, tested, [call_of(op, case, "float32") for case in op.bench]):
        if isinstance(part, str):
            yield part
        else:
            yield from table(*part)
    yield ""


def _cases(op: Op) -> Iterator[str]:
    if op.samples:
        rows = []
        for sample in op.samples:
            checked = ", ".join(gradient_dtypes(op, sample)[:1]) or (sample.why or "no")
            rows.append((sample.name, _call(sample), ", ".join(dtypes_of(op, sample)), checked))
        yield from _heading("Tested cases")
        yield "Every backend runs each of them in each dtype and is compared with the reference in float64."
        yield ""
        yield from table(("case", "call", "dtypes", "gradient by finite differences"), rows)
    if op.bad:
        rows = [(b.name, _call(b), _literal(b.raises.__name__), ", ".join(_literal(w) for w in b.words)) for b in op.bad]
        yield from _heading("Refused calls")
        yield from table(("case", "call", "raises", "its message contains"), rows)
    if op.bench:
        rows = []
        for case in op.bench:
            call = call_of(op, case, "float32")
            flop = op.flops(call) if op.flops is not None else sum(prod(s.shape) for s in call.outputs)
            moved = _moved(call)
            rows.append((case.name, _call(case), f"{_number(flop)}flop", f"{_number(moved)}B", f"{flop / max(moved, 1):.3g}"))
        yield from _heading("Benchmarked cases")
        yield "In float32; bytes are those of operands and outputs, the least that must move."
        yield ""
        yield from table(("case", "call", "work", "traffic", "flop per byte"), rows)


def page(op: Op) -> str:
    """Return the page of one op."""
    doc = str(get_doc_object(op.body, "function", doc=inspect.cleandoc(op.body.__doc__ or ""), config={})).splitlines()
    signature = str(op.signature.replace(return_annotation=inspect.Signature.empty))
    lines = [
        f".. Written by docs/_ext/op_pages.py from the record of {op.name}.",
        "",
        *_heading(op.name, "="),
        ".. py:currentmodule:: portable_nn.ops",
        "",
        f".. py:function:: {op.name}{signature}",
        "",
        *(f"   {line}".rstrip() for line in doc),
        "",
        *_facts(op),
        *_expressions(op),
        *_settings(op),
        *_error_bound(op),
        *_cases(op),
    ]
    return "\n".join(lines) + "\n"


def index(families: dict[str, list[Op]]) -> str:
    """Return the list of all ops by family, with the first line of each docstring."""
    lines = [*_heading("Ops", "="), f"{len(OPS)} ops, by the file of ``portable_nn/ops/`` they are written in.", ""]
    for name, ops in families.items():
        module = inspect.getmodule(ops[0].body)
        lines += _heading(name)
        if module is not None and module.__doc__:
            lines += [inspect.cleandoc(module.__doc__).splitlines()[0], ""]
        rows = [(f":doc:`{op.name} <{op.name}>`", (op.body.__doc__ or "").strip().splitlines()[0]) for op in ops]
        lines += table(("op", ""), rows, "25 75")
    return "\n".join([*lines, ".. toctree::", "   :hidden:", "   :glob:", "", "   *", ""])


def _write(path: Path, text: str) -> None:
    """Write a page if it changed, so that Sphinx rebuilds only what it must."""
    if not path.is_file() or path.read_text() != text:
        path.write_text(text)


def write_pages(app: Sphinx) -> None:
    """Write every generated page below reference/ and remove pages of ops that are gone."""
    folder = Path(app.srcdir) / "reference" / "ops"
    folder.mkdir(parents=True, exist_ok=True)
    families: dict[str, list[Op]] = {}
    for op in OPS.values():
        families.setdefault(family(op), []).append(op)
    for old in folder.glob("*.rst"):
        if old.stem != "index" and old.stem not in OPS:
            old.unlink()
    with np.errstate(all="ignore"):  # samples hold NaN, and some casts overflow on purpose
        for op in OPS.values():
            _write(folder / f"{op.name}.rst", page(op))
    _write(folder / "index.rst", index(dict(sorted(families.items()))))


def setup(app: Sphinx) -> dict[str, bool]:
    """Register with Sphinx."""
    app.connect("builder-inited", write_pages)
    return {"parallel_read_safe": True}
