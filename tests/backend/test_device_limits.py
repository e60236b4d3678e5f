"""Plans for the smallest GPU (256 work-items, 32 KiB of local memory, no float64, no float16) stay within it: CPU runtimes would not complain.

Local memory is read from the text, after g++'s preprocessor; Intel's compiler, which has no float64 on two targets,
says the same in test_intel.py where it is installed.
"""

from __future__ import annotations

import re
import subprocess
from functools import cache
from pathlib import Path

import pytest
from cuda_cpu import build
from offline.programs import Program, collect
from offline.target import Target
from require import require

from portable_nn.core.registry import OPS
from portable_nn_kernels.launch import Profile

SMALLEST = Profile("gpu", name="smallest", units=8, group_limit=256, local_bytes=32 * 1024, float64=False, float16=False, vector=1)
TARGET = Target("smallest", "opencl", float64=False)
BYTES = {"u8": 1, "i8": 1, "i16": 2, "u16": 2, "i32": 4, "u32": 4, "f32": 4, "i64": 8, "u64": 8, "f64": 8, "c64": 8, "c128": 16}
_LOCAL = re.compile(r"__local (\w+) (\w+)((?:\[[^\]]+\])+)\s*;")
_END = "pnn_end_of_text"


@cache
def _programs() -> tuple[Program, ...]:
    return tuple(collect(SMALLEST, ("float32", "float16", "int64")))


def preprocessed(texts: list[str], folder: Path) -> list[str]:
    """Return texts with their macros replaced, by one call of g++."""
    files = []
    for number, text in enumerate(texts):
        files.append(folder / f"{number}.c")
        files[-1].write_text("\n".join(line for line in text.splitlines() if "#pragma" not in line) + f"\n{_END}\n")
    command = [str(build.compiler()), "-E", "-P", "-w", "-x", "c", *map(str, files)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    found = done.stdout.split(_END)[:-1]
    assert len(found) == len(texts)
    return found


def local_bytes(text: str) -> int:
    """Return the bytes of a preprocessed program's local arrays."""
    total = 0
    for tag, name, sizes in _LOCAL.findall(text):
        count = 1
        for size in re.findall(r"\[([^\]]+)\]", sizes):
            assert re.fullmatch(r"[\d\s()+*/-]+", size), f"{name}: a size that is no number: {size}"
            count *= int(eval(size.replace("/", "//")))
        total += count * BYTES[tag]
    return total


def wider(text: str) -> list[str]:
    """Return what a preprocessed program has of float64, or of float16 other than as memory."""
    return re.findall(r"\bdouble\b|\bf64\b|\bc128\b|\bhalf\b(?!\*)", text)


def test_every_op_is_planned() -> None:
    """What has a plan on a large GPU has one on the smallest, but for ops of float64 alone."""
    large = {program.op for program in collect(Profile("gpu", units=8, vector=1), ("float32", "float16", "int64"))}
    assert {program.op for program in _programs()} == large
    assert len(large) > len(OPS) // 2  # programs that several ops launch carry the first one's name


def test_groups_fit() -> None:
    large = [f"{program}: groups of {program.items}" for program in _programs() if max(program.items.values()) > SMALLEST.group_limit]
    assert not large, "\n".join(large)


def test_local_memory_fits_and_nothing_is_wider(tmp_path: Path) -> None:
    require("g++", build.missing())
    # Rendered text has no local memory, and is one form of a few: what benchmarks launch of it is enough here.
    programs = [program for program in _programs() if program.benched or program.file != "elementwise"]
    texts = preprocessed([program.text(TARGET) for program in programs], tmp_path)
    sizes = [local_bytes(text) for text in texts]
    large = [f"{program}: {size} bytes" for program, size in zip(programs, sizes, strict=True) if size > SMALLEST.local_bytes]
    assert not large, "\n".join(large)
    assert max(sizes) > 16 * 1024  # attention's tiles: the arrays are seen
    wide = [f"{program}: {wider(text)[:3]}" for program, text in zip(programs, texts, strict=True) if wider(text)]
    assert not wide, "\n".join(wide)


@pytest.mark.parametrize(("body", "size", "wide"), [
    ("LOCAL f32 a[64][2 * (16 + 1)]; LOCAL u16 b[10];", 64 * 34 * 4 + 20, 0),
    ("f64 x; half y;", 0, 2),
])  # fmt: skip
def test_faults_are_found(body: str, size: int, wide: int, tmp_path: Path) -> None:
    require("g++", build.missing())
    program = Program(f"\nKERNEL(pnn_t, 64, 1, 1)(IN(f16, x)) {{ {body} }}\n", (), {"pnn_t": 64}, "test")
    (text,) = preprocessed([program.text(TARGET)], tmp_path)
    assert local_bytes(text) == size
    assert len(wider(text)) == wide
