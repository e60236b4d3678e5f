"""Muon: momentum whose update is made orthogonal, matrix by matrix; everything that is no matrix goes to AdamW.

A weight of a convolution (O, I, H, W) is taken as the matrix (O, I H W). Keller Jordan 2024,
https://kellerjordan.github.io/posts/muon; scaling by the shape as in Liu et al. 2025, arXiv:2502.16982.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from .. import ops
from ..core import tree
from ..core.array import Array
from ..core.number import plain_float
from .leaves import Decays, State, check, check_decay, decay_of, update_leaves
from .optimizers import Adam

COEFFICIENTS = (3.4445, -4.775, 2.0315)
"""a, b, c of one Newton-Schulz step ``X -> a X + (b A + c A A) X``, ``A = X X^T``: steep at 0, so that five steps suffice."""

ADJUST = ("match_rms_adamw", "original")


def orthogonalize(x: Array, steps: int = 5, eps: float = 1e-7) -> Array:
    """Return a matrix with the singular vectors of `x` and singular values near 1 (0.7 to 1.2), by matrix products alone.

    Parameters
    ----------
    x : array, (M, N)
        Real floating.
    steps : int
        Newton-Schulz steps.
    eps : float
        Added to the length of `x`, by which it is divided first; a matrix of zeros stays one.
    """
    tall = x.shape[0] > x.shape[1]
    x = ops.matrix_transpose(x) if tall else x
    x = ops.divide(x, ops.add(ops.sqrt(ops.sum(ops.square(x))), eps))
    a, b, c = COEFFICIENTS
    for _ in range(steps):
        gram = ops.matmul(x, ops.matrix_transpose(x))
        poly = ops.add(ops.multiply(gram, b), ops.multiply(ops.matmul(gram, gram), c))
        x = ops.add(ops.multiply(x, a), ops.matmul(poly, x))
    return ops.matrix_transpose(x) if tall else x


def hidden_matrices(params: Any) -> tuple[bool, ...]:
    """Tell for each leaf whether it is a hidden weight: two axes or more, and not the last such one, which is the head.

    Embeddings of position are none either. This is the default choice of what Muon updates.
    """
    named = tree.named_leaves(params)
    chosen = [len(x.shape) >= 2 and name.rpartition(".")[2] not in ("pos_embed", "cls_token") for name, x in named]
    last = max((i for i, yes in enumerate(chosen) if yes), default=-1)
    return tuple(yes and i != last for i, yes in enumerate(chosen))


@dataclass(frozen=True)
class Muon:
    """Made by `muon`."""

    lr: float
    momentum: float = 0.95
    weight_decay: float = 0.0
    nesterov: bool = True
    ns_steps: int = 5
    adjust_lr: str = "match_rms_adamw"
    betas: tuple[float, float] = (0.9, 0.95)
    eps: float = 1e-8
    decays: Decays | None = None
    chooses: Callable[[Any], tuple[bool, ...]] = hidden_matrices

    def _parts(self, params: Any, *trees: Any) -> tuple[list[str], dict[str, Any], dict[str, Any]]:
        """Return all names, and {name: (param, *leaves)} of the matrices and of the rest."""
        named = tree.named_leaves(params)
        columns = [tree.leaves(tree.map(lambda _, leaf: leaf, params, t)) for t in trees]
        rows = {name: (x, *(c[i] for c in columns)) for i, (name, x) in enumerate(named)}
        chosen = dict(zip(rows, self.chooses(params), strict=True))
        return list(rows), {n: r for n, r in rows.items() if chosen[n]}, {n: r for n, r in rows.items() if not chosen[n]}

    @property
    def _adam(self) -> Adam:
        return Adam(self.lr, self.betas, self.eps, self.weight_decay, True, self.decays)

    def init(self, params: Any) -> State:
        """Return zero momentum for matrices, and the state of AdamW for the rest."""
        _, matrices, rest = self._parts(params)
        return {
            "momentum_buffer": {n: ops.zeros_like(row[0]) for n, row in matrices.items()},
            "adamw": self._adam.init({n: row[0] for n, row in rest.items()}),
        }

    def update(self, params: Any, grads: Any, state: State, lr: float | None = None) -> tuple[Any, State]:
        """Return (params, state) one step on; `lr` in place of the optimiser's own."""
        rate = plain_float(self.lr if lr is None else lr)
        order, matrices, rest = self._parts(params, grads)
        held = {n: row[0] for n, row in matrices.items()}

        def one(p: Array, decay: float, g: Array, buffer: Array) -> tuple[Array, Array]:
            buffer = ops.average_step(buffer, g, float(self.momentum))
            step = ops.average_step(g, buffer, 1.0 - float(self.momentum)) if self.nesterov else buffer
            flat = ops.reshape(step, (p.shape[0], math.prod(p.shape[1:])))
            made = ops.reshape(orthogonalize(flat, self.ns_steps), p.shape)
            return ops.sgd_step(ops.multiply(p, 1.0 - rate * decay), made, rate * self._factor(flat.shape), 0.0), buffer

        decay = decay_of(held, self.weight_decay, self.decays)
        made = update_leaves(one, held, decay, {n: row[1] for n, row in matrices.items()}, state["momentum_buffer"])
        moved, buffers = made or ({}, {})
        others, adamw = self._adam.update({n: row[0] for n, row in rest.items()}, {n: row[1] for n, row in rest.items()}, state["adamw"], rate)
        every = {**moved, **others}
        return tree.unflatten(params, [every[n] for n in order]), {"momentum_buffer": buffers, "adamw": adamw}

    def _factor(self, shape: tuple[int, ...]) -> float:
        """By how much the rate of a matrix differs, so that matrices of all shapes move alike."""
        rows, columns = shape
        if self.adjust_lr == "original":
            return math.sqrt(max(1.0, rows / columns))
        return 0.2 * math.sqrt(max(rows, columns))  # the root mean square of AdamW's updates is 0.2 to 0.4


def muon(
    lr: float = 1e-3, momentum: float = 0.95, weight_decay: float = 0.1, nesterov: bool = True, ns_steps: int = 5,
    adjust_lr: str = "match_rms_adamw", betas: tuple[float, float] = (0.9, 0.95), eps: float = 1e-8,
    decays: Decays | None = None, chooses: Callable[[Any], tuple[bool, ...]] = hidden_matrices,
) -> Muon:  # fmt: skip
    """Return Muon for hidden matrices, with AdamW for the rest (biases, norms, embeddings, the head), as one optimiser.

    Parameters
    ----------
    lr : float
        Of both. With ``adjust_lr="match_rms_adamw"`` the rates and decays that suit AdamW suit Muon.
    momentum : float
        Part of the average of gradients that stays, in [0, 1).
    weight_decay : float
        Parameters shrink by ``lr weight_decay`` per step.
    nesterov : bool
        Look one step ahead, as `torch.optim.Muon` does by default.
    ns_steps : int
        Newton-Schulz steps, at least 1.
    adjust_lr : str
        "match_rms_adamw": times 0.2 sqrt(max(rows, columns)); "original": times sqrt(max(1, rows / columns)).
    betas, eps
        Of AdamW.
    decays : callable, optional
        ``decays(name, param) -> bool``: which parameters `weight_decay` touches; all by default.
    chooses : callable
        ``chooses(params) -> (bool, ...)``, one per leaf: which are updated by Muon.

    Raises
    ------
    SettingError
        A setting outside its range.
    """
    check("muon: lr", lr >= 0, lr, "a number of at least 0")
    check("muon: momentum", 0 <= momentum < 1, momentum, "a number in [0, 1)")
    check("muon: ns_steps", ns_steps >= 1, ns_steps, "an integer of at least 1")
    check("muon: adjust_lr", adjust_lr in ADJUST, adjust_lr, " or ".join(ADJUST))
    check("muon: betas", len(betas) == 2 and all(0 <= b < 1 for b in betas), betas, "two numbers in [0, 1)")
    check_decay("muon", weight_decay)
    return Muon(lr, momentum, weight_decay, nesterov, ns_steps, adjust_lr, betas, eps, decays, chooses)
