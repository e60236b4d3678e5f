"""The gradient of one operand alone is what it is beside the others: rules are told which gradients are needed."""

from __future__ import annotations

import numpy as np
import pytest

import portable_nn as pnn
import portable_nn.ops  # fills the registry
from portable_nn.core import dtypes, selection
from portable_nn.core.errors import NoGradient
from portable_nn.core.registry import OPS
from portable_nn.testing.cases import Drawn, drawn, place_all, seed_of, widened
from portable_nn.testing.gradient import _operands, _pull, cotangents, differentiable, tape_gradients
from portable_nn.testing.suite import gradient_dtypes

# Operands of floating dtype that a rule gives nothing for; check_gradient leaves out whatever a rule leaves out.
WITHOUT = {
    "binary_cross_entropy": {"weight"}, "binary_cross_entropy_with_logits": {"weight", "pos_weight"}, "cross_entropy": {"weight"},
    "nll_loss": {"weight"},
}  # fmt: skip


def cases():
    for name, op in sorted(OPS.items()):
        told = [s for s in op.samples if "float64" in gradient_dtypes(op, s)]
        most = max((len(_operands(op, drawn(s, "float64", 0))) for s in told), default=0)
        if most > 1:
            sample = next(s for s in told if len(_operands(op, drawn(s, "float64", 0))) == most)
            yield pytest.param(op, sample, id=name)


@pytest.mark.parametrize(("op", "sample"), list(cases()))
def test_each_operand_alone(op, sample):
    numpy = selection.get("numpy")
    seed = seed_of(op.name, sample.name, "alone")
    given = drawn(sample, "float64", seed).map(widened, np.ndarray)
    seeds = cotangents(op, given, seed)
    together = tape_gradients(op, given, seeds, numpy, dtypes.float64)
    assert set(_operands(op, given)) - set(together) == WITHOUT.get(op.name, set()), f"{op.name}: the rule leaves out other operands"
    there = {n: place_all(Drawn((v,), {}), numpy)[0].args[0] for n, v in given.named(op).items()}
    position = differentiable(op)[0]
    alone = dict.fromkeys(together)
    with selection.use_backend(numpy):
        every = _pull(op, there, list(together), position, seeds[position], numpy)
        for name in together:
            try:
                alone[name] = _pull(op, there, [name], position, seeds[position], numpy)[name]
            except NoGradient as error:
                pytest.fail(f"{op.name}: no gradient of {name} alone: {error}")
    for name, parts in alone.items():
        for one, beside in zip(parts, every[name], strict=True):
            np.testing.assert_array_equal(one, beside, err_msg=f"{op.name}: the gradient of {name} alone")


@pytest.mark.parametrize("name", ["sum", "cumulative_sum"])
def test_a_sum_in_a_wider_dtype_pulls_back_to_its_operands(name):
    x = np.arange(6, dtype=np.float16)
    with pnn.use_backend("numpy"):
        got = pnn.grad(lambda v: pnn.ops.sum(OPS[name](v, axis=0, dtype="float32")))(x)
    assert got.dtype == np.float16
    np.testing.assert_array_equal(got, np.ones(6) if name == "sum" else np.arange(6, 0, -1))
