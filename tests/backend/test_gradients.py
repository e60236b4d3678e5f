"""Every gradient rule: finite differences on numpy; elsewhere, and in low precision, against those float64 gradients. Generated.

A rule calls ops, which test_ops tries in other dtypes: by default a device runs the rules on every second sample in float32, and on first samples in bfloat16.
"""

import pytest
from conftest import VALUES
from grouped import Group, fewest, grouped

import portable_nn.ops  # noqa: F401 - fills the registry
from portable_nn.core.registry import OPS
from portable_nn.testing.suite import gradient_cases, gradient_dtypes

EVERY = [OPS[op] for op in sorted(OPS)]
FEW = fewest(gradient_dtypes, ("float32", "bfloat16"), 2)
CASES = [case for name in VALUES for case in gradient_cases(name, EVERY, dtypes=gradient_dtypes if name == "numpy" else FEW)]
ALL = [case for name in VALUES if name != "numpy" for case in gradient_cases(name, EVERY)]


@pytest.mark.parametrize("group", grouped(CASES), ids=lambda group: group.id)
def test_gradient(group: Group, request: pytest.FixtureRequest) -> None:
    group.run(request)


@pytest.mark.slow
@pytest.mark.parametrize("group", grouped(ALL), ids=lambda group: group.id)
def test_gradient_in_every_dtype(group: Group, request: pytest.FixtureRequest) -> None:
    group.run(request)
