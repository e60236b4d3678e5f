"""Where the time of a training step goes: every op call on the host, and every kernel by the device's own clock."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from ..core.backend import Backend
from ..core.errors import SettingError
from ..core.registry import find
from ..core.selection import use_backend
from ..models import check_name
from .config import TrainConfig
from .interrupt import Stop
from .observe import Seen, observed
from .records import MetricsWriter
from .setup import choose_backend, load_data, prepare
from .step import TrainState
from .stepper import Stepper
from .task import choose_task

if TYPE_CHECKING:
    from .loop import Run

WARM_UP = 3  # steps before any is timed: the first compiles, the second records, the third records again and compares


@dataclass(frozen=True, slots=True)
class Work:
    """A stretch of time: an op call on the host, or a kernel on the device.

    `op` joins the names of fused ops by a plus. `phase` and `layer` are as in `Seen`; a captured step does not know them.
    `kernel` is empty for a call. `start` and `seconds` are of `time.perf_counter`; `nbytes` are those of the arrays of a
    kernel, `flops` the operations of a call by its record, 0 where none are stated.
    """

    op: str
    phase: str
    layer: str
    kernel: str
    start: float
    seconds: float
    nbytes: int = 0
    flops: int = 0


@dataclass(frozen=True)
class Profile:
    """Some training steps, looked at.

    Parameters
    ----------
    backend, device : str
    captured : bool
        Whether the steps were replayed; else they were taken call by call.
    steps : int
        How many were looked at.
    step_seconds : float
        Of one step that nobody looks at, with a wait at its end: the median of as many; NaN where none was timed.
    waited : bool
        The backend cannot time kernels: the host waited after every call, and `host` is all there is.
    began : tuple of float
        When each step began.
    host, kernels : tuple of Work
        In order of time.
    """

    backend: str
    device: str
    captured: bool
    steps: int
    step_seconds: float
    waited: bool
    began: tuple[float, ...]
    host: tuple[Work, ...]
    kernels: tuple[Work, ...]

    @property
    def work(self) -> tuple[Work, ...]:
        """What the time went into: kernels where the device times them, else calls."""
        return self.host if self.waited else self.kernels

    @property
    def busy_seconds(self) -> float:
        """Seconds of work per step."""
        return sum(w.seconds for w in self.work) / self.steps


Take = Callable[[TrainState], TrainState]


def profile_training(config: TrainConfig | None = None, *, steps: int = 10, **settings: Any) -> list[Profile]:
    """Take some steps of a run that is not kept, and look at them.

    Parameters
    ----------
    config : TrainConfig, optional
        Settings of the run.
    steps : int
        To look at, after three that are not.
    **settings
        Settings by name, over those of `config`.

    Returns
    -------
    list of Profile
        Of steps taken call by call; then, if `capture` is set and possible, of captured ones.
    """
    from .checkpoint import Position
    from .loop import Run  # imports this module
    from .progress import Silent

    if steps < 1:
        raise SettingError(f"profile: steps is {steps} but at least 1 is needed")
    config = TrainConfig(**{**(config or TrainConfig()).to_dict(), **settings})
    check_name(config.model)
    with use_backend(choose_backend(config)) as backend, TemporaryDirectory() as folder, MetricsWriter(Path(folder), None) as written:
        sets = load_data(config)
        parts = prepare(config, sets, None, choose_task(sets.train, None, None, config.label_smoothing, "none"))
        run = Run(config, parts, Path(folder), backend, written, Silent(), Stop(), Position())
        run.warm_up()
        group = next(run.groups(0, 0))[1]
        found = [profile_steps(backend, run.state, run.next_of(group), steps=steps)]
        if config.capture:
            stepper = Stepper(run.take_step, True, lambda text: None)
            took = _captured(run, stepper, group)
            with suppress(_NotCaptured):
                found.append(profile_steps(backend, parts.state, took, steps=steps, captured=lambda: stepper.captured))
    return found


class _NotCaptured(Exception):
    """The step cannot be captured: there is nothing to look at that was not looked at already."""


def _captured(run: Run, stepper: Stepper, group: Sequence[Any]) -> Take:
    def take(state: TrainState) -> TrainState:
        run.state = state
        batches = [run.augmented(batch, i) for i, batch in enumerate(group)]
        return stepper(state, batches, run.parts.schedule(state.step), run.key)[0]

    return take


def profile_steps(
    backend: Backend, state: TrainState, take: Take, *, steps: int = 1, warm_up: int = WARM_UP, captured: Callable[[], bool] | None = None, timed: bool = True
) -> Profile:
    """Take steps from `state` and look at them; what they make is dropped.

    Parameters
    ----------
    backend : Backend
    state : TrainState
    take : callable
        ``take(state) -> state``: one step.
    steps, warm_up : int
        To look at, and before them.
    captured : callable, optional
        Tells, after the first steps, whether they are replayed: then calls are not looked at one by one, as there are none.
    timed : bool
        Whether to time as many steps that nobody looks at.
    """
    timer = getattr(backend, "profiling", None)
    host: list[Work] = []
    watch = _watched_calls(backend, host) if captured is not None and timer is None else nullcontext()
    with watch:
        for _ in range(warm_up):
            state = take(state)
        backend.synchronize()
        if captured is not None and not captured():
            raise _NotCaptured
        plain: list[float] = []
        for _ in range(steps if timed else 0):
            start = time.perf_counter()
            state = take(state)
            backend.synchronize()
            plain.append(time.perf_counter() - start)
        host.clear()
        began: list[float] = []
        kernels: list[Work] = []
        for _ in range(steps):
            with timer() if timer else nullcontext() as times:
                seen: list[tuple[Seen, int]] = []

                def see(call: Seen, times: Any = times, seen: list[tuple[Seen, int]] = seen) -> None:
                    seen.append((call, 0 if times is None else times.launched))

                began.append(time.perf_counter())
                with nullcontext() if captured is not None else observed(state.model, see, timed=timer is None):
                    state = take(state)
                ended = time.perf_counter()
                backend.synchronize()
            if captured is None:
                host += [_call(call) for call, _ in seen]
            elif timer is not None:
                host.append(Work("replay", "", "", "", began[-1], ended - began[-1]))
            kernels += _owned(times or [], seen)
    return Profile(
        backend.name, backend.device, captured is not None, steps, median(plain) if plain else float("nan"), timer is None,
        tuple(began), tuple(host), tuple(kernels),
    )  # fmt: skip


def _call(seen: Seen) -> Work:
    op = find(seen.op)
    flops = int(op.flops(seen.call)) if op.flops is not None else 0
    return Work(seen.op, seen.phase, seen.layer, "", seen.start, seen.seconds, 0, flops)


def _owned(times: Sequence[Any], seen: Sequence[tuple[Seen, int]]) -> list[Work]:
    """Return the kernels of a step with phase and layer of the call that launched each."""
    found, calls, at = [], iter(seen), 0
    owner: Seen | None = None
    for number, kernel in enumerate(times):
        while at <= number:
            owner, at = next(calls, (None, len(times)))
        phase, layer = ("", "") if owner is None else (owner.phase, owner.layer)
        found.append(Work(kernel.op or "copy", phase, layer, kernel.kernel, kernel.start / 1e9, kernel.ns / 1e9, kernel.bytes))
    return found


@contextmanager
def _watched_calls(backend: Backend, found: list[Work]) -> Iterator[None]:
    """Time the calls of a replay on a backend that replays call by call on the host."""
    prepare_plain = backend.prepare

    def prepare(op: Any, call: Any) -> Any:
        run = prepare_plain(op, call)
        flops = int(op.flops(call)) if op.flops is not None else 0

        def timed(given: Any) -> Any:
            start = time.perf_counter()
            made = run(given)
            found.append(Work(op.name, "", "", "", start, time.perf_counter() - start, 0, flops))
            return made

        return timed

    from unittest.mock import patch  # 15 ms: it imports asyncio

    with patch.object(backend, "prepare", prepare):
        yield


@dataclass(frozen=True)
class Sum:
    """What several stretches of work came to, per step."""

    name: str
    phase: str
    calls: float
    seconds: float
    nbytes: float
    flops: float
    of: tuple[str, ...]


def by_op(profile: Profile) -> list[Sum]:
    """Return the time per step of every op and phase, the longest first; `of` are its kernels."""
    found = _sums(profile.work, profile.steps, lambda w: (w.op, w.phase), lambda w: w.kernel)
    calls = {(s.name, s.phase): s for s in _sums(profile.host, profile.steps, lambda w: (w.op, w.phase), lambda w: "")}
    return [
        Sum(s.name, s.phase, c.calls, s.seconds, s.nbytes, c.flops, s.of) if (c := calls.get((s.name, s.phase))) else s for s in found
    ]  # fmt: skip


def by_kernel(profile: Profile) -> list[Sum]:
    """Return the time per step of every kernel, the longest first; `of` are its ops."""
    return _sums(profile.kernels, profile.steps, lambda w: (w.kernel, ""), lambda w: w.op)


def _sums(work: Sequence[Work], steps: int, key: Callable[[Work], tuple[str, str]], of: Callable[[Work], str]) -> list[Sum]:
    groups: dict[tuple[str, str], list[Work]] = {}
    for one in work:
        groups.setdefault(key(one), []).append(one)
    found = [
        Sum(name, phase, len(group) / steps, sum(w.seconds for w in group) / steps, sum(w.nbytes for w in group) / steps,
            sum(w.flops for w in group) / steps, tuple(dict.fromkeys(filter(None, map(of, group)))))
        for (name, phase), group in groups.items()
    ]  # fmt: skip
    return sorted(found, key=lambda s: -s.seconds)


def rows(profile: Profile) -> list[dict[str, Any]]:
    """Return plain values for a file: work of the same phase, layer, op and kernel joined, per step, in order of first appearance."""
    found: dict[tuple[str, str, str, str], list[Work]] = {}
    for w in profile.work:
        found.setdefault((w.phase, w.layer, w.op, w.kernel), []).append(w)
    return [
        {"phase": phase, "layer": layer, "op": op, "kernel": kernel, "calls": len(group) / profile.steps,
         "seconds": sum(w.seconds for w in group) / profile.steps, "bytes": sum(w.nbytes for w in group) / profile.steps}
        for (phase, layer, op, kernel), group in found.items()
    ]  # fmt: skip


def described(profile: Profile) -> dict[str, Any]:
    """Return a profile as plain values, for a file; times of a step that nobody timed are None."""
    known = profile.step_seconds == profile.step_seconds
    return {
        "backend": profile.backend, "device": profile.device, "captured": profile.captured, "steps": profile.steps, "waited": profile.waited,
        "step_seconds": profile.step_seconds if known else None, "busy_seconds": profile.busy_seconds, "rows": rows(profile),
    }  # fmt: skip
