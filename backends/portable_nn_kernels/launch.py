"""Launch and Plan: what a plan says to a device backend, as plain data, the same for OpenCL, CuPy and numba."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from portable_nn.core.spec import Spec

from .sizes import default


@dataclass(frozen=True, slots=True)
class Term:
    """An expression in the language of `portable_nn.core.expression`, and the type it is computed in.

    In a mapping, `name` is what the terms after it call it; a value that is stored has none. As the value of a define it
    is the body of a macro, in C over the variables ``v_<name>``: ``("MAP_TERM(v_x, v_t, j)", Term("f32", "x * t"))``.
    """

    tag: str
    text: str
    name: str = ""


Define = str | int | float | Term


@dataclass(frozen=True, slots=True)
class Ref:
    """An array of the call: `In(0)` is the first operand, `Out(0)` the first output, `Scratch(0)` the first scratch."""

    role: Literal["in", "out", "scratch"]
    index: int


def In(index: int) -> Ref:
    """Return a reference to an operand, by its position among the op's operands (lists flattened)."""
    return Ref("in", index)


def Out(index: int) -> Ref:
    """Return a reference to an output; residuals follow the outputs."""
    return Ref("out", index)


def Scratch(index: int) -> Ref:
    """Return a reference to a scratch array of the plan."""
    return Ref("scratch", index)


@dataclass(frozen=True, slots=True)
class Const:
    """A scalar passed by value and known to the plan. `tag`: i32, i64, u32, f32 or f64."""

    tag: str
    value: int | float


@dataclass(frozen=True, slots=True)
class Value:
    """A Python scalar operand passed by value at each call. `tag`: i32, i64, u32, u64, f32 or f64."""

    tag: str
    index: int


@dataclass(frozen=True, slots=True)
class ErrorWord:
    """The queue's device error word (three int64: op code, index, value); see `c/error.h`."""

    code: int


Arg = Ref | Const | Value | ErrorWord


@dataclass(frozen=True, slots=True)
class Mapping:
    """What a rendered kernel does for each element, without a language: backends render it to C or to Python.

    Parameters
    ----------
    inputs, outputs : tuple of (name, storage tag)
        The arrays.
    scalars : tuple of (name, tag)
        The scalars passed by value.
    steps, values : tuple of Term
        What is computed from the loaded inputs, scalars and indices (``at_0``, ...); one value per output.
    ndim : int
        Number of axes that are walked.
    kinds : tuple of "0", "1" or "s"
        Each array's stride along the last axis: none, one, or an argument.
    form : "flat", "rows", "grid" or "elements"
        How indices are taken apart: see `plans/mapping.py`.
    index : "u32" or "i64"
        The type in which elements are taken apart.
    group : int
        Work-items of a group.
    shifted : tuple of str
        Arrays that start some elements after their first.
    """

    inputs: tuple[tuple[str, str], ...]
    outputs: tuple[tuple[str, str], ...]
    scalars: tuple[tuple[str, str], ...]
    steps: tuple[Term, ...]
    values: tuple[Term, ...]
    ndim: int
    kinds: tuple[str, ...]
    form: str
    index: str
    group: int
    shifted: tuple[str, ...] = ()

    @property
    def indices(self) -> tuple[str, ...]:
        """Names of the indices."""
        return tuple(f"at_{axis}" for axis in range(self.ndim))


@dataclass(frozen=True, slots=True)
class Launch:
    """One kernel launch.

    Parameters
    ----------
    kernel : str
        Name of the kernel function, which starts with ``pnn_``.
    source : str
        File of `c/` that holds it, or kernel text itself (rendered elementwise kernels: it contains a newline).
    groups : tuple of int
        Number of work-groups (thread blocks) per dimension, 1 to 3 of them.
    size : tuple of int
        Work-items (threads) per group, as many numbers as `groups`.
    args : tuple of Arg
        In the kernel's order. An array becomes two arguments: base pointer and offset in elements (int64).
    defines : tuple of (name, value)
        Compile-time constants, sorted by the plan's own order; they name the program in the cache.
    mapping : Mapping, optional
        What the text in `source` was rendered from, for backends of another language.
    recipe : object, optional
        What a mapping was made of (`plans.mapping.Recipe`), where more may be computed behind it.
    packs : bool
        All it does is to write one operand in another order into scratch that no other launch of the plan writes. A replay does it
        once for an operand that stays the same.
    """

    kernel: str
    source: str
    groups: tuple[int, ...]
    size: tuple[int, ...]
    args: tuple[Arg, ...]
    defines: tuple[tuple[str, Define], ...] = ()
    mapping: Mapping | None = None
    recipe: Any = field(default=None, compare=False, repr=False)
    packs: bool = False


@dataclass(frozen=True, slots=True)
class Plan:
    """Everything a device backend must do for one call: launches in order, and scratch memory they share."""

    launches: tuple[Launch, ...]
    scratch: tuple[Spec, ...] = ()


@dataclass(frozen=True, slots=True)
class Profile:
    """What plans know of a device.

    Parameters
    ----------
    shape : "cpu" or "gpu"
        Which of two kernel shapes fits: register tiles and long vectors, or work-group tiles in local memory.
    vendor : str
        Lower case: intel, amd, nvidia, pocl, ...
    name : str
        The device's own name; keys tuned sizes.
    units : int
        Compute units.
    group_limit : int
        Largest work-group the library uses (never above 256 x 4 even where the runtime allows more).
    local_bytes : int
        Local (shared) memory a work-group may use; capped at what real GPUs have.
    float64, float16 : bool
        Arithmetic on that type. float16 *storage* works everywhere.
    vector : int
        float32 lanes of the widest useful vector (CPU-shaped kernels).
    warp : int
        Threads that run in lockstep, 0 where unknown. For overrides only: shared kernel text assumes no warp size.
    capability : int
        NVIDIA's compute capability times ten (80: sm_80) where text is compiled as CUDA, else 0.
    prefetch : bool
        Whether kernel text of CPUs may ask for cache lines ahead: the compiler knows ``__builtin_prefetch``, and it is worth it there.
    float32_matmul : "highest" or "high"
        What `set_float32_matmul_precision` said.
    kept : set of int
        Operands of the call in hand that are the same at every call: what a launch with `packs` makes of them is made once.
    sizes : mapping
        Sizes that differ from what tuning/sizes.toml declares, by name; plans ask `size`.
    """

    shape: Literal["cpu", "gpu"]
    vendor: str = "unknown"
    name: str = "unknown"
    units: int = 1
    group_limit: int = 256
    local_bytes: int = 32768
    float64: bool = True
    float16: bool = False
    vector: int = 16
    warp: int = 0
    capability: int = 0
    prefetch: bool = False
    float32_matmul: str = "highest"
    kept: frozenset[int] = frozenset()
    sizes: dict[str, Any] = field(default_factory=dict, hash=False)

    def size(self, name: str) -> Any:
        """Return a tuned size: see `sizes.py`."""
        found = self.sizes.get(name)
        return default(name) if found is None else found


def slots_of(launch: Launch, n_in: int, n_out: int) -> list[int | None]:
    """Return, for each argument, its place in the list (operands, outputs, scratch); None for constants."""
    first = {"in": 0, "out": n_in, "scratch": n_in + n_out}
    slots: list[int | None] = []
    for arg in launch.args:
        if isinstance(arg, Ref):
            slots.append(first[arg.role] + arg.index)
        else:
            slots.append(arg.index if isinstance(arg, Value) else None)
    return slots
