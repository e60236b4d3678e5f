"""Batches made ready ahead of the step by a thread, and how long the step waited for them."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Iterable, Iterator
from typing import Any, Self

_END = object()


class Ahead:
    """Goes through `batches` in a thread that stays up to `depth` batches ahead.

    The order, and so every result, is that of the plain loop. The thread runs NumPy on the host and never touches a
    device. An error in it is raised where its batch would have come.

    Parameters
    ----------
    batches : iterable
    depth : int
        0: no thread; each batch is made when it is asked for, and all of that time is waiting.

    Attributes
    ----------
    waited : float
        Seconds that whoever goes through this waited for batches.
    """

    def __init__(self, batches: Iterable[Any], depth: int) -> None:
        self.waited = 0.0
        self._batches = iter(batches)
        self._queue: queue.Queue[Any] | None = queue.Queue(depth) if depth else None
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        if self._queue is not None:
            self._thread = threading.Thread(target=self._fill, args=(self._queue,), name="batches ahead", daemon=True)
            self._thread.start()

    def _fill(self, ready: queue.Queue[Any]) -> None:
        item: Any = None
        while item is not _END and not self._stop.is_set():
            try:
                item = (next(self._batches, _END), None)
                item = _END if item[0] is _END else item
            except BaseException as error:
                self._put(ready, (None, error))
                return
            self._put(ready, item)

    def _put(self, ready: queue.Queue[Any], item: Any) -> None:
        while not self._stop.is_set():
            try:
                return ready.put(item, timeout=0.1)
            except queue.Full:  # look at `_stop` now and then: nobody may be there to take it
                continue

    def __iter__(self) -> Iterator[Any]:
        return self

    def __next__(self) -> Any:
        start = time.perf_counter()
        try:
            if self._queue is None:
                return next(self._batches)
            item = self._queue.get()
        finally:
            self.waited += time.perf_counter() - start
        if item is _END:
            self._queue.put(_END)  # asked again, it ends again
            raise StopIteration
        batch, error = item
        if error is not None:
            self.close()
            raise error
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
