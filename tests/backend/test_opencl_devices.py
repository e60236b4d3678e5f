"""Which OpenCL device is chosen, what a probe says, and where drivers are found."""

import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from portable_nn.core.errors import BackendError
from portable_nn_opencl import probe, runtimes

devices = pytest.importorskip("portable_nn_opencl.devices")

ROOT = Path(__file__).parents[2]


@pytest.fixture
def first():
    if all(d.simulator for d in devices.found()):
        pytest.skip("no OpenCL device")
    return devices.choose(None)


@pytest.fixture
def no_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path


def python(code, **env):
    paths = os.pathsep.join([str(ROOT), str(ROOT / "backends")])
    given = {k: v for k, v in os.environ.items() if k not in runtimes.VARIABLES} | {"PYTHONPATH": paths} | env
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=given, check=False, timeout=300
    )


def test_choice_by_index_name_kind_and_platform(first):
    index = devices.found().index(first)
    part = first.name.split()[0].upper()
    assert devices.choose(str(index)) == first
    for text in (part, first.platform[:5], first.kind):
        assert text.lower() in (devices.choose(text).name + devices.choose(text).platform + first.kind).lower()


@pytest.mark.parametrize(("items", "local"), [(128, 64), (1024, 16)])
def test_a_gpu_that_is_too_small_is_refused(monkeypatch, items, local):
    """Before any kernel is compiled, with what it has and what is needed."""
    device = SimpleNamespace(max_work_group_size=items, local_mem_size=local * 1024)
    small = devices.Found("tiny", "gpu", "Tiny", "OpenCL 1.2", "1", device)
    monkeypatch.setattr(devices, "found", lambda: (small,))
    with pytest.raises(BackendError, match=f"at most {items} items and {local} KiB of local memory; kernels for GPUs need 256 and 32 KiB"):
        devices.choose("gpu")


@pytest.mark.parametrize("wanted", ["99", "no such thing"])
def test_wrong_choice_lists_what_exists(first, wanted):
    with pytest.raises(BackendError, match="the devices are") as raised:
        devices.choose(wanted)
    assert first.name in str(raised.value)
    assert wanted in str(raised.value)


@pytest.mark.parametrize(
    ("script", "timeout", "words"),
    [
        ("import os; os.abort()", 60, "signal 6"),
        ("import time; time.sleep(60)", 0.5, "did not end within"),
        ("raise RuntimeError('unknown target CPU')", 60, "unknown target CPU"),
        ("import sys; sys.exit('a kernel ran but gave wrong values')", 60, "wrong values"),
    ],
    ids=["aborts", "hangs", "build fails", "wrong values"],
)
def test_probe_failures(first, no_cache, monkeypatch, script, timeout, words):
    monkeypatch.setattr(probe, "SCRIPT", script)
    assert words in probe.run(first, timeout).reason
    assert not probe.run(first, timeout).ok


def test_a_busy_machine_gets_more_time(first, no_cache, monkeypatch):
    monkeypatch.setattr(probe, "SCRIPT", "import time; time.sleep(1); print('works')")
    monkeypatch.setattr(probe, "_busy", lambda: True)
    assert probe.run(first, 0.5 if sys.platform == "linux" else 5).ok
    monkeypatch.setattr(probe, "SCRIPT", "import time; time.sleep(60)")
    assert "did not end within 1 s" in probe.run(first, 0.2).reason


def test_a_first_probe_starts_while_the_device_is_looked_for(first, no_cache, monkeypatch):
    with probe.ahead():
        (begun,) = probe._begun
        monkeypatch.setattr(probe, "_Probing", lambda: pytest.fail("another process was started"))
        assert probe.passes(first).ok
        assert not probe._begun
    with probe.ahead():  # a result is remembered
        assert not probe._begun
    assert begun.errors.closed


def test_a_probe_that_nobody_wanted_is_ended(no_cache):
    with probe.ahead():
        (begun,) = probe._begun
        (process,) = begun.crew.processes
    assert process.poll() is not None


def test_failed_probe_is_remembered_and_said(first, no_cache, monkeypatch):
    monkeypatch.setattr(probe, "SCRIPT", "raise RuntimeError('unknown target CPU')")
    with pytest.raises(BackendError, match="passed the build probe") as raised:
        devices.choose(None)
    assert "unknown target CPU" in str(raised.value)
    assert str(probe.path(first)) in str(raised.value)
    monkeypatch.undo()
    monkeypatch.setenv("XDG_CACHE_HOME", str(no_cache))
    assert not probe.passes(first).ok
    kept = json.loads(probe.path(first).read_text())
    probe.path(first).write_text(json.dumps(kept | {"time": kept["time"] - 2 * 24 * 3600}))
    assert probe.passes(first).ok  # tried again a day later
    probe.path(first).write_text("not json")
    assert probe.passes(first).ok


def test_next_candidate_is_taken_when_the_first_fails(first, monkeypatch):
    other = devices.Found("broken", "gpu", "Bad", "1", "1", first.device)
    monkeypatch.setattr(devices, "found", lambda: (other, first))
    monkeypatch.setattr(probe, "passes", lambda d: probe.Result(d is first, "bad"))
    assert devices.choose(None) is first
    with pytest.raises(BackendError, match="bad"):  # named: no silent fallback
        devices.choose("broken")


def test_a_simulator_is_never_chosen_unasked(first, monkeypatch):
    """Oclgrind from pip lists itself as a CPU: nobody who has it installed beside a broken driver wants to train on it."""
    simulator = devices.Found("Oclgrind Simulator", "cpu", "Oclgrind", "1", "1", first.device)
    broken = devices.Found("broken", "cpu", "Bad", "1", "1", first.device)
    monkeypatch.setattr(devices, "found", lambda: (broken, simulator))
    monkeypatch.setattr(probe, "passes", lambda d: probe.Result(d is simulator, "bad"))
    for wanted in (None, "cpu"):
        with pytest.raises(BackendError, match="broken"):
            devices.choose(wanted)
    assert devices.choose("oclgrind") is devices.choose("1") is simulator
    monkeypatch.setattr(devices, "found", lambda: (simulator,))
    with pytest.raises(BackendError, match="only if PORTABLE_NN_DEVICE names it"):
        devices.choose(None)
    assert devices.choose("oclgrind") is simulator


@pytest.mark.parametrize("writable", [True, False], ids=["cache", "read-only cache"])
def test_wheel_driver_is_registered(first, tmp_path, writable):
    if not runtimes.wheel_drivers():
        pytest.skip("no driver from a wheel")
    code = """
from portable_nn_opencl import devices, runtimes
folder = runtimes.register()
print(folder)
print(*[line for file in folder.iterdir() for line in file.read_text().splitlines()])
print(*[d.platform for d in devices.found()])
"""
    cache = tmp_path / "cache"
    if not writable:
        cache.write_text("a file where the folder should be")
    done = python(code, XDG_CACHE_HOME=str(cache))
    assert done.returncode == 0, done.stderr
    folder, listed, platforms = done.stdout.splitlines()
    assert str(runtimes.wheel_drivers()[0]) in listed
    assert platforms
    assert Path(folder).exists() == writable  # the cache's folder is kept, a temporary one goes with the process


def test_the_users_vendors_decide(tmp_path):
    code = "import portable_nn_opencl as o; s = o.status(); print(s.state, '|', s.reason)"
    done = python(code, OCL_ICD_VENDORS=str(tmp_path))
    assert done.returncode == 0, done.stderr
    state = done.stdout.split("|")[0].strip()
    assert state in ("no device", "ready")  # ready only where the loader brings drivers of its own


def test_pyopencl_ctx_is_honoured(first):
    code = "from portable_nn_opencl import devices; print(devices.choose(None).name)"
    done = python(code, PYOPENCL_CTX="0")
    assert done.returncode == 0, done.stderr
    done = python(code, PYOPENCL_CTX="97")
    assert done.returncode != 0
    assert "PYOPENCL_CTX='97' names no device" in done.stderr


def test_import_needs_no_pyopencl():
    code = (
        "import sys; sys.modules['pyopencl'] = None\n"
        "import portable_nn_opencl as o\n"
        "try: o.status()\n"
        "except ImportError: print('ImportError')"
    )
    assert python(code).stdout.strip() == "ImportError"
