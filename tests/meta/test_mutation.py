"""The mutation check itself: its rules make the faults they should, a planted fault is caught, an equivalent one survives."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path

import pytest
from mutation import report
from mutation.c_faults import c_faults
from mutation.choice import generated, listed, spread
from mutation.closed import closes
from mutation.concern import Case, Concerns
from mutation.fault import FAMILIES, LAYERS, Fault, family_of, made, named
from mutation.python_faults import parses, python_faults
from mutation.stage import Stage

ROOT = Path(__file__).parents[2]

C = """
/* a < b - 1 in a comment */
#if N < 4
#define HALF(i) ((i) < (n) / 2)
#endif
KERNEL(pnn_of_test, G, 1, 1)(IN(T, x), OUT(T, y), i64 n, i64 xh, i64 xw) {
    ACC(T) total = 0;
    for (i64 i = 0; i < n - 1; ++i) total += LOAD(T, x, i * xh + n * xw);
    BARRIER();
    if (n > 0 && LOCAL_ID(0) == 0) STORE(T, y, GROUP_ID(0), total);
}
"""

PYTHON = '''
"""a < b"""

@op(out=_out, vjp=_vjp, samples=(s("one", A((3, 4)), 2 - 1),))
def total_of(x: Array, axis: int = -1) -> Array:
    """Sum: x < y."""
    return np.sum(x, axis=-1) if x.size > 0 else -x

def _out(x):
    if x.ndim < 2:
        raise ShapeError(f"{x.ndim - 1} axes")
    return Spec(x.shape[:-1], x.dtype)

def _vjp(c, g):
    return {"x": lambda: multiply(g, c.x) + g}

@elementwise("where(x > 0, x, x * slope)", samples=_SAMPLES)
def leaky(x: Array, slope: float = 0.01) -> Array:
    """Leaky."""
'''


def changes(faults: list[Fault]) -> set[tuple[str, str]]:
    return {(f.kind, f.after) for f in faults}


def test_rules_of_c():
    found = list(c_faults("portable_nn_kernels/c/pool.c", C))
    made_ = changes(found)
    loop = "for (i64 i = 0; i < n - 1; ++i) total += LOAD(T, x, i * xh + n * xw);"
    assert {
        ("bound", loop.replace("i < n", "i <= n")),
        ("off by one", loop.replace(" - 1", "")),
        ("loop start", loop.replace("i = 0", "i = 0 + 1")),
        ("swapped strides", loop.replace("xh + n * xw", "xw + n * xh")),
        ("dropped term", loop.replace(" + n * xw", "")),
        ("overwritten sum", loop.replace("+=", "=")),
        ("missing barrier", ";"),
        ("wrong start value", "ACC(T) total = 1;"),
        ("wrong type", "f32 total = 0;"),
        ("condition", "if (n > 0 || LOCAL_ID(0) == 0) STORE(T, y, GROUP_ID(0), total);"),
        ("negated condition", "if (!(n > 0 && LOCAL_ID(0) == 0)) STORE(T, y, GROUP_ID(0), total);"),
        ("wrong axis", "if (n > 0 && LOCAL_ID(1) == 0) STORE(T, y, GROUP_ID(0), total);"),
        ("bound", "#define HALF(i) ((i) <= (n) / 2)"),
    } <= made_
    assert not any("comment" in f.before or f.before.startswith("#if") for f in found)
    assert {f.scope for f in found} == {"pnn_of_test", "HALF"}


def test_rules_of_python():
    found = list(python_faults("portable_nn/ops/pool.py", PYTHON, "reference"))
    made_ = {(f.layer, f.kind, f.after) for f in found if parses(f, PYTHON)}
    assert {
        ("reference", "wrong axis", "return np.sum(x, axis=0) if x.size > 0 else -x"),
        ("reference", "bound", "return np.sum(x, axis=-1) if x.size >= 0 else -x"),
        ("reference", "wrong sign", "return np.sum(x, axis=-1) if x.size > 0 else (x)"),
        ("shape rule", "bound", "if x.ndim <= 2:"),
        ("shape rule", "negated condition", "if not (x.ndim < 2):"),
        ("gradient rule", "dropped term", 'return {"x": lambda: (multiply(g, c.x))}'),
        ("gradient rule", "swapped arguments", 'return {"x": lambda: multiply(c.x, g) + g}'),
        ("expression", "bound", '@elementwise("where(x >= 0, x, x * slope)", samples=_SAMPLES)'),
        ("expression", "dropped factor", '@elementwise("where(x > 0, x, (x))", samples=_SAMPLES)'),
    } <= made_
    assert not any("samples=(s" in f.before or "axes" in f.before or '"""' in f.before for f in found)


@pytest.fixture(scope="module")
def every():
    return named(generated(ROOT))


def test_every_fault_changes_its_file_and_is_found_again(every):
    assert len(every) > 10_000
    assert len({f.id for f in every}) == len(every)
    assert {f.layer for f in every} == set(LAYERS)
    assert {f.family for f in every} == set(FAMILIES)
    for fault in spread([f for f in every if f.family == "pooling"], 40, ROOT):
        text = (ROOT / fault.path).read_text()
        assert fault.applied(text) != text
        assert fault.before in text


def test_the_choice_does_not_depend_on_what_else_changes(every):
    """A fault is chosen by its own name, so a file that gets longer keeps its faults."""
    few = [f for f in every if f.path.endswith("plans/softmax.py")]
    assert spread(few, 5, ROOT)[:3] == spread(few, 3, ROOT)
    assert spread(list(reversed(few)), 5, ROOT) == spread(few, 5, ROOT)


def test_planted_by_hand():
    assert len(listed(ROOT)) >= 20


def test_results_are_those_of_the_page():
    results = report.read()
    counted = report.counted(results)
    assert len(counted) >= 200
    assert {e["family"] for e in counted} == set(FAMILIES)
    alive = {e["id"] for e in counted if e["outcome"] == "survived"}
    assert alive == set(report.survivors()), "survivors.toml gives the reason of each survivor, and of nothing else"
    assert report.page(results) == report.PAGE.read_text(), "run `python -m mutation --page`"


def test_what_closes_a_hole_is_there():
    """A check that was renamed or dropped would be missed only when its fault is planted again."""
    caught = {e["id"] for e in report.read()["faults"] if e["outcome"] == "caught"}
    for entry in tomllib.loads((report.HERE / "closed.toml").read_text())["fault"]:
        assert entry["id"] in caught
        found = closes(entry["id"])
        if isinstance(found, str):
            path, _, name = found.partition("::")
            assert f"def {name.partition('[')[0]}(" in (ROOT / path).read_text()
    assert closes("no such fault") is None


def test_results_are_lines(tmp_path):
    entry = {"id": "b", "outcome": "caught"}
    results = report.added(report.added({"faults": []}, entry, "c", "d"), {"id": "a", "outcome": "survived"}, "c", "d")
    report.write(tmp_path / "r.json", results)
    assert [e["id"] for e in json.loads((tmp_path / "r.json").read_text())["faults"]] == ["a", "b"]
    assert report.read(tmp_path / "r.json") == results


@pytest.fixture(scope="module")
def stage():
    made_ = Stage(working=True)
    yield made_
    made_.close()


def planted(path: str, old: str, new: str, layer: str) -> Fault:
    text = (ROOT / path).read_text()
    assert text.count(old) == 1
    at = text.index(old)
    return named([made(path, text, at, at + len(old), new, "planted", "test", layer)])[0]


def known(path: str, line: int, op: str, *ways: str) -> Concerns:
    cases = [Case("numpy", op, 0, "float64" if way == "gradient" else "float32", way) for way in ways]
    return Concerns(cases, {path: {line: list(range(len(cases)))}})


GLU = "portable_nn/ops/glu.py"


def test_a_fault_is_caught_an_equivalent_one_survives_a_broken_one_is_none(stage):
    """In a copy: the working tree stays as it is."""
    before = (ROOT / GLU).read_text()
    rule = 'return {"x": glu_grad(g, c.x, c.dim)}'
    wrong = planted(GLU, rule, 'return {"x": glu_grad(g, c.x, c.dim) * 2}', "gradient rule")
    verdict = stage.run(wrong, known(GLU, wrong.line, "glu", "gradient"), 5)
    assert (verdict.outcome, verdict.how) == ("caught", "values"), verdict
    assert "differs from finite differences" in verdict.message
    same = planted(GLU, rule, 'return dict(x=glu_grad(g, c.x, c.dim))', "gradient rule")
    verdict = stage.run(same, known(GLU, same.line, "glu", "gradient"), 0.2)
    assert verdict.outcome == "survived", verdict
    broken = planted(GLU, rule, 'return {"x": glu_grad(g, c.x, dim)} if import_of_nothing else 0', "gradient rule")
    assert stage.run(broken, known(GLU, broken.line, "glu", "gradient"), 5).outcome == "invalid"
    assert (ROOT / GLU).read_text() == before == (stage.root / GLU).read_text()


def test_a_failure_that_was_there_before_catches_nothing(stage):
    """What caught a fault is run again without it."""
    path = stage.root / GLU
    right, there = json.dumps(["numpy", "relu", 0, "float32", "forward"]), json.dumps(["numpy", "glu", 0, "float64", "gradient"])
    text = path.read_text()
    path.write_text(text.replace("glu_grad(g, c.x, c.dim)}", "glu_grad(g, c.x, c.dim) * 2}"))  # the tree itself is wrong
    try:
        failing = stage.failing([right, there])
    finally:
        path.write_text(text)
    assert failing == [there]
    entry = {"id": "x", "outcome": "caught", "how": "values"}
    results = {"faults": [entry | {"test": there}, entry | {"id": "y", "test": right}]}
    one, two = report.confirmed(results, set(failing))["faults"]
    assert (one["outcome"], two["outcome"]) == ("error", "caught")
    assert report.counted({"faults": [one, two]}) == [two]


def test_what_is_not_of_a_family_is_not_looked_at():
    assert family_of("backends/portable_nn_kernels/c/softmax_cpu.c") == "softmax"
    assert family_of("portable_nn/core/errors.py") == ""
