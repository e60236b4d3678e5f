"""The section "Error bound" of an op's page: the formula that the tests enforce, its numbers per dtype, and what was measured."""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import cache
from math import sqrt
from pathlib import Path
from typing import Any

from portable_nn.core import dtypes
from portable_nn.core.call import Call
from portable_nn.core.op import Op
from portable_nn.testing import tolerance
from portable_nn.testing.cases import FLOATS

Row = tuple[str, ...]
_DATA = Path(__file__).parents[1] / "reference" / "accuracy.json"


@cache
def measurements() -> dict[str, Any]:
    """Return what `portable_nn.testing.accuracy` measured."""
    found: dict[str, Any] = json.loads(_DATA.read_text(encoding="utf-8"))
    return found


def _terms(op: Op, calls: list[Call]) -> list[int]:
    """Return the different numbers of terms over the calls, smallest first."""
    return sorted({max(int(op.reduces(call)), 1) for call in calls}) if op.reduces is not None else [1]


def error_bound(op: Op, tested: list[Call], benched: list[Call]) -> Iterator[str | tuple[Row, list[Row]]]:
    """Yield lines, and tables as (head, rows)."""
    floating = not tested or any(dtypes.kind(spec.dtype) in ("float", "complex") for call in tested for spec in call.outputs)
    if not floating:
        yield "Results are integers or bools, compared exactly."
        return
    counts, large = _terms(op, tested) if tested else [1], _terms(op, benched) if benched else []
    yield (
        "An element ``y`` lies within ``a |t| + b sqrt(n) S + tiny`` of its true value ``t``, which is the reference in float64 on the same "
        "operands. ``S`` is the largest magnitude of the result, and at least that of the operands up to 1 (in float64: that of the operands). "
        "The tests enforce this on every backend; :doc:`/numerics` says where it comes from."
    )
    yield ""
    if counts == [1]:
        yield "``n``, the number of terms summed into one element, is 1."
    else:
        seen = f"{counts[0]} to {counts[-1]}" if len(counts) > 1 else str(counts[0])
        yield f"``n``, the number of terms summed into one element, is {seen} in the tested cases" + (f", {large[-1]} in the largest benchmarked one." if large else ".")
    if op.name in tolerance.EXCEPTIONS:
        factor, why = tolerance.EXCEPTIONS[op.name]
        yield f"``b`` is {factor:g} times the usual: {why}."
    yield ""
    known = measurements()
    mine = known["ops"].get(op.name, {})
    rows = []
    for name in FLOATS:
        of = tolerance.bound(dtypes.canonical(name), op.name)
        rows.append((name, f"{of.relative:.1e}", f"{of.lost:.1e}", f"{of.tiny:.1e}", f"{of.lost * sqrt(counts[-1]):.1e}", f"{mine[name]:.2g}" if name in mine else ""))
    head = ("dtype", "a", "b", "tiny", f"b sqrt(n) at n = {counts[-1]}", "largest part of the bound used")
    yield head, rows
    if mine:
        yield f"The last column: measured on ``{known['backend']}`` ({known['device']}) on {known['date']}, over the first {known['samples']} samples."
