"""coverage: which op is proven on which backend, in which dtype and direction, and how; read from records of runs.

Records are what the verification ladder writes (docs/reference/coverage) and what owners of devices contribute
(docs/reference/devices, made by ``portable-nn verify``). `summary` joins them into the table that ships with the package.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from .verify import FORMAT, rows

STATES = {
    "hardware": "run on a GPU",
    "cpu opencl": "run by an OpenCL runtime on a CPU",
    "executed": "run on a CPU",
    "compiled": "compiled",
    "failing": "failing",
    "not yet": "not yet",
}
"""Every state of a backend's op, best first, and what it says. "failing": the last run of some rung has a failure."""

PROOF = ("hardware", "cpu opencl", "executed", "compiled")
BACKENDS = ("numpy", "opencl", "cupy", "numba")
DIRECTIONS = ("forward", "gradient")
SHIPPED = Path(__file__).parent / "coverage.json"

Table = dict[str, dict[str, dict[str, dict[str, str]]]]
"""op -> backend -> direction -> dtype -> state."""

_RECORD: dict[str, type | tuple[type, ...]] = {
    "rung": str, "step": str, "title": str, "backend": str, "state": str, "date": str, "commit": str, "later": dict, "tool": str, "cpu": dict,
    "machine": dict, "system": dict, "seconds": (int, float), "totals": dict, "counts": dict, "failures": list, "skips": dict,
}  # fmt: skip
_REPORT: dict[str, type | tuple[type, ...]] = {
    "portable_nn": str, "date": str, "backend": str, "device": dict, "system": dict, "quick": bool, "seconds": (int, float),
    "totals": dict, "rates": dict, "counts": dict, "failures": list, "skips": dict,
}  # fmt: skip


def fault_of(record: Any) -> str:
    """Return what is wrong with a record of the ladder or a report of ``portable-nn verify``; empty if nothing is."""
    if not isinstance(record, dict):
        return f"it is a {type(record).__name__}; it must be an object"
    if record.get("format") != FORMAT:
        return f"its format is {record.get('format')!r}; this version reads {FORMAT}: make it again"
    for name, kind in (_RECORD if "rung" in record else _REPORT).items():
        if name not in record:
            return f"{name!r} is missing"
        if not isinstance(record[name], kind):
            return f"{name!r} is {record[name]!r:.60}"
    if record["backend"] not in BACKENDS:
        return f"its backend is {record['backend']!r}; the table has {', '.join(BACKENDS)}"
    try:
        every = list(rows(record["counts"]))
    except (AttributeError, TypeError):
        return "'counts' is not op -> direction -> dtype -> [passed, failed, skipped]"
    for op, direction, dtype, found in every:
        if direction not in DIRECTIONS:
            return f"{op} has the direction {direction!r}; they are {', '.join(DIRECTIONS)}"
        if not isinstance(found, list) or len(found) != 3 or not all(type(n) is int and n >= 0 for n in found):
            return f"{op}/{direction}/{dtype} is {found!r}; it must be [passed, failed, skipped]"
    for at, name in enumerate(("passed", "failed", "skipped")):
        if record["totals"].get(name) != sum(found[at] for *_, found in every):
            return f"'totals' says {record['totals'].get(name)} {name}; the counts sum to {sum(found[at] for *_, found in every)}"
    if len(record["failures"]) > record["totals"]["failed"] or bool(record["failures"]) != bool(record["totals"]["failed"]):
        return f"{record['totals']['failed']} failed, but {len(record['failures'])} failures are told"
    return ""


def record_text(record: Mapping[str, Any]) -> str:
    """Return a record or report as JSON with a line for each op, so that a changed op is a changed line."""
    head = [f" {json.dumps(name)}: {json.dumps(value, ensure_ascii=False)}" for name, value in record.items() if name != "counts"]
    ops = ",\n".join(f"  {json.dumps(op)}: {json.dumps(found)}" for op, found in sorted(record["counts"].items()))
    return "{\n" + ",\n".join(head) + ',\n "counts": {\n' + ops + "\n }\n}\n"


def _device(report: Mapping[str, Any]) -> str:
    return f"{report['device']['name']} ({report['device'].get('platform') or report['backend']}, driver {report['device'].get('driver') or 'unknown'})"


def state_of(record: Mapping[str, Any]) -> str:
    """Return what passing a record's checks means; a report speaks for hardware if its device is not a CPU."""
    if "rung" in record:
        return str(record["state"])
    kind = record["device"].get("kind", "")
    return "hardware" if kind not in ("cpu", "") else "cpu opencl" if record["backend"] == "opencl" else "executed"


def table_of(records: Iterable[Mapping[str, Any]]) -> Table:
    """Return the best proof of every op, backend, direction and dtype; a failure in any record outweighs every pass."""
    table: Table = {}
    for record in records:
        state, backend = state_of(record), record["backend"]
        for op, direction, dtype, (passed, failed, _) in rows(record["counts"]):
            row = table.setdefault(op, {}).setdefault(backend, {}).setdefault(direction, {})
            if failed:
                row[dtype] = "failing"
            elif passed and state in PROOF and row.get(dtype) != "failing":
                row[dtype] = min(state, row.get(dtype, state), key=PROOF.index)
    for op in table:
        for backend in table[op]:
            table[op][backend] = {direction: found for direction, found in table[op][backend].items() if found}
    return table


def told_of(record: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the summary says of a record: all but the counts of ops."""
    names = ("rung", "step", "title", "backend", "date", "commit", "later", "tool", "samples", "dtypes", "left_out", "seconds", "cpu_seconds", "totals")
    if "rung" in record:
        told = {name: record[name] for name in names if name in record}
        return told | {"ops": len(record["counts"]), "machine": record["machine"].get("processor", "")}
    return {name: record[name] for name in ("backend", "date", "quick", "totals", "rates")} | {"device": _device(record)}


def summary(records: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the table and what was run for it, small enough to ship."""
    kept = list(records)
    packed = {
        op: {backend: {direction: _packed(found) for direction, found in directions.items()} for backend, directions in backends.items()}
        for op, backends in sorted(table_of(kept).items())
    }
    return {
        "format": FORMAT,
        "runs": [told_of(r) for r in kept if "rung" in r],
        "devices": [told_of(r) for r in kept if "rung" not in r],
        "counts": packed,
    }


def _packed(found: Mapping[str, str]) -> dict[str, str]:
    return {state: " ".join(d for d in found if found[d] == state) for state in STATES if state in found.values()}


def unpacked(packed: Mapping[str, Any]) -> Table:
    """Return the table of a summary."""
    return {
        op: {
            backend: {
                direction: {dtype: state for state, dtypes in found.items() for dtype in dtypes.split()}
                for direction, found in directions.items()
            }
            for backend, directions in backends.items()
        }
        for op, backends in packed["counts"].items()
    }


@cache
def shipped() -> dict[str, Any]:
    """Return the summary that came with the package."""
    found: dict[str, Any] = json.loads(SHIPPED.read_text(encoding="utf-8"))
    return found


def of(op: str, table: Table | None = None) -> dict[str, dict[str, dict[str, str]]]:
    """Return backend -> direction -> dtype -> state of an op, from the shipped table by default.

    The gradient ops that an elementwise op makes of its expressions (``relu_grad``, ``add_grad_x1``) have no samples of
    their own: they are what the gradient of that op runs, and stand where it stands.
    """
    found = unpacked(shipped()) if table is None else table
    if op in found:
        return found[op]
    parent = found.get(op.rpartition("_grad")[0], {})
    return {backend: {"forward": directions["gradient"]} for backend, directions in parent.items() if "gradient" in directions}


def state(states: Mapping[str, str]) -> str:
    """Return one state for several dtypes: that of float32 where it is among them, else of the first."""
    if "failing" in states.values():
        return "failing"
    return states.get("float32") or next(iter(states.values()), "not yet")
