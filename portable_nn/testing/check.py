"""check_op: one op, one sample, one dtype on one backend, against the op's body in float64."""

from __future__ import annotations

from collections.abc import Callable
from math import prod
from typing import Any
from unittest import SkipTest

import numpy as np
import numpy.typing as npt

from ..core import dtypes, selection
from ..core.backend import Backend
from ..core.call import Call
from ..core.errors import NoKernel
from ..core.op import Op
from ..core.samples import Sample
from ..core.spec import Spec
from . import gaps, tolerance
from .cases import Drawn, described, drawn, largest, place_all, seed_of, widened
from .memory import guarded

AnyBackend = str | Backend | Callable[[], Backend]


def resolve(backend: AnyBackend) -> Backend:
    """Return the backend: itself, the one called so, or what the function makes (at the first check, not before)."""
    if isinstance(backend, Backend):
        return backend
    return selection.get(backend) if isinstance(backend, str) else backend()


def truth_of(op: Op, given: Drawn) -> tuple[npt.NDArray[Any], ...]:
    """Return outputs and residuals of the op's body on the widened operands."""
    wide = given.map(widened, np.ndarray)
    with np.errstate(all="ignore"):
        made = op.body(*wide.args, **wide.settings)
    return tuple(np.asarray(m) for m in made) if isinstance(made, tuple) else (np.asarray(made),)


def may_be_nonfinite(sample: Sample) -> bool:
    """Tell whether the sample says that NaN or inf belong to it: in its values, or in `why`."""
    said = any(word in sample.why.lower() for word in ("nan", "inf", "overflow"))
    given = (v for a in described(sample) for v in a.values or () if isinstance(v, float))
    return said or not all(np.isfinite(v) for v in given)


def compare(
    what: str, got: npt.NDArray[Any], truth: npt.NDArray[Any], spec: Spec, terms: int = 1, operands: float = 1.0, op: str = ""
) -> None:
    """Raise AssertionError unless `got` is `truth` rounded to `spec`, within `tolerance.allowed`."""
    assert got.shape == spec.shape, f"{what}: shape {got.shape}, the record says {spec.shape}"
    assert got.dtype == spec.dtype, f"{what}: dtype {got.dtype.name}, the record says {spec.dtype.name}"
    assert truth.shape == spec.shape, f"{what}: the body gives shape {truth.shape}, the record says {spec.shape}"
    if not got.size:
        return
    kind = dtypes.kind(spec.dtype)
    if kind == "bool":
        assert got.view(np.uint8).max(initial=0) <= 1, f"{what}: a bool is stored as {got.view(np.uint8).max()}"
    if kind in ("bool", "int"):
        wrong = got != truth.astype(spec.dtype)
        if wrong.any():
            raise AssertionError(_report(what, got, truth, wrong, "must be equal"))
        return
    with np.errstate(all="ignore"):
        rounded = truth.astype(spec.dtype)
    wide = widened(got)
    expected = widened(rounded)
    if kind == "complex":
        nonfinite = np.isnan(wide) != np.isnan(expected)
    else:
        same = (np.isnan(wide) & np.isnan(expected)) | (np.isinf(expected) & (wide == expected))
        nonfinite = ~same & (~np.isfinite(wide) | ~np.isfinite(expected))
    if nonfinite.any():
        raise AssertionError(_report(what, got, truth, nonfinite, "NaN or inf differ"))
    finite = np.isfinite(expected)
    limit = tolerance.allowed(truth, spec.dtype, terms, operands, op)
    with np.errstate(all="ignore"):
        wrong = finite & (np.abs(wide - truth) > limit)
    if wrong.any():
        worst = np.unravel_index(np.argmax(np.where(finite, np.abs(wide - truth) / limit, 0)), truth.shape)
        over = float(np.abs(wide[worst] - truth[worst]) / limit[worst])
        raise AssertionError(_report(what, got, truth, wrong, f"error {over:.3g} times what is allowed at {tuple(map(int, worst))}"))


def _report(what: str, got: npt.NDArray[Any], truth: npt.NDArray[Any], wrong: npt.NDArray[np.bool_], why: str) -> str:
    places = [tuple(map(int, i)) for i in np.argwhere(wrong)[:4]]
    listed = "; ".join(f"{p}: got {got[p]!r}, truth {truth[p]!r}" for p in places)
    return f"{what} (shape {got.shape}, {got.dtype.name}): {int(wrong.sum())} of {got.size} elements wrong, {why}. {listed}"


def _run(op: Op, given: Drawn, backend: Backend, residuals: bool, byte: int) -> tuple[list[npt.NDArray[Any]], Call]:
    """Run the call with poisoned memory, check canaries and operands, and return the outputs on the host."""
    there, kept = place_all(given, backend)
    op._cache.clear()
    try:
        with selection.use_backend(backend), guarded(backend, byte) as guards:
            outputs, entry = op.apply(there.args, dict(there.settings), residuals)
            backend.synchronize()
    finally:
        op._cache.clear()
    guards.check()
    for operand in kept:
        assert not operand.modified(), f"{op.name}: the call wrote to {operand.what}"
    if op.view is None:
        for output in outputs:
            mine = [k.array for k in kept if isinstance(k.array, np.ndarray)]
            if isinstance(output, np.ndarray):
                assert not any(np.shares_memory(output, x) for x in mine), f"{op.name}: an output shares memory with an operand"
    for output, spec in zip(outputs, entry.call.outputs, strict=True):
        found = backend.spec_of(output)
        assert (found.shape, found.dtype) == (spec.shape, spec.dtype), f"{op.name}: gave {found}, the record says {spec}"
    return [backend.to_numpy(output) for output in outputs], entry.call


def _own_kernels(op: Op, call: Call, backend: Backend) -> None:
    """Check the launch list of a device backend: the op's own kernels, at least one where there is something to do."""
    plan = getattr(backend, "plan", None)
    if plan is None or (op.view is not None and op.view(call) is not None):
        return
    made = plan(op, call)
    assert made.launches or not any(s.size for s in call.outputs), f"{op.name}: outputs to fill, but no launch"
    limits = {"in": len(call.inputs), "out": len(call.outputs), "scratch": len(made.scratch)}
    for launch in made.launches:
        what = f"{op.name}: {launch.kernel}"
        assert launch.kernel.startswith("pnn_"), f"{what} is no kernel of ours"
        assert 1 <= len(launch.groups) == len(launch.size) <= 3, f"{what}: groups {launch.groups} of {launch.size}"
        assert min(launch.groups) >= 0, f"{what}: groups {launch.groups}"
        assert min(launch.size) > 0, f"{what}: a group of {launch.size}"
        limit = getattr(getattr(backend, "profile", None), "group_limit", 1024)
        assert prod(launch.size) <= limit, f"{what}: a group of {launch.size} is more than the device's {limit}"
        for arg in launch.args:
            role = getattr(arg, "role", None)
            assert role is None or arg.index < limits[role], f"{what}: {arg} does not exist; there are {limits}"


def _check_plan(op: Op, given: Drawn, backend: Backend) -> None:
    """Check what can be checked without values: the null backend."""
    for residuals in sorted({False, bool(op.residuals)}):
        there, _ = place_all(given, backend)
        op._cache.clear()
        with selection.use_backend(backend):
            outputs, entry = op.apply(there.args, dict(there.settings), residuals)
        op._cache.clear()
        assert [(backend.spec_of(o).shape, backend.spec_of(o).dtype) for o in outputs] == [
            (s.shape, s.dtype) for s in entry.call.outputs
        ], f"{op.name}: outputs differ from the record"
        _own_kernels(op, entry.call, backend)


def check_op(op: Op, sample: Sample, dtype: str = "float32", backend: AnyBackend = "numpy", seed: int = 0) -> None:
    """Check one call of an op: values, memory, launch list and repeatability.

    Outputs and residuals are compared with the op's body in float64 on the exact operands (`tolerance.allowed`;
    positions of NaN and inf must agree). The reference must be finite unless the sample says otherwise. Operands may
    not change. On the null backend, which has no values, the plan is checked. Outputs and scratch are poisoned before the launch and have canaries on both sides. Two runs, with
    different poison, must agree in every bit. On a device backend the launch list must hold kernels of our own, and
    no transfer may happen inside the call.

    Parameters
    ----------
    op : Op
    sample : Sample
        One of `op.samples`, or any other.
    dtype : str
        The dtype under test, for operands that do not fix their own.
    backend : str, Backend, or a function that returns one
    seed : int
        Added to the seed that op, sample and dtype name.

    Raises
    ------
    AssertionError
        With the first wrong elements.
    NoKernel
        If the backend has no kernel, and does not list the op in its `unsupported.toml`.
    unittest.SkipTest
        If the device has no such dtype, or the backend lists the op; pytest counts it as a skip.
    """
    owner = resolve(backend)
    given = drawn(sample, dtype, seed_of(op.name, sample.name, dtype) + seed)
    for x in given.arrays():
        if not owner.supports(x.dtype):
            raise SkipTest(f"{owner.name} on {owner.device} has no {x.dtype.name}")
    gap = gaps.reason(owner, op.name, dtype)
    try:
        if owner.name == "null":
            return _check_plan(op, given, owner)  # the null backend has no gaps of its own
        outputs, call = _run(op, given, owner, bool(op.residuals), 0xFF)
    except NoKernel:
        if gap:
            raise SkipTest(f"{owner.name} does not support {op.name}: {gap}") from None
        raise
    assert not gap, f"{owner.name} runs {op.name} in {dtype}, but its {gaps.FILE} lists it: take the line out"
    truth = truth_of(op, given)
    if not may_be_nonfinite(sample):
        for name, value in zip((*op.outputs, *op.residuals), truth, strict=True):
            assert np.isfinite(value).all(), f"{op.name}: {name} of the reference is not finite; say why in the sample"
    _own_kernels(op, call, owner)
    terms = op.reduces(call) if op.reduces is not None else 1
    operands = largest(given.arrays())
    for name, got, value, spec in zip((*op.outputs, *op.residuals), outputs, truth, call.outputs, strict=True):
        compare(f"{op.name}: {name}", got, value, spec, terms, operands, op.name)
    again, _ = _run(op, given, owner, bool(op.residuals), 0xA5)
    for name, one, two in zip((*op.outputs, *op.residuals), outputs, again, strict=True):
        same = np.ascontiguousarray(one).reshape(-1).view(np.uint8) == np.ascontiguousarray(two).reshape(-1).view(np.uint8)
        assert same.all(), f"{op.name}: {name} differs between two runs: memory left unwritten, or a race"
    if op.residuals:  # without a tape the outputs must be the same, and the residuals absent
        plain, _ = _run(op, given, owner, False, 0xA5)
        assert len(plain) == len(op.outputs)
        for name, one, value, spec in zip(op.outputs, plain, truth, call.outputs, strict=False):
            compare(f"{op.name}: {name} without residuals", one, value, spec, terms, operands, op.name)
