"""Makes the stored references: what PyTorch computes from weights that both sides fill by formula.

    python tests/reference/pytorch/make.py          with torch, torchvision and timm installed

Writes `models.json` (scores of every model in evaluation mode) and `gradients.json` (losses and gradients along a run of
50 SGD steps), all computed in float64. Large arrays are stored as their norm and their products with random vectors.
MobileNetV2's own run is chaotic even in float64: rounding of 1e-16 is 1e-6 after five steps. So its weights are set anew at each of
the 50 steps, on the way from one set of random weights to another, on both sides. Names of models on the command line: only their
gradients are made, the others stay.
"""

import json
import sys
from pathlib import Path

import numpy as np
import timm
import torch
import torchvision

FOLDER = Path(__file__).parent
sys.path.insert(0, str(FOLDER))

import formula  # noqa: E402
from networks import CASES, TRAINED  # noqa: E402

FORCED = ("mobilenet_v2",)
STEPS, KEPT = 50, (0, 1, 2, 5, 10, 20, 35, 49)
BATCH, LR, MOMENTUM = 8, 0.01, 0.9


def filled(make, part=0.0):
    model = make().double()
    state = model.state_dict()
    model.load_state_dict({
        name: x if name.endswith("num_batches_tracked") else torch.from_numpy(np.asarray(formula.between(name, x.shape, part)))
        for name, x in state.items()
    })  # fmt: skip
    return model


def scores(case):
    name, shape, make = CASES[case]
    model = filled(make).eval()
    with torch.no_grad():
        y = model(torch.from_numpy(formula.images(case, (2, *shape)))).numpy()
    stored = {"scores": y.tolist()} if y.size <= 100 else {"shape": list(y.shape), "projections": formula.projections(case, y).tolist()}
    count = sum(p.numel() for p in model.parameters())
    return {"model": name, "image": list(shape), "parameters": count, "tensors": len(model.state_dict()), **stored}


def run(name):
    _, shape, make = TRAINED[name]
    forced = name in FORCED
    model = filled(make).train()
    optimizer = torch.optim.SGD(model.parameters(), LR, MOMENTUM)
    target = torch.from_numpy(formula.labels(BATCH))
    losses, kept = [], {}
    for step in range(STEPS):
        images = torch.from_numpy(formula.images(f"{name} {step}", (BATCH, *shape)))
        if forced:
            model = filled(make, step / STEPS).train()
        model.zero_grad()
        loss = torch.nn.functional.cross_entropy(model(images), target)
        loss.backward()
        losses.append(loss.item())
        if step in KEPT:
            kept[str(step)] = {n: [float(f"{v:.12g}") for v in formula.projections(n, p.grad.numpy())] for n, p in model.named_parameters()}
        if not forced:
            optimizer.step()
    return {"image": list(shape), "batch": BATCH, "lr": LR, "momentum": MOMENTUM, "forced": forced, "losses": losses, "gradients": kept}


def write(path, made):
    versions = {"torch": torch.__version__, "torchvision": torchvision.__version__, "timm": timm.__version__}
    rows = ",\n".join(f'  "{name}": {json.dumps(value)}' for name, value in made.items())
    path.write_text(f'{{\n  "versions": {json.dumps(versions)},\n{rows}\n}}\n')
    print(f"{path.name}: {path.stat().st_size} bytes")


if __name__ == "__main__":
    torch.use_deterministic_algorithms(True)
    torch.set_num_threads(1)  # one order of sums, and no waiting for each other on a busy machine
    chosen = sys.argv[1:] or list(TRAINED)
    if len(chosen) == len(TRAINED):
        write(FOLDER / "models.json", {case: scores(case) for case in CASES})
    kept = json.loads((FOLDER / "gradients.json").read_text())
    write(FOLDER / "gradients.json", {name: run(name) if name in chosen else kept[name] for name in TRAINED})
