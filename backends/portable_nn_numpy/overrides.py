"""Faster forms of reference bodies, by op name; each is tested against the body it replaces."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from . import conv, pool

OVERRIDES: dict[str, Callable[..., Any]] = {
    "conv2d": conv.conv2d,
    "conv2d_act": conv.conv2d_act,
    "conv2d_input_grad": conv.conv2d_input_grad,
    "conv2d_weight_grad": conv.conv2d_weight_grad,
    "max_pool2d": pool.max_pool2d,
    "max_pool2d_grad": pool.max_pool2d_grad,
    "avg_pool2d": pool.avg_pool2d,
    "avg_pool2d_grad": pool.avg_pool2d_grad,
    "adaptive_avg_pool2d": pool.adaptive_avg_pool2d,
}
