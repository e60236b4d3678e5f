"""Optimisers, learning-rate schedules, clipping, averages and loss scaling: pure functions over trees of arrays."""

from . import schedules as schedules
from .average import average as average
from .clip import clip_by_global_norm as clip_by_global_norm
from .clip import global_norm as global_norm
from .leaves import weights_only as weights_only
from .lion import Lion as Lion
from .lion import lion as lion
from .loss_scale import LossScale as LossScale
from .loss_scale import counted_on_device as counted_on_device
from .loss_scale import keep_if as keep_if
from .muon import Muon as Muon
from .muon import hidden_matrices as hidden_matrices
from .muon import muon as muon
from .muon import orthogonalize as orthogonalize
from .optimizers import SGD as SGD
from .optimizers import Adam as Adam
from .optimizers import Optimizer as Optimizer
from .optimizers import adam as adam
from .optimizers import adamw as adamw
from .optimizers import sgd as sgd
