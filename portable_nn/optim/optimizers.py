"""Pure optimisers: parameters, gradients and state in, new parameters and new state out.

    opt = optim.adamw(lr=1e-3)
    state = opt.init(params)
    params, state = opt.update(params, grads, state, lr=schedule(step))

Parameters and gradients are any trees of one form; `nn.params(model)` is one. State is a tree too, so a checkpoint
holds it by name too. Each parameter takes one launch of an op of `ops.optim_step`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Protocol

from .. import ops
from ..core import tree
from ..core.number import plain_float
from .leaves import Decays, State, check, check_decay, decay_of, update_leaves


class Optimizer(Protocol):
    """What the trainer needs of an optimiser."""

    @property
    def lr(self) -> float:
        """The learning rate, where `update` is not given one."""
        ...

    def init(self, params: Any) -> State:
        """Return the state of a run that starts with `params`."""
        ...

    def update(self, params: Any, grads: Any, state: State, lr: float | None = None) -> tuple[Any, State]:
        """Return new parameters and new state; `lr` in place of the optimiser's own."""
        ...


@dataclass(frozen=True)
class SGD:
    """Made by `sgd`."""

    lr: float
    momentum: float = 0.0
    weight_decay: float = 0.0
    nesterov: bool = False
    decays: Decays | None = None

    def init(self, params: Any) -> State:
        """Return zero velocities, or nothing without momentum."""
        return {"velocity": tree.map(ops.zeros_like, params)} if self.momentum else {}

    def update(self, params: Any, grads: Any, state: State, lr: float | None = None) -> tuple[Any, State]:
        """Return (params, state) one step on; `lr` in place of the optimiser's own."""
        rate, momentum = plain_float(self.lr if lr is None else lr), float(self.momentum)
        decay = decay_of(params, self.weight_decay, self.decays)
        if not self.momentum:
            plain = update_leaves(lambda p, d, g: (ops.sgd_step(p, g, rate, d),), params, decay, grads)
            return (plain[0], state) if plain else (params, state)

        def one(p: Any, d: float, g: Any, v: Any) -> Any:
            return ops.sgd_momentum_step(p, g, v, rate, momentum, d, nesterov=self.nesterov)

        made = update_leaves(one, params, decay, grads, state["velocity"])
        return (made[0], {"velocity": made[1]}) if made else (params, state)


@dataclass(frozen=True)
class Adam:
    """Made by `adam` and `adamw`."""

    lr: float
    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = 1e-8
    weight_decay: float = 0.0
    decoupled: bool = False
    decays: Decays | None = None

    def init(self, params: Any) -> State:
        """Return zero averages and the step number 0; in its place a 0-d float array works too (see `counted_on_device`)."""
        return {"exp_avg": tree.map(ops.zeros_like, params), "exp_avg_sq": tree.map(ops.zeros_like, params), "step": 0}

    def update(self, params: Any, grads: Any, state: State, lr: float | None = None) -> tuple[Any, State]:
        """Return (params, state) one step on; `lr` in place of the optimiser's own."""
        beta1, beta2 = (float(b) for b in self.betas)
        step = state["step"]
        if hasattr(step, "shape"):  # counted on the device, which alone knows of steps that overflowed
            step = ops.add(step, 1.0)
            corrections = tuple(ops.negative(ops.expm1(ops.multiply(step, math.log(b)))) if b else 1.0 for b in (beta1, beta2))
        else:
            step += 1
            corrections = (1.0 - beta1**step, 1.0 - beta2**step)
        before = (plain_float(self.lr if lr is None else lr), beta1, beta2, float(self.eps))

        def one(p: Any, d: float, g: Any, m: Any, v: Any) -> Any:
            return ops.adam_step(p, g, m, v, *before, d, *corrections, decoupled=self.decoupled)

        decay = decay_of(params, self.weight_decay, self.decays)
        made = update_leaves(one, params, decay, grads, state["exp_avg"], state["exp_avg_sq"])
        if not made:
            return params, {**state, "step": step}
        return made[0], {"exp_avg": made[1], "exp_avg_sq": made[2], "step": step}


def sgd(
    lr: float, momentum: float = 0.0, weight_decay: float = 0.0, nesterov: bool = False, decays: Decays | None = None
) -> SGD:
    """Return stochastic gradient descent as in `torch.optim.SGD` (without dampening).

    Parameters
    ----------
    lr : float
        Learning rate.
    momentum : float
        In [0, 1).
    weight_decay : float
        L2 penalty: added to the gradient as ``weight_decay param``.
    nesterov : bool
        Nesterov's form of momentum.
    decays : callable, optional
        ``decays(name, param) -> bool``: which parameters `weight_decay` touches, such as `weights_only`; all by default.

    Raises
    ------
    SettingError
        A setting outside its range.
    """
    check("sgd: lr", lr >= 0, lr, "a number of at least 0")
    check("sgd: momentum", 0 <= momentum < 1, momentum, "a number in [0, 1)")
    check_decay("sgd", weight_decay)
    check("sgd: momentum", momentum > 0 or not nesterov, momentum, "a number above 0, because nesterov=True was given,")
    return SGD(lr, momentum, weight_decay, nesterov, decays)


def _adam(
    name: str, lr: float, betas: tuple[float, float], eps: float, weight_decay: float, decoupled: bool, decays: Decays | None
) -> Adam:
    check(f"{name}: lr", lr >= 0, lr, "a number of at least 0")
    check(f"{name}: betas", len(betas) == 2 and all(0 <= b < 1 for b in betas), betas, "two numbers in [0, 1)")
    check(f"{name}: eps", eps >= 0, eps, "a number of at least 0")
    check_decay(name, weight_decay)
    return Adam(lr, betas, eps, weight_decay, decoupled, decays)


def adam(
    lr: float = 1e-3, betas: tuple[float, float] = (0.9, 0.999), eps: float = 1e-8, weight_decay: float = 0.0,
    decays: Decays | None = None,
) -> Adam:  # fmt: skip
    """Return Adam as in `torch.optim.Adam`: `weight_decay` is an L2 penalty. Raises `SettingError`.

    Parameters
    ----------
    lr : float
        Learning rate.
    betas : (float, float)
        How much of the averages of the gradient and of its square is kept.
    eps : float
        Added to the root of the second.
    weight_decay : float
        Added to the gradient as ``weight_decay param``.
    decays : callable, optional
        ``decays(name, param) -> bool``: which parameters `weight_decay` touches, such as `weights_only`; all by default.
    """
    return _adam("adam", lr, betas, eps, weight_decay, False, decays)


def adamw(
    lr: float = 1e-3, betas: tuple[float, float] = (0.9, 0.999), eps: float = 1e-8, weight_decay: float = 1e-2,
    decays: Decays | None = None,
) -> Adam:  # fmt: skip
    """Return AdamW as in `torch.optim.AdamW`: parameters shrink by ``lr weight_decay`` per step. Raises `SettingError`.

    The other parameters are those of `adam`.
    """
    return _adam("adamw", lr, betas, eps, weight_decay, True, decays)
