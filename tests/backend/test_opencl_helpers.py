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

    monkeypatch.setattr(helpers.tempfile, "tempdir", str(tmp_path))
    mine = []

    def here(number):
        mine.append(number)
        end = time.monotonic() + 60
        while not any(path.name.isdecimal() for path in tmp_path.rglob("*")) and time.monotonic() < end:
            time.sleep(0.01)

    made = helpers.share(opencl.found, ["-cl-std=CL1.2"], [trivial(n) for n in range(5)], here, 1)
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
    monkeypatch.setattr(helpers, "SCRIPT", "import os, sys; sys.stdin.readline(); os.read(int(sys.argv[1]), 4); sys.exit(1)")
    mine = []
    assert helpers.share(opencl.found, [], [trivial(n) for n in range(6)], lambda n: (mine.append(n), time.sleep(0.2)), 2) == {}
    assert sorted(mine) == list(range(6))


def test_few_programs_start_no_process(opencl, monkeypatch):
    monkeypatch.setattr(helpers.subprocess, "Popen", lambda *_, **__: pytest.fail("a process was started"))
    mine = []
    assert helpers.processes_for(2 * helpers.WORTH - 1) == 1
    assert helpers.share(opencl.found, [], [trivial(n) for n in range(3)], mine.append, 0) == {}
    assert mine == [0, 1, 2]


def test_no_more_processes_than_cores(monkeypatch):
    monkeypatch.setattr(helpers.os, "sched_getaffinity", lambda _: {0, 1, 2}, raising=False)
    assert [helpers.processes_for(n * helpers.WORTH) for n in (0, 1, 2, 3, 4)] == [1, 1, 2, 3, 3]


def test_an_error_here_ends_the_helpers(opencl, monkeypatch):
    started, plain = [], helpers.subprocess.Popen

    def start(*args, **kwargs):
        started.append(plain(*args, **kwargs))
        return started[-1]

    def here(number):
        raise ValueError(number)

    monkeypatch.setattr(helpers.subprocess, "Popen", start)
    with pytest.raises(ValueError, match=r"[01]"):
        helpers.share(opencl.found, [], [trivial(n) for n in range(4)], here, 1)
    assert len(started) == 1
    assert started[0].poll() is not None


def test_the_process_of_a_probe_compiles_the_first_texts(opencl, monkeypatch):
    from portable_nn_opencl import probe

    helpers.leave(None)
    assert probe.run(opencl.found).ok
    (crew,) = helpers._waiting
    (process,) = crew.processes
    monkeypatch.setattr(helpers.subprocess, "Popen", lambda *_, **__: pytest.fail("a process was started"))
    made = helpers.share(opencl.found, ["-cl-std=CL1.2"], [trivial(n) for n in range(3)], lambda _: time.sleep(0.5), 1)
    assert made
    assert process.poll() is not None
    assert not helpers._waiting


def test_what_is_expected_is_compiled_before_it_is_asked_for(opencl):
    from portable_nn_opencl import probe

    assert probe.run(opencl.found).ok
    assert helpers.waits(opencl.found)
    (crew,) = helpers._waiting
    options, expected = ["-cl-std=CL1.2"], [trivial(n) for n in (7, 8)]
    helpers.ahead(opencl.found, options, expected)
    end = time.monotonic() + 60
    while not all((crew.folder / str(n)).is_file() for n in range(2)) and time.monotonic() < end:
        time.sleep(0.01)
    mine = []
    made = helpers.share(opencl.found, options, [trivial(1), trivial(8)], mine.append, 1)
    assert 1 in made
    assert set(mine) <= {0}
    assert not crew.folder.exists()
    assert not helpers.waits(opencl.found)


def test_what_is_expected_and_not_needed_is_left(opencl):
    from portable_nn_opencl import probe

    assert probe.run(opencl.found).ok
    helpers.ahead(opencl.found, [], [trivial(n) for n in range(40)])
    mine = []
    made = helpers.share(opencl.found, ["-cl-std=CL1.2"], [trivial(n) for n in range(3)], lambda n: (mine.append(n), time.sleep(0.2)), 1)
    assert sorted([*mine, *made]) == [0, 1, 2]


def test_nothing_is_expected_of_nobody(opencl, monkeypatch):
    helpers.leave(None)
    monkeypatch.setattr(helpers.subprocess, "Popen", lambda *_, **__: pytest.fail("a process was started"))
    helpers.ahead(opencl.found, [], [trivial(1)])
    assert not helpers.waits(opencl.found)


def test_a_process_that_waits_for_another_device_is_ended(opencl):
    from portable_nn_opencl import probe

    assert probe.run(opencl.found).ok
    (crew,) = helpers._waiting
    (process,) = crew.processes
    crew.device = "another"
    made = helpers.share(opencl.found, ["-cl-std=CL1.2"], [trivial(n) for n in range(3)], lambda _: time.sleep(1), 1)
    assert set(made) <= {0, 1, 2}
    assert process.poll() is not None


def test_a_process_that_waited_too_long_is_replaced(opencl):
    from portable_nn_opencl import probe

    assert probe.run(opencl.found).ok
    (crew,) = helpers._waiting
    crew.processes[0].kill()
    crew.processes[0].wait()
    mine = []
    made = helpers.share(opencl.found, ["-cl-std=CL1.2"], [trivial(n) for n in range(3)], lambda n: (mine.append(n), time.sleep(0.5)), 1)
    assert sorted([*mine, *made]) == [0, 1, 2]
