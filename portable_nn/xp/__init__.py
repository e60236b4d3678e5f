"""The array API's namespace over our ops, for arrays of every backend and for traced ones: `x.__array_namespace__()`.

What differs from the standard: Python floats become float32; what needs a size that depends on values, and what has no kernel
yet (`sort`), is an error unless PORTABLE_NN_HOST_FALLBACK allows the host. `xp.nn` is the extension for neural networks.
"""

from __future__ import annotations

from math import e as e
from math import inf as inf
from math import nan as nan
from math import pi as pi

from ..core.dtypes import bfloat16 as bfloat16
from ..core.dtypes import bool_
from ..core.dtypes import complex64 as complex64
from ..core.dtypes import complex128 as complex128
from ..core.dtypes import float16 as float16
from ..core.dtypes import float32 as float32
from ..core.dtypes import float64 as float64
from ..core.dtypes import int8 as int8
from ..core.dtypes import int16 as int16
from ..core.dtypes import int32 as int32
from ..core.dtypes import int64 as int64
from ..core.dtypes import uint8 as uint8
from ..core.dtypes import uint16 as uint16
from ..core.dtypes import uint32 as uint32
from ..core.dtypes import uint64 as uint64
from ..ops import abs as abs
from ..ops import acos as acos
from ..ops import acosh as acosh
from ..ops import add as add
from ..ops import asin as asin
from ..ops import asinh as asinh
from ..ops import atan as atan
from ..ops import atan2 as atan2
from ..ops import atanh as atanh
from ..ops import bitwise_and as bitwise_and
from ..ops import bitwise_invert as bitwise_invert
from ..ops import bitwise_left_shift as bitwise_left_shift
from ..ops import bitwise_or as bitwise_or
from ..ops import bitwise_right_shift as bitwise_right_shift
from ..ops import bitwise_xor as bitwise_xor
from ..ops import broadcast_to as broadcast_to
from ..ops import ceil as ceil
from ..ops import copysign as copysign
from ..ops import cos as cos
from ..ops import cosh as cosh
from ..ops import divide as divide
from ..ops import equal as equal
from ..ops import exp as exp
from ..ops import expm1 as expm1
from ..ops import flip as flip
from ..ops import floor as floor
from ..ops import floor_divide as floor_divide
from ..ops import greater as greater
from ..ops import greater_equal as greater_equal
from ..ops import hypot as hypot
from ..ops import isfinite as isfinite
from ..ops import isinf as isinf
from ..ops import isnan as isnan
from ..ops import less as less
from ..ops import less_equal as less_equal
from ..ops import log as log
from ..ops import log1p as log1p
from ..ops import log2 as log2
from ..ops import log10 as log10
from ..ops import logaddexp as logaddexp
from ..ops import logical_not as logical_not
from ..ops import matmul as matmul
from ..ops import matrix_transpose as matrix_transpose
from ..ops import maximum as maximum
from ..ops import mean as mean
from ..ops import minimum as minimum
from ..ops import moveaxis as moveaxis
from ..ops import multiply as multiply
from ..ops import negative as negative
from ..ops import not_equal as not_equal
from ..ops import positive as positive
from ..ops import pow as pow
from ..ops import reciprocal as reciprocal
from ..ops import remainder as remainder
from ..ops import round as round
from ..ops import sign as sign
from ..ops import signbit as signbit
from ..ops import sin as sin
from ..ops import sinh as sinh
from ..ops import sqrt as sqrt
from ..ops import square as square
from ..ops import subtract as subtract
from ..ops import sum as sum
from ..ops import tan as tan
from ..ops import tanh as tanh
from ..ops import tile as tile
from ..ops import tril as tril
from ..ops import triu as triu
from ..ops import trunc as trunc
from ..ops import where as where
from . import nn as nn
from .creation import arange as arange
from .creation import asarray as asarray
from .creation import empty as empty
from .creation import empty_like as empty_like
from .creation import eye as eye
from .creation import from_dlpack as from_dlpack
from .creation import full as full
from .creation import full_like as full_like
from .creation import linspace as linspace
from .creation import meshgrid as meshgrid
from .creation import ones as ones
from .creation import ones_like as ones_like
from .creation import zeros as zeros
from .creation import zeros_like as zeros_like
from .host import argsort as argsort
from .host import nonzero as nonzero
from .host import sort as sort
from .host import unique_values as unique_values
from .inspection import __array_namespace_info__ as __array_namespace_info__
from .inspection import can_cast as can_cast
from .inspection import finfo as finfo
from .inspection import iinfo as iinfo
from .inspection import isdtype as isdtype
from .inspection import result_type as result_type
from .manipulation import astype as astype
from .manipulation import broadcast_arrays as broadcast_arrays
from .manipulation import clip as clip
from .manipulation import concat as concat
from .manipulation import expand_dims as expand_dims
from .manipulation import logical_and as logical_and
from .manipulation import logical_or as logical_or
from .manipulation import logical_xor as logical_xor
from .manipulation import permute_dims as permute_dims
from .manipulation import repeat as repeat
from .manipulation import reshape as reshape
from .manipulation import roll as roll
from .manipulation import squeeze as squeeze
from .manipulation import stack as stack
from .manipulation import tensordot as tensordot
from .manipulation import unstack as unstack
from .manipulation import vecdot as vecdot

bool = bool_
newaxis = None
__array_api_version__ = "2024.12"
