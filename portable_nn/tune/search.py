"""The search: tunable after tunable, each with the best values of those before it; kept in the device's file after each."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ..core import tuning
from ..core.backend import Backend
from ..core.errors import ArgumentError
from ..core.tuning import Tunable
from ..core.version import VERSION
from .trial import Trial, Tried, candidates

ROUNDS = 12


class Search:
    """A search on one backend.

    Parameters
    ----------
    backend : Backend
    path : Path
        The file that is gone on with, and written.
    again : bool
        Begin anew: what the file has found is forgotten.
    rounds : int
        Bursts of each candidate; two at least.

    Attributes
    ----------
    sizes : dict
        What has been found to be faster than the default.
    """

    def __init__(self, backend: Backend, path: Path, again: bool = False, rounds: int = ROUNDS) -> None:
        self.backend, self.path, self.rounds = backend, path, max(rounds, 2)
        self.tunables = backend.tunables()
        self.digest = tuning.digest(self.tunables)
        self.tried: dict[str, Any] = {}
        self.sizes: dict[str, Any] = {}
        if path.is_file() and not again:
            found = tuning.read(path)
            if found.get("tunables") == self.digest:
                self.sizes, self.tried = tuning.accepted(found["sizes"], self.tunables), dict(found.get("tried", {}))

    def wanted(self, ops: tuple[str, ...] = ()) -> list[Tunable]:
        """Return what is left to try, of the tunables whose calls are of `ops` (all without any), or that are so named."""
        known = {op for t in self.tunables for op, _ in t.calls}
        for op in ops:
            if op not in known and not any(t.name.startswith(op) for t in self.tunables):
                raise ArgumentError(f"--op {op}: no size of this device is decided by it; --list shows them, of {', '.join(sorted(known))}")
        chosen = [t for t in self.tunables if not ops or any(t.name.startswith(op) or op in {o for o, _ in t.calls} for op in ops)]
        return [t for t in chosen if t.name not in self.tried]

    def defaults(self) -> dict[str, Any]:
        """Return every size as it is without this file."""
        return {t.name: t.default for t in self.tunables}

    def run(self, wanted: list[Tunable], budget: float | None, seen: Callable[[Tunable], None] = lambda t: None) -> Iterator[tuple[Tunable, list[Tried]]]:
        """Try tunables; yield each when it is decided and kept. Ends when `budget` seconds have passed."""
        end = None if budget is None else time.monotonic() + budget

        def going_on() -> bool:
            return end is None or time.monotonic() < end

        try:
            for tunable in wanted:
                if not going_on():
                    return
                seen(tunable)
                found = list(candidates(Trial(self.backend, tunable, {**self.defaults(), **self.sizes}), self.rounds, going_on))
                if not found:
                    return
                best = min(found, key=lambda one: one.score if one.wins else 1.0)
                if best.wins:
                    self.sizes[tunable.name] = best.value
                self.tried[tunable.name] = [asdict(one) for one in found]
                tuning.write(self.path, self.record())
                yield tunable, found
        finally:
            self.backend.use_sizes({**self.defaults(), **self.sizes})

    def record(self) -> dict[str, Any]:
        """Return what the file holds."""
        device = self.backend.devices()[0]
        return {
            "format": tuning.FORMAT, "backend": self.backend.name, "device": self.backend.device, "platform": device.platform,
            "driver": device.driver, "version": VERSION, "tunables": self.digest, "made": datetime.now(UTC).isoformat(timespec="seconds"),
            "sizes": self.sizes, "tried": self.tried,
        }  # fmt: skip
