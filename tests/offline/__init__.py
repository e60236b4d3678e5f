"""Compiling kernels for GPUs that are not here: which programs there are, and what compilers say of them.

`python -m offline nvidia` (or amd, intel; with tests and backends on PYTHONPATH) writes the tables of docs/reference.
"""

from __future__ import annotations

from typing import cast

from . import amd, intel, nvrtc
from .target import Vendor

VENDORS: dict[str, Vendor] = {module.NAME: cast(Vendor, module) for module in (nvrtc, amd, intel)}
