"""check_gradient: an op's gradient rule against finite differences, and a backend's gradients against the reference's."""

from __future__ import annotations

from typing import Any
from unittest import SkipTest

import numpy as np
import numpy.typing as npt

from ..core import dtypes, selection
from ..core.backend import Backend
from ..core.errors import NoGradient, NoKernel
from ..core.op import Op
from ..core.samples import Sample
from ..core.tape import Tape
from . import gaps, tolerance
from .cases import Drawn, drawn, place_all, seed_of, widened
from .check import AnyBackend, resolve, truth_of

Host = npt.NDArray[Any]

STEP = 1e-5  # truncation about STEP^2 f''' = 1e-10, cancellation about 1e-16 / STEP = 1e-11
FINITE_DIFFERENCE_LIMIT = 1e-6
# The rule of a low-precision gradient stores every intermediate op in that precision: a few roundings, not one.
ROUNDINGS = 16


def differentiable(op: Op) -> list[int]:
    """Return the positions of the outputs that have a gradient."""
    return [i for i, name in enumerate(op.outputs) if name not in op.integer_outputs]


def _operands(op: Op, given: Drawn) -> dict[str, list[Host]]:
    """Return the floating array operands by name; a list of arrays keeps its length."""
    found: dict[str, list[Host]] = {}
    for name, value in given.named(op).items():
        if name not in op.operands:
            continue
        items = list(value) if isinstance(value, list | tuple) else [value]
        if items and all(isinstance(v, np.ndarray) and dtypes.is_float(v.dtype) for v in items):
            found[name] = items
    return found


def cotangents(op: Op, given: Drawn, seed: int) -> list[Host | None]:
    """Return a random float64 cotangent for each differentiable output, None for the others."""
    rng = np.random.default_rng(seed + 1)
    outs = truth_of(op, given)[: len(op.outputs)]
    wanted = differentiable(op)
    return [rng.standard_normal(o.shape) if i in wanted and o.dtype.kind == "f" else None for i, o in enumerate(outs)]


def tape_gradients(
    op: Op, given: Drawn, seeds: list[Host | None], backend: Backend, dtype: np.dtype[Any]
) -> dict[str, list[Host]]:
    """Return the gradient of each operand through the tape, summed over the outputs, in float64 on the host.

    Operands for which the rule gives nothing are left out. Each output is pulled back alone, so rules also meet
    cotangents of None; several outputs are pulled back together as well, and must give the sum.
    """
    names = list(_operands(op, given))
    arguments = given.named(op)
    there_by_name: dict[str, Any] = {}
    for name, value in arguments.items():
        placed, _ = place_all(Drawn((value,), {}), backend)
        there_by_name[name] = placed.args[0]
    total: dict[str, list[Host]] = {}
    with selection.use_backend(backend):
        while names:
            try:
                for position, seed in enumerate(seeds):
                    if seed is None:
                        continue
                    gradients = _pull(op, there_by_name, names, position, backend.from_numpy(seed.astype(dtype)), backend)
                    for name, parts in gradients.items():
                        before = total.get(name)
                        total[name] = parts if before is None else [a + b for a, b in zip(before, parts, strict=True)]
                return total
            except NoGradient as error:
                refused = [n for n in names if str(error).endswith(f"nothing for {n}")]
                if not refused:
                    raise
                names.remove(refused[0])
                total.clear()
    return total


def _pull(
    op: Op, arguments: dict[str, Any], names: list[str], position: int, seed: Any, backend: Backend
) -> dict[str, list[Host]]:
    with Tape() as tape:
        watched: dict[str, list[Any]] = {}
        call = dict(arguments)
        for name in names:
            value = arguments[name]
            many = isinstance(value, list | tuple)
            watched[name] = [tape.watch(v) for v in (value if many else [value])]
            call[name] = watched[name] if many else watched[name][0]
        made = op(**call)
        target = made if len(op.outputs) == 1 else made[position]
    sources = [w for name in names for w in watched[name]]
    gradients = tape.gradient(target, sources, seed)
    for source, gradient in zip(sources, gradients, strict=True):
        spec = backend.spec_of(gradient)
        assert spec.shape == source.shape, f"{op.name}: a gradient of shape {spec.shape} for an operand of shape {source.shape}"
        assert spec.dtype == source.dtype, f"{op.name}: a gradient of {spec.dtype.name} for an operand of {source.dtype.name}"
    found = iter(gradients)
    return {name: [widened(backend.to_numpy(next(found))) for _ in watched[name]] for name in names}


def finite_difference_errors(op: Op, given: Drawn, seeds: list[Host | None], gradients: dict[str, list[Host]], seed: int) -> dict[str, float]:
    """Return one number per operand: the difference of the two directional derivatives, relative to their size.

    The loss is the inner product of the outputs with `seeds`; the direction is +-1 for each element at random.
    """
    rng = np.random.default_rng(seed + 2)
    wide = given.map(widened, np.ndarray)
    arguments = wide.named(op)
    size = sum(float(np.linalg.norm(c * o)) for c, o in zip(seeds, truth_of(op, wide), strict=False) if c is not None)

    def loss(name: str, moved: list[Host]) -> float:
        value = arguments[name]
        changed = arguments | {name: moved if isinstance(value, list | tuple) else moved[0]}
        with np.errstate(all="ignore"):
            made = op.body(**changed)
        outs = made if isinstance(made, tuple) else (made,)
        return float(sum(np.sum(c * o) for c, o in zip(seeds, outs, strict=False) if c is not None))

    errors: dict[str, float] = {}
    for name, parts in gradients.items():
        value = arguments[name]
        here = [np.asarray(v) for v in (value if isinstance(value, list | tuple) else [value])]
        worst = 0.0
        for _ in range(2):
            directions = [rng.choice((-1.0, 1.0), v.shape) for v in here]
            up = loss(name, [v + STEP * d for v, d in zip(here, directions, strict=True)])
            down = loss(name, [v - STEP * d for v, d in zip(here, directions, strict=True)])
            numeric = (up - down) / (2 * STEP)
            analytic = sum(float(np.sum(g * d)) for g, d in zip(parts, directions, strict=True))
            scale = np.sqrt(sum(float(np.sum(g * g)) for g in parts)) + 1e-2 * size
            worst = max(worst, abs(numeric - analytic) / max(float(scale), 1e-300))
            if not np.isfinite(numeric) or not np.isfinite(analytic):
                worst = np.inf
        errors[name] = worst
    return errors


def relative(got: list[Host], wanted: list[Host]) -> float:
    """Return the largest error of a gradient relative to its largest element (of 1 if all are smaller than eps)."""
    worst = 0.0
    for g, w in zip(got, wanted, strict=True):
        if w.size:
            top = float(np.abs(w).max())
            difference = float(np.abs(g - w).max())
            worst = max(worst, difference / top if top > 1e-12 else difference) if np.isfinite(difference) else np.inf
    return worst


def limit_of(dtype: np.dtype[Any], terms: int, op: str = "") -> float:
    """Return the permitted relative error of a gradient in `dtype` whose sums have up to `terms` terms."""
    factor = tolerance.EXCEPTIONS.get(op, (1.0, ""))[0]
    lost = tolerance.FACTOR * factor * np.sqrt(max(terms, 1)) * tolerance.eps(dtypes.accumulator(dtype))
    return ROUNDINGS * (tolerance.eps(dtype) + float(lost))


def gradients_in(op: Op, sample: Sample, dtype: str, backend: Backend, seed: int = 0) -> tuple[dict[str, float], float]:
    """Return each operand's error in `dtype` on `backend` against float64 on NumPy, and the limit."""
    wanted = dtypes.canonical(dtype)
    start = seed_of(op.name, sample.name, dtype, "gradient") + seed
    given = drawn(sample, dtype, start)
    for x in given.arrays():
        if not backend.supports(x.dtype):
            raise SkipTest(f"{backend.name} on {backend.device} has no {x.dtype.name}")
    exact = given.map(widened, np.ndarray)
    # The cotangent is exact in the low precision, as the operands are.
    seeds = [None if c is None else widened(c.astype(wanted)) for c in cotangents(op, exact, start)]
    reference = tape_gradients(op, exact, seeds, selection.get("numpy"), dtypes.float64)
    got = tape_gradients(op, given, seeds, backend, wanted)
    assert got.keys() == reference.keys(), f"{op.name}: gradients of {list(got)} on {backend.name}, of {list(reference)} on numpy"
    terms = max([x.size for x in given.arrays()] + [c.size for c in seeds if c is not None])
    return {name: relative(got[name], reference[name]) for name in reference}, limit_of(wanted, terms, op.name)


def check_gradient(op: Op, sample: Sample, backend: AnyBackend = "numpy", dtype: str = "float64", seed: int = 0) -> dict[str, float]:
    """Check the gradient of every floating operand of one call; return one error per operand.

    In float64 on NumPy the rule is compared with central differences of the inner product of the outputs with random
    cotangents, along random directions. On another backend, or in a lower precision, every gradient is compared with
    that float64 gradient at the same operands and cotangents. A device without float64 is given float32.

    Parameters
    ----------
    op : Op
    sample : Sample
    backend : str, Backend, or a function that returns one
    dtype : str
        Of the operands that do not fix their own.
    seed : int

    Returns
    -------
    dict of str to float
        The relative error by operand; operands for which the rule gives nothing are absent.

    Raises
    ------
    AssertionError
        Naming the operand, its error and the limit.
    unittest.SkipTest
        If the op has no rule, or the sample says that its gradient means nothing.
    """
    if op.vjp is None or not differentiable(op):
        raise SkipTest(f"{op.name} has no gradient rule")
    if not sample.gradient:
        raise SkipTest(f"{op.name}, {sample.name}: {sample.why or 'the sample has no gradient'}")
    owner = resolve(backend)
    if owner.name == "null":
        raise SkipTest("the null backend has no values")
    if dtype == "float64" and not owner.supports(dtypes.float64):
        dtype = "float32"
    if dtype == "float64" and owner.name == "numpy":
        start = seed_of(op.name, sample.name, "gradient") + seed
        given = drawn(sample, "float64", start).map(widened, np.ndarray)
        seeds = cotangents(op, given, start)
        if all(c is None for c in seeds) or any(
            dtypes.is_float(o.dtype) and o.dtype != dtypes.float64 for o in truth_of(op, given)[: len(op.outputs)]
        ):
            raise SkipTest(f"{op.name}, {sample.name}: the outputs are rounded below float64, differences mean nothing")
        found = tape_gradients(op, given, seeds, owner, dtypes.float64)
        assert found or not _operands(op, given), f"{op.name}: the rule gives no gradient at all"
        errors, limit = finite_difference_errors(op, given, seeds, found, start), FINITE_DIFFERENCE_LIMIT
        against = "finite differences"
    else:
        try:
            errors, limit = gradients_in(op, sample, dtype, owner, seed)
        except NoKernel as missing:  # of the op, or of one that its rule calls; the message begins with its name
            gap = gaps.reason(owner, str(missing).partition(":")[0], dtype)
            if gap:
                raise SkipTest(f"{owner.name} does not support {missing}: {gap}") from None
            raise
        against = "the float64 gradient on numpy"
    for name, error in errors.items():
        assert error <= limit, f"{op.name}: gradient of {name} differs from {against} by {error:.3g} relative, allowed {limit:.3g}"
    return errors


def adjoint_error(op: Op, sample: Sample, operand: str, seed: int = 0) -> float:
    """Return how far <op(x), c> is from <x, pullback(c)> for an op that is linear in `operand`, relative to both norms."""
    start = seed_of(op.name, sample.name, "adjoint") + seed
    given = drawn(sample, "float64", start).map(widened, np.ndarray)
    seeds = cotangents(op, given, start)
    back = tape_gradients(op, given, seeds, selection.get("numpy"), dtypes.float64)[operand]
    outs = truth_of(op, given)
    left = sum(float(np.sum(c * o)) for c, o in zip(seeds, outs, strict=False) if c is not None)
    right = sum(float(np.sum(g * x)) for g, x in zip(back, _operands(op, given)[operand], strict=True))
    return abs(left - right) / max(abs(left), abs(right), 1e-300)


