"""Every macro and scalar function of the kernel dialect: executed by OpenCL against NumPy, compiled by NVRTC."""

from __future__ import annotations

import math
from typing import Any

import ml_dtypes
import numpy as np
import pytest

from portable_nn.core import selection
from portable_nn.core.dtypes import ALL, TAGS, accumulator, complex64, complex128, float16, float32, float64, kind
from portable_nn_kernels.source import program_text

pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning")  # NumPy's, for inf and NaN
BFLOAT16 = np.dtype(ml_dtypes.bfloat16)
NUMPY = {"i32": np.int32, "i64": np.int64, "u32": np.uint32, "u64": np.uint64, "f32": np.float32, "f64": np.float64}
FLOATS_1 = ["exp", "exp2", "expm1", "log", "log2", "log10", "log1p", "sqrt", "rsqrt", "sin", "cos", "tan", "asin", "acos", "atan", "sinh", "cosh", "tanh", "asinh", "acosh", "atanh", "erf", "erfc", "floor", "ceil", "trunc", "round", "abs", "sign", "isnan", "isinf", "isfinite", "signbit"]  # fmt: skip
FLOATS_2 = ["pow", "atan2", "hypot", "copysign", "nextafter", "fmod", "mod", "floordiv", "max", "min", "logaddexp"]
INTS_1 = ["abs", "sign", "floor", "ceil", "trunc", "round", "signbit", "isnan", "isinf", "isfinite"]
INTS_2 = ["max", "min", "mod", "floordiv", "pow", "shl", "shr"]
REFERENCE: dict[str, Any] = {
    "asin": np.arcsin, "acos": np.arccos, "atan": np.arctan, "asinh": np.arcsinh, "acosh": np.arccosh,
    "atanh": np.arctanh, "atan2": np.arctan2, "pow": np.power, "mod": np.remainder, "floordiv": np.floor_divide,
    "max": np.maximum, "min": np.minimum, "shl": np.left_shift, "shr": np.right_shift, "round": np.round,
    "erf": np.vectorize(math.erf, otypes=[np.float64]), "erfc": np.vectorize(math.erfc, otypes=[np.float64]),
    "rsqrt": lambda x: 1 / np.sqrt(x),
}  # fmt: skip


class Device:
    """The smallest runner of one kernel: arrays in, one array out."""

    def __init__(self, cl: Any, context: Any, options: tuple[str, ...] = ()) -> None:
        self.cl, self.context, self.queue = cl, context, cl.CommandQueue(context)
        self.options = ["-cl-std=CL1.2", *options]
        self.defines = (("PNN_F64", 1),) if context.devices[0].double_fp_config else ()

    def run(self, text: str, groups: int, size: int, arrays: list[Any], *scalars: Any) -> list[Any]:
        cl = self.cl
        program = cl.Program(self.context, program_text(text, self.defines, "opencl")).build(self.options)
        flags = cl.mem_flags.READ_WRITE | cl.mem_flags.COPY_HOST_PTR
        buffers = [cl.Buffer(self.context, flags, hostbuf=x.view(np.uint8)) for x in arrays]
        args = [item for b in buffers for item in (b, np.int64(0))]
        cl.Kernel(program, "pnn_test")(self.queue, (groups * size,), (size,), *args, *scalars)
        results = [np.empty_like(x) for x in arrays]
        for x, b in zip(results, buffers, strict=True):
            cl.enqueue_copy(self.queue, x.view(np.uint8), b)
        return results


@pytest.fixture(scope="module")
def quick(device: Device) -> Device:
    """The same device, on a CPU without the compiler's optimisation: for the functions, of which there are many."""
    on_cpu = device.context.devices[0].type & device.cl.device_type.CPU
    return Device(device.cl, device.context, ("-cl-opt-disable",)) if on_cpu else device


@pytest.fixture(scope="module")
def device() -> Device:
    cl = pytest.importorskip("pyopencl")
    state = selection.status("opencl")
    if state.state != "ready":
        pytest.skip(f"no OpenCL device: {state.reason}")
    return Device(cl, selection.get("opencl").context)


def map_text(tags: list[str], out: str, value: str, n: int) -> str:
    """Return a kernel that stores `value`, an expression of a, b, ... (loaded with `tags`), for every element."""
    names = "abc"[: len(tags)]
    parameters = ", ".join([f"IN({t}, {x}_)" for t, x in zip(tags, names, strict=True)] + [f"OUT({out}, y)"])
    loads = "".join(
        f"AT_IN({t}, {x}_); const ACC({t}) {x} = LOAD({t}, {x}_, i);\n" for t, x in zip(tags, names, strict=True)
    )
    return f"""#include "math.h"
KERNEL(pnn_test, 64, 1, 1)({parameters}) {{
    const i64 i = GLOBAL_ID(0);
    AT_OUT({out}, y);
    if (i >= {n}) return;
    {loads} STORE({out}, y, i, {value});
}}
"""


def mapped(device: Device, value: str, out: Any, *arrays: Any) -> Any:
    y = np.zeros(arrays[0].shape, out)
    text = map_text([TAGS[x.dtype] for x in arrays], TAGS[y.dtype], value, y.size)
    return device.run(text, -(-y.size // 64), 64, [*arrays, y])[-1]


def edge_values(dtype: Any) -> Any:
    if kind(dtype) == "bool":
        return np.array([True, False] * 40)
    if kind(dtype) == "int":
        info = np.iinfo(dtype)
        near = [info.min, info.max, 0, 1, 2, 3, 5, 7, info.max - 1, info.min + 1]
        return np.array(near + ([-1, -2, -3, -7] if info.min else []), dtype)
    rng = np.random.default_rng(1)
    special = [0.0, -0.0, np.inf, -np.inf, np.nan, 1, -1, 0.5, 1.5, 2.5, -0.5, -2.5, 3, 1e-3, -1e-3, 6e-8, 7.0, 65504.0]
    with np.errstate(over="ignore"):
        values = np.concatenate([special, rng.standard_normal(60), 20 * rng.standard_normal(40)])
        if kind(dtype) == "complex":
            return np.stack([values, values[::-1]], axis=-1).view(np.complex128)[:, 0].astype(dtype)
        values = values.astype(dtype)
    return values


def pairs(values: Any) -> tuple[Any, Any]:
    few = values[:40]
    return np.repeat(few, few.size), np.tile(few, few.size)


def supported(device: Device, dtype: Any) -> None:
    if dtype in (float64, complex128) and not device.defines:
        pytest.skip("no float64 on this device")


@pytest.mark.parametrize("dtype", ALL, ids=str)
def test_load_and_store_return_every_value(device: Device, dtype: Any) -> None:
    supported(device, dtype)
    x = edge_values(dtype)
    got = mapped(device, "a", dtype, x)
    if kind(dtype) == "float":  # NumPy does not treat bfloat16's NaN as one
        got, x = got.astype(np.float64), x.astype(np.float64)
        np.testing.assert_array_equal(np.signbit(got[x == 0]), np.signbit(x[x == 0]))
    np.testing.assert_array_equal(got, x)


@pytest.mark.parametrize("dtype", [float16, BFLOAT16], ids=str)
def test_narrow_stores_round_to_nearest_even_once(device: Device, dtype: Any) -> None:
    bits = np.arange(1 << 16, dtype=np.uint32)[::5]
    exact = bits.astype(np.uint16).view(dtype).astype(np.float32)
    up = np.nextafter(exact, np.float32(np.inf))
    half = ((bits << 16) + 0x8000).view(np.float32)  # ties of bfloat16
    ties = (exact.astype(np.float64) * (1 + 2.0**-11)).astype(np.float32)  # ties of float16
    x = np.concatenate([exact, up, half, ties])
    with np.errstate(over="ignore", invalid="ignore"):
        want = x.astype(dtype)
    got = mapped(device, "a", dtype, x)
    np.testing.assert_array_equal(np.isnan(got.astype(np.float32)), np.isnan(x))
    np.testing.assert_array_equal(got[~np.isnan(x)].view(np.uint16), want[~np.isnan(x)].view(np.uint16))


@pytest.mark.parametrize("dtype", [float16, BFLOAT16], ids=str)
def test_float64_narrows_without_double_rounding(device: Device, dtype: Any) -> None:
    supported(device, float64)
    exact = np.arange(1, 1 << 15, 7, dtype=np.uint16).view(dtype).astype(np.float64)
    exact = exact[np.isfinite(exact)]
    step = 2.0**-11 if dtype == float16 else 2.0**-8
    x = np.concatenate([s * exact * (1 + step) * (1 + e) for s in (1, -1) for e in (0, 2.0**-40, -(2.0**-40))])
    bits = mapped(device, "pnn_narrow_f64(a)", dtype, x)
    low, high = bits.view(np.uint16) - np.uint16(1), bits.view(np.uint16) + np.uint16(1)
    error = abs(bits.astype(np.float64) - x)
    for other in (low.view(dtype), high.view(dtype)):
        finite = np.isfinite(other.astype(np.float64)) & np.isfinite(bits.astype(np.float64))
        assert np.all(error[finite] <= abs(other.astype(np.float64) - x)[finite])


@pytest.mark.parametrize("dtype", [d for d in ALL if kind(d) != "bool"], ids=str)
def test_sums_of_products(device: Device, dtype: Any) -> None:
    supported(device, dtype)
    x = edge_values(dtype)
    if kind(dtype) != "int":
        x = x[abs(x.astype(np.complex128)) < 100]
    got = mapped(
        device, f"ADD({TAGS[dtype]}, MADD({TAGS[dtype]}, a, b, a), ZERO({TAGS[dtype]}))", dtype, x, x[::-1].copy()
    )
    wide = x.astype(np.complex128 if kind(dtype) == "complex" else np.float64) if kind(dtype) != "int" else x
    with np.errstate(all="ignore"):
        want = (wide * wide[::-1] + wide).astype(dtype)
    if kind(dtype) == "int":
        np.testing.assert_array_equal(got, want)
    else:
        close = 4e-7 if accumulator(dtype) in (float32, complex64) else 1e-15
        close = {float16: 1e-3, BFLOAT16: 8e-3}.get(dtype, close)
        tiny = 6e-8 if dtype == float16 else 0
        assert np.all(
            abs(got.astype(wide.dtype) - want.astype(wide.dtype)) <= close * (abs(wide * wide[::-1]) + abs(wide)) + tiny
        )


def check_float(device: Device, name: str, dtype: Any, *x: Any) -> None:
    supported(device, dtype)
    tag, args = TAGS[dtype], "abc"[: len(x)]
    got = mapped(device, f"pnn_{name}_{tag}({', '.join(args)})", dtype, *x)
    wide = name in FLOATS_1 or name in ("pow", "atan2", "hypot", "logaddexp")
    with np.errstate(all="ignore"):
        given = [v.astype(np.float64) if wide else v for v in x]
        want = np.asarray(REFERENCE.get(name, getattr(np, name, None))(*given)).astype(dtype)
    ulps = 0 if name not in FLOATS_1[: FLOATS_1.index("floor")] and not (wide and len(x) == 2) else 32
    with np.errstate(all="ignore"):
        bound = ulps * np.spacing(abs(want))
    same = (got == want) | (np.isnan(got) & np.isnan(want)) | (abs(got - want) <= np.nan_to_num(bound))
    assert np.all(same), f"pnn_{name}_{tag}{[v[~same][:4] for v in x]} gave {got[~same][:4]}, not {want[~same][:4]}"
    if name not in ("max", "min"):  # NumPy's own answer for max(0.0, -0.0) depends on the CPU
        zero = (got == 0) & (want == 0)
        np.testing.assert_array_equal(np.signbit(got[zero]), np.signbit(want[zero]), err_msg=f"sign of zero: {name}")


@pytest.mark.parametrize("dtype", [float32, float64], ids=str)
@pytest.mark.parametrize("name", FLOATS_1)
def test_float_function(quick: Device, name: str, dtype: Any) -> None:
    check_float(quick, name, dtype, edge_values(dtype))


@pytest.mark.parametrize("dtype", [float32, float64], ids=str)
@pytest.mark.parametrize("name", FLOATS_2)
def test_float_function_of_two(quick: Device, name: str, dtype: Any) -> None:
    check_float(quick, name, dtype, *pairs(edge_values(dtype)))


@pytest.mark.parametrize("tag", ["i32", "i64", "u32", "u64"])
@pytest.mark.parametrize("name", INTS_1 + INTS_2)
def test_integer_function(quick: Device, name: str, tag: str) -> None:
    x, y = pairs(edge_values(np.dtype(NUMPY[tag])))
    if name == "pow":
        y = y % 7 if tag[0] == "u" else np.abs(y % 7)
    got = mapped(quick, f"pnn_{name}_{tag}(a{', b' if name in INTS_2 else ''})", x.dtype, x, y)
    with np.errstate(all="ignore"):
        if name == "signbit":
            want = x < 0
        else:
            want = REFERENCE.get(name, getattr(np, name, None))(*((x, y) if name in INTS_2 else (x,)))
    if name in ("mod", "floordiv"):
        want = np.where(y == 0, 0, want)
    if name in ("shl", "shr"):
        width = 8 * x.dtype.itemsize
        past = (y < 0) | (y >= width)
        want = np.where(past, 0 if name == "shl" else np.where(x < 0, -1, 0).astype(x.dtype), want)
    np.testing.assert_array_equal(got, want.astype(x.dtype))


def test_constants_and_bit_casts(device: Device) -> None:
    x = np.zeros(8, np.float32)
    got = mapped(
        device,
        "i == 0 ? INF_F32 : i == 1 ? NAN_F32 : i == 2 ? AS_F32(0x3fc00000u) : (f32)AS_U32(LIT(f32, 1.0))",
        float32,
        x,
    )
    assert np.isinf(got[0])
    assert np.isnan(got[1])
    assert got[2] == 1.5
    assert got[3] == np.float32(0x3F800000)


def test_fma_is_fused_and_nothing_else_is(device: Device) -> None:
    x = np.full(64, 1 + 2.0**-12, np.float32)
    assert np.all(mapped(device, "FMA(a, a, LIT(f32, -1.0) - 2 * LIT(f32, 0.000244140625))", float32, x) == 2.0**-24)
    assert np.all(mapped(device, "a * a - (LIT(f32, 1.0) + 2 * LIT(f32, 0.000244140625))", float32, x) == 0)


def test_local_memory_and_ids(device: Device) -> None:
    text = """
KERNEL(pnn_test, 16, 1, 1)(INOUT(i64, y)) {
    AT_INOUT(i64, y);
    LOCAL i64 s[16];
    s[LOCAL_ID(0)] = y[GLOBAL_ID(0)];
    BARRIER();
    y[GLOBAL_ID(0)] = s[15 - LOCAL_ID(0)] + 1000 * GROUP_ID(0) + 100000 * NUM_GROUPS(0);
}
"""
    got = device.run(text, 4, 16, [np.arange(64)])[0]
    np.testing.assert_array_equal(
        got, np.arange(64).reshape(4, 16)[:, ::-1].ravel() + np.arange(64) // 16 * 1000 + 400000
    )


def test_first_reporter_wins(device: Device) -> None:
    text = """#include "error.h"
KERNEL(pnn_test, 64, 1, 1)(INOUT(i64, word), const i32 code) {
    AT_INOUT(i64, word);
    if (GLOBAL_ID(0) % 7 == 3) REPORT(word, code, GLOBAL_ID(0), 10 * GLOBAL_ID(0));
}
"""
    code, index, value = device.run(text, 8, 64, [np.zeros(3, np.int64)], np.int32(17))[0]
    assert code == 17
    assert index % 7 == 3
    assert value == 10 * index


def every_macro() -> str:
    """Return kernels that use every tag and every function, to be compiled."""
    text = '#include "math.h"\n#include "error.h"\n'
    for tag in TAGS.values():
        text += f"""KERNEL(pnn_copy_{tag}, 64, 1, 1)(IN({tag}, x), OUT({tag}, y), ERROR_WORD(err)) {{
    AT_IN({tag}, x);
    AT_OUT({tag}, y);
    const i64 i = GLOBAL_ID(0) + GROUP_ID(1) + NUM_GROUPS(2) + LOCAL_ID(1);
    LOCAL ACC({tag}) s[64];
    s[LOCAL_ID(0)] = LOAD({tag}, x, i);
    BARRIER();
    STORE({tag}, y, i, MADD({tag}, s[0], s[1], ZERO({tag})));
    if (i < 0) REPORT(err, err_code, i, 7);
}}
"""
    for tag in NUMPY:
        one, two = (FLOATS_1, FLOATS_2) if tag[0] == "f" else (INTS_1, INTS_2)
        calls = [f"pnn_{name}_{tag}(v)" for name in one] + [f"pnn_{name}_{tag}(v, w)" for name in two]
        stores = "".join(f"    STORE({tag}, y, {i}, {call});\n" for i, call in enumerate(calls))
        text += f"KERNEL(pnn_math_{tag}, 1, 1, 1)(INOUT({tag}, y)) {{\n    AT_INOUT({tag}, y);\n    const {tag} v = y[0], w = y[1];\n{stores}}}\n"
    return text


@pytest.mark.parametrize("arch", [75, 90, 120])
def test_cuda_compiles_without_headers(arch: int) -> None:
    nvrtc = pytest.importorskip("cuda.bindings.nvrtc")
    try:
        _, program = nvrtc.nvrtcCreateProgram(
            program_text(every_macro(), (), "cuda").encode(), b"dialect.cu", 0, [], []
        )
    except RuntimeError as error:
        pytest.skip(f"no NVRTC: {error}")
    options = [f"--gpu-architecture=sm_{arch}".encode(), b"--fmad=false"]
    (status,) = nvrtc.nvrtcCompileProgram(program, len(options), options)
    log = b" " * nvrtc.nvrtcGetProgramLogSize(program)[1]
    nvrtc.nvrtcGetProgramLog(program, log)
    assert int(status) == 0, log.decode()
    assert b"warning" not in log, log.decode()
