"""Every program that GPU-shaped plans launch compiles for NVIDIA without a word, and does not spill. No GPU needed.

By default one float32 program of each kernel file, on one of four architectures; all programs of float32, then of all
dtypes, are marked slow (two and ten minutes on two cores). Needs `pip install cuda-bindings nvidia-cuda-nvrtc`;
PORTABLE_NN_TEST_REQUIRE=nvrtc makes their absence a failure.
"""

from __future__ import annotations

import pytest
from offline import VENDORS, nvrtc
from offline.checks import SPILLING, WRONG, check, check_everything, check_excuses, kernel, of_every_file
from offline.programs import Program, jobs
from offline.target import Refused, Target
from require import require

VENDOR = VENDORS["nvidia"]


@pytest.fixture(autouse=True)
def _compiler() -> None:
    require(VENDOR.TOOL, VENDOR.missing())


def test_a_program_of_every_file() -> None:
    check(VENDOR, of_every_file(VENDOR))


@pytest.mark.slow
def test_float32_programs() -> None:
    check(VENDOR, jobs(VENDOR, ("float32",), "in turn"))


@pytest.mark.slow
def test_all_programs() -> None:
    check_everything(VENDOR)


def test_excuses() -> None:
    check_excuses(VENDOR)


@pytest.mark.parametrize("fault", WRONG)
def test_a_fault_is_refused(fault: str) -> None:
    program, words = kernel(*WRONG[fault][:2]), WRONG[fault][2]
    with pytest.raises(Refused, match=words):
        VENDOR.compiled(program.text(VENDOR.TARGETS[0]), VENDOR.TARGETS[0], program.items)


@pytest.mark.parametrize("target", VENDOR.TARGETS, ids=str)
def test_a_spill_is_found(target: Target) -> None:
    program = Program(SPILLING, (), {"pnn_t": 256}, "test")
    (r,) = VENDOR.compiled(program.text(target), target, program.items)
    assert r.figures["spill"] > 0
    assert r.figures["private"] > 0
    assert r.figures["warps"] == 8  # one group of 256 takes all registers


def test_log_is_read() -> None:
    log = """ptxas info    : 0 bytes gmem
ptxas info    : Compiling entry function 'pnn_a' for 'sm_90'
ptxas info    : Function properties for pnn_a
ptxas         .     24 bytes stack frame, 8 bytes spill stores, 12 bytes spill loads
ptxas info    : Used 40 registers, used 1 barriers, 24 bytes cumulative stack size, 1024 bytes smem
ptxas info    : Compile time = 1.0 ms
"""
    (r,) = nvrtc.resources(log, nvrtc.TARGETS[2], {"pnn_a": 256})
    assert (r.kernel, r.target.name) == ("pnn_a", "sm_90")
    # 40 registers x 32 lanes are 1280 of 65536: 51 warps, of which whole groups of 8 are 48.
    assert r.figures == {"registers": 40, "spill": 8, "private": 24, "local": 1024, "warps": 48}


@pytest.mark.parametrize(
    ("registers", "local", "items", "warps"),
    [
        (32, 0, 256, 64),  # all there is room for
        (255, 0, 256, 8),
        (32, 40 * 1024, 256, 40),  # five groups of 41 KiB in 228
        (16, 0, 32, 32),  # no more than 32 groups
    ],
)
def test_resident_warps(registers: int, local: int, items: int, warps: int) -> None:
    assert nvrtc.resident(nvrtc.TARGETS[2], registers, local, items) == warps


def test_the_adapter_asks_for_the_same() -> None:
    pytest.importorskip("cupy")
    from portable_nn_cupy.programs import CUDA_OPTIONS

    assert set(CUDA_OPTIONS) <= set(nvrtc.OPTIONS)
