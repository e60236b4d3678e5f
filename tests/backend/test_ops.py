"""Every op of the registry x sample on every backend, against the op's body in float64; a test tries several dtypes. Generated."""

from functools import partial

import pytest
from conftest import BACKENDS, SHAPES, VALUES, find
from grouped import Group, few, fewest, grouped

import portable_nn.ops  # noqa: F401 - fills the registry
from portable_nn.core.registry import OPS
from portable_nn.testing.cases import dtypes_of
from portable_nn.testing.suite import forward_cases

EVERY = [OPS[name] for name in sorted(OPS)]
# Plans without a device, and GPU-shaped kernels on whatever device there is.
OTHERS = (*SHAPES, *(n for n in BACKENDS if n not in VALUES))
CASES = [case for name in VALUES for case in forward_cases(name, EVERY, dtypes=dtypes_of if name == "numpy" else few(dtypes_of))]
CASES += [case for name in OTHERS for case in forward_cases(partial(find, name), EVERY, name, fewest(dtypes_of, ("float32", "bfloat16", "int32")))]
ALL = [case for name in (*VALUES, *OTHERS) if name != "numpy" for case in forward_cases(partial(find, name), EVERY, name)]


@pytest.mark.parametrize("group", grouped(CASES), ids=lambda group: group.id)
def test_op(group: Group, request: pytest.FixtureRequest) -> None:
    group.run(request)


@pytest.mark.slow
@pytest.mark.parametrize("group", grouped(ALL), ids=lambda group: group.id)
def test_op_in_every_dtype(group: Group, request: pytest.FixtureRequest) -> None:
    group.run(request)
