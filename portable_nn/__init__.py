"""portable_nn: neural-network kernels for any GPU, one op interface, forward and backward.

>>> import portable_nn as pnn
>>> x = pnn.asarray([[1.0, -2.0]])
>>> pnn.to_numpy(pnn.ops.relu(x))
array([[1., 0.]], dtype=float32)
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from . import ops as ops
from .api import asarray as asarray
from .api import backend_of as backend_of
from .api import synchronize as synchronize
from .api import to_numpy as to_numpy
from .capture import capture as capture
from .core import errors as errors
from .core import tree as tree
from .core.backend import Backend as Backend
from .core.dtypes import bfloat16 as bfloat16
from .core.precision import get_float32_matmul_precision as get_float32_matmul_precision
from .core.precision import set_float32_matmul_precision as set_float32_matmul_precision
from .core.random import key as random_key
from .core.selection import backends as backends
from .core.selection import use_backend as use_backend
from .core.tape import Tape as Tape
from .core.tape import grad as grad
from .core.tape import stop_gradient as stop_gradient
from .core.tape import value_and_grad as value_and_grad
from .core.version import VERSION as __version__

if TYPE_CHECKING:
    from . import augment as augment
    from . import data as data
    from . import models as models
    from . import nn as nn
    from . import optim as optim
    from . import testing as testing
    from . import train as train
    from . import xp as xp

# Loaded at first use, so that `import portable_nn` stays quick.
_LAZY = ("augment", "data", "models", "nn", "optim", "testing", "train", "xp")


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return import_module(f"{__name__}.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *_LAZY])


__all__ = [
    "Backend", "Tape", "__version__", "asarray", "augment", "backend_of", "backends", "bfloat16", "capture", "data", "errors", "get_float32_matmul_precision", "grad",
    "models", "nn", "ops", "optim", "random_key", "set_float32_matmul_precision", "stop_gradient", "synchronize", "testing", "to_numpy", "train", "tree", "use_backend",
    "value_and_grad", "xp",
]  # fmt: skip
