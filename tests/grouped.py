"""The checks of one sample under one test id, and which dtypes are worth a compiler's time by default.

A test per dtype would spend more on pytest than on the check, and on a device each dtype is a program of its own: with
all of them compilers take most of the suite's time. The dtype is a macro of the text and mostly independent of the sample, so by default
each op meets every dtype and each sample float32. All pairs run on NumPy, and elsewhere with `-m slow`.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple
from unittest import SkipTest

import pytest

from portable_nn.core.op import Op
from portable_nn.core.samples import Sample
from portable_nn.testing.suite import Case, Dtypes

# One plan serves all elementwise ops: these stand for them where layouts are concerned.
ELEMENTWISE = ("add", "where", "relu", "gelu_grad", "clamp", "adam_step", "isnan")


class Group(NamedTuple):
    """Checks that differ in the dtype only."""

    id: str
    cases: list[Case]

    def run(self, request: pytest.FixtureRequest) -> None:
        """Run all of them, then raise what failed, each with the name of its case."""
        failed: list[tuple[str, Exception]] = []
        skipped: list[str] = []
        for case in self.cases:
            try:
                case.run()
            except SkipTest as reason:
                skipped.append(str(reason))
            except Exception as error:
                error.add_note(f"in the case {case.id}")
                failed.append((case.id, error))
        if len(failed) == 1:
            raise failed[0][1]
        if failed:
            names = ", ".join(name for name, _ in failed)
            raise ExceptionGroup(f"{len(failed)} of {len(self.cases)} cases: {names}", [error for _, error in failed])
        if len(skipped) == len(self.cases):
            pytest.skip(skipped[0])
        request.node.user_properties += [("skipped", reason) for reason in skipped]  # for the summary of skips


def grouped(cases: Iterable[Case]) -> list[Group]:
    """Return the cases by op and sample, in order."""
    found: dict[str, list[Case]] = {}
    for case in cases:
        found.setdefault(case.group, []).append(case)
    return [Group(name, members) for name, members in found.items()]


def place_of(op: Op, sample: Sample) -> int:
    """Return the position of a sample in its record."""
    return next(i for i, known in enumerate(op.samples) if known is sample)


def _same_as_others(op: Op) -> bool:
    return op.expression is not None and op.name not in ELEMENTWISE


def few(dtypes: Dtypes) -> Dtypes:
    """Return the choice for a device's usual kernels: all dtypes on the first sample, float32 on the others.

    Elementwise ops compute both halves in float32, so but for those that stand for all they are tried in one of them.
    """

    def choice(op: Op, sample: Sample) -> tuple[str, ...]:
        legal, at = dtypes(op, sample), place_of(op, sample)
        if sample.dtypes is not None or len(legal) < 2:
            return legal
        if at:
            return ("float32",) if "float32" in legal else legal[:1]
        return tuple(d for d in legal if d != "float16") if _same_as_others(op) else legal

    return choice


def fewest(dtypes: Dtypes, first: tuple[str, ...], every: int = 1) -> Dtypes:
    """Return the choice for text that runs elsewhere too: `first` on the first sample, float32 on each `every`-th of the others.

    Of an elementwise op that does not stand for all the first sample will do.
    """

    def choice(op: Op, sample: Sample) -> tuple[str, ...]:
        legal, at = dtypes(op, sample), place_of(op, sample)
        chosen = tuple(d for d in legal if d in first) or legal[:1]
        if at == 0:
            return chosen
        if at % every or _same_as_others(op):
            return ()
        return ("float32",) if "float32" in legal else chosen[:1]

    return choice
