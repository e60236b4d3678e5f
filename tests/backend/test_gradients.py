"""Every gradient rule: finite differences on numpy; elsewhere, and in low precision, against those float64 gradients. Generated.

A rule calls ops, which test_ops tries in other dtypes: by default a device runs the rules in float32, on the first sample and every third of the others.
"""

import pytest
from conftest import VALUES
from grouped import each, fewest, run

import portable_nn.ops  # noqa: F401 - fills the registry
from portable_nn.core.op import Op
from portable_nn.testing.suite import gradient_cases, gradient_dtypes

FEW = fewest(gradient_dtypes, every=3)


def has_gradient(op: Op) -> bool:
    return any(gradient_dtypes(op, sample) for sample in op.samples)


@pytest.mark.parametrize(("name", "op"), each(VALUES, has_gradient))
def test_gradient(name: str, op: Op, request: pytest.FixtureRequest) -> None:
    run(gradient_cases(name, [op], dtypes=gradient_dtypes if name == "numpy" else FEW), request)


@pytest.mark.slow
@pytest.mark.optimised
@pytest.mark.parametrize(("name", "op"), each((n for n in VALUES if n != "numpy"), has_gradient))
def test_gradient_in_every_dtype(name: str, op: Op, request: pytest.FixtureRequest) -> None:
    run(gradient_cases(name, [op]), request)
