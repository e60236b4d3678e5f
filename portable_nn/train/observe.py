"""Looking at every op call of a step: which op, in which layer, what it gave and how long it took.

While `observed` is on, the one road of a call (`Op.apply`), the tape and the layers of a model are wrapped; when it is off
they are as they always were, so that looking costs nothing to those who do not.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from ..core.call import Call
from ..core.op import Op
from ..core.tape import Tape, Traced
from ..nn.context import current
from ..nn.module import Module, named_modules

INPUT, FORWARD, BACKWARD, UPDATE = "input", "forward", "backward", "update"


@dataclass(frozen=True, eq=False)
class Seen:
    """One op call.

    `phase` is "input" (before the model, such as augmentation), "forward" (with the loss), "backward" or "update"; `layer`
    the path of the layer that called it, or whose gradient it computes; empty for the loss, the input and the update.
    `start` and `seconds` say when the host made the call (of `time.perf_counter`) and how long it took, waiting for the
    device if that was asked for.
    """

    op: str
    layer: str
    phase: str
    inputs: tuple[Any, ...]
    outputs: tuple[Any, ...]
    call: Call
    start: float
    seconds: float


class _Place:
    """Where in a step the calls come from."""

    def __init__(self) -> None:
        self.layers: list[str] = []
        self.phase = INPUT
        self.of_node: dict[int, str] = {}
        self._context: Any = None
        self._paths: dict[int, str] = {}

    @property
    def layer(self) -> str:
        return self.layers[-1] if self.layers else ""

    def path(self, module: Module) -> str:
        context = current()
        if context is None:
            return type(module).__name__
        if context is not self._context:
            self._context = context
            self._paths = {id(found): path for path, found in named_modules(context.model)}
        return self._paths.get(id(module), type(module).__name__) or type(module).__name__


def _arrays(args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, ...]:
    found: list[Any] = []
    for value in (*args, *kwargs.values()):
        found += value if isinstance(value, list | tuple) else [value]
    return tuple(value for value in found if hasattr(value, "shape") and hasattr(value, "dtype"))


@contextmanager
def observed(model: Module, see: Callable[[Seen], None], timed: bool = False) -> Iterator[None]:
    """Call `see` after every op call in the block that works on values.

    Parameters
    ----------
    model : Module
        Whose layers name the calls; copies with other parameters count as it.
    see : callable
        Takes a `Seen`; what it raises ends the step.
    timed : bool
        Wait for the device after each call, so that `seconds` is the time of its work; otherwise of the host's part alone.
    """
    place = _Place()
    apply, record, pull = Op.apply, Tape.record, Tape._pull

    def seen_apply(op: Op, args: tuple[Any, ...], kwargs: dict[str, Any], residuals: bool = False) -> Any:
        arrays = _arrays(args, kwargs)
        if any(type(x) is Traced for x in arrays):  # the call on values below the tape comes by here too
            return apply(op, args, kwargs, residuals)
        start = time.perf_counter()
        outputs, entry = apply(op, args, kwargs, residuals)
        if timed:
            entry.backend.synchronize()
        see(Seen(op.name, place.layer, place.phase, arrays, outputs, entry.call, start, time.perf_counter() - start))
        return outputs, entry

    def seen_record(tape: Tape, *args: Any, **kwargs: Any) -> Any:
        results = record(tape, *args, **kwargs)
        place.of_node[id(tape._nodes[-1])] = place.layer
        return results

    def seen_pull(node: Any, cotangents: list[Any], grads: list[Any]) -> None:
        place.phase = BACKWARD
        place.layers.append(place.of_node.pop(id(node), ""))
        try:
            pull(node, cotangents, grads)
        finally:
            place.layers.pop()
            place.phase = UPDATE

    def seen_call(call: Callable[..., Any]) -> Callable[..., Any]:
        def inside(module: Module, *args: Any, **kwargs: Any) -> Any:
            place.phase = FORWARD
            place.layers.append(place.path(module))
            try:
                return call(module, *args, **kwargs)
            finally:
                place.layers.pop()

        return inside

    kinds = {type(module) for _, module in named_modules(model)}
    from unittest.mock import patch  # 15 ms: it imports asyncio

    patches: list[Any] = [patch.object(Op, "apply", seen_apply), patch.object(Tape, "record", seen_record)]
    patches.append(patch.object(Tape, "_pull", staticmethod(seen_pull)))
    # All that are inherited are looked up before any is replaced: a parent's wrapper must not be wrapped again.
    patches += [patch.object(kind, "__call__", seen_call(kind.__call__)) for kind in kinds]
    started: list[Any] = []
    try:
        for one in patches:
            one.start()
            started.append(one)
        yield
    finally:
        for one in reversed(started):
            one.stop()
