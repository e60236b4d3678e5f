"""Own kernels from the library's device functions: text for PyOpenCL, for CuPy's RawKernel and for HIP.

A kernel written in the dialect includes the headers it needs; `opencl_source` and `cuda_source` make what a compiler is
given. Numba's device functions of the same names are in `portable_nn_numba.compose`. See docs/composing.md.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterable, Mapping
from typing import Any

from portable_nn.core.elementwise import Elementwise, parse
from portable_nn.core.errors import SettingError
from portable_nn.core.expression import KernelExpression
from portable_nn.core.op import SETTING, Op
from portable_nn.core.registry import find

from .launch import Define, Term
from .source import kernel_file, program_text

HEADERS = ("math.h", "row.h", "softmax_row.h", "random.h", "gemm_tile.h")  # what kernels of other people may include
_CONDITION = re.compile(r"\bwhere\((\w+),")  # an operand that is a bool
Ops = Iterable[str] | Mapping[str, Mapping[str, Any]]


def op_terms(name: str, tag: str, settings: Mapping[str, Any] | None = None) -> tuple[list[tuple[str, str]], list[Term], Term]:
    """Return what an elementwise op computes for one element: parameters with their tags, named values, and the result.

    Parameters are the op's operands, then its numeric settings, in the order of its signature. All are of the compute
    type but conditions, which are i32.

    Parameters
    ----------
    name : str
        An elementwise op of one output that takes floats: ``"gelu"``, ``"gelu_grad"``.
    tag : "f32" or "f64"
        The compute type.
    settings : mapping, optional
        Of settings that choose between expressions (``approximate="tanh"``); their defaults otherwise.

    Raises
    ------
    SettingError
        An op that is not elementwise, has several outputs or takes no floats; an unknown setting.
    """
    op: Op = find(name)
    rule: Elementwise | None = op.expression
    if rule is None or len(rule.texts) != 1 or "float" not in rule.kinds:
        raise SettingError(f"{name} is no function of one element: an elementwise op of floats with one output is needed, such as 'gelu'")
    known = {n: p.default for n, p in op.signature.parameters.items() if op.roles[n] == SETTING}
    unknown = [n for n in settings or {} if n not in known]
    if unknown:
        raise SettingError(f"{name} has no setting {unknown[0]!r}; it has {', '.join(known) or 'none'}")
    chosen = {n: None if v is inspect.Parameter.empty else v for n, v in known.items()} | dict(settings or {})
    (text,) = rule.texts.values()
    expression = parse(text, chosen, frozenset())
    assigned, value = expression.split()
    conditions = set(_CONDITION.findall(expression.text)) & set(rule.apart)
    given = [(n, "i32" if n in conditions else tag) for n in op.signature.parameters if n in expression.names]
    return given, [Term(tag, step, n) for n, step in assigned], Term(tag, value)


def op_functions(ops: Ops) -> str:
    """Return kernel text with a device function ``pnn_op_<op>_<tag>`` for each elementwise op, in f32 and (where there is) f64.

    Its parameters are those of `op_terms`: ``f32 pnn_op_leaky_relu_f32(f32 x, f32 negative_slope)``.
    """
    chosen = ops if isinstance(ops, Mapping) else {name: {} for name in ops}
    lines = ['#include "math.h"']
    for name, settings in chosen.items():
        for tag in ("f32", "f64"):
            parameters, steps, value = op_terms(name, tag, settings)
            rendered = KernelExpression(value.text).render_c(tag)
            given = ", ".join(f"{of} v_{n}" for n, of in parameters) or "void"
            body = [f"const {tag} v_{t.name} = {KernelExpression(t.text).render_c(tag)};" for t in steps]
            function = f"DEVICE {tag} pnn_op_{name}_{tag}({given}) {{ {' '.join([*body, f'return {rendered};'])} }}"
            lines += [function] if tag == "f32" else ["#ifdef PNN_F64", function, "#endif"]
    return "\n".join(lines) + "\n"


def _source(text: str, language: Any, ops: Ops, defines: Mapping[str, Define] | None, first: tuple[tuple[str, Define], ...] = ()) -> str:
    return program_text(f"{op_functions(ops) if ops else ''}{text}\n", (*first, *(defines or {}).items()), language)


def opencl_source(text: str, *, ops: Ops = (), defines: Mapping[str, Define] | None = None, float64: bool = False) -> str:
    """Return OpenCL C 1.2 of a kernel in the dialect, for `pyopencl.Program`: prelude, defines, functions of ops, includes, `text`.

    Parameters
    ----------
    text : str
        The kernel; ``#include "row.h"`` and the other `HEADERS` are pasted in.
    ops : sequence of str, or mapping of str to settings
        Elementwise ops to have as functions: ``("gelu",)``, ``{"gelu": {"approximate": "tanh"}}``. See `op_functions`.
    defines : mapping, optional
        Compile-time constants, such as the tile of `gemm_tile.h`.
    float64 : bool
        Whether the device has float64; defines PNN_F64.
    """
    return _source(text, "opencl", ops, defines, (("PNN_F64", 1),) if float64 else ())


def cuda_source(text: str, *, ops: Ops = (), defines: Mapping[str, Define] | None = None) -> str:
    """Return CUDA C++ of a kernel in the dialect, which HIP compiles too; parameters as `opencl_source`.

    For ``cupy.RawKernel(source, name, options=("--fmad=false",))``: products and sums are fused where the text says FMA.
    """
    return _source(text, "cuda", ops, defines)


def header(name: str) -> str:
    """Return the text of one of `HEADERS`, to be read."""
    if name not in HEADERS:
        raise SettingError(f"there is no header {name!r} for own kernels; there are {', '.join(HEADERS)}")
    return kernel_file(name)
