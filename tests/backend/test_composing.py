"""Device functions for own kernels: the examples of docs/composing.md run, and each part against the op or by hand."""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import BACKENDS, VALUES
from cuda_cpu import build as cuda_build
from numba_cpu import build as numba_build
from require import require

import portable_nn as pnn
from portable_nn.core import dtypes, selection
from portable_nn.core.errors import ArgumentError, SettingError
from portable_nn.core.op import SETTING
from portable_nn.core.registry import OPS
from portable_nn.testing import tolerance
from portable_nn_kernels import compose

ROOT = Path(__file__).parents[2]
DEVICES = [name for name in ("opencl", "cuda") if name == "cuda" or "opencl" in BACKENDS]
INF, NAN = np.inf, np.nan


def example(name: str, *paths: str, **environment: str) -> str:
    """Run an example as a user does; return what it prints."""
    folders = os.pathsep.join(str(ROOT / p) for p in (*paths, "", "backends"))
    done = subprocess.run(
        [sys.executable, "-W", "ignore", str(ROOT / "examples" / f"router_{name}.py")], capture_output=True, text=True, check=False,
        env={**os.environ, "PYTHONPATH": folders, **environment}, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def test_the_opencl_example() -> None:
    require("opencl", "" if "opencl" in VALUES else "not among PORTABLE_NN_TEST_BACKENDS")
    assert example("opencl").count("the kernel and the ops differ by") == 2


def test_the_cupy_example() -> None:
    require("g++", cuda_build.missing())
    assert example("cupy", "tests/fake_cupy", "tests").count("the kernel and the ops differ by") == 2


def test_the_numba_example() -> None:
    require("numba", numba_build.missing())
    assert example("numba", NUMBA_ENABLE_CUDASIM="1").count("the kernel and the ops differ by") == 2


def test_the_numba_example_compiled(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same function to PTX, and to this processor: both compilers must type what the simulator only interprets."""
    require("numba", numba_build.missing())
    monkeypatch.syspath_prepend(str(ROOT / "examples"))
    import router_case as case
    import router_numba

    from portable_nn_numba import programs, shim

    arrays = [shim.Parameter(n, "array", t) for n, t in zip("xwbkge", [np.float32] * 3 + [np.uint32] + [np.float32] * 2, strict=True)]
    scalars = [shim.Parameter(n, "scalar", t) for n, t in zip("tefn", [np.int64] * 3 + [np.float32], strict=True)]
    program = programs.Program("router", router_numba.router.py_func, (*arrays, *scalars), case.ITEMS, f"router-{os.getpid()}")
    assert b".target sm_90" in program.compile("sm_90").code()
    gates, entropy = np.full((case.TOKENS, case.EXPERTS), NAN, np.float32), np.full(case.TOKENS, NAN, np.float32)
    pointers = [ctypes.c_void_p(a.ctypes.data) for a in (case.x, case.weight, case.bias, case.key, gates, entropy)]
    sizes = [ctypes.c_int64(n) for n in (case.TOKENS, case.EXPERTS, case.FEATURES)]
    kernel = numba_build.Kernel(program)
    for reverse in (False, True):
        kernel((case.GROUPS,), (case.ITEMS,), [*pointers, *sizes, ctypes.c_float(case.NOISE)], reverse)
        case.compare(gates, entropy)


# -- one part at a time ------------------------------------------------------------------------------------------------


def launch(language: str, text: str, groups: int, size: int, outputs: list[np.ndarray[Any, Any]], *given: Any, **more: Any) -> None:
    """Compile a kernel named `own` and run it: arrays are copied in, `outputs` come first and back."""
    if language == "cuda":
        require("g++", cuda_build.missing())
        kernel = cuda_build.Kernel("own", compose.cuda_source(text, **more))
        of = {np.int64: ctypes.c_int64, np.float32: ctypes.c_float}
        values = [ctypes.c_void_p(v.ctypes.data) if isinstance(v, np.ndarray) else of[type(v)](v.item()) for v in (*outputs, *given)]
        kernel((groups,), (size,), values)
        return
    import pyopencl as cl

    backend = selection.get("opencl")
    context, queue = backend.context, backend.queue  # type: ignore[attr-defined]
    made = cl.Program(context, compose.opencl_source(text, float64=True, **more)).build(options=["-cl-std=CL1.2"]).own
    flags = cl.mem_flags.READ_WRITE | cl.mem_flags.COPY_HOST_PTR
    there = [cl.Buffer(context, flags, hostbuf=v) if isinstance(v, np.ndarray) else v for v in (*outputs, *given)]
    made(queue, (groups * size,), (size,), *there)
    for host, buffer in zip(outputs, there, strict=False):
        cl.enqueue_copy(queue, host, buffer)


ROWS = """
#include "row.h"
KERNEL(own, 32, 1, 1)(GLOBAL T* y, GLOBAL const T* x) {
    LOCAL T lanes[32];
    const i64 at = GROUP_ID(0) * 32 + LOCAL_ID(0);
    const T made = CAT(CAT(pnn_row_, NAME), CAT(_, T))(x[at], lanes, LOCAL_ID(0), 32);
    y[at] = made;
}
"""


@pytest.mark.parametrize("name", ["sum", "max", "min"])
@pytest.mark.parametrize("tag", ["f32", "f64", "i32", "i64"])
@pytest.mark.parametrize("language", DEVICES)
def test_row_reductions(language: str, tag: str, name: str, rng: np.random.Generator) -> None:
    kind = {"f32": np.float32, "f64": np.float64, "i32": np.int32, "i64": np.int64}[tag]
    x = rng.integers(-1000, 1000, (4, 32)).astype(kind)  # sums of integers are exact in any order
    if tag.startswith("f") and name != "sum":
        x[1, 7] = NAN
        x[2, 3] = -INF
    y = np.zeros_like(x)
    launch(language, ROWS, 4, 32, [y], x, defines={"T": tag, "NAME": name})
    wanted = getattr(np, name)(x, axis=1, keepdims=True)
    np.testing.assert_array_equal(y, np.broadcast_to(wanted, x.shape))


SOFTMAX = """
#include "softmax_row.h"
KERNEL(own, 16, 1, 1)(GLOBAL T* y, GLOBAL T* logs, GLOBAL const T* x, i64 n) {
    LOCAL T lanes[16];
    CAT(pnn_softmax_, T) s = CAT(pnn_softmax_empty_, T)();
    for (i64 c = LOCAL_ID(0); c < n; c += 16) s = CAT(pnn_softmax_with_, T)(s, x[GROUP_ID(0) * n + c]);
    s = CAT(pnn_row_softmax_, T)(s, lanes, LOCAL_ID(0), 16);
    for (i64 c = LOCAL_ID(0); c < n; c += 16) y[GROUP_ID(0) * n + c] = CAT(pnn_softmax_share_, T)(s, x[GROUP_ID(0) * n + c]);
    if (LOCAL_ID(0) == 0) logs[GROUP_ID(0)] = CAT(pnn_softmax_log_, T)(s);
}
"""


@pytest.mark.parametrize("tag", ["f32", "f64"])
@pytest.mark.parametrize("language", DEVICES)
def test_softmax_of_a_row(language: str, tag: str, rng: np.random.Generator) -> None:
    """Against the op, also where a row holds -inf, nothing else, NaN or +inf, and where lanes stay empty."""
    kind = {"f32": np.float32, "f64": np.float64}[tag]
    for n in (1, 5, 37):
        x = (rng.normal(size=(8, n)) * 30).astype(kind)
        x[1, 0], x[2, :], x[3, n // 2], x[4, -1] = -INF, -INF, NAN, INF
        y, logs = np.zeros_like(x), np.zeros(8, kind)
        launch(language, SOFTMAX, 8, 16, [y, logs], x, np.int64(n), defines={"T": tag})
        with pnn.use_backend("numpy"):
            wanted, log_sum = pnn.ops.softmax(x.astype(np.float64), 1), pnn.ops.logsumexp(x.astype(np.float64), 1)
        np.testing.assert_array_equal(np.isnan(y), np.isnan(wanted))
        finite = np.isfinite(wanted)
        limit = tolerance.allowed(wanted, np.dtype(kind), n, 100.0)
        assert (np.abs(y - wanted)[finite] <= limit[finite]).all()
        ordinary = [0, 5, 6, 7]
        np.testing.assert_allclose(logs[ordinary], log_sum[ordinary], rtol=1e-5 if tag == "f32" else 1e-12)


RANDOM = """
#include "random.h"
KERNEL(own, 64, 1, 1)(GLOBAL f32* u, GLOBAL f32* z, GLOBAL const u32* words, i64 n) {
    const i64 e = GLOBAL_ID(0);
    const pnn_key key = pnn_load_key(words, 1, 0);
    if (e < n) {
        u[e] = pnn_uniform_at_f32(key, e);
        z[e] = pnn_normal_at_f32(key, e);
    }
}
"""


@pytest.mark.parametrize("language", DEVICES)
def test_draws_are_those_of_the_ops(language: str) -> None:
    key, n = pnn.random_key(3, backend="numpy"), 1001
    u, z = np.zeros(n, np.float32), np.zeros(n, np.float32)
    launch(language, RANDOM, 16, 64, [u, z], key, np.int64(n))
    with pnn.use_backend("numpy"):
        np.testing.assert_array_equal(u, pnn.ops.uniform(key, n))
        np.testing.assert_allclose(z, pnn.ops.normal(key, n), rtol=1e-5, atol=1e-6)


def _functions() -> list[str]:
    found = []
    for name, op in sorted(OPS.items()):
        try:
            compose.op_terms(name, "f32")
        except SettingError:
            continue
        if op.expression.result == "same":
            found.append(name)
    return found


def _arguments(name: str) -> list[tuple[str, Any]]:
    """Return the parameters of an op's function: ("x", None) for an operand, ("alpha", 1.0) for a setting."""
    op = OPS[name]
    parameters, _, _ = compose.op_terms(name, "f32")
    defaults = {n: op.signature.parameters[n].default for n, _ in parameters if op.roles[n] == SETTING}
    settled = {n: value if isinstance(value, float | int) else 0.5 for n, value in defaults.items()}
    return [(n, settled.get(n)) for n, _ in parameters]


@pytest.mark.parametrize("language", DEVICES)
def test_every_elementwise_op_is_a_function(language: str, rng: np.random.Generator) -> None:
    """All of them in one kernel, by their own expressions, against the ops' bodies in float64."""
    names = _functions()
    assert len(names) > 100
    assert {"gelu", "gelu_grad", "relu", "silu_grad", "mish", "where", "maximum", "leaky_relu"} <= set(names)
    many = max(len(_arguments(name)) for name in names)
    x = rng.uniform(0.1, 0.9, (many, 64)).astype(np.float32)
    x[:, 32:] += 1  # every function is defined in one half or the other
    lines = []
    for number, name in enumerate(names):
        given = [f"x[{i * 64} + e]{' != 0' if n == 'condition' else ''}" if value is None else f"(f32)({value})" for i, (n, value) in enumerate(_arguments(name))]
        lines.append(f"    y[{number * 64} + e] = pnn_op_{name}_f32({', '.join(given)});")
    text = "KERNEL(own, 64, 1, 1)(GLOBAL f32* y, GLOBAL const f32* x) {\n    const i64 e = LOCAL_ID(0);\n" + "\n".join(lines) + "\n}\n"
    y = np.full((len(names), 64), NAN, np.float32)
    launch(language, text, 1, 64, [y], x, ops=names)
    for number, name in enumerate(names):
        op = OPS[name]
        operands = {n: x[i] != 0 if n == "condition" else x[i].astype(np.float64) for i, (n, _) in enumerate(_arguments(name))}
        arguments = {n: operands[n] if value is None else value for n, value in _arguments(name)}
        for n in op.operands:  # operands that this expression does not read
            arguments.setdefault(n, x[0].astype(np.float64))
        with np.errstate(all="ignore"):
            wanted = np.asarray(op.body(**arguments), np.float64)
        finite = np.isfinite(wanted)
        limit = tolerance.allowed(wanted, dtypes.float32, 1, 2.0, name)
        assert finite[:32].all() or finite[32:].all(), name
        np.testing.assert_array_equal(np.isfinite(y[number]), finite, name)
        assert (np.abs(y[number] - wanted)[finite] <= limit[finite]).all(), (name, y[number][:3], wanted[:3])


def test_settings_choose_the_formula() -> None:
    assert "pnn_tanh_f32" in compose.op_functions({"gelu": {"approximate": "tanh"}})
    assert "pnn_erf_f32" in compose.op_functions(("gelu",))
    with pytest.raises(SettingError, match="gelu has no setting 'exact'; it has approximate"):
        compose.op_functions({"gelu": {"exact": True}})
    with pytest.raises(SettingError, match="softmax is no function of one element"):
        compose.op_functions(("softmax",))
    with pytest.raises(ArgumentError, match="nothing_like_it"):
        compose.op_functions(("nothing_like_it",))
    with pytest.raises(SettingError, match=r"no header 'conv\.c' for own kernels; there are math\.h, row\.h"):
        compose.header("conv.c")
    assert compose.header("row.h").startswith("/* Reductions over a work-group")
