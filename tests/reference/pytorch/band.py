"""Makes `band.json`: where PyTorch's own runs end, over seeds, on the settings that `tests/training/test_pytorch_band.py` trains with.

    python tests/reference/pytorch/band.py [FOLDER]       with torch installed; FOLDER holds `mnist10k/`, left out without it

Nothing is shared with portable_nn but the images: PyTorch draws its own weights and orders. A free run is chaotic, so it is the
spread over seeds that must agree, not a run.
"""

import json
import math
import sys
from pathlib import Path

import numpy as np
import torch
from torch import nn

from portable_nn import data

OUT = Path(__file__).with_name("band.json")
SEEDS = 5
SETTINGS = {
    "digits": {"epochs": 8, "batch_size": 32, "lr": 0.005, "weight_decay": 0.01},
    "mnist10k": {"epochs": 3, "batch_size": 64, "lr": 0.003, "weight_decay": 0.01},
}


def lenet(size):
    """LeNet-5, or for 8x8 pixels the small one that `portable_nn.models.LeNet` describes."""
    convs = (nn.Conv2d(1, 6, 5, padding=2), nn.Conv2d(6, 16, 5)) if size == 28 else (nn.Conv2d(1, 16, 3, padding=1), nn.Conv2d(16, 32, 3, padding=1))
    a, b, c = (400, 120, 84) if size == 28 else (128, 128, 64)
    linears = nn.Linear(a, b), nn.ReLU(), nn.Linear(b, c), nn.ReLU(), nn.Linear(c, 10)
    return nn.Sequential(convs[0], nn.ReLU(), nn.MaxPool2d(2), convs[1], nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), *linears)


def tensors(part, normalise):
    return torch.from_numpy(normalise(part.images)), torch.from_numpy(part.labels)


def final_accuracy(train, test, seed, epochs, batch_size, lr, weight_decay):
    torch.manual_seed(seed)
    model = lenet(train[0].shape[-1])
    optimizer = torch.optim.AdamW(model.parameters(), lr, weight_decay=weight_decay)
    per_epoch = len(train[1]) // batch_size
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 0.5 * (1 + math.cos(math.pi * step / (epochs * per_epoch))))
    for _ in range(epochs):
        order = torch.randperm(len(train[1]))
        for i in range(per_epoch):
            chosen = order[i * batch_size : (i + 1) * batch_size]
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(train[0][chosen]), train[1][chosen]).backward()
            optimizer.step()
            schedule.step()
    with torch.no_grad():
        return (model(test[0]).argmax(1) == test[1]).double().mean().item()


def band(name, sets):
    normalise = data.measure_normalisation(sets[0].images)
    train, test = (tensors(part, normalise) for part in sets)
    found = [round(final_accuracy(train, test, seed, **SETTINGS[name]), 6) for seed in range(SEEDS)]
    print(name, found, f"mean {np.mean(found):.4f}", flush=True)
    return {"settings": SETTINGS[name], "sizes": [len(part) for part in sets], "accuracies": found}


if __name__ == "__main__":
    torch.set_num_threads(1)
    kept = json.loads(OUT.read_text()) if OUT.exists() else {}
    made = {"versions": {"torch": torch.__version__}, "digits": band("digits", data.load("digits"))}
    if len(sys.argv) > 1:
        made["mnist10k"] = band("mnist10k", data.load(Path(sys.argv[1]) / "mnist10k", counts=(8000, 2000)))
    elif "mnist10k" in kept:
        made["mnist10k"] = kept["mnist10k"]
    OUT.write_text(json.dumps(made, indent=1) + "\n")
