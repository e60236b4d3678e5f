"""The references themselves, against oracles that share nothing with them: SciPy, NumPy's own routines, plain loops,
values worked out by hand, and identities. Everything in float64.
"""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import scipy.signal
import scipy.special

import portable_nn.ops  # noqa: F401 - fills the registry
from portable_nn.core.registry import OPS
from portable_nn.testing import adjoint_error
from portable_nn.testing.cases import dtypes_of


def body(name, *args, **settings):
    with np.errstate(all="ignore"):
        return OPS[name].body(*args, **settings)


def first(made):
    return made[0] if isinstance(made, tuple) else made


def close(got, wanted, rtol=1e-12, atol=1e-13):
    np.testing.assert_allclose(got, wanted, rtol=rtol, atol=atol)


LINE = np.concatenate([np.linspace(-6, 6, 241), [-40.0, 40.0, 1e-9, -1e-9]])


# -- scalar functions ---------------------------------------------------------------------------------------------

ACTIVATIONS = {
    "relu": lambda x: np.clip(x, 0, None),
    "relu6": lambda x: np.clip(x, 0, 6),
    "leaky_relu": lambda x: np.where(x >= 0, x, 0.01 * x),
    "sigmoid": scipy.special.expit,
    "tanh": np.tanh,
    "silu": lambda x: x * scipy.special.expit(x),
    "softplus": lambda x: np.where(x > 20, x, np.logaddexp(0, x)),
    "elu": lambda x: np.where(x > 0, x, np.expm1(np.minimum(x, 0))),
    "hardswish": lambda x: x * np.clip(x + 3, 0, 6) / 6,
    "hardsigmoid": lambda x: np.clip(x + 3, 0, 6) / 6,
    "gelu": lambda x: x * scipy.special.ndtr(x),
    "erf": scipy.special.erf,
}


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activations_against_scipy(name):
    close(body(name, LINE), ACTIVATIONS[name](LINE), rtol=1e-9)


def test_gelu_tanh_is_the_published_formula():
    wanted = 0.5 * LINE * (1 + np.tanh(math.sqrt(2 / math.pi) * (LINE + 0.044715 * LINE**3)))
    close(body("gelu", LINE, approximate="tanh"), wanted, rtol=1e-9)


def test_settings_of_activations():
    close(body("leaky_relu", LINE, 0.3), np.where(LINE >= 0, LINE, 0.3 * LINE))
    close(body("elu", LINE, 2.0), np.where(LINE > 0, LINE, 2 * np.expm1(np.minimum(LINE, 0))))
    close(body("softplus", LINE, beta=2.0, threshold=5.0), np.where(2 * LINE > 5, LINE, np.logaddexp(0, 2 * LINE) / 2))
    close(body("clamp", LINE, -1.0, 2.5), np.clip(LINE, -1, 2.5))
    close(body("clamp", LINE, None, 2.5), np.minimum(LINE, 2.5))


NUMPYS = {
    "exp": np.exp, "expm1": np.expm1, "sin": np.sin, "cos": np.cos, "tan": np.tan, "atan": np.arctan, "sinh": np.sinh,
    "cosh": np.cosh, "asinh": np.arcsinh, "floor": np.floor, "ceil": np.ceil, "trunc": np.trunc, "round": np.rint,
    "square": np.square, "reciprocal": np.reciprocal, "isnan": np.isnan, "isinf": np.isinf, "isfinite": np.isfinite,
    "signbit": np.signbit, "abs": np.fabs, "sign": np.sign, "negative": np.negative,
}  # fmt: skip


@pytest.mark.parametrize("name", NUMPYS)
def test_functions_against_numpy(name):
    with np.errstate(all="ignore"):
        close(body(name, LINE), NUMPYS[name](LINE))


@pytest.mark.parametrize("name", ["log", "log1p", "log2", "log10", "sqrt", "rsqrt", "acosh"])
def test_functions_of_positive_numbers(name):
    x = np.linspace(1.0, 9.0, 77)
    wanted = {"rsqrt": lambda v: 1 / np.sqrt(v), "acosh": np.arccosh}.get(name, getattr(np, name, None))
    close(body(name, x), wanted(x))


@pytest.mark.parametrize(("name", "inverse"), [("asin", np.sin), ("acos", np.cos), ("atanh", np.tanh)])
def test_inverse_functions(name, inverse):
    x = np.linspace(-0.95, 0.95, 39)
    close(inverse(body(name, x)), x)


def test_python_floor_and_modulo():
    pairs = [(a, b) for a in (-7, -3, 0, 3, 7) for b in (-3, -2, 2, 3)]
    x, y = (np.array(v) for v in zip(*pairs, strict=True))
    assert body("floor_divide", x, y).tolist() == [a // b for a, b in pairs]
    assert body("remainder", x, y).tolist() == [a % b for a, b in pairs]
    assert body("floor_divide", x, np.zeros_like(x)).tolist() == [0] * len(pairs)


def test_logaddexp_far_apart():
    close(body("logaddexp", np.array([0.0, 1000.0, -1000.0]), np.array([0.0, 0.0, -1001.0])), [math.log(2), 1000.0, -1000 + math.log1p(math.exp(-1))])


# -- matrices -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("left", "right", "formula"),
    [
        ((3, 4), (4, 5), "ik,kj->ij"), ((4,), (4, 5), "k,kj->j"), ((3, 4), (4,), "ik,k->i"), ((4,), (4,), "k,k->"),
        ((2, 3, 4), (2, 4, 5), "bik,bkj->bij"), ((2, 3, 4), (4, 5), "bik,kj->bij"), ((3, 4), (2, 4, 5), "ik,bkj->bij"),
    ],
)  # fmt: skip
def test_matmul_against_einsum(rng, left, right, formula):
    a, b = rng.standard_normal(left), rng.standard_normal(right)
    close(body("matmul", a, b), np.einsum(formula, a, b))


def test_linear_is_x_wt_plus_b(rng):
    x, w, b = rng.standard_normal((2, 3, 4)), rng.standard_normal((5, 4)), rng.standard_normal(5)
    close(body("linear", x, w, b), np.einsum("bik,jk->bij", x, w) + b)


# -- convolution --------------------------------------------------------------------------------------------------


def conv_loops(x, w, b, stride, padding, dilation, groups):
    n, _c, h, wd = x.shape
    f, cg, kh, kw = w.shape
    (sh, sw), (ph, pw), (dh, dw) = stride, padding, dilation
    oh, ow = (h + 2 * ph - dh * (kh - 1) - 1) // sh + 1, (wd + 2 * pw - dw * (kw - 1) - 1) // sw + 1
    y = np.zeros((n, f, oh, ow))
    for i, o, r, s in itertools.product(range(n), range(f), range(oh), range(ow)):
        total = 0.0 if b is None else b[o]
        for k, p, q in itertools.product(range(cg), range(kh), range(kw)):
            row, col = r * sh - ph + p * dh, s * sw - pw + q * dw
            if 0 <= row < h and 0 <= col < wd:
                total += x[i, (o // (f // groups)) * cg + k, row, col] * w[o, k, p, q]
        y[i, o, r, s] = total
    return y


CONVS = [
    {"stride": (1, 1), "padding": (0, 0), "dilation": (1, 1), "groups": 1},
    {"stride": (2, 1), "padding": (1, 2), "dilation": (1, 1), "groups": 1},
    {"stride": (1, 2), "padding": (2, 1), "dilation": (2, 1), "groups": 2},
    {"stride": (3, 3), "padding": (1, 1), "dilation": (1, 2), "groups": 4},
]


@pytest.mark.parametrize("case", CONVS, ids=str)
def test_conv2d_against_loops(rng, case):
    x = rng.standard_normal((2, 4, 6, 7))
    w, b = rng.standard_normal((8, 4 // case["groups"], 3, 2)), rng.standard_normal(8)
    close(body("conv2d", x, w, b, **case), conv_loops(x, w, b, **case))


def test_conv2d_against_scipy(rng):
    x, w = rng.standard_normal((1, 1, 9, 8)), rng.standard_normal((1, 1, 3, 4))
    close(body("conv2d", x, w)[0, 0], scipy.signal.correlate2d(x[0, 0], w[0, 0], mode="valid"))


def test_conv2d_by_hand():
    x = np.arange(9.0).reshape(1, 1, 3, 3)
    w = np.array([[[[1.0, 0.0], [0.0, -1.0]]]])
    close(body("conv2d", x, w)[0, 0], [[-4.0, -4.0], [-4.0, -4.0]])
    close(body("conv2d", x, w, padding=1)[0, 0, 0], [0.0, -1.0, -2.0, 0.0])


@pytest.mark.parametrize("case", CONVS, ids=str)
def test_conv_gradients_are_adjoints(rng, case):
    """<conv(x, w), g> = <x, input_grad(g, w)> = <w, weight_grad(x, g)>."""
    x, w = rng.standard_normal((2, 4, 6, 7)), rng.standard_normal((8, 4 // case["groups"], 3, 2))
    y = body("conv2d", x, w, **case)
    g = rng.standard_normal(y.shape)
    inner = float((y * g).sum())
    close(float((x * body("conv2d_input_grad", g, w, (6, 7), **case)).sum()), inner)
    close(float((w * body("conv2d_weight_grad", x, g, (3, 2), **case)).sum()), inner)


LINEAR = [("linear", "x"), ("matmul", "a"), ("matmul", "b"), ("avg_pool2d", "x"), ("adaptive_avg_pool2d", "x"), ("sum", "x"),
          ("mean", "x"), ("pad", "x"), ("permute", "x"), ("reshape", "x"), ("broadcast_to", "x"), ("sum_to", "x"), ("tril", "x"),
          ("flip", "x"), ("getitem", "x"), ("negative", "x")]  # fmt: skip


@pytest.mark.parametrize(("name", "operand"), LINEAR)
def test_linear_ops_and_their_rules_are_adjoint(name, operand):
    op = OPS[name]
    for sample in op.samples:
        affine = (name == "linear" and len(sample.args) > 2) or sample.settings.get("value") or "value" in sample.name
        if sample.gradient and "float64" in dtypes_of(op, sample) and not affine and not sample.settings.get("bias"):
            error = adjoint_error(op, sample, operand)
            assert error < 1e-10, f"{name}, {sample.name}: {error}"


# -- pooling ------------------------------------------------------------------------------------------------------


def windows(size, kernel, stride, padding, dilation, ceil_mode):
    span = size + 2 * padding - dilation * (kernel - 1) - 1
    count = (-(-span // stride) if ceil_mode else span // stride) + 1
    if ceil_mode and (count - 1) * stride >= size + padding:
        count -= 1
    return [[i * stride - padding + k * dilation for k in range(kernel)] for i in range(count)]


POOLS = [(k, s_, p, c) for k in (2, 3) for s_ in (1, 2, 3) for p in (0, 1) for c in (False, True) if 2 * p <= k]


@pytest.mark.parametrize("case", POOLS, ids=str)
def test_pooling_against_loops(rng, case):
    kernel, stride, padding, ceil = case
    x = rng.standard_normal((2, 3, 7, 6))
    rows, cols = (windows(n, kernel, stride, padding, 1, ceil) for n in (7, 6))
    top, mean, mean_inside = (np.empty((2, 3, len(rows), len(cols))) for _ in range(3))
    for (i, r), (j, c) in itertools.product(enumerate(rows), enumerate(cols)):
        inside = x[:, :, [v for v in r if 0 <= v < 7]][:, :, :, [v for v in c if 0 <= v < 6]]
        # Padding counts, but not what lies beyond it (ceil_mode).
        counted = sum(v < 7 + padding for v in r) * sum(v < 6 + padding for v in c)
        top[:, :, i, j] = inside.max((2, 3))
        mean[:, :, i, j] = inside.sum((2, 3)) / counted
        mean_inside[:, :, i, j] = inside.mean((2, 3))
    close(first(body("max_pool2d", x, kernel, stride, padding, ceil_mode=ceil)), top)
    close(body("avg_pool2d", x, kernel, stride, padding, ceil), mean)
    close(body("avg_pool2d", x, kernel, stride, padding, ceil, False), mean_inside)


@pytest.mark.parametrize("out", [1, (2, 3), (5, 1), (7, 6), (None, 2)])
def test_adaptive_pooling_against_loops(rng, out):
    x = rng.standard_normal((2, 3, 7, 6))
    oh, ow = (out, out) if isinstance(out, int) else (out[0] or 7, out[1] or 6)
    mean, top = np.empty((2, 3, oh, ow)), np.empty((2, 3, oh, ow))
    for i, j in itertools.product(range(oh), range(ow)):
        cell = x[:, :, math.floor(i * 7 / oh) : math.ceil((i + 1) * 7 / oh), math.floor(j * 6 / ow) : math.ceil((j + 1) * 6 / ow)]
        mean[:, :, i, j], top[:, :, i, j] = cell.mean((2, 3)), cell.max((2, 3))
    close(body("adaptive_avg_pool2d", x, out), mean)
    close(first(body("adaptive_max_pool2d", x, out)), top)


def test_max_pool_by_hand():
    x = np.array([[[[1.0, 3.0, 2.0], [4.0, 0.0, 5.0], [6.0, 7.0, 8.0]]]])
    close(first(body("max_pool2d", x, 2, 1))[0, 0], [[4.0, 5.0], [7.0, 8.0]])
    assert np.isnan(first(body("max_pool2d", np.where(x == 0, np.nan, x), 2, 1))).all(), "NaN wins in every window that has it"


# -- norms and softmax --------------------------------------------------------------------------------------------


def test_gradient_of_batch_norm_and_relu(rng):
    """Finite differences of relu(batch norm) written out, with x far enough from the corner of the ReLU."""
    x, w, b, g = rng.normal(size=(4, 3, 5)), rng.uniform(0.5, 1.5, 3), rng.uniform(-0.3, 0.3, 3), rng.normal(size=(4, 3, 5))
    per = (1, 3, 1)

    def y(x, w, b):
        return (x - x.mean((0, 2)).reshape(per)) / np.sqrt(x.var((0, 2)) + 1e-5).reshape(per) * w.reshape(per) + b.reshape(per)

    assert np.abs(y(x, w, b)).min() > 1e-4
    found = body("batch_norm_train_relu_grad", g, x, w, b, x.mean((0, 2)), 1 / np.sqrt(x.var((0, 2)) + 1e-5))
    for at, got in enumerate(found):
        wanted = np.empty_like(got)
        for index in np.ndindex(got.shape):
            ends = []
            for step in (1e-6, -1e-6):
                moved = [x.copy(), w.copy(), b.copy()]
                moved[at][index] += step
                ends.append((np.maximum(y(*moved), 0) * g).sum())
            wanted[index] = (ends[0] - ends[1]) / 2e-6
        np.testing.assert_allclose(got, wanted, rtol=1e-5, atol=1e-7)


def test_batch_norm_training_statistics(rng):
    x = rng.standard_normal((4, 3, 5, 2)) * 2 + 1
    w, b = rng.standard_normal(3), rng.standard_normal(3)
    y, mean, var, *_ = body("batch_norm_train", x, w, b)
    flat = x.transpose(1, 0, 2, 3).reshape(3, -1)
    close(mean, flat.mean(1))
    close(var, flat.var(1))
    normal = (flat - flat.mean(1, keepdims=True)) / np.sqrt(flat.var(1, keepdims=True) + 1e-5)
    close(y.transpose(1, 0, 2, 3).reshape(3, -1), normal * w[:, None] + b[:, None])
    without = body("batch_norm_train", x)[0]
    close(without.mean((0, 2, 3)), np.zeros(3), atol=1e-12)
    close(without.var((0, 2, 3)), np.ones(3), rtol=1e-4)


def test_batch_norm_inference(rng):
    x, mean, var = rng.standard_normal((4, 3, 5)), rng.standard_normal(3), rng.uniform(0.5, 2, 3)
    wanted = (x - mean[:, None]) / np.sqrt(var[:, None] + 1e-3)
    close(first(body("batch_norm", x, mean, var, eps=1e-3)), wanted)


def test_layer_norm(rng):
    x, w, b = rng.standard_normal((4, 3, 5)), rng.standard_normal((3, 5)), rng.standard_normal((3, 5))
    flat = x.reshape(4, 15)
    wanted = ((flat - flat.mean(1, keepdims=True)) / np.sqrt(flat.var(1, keepdims=True) + 1e-5)).reshape(x.shape) * w + b
    close(first(body("layer_norm", x, (3, 5), w, b)), wanted)


@pytest.mark.parametrize("axis", [0, 1, -1])
def test_softmax_family_against_scipy(rng, axis):
    x = rng.standard_normal((4, 5, 6)) * 5
    close(body("softmax", x, axis), scipy.special.softmax(x, axis))
    close(body("log_softmax", x, axis), scipy.special.log_softmax(x, axis))
    close(body("logsumexp", x, axis), scipy.special.logsumexp(x, axis))
    close(body("softmax", x + 1e4, axis), scipy.special.softmax(x, axis), rtol=1e-9)
    close(body("softmax", x, axis).sum(axis), np.ones(np.delete(x.shape, axis)))


def test_softmax_of_infinities():
    inf = float("inf")
    close(body("softmax", np.array([[0.0, -inf]]), 1), [[1.0, 0.0]])
    assert body("logsumexp", np.array([-inf, -inf]), 0) == -inf


# -- losses -------------------------------------------------------------------------------------------------------


def cross_entropy_loops(x, target, weight, ignore, smoothing, reduction):
    log_p = scipy.special.log_softmax(x, 1)
    classes = x.shape[1]
    weight = np.ones(classes) if weight is None else weight
    losses, weights = [], []
    for row, t in zip(log_p, target, strict=True):
        if t == ignore:
            losses.append(0.0)
            continue
        nll = -weight[t] * row[t]
        smooth = -sum(weight[c] * row[c] for c in range(classes)) / classes
        losses.append((1 - smoothing) * nll + smoothing * smooth)
        weights.append(weight[t])
    return {"none": np.array(losses), "sum": sum(losses), "mean": sum(losses) / sum(weights) if weights else math.nan}[reduction]


@pytest.mark.parametrize("reduction", ["none", "sum", "mean"])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("weighted", [False, True])
def test_cross_entropy_against_loops(rng, reduction, smoothing, weighted):
    x, target = rng.standard_normal((7, 5)), rng.integers(0, 5, 7)
    target[2] = -100
    weight = rng.uniform(0.5, 2, 5) if weighted else None
    got = first(body("cross_entropy", x, target, weight, reduction=reduction, label_smoothing=smoothing))
    close(got, cross_entropy_loops(x, target, weight, -100, smoothing, reduction))


def test_cross_entropy_by_hand():
    close(first(body("cross_entropy", np.zeros((1, 4)), np.array([2]))), math.log(4))
    soft = np.array([[0.25, 0.25, 0.5]])
    log_p = scipy.special.log_softmax(np.array([[1.0, 2.0, 3.0]]), 1)
    close(first(body("cross_entropy", np.array([[1.0, 2.0, 3.0]]), soft)), -(soft * log_p).sum())


def test_cross_entropy_over_pixels(rng):
    x, target = rng.standard_normal((2, 3, 4, 5)), rng.integers(0, 3, (2, 4, 5))
    flat = cross_entropy_loops(x.transpose(0, 2, 3, 1).reshape(-1, 3), target.ravel(), None, -100, 0.0, "mean")
    close(first(body("cross_entropy", x, target)), flat)


# -- reductions, selection, layout --------------------------------------------------------------------------------


@pytest.mark.parametrize("axis", [None, 0, -1, (0, 2), (1,)])
@pytest.mark.parametrize("name", ["sum", "mean", "prod", "max", "min", "var", "std"])
def test_reductions_against_numpy(rng, name, axis):
    x = rng.uniform(0.5, 1.5, (3, 4, 5))
    close(first(body(name, x, axis, keepdims=True)), getattr(np, name)(x, axis=axis, keepdims=True))
    close(first(body(name, x, axis)), getattr(np, name)(x, axis=axis))


def test_variance_correction(rng):
    x = rng.standard_normal((4, 6))
    close(first(body("var", x, 1, correction=1)), np.var(x, axis=1, ddof=1))
    close(first(body("std", x, None, correction=1.5)), np.sqrt(((x - x.mean()) ** 2).sum() / (x.size - 1.5)))


def test_argmax_takes_the_first_of_equals_and_nan_wins():
    x = np.array([[1.0, 3.0, 3.0], [np.nan, 9.0, np.nan]])
    assert body("argmax", x, 1).tolist() == [1, 0]
    assert body("argmin", np.array([2.0, 1.0, 1.0]), 0) == 1
    assert np.isnan(body("max", x, None))


PADS = [((1, 2), "constant"), ((1, 2, 0, 3), "constant"), ((2, 1), "reflect"), ((1, 2, 2, 1), "replicate"), ((1, 1), "circular")]


@pytest.mark.parametrize(("amounts", "mode"), PADS, ids=str)
def test_pad_against_numpy(rng, amounts, mode):
    x = rng.standard_normal((2, 3, 4, 5))
    pairs = [(0, 0)] * (4 - len(amounts) // 2) + [tuple(amounts[i : i + 2]) for i in range(len(amounts) - 2, -1, -2)]
    theirs = {"replicate": "edge", "circular": "wrap"}.get(mode, mode)
    kwargs = {"constant_values": 7.0} if mode == "constant" else {}
    close(body("pad", x, amounts, mode, 7.0), np.pad(x, pairs, theirs, **kwargs))


def test_selection(rng):
    x, y = rng.standard_normal((3, 4)), rng.standard_normal((4,))
    close(body("where", x > 0, x, y), np.where(x > 0, x, y))
    close(body("concat", [x, x + 1], 1), np.concatenate([x, x + 1], 1))
    close(body("tril", x, k=1), np.tril(x, 1))
    close(body("triu", x, k=-1), np.triu(x, -1))


# -- optimisers ---------------------------------------------------------------------------------------------------


def test_adamw_against_the_paper(rng):
    p, lr, b1, b2, eps, decay = rng.standard_normal(5), 0.1, 0.9, 0.99, 1e-8, 0.01
    mine = (p.copy(), np.zeros(5), np.zeros(5))
    theirs, m, v = p.copy(), np.zeros(5), np.zeros(5)
    for t in range(1, 6):
        g = rng.standard_normal(5)
        mine = body("adam_step", mine[0], g, mine[1], mine[2], lr, b1, b2, eps, decay, 1 - b1**t, 1 - b2**t)
        theirs = theirs - lr * decay * theirs
        m, v = b1 * m + (1 - b1) * g, b2 * v + (1 - b2) * g * g
        theirs = theirs - lr * (m / (1 - b1**t)) / (np.sqrt(v / (1 - b2**t)) + eps)
        close(mine[0], theirs, rtol=1e-10)


def test_sgd_with_momentum_against_the_formula(rng):
    p, lr, mu, decay = rng.standard_normal(5), 0.1, 0.9, 0.01
    mine, theirs, velocity = (p.copy(), np.zeros(5)), p.copy(), np.zeros(5)
    for _ in range(4):
        g = rng.standard_normal(5)
        mine = body("sgd_momentum_step", mine[0], g, mine[1], lr, mu, decay)
        velocity = mu * velocity + g + decay * theirs
        theirs = theirs - lr * velocity
        close(mine[0], theirs)
    close(body("sgd_step", p, np.ones(5), lr, decay), p - lr * (1 + decay * p))
