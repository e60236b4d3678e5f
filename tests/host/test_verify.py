"""`portable-nn verify`: it counts what passes, keeps going after a fault, and writes the report."""

import json
from unittest import SkipTest

from portable_nn.cli import main
from portable_nn.core import selection
from portable_nn.testing import coverage, verify


def test_report_of_two_ops(tmp_path, capsys):
    path = tmp_path / "report.json"
    assert main(["verify", "relu", "softmax", "--backend", "numpy", "--quick", "--out", str(path)]) == 0
    made = json.loads(path.read_text())
    assert made["backend"] == "numpy"
    assert made["totals"]["failed"] == 0
    assert made["counts"]["softmax"]["gradient"]["float64"] == [1, 0, 0]
    assert not coverage.fault_of(made)
    assert made["rates"]["matmul 256 (GFLOP/s)"] > 0
    assert f"report in {path}" in capsys.readouterr().out


def test_faults_are_counted_and_the_rest_still_runs():
    def wrong():
        raise AssertionError("values differ")

    def absent():
        raise SkipTest("no float64")

    def broken():
        raise RuntimeError("driver")

    runs = {"a": wrong, "b": absent, "c": broken, "d": lambda: None}
    checks = [verify.Check("op", "forward", "float32", name, run) for name, run in runs.items()]
    told: list[str] = []
    results = verify.run_checks(checks, told.append)
    assert results.failures == told
    assert results.counts == {"op": {"forward": {"float32": [1, 2, 1]}}}
    assert results.failures == ["op/forward/float32 a: AssertionError: values differ", "op/forward/float32 c: builtins.RuntimeError: driver"]
    assert results.skips == {"no float64": {"op": 1}}


def test_where_there_is_no_terminal_lines_say_how_far_it_is(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("portable_nn.cli.verify._EVERY", 0.0)
    assert main(["verify", "relu", "add", "--backend", "numpy", "--quick", "--out", str(tmp_path / "report.json")]) == 0
    lines = capsys.readouterr().out.splitlines()
    of = lines[0].partition(" ")[0]
    assert lines[1].startswith(f"0 of {of} in 0 s, at ")
    assert {line.rpartition(" ")[2] for line in lines if " of " in line and ", at " in line} == {"relu", "add"}


def test_an_unknown_op_is_named(capsys):
    assert main(["verify", "conv2", "--backend", "numpy"]) == 2
    assert "conv2d" in capsys.readouterr().err


def test_float32_is_never_left_out():
    """The first sample of `all` is of bools."""
    quick = verify.plan_checks(selection.get("numpy"), ["all"], quick=True)
    assert {"bool", "float32"} <= {check.dtype for check in quick}
    assert len(quick) < len(verify.plan_checks(selection.get("numpy"), ["all"]))


def test_every_op_is_planned():
    names = {check.op for check in verify.plan_checks(selection.get("numpy"), quick=True)}
    assert {"conv2d", "batch_norm_train", "matmul"} <= names
