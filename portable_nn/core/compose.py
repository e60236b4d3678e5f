"""An expression computed with ops, one per node: how the gradient of an elementwise op is differentiated again.

The fused gradient op has no rule of its own. When a tape watches its operands, its expression is taken apart instead,
and every node is an op with a rule: derivatives of any order, without a record for each.
"""

from __future__ import annotations

import ast
from collections.abc import Mapping
from typing import Any

from .expression import Expression
from .registry import find
from .tape import stop_gradient

_OPS: dict[type[ast.AST], str] = {
    ast.Add: "add", ast.Sub: "subtract", ast.Mult: "multiply", ast.Div: "divide", ast.FloorDiv: "floor_divide",
    ast.Mod: "remainder", ast.Pow: "pow", ast.BitAnd: "bitwise_and", ast.BitOr: "bitwise_or", ast.BitXor: "bitwise_xor",
    ast.Lt: "less", ast.LtE: "less_equal", ast.Gt: "greater", ast.GtE: "greater_equal", ast.Eq: "equal",
    ast.NotEq: "not_equal", ast.USub: "negative", ast.Invert: "bitwise_invert",
}  # fmt: skip
_STEPS = ("sign", "floor", "ceil", "trunc", "round", "isnan", "isinf", "isfinite", "signbit")  # derivative 0 where there is one


def _names(node: ast.expr) -> list[str]:
    return [n.id for n in ast.walk(node) if isinstance(n, ast.Name)]


def _number(node: ast.expr, scope: Mapping[str, Any]) -> Any:
    found = Expression(ast.unparse(node)).evaluate({k: v for k, v in scope.items() if not hasattr(v, "dtype")})
    return found.item() if hasattr(found, "item") else found


def compose(expression: Expression, values: Mapping[str, Any]) -> Any:
    """Return the expression's value, computed with ops on `values` (operands and settings by name)."""
    scope = dict(values)
    for name, node in expression.steps:
        scope[name] = _node(node, scope)
    return _node(expression.value, scope)


def _apply(name: str, *args: Any) -> Any:
    if name in _STEPS:
        args = tuple(stop_gradient(a) for a in args)
    return find(name)(*args)


def _node(node: ast.expr, scope: Mapping[str, Any]) -> Any:
    if isinstance(node, ast.Name) and node.id in scope:
        return scope[node.id]
    if not any(hasattr(scope.get(name), "dtype") for name in _names(node)):
        return _number(node, scope)  # constants and settings only
    if isinstance(node, ast.BinOp):
        return _apply(_OPS[type(node.op)], _node(node.left, scope), _node(node.right, scope))
    if isinstance(node, ast.Compare):
        return _apply(_OPS[type(node.ops[0])], _node(node.left, scope), _node(node.comparators[0], scope))
    if isinstance(node, ast.UnaryOp):
        return _apply(_OPS[type(node.op)], _node(node.operand, scope))
    assert isinstance(node, ast.Call)
    assert isinstance(node.func, ast.Name)
    args = [_node(arg, scope) for arg in node.args]
    if node.func.id == "fma":
        return _apply("add", _apply("multiply", args[0], args[1]), args[2])
    return _apply(node.func.id, *args)
