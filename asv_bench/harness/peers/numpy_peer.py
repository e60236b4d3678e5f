"""NumPy, as one would write it: arrays reused where `out=` allows; models forward, and the MLP's training by hand."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from .peer import CHECKED_STEPS, LR, MOMENTUM, Peer, Unsupported, Work, there
from .rows import resnet20_blocks

Host = np.ndarray[Any, Any]


class NumPyPeer(Peer):
    """NumPy with its BLAS."""

    def start(self) -> str:
        """Say the version."""
        return np.__version__

    def matmul(self, a: Any, b: Any) -> Work:
        """Products into a ready array."""
        y = np.empty((a.shape[0], *b.shape[1:]), np.float32)
        return Work(lambda: np.matmul(a, b, out=y), lambda: [np.matmul(a, b)])

    def conv(self, arrays: dict[str, Any], padding: int, groups: int) -> Work:
        """Windows as a matrix, then BLAS: forward only."""
        if "g" in arrays or groups > 1:
            raise Unsupported("forward of one group only")
        x, w = arrays["x"], arrays["w"]
        return Work(lambda: _conv(x, w, padding), lambda: [_conv(x, w, padding)])

    def op(self, op: str, arrays: dict[str, Any]) -> Work:
        """Memory-bound ops, with buffers of their own kept from call to call."""
        x, g = arrays["x"], arrays.get("g")
        y, t, dx = (np.empty_like(x) for _ in range(3))

        def softmax() -> list[Any]:
            np.subtract(x, x.max(-1, keepdims=True), out=y)
            np.exp(y, out=y)
            np.multiply(y, 1 / y.sum(-1, keepdims=True), out=y)
            if g is None:
                return [y]
            np.multiply(y, g, out=t)
            np.subtract(g, t.sum(-1, keepdims=True), out=dx)
            return [y, np.multiply(dx, y, out=dx)]

        def cross_entropy() -> list[Any]:
            labels, rows = arrays["labels"], np.arange(len(x))
            np.subtract(x, x.max(-1, keepdims=True), out=y)
            picked = y[rows, labels]
            np.exp(y, out=y)
            sums = y.sum(-1, keepdims=True)
            loss = np.mean(np.log(sums[:, 0]) - picked)
            if g is None:
                return [loss]
            np.multiply(y, g / (sums * len(x)), out=dx)
            dx[rows, labels] -= g / len(x)
            return [loss, dx]

        def relu() -> list[Any]:
            np.maximum(x, 0, out=y)
            return [y] if g is None else [y, np.multiply(g, x > 0, out=dx)]

        def layer_norm() -> list[Any]:
            w, b = arrays["w"], arrays["b"]
            np.subtract(x, x.mean(-1, keepdims=True), out=t)
            rstd = 1 / np.sqrt(np.einsum("ij,ij->i", t, t)[:, None] / x.shape[1] + np.float32(1e-5))
            np.multiply(t, rstd, out=t)
            np.add(np.multiply(t, w, out=y), b, out=y)
            if g is None:
                return [y]
            np.multiply(g, w, out=dx)
            along = np.einsum("ij,ij->i", dx, t)[:, None] / x.shape[1]
            dw, db = np.einsum("ij,ij->j", g, t), g.sum(0)
            np.subtract(dx, dx.mean(-1, keepdims=True), out=dx)
            np.multiply(t, along, out=t)
            return [y, np.multiply(np.subtract(dx, t, out=dx), rstd, out=dx), dw, db]

        def copy() -> list[Any]:
            np.copyto(y, x)
            return [y]

        functions: dict[str, Callable[[], list[Any]]] = {
            "softmax": softmax, "cross_entropy": cross_entropy, "relu": relu, "layer_norm": layer_norm, "copy": copy,
        }  # fmt: skip
        if op == "gelu":
            erf = there("scipy.special").erf
            functions["gelu"] = lambda: [x * (0.5 + 0.5 * erf(x * np.float32(0.5**0.5)))]
            if g is not None:
                raise Unsupported("forward only")
        if op not in functions:
            raise Unsupported(f"{op} is not written for it")
        return Work(functions[op], functions[op])

    def infer(self, model: str, given: dict[str, Any], images: Any) -> Work:
        """A forward pass."""
        p = _folded(given)
        return Work(lambda: _forward(model, p, images), lambda: [_forward(model, p, images)])

    def train(self, model: str, given: dict[str, Any], images: Any, labels: Any) -> Work:
        """The MLP's step, written out."""
        if model != "mlp":
            raise Unsupported("training is written for the MLP only")
        x, rows = images.reshape(len(images), -1), np.arange(len(images))

        def begun() -> Callable[[], Any]:
            p = {name: value.copy() for name, value in given.items()}
            momenta = {name: np.zeros_like(value) for name, value in p.items()}

            def step() -> Any:
                h = np.maximum(x @ p["hidden.0.weight"].T + p["hidden.0.bias"], 0)
                scores = h @ p["head.weight"].T + p["head.bias"]
                scores -= scores.max(1, keepdims=True)
                chances = np.exp(scores)
                sums = chances.sum(1, keepdims=True)
                loss = np.mean(np.log(sums[:, 0]) - scores[rows, labels])
                d = chances / (sums * len(x))
                d[rows, labels] -= np.float32(1 / len(x))
                dh = (d @ p["head.weight"]) * (h > 0)
                grads = {"head.weight": d.T @ h, "head.bias": d.sum(0), "hidden.0.weight": dh.T @ x, "hidden.0.bias": dh.sum(0)}
                for name, grad in grads.items():
                    m = momenta[name]
                    m *= np.float32(MOMENTUM)
                    m += grad
                    p[name] -= np.float32(LR) * m
                return loss

            return step

        def losses() -> list[Any]:
            step = begun()
            return [float(step()) for _ in range(CHECKED_STEPS)]

        return Work(begun(), losses)


def _conv(x: Host, w: Host, padding: int = 0, stride: int = 1) -> Host:
    if w.shape[2] == 1 and not padding:
        n, _, h, width = x[:, :, ::stride, ::stride].shape
        return np.matmul(w[:, :, 0, 0], x[:, :, ::stride, ::stride].reshape(n, x.shape[1], -1)).reshape(n, len(w), h, width)
    if padding:
        x = np.pad(x, ((0, 0), (0, 0), (padding, padding), (padding, padding)))
    windows = sliding_window_view(x, w.shape[2:], (2, 3))[:, :, ::stride, ::stride].transpose(0, 1, 4, 5, 2, 3)
    n, h, width = windows.shape[0], *windows.shape[4:]
    return np.matmul(w.reshape(len(w), -1), windows.reshape(n, -1, h * width)).reshape(n, len(w), h, width)


def _max_pool(x: Host) -> Host:
    rows = np.maximum(x[:, :, ::2], x[:, :, 1::2])
    return np.maximum(rows[..., ::2], rows[..., 1::2])


def _folded(p: dict[str, Host]) -> dict[str, Host]:
    """Return the weights with the norms written as scale and shift."""
    made = dict(p)
    for name in [n.removesuffix(".running_mean") for n in p if n.endswith(".running_mean")]:
        scale = p[f"{name}.weight"] / np.sqrt(p[f"{name}.running_var"] + np.float32(1e-5))
        made[f"{name}.scale"] = scale[:, None, None]
        made[f"{name}.shift"] = (p[f"{name}.bias"] - p[f"{name}.running_mean"] * scale)[:, None, None]
    return made


def _forward(model: str, p: dict[str, Host], x: Host) -> Host:
    def linear(name: str, x: Host) -> Host:
        return x @ p[f"{name}.weight"].T + p[f"{name}.bias"]

    def relu(x: Host) -> Host:
        return np.maximum(x, 0, out=x)

    def norm(name: str, x: Host) -> Host:
        x *= p[f"{name}.scale"]
        x += p[f"{name}.shift"]
        return x

    if model == "mlp":
        return linear("head", relu(linear("hidden.0", x.reshape(len(x), -1))))
    if model == "lenet":
        x = _max_pool(relu(_conv(x, p["conv1.weight"], 2) + p["conv1.bias"][:, None, None]))
        x = _max_pool(relu(_conv(x, p["conv2.weight"]) + p["conv2.bias"][:, None, None])).reshape(len(x), -1)
        return linear("fc3", relu(linear("fc2", relu(linear("fc1", x)))))
    x = relu(norm("bn1", _conv(x, p["conv1.weight"], 1)))
    for name, stride in resnet20_blocks():
        around = x
        if f"{name}.downsample.0.weight" in p:
            around = norm(f"{name}.downsample.1", _conv(x, p[f"{name}.downsample.0.weight"], 0, stride))
        y = relu(norm(f"{name}.bn1", _conv(x, p[f"{name}.conv1.weight"], 1, stride)))
        x = relu(norm(f"{name}.bn2", _conv(y, p[f"{name}.conv2.weight"], 1)) + around)
    return linear("fc", x.mean((2, 3)))
