"""The rungs of the verification ladder: a few ops on each (all of them with `-m slow`), and that planted faults show."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from ladder import pool, record
from ladder.__main__ import main, parser
from ladder.child import chosen
from ladder.oclgrind import ENVIRONMENT, faults_in
from ladder.rungs import RUNGS, WIDTH, Rung, python_path
from offline import VENDORS
from offline.programs import jobs
from require import require

import portable_nn.ops  # noqa: F401 - fills the registry
from portable_nn.core.registry import OPS
from portable_nn.testing.coverage import fault_of
from portable_nn.testing.verify import Check, Results

EXECUTED = [rung for rung in RUNGS.values() if rung.step in "abcd"]


def results_of(rung: Rung, ops: tuple[str, ...], samples: int | None) -> Results:
    require(rung.tool, rung.missing())
    results = Results()
    for line in pool.run(rung, ops, samples, (), min(len(ops), 2), lambda op: None):
        results.merge(line)
    return results


@pytest.mark.parametrize("name", ["opencl-gpu-32", "opencl-limits", "pocl-gpu", "oclgrind"])
def test_a_few_ops(name: str) -> None:
    found = results_of(RUNGS[name], ("softmax",) if name != "oclgrind" else ("softmax", "add"), 1)
    assert not found.failures, "\n".join(found.failures)
    assert found.totals()["passed"] >= 2


@pytest.mark.slow
@pytest.mark.parametrize("rung", EXECUTED, ids=lambda rung: rung.name)
def test_every_op(rung: Rung) -> None:
    found = results_of(rung, tuple(sorted(op for op in OPS if OPS[op].samples)), rung.samples)
    assert not found.failures, "\n".join(found.failures)
    assert len(found.counts) == sum(bool(op.samples) for op in OPS.values())


def python(code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    given = os.environ | {"PYTHONPATH": python_path()} | environment
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=given, check=False, timeout=300)


@pytest.mark.parametrize("width", [8, 16, 32])
def test_the_width_is_what_the_rung_says(width: int) -> None:
    """Intel's runtime takes so many work-items into a vector: its kernels can read it."""
    require("intel", RUNGS["opencl-gpu"].missing())
    code = """
import numpy as np, pyopencl as cl
from portable_nn_opencl.devices import found
device = next(d.device for d in found() if "intel" in d.platform.lower())
context = cl.Context([device])
text = "__kernel void pnn_width(__global int* y) { y[get_global_id(0)] = get_sub_group_size(); }"
kernel = cl.Program(context, text).build(["-cl-std=CL3.0"], cache_dir=False).pnn_width
y, queue = np.zeros(256, np.int32), cl.CommandQueue(context)
buffer = cl.Buffer(context, cl.mem_flags.READ_WRITE, y.nbytes)
kernel(queue, (256,), (64,), buffer)
cl.enqueue_copy(queue, y, buffer)
print(*set(y.tolist()))
"""
    done = python(code, **{WIDTH: str(width)})
    assert done.stdout.split() == [str(width)], done.stderr[-2000:]


def test_a_switch_of_the_compiler_means_another_binary(monkeypatch: pytest.MonkeyPatch) -> None:
    """Otherwise a rung would load what another has compiled, and test nothing."""
    programs = pytest.importorskip("portable_nn_opencl.programs")
    before = programs._switches()
    monkeypatch.setenv(WIDTH, "8")
    assert f"{WIDTH}=8" in programs._switches()
    assert programs._switches() != before


# -- what Oclgrind must find ---------------------------------------------------------------------------------------------

FAULTS = {
    "clean": ("s[t] = x[t]; barrier(CLK_LOCAL_MEM_FENCE); y[t] = s[63 - t];", ""),
    "out of bounds": ("y[t + 1] = x[t];", "Invalid write of size 4"),
    "missing barrier": ("s[t] = 0; barrier(CLK_LOCAL_MEM_FENCE); s[t] = x[t]; y[t] = s[63 - t];", "data race"),
    "race of groups": ("y[0] = t;", "data race"),
    "uninitialised": ("s[t] = x[t]; barrier(CLK_LOCAL_MEM_FENCE); y[t] = s[64 + t];", "Uninitialized value"),
    "divergent barrier": ("if (t < 32) barrier(CLK_LOCAL_MEM_FENCE); y[t] = x[t];", "divergence"),
}


def oclgrind(body: str, log: Path, groups: int = 1) -> tuple[str, subprocess.CompletedProcess[str]]:
    """Run a kernel of 64 work-items in Oclgrind; return its faults."""
    require("oclgrind", RUNGS["oclgrind"].missing())
    code = f"""
import numpy as np, pyopencl as cl
from portable_nn_opencl.devices import found
device = next(d.device for d in found() if "oclgrind" in d.platform.lower())
context = cl.Context([device])
text = "__kernel void pnn_fault(__global const float* x, __global float* y) {{ __local float s[128]; int t = get_local_id(0); {body} }}"
queue, kernel = cl.CommandQueue(context), cl.Program(context, text).build(["-cl-std=CL1.2"], cache_dir=False).pnn_fault
x = np.ones(64, np.float32)
there = [cl.Buffer(context, cl.mem_flags.READ_WRITE | cl.mem_flags.COPY_HOST_PTR, hostbuf=x) for _ in range(2)]
kernel(queue, ({64 * groups},), (64,), *there)
queue.finish()
"""
    done = python(code, **ENVIRONMENT, OCLGRIND_LOG=str(log))
    return faults_in(log.read_text()) if log.exists() else "", done


@pytest.mark.parametrize("fault", FAULTS)
def test_oclgrind_finds(fault: str, tmp_path: Path) -> None:
    body, words = FAULTS[fault]
    found, done = oclgrind(body, tmp_path / "log", 2 if fault == "race of groups" else 1)
    assert (words.lower() in found.lower()) if words else not found, (found, done.stderr[-2000:])


def test_oclgrind_takes_an_upper_half_for_unset(tmp_path: Path) -> None:
    """Its own fault: the same eight numbers, just loaded, are set when they are named one by one. When this fails, `HIGH` of c/conv_cpu.c can go."""
    found = {}
    for half in ("v.lo", "v.hi", "(float8)(v.s8, v.s9, v.sa, v.sb, v.sc, v.sd, v.se, v.sf)"):
        found[half], done = oclgrind(f"float16 v = vload16(0, x); if (t == 0) vstore8({half}, 0, y);", tmp_path / str(len(found)))
        assert done.returncode == 0, done.stderr
    assert [half for half, log in found.items() if log] == ["v.hi"]
    assert "Uninitialized value written to global memory" in found["v.hi"]


def test_a_rung_without_the_checks_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    from ladder.oclgrind import Log

    for name, value in ENVIRONMENT.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("OCLGRIND_LOG", "log")
    assert Log().faults() == ""
    monkeypatch.delenv("OCLGRIND_DATA_RACES")
    with pytest.raises(AssertionError, match="OCLGRIND_DATA_RACES must be set"):
        Log()
    assert ENVIRONMENT.items() <= dict(RUNGS["oclgrind"].environment()).items()


# -- the ladder itself -----------------------------------------------------------------------------------------------------


def test_a_process_that_dies_fails_its_op_and_the_rest_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool, "OPS_EACH", 2)
    code = "import sys, json, os\nfor line in sys.stdin:\n    op = line.strip()\n    print('on', op, file=sys.stderr)\n    op == 'bad' and os.abort()\n    print(json.dumps({'op': op}), flush=True)"
    real = subprocess.Popen

    def popen(command, **settings):
        return real([sys.executable, "-c", code], **settings)

    monkeypatch.setattr(pool.subprocess, "Popen", popen)
    found = {line["op"]: line for line in pool.run(RUNGS["numpy"], ["a", "bad", "b", "c", "d"], 1, (), 1, lambda op: None)}
    assert found.keys() == {"a", "bad", "b", "c", "d"}
    assert found["bad"]["failures"] == ["bad: the process ended with -6: on a on bad"]
    assert found["d"] == {"op": "d"}


def test_the_command(tmp_path: Path, capsys, monkeypatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert main(["numpy", "--ops", "relu", "--samples", "1", "--out", str(tmp_path / "records")]) == 0
    said = capsys.readouterr().out
    assert "0  numpy" in said
    assert "0 failed" in said
    (kept,) = (tmp_path / "records").iterdir()
    assert main(["numpy", "--ops", "sign", "--samples", "1", "--out", str(tmp_path / "records")]) == 0
    both = json.loads(kept.read_text())
    assert both["counts"].keys() == both["cpu"].keys() == {"relu", "sign"}
    assert not fault_of(both)
    assert main(["numpy", "--ops", "sign", "--samples", "2", "--out", str(tmp_path / "records")]) == 0
    assert "not recorded: samples was 1 there and is 2 now" in capsys.readouterr().out
    assert json.loads(kept.read_text()) == both
    monkeypatch.setitem(RUNGS, "pocl", replace(RUNGS["pocl"], missing=lambda: "it was never installed"))
    assert main(["pocl"]) == 0
    assert "skipped: it was never installed" in capsys.readouterr().out
    monkeypatch.setenv("PORTABLE_NN_TEST_REQUIRE", "g++, pocl")
    assert main(["pocl"]) == 1
    assert "FAILED: it was never installed (PORTABLE_NN_TEST_REQUIRE asks for pocl)" in capsys.readouterr().out
    assert main(["--list"]) == 0
    listed = capsys.readouterr().out
    assert all(f" {name} " in listed for name in RUNGS)


def a_record(commit: str, **ops: list[int]) -> dict[str, Any]:
    lines = [
        {
            "op": op, "cpu_seconds": float(passed), "counts": {op: {"forward": {"float32": [passed, failed, skipped]}}},
            "failures": [f"{op}/forward/float32 a: wrong"] * failed, "skips": {"no float64": {op: skipped}} if skipped else {},
        }
        for op, (passed, failed, skipped) in ops.items()
    ]  # fmt: skip
    head = {"commit": commit, "tool": "t", "samples": 1, "dtypes": []}
    return record.made(RUNGS["numpy"], head, lines, "2026-01-01T00:00:00+00:00", 1.0)


def test_some_ops_run_again() -> None:
    old = a_record("one", relu=[1, 1, 0], relu6=[2, 0, 1], sign=[1, 0, 0])
    new = record.joined(old, a_record("two", relu=[3, 0, 0]))
    assert not fault_of(new)
    assert new["totals"] == {"passed": 6, "failed": 0, "skipped": 1}
    assert not new["failures"]
    assert (new["commit"], new["later"], new["skips"]) == ("one", {"two": "relu"}, {"no float64": {"relu6": 1}})
    assert new["cpu_seconds"] == 6
    new = record.joined(new, a_record("three", relu6=[1, 0, 0]))
    assert (new["commit"], new["later"], new["skips"]) == ("one", {"three": "relu6", "two": "relu"}, {})
    new = record.joined(new, a_record("three", relu=[1, 1, 0]))
    assert (new["commit"], new["later"]) == ("three", {"one": "sign"})
    assert new["failures"] == ["relu/forward/float32 a: wrong"]
    assert record.unlike(old, a_record("two") | {"tool": "u"}) == "tool was 't' there and is 'u' now"


def test_dtypes_of_an_op() -> None:
    def planned(op: str, *dtypes: str, direction: str = "forward") -> list[Check]:
        return [Check(op, direction, dtype, "a", int) for dtype in dtypes]

    floats = ("float64", "float32", "float16", "bfloat16", "int32")
    made = {op: [c.dtype for c in chosen(planned(op, *floats), (), 2)] for op in OPS}
    assert all("float32" in dtypes and len(dtypes) == 2 for dtypes in made.values())
    assert {d for dtypes in made.values() for d in dtypes} == set(floats)  # in turn
    both = chosen([*planned("relu", *floats), *planned("relu", "float64", "float16", direction="gradient")], (), 1)
    assert [(c.direction, c.dtype) for c in both] == [("forward", "float32"), ("gradient", "float64")]
    assert [c.dtype for c in chosen(planned("any", "bool", "int32"), (), 3)] == ["bool", "int32"]
    assert len(chosen(planned("relu", *floats), (), None)) == len(floats)
    assert [c.dtype for c in chosen(planned("relu", *floats), ("int32", "bool"), None)] == ["int32"]
    assert [c.dtype for c in chosen(planned("any", "bool", "int64"), ("float32",), None)] == ["bool"]
    assert chosen([], (), 1) == chosen([], ("float32",), None) == []


def test_every_program_has_its_turn() -> None:
    """Two of Intel's targets compute no float64: programs in it are compiled for the third, not in a third of all cases."""
    intel, asked = VENDORS["intel"], (("float32", "float64"), ("relu", "softmax", "matmul"))
    every, turns = jobs(intel, asked[0], "all", asked[1]), jobs(intel, asked[0], "in turn", asked[1])
    assert len({(p.source, p.defines) for p, _ in turns}) == len(turns) == len({(p.source, p.defines) for p, _ in every})
    assert set(turns) <= set(every)
    assert {t.name for _, t in turns} == {"tgllp", "dg2", "pvc"}
    assert {t.name for p, t in turns if "f64" in str(dict(p.defines).values())} == {"pvc"}


def test_an_interrupted_run_goes_on(tmp_path: Path, monkeypatch) -> None:
    from ladder import __main__ as command
    from rich.console import Console

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(command, "commit", lambda: "abc")
    ran: list[str] = []

    def run(rung, ops, samples, dtypes, processes, started):
        for op in ops:
            ran.append(op)
            if len(ran) == 3:
                raise KeyboardInterrupt
            yield {"op": op, "cpu_seconds": 1.0, "counts": {op: {"forward": {"float32": [1, 0, 0]}}}, "failures": [], "skips": {}}

    monkeypatch.setattr(command.pool, "run", run)
    options: argparse.Namespace = parser().parse_args(["numpy", "--resume"])
    with pytest.raises(KeyboardInterrupt):
        command.run(RUNGS["numpy"], ["a", "b", "c", "d"], 1, options, Console())
    (kept,) = tmp_path.rglob("numpy-*.jsonl")
    assert len(kept.read_text().splitlines()) == 3
    record = command.run(RUNGS["numpy"], ["a", "b", "c", "d"], 1, options, Console())
    assert ran == ["a", "b", "c", "c", "d"]
    assert record["totals"]["passed"] == 4
    assert not kept.exists()
    assert json.loads(json.dumps(record)) == record
