"""The ops: one file per family, each op a record and its NumPy reference. Importing this package fills the registry."""

from .arithmetic import abs as abs
from .arithmetic import add as add
from .arithmetic import bitwise_and as bitwise_and
from .arithmetic import bitwise_invert as bitwise_invert
from .arithmetic import bitwise_left_shift as bitwise_left_shift
from .arithmetic import bitwise_or as bitwise_or
from .arithmetic import bitwise_right_shift as bitwise_right_shift
from .arithmetic import bitwise_xor as bitwise_xor
from .arithmetic import divide as divide
from .arithmetic import equal as equal
from .arithmetic import floor_divide as floor_divide
from .arithmetic import greater as greater
from .arithmetic import greater_equal as greater_equal
from .arithmetic import less as less
from .arithmetic import less_equal as less_equal
from .arithmetic import logical_not as logical_not
from .arithmetic import maximum as maximum
from .arithmetic import minimum as minimum
from .arithmetic import multiply as multiply
from .arithmetic import negative as negative
from .arithmetic import not_equal as not_equal
from .arithmetic import positive as positive
from .arithmetic import pow as pow
from .arithmetic import remainder as remainder
from .arithmetic import sign as sign
from .arithmetic import subtract as subtract
