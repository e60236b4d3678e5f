"""The figures of the page about captures: what they count is what runs."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import BACKENDS, VALUES, find

import portable_nn as pnn


@pytest.fixture
def capture_figures(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2] / "asv_bench"))
    import capture_figures

    yield capture_figures
    sys.modules.pop("capture_figures")


@pytest.mark.skipif("null" not in BACKENDS, reason="counts launches on the null backend")
def test_launches_are_those_that_are_made(capture_figures: Any) -> None:
    null = find("null")
    with pnn.use_backend(null):
        for what, (captured, given) in capture_figures.cases(null).items():
            f = capture_figures.figures(what, captured, given, null)
            with null.recording() as plain:
                captured.function(*given)
            state = captured(*given)
            with null.recording() as replayed:
                captured(*((state[0], *given[1:]) if isinstance(state, tuple) else given))
            assert f.launches == (len(plain), len(replayed))
            assert f.launches[1] < f.launches[0]
            assert f.moved[1] < f.moved[0]
            assert f.arena <= f.separate
            assert [name for name in capture_figures.kernels(captured) if "batch_norm" in name] or "MLP" in what


def test_bytes_are_those_a_profile_shows(capture_figures: Any) -> None:
    if "opencl" not in VALUES:
        pytest.skip("the bytes of opencl's profile")
    backend: Any = find("opencl")
    with pnn.use_backend(backend):
        what, (captured, given) = next(iter(capture_figures.cases(backend).items()))
        f = capture_figures.figures(what, captured, given, backend)
        with backend.profiling() as times:
            captured.function(*given)
        assert (len(times), sum(t.bytes for t in times)) == (f.launches[0], f.moved[0])
        state = captured(*given)[0]
        with backend.profiling() as times:
            captured(state, *given[1:])
        assert (len(times), sum(t.bytes for t in times)) == (f.launches[1], f.moved[1])
