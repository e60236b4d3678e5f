"""What a peer's process is: it makes a row ready, hands over what it computed, and is timed."""

from __future__ import annotations

import importlib
import resource
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ..worker import Worker
from .rows import Row, row, weights

CHECKED_STEPS = 3  # losses of a training that are compared


class Unsupported(Exception):
    """The peer does not do this row; the message says why."""


class Work:
    """A row made ready.

    Parameters
    ----------
    call : callable
        Does the work once; may return before it is done.
    wait : callable
        Waits until everything called is done.
    results : callable
        Returns NumPy arrays to compare: outputs and gradients of one call, or the first losses of a training.
    """

    def __init__(self, call: Callable[[], Any], results: Callable[[], Sequence[Any]], wait: Callable[[], Any] = lambda: None) -> None:
        self.call, self.results, self.wait = call, results, wait


class Peer(Worker, ABC):
    """Answers the commands of a worker for one library. Subclasses make work of each family."""

    version = ""

    def __init__(self) -> None:
        super().__init__(None)
        self.works: dict[str, Work] = {}

    @abstractmethod
    def start(self) -> str:
        """Import the library; return its version."""

    def hello(self) -> dict[str, Any]:
        """Say what the library is."""
        return {"version": self.start()}

    def ready(self, name: str, path: str = "") -> dict[str, Any]:
        """Make a row ready; write its results to a file if one is named."""
        try:
            made = self.works[name] = self.made(row(name))
            if path:
                np.savez(path, *[np.asarray(x) for x in made.results()])
        except (Unsupported, NotImplementedError) as error:
            return {"state": "unsupported", "reason": str(error)}
        return {"state": "ready"}

    def forget(self) -> None:
        """Drop the rows that are ready, and their memory."""
        self.works.clear()

    def made(self, wanted: Row) -> Work:
        """Return the work of a row."""
        arrays, about = wanted.arrays(), wanted.about
        if wanted.family == "gemm" or wanted.family == "gemv":
            return self.matmul(arrays["a"], arrays["b"])
        if wanted.family == "conv":
            return self.conv(arrays, about["padding"], about["groups"])
        if wanted.family == "op":
            return self.op(about["op"], arrays)
        if wanted.family == "infer":
            return self.infer(about["model"], weights(about["model"]), arrays["images"])
        return self.train(about["model"], weights(about["model"]), arrays["images"], arrays["labels"])

    def burst(self, name: str, seconds: float, calls: int = 0) -> dict[str, Any]:
        """Time a burst of a row; its end is waited for once, as in a program that queues its work."""
        work = self.works[name]

        def run(n: int) -> float:
            def all_of_them() -> None:
                for _ in range(n):
                    work.call()
                work.wait()

            return self._timed(all_of_them, 1)

        run(1)  # not counted: the peers before have had the caches, and the threads sleep
        if not calls:
            once = run(1)
            for n in (2, 8, 32):  # a single call pays the wait, and would make short bursts
                if once * n < seconds:
                    once = run(n) / n
            calls = max(1, min(20_000, int(seconds / max(once, 1e-9))))
        return {"seconds": run(calls) / calls, "calls": calls}

    def step(self, name: str) -> dict[str, Any]:
        """Do the work once, and wait."""
        self.works[name].call()
        self.works[name].wait()
        return {"peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}

    # -- what libraries do; a family that one lacks stays as it is ------------------------------------------------------

    def matmul(self, a: Any, b: Any) -> Work:
        """Return a @ b; b may have one axis."""
        raise Unsupported("no matrix products")

    def conv(self, arrays: dict[str, Any], padding: int, groups: int) -> Work:
        """Return a convolution of stride 1; with its gradients where a cotangent g is given."""
        raise Unsupported("no convolution")

    def op(self, op: str, arrays: dict[str, Any]) -> Work:
        """Return one of the memory-bound ops, with gradients as in `conv`."""
        raise Unsupported(f"no {op}")

    def infer(self, model: str, given: dict[str, Any], images: Any) -> Work:
        """Return a forward pass whose result reaches the host."""
        raise Unsupported(f"{model} is not written for it")

    def train(self, model: str, given: dict[str, Any], images: Any, labels: Any) -> Work:
        """Return a training step: SGD, momentum 0.9, learning rate 0.01."""
        raise Unsupported(f"training {model} is not written for it")


LR, MOMENTUM = 0.01, 0.9


def there(name: str) -> Any:
    """Import a module; what is missing is an `Unsupported` with its name."""
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise Unsupported(f"not installed: {error.name or name}") from error
