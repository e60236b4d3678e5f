"""The width of indices. Addresses are 64 bits always; counts that a kernel takes apart by division are 32 bits where they fit.

A division of 64-bit integers costs a GPU several of 32 bits, so kernels that split one number into coordinates do it in the
type a plan chooses: u32 below 2^31 of whatever is counted, i64 from there on.
"""

from __future__ import annotations

NARROW = 2**31  # tests lower it, to run the 64-bit kernels on small arrays


def fits(count: int) -> bool:
    """Tell whether numbers up to `count` are taken apart in 32 bits."""
    return count < NARROW


def index_tag(count: int) -> str:
    """Return the tag of the type in which numbers up to `count` are taken apart."""
    return "u32" if fits(count) else "i64"
