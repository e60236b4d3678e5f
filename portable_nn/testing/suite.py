"""backend_suite: every op of the registry x sample x dtype x direction as named checks, for any backend, built in or not."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from importlib import import_module
from typing import NamedTuple

from ..core import registry
from ..core.op import Op
from ..core.samples import Sample
from .cases import FLOATS, dtypes_of
from .check import AnyBackend, check_op
from .gradient import check_gradient, differentiable


class Case(NamedTuple):
    """One check: a name that can be pasted into a shell, what to call, and the name without the dtype."""

    id: str
    run: Callable[[], object]
    group: str


Dtypes = Callable[[Op, Sample], tuple[str, ...]]


def _slug(text: str) -> str:
    return "".join(c if c.isalnum() or c in "._+" else "_" for c in text)


def gradient_dtypes(op: Op, sample: Sample) -> tuple[str, ...]:
    """Return the dtypes in which the gradient of a sample is checked: float64 first."""
    if op.vjp is None or not differentiable(op) or not sample.gradient:
        return ()
    return tuple(d for d in ("float64", "float32", "float16", "bfloat16") if d in dtypes_of(op, sample) and d in FLOATS)


def _label(backend: AnyBackend) -> str:
    return backend if isinstance(backend, str) else str(getattr(backend, "name", "backend"))


def forward_cases(backend: AnyBackend, ops: list[Op], label: str = "", dtypes: Dtypes = dtypes_of) -> Iterator[Case]:
    """Yield `check_op` cases; `label` stands in front of their ids (the backend's name by default)."""
    name = label or _label(backend)
    for op in ops:
        for sample in op.samples:
            group = f"{name}-{op.name}-{_slug(sample.name)}"
            for dtype in dtypes(op, sample):
                yield Case(f"{group}-{dtype}", partial(check_op, op, sample, dtype, backend), group)


def gradient_cases(backend: AnyBackend, ops: list[Op], label: str = "", dtypes: Dtypes = gradient_dtypes) -> Iterator[Case]:
    """Yield `check_gradient` cases."""
    name = label or _label(backend)
    for op in ops:
        for sample in op.samples:
            group = f"{name}-{op.name}-{_slug(sample.name)}"
            for dtype in dtypes(op, sample):
                yield Case(f"{group}-{dtype}-gradient", partial(check_gradient, op, sample, backend, dtype), f"{group}-gradient")


def backend_suite(backend: AnyBackend, ops: list[Op] | None = None) -> Iterator[Case]:
    """Yield every check of a backend as (id, callable). A callable raises AssertionError, or SkipTest with the reason.

    Parameters
    ----------
    backend : str, Backend, or a function that returns one
        A registered name, the backend itself, or what makes it at the first check.
    ops : list of Op, optional
        By default the whole registry.

    Examples
    --------
    A test file of a third-party backend:

    >>> import pytest
    >>> from portable_nn.testing import backend_suite
    >>> @pytest.mark.parametrize("case", backend_suite("mine"), ids=lambda case: case.id)
    ... def test_backend(case): case.run()
    """
    if ops is None:
        import_module("portable_nn.ops")
        ops = [registry.OPS[name] for name in sorted(registry.OPS)]
    yield from forward_cases(backend, ops)
    yield from gradient_cases(backend, ops)
