"""DeviceBackend: the road from a call to launches, the same for OpenCL, CuPy and numba. Plan, allocate, launch.

An adapter says how to allocate, how to alias, and how to bind one launch; it computes nothing itself.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

from portable_nn.core import dtypes, tree
from portable_nn.core.backend import Backend, Prepared
from portable_nn.core.call import Call
from portable_nn.core.errors import NoKernel
from portable_nn.core.fused import Fed, Fused
from portable_nn.core.op import Op
from portable_nn.core.precision import get_float32_matmul_precision
from portable_nn.core.program import Program, Replay
from portable_nn.core.registry import OPS
from portable_nn.core.selection import use_backend
from portable_nn.core.spec import Spec
from portable_nn.core.tuning import Tunable

from .launch import In, Launch, Out, Plan, Profile, slots_of
from .plans import RULES, elementwise
from .plans import all as _every_plan  # noqa: F401  (fills RULES)
from .plans.copies import copy_launch
from .plans.fed import plan_fed
from .plans.fused import ends_in_mapping, plan_fused
from .sizes import tunables

if TYPE_CHECKING:
    from .replay import FixedLaunch

# Takes the call's arrays and scalars (operands, then outputs, then scratch) and enqueues one kernel.
BoundLaunch = Callable[[Sequence[Any]], None]


class DeviceBackend(Backend):
    """A backend that runs plans."""

    profile: Profile
    plans_memory = True
    counts_writes = False  # `version_of` tells of every write into an array, so what was made of one may be kept

    @property
    def wants_channels_last(self) -> bool:  # type: ignore[override]
        """CPU-shaped convolutions do; what pays on GPUs is not known."""
        return self.profile.shape == "cpu"

    def tunables(self) -> tuple[Tunable, ...]:
        """Return the sizes that may vary on this device."""
        return tunables(self.profile)

    def use_sizes(self, sizes: Mapping[str, Any]) -> None:
        """Let plans read these sizes, and the declared ones where it names none."""
        self.profile = replace(self.profile, sizes=dict(sizes))
        for op in OPS.values():
            op.forget()  # what was prepared has the sizes of then

    @abstractmethod
    def allocate(self, spec: Spec) -> Any:
        """Return an array of `spec`'s shape, dtype and strides (dense) with undefined contents."""

    @abstractmethod
    def alias(self, x: Any, spec: Spec, offset: int) -> Any:
        """Return a view of `x`'s memory read as `spec`, `offset` elements after `x`'s first."""

    @abstractmethod
    def bind(self, launch: Launch, slots: Sequence[int | None]) -> BoundLaunch:
        """Compile (or find) the launch's kernel and preset every constant.

        `slots[i]` is the position of argument i in the list the bound launch will be given; None for constants.
        """

    def plan(self, op: Op | Fused | Fed, call: Call, kept: frozenset[int] = frozenset()) -> Plan:
        """Return the launches of `call`, whose operands `kept` never change. Raises `NoKernel` naming what is missing."""
        for spec in (*call.inputs, *call.outputs):
            if isinstance(spec, Spec) and not self.supports(spec.dtype):
                raise NoKernel(f"{op.name}: {self.name} on {self.device} has no {spec.dtype.name}; use a dtype it has, such as float32")
        precision = get_float32_matmul_precision()
        profile = self.profile if self.profile.float32_matmul == precision else replace(self.profile, float32_matmul=precision)
        profile = replace(profile, kept=kept) if kept else profile
        if isinstance(op, Fused):
            return plan_fused(op, call, profile, self.plan)
        if isinstance(op, Fed):
            plan = plan_fed(op, profile)
            assert plan is not None, f"{op.name} was joined where `feeds` says no"
            return plan
        if op.expression is not None:
            return elementwise.plan(op, call, profile)
        rule = RULES.get(op.name)
        if rule is None:
            raise NoKernel(f"{op.name}: backend {self.name} has no kernel for it")
        return rule(call, profile)

    def ends_in_mapping(self, op: Op, call: Call) -> bool:
        """Tell whether elementwise calls on the first output can be computed where the call stores it."""
        return ends_in_mapping(self.plan(op, call), call.outputs[0]) is not None

    def feeds(self, op: Fed, call: Call) -> bool:
        """Tell whether a convolution can make its images as `op` says."""
        del call
        return plan_fed(op, self.profile) is not None

    def lower(self, op: Op | Fused | Fed, call: Call, in_place: bool = False, kept: frozenset[int] = frozenset()) -> Plan:
        """Plan the call; `in_place`: an output lies where an operand does, so kernels must not be promised that they do not overlap."""
        plan = self.plan(op, call, kept)
        if in_place:
            plan = replace(plan, launches=tuple(replace(x, defines=(("PNN_IN_PLACE", 1), *x.defines)) for x in plan.launches))
        return plan

    def bind_plan(self, op: Op | Fused | Fed, call: Call, plan: Plan, fixed: bool = False) -> list[Any]:
        """Bind the launches of a planned call; `fixed` for a replay (see `bind_fixed`)."""
        del op
        n_in, n_out = len(call.inputs), len(call.outputs)
        bind = self.bind_fixed if fixed else self.bind
        return [bind(launch, slots_of(launch, n_in, n_out)) for launch in plan.launches]

    def prepare(self, op: Op, call: Call) -> Prepared:
        """Plan the call, bind its launches, and return what allocates and launches."""
        if op.view is not None:
            strides_offset = op.view(call)
            if strides_offset is not None:
                return self._view(call, *strides_offset)
        plan = self.lower(op, call)
        bound = self.bind_plan(op, call, plan)
        n_out = len(call.outputs)
        allocate, outputs, scratch = self.allocate, call.outputs, plan.scratch
        if len(bound) == 1 and not scratch and n_out == 1:
            only, out = bound[0], outputs[0]

            def run_one(operands: Sequence[Any]) -> tuple[Any, ...]:
                y = allocate(out)
                only((*operands, y))
                return (y,)

            return run_one

        def run(operands: Sequence[Any]) -> tuple[Any, ...]:
            outs = tuple([allocate(spec) for spec in outputs])
            slots = (*operands, *outs, *[allocate(spec) for spec in scratch])
            for launch in bound:
                launch(slots)
            return outs

        return run

    def warm_up(self, f: Callable[..., Any], *args: Any) -> None:
        """Run `f` on arrays without memory, and build the programs of what it launches."""
        from .rehearsal import Rehearsal  # it derives from this class

        stage = Rehearsal(self.profile)

        def twin(x: Any) -> Any:
            return stage.allocate(self.spec_of(x)) if hasattr(x, "dtype") and hasattr(x, "shape") else x

        with stage.recording() as launches, use_backend(stage):
            f(*(tree.map(twin, arg) for arg in args))
        self.build({(r.launch.source, r.launch.defines): r.launch for r in launches}.values())

    def build(self, launches: Collection[Launch]) -> None:
        """Compile the programs of `launches`. By default nothing is done: they are compiled when they are bound."""
        del launches

    # -- captured steps: what an adapter may do better than launch after launch -----------------------------------------

    def replay(self, program: Program) -> Replay:
        """Plan the memory of a captured step, bind every launch to it, and return what runs it."""
        from .replay import PlannedReplay  # it works with this class

        return PlannedReplay(self, program)

    def bind_fixed(self, launch: Launch, slots: Sequence[int | None]) -> Any:
        """Bind a launch of a replay, most of whose arrays never change; return what `launcher` understands."""
        return self.bind(launch, slots)

    def launcher(self, launches: Sequence[FixedLaunch]) -> Callable[[], None]:
        """Return what launches them all, in order, on the arrays that each has in its `given` when it is called."""

        def run() -> None:
            for launch in launches:
                launch.bound(launch.given)

        return run

    def shared(self, x: Any) -> Any:
        """Return an array of the memory of `x` that can be revoked apart from it."""
        return self.alias(x, self.spec_of(x), 0)

    def revoke(self, x: Any) -> None:
        """Make an array that `shared` gave raise when it is used: its memory is about to be overwritten."""
        del x

    def _view(self, call: Call, strides: tuple[int, ...], offset: int) -> Prepared:
        spec = Spec(call.outputs[0].shape, call.outputs[0].dtype, strides)
        source = next(i for i, s in enumerate(call.inputs) if isinstance(s, Spec))
        alias = self.alias

        def run(operands: Sequence[Any]) -> tuple[Any, ...]:
            return (alias(operands[source], spec, offset),)

        return run

    def write(self, target: Any, value: Any) -> None:
        """Copy `value` into `target`, an array or view of the same shape, converting the dtype."""
        key = (self.spec_of(target), self.spec_of(value))
        bound = self._writes.get(key)
        if bound is None:
            launch = copy_launch(key[1], In(0), key[0], Out(0), self.profile)
            bound = self._writes[key] = self.bind(launch, slots_of(launch, 1, 1))
        bound((value, target))

    @cached_property
    def _writes(self) -> dict[tuple[Spec, Spec], BoundLaunch]:
        return {}

    def supports(self, dtype: Any) -> bool:
        """Tell whether the device computes with `dtype`."""
        return self.profile.float64 or dtype not in (dtypes.float64, dtypes.complex128)

