"""The NumPy backend: runs each op's own body, or a faster override tested against it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from portable_nn.core import dtypes
from portable_nn.core.backend import Backend, DeviceInfo, Prepared, Status
from portable_nn.core.call import Call
from portable_nn.core.elementwise import Elementwise
from portable_nn.core.errors import BackendError
from portable_nn.core.op import LIST, Op
from portable_nn.core.spec import Spec
from portable_nn.core.version import VERSION as VERSION

from .overrides import OVERRIDES


class NumpyBackend(Backend):
    """Ops on `numpy.ndarray`."""

    name = "numpy"
    device = "cpu"

    def prepare(self, op: Op, call: Call) -> Prepared:
        """Return a function that calls the body or override with the settings bound."""
        if op.expression is not None and op.name not in OVERRIDES:
            return _elementwise(op, call)
        override = OVERRIDES.get(op.name)
        body = op.body if override is None else override
        settings = dict(call.settings)
        wanted = len(call.outputs)
        specs = call.outputs
        lists = [name for name, role in op.roles.items() if role == LIST]
        names = op.operands
        # Sums of halves are kept in float32 (the rule of every backend): widen, compute, round once.
        widen = op.view is None and any(
            isinstance(s, Spec) and s.dtype in (dtypes.float16, dtypes.bfloat16) for s in call.inputs
        )  # fmt: skip

        def run(operands: Sequence[Any]) -> tuple[Any, ...]:
            if widen:
                operands = [_widened(x) for x in operands]
            arguments: dict[str, Any] = dict(settings)
            if lists:
                fixed = len(names) - 1
                arguments[lists[0]] = list(operands[: len(operands) - fixed])
                arguments |= dict(zip([n for n in names if n not in lists], operands[len(operands) - fixed :], strict=True))
            else:
                arguments |= dict(zip(names, operands, strict=True))
            with np.errstate(all="ignore"):
                made = body(**arguments)
                outs = made[:wanted] if isinstance(made, tuple) else (made,)
                return tuple(
                    o if isinstance(o, np.ndarray) and o.dtype == s.dtype else np.asarray(o).astype(s.dtype, copy=False)
                    for o, s in zip(outs, specs, strict=True)
                )

        return run

    def from_numpy(self, x: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Return a copy."""
        return np.array(x, order="C")

    def to_numpy(self, x: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Return a copy."""
        return np.array(x, order="C")

    def spec_of(self, x: npt.NDArray[Any]) -> Spec:
        """Return the spec of an ndarray."""
        size = x.dtype.itemsize
        return Spec(x.shape, dtypes.canonical(x.dtype), tuple(s // size for s in x.strides))

    def synchronize(self) -> None:
        """Do nothing: NumPy has finished when it returns."""

    def devices(self) -> list[DeviceInfo]:
        """Return the CPU."""
        return [DeviceInfo(name="cpu", kind="cpu", platform=f"NumPy {np.__version__}")]


def _elementwise(op: Op, call: Call) -> Prepared:
    """Return a function that evaluates the op's expressions; what the op's body does, with the decisions taken once."""
    rule: Elementwise = op.expression
    wide = dtypes.accumulator(rule.promoted(op, dict(zip(op.operands, call.inputs, strict=True))))
    expressions = [e for _, e in rule.expressions(op, call)]
    constants = {
        n: wide.type(v) for n, v in call.settings.items() if isinstance(v, float | int) and not isinstance(v, bool)
    }
    casts = [(n, n not in rule.apart) for n in op.operands]
    specs = call.outputs

    def run(operands: Sequence[Any]) -> tuple[Any, ...]:
        values = dict(constants)
        for (name, cast), x in zip(casts, operands, strict=True):
            if x is not None:
                values[name] = np.asarray(x).astype(wide, copy=False) if cast else x
        outs = []
        for expression, spec in zip(expressions, specs, strict=True):
            made = np.asarray(expression.evaluate(values))
            if made.shape != spec.shape or (made.base is not None or any(made is v for v in values.values())):
                made = np.array(np.broadcast_to(made, spec.shape))
            with np.errstate(all="ignore"):
                outs.append(made.astype(spec.dtype, copy=False))
        return tuple(outs)

    return run


def _widened(x: Any) -> Any:
    if isinstance(x, np.ndarray) and x.dtype in (dtypes.float16, dtypes.bfloat16):
        return x.astype(np.float32)
    return x


_backend = NumpyBackend()


def backend(device: str | None = None) -> Backend:
    """Return the backend; NumPy has one device, "cpu"."""
    if device not in (None, "", "0") and device.lower() not in "cpu":
        raise BackendError(f"the numpy backend has one device, cpu; {device!r} was asked for (PORTABLE_NN_DEVICE)")
    return _backend


def status() -> Status:
    """Return "ready"."""
    return Status("numpy", "ready", devices=tuple(_backend.devices()))


Override = Callable[..., Any]
