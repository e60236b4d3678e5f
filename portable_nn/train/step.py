"""One training step: forward, loss, backward, update. Everything else in this folder is around it.

A model is a record that does not change, so a step takes a state and returns the next one. Nothing in it waits for the
device: loss and scores come back as device arrays, and `read_loss` is the one place where the trainer waits.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from .. import nn, ops
from ..core import tree
from ..core.array import Array
from ..core.tape import value_and_grad
from ..optim import LossScale, Optimizer, average, clip_by_global_norm, counted_on_device, keep_if

Loss = Callable[[Any, Any], Any]
"""``loss(outputs, targets) -> 0-d array``."""


@dataclass(frozen=True)
class TrainState:
    """What changes from step to step: the model, what the optimiser remembers, and how many steps were taken.

    `averages` holds the moving averages of the model's arrays by name, and `scale` the state of loss scaling; both are
    empty when they are not asked for.
    """

    model: Any
    optimizer: dict[str, Any]
    step: int = 0
    averages: dict[str, Any] = field(default_factory=dict)
    scale: dict[str, Any] = field(default_factory=dict)

    def tree_children(self) -> dict[str, Any]:
        """Return what it holds, by name: a state is a tree."""
        return dict(vars(self))

    def tree_rebuild(self, children: dict[str, Any]) -> TrainState:
        """Return a state of these."""
        return TrainState(**children)

    def averaged(self) -> Any:
        """Return the model to test and to save: of averaged weights where there are averages."""
        return nn.with_state(self.model, self.averages)


@dataclass(frozen=True)
class Recipe:
    """What a step does beyond the plain one.

    Parameters
    ----------
    clip_norm : float, optional
        Longest that all gradients together may be.
    ema : float, optional
        Part of the averages of weights that stays in a step.
    precision : str
        Dtype of forward and backward pass: "float32", "bfloat16" or "float16". Weights and updates keep their own.
    scaling : LossScale, optional
        For float16.
    """

    clip_norm: float | None = None
    ema: float | None = None
    precision: str = "float32"
    scaling: LossScale | None = None

    def begin(self, model: Any, optimizer: Optimizer) -> TrainState:
        """Return the state of a run that starts with `model`."""
        averages = {} if self.ema is None else nn.state_dict(model)
        remembered, scale = optimizer.init(nn.params(model)), {}
        if self.scaling is not None:
            remembered, scale = counted_on_device(remembered), self.scaling.init()
        return TrainState(model, remembered, 0, averages, scale)


PLAIN = Recipe()


def gradients(
    model: Any, images: Array, targets: Any, *, loss: Loss, key: Array | None = None, precision: str = "float32", scale: Any = None
) -> tuple[Array, Any, dict[str, Array], dict[str, Array]]:
    """Return (loss, outputs, learned, grads): what one batch says about a model.

    `learned` holds the new running statistics by name. The loss and what it starts from are float32 whatever the
    `precision` of the model; with a `scale`, the gradients are those of the loss times it.
    """
    low = precision != "float32"

    def loss_of(params: dict[str, Array]) -> tuple[Array, Any]:
        inputs = images
        if low:
            params, inputs = tree.map(lambda x: ops.astype(x, precision), (params, images))
        outputs, learned = nn.apply(nn.with_params(model, params), inputs, train=True, key=key)
        if low:
            outputs = tree.map(lambda x: ops.astype(x, "float32"), outputs)
        plain = loss(outputs, targets)
        return (plain if scale is None else ops.multiply(plain, scale)), (plain, outputs, learned)

    (_, (value, outputs, learned)), grads = value_and_grad(loss_of, has_aux=True)(nn.params(model))
    return value, outputs, learned, grads


def update(
    state: TrainState, optimizer: Optimizer, grads: dict[str, Array], learned: dict[str, Array], *, lr: float, recipe: Recipe = PLAIN
) -> TrainState:
    """Return the state one step on."""
    finite, scale = None, state.scale
    if recipe.scaling is not None:
        grads, finite = recipe.scaling.unscale(grads, scale)
        scale = recipe.scaling.next(scale, finite)
    if recipe.clip_norm is not None:
        grads, _ = clip_by_global_norm(grads, recipe.clip_norm)
    before = nn.params(state.model)
    params, remembered = optimizer.update(before, grads, state.optimizer, lr=lr)
    made = params | learned
    if finite is not None:  # a step that overflowed changes nothing
        held = nn.state_dict(state.model)
        made = keep_if(finite, made, {name: held[name] for name in made})
        remembered = keep_if(finite, remembered, state.optimizer)
    model = nn.with_state(state.model, made)
    averages = state.averages if recipe.ema is None else average(state.averages, nn.state_dict(model), recipe.ema, state.step)
    return TrainState(model, remembered, state.step + 1, averages, scale)


def train_step(
    state: TrainState, optimizer: Optimizer, images: Array, labels: Any, *, lr: float, key: Array | None = None,
    label_smoothing: float = 0.0, loss: Loss | None = None, recipe: Recipe = PLAIN,
) -> tuple[TrainState, Array, Any]:  # fmt: skip
    """Take one step.

    Parameters
    ----------
    state : TrainState
    optimizer : Optimizer
        From `portable_nn.optim`.
    images : array, (B, C, H, W)
    labels : array, (B,) integer
        Or probabilities, (B, K), as mixing gives them; or what `loss` takes.
    lr : float
        Learning rate of this step.
    key : array, optional
        Key of the run, from `portable_nn.random_key`; models with dropout need it. The step number is folded in.
    label_smoothing : float
        Part of the target that is spread over all classes.
    loss : callable, optional
        ``loss(outputs, targets) -> 0-d array``, in place of cross-entropy.
    recipe : Recipe
        Clipping, averages of weights, precision.

    Returns
    -------
    state : TrainState
        One step on.
    loss : array, 0-d
    scores : array, (B, K)
    """
    step_key = None if key is None else ops.fold_in(key, state.step)
    value, scores, learned, grads = gradients(
        state.model, images, labels, loss=loss or cross_entropy(label_smoothing), key=step_key,
        precision=recipe.precision, scale=state.scale.get("scale"),
    )  # fmt: skip
    return update(state, optimizer, grads, learned, lr=lr, recipe=recipe), value, scores


def accumulated_step(
    state: TrainState, optimizer: Optimizer, batches: list[tuple[Array, Any]], *, lr: float, loss: Loss,
    key: Array | None = None, recipe: Recipe = PLAIN,
) -> tuple[TrainState, Array, Any]:  # fmt: skip
    """Take one step by the gradients of several batches, averaged by their images; loss and scores are of the last.

    The result is that of one large batch, up to rounding, for models without batch normalisation.
    """
    total = sum(images.shape[0] for images, _ in batches)
    step_key = None if key is None else ops.fold_in(key, state.step)
    model, sums = state.model, None
    learned: dict[str, Array] = {}
    for number, (images, targets) in enumerate(batches):
        value, scores, now, grads = gradients(
            model, images, targets, loss=loss, key=None if step_key is None else ops.fold_in(step_key, number),
            precision=recipe.precision, scale=state.scale.get("scale"),
        )  # fmt: skip
        part = images.shape[0] / total
        grads = tree.map(lambda g, part=part: ops.multiply(g, part), grads)
        sums = grads if sums is None else tree.map(ops.add, sums, grads)
        model, learned = nn.with_state(model, now), learned | now
    return update(state, optimizer, sums or {}, learned, lr=lr, recipe=recipe), value, scores


def cross_entropy(label_smoothing: float = 0.0) -> Loss:
    """Return the loss of a classifier."""
    return lambda scores, labels: ops.cross_entropy(scores, labels, label_smoothing=label_smoothing)


def read_loss(loss: Array) -> float:
    """Wait for a loss: the trainer's one synchronisation with the device, taken only when a loss is logged."""
    return float(loss)
