"""Fused: several calls as one, elementwise but for the first. Made by captures; planned as one kernel, behind the first's others."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from .call import Call


@dataclass(frozen=True, slots=True, eq=False)
class Member:
    """One of the calls.

    Parameters
    ----------
    op : Op
        Elementwise.
    call : Call
    sources : tuple
        Where each operand comes from: the number of an operand of the whole (int), (member, output) of an earlier member, or
        None for one left out.
    """

    op: Any
    call: Call
    sources: tuple[int | tuple[int, int] | None, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Fused:
    """Elementwise calls of one shape whose values pass from one to the next without being stored.

    Parameters
    ----------
    members : tuple of Member
        In order. The first may be a call of another kind, if the backend can compute more where it stores its first output.
    stored : tuple of (member, output)
        Which values are outputs of the whole.
    """

    members: tuple[Member, ...]
    stored: tuple[tuple[int, int], ...]
    view: None = None

    @property
    def expression(self) -> bool | None:
        """True if all of it is elementwise, None otherwise, as records say it."""
        return None if self.members[0].op.expression is None else True

    @property
    def name(self) -> str:
        """Names of the ops, joined."""
        return "+".join(m.op.name for m in self.members)

    @property
    def flops(self) -> Any:
        """What records have: operations of a call."""
        return lambda call: sum(m.op.flops(m.call) if m.op.flops else m.call.outputs[0].size for m in self.members)
