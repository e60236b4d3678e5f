"""GEMM on CPUs where only products larger than samples go: its largest register tile, and operands packed in blocks, here small ones."""

from typing import Any
from unittest.mock import Mock

import numpy as np
import pytest
from conftest import BACKENDS
from conftest import find as find_backend

from portable_nn.core.registry import find
from portable_nn.core.samples import A, Sample
from portable_nn.testing.cases import dtypes_of
from portable_nn.testing.check import check_op
from portable_nn_kernels.plans import gemm_cpu

DTYPES = ["float32", "float64", "float16", "bfloat16"]

# Every product of five rows or more, in blocks of up to five tiles by two panels of the widest vectors, K in blocks of 32.
SMALL = {
    "cpu.gemm.block_work": 1, "cpu.gemm.pack_dots_rows": 5, "cpu.gemm.block_dots_rows": 0, "cpu.gemm.block_depth": 32,
    "cpu.gemm.block_rows": 40, "cpu.gemm.block_columns": 64,
}  # fmt: skip
MORE = {
    "matmul": (
        Sample("blocks", (A((37, 70)), A((70, 150)))),
        Sample("whole blocks", (A((48, 64)), A((64, 128)))),
        Sample("wide", (A((90, 40)), A((40, 330)))),  # three blocks by six on two cores, the last narrower
        Sample("left transposed", (A((37, 70), view="transposed"), A((70, 150)))),
        Sample("right transposed", (A((37, 70)), A((70, 150), view="transposed"))),
        Sample("both transposed", (A((37, 70), view="transposed"), A((70, 150), view="transposed"))),
        Sample("strided", (A((37, 40), view="strided"), A((40, 70), view="strided"))),
        Sample("reversed", (A((37, 40), view="reversed"), A((40, 70), view="reversed"))),
        Sample("batch", (A((2, 3, 21, 40)), A((3, 40, 70)))),
        Sample("batch of left", (A((3, 21, 40)), A((40, 70), view="transposed"))),
        Sample("batch of right", (A((21, 40)), A((3, 40, 70)))),
        Sample("one block", (A((9, 16)), A((16, 33)))),
        Sample("one row past", (A((17, 17)), A((17, 65)))),
    ),
    "linear": (
        Sample("bias", (A((37, 70)), A((150, 70)), A((150,)))),
        Sample("bias reversed", (A((37, 70)), A((70, 70), view="transposed"), A((70,), view="reversed"))),
    ),
    "linear_act": tuple(
        Sample(name, (A((37, 70)), A((83, 70)), A((83,))), {"activation": name}) for name in ("relu", "sigmoid", "tanh", "silu", "gelu")
    ),
}  # fmt: skip


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shapes", [((129, 1009), (1009, 131)), ((258, 520), (520, 128))], ids=["odd", "whole"])
def test_the_largest_tile(backend: Any, dtype: str, shapes: Any) -> None:
    assert 2**24 <= np.prod([*shapes[0], shapes[1][1]]) < 2**25, "others take another tile, or blocks (tuning/gemm.toml, sizes.toml)"
    check_op(find("matmul"), Sample("large", (A(shapes[0]), A(shapes[1]))), dtype, backend)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", MORE)
@pytest.mark.parametrize("device", [name for name in BACKENDS if name == "opencl"])
def test_blocks(device: str, name: str, dtype: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each sample of the records too: most of these take blocks where they are so small."""
    there, op = find_backend(device), find(name)
    if there.profile.shape != "cpu":
        pytest.skip("kernels of GPUs have no such blocks")
    cut = Mock(wraps=gemm_cpu.blocks_launch)
    monkeypatch.setattr(gemm_cpu, "blocks_launch", cut)
    there.use_sizes(SMALL)
    try:
        for sample in MORE[name]:
            before = cut.call_count
            check_op(op, sample, dtype, there)
            assert cut.call_count > before, f"{sample.name}: not in blocks"
        for sample in op.samples:
            if dtype in dtypes_of(op, sample):
                check_op(op, sample, dtype, there)
    finally:
        there.use_sizes({})
