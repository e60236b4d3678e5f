"""Launch and Plan: what a plan says to a device backend, as plain data, the same for OpenCL, CuPy and numba."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from portable_nn.core.spec import Spec

Define = str | int | float


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
    """

    kernel: str
    source: str
    groups: tuple[int, ...]
    size: tuple[int, ...]
    args: tuple[Arg, ...]
    defines: tuple[tuple[str, Define], ...] = ()


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
