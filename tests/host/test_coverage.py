"""The coverage table: what counts as proof, what a record must hold, and that what ships is what the runs said."""

from __future__ import annotations

import json
from copy import deepcopy
from unittest import SkipTest

import pytest
from ladder import join
from ladder.rungs import RUNGS, STEPS, named

import portable_nn.ops  # noqa: F401 - fills the registry
from portable_nn.cli import main
from portable_nn.core import selection
from portable_nn.core.errors import NoKernel
from portable_nn.core.registry import OPS
from portable_nn.testing import coverage, gaps, verify
from portable_nn.testing.check import check_op
from portable_nn.testing.gradient import check_gradient


def record(rung="opencl", **changes):
    counts = changes.pop("counts", {"relu": {"forward": {"float32": [3, 0, 1]}, "gradient": {"float32": [2, 0, 0]}}})
    results = verify.Results(counts, changes.pop("failures", []))
    found = RUNGS[rung]
    return {
        "format": verify.FORMAT, "rung": rung, "step": found.step, "title": found.title, "backend": found.backend, "state": found.state,
        "date": "2026-01-01T00:00:00+00:00", "commit": "abc", "later": {}, "tool": "t", "cpu": {"relu": 1.0}, "machine": {"processor": "p"}, "system": {}, "samples": 1,
        "seconds": 1.0, "totals": results.totals(), "counts": counts, "failures": results.failures, "skips": {"no float64": {"relu": 1}},
    } | changes  # fmt: skip


def test_the_best_proof_counts_and_a_failure_outweighs_it():
    compiled = record("compile-nvidia", counts={"relu": {"forward": {"float32": [1, 0, 0], "float16": [1, 0, 0]}}})
    executed = record("cuda-forward", counts={"relu": {"forward": {"float32": [4, 0, 0], "float64": [0, 0, 2]}}})
    table = coverage.table_of([executed, compiled])
    assert table["relu"]["cupy"]["forward"] == {"float32": "executed", "float16": "compiled"}
    assert coverage.table_of([compiled, executed]) == table
    broken = record("cuda-asan", counts={"relu": {"forward": {"float32": [3, 1, 0]}}}, failures=["relu: heap-buffer-overflow"])
    for order in ([executed, broken], [broken, executed]):
        assert coverage.table_of(order)["relu"]["cupy"]["forward"]["float32"] == "failing"


def test_a_sanitizer_alone_proves_no_values():
    sanitized = record("cuda-asan", counts={"relu": {"forward": {"float32": [3, 0, 0]}}})
    assert coverage.table_of([sanitized]) == {"relu": {"cupy": {}}}


def test_the_summary_is_the_table():
    records = [record(), record("cuda-forward", counts={"relu": {"forward": {"float32": [1, 0, 0], "bfloat16": [1, 0, 0]}}})]
    packed = coverage.summary(records)
    assert coverage.unpacked(packed) == coverage.table_of(records)
    assert [run["rung"] for run in packed["runs"]] == ["opencl", "cuda-forward"]
    assert json.loads(coverage.record_text(packed)) == packed


def test_gradient_ops_of_expressions_stand_where_their_op_stands():
    table = coverage.table_of([record(counts={"add": {"forward": {"float32": [1, 0, 0]}, "gradient": {"float64": [1, 0, 0]}}})])
    assert coverage.of("add_grad_x1", table) == {"opencl": {"forward": {"float64": "cpu opencl"}}}
    assert coverage.of("conv2d", table) == {}
    without = [name for name, op in OPS.items() if not op.samples]
    assert without
    assert all(name.rpartition("_grad")[0] in OPS for name in without)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"format": 1}, "its format is 1"),
        ({"backend": "opengl"}, "its backend is 'opengl'"),
        ({"seconds": "long"}, "'seconds' is 'long'"),
        ({"counts": {"relu": {"sideways": {"float32": [0, 0, 0]}}}}, "direction 'sideways'"),
        ({"counts": {"relu": {"forward": {"float32": [1, 0]}}}, "totals": {}}, "must be [passed, failed, skipped]"),
        ({"counts": {"relu": {"forward": [1]}}, "totals": {}}, "'counts' is not"),
        ({"totals": {"passed": 9, "failed": 0, "skipped": 1}}, "'totals' says 9 passed; the counts sum to 5"),
        ({"failures": ["relu: wrong"]}, "0 failed, but 1 failures are told"),
    ],
)
def test_a_faulty_record_is_refused(change, words):
    assert coverage.fault_of(record()) == ""
    broken = deepcopy(record())
    broken.update(change)
    assert words in coverage.fault_of(broken)
    del broken["skips"]
    assert coverage.fault_of(broken)


def test_a_report_counts_for_its_device():
    backend = selection.get("numpy")
    report = verify.report(backend, verify.run_checks(verify.plan_checks(backend, ["relu"], quick=True)), {}, True)
    assert coverage.fault_of(json.loads(coverage.record_text(report))) == ""
    assert coverage.state_of(report) == "executed"
    report["device"]["kind"], report["backend"] = "gpu", "opencl"
    assert coverage.table_of([report])["relu"]["opencl"]["gradient"]["float32"] == "hardware"
    assert "driver" in coverage.summary([report])["devices"][0]["device"]


# -- what ships ------------------------------------------------------------------------------------------------------------


def test_records_and_reports_are_valid():
    assert all(coverage.fault_of(record) == "" for record in join.records())


def test_the_shipped_table_is_that_of_the_runs():
    wanted = join.summary_text()
    assert coverage.SHIPPED.read_text(encoding="utf-8") == wanted, "run `python -m ladder --join`"
    assert join.README.read_text(encoding="utf-8") == join.written(join.README.read_text(encoding="utf-8"), join.readme_text(json.loads(wanted)))


def test_ops_says_how_each_is_proven(capsys):
    assert main(["ops", "--json"]) == 0
    rows = {row["name"]: row for row in json.loads(capsys.readouterr().out)}
    assert rows.keys() == OPS.keys()
    assert rows["relu"]["coverage"] == coverage.of("relu")
    assert main(["ops"]) == 0
    listed = capsys.readouterr().out.splitlines()
    assert all(backend in listed[0] for backend in coverage.BACKENDS)
    assert main(["ops", "softmax"]) == 0
    assert "Proven on\n  numpy   forward" in capsys.readouterr().out


def test_rungs_are_named_by_step_or_name():
    assert {rung.step for rung in named([])} == set(STEPS)
    assert [rung.name for rung in named(["pocl", "d"])] == ["pocl", "oclgrind"]
    assert {rung.state for rung in named([])} <= {*coverage.PROOF, "sanitized"}
    with pytest.raises(SystemExit, match="there is no rung nvidia"):
        named(["nvidia"])


# -- gaps ------------------------------------------------------------------------------------------------------------------


@pytest.fixture
def lacking(monkeypatch):
    """A function that takes an op from the NumPy backend, and says what its unsupported.toml lists."""

    def make(missing, listed):
        backend = selection.get("numpy")
        whole = type(backend).prepare

        def prepare(op, call):
            if op.name == missing:
                raise NoKernel(f"{op.name}: there is no kernel")
            return whole(backend, op, call)

        monkeypatch.setattr(backend, "prepare", prepare)
        monkeypatch.setattr(gaps, "listed", lambda package: listed if package == "portable_nn_numpy" else {})
        OPS["relu"]._cache.clear()
        OPS["relu_grad"]._cache.clear()
        return backend

    yield make
    OPS["relu"]._cache.clear()
    OPS["relu_grad"]._cache.clear()


def relu(backend, dtype="float32"):
    check_op(OPS["relu"], OPS["relu"].samples[0], dtype, backend)


def test_a_gap_must_be_listed(lacking):
    with pytest.raises(NoKernel):
        relu(lacking("relu", {}))
    with pytest.raises(SkipTest, match="does not support relu: it is hard"):
        relu(lacking("relu", {"relu": "it is hard"}))
    with pytest.raises(NoKernel):
        relu(lacking("relu", {"relu/float64": "it is hard"}))
    with pytest.raises(SkipTest, match="does not support relu_grad"):
        check_gradient(OPS["relu"], OPS["relu"].samples[0], lacking("relu_grad", {"relu_grad": "it is hard"}), "float32")


def test_a_listed_op_that_runs_fails(lacking):
    with pytest.raises(AssertionError, match="take the line out"):
        relu(lacking("", {"relu": "it was hard"}))


@pytest.mark.parametrize("backend", ["opencl", "cupy", "numba"])
def test_listed_ops_exist(backend):
    for name, why in gaps.listed(f"portable_nn_{backend}").items():
        assert name.partition("/")[0] in OPS
        assert why.strip()
