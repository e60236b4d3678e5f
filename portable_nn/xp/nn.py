"""The `nn` extension: neural-network functions on arrays, in PyTorch's functional spelling; the same ops as `portable_nn.ops`."""

from __future__ import annotations

from ..ops import adaptive_avg_pool2d as adaptive_avg_pool2d
from ..ops import adaptive_max_pool2d as adaptive_max_pool2d
from ..ops import avg_pool2d as avg_pool2d
from ..ops import batch_norm as batch_norm
from ..ops import batch_norm_train as batch_norm_train
from ..ops import clamp as clamp
from ..ops import conv2d as conv2d
from ..ops import cross_entropy as cross_entropy
from ..ops import dropout as dropout
from ..ops import elu as elu
from ..ops import embedding as embedding
from ..ops import gelu as gelu
from ..ops import global_avg_pool2d as global_avg_pool2d
from ..ops import global_max_pool2d as global_max_pool2d
from ..ops import hardsigmoid as hardsigmoid
from ..ops import hardswish as hardswish
from ..ops import l1_loss as l1_loss
from ..ops import layer_norm as layer_norm
from ..ops import leaky_relu as leaky_relu
from ..ops import linear as linear
from ..ops import log_softmax as log_softmax
from ..ops import logsumexp as logsumexp
from ..ops import max_pool2d as max_pool2d
from ..ops import mse_loss as mse_loss
from ..ops import nll_loss as nll_loss
from ..ops import one_hot as one_hot
from ..ops import pad as pad
from ..ops import relu as relu
from ..ops import relu6 as relu6
from ..ops import sigmoid as sigmoid
from ..ops import silu as silu
from ..ops import softmax as softmax
from ..ops import softplus as softplus
from ..ops import tanh as tanh
