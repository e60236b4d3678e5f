"""A numba kernel to a function that runs on the CPU: NVVM IR, intrinsics renamed, compiled by LLVM, kept in the user's cache."""

from __future__ import annotations

import ctypes
import hashlib
import os
import re
import subprocess
import tempfile
from collections.abc import Sequence
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cuda_cpu import build as cuda_build

from portable_nn.core.errors import BackendError

if TYPE_CHECKING:
    from portable_nn_numba.programs import Program

TARGET = "sm_90"
_HERE = Path(__file__).parent


@cache
def missing() -> str:
    """Return why numba's kernels cannot run on this machine; empty if they can."""
    if cuda_build.missing():
        return cuda_build.missing()
    mlir = os.environ.get("PORTABLE_NN_NUMBA") == "numba-cuda-mlir"
    for package in ("numba_cuda_mlir" if mlir else "numba_cuda", "llvmlite"):
        if find_spec(package) is None:
            return f"{package} is not installed"
    if os.environ.get("NUMBA_ENABLE_CUDASIM", "0") not in ("", "0"):
        return "numba's simulator is on (NUMBA_ENABLE_CUDASIM): it has no compiler"
    from portable_nn_numba import shim

    if shim.PACKAGE != "numba-cuda":
        return "" if mlir else f"{shim.PACKAGE} compiles for AMD"
    try:
        import numba.cuda.compiler as compiler
        import numba.cuda.dispatcher as dispatcher

        compiler._compile_pyfunc_with_fixup, dispatcher.get_current_device  # noqa: B018
    except (ImportError, AttributeError) as error:
        return f"{shim.version()} has changed what this uses: {error}"
    return ""


def cache_folder() -> Path:
    """Return where compiled kernels are kept."""
    return cuda_build.cache_folder().parent / "numba_cpu"


def _written(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=".new-")
    with os.fdopen(handle, "wb") as file:
        file.write(data)
    os.replace(name, path)


@cache
def _threads() -> Any:
    """Return the library of fibers, whose symbols kernels are linked with."""
    import llvmlite.binding as llvm

    text = (_HERE / "shim.cpp").read_text() + (_HERE.parent / "cuda_cpu" / "shim.h").read_text()
    path = cache_folder() / f"shim-{hashlib.sha256(text.encode()).hexdigest()[:16]}.so"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        made = path.with_suffix(f".{os.getpid()}")
        command = [str(cuda_build.compiler()), *cuda_build.OPTIONS, *cuda_build.FAST, str(_HERE / "shim.cpp"), "-o", str(made), "-lm"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise BackendError(f"g++ refused shim.cpp: {done.stderr[:500]}")
        os.replace(made, path)
    llvm.load_library_permanently("libm.so.6")
    llvm.load_library_permanently(str(path))
    return ctypes.CDLL(str(path))


# -- the text ---------------------------------------------------------------------------------------------------------

_SREG = re.compile(r'"llvm\.nvvm\.read\.ptx\.sreg\.(n?tid|n?ctaid)\.([xyz])"')
_DECLARED = re.compile(r'(declare i32 @"nvvm_n?(?:cta|t)id_[xyz]"\(\))')
_ASKED = re.compile(r'call i32 asm "mov\.u32 \$0, %(n?(?:cta|t)id)\.([xyz]);", "=r"\(\)')  # numba-cuda-mlir's spelling of both
_BARRIER_ASM = re.compile(r'call void asm sideeffect "bar\.sync 0;", ""\(\)')
_DROPPED = re.compile(r"^(target (triple|datalayout) = .*|!nvvm.*|@\"?llvm\.used\"? = .*)$", re.MULTILINE)
_KERNEL_MARK = re.compile(r'^!\d+ = !\{ ?(?:void )?\(?[^\n]*!"(?:kernel|maxntidx|maxntidy|maxntidz)", i32 \d+ ?\}$', re.MULTILINE)
_BARRIER = re.compile(r'call void @"llvm\.nvvm\.barrier0"\(\)')
_OWN = ("isnand", "isnanf", "isinfd", "isinff", "float_as_int", "int_as_float", "double_as_longlong", "longlong_as_double")  # not libm's
_DEVICE_MATH = {f"__nv_{name}": f"pnn_{name}" for name in _OWN}
_PARAMETER = re.compile(r", (?![^{}]*\})")  # a comma, but not that of a complex number's {float, float}
_SHARED = re.compile(r'^(@(?:"[^"]+"|[\w.$]+)) = (?:private )?addrspace\(3\) (?:internal )?global (.+?) (?:undef|zeroinitializer)', re.MULTILINE)


def _for_cpu(text: str) -> str:
    text = _DROPPED.sub("", text)
    text = _KERNEL_MARK.sub("", text)
    text = _SREG.sub(r'"nvvm_\1_\2"', text)
    asked = sorted({"_".join(found) for found in _ASKED.findall(text)})
    text = _ASKED.sub(r'call i32 @"nvvm_\1_\2"()', text) + "".join(f'\ndeclare i32 @"nvvm_{name}"()' for name in asked)
    text, barriers = _BARRIER_ASM.subn('call void @"llvm.nvvm.barrier0"()', text)
    text = text.replace("define ptx_kernel ", "define ") + ('\ndeclare void @"llvm.nvvm.barrier0"()' if barriers else "")
    text = _DECLARED.sub(r"\1 memory(none) nounwind willreturn", text)
    numbers = iter(range(1, 1 << 30))
    text = _BARRIER.sub(lambda _: f'call void @"pnn_barrier_number"(i32 {next(numbers)})', text)
    text = text.replace('declare void @"llvm.nvvm.barrier0"()', 'declare void @"pnn_barrier_number"(i32)')
    return re.sub(r'"?\b__nv_(\w+)\b"?', lambda m: f'"{_DEVICE_MATH.get("__nv_" + m[1], m[1])}"', text)


def _stub(text: str, entry: str, digest: str) -> str:
    """Return what calls the kernel with an array of pointers to its arguments, and what poisons its shared arrays."""
    header = re.search(rf'^define (?:ptx_kernel )?void @"?{re.escape(entry)}"?\((.*)\)', text, re.MULTILINE)
    assert header is not None, entry
    kinds = [part.partition(" %")[0] for part in _PARAMETER.split(header[1])]
    lines = [f"define void @pnn_body_{digest}(i8** %all) {{"]
    for i, kind in enumerate(kinds):
        lines += [
            f"  %at{i} = getelementptr i8*, i8** %all, i64 {i}",
            f"  %raw{i} = load i8*, i8** %at{i}",
            f"  %p{i} = bitcast i8* %raw{i} to {kind}*",
            f"  %v{i} = load {kind}, {kind}* %p{i}",
        ]
    given = ", ".join(f"{kind} %v{i}" for i, kind in enumerate(kinds))
    lines += [f'  call void @"{entry}"({given})', "  ret void", "}"]
    lines.append(f"define void @pnn_poison_{digest}() {{")
    for i, (name, kind) in enumerate(_SHARED.findall(text)):
        size = f"ptrtoint ({kind}* getelementptr ({kind}, {kind}* null, i32 1) to i64)"
        lines.append(f"  %s{i} = addrspacecast {kind} addrspace(3)* {name} to i8*")
        lines.append(f"  call void @pnn_poison_bytes(i8* %s{i}, i64 {size})")
    lines += ["  ret void", "}", "declare void @pnn_poison_bytes(i8*, i64)"]
    return "\n".join(lines)


@cache
def _machine() -> Any:
    import llvmlite.binding as llvm

    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    target = llvm.Target.from_default_triple()
    return target.create_target_machine(
        cpu=llvm.get_host_cpu_name(), features=llvm.get_host_cpu_features().flatten(), opt=2, reloc="static", codemodel="large"
    )


@cache
def _engine() -> Any:
    import llvmlite.binding as llvm

    _threads()
    _machine()
    return llvm.create_mcjit_compiler(llvm.parse_assembly(""), _machine())


def object_code(modules: Sequence[str], entry: str, digest: str) -> bytes:
    """Return x86 code of a kernel and of the functions it calls."""
    import llvmlite.binding as llvm

    machine = _machine()
    first, *others = modules
    poison = _stub(first, entry, digest)
    linked = llvm.parse_assembly(_for_cpu(first) + "\n" + poison)
    for text in others:
        linked.link_in(llvm.parse_assembly(_for_cpu(text)))
    for symbol in (*linked.functions, *linked.global_variables):  # numba's names are unique in one process, and this is cached
        if not symbol.is_declaration and not symbol.name.startswith(("pnn_body_", "pnn_poison_")):
            symbol.linkage = "internal"
    linked.triple = llvm.get_default_triple()
    linked.data_layout = str(machine.target_data)
    builder = llvm.create_pass_builder(machine, llvm.create_pipeline_tuning_options(speed_level=2))
    builder.getModulePassManager().run(linked, builder)
    code: bytes = machine.emit_object(linked)
    return code


class Kernel:
    """A compiled kernel: call it with the grid, the block and the ctypes values of its arguments."""

    def __init__(self, program: Program) -> None:
        import llvmlite.binding as llvm

        self.name = program.name
        self.parameters = program.parameters
        digest = hashlib.sha256((program.digest + Path(__file__).read_text()).encode()).hexdigest()[:32]
        path = cache_folder() / f"{digest}.o"
        engine = _engine()
        if path.exists():
            code = path.read_bytes()
        else:
            library = program.compile(TARGET)
            code = object_code(library.llvm(), library.entry, digest)
            _written(path, code)
        engine.add_object_file(llvm.ObjectFileRef.from_data(code))
        engine.finalize_object()
        self._body = engine.get_function_address(f"pnn_body_{digest}")
        self._poison = engine.get_function_address(f"pnn_poison_{digest}")
        self._report = (ctypes.c_int * 2)()

    def __call__(self, grid: Sequence[int], block: Sequence[int], values: Sequence[Any], reverse: bool = False) -> None:
        """Run the kernel; `values` are ctypes objects, seven of them for the error word."""
        addresses = (ctypes.c_void_p * max(len(values), 1))(*map(ctypes.addressof, values))
        threads = _threads()
        missed = threads.pnn_run(
            ctypes.c_void_p(self._body), ctypes.c_void_p(self._poison), _three(grid), _three(block), addresses, int(reverse), self._report
        )
        if missed:
            came, of = self._report
            raise BackendError(f"{self.name}: barrier divergence: {came} of {of} threads came to barrier {missed}")


def _three(size: Sequence[int]) -> Any:
    return (ctypes.c_uint * 3)(*size, *(1,) * (3 - len(size)))
