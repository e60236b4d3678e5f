"""Layers as people call them: forward in evaluation mode, and forward plus backward in training mode, device-synchronised."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any

import numpy as np

from portable_nn import nn, ops
from portable_nn.core.selection import use_backend
from portable_nn.core.tape import value_and_grad

from .choice import BACKENDS, backend

# name -> (how to make the layer, shape of its input): shapes of LeNet, ResNet-20 and a small transformer.
_LAYERS: dict[str, tuple[Callable[[], Any], tuple[int, ...]]] = {
    "Linear 400-120 b64": (lambda: nn.Linear(400, 120), (64, 400)),
    "Conv2d 16-16 3x3 b32": (lambda: nn.Conv2d(16, 16, 3, padding=1), (32, 16, 32, 32)),
    "BatchNorm2d 16 b32": (lambda: nn.BatchNorm2d(16), (32, 16, 32, 32)),
    "LayerNorm 256 b64": (lambda: nn.LayerNorm(256), (64, 32, 256)),
    "MaxPool2d 2 b64": (lambda: nn.MaxPool2d(2), (64, 6, 28, 28)),
    "GELU b64": (lambda: nn.GELU(), (64, 1024)),
}


@lru_cache(maxsize=1)
def _made(name: str, layer: str, training: bool) -> Callable[[], None]:
    device = backend(name)
    make, shape = _LAYERS[layer]
    x = device.from_numpy(np.random.default_rng(0).standard_normal(shape).astype(np.float32))
    made = make().to(device)

    def loss(params: dict[str, Any]) -> tuple[Any, Any]:
        y, learned = nn.apply(nn.with_params(made, params["layer"]), params["x"], train=True)
        return ops.sum(y), learned

    grads = value_and_grad(loss, has_aux=True)
    params = {"layer": nn.params(made), "x": x}

    def run() -> None:
        with use_backend(device):
            if training:
                grads(params)
            else:
                made(x)
        device.synchronize()

    run()  # compiles
    return run


class Layer:
    """One layer."""

    version = "1"
    params = (list(BACKENDS), list(_LAYERS), ["forward", "full"])
    param_names = ("backend", "layer", "direction")
    rounds, repeat, warmup_time = 2, (5, 50, 0.1), 0.02

    def setup(self, name: str, layer: str, direction: str) -> None:
        self.run = _made(name, layer, direction == "full")

    def time_call(self, *_: str) -> None:
        """Run the layer (forward), or the layer and the gradients of input and parameters (full)."""
        self.run()
