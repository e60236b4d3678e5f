"""Elementwise ops: one typed scalar expression, one more per gradient; everything else of the record follows from them."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np

from . import dtypes
from .call import Call
from .compose import compose
from .dtypes import DType
from .errors import DTypeError, SettingError
from .expression import Expression
from .op import Op
from .registry import find
from .samples import Bad, Bench, Sample
from .spec import Spec, Weak, broadcast_shapes
from .tape import Saved, Traced


@dataclass(frozen=True)
class Choice:
    """Several texts, and which one a call takes: `pick(settings, names of operands left out)` returns one of `texts`."""

    pick: Callable[[Mapping[str, Any], frozenset[str]], str]
    texts: tuple[str, ...]


Text = str | Choice


@dataclass(frozen=True)
class Elementwise:
    """What the record of an elementwise op says beyond an ordinary op; plans and the NumPy body read it.

    Parameters
    ----------
    texts : dict of str to Text
        One expression per output.
    kinds : tuple of str
        Kinds of dtype the promoted operands may have: "bool", "int", "float", "complex".
    result : "same", "bool", or the name of an operand
        Dtype of the outputs: the promoted one, bool, or that operand's own.
    apart : tuple of str
        Operands that keep their own dtype and take no part in promotion (conditions, keys).
    """

    texts: Mapping[str, Text]
    kinds: tuple[str, ...] = ("float",)
    result: str | Mapping[str, str] = "same"
    apart: tuple[str, ...] = ()
    gradients: Mapping[str, Text] = field(default_factory=dict)

    def expressions(self, op: Op, call: Call) -> list[tuple[str, Expression]]:
        """Return (output, expression) for this call's settings and operands."""
        absent = frozenset(n for n, s in zip(op.operands, call.inputs, strict=True) if s is None)
        return [(name, parse(text, call.settings, absent)) for name, text in self.texts.items()]

    def promoted(self, op: Op, inputs: Mapping[str, Spec | Weak | None]) -> DType:
        """Return the dtype of the computation before widening (bfloat16 stays bfloat16 here)."""
        taking_part = [
            s.kind if isinstance(s, Weak) else s.dtype for n, s in inputs.items() if s is not None and n not in self.apart
        ]
        dtype = dtypes.promote(op.name, *taking_part)
        if dtypes.kind(dtype) not in self.kinds:
            needed = " or ".join(self.kinds)
            raise DTypeError(f"{op.name}: {dtype.name} was given but {needed} is needed; convert with astype")
        return dtype


_parsed: dict[str, Expression] = {}


def parse(text: Text, settings: Mapping[str, Any], absent: frozenset[str]) -> Expression:
    """Return the expression `text` stands for, parsed once."""
    written = text if isinstance(text, str) else text.pick(settings, absent)
    found = _parsed.get(written)
    if found is None:
        found = _parsed[written] = Expression(written)
    return found


def _out(op: Op, rule: Elementwise, **given: Any) -> tuple[Spec, ...]:
    inputs = {name: given[name] for name in op.operands}
    dtype = rule.promoted(op, inputs)
    arrays = [s for s in inputs.values() if isinstance(s, Spec)]
    shape = broadcast_shapes(op.name, *(s.shape for s in arrays))
    for name, value in given.items():
        if name not in inputs and isinstance(value, bool | int | float):
            _check_number(op.name, name, value, dtype)
    # A dense layout shared by all full-size operands (channels-last, a transpose) is kept, as PyTorch does.
    full = [s for s in arrays if s.shape == shape]
    strides = full[0].strides if full and all(s.strides == full[0].strides for s in full) and is_dense(full[0]) else None
    made = []
    for name in rule.texts:
        result = rule.result if isinstance(rule.result, str) else rule.result[name]
        if result == "same":
            out_dtype = dtype
        elif result == "bool":
            out_dtype = dtypes.bool_
        else:
            source = inputs[result]
            out_dtype = source.dtype if isinstance(source, Spec) else dtype
        made.append(Spec(shape, out_dtype, strides))
    return tuple(made)


def _check_number(op_name: str, name: str, value: float, dtype: DType) -> None:
    """Raise if a setting cannot be computed with in `dtype`."""
    if value != value:
        raise SettingError(f"{op_name}: {name} is NaN")
    if dtypes.kind(dtype) == "int":
        least, most = (int(limit) for limit in (np.iinfo(dtype).min, np.iinfo(dtype).max))
        if not (least <= value <= most and value == int(value)):
            raise SettingError(f"{op_name}: {name} is {value!r} but {dtype.name} is computed with, which holds whole numbers from {least} to {most}")


def is_dense(spec: Spec) -> bool:
    """Tell whether the elements fill one block of memory without gaps or overlap, in some order of the axes."""
    step = 1
    for stride, n in sorted(zip(spec.strides, spec.shape, strict=True)):
        if n == 1:
            continue
        if stride != step:
            return False
        step *= n
    return True


def _body(op_name: str, rule: Elementwise, names: Sequence[str], *args: Any, **kwargs: Any) -> Any:
    """Compute with NumPy, in the promoted dtype (float32 for the halves), rounded once."""
    op = find(op_name)
    bound = op.signature.bind(*args, **kwargs)
    bound.apply_defaults()
    given = bound.arguments
    inputs: dict[str, Any] = {
        n: None if given[n] is None else Weak(_weak_kind(given[n])) if isinstance(given[n], bool | int | float | complex)
        and not isinstance(given[n], np.generic) else Spec(np.shape(given[n]), np.asarray(given[n]).dtype)
        for n in op.operands
    }  # fmt: skip
    dtype = rule.promoted(op, inputs)
    wide = dtypes.accumulator(dtype)
    values: dict[str, Any] = {}
    for name in names:
        value = given[name]
        if name in op.operands and value is not None and name not in rule.apart:
            value = np.asarray(value).astype(wide, copy=False)
        elif name not in op.operands and isinstance(value, float | int) and not isinstance(value, bool):
            value = wide.type(value) if dtypes.kind(wide) in ("float", "complex") or value == int(value) else value
        values[name] = value
    absent = frozenset(n for n in op.operands if given[n] is None)
    settings = {n: v for n, v in given.items() if n not in op.operands}
    specs = _out(op, rule, **(inputs | settings))
    outs = []
    for (_, text), spec in zip(rule.texts.items(), specs, strict=True):
        made = np.asarray(parse(text, settings, absent).evaluate(values))
        with np.errstate(all="ignore"):
            outs.append(np.array(np.broadcast_to(made.astype(spec.dtype, copy=False), spec.shape)))
    return outs[0] if len(outs) == 1 else tuple(outs)


def _weak_kind(value: Any) -> str:
    return {bool: "bool", int: "int", float: "float", complex: "complex"}[type(value)]


def _vjp(op: Op, gradient_ops: Mapping[str, Op], c: Saved, *cotangents: Any) -> dict[str, Any]:
    given: dict[str, Any] = {}
    for name, rule in gradient_ops.items():
        if c.needs(name):
            given[name] = partial(_pull_one, rule, c, name, cotangents)
    return given


def _pull_one(rule: Op, c: Saved, name: str, cotangents: tuple[Any, ...]) -> Any:
    arguments = {}
    for parameter in rule.signature.parameters:
        arguments[parameter] = cotangents[0] if parameter == "g" else getattr(c, parameter)
    if any(type(value) is Traced for value in arguments.values()):  # differentiated again
        texts: Elementwise = rule.expression
        absent = frozenset(n for n in rule.operands if arguments[n] is None)
        settings = {n: v for n, v in arguments.items() if n not in rule.operands}
        gradient = compose(parse(texts.texts["y"], settings, absent), arguments)
    else:
        gradient = rule(**arguments)
    spec = c.spec_of(name)
    if gradient.dtype != spec.dtype:
        gradient = find("astype")(gradient, spec.dtype)
    return gradient if gradient.shape == spec.shape else find("sum_to")(gradient, spec.shape)


def _gradient_op(op: Op, rule: Elementwise, operand: str, text: Text, samples: Sequence[Sample]) -> Op:
    """Return the op that computes the gradient of one operand: operands g, then what the text reads."""
    parameters = op.signature.parameters
    wanted = _names(text)
    if isinstance(text, Choice):  # which text it takes may depend on a setting that no text reads
        wanted |= set(parameters) - set(op.operands)
    names = ["g", *(n for n in (*parameters, *op.outputs) if n in wanted)]

    def body(*args: Any, **kwargs: Any) -> Any:
        return _body(name, record, names, *args, **kwargs)

    # Settings first would break the positional order; they keep their defaults and come last, by name.
    made = []
    for n in sorted(names, key=lambda n: n in parameters and n not in op.operands):
        if n in parameters and n not in op.operands:
            made.append(parameters[n].replace(kind=inspect.Parameter.KEYWORD_ONLY))
        else:
            annotation = parameters[n].annotation if n in op.operands else "Array"
            made.append(inspect.Parameter(n, inspect.Parameter.POSITIONAL_OR_KEYWORD, annotation=annotation))
    name = f"{op.name}_grad_{operand}" if len(rule.gradients) > 1 else f"{op.name}_grad"
    body.__name__ = body.__qualname__ = name
    body.__module__ = op.__module__
    body.__doc__ = (
        f"Gradient of `{op.name}` with respect to `{operand}`, as an elementwise op.\n\n"
        f"``{text if isinstance(text, str) else 'depends on the settings'}``, where ``g`` is the cotangent"
        f"{' and ``y`` the output' if 'y' in names else ''}. Made from the record of `{op.name}`."
    )
    body.__signature__ = inspect.Signature(made)  # type: ignore[attr-defined]
    record = Elementwise({"y": text}, rule.kinds, "same", rule.apart)
    return _make(body, record, samples=samples, bad=(), bench=(), version=op.version)


def _names(text: Text) -> set[str]:
    """Return every name `text` can read, over all its variants."""
    texts = (text,) if isinstance(text, str) else text.texts
    return {name for one in texts for name in Expression(one).names}


def _make(body: Callable[..., Any], rule: Elementwise, **record: Any) -> Op:
    made: Op

    def out(**given: Any) -> Any:
        specs = _out(made, rule, **given)
        return specs[0] if len(specs) == 1 else specs

    def flops(call: Call) -> int:
        return sum(e.operations for _, e in rule.expressions(made, call)) * call.outputs[0].size

    made = Op(body, out=out, outputs=tuple(rule.texts), flops=flops, expression=rule, **record)
    return made


def elementwise(
    text: Text | Mapping[str, Text],
    *,
    gradients: Mapping[str, Text] | None = None,
    kinds: Sequence[str] = ("float",),
    result: str | Mapping[str, str] = "same",
    apart: Sequence[str] = (),
    samples: Sequence[Sample] = (),
    gradient_samples: Sequence[Sample] = (),
    bad: Sequence[Bad] = (),
    bench: Sequence[Bench] = (),
    version: str = "1",
) -> Callable[[Callable[..., Any]], Op]:
    """Return a decorator that makes an elementwise op of a function with a docstring and no body.

    Parameters
    ----------
    text : Text, or dict of output name to Text
        The expression over the parameters' names.
    gradients : dict of operand to Text
        The gradient of each differentiable operand over ``g``, operands, settings and ``y``.
    kinds, result, apart
        See `Elementwise`.
    """
    texts = dict(text) if isinstance(text, Mapping) else {"y": text}
    rule = Elementwise(texts, tuple(kinds), result, tuple(apart), dict(gradients or {}))

    def decorate(function: Callable[..., Any]) -> Op:
        names = tuple(inspect.signature(function).parameters)

        def body(*args: Any, **kwargs: Any) -> Any:
            return _body(function.__name__, rule, names, *args, **kwargs)

        body.__name__, body.__qualname__, body.__doc__ = function.__name__, function.__qualname__, function.__doc__
        body.__module__ = function.__module__
        body.__signature__ = inspect.signature(function)  # type: ignore[attr-defined]
        integer = tuple(texts) if result == "bool" else ()
        made = _make(body, rule, samples=samples, bad=bad, bench=bench, version=version, integer_outputs=integer)
        if rule.gradients:
            ops = {n: _gradient_op(made, rule, n, t, gradient_samples) for n, t in rule.gradients.items()}
            read: set[str] = set().union(*(_names(t) for t in rule.gradients.values()))
            made.saves = tuple(n for n in (*made.operands, *made.outputs) if n in read)
            made.vjp = partial(_vjp, made, ops)
        return made

    return decorate
