"""What a model costs, found on the null backend: nothing is computed, every call is planned and every array counted."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from .. import models, nn, optim
from ..api import asarray
from ..core import random, selection
from ..core.registry import OPS
from .step import TrainState, train_step


@dataclass(frozen=True)
class Cost:
    """What a model costs.

    Parameters
    ----------
    parameters : int
        Numbers that training changes.
    flops : int
        Arithmetic operations of one image forward; a multiplication and an addition are two.
    memory : int
        Bytes that a training step holds at most: weights, AdamW's averages, gradients and what is kept for them.
    """

    parameters: int
    flops: int
    memory: int


def flops_of(model: nn.Module, in_shape: tuple[int, int, int]) -> int:
    """Return the arithmetic operations of one image forward, added up over the calls it makes."""
    null: Any = selection.get("null")
    with selection.use_backend(null):
        made = model.to()
        image = asarray(np.zeros((1, *in_shape), np.float32))
        with null.recording() as launches:
            made(image)
    total = 0
    first: dict[int, Any] = {}
    for recorded in launches:
        call = recorded.call
        # A call of several launches counts once: at the launch it begins with.
        if call is not None and first.setdefault(id(call), recorded.launch) is recorded.launch:
            count = OPS[call.op].flops
            total += sum(out.size for out in call.outputs) if count is None else count(call)
    return total


def memory_of(model: nn.Module, in_shape: tuple[int, int, int], classes: int, batch: int) -> int:
    """Return the bytes that a training step by AdamW holds at most, beside nothing else on the device.

    The task follows from the scores: labels per image, or per pixel; anything else is compared with the images.
    """
    null: Any = selection.get("null")
    with selection.use_backend(null):
        before = null.memory.live
        with null.measuring() as memory:
            made = model.to()
            optimizer = optim.adamw(1e-3)
            state = TrainState(made, optimizer.init(nn.params(made)))
            images = asarray(np.zeros((batch, *in_shape), np.float32))
            outputs = tuple(nn.apply(made, images)[0].shape)
            if outputs == (batch, *in_shape):
                _step(state, optimizer, images)
            else:
                labels = asarray(np.zeros((batch, *outputs[2:]), np.int64))
                train_step(state, optimizer, images, labels, lr=1e-3, key=random.key(0))
        return int(memory.peak - before)


def _step(state: TrainState, optimizer: optim.Optimizer, images: Any) -> None:
    """Take a step of an autoencoder."""
    from ..core.tape import value_and_grad

    def loss_of(params: Any) -> Any:
        return nn.reconstruction_loss(nn.apply(nn.with_params(state.model, params), images, train=True)[0], images)

    params = nn.params(state.model)
    optimizer.update(params, value_and_grad(loss_of)(params)[1], state.optimizer)


def cost_of(name: str, in_shape: tuple[int, int, int] = (3, 32, 32), classes: int = 10, batch: int = 128) -> Cost:
    """Return what a model of `portable_nn.models` costs; raises `SettingError` for a name or image size it does not have."""
    model = models.create(name, in_shape, classes)
    return Cost(nn.count_params(model), flops_of(model, in_shape), memory_of(model, in_shape, classes, batch))
