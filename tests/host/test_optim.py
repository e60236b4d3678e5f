"""Optimisers against NumPy formulas in float64, schedules against hand-computed rates, clipping."""

import math

import numpy as np
import pytest

import portable_nn as pnn
from portable_nn import optim
from portable_nn.core.errors import ArgumentError, SettingError
from portable_nn.core.registry import find
from portable_nn.optim import schedules


@pytest.fixture(autouse=True)
def numpy_backend():
    with pnn.use_backend("numpy"):
        yield


def problem(steps=5):
    rng = np.random.default_rng(0)
    params = {"a.weight": rng.standard_normal((3, 4)), "a.bias": rng.standard_normal(4)}
    grads = [{name: rng.standard_normal(x.shape) for name, x in params.items()} for _ in range(steps)]
    return params, grads


def run(opt, params, grads, rates=None):
    state = opt.init(params)
    for i, g in enumerate(grads):
        params, state = opt.update(params, g, state, **({} if rates is None else {"lr": rates[i]}))
    return params, state


def sgd_formula(p, grads, rates, momentum, weight_decay, nesterov):
    """torch.optim.SGD, line by line from its documentation."""
    b = None
    for g, lr in zip(grads, rates, strict=True):
        g = g + weight_decay * p
        if momentum:
            b = g if b is None else momentum * b + g
            g = g + momentum * b if nesterov else b
        p = p - lr * g
    return p


def adam_formula(p, grads, rates, betas, eps, weight_decay, decoupled):
    """torch.optim.Adam and AdamW, line by line from their documentation."""
    m = v = np.zeros_like(p)
    for t, (g, lr) in enumerate(zip(grads, rates, strict=True), start=1):
        if decoupled:
            p = p - lr * weight_decay * p
        else:
            g = g + weight_decay * p
        m = betas[0] * m + (1 - betas[0]) * g
        v = betas[1] * v + (1 - betas[1]) * g**2
        p = p - lr * (m / (1 - betas[0] ** t)) / (np.sqrt(v / (1 - betas[1] ** t)) + eps)
    return p


RATES = (0.1, 0.2, 0.05, 0.01, 0.3)


@pytest.mark.parametrize(("momentum", "weight_decay", "nesterov"), [(0, 0, False), (0, 0.1, False), (0.9, 0, False), (0.9, 0.1, True)])
def test_sgd_is_pytorchs(momentum, weight_decay, nesterov):
    params, grads = problem()
    opt = optim.sgd(lr=1.0, momentum=momentum, weight_decay=weight_decay, nesterov=nesterov)
    made, _ = run(opt, params, grads, RATES)
    for name, p in params.items():
        expected = sgd_formula(p, [g[name] for g in grads], RATES, momentum, weight_decay, nesterov)
        np.testing.assert_allclose(made[name], expected, rtol=1e-13)


@pytest.mark.parametrize("decoupled", [False, True])
@pytest.mark.parametrize("weight_decay", [0.0, 0.1])
def test_adam_is_pytorchs(decoupled, weight_decay):
    params, grads = problem()
    make = optim.adamw if decoupled else optim.adam
    made, state = run(make(lr=1.0, betas=(0.8, 0.95), eps=1e-6, weight_decay=weight_decay), params, grads, RATES)
    for name, p in params.items():
        expected = adam_formula(p, [g[name] for g in grads], RATES, (0.8, 0.95), 1e-6, weight_decay, decoupled)
        np.testing.assert_allclose(made[name], expected, rtol=1e-12)
    assert state["step"] == 5


def test_the_optimisers_own_rate_holds_without_another():
    params, grads = problem(1)
    made, _ = run(optim.sgd(lr=0.5), params, grads)
    np.testing.assert_allclose(made["a.bias"], params["a.bias"] - 0.5 * grads[0]["a.bias"], rtol=1e-14)


def test_updates_are_pure():
    params, grads = problem(1)
    before = {name: x.copy() for name, x in params.items()}
    opt = optim.adamw()
    state = opt.init(params)
    opt.update(params, grads[0], state)
    for name, x in params.items():
        np.testing.assert_array_equal(x, before[name])
        np.testing.assert_array_equal(state["exp_avg"][name], 0)
    assert state["step"] == 0


def test_any_tree_is_updated_in_its_own_form():
    params = [np.ones(2), {"x": (np.ones(3), None)}]
    grads = [np.ones(2), {"x": (np.ones(3), None)}]
    made, state = run(optim.sgd(lr=0.25, momentum=0.5), params, [grads])
    np.testing.assert_array_equal(made[1]["x"][0], 0.75)
    assert made[1]["x"][1] is None
    np.testing.assert_array_equal(state["velocity"][0], 1)
    assert optim.adam().update({}, {}, optim.adam().init({}))[0] == {}


def test_a_gradient_that_is_missing_is_named():
    params, grads = problem(1)
    opt = optim.adamw()
    with pytest.raises(ArgumentError, match=r"a\.bias"):
        opt.update(params, {"a.weight": grads[0]["a.weight"]}, opt.init(params))


def test_a_new_rate_is_not_a_new_call():
    params, grads = problem(5)
    opt = optim.adamw()
    state = opt.init(params)
    params, state = opt.update(params, grads[0], state)
    known = len(find("adam_step")._cache)
    for i in range(1, 5):
        params, state = opt.update(params, grads[i], state, lr=0.1 / i)
    assert len(find("adam_step")._cache) == known


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: optim.sgd(lr=-1), "lr is -1"),
        (lambda: optim.sgd(lr=1, momentum=1.0), "momentum is 1.0"),
        (lambda: optim.sgd(lr=1, nesterov=True), "nesterov=True"),
        (lambda: optim.adam(betas=(0.9, 1.0)), r"betas is \(0.9, 1.0\)"),
        (lambda: optim.adamw(eps=-1e-8), "eps is -1e-08"),
        (lambda: optim.clip_by_global_norm({"a": np.ones(2)}, 0), "max_norm is 0"),
        (lambda: optim.global_norm({}), "no gradient"),
        (lambda: schedules.cosine(0.0, 10), "lr is 0.0"),
        (lambda: schedules.linear(1.0, 10, warmup=11), "warmup is 11"),
        (lambda: schedules.step_decay(1.0, [5, 5]), r"\[5, 5\]"),
        (lambda: schedules.one_cycle(1.0, 10, rise=2.0), "rise is 2.0"),
        (lambda: schedules.one_cycle(1.0, 0), "steps is 0"),
    ],
)
def test_bad_settings_name_the_value(make, words):
    with pytest.raises(SettingError, match=words):
        make()


def test_clipping_scales_all_gradients_alike():
    grads = {"a": np.float32([3.0, 0.0]), "b": np.float32([[4.0]])}
    clipped, norm = optim.clip_by_global_norm(grads, 1.0)
    assert float(norm) == pytest.approx(5.0)
    np.testing.assert_allclose(clipped["a"], [0.6, 0.0], rtol=1e-5)
    np.testing.assert_allclose(clipped["b"], [[0.8]], rtol=1e-5)
    same, _ = optim.clip_by_global_norm(grads, 10.0)
    np.testing.assert_array_equal(same["a"], grads["a"])


def test_schedules_at_hand_computed_steps():
    assert [schedules.constant(2.0, warmup=4)(i) for i in (0, 1, 3, 4, 99)] == [0.5, 1.0, 2.0, 2.0, 2.0]
    assert [schedules.step_decay(1.0, [2, 4], 0.5)(i) for i in range(6)] == [1, 1, 0.5, 0.5, 0.25, 0.25]
    assert schedules.step_decay(1.0, [5], warmup=2)(0) == 0.5
    assert [schedules.linear(1.0, 4)(i) for i in range(5)] == [1, 0.75, 0.5, 0.25, 0]
    cosine = schedules.cosine(2.0, 12, warmup=2)
    assert [cosine(0), cosine(1), cosine(2)] == [1.0, 2.0, 2.0]
    assert cosine(7) == pytest.approx(1.0)
    assert cosine(12) == pytest.approx(0.0, abs=1e-15)
    assert cosine(99) == pytest.approx(0.0, abs=1e-15)
    assert schedules.cosine(2.0, 10, last=0.5)(10) == 0.5


def test_one_cycle_is_pytorchs():
    # torch: total_steps=10, pct_start=0.3, anneal "cos": up over steps 0..2, down over 2..9.
    rates = [schedules.one_cycle(1.0, 10)(i) for i in range(10)]
    assert rates[0] == pytest.approx(1 / 25)
    assert rates[1] == pytest.approx((1 / 25 + 1) / 2)
    assert rates[2] == 1.0
    assert rates[9] == pytest.approx(1 / 25e4)
    assert rates[4] == pytest.approx(1 / 25e4 + (1 - 1 / 25e4) * 0.5 * (1 + math.cos(math.pi * 2 / 7)))
    assert max(rates) == 1.0


def lion_formula(p, grads, rates, betas, weight_decay):
    """Chen et al. 2023, algorithm 2."""
    m = np.zeros_like(p)
    for g, lr in zip(grads, rates, strict=True):
        u = np.sign(betas[0] * m + (1 - betas[0]) * g)
        p = p - lr * (u + weight_decay * p)
        m = betas[1] * m + (1 - betas[1]) * g
    return p


@pytest.mark.parametrize("weight_decay", [0.0, 0.1])
def test_lion_is_the_papers(weight_decay):
    params, grads = problem()
    made, _ = run(optim.lion(lr=1.0, betas=(0.8, 0.95), weight_decay=weight_decay), params, grads, RATES)
    for name, p in params.items():
        np.testing.assert_allclose(made[name], lion_formula(p, [g[name] for g in grads], RATES, (0.8, 0.95), weight_decay), rtol=1e-12)


def muon_formula(p, grads, rates, momentum, weight_decay, nesterov, adjust):
    """torch.optim.Muon, line by line from its documentation, in float64; a filter is a matrix of one row per output."""
    shape, b = p.shape, np.zeros(p.shape)
    for g, lr in zip(grads, rates, strict=True):
        b = b + (1 - momentum) * (g - b)
        u = g + momentum * (b - g) if nesterov else b
        u = u.reshape(shape[0], -1)
        factor = max(1, u.shape[0] / u.shape[1]) ** 0.5 if adjust == "original" else 0.2 * max(u.shape) ** 0.5
        x = u.T if u.shape[0] > u.shape[1] else u
        x = x / (np.sqrt((x * x).sum()) + 1e-7)
        for _ in range(5):
            a = x @ x.T
            x = 3.4445 * x + (-4.775 * a + 2.0315 * a @ a) @ x
        x = x.T if u.shape[0] > u.shape[1] else x
        p = p * (1 - lr * weight_decay) - lr * factor * x.reshape(shape)
    return p


@pytest.mark.parametrize(("nesterov", "adjust"), [(True, "match_rms_adamw"), (False, "original")])
def test_muon_is_pytorchs_for_matrices_and_adamw_for_the_rest(nesterov, adjust):
    rng = np.random.default_rng(1)
    shapes = {"conv.weight": (6, 2, 3, 3), "conv.bias": (6,), "tall.weight": (9, 4), "head.weight": (3, 9)}
    params = {n: rng.standard_normal(s) for n, s in shapes.items()}
    grads = [{n: rng.standard_normal(s) for n, s in shapes.items()} for _ in RATES]
    made, state = run(optim.muon(lr=1.0, momentum=0.9, weight_decay=0.1, nesterov=nesterov, adjust_lr=adjust), params, grads, RATES)
    assert set(state["momentum_buffer"]) == {"conv.weight", "tall.weight"}
    for name, p in params.items():
        g = [x[name] for x in grads]
        if name in state["momentum_buffer"]:
            expected = muon_formula(p, g, RATES, 0.9, 0.1, nesterov, adjust)
        else:
            expected = adam_formula(p, g, RATES, (0.9, 0.95), 1e-8, 0.1, True)
        np.testing.assert_allclose(made[name], expected, rtol=1e-9)


@pytest.mark.parametrize("shape", [(5, 5), (4, 11), (11, 4), (1, 7)])
def test_orthogonal_matrices_have_singular_values_near_one(shape):
    x = np.random.default_rng(2).standard_normal(shape)
    values = np.linalg.svd(optim.orthogonalize(x, steps=10), compute_uv=False)
    assert (values > 0.6).all()
    assert (values < 1.3).all()
    np.testing.assert_array_equal(optim.orthogonalize(np.zeros((3, 4))), 0)


@pytest.mark.parametrize("make", [optim.adamw, optim.lion, optim.muon, lambda **k: optim.sgd(momentum=0.9, **k), optim.sgd])
def test_decay_touches_weights_only_when_told(make):
    params = {"a.weight": np.ones((2, 2)), "norm.weight": np.ones(2), "pos_embed": np.ones((1, 2, 2)), "head.weight": np.ones((2, 2))}
    zero = {n: np.zeros_like(x) for n, x in params.items()}
    for decays, untouched in ((None, set()), (optim.weights_only, {"norm.weight", "pos_embed"})):
        made, _ = run(make(lr=0.5, weight_decay=0.1, decays=decays), params, [zero])
        for name, x in made.items():
            np.testing.assert_allclose(x, 1.0 if name in untouched else 0.95, rtol=1e-12)


def test_an_average_remembers_more_as_it_grows():
    values = {"w": np.float32([1.0])}
    start = {"w": np.float32([0.0])}
    np.testing.assert_allclose(optim.average(start, values, 0.99, step=0)["w"], 0.9, rtol=1e-6)  # (1 + 0) / (10 + 0) stays
    np.testing.assert_allclose(optim.average(start, values, 0.99, step=100_000)["w"], 0.01, rtol=1e-5)
    with pytest.raises(SettingError, match=r"decay is 1\.0"):
        optim.average(start, values, 1.0, step=0)


def test_the_loss_scale_halves_doubles_and_undoes():
    scaling = optim.LossScale(start=8.0, interval=2)
    state = scaling.init()
    grads, finite = scaling.unscale({"w": np.float32([16.0])}, state)
    assert float(grads["w"][0]) == 2.0
    assert bool(finite)
    state = scaling.next(scaling.next(state, finite), finite)
    assert {n: float(x) for n, x in state.items()} == {"scale": 16.0, "good": 0.0, "skipped": 0.0}
    grads, finite = scaling.unscale({"w": np.float32([np.inf]), "v": np.float32([1.0])}, state)
    assert not bool(finite)
    state = scaling.next(state, finite)
    assert {n: float(x) for n, x in state.items()} == {"scale": 8.0, "good": 0.0, "skipped": 1.0}
    kept = optim.keep_if(finite, {"w": np.float32([5.0]), "step": 2}, {"w": np.float32([4.0]), "step": 1})
    assert float(kept["w"][0]) == 4.0
    with pytest.raises(SettingError, match=r"start is 0\.5"):
        optim.LossScale(start=0.5)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: optim.lion(lr=-1), "lion: lr is -1"),
        (lambda: optim.lion(betas=(0.9, 1.0)), r"lion: betas is \(0.9, 1.0\)"),
        (lambda: optim.muon(momentum=1.0), "muon: momentum is 1.0"),
        (lambda: optim.muon(ns_steps=0), "muon: ns_steps is 0"),
        (lambda: optim.muon(adjust_lr="none"), "adjust_lr is 'none' but match_rms_adamw or original"),
        (lambda: optim.muon(weight_decay=-1), "muon: weight_decay is -1"),
    ],
)
def test_bad_settings_of_lion_and_muon_name_the_value(make, words):
    with pytest.raises(SettingError, match=words):
        make()
