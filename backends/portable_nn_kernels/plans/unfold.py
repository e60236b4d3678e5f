"""Plans of unfold and fold: one launch each."""

from __future__ import annotations

from portable_nn.core import dtypes
from portable_nn.core.call import Call
from portable_nn.core.geometry import conv_window, pair
from portable_nn_kernels.launch import Arg, Const, Define, In, Launch, Out, Plan, Profile

from . import plans
from .index_width import index_tag
from .pool import walk


@plans("unfold", "fold")
def unfold(call: Call, profile: Profile) -> Plan:
    """Plan one launch over the results."""
    x, y, settings, fold = call.spec(0), call.outputs[0], call.settings, call.op == "fold"
    if y.size == 0:
        return Plan(())
    size = y.shape[2:] if fold else x.shape[2:]
    kernel = pair(call.op, "kernel_size", settings["kernel_size"])
    axes = conv_window(call.op, size, kernel, settings["stride"], settings["padding"], settings["dilation"])
    numbers = [*y.shape[:2]]
    for name in ("size", "out", "kernel", "stride", "before", "dilation"):
        numbers += [getattr(a, name) for a in axes]
    constants: list[tuple[str, Define]] = []
    if profile.shape == "cpu":
        fields = (("K", "kernel"), ("S", "stride"), ("D", "dilation"))
        constants = [(letter + axis, getattr(a, name)) for letter, name in fields for axis, a in zip("HW", axes, strict=True)]
    count, group = walk(profile, y)
    defines: tuple[tuple[str, Define], ...] = (
        ("T", dtypes.TAGS[y.dtype]), ("SIZE", group), ("ROWS", int(profile.shape == "cpu")), ("LAST", 0), ("IX", index_tag(y.size)), ("FOLD", int(fold)), *constants,
    )  # fmt: skip
    args: tuple[Arg, ...] = (In(0), Out(0), *(Const("i64", v) for v in (*numbers, *x.strides)))
    return Plan((Launch(f"pnn_{call.op}", "unfold.c", (count,), (group,), args, defines),))
