"""What a first process will probably compile: known before its own step is, since most steps that are trained end the same way."""

from __future__ import annotations

from portable_nn.core import dtypes
from portable_nn.core.registry import OPS
from portable_nn.core.selection import use_backend
from portable_nn.core.spec import Spec
from portable_nn.core.tape import value_and_grad
from portable_nn_kernels.launch import Launch, Profile
from portable_nn_kernels.rehearsal import Rehearsal

_BATCH, _FEATURES, _CLASSES = 128, 64, 10  # others of such sizes need the same programs


def classifier_head(profile: Profile) -> list[Launch]:
    """Return a launch of each program that the head of a classifier needs: linear, cross entropy, their gradients."""
    stage = Rehearsal(profile)
    x, weight, bias = (stage.allocate(Spec(s, dtypes.float32)) for s in ((_BATCH, _FEATURES), (_CLASSES, _FEATURES), (_CLASSES,)))
    labels = stage.allocate(Spec((_BATCH,), dtypes.int64))
    with stage.recording() as recorded, use_backend(stage):
        value_and_grad(lambda given: OPS["cross_entropy"](OPS["linear"](*given), labels))((x, weight, bias))
    # The cotangent that a gradient begins with is a constant of a captured step.
    return list({(r.launch.source, r.launch.defines): r.launch for r in recorded if r.op != "ones_like"}.values())
