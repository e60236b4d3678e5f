"""What every compiler here has in common: what it compiles for, what it says of a kernel, and that it may refuse."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Literal, Protocol

from portable_nn_kernels.launch import Profile


@dataclass(frozen=True, slots=True)
class Target:
    """A processor, and the language its compiler is given.

    Parameters
    ----------
    name : str
        As the compiler spells it.
    language : "cuda", "hip" or "opencl"
        HIP is given the CUDA text.
    float64 : bool
        Whether it computes in float64; plans are told, and OpenCL text is compiled without it.
    """

    name: str
    language: Literal["cuda", "hip", "opencl"]
    float64: bool = True

    def __str__(self) -> str:
        return f"{self.name} ({self.language})"


@dataclass(frozen=True, slots=True)
class Resources:
    """What one kernel takes on one target: `figures` by the columns of its vendor.

    All vendors have "spill" (not 0 if registers ran out: bytes per work-item, or a count where the compiler tells no
    bytes), "private" (bytes of memory per work-item, for spills and for arrays) and "local" (bytes per work-group).
    """

    kernel: str
    target: Target
    figures: Mapping[str, int]


class Refused(Exception):
    """The compiler refused the text, or had something to say about it."""


class Vendor(Protocol):
    """A module that drives one vendor's compiler.

    Attributes
    ----------
    NAME, TOOL : str
        Of the vendor, as profiles spell it; of what PORTABLE_NN_TEST_REQUIRE asks for.
    COLUMNS : mapping
        Names of the figures, and which of several is the worst: max or min.
    TARGETS : tuple of Target
    OPTIONS : tuple of str
    LOCAL_BYTES : int
        What a work-group may take.
    """

    NAME: str
    TOOL: str
    COLUMNS: Mapping[str, Callable[..., int]]
    TARGETS: tuple[Target, ...]
    OPTIONS: tuple[str, ...]
    LOCAL_BYTES: int

    def missing(self) -> str: ...  # why it cannot be used; empty if it can

    def version(self) -> str: ...

    def compiled(self, text: str, target: Target, items: Mapping[str, int]) -> list[Resources]: ...  # or raises Refused


def profile(vendor: str, target: Target) -> Profile:
    """Return what plans are told of a target: what adapters read from a GPU of this vendor, of middling size."""
    common = Profile("gpu", name=target.name, units=64, group_limit=256, local_bytes=48 * 1024, float16=True, vector=1)
    return replace(common, vendor=vendor, float64=target.float64)
