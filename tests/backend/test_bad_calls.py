"""Every wrong call that a record lists raises its class, with its words, on every backend. Generated."""

from collections.abc import Iterator
from functools import partial

import pytest
from conftest import BACKENDS, VALUES
from grouped import each, run

import portable_nn as pnn
from portable_nn.core import selection
from portable_nn.core.errors import DeviceValueError
from portable_nn.core.op import Op
from portable_nn.core.samples import Bad
from portable_nn.testing.cases import drawn, place_all, seed_of
from portable_nn.testing.suite import Case


def refused(name: str, op: Op) -> Iterator[Bad]:
    """Yield the wrong calls that a backend can notice: only those with values see values."""
    for bad in op.bad:
        if name in VALUES or not issubclass(bad.raises, DeviceValueError):
            yield bad


@pytest.mark.parametrize(("name", "op"), [p for n in BACKENDS for p in each([n], lambda op, n=n: any(refused(n, op)))])
def test_bad_calls(name: str, op: Op, request: pytest.FixtureRequest) -> None:
    group = f"{name}-{op.name}"
    run((Case(f"{group}-{bad.name.replace(' ', '_')}", partial(check, name, op, bad), group) for bad in refused(name, op)), request)


def check(name: str, op: Op, bad: Bad) -> None:
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
