"""Op: a Python function whose body is its NumPy reference, with the record that makes everything else follow.

This file holds the one road of a call: dispatch by array type, shape rule, prepare (plan), run (launch), tape.
Over 250 lines because the road is meant to be read in one piece.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from functools import update_wrapper
from types import MappingProxyType
from typing import Any

import numpy as np

from . import registry, selection
from .array import DeviceArray
from .backend import Backend, Prepared
from .call import Call
from .dtypes import canonical
from .errors import ArgumentError, DTypeError, NoGradient, PortableNNError, SettingError
from .recording import current as _recording
from .samples import Bad, Bench, Sample
from .settings import kind_of, plain
from .spec import WEAK, Spec, Weak
from .tape import Tape, Traced

OutRule = Callable[..., Spec | tuple[Spec, ...]]
VjpRule = Callable[..., dict[str, Any]]

SETTING, ARRAY, OPTIONAL, LIST = "setting", "array", "optional array", "list of arrays"
WEAKLY, OPTIONAL_WEAKLY = "array or scalar", "optional array or scalar"
_recorder = _recording.get  # bound here because every call passes it
_CACHE_LIMIT = 4096  # prepared calls per op; a loop over ever new shapes must not grow without bound


class _Unquoted(str):
    """The text of an annotation that signatures show without quotes."""

    def __repr__(self) -> str:
        return str(self)


def _unquoted(signature: inspect.Signature) -> inspect.Signature:
    """Return the signature with its textual annotations shown as they were written."""

    def shown(annotation: Any) -> Any:
        return _Unquoted(annotation) if type(annotation) is str else annotation

    parameters = [p.replace(annotation=shown(p.annotation)) for p in signature.parameters.values()]
    return signature.replace(parameters=parameters, return_annotation=shown(signature.return_annotation))


def _role(annotation: str) -> str:
    if "Sequence[Array]" in annotation:
        return LIST
    if "ArrayOrScalar" in annotation:
        return OPTIONAL_WEAKLY if "None" in annotation else WEAKLY
    if annotation == "Array":
        return ARRAY
    return OPTIONAL if annotation == "Array | None" else SETTING


class Entry:
    """A call met before: what to run, and how its arguments map to operands."""

    __slots__ = ("backend", "call", "order", "run")

    def __init__(self, call: Call, run: Prepared, order: tuple[int, ...] | None, backend: Backend) -> None:
        self.call = call
        self.run = run
        self.order = order
        self.backend = backend


class Op:
    """An op: record, reference and dispatch. Made by the `op` decorator; called like the function it wraps.

    Parameters
    ----------
    body : callable
        The reference, in NumPy: slow, obvious, uses no other op. Returns outputs, then residuals.
    out : callable
        Shape and dtype rule with the body's signature, specs in place of arrays. Returns the spec of each output and
        residual. Everything that can be known without values is raised here.
    outputs, residuals : tuple of str
        Names. Residuals are kept only when a tape asks.
    integer_outputs : tuple of str
        Outputs without a gradient (indices, comparisons).
    vjp : callable, optional
        `vjp(c, *cotangents) -> {operand: gradient or zero-argument callable}`; see `Saved`. None: not differentiable.
    saves : tuple of str
        Operands, outputs and residuals whose *values* the rule reads. Specs and settings are always there.
    view : callable, optional
        `view(call) -> (strides, offset) | None` for ops that may answer with a view (in elements); None means copy.
    samples, bad, bench
        Tests and benchmarks; see `samples`.
    flops : callable, optional
        `flops(call) -> int`, an exact count of arithmetic operations; default one per output element.
    reduces : callable, optional
        `reduces(call) -> int`: how many terms are summed into one output element; sets the tolerance.
    version : str
        Bump when the meaning changes; benchmark history keys on it.
    expression : Elementwise, optional
        What makes the op elementwise; see `elementwise`.
    """

    def __init__(
        self,
        body: Callable[..., Any],
        *,
        out: OutRule,
        outputs: tuple[str, ...] = ("y",),
        residuals: tuple[str, ...] = (),
        integer_outputs: tuple[str, ...] = (),
        vjp: VjpRule | None = None,
        saves: tuple[str, ...] = (),
        view: Callable[[Call], tuple[tuple[int, ...], int] | None] | None = None,
        samples: Sequence[Sample] = (),
        bad: Sequence[Bad] = (),
        bench: Sequence[Bench] = (),
        flops: Callable[[Call], int] | None = None,
        reduces: Callable[[Call], int] | None = None,
        version: str = "1",
        name: str = "",
        expression: Any = None,
    ) -> None:
        update_wrapper(self, body)
        self.name = name or body.__name__
        self.body = body
        self.signature = _unquoted(inspect.signature(body))
        self.out, self.vjp, self.saves, self.view = out, vjp, saves, view
        self.outputs, self.residuals, self.integer_outputs = outputs, residuals, integer_outputs
        self.samples, self.bad, self.bench = tuple(samples), tuple(bad), tuple(bench)
        self.flops, self.reduces, self.version = flops, reduces, version
        self.expression = expression
        self.where = f"{body.__module__}.{self.name}"
        for name, parameter in self.signature.parameters.items():
            if parameter.annotation is Any:  # what `Array` is, once evaluated: operands could not be told from settings
                raise ArgumentError(
                    f"{self.name}: the annotation of {name} was evaluated, but its text is needed to tell operands from "
                    f"settings; begin {body.__module__} with `from __future__ import annotations`"
                )
        self.roles = {name: _role(str(p.annotation)) for name, p in self.signature.parameters.items()}
        self.operands = tuple(name for name, role in self.roles.items() if role != SETTING)
        settings = {name: kind_of(str(self.signature.parameters[name].annotation)) for name, role in self.roles.items() if role == SETTING}
        self._kinds = {name: kind for name, kind in settings.items() if kind is not None}
        self._positional = tuple(self.roles.values())
        self._cache: dict[tuple[Any, ...], Entry] = {}
        self._single = len(outputs) == 1
        registry.add(self)

    def __repr__(self) -> str:
        return f"<op {self.name}{self.signature}>"

    def forget(self) -> None:
        """Drop the prepared calls, and with them the kernels that only they keep."""
        self._cache.clear()

    # -- the road -------------------------------------------------------------------------------------------------

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Run the op like the function it wraps; one output is returned as it is, several as a tuple."""
        outputs = self.apply(args, kwargs)[0]
        return outputs[0] if self._single else outputs

    def apply(self, args: tuple[Any, ...], kwargs: dict[str, Any], residuals: bool = False) -> tuple[tuple[Any, ...], Entry]:
        """Run the call; return its outputs (and residuals, if asked) and the entry that ran. Records on a tape."""
        recorder = _recorder()
        if recorder is not None:
            args, kwargs = recorder.arguments(self, args, kwargs)
        key: list[Any] = [residuals]
        given: list[Any] = []
        owner: Backend | None = None
        tape: Tape | None = None
        roles = self._positional
        if len(args) > len(roles):
            self._bind(args, kwargs)
        for value, role in zip(args, roles, strict=False):
            if role is SETTING:
                key.append(value)
                if type(value) is float:  # 1 and 1.0 are one key, but may mean two dtypes
                    key.append(float)
                continue
            owner, tape = self._scan(value, role, key, given, owner, tape)
        for name, value in kwargs.items():
            key.append(name)
            role = self.roles.get(name, SETTING)
            if role is SETTING:
                key.append(value)
                if type(value) is float:
                    key.append(float)
            else:
                owner, tape = self._scan(value, role, key, given, owner, tape)
        if tape is not None:
            return self._taped(tape, args, kwargs, residuals)
        if owner is None:
            owner = selection.default()
        key.append(owner)
        try:
            entry = self._cache.get(tuple(key))
        except TypeError:  # a list among the settings
            self._bind(args, kwargs)  # or an array under a name that is no parameter
            self._check_hashable(key)
            return self.apply(tuple(map(_hashable, args)), {k: _hashable(v) for k, v in kwargs.items()}, residuals)
        if entry is None:
            entry = self._prepare(args, kwargs, given, owner, residuals)
            if len(self._cache) >= _CACHE_LIMIT:
                self._cache.clear()
            self._cache[tuple(key)] = entry
        if entry.order is not None:
            given = [None if i < 0 else given[i] for i in entry.order]
        return entry.run(given), entry

    def _bind(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> inspect.BoundArguments:
        try:
            return self.signature.bind(*args, **kwargs)
        except TypeError as error:
            raise ArgumentError(f"{self.name}: {error}; the signature is {self.name}{self.signature}") from None

    def _check_hashable(self, key: list[Any]) -> None:
        for item in key:
            try:
                hash(_hashable(item))
            except TypeError:
                raise ArgumentError(
                    f"{self.name}: {type(item).__name__} was given as a setting; settings are numbers, text, dtypes and tuples of "
                    f"them (the signature is {self.name}{self.signature})"
                ) from None

    def _scan(
        self, value: Any, role: str, key: list[Any], given: list[Any], owner: Backend | None, tape: Tape | None
    ) -> tuple[Backend | None, Tape | None]:
        """Add one operand to the cache key; return whose it is and the innermost tape that traces it."""
        kind = type(value)
        if kind is DeviceArray:
            backend = value.backend
            key.append(value.spec)
            given.append(value)
        elif kind is Traced:
            if tape is None or value.tape.level > tape.level:
                tape = value.tape
            return owner, tape
        elif kind is np.ndarray:
            backend = host_backend(self.name)
            key.append((value.shape, value.strides, value.dtype))
            given.append(value)
        elif value is None:
            if role is not OPTIONAL and role is not OPTIONAL_WEAKLY:
                raise ArgumentError(f"{self.name}: None was given where an {ARRAY} is needed")
            key.append(None)
            given.append(None)
            return owner, tape
        elif kind in WEAK:
            if role is not WEAKLY and role is not OPTIONAL_WEAKLY:
                raise ArgumentError(
                    f"{self.name}: {value!r} was given where an {ARRAY} is needed; make one with portable_nn.asarray"
                )
            key.append(WEAK[kind])
            given.append(value)
            return owner, tape
        elif role is LIST and isinstance(value, list | tuple):
            key.append(len(value))
            for item in value:
                owner, tape = self._scan(item, ARRAY, key, given, owner, tape)
            return owner, tape
        else:
            value, backend = foreign(self.name, value)
            key.append(backend.spec_of(value))
            given.append(value)
        if owner is None:
            return backend, tape
        if owner is not backend:
            raise ArgumentError(
                f"{self.name}: arrays of {owner.name} ({owner.device}) and of {backend.name} ({backend.device}) in one "
                f"call; bring them together with portable_nn.asarray(x, backend={owner.name!r})"
            )
        return owner, tape

    def _prepare(
        self, args: tuple[Any, ...], kwargs: dict[str, Any], given: list[Any], owner: Backend, residuals: bool
    ) -> Entry:
        """Take the slow road once: bind the signature, apply the shape rule, let the backend prepare."""
        bound = self._bind(args, kwargs)
        written = list(bound.arguments)
        bound.apply_defaults()
        # Operands were collected in the order written; the backend wants signature order.
        position: dict[str, list[int]] = {}
        count = 0
        names = list(self.roles)
        for name in [*names[: len(args)], *(k for k in kwargs if k in self.roles)]:
            if name in written and self.roles[name] != SETTING:
                n = self._length(name, bound.arguments[name]) if self.roles[name] == LIST else 1
                position[name] = list(range(count, count + n))
                count += n
        specs_by_name: dict[str, Any] = {}
        flat: list[Spec | Weak | None] = []
        order: list[int] = []
        settings: dict[str, Any] = {}
        for name, role in self.roles.items():
            if role == SETTING:
                value, kind = bound.arguments[name], self._kinds.get(name)
                settings[name] = value if kind is None else plain(self.name, name, value, kind)
                continue
            at = position.get(name)
            if at is None:
                default = bound.arguments[name]
                if default is not None:
                    raise ArgumentError(f"{self.name}: default of {name} must be None or given as a setting")
                specs: list[Any] = [None]
                order.append(-1)
            else:
                specs = [self._spec(owner, given[i]) for i in at]
                order += at
            flat += specs
            specs_by_name[name] = specs if role == LIST else specs[0]
        try:
            made = self.out(**specs_by_name, **settings)
        except PortableNNError:
            raise
        except (TypeError, ValueError, LookupError, ArithmeticError, AttributeError) as error:  # what no rule foresaw
            told = ", ".join(f"{name}={value!r}" for name, value in settings.items())
            raise SettingError(f"{self.name}: cannot use {told} ({error}); the signature is {self.name}{self.signature}") from error
        outs = made if isinstance(made, tuple) else (made,)
        if not residuals:
            outs = outs[: len(self.outputs)]
        call = Call(self.name, tuple(flat), outs, MappingProxyType(settings), residuals)
        identity = order == list(range(len(given)))
        return Entry(call, owner.prepare(self, call), None if identity else tuple(order), owner)

    def _length(self, name: str, value: Any) -> int:
        if not isinstance(value, list | tuple):
            raise ArgumentError(f"{self.name}: {name} is a {type(value).__name__} but must be a list or tuple of arrays")
        return len(value)

    @staticmethod
    def _spec(owner: Backend, value: Any) -> Spec | Weak | None:
        if value is None or type(value) in WEAK:
            return None if value is None else WEAK[type(value)]
        return value.spec if type(value) is DeviceArray else owner.spec_of(value)

    def _taped(
        self, tape: Tape, args: tuple[Any, ...], kwargs: dict[str, Any], residuals: bool
    ) -> tuple[tuple[Any, ...], Entry]:
        """Run on the values below `tape`, and add one node to it."""
        plain = tuple(tape.lower(v) for v in args)
        plain_kwargs = {k: tape.lower(v) for k, v in kwargs.items()}
        outputs, entry = self.apply(plain, plain_kwargs, bool(self.residuals))
        if all(name in self.integer_outputs for name in self.outputs):
            return outputs, entry
        if self.vjp is None:
            raise NoGradient(f"{self.name} has no gradient rule; compute it on values, outside the tape (tape.stop)")
        traced = tape.record(self, entry, args, kwargs, plain, plain_kwargs, outputs, residuals)
        return traced if residuals else traced[: len(self.outputs)], entry


def op(**record: Any) -> Callable[[Callable[..., Any]], Op]:
    """Return a decorator that makes an `Op` of a reference body; the keywords are those of `Op`."""
    return lambda body: Op(body, **record)


def _hashable(value: Any) -> Any:
    if isinstance(value, list | tuple) and not any(type(v) in (DeviceArray, Traced, np.ndarray) for v in value):
        return tuple(_hashable(v) for v in value)
    return value


def host_backend(op_name: str) -> Backend:
    """Return the backend for NumPy arrays, or raise if another backend was chosen by name."""
    chosen = selection.explicit()
    if chosen is None or chosen in ("numpy", "null"):
        return selection.get("numpy")
    if chosen == "numba" and selection.default().device == "simulator":
        return selection.default()
    raise ArgumentError(
        f"{op_name}: a NumPy array was given while the backend is {chosen!r}; move it with portable_nn.asarray(x), "
        f"or choose PORTABLE_NN_BACKEND=numpy"
    )


def foreign(op_name: str, value: Any) -> tuple[Any, Backend]:
    """Return (array, backend) of an array that is neither NumPy's nor ours, or raise."""
    if isinstance(value, np.generic | np.ndarray):
        return np.asarray(value), host_backend(op_name)
    library = type(value).__module__.partition(".")[0]
    if library == "cupy":
        if selection.explicit() == "numba":
            return value, selection.get("numba")
        return value, selection.get("cupy", str(value.data.device_id))
    if library == "pyopencl" and hasattr(value, "cl_context"):
        backend = selection.get("opencl")
        return backend.wrap(value), backend  # type: ignore[attr-defined]
    raise ArgumentError(
        f"{op_name}: {type(value).__module__}.{type(value).__qualname__} is not an array portable_nn knows; "
        f"make one with portable_nn.asarray"
    )


def setting_int(op_name: str, name: str, value: Any) -> int:
    """Return `value` as int, or raise naming the setting."""
    try:
        return int(value.__index__())
    except AttributeError:
        raise SettingError(f"{op_name}: {name} is {value!r} but must be an integer") from None


def setting_dtype(op_name: str, dtype: Any) -> Any:
    """Return a dtype setting as a NumPy dtype; None stays None. An unknown one raises, naming the op."""
    try:
        return None if dtype is None else canonical(dtype)
    except (DTypeError, TypeError) as error:
        raise DTypeError(f"{op_name}: {error}") from None
