"""What the tests of all three vendors have in common."""

from __future__ import annotations

from collections.abc import Sequence

from .programs import Program, jobs
from .table import Taken, compile_all, excuses, spills, table, unneeded
from .target import Resources, Target, Vendor


def check(vendor: Vendor, chosen: Sequence[tuple[Program, Target]]) -> list[Taken]:
    """Compile programs; fail with what was refused, spills, or takes more local memory than there is."""
    assert chosen
    taken, refused = compile_all(vendor, chosen)
    assert not refused, "\n".join(refused)
    assert len(taken) >= len(chosen)
    found = excesses(vendor, taken)
    assert not found, "\n".join(found)
    rows = table(vendor, taken)
    assert sum(row[4] for row in rows) == len(taken)
    return taken


def excesses(vendor: Vendor, taken: Sequence[Taken]) -> list[str]:
    """Return what spills without an excuse, and what takes more local memory than a work-group has."""
    large = [f"{p}: {r.kernel} takes {r.figures['local']} bytes" for p, r in taken if r.figures["local"] > vendor.LOCAL_BYTES]
    return spills(vendor, taken) + large


def of_every_file(vendor: Vendor) -> list[tuple[Program, Target]]:
    """Return one float32 program of each file, and of elementwise text."""
    found: dict[str, tuple[Program, Target]] = {}
    for program, target in jobs(vendor, ("float32",), "in turn"):
        found.setdefault(program.file, (program, target))
    return list(found.values())


def check_everything(vendor: Vendor) -> None:
    """All dtypes, each program on one target in turn; and every excuse is needed by some program on its targets."""
    check(vendor, jobs(vendor, which="in turn"))
    if not excuses(vendor):
        return
    files = {line["file"] for line in excuses(vendor)}
    taken, _ = compile_all(vendor, [(p, t) for p, t in jobs(vendor, which="all") if p.file in files])
    assert not unneeded(vendor, taken), f"spills.toml excuses what does not spill: {unneeded(vendor, taken)}"


def check_excuses(vendor: Vendor) -> None:
    """A line of spills.toml says why, and excuses neither more than it says nor another kernel."""
    for line in excuses(vendor):
        assert line["why"].strip()
        assert line["most"] > 0
    target = vendor.TARGETS[0]
    program = Program("nothing.c", (), {"pnn_nothing": 64}, "nothing")
    figures = dict.fromkeys(vendor.COLUMNS, 0)
    assert spills(vendor, [(program, Resources("pnn_nothing", target, figures))]) == []
    (told,) = spills(vendor, [(program, Resources("pnn_nothing", target, figures | {"spill": 4}))])
    assert "nothing: pnn_nothing" in told
    assert str(target) in told


SPILLING = """
KERNEL(pnn_t, 256, 1, 1)(IN(f32, x), OUT(f32, y), i64 n) {
    AT_IN(f32, x);
    AT_OUT(f32, y);
    f32 a[400];
#pragma unroll
    for (int i = 0; i < 400; ++i) a[i] = x[i * n + LOCAL_ID(0)];
    for (int k = 0; k < 9; ++k) {
#pragma unroll
        for (int i = 0; i < 400; ++i) a[i] = a[i] * a[(i + 7) % 400];
    }
#pragma unroll
    for (int i = 0; i < 400; ++i) y[i * n + LOCAL_ID(0)] = a[i];
}
"""
# Body of a kernel, what stands before it, and a word of the refusal.
WRONG = {
    "an unknown name": ("y[0] = missing;", "", "missing"),
    "what the compiler warns of": ("i32 unset = 3; unset; y[0] = x[0];", "", "warning"),
    "a function without a body": ("y[0] = pnn_elsewhere(x[0]);", "DEVICE f32 pnn_elsewhere(f32 x);", "pnn_elsewhere"),
}


def kernel(body: str, before: str = "") -> Program:
    """Return a program with one kernel of this body, over x and y."""
    head = "KERNEL(pnn_t, 256, 1, 1)(IN(f32, x), OUT(f32, y)) {\n    AT_IN(f32, x);\n    AT_OUT(f32, y);\n"
    return Program(f"\n{before}\n{head}    {body}\n}}\n", (), {"pnn_t": 256}, "test")
