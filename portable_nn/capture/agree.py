"""Comparing two recordings of a step: what differs without being an input would be wrong at the next replay."""

from __future__ import annotations

from itertools import zip_longest
from typing import Any

import numpy as np

from ..core.backend import Backend
from ..core.errors import CaptureError
from ..core.op import LIST, Op
from ..core.program import Fixed, Given, Operand, Program, Step


def check_agreement(first: Program, second: Program, target: Backend) -> None:
    """Raise `CaptureError` unless two recordings do the same work with the same constants."""
    for at, (a, b) in enumerate(zip_longest(first.steps, second.steps)):
        if a is None or b is None or not _alike(a, b):
            raise CaptureError(
                f"capture: the step did other work the second time: call {at + 1} was {_told(a)} and is {_told(b)}. What decides must be an "
                "argument of the step, or be decided with ops.where inside"
            )
        for name, x, y in zip(_names(a), a.inputs, b.inputs, strict=True):
            if not _same_operand(first, second, x, y, target):
                raise CaptureError(
                    f"capture: {a.op.name} (call {at + 1} of the step) uses another constant as {name} than the first time"
                    f"{_values(first, second, x, y)}; make it an argument of the step"
                )
    if len(first.results) != len(second.results):
        raise CaptureError(f"capture: the step returned {len(first.results)} arrays, and {len(second.results)} the second time")
    for x, y in zip(first.results, second.results, strict=True):
        if not _same_operand(first, second, x, y, target):
            raise CaptureError("capture: the step returns another constant array than the first time; make it an argument of the step")


def _alike(a: Step, b: Step) -> bool:
    same = a.op is b.op and a.call.inputs == b.call.inputs and a.call.outputs == b.call.outputs and a.call.residuals == b.call.residuals
    return same and repr(dict(a.call.settings)) == repr(dict(b.call.settings))


def _told(step: Step | None) -> str:
    if step is None:
        return "not there"
    shapes = ", ".join(str(getattr(s, "shape", s)) for s in step.call.inputs)
    settings = ", ".join(f"{k}={v!r}" for k, v in step.call.settings.items())
    return f"{step.op.name}({shapes}{', ' if settings else ''}{settings})"


def _names(step: Step) -> list[str]:
    op = step.op
    assert isinstance(op, Op)  # nothing is fused in a recording
    extra = len(step.inputs) - len(op.operands)
    names: list[str] = []
    for name in op.operands:
        names += [name] * (extra + 1) if op.roles[name] == LIST else [name]
    return names


def _same_operand(first: Program, second: Program, x: Operand, y: Operand, target: Backend) -> bool:
    if isinstance(x, Given) and isinstance(y, Given):
        return first.numbers[x.index] == second.numbers[y.index]
    if isinstance(x, Fixed) and isinstance(y, Fixed):
        return type(x.value) is type(y.value) and repr(x.value) == repr(y.value)
    if type(x) is not int or type(y) is not int:
        return x is None and y is None
    a, b = first.constants.get(first.base(x)), second.constants.get(second.base(y))
    if a is None and b is None:
        return x == y
    if a is None or b is None or target.spec_of(a) is not target.spec_of(b):
        return False
    return a is b or _same_memory(a, b) or _same_bits(target.to_numpy(a), target.to_numpy(b))


def _same_memory(a: Any, b: Any) -> bool:
    storage = getattr(a, "storage", None)
    return storage is not None and storage is getattr(b, "storage", None) and bool(a.offset == b.offset)


def _same_bits(a: np.ndarray[Any, Any], b: np.ndarray[Any, Any]) -> bool:
    return a.tobytes() == b.tobytes()


def _values(first: Program, second: Program, x: Operand, y: Operand) -> str:
    if isinstance(x, Fixed) and isinstance(y, Fixed):
        return f" ({x.value!r}, then {y.value!r})"
    if isinstance(x, Given) and isinstance(y, Given):
        return f" ({first.numbers[x.index]}, then {second.numbers[y.index]})"
    return ""
