"""One training step: forward, loss, backward, update. Everything else in this folder is around it.

A model is a record that does not change, so a step takes a state and returns the next one. Nothing in it waits for the
device: `loss` and `scores` come back as device arrays, and `read_loss` is the one place where the trainer waits.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from .. import nn, ops
from ..core.array import Array
from ..core.tape import value_and_grad
from ..optim import Optimizer


@dataclass(frozen=True)
class TrainState:
    """What changes from step to step: the model, what the optimiser remembers, and how many steps were taken."""

    model: Any
    optimizer: dict[str, Any]
    step: int = 0


def train_step(
    state: TrainState, optimizer: Optimizer, images: Array, labels: Array, *, lr: float,
    key: Array | None = None, label_smoothing: float = 0.0,
) -> tuple[TrainState, Array, Array]:  # fmt: skip
    """Take one step.

    Parameters
    ----------
    state : TrainState
    optimizer : Optimizer
        From `portable_nn.optim`.
    images : array, (B, C, H, W)
    labels : array, (B,) integer
        Or probabilities, (B, K), as mixing gives them.
    lr : float
        Learning rate of this step.
    key : array, optional
        Key of the run, from `portable_nn.random_key`; models with dropout need it. The step number is folded in.
    label_smoothing : float
        Part of the target that is spread over all classes.

    Returns
    -------
    state : TrainState
        One step on.
    loss : array, 0-d
    scores : array, (B, K)
    """
    step_key = None if key is None else ops.fold_in(key, state.step)

    def loss_of(params: dict[str, Array]) -> tuple[Array, tuple[Array, dict[str, Array]]]:
        model = nn.with_params(state.model, params)
        scores, learned = nn.apply(model, images, train=True, key=step_key)
        loss = ops.cross_entropy(scores, labels, label_smoothing=label_smoothing)
        return loss, (scores, learned)

    params = nn.params(state.model)
    (loss, (scores, learned)), grads = value_and_grad(loss_of, has_aux=True)(params)
    params, remembered = optimizer.update(params, grads, state.optimizer, lr=lr)
    model = nn.with_state(state.model, params | learned)
    return TrainState(model, remembered, state.step + 1), loss, scores


def read_loss(loss: Array) -> float:
    """Wait for a loss: the trainer's one synchronisation with the device, taken only when a loss is logged."""
    return float(loss)
