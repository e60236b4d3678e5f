"""Calls joined by captures.

Fused: several, elementwise but for the first, planned as one kernel, behind the first's others. Fed: a convolution, what makes an
image that it alone reads, and what alone reads its result.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

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


@dataclass(frozen=True, slots=True, eq=False)
class Feed:
    """How a convolution makes an image where it reads it.

    Parameters
    ----------
    position : int
        Of the image among the convolution's operands. In its place the whole has what is read instead: what was to be normalised, or
        the cotangent.
    kind : str
        What makes it: a batch norm by the batch's statistics and a ReLU, the gradient of such a batch norm, or of both.
    operands : dict of str to int
        Numbers of further operands of the whole: mean, rstd and weight; bias where there is a ReLU; for gradients x (what was
        normalised), and gw and gb (the gradients of weight and bias).
    """

    position: int
    kind: Literal["norm_relu", "norm_grad", "norm_relu_grad"]
    operands: dict[str, int]


@dataclass(frozen=True, slots=True, eq=False)
class Ending:
    """What an input gradient does with its sums before it stores them.

    Parameters
    ----------
    more : int
        Number of an operand of the whole: added.
    gate : int, optional
        Another: the result of a ReLU, whose gradient follows. Where it is not over 0, 0 is stored.
    """

    more: int
    gate: int | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Fed:
    """A convolution that makes images itself, or does more with its result.

    Parameters
    ----------
    op : Op
        The convolution.
    call : Call
        As it was, of images in memory.
    feeds : tuple of Feed
    ending : Ending, optional
    """

    op: Any
    call: Call
    feeds: tuple[Feed, ...] = ()
    ending: Ending | None = None
    view: None = None
    expression: None = None

    @property
    def name(self) -> str:
        """Kinds of what feeds it, its name, and what follows."""
        ending = () if self.ending is None else ("add",) if self.ending.gate is None else ("add", "relu_grad")
        return "+".join((*(feed.kind for feed in self.feeds), self.op.name, *ending))

    @property
    def flops(self) -> Any:
        """What records have: operations of a call."""
        return lambda call: self.op.flops(self.call)
