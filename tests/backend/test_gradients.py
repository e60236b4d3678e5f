"""Every gradient rule: finite differences on numpy; elsewhere, and in low precision, against those float64 gradients. Generated.

A rule calls ops, which test_ops tries in other dtypes: by default a device runs the rules in float32, on the first sample
and on every second of the others that needs no more programs (grouped.py).
"""

import pytest
from conftest import VALUES
from grouped import Sparing, each, first, has_gradient, later, run

import portable_nn.ops  # noqa: F401 - fills the registry
from portable_nn.core import selection
from portable_nn.core.op import Op
from portable_nn.testing.suite import gradient_cases, gradient_dtypes


@pytest.mark.parametrize(("name", "op"), each(VALUES, has_gradient))
def test_gradient(name: str, op: Op, request: pytest.FixtureRequest) -> None:
    if name == "numpy":
        run(gradient_cases(name, [op]), request)
        return
    sparing = Sparing(selection.get(name))
    begin, others = (gradient_cases(name, [op], dtypes=chosen) for chosen in (first(gradient_dtypes), later(gradient_dtypes, 2)))
    run([*sparing.all(begin), *sparing.needed(others)], request)


@pytest.mark.slow
@pytest.mark.optimised
@pytest.mark.parametrize(("name", "op"), each((n for n in VALUES if n != "numpy"), has_gradient))
def test_gradient_in_every_dtype(name: str, op: Op, request: pytest.FixtureRequest) -> None:
    run(gradient_cases(name, [op]), request)
