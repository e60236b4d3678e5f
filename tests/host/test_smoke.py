"""The smallest thing that is still the real thing, in seconds: a network learns, on every backend that has values."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import portable_nn as pnn
from portable_nn import models, nn, ops, optim
from portable_nn.core import selection
from portable_nn.core.backend import Backend


def test_a_network_learns(backend: Backend) -> None:
    rng = np.random.default_rng(0)
    labels = np.arange(16) % 4
    images = (rng.standard_normal((4, 1, 8, 8))[labels] + 0.1 * rng.standard_normal((16, 1, 8, 8))).astype(np.float32)
    with pnn.use_backend(backend):
        x, t = pnn.asarray(images), pnn.asarray(labels)
        model: Any = models.create("lenet", (1, 8, 8), 4).to(backend)
        params, optimizer = nn.params(model), optim.adam(lr=0.01)
        state = optimizer.init(params)

        def loss_of(params: Any) -> Any:
            return ops.cross_entropy(nn.with_params(model, params)(x), t)

        losses = []
        for _ in range(15):
            loss, grads = pnn.value_and_grad(loss_of)(params)
            params, state = optimizer.update(params, grads, state)
            losses.append(float(loss))
    assert losses[0] == pytest.approx(np.log(4), abs=0.3)
    assert losses[-1] < 0.2


@pytest.mark.parametrize("device", ["cpu", "gpu"])
def test_a_network_is_planned_without_a_device(device: str) -> None:
    null = selection.get("null", device)
    with pnn.use_backend(null), null.recording() as launches:  # type: ignore[attr-defined]
        model: Any = models.create("lenet", (1, 28, 28), 10).to(null)
        scores = model(pnn.asarray(np.zeros((2, 1, 28, 28), np.float32)))
    assert scores.shape == (2, 10)
    assert {"conv2d", "max_pool2d", "linear"} <= {launch.op for launch in launches}
