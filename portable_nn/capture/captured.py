"""`capture`: what records a function at its first calls and replays it afterwards."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field
from typing import Any

from ..api import backend_of
from ..core import selection
from ..core.array import DeviceArray
from ..core.backend import Backend
from ..core.errors import ArgumentError, CaptureError
from ..core.number import Number, compiled, number
from ..core.program import Program, Replay
from ..core.recording import current
from ..core.tree import named_leaves
from .agree import check_agreement
from .form import Build, Leaves, Match, matcher, rebuilder, restored
from .recorder import Recording
from .rewrite import rewritten

_VALUES = 8  # recordings of one form that differ only in numbers whose values the step takes


@dataclass(eq=False)
class Variant:
    """One recording of a step, ready to run.

    Attributes
    ----------
    recorded : Program
        The calls as they were made.
    program : Program
        What they were rewritten to.
    replay : callable
        What the backend made of it; device backends let it tell its launches and memory.
    target : Backend
    held : dict of int to number
        Position and value of the numbers that the recording is tied to.
    """

    recorded: Program
    program: Program
    replay: Replay
    target: Backend
    held: dict[int, Any]
    build: Build
    evaluate: Callable[[Sequence[Any]], tuple[Any, ...]]
    verified: bool = False
    match: Match | None = None

    def fits(self, numbers: Sequence[Any]) -> bool:
        """Tell whether the numbers are those that the recording is tied to."""
        return all(_same(numbers[i], value) for i, value in self.held.items())

    def __call__(self, arrays: Sequence[Any], numbers: Sequence[Any]) -> Any:
        """Run; return what the step returns."""
        values = self.evaluate(numbers)
        return self.build(self.replay(arrays, values), values)


def _same(a: Any, b: Any) -> bool:
    return bool(a == b) or (a != a and b != b)


@dataclass
class _Made:
    """What a recording gave: the program, the result tree, and the numbers in it."""

    recording: Recording
    result: Any
    numbers: list[str] = field(default_factory=list)
    build: Build = lambda arrays, numbers: None


class Captured:
    """A function that is recorded at its first calls and replayed at later ones. Made by `capture`.

    Attributes
    ----------
    variants : list of Variant
        The recordings there are, one per form of the arguments.
    """

    def __init__(self, function: Callable[..., Any], donate: tuple[str, ...]) -> None:
        functools.update_wrapper(self, function)
        self.function = function
        self.donate = donate
        self.signature = inspect.signature(function)
        for name in donate:
            if name not in self.signature.parameters:
                raise ArgumentError(f"capture: donate names {name!r}, but the parameters are {', '.join(self.signature.parameters)}")
        self._variants: dict[Hashable, list[Variant]] = {}
        self._last: tuple[Match, Variant] | None = None  # tried first, because most calls are like the one before

    def __repr__(self) -> str:
        return f"<captured {getattr(self.function, '__qualname__', self.function)}, {len(self.variants)} recordings>"

    @property
    def variants(self) -> list[Variant]:
        """The recordings there are."""
        return [v for found in self._variants.values() for v in found]

    def forget(self) -> None:
        """Drop every recording, and the memory it keeps."""
        self._variants.clear()
        self._last = None

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Run the function on these arguments: recorded, if they are of a form not met before, and replayed."""
        if current.get() is not None:  # part of a larger capture
            return self.function(*args, **kwargs)
        last = self._last
        if last is not None:
            match, variant = last
            found = match(args, kwargs)
            if found is not None and (not variant.held or variant.fits(found[1])):
                return variant(*found)
        leaves = Leaves((args, kwargs))
        arrays, numbers = leaves.arrays, leaves.numbers
        target = self._target(arrays)
        key = (target, leaves.form)
        variants = self._variants.get(key)
        if variants is None:
            variants = self._variants[key] = []
        for variant in variants:
            if variant.fits(numbers):
                break
        else:
            if len(variants) >= _VALUES:
                raise CaptureError(self._too_many(variants, args, kwargs))
            variant = self._record(args, kwargs, leaves, target)
            variants.append(variant)
            return variant(arrays, numbers)
        if not variant.verified:
            again = self._run(args, kwargs, leaves, target)
            check_agreement(variant.recorded, again.recording.program, target)
            variant.verified = True
            variant.match = matcher(args, kwargs, target)
        if variant.match is not None:
            self._last = variant.match, variant
        return variant(arrays, numbers)

    def _target(self, arrays: Sequence[Any]) -> Backend:
        """Return the one backend of the arrays; the chosen one if there are none."""
        if not arrays:
            return selection.default()
        first = arrays[0]
        if type(first) is DeviceArray:
            target = first.backend
            if all(type(x) is DeviceArray and x.backend is target for x in arrays):
                return target
        else:
            target = backend_of(first)
        for x in arrays:
            other = backend_of(x)
            if other is not target:
                raise ArgumentError(
                    f"capture: arrays of {target.name} ({target.device}) and of {other.name} ({other.device}) were given to one step; "
                    f"bring them together with portable_nn.asarray(x, backend={target.name!r})"
                )
        return target

    def _run(self, args: Any, kwargs: Any, leaves: Leaves, target: Backend) -> _Made:
        """Record one call."""
        recording = Recording(target)
        stand_ins = [recording.input(x) for x in leaves.arrays]
        given = [number(f"a[{i}]", v, frozenset((i,)), recording) for i, v in enumerate(leaves.numbers)]
        inner_args, inner_kwargs = restored((args, kwargs), stand_ins, given)
        token = current.set(recording)
        try:
            result = self.function(*inner_args, **inner_kwargs)
            return self._finish(recording, result, inner_args, inner_kwargs)
        finally:
            current.reset(token)

    def _finish(self, recording: Recording, result: Any, args: Any, kwargs: Any) -> _Made:
        """Take down what the step returned."""
        program, texts = recording.program, list[str]()
        Leaves(result, specs=False)  # refuses what cannot be returned

        def array(x: Any) -> int:
            program.results.append(recording.slot_of(recording.lift(x)))
            return len(program.results) - 1

        def place(x: Number) -> int:
            texts.append(x.text)
            return len(program.numbers) + len(texts) - 1

        made = _Made(recording, result, texts, rebuilder(result, array, place))
        bound = self.signature.bind(*args, **kwargs).arguments
        for name in self.donate:
            if name in bound:
                self._pair(name, bound[name], result, recording)
        return made

    def _pair(self, name: str, given: Any, result: Any, recording: Recording) -> None:
        """Note which results take the memory of the arrays of a donated argument: those of the part of its form."""
        wanted = Leaves(given, specs=False)
        parts = [result, *(result.values() if isinstance(result, dict) else result if isinstance(result, tuple | list) else ())]
        before = 0
        for number_, part in enumerate(parts):
            found = Leaves(part, specs=False)
            if found.form == wanted.form:
                program = recording.program
                for i, (x, y) in enumerate(zip(wanted.arrays, found.arrays, strict=True)):
                    if x.spec is y.spec and x.spec.size:
                        at = program.inputs.index(recording.slot_of(x))
                        program.donated[before + i] = at
                return
            if number_:
                before += len(found.arrays)
        raise CaptureError(
            f"capture: donate names {name!r}, but neither the result nor a part of it has the form of that argument; "
            "a donated argument is a state that the step returns one step on"
        )

    def _record(self, args: Any, kwargs: Any, leaves: Leaves, target: Backend) -> Variant:
        made = self._run(args, kwargs, leaves, target)
        recording = made.recording
        recorded = recording.program
        program = rewritten(recorded, target)
        held = {i: leaves.numbers[i] for i in sorted(recording.held)}
        return Variant(
            recorded, program, target.replay(program), target, held, made.build, compiled([*program.numbers, *made.numbers])
        )

    def _too_many(self, variants: Sequence[Variant], args: Any, kwargs: Any) -> str:
        given = {**dict(zip(self.signature.parameters, args, strict=False)), **kwargs}
        names = [path for path, leaf in named_leaves(given) if type(leaf) in (int, float)]
        held = sorted({i for v in variants for i in v.held})
        told = ", ".join(names[i] if i < len(names) else f"number {i}" for i in held)
        return (
            f"capture: {self!r} was recorded for {len(variants)} values of a number and met another one; the step takes the value of "
            f"{told} (a setting such as an axis, a comparison, float(x)), so each value is a recording of its own. Use it as an operand "
            "of an op (x * lr), or pass it as a 0-d array"
        )


def capture(function: Callable[..., Any] | None = None, *, donate: str | Sequence[str] = ()) -> Any:
    """Return a function that does what `function` does, recorded at its first calls and replayed afterwards.

    The arguments are trees of arrays, Python numbers, and constants. What the step does is written down as a list of op
    calls, rewritten (calls of no use dropped, equal ones joined, elementwise chains and activations fused, updates of many
    parameters made one), given one plan of its memory, and bound once; a later call of the same form launches the list.

    Ints and floats among the arguments are inputs: a learning rate or step number may change at every call. Where the step
    takes the value of one (as a setting, in a comparison), another value records anew. So does a new shape, dtype, layout,
    tree, constant or backend. The second call of each form records again and compares; a step that does other work the
    second time, or uses other constants, raises `CaptureError` naming op and argument.

    Parameters
    ----------
    function : callable
        A pure function of its arguments: it reads no array's value, writes into none, and keeps none. Other effects
        (printing, counting) happen while recording only.
    donate : str or sequence of str
        Names of arguments that are given up: states that `function` returns one step on. Their memory is written in place
        where a backend can, and a donated array of it that is used again raises.

    Returns
    -------
    Captured
        Called like `function`.

    Raises
    ------
    CaptureError
        At a call: the step reads a value, writes into an array, or is not the same the second time; or a donated argument has
        no counterpart in the result.
    ArgumentError
        `donate` names no parameter; arrays of several backends.

    Examples
    --------
    >>> @pnn.capture
    ... def predict(model, images):
    ...     return pnn.ops.softmax(model(images), -1)
    >>> step = pnn.capture(train_step, donate="state")
    """
    names = (donate,) if isinstance(donate, str) else tuple(donate)
    if function is None:
        return lambda f: Captured(f, names)
    return Captured(function, names)
