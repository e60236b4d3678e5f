"""Pure optimisers: parameters, gradients and state in, new parameters and new state out.

    opt = optim.adamw(lr=1e-3)
    state = opt.init(params)
    params, state = opt.update(params, grads, state, lr=schedule(step))

Parameters and gradients are any trees of one form; `nn.params(model)` is one. State is a tree too, so a checkpoint
holds it by name too. Each parameter takes one launch of an op of `ops.optim_step`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from .. import ops
from ..core import tree
from ..core.errors import SettingError

State = dict[str, Any]


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


def _check(name: str, good: bool, value: Any, needed: str) -> None:
    if not good:
        raise SettingError(f"{name} is {value!r} but {needed} is needed")


def _zip_update(
    update: Callable[..., tuple[Any, ...]], params: Any, *trees: Any
) -> tuple[Any, ...]:
    """Return one tree per result of `update(param, *leaves of trees)`."""
    results = [
        update(*leaves) for leaves in zip(tree.leaves(params), *(tree.leaves(_same(params, t)) for t in trees), strict=True)
    ]
    return tuple(tree.unflatten(params, list(column)) for column in zip(*results, strict=True)) if results else ()


def _same(params: Any, other: Any) -> Any:
    """Return `other` in the order of `params`, or raise `ArgumentError` naming where the trees differ."""
    return tree.map(lambda _, leaf: leaf, params, other)


@dataclass(frozen=True)
class SGD:
    """Made by `sgd`."""

    lr: float
    momentum: float = 0.0
    weight_decay: float = 0.0
    nesterov: bool = False

    def init(self, params: Any) -> State:
        """Return zero velocities, or nothing without momentum."""
        return {"velocity": tree.map(ops.zeros_like, params)} if self.momentum else {}

    def update(self, params: Any, grads: Any, state: State, lr: float | None = None) -> tuple[Any, State]:
        """Return (params, state) one step on; `lr` in place of the optimiser's own."""
        rate, decay = float(self.lr if lr is None else lr), float(self.weight_decay)
        if not self.momentum:
            return tree.map(lambda p, g: ops.sgd_step(p, g, rate, decay), params, grads), state
        momentum = float(self.momentum)

        def one(p: Any, g: Any, v: Any) -> Any:
            return ops.sgd_momentum_step(p, g, v, rate, momentum, decay, nesterov=self.nesterov)

        made = _zip_update(one, params, grads, state["velocity"])
        return (made[0], {"velocity": made[1]}) if made else (params, state)


@dataclass(frozen=True)
class Adam:
    """Made by `adam` and `adamw`."""

    lr: float
    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = 1e-8
    weight_decay: float = 0.0
    decoupled: bool = False

    def init(self, params: Any) -> State:
        """Return zero averages and the step number 0."""
        return {"exp_avg": tree.map(ops.zeros_like, params), "exp_avg_sq": tree.map(ops.zeros_like, params), "step": 0}

    def update(self, params: Any, grads: Any, state: State, lr: float | None = None) -> tuple[Any, State]:
        """Return (params, state) one step on; `lr` in place of the optimiser's own."""
        step = state["step"] + 1
        beta1, beta2 = (float(b) for b in self.betas)
        scalars = (
            float(self.lr if lr is None else lr), beta1, beta2, float(self.eps), float(self.weight_decay),
            1.0 - beta1**step, 1.0 - beta2**step,
        )  # fmt: skip

        def one(p: Any, g: Any, m: Any, v: Any) -> Any:
            return ops.adam_step(p, g, m, v, *scalars, decoupled=self.decoupled)

        made = _zip_update(one, params, grads, state["exp_avg"], state["exp_avg_sq"])
        if not made:
            return params, {**state, "step": step}
        return made[0], {"exp_avg": made[1], "exp_avg_sq": made[2], "step": step}


def sgd(lr: float, momentum: float = 0.0, weight_decay: float = 0.0, nesterov: bool = False) -> SGD:
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

    Raises
    ------
    SettingError
        A setting outside its range.
    """
    _check("sgd: lr", lr >= 0, lr, "a number of at least 0")
    _check("sgd: momentum", 0 <= momentum < 1, momentum, "a number in [0, 1)")
    _check("sgd: weight_decay", weight_decay >= 0, weight_decay, "a number of at least 0")
    _check("sgd: momentum", momentum > 0 or not nesterov, momentum, "a number above 0, because nesterov=True was given,")
    return SGD(lr, momentum, weight_decay, nesterov)


def _adam(name: str, lr: float, betas: tuple[float, float], eps: float, weight_decay: float, decoupled: bool) -> Adam:
    _check(f"{name}: lr", lr >= 0, lr, "a number of at least 0")
    _check(f"{name}: betas", len(betas) == 2 and all(0 <= b < 1 for b in betas), betas, "two numbers in [0, 1)")
    _check(f"{name}: eps", eps >= 0, eps, "a number of at least 0")
    _check(f"{name}: weight_decay", weight_decay >= 0, weight_decay, "a number of at least 0")
    return Adam(lr, betas, eps, weight_decay, decoupled)


def adam(lr: float = 1e-3, betas: tuple[float, float] = (0.9, 0.999), eps: float = 1e-8, weight_decay: float = 0.0) -> Adam:
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
    """
    return _adam("adam", lr, betas, eps, weight_decay, False)


def adamw(lr: float = 1e-3, betas: tuple[float, float] = (0.9, 0.999), eps: float = 1e-8, weight_decay: float = 1e-2) -> Adam:
    """Return AdamW as in `torch.optim.AdamW`: parameters shrink by ``lr weight_decay`` per step. Raises `SettingError`.

    The other parameters are those of `adam`.
    """
    return _adam("adamw", lr, betas, eps, weight_decay, True)
