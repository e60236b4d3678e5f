"""Every kernel module: importing this fills `registry.KERNELS`. One file per file of `c/`, name for name."""

from . import add_layer_norm as add_layer_norm
from . import attention as attention
from . import conv as conv
from . import conv3d as conv3d
from . import gather as gather
from . import gemm as gemm
from . import group_norm as group_norm
from . import loss as loss
from . import norm as norm
from . import ordering as ordering
from . import pool as pool
from . import pool3d as pool3d
from . import random as random
from . import random_key as random_key
from . import reduce as reduce
from . import resize as resize
from . import rms_norm as rms_norm
from . import scan as scan
from . import scatter as scatter
from . import softmax as softmax
from . import transpose as transpose
from . import unfold as unfold
