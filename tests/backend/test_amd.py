"""Every program that GPU-shaped plans launch compiles for AMD, as OpenCL C and as HIP, and does not spill. No GPU needed.

By default one float32 program of each kernel file, on one of five processors; all programs of float32, then of all dtypes,
are marked slow. Needs `apt install clang-22 lld-22 libclc-22 rocm-device-libs`; PORTABLE_NN_TEST_REQUIRE=amd makes
their absence a failure.
"""

from __future__ import annotations

import pytest
from offline import VENDORS, amd
from offline.checks import SPILLING, WRONG, check, check_everything, check_excuses, kernel, of_every_file
from offline.programs import Program, jobs
from offline.target import Refused, Target
from require import require

VENDOR = VENDORS["amd"]
OPENCL, HIP = amd.TARGETS[:2]


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


@pytest.mark.parametrize("target", [OPENCL, HIP], ids=str)
@pytest.mark.parametrize("fault", WRONG)
def test_a_fault_is_refused(fault: str, target: Target) -> None:
    program, words = kernel(*WRONG[fault][:2]), WRONG[fault][2]
    with pytest.raises(Refused, match=words):
        VENDOR.compiled(program.text(target), target, program.items)


def test_a_function_that_no_library_has_is_refused() -> None:
    program = kernel("y[0] = pnn_elsewhere(x[0]);", "f32 pnn_elsewhere(f32 x);")
    with pytest.raises(Refused, match="no library has pnn_elsewhere"):
        VENDOR.compiled(program.text(OPENCL), OPENCL, program.items)


@pytest.mark.parametrize("target", [amd.TARGETS[4], *(pytest.param(t, marks=pytest.mark.slow) for t in amd.TARGETS[5:])], ids=str)
def test_a_spill_is_found(target: Target) -> None:
    """Not on gfx90a and gfx942: a lane there has 512 registers, and the kernel 400."""
    program = Program(SPILLING, (), {"pnn_t": 256}, "test")
    (r,) = VENDOR.compiled(program.text(target), target, program.items)
    assert r.figures["spill"] > 0
    assert r.figures["private"] > 0
    assert r.figures["vgprs"] == 256


def test_remarks_are_read() -> None:
    log = """k.cl:9:1: remark: Function Name: pnn_a [-Rpass-analysis=kernel-resource-usage]
k.cl:9:1: remark:     TotalSGPRs: 28 [-Rpass-analysis=kernel-resource-usage]
k.cl:9:1: remark:     VGPRs: 21 [-Rpass-analysis=kernel-resource-usage]
k.cl:9:1: remark:     AGPRs: 4 [-Rpass-analysis=kernel-resource-usage]
k.cl:9:1: remark:     ScratchSize [bytes/lane]: 16 [-Rpass-analysis=kernel-resource-usage]
k.cl:9:1: remark:     Dynamic Stack: False [-Rpass-analysis=kernel-resource-usage]
k.cl:9:1: remark:     Occupancy [waves/SIMD]: 8 [-Rpass-analysis=kernel-resource-usage]
k.cl:9:1: remark:     SGPRs Spill: 3 [-Rpass-analysis=kernel-resource-usage]
k.cl:9:1: remark:     VGPRs Spill: 2 [-Rpass-analysis=kernel-resource-usage]
k.cl:9:1: remark:     LDS Size [bytes/block]: 512 [-Rpass-analysis=kernel-resource-usage]
"""
    (r,) = amd.resources(log, OPENCL)
    assert r.kernel == "pnn_a"
    assert r.figures == {"vgprs": 25, "sgprs": 28, "sgpr_spills": 3, "spill": 8, "private": 16, "local": 512, "waves": 8}
    with pytest.raises(Refused, match="recursively"):
        amd.resources(log.replace("False", "True"), OPENCL)


def test_the_adapter_asks_for_the_same() -> None:
    pytest.importorskip("cupy")
    from portable_nn_cupy.programs import HIP_OPTIONS

    assert set(HIP_OPTIONS) <= set(amd.OPTIONS)
