"""The command ``portable-nn``: train, eval, predict, info, ops, verify.

Every error that portable_nn raises on purpose ends here as one message and exit code 2; Ctrl-C ends with 130.
Longer than most files: the six commands are short, and a reader looks for them in one place.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
from collections.abc import Sequence
from dataclasses import asdict
from importlib import metadata
from pathlib import Path
from typing import Any

from .core import selection
from .core.errors import ArgumentError, PortableNNError
from .core.registry import OPS, find
from .core.version import VERSION

EXAMPLES = """examples:
  portable-nn train                                  LeNet on scikit-learn's digits, under a minute on two cores
  portable-nn train --data ./mnist --epochs 3        a folder with MNIST's IDX files
  portable-nn train --data ./photos --image-size 32 --model resnet20
  portable-nn train --backend numpy --out runs/a     on another backend, in a folder of your choice
  portable-nn train --resume runs/a                  go on with a run that was stopped
  portable-nn eval runs/a                            accuracy per class on the test set
  portable-nn predict runs/a digit.png               the three likeliest classes
  portable-nn verify                                 check every op on your device
  portable-nn info                                   backends, devices, and why one is not ready
"""
VARIABLES = ("PORTABLE_NN_", "PYOPENCL_", "OCL_ICD_", "POCL_", "CUDA_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES", "NUMBA_")
LIBRARIES = ("numpy", "ml_dtypes", "array-api-compat", "safetensors", "rich", "pyopencl", "intel-opencl-rt", "cupy", "numba",
             "scikit-learn", "pillow", "matplotlib")  # fmt: skip


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of the command line; the options of ``train`` are made from `TrainConfig`."""
    from .train.config import add_arguments

    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(
        prog="portable-nn", description="Train and use small vision models on any device.", epilog=EXAMPLES, formatter_class=raw
    )
    parser.add_argument("--version", action="version", version=f"portable-nn {VERSION}")
    commands = parser.add_subparsers(dest="command", metavar="{train,eval,predict,info,ops,verify}")

    train = commands.add_parser(
        "train", help="train a model and write a run folder", formatter_class=raw, epilog=EXAMPLES,
        description="Train a model. Without options: LeNet on scikit-learn's digits, on the best device there is.",
    )  # fmt: skip
    train.add_argument("--resume", metavar="RUN", help="continue the run in this folder, with its own settings")
    train.add_argument("--quiet", action="store_true", help="print only the result")
    add_arguments(train)

    evaluation = commands.add_parser(
        "eval", help="evaluate a trained model", formatter_class=raw, description="Evaluate a run on its test set.",
        epilog="example:\n  portable-nn eval runs/digits-lenet --backend numpy\n",
    )  # fmt: skip
    evaluation.add_argument("run", metavar="RUN", help="run folder")
    evaluation.add_argument("--data", help="other data than the run's, of the same classes; its test set is used")
    evaluation.add_argument("--json", action="store_true", help="print JSON")

    predict = commands.add_parser(
        "predict", help="classify image files", formatter_class=raw,
        description="Say which classes an image likely shows. Images are scaled, cropped and converted as the model needs.",
        epilog="example:\n  portable-nn predict runs/digits-lenet five.png --invert\n",
    )  # fmt: skip
    predict.add_argument("run", metavar="RUN", help="run folder, or a model.safetensors")
    predict.add_argument("images", metavar="IMAGE", nargs="+", help="image files")
    predict.add_argument("--invert", action="store_true", help="dark strokes on light paper, for a model of light on dark")
    predict.add_argument("--json", action="store_true", help="print JSON")
    for command in (evaluation, predict):
        command.add_argument("--backend", help="backend, or ordered list separated by commas")
        command.add_argument("--device", help="device by index or part of its name")

    info = commands.add_parser("info", help="list backends, devices, versions and environment", description="What is there, what would be used, and why.")
    info.add_argument("--json", action="store_true", help="print JSON")

    ops = commands.add_parser(
        "ops", help="list the ops, or describe one", formatter_class=raw, description="List every op, or describe one.",
        epilog="example:\n  portable-nn ops conv2d\n",
    )  # fmt: skip
    ops.add_argument("name", nargs="?", metavar="OP", help="describe this op")
    ops.add_argument("--json", action="store_true", help="print JSON")

    verify = commands.add_parser(
        "verify", help="check every op on your device", formatter_class=raw,
        description="Run the value and gradient checks of every op on one device, measure bandwidth and GEMM, and write a\n"
        "report. Please contribute the report of a device that the coverage table does not have.",
        epilog="examples:\n  portable-nn verify --backend opencl\n  portable-nn verify conv2d softmax --backend numpy\n",
    )  # fmt: skip
    verify.add_argument("names", nargs="*", metavar="OP", help="only these ops")
    verify.add_argument("--quick", action="store_true", help="one sample per op: seconds instead of minutes")
    verify.add_argument("--out", metavar="FILE", help="the report (default: verify-BACKEND-DEVICE.json)")
    verify.add_argument("--backend", help="backend, or ordered list separated by commas")
    verify.add_argument("--device", help="device by index or part of its name")
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; return the exit code: 0, 2 for an error that says what to do, 130 for Ctrl-C."""
    parser = build_parser()
    options = parser.parse_args(arguments)
    commands = {"train": _train, "eval": _eval, "predict": _predict, "info": _info, "ops": _ops, "verify": _verify}
    if options.command is None:
        parser.print_help()
        return 0
    try:
        return commands[options.command](options)
    except PortableNNError as error:
        signum = getattr(error, "signum", None)
        if signum is not None:
            print(str(error), file=sys.stderr)
            return 128 + int(signum)
        print(f"portable-nn {options.command}: error: {error}", file=sys.stderr)
        return 2
    except BrokenPipeError:  # `portable-nn ops | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        return 130


def _train(options: argparse.Namespace) -> int:
    from .train import fit
    from .train.config import FIELDS, from_arguments
    from .train.progress import Silent, by_terminal

    progress = Silent() if options.quiet else by_terminal()
    if options.resume is None:
        result = fit(from_arguments(options), progress=progress)
    else:
        if getattr(options, "config", None) is not None:
            raise ArgumentError("--config was given with --resume, but a resumed run keeps its own settings; leave it out")
        given = {name: value for name, value in vars(options).items() if name in FIELDS}
        result = fit(resume=options.resume, progress=progress, **given)
    wrong = int(result.evaluation.confusion.sum() - result.evaluation.confusion.trace())
    total = int(result.evaluation.confusion.sum())
    rate = "" if result.images_per_second != result.images_per_second else f", {result.images_per_second:,.0f} images/s"
    print(f"test accuracy {100 * result.test_accuracy:.2f} % ({wrong} of {total} wrong)")
    print(f"{result.steps} steps in {result.seconds:.1f} s{rate}, on {result.backend}: {result.device}")
    names = ", ".join(path.name for path in result.pictures) or 'no pictures (pip install "portable-nn[vision]")'
    print(f"report in {result.folder}: {names}, metrics.csv, model.safetensors")
    return 0


def _eval(options: argparse.Namespace) -> int:
    from dataclasses import replace

    from .train.checkpoint import read_model
    from .train.config import load_config
    from .train.evaluation import evaluate
    from .train.metrics import class_metrics
    from .train.setup import batches_of, choose_backend, load_data
    from .train.start import CONFIG

    folder = Path(options.run).expanduser()
    if not (folder / CONFIG).is_file():
        raise ArgumentError(f"{folder}: is no run folder (it has no {CONFIG}); give one that `portable-nn train` made")
    config = load_config(folder / CONFIG)
    config = replace(config, data=options.data or config.data, backend=options.backend, device=options.device)
    backend = choose_backend(config)
    with selection.use_backend(backend):
        model, info = read_model(folder)
        _, test = load_data(config)
        if test.classes != info.classes or test.image_shape != info.in_shape:
            raise ArgumentError(
                f"{config.data}: has images {test.image_shape} of classes {list(test.classes)} but the model was trained on "
                f"{info.in_shape} of {list(info.classes)}; give data of the same form"
            )
        found = evaluate(model, batches_of(config, test, info.normalisation))
    per_class = class_metrics(found.confusion)
    if options.json:
        rows = {
            name: {"precision": p, "recall": r, "f1": f, "images": int(n)}
            for name, p, r, f, n in zip(
                info.classes, *(_finite(v) for v in (per_class.precision, per_class.recall, per_class.f1)), per_class.support, strict=True
            )
        }
        print(json.dumps({"accuracy": found.accuracy, "loss": found.loss, "images": len(test), "classes": rows}, indent=2))
        return 0
    print(f"{info.model} on {test.name} ({len(test)} test images), {backend.name}: {backend.device}")
    width = max(5, *(len(name) for name in info.classes))
    print(f"{'class':{width}}  precision  recall      f1  images")
    for i, name in enumerate(info.classes):
        cells = "  ".join(f"{100 * v[i]:6.2f} %" for v in (per_class.precision, per_class.recall, per_class.f1))
        print(f"{name:{width}}  {cells}  {per_class.support[i]:6d}")
    print(f"test accuracy {100 * found.accuracy:.2f} %, loss {found.loss:.4f}")
    return 0


def _finite(values: Any) -> list[float | None]:
    return [float(v) if v == v else None for v in values]


def _predict(options: argparse.Namespace) -> int:
    import numpy as np

    from .data import read_image
    from .train.checkpoint import read_model
    from .train.config import TrainConfig
    from .train.evaluation import predict
    from .train.setup import choose_backend

    backend = choose_backend(TrainConfig(backend=options.backend, device=options.device))
    with selection.use_backend(backend):
        model, info = read_model(options.run)
        channels, height, width = info.in_shape
        images = np.stack([read_image(path, (height, width), channels) for path in options.images])
        if options.invert:
            images = 255 - images
        chances = predict(model, info.normalisation(images))
    answers = []
    for path, row in zip(options.images, chances, strict=True):
        best = np.argsort(-row, kind="stable")[:3]
        answers.append({"image": path, "classes": [{"name": info.classes[k], "probability": float(row[k])} for k in best]})
    if options.json:
        print(json.dumps(answers, indent=2))
        return 0
    for answer in answers:
        words = "  ".join(f"{c['name']} {100 * c['probability']:.1f} %" for c in answer["classes"])
        print(f"{answer['image']}: {words}")
    return 0


def collect_info() -> dict[str, Any]:
    """Return what ``portable-nn info`` shows, as plain values."""
    environment = {k: v for k, v in sorted(os.environ.items()) if k.startswith(VARIABLES)}  # before a backend adds to it
    chosen: dict[str, str] = {}
    try:
        backend = selection.default()
        chosen = {"backend": backend.name, "device": backend.device}
    except PortableNNError as error:
        chosen = {"error": str(error)}
    return {
        "portable_nn": VERSION,
        "python": platform.python_version(),
        "system": platform.platform(),
        "chosen": chosen,
        "backends": [asdict(status) for status in selection.backends()],
        "versions": {name: _version(name) for name in LIBRARIES},
        "environment": environment,
        "config_file": str(selection.config_path()) if selection.config_path().is_file() else None,
    }


def _version(name: str) -> str | None:
    wanted = [name, *(f"cupy-{kind}" for kind in ("cuda13x", "cuda12x", "rocm-7-0"))] if name == "cupy" else [name]
    for one in wanted:
        try:
            return metadata.version(one)
        except metadata.PackageNotFoundError:
            continue
    return None


def _info(options: argparse.Namespace) -> int:
    found = collect_info()
    if options.json:
        print(json.dumps(found, indent=2))
        return 0
    print(f"portable-nn {found['portable_nn']}, Python {found['python']}, {found['system']}")
    chosen = found["chosen"]
    print(f"chosen: {chosen['backend']} on {chosen['device']}" if "backend" in chosen else f"chosen: none\n{chosen['error']}")
    print("\nbackends")
    for status in found["backends"]:
        print(f"  {status['name']}: {status['state']}{': ' + status['reason'] if status['reason'] else ''}")
        if status["state"] != "ready" and status["install"]:
            print(f"      to install: {status['install']}")
        for number, device in enumerate(status["devices"]):
            print(f"      [{number}] {device['name']} ({device['kind']}{', ' + device['platform'] if device['platform'] else ''})")
            details = [
                f"driver {device['driver']}" if device["driver"] else "",
                f"{device['units']} units" if device["units"] else "",
                f"{device['memory_bytes'] / 2**30:.1f} GiB" if device["memory_bytes"] else "",
                "" if device["float64"] else "no float64",
                "float16" if device["float16"] else "",
                device["note"],
            ]
            if any(details):
                print(f"          {', '.join(d for d in details if d)}")
    print("\nversions")
    print("  " + ", ".join(f"{name} {version or 'not installed'}" for name, version in found["versions"].items()))
    print("\nenvironment (set PORTABLE_NN_BACKEND and PORTABLE_NN_DEVICE to choose)")
    for name, value in found["environment"].items() or [("nothing set", "")]:
        print(f"  {name}{'=' + value if value else ''}")
    if found["config_file"]:
        print(f"  config file {found['config_file']}")
    return 0


def _ops(options: argparse.Namespace) -> int:
    from . import ops as _  # fills the registry  # noqa: F401

    chosen = [find(options.name)] if options.name else [OPS[name] for name in sorted(OPS)]
    rows = [
        {
            "name": op.name, "signature": f"{op.name}{op.signature}", "gradient": op.vjp is not None,
            "summary": (op.__doc__ or "").strip().partition("\n")[0],
        } for op in chosen
    ]  # fmt: skip
    if options.json:
        print(json.dumps(rows, indent=2))
    elif options.name:
        import inspect

        print(f"{chosen[0].name}{chosen[0].signature}\n\n{inspect.cleandoc(chosen[0].__doc__ or '')}")
    else:
        width = max(len(op.name) for op in chosen)
        for row in rows:
            print(f"{row['name']:{width}}  {'∂' if row['gradient'] else ' '}  {row['summary']}")
        print(f"{len(rows)} ops; ∂ has a gradient rule; `portable-nn ops NAME` describes one")
    return 0


def _verify(options: argparse.Namespace) -> int:
    from rich.console import Console
    from rich.progress import track

    from .testing import verify
    from .train.records import write_json

    wished = selection.wish() if options.backend is None else tuple(options.backend.split(","))
    backend = selection.resolve(wished, options.device)
    checks = verify.plan_checks(backend, options.names, options.quick)
    console = Console()
    print(f"{len(checks)} checks on {backend.name}: {backend.device}")
    shown = track(checks, "checking", console=console, transient=True, disable=not console.is_terminal)
    results = verify.run_checks(shown)
    made = verify.report(backend, results, verify.measure(backend), options.quick)
    slug = "".join(c if c.isalnum() else "-" for c in f"{backend.name}-{backend.device}").strip("-").lower()
    path = Path(options.out or f"verify-{slug}.json")
    write_json(path, made)
    counts = made["counts"]
    for name, tally in results.items():
        if tally["failed"]:
            print(f"FAILED {name}: {tally['failed']} of {tally['failed'] + tally['passed']}; {tally['reasons'][0]}")
    for name, rate in made["rates"].items():
        print(f"{name}: {rate:,}")
    print(f"{counts['passed']} passed, {counts['failed']} failed, {counts['skipped']} skipped; report in {path}")
    return 1 if counts["failed"] else 0
