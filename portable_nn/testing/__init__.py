"""Checks for ops and backends, ours and third-party ones: NumPy only, no test framework needed.

`check_op` and `check_gradient` check one call; `backend_suite` yields all of them for a backend.
"""

from .check import check_op as check_op
from .check import compare as compare
from .gradient import adjoint_error as adjoint_error
from .gradient import check_gradient as check_gradient
from .suite import Case as Case
from .suite import backend_suite as backend_suite
from .tolerance import allowed as allowed

__all__ = ["Case", "adjoint_error", "allowed", "backend_suite", "check_gradient", "check_op", "compare"]
