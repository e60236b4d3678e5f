"""Trees: nested dicts, lists, tuples and modules with arrays as leaves. None is an empty tree."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol, runtime_checkable

from .errors import ArgumentError


@runtime_checkable
class Node(Protocol):
    """A class of its own that is a branch (modules): it lists its children and is rebuilt from new ones."""

    def tree_children(self) -> dict[str, Any]:
        """Return the children by name."""
        ...

    def tree_rebuild(self, children: dict[str, Any]) -> Any:
        """Return a copy with these children."""
        ...


_NODES: dict[type, bool] = {}


def is_node(kind: type) -> bool:
    """Tell whether objects of a class are branches. `isinstance` of a protocol looks at every name each time: some 10 us."""
    found = _NODES.get(kind)
    if found is None:
        found = _NODES[kind] = issubclass(kind, Node)
    return found


def _branches(tree: Any) -> dict[str, Any] | None:
    if tree is None:
        return {}
    if isinstance(tree, dict):
        return {str(key): value for key, value in tree.items()}
    if isinstance(tree, list | tuple):
        return {str(i): value for i, value in enumerate(tree)}
    return tree.tree_children() if is_node(type(tree)) else None


def _rebuild(tree: Any, children: dict[str, Any]) -> Any:
    if tree is None:
        return None
    if isinstance(tree, dict):
        return {key: children[str(key)] for key in tree}
    if isinstance(tree, tuple) and hasattr(tree, "_fields"):
        return type(tree)(*children.values())
    if isinstance(tree, list | tuple):
        return type(tree)(children.values())
    return tree.tree_rebuild(children)


def leaves(tree: Any) -> list[Any]:
    """Return the leaves in order."""
    return [leaf for _, leaf in named_leaves(tree)]


def named_leaves(tree: Any, prefix: str = "") -> list[tuple[str, Any]]:
    """Return (path, leaf) pairs; a path joins the names with dots, as in a PyTorch state dict."""
    branches = _branches(tree)
    if branches is None:
        return [(prefix, tree)]
    found = []
    for name, child in branches.items():
        found += named_leaves(child, f"{prefix}.{name}" if prefix else name)
    return found


def map(f: Callable[..., Any], tree: Any, *rest: Any) -> Any:
    """Return a tree of the same form with `f(leaf, *leaves of rest)` in place of each leaf.

    Raises
    ------
    ArgumentError
        If a tree of `rest` has other branches than `tree`, naming the path.
    """
    return _map(f, tree, rest, "")


def _map(f: Callable[..., Any], tree: Any, rest: tuple[Any, ...], path: str) -> Any:
    branches = _branches(tree)
    if branches is None:
        return f(tree, *rest)
    others = []
    for other in rest:
        found = _branches(other)
        if found is None or found.keys() != branches.keys():
            got = "a leaf" if found is None else f"branches {list(found)}"
            raise ArgumentError(f"tree.map: at {path or 'the root'!r} the trees differ: {list(branches)} against {got}")
        others.append(found)
    children = {
        name: _map(f, child, tuple(o[name] for o in others), f"{path}.{name}" if path else name)
        for name, child in branches.items()
    }
    return _rebuild(tree, children)


def unflatten(tree: Any, new_leaves: list[Any]) -> Any:
    """Return a tree of the form of `tree` with `new_leaves` in order."""
    places = len(leaves(tree))
    if len(new_leaves) != places:
        off = len(new_leaves) - places
        raise ArgumentError(
            f"tree.unflatten: {abs(off)} leaves too {'many' if off > 0 else 'few'}: {len(new_leaves)} for {places} places"
        )
    iterator = iter(new_leaves)
    return map(lambda _: next(iterator), tree)
