"""Own numba kernels from the library's device functions, which are the twins of `portable_nn_kernels.compose`'s in C.

Kernels are the user's, written with `numba.cuda` and launched as always. Arrays are flat: a function that reads memory is
given a one-dimensional array and an index. See docs/composing.md.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any

from portable_nn.core.expression import KernelExpression
from portable_nn_kernels.compose import op_terms

from .dialect import ADD as ADD
from .dialect import FMA as FMA
from .dialect import LOAD as LOAD
from .dialect import MADD as MADD
from .dialect import STORE as STORE
from .kernels.gemm_tile import GemmTile as GemmTile
from .kernels.gemm_tile import gemm_tile as gemm_tile
from .kernels.philox import pnn_block as pnn_block
from .kernels.philox import pnn_fraction_f32 as pnn_fraction_f32
from .kernels.philox import pnn_fraction_f64 as pnn_fraction_f64
from .kernels.philox import pnn_normal_at_f32 as pnn_normal_at_f32
from .kernels.philox import pnn_normal_pair_f32 as pnn_normal_pair_f32
from .kernels.philox import pnn_normal_pair_f64 as pnn_normal_pair_f64
from .kernels.philox import pnn_philox as pnn_philox
from .kernels.philox import pnn_uniform_at_f32 as pnn_uniform_at_f32
from .kernels.row import row_reduction as row_reduction
from .kernels.softmax_row import SoftmaxRow as SoftmaxRow
from .kernels.softmax_row import softmax_row as softmax_row
from .rendered import SCOPE
from .scalar import pnn as pnn
from .shim import device


def op_function(name: str, tag: str, **settings: Any) -> Callable[..., Any]:
    """Return an elementwise op as a device function of values of `tag`, "f32" or "f64".

    The parameters are those of `op_terms`, in the order of the op's signature. ``op_function("gelu", "f32", approximate="tanh")``.

    Raises
    ------
    SettingError
        An op that is not elementwise, has several outputs or takes no floats; an unknown setting.
    """
    return _made(name, tag, tuple(settings.items()))


@lru_cache(maxsize=256)
def _made(name: str, tag: str, settings: tuple[tuple[str, Any], ...]) -> Callable[..., Any]:
    parameters, steps, value = op_terms(name, tag, dict(settings))
    lines = [f"def pnn_op_{name}_{tag}({', '.join(f'v_{n}' for n, _ in parameters)}):"]
    lines += [f"    v_{t.name} = {tag}({KernelExpression(t.text).render_python(tag)})" for t in steps]
    lines.append(f"    return {tag}({KernelExpression(value.text).render_python(tag)})")
    scope = dict(SCOPE)
    exec("\n".join(lines), scope)
    return device(scope[f"pnn_op_{name}_{tag}"])
