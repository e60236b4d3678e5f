"""Expressions: each intrinsic and operator in three renderings. NumPy is compared with Python's and with C's, executed."""

import math

import numpy as np
import pytest
from conftest import VALUES

from portable_nn.core import dtypes, registry, selection
from portable_nn.core.elementwise import elementwise
from portable_nn.core.errors import SettingError
from portable_nn.core.expression import _C_NAMES, _PREDICATES, NUMPY_CALLS, Expression, compute_tag

NAN, INF = math.nan, math.inf
SPECIAL = (0.0, -0.0, 1.0, -1.0, 0.5, -0.5, 1.5, 2.5, -2.5, 0.3, -0.7, 3.0, 1e-3, 20.0, -20.0, INF, -INF, NAN)
UNARY = [n for n in NUMPY_CALLS if n not in ("maximum", "minimum", "atan2", "hypot", "fma", "copysign", "where")]
BINARY = ["maximum", "minimum", "atan2", "hypot", "copysign"]
OPERATORS = ["+", "-", "*", "/", "//", "%", "**", "<", "<=", ">", ">=", "==", "!="]
WHOLE = ["+", "-", "*", "//", "%", "&", "|", "^", "<<", ">>", "<", "<=", ">", ">=", "==", "!="]


def python_value(expression: Expression, names: dict[str, float]) -> float:
    """Execute the Python rendering (what numba compiles), with the helpers that numba kernels bring along."""

    def numpy(function):
        return np.errstate(all="ignore")(lambda *a: float(function(*(np.float64(v) for v in a))))

    scope = {f"v_{k}": v for k, v in names.items()} | {"math": math, "f64": float, "FMA": numpy(NUMPY_CALLS["fma"])}
    for name, function in NUMPY_CALLS.items():
        scope[f"pnn_{_C_NAMES.get(name, name)}_f64"] = numpy(function)
    scope["pnn_floordiv_f64"], scope["pnn_mod_f64"], scope["pnn_pow_f64"] = map(numpy, (np.floor_divide, np.remainder, np.power))
    steps, value = expression.split()
    for name, text in steps:
        scope[f"v_{name}"] = eval(Expression(text).render_python("f64"), scope)
    return float(eval(Expression(value).render_python("f64"), scope))


def close(got: object, wanted: object, rtol: float = 1e-12) -> None:
    np.testing.assert_allclose(np.asarray(got, np.float64), np.asarray(wanted, np.float64), rtol=rtol, atol=rtol)


@pytest.mark.parametrize("name", UNARY)
def test_intrinsic_in_python(name):
    expression = Expression(f"{name}(x)")
    for x in SPECIAL:
        wanted = float(expression.evaluate({"x": np.float64(x)}))
        try:
            got = python_value(expression, {"x": x})
        except (ValueError, OverflowError, ZeroDivisionError):
            assert not math.isfinite(wanted), f"{name}({x}) raises in Python but is {wanted}"
            continue
        close(got, wanted)


@pytest.mark.parametrize("text", [f"{n}(x, y)" for n in BINARY] + [f"x {o} y" for o in OPERATORS])
def test_pairs_in_python(text):
    expression = Expression(text)
    with np.errstate(all="ignore"):
        for x in SPECIAL:
            for y in SPECIAL:
                wanted = float(expression.evaluate({"x": np.float64(x), "y": np.float64(y)}))
                try:
                    got = python_value(expression, {"x": x, "y": y})
                except (ValueError, OverflowError, ZeroDivisionError):
                    continue  # Python's floats raise where IEEE gives inf or NaN; numba compiles to IEEE
                close(got, wanted)


def test_assignments_and_constants_in_python():
    expression = Expression("t = tanh(0.5 * x); u = t * t; where(x > 0, u + pi, -inf)")
    close(python_value(expression, {"x": 1.0}), math.tanh(0.5) ** 2 + math.pi)
    assert python_value(expression, {"x": -1.0}) == -INF


LOGIC = ("x > 0 and y > 0", "x > 0 or y > 0", "not x > 0", "x > 0 and y > 0 or x < -1 and not y == 0")


@pytest.mark.parametrize("text", LOGIC)
def test_logic_in_python(text):
    chosen = Expression(f"where({text}, 1, 0)")
    for x in SPECIAL:
        for y in SPECIAL:
            assert python_value(chosen, {"x": x, "y": y}) == chosen.evaluate({"x": np.float64(x), "y": np.float64(y)}) == eval(text, {"x": x, "y": y})


# -- C, executed on a device --------------------------------------------------------------------------------------


@pytest.fixture(params=[name for name in VALUES if name != "numpy"])
def device(request):
    return selection.get(request.param)


@pytest.fixture
def made():
    """Make an elementwise op of a text; it leaves the registry with the test."""
    before = dict(registry.OPS)

    def make(text, result="same", kinds=("float", "int", "bool")):
        def two(x: "Array", y: "Array"):  # noqa: F821
            """Return the value of the expression under test."""

        two.__name__ = "expression_of_test"
        registry.OPS.pop("expression_of_test", None)
        return elementwise(text, kinds=kinds, result=result)(two)

    yield make
    registry.OPS.clear()
    registry.OPS.update(before)


def grid(values, dtype):
    x, y = np.meshgrid(np.asarray(values, dtype), np.asarray(values, dtype))
    return x.ravel(), y.ravel()


def on_device(op, x, y, device):
    return device.to_numpy(op(device.from_numpy(x), device.from_numpy(y)))


ULPS = {"tan": 8, "pow": 20, "**": 20, "asinh": 8, "acosh": 8, "atanh": 8, "erf": 24, "hypot": 8, "sinh": 8}


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("text", [f"{n}(x)" for n in UNARY] + [f"{n}(x, y)" for n in BINARY] + [f"x {o} y" for o in OPERATORS])
def test_floats_in_c(text, dtype, made, device):
    if not device.supports(dtypes.canonical(dtype)):
        pytest.skip(f"{device.device} has no {dtype}")
    compares = text.split("(")[0] in _PREDICATES or any(f" {o} " in text for o in ("<", "<=", ">", ">=", "==", "!="))
    op = made(text, "bool" if compares else "same")
    x, y = grid(SPECIAL, dtype)
    with np.errstate(all="ignore"):
        wanted = np.asarray(Expression(text).evaluate({"x": x.astype(np.float64), "y": y.astype(np.float64)}))
    got = on_device(op, x, y, device)
    if compares:
        np.testing.assert_array_equal(got, wanted.astype(bool))
        return
    with np.errstate(all="ignore"):
        wanted = np.where(np.isinf(wanted.astype(dtype)), wanted.astype(dtype), wanted)  # 1e60 is inf in float32
    finite = np.isfinite(wanted)
    np.testing.assert_array_equal(np.isnan(got), np.isnan(wanted))
    np.testing.assert_array_equal(got[~finite & ~np.isnan(wanted)], wanted[~finite & ~np.isnan(wanted)])
    ulps = next((n for name, n in ULPS.items() if name in text), 6)
    eps = np.finfo(dtype).eps
    # Near a zero of the function the argument itself is what limits: sin(20) in float32 is exact to eps.
    error = np.abs(got.astype(np.float64)[finite] - wanted[finite])
    limit = ulps * eps * np.maximum(np.abs(wanted[finite]), eps)
    if dtype == "float64":
        limit = limit * 4  # NumPy's own error counts too
    worst = np.argmax(error / limit) if error.size else 0
    assert (error <= limit).all(), f"{text} of {x[finite][worst]}, {y[finite][worst]}: {got[finite][worst]} for {wanted[finite][worst]}"


@pytest.mark.parametrize("text", LOGIC)
def test_logic_in_c(text, made, device):
    x, y = grid(SPECIAL, "float32")
    wanted = [eval(text, {"x": a, "y": b}) for a, b in zip(x.tolist(), y.tolist(), strict=True)]
    np.testing.assert_array_equal(on_device(made(f"where({text}, 1, 0)"), x, y, device), wanted)


@pytest.mark.parametrize("text", ["copysign(x, y)", "maximum(x, y)", "minimum(x, y)", "x * y", "-x", "abs(x)", "round(x)", "trunc(x)", "ceil(x)"])
def test_signs_of_zero_in_c(text, made, device):
    op = made(text)
    x, y = grid((0.0, -0.0, 1.0, -1.0, -0.2), np.float32)
    wanted = np.asarray(Expression(text).evaluate({"x": x, "y": y}))
    got = on_device(op, x, y, device)
    keep = ~((wanted == 0) & np.isin(text, ("maximum(x, y)", "minimum(x, y)")))  # either zero is right there
    np.testing.assert_array_equal(np.signbit(got)[keep], np.signbit(wanted)[keep])


INTEGER_TEXTS = [*(f"x {o} y" for o in WHOLE), "maximum(x, y)", "minimum(x, y)", "~x", "-x", "abs(x)", "sign(x)"]
INTEGER_CASES = [  # each text in three of eight dtypes, which take turns: with `-m slow` in all of them
    pytest.param(text, d.name, marks=() if (i + j) % 8 in (0, 2, 5) else pytest.mark.slow)
    for i, text in enumerate(INTEGER_TEXTS)
    for j, d in enumerate(dtypes.INTEGERS)
]


@pytest.mark.parametrize(("text", "dtype"), INTEGER_CASES)
def test_integers_in_c(text, dtype, made, device):
    if text.startswith("-") and dtype.startswith("u"):
        pytest.skip("the array API has no negative of unsigned integers")
    compares = any(f" {o} " in text for o in ("<", "<=", ">", ">=", "==", "!="))
    op = made(text, "bool" if compares else "same")
    info = np.iinfo(dtype)
    tried = (0, 1, 2, 3, 7, 8, 31, 33, 63, 64, 65, -1, -3, info.max, info.max - 1, info.min)
    values = sorted({v for v in tried if info.min <= v <= info.max})
    x, y = grid(values, dtype)
    if "<<" in text or ">>" in text:
        x, y = x[y >= 0], y[y >= 0]
    with np.errstate(all="ignore"):
        wanted = np.asarray(Expression(text).evaluate({"x": x, "y": y}))
    if "<<" in text or ">>" in text:  # the width counts, whatever NumPy's C compiler does
        bits = info.bits
        past = np.where(x < 0, ~np.zeros_like(x), 0) if ">>" in text else np.zeros_like(x)
        wanted = np.where(y < bits, wanted, past).astype(dtype)
    got = on_device(op, x, y, device)
    bad = np.flatnonzero(got != wanted)
    assert not bad.size, f"{dtype}: {text} of {x[bad[0]]}, {y[bad[0]]} is {got[bad[0]]}, NumPy says {wanted[bad[0]]}"


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
@pytest.mark.parametrize("text", ["x + y", "x * y", "x / y", "exp(x)", "x", "maximum(x, y)"])
def test_halves_round_once_in_c(text, dtype, made, device):
    rng = np.random.default_rng(0)
    kind = dtypes.canonical(dtype)
    x, y = (rng.uniform(-3, 3, 4096).astype(kind) for _ in range(2))
    wide = {"x": x.astype(np.float32), "y": y.astype(np.float32)}
    with np.errstate(all="ignore"):
        wanted = np.asarray(Expression(text).evaluate(wide)).astype(kind)
    got = on_device(made(text), x, y, device)
    if text == "exp(x)":  # the float32 value may sit on a tie
        assert (got.view(np.int16) - wanted.view(np.int16)).__abs__().max() <= 1
    else:
        np.testing.assert_array_equal(got.view(np.uint16), wanted.view(np.uint16))


@pytest.mark.parametrize("text", ["where(x > y, x, 0)", "where(isnan(x), 1, y)", "fma(x, y, 1)", "t = x + y; t * t - t", "nan", "inf + 0 * x", "pi * x"])
def test_forms_in_c(text, made, device):
    x, y = grid((0.5, -1.0, 2.0, NAN), np.float32)
    wanted = np.asarray(Expression(text).evaluate({"x": x, "y": y}))
    got = on_device(made(text), x, y, device)
    np.testing.assert_allclose(got, np.broadcast_to(wanted, got.shape), rtol=1e-6)


# -- parsing ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "words"),
    [("x +", "not Python syntax"), ("t = x", "must end in a value"), ("foo(x)", "no intrinsic 'foo'"), ("", "must end in a value")],
)
def test_texts_that_are_refused(text, words):
    with pytest.raises(SettingError, match=words):
        list(Expression(text).names) and Expression(text).steps


def test_statements_that_are_refused():
    with pytest.raises(SettingError, match="only `name = value`"):
        Expression("x; y").steps  # noqa: B018


def test_names_in_order_of_first_use():
    assert set(Expression("t = b * a; t + c * pi + exp(t)").names) == {"a", "b", "c"}


def test_operations_are_counted():
    assert Expression("x").operations == 0
    assert Expression("x * x + 1").operations == 2
    assert Expression("t = exp(-x); 1 / (1 + t)").operations == 4


def test_fractions_do_not_fit_integers():
    with pytest.raises(SettingError, match=r"0\.5 does not fit"):
        Expression("x * 0.5").render_c("i32")


@pytest.mark.parametrize(("tag", "computed"), [("f16", "f32"), ("bf16", "f32"), ("f64", "f64"), ("b8", "i32"), ("i8", "i32"), ("u16", "u32"), ("i64", "i64")])
def test_compute_types(tag, computed):
    assert compute_tag(tag) == computed
