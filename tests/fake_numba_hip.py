"""As much of numba-hip 0.2 as the shim uses, for a process without it: the same names and signatures, and nothing is compiled.

It writes down a kernel's name and parameters where the real one writes AMD's code. `test_numba_packages.py` compares its
signatures with the real one's where that is installed.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from importlib import metadata
from importlib.machinery import ModuleSpec
from types import ModuleType, SimpleNamespace
from typing import Any

VERSIONS = {"numba-hip": "0.2.1+fake", "rocm-bindings-compiler": "10.0+fake"}
compiled: list[tuple[str, Any, list[str]]] = []  # processor, signature, options


def jit(func_or_sig: Any = None, device: bool = False, **options: Any) -> Callable[..., Any]:
    assert func_or_sig is None
    assert device
    assert not options
    return lambda function: function


def compile_llvm_ir(
    pyfunc: Any, sig: Any, debug: bool = False, lineinfo: bool = False, device: bool = False, fastmath: bool = False,
    amdgpu_arch: str | None = None, opt: bool = True, to_bc: bool = False, ir_as_str: bool = True, name: str | None = None,
    link_in_hipdevicelib: bool = True,
) -> tuple[str, Any]:  # fmt: skip
    assert amdgpu_arch
    assert sys.modules["numba.hip.dispatcher"].get_current_device().amdgpu_arch == amdgpu_arch  # type: ignore[attr-defined]
    assert not any((debug, lineinfo, device, fastmath, to_bc, name))
    compiled.append((amdgpu_arch, sig, []))
    given = ", ".join(f"{'ptr' if '*' in str(a) else a} %.{i + 1}" for i, a in enumerate(sig.args))
    return f"define protected amdgpu_kernel void @_ZN5hippy{len(pyfunc.__name__)}{pyfunc.__name__}E({given}) {{", None


def compile_bc(
    ir_or_bc: Any, isa_name: Any, bc_kind: str = "BC", extra_opts: Any = (), default_opts: Any = ("-O3",), logging: bool = False
) -> tuple[bytes, None, None]:
    assert isinstance(ir_or_bc, bytes)
    processor = isa_name.removeprefix("amdgcn-amd-amdhsa--")
    assert processor == compiled[-1][0]
    assert b') "amdgpu-flat-work-group-size"="1,256" {' in ir_or_bc
    compiled[-1][2].extend(extra_opts)
    entry = ir_or_bc.decode().partition("@")[2].partition("(")[0]
    return b"\x7fELF\0" + entry.encode() + b"\0" + entry.encode() + b".kd\0", None, None


def to_bc(mod: Any, mod_len: int = -1) -> bytes:
    return str(mod).encode()


def _no_device() -> Any:
    raise RuntimeError("there is no device")


def install() -> None:
    """Put it where numba-hip would be."""
    import numba

    names: dict[str, dict[str, Any]] = {
        "numba.hip": {"jit": jit, "compile_llvm_ir": compile_llvm_ir, **{n: SimpleNamespace() for n in ("shared", "local")}},
        "numba.hip.dispatcher": {"get_current_device": _no_device},
        "numba.hip.util": {},
        "numba.hip.util.llvmutils": {"to_bc": to_bc},
        "rocm": {},
        "rocm.comgr": {"compile_bc": compile_bc},
    }
    for name, attributes in names.items():
        module = ModuleType(name)
        module.__spec__ = ModuleSpec(name, None)
        vars(module).update(attributes)
        sys.modules[name] = module
        parent, _, child = name.rpartition(".")
        if parent:
            setattr(numba if parent == "numba" else sys.modules[parent], child, module)
    real = metadata.version
    metadata.version = lambda name: VERSIONS.get(name) or real(name)
