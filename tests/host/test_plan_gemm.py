"""Plans of matmul and linear without a device: launches are read back and computed in NumPy from their arguments."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest

from portable_nn.core import dtypes
from portable_nn.core.call import Call
from portable_nn.core.errors import NoKernel
from portable_nn.core.spec import Spec
from portable_nn_kernels.launch import Const, In, Launch, Out, Plan, Profile, Ref, Term
from portable_nn_kernels.plans import RULES, gemm
from portable_nn_kernels.sizes import declared
from portable_nn_kernels.source import kernel_file, program_text

GPU = Profile("gpu", vendor="nvidia", units=80)
CPU = Profile("cpu", vendor="intel", units=2, vector=16)
NAMES = ["m", "n", "k", "a_row", "a_col", "b_row", "b_col", "c_row", "c_col", "inner", "a_outer", "a_inner", "b_outer", "b_inner", "c_outer", "c_inner", "a_start", "b_start", "c_start", "has_bias", "bias_row", "bias_col", "blocks_m", "blocks_n", "k_part", "c_part"]  # fmt: skip


def spec_of(x: Any) -> Spec:
    return Spec(x.shape, x.dtype, tuple(s // x.itemsize for s in x.strides))


def plan_of(op: str, profile: Profile, *arrays: Any, dtype: Any = np.float32) -> tuple[Plan, Spec]:
    shapes = [np.zeros(x.shape) for x in arrays[:2]]
    out = np.matmul(shapes[0], shapes[1] if op == "matmul" else shapes[1].T)
    spec = Spec(out.shape, np.dtype(dtype))
    return RULES[op](Call(op, tuple(spec_of(x) for x in arrays), (spec,)), profile), spec


def arguments(launch: Launch) -> dict[str, int]:
    return {name: arg.value for name, arg in zip(NAMES, launch.args[4:], strict=False) if isinstance(arg, Const)}  # type: ignore[misc]


def run(plan: Plan, spec: Spec, *arrays: Any) -> Any:
    """Compute tiled launches by their arguments, as the kernel reads memory. Views must not be reversed here."""
    memory: dict[Ref, Any] = {
        In(i): np.lib.stride_tricks.as_strided(x, (base_size(x),), (x.itemsize,)) for i, x in enumerate(arrays)
    }
    memory[Out(0)] = np.full(spec.size, np.nan)
    for launch in plan.launches:
        assert launch.kernel == "pnn_gemm_tiled"
        g = arguments(launch)
        a, b, bias, c = (memory[ref] for ref in launch.args[:4])  # type: ignore[index]
        batches = launch.groups[0] // (g["blocks_m"] * g["blocks_n"])
        i, p, j = np.arange(g["m"])[:, None], np.arange(g["k"]), np.arange(g["n"])
        for z in range(batches):
            outer, inner = divmod(z, g["inner"])
            at = {x: g[f"{x}_start"] + outer * g[f"{x}_outer"] + inner * g[f"{x}_inner"] for x in "abc"}
            left = a[at["a"] + i * g["a_row"] + p * g["a_col"]]
            right = b[at["b"] + p[:, None] * g["b_row"] + j * g["b_col"]]
            value = left @ right + (bias[i * g["bias_row"] + j * g["bias_col"]] if g["has_bias"] else 0)
            c[at["c"] + i * g["c_row"] + j * g["c_col"]] = value
    return memory[Out(0)].reshape(spec.shape)


def base_size(x: Any) -> int:
    return 1 + sum((n - 1) * s // x.itemsize for n, s in zip(x.shape, x.strides, strict=True)) if x.size else 0


def filled(*shape: int) -> Any:
    return np.random.default_rng(len(shape)).standard_normal(shape)


@pytest.mark.parametrize(
    ("a", "b"),
    [
        (filled(7, 5), filled(5, 3)),
        (filled(5, 7).T, filled(3, 5).T),
        (filled(14, 10)[::2, ::2], filled(5, 6)[:, ::2]),
        (filled(5), filled(5)),
        (filled(5), filled(5, 3)),
        (filled(7, 5), filled(5)),
        (filled(4, 7, 5), filled(5)),
        (filled(5), filled(4, 5, 3)),
        (filled(4, 7, 5), filled(5, 3)),
        (filled(7, 5), filled(4, 5, 3)),
        (filled(2, 1, 7, 5), filled(3, 5, 6)),
        (filled(2, 3, 7, 5), filled(2, 1, 5, 6)),
        (filled(2, 1, 3, 7, 5), filled(1, 4, 1, 5, 6)),
        (filled(2, 1, 2, 1, 4, 5), filled(1, 3, 1, 2, 5, 6)),
        (np.broadcast_to(filled(1, 5), (7, 5)), np.broadcast_to(filled(5, 1), (5, 3))),
        (filled(1, 1), filled(1, 1)),
        (filled(3, 0), filled(0, 4)),
        (np.swapaxes(filled(3, 5, 4), 0, 1), filled(5, 4, 2)),
    ],
    ids=lambda x: "x".join(map(str, x.shape)),
)  # fmt: skip
def test_matmul_reads_operands_where_they_are(a: Any, b: Any) -> None:
    plan, spec = plan_of("matmul", GPU, a, b)
    assert plan.scratch == ()
    np.testing.assert_allclose(run(plan, spec, a, b), np.matmul(a, b), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("shape", [(5,), (4, 5), (2, 3, 5), (1, 5)], ids=str)
def test_linear_adds_its_bias_to_every_row(shape: tuple[int, ...]) -> None:
    x, w, bias = filled(*shape), filled(3, 5), filled(3)
    plan, spec = plan_of("linear", GPU, x, w, bias)
    assert len(plan.launches) == 1
    np.testing.assert_allclose(run(plan, spec, x, w, bias), x @ w.T + bias, rtol=1e-12)


def test_leading_axes_become_rows_of_one_product() -> None:
    plan, _ = plan_of("matmul", GPU, filled(6, 4, 5), filled(5, 3))
    (launch,) = plan.launches
    assert (arguments(launch)["m"], launch.groups) == (24, (1, 1))


@pytest.mark.parametrize("profile", [CPU, GPU], ids=["cpu", "gpu"])
def test_empty_results_launch_nothing_and_no_depth_gives_zeros(profile: Profile) -> None:
    assert plan_of("matmul", profile, filled(0, 3), filled(3, 4))[0].launches == ()
    assert len(plan_of("matmul", profile, filled(3, 0), filled(0, 4))[0].launches) == 1


@pytest.mark.parametrize("profile", [CPU, GPU], ids=["cpu", "gpu"])
def test_a_long_k_with_few_sums_is_split_and_added_in_order(profile: Profile) -> None:
    a, b = np.zeros((16, 20000), np.float32), np.zeros((20000, 9), np.float32)
    plan, _ = plan_of("matmul", profile, a, b)
    product, total = plan.launches[-2:]
    parts = product.groups[1]
    assert total.kernel == "pnn_gemm_split_sum"
    assert plan.scratch[0].shape == (parts, 1, 16, 9)
    assert 1 < parts <= 65535
    assert (parts - 1) * arguments(product)["k_part"] < 20000 <= parts * arguments(product)["k_part"]


@pytest.mark.parametrize("profile", [CPU, GPU], ids=["cpu", "gpu"])
@pytest.mark.parametrize(
    "shape", [(1, 1, 1), (64, 10, 84), (1, 512, 784), (1024, 1024, 1024), (65, 33, 4000), (3, 70000, 40)]
)
@pytest.mark.parametrize(
    "dtype", [dtypes.float32, dtypes.float16, dtypes.float64, dtypes.int8, dtypes.complex128], ids=str
)
def test_launches_fit_devices_and_kernels(profile: Profile, shape: tuple[int, int, int], dtype: Any) -> None:
    m, n, k = shape
    x, w = Spec((m, k), dtype), Spec((n, k), dtype)
    plan = RULES["linear"](Call("linear", (x, w, Spec((n,), dtype)), (Spec((m, n), dtype),)), profile)
    if profile is CPU and dtype == dtypes.float32:
        assert len(plan.launches) <= 2
    for launch in plan.launches:
        assert len(launch.groups) == len(launch.size)
        assert np.prod(launch.size) <= profile.group_limit
        assert 0 < launch.groups[0] < 2**31
        assert all(0 < g <= 65535 for g in launch.groups[1:])
        text = kernel_file("gemm.h") + kernel_file(launch.source)
        signature = re.search(rf"KERNEL\({launch.kernel},[^)]*\)\((.*?)\) {{", text, re.S)
        assert signature is not None
        macro = re.search(r"#define GEMM_ARGS(.*?)\n\n", text, re.S)
        assert macro is not None
        parameters = signature[1].replace("GEMM_ARGS", macro[1].replace("\\\n", " "))
        assert len(re.sub(r"\w+\([^()]*(\([^()]*\))?[^()]*\)", "array", parameters).split(",")) == len(launch.args)
        for language in ("opencl", "cuda") if profile is GPU else ("opencl",):
            assert "#include" not in program_text(launch.source, launch.defines, language)  # type: ignore[arg-type]


def test_programs_do_not_depend_on_sizes() -> None:
    def defines(m: int, n: int, k: int) -> Any:
        (launch,) = plan_of("matmul", CPU, filled(m, k), filled(k, n), dtype=np.float64)[0].launches
        return launch.defines

    sizes = [(m, n, k) for m in (64, 65, 100, 127, 600) for n in (64, 65, 100, 900) for k in (8, 50, 51)]
    assert len({defines(*size) for size in sizes}) <= 2, "a register tile has one program, and there are two tiles"


def test_scratch_is_numbered_from_the_callers_first_free_number() -> None:
    a = gemm.Matrix(In(0), dtypes.float32, 1, 200)
    b = gemm.Matrix(In(1), dtypes.float32, 1, 300)
    c = gemm.Matrix(Out(0), dtypes.float32, 300, 1)
    done = gemm.gemm_launches(CPU, a, b, c, m=200, n=300, k=300, scratch=3, epilogue="maximum(x, 0)")
    used = {
        arg.index for launch in done.launches for arg in launch.args if isinstance(arg, Ref) and arg.role == "scratch"
    }
    assert used == set(range(3, 3 + len(done.scratch)))
    assert ("EPILOGUE(v_x)", Term("f32", "maximum(x, 0)")) in done.launches[-1].defines


def test_kinds_that_do_not_mix_are_refused() -> None:
    i, f = gemm.Matrix(In(0), dtypes.int32, 1, 1), gemm.Matrix(Out(0), dtypes.float32, 1, 1)
    with pytest.raises(NoKernel, match="int32 by int32 into float32"):
        gemm.gemm_launches(CPU, i, i, f, m=1, n=1, k=1)


def test_tuned_tiles_satisfy_what_the_kernels_assume() -> None:
    for tiles in declared()["gpu.gemm.tiles"].candidates:
        for tm, tn, tk, rm, rn, _ in tiles:
            items = tm // rm * (tn // rn)
            assert items <= 256
            assert all(items % size == 0 for size in (tm, tn, tk))
        assert tiles[-1][-1] == 0  # some tile is always taken
