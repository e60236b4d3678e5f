"""One class per op of the registry, made from its record: a new op is benchmarked without a line here.

Times are seconds of one call, device-synchronised. The version is the record's, so history breaks when the meaning does.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import ClassVar

import portable_nn.ops  # noqa: F401  (fills the registry)
from portable_nn.core.op import Op
from portable_nn.core.registry import OPS

from .calls import cases, timed
from .choice import BACKENDS, DIRECTIONS, DTYPES, OPS_PATTERN, PROFILE
from .patience import limited


class _Timed:
    record: ClassVar[str]
    param_names = ("backend", "dtype", "case", "direction")
    rounds = 2
    repeat = (3, 50, PROFILE.seconds)
    warmup_time = 0.02
    call: Callable[[], None]

    def setup(self, *params: str) -> None:
        if params[0] == "numpy" and not _numpy_has_its_own(self.record):
            with limited(PROFILE.patience, (self.record, params[2]), params[3]):
                self.call = timed(self.record, *params)
        else:
            self.call = timed(self.record, *params)

    def time_call(self, *_: str) -> None:
        """Run the op (forward), its gradient rule (backward) or both under a tape (full), and wait for the device."""
        self.call()


def _numpy_has_its_own(name: str) -> bool:
    from portable_nn_numpy.overrides import OVERRIDES

    return name in OVERRIDES


def _class(op: Op) -> type:
    names = list(cases(op))
    directions = [d for d in DIRECTIONS if d == "forward" or op.vjp is not None] or ["forward"]
    params = [list(BACKENDS), list(DTYPES), names[:1] if PROFILE.cases == "first" else names, directions]
    return type(op.name, (_Timed,), {"record": op.name, "params": params, "version": op.version, "__module__": __name__})


def _wanted(op: Op) -> bool:
    return bool(cases(op) and (op.bench or PROFILE.ops == "all") and re.fullmatch(OPS_PATTERN, op.name))


globals().update({name: _class(op) for name, op in OPS.items() if _wanted(op)})
