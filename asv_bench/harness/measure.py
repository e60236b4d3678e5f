"""How cases are timed: short bursts until the fastest agree; one copy alone, or two copies in turn.

The fastest burst is taken because what disturbs a burst only ever makes it slower. One fast burst may still be the odd one out, so bursts
go on until three agree; and a disturbance may outlast all bursts of a case, as may the place where a process happens to put its memory,
so a run passes over its cases more than once, in processes of their own: until the fastest time of each has been seen in two passes.
The spread is kept beside it.
"""

from __future__ import annotations

import itertools
import re
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from .session import Asked, Session, WorkerDied

SLOW = 0.5  # seconds of one call from which its first run is the only one
PATIENCE = 90.0  # seconds until a worker that does not answer is given up


@dataclass(frozen=True)
class Budget:
    """How long a case is timed.

    Parameters
    ----------
    bursts : int
        So many in a pass, if `most` allows.
    seconds : float
        About how long one is.
    most : float
        Seconds after which the bursts of a case end, whether or not the fastest `AGREEING` lie within `SETTLED` of each other.
    passes : int
        At most, until the best two of them agree to `agreement`.
    """

    bursts: int = 5
    seconds: float = 0.004
    most: float = 0.15
    passes: int = 4
    agreement: float = 0.03


@dataclass(frozen=True)
class Case:
    """One benchmark with one set of parameters; `index` is its place in asv's list of them."""

    name: str
    index: int
    params: tuple[str, ...]

    @property
    def title(self) -> str:
        """Say benchmark and parameters in one line."""
        return f"{self.name}({', '.join(p.strip(chr(39)) for p in self.params)})"


@dataclass
class Measured:
    """What was found of a case. `samples` are seconds (or the unit of what a benchmark tracks)."""

    case: Case
    state: str
    reason: str = ""
    kind: str = "time"
    samples: list[float] = field(default_factory=list)
    calls: int = 1
    probe: dict[str, float] = field(default_factory=dict)
    work: dict[str, int] | None = None

    @property
    def value(self) -> float | None:
        """The fastest burst; None without one."""
        return min(self.samples) if self.samples else None


def cases(about: dict[str, Any], pattern: str = "") -> list[Case]:
    """Return the cases of a suite whose title matches `pattern`, those of one backend after those of the other.

    The order matters: the threads of NumPy's BLAS go on spinning for a while, and would take a core from whoever is next.
    """
    found = []
    for benchmark in about["benchmarks"]:
        sets = itertools.product(*benchmark["params"]) if benchmark["params"] else [()]
        found += [Case(benchmark["name"], index, tuple(params)) for index, params in enumerate(sets)]
    wanted = re.compile(pattern)
    ranks: dict[str, int] = {}
    for case in found:
        ranks.setdefault(case.params[0] if case.params else "", len(ranks))
    found = [case for case in found if wanted.search(case.title)]
    return sorted(found, key=lambda case: (ranks[case.params[0] if case.params else ""], case.name, case.index))


def one(session: Session, case: Case, budget: Budget) -> Measured:
    """Measure one case; a case whose process dies has failed, and the next gets a new process."""
    try:
        ready = session.ask("prepare", name=case.name, index=case.index, timeout=PATIENCE)
        if ready["state"] != "ready":
            return Measured(case, ready["state"], ready["reason"])
        if ready["type"] != "time":
            said = session.ask("tracked", timeout=PATIENCE)
            values = [said["value"]] if said["state"] == "ready" else []
            return Measured(case, said["state"], said.get("reason", ""), ready["type"], values)
        if ready["first"] > SLOW:
            return Measured(case, "ready", samples=[ready["first"]], probe=session.ask("probe"), work=ready["work"])
        timed = session.ask("series", bursts=budget.bursts, seconds=budget.seconds, most=budget.most, timeout=PATIENCE)
        return Measured(case, "ready", samples=timed["samples"], calls=timed["calls"], probe=timed["probe"], work=ready["work"])
    except WorkerDied as error:
        session.restart()
        return Measured(case, "failed", str(error))
    except Asked as error:
        return Measured(case, "failed", str(error))


def alone(session: Session, chosen: Sequence[Case], budget: Budget, tell: Callable[[Measured], None] = lambda m: None) -> list[list[Measured]]:
    """Measure cases one after the other, in passes; return what each pass found."""
    passes: list[list[Measured]] = []
    left = list(chosen)
    while left and len(passes) < budget.passes:
        if len(passes) == 1:
            session.restart()  # where a process happens to put its memory shows in its times
        made = []
        for case in left:
            if session.stale:
                session.restart()
            made.append(one(session, case, budget))
            tell(made[-1])
        passes.append(made)
        left = [case for case in left if not _settled(case, passes, budget)]
    return passes


def _settled(case: Case, passes: Sequence[Sequence[Measured]], budget: Budget) -> bool:
    found = [m for made in passes for m in made if m.case == case]
    if found[-1].state != "ready":
        return True
    best = sorted(m.value for m in found if m.value is not None)
    return len(best) > 1 and best[1] <= best[0] * (1 + budget.agreement)


@dataclass
class Pair:
    """One case on two copies, measured in turn."""

    case: Case
    a: Measured
    b: Measured
    ratios: list[float] = field(default_factory=list)

    @property
    def ratio(self) -> float | None:
        """Time of b by that of a: of the fastest bursts; None where one has none."""
        first, second = self.a.value, self.b.value
        return second / first if first and second else None

    @property
    def noise(self) -> float:
        """Half the spread of the ratios of single rounds, between their quartiles, as a part of the ratio."""
        if len(self.ratios) < 4 or not self.ratio:
            return 0.0
        low, _, high = statistics.quantiles(self.ratios, n=4)
        return (high - low) / 2 / self.ratio


def pair(a: Session, b: Session, case: Case, other: Case, budget: Budget) -> Pair:
    """Measure a case on two copies, burst by burst, each going first every other round. `other` is the case as b counts it."""
    made = Pair(case, Measured(case, "failed"), Measured(other, "failed"))
    try:
        both = [(a, case, made.a), (b, other, made.b)]
        firsts = []
        for session, its, found in both:
            ready = session.ask("prepare", name=its.name, index=its.index, timeout=PATIENCE)
            found.state, found.reason, found.work = ready["state"], ready.get("reason", ""), ready.get("work")
            found.kind = ready.get("type", "time")
            firsts.append(ready.get("first", 0.0))
        if made.a.state != "ready" or made.b.state != "ready":
            return made
        if made.a.kind != "time":
            for session, _, found in both:
                said = session.ask("tracked", timeout=PATIENCE)
                found.state, found.reason = said["state"], said.get("reason", "")
                found.samples = [said["value"]] if said["state"] == "ready" else []
            return made
        slow = max(firsts) > SLOW
        # As many calls on either side: in a shorter burst, what comes first weighs more.
        calls = 1 if slow else max(session.ask("burst", seconds=budget.seconds, timeout=PATIENCE)["calls"] for session, _, _ in both)
        made.a.calls = made.b.calls = calls
        for number in range(2 if slow else budget.bursts):
            for session, _, found in both if number % 2 == 0 else reversed(both):
                found.samples.append(session.ask("burst", seconds=budget.seconds, calls=calls, warm=not slow, timeout=PATIENCE)["seconds"])
            made.ratios.append(made.b.samples[-1] / made.a.samples[-1])
    except (WorkerDied, Asked) as error:
        for session, _, found in both:
            found.state, found.reason = "failed", found.reason or str(error)
            if session.process.poll() is not None:
                session.restart()
    return made

