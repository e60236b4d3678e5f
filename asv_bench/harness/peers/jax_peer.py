"""JAX on the CPU, everything through jax.jit."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from .peer import CHECKED_STEPS, LR, MOMENTUM, Peer, Work, there
from .rows import resnet20_blocks


class JaxPeer(Peer):
    """JAX."""

    def start(self) -> str:
        """Import."""
        self.jax = there("jax")
        self.jnp, self.lax = self.jax.numpy, self.jax.lax
        return str(self.jax.__version__)

    def _work(self, f: Callable[..., Any], operands: Sequence[Any], g: Any = None, differentiated: int | None = None) -> Work:
        jax, count = self.jax, len(operands) if differentiated is None else differentiated
        given = [self.jnp.asarray(x) for x in operands]
        if g is None:
            whole = jax.jit(lambda *xs: (f(*xs),))
        else:
            given.append(self.jnp.asarray(g))

            def both(*xs: Any) -> Any:
                y, pull = jax.vjp(lambda *some: f(*some, *xs[count:-1]), *xs[:count])
                return (y, *pull(xs[-1]))

            whole = jax.jit(both)
        last: list[Any] = [None]

        def run() -> Any:
            last[0] = whole(*given)
            return last[0]

        return Work(run, lambda: [np.asarray(x) for x in run()], lambda: jax.block_until_ready(last[0]))

    def matmul(self, a: Any, b: Any) -> Work:
        """Products."""
        return self._work(self.jnp.matmul, (a, b))

    def _conv(self, x: Any, w: Any, padding: int = 0, stride: int = 1, groups: int = 1) -> Any:
        return self.lax.conv_general_dilated(
            x, w, (stride, stride), [(padding, padding)] * 2, dimension_numbers=("NCHW", "OIHW", "NCHW"), feature_group_count=groups
        )

    def _max_pool(self, x: Any) -> Any:
        return self.lax.reduce_window(x, -self.jnp.inf, self.lax.max, (1, 1, 2, 2), (1, 1, 2, 2), "VALID")

    def _batch_norm(self, x: Any, w: Any, b: Any) -> Any:
        mean, var = x.mean((0, 2, 3)), x.var((0, 2, 3))
        scale = w * self.lax.rsqrt(var + 1e-5)
        return x * scale[:, None, None] + (b - mean * scale)[:, None, None], mean, var

    def _cross_entropy(self, x: Any, labels: Any) -> Any:
        return -self.jnp.mean(self.jnp.take_along_axis(self.jax.nn.log_softmax(x), labels[:, None], 1))

    def conv(self, arrays: dict[str, Any], padding: int, groups: int) -> Work:
        """Convolution, NCHW."""
        return self._work(lambda x, w: self._conv(x, w, padding, groups=groups), (arrays["x"], arrays["w"]), arrays.get("g"))

    def op(self, op: str, arrays: dict[str, Any]) -> Work:
        """Memory-bound ops."""
        jax, jnp = self.jax, self.jnp

        def layer_norm(x: Any, w: Any, b: Any) -> Any:
            mean = x.mean(-1, keepdims=True)
            return (x - mean) * self.lax.rsqrt(x.var(-1, keepdims=True) + 1e-5) * w + b

        functions = {
            "relu": jax.nn.relu, "gelu": lambda x: jax.nn.gelu(x, approximate=False), "softmax": lambda x: jax.nn.softmax(x, -1),
            "max_pool": self._max_pool, "layer_norm": layer_norm, "batch_norm": lambda x, w, b: self._batch_norm(x, w, b)[0],
            "cross_entropy": self._cross_entropy, "copy": jnp.copy,
        }  # fmt: skip
        operands = [arrays[name] for name in ("x", "w", "b", "labels") if name in arrays]
        return self._work(functions[op], operands, arrays.get("g"), len(operands) - ("labels" in arrays))

    # -- models: functions of a dict of weights; with training, the new running statistics ------------------------------

    def _apply(self, model: str, p: dict[str, Any], x: Any, train: bool) -> tuple[Any, dict[str, Any]]:
        jax, state = self.jax, dict[str, Any]()
        relu = jax.nn.relu

        def linear(name: str, x: Any) -> Any:
            return x @ p[f"{name}.weight"].T + p[f"{name}.bias"]

        def norm(name: str, x: Any) -> Any:
            mean, var = p[f"{name}.running_mean"], p[f"{name}.running_var"]
            if not train:
                scale = p[f"{name}.weight"] * self.lax.rsqrt(var + 1e-5)
                return x * scale[:, None, None] + (p[f"{name}.bias"] - mean * scale)[:, None, None]
            y, m, v = self._batch_norm(x, p[f"{name}.weight"], p[f"{name}.bias"])
            count = x.size // x.shape[1]
            state[f"{name}.running_mean"] = 0.9 * mean + 0.1 * m
            state[f"{name}.running_var"] = 0.9 * var + 0.1 * v * count / (count - 1)
            return y

        if model == "mlp":
            return linear("head", relu(linear("hidden.0", x.reshape(len(x), -1)))), state
        if model == "lenet":
            x = self._max_pool(relu(self._conv(x, p["conv1.weight"], 2) + p["conv1.bias"][:, None, None]))
            x = self._max_pool(relu(self._conv(x, p["conv2.weight"]) + p["conv2.bias"][:, None, None])).reshape(len(x), -1)
            return linear("fc3", relu(linear("fc2", relu(linear("fc1", x))))), state
        x = relu(norm("bn1", self._conv(x, p["conv1.weight"], 1)))
        for name, stride in resnet20_blocks():
            around = x
            if f"{name}.downsample.0.weight" in p:
                around = norm(f"{name}.downsample.1", self._conv(x, p[f"{name}.downsample.0.weight"], 0, stride))
            x = relu(norm(f"{name}.bn1", self._conv(x, p[f"{name}.conv1.weight"], 1, stride)))
            x = relu(norm(f"{name}.bn2", self._conv(x, p[f"{name}.conv2.weight"], 1)) + around)
        return linear("fc", x.mean((2, 3))), state

    def infer(self, model: str, given: dict[str, Any], images: Any) -> Work:
        """A forward pass, and its scores on the host."""
        p = {name: self.jnp.asarray(x) for name, x in given.items()}
        x, forward = self.jnp.asarray(images), self.jax.jit(lambda p, x: self._apply(model, p, x, False)[0])
        return Work(lambda: np.asarray(forward(p, x)), lambda: [np.asarray(forward(p, x))])

    def train(self, model: str, given: dict[str, Any], images: Any, labels: Any) -> Work:
        """One jitted step; the state's memory is donated."""
        jax, jnp = self.jax, self.jnp
        x, target = jnp.asarray(images), jnp.asarray(labels)

        def one(p: Any, rest: Any, momenta: Any) -> Any:
            def loss_of(p: Any) -> Any:
                scores, state = self._apply(model, {**p, **rest}, x, True)
                return self._cross_entropy(scores, target), state

            (loss, state), grads = jax.value_and_grad(loss_of, has_aux=True)(p)
            momenta = jax.tree.map(lambda m, g: MOMENTUM * m + g, momenta, grads)
            return jax.tree.map(lambda w, m: w - LR * m, p, momenta), state, momenta, loss

        step = jax.jit(one, donate_argnums=(0, 1, 2))

        def begun() -> Callable[[], Any]:
            learned = {n: jnp.asarray(x) for n, x in given.items() if "running" not in n}
            state = learned, {n: jnp.asarray(x) for n, x in given.items() if "running" in n}, jax.tree.map(jnp.zeros_like, learned)

            def run() -> Any:
                nonlocal state
                *now, self._last = step(*state)
                state = tuple(now)  # type: ignore[assignment]
                return self._last

            return run

        def losses() -> list[Any]:
            run = begun()
            return [float(run()) for _ in range(CHECKED_STEPS)]

        return Work(begun(), losses, lambda: jax.block_until_ready(self._last))
