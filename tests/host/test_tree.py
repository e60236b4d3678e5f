"""Trees: order and names of leaves, rebuilding, differences named by path."""

from typing import Any, NamedTuple

import pytest

from portable_nn.core import tree
from portable_nn.core.errors import ArgumentError


class Pair(NamedTuple):
    a: Any
    b: Any


class Module:
    def __init__(self, weight: Any, bias: Any) -> None:
        self.weight, self.bias = weight, bias

    def tree_children(self) -> dict[str, Any]:
        return {"weight": self.weight, "bias": self.bias}

    def tree_rebuild(self, children: dict[str, Any]) -> "Module":
        return Module(**children)


NESTED = {"conv": Module(1, 2), "blocks": [Module(3, None), (4, Pair(5, 6))], "none": None}


def test_leaves_in_order() -> None:
    assert tree.leaves(NESTED) == [1, 2, 3, 4, 5, 6]


def test_names_are_those_of_a_state_dict() -> None:
    names = [name for name, _ in tree.named_leaves(NESTED)]
    assert names == ["conv.weight", "conv.bias", "blocks.0.weight", "blocks.1.0", "blocks.1.1.0", "blocks.1.1.1"]


def test_map_keeps_the_form() -> None:
    doubled = tree.map(lambda x: 2 * x, NESTED)
    assert tree.leaves(doubled) == [2, 4, 6, 8, 10, 12]
    assert isinstance(doubled["conv"], Module)
    assert isinstance(doubled["blocks"][1][1], Pair)
    assert doubled["none"] is None


def test_map_of_several_trees() -> None:
    assert tree.map(lambda a, b: a - b, {"x": [5, 7]}, {"x": [1, 2]}) == {"x": [4, 5]}


def test_a_leaf_is_a_tree() -> None:
    assert tree.map(abs, -3) == 3
    assert tree.named_leaves(3) == [("", 3)]


def test_difference_names_the_path() -> None:
    with pytest.raises(ArgumentError, match=r"a\.b") as caught:
        tree.map(lambda x, y: x, {"a": {"b": [1, 2]}}, {"a": {"b": [1]}})
    assert "differ" in str(caught.value)
    with pytest.raises(ArgumentError, match="a leaf"):
        tree.map(lambda x, y: x, {"a": [1]}, {"a": 1})


def test_unflatten() -> None:
    assert tree.unflatten({"a": [0, 0], "b": 0}, [1, 2, 3]) == {"a": [1, 2], "b": 3}
    with pytest.raises(ArgumentError, match="1 leaves too many: 2 for 1"):
        tree.unflatten([0], [1, 2])


def test_unflatten_with_too_few() -> None:
    with pytest.raises(ArgumentError, match="too few"):
        tree.unflatten([0, 0, 0], [1])
