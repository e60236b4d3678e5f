"""Is a change of a third found, named and shown? One is planted in a copy, and everything that should notice is asked.

    python asv_bench/planted.py [--keep FOLDER]

The plant is real work: a clone gets a commit whose `pnn_attention_cpu` runs three tenths of its work-groups, rounded up, a second time (they
write what they wrote before, so results stay right). Then: (1) `compare` of the commit before and the planted one must call attention slower, and nothing else;
(2) the other way round, faster; (3) a history of the clone's commits must have the step, at the planted commit; (4) so must the site's
page of changes. Needs an OpenCL CPU device; a busy machine is best kept away with PORTABLE_NN_BENCH_UNDER (see harness/session.py).
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import tempfile
from pathlib import Path

from harness import compare, history, site, store
from harness.measure import Budget
from harness.repository import ROOT, commit, commits, git

_OP = "scaled_dot_product_attention"
_BESIDE = (_OP, "softmax", "layer_norm", "gelu", "matmul")
_PLACE = "backends/portable_nn_kernels/device.py"
_LINE = re.compile(r"        return (rule\(call, [\w.]+\))\n")
_PLANT = r"""        made = \1
        again = [replace(x, groups=(-(-3 * x.groups[0] // 10), *x.groups[1:])) for x in made.launches if x.kernel == "pnn_attention_cpu"]
        return replace(made, launches=(*made.launches, *again))
"""


def plant(clone: Path) -> None:
    """Commit the plant in a clone."""
    path = clone / _PLACE
    text = path.read_text("utf-8")
    changed, count = _LINE.subn(_PLANT, text)
    if count != 1:
        raise SystemExit(f"{_PLACE} no longer has the line that the plant replaces; give planted.py another")
    path.write_text(changed.replace("from functools import", "from dataclasses import replace\nfrom functools import", 1), "utf-8")
    git("-c", "user.name=plant", "-c", "user.email=plant@localhost", "commit", "-q", "-a", "-m", "attention: a planted third", root=clone)


def main() -> int:
    """Plant, ask, and say what noticed; return 1 if anything did not."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--keep", type=Path, help="leave the site and the tables in this folder")
    given = parser.parse_args()
    environment = {"PORTABLE_NN_BENCH_PROFILE": "history", "PORTABLE_NN_BENCH_BACKENDS": "opencl", "PORTABLE_NN_BENCH_DIRECTIONS": "forward",
                   "PORTABLE_NN_BENCH_OPS": "|".join(_BESIDE)}  # fmt: skip
    checks: dict[str, bool] = {}
    with tempfile.TemporaryDirectory() as folder:
        clone, kept = Path(folder) / "clone", given.keep or Path(folder) / "kept"
        kept.mkdir(parents=True, exist_ok=True)
        subprocess.run(["git", "clone", "-q", "--shared", str(ROOT), str(clone)], check=True)
        plant(clone)
        for name, pair, wanted in (("slowdown", ("HEAD~1", "HEAD"), "slower"), ("speed-up", ("HEAD", "HEAD~1"), "faster")):
            with compare.sides(*pair, root=clone) as (base, head):
                found, _, _ = compare.compare(base, head, environment, pattern=r"^ops\.")
                table = compare.markdown(found, base, head)
            print(table)
            (kept / f"{name}.md").write_text(table, "utf-8")
            changed = {v.case.name.split(".")[1]: v.verdict for v in found if v.verdict in ("slower", "faster")}
            checks[f"{name} in the table, and nothing else"] = changed == {_OP: wanted}
        wanted_commits = commits("HEAD", last=4, root=clone)
        history.fill(wanted_commits, store.this_machine("planted"), environment, Budget(), print, kept / "results", pattern=r"^ops\.", root=clone)
        first = site.build(kept / "site", results=kept / "results", root=clone, with_asv=False)
        data = json.loads((first.parent / "data.js").read_text("utf-8").removeprefix("window.BENCH = ").rstrip(";\n"))
        steps = [(c["b"].split(".")[1], c["commit"]) for c in data["machines"][0]["changes"] if c["ratio"] > 1]
        checks["step in the history at the planted commit, and shown on the site"] = (_OP, commit("HEAD", clone).hash) in steps
    for text, held in checks.items():
        print(f"{'found' if held else 'MISSED'}: {text}")
    return 0 if all(checks.values()) else 1


if __name__ == "__main__":
    raise SystemExit(main())
