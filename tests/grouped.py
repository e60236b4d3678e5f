"""The checks of one op on one backend as one test, and which of them are worth a compiler's time by default.

A test per check would spend more on pytest than on the checks, of which there are some ten thousand. A failure names the check;
`--case NAME` runs it alone.

On a device each dtype is a program of its own, and so are many samples: with all of them compilers take most of the suite's
time. The dtype is a macro of the text and mostly independent of the sample, so by default an op meets dtypes on its first
sample; other samples run in float32, if they reach a kernel that earlier ones did not or need no program (`Sparing`). All pairs
run on NumPy, and elsewhere with `-m slow`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import Any
from unittest import SkipTest

import pytest

from portable_nn.core.op import Op
from portable_nn.core.registry import OPS
from portable_nn.core.samples import Sample
from portable_nn.testing.cases import FLOATS, seed_of
from portable_nn.testing.suite import Case, Dtypes, gradient_dtypes

# One plan serves all elementwise ops: these stand for them where layouts and dtypes are concerned.
ELEMENTWISE = ("add", "where", "relu", "gelu_grad", "clamp", "adam_step", "isnan")


def each(names: Iterable[str], takes: Callable[[Op], object] = lambda op: op.samples) -> list[object]:
    """Return a parameter (name, op) for each backend's name and each op that has something to check."""
    ops = [OPS[name] for name in sorted(OPS) if takes(OPS[name])]
    return [pytest.param(name, op, id=f"{name}-{op.name}") for name in names for op in ops]


def has_gradient(op: Op) -> bool:
    """Tell whether a gradient of the op can be checked on any sample."""
    return any(gradient_dtypes(op, sample) for sample in op.samples)


def run(cases: Iterable[Case], request: pytest.FixtureRequest) -> None:
    """Run all of them, then raise what failed, each with the name of its case."""
    wanted = request.config.getoption("--case")
    failed: list[tuple[str, BaseException]] = []
    skipped: list[str] = []
    ran = 0
    for case in cases:
        if wanted not in case.id:
            continue
        ran += 1
        try:
            case.run()
        except SkipTest as reason:
            skipped.append(str(reason))
        except (Exception, pytest.fail.Exception) as error:
            error.add_note(f"in the case {case.id}")
            failed.append((case.id, error))
    if len(failed) == 1:
        raise failed[0][1]
    if failed:
        names = ", ".join(name for name, _ in failed)
        raise BaseExceptionGroup(f"{len(failed)} of {ran} cases: {names}", [error for _, error in failed])
    assert ran or wanted, "nothing to check: the test should not be there"
    if len(skipped) == ran:
        pytest.skip(skipped[0] if skipped else f"no case has {wanted!r} in its name")
    request.node.user_properties += [("skipped", reason) for reason in skipped]  # for the summary of skips


class Sparing:
    """Checks on a backend that runs plans, of which some are skipped where they would only cost a compiler's time.

    A kernel has a program for each set of its constants, and most samples that follow the first differ in those. What launches
    another kernel runs, and what launches only programs that are there.

    Parameters
    ----------
    backend : Backend
    """

    def __init__(self, backend: Any) -> None:
        self.backend = backend
        self.kernels: set[str] = set()
        self.texts: set[object] = set()

    def all(self, cases: Iterable[Case]) -> Iterator[Case]:
        """Yield the cases; what they launch is noted."""
        return (case._replace(run=partial(self._run, case, False)) for case in cases)

    def needed(self, cases: Iterable[Case]) -> Iterator[Case]:
        """Yield the cases; they skip if all they would add is a program of kernels that were launched before."""
        return (case._replace(run=partial(self._run, case, True)) for case in cases)

    def _run(self, case: Case, spare: bool) -> object:
        plan = getattr(self.backend, "plan", None)
        if plan is None:  # compiles nothing of ours
            return case.run()

        def planned(op: Op, call: object, *kept: Any) -> Any:
            made = plan(op, call, *kept)
            texts = {(launch.source, launch.defines) for launch in made.launches}
            kernels = {launch.kernel for launch in made.launches}
            if spare and kernels <= self.kernels and not texts <= self.texts:
                raise SkipTest("left to -m slow: one more program of a kernel that an earlier sample has launched")
            self.kernels |= kernels
            self.texts |= texts
            return made

        self.backend.plan = planned
        try:
            return case.run()
        finally:
            del self.backend.plan


# -- which dtypes --------------------------------------------------------------------------------------------------------


def _is_first(op: Op, sample: Sample) -> bool:
    return sample is op.samples[0]


def _same_as_others(op: Op) -> bool:
    return op.expression is not None and op.name not in ELEMENTWISE


def _main(legal: tuple[str, ...]) -> tuple[str, ...]:
    return ("float32",) if "float32" in legal else legal[:1]


def float32(dtypes: Dtypes) -> Dtypes:
    """Return the choice of every sample in float32, or in its first dtype."""
    return lambda op, sample: _main(dtypes(op, sample))


def first(dtypes: Dtypes) -> Dtypes:
    """Return the choice of the first sample that has any dtypes alone, in float32."""
    return lambda op, sample: _main(dtypes(op, sample)) if sample is next((s for s in op.samples if dtypes(op, s)), None) else ()


def on_first(dtypes: Dtypes, also: tuple[str, ...] | None = None) -> Dtypes:
    """Return the choice of the first sample in float32 and in the dtypes of `also`.

    Without `also`: one more floating dtype and one of the others, in turn from op to op, and all for the elementwise ops that stand
    for the rest. Those that do not are tried in float32 alone if there is an `also`.
    """

    def choice(op: Op, sample: Sample) -> tuple[str, ...]:
        if not _is_first(op, sample):
            return ()
        legal = dtypes(op, sample)
        rest = [d for d in legal if d not in _main(legal)]
        if also is not None:
            rest = [] if _same_as_others(op) else [d for d in rest if d in also]
        elif op.name not in ELEMENTWISE:
            piles = [[d for d in rest if d in FLOATS], [d for d in rest if d not in FLOATS]]
            rest = [pile[seed_of(op.name) % len(pile)] for pile in piles if pile]
        return (*_main(legal), *rest)

    return choice


def later(dtypes: Dtypes, every: int = 1) -> Dtypes:
    """Return the choice of each `every`-th sample but `first`'s, in float32; none of an elementwise op that does not stand for all."""

    def choice(op: Op, sample: Sample) -> tuple[str, ...]:
        at = next((i for i, known in enumerate(s for s in op.samples if dtypes(op, s)) if known is sample), 0)
        return () if at == 0 or at % every or _same_as_others(op) else _main(dtypes(op, sample))

    return choice
