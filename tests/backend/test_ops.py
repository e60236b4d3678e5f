"""Every op of the registry x sample x dtype on every backend, against the op's body in float64. Generated."""

from functools import partial

import pytest
from conftest import BACKENDS, SHAPES, VALUES, find

import portable_nn.ops  # noqa: F401 - fills the registry
from portable_nn.core.registry import OPS
from portable_nn.testing.suite import Case, forward_cases

EVERY = [OPS[name] for name in sorted(OPS)]
CASES = [case for name in VALUES for case in forward_cases(name, EVERY)]
# Plans without a device, and GPU-shaped kernels on whatever device there is: the dtype is a macro of the same text, so
# three of them will do.
CASES += [
    case
    for name in (*SHAPES, *(n for n in BACKENDS if n not in VALUES))
    for case in forward_cases(partial(find, name), EVERY, name)
    if case.id.endswith(("-float32", "-bfloat16", "-int32"))
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
def test_op(case: Case) -> None:
    case.run()
