"""Write docs/reference/resources-nvidia.json: `PYTHONPATH=.:backends:tests python -m offline [--dtype float32 ...]`."""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path

from . import nvrtc
from .programs import collect
from .table import compile_all, spills, table

OUT = Path(__file__).parents[2] / "docs" / "reference" / "resources-nvidia.json"

if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--dtype", nargs="*", help="dtypes under test; all by default")
    parser.add_argument("--arch", nargs="*", type=int, default=None, help="75 80 90 120 by default")
    parser.add_argument("--out", type=Path, default=OUT)
    options = parser.parse_args()
    if nvrtc.missing():
        sys.exit(nvrtc.missing())
    programs = collect(options.dtype)
    archs = options.arch or nvrtc.archs()
    taken, refused = compile_all(((p, a) for p in programs for a in archs), workers=os.cpu_count() or 2)
    told = {"compiler": f"NVRTC {nvrtc.version()}", "options": nvrtc.OPTIONS, "programs": len(programs), "rows": table(taken)}
    options.out.write_text(json.dumps(told, indent=1) + "\n")
    print(f"{len(programs)} programs x {len(archs)} architectures; {len(refused)} refused; {len(spills(taken))} spill: {options.out}")
    print(*refused, *spills(taken), sep="\n")
    sys.exit(bool(refused))
