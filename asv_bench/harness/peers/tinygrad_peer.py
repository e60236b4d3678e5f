"""tinygrad through TinyJit, on its CPU or OpenCL device (the variable DEV of the process)."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from .peer import CHECKED_STEPS, LR, MOMENTUM, Peer, Unsupported, Work, there
from .rows import resnet20_blocks


class TinygradPeer(Peer):
    """tinygrad without BEAM search."""

    def start(self) -> str:
        """Import."""
        if os.environ.get("DEV") == "CPU" and shutil.which("clang") is None:
            raise Unsupported("its CPU device needs clang on the PATH")
        tinygrad = there("tinygrad")
        from importlib.metadata import version

        self.Tensor, self.jit, self.device = tinygrad.Tensor, tinygrad.TinyJit, tinygrad.Device[tinygrad.Device.DEFAULT]
        return f"{version('tinygrad')} on {tinygrad.Device.DEFAULT}"

    def _there(self, x: Any, grad: bool = False) -> Any:
        made = self.Tensor(np.ascontiguousarray(x)).realize()
        if grad:
            made.requires_grad = True
        return made

    def _jitted(self, f: Callable[[], Sequence[Any]]) -> Work:
        """Return f replayed; its results are realized each time."""

        def realized() -> Any:
            made = list(f())
            self.Tensor.realize(*made)
            return made

        whole = self.jit(realized)

        def run() -> Any:
            return whole()

        for _ in range(3):  # traced, captured, replayed
            run()
        return Work(run, lambda: [x.numpy() for x in run()], self.device.synchronize)

    def _work(self, f: Callable[..., Any], operands: Sequence[Any], g: Any = None) -> Work:
        xs = [self._there(x, g is not None) for x in operands]
        if g is None:
            return self._jitted(lambda: [f(*xs).contiguous()])
        seed = self._there(g)

        def both() -> Sequence[Any]:
            y = f(*xs)
            return [y.contiguous(), *(y * seed).sum().gradient(*xs)]

        return self._jitted(both)

    def matmul(self, a: Any, b: Any) -> Work:
        """Products."""
        return self._work(lambda a, b: a @ b, (a, b))

    def conv(self, arrays: dict[str, Any], padding: int, groups: int) -> Work:
        """Convolution."""
        return self._work(lambda x, w: x.conv2d(w, padding=padding, groups=groups), (arrays["x"], arrays["w"]), arrays.get("g"))

    def op(self, op: str, arrays: dict[str, Any]) -> Work:
        """Memory-bound ops."""
        labels = self._there(arrays["labels"].astype(np.int32)) if "labels" in arrays else None

        def batch_norm(x: Any, w: Any, b: Any) -> Any:
            mean = x.mean((0, 2, 3))
            centred = x - mean.reshape(1, -1, 1, 1)
            return x.batchnorm(w, b, mean, (centred.square().mean((0, 2, 3)) + 1e-5).rsqrt())

        functions: dict[str, Callable[..., Any]] = {
            "relu": lambda x: x.relu(), "gelu": lambda x: x * 0.5 * (1 + (x * 0.5**0.5).erf()), "softmax": lambda x: x.softmax(-1),
            "max_pool": lambda x: x.max_pool2d((2, 2)), "layer_norm": lambda x, w, b: x.layernorm(eps=1e-5) * w + b, "batch_norm": batch_norm,
            "cross_entropy": lambda x: x.sparse_categorical_crossentropy(labels), "copy": lambda x: x + 0,
        }  # fmt: skip
        return self._work(functions[op], [arrays[name] for name in ("x", "w", "b") if name in arrays], arrays.get("g"))

    def _apply(self, model: str, p: dict[str, Any], x: Any, train: bool) -> Any:
        def linear(name: str, x: Any) -> Any:
            return x.linear(p[f"{name}.weight"].T, p[f"{name}.bias"])

        def norm(name: str, x: Any) -> Any:
            w, b = p[f"{name}.weight"], p[f"{name}.bias"]
            if not train:
                return x.batchnorm(w, b, p[f"{name}.running_mean"], (p[f"{name}.running_var"] + 1e-5).rsqrt())
            mean = x.mean((0, 2, 3))
            var = (x - mean.reshape(1, -1, 1, 1)).square().mean((0, 2, 3))
            for what, value in (("running_mean", mean), ("running_var", var)):
                old = p[f"{name}.{what}"]
                old.assign(0.9 * old + 0.1 * value.detach())
            return x.batchnorm(w, b, mean, (var + 1e-5).rsqrt())

        if model == "mlp":
            return linear("head", linear("hidden.0", x.flatten(1)).relu())
        if model == "lenet":
            x = x.conv2d(p["conv1.weight"], p["conv1.bias"], padding=2).relu().max_pool2d((2, 2))
            x = x.conv2d(p["conv2.weight"], p["conv2.bias"]).relu().max_pool2d((2, 2)).flatten(1)
            return linear("fc3", linear("fc2", linear("fc1", x).relu()).relu())
        x = norm("bn1", x.conv2d(p["conv1.weight"], padding=1)).relu()
        for name, stride in resnet20_blocks():
            around = x
            if f"{name}.downsample.0.weight" in p:
                around = norm(f"{name}.downsample.1", x.conv2d(p[f"{name}.downsample.0.weight"], stride=stride))
            x = norm(f"{name}.bn1", x.conv2d(p[f"{name}.conv1.weight"], stride=stride, padding=1)).relu()
            x = (norm(f"{name}.bn2", x.conv2d(p[f"{name}.conv2.weight"], padding=1)) + around).relu()
        return linear("fc", x.mean((2, 3)))

    def infer(self, model: str, given: dict[str, Any], images: Any) -> Work:
        """A forward pass, and its scores on the host; the image is already on the device."""
        p, x = {name: self._there(v) for name, v in given.items()}, self._there(images)
        forward = self._jitted(lambda: [self._apply(model, p, x, False)])
        return Work(lambda: forward.call()[0].numpy(), lambda: [forward.call()[0].numpy()])

    def train(self, model: str, given: dict[str, Any], images: Any, labels: Any) -> Work:
        """One jitted step with tinygrad's SGD."""
        from tinygrad.helpers import Context
        from tinygrad.nn.optim import SGD

        x, target = self._there(images), self._there(labels.astype(np.int32))

        def begun() -> Callable[[], Any]:
            p = {name: self._there(v, "running" not in name) for name, v in given.items()}
            learned = [v for name, v in p.items() if "running" not in name]
            optimizer = SGD(learned, lr=LR, momentum=MOMENTUM)
            rest = [v for name, v in p.items() if "running" in name]

            @self.jit
            def step() -> Any:
                optimizer.zero_grad()
                loss = self._apply(model, p, x, True).sparse_categorical_crossentropy(target)
                loss.backward()
                self.Tensor.realize(loss, *optimizer.schedule_step(), *rest)
                return loss

            def run() -> Any:
                with Context(TRAINING=1):
                    return step()

            return run

        def losses() -> list[Any]:
            run = begun()
            return [run().item() for _ in range(CHECKED_STEPS)]

        return Work(begun(), losses, self.device.synchronize)
