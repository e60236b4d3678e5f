"""The benchmark workflows: what they call exists, what runs code of a fork has no rights, what has rights runs none of it."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
WORKFLOWS = {path.stem: path.read_text("utf-8") for path in sorted((ROOT / ".github" / "workflows").glob("*.yml"))}


def test_commands_exist() -> None:
    """Every `.ci/bench WORD` of a workflow is one that the script knows, with as many arguments."""
    script = (ROOT / ".ci" / "bench").read_text("utf-8")
    known = {word: int(count) - 1 for word, count in re.findall(r"^(\w+)\)\n    \[ \$# -eq (\d) \]", script, re.MULTILINE)}
    used = [line for text in WORKFLOWS.values() for line in re.findall(r"\.ci/bench (.*)", text)]
    assert used
    for line in used:
        word, *arguments = line.split()
        assert len(arguments) == known[word], line


def test_pull_requests_run_without_rights() -> None:
    text = WORKFLOWS["bench-pr"]
    assert "pull_request_target" not in "".join(WORKFLOWS.values())
    assert re.findall(r"^permissions:\n((?:  .*\n)+)", text, re.MULTILINE) == ["  contents: read\n"]
    assert "secrets." not in text
    assert "persist-credentials: false" in text
    assert "contains(github.event.pull_request.labels.*.name, 'benchmark')" in text
    for name in ("bench-pr", "bench-dependencies"):  # inputs and names come as variables: text in a command would be run
        assert not re.search(r"run:.*\$\{\{", WORKFLOWS[name])


def test_the_comment_runs_nothing_of_the_request() -> None:
    text = WORKFLOWS["bench-comment"]
    assert "actions/checkout" not in text
    assert " run:" not in text
    assert "contents: write" not in text


@pytest.mark.skipif(shutil.which("node") is None, reason="needs node, to run the script of the workflow")
@pytest.mark.parametrize("moved", [False, True])
def test_what_is_posted(tmp_path: Path, moved: bool) -> None:
    """Run the script with a stand-in for GitHub: it mentions nobody, links nowhere, and posts to no request but its own."""
    found = re.search(r"script: \|\n((?: {12}.*\n)+)", WORKFLOWS["bench-comment"])
    assert found is not None
    out = tmp_path / "out"
    out.mkdir()
    (out / "number").write_text("7\n")
    (out / "table.md").write_text("| `relu` | 1.30 |\n@everyone [here](https://bad.example) <img src=x> http://bad.example www.bad.example\n" + "x" * 70000)
    stand_in = """
    const calls = [];
    const github = {
      rest: {
        pulls: { get: async a => { calls.push(["get", a]); return { data: { head: { sha: HEAD } } }; } },
        issues: { listComments: 0, createComment: async a => calls.push(["create", a]), updateComment: async a => calls.push(["update", a]) },
      },
      paginate: async () => [],
    };
    const context = { repo: { owner: "o", repo: "r" }, payload: { workflow_run: { head_sha: "abc" } } };
    const core = { notice: text => calls.push(["notice", text]) };
    (async () => {
    """
    script = stand_in.replace("HEAD", json.dumps("other" if moved else "abc")) + textwrap.dedent(found[1]) + "})().then(() => console.log(JSON.stringify(calls)));"
    ran = subprocess.run(["node", "-e", script], cwd=tmp_path, capture_output=True, text=True, check=True, timeout=60)
    calls = json.loads(ran.stdout)
    assert calls[0][1]["pull_number"] == 7
    if moved:
        assert [name for name, _ in calls] == ["get", "notice"]
        return
    body = calls[1][1]["body"]
    assert [name for name, _ in calls] == ["get", "create"]
    assert "| `relu` | 1.30 |" in body
    for wrong in ("@everyone", "](", "://", "<img", "www.bad"):
        assert wrong not in body
    assert len(body) < 65536  # what GitHub takes


def test_the_plant_has_its_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The script that plants a slowdown still finds the line it changes, and what it writes is Python."""
    monkeypatch.syspath_prepend(str(ROOT / "asv_bench"))
    import planted

    place = tmp_path / planted._PLACE
    place.parent.mkdir(parents=True)
    shutil.copy(ROOT / planted._PLACE, place)
    monkeypatch.setattr(planted, "git", lambda *a, **k: "")
    planted.plant(tmp_path)
    text = place.read_text("utf-8")
    compile(text, str(place), "exec")
    assert "pnn_attention_cpu" in text
    sys.modules.pop("planted")
