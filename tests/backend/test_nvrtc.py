"""Every program that GPU-shaped plans launch compiles for NVIDIA without a word, and does not spill. No GPU needed.

By default the float32 programs, each for one of four architectures in turn (two minutes on two cores); all dtypes and
all architectures are marked slow. Needs `pip install cuda-bindings nvidia-cuda-nvrtc`; PORTABLE_NN_TEST_REQUIRE=nvrtc
makes their absence a failure.
"""

from __future__ import annotations

import os
import zlib
from functools import cache

import pytest
from offline import nvrtc
from offline.programs import Program, collect
from offline.table import compile_all, excuses, spills, table, unneeded
from require import require

from portable_nn_kernels.source import program_text

WORKERS = os.cpu_count() or 2


@pytest.fixture(autouse=True)
def _compiler() -> None:
    require("nvrtc", nvrtc.missing())


@cache
def _float32() -> tuple[Program, ...]:
    return tuple(collect(("float32",)))


def _in_turn(program: Program) -> int:
    archs = nvrtc.archs()
    return archs[zlib.crc32(repr((program.source, program.defines)).encode()) % len(archs)]


def test_float32_programs() -> None:
    taken, refused = compile_all(((p, _in_turn(p)) for p in _float32()), WORKERS)
    assert not refused, "\n".join(refused)
    found = spills(taken)
    assert not found, "\n".join(found)
    assert max(r.shared for _, r in taken) <= 48 * 1024


@pytest.mark.slow
def test_all_programs_on_all_architectures() -> None:
    taken, refused = compile_all(((p, arch) for p in collect() for arch in nvrtc.archs()), WORKERS)
    assert not refused, "\n".join(refused)
    found = spills(taken)
    assert not found, "\n".join(found)
    assert not unneeded(taken), f"spills.toml excuses what does not spill: {unneeded(taken)}"
    assert max(r.shared for _, r in taken) <= 48 * 1024
    assert table(taken)


def test_excuses_say_why() -> None:
    for line in excuses():
        assert line["why"].strip()
        assert line["bytes"] > 0


def test_a_fault_a_warning_and_a_spill_are_found() -> None:
    head = "KERNEL(pnn_t, 256, 1, 1)(IN(f32, x), OUT(f32, y)) {\n    AT_IN(f32, x); AT_OUT(f32, y);\n"
    with pytest.raises(nvrtc.Refused, match="missing"):
        nvrtc.compiled(program_text(head + "y[0] = missing;\n}\n", (), "cuda"), nvrtc.archs()[0])
    with pytest.raises(nvrtc.Refused, match="warning"):
        nvrtc.compiled(program_text(head + "i32 unset; y[0] = (f32)unset;\n}\n", (), "cuda"), nvrtc.archs()[0])
    many = "f32 a[400]; for (int i = 0; i < 400; ++i) a[i] = x[i * 7];\nfor (int k = 0; k < 9; ++k)\n"
    many += "#pragma unroll\nfor (int i = 0; i < 400; ++i) a[i] = a[i] * a[(i + 7) % 400];\n"
    many += "#pragma unroll\nfor (int i = 0; i < 400; ++i) y[i] = a[i];\n}\n"
    (r,) = nvrtc.compiled(program_text(head + many.replace("for (int i = 0; i < 400; ++i) a[i] = x", "\n#pragma unroll\nfor (int i = 0; i < 400; ++i) a[i] = x"), (), "cuda"), nvrtc.archs()[0])
    assert r.spill_stores > 0 or r.stack > 0


def test_log_is_read() -> None:
    log = """ptxas info    : 0 bytes gmem
ptxas info    : Compiling entry function 'pnn_a' for 'sm_90'
ptxas info    : Function properties for pnn_a
ptxas         .     24 bytes stack frame, 8 bytes spill stores, 12 bytes spill loads
ptxas info    : Used 40 registers, used 1 barriers, 24 bytes cumulative stack size, 1024 bytes smem
ptxas info    : Compile time = 1.0 ms
"""
    assert nvrtc.resources(log, 90) == [nvrtc.Resources("pnn_a", 90, 40, 24, 8, 12, 1024)]


def test_the_adapter_asks_for_the_same() -> None:
    pytest.importorskip("cupy")
    from portable_nn_cupy.programs import CUDA_OPTIONS

    assert set(CUDA_OPTIONS) <= set(nvrtc.OPTIONS)
