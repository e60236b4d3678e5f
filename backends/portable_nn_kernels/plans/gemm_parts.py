"""What the GEMM plans share: the problem, the kernels' common arguments and defines, and the sum of a split K."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass, replace
from functools import lru_cache
from importlib import resources
from typing import Any

from portable_nn.core.dtypes import TAGS, DType, accumulator, int32, is_integer, kind, uint32
from portable_nn.core.spec import Spec
from portable_nn_kernels.launch import Arg, Const, Define, Launch, Profile, Ref, Scratch, Term

# Activations at the end of a product: the expression, and for CPUs the same on whole vectors of OpenCL.
EPILOGUES = {
    "relu": "maximum(x, 0)",
    "sigmoid": "1 / (1 + exp(-x))",
    "tanh": "tanh(x)",
    "silu": "x / (1 + exp(-x))",
    "gelu": "0.5 * x * (1 + erf(x * 0.7071067811865476))",
}
VECTOR_EPILOGUES = {
    EPILOGUES["relu"]: "((v) < (VEC)0 ? (VEC)0 : (v))",
    EPILOGUES["sigmoid"]: "((VEC)1 / ((VEC)1 + exp(-(v))))",
    EPILOGUES["tanh"]: "tanh(v)",
    EPILOGUES["silu"]: "((v) / ((VEC)1 + exp(-(v))))",
    EPILOGUES["gelu"]: "((REAL)0.5 * (v) * ((VEC)1 + erf((v) * (REAL)0.7071067811865476)))",
}


@dataclass(frozen=True, slots=True)
class Matrix:
    """A matrix, or a batch of them, in an array: strides in elements from `start` on. `outer` and `inner` are batch strides."""

    ref: Ref
    dtype: DType
    row: int
    col: int
    outer: int = 0
    inner: int = 0
    start: int = 0

    def transposed(self) -> Matrix:
        """Return the transpose."""
        return replace(self, row=self.col, col=self.row)


@dataclass(frozen=True, slots=True)
class Gemm:
    """What `gemm_launches` returns; `scratch[0]` is number `scratch` of the plan."""

    launches: tuple[Launch, ...]
    scratch: tuple[Spec, ...] = ()


@dataclass(frozen=True, slots=True)
class Problem:
    """C[i, j] = sum over k of A[i, k] B[k, j] + bias[i, j] for `outer` x `inner` batches."""

    a: Matrix
    b: Matrix
    c: Matrix
    m: int
    n: int
    k: int
    outer: int
    inner: int
    bias: Matrix | None
    epilogue: str

    @property
    def batch(self) -> int:
        """Number of matrices."""
        return self.outer * self.inner

    def swapped(self) -> Problem:
        """Return the transposed problem, C' = B' A'."""
        return replace(
            self, a=self.b.transposed(), b=self.a.transposed(), c=self.c.transposed(), m=self.n, n=self.m,
            bias=self.bias.transposed() if self.bias else None,
        )  # fmt: skip


@lru_cache(maxsize=1)
def tuning() -> dict[str, Any]:
    """Return the tile sizes and rules of tuning/gemm.toml."""
    return tomllib.loads((resources.files("portable_nn_kernels") / "tuning" / "gemm.toml").read_text(encoding="utf-8"))


def compute_dtype(dtype: DType) -> DType:
    """Return the dtype of ACC(tag) in kernel text."""
    if is_integer(dtype) and dtype.itemsize < 4:
        return int32 if dtype.kind == "i" else uint32
    return int32 if dtype.kind == "b" else accumulator(dtype)


def i64(*values: int) -> tuple[Const, ...]:
    """Return kernel arguments of type i64."""
    return tuple(Const("i64", value) for value in values)


def up(a: int, b: int) -> int:
    """Return a / b rounded up."""
    return -(-a // b)


def common_args(p: Problem, *, blocks_m: int, blocks_n: int, k_part: int, c_part: int) -> tuple[Arg, ...]:
    """Return the arguments every GEMM kernel takes, in the order of GEMM_ARGS in c/gemm.h."""
    a, b, c, bias = p.a, p.b, p.c, p.bias
    return (
        a.ref, b.ref, bias.ref if bias else c.ref, c.ref,
        *i64(p.m, p.n, p.k, a.row, a.col, b.row, b.col, c.row, c.col, p.inner),
        *i64(a.outer, a.inner, b.outer, b.inner, c.outer, c.inner, a.start, b.start, c.start),
        Const("i32", 1 if bias else 0), *i64(bias.row if bias else 0, bias.col if bias else 0),
        *i64(blocks_m, blocks_n, k_part, c_part),
    )  # fmt: skip


def tags(p: Problem, *names: str) -> tuple[tuple[str, Define], ...]:
    """Return the defines that name storage types, with the conversions C does not do by itself (to complex)."""
    c = TAGS[p.c.dtype]
    defines: list[tuple[str, Define]] = [("TC", c)]
    for name, x in (("A", p.a), ("B", p.b), ("BIAS", p.bias)):
        if x is None or (names and name not in names) or (name == "BIAS" and x.dtype == p.c.dtype):
            continue
        defines.append((f"T{name}", TAGS[x.dtype]))
        if kind(p.c.dtype) == "complex" and x.dtype != p.c.dtype:
            loaded = f"LOAD({TAGS[x.dtype]}, p, i)"
            defines.append((f"LOAD_{name}(p, i)", f"pnn_{c}_of_{TAGS[compute_dtype(x.dtype)]}({loaded})"))
    if p.epilogue:
        tag = TAGS[compute_dtype(p.c.dtype)]
        defines.append(("EPILOGUE(v_x)", Term(tag, p.epilogue)))
    return tuple(defines)


def split(p: Problem, parts: int, scratch: int) -> tuple[Problem, Spec]:
    """Return the problem whose C is the partial sums in scratch, (part, batch, m, n)."""
    dtype = compute_dtype(p.c.dtype)
    c = Matrix(Scratch(scratch), dtype, p.n, 1, p.inner * p.m * p.n, p.m * p.n)
    return replace(p, c=c, bias=None, epilogue=""), Spec((parts, p.batch, p.m, p.n), dtype)


def split_sum(profile: Profile, p: Problem, parts: int, partial: Ref) -> Launch:
    """Return the second launch of a split K: the parts added in order, then bias and epilogue."""
    size, chunk = (256, 1) if profile.shape == "gpu" else (1, 1024)
    bias = p.bias
    args: tuple[Arg, ...] = (
        partial, bias.ref if bias else p.c.ref, p.c.ref,
        *i64(parts, p.batch, p.m, p.n, p.c.row, p.c.col, p.inner, p.c.outer, p.c.inner, p.c.start),
        Const("i32", 1 if bias else 0), *i64(bias.row if bias else 0, bias.col if bias else 0, chunk),
    )  # fmt: skip
    groups = up(p.batch * p.m * p.n, size * chunk)
    return Launch("pnn_gemm_split_sum", "gemm_split.c", (groups,), (size,), args, (*tags(p, "BIAS"), ("SIZE", size)))
