"""The gradient of batch normalisation followed by a ReLU, as one op: the mask is found again from x, so that nobody stores it."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..core.array import Array
from ..core.errors import ShapeError
from ..core.op import op
from ..core.samples import A, bad, bench, s
from ..core.spec import Spec
from .batch_norm import spread, train_grad_out, train_grads
from .norm import per_channel

_X, _C, _M = A((4, 3, 5, 7)), A((3,), 0.5, 1.5), A((3,), -0.1, 0.1)


def _out(g: Spec, x: Spec, weight: Spec | None, bias: Spec | None, mean: Spec, rstd: Spec) -> tuple[Spec, ...]:
    per_channel("batch_norm_train_relu_grad", x, weight=weight, bias=bias)
    return train_grad_out("batch_norm_train_relu_grad", g, x, weight, mean, rstd)


@op(
    out=_out,
    outputs=("gx", "gw", "gb"),
    flops=lambda call: 13 * call.outputs[0].size,
    reduces=spread,
    samples=(
        s("affine", _X, _X, _C, _M, _M, _C),
        s("plain", _X, _X, None, None, _M, _C),
        s("bias only", _X, _X, None, _M, _M, _C),
        s("negative weight", _X, _X, A((3,), -1.5, -0.5), _M, _M, _C),
        s("all below", _X, A((4, 3, 5, 7), -1, -0.1), _C, None, A((3,), 0.1, 0.2), _C),
        s("two axes", A((9, 5)), A((9, 5)), A((5,)), A((5,)), A((5,), -0.1, 0.1), A((5,), 0.5, 1.5)),
        s("channels last", A((2, 3, 4, 5), view="channels_last"), A((2, 3, 4, 5), view="channels_last"), _C, _M, _M, _C),
        s("17 channels last", A((30, 17)), A((30, 17)), A((17,)), A((17,)), A((17,), -0.1, 0.1), A((17,), 0.5, 1.5)),
        s("several parts", A((1100, 32)), A((1100, 32)), A((32,)), A((32,)), A((32,), -0.1, 0.1), A((32,), 0.5, 1.5)),
        s("many rows", A((67, 3, 4, 4)), A((67, 3, 4, 4)), _C, _M, _M, _C),
        s("views", A((9, 6), view="strided"), A((9, 6)), A((6,), view="reversed"), A((6,), view="strided"), A((6,), -0.1, 0.1), A((6,), 0.5, 1.5)),
    ),
    bad=(
        bad("shapes", ShapeError, ("batch_norm_train_relu_grad", "(2, 3)", "(3, 3)"), A((2, 3)), A((3, 3)), None, None, A((3,)), A((3,))),
        bad("bias", ShapeError, ("bias", "(4,)", "3 channels"), _X, _X, _C, A((4,)), _M, _C),
    ),
    bench=(bench("stage", A((32, 64, 32, 32)), A((32, 64, 32, 32)), A((64,)), A((64,)), A((64,)), A((64,), 0.5, 1.5)),),
)  # fmt: skip
def batch_norm_train_relu_grad(g: Array, x: Array, weight: Array | None, bias: Array | None, mean: Array, rstd: Array) -> Any:
    """Gradients of ``relu(batch_norm_train(x))``: those of `batch_norm_train` for g where its result is over 0, and 0 elsewhere.

    Parameters
    ----------
    g, x : array, shape (N, C, ...)
        Cotangent of the ReLU's result, and the input.
    weight, bias : array, shape (C,), or None
    mean, rstd : array, shape (C,)
        Statistics of the forward pass; ``rstd = 1 / sqrt(var + eps)``.

    Returns
    -------
    gx : array, shape (N, C, ...)
    gw, gb : array, shape (C,)
        In float32 or wider.

    Raises
    ------
    ShapeError, DTypeError
        As `batch_norm_train_grad`; a bias whose length is not C.

    Notes
    -----
    Whether ``(x - mean_c) rstd_c w_c + b_c`` is over 0 is computed again, in float32 or wider, by the operations of `batch_norm_train`
    in their order. Captured steps use it: it saves the masked cotangent, three passes over memory out of eight. A NaN in x masks g.
    """
    shape = (1, -1) + (1,) * (x.ndim - 2)
    real = np.result_type(x.dtype, mean.dtype)
    y = (x.astype(real) - mean.reshape(shape)) * rstd.reshape(shape)
    y = y if weight is None else y * weight.reshape(shape)
    y = y if bias is None else y + bias.reshape(shape)
    return train_grads(np.where(y > 0, g, np.zeros_like(g)), x, weight, mean, rstd)
