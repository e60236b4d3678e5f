"""Every op of the registry on every backend, against the op's body in float64: its samples, in several dtypes. Generated."""

from functools import partial

import pytest
from conftest import BACKENDS, SHAPES, VALUES, find
from grouped import Sparing, each, first, later, on_first, run

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
    if name == "numpy":
        run(forward_cases(name, [op]), request)
        return
    backend = find(name)
    sparing = Sparing(backend)
    begin = forward_cases(backend, [op], name, on_first(dtypes_of, None if name in VALUES else ("bfloat16",)))
    more = forward_cases(backend, [op], name, later(dtypes_of))
    run([*sparing.all(begin), *(sparing.all if name.startswith("null") else sparing.needed)(more)], request)


@pytest.mark.slow
@pytest.mark.optimised
@pytest.mark.parametrize(("name", "op"), each(n for n in (*VALUES, *OTHERS) if n != "numpy"))
def test_op_in_every_dtype(name: str, op: Op, request: pytest.FixtureRequest) -> None:
    run(forward_cases(partial(find, name), [op], name), request)
