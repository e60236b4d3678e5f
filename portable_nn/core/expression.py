"""Scalar expressions: parsed once from Python's own syntax, rendered to NumPy, to Python (numba) and to the C dialect.

An expression is zero or more assignments and a final value, separated by ``;``:

    t = tanh(0.8 * x); 0.5 * x * (1 + t)

Names are operands and settings. `and`, `or` and `not` join conditions. The intrinsics have stated semantics, the same in every language: `maximum` and
`minimum` propagate NaN, `%` and `//` take the sign of the divisor and give 0 for an integer divisor of 0, `round` is
half to even, shifts by the width or more give 0 (or the sign). Constants take the type of the computation.
"""

from __future__ import annotations

import ast
import math
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from functools import cached_property, reduce
from typing import Any, ClassVar

import numpy as np

from .errors import SettingError

CONSTANTS = {"inf": math.inf, "nan": math.nan, "pi": math.pi}


def _erf(x: Any) -> Any:
    values = np.asarray(x)
    wide = values.astype(np.float64)
    return np.vectorize(math.erf, otypes=[np.float64])(wide).astype(values.dtype) if values.size else values


def _fma(a: Any, b: Any, c: Any) -> Any:
    return a * b + c


def _shift(f: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
    return lambda a, b: f(a, b)


# Intrinsics of one value and of more, with their NumPy form. The C names are `pnn_<name>_<compute tag>`.
NUMPY_CALLS: dict[str, Callable[..., Any]] = {
    "exp": np.exp, "expm1": np.expm1, "log": np.log, "log1p": np.log1p, "log2": np.log2, "log10": np.log10,
    "sqrt": np.sqrt, "rsqrt": lambda x: 1 / np.sqrt(x), "sin": np.sin, "cos": np.cos, "tan": np.tan,
    "asin": np.arcsin, "acos": np.arccos, "atan": np.arctan, "sinh": np.sinh, "cosh": np.cosh, "tanh": np.tanh,
    "asinh": np.arcsinh, "acosh": np.arccosh, "atanh": np.arctanh, "erf": _erf,
    "floor": np.floor, "ceil": np.ceil, "trunc": np.trunc, "round": np.round, "abs": np.abs, "sign": np.sign,
    "maximum": np.maximum, "minimum": np.minimum, "atan2": np.arctan2, "hypot": np.hypot, "fma": _fma,
    "copysign": np.copysign, "isnan": np.isnan, "isinf": np.isinf, "isfinite": np.isfinite,
    "signbit": np.signbit, "where": np.where,
}  # fmt: skip
_PREDICATES = ("isnan", "isinf", "isfinite", "signbit")

_NUMPY_BINARY: dict[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: np.add, ast.Sub: np.subtract, ast.Mult: np.multiply, ast.Div: np.divide, ast.FloorDiv: np.floor_divide,
    ast.Mod: np.remainder, ast.Pow: np.power, ast.BitAnd: np.bitwise_and, ast.BitOr: np.bitwise_or,
    ast.BitXor: np.bitwise_xor, ast.LShift: _shift(np.left_shift), ast.RShift: _shift(np.right_shift),
}  # fmt: skip
_NUMPY_COMPARE: dict[type[ast.cmpop], Callable[[Any, Any], Any]] = {
    ast.Lt: np.less, ast.LtE: np.less_equal, ast.Gt: np.greater, ast.GtE: np.greater_equal,
    ast.Eq: np.equal, ast.NotEq: np.not_equal,
}  # fmt: skip
_SYMBOLS: dict[type[ast.operator] | type[ast.cmpop], str] = {
    ast.Add: "+", ast.Sub: "-", ast.Mult: "*", ast.Div: "/", ast.BitAnd: "&", ast.BitOr: "|", ast.BitXor: "^",
    ast.Lt: "<", ast.LtE: "<=", ast.Gt: ">", ast.GtE: ">=", ast.Eq: "==", ast.NotEq: "!=",
}  # fmt: skip
_C_FUNCTIONS = {
    ast.FloorDiv: "floordiv", ast.Mod: "mod", ast.Pow: "pow", ast.LShift: "shl", ast.RShift: "shr",
}  # fmt: skip
_C_NAMES = {"maximum": "max", "minimum": "min"}
_C_TYPES = {"b8": "i32", "i8": "i32", "i16": "i32", "u8": "u32", "u16": "u32"}
# What kernels may call besides: conversions to a compute type, and what they need for storing float64 as a half and
# complex numbers. `real`, `imag` and `c64(re, im)` have a meaning of their own in each language.
CASTS = ("i32", "i64", "u32", "u64", "f32", "f64")
KERNEL_CALLS = (*CASTS, "narrow", "real", "imag", "c64", "c128")


def compute_tag(tag: str) -> str:
    """Return the tag of the C type in which values stored as `tag` are computed with."""
    return "f32" if tag in ("f16", "bf16") else _C_TYPES.get(tag, tag)


@dataclass(frozen=True)
class Expression:
    """A parsed expression.

    Parameters
    ----------
    text : str
        See the module's docstring.
    """

    text: str
    _calls: ClassVar[tuple[str, ...]] = tuple(NUMPY_CALLS)

    def __post_init__(self) -> None:
        for node in ast.walk(self._module):
            if isinstance(node, ast.Call):
                name = node.func.id if isinstance(node.func, ast.Name) else "?"
                if name not in self._calls:
                    raise SettingError(f"expression {self.text!r}: there is no intrinsic {name!r}; known: {', '.join(self._calls)}")

    @cached_property
    def _module(self) -> ast.Module:
        try:
            tree = ast.parse(self.text.replace(";", "\n").replace("\n ", "\n").strip())
        except SyntaxError as error:
            raise SettingError(f"expression {self.text!r} is not Python syntax: {error.msg}") from None
        if not tree.body or not isinstance(tree.body[-1], ast.Expr):
            raise SettingError(f"expression {self.text!r} must end in a value")
        return tree

    @cached_property
    def steps(self) -> tuple[tuple[str, ast.expr], ...]:
        """The assignments, as (name, value)."""
        found = []
        for statement in self._module.body[:-1]:
            if not (isinstance(statement, ast.Assign) and isinstance(statement.targets[0], ast.Name)):
                raise SettingError(f"expression {self.text!r}: only `name = value` may come before the final value")
            found.append((statement.targets[0].id, statement.value))
        return tuple(found)

    @cached_property
    def value(self) -> ast.expr:
        """The final value."""
        last = self._module.body[-1]
        assert isinstance(last, ast.Expr)
        return last.value

    @cached_property
    def names(self) -> tuple[str, ...]:
        """Names read that are neither intrinsics, constants nor assigned here, in order of first use."""
        local = {name for name, _ in self.steps}
        calls = {id(n.func) for n in ast.walk(self._module) if isinstance(n, ast.Call)}
        found: dict[str, None] = {}
        for node in ast.walk(self._module):
            if not (isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load)) or id(node) in calls:
                continue
            if node.id not in local and node.id not in CONSTANTS:
                found[node.id] = None
        return tuple(found)

    @cached_property
    def operations(self) -> int:
        """How many arithmetic operations one element takes (each intrinsic counts as one)."""
        kinds = (ast.BinOp, ast.Compare, ast.Call, ast.UnaryOp)
        return sum(isinstance(node, kinds) for node in ast.walk(self._module))

    def evaluate(self, values: Mapping[str, Any]) -> Any:
        """Compute the expression on NumPy arrays."""
        scope = dict(values)
        with np.errstate(all="ignore"):
            for name, node in self.steps:
                scope[name] = _numpy(node, scope)
            return _numpy(self.value, scope)

    def split(self, suffix: str = "") -> tuple[list[tuple[str, str]], str]:
        """Return the assignments as (name, text) and the final value's text, assigned names with `suffix` added.

        So several expressions can share a scope.
        """
        local = {name for name, _ in self.steps}

        class Renamed(ast.NodeTransformer):
            def visit_Name(self, node: ast.Name) -> ast.Name:
                return ast.Name(node.id + suffix, node.ctx) if node.id in local else node

        def text(node: ast.expr) -> str:
            return ast.unparse(Renamed().visit(ast.parse(ast.unparse(node), mode="eval").body))

        return [(name + suffix, text(node)) for name, node in self.steps], text(self.value)

    def renamed(self, names: Mapping[str, str]) -> Expression:
        """Return the expression with other names for what it reads and assigns."""

        class Renamed(ast.NodeTransformer):
            def visit_Name(self, node: ast.Name) -> ast.Name:
                return ast.Name(names.get(node.id, node.id), node.ctx)

        return type(self)(ast.unparse(Renamed().visit(ast.parse(ast.unparse(self._module)))).replace("\n", "; "))

    def render_c(self, tag: str, plain: Collection[str] = ()) -> str:
        """Return the final value as C, computed in type `tag`; name `x` is the variable `v_x`, or `x` if it is in `plain`."""
        return _c(self.value, tag, plain)

    def render_python(self, tag: str, plain: Collection[str] = ()) -> str:
        """Return the final value as Python that numba compiles, computed in type `tag`.

        In scope it needs the types by their tags (`f32(...)` converts), `math`, FMA and the functions pnn_<name>_<tag>.
        """
        return _python(self.value, tag, plain)[0]

    @cached_property
    def functions(self) -> frozenset[str]:
        """Names of the intrinsics called, operators that are calls in C and Python among them."""
        found = {_C_NAMES.get(name, name) for name in map(_call_name, self._nodes(ast.Call))}
        return frozenset(found | {_C_FUNCTIONS[type(n.op)] for n in self._nodes(ast.BinOp) if type(n.op) in _C_FUNCTIONS})

    def _nodes(self, kind: type[Any]) -> list[Any]:
        return [node for node in ast.walk(self._module) if isinstance(node, kind)]


class KernelExpression(Expression):
    """An expression inside a kernel, which may also call `KERNEL_CALLS`; it has no NumPy form."""

    _calls: ClassVar[tuple[str, ...]] = (*NUMPY_CALLS, *KERNEL_CALLS)


def _call_name(node: ast.Call) -> str:
    assert isinstance(node.func, ast.Name)
    return node.func.id


def _constant(node: ast.expr) -> float | int | None:
    if isinstance(node, ast.Constant) and isinstance(node.value, int | float):
        return node.value
    if isinstance(node, ast.Name) and node.id in CONSTANTS:
        return CONSTANTS[node.id]
    return None


def _numpy(node: ast.expr, scope: Mapping[str, Any]) -> Any:
    constant = _constant(node)
    if constant is not None:
        return constant
    if isinstance(node, ast.Name):
        return scope[node.id]
    if isinstance(node, ast.BinOp):
        return _NUMPY_BINARY[type(node.op)](_numpy(node.left, scope), _numpy(node.right, scope))
    if isinstance(node, ast.Compare):
        return _NUMPY_COMPARE[type(node.ops[0])](_numpy(node.left, scope), _numpy(node.comparators[0], scope))
    if isinstance(node, ast.BoolOp):
        join = np.logical_and if isinstance(node.op, ast.And) else np.logical_or
        return reduce(join, (_numpy(value, scope) for value in node.values))
    if isinstance(node, ast.UnaryOp):
        operand = _numpy(node.operand, scope)
        if isinstance(node.op, ast.Not):
            return np.logical_not(operand)
        return np.invert(operand) if isinstance(node.op, ast.Invert) else np.negative(operand)
    assert isinstance(node, ast.Call)
    return NUMPY_CALLS[_call_name(node)](*(_numpy(arg, scope) for arg in node.args))


def _c_literal(value: float, tag: str) -> str:
    if tag not in ("f32", "f64"):
        if value != int(value):
            raise SettingError(f"the constant {value} does not fit a computation in {tag}")
        return f"(({tag}){int(value)})"
    if math.isnan(value):
        return f"NAN_{tag.upper()}"
    if math.isinf(value):
        return f"INF_{tag.upper()}"
    return f"{float(value)!r}{'f' if tag == 'f32' else ''}"


def _c(node: ast.expr, tag: str, plain: Collection[str]) -> str:
    constant = _constant(node)
    if constant is not None:
        return _c_literal(constant, tag)
    if isinstance(node, ast.Name):
        return node.id if node.id in plain else f"v_{node.id}"
    if isinstance(node, ast.BinOp):
        left, right = _c(node.left, tag, plain), _c(node.right, tag, plain)
        name = _C_FUNCTIONS.get(type(node.op))
        return f"pnn_{name}_{tag}({left}, {right})" if name else f"({left} {_SYMBOLS[type(node.op)]} {right})"
    if isinstance(node, ast.Compare):
        return f"({_c(node.left, tag, plain)} {_SYMBOLS[type(node.ops[0])]} {_c(node.comparators[0], tag, plain)})"
    if isinstance(node, ast.BoolOp):
        return f"({(' && ' if isinstance(node.op, ast.And) else ' || ').join(_c(value, tag, plain) for value in node.values)})"
    if isinstance(node, ast.UnaryOp):
        return f"({_C_UNARY[type(node.op)]}{_c(node.operand, tag, plain)})"
    assert isinstance(node, ast.Call)
    name = _call_name(node)
    args = [_c(arg, name if name in CASTS else _part(name, tag), plain) for arg in node.args]
    if name == "where":
        return f"(({args[0]}) ? ({args[1]}) : ({args[2]}))"
    if name in CASTS:
        return f"(({name}){args[0]})"
    if name in _C_SPECIAL:
        return _C_SPECIAL[name].format(*args)
    return f"pnn_{_C_NAMES.get(name, name)}_{tag}({', '.join(args)})"


_C_UNARY = {ast.Invert: "~", ast.USub: "-", ast.UAdd: "+", ast.Not: "!"}
_C_SPECIAL = {
    "fma": "FMA({}, {}, {})", "narrow": "pnn_narrow_f64({})", "real": "{}.x", "imag": "{}.y", "c64": "pnn_c64({}, {})",
    "c128": "pnn_c128({}, {})",
}  # fmt: skip
_PYTHON_SPECIAL = {
    "fma": "FMA({}, {}, {})", "narrow": "pnn_narrow_f64({})", "real": "{}.real", "imag": "{}.imag", "c64": "pnn_c64({}, {})",
    "c128": "pnn_c128({}, {})",
}  # fmt: skip


def _part(name: str, tag: str) -> str:
    """Return the type in which the arguments of `name` are computed."""
    return {"c64": "f32", "c128": "f64"}.get(name, tag)


def _python(node: ast.expr, tag: str, plain: Collection[str]) -> tuple[str, bool]:
    """Return the text, and whether it is a condition. Numba widens what C does not, so every result is converted."""

    def number(node: ast.expr, tag: str = tag) -> str:
        text, condition = _python(node, tag, plain)
        return f"{tag}({text})" if condition else text

    constant = _constant(node)
    if constant is not None:
        _c_literal(constant, tag)  # refuses what does not fit
        return f"{tag}({constant!r})" if math.isfinite(constant) else f"{tag}(math.{constant!r})", False
    if isinstance(node, ast.Name):
        return node.id if node.id in plain else f"v_{node.id}", False
    if isinstance(node, ast.BinOp):
        name = _C_FUNCTIONS.get(type(node.op))
        if name:
            return f"pnn_{name}_{tag}({number(node.left)}, {number(node.right)})", False
        symbol = _SYMBOLS[type(node.op)]
        (left, both), (right, too) = _python(node.left, tag, plain), _python(node.right, tag, plain)
        if both and too and symbol in "&|^":
            return f"({left} {symbol} {right})", True
        return f"{tag}({number(node.left)} {symbol} {number(node.right)})", False
    if isinstance(node, ast.Compare):
        return f"({number(node.left)} {_SYMBOLS[type(node.ops[0])]} {number(node.comparators[0])})", True
    if isinstance(node, ast.BoolOp):
        join = " and " if isinstance(node.op, ast.And) else " or "
        return f"({join.join(_condition(value, tag, plain) for value in node.values)})", True
    if isinstance(node, ast.UnaryOp):
        if isinstance(node.op, ast.Not):
            return f"(not {_condition(node.operand, tag, plain)})", True
        return f"{tag}({_C_UNARY[type(node.op)]}{number(node.operand)})", False
    assert isinstance(node, ast.Call)
    name = _call_name(node)
    if name == "where":
        return f"({number(node.args[1])} if {_condition(node.args[0], tag, plain)} else {number(node.args[2])})", False
    args = [number(arg, name if name in CASTS else _part(name, tag)) for arg in node.args]
    if name in CASTS:
        return f"{name}({args[0]})", False
    if name in _PYTHON_SPECIAL:
        return _PYTHON_SPECIAL[name].format(*args), False
    text = f"pnn_{_C_NAMES.get(name, name)}_{tag}({', '.join(args)})"
    return (f"({text} != 0)", True) if name in _PREDICATES else (text, False)


def _condition(node: ast.expr, tag: str, plain: Collection[str]) -> str:
    text, condition = _python(node, tag, plain)
    return text if condition else f"({text} != 0)"
