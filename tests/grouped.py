"""The checks of one op on one backend as one test, and which of them are worth a compiler's time by default.

A test per check would spend more on pytest than on the checks, of which there are some ten thousand. A failure names the check;
`--case NAME` runs it alone.

On a device each dtype is a program of its own, and so are many samples: with all of them compilers take most of the suite's
time. The dtype is a macro of the text and mostly independent of the sample, so by default each op meets its dtypes on its first
sample, and the other samples in float32. All pairs run on NumPy, and elsewhere with `-m slow`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from unittest import SkipTest

import pytest

from portable_nn.core.op import Op
from portable_nn.core.registry import OPS
from portable_nn.core.samples import Sample
from portable_nn.testing.cases import seed_of
from portable_nn.testing.suite import Case, Dtypes

# One plan serves all elementwise ops: these stand for them where layouts and dtypes are concerned.
ELEMENTWISE = ("add", "where", "relu", "gelu_grad", "clamp", "adam_step", "isnan")


def each(names: Iterable[str], takes: Callable[[Op], object] = lambda op: op.samples) -> list[object]:
    """Return a parameter (name, op) for each backend's name and each op that has something to check."""
    ops = [OPS[name] for name in sorted(OPS) if takes(OPS[name])]
    return [pytest.param(name, op, id=f"{name}-{op.name}") for name in names for op in ops]


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
    """Return the choice of the first sample alone, in float32."""
    return lambda op, sample: _main(dtypes(op, sample)) if _is_first(op, sample) else ()


def others(dtypes: Dtypes) -> Dtypes:
    """Return the choice beside `first`: the first sample in its other dtypes, and the other samples in float32.

    Of an elementwise op that does not stand for all the first sample will do, in one more dtype; these take turns.
    """

    def choice(op: Op, sample: Sample) -> tuple[str, ...]:
        legal = dtypes(op, sample)
        if not _is_first(op, sample):
            return legal if sample.dtypes is not None else () if _same_as_others(op) else _main(legal)
        rest = tuple(d for d in legal if d not in _main(legal))
        return rest[(turn := seed_of(op.name) % len(rest)) : turn + 1] if rest and _same_as_others(op) else rest

    return choice


def fewest(dtypes: Dtypes, on_first: tuple[str, ...] = ("float32",), every: int = 1) -> Dtypes:
    """Return the choice for text that runs elsewhere too: `on_first` on the first sample, float32 on each `every`-th of the others.

    Of an elementwise op that does not stand for all the first sample in float32 will do.
    """

    def choice(op: Op, sample: Sample) -> tuple[str, ...]:
        legal = dtypes(op, sample)
        if _is_first(op, sample):
            chosen = tuple(d for d in legal if d in on_first) or legal[:1]
            return chosen[:1] if _same_as_others(op) else chosen
        at = next(i for i, known in enumerate(op.samples) if known is sample)
        return () if at % every or _same_as_others(op) else _main(legal)

    return choice
