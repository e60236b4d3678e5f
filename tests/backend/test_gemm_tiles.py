"""GEMM's largest register tile on CPUs, which only products larger than any sample take."""

import numpy as np
import pytest

from portable_nn.core.registry import find
from portable_nn.core.samples import A, Sample
from portable_nn.testing.check import check_op


@pytest.mark.parametrize("dtype", ["float32", "float64", "float16", "bfloat16"])
@pytest.mark.parametrize("shapes", [((129, 1009), (1009, 131)), ((258, 520), (520, 128))], ids=["odd", "whole"])
def test_large_products(backend, dtype, shapes):
    assert np.prod([*shapes[0], shapes[1][1]]) >= 2**24, "smaller ones take another tile (tuning/gemm.toml)"
    check_op(find("matmul"), Sample("large", (A(shapes[0]), A(shapes[1]))), dtype, backend)
