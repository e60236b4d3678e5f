"""Every program that GPU-shaped plans launch compiles for Intel's GPUs, and does not spill. No GPU needed.

Two of the three targets compute no float64, as most of Intel's GPUs: text that would need it is refused there. By
default one float32 program of each kernel file, on one of the three; all programs of float32, then of all dtypes, are marked
slow. Needs `apt install intel-opencl-icd` (for its ocloc); PORTABLE_NN_TEST_REQUIRE=ocloc makes its absence a failure.
"""

from __future__ import annotations

import pytest
from offline import VENDORS, elf, intel
from offline.checks import SPILLING, WRONG, check, check_everything, check_excuses, kernel, of_every_file
from offline.programs import Program, jobs
from offline.target import Refused, Target
from require import require

VENDOR = VENDORS["intel"]


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


def test_float64_is_refused_where_there_is_none() -> None:
    program = kernel("y[0] = (f32)(x[0] + (double)0.5f);")
    tgllp, _, pvc = intel.TARGETS
    with pytest.raises(Refused, match="double"):
        VENDOR.compiled(program.text(tgllp), tgllp, program.items)
    assert len(VENDOR.compiled(program.text(pvc), pvc, program.items)) == 1


@pytest.mark.parametrize("target", [intel.TARGETS[0], *(pytest.param(t, marks=pytest.mark.slow) for t in intel.TARGETS[1:])], ids=str)
def test_a_spill_is_found(target: Target) -> None:
    program = Program(SPILLING, (), {"pnn_t": 256}, "test")
    (r,) = VENDOR.compiled(program.text(target), target, program.items)
    assert r.figures["spill"] > 0
    assert r.figures["private"] > 0


def test_what_the_binary_tells_is_read() -> None:
    info = """---
version:         '1.20'
kernels:
  - name:            pnn_a
    execution_env:
      barrier_count:   1
      grf_count:       128
      simd_size:       16
      slm_size:        4224
    per_thread_memory_buffers:
      - type:            scratch
        usage:           single_space
        size:            4096
  - name:            pnn_b
    execution_env:
      grf_count:       128
      simd_size:       32
kernels_misc_info:
  - name:            pnn_a
"""
    log = "warning: kernel pnn_a  compiled SIMD16 allocated 128 regs and spilled around 7\n"
    a, b = intel.resources(info, log, intel.TARGETS[0])
    assert (a.kernel, b.kernel) == ("pnn_a", "pnn_b")
    assert a.figures == {"simd": 16, "grf": 128, "spill": 7, "private": 256, "local": 4224}
    assert b.figures == {"simd": 32, "grf": 128, "spill": 0, "private": 0, "local": 0}


def test_what_is_no_binary_is_refused() -> None:
    with pytest.raises(ValueError, match="not an ELF64 file"):
        elf.section(b"#!/bin/sh", ".ze_info")
