"""Plans: pure functions from a call and a device profile to launches, registered by op name. No GPU API is imported here."""

from __future__ import annotations

from collections.abc import Callable

from portable_nn.core.call import Call
from portable_nn_kernels.launch import Plan, Profile

PlanRule = Callable[[Call, Profile], Plan]

RULES: dict[str, PlanRule] = {}


def plans(*ops: str) -> Callable[[PlanRule], PlanRule]:
    """Register the decorated function as the plan rule of `ops`."""

    def register(rule: PlanRule) -> PlanRule:
        for op in ops:
            assert op not in RULES, f"two plan rules for {op}"
            RULES[op] = rule
        return rule

    return register
