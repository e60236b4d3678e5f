"""PyTorch: as it is, with channels-last arrays, and through torch.compile."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from .peer import CHECKED_STEPS, LR, MOMENTUM, Peer, Unsupported, Work, there
from .rows import resnet20_blocks


class TorchPeer(Peer):
    """PyTorch on the CPU, with as many threads as there are cores."""

    def __init__(self, channels_last: bool = False, compiled: bool = False) -> None:
        super().__init__()
        self.channels_last, self.compiled = channels_last, compiled

    def start(self) -> str:
        """Import."""
        self.torch = there("torch")
        self.torch.set_num_threads(len(os.sched_getaffinity(0)))
        return str(self.torch.__version__)

    def _there(self, x: np.ndarray[Any, Any], grad: bool = False) -> Any:
        made = self.torch.from_numpy(x.copy())
        if self.channels_last and made.ndim == 4:
            made = made.contiguous(memory_format=self.torch.channels_last)
        return made.requires_grad_() if grad else made

    def _maybe(self, f: Callable[..., Any]) -> Callable[..., Any]:
        return self.torch.compile(f) if self.compiled else f

    def _images_only(self, x: np.ndarray[Any, Any]) -> None:
        if self.channels_last and x.ndim != 4:
            raise Unsupported("layout is nothing to this row")

    def _with_gradients(self, f: Callable[..., Any], operands: Sequence[Any], g: Any) -> Work:
        """Return the work of f, and of its gradients where a cotangent is given."""
        torch = self.torch
        if g is None:
            forward = self._maybe(f)

            def run() -> Any:
                with torch.no_grad():
                    return (forward(*operands),)
        else:
            f = self._maybe(f)

            def run() -> Any:
                y = f(*operands)
                return (y, *torch.autograd.grad(y, operands, g))

        return Work(run, lambda: [x.detach().numpy() for x in run()])

    def matmul(self, a: Any, b: Any) -> Work:
        """Products, into a new array."""
        if self.channels_last:
            raise Unsupported("layout is nothing to this row")
        return self._with_gradients(self.torch.matmul, (self._there(a), self._there(b)), None)

    def conv(self, arrays: dict[str, Any], padding: int, groups: int) -> Work:
        """Convolution."""
        f, g = self.torch.nn.functional, arrays.get("g")
        x, w = (self._there(arrays[name], g is not None) for name in ("x", "w"))
        return self._with_gradients(lambda x, w: f.conv2d(x, w, padding=padding, groups=groups), (x, w), None if g is None else self._there(g))

    def op(self, op: str, arrays: dict[str, Any]) -> Work:
        """Memory-bound ops."""
        torch, f = self.torch, self.torch.nn.functional
        self._images_only(arrays["x"])
        g = arrays.get("g")
        operands = [self._there(arrays[name], g is not None) for name in ("x", "w", "b") if name in arrays]
        x = operands[0]
        if op == "copy":
            target = torch.empty_like(x)
            return Work(lambda: target.copy_(x), lambda: [x.numpy()])
        if op == "batch_norm":
            mean, var = torch.zeros(x.shape[1]), torch.ones(x.shape[1])
        labels = torch.from_numpy(arrays["labels"]) if "labels" in arrays else None
        functions = {
            "relu": f.relu, "gelu": f.gelu, "softmax": lambda x: f.softmax(x, -1), "max_pool": lambda x: f.max_pool2d(x, 2),
            "layer_norm": lambda x, w, b: f.layer_norm(x, (x.shape[-1],), w, b),
            "batch_norm": lambda x, w, b: f.batch_norm(x, mean, var, w, b, True),
            "cross_entropy": lambda x: f.cross_entropy(x, labels),
        }  # fmt: skip
        return self._with_gradients(functions[op], operands, None if g is None else self._there(g))

    def infer(self, model: str, given: dict[str, Any], images: Any) -> Work:
        """A forward pass; the scores are already the host's."""
        net, x = self._model(model, given).eval(), self._there(images)
        self._layout_matters(model)
        forward = self._maybe(net)

        def run() -> Any:
            with self.torch.inference_mode():
                return forward(x)

        return Work(run, lambda: [run().numpy()])

    def _layout_matters(self, model: str) -> None:
        if model == "mlp" and self.channels_last:
            raise Unsupported("layout is nothing to this row")

    def train(self, model: str, given: dict[str, Any], images: Any, labels: Any) -> Work:
        """Forward, backward, torch.optim.SGD."""
        self._layout_matters(model)
        x, target, loss_of = self._there(images), self.torch.from_numpy(labels), self.torch.nn.functional.cross_entropy

        def begun() -> Callable[[], Any]:
            net = self._model(model, given).train()
            optimizer = self.torch.optim.SGD(net.parameters(), LR, MOMENTUM)
            forward = self._maybe(lambda x: loss_of(net(x), target))

            def step() -> Any:
                optimizer.zero_grad(set_to_none=True)
                loss = forward(x)
                loss.backward()
                optimizer.step()
                return loss

            return step

        def losses() -> list[Any]:
            step = begun()
            return [step().item() for _ in range(CHECKED_STEPS)]

        return Work(begun(), losses)

    def _model(self, model: str, given: dict[str, Any]) -> Any:
        nn = self.torch.nn
        made = {"mlp": _mlp, "lenet": _lenet, "resnet20": _resnet20}[model](self.torch, nn)
        state = {name: self.torch.from_numpy(value.copy()) for name, value in given.items()}
        left = made.load_state_dict(state, strict=False)
        assert not left.unexpected_keys, left.unexpected_keys
        assert all(name.endswith("num_batches_tracked") for name in left.missing_keys), left.missing_keys
        return made.to(memory_format=self.torch.channels_last) if self.channels_last else made


def _mlp(torch: Any, nn: Any) -> Any:
    class Net(nn.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.hidden = nn.ModuleList([nn.Linear(784, 256)])
            self.head = nn.Linear(256, 10)

        def forward(self, x: Any) -> Any:
            return self.head(torch.relu(self.hidden[0](x.flatten(1))))

    return Net()


def _lenet(torch: Any, nn: Any) -> Any:
    class Net(nn.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.conv1, self.conv2 = nn.Conv2d(1, 6, 5, padding=2), nn.Conv2d(6, 16, 5)
            self.fc1, self.fc2, self.fc3 = nn.Linear(400, 120), nn.Linear(120, 84), nn.Linear(84, 10)

        def forward(self, x: Any) -> Any:
            pool = nn.functional.max_pool2d
            x = pool(torch.relu(self.conv1(x)), 2)
            x = pool(torch.relu(self.conv2(x)), 2).flatten(1)
            return self.fc3(torch.relu(self.fc2(torch.relu(self.fc1(x)))))

    return Net()


def _resnet20(torch: Any, nn: Any) -> Any:
    class Block(nn.Module):  # type: ignore[misc]
        def __init__(self, before: int, channels: int, stride: int) -> None:
            super().__init__()
            self.conv1 = nn.Conv2d(before, channels, 3, stride, 1, bias=False)
            self.conv2 = nn.Conv2d(channels, channels, 3, 1, 1, bias=False)
            self.bn1, self.bn2 = nn.BatchNorm2d(channels), nn.BatchNorm2d(channels)
            around = nn.Sequential(nn.Conv2d(before, channels, 1, stride, bias=False), nn.BatchNorm2d(channels))
            self.downsample = around if before != channels else None

        def forward(self, x: Any) -> Any:
            around = x if self.downsample is None else self.downsample(x)
            return torch.relu(self.bn2(self.conv2(torch.relu(self.bn1(self.conv1(x))))) + around)

    class Net(nn.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.conv1, self.bn1 = nn.Conv2d(3, 16, 3, 1, 1, bias=False), nn.BatchNorm2d(16)
            before = 16
            stages: dict[str, list[Any]] = {}
            for name, stride in resnet20_blocks():
                stage = name.split(".")[0]
                channels = before * stride
                stages.setdefault(stage, []).append(Block(before, channels, stride))
                before = channels
            for stage, blocks in stages.items():
                setattr(self, stage, nn.Sequential(*blocks))
            self.fc = nn.Linear(64, 10)

        def forward(self, x: Any) -> Any:
            x = self.layer3(self.layer2(self.layer1(torch.relu(self.bn1(self.conv1(x))))))
            return self.fc(x.mean((2, 3)))

    return Net()
