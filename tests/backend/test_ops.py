"""Every op of the registry x sample x dtype on every backend, against the op's body in float64. Generated."""

import pytest
from conftest import BACKENDS

import portable_nn.ops  # noqa: F401 - fills the registry
from portable_nn.core.registry import OPS
from portable_nn.testing.suite import Case, forward_cases

CASES = [case for name in BACKENDS for case in forward_cases(name, [OPS[op] for op in sorted(OPS)])]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
def test_op(case: Case) -> None:
    case.run()
