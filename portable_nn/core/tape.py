"""The tape: a list of nodes in execution order with integer slots. Backward pops it to empty; no graph search, no recursion."""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable, Sequence
from itertools import chain, count
from typing import TYPE_CHECKING, Any

from . import tree
from .array import ArrayOperators, DeviceArray
from .errors import ArgumentError, NoGradient, StaleArray
from .registry import find
from .spec import Spec, Weak

if TYPE_CHECKING:
    from .call import Call
    from .op import Entry, Op

_LIST = "list of arrays"  # op.LIST; that module imports this one
_levels = count(1)  # a tape opened later is inside every tape still open


def _spec(x: Any) -> Spec:
    found = getattr(x, "spec", None)
    if found is None:
        found = Spec(x.shape, x.dtype, tuple(s // x.dtype.itemsize for s in x.strides))
    return found


class Traced(ArrayOperators):
    """A value that remembers where on which tape it came from. Has the array API's operators."""

    __slots__ = ("slot", "tape", "value")

    def __init__(self, value: Any, tape: Tape, slot: int) -> None:
        self.value = value
        self.tape = tape
        self.slot = slot

    @property
    def spec(self) -> Spec:  # type: ignore[override]
        """Shape, dtype and strides of the value."""
        return _spec(self.value)

    def __repr__(self) -> str:
        return f"Traced({self.value!r})"

    def _refuse(self, *_: Any, **__: Any) -> Any:
        raise ArgumentError(
            "a traced array has no value to look at inside the function that is being differentiated; "
            "return it (value_and_grad gives the value), or use portable_nn.stop_gradient(x)"
        )

    __float__ = __int__ = __bool__ = __complex__ = __index__ = __array__ = _refuse


class Saved:
    """What a gradient rule may read: `c.x` for a saved value, `c.spec_of("x")`, `c.stride` for a setting, `c.needs("x")`."""

    __slots__ = ("_needs", "_values", "call")

    def __init__(self, call: Call, values: dict[str, Any], needs: Container[str]) -> None:
        self.call = call
        self._values = values
        self._needs = needs

    def __getattr__(self, name: str) -> Any:
        try:
            return self._values[name]
        except KeyError:
            settings = self.call.settings
            if name in settings:
                return settings[name]
        raise AttributeError(f"the gradient rule of {self.call.op} reads {name!r}, which its record does not list in saves")

    def spec_of(self, name: str) -> Any:
        """Return the spec of an operand (None if it was left out; a list for a list of arrays)."""
        op = find(self.call.op)
        at = op.operands.index(name)
        # A list takes as many places among the inputs as it has arrays; an op has at most one.
        extra = len(self.call.inputs) - len(op.operands)
        if op.roles[name] == _LIST:
            return list(self.call.inputs[at : at + extra + 1])
        after_list = extra and _LIST in [op.roles[n] for n in op.operands[:at]]
        spec = self.call.inputs[at + extra if after_list else at]
        return None if isinstance(spec, Weak) else spec

    def needs(self, name: str) -> bool:
        """Tell whether operand `name` wants a gradient."""
        return name in self._needs


class _Node:
    __slots__ = ("entry", "inputs", "op", "outputs", "saved", "versions")

    def __init__(
        self, op: Op, entry: Entry, saved: Saved, inputs: dict[str, Any], outputs: list[int], versions: list[tuple[str, Any, int]]
    ) -> None:
        self.op, self.entry, self.saved = op, entry, saved
        self.inputs, self.outputs, self.versions = inputs, outputs, versions


class Tape:
    """Records the ops applied to watched arrays, to differentiate them once.

    Examples
    --------
    >>> with pnn.Tape() as tape:
    ...     w = tape.watch(weights)
    ...     loss = pnn.ops.mean((x @ w - y) ** 2)
    >>> (gw,) = tape.gradient(loss, [w])
    """

    def __init__(self) -> None:
        self.level = 0
        self._nodes: list[_Node] = []
        self._barriers: dict[int, str] = {}
        self._slots = 0
        self._open = False
        self._spent = False

    def __enter__(self) -> Tape:
        self.level = next(_levels)
        self._open = True
        return self

    def __exit__(self, *_: object) -> None:
        self._open = False

    def watch(self, x: Any) -> Traced:
        """Return `x` as the source of gradients."""
        if _spec(x).dtype.kind not in "fVc":
            raise ArgumentError(f"watch: an array of {_spec(x).dtype.name} has no gradient; convert it to a floating dtype")
        return self._trace(x)

    def _trace(self, value: Any) -> Traced:
        self._slots += 1
        return Traced(value, self, self._slots - 1)

    def lower(self, value: Any) -> Any:
        """Return what this tape traced inside `value` (an operand, or a list of them)."""
        if type(value) is Traced:
            return value.value if value.tape is self else value
        if isinstance(value, list | tuple) and any(type(v) is Traced for v in value):
            return [self.lower(v) for v in value]
        return value

    def record(
        self, op: Op, entry: Entry, args: tuple[Any, ...], kwargs: dict[str, Any], plain: tuple[Any, ...],
        plain_kwargs: dict[str, Any], outputs: tuple[Any, ...], nested: bool = False,
    ) -> tuple[Any, ...]:  # fmt: skip
        """Add a node for a call that ran; return its outputs, traced.

        `nested`: a tape inside this one asked for the residuals. They depend on the operands, but no rule says how, so
        they are traced only to be able to refuse a second derivative that would pass through them.
        """
        if not self._open:
            raise StaleArray(f"{op.name}: an array of a closed tape was used; compute inside its with block")
        inputs: dict[str, Any] = {}
        given: Iterable[tuple[str, Any]] = zip(op.roles, args, strict=False)
        for name, value in chain(given, kwargs.items()) if kwargs else given:
            if type(value) is Traced:
                if value.tape is self:
                    inputs[name] = value.slot
            elif isinstance(value, list | tuple):  # a list of arrays, or a setting that holds none
                slots = [v.slot if type(v) is Traced and v.tape is self else -1 for v in value]
                if any(slot >= 0 for slot in slots):
                    inputs[name] = slots
        results: list[Any] = []
        slots_out: list[int] = []
        kept: dict[str, Any] = {}
        saves = op.saves
        for name, value in zip((*op.outputs, *op.residuals) if op.residuals else op.outputs, outputs, strict=False):
            if name in saves:
                kept[name] = value
            if name in op.residuals:
                if nested and _spec(value).dtype.kind in "fVc":
                    value = self._trace(value)
                    self._barriers[value.slot] = f"{name}, which {op.name} keeps for its gradient rule"
                results.append(value)
            elif name in op.integer_outputs:
                results.append(value)
                slots_out.append(-1)
            else:
                results.append(Traced(value, self, self._slots))
                slots_out.append(self._slots)
                self._slots += 1
        if saves:
            values = dict(zip(op.roles, plain, strict=False))
            if plain_kwargs:
                values.update(plain_kwargs)
            for name in saves:
                if name not in kept:
                    kept[name] = values.get(name)
        versions = [(n, v.storage, v.storage.version) for n, v in kept.items() if type(v) is DeviceArray]
        saved = Saved(entry.call, kept, inputs)
        self._nodes.append(_Node(op, entry, saved, inputs, slots_out, versions))
        return tuple(results)

    def gradient(self, target: Any, sources: Sequence[Traced], seed: Any = None) -> list[Any]:
        """Return d target / d source for each source, and spend the tape.

        Parameters
        ----------
        target : Traced
            A value computed inside the tape.
        sources : sequence of Traced
            Arrays that `watch` returned.
        seed : array, optional
            The cotangent of `target`; ones by default.
        """
        if self._spent:
            raise StaleArray("gradient: this tape was already used; open a new one for each backward pass")
        self._spent, self._open = True, False
        if type(target) is not Traced or target.tape is not self:
            raise NoGradient("gradient: the target does not depend on any watched array")
        grads: list[Any] = [None] * self._slots
        grads[target.slot] = find("ones_like")(target.value) if seed is None else seed
        keep = {source.slot for source in sources}
        while self._nodes:
            node = self._nodes.pop()
            cotangents = [None if slot < 0 else grads[slot] for slot in node.outputs]
            for slot in node.outputs:
                if slot >= 0 and slot not in keep:
                    grads[slot] = None
            if all(g is None for g in cotangents):
                continue
            for name, storage, version in node.versions:
                if storage.version != version:
                    raise StaleArray(f"{node.op.name}: {name} was written to after it was saved for the backward pass")
            self._pull(node, cotangents, grads)
        for slot, what in self._barriers.items():
            if grads[slot] is not None:
                raise NoGradient(f"a second derivative would pass through {what}; it can be differentiated once only")
        return [
            find("zeros_like")(source.value) if grads[source.slot] is None else grads[source.slot] for source in sources
        ]

    @staticmethod
    def _pull(node: _Node, cotangents: list[Any], grads: list[Any]) -> None:
        """Apply one gradient rule and add what it gives to the slots of its operands."""
        assert node.op.vjp is not None
        given = node.op.vjp(node.saved, *cotangents)
        for name, slots in node.inputs.items():
            if name not in given:
                raise NoGradient(f"the gradient rule of {node.op.name} gives nothing for {name}")
            gradient = given[name]() if callable(given[name]) else given[name]
            pairs = [(slots, gradient)] if isinstance(slots, int) else zip(slots, gradient, strict=True)
            for slot, g in pairs:
                if slot >= 0 and g is not None:
                    grads[slot] = g if grads[slot] is None else find("add")(grads[slot], g)


def value_and_grad(f: Callable[..., Any], *, has_aux: bool = False) -> Callable[..., Any]:
    """Return a function that gives `f`'s value and its gradient with respect to the first argument, a tree of arrays.

    Parameters
    ----------
    f : callable
        `f(params, *args, **kwargs)` returns a scalar (0-d) array, or `(scalar, aux)` with `has_aux`.
    has_aux : bool
        `f` returns something beside the scalar that is passed through, untraced.

    Returns
    -------
    callable
        `(value, grads)`, or `((value, aux), grads)`. `grads` has the form of `params`; floating leaves only.
    """

    def differentiated(params: Any, *args: Any, **kwargs: Any) -> Any:
        with Tape() as tape:
            watched = tree.map(tape.watch, params)
            made = f(watched, *args, **kwargs)
            loss, aux = made if has_aux else (made, None)
            if not hasattr(loss, "shape") or loss.shape != ():
                got = f"shape {loss.shape}" if hasattr(loss, "shape") else type(loss).__name__
                raise NoGradient(f"value_and_grad: the function returned {got} but a scalar (0-d) array is needed; reduce it with mean or sum")
            sources = tree.leaves(watched)
            grads = tape.gradient(loss, sources)
        value = tape.lower(loss)
        form = tree.unflatten(params, grads)
        return ((value, tree.map(lambda x: tape.lower(x), aux)), form) if has_aux else (value, form)

    return differentiated


def grad(f: Callable[..., Any]) -> Callable[..., Any]:
    """Return a function that gives the gradient of `f` with respect to its first argument; see `value_and_grad`."""
    both = value_and_grad(f)

    def differentiated(params: Any, *args: Any, **kwargs: Any) -> Any:
        return both(params, *args, **kwargs)[1]

    return differentiated


def stop_gradient(x: Any) -> Any:
    """Return the value of a traced array: a constant to every tape."""
    while type(x) is Traced:
        x = x.value
    return x


