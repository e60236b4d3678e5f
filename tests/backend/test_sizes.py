"""Every candidate of every size computes what the reference does, on CPU- and GPU-shaped kernels; a search runs on a real device."""

from __future__ import annotations

from pathlib import Path

import pytest
from conftest import BACKENDS, find

from portable_nn.tune import Search
from portable_nn.tune.trial import Trial
from portable_nn_kernels.sizes import declared

# The stand-ins for CUDA run the same search on the text that CuPy compiles, and on numba's twins.
OF_SHAPE = {"cpu": ("opencl",), "gpu": ("opencl:gpu", "cuda_cpu", "numba_cpu")}
SHAPED = [(b, name) for name in declared() for b in OF_SHAPE[name[:3]] if b.partition(":")[0] in BACKENDS]
SEARCHED = [b for those in OF_SHAPE.values() for b in those if b.partition(":")[0] in BACKENDS]
QUICK = ("cpu.scan.part", "gpu.map.items", "gpu.scan.per")


@pytest.mark.parametrize(("backend", "name"), [pytest.param(b, n, marks=() if n in QUICK else pytest.mark.slow) for b, n in SHAPED])
def test_every_candidate_is_right(backend: str, name: str) -> None:
    there, tunable = find(backend), declared()[name]
    trial = Trial(there, tunable, {})
    try:
        for value in tunable.candidates:
            trial.check(value)
    finally:
        there.use_sizes({})


@pytest.mark.parametrize("backend", SEARCHED)
def test_search(backend: str, tmp_path: Path) -> None:
    """What it finds is the machine's affair; that it ends, checks, times and keeps is ours."""
    there = find(backend)
    search = Search(there, tmp_path / "device.json", rounds=1)
    (tunable,) = search.wanted(("cpu.gather" if there.profile.shape == "cpu" else "gpu.scatter",))
    ((_, found),) = search.run([tunable], None)
    assert [one.value for one in found] == [tunable.default, *(v for v in tunable.candidates if v != tunable.default)]
    assert {one.state for one in found} <= {"default", "timed", "same launches"}
    assert all(len(one.ratios) == len(tunable.calls) for one in found if one.state == "timed")
    assert Search(there, search.path).wanted((tunable.name,)) == []
    there.use_sizes({})
