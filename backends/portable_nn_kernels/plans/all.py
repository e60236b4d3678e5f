"""Every plan module: importing this fills `RULES`."""

from . import add_layer_norm as add_layer_norm
from . import attention as attention
from . import conv as conv
from . import conv_any as conv_any
from . import creation as creation
from . import distance as distance
from . import extremum as extremum
from . import gated as gated
from . import gather as gather
from . import gemm as gemm
from . import group_norm as group_norm
from . import layout as layout
from . import loss as loss
from . import norm as norm
from . import ordering as ordering
from . import pair_loss as pair_loss
from . import pool as pool
from . import pool_any as pool_any
from . import random as random
from . import reduction as reduction
from . import resize as resize
from . import scan as scan
from . import scatter as scatter
from . import softmax as softmax
from . import unfold as unfold
