"""An op of one's own: one expression and its gradient are a kernel on every backend, and a layer like any other."""

from __future__ import annotations  # the annotations are read as text: `Array` marks operands

import portable_nn as pnn
from portable_nn import nn, ops
from portable_nn.core.array import Array
from portable_nn.core.elementwise import elementwise
from portable_nn.core.samples import A, s
from portable_nn.testing import check_gradient, check_op


@elementwise(
    "x * minimum(maximum(0.25 * x + 0.5, 0), 1)",
    gradients={"x": "where(x <= -2, 0, where(x >= 2, 1, 0.5 * x + 0.5)) * g"},
    samples=(s("plain", A((3, 5))),),
)
def hard_gate(x: Array) -> Array:
    """x times a straight gate that opens from -2 to 2."""


class Net(nn.Module):
    """Two linear layers with the new op between them."""

    def __init__(self):
        self.first, self.last = nn.Linear(64, 64), nn.Linear(64, 10)

    def __call__(self, x):
        return self.last(hard_gate(self.first(ops.reshape(x, (x.shape[0], 64)))))


here = pnn.backend_of(pnn.asarray([0.0])).name
check_op(hard_gate, hard_gate.samples[0], "float32", here)  # against its reference
check_gradient(hard_gate, hard_gate.samples[0], "numpy")  # the gradient against differences

result = pnn.train.fit(Net(), *pnn.data.load("digits"), epochs=6, lr=0.005)
print(f"hard_gate on {result.backend}: accuracy {100 * result.valid_accuracy:.1f} %")
assert result.valid_accuracy > 0.9
