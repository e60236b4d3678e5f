"""Every gradient rule: finite differences on numpy; elsewhere, and in low precision, against those float64 gradients. Generated."""

import pytest
from conftest import VALUES

import portable_nn.ops  # noqa: F401 - fills the registry
from portable_nn.core.registry import OPS
from portable_nn.testing.suite import Case, gradient_cases

CASES = [case for name in VALUES for case in gradient_cases(name, [OPS[op] for op in sorted(OPS)])]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
def test_gradient(case: Case) -> None:
    case.run()
