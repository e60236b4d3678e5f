"""Lion: each parameter moves by the learning rate, and only the direction comes from the gradient."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from .. import ops
from ..core import tree
from ..core.number import plain_float
from .leaves import Decays, State, check, check_decay, decay_of, update_leaves


@dataclass(frozen=True)
class Lion:
    """Made by `lion`."""

    lr: float
    betas: tuple[float, float] = (0.9, 0.99)
    weight_decay: float = 0.0
    decays: Decays | None = None

    def init(self, params: Any) -> State:
        """Return zero averages."""
        return {"exp_avg": tree.map(ops.zeros_like, params)}

    def update(self, params: Any, grads: Any, state: State, lr: float | None = None) -> tuple[Any, State]:
        """Return (params, state) one step on; `lr` in place of the optimiser's own."""
        rate = plain_float(self.lr if lr is None else lr)
        beta1, beta2 = (float(b) for b in self.betas)

        def one(p: Any, d: float, g: Any, m: Any) -> Any:
            return ops.lion_step(p, g, m, rate, beta1, beta2, d)

        made = update_leaves(one, params, decay_of(params, self.weight_decay, self.decays), grads, state["exp_avg"])
        return (made[0], {"exp_avg": made[1]}) if made else (params, state)


def lion(
    lr: float = 1e-4, betas: tuple[float, float] = (0.9, 0.99), weight_decay: float = 0.0, decays: Decays | None = None
) -> Lion:
    """Return Lion (Chen et al. 2023, arXiv:2302.06675).

    Parameters
    ----------
    lr : float
        How far each parameter moves in a step; 3 to 10 times smaller than for AdamW, as the paper advises.
    betas : (float, float)
        Part of the average in the direction taken, and part of it that is kept for the next step.
    weight_decay : float
        Parameters shrink by ``lr weight_decay`` per step; 3 to 10 times larger than for AdamW, as `lr` is smaller.
    decays : callable, optional
        ``decays(name, param) -> bool``: which parameters `weight_decay` touches, such as `weights_only`; all by default.

    Raises
    ------
    SettingError
        A setting outside its range.
    """
    check("lion: lr", lr >= 0, lr, "a number of at least 0")
    check("lion: betas", len(betas) == 2 and all(0 <= b < 1 for b in betas), betas, "two numbers in [0, 1)")
    check_decay("lion", weight_decay)
    return Lion(lr, betas, weight_decay, decays)
