"""Module: a frozen record of parameters, buffers, settings and other modules, written as PyTorch users write them.

    class Net(nn.Module):
        def __init__(self) -> None:
            self.conv1 = nn.Conv2d(1, 8, 3)
            self.head = nn.Linear(8 * 36, 10)

        def __call__(self, x: Array) -> Array:
            x = ops.relu(self.conv1(x))
            return self.head(x.reshape(x.shape[0], -1))

Nothing in it changes after construction. Training makes a new record from new parameters (`with_params`), and what
batch normalisation learns on the way comes out of `apply` as `state`. Longer than most files, because naming and
replacing arrays walk the same private structure as the record itself.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from typing import Any, Self

from ..api import asarray
from ..core.array import Array, ArrayOperators
from ..core.backend import Backend
from ..core.errors import ArgumentError, ShapeError

PARAMETER, BUFFER, BRANCH = "parameter", "buffer", "branch"


class _Marked:
    __slots__ = ("kind", "value")

    def __init__(self, kind: str, value: Array) -> None:
        self.kind, self.value = kind, value


def parameter(value: Array) -> Any:
    """Mark an array that training changes, when it is assigned in a module's ``__init__``; it reads as the array."""
    return _Marked(PARAMETER, value)


def buffer(value: Array) -> Any:
    """Mark an array that is saved with the model and has no gradient (running statistics)."""
    return _Marked(BUFFER, value)


def _is_array(value: Any) -> bool:
    return isinstance(value, ArrayOperators) or (hasattr(value, "shape") and hasattr(value, "dtype"))


class _FrozenWhenMade(type):
    """Closes a module when its ``__init__`` has run."""

    def __call__(cls, *args: Any, **kwargs: Any) -> Any:
        made = super().__call__(*args, **kwargs)
        _refuse_sharing(made)
        made.__dict__["_frozen"] = True
        return made


class Module(metaclass=_FrozenWhenMade):
    """Parent of every layer and model; see the module docstring of `portable_nn.nn.module` for how to write one."""

    _kinds: dict[str, str]
    _frozen: bool = False

    def __new__(cls, *_: Any, **__: Any) -> Self:
        """Make the empty record, so that subclasses need not call ``super().__init__()``."""
        made = super().__new__(cls)
        made.__dict__["_kinds"] = {}
        return made

    def __setattr__(self, name: str, value: Any) -> None:
        if self._frozen:
            raise ArgumentError(
                f"{type(self).__name__}.{name} was assigned after construction, but modules do not change; "
                "make a new one with nn.with_params(model, {...}) or nn.with_state(model, {...})"
            )
        if isinstance(value, _Marked):
            self._kinds[name] = value.kind
            value = value.value
        elif isinstance(value, Module) or _holds_modules(value):
            self._kinds[name] = BRANCH
        elif _is_array(value):
            raise ArgumentError(
                f"{type(self).__name__}.{name} is an array of shape {value.shape}; "
                "say what it is: nn.parameter(array) or nn.buffer(array)"
            )
        self.__dict__[name] = value

    def __delattr__(self, name: str) -> None:
        raise ArgumentError(f"{type(self).__name__}.{name} cannot be deleted: modules do not change")

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        raise ArgumentError(f"{type(self).__name__} has no __call__; write what it computes")

    def tree_children(self) -> dict[str, Any]:
        """Return parameters, buffers and submodules by name, in the order they were assigned."""
        return {name: self.__dict__[name] for name in self._kinds}

    def tree_rebuild(self, children: dict[str, Any]) -> Self:
        """Return a copy with these children."""
        made = object.__new__(type(self))
        made.__dict__.update(self.__dict__)
        made.__dict__.update(children)
        return made

    def to(self, backend: str | Backend | None = None, device: str | None = None, dtype: Any = None) -> Self:
        """Return a copy with every array on `backend` (the chosen one by default), floating ones as `dtype` if given."""

        def move(x: Array) -> Array:
            return asarray(x, backend=backend, device=device, dtype=dtype if x.dtype.kind in "fV" else None)

        moved: Self = with_state(self, {name: move(x) for name, x in state_dict(self).items()})
        return moved

    def __repr__(self) -> str:
        settings = [
            f"{name}={value!r}" for name, value in self.__dict__.items()
            if name not in self._kinds and not name.startswith("_") and value is not None and not callable(value)
        ]  # fmt: skip
        branches = [(n, self.__dict__[n]) for n, kind in self._kinds.items() if kind == BRANCH]
        if not branches:
            return f"{type(self).__name__}({', '.join(settings)})"
        lines = [f"  ({name}): " + repr(value).replace("\n", "\n  ") for name, value in branches]
        return "\n".join([f"{type(self).__name__}({', '.join(settings)}", *lines, ")"])


def _holds_modules(value: Any) -> bool:
    if isinstance(value, dict):
        return any(isinstance(v, Module) or _holds_modules(v) for v in value.values())
    return isinstance(value, list | tuple) and any(isinstance(v, Module) or _holds_modules(v) for v in value)


def _branches(node: Any) -> Iterator[tuple[str, Any]]:
    """Give the modules right below a module, list, tuple or dict."""
    if isinstance(node, Module):
        yield from ((name, node.__dict__[name]) for name, kind in node._kinds.items() if kind == BRANCH)
    elif isinstance(node, dict):
        yield from ((str(key), value) for key, value in node.items())
    elif isinstance(node, list | tuple):
        yield from ((str(i), value) for i, value in enumerate(node))


def named_modules(node: Any, prefix: str = "") -> Iterator[tuple[str, Module]]:
    """Give (path, module) for a module and all below it, the outermost first, in PyTorch's spelling of paths."""
    if isinstance(node, Module):
        yield prefix, node
    for name, child in _branches(node):
        yield from named_modules(child, f"{prefix}.{name}" if prefix else name)


def _refuse_sharing(module: Module) -> None:
    seen: dict[int, str] = {}
    for path, found in named_modules(module):
        if id(found) in seen and any(kind != BRANCH for kind in found._kinds.values()):
            raise ArgumentError(
                f"{type(module).__name__}: {seen[id(found)]} and {path} are one {type(found).__name__}, but each place "
                "needs its own parameters; construct a second one, or call the first twice"
            )
        seen[id(found)] = path


def _named(model: Module, *kinds: str) -> dict[str, Array]:
    found = {}
    for path, module in named_modules(model):
        for name, kind in module._kinds.items():
            if kind in kinds:
                found[f"{path}.{name}" if path else name] = module.__dict__[name]
    return found


def params(model: Module) -> dict[str, Array]:
    """Return the parameters by their PyTorch names, ``{"conv1.weight": array, ...}``: a tree to differentiate by."""
    return _named(model, PARAMETER)


def buffers(model: Module) -> dict[str, Array]:
    """Return the arrays without gradient by their PyTorch names, such as ``"bn1.running_mean"``."""
    return _named(model, BUFFER)


def state_dict(model: Module) -> dict[str, Array]:
    """Return parameters and buffers by their PyTorch names, in the order of the modules."""
    return _named(model, PARAMETER, BUFFER)


def count_params(model: Module) -> int:
    """Return how many numbers training changes."""
    return sum(_size(x) for x in params(model).values())


def _size(x: Array) -> int:
    size = 1
    for n in x.shape:
        size *= n
    return size


def with_state(model: Any, state: Mapping[str, Array]) -> Any:
    """Return the model with the arrays of `state` (path to array) in place of its own.

    Parameters
    ----------
    model : Module
    state : mapping of str to array
        Any of the names in `state_dict(model)`; the others stay.

    Raises
    ------
    ArgumentError
        A name the model does not have, with a close match.
    """
    if not state:
        return model
    left = dict(state)
    made = _replaced(model, "", left)
    if left:
        unknown = next(iter(left))
        close = get_close_matches(unknown, state_dict(model), n=1)
        hint = f"; did you mean {close[0]!r}?" if close else ""
        raise ArgumentError(f"{type(model).__name__} has no parameter or buffer {unknown!r}{hint}")
    return made


with_params = with_state
"""The same as `with_state`: parameters by name in, model out."""


def _replaced(node: Any, prefix: str, left: dict[str, Array]) -> Any:
    if isinstance(node, Module):
        changed = {}
        for name, kind in node._kinds.items():
            path = f"{prefix}{name}"
            if kind == BRANCH:
                changed[name] = _replaced(node.__dict__[name], path + ".", left)
            elif path in left:
                changed[name] = left.pop(path)
        return node.tree_rebuild(changed)
    if isinstance(node, dict):
        return {key: _replaced(child, f"{prefix}{key}.", left) for key, child in node.items()}
    if isinstance(node, list | tuple):
        return type(node)(_replaced(child, f"{prefix}{i}.", left) for i, child in enumerate(node))
    return node


IGNORED = ".num_batches_tracked"
"""A counter in PyTorch's state dicts that changes no result (momentum is a number here)."""


def load_state_dict(model: Any, state: Mapping[str, Array]) -> Any:
    """Return the model with every parameter and buffer taken from `state`, after checking names and shapes.

    Parameters
    ----------
    model : Module
    state : mapping of str to array
        Exactly the names of `state_dict(model)`, such as PyTorch writes them; ``num_batches_tracked`` is left out.

    Raises
    ------
    ArgumentError
        Names that are missing or unknown.
    ShapeError
        An array of another shape, naming it.
    """
    given = {name: x for name, x in state.items() if not name.endswith(IGNORED)}
    own = state_dict(model)
    missing, unknown = [n for n in own if n not in given], [n for n in given if n not in own]
    if missing or unknown:
        words = [f"{what}: {', '.join(names[:5])}" for what, names in (("missing", missing), ("unknown", unknown)) if names]
        raise ArgumentError(
            f"load_state_dict: the names do not fit {type(model).__name__} ({'; '.join(words)}); "
            "make the model with the settings the weights were trained with"
        )
    for name, x in given.items():
        if tuple(x.shape) != tuple(own[name].shape):
            raise ShapeError(
                f"load_state_dict: {name} has shape {tuple(x.shape)} but {type(model).__name__} needs {tuple(own[name].shape)}; "
                "make the model with the settings the weights were trained with"
            )
    return with_state(model, given)
