"""Programs compiled by helper processes are those that this process would have made."""

import os
import time

import numpy as np
import pytest

from portable_nn.core import selection

helpers = pytest.importorskip("portable_nn_opencl.helpers", exc_type=ImportError)
pytestmark = pytest.mark.skipif(os.name != "posix", reason="helpers share a pipe, which is passed on by number")


@pytest.fixture
def opencl():
    state = selection.status("opencl")
    if state.state != "ready":
        pytest.skip(f"opencl is {state.state}: {state.reason}")
    return selection.get("opencl")


def trivial(number):
    return f"__kernel void pnn_number(__global int* y) {{ y[get_global_id(0)] = {number}; }}"


def test_a_helper_takes_what_this_process_does_not(opencl, tmp_path, monkeypatch):
    import pyopencl as cl

    monkeypatch.setattr(helpers, "WORTH", 1)
    monkeypatch.setattr(helpers.os, "sched_getaffinity", lambda _: {0, 1}, raising=False)
    monkeypatch.setattr(helpers.tempfile, "tempdir", str(tmp_path))
    mine = []

    def here(number):
        mine.append(number)
        end = time.monotonic() + 60
        while not any(path.name.isdecimal() for path in tmp_path.rglob("*")) and time.monotonic() < end:
            time.sleep(0.01)

    made = helpers.share(opencl.found, ["-cl-std=CL1.2"], [trivial(n) for n in range(5)], here)
    assert mine[0] in (0, 1)
    assert made
    assert sorted([*mine, *made]) == list(range(5))
    assert not list(tmp_path.iterdir())
    for number, binary in made.items():
        kernel = cl.Program(opencl.context, [opencl.found.device], [binary]).build().pnn_number
        y = opencl.from_numpy(np.zeros(3, np.int32))
        kernel(opencl.main_queue(), (3,), None, y.storage.buffer)
        assert opencl.to_numpy(y).tolist() == [number] * 3


def test_what_helpers_fail_at_is_done_here(opencl, monkeypatch):
    monkeypatch.setattr(helpers, "WORTH", 1)
    monkeypatch.setattr(helpers.os, "sched_getaffinity", lambda _: {0, 1, 2}, raising=False)
    monkeypatch.setattr(helpers, "SCRIPT", "import os, sys; os.read(int(sys.argv[1]), 4); sys.exit(1)")
    mine = []
    assert helpers.share(opencl.found, [], [trivial(n) for n in range(6)], lambda n: (mine.append(n), time.sleep(0.2))) == {}
    assert sorted(mine) == list(range(6))


def test_few_programs_start_no_process(opencl, monkeypatch):
    monkeypatch.setattr(helpers.subprocess, "Popen", lambda *_, **__: pytest.fail("a process was started"))
    mine = []
    assert helpers.share(opencl.found, [], [trivial(n) for n in range(helpers.WORTH)], mine.append) == {}
    assert mine == list(range(helpers.WORTH))


def test_an_error_here_ends_the_helpers(opencl, monkeypatch):
    monkeypatch.setattr(helpers, "WORTH", 1)
    monkeypatch.setattr(helpers.os, "sched_getaffinity", lambda _: {0, 1}, raising=False)
    started, plain = [], helpers.subprocess.Popen

    def start(*args, **kwargs):
        started.append(plain(*args, **kwargs))
        return started[-1]

    def here(number):
        raise ValueError(number)

    monkeypatch.setattr(helpers.subprocess, "Popen", start)
    with pytest.raises(ValueError, match=r"[01]"):
        helpers.share(opencl.found, [], [trivial(n) for n in range(4)], here)
    assert len(started) == 1
    assert started[0].poll() is not None
