"""Call: one op applied to specs and settings, without values. What plans, backends, captures and flop counts are given."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from .spec import Spec, Weak

Operand = Spec | Weak | None


@dataclass(frozen=True, slots=True, eq=False)
class Call:
    """An op's name, the specs of its operands and outputs, and its settings.

    Parameters
    ----------
    op : str
        Name in the registry.
    inputs : tuple of Spec, Weak or None
        One per array parameter, in signature order; None for an optional array left out; a parameter that
        takes a list of arrays contributes one entry per array. A Python scalar operand is `Weak`.
    outputs : tuple of Spec
        Outputs, then residuals if `residuals`.
    settings : mapping
        Every other parameter by name, defaults filled in.
    residuals : bool
        Whether the tape asked for the residual outputs.
    """

    op: str
    inputs: tuple[Operand, ...]
    outputs: tuple[Spec, ...]
    settings: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))
    residuals: bool = False

    def spec(self, index: int) -> Spec:
        """Return the spec of operand `index`, which must be an array."""
        spec = self.inputs[index]
        assert isinstance(spec, Spec), f"{self.op}: operand {index} is {spec}"
        return spec
