"""The null backend: plans for CPU and GPU without a device."""

import numpy as np
import pytest

import portable_nn as pnn
import portable_nn_null
from portable_nn.core.errors import BackendError


def test_records_launches_only_while_asked():
    with pnn.use_backend("null") as null:
        x = pnn.asarray(np.ones((4, 8), np.float32))
        pnn.ops.add(x, x)
        with null.recording() as launches:
            y = pnn.ops.add(x, 2.0)
        pnn.ops.add(x, x)
    assert [r.op for r in launches] == ["add"]
    assert launches[0].call.outputs == (y.spec,)
    assert launches[0].launch.kernel.startswith("pnn_")


@pytest.mark.parametrize("device", ["cpu", "gpu"])
def test_profile_is_chosen_by_device(device):
    with pnn.use_backend("null", device) as null:
        assert null.profile.shape == device
        assert null.devices()[0].kind == device
        x = pnn.asarray(np.ones(3, np.float32))
        assert pnn.ops.add(x, x).device == f"null {device}"


def test_has_no_values():
    with pnn.use_backend("null"):
        x = pnn.asarray(np.ones((2, 3), np.float32))
        with pytest.raises(BackendError, match=r"null backend has no values.*\(2, 3\), float32"):
            pnn.to_numpy(x)


def test_unknown_device():
    with pytest.raises(BackendError, match="devices cpu and gpu; 'tpu'"):
        portable_nn_null.backend("tpu")


def test_status_is_ready():
    state = portable_nn_null.status()
    assert state.state == "ready"
    assert [d.kind for d in state.devices] == ["cpu", "gpu"]
