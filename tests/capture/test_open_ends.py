"""What elementwise calls do behind an op, captured in its last kernel, is what they do called one by one: the same bits, whatever the op."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from conftest import BACKENDS, find

import portable_nn as pnn
from portable_nn import ops
from portable_nn.core import dtypes
from portable_nn.core.array import DeviceArray
from portable_nn.core.fused import Fused
from portable_nn.core.op import Op
from portable_nn.core.registry import OPS
from portable_nn.core.samples import Sample
from portable_nn.testing.cases import Drawn, drawn, dtypes_of, seed_of

SHAPES = ("opencl", "opencl:gpu")


def cases(op: Op) -> list[tuple[Sample, str]]:
    """Return samples and a dtype of each; the first one only if every sample would be joined in the same way."""
    return [(sample, dtypes_of(op, sample)[0]) for sample in (op.samples[:1] if op.expression is not None else op.samples)]


def on(backend: Any, op: Op, sample: Sample, dtype: str) -> tuple[Drawn, list[Any]]:
    """Return the arguments of a case on a backend, and the arrays among them."""
    found: list[Any] = []

    def there(x: Any) -> Any:
        found.append(pnn.asarray(x, backend=backend))
        return found[-1]

    return drawn(sample, dtype, seed_of(op.name, sample.name)).map(there, np.ndarray), found


def behind(op: Op, given: Drawn, arrays: list[Any]) -> Any:
    """Return a function of the arrays: the op's outputs, and what is computed of the first."""

    def step(new: list[Any]) -> Any:
        by_id = dict(zip(map(id, arrays), new, strict=True))
        args = given.map(lambda x: by_id[id(x)], DeviceArray)
        made = op(*args.args, **args.settings)
        y = made[0] if isinstance(made, tuple) else made
        kind = dtypes.kind(y.dtype)
        return made, y if kind == "complex" else ops.logical_not(y) if kind == "bool" else y * 2 + y

    return step


def joined(captured: Any, op: Op) -> bool:
    return any(isinstance(s.op, Fused) and s.op.members[0].op is op for s in captured.variants[0].program.steps)


@pytest.mark.skipif("opencl" not in BACKENDS, reason="opencl was not asked for")
@pytest.mark.parametrize(("name", "shape"), [(name, shape) for name in sorted(OPS) for shape in SHAPES[: 1 if OPS[name].expression else 2]])
def test_the_same_bits(name: str, shape: str) -> None:
    """The null backend, which compiles nothing, tells what would be joined; only that is computed."""
    op, target, plans_only = OPS[name], find(shape), find(shape.replace("opencl", "null"))
    for sample, dtype in cases(op):
        with pnn.use_backend(plans_only):
            given, arrays = on(plans_only, op, sample, dtype)
            planned = pnn.capture(behind(op, given, arrays))
            planned(arrays)
        if not joined(planned, op):
            continue
        with pnn.use_backend(target):
            given, arrays = on(target, op, sample, dtype)
            step = behind(op, given, arrays)
            captured = pnn.capture(step)
            for _ in range(2):
                made, wanted = pnn.tree.leaves(captured(arrays)), pnn.tree.leaves(step(arrays))
                assert joined(captured, op), sample.name
                for a, b in zip(made, wanted, strict=True):
                    assert pnn.to_numpy(a).tobytes() == pnn.to_numpy(b).tobytes(), sample.name


@pytest.mark.parametrize("name", ["batch_norm", "batch_norm_train", "relu"])
def test_some_are_joined(name: str) -> None:
    plans_only, op = find("null"), OPS[name]
    sample, dtype = cases(op)[0]
    with pnn.use_backend(plans_only):
        given, arrays = on(plans_only, op, sample, dtype)
        captured = pnn.capture(behind(op, given, arrays))
        captured(arrays)
    assert joined(captured, op)
