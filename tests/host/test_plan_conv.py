"""Plans of convolution without a device: what the profile says of the compiler reaches the kernels."""

from __future__ import annotations

import numpy as np
import pytest

from portable_nn.core.call import Call
from portable_nn.core.geometry import channels_last
from portable_nn.core.spec import Spec
from portable_nn_kernels.launch import Profile
from portable_nn_kernels.plans import RULES
from portable_nn_kernels.source import program_text

F32 = np.dtype(np.float32)
IMAGES, FILTERS = channels_last((4, 16, 8, 8), F32), Spec((16, 16, 3, 3), F32)
SETTINGS = {"stride": 1, "padding": 1, "dilation": 1, "groups": 1}
CALLS = {
    "conv2d": Call("conv2d", (IMAGES, FILTERS, None), (IMAGES,), SETTINGS),
    "conv2d_input_grad": Call("conv2d_input_grad", (IMAGES, FILTERS), (IMAGES,), {"size": (8, 8), **SETTINGS}),
    "conv2d_weight_grad": Call("conv2d_weight_grad", (IMAGES, IMAGES), (FILTERS,), {"kernel_size": (3, 3), **SETTINGS}),
}


@pytest.mark.parametrize("op", CALLS)
@pytest.mark.parametrize("prefetch", [False, True])
def test_lines_are_asked_for_ahead_only_where_the_compiler_can(op: str, prefetch: bool) -> None:
    plan = RULES[op](CALLS[op], Profile("cpu", units=2, prefetch=prefetch))
    said = {x.kernel: dict(x.defines)["AHEAD"] for x in plan.launches if "AHEAD" in dict(x.defines)}
    assert list(said.values()) == [int(prefetch)], said
    asking = [x for x in plan.launches if x.kernel in said]
    text = program_text(asking[0].source, asking[0].defines, "opencl")
    assert "#define AHEAD " + str(int(prefetch)) in text
