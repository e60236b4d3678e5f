"""Shapes and settings that Hypothesis thinks of, for the ops whose kernels have tiles, against the body in float64.

Bounded and derandomised: the same examples in every run, a few by default and more with `-m slow`. A failure prints the smallest
shape it could find.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest
from conftest import VALUES
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import portable_nn.ops  # noqa: F401 - fills the registry
from portable_nn.core.registry import OPS
from portable_nn.core.samples import A, Sample, s
from portable_nn.testing import check_gradient, check_op
from portable_nn.testing.cases import legal

bounded = settings(
    derandomize=True, deadline=None, database=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much, HealthCheck.function_scoped_fixture],
)  # fmt: skip
Test = Callable[..., None]


def on_backends(*ops: str) -> Callable[[Test], Test]:
    """Return a decorator of a test that is given a backend's name, what Hypothesis draws, and each op's name."""

    def decorate(test: Test) -> Test:
        def bare(name: str, examples: int, op: str) -> None:
            def one(data: st.DataObject) -> None:
                test(name, data, op)

            settings(bounded, max_examples=examples)(given(st.data())(one))()

        bare.__name__, bare.__module__ = test.__name__, test.__module__
        examples = pytest.mark.parametrize("examples", [8, pytest.param(40, marks=pytest.mark.slow)])
        return pytest.mark.parametrize("op", ops)(pytest.mark.parametrize("name", VALUES)(examples(bare)))

    return decorate


VIEWS = st.sampled_from(["", "", "", "transposed", "reversed", "strided", "offset"])
DTYPES = st.sampled_from(["float32", "float32", "float64", "float16", "bfloat16"])
SIZES = st.sampled_from([1, 2, 3, 4, 5, 7, 8, 9, 15, 16, 17, 31, 33, 63, 65, 129])


def check(op: str, sample: Sample, dtype: str, name: str, gradient: bool = False) -> None:
    check_op(OPS[op], sample, dtype, name)
    if gradient and OPS[op].vjp is not None:
        check_gradient(OPS[op], sample, name, "float32")


@on_backends("matmul")
def test_matmul(name: str, data: st.DataObject, op: str) -> None:
    m, n, k = (data.draw(SIZES, label=label) for label in "mnk")
    batch = data.draw(st.sampled_from([((), ()), ((2,), (2,)), ((3,), ()), ((), (2,)), ((2, 1), (3,)), ((1,), (4,))]), label="batch")
    left, right = A((*batch[0], m, k), view=data.draw(VIEWS)), A((*batch[1], k, n), view=data.draw(VIEWS))
    vector = data.draw(st.sampled_from(["", "", "left", "right", "both"]), label="vector")
    if vector in ("left", "both"):
        left = A((k,))
    if vector in ("right", "both"):
        right = A((k,))
    check(op, s("drawn", left, right), data.draw(DTYPES), name, gradient=m * n * k < 4096)


@on_backends("linear")
def test_linear(name: str, data: st.DataObject, op: str) -> None:
    rows, inner, outer = data.draw(SIZES), data.draw(SIZES), data.draw(SIZES)
    lead = data.draw(st.sampled_from([(), (2,), (1, 3)]))
    bias = data.draw(st.sampled_from([None, A((outer,))]))
    sample = s("drawn", A((*lead, rows, inner), view=data.draw(VIEWS)), A((outer, inner), view=data.draw(VIEWS)), bias)
    check(op, sample, data.draw(DTYPES), name, gradient=rows * inner * outer < 4096)


def window(data: st.DataObject, size: int, largest: int = 4) -> tuple[int, int, int, int]:
    """Return kernel, stride, padding, dilation of one axis for which an output remains."""
    kernel = data.draw(st.integers(1, largest), label="kernel")
    dilation = data.draw(st.integers(1, 2), label="dilation")
    padding = data.draw(st.integers(0, kernel // 2), label="padding")
    while (kernel - 1) * dilation + 1 > size + 2 * padding:
        if dilation > 1:
            dilation = 1
        else:
            kernel -= 1
            padding = min(padding, kernel // 2)
    return kernel, data.draw(st.integers(1, 3), label="stride"), padding, dilation


@on_backends("conv2d")
def test_conv2d(name: str, data: st.DataObject, op: str) -> None:
    groups = data.draw(st.sampled_from([1, 1, 2, 3]), label="groups")
    channels, filters = groups * data.draw(st.integers(1, 5)), groups * data.draw(st.integers(1, 5))
    height, width = data.draw(st.integers(1, 11)), data.draw(st.integers(1, 11))
    vertical, horizontal = window(data, height), window(data, width)
    sample = s(
        "drawn",
        A((data.draw(st.integers(1, 3)), channels, height, width), view=data.draw(st.sampled_from(["", "", "channels_last", "strided"]))),
        A((filters, channels // groups, vertical[0], horizontal[0])),
        data.draw(st.sampled_from([None, A((filters,))])),
        stride=(vertical[1], horizontal[1]), padding=(vertical[2], horizontal[2]), dilation=(vertical[3], horizontal[3]), groups=groups,
    )  # fmt: skip
    check(op, sample, data.draw(DTYPES), name, gradient=True)


@on_backends("max_pool2d", "avg_pool2d")
def test_pooling(name: str, data: st.DataObject, op: str) -> None:
    height, width = data.draw(st.integers(1, 12)), data.draw(st.integers(1, 12))
    vertical, horizontal = window(data, height), window(data, width)
    x = A((data.draw(st.integers(1, 3)), data.draw(st.integers(1, 4)), height, width), unique=True,
          view=data.draw(st.sampled_from(["", "channels_last", "strided", "reversed"])))  # fmt: skip
    settings_ = {
        "kernel_size": (vertical[0], horizontal[0]), "stride": (vertical[1], horizontal[1]),
        "padding": (vertical[2], horizontal[2]), "ceil_mode": data.draw(st.booleans()),
    }  # fmt: skip
    if op == "max_pool2d":
        settings_["dilation"] = (vertical[3], horizontal[3])
    else:
        settings_["count_include_pad"] = data.draw(st.booleans())
    # A dilated window may lie in the padding altogether: its maximum is -inf, as in PyTorch.
    sample = s("drawn", x, why="-inf" if op == "max_pool2d" else "", **settings_)
    check(op, sample, data.draw(DTYPES), name, gradient=op == "avg_pool2d")


SHAPES = st.lists(st.sampled_from([1, 2, 3, 5, 8, 33, 130]), min_size=1, max_size=4).filter(lambda v: _product(v) < 40_000)


def _product(sizes: list[int]) -> int:
    total = 1
    for n in sizes:
        total *= n
    return total


@on_backends("sum", "mean", "max", "min", "var", "prod", "logsumexp", "argmax")
def test_reductions(name: str, data: st.DataObject, op: str) -> None:
    shape = data.draw(SHAPES, label="shape")
    axes = st.integers(-len(shape), len(shape) - 1)
    if op != "argmax":
        several = st.lists(st.integers(0, len(shape) - 1), unique=True, min_size=1).map(tuple)
        axes = st.one_of(axes, several, st.none()) if op != "logsumexp" else axes
    axis = data.draw(axes, label="axis")
    low, high = (0.9, 1.1) if op == "prod" else (-1.0, 1.0)
    ties_free = op in ("max", "min", "argmax")
    x = A(tuple(shape), low, high, unique=ties_free, view=data.draw(VIEWS))
    keepdims = data.draw(st.booleans(), label="keepdims")
    name_of_axis = "axis" if "axis" in OPS[op].signature.parameters else "dim"
    name_of_keep = "keepdims" if "keepdims" in OPS[op].signature.parameters else "keepdim"
    sample = s("drawn", x, **{name_of_axis: axis, name_of_keep: keepdims})
    dtype = data.draw(DTYPES, label="dtype")
    if op == "argmax" or (ties_free and dtype in ("float16", "bfloat16")):
        dtype = "float32"  # a permutation of many steps has ties when rounded to a half: any of them is right
    check(op, sample, dtype, name)


@on_backends("softmax", "log_softmax")
def test_softmax(name: str, data: st.DataObject, op: str) -> None:
    shape = data.draw(SHAPES, label="shape")
    axis = data.draw(st.integers(-len(shape), len(shape) - 1), label="axis")
    parameter = list(OPS[op].signature.parameters)[1]
    sample = s("drawn", A(tuple(shape), -4.0, 4.0, view=data.draw(VIEWS)), **{parameter: axis})
    check(op, sample, data.draw(DTYPES, label="dtype"), name, gradient=_product(shape) < 512)


@on_backends("operators")
def test_broadcasting_operators(name: str, data: st.DataObject, op: str) -> None:
    full = data.draw(st.lists(st.sampled_from([1, 2, 3, 5, 8, 33]), max_size=5), label="shape")
    cut = data.draw(st.integers(0, len(full)), label="cut")
    other = [1 if data.draw(st.booleans()) else n for n in full[cut:]]
    one = A(tuple(full), 0.5, 2.0, view=data.draw(VIEWS) if full else "")
    two = A(tuple(other), 0.5, 2.0, view=data.draw(VIEWS) if other else "")
    if data.draw(st.booleans()):
        one, two = two, one
    op = data.draw(st.sampled_from(["add", "multiply", "divide", "maximum", "less"]), label="op")
    check(op, s("drawn", one, two), data.draw(DTYPES, label="dtype"), name)


@on_backends("permute")
def test_permute_and_reshape_copies(name: str, data: st.DataObject, op: str) -> None:
    shape = data.draw(st.lists(st.integers(1, 7), min_size=1, max_size=5), label="shape")
    axes = tuple(data.draw(st.permutations(range(len(shape))), label="axes"))
    x = A(tuple(shape), view=data.draw(VIEWS))
    check(op, s("drawn", x, axes), data.draw(DTYPES), name)
    flat = s("flat", x, (_product(shape),))
    assert legal(OPS["reshape"], flat, "float32")
    check("reshape", flat, data.draw(DTYPES), name)
