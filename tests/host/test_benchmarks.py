"""The benchmarks run: every class generated from the records, one case each, and asv's settings are read by asv."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from portable_nn.core.registry import OPS

sys.path.insert(0, str(Path(__file__).parents[2] / "asv_bench"))
from benchmarks import calls, choice, ops

CLASSES = {name: found for name, found in vars(ops).items() if hasattr(found, "record") and not name.startswith("_")}


@pytest.fixture(autouse=True)
def _give_back() -> Iterator[None]:
    """A benchmark process keeps its backend chosen; the tests after this one must not inherit it."""
    yield
    calls._open.close()


def test_every_op_has_a_class() -> None:
    """An op without benchmark sizes falls back on its samples; only an op with neither is left out."""
    assert set(CLASSES) == {name for name, op in OPS.items() if op.bench or op.samples}
    for name, made in CLASSES.items():
        assert made.version == OPS[name].version
        assert hasattr(made, "time_backward") == (OPS[name].vjp is not None)


@pytest.mark.parametrize("name", sorted(CLASSES))
def test_op(name: str) -> None:
    """On NumPy with the smallest of the cases: that the method runs, not how fast."""
    made: Any = CLASSES[name]
    params = "numpy", "float32", made.params[2][0]
    benchmark = made()
    try:
        benchmark.setup(*params)
        benchmark.time_forward(*params)
        if hasattr(benchmark, "time_backward"):
            benchmark.time_backward(*params)
    except choice.Skip as skipped:
        pytest.skip(str(skipped))


def test_skips_what_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    """A backend that nobody named is skipped; one that was named is an error."""
    from portable_nn.core.errors import BackendError

    with pytest.raises(choice.Skip):
        choice.backend("numba")
    monkeypatch.setenv("PORTABLE_NN_BENCH_BACKENDS", "numba")
    with pytest.raises(BackendError):
        choice.backend("numba")
