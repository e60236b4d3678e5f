"""From the start of a process to the loss of the first captured step of ResNet-20 at batch 128: empty compile caches, and full ones.

    python asv_bench/first_step.py [--rounds 3] [--backend opencl] [--torch] [TREE ...]

TREE: checkouts that are measured in turn, this one by default. Bytecode is cached for each before, as pip leaves it. --torch: PyTorch's first
eager step as well, with two threads.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).parents[1]

OURS = """
import time
import numpy as np
import portable_nn as pnn
from portable_nn import models, nn, optim
from portable_nn.train import TrainState, train_step
with pnn.use_backend({backend!r}):
    model = models.create("resnet20", (3, 32, 32), 10).to()
    optimizer = optim.sgd(lr=0.1, momentum=0.9)
    state = TrainState(model, optimizer.init(nn.params(model)))
    images = pnn.asarray(np.random.default_rng(0).standard_normal((128, 3, 32, 32)).astype(np.float32))
    labels = pnn.asarray(np.arange(128) % 10)
    state, loss, _ = pnn.capture(train_step, donate="state")(state, optimizer, images, labels, lr=0.1)
    float(loss)
    print(time.time())
"""
TORCH = """
import sys, time
sys.path.insert(0, "asv_bench")
from nets_against_pytorch import torch_step
run, wait = torch_step(("train", "resnet20", 128), False)
run(1)
wait()
print(time.time())
"""


def seconds(tree: Path, code: str, cache: Path) -> float:
    """Run a process; return how long it took to print the time."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    environment |= {"PYTHONPATH": f"{tree}{os.pathsep}{tree / 'backends'}", "PYTHONPYCACHEPREFIX": str(cache.parent / "bytecode")}
    environment |= {"XDG_CACHE_HOME": str(cache), "POCL_CACHE_DIR": str(cache), "CUDA_CACHE_PATH": str(cache)}
    start = time.time()
    done = subprocess.run([sys.executable, "-c", code], env=environment, cwd=tree, check=True, stdout=subprocess.PIPE, text=True)
    return float(done.stdout.split()[-1]) - start


def main() -> None:
    """Measure the trees in turn."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("trees", nargs="*", type=Path, default=[HERE])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--backend", default="opencl")
    parser.add_argument("--torch", action="store_true")
    given = parser.parse_args()
    works = [(str(tree), tree.resolve(), OURS.format(backend=given.backend)) for tree in given.trees]
    if given.torch:
        works.append(("torch", HERE, TORCH))
    rows: dict[str, tuple[list[float], list[float]]] = {name: ([], []) for name, _, _ in works}
    with tempfile.TemporaryDirectory() as name:
        folders = {name_: Path(name) / str(n) for n, (name_, _, _) in enumerate(works)}
        for turn in range(given.rounds + 1):  # the first leaves the bytecode
            for what, tree, code in works:
                cold = seconds(tree, code, folders[what] / f"cache{turn}")
                warm = seconds(tree, code, folders[what] / f"cache{turn}")
                if turn:
                    rows[what][0].append(cold)
                    rows[what][1].append(warm)
    for what, (cold_, warm_) in rows.items():
        for caches, found in (("empty", cold_), ("full", warm_)):
            print(f"{what}: {caches} caches {', '.join(f'{x:.2f}' for x in sorted(found))} s")


if __name__ == "__main__":
    main()
