"""The benchmarks run: every class generated from the records, one case each, and asv's settings are read by asv."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from portable_nn.core.registry import OPS
from portable_nn.core.samples import Bench

sys.path.insert(0, str(Path(__file__).parents[2] / "asv_bench"))
from benchmarks import calls, choice, ops

CLASSES = {name: found for name, found in vars(ops).items() if hasattr(found, "record") and not name.startswith("_")}


@pytest.fixture(autouse=True)
def _give_back() -> Iterator[None]:
    """A benchmark process keeps its backend chosen; the tests after this one must not inherit it."""
    yield
    calls.forget()


def test_every_op_has_a_class() -> None:
    """An op without benchmark sizes falls back on its samples; only an op with neither is left out."""
    assert set(CLASSES) == {name for name, op in OPS.items() if op.bench or op.samples}
    for name, made in CLASSES.items():
        assert made.version == OPS[name].version
        assert ("backward" in made.params[3]) == (OPS[name].vjp is not None)


@pytest.mark.parametrize("name", sorted(CLASSES))
def test_op(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """On NumPy with a sample in place of the sizes that are timed: that the method runs, not how fast."""
    made: Any = CLASSES[name]
    if OPS[name].bench:
        first = OPS[name].samples[0]
        monkeypatch.setattr(calls, "cases", lambda op: {first.name: Bench(first.name, first.args, first.settings)})
    skipped = []
    for direction in made.params[3]:
        params = "numpy", "float32", next(iter(calls.cases(OPS[name]))), direction
        benchmark = made()
        try:
            benchmark.setup(*params)
            benchmark.time_call(*params)
        except choice.Skip as reason:
            skipped.append(str(reason))
    if len(skipped) == len(made.params[3]):
        pytest.skip(skipped[0])


def test_skips_what_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    """A backend that nobody named is skipped; one that was named is an error."""
    from portable_nn.core.errors import BackendError

    with pytest.raises(choice.Skip):
        choice.backend("numba")
    monkeypatch.setenv("PORTABLE_NN_BENCH_BACKENDS", "numba")
    with pytest.raises(BackendError):
        choice.backend("numba")


def test_own_cases(tmp_path: Path) -> None:
    """Cases of a TOML file become calls; what is wrong in it is said with its place."""
    from benchmarks import own_cases

    from portable_nn.core.errors import ArgumentError
    from portable_nn.core.samples import A

    path = tmp_path / "cases.toml"
    path.write_text('[[case]]\nop = "relu"\nname = "mine"\nargs = [{shape = [2, 3], low = 0.0}]\n')
    assert own_cases.read(path)["relu"]["mine"].args == (A((2, 3), low=0.0),)
    path.write_text('[[case]]\nop = "relu"\nargs = [{low = 1.0}]\n')
    with pytest.raises(ArgumentError, match=r"case 1: name missing"):
        own_cases.read(path)
    path.write_text('[[case]]\nop = "relu"\nname = "mine"\nargs = [{low = 1.0}]\n')
    with pytest.raises(ArgumentError, match="needs shape"):
        own_cases.read(path)


def test_captured_steps() -> None:
    """Every method runs; a backend that plans no memory skips its figures, and a recording is made anew when it is timed."""
    from benchmarks import captures

    made: Any = captures.CapturedStep()
    made.setup("numpy", "MLP 784 b128")
    made.time_replay()
    before = made.made.step.variants[0]
    made.time_record()
    assert made.made.step.variants[0] is not before
    with pytest.raises(choice.Skip, match="plans no memory"):
        made.track_launches()
    made = captures.CapturedInference()
    made.setup("numpy", "MLP 784 b128", 1)
    made.time_replay()
    host: Any = captures.Replay()
    host.setup()
    host.time_training_step()
    assert host.track_saved() > 0
    captures._training.cache_clear()
    planned = captures._training("null", "MLP 784 b128").plan
    assert planned.arena_bytes > 0
    assert planned.launches
    for cached in (captures._training, captures._inference):
        cached.cache_clear()


def test_bursts_go_on_until_they_agree(monkeypatch: pytest.MonkeyPatch) -> None:
    """Three of the fastest within 2 %, but no longer than was given; the first is warmed up, and none is counted twice."""
    from harness.worker import Worker, settled

    assert settled([9.0, 1.0, 1.01, 5.0, 1.02])
    assert not settled([1.0, 1.01, 1.03])
    assert not settled([1.0, 1.0])
    worker = Worker(None)
    monkeypatch.setattr(worker, "probe", lambda: {"copy": 1.0})
    asked: list[tuple[int, bool]] = []
    times = iter([3.0, 1.0, 2.0, 1.01, 1.005])

    def burst(seconds: float, calls: int, warm: bool) -> dict[str, Any]:
        asked.append((calls, warm))
        return {"seconds": next(times), "calls": 7}

    monkeypatch.setattr(worker, "burst", burst)
    assert worker.series(bursts=3, seconds=0.0, most=60.0)["samples"] == [3.0, 1.0, 2.0, 1.01, 1.005]
    assert asked == [(0, True), (7, False), (7, False), (7, False), (7, False)]
    times, worker.first = iter([3.0, 1.0, 2.0, 4.0]), 1.0
    asked.clear()
    assert worker.series(bursts=5, seconds=0.004, most=0.0)["samples"] == [3.0, 1.0, 2.0]  # a call longer than a burst, and no time for more
    assert asked[0] == (1, False)
    counted: list[int] = []
    worker = Worker(None)
    worker.call = lambda: counted.append(1)
    assert worker.burst(0.0, calls=8, warm=True)["calls"] == 8
    assert len(counted) == 2 + 8


def test_workers_give_way(monkeypatch: pytest.MonkeyPatch) -> None:
    """With a slice set, a worker that has run for longer is stale; without, never."""
    from harness import session

    made = session.Session.__new__(session.Session)
    made._slice, made._began = 60.0, 100.0
    monkeypatch.setattr(session.time, "monotonic", lambda: 150.0)
    assert not made.stale
    monkeypatch.setattr(session.time, "monotonic", lambda: 161.0)
    assert made.stale
    made._slice = 0.0
    assert not made.stale


def test_steps() -> None:
    """A step is where both sides agree; a single odd value is none, and the noise of ten per cent is none."""
    from harness.changes import steps

    noise = [1.0, 1.08, 1.02, 0.97, 1.05, 1.1, 0.95]
    assert steps(noise) == []
    assert steps([*noise, 1.6, *noise]) == []
    (found,) = steps([*noise, *(1.3 * v for v in noise)])
    assert found.at in (6, 7, 8)
    assert 1.2 < found.ratio < 1.4
    assert steps([2.0, 1.0, 1.1, 1.05]) == []  # one value is no side
    assert steps([1.0, 1.02, 1.5])[0].at == 2  # but the newest may be measured again
    assert steps([1.0]) == steps([]) == steps([None, 1.0]) == []  # nor is there one before the first commit that was measured
    (found,) = steps([None, 2.0, None, 2.1, 1.0, 1.05, None, 0.99])
    assert found.at == 4
    assert found.ratio < 0.6


def test_a_neighbour_is_the_nearest_with_results(tmp_path: Path) -> None:
    """The newer of two at the same distance; none where nothing is known yet."""
    from harness import store
    from harness.history import missing, neighbour
    from harness.repository import Commit

    made = [Commit(str(n) * 40, n, "") for n in range(7)]  # newest first
    assert neighbour(made[3], made, "here", tmp_path) is None
    for at in (1, 5):
        store.write_json(store.result_path("here", made[at].hash, tmp_path), {})
    assert [made.index(neighbour(c, made, "here", tmp_path) or made[0]) for c in made] == [1, 5, 1, 1, 5, 1, 5]
    assert [made.index(c) for c in missing(made, "here", tmp_path)] == [0, 2, 3, 4, 6]


def test_what_moved_is_measured_in_turn_with_the_neighbour(monkeypatch: pytest.MonkeyPatch) -> None:
    """Within the threshold a time is written as it was; beyond it the neighbour's counts, times the ratio of the two in turn."""
    from harness import beside, compare
    from harness.measure import Case, Measured
    from harness.repository import Commit

    params = [["'opencl'"], ["'float32'"]]
    cases = {name: Case(f"ops.{name}.time_call", 0, ("'opencl'", "'float32'")) for name in ("near", "drifted", "slower", "died", "new")}
    columns = ["result", "params", "version", "started_at"]
    file = {"result_columns": columns, "results": {c.name: [[1.0], params, "1", 0] for name, c in cases.items() if name != "new"}}
    times = {"near": 1.1, "drifted": 1.5, "slower": 1.6, "died": 0.7, "new": 3.0}
    run = [Measured(cases[name], "ready", samples=[t, 2 * t]) for name, t in times.items()]
    asked = []

    def compared(base: Any, head: Any, environment: Any, pattern: str) -> Any:
        asked.append(pattern)
        found = [compare.Verdict(cases["drifted"], "same", 1.0, 1.02, 1.02), compare.Verdict(cases["slower"], "slower", 1.0, 1.4, 1.4, again=1.3)]
        return [*found, compare.Verdict(cases["died"], "failed")], {}, []

    monkeypatch.setattr(compare, "compare", compared)
    monkeypatch.setattr(beside, "checkout", lambda name, root: __import__("contextlib").nullcontext(Path()))
    found, noted = beside.again(run, file, Commit("a" * 40, 0, ""), compare.Side("head", Path()), {})
    assert {m.case.name.split(".")[1]: m.value for m in found} == pytest.approx({**times, "drifted": 1.02, "slower": 1.3})
    assert found[2].samples[1] == pytest.approx(2.6)  # the spread stays
    assert noted == {"with": "a" * 40, "ratios": {cases["drifted"].title: 1.02, cases["slower"].title: 1.3}}
    import re

    assert [name for name, case in cases.items() if re.search(asked[0], case.title)] == ["drifted", "slower", "died"]


def test_two_measurements_agree_on_the_smaller_change() -> None:
    """And on none where they contradict each other."""
    from harness.compare import Verdict
    from harness.measure import Case

    def agreed(ratio: float | None, again: float | None) -> float | None:
        return Verdict(Case("ops.relu.time_call", 0, ()), "same", ratio=ratio, again=again).agreed

    assert agreed(None, None) is None
    assert agreed(1.4, None) == 1.4
    assert agreed(1.4, 1.2) == agreed(1.2, 1.4) == 1.2
    assert agreed(0.5, 0.7) == 0.7
    assert agreed(1.4, 0.9) == 1.0


def test_references_that_take_too_long_are_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """The loop is left where it is; the case is not begun again in its other directions, nor in another dtype; others are."""
    from benchmarks import patience

    monkeypatch.setattr(patience, "_given_up", set())
    begun = []

    def loop(case: str, direction: str, ends: bool) -> None:
        with patience.limited(0.05, (case,), direction):
            begun.append((case, direction))
            while not ends:
                pass

    loop("quick", "forward", True)
    for direction in ("forward", "backward", "forward"):
        with pytest.raises(choice.Skip, match=r"did not end within 0\.05 s"):
            loop("slow", direction, False)
    with pytest.raises(choice.Skip):
        loop("half", "backward", False)
    loop("half", "forward", True)
    assert begun == [("quick", "forward"), ("slow", "forward"), ("half", "backward"), ("half", "forward")]
    with pytest.raises(choice.Skip, match="not in this profile"), patience.limited(0.0, ("any",), "forward"):
        pass


def test_progress_says_what_is_left(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Off a terminal: what is expected first, then a line every half minute, counted from the start of the run it is about."""
    from harness import progress

    now = [0.0]
    with progress.shown(pace=0.5, clock=lambda: now[0]) as show:
        for at, seconds in ((1, 1.0), (10, 20.0), (20, 40.0), (21, 41.0), (1, 100.0), (11, 135.0)):
            now[0] = seconds
            show(at, 100, "case")
    said = capsys.readouterr().err.splitlines()
    assert said == ["100 cases: about 50 s on two quiet cores", "20 of 100, about 3 min left", "11 of 100, about 5 min left"]


def test_verdicts() -> None:
    """A change must pass the threshold and twice the noise of its own rounds."""
    from harness.compare import Side, Verdict, as_csv, judge, markdown
    from harness.measure import Case, Measured, Pair

    case = Case("ops.relu.time_call", 0, ("'opencl'", "'float32'"))

    def made(ratios: list[float]) -> Pair:
        return Pair(case, Measured(case, "ready", samples=[1.0]), Measured(case, "ready", samples=[min(ratios)]), ratios)

    assert judge(made([1.3, 1.31, 1.29, 1.3, 1.32])) == "slower"
    assert judge(made([0.7, 0.71, 0.69, 0.7, 0.72])) == "faster"
    assert judge(made([1.1, 1.12, 1.09, 1.1, 1.11])) == "same"
    assert judge(made([1.3, 2.3, 1.4, 3.0, 1.9])) == "same"
    assert judge(Pair(case, Measured(case, "failed"), Measured(case, "ready", samples=[1.0]))) == "failed"
    side = Side("abc", Path())
    table = markdown([Verdict(case, "slower", 1e-3, 1.3e-3, 1.3, 0.01), Verdict(case, "same", 1.0, 1.0, 1.0)], side, side)
    assert "1 slower, 0 faster, 1 the same" in table
    assert "| `relu` | opencl, float32 | 1 ms | 1.3 ms | 1.30 | ±1% | **slower** |" in table
    assert as_csv([Verdict(case, "new")]).splitlines()[1] == 'ops.relu.time_call,"opencl, float32",,,,0.0,new,'


def test_result_files(tmp_path: Path) -> None:
    """What is written is what asv reads: values at their parameters, spread beside them, scaled by the probe."""
    results = pytest.importorskip("asv.results", reason="asv is not installed: pip install portable-nn[bench]")
    from harness import store
    from harness.measure import Case, Measured
    from harness.repository import Commit

    about = {"benchmarks": [{"name": "ops.relu.time_call", "params": [["'numpy'", "'opencl'"], ["'float32'"]], "version": "1"}]}
    case = Case("ops.relu.time_call", 1, ("'opencl'", "'float32'"))
    slow = {"copy": 2e-3, "fma": 2e-4}  # twice the reference: the machine was half as fast
    run = [Measured(case, "ready", samples=[4e-3, 5e-3, 6e-3, 8e-3], calls=3, probe=slow, work={"flops": 1, "bytes": 4, "calls": 1})]
    machine = store.this_machine("here")
    commit = Commit("0123456789abcdef0123456789abcdef01234567", 1_700_000_000, "subject")
    store.save_machine(machine, {}, [], tmp_path)
    near = [Measured(case, "ready", samples=[1.0], probe={"copy": 1.1e-3, "fma": 1.1e-4})]
    assert store.factors(near, {"copy": 1e-3, "fma": 1e-4}) == [1.0]  # a drift below 15 % is not told from the probe's own noise
    path = store.result_path("here", commit.hash, tmp_path)
    store.write_json(path, store.result_file(about, store.merged([run], {"copy": 1e-3, "fma": 1e-4}), [slow], machine, commit, 0.0))
    read = results.Results.load(str(path), machine_name="here")
    assert read.commit_hash == commit.hash
    assert read.get_result_value("ops.relu.time_call", about["benchmarks"][0]["params"]) == [None, 2e-3]
    (_, stats) = read.get_result_stats("ops.relu.time_call", about["benchmarks"][0]["params"])
    assert stats["q_75"] == 4e-3
    assert read.get_result_value("probe.fma", []) == [2e-4]


def test_missed_roofline_is_a_quantity(tmp_path: Path) -> None:
    """What asv publishes has, beside the time of an op, the part of the roofline it missed; what is stored has not."""
    import json

    from harness import asv_pages, store

    results = tmp_path / "results"
    peaks = {"opencl": {"flops": 1e11, "bandwidth": {"1048576": 1e10}, "device": {"kind": "cpu"}}}
    store.write_json(store.notes_path("here", results), {"peaks": peaks, "work": {"relu/float32/1M/forward": [10, 10**6]}})
    params = [["'opencl'"], ["'float32'"], ["'1M'", "'row'"], ["'forward'"]]
    file = {"result_columns": ["result", "params", "version", "started_at"], "results": {"ops.relu.time_call": [[4e-4, 1e-4], params, "1", 0], "host.Call.time_add": [[1.0], [], "1", 0]}}
    store.write_json(results / "here" / "0-x.json", file)
    store.write_json(results / "here" / "machine.json", {})
    (tmp_path / "scratch").mkdir()
    copy = asv_pages.with_missed(results, tmp_path / "scratch")
    made = json.loads((copy / "here" / "0-x.json").read_text())["results"]
    assert made["missed.relu"] == [[pytest.approx(0.75), None], params, "1", 0]  # 1 MB at 10 GB/s is a fourth of 4e-4 s; the work of the other is not known
    assert set(made) == {"ops.relu.time_call", "host.Call.time_add", "missed.relu"}
    assert "missed.relu" not in json.loads((results / "here" / "0-x.json").read_text())["results"]
    described = asv_pages.benchmarks_json({"benchmarks": [{"name": "ops.relu.time_call", "params": params, "version": "1"}]}, copy)
    assert described["missed.relu"]["unit"] == "1 - part of the roofline"
    assert described["missed.relu"]["params"] == params


def test_ceiling() -> None:
    """The roofline is the slower of arithmetic and memory, at the rate of copies no smaller than the call's."""
    from harness.site_data import ceiling

    peaks = [{"flops": 1e11, "bandwidth": {"1024": 1e9, "1048576": 1e11, "67108864": 1e10}}]
    assert ceiling(peaks, 10**9, 10) == pytest.approx(1e-2)
    assert ceiling(peaks, 0, 10**6) == pytest.approx(1e-5)
    assert ceiling(peaks, 0, 5 * 10**7) == pytest.approx(5e-3)


def test_work_is_counted() -> None:
    """Bytes of operands and outputs once each, flops of the record; a view moves nothing, a gradient rule counts its ops."""
    import numpy as np
    from harness.work import count

    from portable_nn import ops as functions
    from portable_nn.core.tape import Tape

    x = np.ones((8, 16), np.float32)
    w = np.ones((16, 4), np.float32)
    assert count(lambda: functions.matmul(x, w)) == {"flops": 2 * 8 * 16 * 4, "bytes": 4 * (128 + 64 + 32), "calls": 1}

    def taped() -> None:
        with Tape() as tape:
            functions.matmul(tape.watch(x), w)

    assert count(taped)["calls"] == 1


@pytest.mark.slow
def test_a_worker_measures_and_the_pages_are_built(tmp_path: Path) -> None:
    """One op of this checkout from worker to pages: the road of `bench run --save` and `bench site`, without asv's part."""
    import json
    import subprocess

    from harness import history, site, store
    from harness.measure import Budget
    from harness.repository import ROOT, GitError, commit

    try:
        head = commit("HEAD")
    except (GitError, subprocess.SubprocessError, IndexError):
        pytest.skip("not a git checkout")
    environment = {"PORTABLE_NN_BENCH_OPS": "relu", "PORTABLE_NN_BENCH_BACKENDS": "numpy"}
    about, passes, peaks = history.measure_copy(ROOT, environment, "^ops", Budget(bursts=3, passes=2), lambda at, of, m: None)
    assert {m.state for run in passes for m in run} == {"ready"}
    history.record(about, passes, peaks, head, store.this_machine("here"), tmp_path / "results", 0.0)
    first = site.build(tmp_path / "site", results=tmp_path / "results", with_asv=False)
    data = json.loads((first.parent / "data.js").read_text().removeprefix("window.BENCH = ").rstrip(";\n"))
    (machine,) = data["machines"]
    assert [row["b"] for row in machine["rows"]][:2] == ["ops.relu.time_call"] * 2
    assert {point["op"] for point in machine["roofline"]} == {"relu"}


def test_bench_needs_a_checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """From a wheel, away from any checkout, the command says what is needed."""
    from portable_nn import cli

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(cli.bench, "__file__", str(tmp_path / "site-packages" / "portable_nn" / "cli" / "bench.py"))
    assert cli.main(["bench", "site"]) == 2
    assert "git clone" in capsys.readouterr().err
    assert cli.main(["bench", "--checkout", str(tmp_path), "site"]) == 2
    assert "has no asv_bench/harness" in capsys.readouterr().err
