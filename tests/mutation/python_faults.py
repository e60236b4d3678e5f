"""Faults in Python, made by rules over the syntax tree and edited in the text, so that everything else stays as written.

Left alone: docstrings, annotations, messages, `raise` and `assert`, and what a record says for tests and benchmarks (samples,
wrong calls, flops). Expressions written as text (elementwise ops, terms of plans) are parsed and mutated too.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from itertools import pairwise

from .fault import Fault, made

_COMPARED = {ast.Lt: "<", ast.LtE: "<=", ast.Gt: ">", ast.GtE: ">=", ast.Eq: "==", ast.NotEq: "!="}
_FLIPPED = {"<": "<=", "<=": "<", ">": ">=", ">=": ">", "==": "!=", "!=": "=="}
_SIGNS = {ast.Add: ("+", "-"), ast.Sub: ("-", "+")}
_FACTORS = {ast.Mult: ("*", "+"), ast.Div: ("/", "*"), ast.FloorDiv: ("//", "*"), ast.Mod: ("%", "//")}
_OPPOSITE = {
    "max": "min", "min": "max", "maximum": "minimum", "minimum": "maximum", "floor": "ceil", "ceil": "floor", "any": "all", "all": "any",
    "exp": "expm1", "sin": "cos", "cos": "sin", "zeros": "ones", "ones": "zeros", "log": "log1p", "cumsum": "cumprod",
}  # fmt: skip
_OF_TESTS = {"samples", "gradient_samples", "bad", "bench", "flops", "reduces", "version"}
_OF_RECORDS = {"kinds", "result", "apart", "outputs", "residuals", "integer_outputs"}
_SYNCHRONISING = ("BARRIER", "syncthreads")
Edit = tuple[int, int, str, str]


class _Places:
    """From a node to its characters: the tree counts bytes."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.lines = text.splitlines(keepends=True)
        self.starts = [0]
        for line in self.lines:
            self.starts.append(self.starts[-1] + len(line))

    def at(self, line: int, column: int) -> int:
        return self.starts[line - 1] + len(self.lines[line - 1].encode()[:column].decode())

    def span(self, node: ast.expr | ast.stmt) -> tuple[int, int]:
        return self.at(node.lineno, node.col_offset), self.at(node.end_lineno or 0, node.end_col_offset or 0)

    def of(self, node: ast.expr | ast.stmt) -> str:
        start, stop = self.span(node)
        return self.text[start:stop]


def _between(places: _Places, left: ast.expr, right: ast.expr, sign: str, new: str) -> tuple[int, int, str] | None:
    start, stop = places.span(left)[1], places.span(right)[0]
    at = places.text.find(sign, start, stop)
    return None if at < 0 else (at, at + len(sign), new)


def _edits(node: ast.AST, places: _Places, in_kernel: bool) -> Iterator[Edit]:
    """Yield the edits of one node: start, stop, new text, kind."""

    def edit(found: tuple[int, int, str] | None, kind: str) -> Iterator[Edit]:
        if found is not None:
            yield (*found, kind)

    match node:
        case ast.Compare(left, operators, rights):
            for operator, (one, two) in zip(operators, pairwise([left, *rights]), strict=True):
                sign = _COMPARED.get(type(operator))
                if sign:
                    yield from edit(_between(places, one, two, sign, _FLIPPED[sign]), "bound" if sign[0] in "<>" else "comparison")
        case ast.BinOp(left, operator, right):
            for table, kind in ((_SIGNS, "wrong sign"), (_FACTORS, "wrong operation")):
                if type(operator) in table and not isinstance(right, ast.List | ast.Tuple | ast.Starred) and not _tuples(node):
                    yield from edit(_between(places, left, right, *table[type(operator)]), kind)
            if isinstance(operator, ast.Add | ast.Sub | ast.Mult) and not _tuples(node):
                kind = "off by one" if isinstance(right, ast.Constant) and right.value == 1 else "dropped term"
                kind = "dropped factor" if isinstance(operator, ast.Mult) else kind
                start, stop = places.span(node)
                yield start, stop, f"({places.of(left)})", kind
        case ast.BoolOp(operator, values):
            old, new = ("and", "or") if isinstance(operator, ast.And) else ("or", "and")
            yield from edit(_between(places, values[0], values[1], old, new), "condition")
        case ast.UnaryOp(ast.USub(), operand) if not isinstance(operand, ast.Constant):
            yield (*places.span(node), f"({places.of(operand)})", "wrong sign")
        case ast.IfExp(_, body, orelse) if places.of(body) != places.of(orelse):
            one, two = places.of(body), places.of(orelse)
            yield (*places.span(body), f"({two})", "swapped branches") if len(two) < len(one) else (*places.span(orelse), f"({one})", "swapped branches")
        case ast.If(test) | ast.While(test):
            yield (*places.span(test), f"not ({places.of(test)})", "negated condition")
        case ast.Call(function, arguments, keywords):
            name = function.attr if isinstance(function, ast.Attribute) else function.id if isinstance(function, ast.Name) else ""
            if name in _OPPOSITE:
                stop = places.span(function)[1]
                yield stop - len(name), stop, _OPPOSITE[name], "wrong function"
            plain = [a for a in arguments if isinstance(a, ast.Name | ast.Attribute | ast.Subscript)]
            for one, two in pairwise(plain):
                if arguments.index(two) == arguments.index(one) + 1 and places.of(one) != places.of(two) and name != "isinstance":
                    start, stop = places.span(one)[0], places.span(two)[1]
                    gap = places.text[places.span(one)[1] : places.span(two)[0]]
                    yield start, stop, places.of(two) + gap + places.of(one), "swapped arguments"
            for keyword in keywords:
                if keyword.arg in ("axis", "dim", "axes") and isinstance(keyword.value, ast.Constant | ast.UnaryOp):
                    yield (*places.span(keyword.value), "0" if places.of(keyword.value) != "0" else "-1", "wrong axis")
        case ast.AugAssign(target, ast.Add() | ast.Sub() | ast.Mult()):
            start, stop = places.span(target)[1], places.span(node.value)[0]
            at = places.text.find("=", start, stop)
            yield at - 1, at + 1, "=", "overwritten sum"
        case ast.For(_, ast.Call(ast.Name("range"), [only])):
            yield (*places.span(only), f"{places.of(only)} - 1", "bound")
        case ast.For(_, ast.Call(ast.Name("range"), [first, _, *_])):
            yield (*places.span(first), f"{places.of(first)} + 1", "loop start")
        case ast.Expr(ast.Call(function)) if in_kernel:
            name = places.of(function)
            kind = "missing barrier" if any(name.endswith(n) for n in _SYNCHRONISING) else "missing statement"
            yield (*places.span(node), "pass", kind)
        case ast.Constant(bool()):
            yield (*places.span(node), str(not node.value), "wrong constant")
        case ast.Constant(int()):
            yield (*places.span(node), str(node.value + 1), "wrong constant")


def _tuples(node: ast.AST) -> bool:
    return any(isinstance(n, ast.Tuple | ast.List | ast.JoinedStr) or (isinstance(n, ast.Constant) and isinstance(n.value, str)) for n in ast.walk(node))


def _expression(node: ast.Constant, places: _Places) -> Iterator[Edit]:
    """Yield the edits inside a text that is an expression: `"where(x > 0, g, 0)"`, with `;` between steps."""
    start, stop = places.span(node)
    written = places.text[start:stop]
    if len(written) != len(node.value) + 2 or "\n" in written:
        return
    at = 0
    for part in node.value.split(";"):
        lead = len(part) - len(part.lstrip())
        body = part.strip()
        name, equals, rest = body.partition(" = ")
        if equals and name.isidentifier():
            lead, body = lead + len(name) + len(equals), rest
        try:
            tree = ast.parse(body, mode="eval")
        except SyntaxError:
            return
        if not isinstance(tree.body, ast.BinOp | ast.Call | ast.Compare | ast.UnaryOp | ast.IfExp):
            return
        inner = _Places(body)
        first = start + 1 + at + lead
        for one in ast.walk(tree):
            for a, b, new, kind in _edits(one, inner, False):
                if kind != "wrong axis":
                    yield first + a, first + b, new.strip(), kind
        at += len(part) + 1


class _Walk(ast.NodeVisitor):
    """Collects (edit, scope, layer)."""

    def __init__(self, places: _Places, layer: str) -> None:
        self.places, self.layer = places, layer
        self.scope: list[str] = []
        self.roles: dict[str, str] = {}
        self.found: list[tuple[Edit, str, str]] = []

    def run(self, tree: ast.Module) -> None:
        for node in ast.walk(tree):  # which functions are shape rules and which gradient rules
            if isinstance(node, ast.Call):
                for keyword in node.keywords:
                    for name in ast.walk(keyword.value) if keyword.arg in ("out", "vjp", *_OF_TESTS) else ():
                        if isinstance(name, ast.Name):
                            role = {"out": "shape rule", "vjp": "gradient rule"}.get(str(keyword.arg), "tests")
                            self.roles.setdefault(name.id, role)
        self.visit(tree)

    def _layer(self) -> str:
        if self.layer != "reference":
            return self.layer
        for name in self.scope:
            role = self.roles.get(name, "")
            if role:
                return role
            if name.endswith("_out") or name.startswith("_check") or name.startswith("check_"):
                return "shape rule"
            if name.endswith("_vjp"):
                return "gradient rule"
        return "reference"

    def visit(self, node: ast.AST) -> None:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            for decorator in node.decorator_list:
                self.scope.append(node.name)
                self.visit(decorator)
                self.scope.pop()
            if self.roles.get(node.name) == "tests" or node.name in ("status", "__repr__", "_message"):
                return
            self.scope.append(node.name)
            for child in node.body:
                self.visit(child)
            self.scope.pop()
            return
        if isinstance(node, ast.Raise | ast.Assert | ast.Import | ast.ImportFrom | ast.JoinedStr | ast.AnnAssign):
            return
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            return
        if isinstance(node, ast.Assign) and not self.scope:
            names = [t.id for t in node.targets if isinstance(t, ast.Name)]
            if names and (self.roles.get(names[0]) == "tests" or "BENCH" in names[0] or "SAMPLES" in names[0] or names[0].isupper()):
                return  # samples, and sizes of tiles: another size is slower, not wrong
        if isinstance(node, ast.keyword) and node.arg in (_OF_TESTS | _OF_RECORDS):
            return
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in ("s", "A", "bad", "bench"):
            return
        scope, layer = ".".join(self.scope) or "module", self._layer()
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            edits = list(_expression(node, self.places))
            kind = "expression" if self.layer == "reference" else layer
            self.found += [(e, scope, kind) for e in edits]
            return
        self.found += [(e, scope, layer) for e in _edits(node, self.places, layer == "kernel (numba)")]
        if isinstance(node, ast.Dict):  # keys are names
            for value in node.values:
                self.visit(value)
            return
        if isinstance(node, ast.arguments):
            return
        self.generic_visit(node)


def python_faults(path: str, text: str, layer: str) -> Iterator[Fault]:
    """Yield every fault the rules make of a file."""
    walk = _Walk(_Places(text), layer)
    walk.run(ast.parse(text))
    taken: set[tuple[int, int, str]] = set()
    for (start, stop, new, kind), scope, where in walk.found:
        if (start, stop, new) in taken or text[start:stop] == new or where == "tests":
            continue
        taken.add((start, stop, new))
        yield made(path, text, start, stop, new, kind, scope, where)


def parses(fault: Fault, text: str) -> bool:
    """Tell whether the file is still Python; the rules edit text, and a few break it."""
    try:
        ast.parse(fault.applied(text))
    except SyntaxError:
        return False
    return True
