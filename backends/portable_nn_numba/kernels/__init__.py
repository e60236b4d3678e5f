"""Every kernel module: importing this fills `registry.KERNELS`. One file per file of `c/`, name for name."""

from . import conv as conv
from . import gemm as gemm
from . import pool as pool
from . import softmax as softmax
