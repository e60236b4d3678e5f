"""Optimisers, learning-rate schedules and clipping: pure functions over trees of arrays."""

from . import schedules as schedules
from .clip import clip_by_global_norm as clip_by_global_norm
from .clip import global_norm as global_norm
from .optimizers import SGD as SGD
from .optimizers import Adam as Adam
from .optimizers import Optimizer as Optimizer
from .optimizers import adam as adam
from .optimizers import adamw as adamw
from .optimizers import sgd as sgd
