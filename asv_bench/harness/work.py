"""How much work a call is: arithmetic operations and bytes, counted from the calls that the ops make."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def recorded() -> Iterator[list[tuple[Any, Any]]]:
    """Collect (op, call) of everything that runs inside, by listening at the one road that calls take."""
    from portable_nn.core.op import Op

    found: list[tuple[Any, Any]] = []
    plain = Op.apply
    depth = 0
    last: tuple[Any, int] = (None, 0)  # entry and depth of the call that was noted last

    def listening(self: Any, args: Any, kwargs: Any, residuals: bool = False) -> Any:
        nonlocal depth, last
        depth += 1
        try:
            outputs, entry = plain(self, args, kwargs, residuals)
        finally:
            depth -= 1
        if last[0] is not entry or last[1] <= depth:  # a taped call passes here again, inside itself
            found.append((self, entry.call))
        last = entry, depth
        return outputs, entry

    Op.apply = listening  # type: ignore[method-assign]
    try:
        yield found
    finally:
        Op.apply = plain  # type: ignore[method-assign]


def count(run: Callable[[], Any]) -> dict[str, int]:
    """Return flops, bytes (operands read and outputs written, once each) and op calls of what `run` does."""
    with recorded() as calls:
        run()
    flops = moved = 0
    for op, call in calls:
        if op.view is not None and op.view(call) is not None:
            continue  # answers with a view: nothing is moved
        outputs = [spec for spec in call.outputs if hasattr(spec, "nbytes")]
        inputs = [spec for spec in call.inputs if hasattr(spec, "nbytes")]
        moved += sum(_nbytes(spec) for spec in (*inputs, *outputs))
        flops += int(op.flops(call)) if op.flops is not None else sum(spec.size for spec in outputs)
    return {"flops": flops, "bytes": moved, "calls": len(calls)}


def _nbytes(spec: Any) -> int:
    """Count what is stored: an axis of stride 0 is one element long."""
    size = spec.dtype.itemsize
    for length, stride in zip(spec.shape, spec.strides, strict=True):
        size *= length if stride else min(length, 1)
    return int(size)
