"""Numba's kernels executed on the CPU: numba-cuda's NVVM IR compiled by LLVM, threads as fibers (see `numba_cpu`).

By default one sample of one op for each kernel, in float32 and in the halves; `-m slow` takes every sample in float32, and
PORTABLE_NN_TEST_BACKENDS=numba_cpu runs the whole generated suite. A kernel takes numba about a second; compiled ones are kept in
the cache. Then what the adapter itself must do: PTX for each architecture, its cache, arguments checked, defines known.
"""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import numba_cpu
import numpy as np
import pytest
from conftest import BACKENDS
from grouped import each, first, float32, run
from numba_cpu import build
from require import require

import portable_nn.ops  # noqa: F401 - fills the registry
import portable_nn_numba
from portable_nn.core.backend import Backend
from portable_nn.core.errors import BackendError, NoKernel
from portable_nn.core.op import Op
from portable_nn.core.registry import OPS
from portable_nn.core.samples import Sample
from portable_nn.testing.check import check_op
from portable_nn.testing.suite import dtypes_of, forward_cases, gradient_cases, gradient_dtypes
from portable_nn_kernels.launch import Const, In, Launch, Out

QUICK = (
    "add", "where", "softmax", "log_softmax_grad", "sum", "argmax", "layer_norm", "layer_norm_grad", "batch_norm_train", "group_norm",
    "rms_norm", "matmul", "conv2d", "conv2d_weight_grad", "max_pool2d", "avg_pool2d_grad", "cross_entropy", "take", "uniform", "normal",
    "dropout", "split_key", "reshape", "astype",
)  # fmt: skip
LOW = ("float16", "bfloat16")


@pytest.fixture(scope="module")
def fibers() -> Backend:
    require("numba", build.missing())
    return numba_cpu.backend()


NAMES = ["numba_cpu"] if "numba_cpu" not in BACKENDS else []  # else test_ops and test_gradients run all of it


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize(("name", "op"), each(NAMES, lambda op: op.samples and op.name in QUICK))
def test_op(name: str, op: Op, fibers: Backend, request: pytest.FixtureRequest) -> None:
    def chosen(op: Op, sample: Sample) -> tuple[str, ...]:
        return tuple(d for d in dtypes_of(op, sample) if d in LOW or d in first(dtypes_of)(op, sample)) if sample is op.samples[0] else ()

    run(forward_cases(fibers, [op], name, chosen), request)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize(("name", "op"), each(NAMES))
def test_every_sample(name: str, op: Op, fibers: Backend, request: pytest.FixtureRequest) -> None:
    run([*forward_cases(fibers, [op], name, float32(dtypes_of)), *gradient_cases(fibers, [op], name, float32(gradient_dtypes))], request)


# -- programs ---------------------------------------------------------------------------------------------------------


def softmax(defines: tuple[tuple[str, str | int], ...] = (), kernel: str = "pnn_softmax", missing: int = 0) -> Launch:
    given = (("T", "f32"), ("R", "f32"), ("KIND", 0), ("PER", 0), ("G", 64), ("LANES", 1), *defines)
    args = (In(0), Out(0), *(Const("i64", 1) for _ in range(9 - missing)))
    return Launch(kernel, "softmax.c", (1,), (64,), args, given)


@pytest.mark.parametrize("target", ["sm_75", "sm_80", "sm_90", "sm_120"])
def test_ptx(target: str, fibers: Backend) -> None:
    from portable_nn_numba.programs import program_of

    text = program_of(softmax()).compile(target).code().decode()
    assert f".target {target}" in text
    assert ".maxntid 64" in text
    assert ".f64" not in text, "float32 arithmetic was widened"


def test_an_unknown_define_is_refused(fibers: Backend) -> None:
    from portable_nn_numba.programs import program_of

    with pytest.raises(NoKernel, match=r"pnn_softmax: numba's kernel knows no define NEW_FEATURE; port it from softmax\.c"):
        program_of(softmax((("NEW_FEATURE", 1),)))


def test_a_kernel_without_twin_is_refused(fibers: Backend) -> None:
    from portable_nn_numba.programs import program_of

    with pytest.raises(NoKernel, match="no kernel pnn_of_the_future"):
        program_of(softmax(kernel="pnn_of_the_future"))


def test_other_arguments_are_refused(fibers: Backend) -> None:
    from portable_nn_numba.programs import program_of

    with pytest.raises(BackendError, match=r"12 arguments and the kernel has 13 parameters; they differ from number 12 \(zc\)"):
        program_of(softmax(missing=1))


def test_digests_name_what_code_depends_on(fibers: Backend) -> None:
    from portable_nn_numba.programs import program_of

    first, second = program_of(softmax()), program_of(softmax((("UNIT", 1),)))
    assert first.digest == program_of(softmax()).digest
    assert first.digest != second.digest


@pytest.mark.parametrize("kind", ["float16", "bfloat16"])
def test_rounding_to_halves(kind: str, fibers: Backend) -> None:
    """Every half survives, and every float32 between two of them goes to the nearer one, ties to even."""
    from portable_nn.ops import astype

    bits = np.arange(65536, dtype=np.uint16)
    halves = bits.view(kind if kind == "float16" else __import__("ml_dtypes").bfloat16)
    wide = fibers.to_numpy(astype(fibers.from_numpy(halves), np.float32))
    np.testing.assert_array_equal(wide, halves.astype(np.float32))
    with np.errstate(all="ignore"):
        between = halves.astype(np.float32)[:-1].astype(np.float64) / 2 + halves.astype(np.float32)[1:].astype(np.float64) / 2
        tried = np.concatenate([between.astype(np.float32), np.nextafter(between.astype(np.float32), np.float32(0)), wide])
        wanted = tried.astype(halves.dtype)
    got = fibers.to_numpy(astype(fibers.from_numpy(tried), halves.dtype))
    nan = np.isnan(tried)
    np.testing.assert_array_equal(got[~nan].view(np.uint16), wanted[~nan].view(np.uint16))
    assert np.isnan(got[nan].astype(np.float32)).all()


def test_gaps_are_those_listed(fibers: Backend) -> None:
    """Every op plans only kernels that exist in Python, but for those that unsupported.toml excuses."""
    import tomllib
    from unittest import SkipTest

    from portable_nn_numba.programs import program_of

    listed = tomllib.loads((Path(portable_nn_numba.__file__).parent / "unsupported.toml").read_text())["ops"]
    missing: dict[str, str] = {}

    class Planned(type(fibers)):  # type: ignore[misc]
        """Looks for the kernels, and stops there."""

        def bind(self, launch: Launch, slots: object) -> object:
            try:
                program_of(launch)
            except NoKernel as error:
                missing[name] = str(error)

            def stop(given: object) -> None:
                raise SkipTest("planned")

            return stop

    planned = Planned()
    for name, op in OPS.items():  # noqa: B007 - bind reads the name
        for sample in op.samples:
            for dtype in dtypes_of(op, sample):
                if dtype not in ("float32", "bfloat16", "int32", "bool", "complex64"):
                    continue
                with suppress(SkipTest):
                    check_op(op, sample, dtype, planned)
    assert missing.keys() == listed.keys(), f"without kernel: {missing}; listed: {listed}"
