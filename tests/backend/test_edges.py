"""Empty axes and axes of length 1, for every op: derived from its samples, so that no op can forget them.

In the first samples of an op every axis of length v becomes one of length 0, or 1, in all its operands at once. What the
op's shape rule refuses is no case; what it takes must run on a device and agree with the body, like a sample.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from itertools import islice
from typing import Any

import pytest
from conftest import VALUES
from grouped import ELEMENTWISE

import portable_nn.ops  # noqa: F401 - fills the registry
from portable_nn.core.errors import PortableNNError
from portable_nn.core.op import Op
from portable_nn.core.registry import OPS
from portable_nn.core.samples import A, Sample
from portable_nn.testing.cases import described, drawn, dtypes_of, specs
from portable_nn.testing.check import check_op, truth_of

BACKEND = "opencl" if "opencl" in VALUES else VALUES[0]
# Ops that take no array, or whose array is a key or has no axis to choose.
WITHOUT = dict.fromkeys(("arange", "eye", "full", "linspace", "ones", "zeros"), "its shape is a setting, and zero sizes are samples or bad calls of it") | dict.fromkeys(("bernoulli", "fold_in", "normal", "random_bits", "split_key", "uniform"), "its one array is a key of four words")  # fmt: skip

REFUSED = {"batch_norm_train": "nothing has no mean: an empty batch is a bad call of it"}


def resized(sample: Sample, old: int, new: int) -> Sample:
    """Return the sample with axes of length `new` for those of length `old`, in C order."""

    def one(value: Any) -> Any:
        if isinstance(value, A):
            shape = tuple(new if n == old else n for n in value.shape)
            index = new == 1 and value.dtype in ("int32", "int64") and value.low == 0  # so that it is one of an axis of length 1
            return replace(value, shape=shape, high=0) if index else replace(value, shape=shape)
        if isinstance(value, list | tuple) and any(isinstance(v, A) for v in value):
            return [one(v) for v in value]
        return value

    settings = {name: one(value) for name, value in sample.settings.items()}
    return replace(sample, name=f"{sample.name}, {old} to {new}", args=tuple(map(one, sample.args)), settings=settings, why="0 / 0 is NaN, log 0 inf")


@cache
def cases(name: str, new: int) -> tuple[Sample, ...]:
    """Return the derived cases of an op, at most two: those that its rule and its body take."""
    return tuple(islice(_derived(OPS[name], new), 2))


def _derived(op: Op, new: int) -> Iterator[Sample]:
    for sample in op.samples[:3]:
        operands = described(sample)
        if any(a.values is not None for a in operands):
            continue
        for old in dict.fromkeys(n for a in operands for n in a.shape if n > 1):
            made = resized(sample, old, new)
            if _takes(op, made):
                yield made


def _dtype(op: Op, sample: Sample) -> str:
    legal = dtypes_of(op, replace(sample, name=""))
    return "float32" if "float32" in legal or not legal else legal[0]


def _takes(op: Op, sample: Sample) -> bool:
    try:
        given = drawn(sample, _dtype(op, sample), 0)
        specs(op, given)
        truth_of(op, given)
    except (PortableNNError, ValueError, IndexError, ZeroDivisionError, TypeError):
        return False
    return True


def _names() -> Iterator[str]:
    for name, op in sorted(OPS.items()):
        if op.samples and name not in WITHOUT and (op.expression is None or name in ELEMENTWISE):
            yield name


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("new", [0, 1], ids=["empty", "one"])
@pytest.mark.parametrize("name", list(_names()))
def test_edge(name: str, new: int) -> None:
    op = OPS[name]
    for sample in cases(name, new):
        check_op(op, sample, _dtype(op, sample), BACKEND)


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_every_op_has_both_edges() -> None:
    for new in (0, 1):
        lacking = [n for n in _names() if not cases(n, new) and not any(new in a.shape for s in OPS[n].samples for a in described(s))]
        assert lacking == sorted(REFUSED if new == 0 else ())
