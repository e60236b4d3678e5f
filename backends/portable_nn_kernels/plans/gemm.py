"""Plans for matmul and linear, and `gemm_launches`, with which other plans multiply matrices (convolution, weight gradients)."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass, replace
from functools import lru_cache
from importlib import resources
from typing import Any

from portable_nn.core.call import Call
from portable_nn.core.dtypes import FLOATS, TAGS, DType, accumulator, int32, is_integer, kind, uint32
from portable_nn.core.errors import NoKernel
from portable_nn.core.spec import Spec, broadcast_strides
from portable_nn_kernels.launch import Arg, Const, Define, In, Launch, Out, Plan, Profile, Ref, Scratch

from . import plans


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
def _tuning() -> dict[str, Any]:
    return tomllib.loads((resources.files("portable_nn_kernels") / "tuning" / "gemm.toml").read_text(encoding="utf-8"))


def _compute(dtype: DType) -> DType:
    """Return the dtype of ACC(tag) in kernel text."""
    if is_integer(dtype) and dtype.itemsize < 4:
        return int32 if dtype.kind == "i" else uint32
    return int32 if dtype.kind == "b" else accumulator(dtype)


def _i64(*values: int) -> tuple[Const, ...]:
    return tuple(Const("i64", value) for value in values)


def _up(a: int, b: int) -> int:
    return -(-a // b)


def gemm_launches(
    profile: Profile, a: Matrix, b: Matrix, c: Matrix, *, m: int, n: int, k: int, outer: int = 1, inner: int = 1,
    bias: Matrix | None = None, epilogue: str = "", scratch: int = 0,
) -> Gemm:  # fmt: skip
    """Return the launches that compute ``C = epilogue(A B + bias)``.

    Parameters
    ----------
    profile : Profile
    a, b, c : Matrix
        (m, k), (k, n) and (m, n), with any strides; 0 and negative ones too for `a` and `b`.
    m, n, k : int
        Any may be 0; with k = 0 the product is zero.
    outer, inner : int
        Batch sizes; batch (o, i) starts ``o * outer + i * inner`` elements further in each matrix.
    bias : Matrix, optional
        Read at ``i * row + j * col``, the same for every batch: row 0 for a bias per column.
    epilogue : str
        A scalar C expression of `v` in the compute type, such as ``"v > 0 ? v : 0"``.
    scratch : int
        Number of the first free scratch array of the plan.
    """
    if 0 in (m, n, outer, inner):
        return Gemm(())
    kinds = {kind(a.dtype), kind(b.dtype), kind(c.dtype)}
    if not kinds <= {kind(c.dtype)} and not (kind(c.dtype) == "complex" and kinds == {"float", "complex"}):
        raise NoKernel(f"gemm: no kernel multiplies {a.dtype.name} by {b.dtype.name} into {c.dtype.name}")
    problem = Problem(a, b, c, m, n, k, outer, inner, bias, epilogue)
    dtypes = {a.dtype, b.dtype, c.dtype} | ({bias.dtype} if bias else set())
    if profile.shape == "cpu" and dtypes <= set(FLOATS) and len({_compute(dtype) for dtype in dtypes}) == 1:
        return _cpu(profile, problem, scratch)
    return _tiled(profile, problem, scratch)


def _args(p: Problem, *, blocks_m: int, blocks_n: int, k_part: int, c_part: int) -> tuple[Arg, ...]:
    """Return the arguments every GEMM kernel takes, in the order of GEMM_ARGS in c/gemm.h."""
    a, b, c, bias = p.a, p.b, p.c, p.bias
    return (
        a.ref, b.ref, bias.ref if bias else c.ref, c.ref,
        *_i64(p.m, p.n, p.k, a.row, a.col, b.row, b.col, c.row, c.col, p.inner),
        *_i64(a.outer, a.inner, b.outer, b.inner, c.outer, c.inner, a.start, b.start, c.start),
        Const("i32", 1 if bias else 0), *_i64(bias.row if bias else 0, bias.col if bias else 0),
        *_i64(blocks_m, blocks_n, k_part, c_part),
    )  # fmt: skip


def _tags(p: Problem, *names: str) -> tuple[tuple[str, Define], ...]:
    """Return the defines that name storage types, with the conversions C does not do by itself (to complex)."""
    c = TAGS[p.c.dtype]
    defines: list[tuple[str, Define]] = [("TC", c)]
    for name, x in (("A", p.a), ("B", p.b), ("BIAS", p.bias)):
        if x is None or (names and name not in names) or (name == "BIAS" and x.dtype == p.c.dtype):
            continue
        defines.append((f"T{name}", TAGS[x.dtype]))
        if kind(p.c.dtype) == "complex" and x.dtype != p.c.dtype:
            loaded = f"LOAD({TAGS[x.dtype]}, p, i)"
            defines.append((f"LOAD_{name}(p, i)", f"pnn_{c}_of_{TAGS[_compute(x.dtype)]}({loaded})"))
    if p.epilogue:
        defines.append(("EPILOGUE(v)", f"({p.epilogue})"))
    return tuple(defines)


def _split(p: Problem, parts: int, scratch: int) -> tuple[Problem, Spec]:
    """Return the problem whose C is the partial sums in scratch, (part, batch, m, n)."""
    dtype = _compute(p.c.dtype)
    c = Matrix(Scratch(scratch), dtype, p.n, 1, p.inner * p.m * p.n, p.m * p.n)
    return replace(p, c=c, bias=None, epilogue=""), Spec((parts, p.batch, p.m, p.n), dtype)


def _split_sum(profile: Profile, p: Problem, parts: int, partial: Ref) -> Launch:
    size, chunk = (256, 1) if profile.shape == "gpu" else (1, 1024)
    bias = p.bias
    args: tuple[Arg, ...] = (
        partial, bias.ref if bias else p.c.ref, p.c.ref,
        *_i64(parts, p.batch, p.m, p.n, p.c.row, p.c.col, p.inner, p.c.outer, p.c.inner, p.c.start),
        Const("i32", 1 if bias else 0), *_i64(bias.row if bias else 0, bias.col if bias else 0, chunk),
    )  # fmt: skip
    groups = _up(p.batch * p.m * p.n, size * chunk)
    return Launch("pnn_gemm_split_sum", "gemm_split.c", (groups,), (size,), args, (*_tags(p, "BIAS"), ("SIZE", size)))


def _tiled(profile: Profile, p: Problem, scratch: int) -> Gemm:
    compute = _compute(p.c.dtype)
    for tile in _tuning()["gpu"]:
        tm, tn, tk, rm, rn = (tile[key] for key in ("tm", "tn", "tk", "rm", "rn"))
        fits = (tm + tn + 2) * tk * compute.itemsize <= profile.local_bytes and compute.itemsize * rm * rn <= 256
        enough = _up(p.m, tm) * _up(p.n, tn) * p.batch >= profile.units
        if fits and (tile["least"] == 0 or (min(p.m, p.n) >= tile["least"] and enough)):
            break
    items = (tm // rm) * (tn // rn)
    blocks_m, blocks_n = _up(p.m, tm), _up(p.n, tn)
    groups = blocks_m * blocks_n * p.batch
    parts = max(1, min(64, 2 * profile.units // groups, p.k // 256)) if profile.shape == "gpu" else 1
    k_part = _up(_up(p.k, parts), tk) * tk
    parts = max(1, _up(p.k, k_part)) if p.k else 1
    inside, specs = _split(p, parts, scratch) if parts > 1 else (p, None)
    defines = (*_tags(inside), ("TM", tm), ("TN", tn), ("TK", tk), ("RM", rm), ("RN", rn))
    args = _args(inside, blocks_m=blocks_m, blocks_n=blocks_n, k_part=k_part, c_part=p.batch * p.m * p.n)
    launch = Launch("pnn_gemm_tiled", "gemm.c", (groups, parts), (items, 1), args, defines)
    if specs is None:
        return Gemm((launch,))
    return Gemm((launch, _split_sum(profile, p, parts, Scratch(scratch))), (specs,))


def _cpu(profile: Profile, p: Problem, scratch: int) -> Gemm:
    tuning = _tuning()["cpu"]
    choice = tuning["choice"]
    tiles = tuning[str(max(4, min(16, profile.vector)))]
    compute = _compute(p.c.dtype)
    lanes = max(4, min(16, profile.vector)) * 4 // compute.itemsize
    along_k = (p.a.col == 1 or p.k == 1) and (p.b.row == 1 or p.k == 1)
    if p.a.row == 1 and p.b.col != 1 and not along_k:  # then the columns of A' are adjacent: no packing
        p = p.swapped()
    if p.n == 1:
        p = replace(p, b=replace(p.b, col=1))
    dots = along_k and p.k >= lanes and (p.m < choice["pack_dots_rows"] or p.n <= lanes)
    b_bytes, row_bytes = p.n * p.k * p.b.dtype.itemsize, p.b.row * p.b.dtype.itemsize
    large = b_bytes >= choice["pack_direct_bytes"] or (row_bytes % 4096 == 0 and p.k >= 256)
    direct = p.b.col == 1 and not dots and not (large and p.m >= choice["pack_direct_rows"])
    if p.m <= 4:  # a vector as long as it helps: B is read once, so what counts is long runs of memory
        mr = (1, 2, 4, 4)[p.m - 1]
        nv = min(tiles["thin"]["sums"] // mr, 1 << (_up(p.n, lanes) - 1).bit_length())
    else:
        wide = tiles["narrow"] if p.n <= lanes else tiles["wide"]
        mr, nv = wide["mr"], wide["nv"]
    dm, dn = min(tiles["dots"]["dm"], mr), tiles["dots"]["dn"]
    nr = nv * lanes
    row_tiles, blocks_n = (_up(p.m, dm), _up(p.n, dn)) if dots else (_up(p.m, mr), _up(p.n, nr))

    # Split K to occupy every core, or to keep a part of B in the second-level cache for all of a few tiles.
    parts = 4 * profile.units // (row_tiles * blocks_n * p.batch)
    if p.m * p.n <= choice["split_sums"] and not dots:
        parts = max(parts, b_bytes // choice["split_bytes"])
    parts = max(1, min(16, parts, p.k // 1024))
    k_part = _up(p.k, parts)
    inside, specs = p, []
    if parts > 1:
        inside, partial = _split(p, parts, scratch)
        specs.append(partial)
    launches = []
    shape: tuple[tuple[str, Define], ...] = (
        ("MR", mr), ("NV", nv), ("VW", lanes), ("DM", dm), ("DN", dn),
        ("WHOLE_STORE", int(inside.c.dtype == compute and not inside.epilogue)),
    )  # fmt: skip
    k_block = choice["k_block"] if inside.c.dtype == compute and k_part > choice["k_block"] else max(k_part, 1)
    b, b_panel, b_end = inside.b, nr, max(0, (p.k - 1) * inside.b.row) + p.n
    if not dots and not direct and p.k:
        number = scratch + len(specs)
        shared = b.outer == 0 and b.inner == 0
        batch = 1 if shared else p.batch
        k_step = min(p.k, max(64, _up(p.k * blocks_n * batch, 8 * profile.units)))
        args: tuple[Arg, ...] = (
            b.ref, Scratch(number), *_i64(p.n, p.k, b.row, b.col, 1 if shared else p.inner),
            *_i64(b.outer, b.inner, b.start, blocks_n, _up(p.k, k_step), k_step),
        )  # fmt: skip
        groups = batch * blocks_n * _up(p.k, k_step)
        launches.append(Launch("pnn_gemm_pack", "gemm_cpu.c", (groups,), (1,), args, (*_tags(inside), *shape)))
        specs.append(Spec((batch, blocks_n, p.k, nr), compute))
        size = 0 if shared else blocks_n * p.k * nr
        b = Matrix(Scratch(number), compute, nr, 1, p.inner * size, size)
        b_panel, b_end = p.k * nr, blocks_n * p.k * nr
        inside = replace(inside, b=b)

    # Enough work-items to balance the cores, few enough that each reuses its panel of B for many rows.
    work = 2 * p.m * p.n * p.k * p.batch
    wanted = 4 * profile.units if work > 4_000_000 else profile.units if work > 100_000 else 1
    blocks_m = max(1, min(row_tiles, _up(wanted, blocks_n * p.batch * parts)))
    per_item = _up(row_tiles, blocks_m)
    blocks_m = _up(row_tiles, per_item)
    common = _args(inside, blocks_m=blocks_m, blocks_n=blocks_n, k_part=k_part, c_part=p.batch * p.m * p.n)
    kernel, extra = (
        ("pnn_gemm_dots", _i64(per_item)) if dots else ("pnn_gemm_panels", _i64(b_panel, b_end, per_item, k_block))
    )
    groups = blocks_m * blocks_n * p.batch
    launches.append(Launch(kernel, "gemm_cpu.c", (groups, parts), (1, 1), (*common, *extra), (*_tags(inside), *shape)))
    if parts > 1:
        launches.append(_split_sum(profile, p, parts, Scratch(scratch)))
    return Gemm(tuple(launches), tuple(specs))


def _batched(profile: Profile, a: Matrix, b: Matrix, c: Matrix, m: int, n: int, k: int, bias: Matrix | None,
             sizes: tuple[int, ...], strides: tuple[tuple[int, ...], ...]) -> Plan:  # fmt: skip
    """Plan a batch of any rank; `strides` are those of a, b and c over `sizes`. Axes are merged where that is exact."""
    axes: list[tuple[int, int, int, int]] = []
    for size, sa, sb, sc in zip(sizes, *strides, strict=True):
        if size == 1:
            continue
        if axes and axes[-1][1:] == (sa * size, sb * size, sc * size):
            axes[-1] = (axes[-1][0] * size, sa, sb, sc)
        else:
            axes.append((size, sa, sb, sc))
    # A batch axis along which B stays the same, and A and C go on where their last row ended, is more rows.
    while axes and axes[-1][2] == 0 and (bias is None or bias.row == 0):
        size, sa, _, sc = axes[-1]
        if m == 1:
            a, c = replace(a, row=sa), replace(c, row=sc)
        elif (sa, sc) != (m * a.row, m * c.row):
            break
        m *= size
        axes.pop()
    starts = [(0, 0, 0)]
    while len(axes) > 2:
        size, sa, sb, sc = axes.pop(0)
        starts = [(x + i * sa, y + i * sb, z + i * sc) for x, y, z in starts for i in range(size)]
    (outer, ao, bo, co), (inner, ai, bi, ci) = [(1, 0, 0, 0)] * (2 - len(axes)) + axes
    launches: list[Launch] = []
    scratch: tuple[Spec, ...] = ()
    for x, y, z in starts:  # in order on one queue, so that the same scratch serves all
        done = gemm_launches(
            profile, replace(a, outer=ao, inner=ai, start=x), replace(b, outer=bo, inner=bi, start=y),
            replace(c, outer=co, inner=ci, start=z), m=m, n=n, k=k, outer=outer, inner=inner, bias=bias,
        )  # fmt: skip
        launches += done.launches
        scratch = done.scratch
    return Plan(tuple(launches), scratch)


@plans("matmul")
def matmul(call: Call, profile: Profile) -> Plan:
    """Plan ``a @ b`` with the array API's broadcasting; operands of one axis are a row and a column."""
    a, b, c = call.spec(0), call.spec(1), call.outputs[0]
    k = a.shape[-1]
    if 0 in c.shape:
        return Plan(())
    batch = c.shape[: c.ndim - (a.ndim > 1) - (b.ndim > 1)]
    sa, sb, sc = list(a.strides), list(b.strides), list(c.strides)
    m, a_row = (1, 0) if a.ndim == 1 else (a.shape[-2], sa[-2])
    n, b_row, b_col = (1, sb[-1], 1) if b.ndim == 1 else (b.shape[-1], sb[-2], sb[-1])
    c_col = sc.pop() if b.ndim > 1 else 1
    c_row = sc.pop() if a.ndim > 1 else 0
    strides = (
        broadcast_strides(Spec(a.shape[:-2], a.dtype, a.strides[:-2]), batch),
        broadcast_strides(Spec(b.shape[:-2], b.dtype, b.strides[:-2]), batch),
        tuple(sc),
    )
    left = Matrix(In(0), a.dtype, a_row, sa[-1])
    right = Matrix(In(1), b.dtype, b_row, b_col)
    return _batched(profile, left, right, Matrix(Out(0), c.dtype, c_row, c_col), m, n, k, None, batch, strides)


@plans("linear")
def linear(call: Call, profile: Profile) -> Plan:
    """Plan ``x @ weight.T + bias``; every leading axis of x is rows."""
    x, weight, y = call.spec(0), call.spec(1), call.outputs[0]
    if 0 in y.shape:
        return Plan(())
    bias = None
    if len(call.inputs) > 2 and call.inputs[2] is not None:
        given = call.spec(2)
        bias = Matrix(In(2), given.dtype, 0, given.strides[0])
    left = Matrix(In(0), x.dtype, 0, x.strides[-1])
    right = Matrix(In(1), weight.dtype, weight.strides[1], weight.strides[0])
    out = Matrix(Out(0), y.dtype, 0, y.strides[-1])
    n, k = weight.shape
    rows = x.shape[:-1]
    strides = (x.strides[:-1], (0,) * len(rows), y.strides[:-1])
    return _batched(profile, left, right, out, 1, n, k, bias, rows, strides)
