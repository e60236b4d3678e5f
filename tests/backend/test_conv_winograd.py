"""3x3 convolutions with transforms, on images small enough for every dtype: tiles, bands, batches, blocks of channels, and what is not finite."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from conftest import BACKENDS
from conftest import find as find_backend

import portable_nn as pnn
from portable_nn import ops
from portable_nn.core import dtypes
from portable_nn.core.geometry import channels_last
from portable_nn.core.registry import find
from portable_nn.core.samples import A, Sample
from portable_nn.testing.check import check_op
from portable_nn_kernels.plans import conv_winograd

pytestmark = pytest.mark.skipif("opencl" not in BACKENDS, reason="kernels in OpenCL alone")
DTYPES = ["float32", "float64", "float16", "bfloat16"]
_ALWAYS = {"cpu.winograd.work": 1, "cpu.winograd.weight_channels": 16}
SIZES = {
    "usual": _ALWAYS,
    "small": {**_ALWAYS, "cpu.conv.work": 1, "cpu.winograd.tiles": 4, "cpu.winograd.weight_tiles": 5, "cpu.winograd.block": 16},
    "one work-item": {**_ALWAYS, "cpu.conv.work": 1 << 40, "cpu.winograd.tiles": 12, "cpu.winograd.weight_tiles": 12},
}


def last(*shape: int) -> A:
    return A(shape, view="channels_last")


SAMPLES = {
    "conv2d": (
        Sample("odd", (last(2, 19, 7, 9), A((37, 19, 3, 3)), A((37,))), {"padding": 1}),
        Sample("even", (last(3, 16, 8, 6), A((16, 16, 3, 3))), {"padding": 1}),
        Sample("asymmetric", (last(2, 33, 5, 4), A((70, 33, 3, 3)), A((70,))), {"padding": ((0, 2), (3, 1))}),
        Sample("no padding", (last(1, 16, 3, 5), A((17, 16, 3, 3), view="channels_last"))),
        Sample("one pixel", (last(5, 16, 1, 1), A((16, 16, 3, 3))), {"padding": 1}),
        Sample("small images", (last(9, 16, 4, 4), A((32, 16, 3, 3), view="reversed"), A((32,), view="reversed")), {"padding": 1}),
        Sample("groups", (last(2, 64, 5, 6), A((48, 32, 3, 3), view="strided")), {"padding": 1, "groups": 2}),
    ),
    "conv2d_act": tuple(
        Sample(name, (last(2, 16, 5, 6), A((24, 16, 3, 3)), A((24,))), {"padding": 1, "activation": name})
        for name in ("relu", "sigmoid", "tanh", "silu", "gelu")
    ),
    "conv2d_input_grad": (
        Sample("odd", (last(2, 19, 7, 9), A((19, 37, 3, 3)), (7, 9)), {"padding": 1}),
        Sample("even", (last(3, 16, 8, 6), A((16, 16, 3, 3), view="channels_last"), (8, 6)), {"padding": 1}),
        Sample("asymmetric", (last(2, 33, 6, 5), A((33, 70, 3, 3)), (6, 3)), {"padding": ((0, 2), (3, 1))}),
        Sample("no padding", (last(9, 16, 1, 3), A((16, 20, 3, 3), view="reversed"), (3, 5))),
        Sample("groups", (last(2, 48, 5, 6), A((48, 32, 3, 3)), (5, 6)), {"padding": 1, "groups": 2}),
    ),
    "conv_transpose2d": (Sample("bias", (last(2, 16, 5, 6), A((16, 36, 3, 3)), A((36,))), {"padding": 1}),),
    "conv2d_weight_grad": (
        Sample("odd", (last(2, 19, 7, 9), last(2, 37, 7, 9), 3), {"padding": 1}),
        Sample("even", (last(3, 32, 8, 6), last(3, 16, 8, 6), 3), {"padding": 1}),
        Sample("asymmetric", (last(2, 33, 6, 3), last(2, 70, 6, 5), 3), {"padding": ((0, 2), (3, 1))}),
        Sample("cotangents in C order", (last(2, 16, 5, 7), A((2, 24, 3, 5)), 3)),
        Sample("one pixel", (last(5, 16, 1, 1), last(5, 16, 1, 1), 3), {"padding": 1}),
        Sample("small images", (last(9, 16, 4, 4), A((9, 20, 4, 4), view="reversed"), 3), {"padding": 1}),
        Sample("a last block that is no pair of vectors", (last(1, 112, 4, 3), last(1, 80, 4, 3), 3), {"padding": 1}),
        Sample("groups", (last(2, 64, 5, 6), last(2, 48, 5, 6), 3), {"padding": 1, "groups": 2}),
    ),
}  # fmt: skip


@pytest.fixture(params=SIZES)
def device(request: pytest.FixtureRequest) -> Iterator[Any]:
    there = find_backend("opencl")
    if there.profile.shape != "cpu":
        pytest.skip("kernels of GPUs have no such transforms")
    there.use_sizes(SIZES[request.param])
    yield there
    there.use_sizes({})


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", SAMPLES)
def test_samples(device: Any, name: str, dtype: str, monkeypatch: pytest.MonkeyPatch) -> None:
    op = find(name)
    taken: list[str] = []
    for kind in ("convolution", "weight_grad"):
        plan = getattr(conv_winograd, kind)
        monkeypatch.setattr(conv_winograd, kind, lambda *a, plan=plan, **k: taken.append("") or plan(*a, **k))
    for sample in SAMPLES[name]:
        taken.clear()
        check_op(op, sample, dtype, device)
        assert taken, sample.name


def compared(f: Callable[..., Any], device: Any, *given: Any) -> tuple[Any, Any]:
    """Return what the device makes of images channels-last, and what NumPy's reference makes."""

    def put(x: Any) -> Any:
        made = device.allocate(channels_last(x.shape, dtypes.float32))
        device.write(made, pnn.asarray(x, backend=device))
        return made

    made = pnn.to_numpy(f(*map(put, given)))
    with np.errstate(invalid="ignore", over="ignore"):
        return made, pnn.to_numpy(f(*(pnn.asarray(x, backend=find_backend("numpy")) for x in given)))


def images(rng: np.random.Generator, *shape: int) -> Any:
    return rng.standard_normal(shape).astype(np.float32)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("groups", [1, 2])
def test_what_is_not_finite_keeps_to_its_windows(device: Any, rng: np.random.Generator, bad: float, groups: int) -> None:
    x, w = images(rng, 2, 36, 9, 8), np.abs(images(rng, 42, 36 // groups, 3, 3)) + np.float32(0.1)
    for place in ((0, 3, 3, 3), (0, 35, 1, 6), (1, 0, 8, 0)):
        x[place] = bad
    made, wanted = compared(lambda x, w: ops.conv2d(x, w, padding=1, groups=groups), device, x, w)
    assert np.isfinite(wanted).sum() > wanted.size // 2
    np.testing.assert_allclose(made, wanted, rtol=1e-4, atol=1e-4)
    w = np.abs(images(rng, 36, 42 // groups, 3, 3)) + np.float32(0.1)
    made, wanted = compared(lambda g, w: ops.conv2d_input_grad(g, w, (9, 8), padding=1, groups=groups), device, x, w)
    assert np.isfinite(wanted).sum() > wanted.size // 2
    np.testing.assert_allclose(made, wanted, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("of_image", [False, True])
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_weight_gradient_that_is_not_finite(device: Any, rng: np.random.Generator, bad: float, of_image: bool) -> None:
    """The last row and column of an image are read by the last taps alone, without padding."""
    x, g = images(rng, 3, 20, 7, 7), np.abs(images(rng, 3, 17, 5, 5)) + np.float32(0.1)
    (x if of_image else g)[0, 3, -1, -1] = bad
    made, wanted = compared(lambda x, g: ops.conv2d_weight_grad(x, g, (3, 3)), device, x, g)
    assert np.isfinite(wanted).any()
    assert not np.isfinite(wanted).all()
    np.testing.assert_allclose(made, wanted, rtol=1e-4, atol=1e-4)


def test_large_numbers_overflow_only_where_their_sums_do(device: Any, rng: np.random.Generator) -> None:
    x, w = images(rng, 1, 16, 6, 6), rng.standard_normal((16, 16, 3, 3)).astype(np.float32) * np.float32(1e-3)
    x[0, 2, 1:4, 1:4] = 3e38 * np.sign(x[0, 2, 1:4, 1:4])
    made, wanted = compared(lambda x, w: ops.conv2d(x, w, padding=1), device, x, w)
    assert np.isfinite(wanted).all()
    np.testing.assert_allclose(made, wanted, rtol=1e-4, atol=1e33)
    made, wanted = compared(lambda x, g: ops.conv2d_weight_grad(x, g, (3, 3), padding=1), device, x, images(rng, 1, 16, 6, 6) * np.float32(1e-3))
    assert np.isfinite(wanted).all()
    np.testing.assert_allclose(made, wanted, rtol=1e-4, atol=1e33)
