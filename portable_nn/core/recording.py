"""Whether a step is being recorded, and by whom: what dispatch asks before it runs a call. See `portable_nn.capture`."""

from __future__ import annotations

from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from .backend import Backend
    from .op import Op


class Recorder(Protocol):
    """What writes op calls down instead of running them."""

    @property
    def backend(self) -> Backend:
        """The backend whose arrays stand for the values of the step."""
        ...

    def lift(self, x: Any) -> Any:
        """Return what stands for an array that the step was not given (a constant of it)."""
        ...

    def arguments(self, op: Op, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Return the arguments of a call with every real array lifted, and every setting a plain value."""
        ...

    def refuse(self, what: str) -> Any:
        """Raise: the step asks for a value that is known only when it runs."""
        ...


current: ContextVar[Recorder | None] = ContextVar("portable_nn_recorder", default=None)
