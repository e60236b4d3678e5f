"""Capture: what is recorded, what a recording is tied to, and what is refused; on every backend that has values."""

from __future__ import annotations

from collections import OrderedDict, namedtuple
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from conftest import VALUES, find

import portable_nn as pnn
from portable_nn import nn, ops, optim
from portable_nn.core.backend import Backend
from portable_nn.core.errors import ArgumentError, CaptureError, StaleArray


@pytest.fixture(params=VALUES)
def backend(request: pytest.FixtureRequest) -> Iterator[Backend]:
    with pnn.use_backend(find(request.param)) as made:
        yield made


def draw(rng: np.random.Generator, *shape: int) -> Any:
    return pnn.asarray(rng.standard_normal(shape, dtype=np.float32))


def same(a: Any, b: Any) -> bool:
    return pnn.to_numpy(a).tobytes() == pnn.to_numpy(b).tobytes()


def test_results_are_those_of_the_function(backend: Backend, rng: np.random.Generator) -> None:
    def f(x: Any, y: Any) -> Any:
        return ops.softmax(ops.relu(x @ y) * 2.0 + 1.0, -1), x.T

    captured = pnn.capture(f)
    for _ in range(4):
        x, y = draw(rng, 5, 7), draw(rng, 7, 3)
        for a, b in zip(captured(x, y), f(x, y), strict=True):
            assert a.shape == b.shape
            assert same(a, b)
    assert len(captured.variants) == 1


Pair = namedtuple("Pair", "first second")


def test_trees_keep_their_form(backend: Backend, rng: np.random.Generator) -> None:
    @pnn.capture
    def f(tree: Any) -> Any:
        return {"pair": Pair(tree["a"][0] + 1.0, None), "list": [tree["a"][1], "word"], "ordered": OrderedDict(n=tree["n"] * 2), "flag": True}

    for n in (3, 4, 5):
        x, y = draw(rng, 2), draw(rng, 3)
        made = f({"a": (x, y), "n": n})
        assert type(made["pair"]) is Pair
        assert same(made["pair"].first, x + 1.0)
        assert made["pair"].second is None
        assert same(made["list"][0], y)
        assert made["list"][1] == "word"
        assert type(made["ordered"]) is OrderedDict
        assert made["ordered"]["n"] == 2 * n
        assert made["flag"] is True


def test_modules_pass_through(backend: Backend, rng: np.random.Generator) -> None:
    model = nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2)).to()
    predict = pnn.capture(lambda model, x: (model(x), model))
    for _ in range(3):
        x = draw(rng, 5, 4)
        y, back = predict(model, x)
        assert same(y, model(x))
        assert type(back) is nn.Sequential
        assert same(back(x), y)


def test_numbers_are_inputs(backend: Backend, rng: np.random.Generator) -> None:
    def f(x: Any, lr: float, step: int) -> Any:
        half = lr / 2
        return x * lr + (1.0 - 0.9 ** (step + 1)), half, -step % 7, abs(lr) // 0.25, 2 - step

    captured = pnn.capture(f)
    x = draw(rng, 3)
    for lr, step in ((0.5, 0), (0.25, 1), (-1e30, 2), (0.1, 1000)):
        made, wanted = captured(x, lr, step), f(x, lr, step)
        assert same(made[0], wanted[0])
        assert made[1:] == wanted[1:]
        assert [type(n) for n in made[1:]] == [type(n) for n in wanted[1:]]
    assert len(captured.variants) == 1


def test_numbers_whose_value_is_taken_record_anew(backend: Backend, rng: np.random.Generator) -> None:
    def f(x: Any, axis: int, limit: float) -> Any:
        total = ops.sum(x, axis=axis)
        return total if limit > 1 else total * 2.0

    captured = pnn.capture(f)
    x = draw(rng, 3, 3)
    for axis, limit in ((0, 0.5), (1, 0.5), (0, 0.5), (1, 2.0), (1, 0.5)):
        assert same(captured(x, axis, limit), f(x, axis, limit))
    assert len(captured.variants) == 3
    for n in range(5):
        captured(x, 0, 3.0 + n)
    with pytest.raises(CaptureError, match=r"takes the value of axis, limit \(a setting such as an axis"):
        captured(x, 0, 9.0)


def test_one_and_true_and_one_point_zero_differ(backend: Backend) -> None:
    f = pnn.capture(lambda x, n: x * n if not isinstance(n, bool) else ops.logical_not(x > 0))
    x = pnn.asarray(np.arange(3, dtype=np.float32))
    assert pnn.to_numpy(f(x, 1)).tolist() == [0, 1, 2]
    assert pnn.to_numpy(f(x, True)).tolist() == [True, False, False]
    assert pnn.to_numpy(f(x, 1.0)).tolist() == [0, 1, 2]


def test_another_shape_dtype_or_tree_records_anew(backend: Backend, rng: np.random.Generator) -> None:
    f = pnn.capture(lambda t: t["x"] * 2)
    small, large = draw(rng, 2), draw(rng, 4)
    assert same(f({"x": small}), small * 2)
    assert same(f({"x": large}), large * 2)
    assert same(f({"x": large, "y": 1}), large * 2)
    ints = pnn.asarray(np.arange(4, dtype=np.int32))
    assert same(f({"x": ints}), ints * 2)
    assert same(f({"x": ints[::2]}), ints[::2] * 2)
    assert len(f.variants) == 5


def test_a_settled_form_lets_no_other_pass(backend: Backend, rng: np.random.Generator) -> None:
    def f(x: Any, options: Any) -> Any:
        parts = options["parts"]
        scaled = x * parts[0] if type(parts[0]) is not bool else x - 1.0
        return {"y": scaled if options["flag"] else ops.negative(scaled), "kind": type(parts).__name__, "keys": tuple(options), "last": parts[-1]}

    captured = pnn.capture(f)
    x = draw(rng, 3, 4)
    settled: dict[str, Any] = {"parts": (2.0, None), "flag": True}
    kept = []
    others: list[tuple[Any, Any]] = [
        (x, {"parts": [2.0, None], "flag": True}), (x, {"parts": (2.0, None), "flag": False}), (x, {"parts": (2, None), "flag": True}),
        (x, {"parts": (True, None), "flag": True}), (x, {"parts": (2.0, 3), "flag": True}), (x, {"parts": (2.0,), "flag": True}),
        (x, {"flag": True, "parts": (2.0, None)}), (x, OrderedDict(settled)), (draw(rng, 4, 3).T, settled), (draw(rng, 4, 3), settled),
        (ops.astype(x, np.float16), settled), (x, {**settled, "more": None}),
    ]  # fmt: skip
    for other, options in others:
        for _ in range(3):
            y = draw(rng, 3, 4)
            kept.append((captured(y, settled)["y"], f(y, settled)["y"]))
        made, wanted = captured(other, options), f(other, options)
        assert same(made["y"], wanted["y"])
        assert made["y"].dtype == wanted["y"].dtype
        assert [made[k] for k in ("kind", "keys", "last")] == [wanted[k] for k in ("kind", "keys", "last")]
    assert len(captured.variants) == 1 + len(others)
    assert all(same(a, b) for a, b in kept)  # no replay wrote over what another gave
    captured.forget()
    captured(x, settled)
    assert len(captured.variants) == 1


def test_a_settled_form_lets_no_other_backend_pass(rng: np.random.Generator) -> None:
    if "opencl" not in VALUES:
        pytest.skip("two backends with arrays of their own are needed: numpy and opencl")
    f = pnn.capture(lambda x, y: x + y)
    a, b = (rng.standard_normal((2, 3), dtype=np.float32) for _ in range(2))
    with pnn.use_backend(find("opencl")):
        there = pnn.asarray(a), pnn.asarray(b)
    with pnn.use_backend(find("numpy")):
        here = pnn.asarray(a), pnn.asarray(b)
        for _ in range(3):
            assert same(f(*there), a + b)
            assert same(f(*here), a + b)
        assert len(f.variants) == 2
        with pytest.raises(ArgumentError, match="were given to one step"):
            f(there[0], here[1])


def test_settings_of_modules_belong_to_the_form(backend: Backend, rng: np.random.Generator) -> None:
    f = pnn.capture(lambda model, x: model(x))
    x = draw(rng, 4, 3) * 0.01
    for eps in (1e-5, 1.0):
        model = nn.LayerNorm(3, eps).to()
        assert same(f(model, x), model(x))


def test_constants_are_followed(backend: Backend, rng: np.random.Generator) -> None:
    weight = draw(rng, 3)
    f = pnn.capture(lambda x: x * weight + pnn.asarray([1.0, 2.0, 3.0]))
    for _ in range(3):
        x = draw(rng, 3)
        assert same(f(x), x * weight + pnn.asarray([1.0, 2.0, 3.0]))
    weight[...] = weight * 2.0  # written in place: a replay reads what is there
    assert same(f(x), x * weight + pnn.asarray([1.0, 2.0, 3.0]))


def test_constants_that_change_raise(backend: Backend, rng: np.random.Generator) -> None:
    weights = [draw(rng, 3), draw(rng, 3)]
    f = pnn.capture(lambda x: ops.multiply(x, weights[0]))
    x = draw(rng, 3)
    f(x)
    weights.reverse()
    with pytest.raises(CaptureError, match=r"multiply \(call 1 of the step\) uses another constant as x2 than the first time"):
        f(x)
    numbers = iter([1.0, 2.0])
    g = pnn.capture(lambda x: ops.add(x, next(numbers)))
    g(x)
    with pytest.raises(CaptureError, match=r"add .* as x2 .*1\.0, then 2\.0.*argument of the step"):
        g(x)


def test_other_work_the_second_time_raises(backend: Backend, rng: np.random.Generator) -> None:
    seen: list[int] = []

    def f(x: Any) -> Any:
        seen.append(1)
        return ops.sqrt(x) if len(seen) > 1 else ops.exp(x)

    captured = pnn.capture(f)
    x = draw(rng, 3)
    captured(x)
    with pytest.raises(CaptureError, match=r"other work the second time: call 1 was exp\(\(3,\).* and is sqrt\(\(3,\)"):
        captured(x)


@pytest.mark.parametrize("read", [float, bool, int, pnn.to_numpy, lambda x: x.item()], ids=["float", "bool", "int", "to_numpy", "item"])
def test_reading_a_value_raises(backend: Backend, read: Any) -> None:
    f = pnn.capture(lambda x: read(ops.sum(x)))
    with pytest.raises(CaptureError, match=r"captured step asks for .* known only when it runs; return the array"):
        f(pnn.asarray(np.ones(3, np.float32)))


def test_reading_a_constant_raises(backend: Backend) -> None:
    weight = pnn.asarray(np.ones(3, np.float32))
    f = pnn.capture(lambda x: x * float(pnn.to_numpy(weight)[0]))
    with pytest.raises(CaptureError, match="asks for the values of an array of shape"):
        f(weight)


def test_writing_into_an_array_raises(backend: Backend) -> None:
    def f(x: Any) -> Any:
        x[0] = 1.0
        return x

    with pytest.raises(CaptureError, match=r"writes into an array of shape .*; compute a new array"):
        pnn.capture(f)(pnn.asarray(np.ones(3, np.float32)))


def test_numpy_functions_raise(backend: Backend) -> None:
    f = pnn.capture(lambda x: np.asarray(x))
    with pytest.raises(ArgumentError, match="does not turn into a NumPy array by itself"):
        f(pnn.asarray(np.ones(3, np.float32)))


def test_arrays_of_a_recording_do_not_leak(backend: Backend) -> None:
    kept: list[Any] = []

    def f(x: Any) -> Any:
        kept.append(x * 2.0)
        return kept[0] + 1.0

    captured = pnn.capture(f)
    x = pnn.asarray(np.ones(3, np.float32))
    captured(x)
    with pytest.raises(StaleArray, match="must not keep its arrays"):
        captured(x)
    with pytest.raises(StaleArray, match="must not keep its arrays"):
        kept[0] + 1.0


def test_what_cannot_be_hashed_raises(backend: Backend) -> None:
    class Box:
        __hash__ = None  # type: ignore[assignment]

    f = pnn.capture(lambda x, box: x)
    with pytest.raises(CaptureError, match=r"Box was given, which is neither an array.*frozen dataclass"):
        f(pnn.asarray(np.ones(3, np.float32)), Box())


def test_traced_arrays_raise(backend: Backend) -> None:
    f = pnn.capture(lambda x: x * 2.0)
    with pytest.raises(CaptureError, match="capture the function that opens the tape"):
        pnn.grad(lambda x: ops.sum(f(x)))(pnn.asarray(np.ones(3, np.float32)))


def test_donate_names_a_parameter() -> None:
    with pytest.raises(ArgumentError, match="donate names 'stat', but the parameters are state, x"):
        pnn.capture(lambda state, x: state, donate="stat")


def test_donate_needs_a_counterpart(backend: Backend, rng: np.random.Generator) -> None:
    f = pnn.capture(lambda state, x: x, donate="state")
    with pytest.raises(CaptureError, match="donate names 'state', but neither the result nor a part of it has the form"):
        f({"w": draw(rng, 3)}, draw(rng, 3))


def test_captures_nest(backend: Backend, rng: np.random.Generator) -> None:
    inner = pnn.capture(lambda x: x * 2.0)
    outer = pnn.capture(lambda x: inner(x) + 1.0)
    for _ in range(3):
        x = draw(rng, 3)
        assert same(outer(x), x * 2.0 + 1.0)
    assert not inner.variants


def test_an_argument_given_twice_is_two(backend: Backend, rng: np.random.Generator) -> None:
    f = pnn.capture(lambda x, y: x - y)
    x, y = draw(rng, 3), draw(rng, 3)
    assert not pnn.to_numpy(f(x, x)).any()
    assert same(f(x, y), x - y)


def test_a_step_without_arrays(backend: Backend) -> None:
    f = pnn.capture(lambda n: ops.add(ops.ones((2, 2)), n))
    for n in (1.0, 2.0, 3.0):
        assert pnn.to_numpy(f(n)).tolist() == [[1 + n] * 2] * 2


def test_equal_calls_are_made_once_and_idle_ones_not_at_all(backend: Backend, rng: np.random.Generator) -> None:
    def f(x: Any) -> Any:
        ops.tanh(x)
        return ops.matmul(ops.exp(x), ops.exp(x)) + ops.exp(x) * 1.0 + ops.exp(x) * 1

    captured = pnn.capture(f)
    x = draw(rng, 3, 3)
    assert same(captured(x), f(x))
    (variant,) = captured.variants
    assert sum(s.op.name == "exp" for s in variant.recorded.steps) == 4
    assert sum(s.op.name == "tanh" for s in variant.recorded.steps) == 1
    names = " ".join(s.op.name for s in variant.program.steps)
    assert names.count("exp") == 1
    assert "tanh" not in names


def training(step: Any, model: Any, optimizer: Any, seed: int, steps: int = 4) -> list[Any]:
    """Train a few steps; return what came out of each."""
    drawn = np.random.default_rng(seed)
    params = nn.params(model)
    state = (params, {k: v for k, v in nn.state_dict(model).items() if k not in params}, optimizer.init(params))
    seen = []
    for number in range(steps):
        images, labels = pnn.asarray(drawn.standard_normal((6, 8), dtype=np.float32)), pnn.asarray(drawn.integers(0, 3, 6))
        state, loss = step(state, images, labels, 0.1 / (number + 1), number)
        seen.append([pnn.to_numpy(x) for x in (*pnn.tree.leaves(state), loss) if hasattr(x, "shape")])
    return seen


class Net(nn.Module):
    def __init__(self) -> None:
        self.first, self.norm, self.drop, self.last = nn.Linear(8, 16), nn.BatchNorm1d(16), nn.Dropout(0.5), nn.Linear(16, 3)

    def __call__(self, x: Any) -> Any:
        return self.last(self.drop(ops.relu(self.norm(ops.relu(self.first(x))))))


@pytest.mark.parametrize("donate", [(), "state"], ids=["kept", "donated"])
@pytest.mark.parametrize(
    "optimizer", [optim.sgd(0.1), optim.sgd(0.1, momentum=0.9, weight_decay=0.01), optim.adamw(0.1)], ids=["sgd", "momentum", "adamw"]
)
def test_training_takes_the_same_steps(backend: Backend, optimizer: Any, donate: Any) -> None:
    model = Net().to()
    key = pnn.random_key(5)

    def step(state: Any, images: Any, labels: Any, lr: float, number: int) -> Any:
        params, buffers, remembered = state

        def loss_of(params: Any) -> Any:
            scores, learned = nn.apply(nn.with_state(model, params | buffers), images, train=True, key=ops.fold_in(key, number))
            return ops.cross_entropy(scores, labels), learned

        (loss, learned), grads = pnn.value_and_grad(loss_of, has_aux=True)(params)
        params, remembered = optimizer.update(params, grads, remembered, lr=lr)
        return (params, {k: learned[k] for k in buffers}, remembered), loss

    captured = pnn.capture(step, donate=donate)
    wanted, made = training(step, model, optimizer, 1), training(captured, model, optimizer, 1)
    for a, b in zip(wanted, made, strict=True):
        assert [x.tobytes() for x in a] == [x.tobytes() for x in b]
    assert len(captured.variants) == 1


def test_donated_arrays_raise_when_used_again(rng: np.random.Generator) -> None:
    if "opencl" not in VALUES:
        pytest.skip("only the arrays of opencl can be taken from their holder")
    with pnn.use_backend(find("opencl")):
        step = pnn.capture(lambda state, x: ({"w": state["w"] + x, "v": state["v"]}, ops.sum(x)), donate="state")
        mine = {"w": draw(rng, 3), "v": draw(rng, 2, 2)}
        x = draw(rng, 3)
        first, _ = step(mine, x)
        wanted = pnn.to_numpy(mine["w"] + x)  # what the user made is copied, and stays
        assert pnn.to_numpy(first["w"]).tobytes() == wanted.tobytes()
        view = first["v"].T
        second, _ = step(first, x)
        assert pnn.to_numpy(second["w"]).tobytes() == (wanted + pnn.to_numpy(x)).tobytes()
        for stale in (first["w"], first["v"], view):
            with pytest.raises(StaleArray, match="given to a captured step that donates it"):
                pnn.to_numpy(stale)
            with pytest.raises(StaleArray, match=r"used after it was given .*use that, or copy"):
                stale + 1.0
        with pytest.raises(StaleArray, match="donates it"):
            step(first, x)


def test_a_step_of_nothing_but_state(backend: Backend, rng: np.random.Generator) -> None:
    step = pnn.capture(lambda state: state * 0.5, donate="state")
    state = draw(rng, 5)
    wanted = pnn.to_numpy(state).copy()
    for _ in range(4):
        state = step(state)
        wanted *= np.float32(0.5)
        assert pnn.to_numpy(state).tobytes() == wanted.tobytes()


def test_states_may_come_from_elsewhere(backend: Backend, rng: np.random.Generator) -> None:
    def f(state: Any, x: Any) -> Any:
        return [state[1] * 2.0, state[0] + x], state[0]

    step = pnn.capture(f, donate="state")
    x = draw(rng, 2, 2)
    state = [draw(rng, 2, 2), draw(rng, 2, 2)]
    for turn in range(6):
        if turn == 3:  # exchanged
            state = [state[1], state[0]]
        if turn == 4:  # views of what was handed out, and a new array
            state = [state[1].T, draw(rng, 2, 2)]
        kept = [pnn.asarray(pnn.to_numpy(s)) for s in state]
        wanted = f(kept, x)
        state, old = step(state, x)
        assert same(old, wanted[1])
        assert all(same(a, b) for a, b in zip(state, wanted[0], strict=True))
