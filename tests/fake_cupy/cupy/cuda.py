"""Devices, memory, streams and events that are not there."""

from __future__ import annotations

import time
from types import SimpleNamespace
from typing import Any

import numpy as np

DEVICES = 1  # tests set it
log: list[Any] = []  # what happened, for tests: names, and (kernel, stream, device) of launches
_current = {"device": 0, "stream": "default"}


class Device:
    def __init__(self, index: int | None = None) -> None:
        self.id = _current["device"] if index is None else index
        self._before: list[Any] = []

    def __enter__(self) -> Device:
        self._before.append(_current["device"])
        _current["device"] = self.id
        return self

    def __exit__(self, *_: object) -> None:
        _current["device"] = self._before.pop()

    def synchronize(self) -> None:
        log.append("synchronize")


class Graph:
    """Launches that were captured, with their arguments as they were."""

    def __init__(self, calls: list[Any]) -> None:
        self.calls = calls

    def launch(self, stream: Stream | None = None) -> None:
        assert capturing is None, "a graph is launched while a stream is captured"
        log.append("graph")
        for call in self.calls:
            call()


capturing: list[Any] | None = None  # calls taken down instead of made


class Stream:
    def __init__(self, name: str = "own", non_blocking: bool = False) -> None:
        self.name = name
        self._before: list[Any] = []

    def begin_capture(self) -> None:
        global capturing
        assert capturing is None
        assert _current["stream"] == self.name, "launches would go to another stream"
        capturing = []

    def end_capture(self) -> Graph:
        global capturing
        assert capturing is not None
        made, capturing = Graph(capturing), None
        return made

    def __enter__(self) -> Stream:
        self._before.append(_current["stream"])
        _current["stream"] = self.name
        return self

    def __exit__(self, *_: object) -> None:
        _current["stream"] = self._before.pop()


class Event:
    def record(self) -> None:
        self.at = time.perf_counter()


def get_elapsed_time(start: Event, stop: Event) -> float:
    return (stop.at - start.at) * 1e3


class MemoryPointer:
    def __init__(self, block: np.ndarray[Any, Any], offset: int, device_id: int) -> None:
        self.block, self.offset, self.device_id = block, offset, device_id

    @property
    def ptr(self) -> int:
        return int(self.block.ctypes.data) + self.offset

    def __add__(self, offset: int) -> MemoryPointer:
        return MemoryPointer(self.block, self.offset + offset, self.device_id)

    def memory(self) -> Any:
        assert self.offset >= 0
        return self.block[self.offset :]

    def memset(self, value: int, size: int) -> None:
        self.memory()[:size] = value

    memset_async = memset


def alloc(nbytes: int) -> MemoryPointer:
    if nbytes > 1 << 34:
        raise memory.OutOfMemoryError(f"Out of memory allocating {nbytes} bytes")
    return MemoryPointer(np.full(nbytes, 0xCD, np.uint8), 0, _current["device"])


def _properties(index: int) -> dict[str, Any]:
    assert 0 <= index < DEVICES
    return {
        "name": b"Fake GPU" if index == 0 else b"Other GPU", "multiProcessorCount": 4, "warpSize": 32,
        "sharedMemPerBlock": 49152, "maxThreadsPerBlock": 1024, "totalGlobalMem": 1 << 34, "major": 9, "minor": 0,
    }  # fmt: skip


runtime = SimpleNamespace(
    is_hip=False,
    getDeviceCount=lambda: DEVICES,
    getDevice=lambda: _current["device"],
    getDeviceProperties=_properties,
    runtimeGetVersion=lambda: 13000,
    driverGetVersion=lambda: 13020,
)
memory = SimpleNamespace(OutOfMemoryError=type("OutOfMemoryError", (MemoryError,), {}))
driver = SimpleNamespace(CUDADriverError=type("CUDADriverError", (RuntimeError,), {}))
compiler = SimpleNamespace(CompileException=type("CompileException", (Exception,), {}))
