"""Batches made ready ahead of the step by a thread, and how long the step waited for them."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Iterable, Iterator
from typing import Any, Self

_END = object()
TRIALS, WORTH_A_THREAD = 3, 0.002
"""The first batches are made in between; a thread is started only if even the quickest of them took these seconds:
waking it for less costs more than it saves."""


class Ahead:
    """Goes through `batches`, with a thread that stays up to `depth` batches ahead when making one takes long.

    The order, and so every result, is that of the plain loop. The thread runs NumPy on the host and never touches a
    device. An error in it is raised where its batch would have come.

    Parameters
    ----------
    batches : iterable
    depth : int
        0: never a thread; each batch is made when it is asked for, and all of that time is waiting.
    worth : float
        Seconds that a batch takes at least, for a thread to be started.

    Attributes
    ----------
    waited : float
        Seconds that whoever goes through this waited for batches.
    threaded : bool
        Whether the thread was started.
    """

    def __init__(self, batches: Iterable[Any], depth: int, worth: float = WORTH_A_THREAD) -> None:
        self.waited = 0.0
        self._batches, self._depth, self._worth = iter(batches), depth, worth
        self._times: list[float] = []
        self._ready: queue.Queue[Any] = queue.Queue(max(depth, 1))
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    @property
    def threaded(self) -> bool:
        """Whether the thread was started."""
        return self._thread is not None

    def _fill(self) -> None:
        while not self._stop.is_set():
            item: tuple[Any, BaseException | None]
            try:
                item = (next(self._batches, _END), None)
            except BaseException as error:
                item = (None, error)
            self._put(item)
            if item[0] is _END or item[1] is not None:
                return

    def _put(self, item: Any) -> None:
        while not self._stop.is_set():
            try:
                return self._ready.put(item, timeout=0.1)
            except queue.Full:  # look at `_stop` now and then: nobody may be there to take it
                continue

    def __iter__(self) -> Iterator[Any]:
        return self

    def __next__(self) -> Any:
        start = time.perf_counter()
        try:
            if self._thread is None:
                batch, error = next(self._batches, _END), None
                self._times.append(time.perf_counter() - start)
                if self._depth and len(self._times) == TRIALS and min(self._times) >= self._worth and batch is not _END:
                    self._thread = threading.Thread(target=self._fill, name="batches ahead", daemon=True)
                    self._thread.start()
            else:
                batch, error = self._ready.get()
        finally:
            self.waited += time.perf_counter() - start
        if error is not None:
            self.close()
            raise error
        if batch is _END:
            if self._thread is not None:
                self._put((_END, None))  # asked again, it ends again
            raise StopIteration
        return batch

    def close(self) -> None:
        """Stop the thread and wait for it."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
