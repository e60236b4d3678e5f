"""Derivatives of derivatives: of the inner product of a gradient with a direction, against differences of first gradients.

A rule that cannot be differentiated again must say so (NoGradient); what it must never do is answer wrongly.
"""

from __future__ import annotations

from functools import partial
from unittest import SkipTest

import numpy as np
import pytest
from grouped import each, run

import portable_nn as pnn
from portable_nn.core import dtypes, selection
from portable_nn.core.errors import NoGradient
from portable_nn.core.registry import OPS
from portable_nn.testing.cases import drawn, dtypes_of, seed_of, widened
from portable_nn.testing.gradient import differentiable
from portable_nn.testing.suite import Case

STEP = 1e-5
def twice(op):
    """Return the samples whose gradient may be differentiated again."""
    if op.vjp is None or not differentiable(op):
        return []
    return [sample for sample in op.samples if sample.gradient and "float64" in dtypes_of(op, sample)]


# Elementwise ops promise derivatives of any order.
ANY_ORDER = {name for name, op in OPS.items() if op.expression is not None and op.vjp is not None}


def inner(a, b):
    return pnn.ops.sum(pnn.ops.multiply(a, b))


@pytest.mark.parametrize(("name", "op"), each(["numpy"], twice))
def test_second_derivative_is_right_or_refused(name, op, request):
    group = f"{name}-{op.name}"
    run((Case(f"{group}-{sample.name.replace(' ', '_')}", partial(check, op, sample), group) for sample in twice(op)), request)


def check(op, sample):
    seed = seed_of(op.name, sample.name, "second")
    rng = np.random.default_rng(seed)
    given = drawn(sample, "float64", seed).map(widened, np.ndarray)
    named = given.named(op)
    names = [n for n, v in named.items() if isinstance(v, np.ndarray) and n in op.operands and dtypes.is_float(v.dtype) and v.size]
    which = differentiable(op)[0]
    with pnn.use_backend("numpy"):
        for name in names:
            made = op(**named)
            y = made if len(op.outputs) == 1 else made[which]
            if y.dtype != np.float64:
                raise SkipTest("the output is rounded below float64")
            cotangent = rng.standard_normal(y.shape)
            direction = rng.standard_normal(named[name].shape)

            def loss(x, name=name, cotangent=cotangent):
                made = op(**(named | {name: x}))
                return inner(made if len(op.outputs) == 1 else made[which], cotangent)

            x = np.array(named[name], order="C")
            try:
                first = pnn.grad(loss)
                first(x)
            except NoGradient:
                continue  # this operand has no gradient at all
            try:
                second = pnn.grad(lambda x, first=first, direction=direction: inner(first(x), direction))(x)
            except NoGradient as error:
                if "does not depend on any watched array" not in str(error):
                    if op.name in ANY_ORDER:
                        raise
                    continue
                second = np.zeros_like(x)  # the gradient is constant
            numeric = (first(x + STEP * direction) - first(x - STEP * direction)) / (2 * STEP)
            scale = max(np.abs(numeric).max(), np.abs(first(x)).max(), 1e-3)
            error = np.abs(second - numeric).max() / scale
            assert error < 1e-5, f"{op.name}: second derivative by {name} is wrong by {error:.3g}"


def test_no_backend_was_left_chosen():
    assert selection.default().name in selection.names()
