"""Replay of a captured step as CUDA graphs: each run of launches whose arguments never change is one graph.

What reads a new batch, writes a result, or takes a number by value (a learning rate) is launched by itself between them: a
graph holds the arguments of its kernels as they were.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from typing import TYPE_CHECKING, Any

import cupy

from portable_nn_kernels.launch import ErrorWord

from .devices import is_hip

if TYPE_CHECKING:
    from portable_nn_kernels.replay import FixedLaunch

    from .adapter import CupyBackend

_LEAST = 2  # launches of a run that is worth a graph


class GraphReplay:
    """Launches a replay on the current stream.

    The first call launches kernel by kernel, so that each is loaded before a stream is captured; the second captures.

    Parameters
    ----------
    backend : CupyBackend
    launches : sequence of FixedLaunch

    Attributes
    ----------
    runs : list of (bool, list of FixedLaunch)
        Whether the launches are one graph, and they.
    """

    def __init__(self, backend: CupyBackend, launches: Sequence[FixedLaunch]) -> None:
        self.backend, self.launches = backend, list(launches)
        runs = [list(run) for _, run in groupby(self.launches, lambda launch: bool(launch.changing))]
        self.runs = [(not is_hip() and not run[0].changing and len(run) >= _LEAST, run) for run in runs]
        self._graphs: dict[int, Any] = {}
        self._loaded = False
        self._reports = any(isinstance(arg, ErrorWord) for launch in launches for arg in launch.launch.args)

    def __call__(self) -> None:
        """Launch everything, on the arrays each launch has now."""
        if not self._loaded or self.backend.times is not None:  # profiles look at every kernel
            self._loaded = True
            for launch in self.launches:
                launch.bound(launch.given)
            return
        for number, (as_graph, run) in enumerate(self.runs):
            if as_graph:
                graph = self._graphs.get(number)
                if graph is None:
                    graph = self._graphs[number] = _captured(run)
                graph.launch()
            else:
                for launch in run:
                    launch.bound(launch.given)
        if self._reports:  # which the launches inside graphs did not say
            self.backend.error_word.armed = True


def _captured(run: Sequence[FixedLaunch]) -> Any:
    """Return the graph of some launches; nothing runs here."""
    stream = cupy.cuda.Stream(non_blocking=True)
    with stream:
        stream.begin_capture()
        for launch in run:
            launch.bound(launch.given)
        return stream.end_capture()
