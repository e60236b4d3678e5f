"""Warming up compiles what a call launches, and runs nothing."""

import numpy as np
import pytest

import portable_nn as pnn
from portable_nn.core import selection
from portable_nn.core.errors import BackendError


@pytest.fixture
def opencl():
    state = selection.status("opencl")
    if state.state != "ready":
        pytest.skip(f"opencl is {state.state}: {state.reason}")
    backend = selection.get("opencl")
    with pnn.use_backend(backend):
        yield backend


def test_programs_are_there_before_the_first_call(opencl):
    x = pnn.asarray(np.linspace(-1, 1, 12, dtype=np.float32).reshape(3, 4))

    def f(params, factor):
        return pnn.ops.sum(pnn.ops.gelu(params["x"] * factor) @ pnn.ops.permute(params["x"], (1, 0)))

    opencl.warm_up(pnn.value_and_grad(f), {"x": x}, 0.5)
    programs = opencl.programs
    before = programs.built + programs.loaded
    value, gradient = pnn.value_and_grad(f)({"x": x}, 0.5)
    assert programs.built + programs.loaded == before
    assert np.isfinite(float(value))
    assert gradient["x"].shape == (3, 4)


def test_looking_at_values_while_warming_up_is_an_error(opencl):
    x = pnn.asarray(np.ones(3, np.float32))
    with pytest.raises(BackendError, match="no values"):
        opencl.warm_up(lambda v: float(pnn.ops.sum(v)), x)


def test_numpy_has_nothing_to_warm_up():
    selection.get("numpy").warm_up(lambda x: 1 / 0, np.ones(3))
