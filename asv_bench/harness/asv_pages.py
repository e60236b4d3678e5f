"""asv's own pages inside our site: published by asv, then made to work without a server and, where possible, without a network.

asv's pages fetch JSON, which browsers refuse for files, and load jQuery, Flot and Bootstrap from other hosts. So every JSON file gets a
twin that is a script, a small shim asks for the twins when the page is a file, and the libraries are put beside the pages, their
checksums compared with those that asv's page names. Without a network the pages keep asv's links, and the command says so.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any
from urllib.request import urlopen

from .repository import git
from .site_data import aligned, column, missed, result_files
from .store import read_notes, write_json

_TAG = re.compile(r'<(?:script|link)[^>]*?(?:src|href)="(https://[^"]+\.(?:js|css))"[^>]*>')
_SHIM = """<script>
// Pages opened as files may not fetch JSON: ask for the script beside it, which hands its value over.
if (location.protocol === "file:") {
  var waiting = {};
  window.asvTwin = function (path, value) { if (waiting[path]) { waiting[path].resolve(value); delete waiting[path]; } };
  jQuery.ajax = function (wanted) {
    var path = wanted.url.split("?")[0].replace(/^\\.\\//, ""), made = jQuery.Deferred(), script = document.createElement("script");
    waiting[decodeURIComponent(path)] = made;
    script.src = path + ".js";
    script.onerror = function () { made.reject(); };
    document.head.appendChild(script);
    return made.promise();
  };
}
</script>
"""
_MISSED = "1 - the time that the roofline allows / the time taken; the roofline is the best the machine was ever seen to reach."
_PROBES = {
    "probe.copy": "A copy of 16 MiB with NumPy, between the cases of the run: the memory beside which times are read.",
    "probe.fma": "64 products of 64x64 with NumPy, between the cases of the run: the clock beside which times are read.",
}


def benchmarks_json(about: dict[str, Any], results: Path) -> dict[str, Any]:
    """Return asv's description of the suite, with only those parameters that some result has: pages stay small and have no empty choice."""
    files = [file for machine in result_files(results).values() for file in machine]
    found: dict[str, Any] = {}
    for benchmark in about["benchmarks"]:
        rows = [file["results"][benchmark["name"]] for file in files if benchmark["name"] in file["results"]]
        if not rows:
            continue
        seen = [[p for row in rows for p in row[1][axis]] for axis in range(len(benchmark["params"])) if all(len(row[1]) > axis for row in rows)]
        if len(seen) != len(benchmark["params"]):
            continue  # its parameters changed without its version
        found[benchmark["name"]] = {**benchmark, "params": [list(dict.fromkeys(values)) for values in seen]}
    for name, benchmark in list(found.items()):
        derived = "missed." + name.split(".")[1] if name.startswith("ops.") else ""
        if any(derived in file["results"] for file in files):
            found[derived] = {**benchmark, "name": derived, "code": _MISSED, "type": "track", "unit": "1 - part of the roofline"}
    for name, text in _PROBES.items():
        if any(name in file["results"] for file in files):
            found[name] = {"name": name, "code": text, "params": [], "param_names": [], "type": "time", "unit": "seconds", "version": "1", "timeout": 60}
    return {**found, "version": 2}


def with_missed(results: Path, scratch: Path) -> Path:
    """Return a copy of the results in which each op has a second quantity: the part of the roofline it missed, as `missed.<op>`."""
    copy = scratch / "results"
    shutil.copytree(results, copy, ignore=shutil.ignore_patterns("notes"))
    for machine in sorted(copy.glob("*/machine.json")):
        notes = read_notes(machine.parent.name, results)
        for path in machine.parent.glob("*.json"):
            if path == machine:
                continue
            file = json.loads(path.read_text("utf-8"))
            for name, row in list(file["results"].items()):
                found = [missed(notes, name, key, value) for key, value in aligned(file, row)] if name.startswith("ops.") else []
                if any(v is not None for v in found):
                    version, started = (column(file, row, c) for c in ("version", "started_at"))
                    file["results"]["missed." + name.split(".")[1]] = [found, column(file, row, "params"), version, started]
            write_json(path, file)
    return copy


def publish(about: dict[str, Any], config: dict[str, Any], results: Path, root: Path, out: Path, scratch: Path) -> None:
    """Let asv publish `results` into `out`.

    Raises
    ------
    RuntimeError
        If asv fails; its output is the message.
    """
    results = with_missed(results, scratch)
    write_json(results / "benchmarks.json", benchmarks_json(about, results))
    named = git("for-each-ref", "--format=%(refname:short)", "refs/heads", root=root).split()
    branches = [b for b in config["branches"] if b in named] or ["HEAD"]  # a runner has what it checked out, and no branch
    settings = {**config, "branches": branches, "repo": str(root), "results_dir": str(results), "html_dir": str(out), "benchmark_dir": str(root / "asv_bench" / "benchmarks"), "env_dir": str(scratch / "env")}
    path = scratch / "asv.conf.json"
    path.write_text(json.dumps(settings), "utf-8")
    ran = subprocess.run([sys.executable, "-m", "asv", "--config", str(path), "publish", "--no-pull"], capture_output=True, text=True, cwd=scratch)
    if ran.returncode:
        raise RuntimeError(f"asv publish ended with status {ran.returncode}: {(ran.stdout + ran.stderr)[-2000:]}")


def make_local(pages: Path, folders: Sequence[Path], tell: Callable[[str], None]) -> list[str]:
    """Make asv's pages work as files; return the libraries that stay on other hosts."""
    for path in sorted(pages.rglob("*.json")):
        name = path.relative_to(pages).as_posix()
        path.with_name(path.name + ".js").write_text(f"asvTwin({json.dumps(name)}, {path.read_text('utf-8')});\n", "utf-8")
    index = pages / "index.html"
    text = index.read_text("utf-8")
    left = []
    for tag in list(_TAG.finditer(text)):
        url = tag[1]
        content = _library(url, tag[0], folders)
        if content is None:
            left.append(url)
            continue
        local = pages / "vendor" / url.rpartition("/")[2]
        local.parent.mkdir(exist_ok=True)
        local.write_bytes(content)
        plain = re.sub(r'\s(?:integrity|crossorigin|referrerpolicy)="[^"]*"', "", tag[0]).replace(url, f"vendor/{local.name}")
        text = text.replace(tag[0], plain)
    jquery = re.search(r"<script[^>]*jquery-[^>]*></script>", text)
    if jquery is None:
        raise RuntimeError("asv's index.html loads no jQuery any more: asv_pages.py must learn where its JSON is fetched")
    text = text.replace(jquery[0], jquery[0] + "\n" + _SHIM)
    text = text.replace("</title>", '</title>\n    <meta name="viewport" content="width=device-width, initial-scale=1">', 1)
    index.write_text(text, "utf-8")
    if left:
        tell(f"asv's pages will load {len(left)} libraries from other hosts: they could not be fetched now")
    return left


def _library(url: str, tag: str, folders: Sequence[Path]) -> bytes | None:
    """Return a library from one of the folders by its name, or from its host if its checksum is the one that asv's page names."""
    for folder in folders:
        if (folder / url.rpartition("/")[2]).is_file():
            return (folder / url.rpartition("/")[2]).read_bytes()
    wanted = re.search(r'integrity="(sha\d+)-([^"]+)"', tag)
    try:
        with urlopen(url, timeout=10) as answer:
            content = bytes(answer.read())
    except OSError:
        return None
    if wanted and base64.b64encode(hashlib.new(wanted[1], content).digest()).decode() != wanted[2]:
        return None
    return content
