"""One tunable: is each candidate right, and which is fastest? Times are taken in turn, in bursts, on the calls it names."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from math import exp, log
from time import perf_counter
from typing import Any
from unittest import SkipTest

from ..core import registry
from ..core.backend import Backend
from ..core.errors import ArgumentError
from ..core.op import Op
from ..core.selection import use_backend
from ..core.tuning import Tunable
from ..testing.cases import drawn, dtypes_of, largest, place_all, seed_of
from ..testing.check import check_op, compare, truth_of

CHECKED = ("float32", "float16", "float64")  # dtypes in which an op's samples are checked with each candidate
DTYPE = "float32"
BURST = 0.004  # seconds
MARGIN = 0.03  # a candidate that gains less is not worth a file
HARM = 0.05  # nor is one that loses so much on any of its calls

Run = Callable[[], Any]


@dataclass
class Tried:
    """What became of a candidate.

    Parameters
    ----------
    value : JSON value
    state : str
        "default", "same launches", "timed", "wrong" or "fails".
    why : str
        For the last two.
    ratios : list of float
        Time by that of the default, for each call: the fastest burst by the fastest, since what disturbs a burst only makes it slower.
    noise : float
        Half the difference between such ratios of every other round and of the rest; the largest of the calls.
    """

    value: Any
    state: str
    why: str = ""
    ratios: list[float] = field(default_factory=list)
    noise: float = 0.0

    @property
    def score(self) -> float:
        """Mean (geometric) of the ratios; 1 for what was not timed."""
        return exp(sum(map(log, self.ratios)) / len(self.ratios)) if self.ratios else 1.0

    @property
    def wins(self) -> bool:
        """Tell whether it is faster than the default by more than the noise, and slower on no call."""
        noise = 2 * self.noise
        return self.state == "timed" and self.score < 1 - max(MARGIN, noise) and max(self.ratios) < 1 + max(HARM, noise)


class Trial:
    """The calls of a tunable on a backend.

    Parameters
    ----------
    sizes : mapping
        Values of all other tunables.
    """

    def __init__(self, backend: Backend, tunable: Tunable, sizes: Mapping[str, Any]) -> None:
        self.backend, self.tunable, self.sizes = backend, tunable, dict(sizes)
        self.ops: list[Op] = [registry.find(name) for name, _ in tunable.calls]
        self.given = [drawn(case, DTYPE, seed_of(name, case.name)) for name, case in tunable.calls]
        self.truths = [truth_of(op, given) for op, given in zip(self.ops, self.given, strict=True)]
        self.placed = [place_all(given, backend)[0] for given in self.given]  # with the strides that were drawn

    def use(self, value: Any) -> None:
        """Let plans read this value."""
        self.backend.use_sizes({**self.sizes, self.tunable.name: value})

    def check(self, value: Any) -> tuple[list[Run], list[Any]]:
        """Check a value on the samples of its ops and on its calls; return what runs the calls, and their plans.

        Raises
        ------
        AssertionError
            A result is wrong.
        Exception
            Whatever a backend raises on a value that the device cannot do.
        """
        self.use(value)
        for op in dict.fromkeys(self.ops):
            for sample in op.samples:
                for dtype in set(CHECKED) & set(dtypes_of(op, sample)):
                    try:
                        check_op(op, sample, dtype, self.backend)
                    except SkipTest:
                        continue
        runs: list[Run] = []
        plans: list[Any] = []
        plan = getattr(self.backend, "plan", None)
        for op, given, there, truth in zip(self.ops, self.given, self.placed, self.truths, strict=True):
            with use_backend(self.backend):
                outputs, entry = op.apply(there.args, dict(there.settings))
            terms = 1 if op.reduces is None else op.reduces(entry.call)
            scale = largest(given.arrays())
            for number, (got, wanted, spec) in enumerate(zip(outputs, truth, entry.call.outputs, strict=False)):
                compare(f"{op.name} output {number}", self.backend.to_numpy(got), wanted, spec, terms, scale, op.name)
            runs.append(partial(entry.run, _operands(op, there, entry)))
            plans.append(plan(op, entry.call) if plan else None)
        return runs, plans

    def time(self, runs: Mapping[int, Sequence[Run]], rounds: int) -> dict[int, Tried]:
        """Time the calls of candidates in turn; candidate 0 is what the others are compared with."""
        found = {number: Tried(None, "timed") for number in runs}
        for call in range(len(self.ops)):
            each = {number: those[call] for number, those in runs.items()}
            calls = max(1, int(BURST / max(min(self._burst(each[0], 1) for _ in range(2)), 1e-9)))
            times: dict[int, list[float]] = {number: [] for number in each}
            for turn in range(rounds + 1):  # the first warms up
                order = list(each)
                for number in order[turn % len(order) :] + order[: turn % len(order)]:
                    seconds = self._burst(each[number], calls)
                    if turn:
                        times[number].append(seconds)
            for number, one in found.items():
                ratio, odd, even = (min(times[number][part]) / min(times[0][part]) for part in (slice(None), slice(0, None, 2), slice(1, None, 2)))
                one.ratios.append(round(ratio, 4))
                one.noise = max(one.noise, round(abs(odd - even) / 2 / ratio, 4))
        return found

    def _burst(self, run: Run, calls: int) -> float:
        start = perf_counter()
        for _ in range(calls):
            run()
        self.backend.synchronize()
        return (perf_counter() - start) / calls


def candidates(trial: Trial, rounds: int, going_on: Callable[[], bool]) -> Iterator[Tried]:
    """Try every candidate; yield what became of each, the default first. Stops early where `going_on` says so."""
    tunable = trial.tunable
    values = [tunable.default, *(v for v in tunable.candidates if v != tunable.default)]
    runs: dict[int, list[Run]] = {}
    tried: dict[int, Tried] = {}
    known: list[list[Any]] = []
    for number, value in enumerate(values):
        if not going_on():
            return
        try:
            its, plans = trial.check(value)
        except AssertionError as error:
            tried[number] = Tried(value, "wrong", _line(error))
            continue
        except Exception as error:  # a value the device cannot do: too much local memory, registers, a compiler's limit
            tried[number] = Tried(value, "fails", _line(error))
            continue
        if number and plans[0] is not None and plans in known:
            tried[number] = Tried(value, "same launches")
            continue
        known.append(plans)
        runs[number] = its
    if tried.get(0) is not None:
        raise ArgumentError(f"{tunable.name}: the default {tunable.default!r} {tried[0].state}: {tried[0].why}; this device needs a report, not tuning")
    timed = trial.time(runs, rounds)
    best = min((n for n in timed if n), key=lambda n: timed[n].score, default=0)
    if best and timed[best].wins:  # the best of many is partly lucky: once more, against the default alone
        again = trial.time({0: runs[0], best: runs[best]}, 2 * rounds)[best]
        timed[best] = again
    for number, value in enumerate(values):
        made = tried.get(number) or timed[number]
        made.value = value
        made.state = "default" if number == 0 else made.state
        yield made


def _operands(op: Op, there: Any, entry: Any) -> list[Any]:
    """Return the operands in signature order, as a prepared call wants them."""
    bound = op.signature.bind(*there.args, **there.settings)
    bound.apply_defaults()
    found: list[Any] = []
    for name in op.operands:
        value = bound.arguments[name]
        found += list(value) if isinstance(value, list | tuple) else [value]
    return found


def _line(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}".partition("\n")[0][:200]

