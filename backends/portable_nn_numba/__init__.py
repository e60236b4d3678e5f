"""The numba backend: kernels in Python, compiled by numba-cuda, on the user's own `cupy.ndarray` or, simulated, on NumPy arrays.

Nothing here imports numba until a backend or its status is asked for, so a missing numba is an ImportError that the
selection reports as "not installed".
"""

from __future__ import annotations

from portable_nn.core.version import VERSION as VERSION

INSTALL = 'pip install "portable-nn[numba]"'
