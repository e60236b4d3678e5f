"""Programs drawn at random, captured and not: what they return and the states they train agree, whatever stands beside what.

In float64, where the only differences are those of sums in another order (channels-last kernels), some 1e-13 of the largest value;
a rewrite that reads the wrong memory, or another value, is off by much more.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from conftest import find
from test_rewrite import PLANNED

import portable_nn as pnn
from portable_nn import ops

TOLERANCE = 1e-9  # of the largest value, after three steps
Part = Callable[[Any, Any, "Given"], Any]


class Given:
    """What a part may use beside values: weights in three versions, a number that changes, a key."""

    def __init__(self, state: dict[str, list[Any]], version: int, number: Any, key: Any) -> None:
        self.weights = {name: found[version] for name, found in state.items()}
        self.version, self.number, self.key = version, number, key

    def __getitem__(self, name: str) -> Any:
        return self.weights[name]


IMAGES: dict[str, Part] = {  # of one shape, N x 16 x 5 x 7
    "conv 3x3": lambda u, t, p: ops.conv2d(u, p["w"], padding=1),
    "conv 1x1": lambda u, t, p: ops.conv2d(u, p["w"][:, :, 1:2, 1:2], p["b"]),
    "depthwise": lambda u, t, p: ops.conv2d(u, p["w"][:, :1], padding=1, groups=16),
    "norm, relu": lambda u, t, p: ops.relu(ops.batch_norm_train(u, p["a"], p["b"])[0]),
    "norm": lambda u, t, p: ops.batch_norm_train(u, p["a"], p["b"])[0],
    "norm, sum, relu": lambda u, t, p: ops.relu(ops.batch_norm_train(u, p["a"], p["b"])[0] + t),
    "group norm": lambda u, t, p: ops.group_norm(u, 4, p["a"], p["b"]),
    "max pool": lambda u, t, p: ops.max_pool2d(u, 3, stride=1, padding=1),
    "avg pool": lambda u, t, p: ops.avg_pool2d(u, 3, stride=1, padding=1),
    "down and up": lambda u, t, p: ops.interpolate(ops.conv2d(u, p["w"], stride=2, padding=1), (5, 7), mode="nearest"),
    "minus mean": lambda u, t, p: u - ops.mean(t, axis=(0, 2, 3), keepdims=True),
    "channels of both": lambda u, t, p: ops.concat([u, t], axis=1)[:, 4 * p.version : 4 * p.version + 16],
    "rows of both": lambda u, t, p: ops.concat([u[:, :, 2:], t[:, :, :2]], axis=2),
    "plus channels": lambda u, t, p: u + 0.1 * ops.sum(t, axis=1, keepdims=True),
}
ROWS: dict[str, Part] = {  # of one shape, N x D
    "linear": lambda u, t, p: ops.linear(u, p["w"], p["b"]),
    "linear, relu": lambda u, t, p: ops.relu(ops.linear(u, p["w"], p["b"])),
    "softmax": lambda u, t, p: ops.softmax(u, p.version - 1),
    "layer norm": lambda u, t, p: ops.layer_norm(u, (u.shape[1],), p["a"], p["b"]),
    "rms norm": lambda u, t, p: ops.rms_norm(u, (u.shape[1],), p["a"]),
    "product": lambda u, t, p: ops.tanh(ops.matmul(ops.matmul(u, t.T) * 0.1, u)),
    "take": lambda u, t, p: ops.take(u, ops.argsort(t[:, 0]), axis=0),
    "sort": lambda u, t, p: ops.sort(u, axis=-1),
    "triangle": lambda u, t, p: ops.tril(u),
    "through T": lambda u, t, p: (ops.transpose(u, 0, 1) * 1.5).T,
    "reshaped": lambda u, t, p: ops.reshape(ops.tanh(ops.reshape(u, u.shape[::-1])), u.shape),
    "reversed": lambda u, t, p: u[::-1, ::-1],
    "every second": lambda u, t, p: ops.concat([u[:, ::2], u[:, 1::2]], axis=1),
    "stacked": lambda u, t, p: ops.sum(ops.stack([u, t]), axis=0),
    "attention": lambda u, t, p: ops.scaled_dot_product_attention(u[None, None], t[None, None], u[None, None])[0, 0],
    "minus largest": lambda u, t, p: u - ops.max(t, axis=p.version % 2, keepdims=True),
    "times mean": lambda u, t, p: u * ops.mean(t, axis=0) + ops.mean(t),
    "divided": lambda u, t, p: u / ops.sqrt(1.0 + ops.sum(u * u, axis=1, keepdims=True)),
}
BOTH: dict[str, Part] = {
    "relu": lambda u, t, p: ops.relu(u),
    "tanh": lambda u, t, p: ops.tanh(u),
    "gelu": lambda u, t, p: ops.gelu(u),
    "sum": lambda u, t, p: u + t,
    "twice": lambda u, t, p: u + u,
    "times": lambda u, t, p: u * t * 0.5,
    "number": lambda u, t, p: u * p.number + 1.0,
    "larger": lambda u, t, p: ops.maximum(u, t),
    "where": lambda u, t, p: ops.where(u > t, u, t * 0.5),
    "clamped": lambda u, t, p: ops.clamp(u, -0.5, 0.7),
    "powers": lambda u, t, p: ops.tanh(ops.abs(u) ** 1.5),
    "dropout": lambda u, t, p: ops.dropout(u, 0.3, key=p.key),
    "flipped": lambda u, t, p: ops.flip(u, axis=-1),
    "rolled": lambda u, t, p: ops.roll(u, p.version, axis=1),
    "running": lambda u, t, p: 0.2 * ops.cumulative_sum(u, axis=-1),
    "whole numbers": lambda u, t, p: u * ops.astype(ops.astype(t * 3.0, np.int32), u.dtype),
}


@pytest.fixture(params=PLANNED)
def target(request: pytest.FixtureRequest) -> Any:
    with pnn.use_backend(find(request.param)) as backend:
        if not backend.profile.float64:
            pytest.skip("no float64")
        yield backend


def drawn(rng: np.random.Generator, *shapes: tuple[int, ...]) -> list[Any]:
    return [pnn.asarray(rng.standard_normal(shape)) for shape in shapes]


def weights(images: bool, shape: tuple[int, ...], seed: int) -> dict[str, list[Any]]:
    rng, width = np.random.default_rng(seed), shape[1]
    whole = (width, width, 3, 3) if images else (width, width)
    state = {"w": drawn(rng, *[whole] * 3), "a": drawn(rng, *[(width,)] * 3), "b": drawn(rng, *[(width,)] * 3), "last": drawn(rng, *[shape] * 3)}
    return {**state, "w": [0.3 * w for w in state["w"]]}


def written(parts: dict[str, Part], draw: random.Random) -> tuple[list[tuple[str, int, int, int]], list[int]]:
    """Return a program: for each value its part, two values before it and a version; and which values are handed out."""
    lines = []
    for count in range(2, draw.randint(5, 14)):
        recent = range(max(0, count - 4), count)
        lines.append((draw.choice(sorted(parts)), draw.choice(recent), draw.randrange(count), draw.randrange(3)))
    return lines, [draw.randrange(2, 2 + len(lines)) for _ in range(draw.randrange(3))]


def check(seed: int, images: bool) -> None:
    """Draw a program and train with it three times, captured and not."""
    draw, rng = random.Random(seed), np.random.default_rng(seed)
    parts = (IMAGES if images else ROWS) | BOTH
    shape = (draw.randint(1, 3), 16, 5, 7) if images else draw.choice([(4, 7), (5, 16), (1, 3), (8, 8), (3, 33)])
    lines, handed = written(parts, draw)
    donated, momentum, gradients = (draw.random() < 0.5 for _ in range(3))

    def step(state: Any, x: Any, y: Any, number: Any, key: Any) -> Any:
        def loss(learned: Any) -> Any:
            values = [x, y]
            for name, i, j, version in lines:
                values.append(parts[name](values[i], values[j], Given(learned, version, number, key)))
            return ops.mean(ops.tanh(values[-1]) * learned["last"][0]), [values[i] for i in handed]

        learned, velocity = state
        (value, made), grads = pnn.value_and_grad(loss, has_aux=True)(learned)
        velocity = pnn.tree.map(lambda v, g: 0.9 * v + g, velocity, grads) if momentum else velocity
        learned = pnn.tree.map(lambda w, d: w - 0.1 * number * d, learned, velocity if momentum else grads)
        return (learned, velocity), value, made, grads if gradients else None

    captured = pnn.capture(step, donate="state" if donated else ())
    states = [(weights(images, shape, seed), pnn.tree.map(lambda w: w * 0.0, weights(images, shape, seed))) for _ in range(2)]
    for turn in range(3):
        x, y = drawn(rng, shape, shape)
        rest = (x, x if turn == 2 else y, 0.5 + turn / 4, pnn.asarray(pnn.random_key(turn)))
        made, wanted = captured(states[0], *rest), step(states[1], *rest)
        for a, b in zip(pnn.tree.leaves(made), pnn.tree.leaves(wanted), strict=True):
            a, b = pnn.to_numpy(a), pnn.to_numpy(b)
            assert np.isfinite(b).all()
            assert np.abs(a - b).max(initial=0.0) <= TOLERANCE * max(1.0, np.abs(b).max(initial=0.0)), (turn, lines, handed)
        states = [made[0], wanted[0]]


@pytest.mark.parametrize("images", [True, False], ids=["images", "rows"])
@pytest.mark.parametrize("seed", range(8))
def test_captured_and_not(target: Any, seed: int, images: bool) -> None:
    check(seed, images)


@pytest.mark.slow
@pytest.mark.parametrize("images", [True, False], ids=["images", "rows"])
@pytest.mark.parametrize("hundred", range(1, 6))
def test_many(target: Any, hundred: int, images: bool) -> None:
    for seed in range(100 * hundred, 100 * hundred + 100):
        check(seed, images)
