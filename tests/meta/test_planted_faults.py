"""The proof of the proof: faults planted in ops, rules, backends and kernel text must be caught by the public checks."""

from contextlib import contextmanager

import numpy as np
import pytest
from conftest import VALUES

import portable_nn.ops
from portable_nn.core import dtypes, registry, selection
from portable_nn.core.backend import Backend
from portable_nn.core.op import Op
from portable_nn.core.samples import A, s
from portable_nn.core.spec import Spec
from portable_nn.testing import backend_suite, check_gradient, check_op, compare
from portable_nn.testing.tolerance import allowed

X = A((3, 5))
SUM = s("rows", A((7, 33)))


@pytest.fixture(autouse=True)
def _registry():
    before = dict(registry.OPS)
    yield
    registry.OPS.clear()
    registry.OPS.update(before)


def row_sum(**record):
    def body(x: "Array"):  # noqa: F821
        return x.sum(-1)

    body.__name__ = "row_sum_of_test"
    return Op(
        body, out=lambda x: Spec(x.shape[:-1], x.dtype), reduces=lambda call: call.spec(0).shape[-1],
        vjp=lambda c, g: {"x": lambda: np.broadcast_to(g[..., None], c.spec_of("x").shape).astype(g.dtype)}, samples=(SUM,), **record,
    )  # fmt: skip


class Faulty(Backend):
    """A backend on host arrays that computes what it is told to."""

    name = "faulty"
    device = "test"

    def __init__(self, compute):
        self.compute = compute

    def prepare(self, op, call):
        def run(operands):
            with np.errstate(all="ignore"):
                made = self.compute(*operands)
            made = made if isinstance(made, tuple) else (made,)
            return tuple(np.asarray(m).astype(spec.dtype, copy=False) for m, spec in zip(made, call.outputs, strict=False))

        return run

    def from_numpy(self, x):
        return np.array(x, order="C")

    def to_numpy(self, x):
        return np.array(x)

    def spec_of(self, x):
        return Spec(x.shape, dtypes.canonical(x.dtype), tuple(n // x.itemsize for n in x.strides))

    def synchronize(self):
        pass

    def devices(self):
        return []


def wide(x):
    return x.astype(np.float32) if x.dtype.itemsize < 4 else x


def run(op, sample, compute, dtype="float32"):
    backend = Faulty(compute)
    with as_host(backend):
        check_op(op, sample, dtype, backend)


@contextmanager
def as_host(backend):
    """Let NumPy arrays belong to `backend`."""
    from portable_nn.core import op as op_module

    before = op_module.host_backend
    op_module.host_backend = lambda name: backend
    try:
        yield
    finally:
        op_module.host_backend = before


@pytest.mark.parametrize("dtype", ["float64", "float32", "float16", "bfloat16"])
def test_a_right_backend_passes(dtype):
    run(row_sum(), SUM, lambda x: wide(x).sum(-1), dtype)
    run(row_sum(name="again_of_test"), s("view", A((33, 7), view="transposed")), lambda x: wide(x).sum(-1), dtype)


FAULTS = {
    "one part in a thousand": lambda x: x.sum(-1) * 1.001,
    "a missing term": lambda x: x[:, :-1].sum(-1),
    "a term twice": lambda x: x.sum(-1) + x[:, 0],
    "one element": lambda x: x.sum(-1) + np.eye(len(x))[3].astype(x.dtype) * np.float32(0.01),
    "sign": lambda x: -x.sum(-1),
    "swapped axes": lambda x: x.reshape(x.shape[::-1]).T.sum(-1),
    "zeros": lambda x: np.zeros(len(x), x.dtype),
    "unwritten": lambda x: np.empty(len(x), x.dtype) * np.nan,
    "shape": lambda x: x.sum(-1, keepdims=True),
    "input": lambda x: (x.__setitem__((0, 0), 0.25), x.sum(-1))[1],
    "beside the input": lambda x: (np.lib.stride_tricks.as_strided(x, (300,), (4,)).__setitem__(-1 - 300 + 232, 7.0), x.sum(-1))[1],
}


@pytest.mark.parametrize("fault", FAULTS)
def test_wrong_kernels_are_caught(fault):
    with pytest.raises(AssertionError, match="row_sum_of_test"):
        run(row_sum(), SUM, FAULTS[fault])


def test_float64_computed_in_float32_is_caught():
    with pytest.raises(AssertionError, match="times what is allowed"):
        run(row_sum(), SUM, lambda x: x.astype(np.float32).sum(-1), "float64")


def test_halves_summed_in_halves_are_caught():
    long = s("long", A((3, 4096), 0.0, 1.0))
    run(row_sum(), long, lambda x: wide(x).sum(-1), "float16")
    with pytest.raises(AssertionError, match="times what is allowed"):
        run(row_sum(name="again_of_test"), long, lambda x: np.cumsum(x, -1, dtype=x.dtype)[:, -1], "float16")


def test_a_naive_float32_sum_over_a_long_axis_is_caught():
    rng = np.random.default_rng(0)
    x = rng.uniform(0.5, 1.5, 1 << 20).astype(np.float32)
    naive = np.cumsum(x, dtype=np.float32)[-1:]
    truth = x.astype(np.float64).sum(keepdims=True)
    compare("pairwise", np.sum(x, keepdims=True), truth, Spec((1,), dtypes.float32), len(x))
    error = abs(float(naive[0]) - float(truth[0]))
    assert error > 0
    assert allowed(truth, np.dtype(np.float32), 1)[0] < error, "with one term the formula must refuse it"


def test_ignored_strides_are_caught():
    def flat(x):
        return np.lib.stride_tricks.as_strided(x, x.shape, (x.shape[1] * x.itemsize, x.itemsize)).sum(-1)

    run(row_sum(), SUM, flat)  # right for C order
    for number, view in enumerate(("transposed", "strided", "reversed")):
        with pytest.raises(AssertionError, match="row_sum"):
            run(row_sum(name=f"row_sum_{number}_of_test"), s(view, A((4, 6), view=view)), flat)


def test_wrong_nan_rules_are_caught():
    def body(x1: "Array", x2: "Array"):  # noqa: F821
        return np.maximum(x1, x2)

    body.__name__ = "maximum_of_test"
    op = Op(body, out=lambda x1, x2: x1)
    nan = s("nan", A((3,), values=(float("nan"), 1.0, 2.0)), A((3,), values=(0.0, float("nan"), 3.0)), gradient=False, why="NaN")
    run(op, nan, np.maximum)
    with pytest.raises(AssertionError, match="NaN or inf differ"):
        run(op, nan, np.fmax)
    with pytest.raises(AssertionError, match="NaN or inf differ"):
        run(op, s("inf", A((2,), values=(float("inf"), 1.0)), A((2,)), why="inf"), lambda a, b: np.minimum(np.maximum(a, b), 3e38))
    with pytest.raises(AssertionError, match="NaN or inf differ"):
        run(op, s("sign of inf", A((2,), values=(-float("inf"), 1.0)), A((2,), values=(-float("inf"), 1.0)), why="inf"), lambda a, b: np.abs(a))


def test_a_reference_that_is_not_finite_must_be_declared():
    def body(x: "Array"):  # noqa: F821
        return 1 / x

    body.__name__ = "reciprocal_of_test"
    with pytest.raises(AssertionError, match="not finite; say why"):
        run(Op(body, out=lambda x: x), s("zero", A((2,), values=(0, 1))), lambda x: 1 / x)


def test_two_runs_that_differ_are_caught():
    count = iter(range(100))
    with pytest.raises(AssertionError, match="differs between two runs"):
        run(row_sum(), SUM, lambda x: x.sum(-1) * (1 + next(count) * np.float32(2e-7)))


def test_an_output_that_is_its_operand_is_caught():
    def body(x: "Array"):  # noqa: F821
        return np.array(x)

    body.__name__ = "copy_of_test"
    with pytest.raises(AssertionError, match="shares memory with an operand"):
        run(Op(body, out=lambda x: x), s("x", X), lambda x: x)


def test_integers_and_indices_are_compared_exactly():
    def body(x: "Array"):  # noqa: F821
        return x.argmax(-1)

    body.__name__ = "argmax_of_test"
    op = Op(body, out=lambda x: Spec(x.shape[:-1], dtypes.int64), integer_outputs=("y",))
    run(op, s("x", X), lambda x: x.argmax(-1))
    with pytest.raises(AssertionError, match="must be equal"):
        run(op, s("x", X), lambda x: x.argmax(-1) + (np.arange(len(x)) == 2))


def test_wrong_dtype_of_the_record_is_caught():
    def body(x: "Array"):  # noqa: F821
        return x.sum(-1)

    body.__name__ = "lying_of_test"
    with pytest.raises(AssertionError, match="the body gives shape"):
        run(Op(body, out=lambda x: x), s("x", X), lambda x: np.array(x))


# -- gradients ----------------------------------------------------------------------------------------------------


def product(vjp, saves=("x", "w")):
    def body(x: "Array", w: "Array"):  # noqa: F821
        return x * w * w

    body.__name__ = "product_of_test"
    return Op(body, out=lambda x, w: x, vjp=vjp, saves=saves)


PAIR = s("pair", A((3, 5), 0.5, 1.5), A((3, 5), 0.5, 1.5))
RULES = {
    "one part in a thousand": lambda c, g: {"x": g * c.w * c.w, "w": 2.002 * g * c.x * c.w},
    "a missing factor": lambda c, g: {"x": g * c.w * c.w, "w": g * c.x * c.w},
    "swapped operands": lambda c, g: {"x": 2 * g * c.x * c.w, "w": g * c.w * c.w},
    "cotangent forgotten": lambda c, g: {"x": c.w * c.w, "w": 2 * g * c.x * c.w},
    "one element": lambda c, g: {"x": g * c.w * c.w, "w": 2 * g * c.x * c.w + np.eye(15)[7].reshape(3, 5) * 0.01},
    "zeros": lambda c, g: {"x": g * 0, "w": 2 * g * c.x * c.w},
    "NaN": lambda c, g: {"x": g * c.w * c.w, "w": g * np.nan},
}


def test_a_right_rule_passes():
    errors = check_gradient(product(lambda c, g: {"x": g * c.w * c.w, "w": 2 * g * c.x * c.w}), PAIR)
    assert errors.keys() == {"x", "w"}
    assert max(errors.values()) < 1e-8


@pytest.mark.parametrize("fault", RULES)
def test_wrong_rules_are_caught(fault):
    with pytest.raises(AssertionError, match=r"product_of_test: gradient of [xw] differs"):
        check_gradient(product(RULES[fault]), PAIR)


def test_a_gradient_of_wrong_shape_or_dtype_is_caught():
    with pytest.raises(AssertionError, match="a gradient of shape"):
        check_gradient(product(lambda c, g: {"x": g[0], "w": g}), PAIR)


def test_a_gradient_of_wrong_dtype_is_caught():
    with pytest.raises(AssertionError, match="a gradient of float32"):
        check_gradient(product(lambda c, g: {"x": g.astype(np.float32), "w": g}), PAIR)


def test_a_rule_that_gives_nothing_is_caught():
    with pytest.raises(AssertionError, match="no gradient at all"):
        check_gradient(product(lambda c, g: {}), PAIR)


def test_a_low_precision_gradient_that_is_wrong_is_caught():
    def vjp(c, g):
        bad = 1.5 if g.dtype == np.float16 else 1.0
        return {"x": g * c.w * c.w, "w": (2 * bad * g * c.x * c.w).astype(g.dtype)}

    op = product(vjp)
    check_gradient(op, PAIR)
    check_gradient(op, PAIR, dtype="float32")
    with pytest.raises(AssertionError, match="gradient of w differs from the float64 gradient"):
        check_gradient(op, PAIR, dtype="float16")


# -- devices ------------------------------------------------------------------------------------------------------


@pytest.fixture(params=[name for name in VALUES if name != "numpy"])
def device(request):
    """Each backend that runs kernels."""
    return selection.get(request.param)


def add_with(monkeypatch, backend, change):
    """Run check_op of `add` while every rendered kernel text passes through `change`."""
    from dataclasses import replace

    plan = type(backend).plan

    def changed(self, op, call, *kept):
        made = plan(self, op, call, *kept)
        return replace(made, launches=tuple(replace(launch, **change(launch)) for launch in made.launches))

    monkeypatch.setattr(type(backend), "plan", changed)
    add = portable_nn.ops.add
    check_op(add, s("x", A((3, 257)), A((3, 257))), "float32", backend)


def text(old, new):
    def change(launch):
        assert old in launch.source, f"the rendered text no longer holds {old!r}; plant the fault elsewhere"
        return {"source": launch.source.replace(old, new)}

    return change


def test_unchanged_kernel_passes(monkeypatch, device):
    add_with(monkeypatch, device, lambda launch: {})


def test_kernel_that_is_slightly_wrong(monkeypatch, device):
    with pytest.raises(AssertionError, match="times what is allowed"):
        add_with(monkeypatch, device, text("(v_x1 + v_x2)", "(v_x1 * 1.001f + v_x2)"))


def test_kernel_that_reads_a_neighbour(monkeypatch, device):
    with pytest.raises(AssertionError, match="NaN or inf differ"):
        add_with(monkeypatch, device, text("LOAD(f32, x2, i)", "LOAD(f32, x2, i + 1)"))


def test_kernel_that_leaves_an_element_unwritten(monkeypatch, device):
    with pytest.raises(AssertionError, match="add: y"):
        add_with(monkeypatch, device, text("STORE(f32, out0, i,", "if (i != 770) STORE(f32, out0, i,"))


@pytest.mark.parametrize(("place", "where"), [("i + 1", "after"), ("i - 1", "before"), ("i == 5 ? span + 60 : i", "after")])
def test_kernel_that_writes_out_of_bounds(monkeypatch, device, place, where):
    with pytest.raises(AssertionError, match=f"wrote outside allocation.* {where} it"):
        add_with(monkeypatch, device, text("STORE(f32, out0, i,", f"STORE(f32, out0, {place},"))


def test_kernel_that_writes_to_its_operand(monkeypatch, device):
    def change(launch):
        old = "STORE(f32, out0, i,"
        assert old in launch.source
        new = f"((GLOBAL f32*)x1)[i] = 0.5f; {old}"
        return {"source": launch.source.replace(old, new)}

    with pytest.raises(AssertionError, match="the call wrote to array operand"):
        add_with(monkeypatch, device, change)


def test_kernel_that_is_not_ours(monkeypatch, device):
    def change(launch):
        return {"source": launch.source.replace(launch.kernel, "vendor_add"), "kernel": "vendor_add"}

    with pytest.raises(AssertionError, match="no kernel of ours"):
        add_with(monkeypatch, device, change)


def test_an_op_that_computes_on_the_host(monkeypatch, device):
    def prepare(self, op, call):
        def run(operands):
            return (self.from_numpy(self.to_numpy(operands[0]) + self.to_numpy(operands[1])),)

        return run

    monkeypatch.setattr(type(device), "prepare", prepare)
    with pytest.raises(AssertionError, match="copied between host and"):
        check_op(portable_nn.ops.add, s("x", X, X), "float32", device)


def test_missing_kernels_are_failures_not_skips(device):
    from portable_nn.core.errors import NoKernel

    with pytest.raises(NoKernel, match="row_sum_of_test"):
        check_op(row_sum(), SUM, "float32", device)


# -- the suite ----------------------------------------------------------------------------------------------------


def test_the_suite_names_every_op_once():
    ids = [case.id for case in backend_suite("numpy")]
    assert len(ids) == len(set(ids))
    assert all(any(i.startswith(f"numpy-{name}-") for i in ids) for name, op in registry.OPS.items() if op.samples)


def test_the_suite_serves_a_third_party_backend(monkeypatch):
    class Own(type(selection.get("numpy"))):
        name = "own"

    own = Own()
    with as_host(own):
        for case in backend_suite(own, [registry.OPS["add"], registry.OPS["multiply"]]):
            case.run()
