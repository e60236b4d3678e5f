"""The bound that op pages state is the one that the tests enforce, and what was measured stays below it."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest

import portable_nn.ops  # noqa: F401 - fills the registry
from portable_nn.core import dtypes
from portable_nn.core.registry import OPS
from portable_nn.core.samples import A, Sample
from portable_nn.testing import accuracy, tolerance
from portable_nn_numpy import backend

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("name", ["float64", "float32", "float16", "bfloat16"])
def test_the_stated_numbers_are_those_allowed(name: str) -> None:
    dtype = dtypes.canonical(name)
    of = tolerance.bound(dtype, "matmul")
    truth = np.array([0.25, -3.0])
    limit = tolerance.allowed(truth, dtype, 49, 1.0, "matmul")
    np.testing.assert_allclose(limit, of.relative * np.abs(truth) + of.lost * 7 * 3 + of.tiny, rtol=1e-12)


def test_numerics_states_the_numbers() -> None:
    text = (ROOT / "docs/numerics.md").read_text(encoding="utf-8")
    for name in ("float64", "float32", "float16", "bfloat16"):
        of = tolerance.bound(dtypes.canonical(name))
        row = next(line for line in text.splitlines() if line.startswith(f"| {name} |"))
        for number in (of.relative, of.lost):
            mantissa, _, exponent = f"{number:.1e}".partition("e")
            assert f"{mantissa}e{int(exponent)}" in row


def test_a_page_states_bound_and_measurement(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "docs/_ext"))
    from bound_section import error_bound

    from portable_nn.core.call import Call
    from portable_nn.core.spec import Spec

    call = Call("matmul", (Spec((2, 48), dtypes.float32), Spec((48, 3), dtypes.float32)), (Spec((2, 3), dtypes.float32),), {})
    lines = list(error_bound(OPS["matmul"], [call], []))
    told = " ".join(line for line in lines if isinstance(line, str))
    assert "is 48 in the tested cases" in told
    (table,) = (line for line in lines if not isinstance(line, str))
    float32 = next(row for row in table[1] if row[0] == "float32")
    assert float32[1:3] == ("1.2e-07", "9.5e-07")
    assert 0 < float(float32[5]) < 1
    sys.modules.pop("bound_section")


def test_measurements_are_below_1_and_of_ops_that_are() -> None:
    known = json.loads((ROOT / "docs/reference/accuracy.json").read_text(encoding="utf-8"))
    assert {"backend", "device", "date", "version", "samples", "ops"} <= set(known)
    assert len(known["ops"]) > 200
    assert set(known["ops"]) <= set(OPS)
    assert all(0 <= ratio < 1 for one in known["ops"].values() for ratio in one.values())


def test_measuring() -> None:
    """A rounding is at most half of the bound's first term, and the measurement sees it."""
    sample = Sample("rounding", (A((1000,), 1.0, 2.0), A((1000,), 1.0, 2.0)))
    ratio = accuracy.share(OPS["add"], sample, "float16", backend())
    assert ratio is not None
    assert 0.3 < ratio <= 0.5
    assert accuracy.share(OPS["argmax"], Sample("places", (A((5,)),)), "float32", backend()) is None
