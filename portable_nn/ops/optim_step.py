"""Optimiser updates and running statistics: one launch per parameter, reading and writing each number once.

Learning rate, decay and bias corrections are scalar operands, not settings: they change from step to step, and a
setting would make every step a call that was never prepared. Over 250 lines because every update is a record with its
samples, and an optimiser is chosen by reading them side by side.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..core.array import Array, ArrayOrScalar
from ..core.elementwise import Choice, elementwise
from ..core.errors import DTypeError, ShapeError
from ..core.samples import A, bad, bench, s

_P, _ONES = A((3, 5)), A((3, 5), 0.1, 1.0)
_BENCH = (A((1024, 1024)), A((1024, 1024)))


@elementwise(
    "fma(-lr, fma(weight_decay, param, grad), param)",
    samples=(
        s("plain", _P, _P, 0.1, 0.0),
        s("decay", _P, A((3, 5)), 0.1, 0.01),
        s("transposed", A((33, 5), view="transposed"), A((33, 5)), 0.5, 0.1),
        s("large", A((1, 1031)), A((1, 1031)), 0.5, 0.1),
        s("empty", A((0,)), A((0,)), 0.5, 0.1),
    ),
    result={"y": "param"},
    bad=(bad("shapes", ShapeError, ("(2, 3)", "(4,)"), A((2, 3)), A((4,)), 0.1, 0.0),),
    bench=(bench("1M", *_BENCH, 0.1, 0.0),),
)
def sgd_step(param: Array, grad: Array, lr: ArrayOrScalar, weight_decay: ArrayOrScalar) -> Array:
    """Plain gradient descent: ``param - lr (grad + weight_decay param)``.

    Parameters
    ----------
    param, grad : array
        Of one shape, real floating.
    lr, weight_decay : float, or 0-d array

    Returns
    -------
    array
        The new parameter, in the parameter's dtype.

    Raises
    ------
    ShapeError, DTypeError
        Shapes that do not broadcast, integer operands.

    Notes
    -----
    4 operations and 3 numbers of traffic per element. An update is no part of a loss, so it has no gradient rule.
    """


_VELOCITY = "fma(momentum, velocity, fma(weight_decay, param, grad))"
_NESTEROV = "d = fma(weight_decay, param, grad); v = fma(momentum, velocity, d); fma(-lr, fma(momentum, v, d), param)"
_HEAVY_BALL = f"v = {_VELOCITY}; fma(-lr, v, param)"


def _by_nesterov(settings: Mapping[str, Any], absent: frozenset[str]) -> str:
    del absent
    return _NESTEROV if settings["nesterov"] else _HEAVY_BALL


@elementwise(
    {"new_param": Choice(_by_nesterov, (_HEAVY_BALL, _NESTEROV)), "new_velocity": _VELOCITY},
    samples=(
        s("plain", _P, _P, _P, 0.1, 0.9, 0.0),
        s("nesterov", _P, _P, _P, 0.1, 0.9, 0.01, nesterov=True),
        s("transposed", A((33, 5), view="transposed"), A((33, 5)), A((33, 5)), 0.5, 0.9, 0.1),
        s("large", A((1, 1031)), A((1, 1031)), A((1, 1031)), 0.5, 0.9, 0.1),
        s("empty", A((0,)), A((0,)), A((0,)), 0.5, 0.9, 0.1),
    ),
    result={"new_param": "param", "new_velocity": "velocity"},
    bad=(bad("dtype", DTypeError, ("int32", "float"), A((2,), dtype="int32"), A((2,), dtype="int32"), A((2,), dtype="int32"), 1, 1, 0),),
    bench=(bench("1M", *_BENCH, A((1024, 1024)), 0.1, 0.9, 1e-4),),
)
def sgd_momentum_step(
    param: Array, grad: Array, velocity: Array, lr: ArrayOrScalar, momentum: ArrayOrScalar, weight_decay: ArrayOrScalar,
    nesterov: bool = False,
) -> Any:  # fmt: skip
    """Gradient descent with momentum, as `torch.optim.SGD` without dampening.

    ``d = grad + weight_decay param``, ``v = momentum velocity + d``; the parameter becomes ``param - lr v``, or
    ``param - lr (d + momentum v)`` with `nesterov`.

    Parameters
    ----------
    param, grad, velocity : array
        Of one shape, real floating. A velocity of zeros starts a run.
    lr, momentum, weight_decay : float, or 0-d array
    nesterov : bool

    Returns
    -------
    new_param, new_velocity : array
        In the dtypes of `param` and `velocity`.

    Raises
    ------
    ShapeError, DTypeError
        Shapes that do not broadcast, integer operands.

    Notes
    -----
    6 operations (8 with `nesterov`) and 5 numbers of traffic per element. An update is no part of a loss, so it has no
    gradient rule. Sutskever et al. 2013.
    """


_MEAN = "fma(beta1, exp_avg, (1 - beta1) * {d})"
_SQUARE = "fma(beta2, exp_avg_sq, (1 - beta2) * {d} * {d})"
_L2 = "d = fma(weight_decay, param, grad); "
_MOVE = "fma(-lr, (m / correction1) / (sqrt(v / correction2) + eps), {p})"


def _adam_texts(decoupled: bool) -> tuple[str, str, str]:
    head, d = ("", "grad") if decoupled else (_L2, "d")
    mean, square = _MEAN.format(d=d), _SQUARE.format(d=d)
    start = "fma(-lr * weight_decay, param, param)" if decoupled else "param"
    return f"{head}m = {mean}; v = {square}; {_MOVE.format(p=start)}", head + mean, head + square


_DECOUPLED, _COUPLED = _adam_texts(True), _adam_texts(False)


def _adam(output: int) -> Choice:
    texts = (_DECOUPLED[output], _COUPLED[output])

    def pick(settings: Mapping[str, Any], absent: frozenset[str]) -> str:
        del absent
        return texts[0] if settings["decoupled"] else texts[1]

    return Choice(pick, texts)


_SCALARS = (1e-2, 0.9, 0.999, 1e-8, 0.01, 0.271, 0.002997)


@elementwise(
    {"new_param": _adam(0), "new_exp_avg": _adam(1), "new_exp_avg_sq": _adam(2)},
    samples=(
        s("decoupled", _P, _P, _P, _ONES, *_SCALARS),
        s("l2", _P, _P, _P, _ONES, *_SCALARS, decoupled=False),
        s("first step", _P, _ONES, A((3, 5), 0.0, 0.0), A((3, 5), 0.0, 0.0), 1e-3, 0.9, 0.999, 1e-8, 0.0, 0.1, 0.001, dtypes=("float32", "float64")),
        s("transposed", A((33, 5), view="transposed"), A((33, 5)), A((33, 5)), A((33, 5), 0.1, 1.0), *_SCALARS),
        s("large", A((1, 1031)), A((1, 1031)), A((1, 1031)), A((1, 1031), 0.1, 1.0), *_SCALARS),
        s("empty", A((0,)), A((0,)), A((0,)), A((0,)), *_SCALARS),
    ),
    result={"new_param": "param", "new_exp_avg": "exp_avg", "new_exp_avg_sq": "exp_avg_sq"},
    bad=(bad("shapes", ShapeError, ("(2, 3)", "(4,)"), A((2, 3)), A((4,)), A((2, 3)), A((2, 3)), *_SCALARS),),
    bench=(bench("1M", *_BENCH, A((1024, 1024)), A((1024, 1024), 0.1, 1.0), *_SCALARS),),
)
def adam_step(
    param: Array, grad: Array, exp_avg: Array, exp_avg_sq: Array, lr: ArrayOrScalar, beta1: ArrayOrScalar,
    beta2: ArrayOrScalar, eps: ArrayOrScalar, weight_decay: ArrayOrScalar, correction1: ArrayOrScalar,
    correction2: ArrayOrScalar, decoupled: bool = True,
) -> Any:  # fmt: skip
    """One step of Adam or AdamW, as `torch.optim.Adam` and `torch.optim.AdamW`.

    ``m = beta1 exp_avg + (1 - beta1) d`` and ``v = beta2 exp_avg_sq + (1 - beta2) d^2``; the parameter becomes
    ``p - lr (m / correction1) / (sqrt(v / correction2) + eps)``. With `decoupled` (AdamW) ``d = grad`` and
    ``p = param - lr weight_decay param``; without (Adam) ``d = grad + weight_decay param`` and ``p = param``.

    Parameters
    ----------
    param, grad, exp_avg, exp_avg_sq : array
        Of one shape, real floating. Averages of zeros start a run.
    lr, beta1, beta2, eps, weight_decay : float, or 0-d array
    correction1, correction2 : float, or 0-d array
        ``1 - beta1^t`` and ``1 - beta2^t`` at step t = 1, 2, ...
    decoupled : bool
        AdamW (True) or Adam with L2 penalty.

    Returns
    -------
    new_param, new_exp_avg, new_exp_avg_sq : array
        In the dtypes of `param`, `exp_avg` and `exp_avg_sq`.

    Raises
    ------
    ShapeError, DTypeError
        Shapes that do not broadcast, integer operands.

    Notes
    -----
    About 15 operations and 7 numbers of traffic per element. An update is no part of a loss, so it has no gradient
    rule. Kingma and Ba 2015, arXiv:1412.6980; Loshchilov and Hutter
    2019, arXiv:1711.05101.
    """


_LION = "u = sign(fma(beta1, exp_avg, (1 - beta1) * grad)); fma(-lr, u, fma(-lr * weight_decay, param, param))"


@elementwise(
    {"new_param": _LION, "new_exp_avg": "fma(beta2, exp_avg, (1 - beta2) * grad)"},
    samples=(
        s("plain", _P, _P, _P, 0.1, 0.9, 0.99, 0.0),
        s("decay", _P, _P, _P, 0.1, 0.9, 0.99, 0.1),
        s("gradient zero", _P, A((3, 5), 0.0, 0.0), A((3, 5), 0.0, 0.0), 0.1, 0.9, 0.99, 0.1),
        s("transposed", A((33, 5), view="transposed"), A((33, 5)), A((33, 5)), 0.5, 0.9, 0.99, 0.1),
        s("large", A((1, 1031)), A((1, 1031)), A((1, 1031)), 0.5, 0.9, 0.99, 0.1),
        s("empty", A((0,)), A((0,)), A((0,)), 0.5, 0.9, 0.99, 0.1),
    ),
    result={"new_param": "param", "new_exp_avg": "exp_avg"},
    bad=(bad("shapes", ShapeError, ("(2, 3)", "(4,)"), A((2, 3)), A((4,)), A((2, 3)), 0.1, 0.9, 0.99, 0.0),),
    bench=(bench("1M", *_BENCH, A((1024, 1024)), 1e-4, 0.9, 0.99, 0.1),),
)
def lion_step(
    param: Array, grad: Array, exp_avg: Array, lr: ArrayOrScalar, beta1: ArrayOrScalar, beta2: ArrayOrScalar,
    weight_decay: ArrayOrScalar,
) -> Any:  # fmt: skip
    """One step of Lion: every parameter moves by `lr` in the direction of a smoothed gradient.

    ``u = sign(beta1 exp_avg + (1 - beta1) grad)``; the parameter becomes ``param - lr weight_decay param - lr u`` and the
    average ``beta2 exp_avg + (1 - beta2) grad``.

    Parameters
    ----------
    param, grad, exp_avg : array
        Of one shape, real floating. An average of zeros starts a run.
    lr, beta1, beta2, weight_decay : float, or 0-d array

    Returns
    -------
    new_param, new_exp_avg : array
        In the dtypes of `param` and `exp_avg`.

    Raises
    ------
    ShapeError, DTypeError
        Shapes that do not broadcast, integer operands.

    Notes
    -----
    About 10 operations and 5 numbers of traffic per element. Where gradient and average are 0 there is no direction, and
    only the decay moves the parameter. An update is no part of a loss, so it has no gradient rule. Chen et al. 2023,
    arXiv:2302.06675, algorithm 2.
    """


@elementwise(
    "fma(decay, average, (1 - decay) * value)",
    samples=(
        s("plain", _P, _P, 0.9),
        s("keep", _P, _P, 1.0),
        s("replace", _P, _P, 0.0),
        s("transposed", A((33, 5), view="transposed"), A((33, 5)), 0.5),
        s("large", A((1, 1031)), A((1, 1031)), 0.999),
        s("empty", A((0,)), A((0,)), 0.5),
    ),
    result={"y": "average"},
    bad=(bad("shapes", ShapeError, ("(2, 3)", "(4,)"), A((2, 3)), A((4,)), 0.9),),
    bench=(bench("1M", *_BENCH, 0.999),),
)
def average_step(average: Array, value: Array, decay: ArrayOrScalar) -> Array:
    """Move an exponential moving average: ``decay average + (1 - decay) value``.

    Parameters
    ----------
    average, value : array
        Of one shape, real floating.
    decay : float, or 0-d array
        Part of the old average that stays.

    Returns
    -------
    array
        The new average, in the dtype of `average`.

    Raises
    ------
    ShapeError, DTypeError
        Shapes that do not broadcast, integer operands.

    Notes
    -----
    3 operations and 3 numbers of traffic per element. An average of weights is no part of a loss, so there is no gradient
    rule. Polyak and Juditsky 1992.
    """


@elementwise(
    {
        "new_mean": "fma(1 - momentum, running_mean, momentum * mean)",
        "new_var": "fma(1 - momentum, running_var, momentum * unbiased * var)",
    },
    samples=(
        s("plain", A((5,)), A((5,), 0.1, 1.0), A((5,)), A((5,), 0.1, 1.0), 0.1, 1.25),
        s("replace", A((3,)), A((3,), 0.1, 1.0), A((3,)), A((3,), 0.1, 1.0), 1.0, 1.5),
        s("empty", A((0,)), A((0,)), A((0,)), A((0,)), 0.1, 1.5),
    ),
    result={"new_mean": "running_mean", "new_var": "running_var"},
    bench=(bench("64 channels", A((64,)), A((64,), 0.1, 1.0), A((64,)), A((64,), 0.1, 1.0), 0.1, 1.001),),
)
def running_statistics_step(
    running_mean: Array, running_var: Array, mean: Array, var: Array, momentum: ArrayOrScalar, unbiased: ArrayOrScalar
) -> Any:
    """Move the running statistics of batch normalisation: ``(1 - momentum) running + momentum batch``.

    Parameters
    ----------
    running_mean, running_var : array, (C,)
    mean, var : array, (C,)
        Mean and biased variance of the batch, as `batch_norm_train` gives them.
    momentum : float
        Weight of the batch.
    unbiased : float
        ``M / (M - 1)`` for M elements per channel: PyTorch keeps the unbiased variance.

    Returns
    -------
    new_mean, new_var : array, (C,)
        In the dtypes of the running ones.

    Notes
    -----
    5 operations per channel. Statistics are no part of a loss, so there is no gradient rule.
    """
