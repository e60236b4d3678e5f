"""The process that is measured: one copy of portable_nn, one suite, commands and answers as lines of JSON.

    PYTHONPATH=<copy>:<copy>/backends:<asv_bench> python -m harness.worker

The suite is that of the checkout that drives; the copy may be older. What of the suite the copy cannot run is answered with the reason.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import pkgutil
import platform
import sys
import traceback
from collections.abc import Callable, Sequence
from contextlib import redirect_stderr
from importlib import metadata
from pathlib import Path
from time import perf_counter
from typing import Any

_LIBRARIES = ("numpy", "pyopencl", "intel-opencl-rt", "numba-cuda", "cupy-cuda12x", "cupy-cuda13x", "asv_runner")
_FIELDS = str, int, float, list, dict, bool


def _reason(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}".partition("\n")[0][:300]


AGREEING, SETTLED = 3, 0.02  # so many of the fastest bursts within this part of each other, and a case needs no more


def settled(samples: Sequence[float]) -> bool:
    """Tell whether the fastest bursts agree."""
    fastest = sorted(samples)[:AGREEING]
    return len(fastest) == AGREEING and fastest[-1] <= fastest[0] * (1 + SETTLED)


class Worker:
    """Answers commands; holds at most one case ready to be timed."""

    def __init__(self, suite: Path | None) -> None:
        self.suite = suite
        self.found: dict[str, Any] = {}
        self.broken: dict[str, str] = {}
        self.call: Callable[[], Any] | None = None
        self.track: Callable[[], Any] | None = None
        self.first = 0.0  # seconds of one call of it, before it was timed
        self._probe: Any = None

    def hello(self) -> dict[str, Any]:
        """Import the copy and the suite; say what there is."""
        import portable_nn

        assert self.suite is not None
        sys.path.insert(0, str(self.suite.parent))
        package = importlib.import_module(self.suite.name)
        for _, name, _ in pkgutil.iter_modules(package.__path__, f"{self.suite.name}."):
            try:
                importlib.import_module(name)
            except Exception as error:
                self.broken[name.partition(".")[2]] = _reason(error)
        try:
            from asv_runner.discovery import disc_benchmarks
        except ModuleNotFoundError as error:
            raise RuntimeError(f'asv is needed, and {error.name} is not installed; pip install "portable-nn[bench]"') from error

        with open(os.devnull, "w") as nowhere, redirect_stderr(nowhere):  # a traceback for every module that failed above
            for benchmark in disc_benchmarks(str(self.suite), ignore_import_errors=True):
                self.found[benchmark.name] = benchmark
        described = [{k: v for k, v in vars(b).items() if isinstance(v, _FIELDS) and not k.startswith("_")} for b in self.found.values()]
        return {
            "copy": str(Path(portable_nn.__file__).parents[1]),
            "benchmarks": described,
            "broken": self.broken,
            "versions": {"python": platform.python_version()} | {n: v for n in _LIBRARIES if (v := _version(n))},
        }

    def prepare(self, name: str, index: int) -> dict[str, Any]:
        """Set one case up, and run it once; what it does is counted."""
        from . import work

        self.call = self.track = None
        benchmark = self.found[name]
        benchmark.set_param_idx(index)
        try:
            for setup in benchmark._setups:  # asv's do_setup, which would swallow the reason of a skip
                setup(*benchmark._current_params)
            call = lambda: benchmark.func(*benchmark._current_params)  # noqa: E731
            if benchmark.type != "time":
                self.track = call
                return {"state": "ready", "type": benchmark.type, "work": None, "first": 0.0}
            start = perf_counter()
            counted = work.count(call)
            first = perf_counter() - start
            if first < 0.2:  # counting costs microseconds, which show in short calls
                start = perf_counter()
                call()
                first = perf_counter() - start
        except NotImplementedError as error:
            return {"state": "skipped", "reason": _reason(error)}
        except Exception as error:
            return {"state": "failed", "reason": _reason(error), "traceback": traceback.format_exc()}
        self.call, self.first = call, first
        return {"state": "ready", "type": "time", "work": counted, "first": first}

    def burst(self, seconds: float, calls: int = 0, warm: bool = True) -> dict[str, Any]:
        """Time one burst of `calls` calls, or of as many as take about `seconds`.

        With `warm`, a quarter as many come before it and are not counted: since the last burst another process may have had caches
        and cores, and what then counts first is how often a call is repeated.
        """
        if self.call is None:
            raise RuntimeError("burst: no case is ready; prepare one first")
        call = self.call
        if not calls:
            once = min(self._timed(call, 1) for _ in range(3))
            calls = max(1, min(20_000, int(seconds / max(once, 1e-9))))
        if warm:
            self._timed(call, max(1, calls // 4))
        return {"seconds": self._timed(call, calls) / calls, "calls": calls}

    @staticmethod
    def _timed(call: Callable[[], Any], calls: int) -> float:
        gc.disable()
        try:
            start = perf_counter()
            for _ in range(calls):
                call()
            return perf_counter() - start
        finally:
            gc.enable()

    def series(self, bursts: int, seconds: float, most: float) -> dict[str, Any]:
        """Time `bursts` bursts, and more until the fastest agree, for `most` seconds; a sample of the probe comes with them.

        A call that takes longer than a burst is a burst of its own, as `prepare` has warmed it up; of one that takes longer than `most` there are three.
        """
        samples: list[float] = []
        long = self.first > seconds
        calls = int(long)
        end = perf_counter() + most
        while len(samples) < AGREEING or (perf_counter() < end and (len(samples) < bursts or not settled(samples))):
            made = self.burst(seconds, calls, warm=not samples and not long)
            calls = made["calls"]
            samples.append(made["seconds"])
        return {"samples": samples, "calls": calls, "probe": self.probe()}

    def launches(self, backend: str) -> list[dict[str, Any]]:
        """Time every kernel of one call by the device's own clock; empty where the backend cannot."""
        from portable_nn.core import selection

        there: Any = selection.get(backend)
        if self.call is None or not hasattr(there, "profiling"):
            return []
        with there.profiling() as times:
            self.call()
        return [{"kernel": t.kernel, "op": t.op, "ns": t.ns, "bytes": t.bytes} for t in times]

    def dump(self, name: str, index: int, path: str) -> None:
        """Write the operands of a case and what this copy makes of them, for a library to repeat."""
        import numpy as np
        from benchmarks import calls, choice

        from portable_nn.core.registry import find
        from portable_nn.testing.cases import drawn, seed_of

        benchmark = self.found[name]
        benchmark.set_param_idx(index)
        backend, dtype, case_name, _ = benchmark._current_params
        op = find(name.split(".")[1])
        case = calls.cases(op)[case_name]
        given = drawn(case, dtype, seed_of(op.name, case.name, dtype))
        arrays: dict[str, Any] = {}

        def told(value: Any) -> Any:
            if isinstance(value, np.ndarray):
                arrays[f"a{len(arrays)}"] = value
                return {"array": f"a{len(arrays) - 1}"}
            return [told(v) for v in value] if isinstance(value, list | tuple) else value

        described = {"args": [told(a) for a in given.args], "settings": {k: told(v) for k, v in given.settings.items()}}
        there = choice.backend(backend)
        made = op(*given.map(there.from_numpy, np.ndarray).args, **given.map(there.from_numpy, np.ndarray).settings)
        y = there.to_numpy(made[0] if isinstance(made, tuple) else made)
        np.savez(path, told=np.array(json.dumps(described)), y=y, **arrays)

    def tracked(self) -> dict[str, Any]:
        """Run a benchmark that measures itself."""
        if self.track is None:
            raise RuntimeError("tracked: no case is ready; prepare one first")
        try:
            return {"state": "ready", "value": float(self.track())}
        except NotImplementedError as error:
            return {"state": "skipped", "reason": _reason(error)}
        except Exception as error:
            return {"state": "failed", "reason": _reason(error)}

    def probe(self) -> dict[str, float]:
        """Sample the raw probe."""
        from .probe import Probe

        if self._probe is None:
            self._probe = Probe()
        return dict(self._probe.sample())

    def peaks(self, backend: str) -> dict[str, Any]:
        """Measure what the device of a backend can reach, and say what it is."""
        from portable_nn.core import selection

        from .probe import Probe

        there: Any = selection.get(backend)
        device = there.devices()[0]
        about = {k: getattr(device, k) for k in ("name", "kind", "platform", "driver", "units")}
        return Probe().peaks(there) | {"device": about}


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def serve(worker: Worker) -> None:
    """Answer commands until standard input ends. What is printed goes to standard error."""
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    for line in sys.stdin:
        command = json.loads(line)
        try:
            answer: dict[str, Any] = {"ok": getattr(worker, command.pop("do"))(**command)}
        except Exception as error:
            answer = {"error": _reason(error), "traceback": traceback.format_exc()}
        print(json.dumps(answer), file=answers, flush=True)


if __name__ == "__main__":
    serve(Worker(Path(__file__).resolve().parents[1] / "benchmarks"))
