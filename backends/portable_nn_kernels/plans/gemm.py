"""Plans for matmul and linear, and `gemm_launches`, with which other plans multiply matrices (convolution, weight gradients)."""

from __future__ import annotations

from dataclasses import replace

from portable_nn.core.call import Call
from portable_nn.core.dtypes import FLOATS, kind
from portable_nn.core.errors import NoKernel
from portable_nn.core.spec import Spec, broadcast_strides
from portable_nn_kernels.launch import In, Launch, Out, Plan, Profile, Scratch

from . import plans
from .gemm_cpu import cpu_gemm
from .gemm_mma import mma_gemm, serves
from .gemm_parts import EPILOGUES, Problem, common_args, compute_dtype, split, split_sum, tags, up
from .gemm_parts import Gemm as Gemm
from .gemm_parts import Matrix as Matrix


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
        An expression of x, such as ``"maximum(x, 0)"``, as elementwise ops are written; no assignments.
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
    if profile.shape == "cpu" and dtypes <= set(FLOATS) and len({compute_dtype(dtype) for dtype in dtypes}) == 1:
        return cpu_gemm(profile, problem, scratch)
    if serves(profile, problem):
        return mma_gemm(profile, problem, scratch)
    return _tiled(profile, problem, scratch)


def _tiled(profile: Profile, p: Problem, scratch: int) -> Gemm:
    compute = compute_dtype(p.c.dtype)
    for tm, tn, tk, rm, rn, least in profile.size("gpu.gemm.tiles"):
        fits = (tm + tn + 2) * tk * compute.itemsize <= profile.local_bytes and compute.itemsize * rm * rn <= 256
        enough = up(p.m, tm) * up(p.n, tn) * p.batch >= profile.units
        if fits and (least == 0 or (min(p.m, p.n) >= least and enough)):
            break
    items = (tm // rm) * (tn // rn)
    blocks_m, blocks_n = up(p.m, tm), up(p.n, tn)
    groups = blocks_m * blocks_n * p.batch
    parts = max(1, min(64, profile.size("gpu.gemm.fill") * profile.units // groups, p.k // profile.size("gpu.gemm.part"))) if profile.shape == "gpu" else 1
    k_part = up(up(p.k, parts), tk) * tk
    parts = max(1, up(p.k, k_part)) if p.k else 1
    inside, specs = split(p, parts, scratch) if parts > 1 else (p, None)
    defines = (*tags(inside), ("TM", tm), ("TN", tn), ("TK", tk), ("RM", rm), ("RN", rn))
    args = common_args(inside, blocks_m=blocks_m, blocks_n=blocks_n, k_part=k_part, c_part=p.batch * p.m * p.n)
    launch = Launch("pnn_gemm_tiled", "gemm.c", (groups, parts), (items, 1), args, defines)
    if specs is None:
        return Gemm((launch,))
    return Gemm((launch, split_sum(profile, p, parts, Scratch(scratch))), (specs,))


def _batched(profile: Profile, a: Matrix, b: Matrix, c: Matrix, m: int, n: int, k: int, bias: Matrix | None,
             sizes: tuple[int, ...], strides: tuple[tuple[int, ...], ...], epilogue: str = "") -> Plan:  # fmt: skip
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
            replace(c, outer=co, inner=ci, start=z), m=m, n=n, k=k, outer=outer, inner=inner, bias=bias, epilogue=epilogue,
        )  # fmt: skip
        launches += done.launches if len(starts) == 1 else [replace(launch, packs=False) for launch in done.launches]
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


@plans("linear", "linear_act")
def linear(call: Call, profile: Profile) -> Plan:
    """Plan ``x @ weight.T + bias``, and an activation as its epilogue; every leading axis of x is rows."""
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
    epilogue = EPILOGUES[call.settings["activation"]] if call.op == "linear_act" else ""
    return _batched(profile, left, right, out, 1, n, k, bias, rows, strides, epilogue)
