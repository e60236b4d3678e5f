"""What one call of a model carries along: training or not, the random key, and the state that layers learn on the way."""

from __future__ import annotations

from contextvars import ContextVar
from typing import Any

from .. import ops
from ..core.array import Array
from ..core.errors import ArgumentError
from .module import Module, named_modules


class Context:
    """The mode of one `apply`; layers reach it through `current`."""

    __slots__ = ("_draws", "_key", "_paths", "model", "state", "train")

    def __init__(self, model: Module, train: bool, key: Any) -> None:
        self.train = train
        self.state: dict[str, Array] = {}
        self.model, self._key = model, key
        self._paths: dict[int, str] | None = None
        self._draws = 0

    def learn(self, module: Module, **values: Array) -> None:
        """Hand out new values of the module's buffers."""
        if self._paths is None:
            self._paths = {id(found): path for path, found in named_modules(self.model)}
        path = self._paths.get(id(module))
        if path is None:
            raise ArgumentError(
                f"{type(module).__name__} is called inside nn.apply but is no part of {type(self.model).__name__}, "
                "so its running statistics have no name; make it an attribute of the model"
            )
        self.state |= {f"{path}.{name}" if path else name: value for name, value in values.items()}

    def fresh_key(self, user: str) -> Array:
        """Return a key of its own for one draw: the key of this `apply`, with the number of draws before folded in."""
        if self._key is None:
            raise ArgumentError(
                f"{user} draws random numbers while training but no key was given; call nn.apply(..., train=True, key=...)"
            )
        self._draws += 1
        return ops.fold_in(self._key, self._draws - 1)


_context: ContextVar[Context | None] = ContextVar("portable_nn_apply", default=None)


def current() -> Context | None:
    """Return the context of the `apply` that is running; None outside, where layers are in evaluation mode."""
    return _context.get()


def apply(model: Module, *args: Any, train: bool = False, key: Any = None, **kwargs: Any) -> tuple[Any, dict[str, Array]]:
    """Call a model in training or evaluation mode.

    Parameters
    ----------
    model : Module
        Called as ``model(*args, **kwargs)``.
    train : bool
        Batch normalisation uses the statistics of the batch, dropout drops.
    key : array, optional
        Four uint32 words from `portable_nn.random_key`; dropout needs one while training. Every draw folds its own
        position into it.

    Returns
    -------
    y : array
        What the model returned.
    state : dict of str to array
        New values of buffers by name, for `with_state`; empty in evaluation mode.
    """
    context = Context(model, train, key)
    token = _context.set(context)
    try:
        return model(*args, **kwargs), context.state
    finally:
        _context.reset(token)
