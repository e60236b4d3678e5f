"""Kill a run with SIGKILL at random moments, again and again, and compare what is left with a run that was never stopped.

    python tests/training/kills.py --kills 200

A parent that has everything loaded forks a child that goes on with the run; the child is killed after a random time, so
that moments while files are written come up as often as they take of the time. After every kill the files must be whole
and the checkpoint must not be older than before; at the end, weights, optimiser and metrics must be those of the run that
was never stopped, to the last bit.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import sys
import tempfile
import time
import warnings
from pathlib import Path

if __name__ == "__main__":
    sys.path[:0] = [str(Path(__file__).parents[2]), str(Path(__file__).parents[2] / "backends"), str(Path(__file__).parents[1])]

from safetensors.numpy import load_file
from training.synthetic import corners

from portable_nn.train import fit, read_model
from portable_nn.train.checkpoint import BEST, CHECKPOINT, MODEL, _read
from portable_nn.train.records import JSONL, read_metrics

SETTINGS = {
    "model": "mlp", "batch_size": 16, "log_every": 2, "report": False, "backend": "numpy", "ema": 0.9, "keep_best": 3, "clip_norm": 1.0,
}  # fmt: skip
TIMES = ("seconds", "images_per_second", "data_wait")


def go_on(folder: Path, epochs: int) -> None:
    """Begin the run, or go on with it."""
    data = {"train": corners(), "valid": corners(40, seed=1), "test": corners(32, seed=2)}
    if (folder / "config.json").exists():
        fit(resume=folder, **data)
    else:
        fit(out=str(folder), epochs=epochs, **SETTINGS, **data)


def child(folder: Path, epochs: int) -> int:
    """Fork a process that goes on with the run; return its id."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # other threads (BLAS) are not used by the child
        pid = os.fork()
    if pid == 0:
        try:
            go_on(folder, epochs)
        except BaseException as error:
            print(f"the child failed: {type(error).__name__}: {error}", file=sys.stderr, flush=True)
            os._exit(1)
        os._exit(0)
    return pid


def position(folder: Path) -> int:
    """Return the step of the checkpoint, 0 without one; a damaged file raises."""
    if not (folder / CHECKPOINT).exists():
        return 0
    step: int = _read(folder / CHECKPOINT)[1]["position"]["step"]
    return step


def rows(folder: Path) -> list[dict[str, object]]:
    """Return the metrics at regular steps without times: a resumed run also logs its first step."""
    found = [{k: v for k, v in row.items() if k not in TIMES} for row in read_metrics(folder)]
    return [r for r in found if int(str(r["step"])) % 2 == 0]


def check(folder: Path, before: int) -> int:
    """Raise AssertionError if a file is damaged or an epoch is lost; return the step of the checkpoint."""
    step = position(folder)
    assert step >= before, f"the checkpoint went back from step {before} to {step}"
    for name in (MODEL, BEST):
        if (folder / name).exists():
            read_model(folder / name)
    if (folder / JSONL).exists():
        told = [int(row["step"] or 0) for row in read_metrics(folder)]
        assert told == sorted(told)
        assert not told or max(told) >= step, f"metrics end at step {max(told)}, before the checkpoint of step {step}"
    return step


def kill_until_done(folder: Path, kills: int, seed: int, longest: float, epochs: int) -> tuple[int, int]:
    """Kill `kills` times, then let the run end; return how many kills met a living child, and how often it ended before one."""
    draw = random.Random(seed)
    met = ended = step = 0
    while met < kills:
        pid = child(folder, epochs)
        time.sleep(draw.uniform(0.0, longest))
        done, status = os.waitpid(pid, os.WNOHANG)
        if done == 0:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            met += 1
        else:
            assert os.waitstatus_to_exitcode(status) == 0, "the child failed"
            ended += 1
            if ended > 3:  # the run is at its end; killing one that only tests again would show little
                break
        step = check(folder, step)
    pid = child(folder, epochs)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0, "the run did not end"
    return met, ended


def same(cut: Path, whole: Path) -> None:
    """Raise AssertionError unless two runs are equal to the last bit."""
    for name in (MODEL, BEST):
        assert (cut / name).read_bytes() == (whole / name).read_bytes(), f"{name} differs"
    for name, x in load_file(whole / CHECKPOINT).items():
        assert (load_file(cut / CHECKPOINT)[name] == x).all(), f"{name} differs"
    tops = [sorted(p.name for p in folder.glob("epoch-*")) for folder in (cut, whole)]
    assert tops[0] == tops[1], f"the best epochs differ: {tops}"
    assert rows(cut) == rows(whole), "the metrics differ"
    left = [p.name for p in cut.iterdir() if p.name.startswith(".")]
    assert not left, f"temporary files are left: {left}"


def main() -> None:
    """Run the check from the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--longest", type=float, default=0.5, help="seconds a child lives at most")
    parser.add_argument("--epochs", type=int, default=600)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        cut, whole = Path(folder, "cut"), Path(folder, "whole")
        met, ended = kill_until_done(cut, options.kills, options.seed, options.longest, options.epochs)
        go_on(whole, options.epochs)
        same(cut, whole)
        steps = position(whole)
        print(f"{met} kills over a run of {options.epochs} epochs and {steps} steps ({ended} children ended before theirs), {time.perf_counter() - start:.0f} s:")
        print("no damaged file, no lost epoch; weights, optimiser, averages, best models and metrics equal those of a run never stopped")


if __name__ == "__main__":
    main()
