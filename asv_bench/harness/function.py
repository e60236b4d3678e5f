"""The process of another library: finds the function of an op's name, checks that it means the same, and times it.

    PYTHONPATH=<asv_bench> <its python> -m harness.function torch

Nothing here lists ops: portable_nn's names are those of `torch.nn.functional` and of the array API, so functions are found by name, called
with the same arguments, and count only where their result agrees with ours. What disagrees is told apart from what is not there.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
from collections.abc import Callable
from typing import Any

import numpy as np

from .worker import Worker, serve

_WHERE = {"torch": ("torch.nn.functional", "torch", "torch.special"), "numpy": ("numpy",), "jax": ("jax.nn", "jax.numpy"), "cupy": ("cupy",)}
_SKIPPED_SETTINGS = {"dim": "axis", "axis": "dim"}


class Library(Worker):
    """Answers the commands of a worker for functions of one library."""

    def __init__(self, name: str) -> None:
        super().__init__(None)
        self.name = name
        self.modules = [importlib.import_module(module) for module in _WHERE[name]]

    def hello(self) -> dict[str, Any]:
        """Say what the library is."""
        top = importlib.import_module(self.name)
        if self.name == "torch":
            top.set_num_threads(len(os.sched_getaffinity(0)))
            top.set_grad_enabled(False)
        if self.name == "cupy":
            top.cuda.runtime.getDeviceCount()  # raises where there is no GPU
        return {"version": top.__version__, "python": sys.version.split()[0]}

    def find(self, op: str, path: str) -> dict[str, Any]:
        """Look for a function that does what the op did with the operands in the file; leave it ready to be timed."""
        self.call = None
        with np.load(path) as file:
            told = json.loads(str(file["told"]))
            arrays = {name: self._moved(file[name]) for name in file.files if name.startswith("a")}
            expected = file["y"]
        args = [self._value(a, arrays) for a in told["args"]]
        settings = {k: self._value(v, arrays) for k, v in told["settings"].items()}
        tried = ""
        for module in self.modules:
            f = getattr(module, op, None)
            if not callable(f):
                continue
            for names in ({}, _SKIPPED_SETTINGS):
                renamed = {names.get(k, k): v for k, v in settings.items()}
                try:
                    made = self._host(f(*args, **renamed))
                except Exception as error:  # another signature: another meaning
                    tried = f"{module.__name__}.{op}: {type(error).__name__}"
                    continue
                if made.shape == expected.shape and np.allclose(made, expected, rtol=1e-3, atol=1e-4 * (np.abs(expected).max(initial=0) + 1)):
                    self.call = self._waiting(f, args, renamed)
                    self.call()
                    return {"state": "ready", "function": f"{module.__name__}.{op}"}
                tried = f"{module.__name__}.{op} gives another result"
        return {"state": "none", "reason": tried or "no function of that name"}

    @staticmethod
    def _value(told: Any, arrays: dict[str, Any]) -> Any:
        if isinstance(told, dict):
            return arrays[told["array"]]
        if isinstance(told, list):
            made = [Library._value(t, arrays) for t in told]
            return made if any(isinstance(t, dict) for t in told) else tuple(made)
        return told

    def _moved(self, x: Any) -> Any:
        if self.name == "torch":
            return importlib.import_module("torch").from_numpy(x)
        return x if self.name == "numpy" else importlib.import_module("jax.numpy" if self.name == "jax" else self.name).asarray(x)

    def _host(self, y: Any) -> Any:
        return np.asarray(y.get() if self.name == "cupy" else y)

    def _waiting(self, f: Callable[..., Any], args: list[Any], settings: dict[str, Any]) -> Callable[[], Any]:
        if self.name == "jax":
            return lambda: f(*args, **settings).block_until_ready()
        if self.name == "cupy":
            wait = importlib.import_module("cupy").cuda.Device().synchronize
            return lambda: (f(*args, **settings), wait())
        return lambda: f(*args, **settings)


if __name__ == "__main__":
    serve(Library(sys.argv[1]))
