"""The rows of the table: what is computed, from which numbers, how much work it is. Every peer makes its operands from here."""

from __future__ import annotations

import zlib
from dataclasses import dataclass, field
from math import prod
from typing import Any

import numpy as np

Arrays = dict[str, np.ndarray[Any, Any]]

# Elements read and written per element of x, at least: forward, and forward with backward.
_TRAFFIC = {
    "relu": (2, 5), "gelu": (2, 5), "softmax": (2, 5), "layer_norm": (2, 5), "batch_norm": (2, 5), "cross_entropy": (1, 3),
    "max_pool": (1.25, 2.5), "copy": (2, 2),
}  # fmt: skip
_SMALL, _LARGE, _MAPS = (64, 1024), (8192, 1024), (32, 64, 32, 32)
_CLASSES = 10
SHAPES = {"mlp": (1, 28, 28), "lenet": (1, 28, 28), "resnet20": (3, 32, 32)}
_MULTIPLICATIONS = {"mlp": 784 * 256 + 256 * 10, "lenet": 416_520, "resnet20": 40_813_184}  # per image, forward


@dataclass(frozen=True)
class Row:
    """One row.

    Parameters
    ----------
    name : str
    family : str
        gemm, gemv, conv, op, train, infer, start or memory: what a peer must know to do it.
    about : dict
        Sizes and settings, of the family.
    flops, bytes : float
        Operations counted, and bytes that must move at least (0: not counted).
    unit : str
        What its figures are shown in: GFLOP/s, GB/s, images/s, us, s or MiB.
    """

    name: str
    family: str
    about: dict[str, Any] = field(default_factory=dict)
    flops: float = 0
    bytes: float = 0
    unit: str = "us"

    @property
    def backward(self) -> bool:
        """Tell whether gradients belong to it."""
        return bool(self.about.get("backward"))

    def figure(self, value: float) -> float:
        """Return what is shown of a measured value (seconds; MiB of memory)."""
        if self.unit in ("s", "MiB"):
            return value
        return {"GFLOP/s": self.flops / 1e9, "GB/s": self.bytes / 1e9, "images/s": self.about.get("batch", 1)}.get(self.unit, 0.0) / value if self.unit != "us" else value * 1e6

    @property
    def less_is_better(self) -> bool:
        """Tell whether small figures are the good ones."""
        return self.unit in ("us", "s", "MiB")

    def arrays(self) -> Arrays:
        """Return the operands by name; the same in every process."""
        rng = np.random.default_rng(zlib.crc32(self.name.encode()))
        about = self.about

        def drawn(*shape: int, scale: float = 1.0) -> np.ndarray[Any, Any]:
            return rng.standard_normal(shape, np.float32) * np.float32(scale)

        if self.family in ("gemm", "gemv"):
            m, n, k = about["m"], about["n"], about["k"]
            return {"a": drawn(m, k), "b": drawn(k, n, scale=k**-0.5) if n > 1 else drawn(k, scale=k**-0.5)}
        if self.family == "conv":
            x, w = about["x"], about["w"]
            made = {"x": drawn(*x), "w": drawn(*w, scale=prod(w[1:]) ** -0.5)}
            return made | ({"g": drawn(x[0], w[0], *x[2:])} if self.backward else {})
        if self.family == "op":
            return self._op_arrays(drawn)
        batch = about["batch"]
        images = drawn(batch, *SHAPES[about["model"]])
        return {"images": images, "labels": np.arange(batch, dtype=np.int64) % _CLASSES}

    def _op_arrays(self, drawn: Any) -> Arrays:
        op, shape = self.about["op"], self.about["shape"]
        made = {"x": drawn(*shape)}
        if op == "cross_entropy":
            made["labels"] = np.arange(shape[0], dtype=np.int64) * 7 % shape[1]
            return made | ({"g": np.ones((), np.float32)} if self.backward else {})
        if op in ("layer_norm", "batch_norm"):
            channels = shape[-1] if op == "layer_norm" else shape[1]
            made |= {"w": 1 + drawn(channels, scale=0.1), "b": drawn(channels, scale=0.1)}
        if self.backward:
            made["g"] = drawn(*shape) if op != "max_pool" else drawn(*shape[:2], shape[2] // 2, shape[3] // 2)
        return made


def weights(model: str) -> Arrays:
    """Return the parameters and running statistics of a model by PyTorch's names; He's scale, the same in every process."""
    rng = np.random.default_rng(7)
    made: Arrays = {}

    def layer(name: str, *shape: int, bias: bool = True) -> None:
        made[f"{name}.weight"] = rng.standard_normal(shape, np.float32) * np.float32((2 / prod(shape[1:])) ** 0.5)
        if bias:
            made[f"{name}.bias"] = np.zeros(shape[0], np.float32)

    def norm(name: str, channels: int) -> None:
        for what, value in (("weight", 1), ("bias", 0), ("running_mean", 0), ("running_var", 1)):
            made[f"{name}.{what}"] = np.full(channels, value, np.float32)

    if model == "mlp":
        layer("hidden.0", 256, 784)
        layer("head", _CLASSES, 256)
    elif model == "lenet":
        layer("conv1", 6, 1, 5, 5)
        layer("conv2", 16, 6, 5, 5)
        layer("fc1", 120, 400)
        layer("fc2", 84, 120)
        layer("fc3", _CLASSES, 84)
    else:
        layer("conv1", 16, 3, 3, 3, bias=False)
        norm("bn1", 16)
        for stage, (before, channels) in enumerate(((16, 16), (16, 32), (32, 64)), 1):
            for block in range(3):
                name, into = f"layer{stage}.{block}", before if block == 0 else channels
                layer(f"{name}.conv1", channels, into, 3, 3, bias=False)
                norm(f"{name}.bn1", channels)
                layer(f"{name}.conv2", channels, channels, 3, 3, bias=False)
                norm(f"{name}.bn2", channels)
                if into != channels:
                    layer(f"{name}.downsample.0", channels, into, 1, 1, bias=False)
                    norm(f"{name}.downsample.1", channels)
        layer("fc", _CLASSES, 64)
    return made


def resnet20_blocks() -> list[tuple[str, int]]:
    """Return name and stride of ResNet-20's blocks, for peers that write the model out."""
    return [(f"layer{stage}.{block}", 2 if stage > 1 and block == 0 else 1) for stage in (1, 2, 3) for block in range(3)]


def _gemm(m: int, n: int, k: int) -> Row:
    name = f"gemm {m}" if m == n == k else f"gemm {m}x{k}x{n}"
    return Row(name, "gemm", {"m": m, "n": n, "k": k}, 2.0 * m * n * k, 4.0 * (m * k + k * n + m * n), "GFLOP/s")


def _convs() -> list[Row]:
    shapes = {
        "conv 3x3 64->64": ((32, 64, 32, 32), (64, 64, 3, 3), 1),
        "conv 3x3 3->32": ((32, 3, 32, 32), (32, 3, 3, 3), 1),
        "conv 1x1 64->256": ((32, 64, 32, 32), (256, 64, 1, 1), 1),
        "depthwise 3x3 128": ((32, 128, 32, 32), (128, 1, 3, 3), 128),
    }
    made = []
    for name, (x, w, groups) in shapes.items():
        y = x[0] * w[0] * x[2] * x[3]
        for backward in (False, True):
            flops = 2.0 * y * prod(w[1:]) * (3 if backward else 1)
            about = {"x": x, "w": w, "groups": groups, "padding": w[2] // 2, "backward": backward}
            moved = 4.0 * (prod(x) + y + prod(w)) * (3 if backward else 1)
            made.append(Row(f"{name} {'fwd+bwd' if backward else 'fwd'}", "conv", about, flops, moved, "GFLOP/s"))
    return made


def _ops() -> list[Row]:
    wide = dict.fromkeys(("softmax", "layer_norm", "gelu", "cross_entropy"), (_SMALL, _LARGE))
    sizes = {**wide, "relu": (_SMALL, _LARGE, _MAPS), "batch_norm": (_MAPS,), "max_pool": (_MAPS,), "copy": (_SMALL, _LARGE)}
    made = []
    for op, shapes in sizes.items():
        for shape in shapes:
            for backward in (False, True)[: 1 if op == "copy" else 2]:
                moved = 4 * prod(shape) * _TRAFFIC[op][backward]
                name = f"{op} {'x'.join(map(str, shape))} {'fwd+bwd' if backward else 'fwd'}"
                made.append(Row(name, "op", {"op": op, "shape": shape, "backward": backward}, 0, moved, "GB/s"))
    return made


def _models() -> list[Row]:
    made = []
    for model, batch in (("mlp", 128), ("lenet", 64), ("resnet20", 32), ("resnet20", 128)):
        about = {"model": model, "batch": batch}
        made.append(Row(f"train {model} b{batch}", "train", about, 6.0 * batch * _MULTIPLICATIONS[model], 0, "images/s"))
    made += [Row(f"infer {model} b1", "infer", {"model": model, "batch": 1}, 2.0 * _MULTIPLICATIONS[model], 0, "us") for model in SHAPES]
    start = {"model": "resnet20", "batch": 128}
    made += [Row(f"start resnet20 b128 {how}", "start", {**start, "cold": how == "cold"}, unit="s") for how in ("cold", "warm")]
    return [*made, Row("peak memory resnet20 b128", "memory", start, unit="MiB")]


ROWS: tuple[Row, ...] = (
    _gemm(256, 256, 256), _gemm(1024, 1024, 1024), _gemm(2048, 2048, 2048), _gemm(64, 1024, 4096),
    Row("gemv 4096", "gemv", {"m": 4096, "n": 1, "k": 4096}, 2.0 * 4096**2, 4.0 * 4096**2, "GB/s"),
    *_convs(), *_ops(), *_models(),
)  # fmt: skip


def row(name: str) -> Row:
    """Return the row of a name."""
    return next(r for r in ROWS if r.name == name)
