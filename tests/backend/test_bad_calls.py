"""Every wrong call that a record lists raises its class, with its words, on every backend. Generated."""

import pytest
from conftest import BACKENDS, VALUES

import portable_nn as pnn
from portable_nn.core import selection
from portable_nn.core.errors import DeviceValueError
from portable_nn.core.op import Op
from portable_nn.core.registry import OPS
from portable_nn.core.samples import Bad
from portable_nn.testing.cases import drawn, place_all, seed_of

CASES = [
    pytest.param(name, op, bad, id=f"{name}-{op.name}-{bad.name.replace(' ', '_')}")
    for name in BACKENDS
    for _, op in sorted(OPS.items())
    for bad in op.bad
    if name in VALUES or not issubclass(bad.raises, DeviceValueError)
]


@pytest.mark.parametrize(("name", "op", "bad"), CASES)
def test_bad_call(name: str, op: Op, bad: Bad) -> None:
    backend = selection.get(name)
    given, _ = place_all(drawn(bad, "float32", seed_of(op.name, bad.name)), backend)

    def call() -> None:
        op(*given.args, **given.settings)
        backend.synchronize()  # values that only the device sees are reported here

    with pytest.raises(bad.raises) as caught, pnn.use_backend(backend):
        call()
    missing = [word for word in bad.words if word not in str(caught.value)]
    assert not missing, f"the message lacks {missing}: {caught.value}"
    assert type(caught.value).__module__ == "portable_nn.core.errors"
    assert op.name in str(caught.value), f"the message does not name the op: {caught.value}"
