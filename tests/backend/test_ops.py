"""Every op of the registry on every backend, against the op's body in float64: its samples, in several dtypes. Generated."""

from functools import partial

import pytest
from conftest import BACKENDS, SHAPES, VALUES, find
from grouped import each, fewest, first, others, run

import portable_nn.ops  # noqa: F401 - fills the registry
from portable_nn.core.op import Op
from portable_nn.testing.cases import dtypes_of
from portable_nn.testing.suite import forward_cases

# Plans without a device, and GPU-shaped kernels on whatever device there is.
OTHERS = (*SHAPES, *(n for n in BACKENDS if n not in VALUES))


@pytest.mark.optimised
@pytest.mark.parametrize(("name", "op"), each(n for n in VALUES if n != "numpy"))
def test_op_as_users_have_it(name: str, op: Op, request: pytest.FixtureRequest) -> None:
    run(forward_cases(name, [op], dtypes=first(dtypes_of)), request)


@pytest.mark.parametrize(("name", "op"), each((*VALUES, *OTHERS)))
def test_op(name: str, op: Op, request: pytest.FixtureRequest) -> None:
    elsewhere = fewest(dtypes_of, ("float32", "bfloat16", "int32")) if name in OTHERS else others(dtypes_of)
    run(forward_cases(partial(find, name), [op], name, dtypes_of if name == "numpy" else elsewhere), request)


@pytest.mark.slow
@pytest.mark.optimised
@pytest.mark.parametrize(("name", "op"), each(n for n in (*VALUES, *OTHERS) if n != "numpy"))
def test_op_in_every_dtype(name: str, op: Op, request: pytest.FixtureRequest) -> None:
    run(forward_cases(partial(find, name), [op], name), request)
