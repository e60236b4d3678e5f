"""One script, every backend: train LeNet on digits for a few steps, and write down every gradient.

    PORTABLE_NN_BACKEND=numpy  python examples/one_script.py --out numpy.npz
    PORTABLE_NN_BACKEND=opencl python examples/one_script.py --out opencl.npz --follow numpy.npz

With --follow each step starts from the weights the other run had at that step (teacher forcing), so that the gradients
compare step by step: two free-running runs drift apart by rounding alone, however right both are.
"""

import argparse
import hashlib
from pathlib import Path

import numpy as np

import portable_nn as pnn

parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
parser.add_argument("--steps", type=int, default=10)
parser.add_argument("--out", default="gradients.npz", help="weights and gradients of each step")
parser.add_argument("--follow", help="weights of each step from this file of an earlier run")
options = parser.parse_args()

train, _ = pnn.data.load("digits")
normalise = pnn.data.measure_normalisation(train.images)
batches = iter(pnn.data.Batches(train, 32, normalise, seed=0).epoch(0))
model = pnn.models.create("lenet", train.image_shape, len(train.classes), seed=0).to()
optimizer = pnn.optim.sgd(lr=0.1, momentum=0.9)
state = optimizer.init(pnn.nn.params(model))
teacher = np.load(options.follow) if options.follow else None


def loss_of(params, images, labels):
    scores, _ = pnn.nn.apply(pnn.nn.with_params(model, params), images, train=True)
    return pnn.ops.cross_entropy(scores, labels)


record = {}
for step in range(options.steps):
    params = pnn.nn.params(model)
    if teacher is not None:
        params = {name: pnn.asarray(teacher[f"{step}/weight/{name}"]) for name in params}
    batch = next(batches)
    loss, grads = pnn.value_and_grad(loss_of)(params, pnn.asarray(batch.images), pnn.asarray(batch.labels))
    for name in params:
        record[f"{step}/weight/{name}"] = pnn.to_numpy(params[name])
        record[f"{step}/gradient/{name}"] = pnn.to_numpy(grads[name])
    params, state = optimizer.update(params, grads, state, lr=0.1)
    model = pnn.nn.with_params(model, params)
    print(f"step {step + 1}: loss {float(loss):.6f}")

np.savez(options.out, **record)
digest = hashlib.sha256(Path(__file__).read_bytes()).hexdigest()[:16]
print(f"{options.out}: script {digest} on {pnn.backend_of(loss).name}: {pnn.backend_of(loss).device}")
