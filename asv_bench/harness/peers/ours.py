"""portable_nn: call by call, captured, and captured on channels-last arrays."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from .peer import CHECKED_STEPS, LR, MOMENTUM, Peer, Unsupported, Work


class OursPeer(Peer):
    """portable_nn on one backend.

    Parameters
    ----------
    captured : bool
        Through `pnn.capture`.
    channels_last : bool
        With images stored channels last.
    """

    def __init__(self, captured: bool, channels_last: bool = False) -> None:
        super().__init__()
        self.captured, self.channels_last = captured, channels_last

    def start(self) -> str:
        """Import, and choose the backend PORTABLE_NN_BACKEND names, or the best."""
        import portable_nn as pnn
        from portable_nn.core import selection

        self.pnn, self.backend = pnn, selection.default()
        return f"{pnn.__version__} on {self.backend.name}: {self.backend.device}"

    def peaks(self, backend: str = "") -> dict[str, Any]:
        """Measure what the device can do at most."""
        del backend
        from .limits import measured

        return measured(self.backend)

    def _there(self, x: np.ndarray[Any, Any]) -> Any:
        if not self.channels_last or x.ndim != 4:
            return self.backend.from_numpy(x)
        there = self.backend.from_numpy(np.ascontiguousarray(x.transpose(0, 2, 3, 1)))
        return self.pnn.ops.permute(there, (0, 3, 1, 2))

    def _maybe(self, f: Callable[..., Any], **settings: Any) -> Callable[..., Any]:
        if not self.captured:
            return f
        made: Callable[..., Any] = self.pnn.capture(f, **settings)
        return made

    def _work(self, f: Callable[..., Any], operands: Sequence[Any], g: Any = None, differentiated: int | None = None) -> Work:
        """Return the work of f on operands, and of the gradients for the first `differentiated` where g is given."""
        Tape, count = self.pnn.Tape, len(operands) if differentiated is None else differentiated
        if g is None:
            whole = self._maybe(lambda *xs: (f(*xs),))
            given = tuple(operands)
        else:

            def both(g: Any, *xs: Any) -> Any:
                with Tape() as tape:
                    watched = [tape.watch(x) for x in xs[:count]]
                    y = f(*watched, *xs[count:])
                return (y.value, *tape.gradient(y, watched, g))

            whole, given = self._maybe(both), (g, *operands)

        def run() -> Any:
            return whole(*given)

        def results() -> list[Any]:
            run(), run()
            return [self.backend.to_numpy(x) for x in run()]

        return Work(run, results, self.backend.synchronize)

    def matmul(self, a: Any, b: Any) -> Work:
        """Products."""
        if self.channels_last:
            raise Unsupported("layout is nothing to this row")
        return self._work(self.pnn.ops.matmul, (self._there(a), self._there(b)))

    def conv(self, arrays: dict[str, Any], padding: int, groups: int) -> Work:
        """Convolution."""
        conv2d, there = self.pnn.ops.conv2d, {name: self._there(x) for name, x in arrays.items()}
        return self._work(lambda x, w: conv2d(x, w, padding=padding, groups=groups), (there["x"], there["w"]), there.get("g"))

    def op(self, op: str, arrays: dict[str, Any]) -> Work:
        """Memory-bound ops."""
        if self.channels_last and arrays["x"].ndim != 4:
            raise Unsupported("layout is nothing to this row")
        ops, there = self.pnn.ops, {name: self._there(x) for name, x in arrays.items()}
        functions = {
            "relu": ops.relu, "gelu": ops.gelu, "softmax": lambda x: ops.softmax(x, -1), "max_pool": lambda x: ops.max_pool2d(x, 2),
            "layer_norm": lambda x, w, b: ops.layer_norm(x, (x.shape[-1],), w, b),
            "batch_norm": lambda x, w, b: ops.batch_norm_train(x, w, b)[0],
            "cross_entropy": ops.cross_entropy, "copy": lambda x: x * 1.0,  # a copy by name would be a view
        }  # fmt: skip
        operands = [there[name] for name in ("x", "w", "b", "labels") if name in there]
        return self._work(functions[op], operands, there.get("g"), len(operands) - ("labels" in there))

    def _model(self, model: str, given: dict[str, Any]) -> Any:
        from portable_nn import models, nn

        made = models.MLP((1, 28, 28), 10, hidden=(256,)) if model == "mlp" else models.create(model, (1, 28, 28) if model == "lenet" else (3, 32, 32), 10)
        return nn.load_state_dict(made, given).to(self.backend)

    def infer(self, model: str, given: dict[str, Any], images: Any) -> Work:
        """A forward pass, and its scores on the host."""
        if self.channels_last:
            raise Unsupported("a net keeps the layout it chooses")
        net, x = self._model(model, given), self.backend.from_numpy(images)
        forward = self._maybe(lambda x: net(x))

        def run() -> Any:
            return self.backend.to_numpy(forward(x))

        def results() -> list[Any]:
            run(), run()
            return [run()]

        return Work(run, results)

    def train(self, model: str, given: dict[str, Any], images: Any, labels: Any) -> Work:
        """The library's own training step, as its trainer runs it."""
        from portable_nn import nn, optim
        from portable_nn.train import TrainState, train_step

        if self.channels_last:
            raise Unsupported("a net keeps the layout it chooses")
        optimizer = optim.sgd(LR, momentum=MOMENTUM)
        there = self.backend
        x, target = there.from_numpy(images), there.from_numpy(labels)

        def one(state: Any, x: Any, target: Any) -> Any:
            state, loss, _ = train_step(state, optimizer, x, target, lr=LR)
            return state, loss

        def begun() -> Callable[[], Any]:
            net = self._model(model, given)
            with self.pnn.use_backend(there):
                state = TrainState(net, optimizer.init(nn.params(net)))
            step = self._maybe(one, donate="state") if self.captured else one

            def run() -> Any:
                nonlocal state
                with self.pnn.use_backend(there):
                    state, loss = step(state, x, target)
                return loss

            return run

        def losses() -> list[Any]:
            step = begun()
            return [float(there.to_numpy(step())) for _ in range(CHECKED_STEPS)]

        return Work(begun(), losses, there.synchronize)
