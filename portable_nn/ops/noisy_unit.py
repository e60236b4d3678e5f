"""Activations that draw random numbers, made of other ops: rrelu and gumbel_softmax, in PyTorch's spelling with a key."""

from __future__ import annotations

from ..core import dtypes
from ..core.array import Array
from ..core.axes import axis_of
from ..core.errors import DTypeError, SettingError
from ..core.tape import stop_gradient
from .activation import leaky_relu
from .axes import moveaxis
from .creation import astype
from .embedding import one_hot
from .extremum import argmax
from .indexing import where
from .math import log
from .random import uniform
from .softmax import softmax


def rrelu(x: Array, lower: float = 1 / 8, upper: float = 1 / 3, training: bool = False, *, key: Array | None = None) -> Array:
    """Randomised leaky ReLU: ``y = x`` where ``x >= 0``, ``a x`` elsewhere, as `torch.nn.functional.rrelu`.

    Parameters
    ----------
    x : array
        Real floating dtype.
    lower, upper : float
        In training ``a`` is drawn from [lower, upper) for each element, else it is their mean.
    training : bool
    key : array, optional
        Four uint32 words; needed in training.

    Returns
    -------
    array
        x's shape and dtype. NaN stays NaN; at 0 the gradient is 1 in training (0 belongs to the right side) and a otherwise.

    Raises
    ------
    SettingError, DTypeError
        Crossed bounds, no key in training; integers.

    Notes
    -----
    Xu, Wang, Chen and Li 2015, arXiv:1505.00853. In training a draw, a product and a choice: three launches.
    """
    if not lower <= upper:
        raise SettingError(f"rrelu: lower is {lower} and upper {upper}; they must be in order")
    if not dtypes.is_float(x.dtype):
        raise DTypeError(f"rrelu: x is {x.dtype.name} but a real floating dtype is needed; convert with astype")
    if not training:
        return leaky_relu(x, (lower + upper) / 2)
    if key is None:
        raise SettingError("rrelu: training needs a key of four uint32 words; pass key=")
    slope = uniform(key, x.shape, lower, upper, dtype=x.dtype)
    made: Array = where(x >= 0, x, x * slope)
    return made


def gumbel_softmax(logits: Array, tau: float = 1.0, hard: bool = False, dim: int = -1, *, key: Array) -> Array:
    """Draw from the Gumbel-softmax distribution: ``y = softmax((logits + noise) / tau)``, as `torch.nn.functional.gumbel_softmax`.

    Parameters
    ----------
    logits : array
        Unnormalised log-probabilities, real floating dtype.
    tau : float
        Temperature, above 0.
    hard : bool
        Return the one-hot vector of the largest, with the gradient of the soft y.
    dim : int
        The axis of the classes.
    key : array
        Four uint32 words.

    Returns
    -------
    array
        logits' shape and dtype; sums to 1 along `dim`.

    Raises
    ------
    SettingError, DTypeError
        A temperature that is not above 0; integers.

    Notes
    -----
    The noise is ``-log(-log(u))`` with u of 24 bits (53 in float64), drawn in float32 for float16 and bfloat16.
    Jang, Gu and Poole 2017, arXiv:1611.01144; Maddison, Mnih and Teh 2017, arXiv:1611.00712.
    """
    if not tau > 0:
        raise SettingError(f"gumbel_softmax: tau is {tau} but must be above 0")
    if not dtypes.is_float(logits.dtype):
        raise DTypeError(f"gumbel_softmax: logits are {logits.dtype.name} but a real floating dtype is needed; convert with astype")
    at = axis_of("gumbel_softmax", dim, logits.ndim)
    wide = dtypes.accumulator(logits.dtype)
    noise = -log(-log(uniform(key, logits.shape, dtype=wide)))
    soft = softmax((astype(logits, wide) + noise) / tau, at)
    if hard:
        value = stop_gradient(soft)
        chosen = moveaxis(one_hot(argmax(value, at), value.shape[at], wide), -1, at)
        soft = (chosen - value) + soft
    made: Array = astype(soft, logits.dtype)
    return made
