"""The tape: depth, single use, stale arrays, higher orders, leaves that are not used, what is refused."""

import gc
import weakref

import numpy as np
import pytest

import portable_nn as pnn
from portable_nn.core import registry, selection
from portable_nn.core.errors import ArgumentError, NoGradient, StaleArray
from portable_nn.core.op import Op
from portable_nn.core.tape import Tape, Traced

ops = pnn.ops


def total(x):
    return ops.sum(x)


@pytest.fixture
def temporary():
    before = dict(registry.OPS)
    yield
    registry.OPS.clear()
    registry.OPS.update(before)


def test_value_and_grad_of_a_product():
    w = np.array([1.0, 2.0, 3.0])
    value, g = pnn.value_and_grad(lambda w: total(w * w))(w)
    assert float(value) == 14.0
    np.testing.assert_allclose(g, 2 * w)


def test_grad_takes_trees_and_returns_their_form():
    params = {"a": np.ones(2), "b": [np.full((2, 1), 3.0), None]}
    g = pnn.grad(lambda p: total(p["a"] * p["b"][0]))(params)
    np.testing.assert_allclose(g["a"], [6.0, 6.0])
    np.testing.assert_allclose(g["b"][0], [[2.0], [2.0]])
    assert g["b"][1] is None


def test_auxiliary_values_come_out_untraced():
    (value, aux), _ = pnn.value_and_grad(lambda w: (total(w), {"double": 2 * w}), has_aux=True)(np.ones(3))
    assert float(value) == 3.0
    assert type(aux["double"]) is np.ndarray


def test_further_arguments_are_constants():
    g = pnn.grad(lambda w, x, *, k: total(w * x * k))(np.ones(2), np.array([1.0, 2.0]), k=3.0)
    np.testing.assert_allclose(g, [3.0, 6.0])


def test_ten_thousand_nodes_need_no_recursion():
    def deep(x):
        for _ in range(10_000):
            x = x + 1.0
        return total(x)

    np.testing.assert_allclose(pnn.grad(deep)(np.ones(2)), [1.0, 1.0])


def test_a_value_used_many_times_adds_up():
    def f(x):
        y = x * x
        return total(y * y + y + y)

    x = np.array([1.5, -2.0])
    np.testing.assert_allclose(pnn.grad(f)(x), 4 * x**3 + 4 * x)


def test_a_leaf_that_is_not_used_gets_zeros():
    g = pnn.grad(lambda p: total(p["used"]))({"used": np.ones(2), "unused": np.ones((3, 1), np.float32)})
    np.testing.assert_array_equal(g["unused"], np.zeros((3, 1)))
    assert g["unused"].dtype == np.float32


def test_the_source_itself_as_target():
    with Tape() as tape:
        x = tape.watch(np.float64(2.0).reshape(()))
    (g,) = tape.gradient(x, [x])
    assert float(g) == 1.0


def test_gradient_of_an_intermediate_value():
    with Tape() as tape:
        x = tape.watch(np.array([2.0]))
        y = x * x
        z = total(y * 3.0)
    gx, gy = tape.gradient(z, [x, y])
    np.testing.assert_allclose([gx[0], gy[0]], [12.0, 3.0])


def test_second_use_is_an_error():
    with Tape() as tape:
        x = tape.watch(np.ones(2))
        y = total(x)
    tape.gradient(y, [x])
    with pytest.raises(StaleArray, match="already used; open a new one"):
        tape.gradient(y, [x])


def test_use_after_the_block_is_an_error():
    with Tape() as tape:
        x = tape.watch(np.ones(2))
    with pytest.raises(StaleArray, match="closed tape"):
        ops.add(x, 1.0)


@pytest.mark.parametrize("result", [lambda w: w * 2.0, lambda w: 3.0, lambda w: None])
def test_losses_that_are_not_scalars(result):
    with pytest.raises(NoGradient, match=r"a scalar \(0-d\) array is needed"):
        pnn.value_and_grad(result)(np.ones(2))


def test_a_loss_that_does_not_depend_on_the_parameters():
    with pytest.raises(NoGradient, match="does not depend on any watched array"):
        pnn.grad(lambda w: total(np.ones(2)))(np.ones(2))


def test_integer_parameters_are_refused():
    with pytest.raises(ArgumentError, match="int64 has no gradient"):
        pnn.grad(lambda w: total(w))(np.arange(3))


@pytest.mark.parametrize("look", [float, int, bool, np.asarray, complex], ids=lambda f: f.__name__)
def test_traced_arrays_have_no_value_to_look_at(look):
    def f(w):
        look(total(w))
        return total(w)

    with pytest.raises(ArgumentError, match="stop_gradient"):
        pnn.grad(f)(np.ones(1))


def test_stop_gradient():
    np.testing.assert_allclose(pnn.grad(lambda x: total(x * pnn.stop_gradient(x)))(np.array([3.0])), [3.0])


def test_second_order():
    def f(x):
        return total(x * x * x)

    second = pnn.grad(lambda x: total(pnn.grad(f)(x)))
    np.testing.assert_allclose(second(np.array([2.0, -1.0])), [12.0, -6.0])


def test_third_order():
    def f(x):
        return total(x * x * x * x)

    d = f
    for _ in range(3):
        d = (lambda inner: lambda x: total(pnn.grad(inner)(x)))(d)
    first_three = pnn.grad(lambda x: total(pnn.grad(lambda x: total(pnn.grad(f)(x)))(x)))
    np.testing.assert_allclose(first_three(np.array([2.0])), [48.0])
    assert float(d(np.array([2.0]))) == 48.0


def test_second_derivatives_through_residuals_are_refused_not_wrong():
    x = np.array([1.0, 2.0, 4.0])
    assert pnn.grad(lambda x: ops.var(x))(x).shape == (3,)
    with pytest.raises(NoGradient, match=r"pass through mean, which var keeps.*once only"):
        pnn.grad(lambda x: total(pnn.grad(lambda x: ops.var(x))(x) * x))(x)


def test_inner_tape_over_outer_constant():
    def outer(a):
        inner = pnn.grad(lambda b: total(b * b * a))(np.array([3.0]))  # 2 b a
        return total(inner * a)  # 6 a^2

    np.testing.assert_allclose(pnn.grad(outer)(np.array([2.0])), [24.0])


def test_operators_are_differentiable():
    x = np.array([0.7, 1.3])

    def f(x):
        return total(((2.0 - x) / (x + 1.0)) ** 2 + (-x) * 3.0 - abs(x) + 1.0 / x)

    h = 1e-6
    numeric = [(float(f(x + h * e)) - float(f(x - h * e))) / (2 * h) for e in np.eye(2)]
    np.testing.assert_allclose(pnn.grad(f)(x), numeric, rtol=1e-6)


def test_comparisons_of_traced_arrays_are_constants():
    def f(x):
        return total(x * ops.astype(x > 0.0, x.dtype))

    np.testing.assert_allclose(pnn.grad(f)(np.array([2.0, -2.0])), [1.0, 0.0])


def test_indexing_and_reshaping_are_differentiable():
    def f(x):
        return total(x.reshape(3, 2)[1:, 0] * 2.0) + total(x.T[0])

    np.testing.assert_allclose(pnn.grad(f)(np.ones((2, 3))), [[1.0, 0.0, 2.0], [1.0, 2.0, 0.0]])


def test_attributes_of_traced_arrays():
    with Tape() as tape:
        x = tape.watch(np.ones((2, 3), np.float32))
        assert (x.shape, x.dtype, x.ndim, x.size, len(x)) == ((2, 3), np.float32, 2, 6, 2)
        assert isinstance(x + x, Traced)


def test_an_op_without_a_rule_is_an_error_not_zeros(temporary):
    def body(x: "Array"):  # noqa: F821
        return x * 2

    body.__name__ = "ruleless_of_test"
    ruleless = Op(body, out=lambda x: x)
    with pytest.raises(NoGradient, match="ruleless_of_test has no gradient rule"):
        pnn.grad(lambda x: total(ruleless(x)))(np.ones(2))


def test_a_rule_that_forgets_an_operand_is_an_error(temporary):
    def body(x: "Array", w: "Array"):  # noqa: F821
        return x * w

    body.__name__ = "forgetful_of_test"
    forgetful = Op(body, out=lambda x, w: x, vjp=lambda c, g: {"x": g})
    np.testing.assert_allclose(pnn.grad(lambda x: total(forgetful(x, np.ones(2))))(np.ones(2)), [1.0, 1.0])
    with pytest.raises(NoGradient, match="gives nothing for w"):
        pnn.grad(lambda w: total(forgetful(np.ones(2), w)))(np.ones(2))


def test_a_rule_that_reads_what_it_does_not_save(temporary):
    def body(x: "Array"):  # noqa: F821
        return x * 2

    body.__name__ = "greedy_of_test"
    greedy = Op(body, out=lambda x: x, vjp=lambda c, g: {"x": g * c.x})
    with pytest.raises(AttributeError, match="reads 'x', which its record does not list in saves"):
        pnn.grad(lambda x: total(greedy(x)))(np.ones(2))


def test_needs_tells_the_rule_what_is_watched(temporary):
    asked = []

    def body(x: "Array", w: "Array"):  # noqa: F821
        return x * w

    def vjp(c, g):
        asked.append((c.needs("x"), c.needs("w")))
        return {"x": lambda: g * c.w, "w": lambda: pytest.fail("the gradient of a constant was computed")}

    body.__name__ = "curious_of_test"
    curious = Op(body, out=lambda x, w: x, vjp=vjp, saves=("w",))
    pnn.grad(lambda x: total(curious(x, np.ones(2))))(np.ones(2))
    assert asked == [(True, False)]


def test_an_array_mutated_after_it_was_saved_is_an_error():
    null = selection.get("null")
    with Tape() as tape:
        x = tape.watch(null.from_numpy(np.ones(3, np.float32)))
        y = total(x * x)
    x.value.storage.version += 1
    with pytest.raises(StaleArray, match=r"multiply.*was written to after it was saved"):
        tape.gradient(y, [x])


def test_backward_frees_what_it_has_used():
    with Tape() as tape:
        x = tape.watch(np.ones(4))
        y = x * 2.0
        middle = weakref.ref(y.value)
        z = total(y * y)
    del y
    gc.collect()
    assert middle() is not None
    tape.gradient(z, [x])
    gc.collect()
    assert middle() is None
    assert tape._nodes == []


def test_the_seed_is_the_cotangent():
    with Tape() as tape:
        x = tape.watch(np.array([1.0, 2.0]))
        y = x * x
    (g,) = tape.gradient(y, [x], np.array([10.0, 1.0]))
    np.testing.assert_allclose(g, [20.0, 4.0])


def test_broadcast_operands_get_their_own_shape_back(backend):
    a = pnn.asarray(np.ones((4, 1, 3), np.float32), backend=backend)
    b = pnn.asarray(np.full((2, 1), 2.0, np.float32), backend=backend)
    ga, gb = pnn.grad(lambda p: total(p[0] * p[1]))([a, b])
    np.testing.assert_allclose(pnn.to_numpy(ga), np.full((4, 1, 3), 4.0))
    np.testing.assert_allclose(pnn.to_numpy(gb), np.full((2, 1), 12.0))


def test_mixed_precision_gradients_have_the_operands_dtype(backend):
    a = pnn.asarray(np.ones(3, np.float16), backend=backend)
    b = pnn.asarray(np.ones(3, np.float32), backend=backend)
    ga, gb = pnn.grad(lambda p: total(p[0] * p[1]))([a, b])
    assert (ga.dtype, gb.dtype) == (np.float16, np.float32)


def test_unused_outputs_and_integer_outputs(temporary):
    def body(x: "Array"):  # noqa: F821
        return x * 2, np.argsort(x), x * 3

    def vjp(c, first, order, second):
        assert order is None
        parts = ([] if first is None else [first * 2.0]) + ([] if second is None else [second * 3.0])
        return {"x": lambda: parts[0] if len(parts) == 1 else parts[0] + parts[1]}

    body.__name__ = "several_of_test"
    from portable_nn.core.spec import Spec

    several = Op(
        body, out=lambda x: (x, Spec(x.shape, np.dtype(np.int64)), x), outputs=("a", "order", "b"),
        integer_outputs=("order",), vjp=vjp,
    )  # fmt: skip

    def first(x):
        a, order, _ = several(x)
        assert not isinstance(order, Traced)
        return total(a)

    np.testing.assert_allclose(pnn.grad(first)(np.ones(2)), [2.0, 2.0])
    np.testing.assert_allclose(pnn.grad(lambda x: total(several(x)[0] + several(x)[2]))(np.ones(2)), [5.0, 5.0])
