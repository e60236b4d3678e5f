"""Loss scaling for float16: gradients too small for half precision are lifted above it, and steps that overflow are left out.

Everything stays on the device: the scale is an array, and a step that overflowed is undone by `where`. The host never
waits to learn of it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from .. import ops
from ..api import asarray
from ..core import tree
from ..core.array import Array
from .clip import global_norm
from .leaves import State, check


@dataclass(frozen=True)
class LossScale:
    """Dynamic loss scaling, as `torch.amp.GradScaler` does it.

    Parameters
    ----------
    start : float
        First scale.
    interval : int
        Steps without overflow after which the scale doubles; one with overflow halves it.
    largest : float
        The scale never exceeds it.
    """

    start: float = 65536.0
    interval: int = 2000
    largest: float = 2.0**24

    def __post_init__(self) -> None:
        check("loss_scale: start", self.start >= 1, self.start, "a number of at least 1")
        check("loss_scale: interval", self.interval >= 1, self.interval, "an integer of at least 1")

    def init(self) -> State:
        """Return scale, steps since the last change, and steps left out, as 0-d arrays of the chosen backend."""
        return {"scale": asarray(self.start), "good": asarray(0.0), "skipped": asarray(0.0)}

    def unscale(self, grads: Any, state: State) -> tuple[Any, Array]:
        """Return the gradients divided by the scale, and whether all of them are finite (a 0-d bool array)."""
        factor = ops.divide(1.0, state["scale"])
        grads = tree.map(lambda g: ops.multiply(g, factor), grads)
        return grads, ops.isfinite(global_norm(grads))

    def next(self, state: State, finite: Array) -> State:
        """Return the state after a step."""
        good = ops.where(finite, ops.add(state["good"], 1.0), 0.0)
        full = ops.greater_equal(good, float(self.interval))
        grown = ops.minimum(ops.where(full, ops.multiply(state["scale"], 2.0), state["scale"]), self.largest)
        scale = ops.where(finite, grown, ops.maximum(ops.multiply(state["scale"], 0.5), 1.0))
        return {
            "scale": scale,
            "good": ops.where(full, 0.0, good),
            "skipped": ops.where(finite, state["skipped"], ops.add(state["skipped"], 1.0)),
        }


def counted_on_device(state: Any) -> Any:
    """Return the state of an optimiser with its step number as a 0-d array, so that `keep_if` takes back a step that was left out."""
    return tree.map(lambda x: asarray(float(x)) if isinstance(x, int) else x, state)


def keep_if(finite: Array, new: Any, old: Any) -> Any:
    """Return `new` where `finite` holds and `old` elsewhere, leaf by leaf; all must be arrays."""
    return tree.map(lambda a, b: ops.where(finite, a, b), new, old)
