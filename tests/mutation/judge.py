"""In a child process, on a private copy that holds a fault: run what concerns it until something fails."""

from __future__ import annotations

import io
import json
import os
import sys
import time
import traceback
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass, replace
from functools import cache
from itertools import chain, islice
from pathlib import Path
from typing import Any
from unittest import SkipTest

from .closed import closes
from .concern import Case, Concerns, affected, covering, in_turn, ops_of
from .fault import Fault

# A fault that a compiler refuses is no fault: nobody could commit it.
_REFUSED = ("does not compile", "g++ refused", "numba refused", "the compiler refused", "BUILD_PROGRAM_FAILURE")
_BROKEN = (SyntaxError, NameError, ImportError)
# Those of rules and bodies; collecting the others takes seconds.
_QUICK = (
    "tests/reference/test_bodies.py", "tests/reference/test_expressions.py", "tests/reference/test_one_operand.py",
    "tests/reference/test_layout.py", "tests/reference/test_losses.py", "tests/reference/test_binary_losses.py",
    "tests/reference/test_wide_ops.py", "tests/reference/test_ordering.py", "tests/reference/test_random.py", "tests/reference/test_xp.py",
    "tests/host/test_optim.py", "tests/host/test_tape.py", "tests/host/test_records.py",
)  # fmt: skip
FILES_FROM = 8.0  # with a smaller budget test files of rules and plans are left out: collecting them takes as long as many checks
# The tests of the core, those of its parts first.
_TESTS_OF = {
    "tape": ["tests/host/test_tape.py", "tests/reference/test_second_order.py", "-k", "residuals or not second or add or multiply or matmul or attention or batch_norm_train or logsumexp"],
    "op": ["tests/host/test_dispatch.py", "tests/host/test_tape.py", "tests/host/test_records.py"],
    "spec": ["tests/host/test_spec.py", "tests/host/test_dispatch.py", "tests/reference/test_layout.py"],
    "geometry": ["tests/reference/test_conv.py", "tests/reference/test_pool.py"],
    "subscript": ["tests/reference/test_layout.py", "tests/reference/test_xp.py"],
    "elementwise": ["tests/host/test_dispatch.py", "tests/reference/test_bodies.py"],
    "expression": ["tests/host/test_expression.py", "tests/reference/test_bodies.py"],
    "compose": ["tests/reference/test_second_order.py", "-k", "relu or sigmoid or gelu or where or divide or power"],
    "random": ["tests/reference/test_random.py"],
    "axes": ["tests/reference/test_bodies.py", "tests/reference/test_xp.py"],
}  # fmt: skip
# Hypothesis draws shapes and settings for these.
_DRAWN = {
    "matrix product": "matmul or linear", "convolution": "conv2d", "pooling": "pooling", "reductions": "reductions", "softmax": "softmax",
    "elementwise": "operators or copies", "copies and layout": "copies or operators",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Verdict:
    """What came of a fault.

    Parameters
    ----------
    outcome : str
        caught, survived, invalid (does not compile or import) or unreached (no planned program has the text).
    rung, test, how : str
        What caught it, and by what: values, error, crash or hang.
    seconds : float
    complete : bool
        Whether everything that concerns it was run.
    """

    outcome: str
    rung: str = ""
    test: str = ""
    how: str = ""
    message: str = ""
    seconds: float = 0.0
    ran: int = 0
    complete: bool = True


@cache
def _backend(rung: str) -> Any:
    from portable_nn.core import selection

    if rung == "cuda_cpu":
        import cuda_cpu

        return cuda_cpu.backend()
    if rung == "numba_cpu":
        import numba_cpu

        return numba_cpu.backend()
    base, _, shape = rung.partition(":")
    found: Any = selection.get(base)
    if shape and found.profile.shape != shape:
        from portable_nn_opencl.opencl import OpenCLBackend

        return OpenCLBackend(found.found, replace(found.profile, shape=shape))
    return found


def run_case(case: Case) -> None:
    """Run one check, as the suite does."""
    from portable_nn.core.registry import OPS
    from portable_nn.testing.check import check_op
    from portable_nn.testing.gradient import check_gradient

    op, backend = OPS[case.op], _backend(case.rung)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore" if case.rung.endswith("_cpu") else "error")  # as pytest is told to
        if case.rung.startswith("opencl"):
            import pyopencl

            warnings.simplefilter("ignore", pyopencl.CompilerWarning)
        if case.way == "bad":
            _run_bad(case, op, backend)
        elif case.way == "gradient":
            check_gradient(op, op.samples[case.sample], backend, case.dtype)
        else:
            check_op(op, op.samples[case.sample], case.dtype, backend)


def _run_bad(case: Case, op: Any, backend: Any) -> None:
    from portable_nn.core.selection import use_backend
    from portable_nn.testing.cases import drawn, place_all, seed_of

    bad = op.bad[case.sample]
    given, _ = place_all(drawn(bad, "float32", seed_of(op.name, bad.name)), backend)
    said = ""
    try:
        with use_backend(backend):
            op(*given.args, **given.settings)
            backend.synchronize()
    except bad.raises as error:
        said = str(error)
    assert said, f"{op.name}: {bad.name} raised nothing"
    missing = [word for word in (*bad.words, op.name) if word not in said]
    assert not missing, f"{op.name}: the message lacks {missing}: {said}"


# -- the order in which checks are tried ------------------------------------------------------------------------------


def _dtypes(cases: list[Case], way: str) -> Iterator[Case]:
    """Yield the same samples in every dtype they are tested in."""
    from portable_nn.core.registry import OPS
    from portable_nn.testing.suite import dtypes_of, gradient_dtypes

    for case in cases:
        op = OPS[case.op]
        sample = op.samples[case.sample]
        for dtype in gradient_dtypes(op, sample) if way == "gradient" else dtypes_of(op, sample):
            yield case._replace(dtype=dtype, way=way)


def _by_device(bad: Any) -> bool:
    from portable_nn.core.errors import DeviceValueError

    return issubclass(bad.raises, DeviceValueError)


def _once(cases: Iterable[Case]) -> Iterator[Case]:
    seen: set[Case] = set()
    for case in cases:
        if case not in seen:
            seen.add(case)
            yield case


def _mixed(first: list[Case], later: Iterable[Case]) -> Iterator[Case]:
    """Yield some of the first, then two of those for each of the later ones."""
    yield from first[:8]
    rest, other = iter(first[8:]), iter(later)
    while True:
        some = [*islice(rest, 2), *islice(other, 1)]
        if not some:
            return
        yield from some


def _shown(fault: Fault) -> bool:
    """Tell whether the fault is in a device function that users include: no kernel of ours need call it."""
    return f"`{fault.scope}(" in Path("docs/composing.md").read_text()


def _grad_bases(ops: list[str]) -> list[str]:
    """Return the ops whose gradients launch these: of `max_pool2d_grad` not `max`, but the op with the longest name it begins with."""
    from portable_nn.core.registry import OPS

    pulled = [o for o in ops if "_grad" in o]
    bases = {max((n for n in OPS if o.startswith(f"{n}_")), key=len, default=o) for o in pulled}
    return [n for n in OPS if n in ops or n in bases]


def plan_of(fault: Fault, known: Concerns, before: str) -> tuple[Iterable[Case], list[list[str]], str]:
    """Return the checks in order, then the pytest commands, and why there are none."""
    from portable_nn.core.registry import OPS

    kernel = fault.layer.startswith("kernel")
    if kernel:
        hit = affected(fault, known, before)
        if not hit:
            return [], [], "no plan of any sample has the text"
        forward = [case for case, _ in hit]
        if fault.layer == "kernel (numba)":
            first = [c._replace(rung="numba_cpu") for c in forward]
        else:
            first = [c for c in forward if c.dtype == "float32"] + [c for c in forward if c.dtype != "float32"]
            if "_cpu" not in fault.path:
                fibers = [c._replace(rung="cuda_cpu") for c in first if c.rung == "opencl:gpu" and c.dtype == "float32"]
                early = 3 if fault.kind == "missing barrier" else len(first)  # a CPU's runtime may not mind
                first = [*first[:early], *fibers, *first[early:]]
        rung = "numba_cpu" if fault.layer == "kernel (numba)" else "opencl"
    else:
        forward = [c for c in covering(fault, known) if c.way == "forward"]
        first, rung = [], "opencl"
    covered = forward if kernel else covering(fault, known)
    ops = ops_of(fault, covered)
    if not kernel:
        own = [c for c in covered if c.op in ops] or covered
        if not own:
            own = [c for c in known.cases if c.op in ops]
        bad, gradient = [c for c in own if c.way == "bad"], [c for c in own if c.way == "gradient"]
        forward = [c for c in own if c.way == "forward"]
        if fault.layer == "plan":
            first = in_turn(forward)
            first += [c._replace(rung="cuda_cpu") for c in first if c.rung == "opencl:gpu" and c.dtype == "float32"]
        else:
            host = [c for c in forward if c.rung == "numpy"]
            device = [c for c in forward if c.rung == "opencl"]
            turns = {"gradient rule": [gradient, host, device, bad], "shape rule": [bad, host, gradient, device]}
            for pile in turns.get(fault.layer, [host, device, gradient, bad]):
                first += in_turn(pile)
        forward = forward or [c for c in known.cases if c.op in ops and c.way == "forward"]
    typed = _dtypes(in_turn([c._replace(rung=rung if kernel or fault.layer == "plan" else "numpy") for c in forward]), "forward")
    families = set(_grad_bases(ops))
    bases = in_turn(c for c in known.cases if c.op in families and c.way == "gradient")
    pulled = (
        c._replace(rung=there)
        for there in ((rung,) if kernel or fault.layer == "plan" else ("numpy", "opencl"))
        for c in _dtypes(bases, "gradient")
    )
    refused = [c for c in known.cases if c.way == "bad" and c.op in ops and fault.layer in ("shape rule", "core")]
    later = chain(typed, pulled, refused)
    if kernel or fault.layer == "plan":  # labels and indices out of range are reported by kernels
        told = [Case(rung, name, at, "float32", "bad") for name in ops for at, bad in enumerate(OPS[name].bad) if _by_device(bad)]
        first = [*first[:4], *told, *first[4:]]
    if fault.kind == "wrong type":  # float32 cannot tell
        wide = [c for c in _dtypes(in_turn(forward)[:60], "forward") if c.dtype in ("float64", "int64")]
        first = [*(c._replace(rung="numba_cpu") if rung == "numba_cpu" else c for c in wide), *first]
    if kernel and "_INT" in fault.scope:
        whole = [c for c in _dtypes(in_turn(forward)[:60], "forward") if c.dtype in ("int32", "uint8")]
        first = [*(c._replace(rung="numba_cpu") if rung == "numba_cpu" else c for c in whole), *first]
    checks = _once(_mixed(first, later))
    commands: list[list[str]] = []
    words = " or ".join(dict.fromkeys([*(o for o in ops[:12]), *(o.split("_grad")[0] for o in ops[:12])]))
    if fault.layer == "core":
        commands.append(_TESTS_OF[Path(fault.path).stem])
    elif fault.layer == "plan":
        commands.append(["tests/host/test_plan_gemm.py", "tests/host/test_null.py"])
    elif not kernel:
        stem = Path(fault.path).stem
        commands += [[*_QUICK[:3]], [*_QUICK[3:], "-k", f"{words} or {stem}"]]
    if kernel and _shown(fault):
        commands.insert(0, ["tests/backend/test_composing.py"])
    elif fault.path.endswith(".h"):
        commands.append(["tests/backend/test_composing.py"])
    if not kernel and fault.layer != "core":
        commands += [[str(path)] for path in sorted(Path("tests").glob(f"*/test_{Path(fault.path).stem}.py"))]
    if fault.family in _DRAWN and fault.layer != "kernel (numba)":
        commands.append(["tests/backend/test_shapes_hypothesis.py", "-m", "", "-k", _DRAWN[fault.family]])  # and the examples marked slow
    return checks, commands, ""


# -- running -----------------------------------------------------------------------------------------------------------


def _said(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}".replace("\n", " ")[:300]


def _spent() -> float:
    """Return the processor seconds of this process and its children: another job on the machine costs none."""
    return sum(os.times()[:4])


def failed(case: Case, note: Callable[[str, str], None]) -> Verdict | None:
    """Run one check; return what came of it, or None if it passes."""
    note(str(case), case.rung)
    try:
        run_case(case)
    except SkipTest:
        return None
    except Exception as error:
        said = _said(error)
        if isinstance(error, _BROKEN) or any(word in said for word in _REFUSED):
            return Verdict("invalid", message=said)
        how = "values" if isinstance(error, AssertionError) else "error"
        return Verdict("caught", case.rung, json.dumps(case), how, said)
    return None


def judge(fault: Fault, known: Concerns, before: str, budget: float, note: Callable[[str, str], None]) -> Verdict:
    """Run checks until one fails or the budget is spent."""
    start, spent = time.monotonic(), _spent()
    try:
        import portable_nn.ops  # noqa: F401 - fills the registry
        import portable_nn_kernels.device  # noqa: F401 - and the plans
    except Exception as error:
        return Verdict("invalid", message=f"does not import: {_said(error)}")
    closer = closes(fault.id)
    if closer:
        caught = run_pytest([closer], note) if isinstance(closer, str) else failed(closer, note)
        if caught:
            return replace(caught, seconds=time.monotonic() - start, ran=1)
    checks, commands, why = plan_of(fault, known, before)
    if why:
        return Verdict("unreached", message=why)
    if fault.layer == "core" or (fault.layer.startswith("kernel") and _shown(fault)):
        caught = run_pytest(commands.pop(0), note, budget)
        if caught:
            return replace(caught, seconds=time.monotonic() - start)
    ran = 0
    for ran, case in enumerate(checks):
        if _spent() - spent > budget:
            return Verdict("survived", seconds=time.monotonic() - start, ran=ran, complete=False)
        found = failed(case, note)
        if found:
            return replace(found, seconds=time.monotonic() - start, ran=ran + 1)
    if commands and budget < FILES_FROM:
        return Verdict("survived", seconds=time.monotonic() - start, ran=ran + 1, complete=False)
    for command in commands:
        caught = run_pytest(command, note, 4 * budget)
        if caught:
            return replace(caught, seconds=time.monotonic() - start, ran=ran + 1)
    return Verdict("survived", seconds=time.monotonic() - start, ran=ran + 1)


class _First:
    """A pytest plugin that remembers the first failure, and stops when the budget is spent."""

    def __init__(self, note: Callable[[str, str], None], budget: float) -> None:
        self.note, self.failed, self.said, self.stopped = note, "", "", False
        self.end = _spent() + budget

    def pytest_runtest_protocol(self, item: Any) -> None:
        self.note(item.nodeid, "pytest")
        if _spent() > self.end:
            item.session.shouldstop, self.stopped = "the budget is spent", True

    def pytest_runtest_logreport(self, report: Any) -> None:
        if report.failed and not self.failed:
            self.failed, self.said = report.nodeid, str(report.longrepr).strip().splitlines()[-1][:300]


def run_pytest(command: list[str], note: Callable[[str, str], None], budget: float = 1e9) -> Verdict | None:
    """Run tests in this process until one fails; None if all pass, or those that the budget allowed."""
    import pytest

    first = _First(note, budget)
    with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
        code = pytest.main(["-x", "-q", "-p", "no:cacheprovider", "-W", "ignore:Module already imported", "--no-header", *command], plugins=[first])
    if code in (0, 5) or (first.stopped and not first.failed):  # 5: the words after -k choose nothing
        return None
    rung = (first.failed or command[0]).split("::")[0].removeprefix("tests/").split("/")[0]
    return Verdict("caught", rung, first.failed or " ".join(command), "values", first.said or f"pytest ended with {code}")


def confirm(test: str, note: Callable[[str, str], None]) -> bool:
    """Tell whether a test passes on the unchanged tree."""
    import portable_nn.ops  # noqa: F401 - fills the registry

    note(test, "unchanged tree")
    if test.startswith("["):
        try:
            run_case(Case(*json.loads(test)))
        except SkipTest:
            return True
        except Exception:
            traceback.print_exc(file=sys.stderr)
            return False
        return True
    return run_pytest([test] if "::" in test else test.split(" "), note) is None


def cores() -> int:
    """Return how many processors this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
