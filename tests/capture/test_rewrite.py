"""Rewriting: fewer launches, the same bits. Counted on the null backend, computed on those that have values."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
from conftest import BACKENDS, SHAPES, VALUES, find

import portable_nn as pnn
from portable_nn import nn, ops, optim
from portable_nn.capture import Captured
from portable_nn.core import registry
from portable_nn.core.fused import Fused

PLANNED = tuple(name for name in (*VALUES, *SHAPES) if name.partition(":")[0] not in ("null",) and name != "numpy")

# Convolutions of images this small have no transforms on their own.
TRANSFORMED = (*PLANNED, *(f"{name}+winograd" for name in PLANNED if name == "opencl"))


@contextmanager
def planning(named: str) -> Iterator[Any]:
    """Use the backend of a name of `TRANSFORMED`."""
    name, _, winograd = named.partition("+")
    with pnn.use_backend(find(name)) as backend:
        if winograd:
            backend.use_sizes({"cpu.winograd.work": 1, "cpu.winograd.weight_channels": 16, "cpu.winograd.block": 16})
        try:
            yield backend
        finally:
            if winograd:
                backend.use_sizes({})


def arrays(rng: np.random.Generator, *shapes: tuple[int, ...], dtype: Any = np.float32) -> list[Any]:
    return [pnn.asarray(rng.standard_normal(shape).astype(dtype)) for shape in shapes]


def names(captured: Captured) -> Counter[str]:
    (variant,) = captured.variants
    return Counter(step.op.name for step in variant.program.steps if not step.view)


def agree(f: Callable[..., Any], *given: Any, donate: Any = ()) -> Captured:
    """Capture `f`, call it three times, and compare every bit with the plain function; return the capture."""
    captured: Captured = pnn.capture(f, donate=donate)
    for _ in range(3):
        made, wanted = pnn.tree.leaves(captured(*given)), pnn.tree.leaves(f(*given))
        assert len(made) == len(wanted)
        for a, b in zip(made, wanted, strict=True):
            assert a.dtype == b.dtype
            assert pnn.to_numpy(a).tobytes() == pnn.to_numpy(b).tobytes()
    return captured


def with_and_without_feeds(f: Callable[..., Any], given: Any, backend: Any, monkeypatch: pytest.MonkeyPatch) -> tuple[Captured, Captured]:
    """Capture `f` as it is, and where nothing may be fed to a convolution or end in it; compare every bit; return both captures."""
    captured: Captured = pnn.capture(f)
    for _ in range(2):
        made = pnn.tree.leaves(captured(*given))
    with monkeypatch.context() as patch:
        patch.setattr(type(backend), "feeds", lambda self, op, call: False)
        plain: Captured = pnn.capture(f)
        wanted = pnn.tree.leaves(plain(*given))
    for a, b in zip(made, wanted, strict=True):
        assert pnn.to_numpy(a).tobytes() == pnn.to_numpy(b).tobytes()
    return captured, plain


@pytest.fixture(params=PLANNED)
def planned(request: pytest.FixtureRequest) -> Any:
    with pnn.use_backend(find(request.param)) as backend:
        yield backend


def test_a_chain_is_one_call(planned: Any, rng: np.random.Generator) -> None:
    x, y = arrays(rng, (5, 7), (7,))

    def chain(x: Any, y: Any) -> Any:
        z = ops.tanh(x * 2.0 + y)
        return ops.where(z > 0.25, ops.exp(z), -z) / (1.5 + ops.abs(z))

    captured = agree(chain, x, y)
    assert len(names(captured)) == 1
    assert sum(names(captured).values()) == 1


def test_values_read_elsewhere_are_stored(planned: Any, rng: np.random.Generator) -> None:
    x, y = arrays(rng, (4, 6), (4, 6))

    def f(x: Any, y: Any) -> Any:
        a = ops.exp(x) + y
        b = ops.relu(a)
        return a @ b.T, ops.sum(b * a, axis=0), a

    captured = agree(f, x, y)
    assert [n for n in names(captured) if "+" in n] == ["exp+add+relu+multiply"]


def test_calls_move_only_where_what_they_read_is_there(planned: Any, rng: np.random.Generator) -> None:
    x, y = arrays(rng, (6, 6), (6, 6))

    def f(x: Any, y: Any) -> Any:
        a = ops.exp(x)  # read by the product, whose result meets it again
        b = ops.matmul(a, y)
        c = a + b
        d = ops.matmul(c, a)
        return ops.relu(c * d - a)

    agree(f, x, y)


def test_types_meet_in_one_call(planned: Any, rng: np.random.Generator) -> None:
    x, y = arrays(rng, (5, 4), (5, 4))
    (n,) = (pnn.asarray(rng.integers(-5, 5, (5, 4)).astype(np.int32)),)

    def f(x: Any, y: Any, n: Any) -> Any:
        mask = (x > y) & (n > 0)
        m = ops.where(mask, n, n * 3) // 2
        return ops.astype(m, "float32") * x + ops.where(mask, x, y), mask, m

    agree(f, x, y, n)


@pytest.mark.parametrize("dtype", ["float16", "float64", "int64"])
def test_every_dtype_keeps_its_rounding(planned: Any, rng: np.random.Generator, dtype: str) -> None:
    if not planned.supports(np.dtype(dtype)):
        pytest.skip(f"{planned.device} has no {dtype}")
    x, y = (pnn.asarray((rng.standard_normal((5, 9)) * 30).astype(dtype)) for _ in range(2))
    agree(lambda x, y: (x * y + x) * y - x, x, y)


def test_layouts_meet_in_one_call(planned: Any, rng: np.random.Generator) -> None:
    x, y = arrays(rng, (2, 3, 4, 5), (2, 5, 4, 3))
    agree(lambda x, y: ops.relu(ops.permute(x, (0, 3, 2, 1)) * 2.0 + y) - ops.sum(y, axis=0, keepdims=True), x, y)


def test_nothing_is_rounded_away_for_empty_arrays(planned: Any, rng: np.random.Generator) -> None:
    x, y = arrays(rng, (0, 3), (3,))
    agree(lambda x, y: ops.relu(x + y) * 2.0, x, y)


def test_an_operand_passed_on_is_no_call(planned: Any, rng: np.random.Generator) -> None:
    x, y = arrays(rng, (3, 4), (3, 4))
    captured = agree(lambda x, y: pnn.grad(lambda p: ops.sum(ops.exp(p[0] + p[1])))((x, y)), x, y)
    assert "add_grad_x1" not in names(captured)


def test_products_take_the_relu_behind_them(planned: Any, rng: np.random.Generator) -> None:
    x, w, b, images, filters = arrays(rng, (5, 7), (4, 7), (4,), (2, 3, 6, 6), (5, 3, 3, 3))

    def f(x: Any, w: Any, b: Any, images: Any, filters: Any) -> Any:
        kept = ops.linear(x, w, b)
        return ops.relu(ops.linear(x, w)), kept, ops.relu(kept), ops.relu(ops.conv2d(images, filters, padding=1))

    made = names(agree(f, x, w, b, images, filters))
    assert made == {"linear_act": 1, "linear": 1, "relu": 1, "conv2d_act": 1}


class Net(nn.Module):
    def __init__(self, width: int = 8) -> None:
        self.conv, self.norm, self.more = nn.Conv2d(3, width, 3, padding=1), nn.BatchNorm2d(width), nn.Conv2d(width, width, 3, padding=1)
        self.head = nn.Linear(width, 4)

    def __call__(self, x: Any) -> Any:
        x = ops.relu(self.norm(self.conv(x)))
        return self.head(ops.mean(ops.relu(x + self.more(x)), axis=(2, 3)))


def stepping(model: Any, optimizer: Any) -> Callable[..., Any]:
    def step(state: Any, images: Any, labels: Any, lr: float) -> Any:
        params, buffers, remembered = state

        def loss_of(params: Any) -> Any:
            scores, learned = nn.apply(nn.with_state(model, params | buffers), images, train=True)
            return ops.cross_entropy(scores, labels), learned

        (loss, learned), grads = pnn.value_and_grad(loss_of, has_aux=True)(params)
        params, remembered = optimizer.update(params, grads, remembered, lr=lr)
        return (params, {k: learned[k] for k in buffers}, remembered), loss

    return step


def start(model: Any, optimizer: Any) -> Any:
    params = nn.params(model)
    return params, {k: v for k, v in nn.state_dict(model).items() if k not in params}, optimizer.init(params)


OPTIMIZERS = {
    "sgd": (optim.sgd(0.1), "sgd_step"), "momentum": (optim.sgd(0.1, momentum=0.9, weight_decay=1e-3), "sgd_momentum_step"),
    "adamw": (optim.adamw(0.1, decays=optim.weights_only), "adam_step"),
}  # fmt: skip


def masked(captured: Captured) -> list[tuple[int, ...]]:
    """Return the shapes of the ReLU gradients of a rewritten step."""
    (variant,) = captured.variants
    members = [m for step in variant.program.steps for m in (step.op.members if isinstance(step.op, Fused) else (step,))]
    return [m.call.outputs[0].shape for m in members if m.op.name == "relu_grad"]


@pytest.mark.parametrize("settings", [{"kernel_size": 2}, {"kernel_size": 3, "stride": 2, "padding": 1}])
def test_a_relus_gradient_moves_before_the_poolings(planned: Any, rng: np.random.Generator, settings: Any) -> None:
    x = rng.standard_normal((2, 3, 8, 6)).astype(np.float32)
    x[0, 1], x[1, 2, 3, 3] = -1.0, np.nan  # windows of zeros alone, and one whose largest is not a number
    weights = rng.standard_normal((2, 3, 4, 3)).astype(np.float32)

    def step(x: Any, weights: Any) -> Any:
        def loss(x: Any) -> Any:
            return ops.sum(ops.max_pool2d(ops.relu(x), **settings) * weights)

        return pnn.grad(loss)(x)

    captured = agree(step, pnn.asarray(x), pnn.asarray(weights))
    assert masked(captured) == [(2, 3, 4, 3)]


def test_a_relus_gradient_stays_where_its_cotangent_has_other_readers(planned: Any, rng: np.random.Generator) -> None:
    x, weights = arrays(rng, (2, 3, 8, 6), (2, 3, 4, 3))

    def twice(x: Any, weights: Any) -> Any:
        y, largest = ops.relu(x), pnn.grad(lambda y: ops.sum(ops.max_pool2d(y, 2) * weights))
        spread = largest(y)
        return registry.find("relu_grad")(spread, y), spread

    def two_paths(x: Any, weights: Any) -> Any:
        def loss(x: Any) -> Any:
            y = ops.relu(x)
            return ops.sum(ops.max_pool2d(y, 2) * weights) + ops.sum(y * y)

        return pnn.grad(loss)(x)

    def other_windows(x: Any, weights: Any) -> Any:
        y = ops.relu(x)
        index = ops.astype(ops.zeros_like(weights), "uint8")
        return registry.find("relu_grad")(ops.max_pool2d_grad(weights, index, (8, 6), 2), y), ops.max_pool2d(y, 2)

    def another_mask(x: Any, weights: Any) -> Any:
        spread = pnn.grad(lambda y: ops.sum(ops.max_pool2d(y, 2) * weights))(ops.relu(x))
        return registry.find("relu_grad")(spread, ops.relu(-x))

    for step in (twice, two_paths, other_windows, another_mask):
        assert (2, 3, 4, 3) not in masked(agree(step, x, weights))


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_updates_are_one_launch(planned: Any, rng: np.random.Generator, name: str) -> None:
    optimizer, op = OPTIMIZERS[name]
    model = Net().to()
    step = stepping(model, optimizer)
    captured = pnn.capture(step, donate="state")
    ours = theirs = start(model, optimizer)
    for number in range(4):
        (images,), labels = arrays(rng, (4, 3, 6, 6)), pnn.asarray(rng.integers(0, 4, 4))
        (ours, loss), (theirs, wanted) = captured(ours, images, labels, 0.1 / (number + 1)), step(theirs, images, labels, 0.1 / (number + 1))
        # Channels-last, batch norm and convolutions sum in another order: then Adam makes steps of any size of the rounding errors in
        # the gradient of the first bias, which batch norm takes away again. The loss does not know it.
        compared = ((loss,), (wanted,)) if planned.wants_channels_last and name == "adamw" else ((ours, loss), (theirs, wanted))
        for a, b in zip(*map(pnn.tree.leaves, compared), strict=True):
            if isinstance(a, int):
                assert a == b
            elif planned.wants_channels_last:
                np.testing.assert_allclose(pnn.to_numpy(a), pnn.to_numpy(b), rtol=1e-4, atol=1e-5)
            else:
                assert pnn.to_numpy(a).tobytes() == pnn.to_numpy(b).tobytes()
    # Decay touches weights alone, so biases and norms have numbers of their own.
    assert names(captured)[op] == (2 if name == "adamw" else 1)
    (variant,) = captured.variants
    assert sum(s.op.name == op for s in variant.recorded.steps) == len(nn.params(model))


def test_what_depends_on_nothing_is_made_once(planned: Any, rng: np.random.Generator) -> None:
    (x,) = arrays(rng, (5, 7))
    target = pnn.asarray(np.arange(5) % 3)

    def gradient(x: Any) -> Any:
        _, g = pnn.value_and_grad(lambda x: ops.cross_entropy(x, target))(x)
        return g, ops.zeros_like(x), ops.matmul(x, ops.ones_like(x).T)

    captured = agree(gradient, x)
    found = names(captured)
    assert found["ones_like"] == 0
    assert found["zeros_like"] == 1  # handed out, so each call has its own
    (variant,) = captured.variants
    assert len(variant.program.constants) == 1 + len(variant.recorded.constants) + 1


@pytest.mark.skipif("null" not in BACKENDS, reason="counts launches on the null backend")
@pytest.mark.parametrize("device", ["cpu", "gpu"])
def test_launches_of_a_step_are_counted(device: str) -> None:
    null = find("null" if device == "cpu" else "null:gpu")
    with pnn.use_backend(null):
        model, optimizer = Net().to(), optim.sgd(0.1, momentum=0.9)
        step = stepping(model, optimizer)
        captured = pnn.capture(step, donate="state")
        given = (start(model, optimizer), pnn.asarray(np.zeros((4, 3, 6, 6), np.float32)), pnn.asarray(np.zeros(4, np.int64)), 0.1)
        with null.recording() as plain:
            step(*given)
        state = captured(*given)[0]  # copies the state into its place
        with null.recording() as launches:
            captured(state, *given[1:])
        assert len(launches) == len(captured.variants[0].replay.launches)
        assert len(plain) - len(launches) >= 10  # seven updates, a relu, two identities, a join
        assert sum(r.op == "sgd_momentum_step" for r in launches) == 1
        assert sum(r.op == "copy" for r in launches) == 0


def test_memory_is_used_again(planned: Any, rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("portable_nn_kernels.memory.SPARED", 0)
    (x,) = arrays(rng, (64, 64))

    def deep(x: Any) -> Any:
        for _ in range(8):
            x = ops.matmul(x, x) * 0.01
        return x

    replay = agree(deep, x).variants[0].replay
    assert replay.alive_bytes <= replay.arena_bytes < 0.7 * replay.separate_bytes


def test_fused_calls_count_their_operations(planned: Any, rng: np.random.Generator) -> None:
    (x,) = arrays(rng, (3, 5))
    captured = agree(lambda x: ops.exp(x) * 2.0 + x, x)
    (step,) = (s for s in captured.variants[0].program.steps if isinstance(s.op, Fused))
    assert step.op.flops(step.call) == 3 * 15


def test_a_bad_label_still_raises(planned: Any, rng: np.random.Generator) -> None:
    (scores,) = arrays(rng, (3, 4))
    f = pnn.capture(lambda scores, labels: ops.cross_entropy(scores, labels))
    good, wrong = pnn.asarray(np.array([0, 1, 2])), pnn.asarray(np.array([0, 9, 2]))
    for labels in (good, good):
        pnn.to_numpy(f(scores, labels))
    with pytest.raises(pnn.errors.DeviceValueError, match="cross_entropy"):
        pnn.to_numpy(f(scores, wrong))
    pnn.to_numpy(f(scores, good))


def test_a_random_draw_is_not_repeated(planned: Any) -> None:
    key = pnn.random_key(3)
    f = pnn.capture(lambda n: ops.uniform(ops.fold_in(key, n), (8,)))
    drawn = [pnn.to_numpy(f(n)) for n in range(4)]
    for n, u in enumerate(drawn):
        assert u.tobytes() == pnn.to_numpy(ops.uniform(ops.fold_in(key, n), (8,))).tobytes()


def test_a_replay_can_be_profiled(rng: np.random.Generator) -> None:
    if "opencl" not in VALUES:
        pytest.skip("the clock of opencl's queue")
    backend: Any = find("opencl")
    with pnn.use_backend(backend):
        (x,) = arrays(rng, (16, 16))
        f = agree(lambda x: ops.relu(ops.matmul(x, x)) + 1.0, x)
        with backend.profiling() as times:
            f(x)
        assert [t.op for t in times] == [launch.op for launch in f.variants[0].replay.launches]
        assert all(t.bytes > 0 for t in times)


def test_what_ends_in_a_mapping_takes_more(planned: Any, rng: np.random.Generator) -> None:
    x, around, w, b = arrays(rng, (4, 3, 5, 5), (4, 3, 5, 5), (3,), (3,))

    def f(x: Any, around: Any, w: Any, b: Any) -> Any:
        y, mean, var = ops.batch_norm_train(x, w, b)
        z = ops.relu(y + around)
        return z, mean, ops.relu(ops.batch_norm(x, mean, var, w, b)) * 2.0

    captured = agree(f, x, around, w, b)
    assert names(captured) == {"batch_norm_train+add+relu": 1, "batch_norm+relu+multiply": 1}


def test_a_value_a_head_stores_for_others_is_stored(planned: Any, rng: np.random.Generator) -> None:
    (x,) = arrays(rng, (4, 3, 5, 5))

    def f(x: Any) -> Any:
        y, mean, _ = ops.batch_norm_train(x)
        centred = y * ops.reshape(mean, (3, 1, 1))  # reads what another launch of the same call writes
        return ops.relu(y), y, centred

    agree(f, x)


def test_a_state_is_no_other_argument(planned: Any, rng: np.random.Generator) -> None:
    step = pnn.capture(lambda state, x: [state[0] + x], donate="state")
    (x,) = arrays(rng, (3,))
    state = step([x], x)
    with pytest.raises(pnn.errors.StaleArray, match="once more as another argument; copy it"):
        step(state, state[0])
    assert pnn.to_numpy(step(state, x)[0]).tobytes() == pnn.to_numpy(x + x + x).tobytes()
