"""Where the time of a step goes: whose kernels and calls there are, what pages, tables and the trace make of them. Never how fast."""

import json
import re
from itertools import pairwise

import pytest
from conftest import VALUES
from training.synthetic import batch
from training.test_cli import run

import portable_nn as pnn
from portable_nn import optim
from portable_nn.core.errors import SettingError
from portable_nn.train import Recipe
from portable_nn.train.pages.flame import Box, flame, tree
from portable_nn.train.profile import Profile, Work, by_kernel, by_op, described, profile_steps, profile_training, rows
from portable_nn.train.step import train_step
from portable_nn.train.trace import DEVICE, HOST, trace

opencl = pytest.mark.skipif("opencl" not in VALUES, reason="no OpenCL device: kernels are timed by its clock")


def eager(backend):
    optimizer = optim.adamw(1e-3)
    with pnn.use_backend(backend) as there:
        state = Recipe().begin(pnn.models.create("lenet", (1, 8, 8), 10).to(), optimizer)
        images, labels = (pnn.asarray(x) for x in batch(4))
        return profile_steps(there, state, lambda s: train_step(s, optimizer, images, labels, lr=0.1)[0], steps=2)


def test_every_call_of_a_step_is_counted(backend):
    found = eager(backend)
    calls = {(s.name, s.phase): s.calls for s in by_op(found)}
    assert calls["conv2d", "forward"] == 2
    assert calls["linear", "forward"] == 3
    assert calls["adam_step", "update"] == 10
    assert all(w.seconds > 0 for w in found.work)
    seconds = [s.seconds for s in by_op(found)]
    assert seconds == sorted(seconds, reverse=True)
    assert sum(seconds) == pytest.approx(found.busy_seconds)
    assert found.waited == (not found.kernels)


@opencl
def test_kernels_belong_to_the_calls_that_launched_them():
    found = eager("opencl")
    layers = {w.layer for w in found.kernels if w.op == "conv2d"}
    assert layers == {"conv1", "conv2"}
    assert {w.phase for w in found.kernels if w.op.endswith("_grad") or w.op == "matmul"} == {"backward"}
    assert {w.phase for w in found.kernels if w.op == "adam_step"} == {"update"}
    # what a backend says of a kernel and what was seen of the call agree: no kernel was given to a neighbour
    assert {w.op for w in found.kernels} <= {w.op for w in found.host}
    assert all(w.nbytes > 0 for w in found.kernels if w.op == "conv2d")
    by_name = {s.name: s for s in by_kernel(found)}
    assert sum(s.seconds for s in by_name.values()) == pytest.approx(found.busy_seconds)


@pytest.mark.parametrize("name", [pytest.param("opencl", marks=opencl), "numpy"])
def test_a_captured_step(name):
    """The calls of a replay are those of the rewritten step: fused, the updates of all parameters one."""
    plain, captured = profile_training(backend=name, model="mlp", batch_size=8, steps=2)
    assert (plain.captured, captured.captured) == (False, True)
    calls = {s.name: s.calls for s in by_op(captured)}
    assert calls["cross_entropy"] >= 1
    assert all(w.phase == w.layer == "" for w in captured.work)
    if name == "opencl":
        assert calls["adam_step"] == 1
        assert len(captured.kernels) < len(plain.kernels)
        assert [w.op for w in captured.host] == ["replay", "replay"]
    else:
        assert captured.waited
        assert not captured.kernels


def test_what_cannot_be_captured_is_profiled_call_by_call():
    assert [p.captured for p in profile_training(backend="numpy", model="mlp", steps=1, capture=False)] == [False]
    with pytest.raises(SettingError, match="steps is 0 but at least 1"):
        profile_training(backend="numpy", steps=0)


def made(captured=False):
    host = (Work("conv2d", "forward", "block.conv", "", 1.0, 0.1), Work("relu", "forward", "block", "", 1.1, 0.1), Work("add", "update", "", "", 1.3, 0.1))
    kernels = (Work("conv2d", "forward", "block.conv", "pack", 1.1, 0.25, 8), Work("conv2d", "forward", "block.conv", "tiles", 1.35, 0.5, 8), Work("relu", "forward", "block", "map", 1.85, 0.25, 8))
    return Profile("opencl", "<device>", captured, 1, 2.0, False, (1.0,), host, kernels)


def test_trace_is_what_viewers_read():
    """Complete events with a process and a thread, in microseconds; calls lie within their phase, phases within their step."""
    read = json.loads(json.dumps(trace([made(), eager("numpy")])))
    events = read["traceEvents"]
    assert {e["ph"] for e in events} == {"M", "X"}
    assert all(isinstance(e["pid"], int) and (e["ph"] == "M" or {"ts", "dur", "tid", "name", "cat"} <= set(e)) for e in events)
    names = {(e["pid"], e.get("tid")): e["args"]["name"] for e in events if e["ph"] == "M"}
    assert names[1, HOST] == "host"
    assert names[1, DEVICE] == "<device>"
    first = [e for e in events if e["ph"] == "X" and e["pid"] == 1]
    kernels = [e for e in first if e["tid"] == DEVICE]
    assert [(e["name"], e["ts"], e["dur"]) for e in kernels] == [("pack", 1e5, 2.5e5), ("tiles", 3.5e5, 5e5), ("map", 8.5e5, 2.5e5)]
    assert kernels[0]["args"] == {"op": "conv2d", "phase": "forward", "layer": "block.conv", "bytes": 8}
    assert [e["name"] for e in first if e["cat"] == "phase"] == ["forward", "update"]
    for pid in (1, 2):
        host = [e for e in events if e["ph"] == "X" and e["pid"] == pid and e["tid"] == HOST]
        for inner, outer in (("op", "phase"), ("phase", "step")):
            outside = [(e["ts"], e["ts"] + e["dur"]) for e in host if e["cat"] == outer]
            for e in host:
                if e["cat"] == inner:
                    assert any(a - 0.01 <= e["ts"] and e["ts"] + e["dur"] <= b + 0.01 for a, b in outside)


@opencl
def test_kernels_of_one_queue_do_not_overlap():
    kernels = sorted(eager("opencl").kernels, key=lambda w: w.start)
    assert all(a.start + a.seconds <= b.start + 1e-9 for a, b in pairwise(kernels))


def test_flame_graph():
    root = tree(rows(made()), "all")
    assert root.seconds == pytest.approx(1.0)
    block = root.inside["forward"].inside["block"]
    assert list(block.inside) == ["conv", "relu"]
    assert block.inside["conv"].inside["conv2d"].inside["tiles"].seconds == pytest.approx(0.5)
    drawn = flame(root)
    widths = [float(w) for w in re.findall(r"flex: ([\d.]+) 1 0; --hue", drawn)]
    assert widths == [1000.0, 1000.0, 1000.0, 750.0, 750.0, 250.0, 500.0, 250.0, 250.0]
    assert "tiles: 500.000 ms, 50.0%" in drawn
    assert flame(Box("nothing")) == ""
    small = tree([{"phase": "", "layer": "", "op": f"<{n}>", "kernel": "", "seconds": s} for n, s in enumerate((1.0, 1e-4, 1e-4))], "all")
    assert "2 more" in flame(small)
    assert "&lt;0&gt;" in flame(small)


@opencl
def test_the_command(tmp_path):
    """Tables on the terminal, also piped; a page, a trace and numbers in the folder."""
    folder = tmp_path / "profile"
    done = run("profile", "train", "--backend", "opencl", "--model", "mlp", "--batch-size", 8, "--steps", 2, "--out", folder, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "Call by call: a step takes" in done.stdout
    assert "Captured: a step takes" in done.stdout
    assert re.search(r"^  linear +forward +\d", done.stdout, re.M)
    assert re.search(r"^  pnn_gemm\w+ +\d", done.stdout, re.M)
    page = (folder / "report.html").read_text()
    assert page.count('class="flame"') == 2
    assert "Time per kernel" in page
    assert json.loads((folder / "trace.json").read_text())["traceEvents"]
    plain, captured = json.loads((folder / "profile.json").read_text())
    assert (plain["captured"], captured["captured"]) == (False, True)
    assert sum(row["seconds"] for row in plain["rows"]) == pytest.approx(plain["busy_seconds"])
    told = json.loads(run("profile", "train", "--backend", "numpy", "--model", "mlp", "--no-capture", "--steps", 1, "--json", "--out", folder, cwd=tmp_path).stdout)
    assert [p["waited"] for p in told] == [True]
    wrong = run("profile", "train", "--backend", "numpy", "--steps", 0, "--out", folder, cwd=tmp_path)
    assert wrong.returncode == 2
    assert "steps is 0" in wrong.stderr


def test_described_is_plain():
    """A step that nobody timed has no time, rather than a number that JSON has not."""
    told = described(Profile("numpy", "cpu", False, 1, float("nan"), True, (0.0,), (), ()))
    assert told["step_seconds"] is None
    json.dumps(told, allow_nan=False)
