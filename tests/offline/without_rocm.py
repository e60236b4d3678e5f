"""Let numba-hip compile on a machine without ROCm: what its wheels expect beside them, made of Debian's packages.

Real are numba-hip, its LLVM (in the wheel `rocm-bindings-compiler`), clang's parser, the HIP header and the device library
(of an older ROCm). A stand-in is Comgr, the library in which AMD keeps clang and lld: here they are run as programs, and what
LLVM makes of a kernel comes from numba-hip's own LLVM. So this says that numba-hip takes a kernel, and that a code object
comes out; not that AMD's own compiler would make the same one.
"""

from __future__ import annotations

import ctypes
import os
import subprocess
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

from .amd import _NEAREST, clang

INSTALL = "apt install gcc clang-22 lld-22 libamd-comgr2 libhiprtc-builtins5 rocm-device-libs"
_LIBRARIES = Path("/usr/lib/x86_64-linux-gnu")
_BITCODE = _LIBRARIES / "amdgcn" / "bitcode"
_TRIPLE = b"amdgcn-amd-amdhsa"
# Compression, which LLVM is linked with and compiling a kernel does not use.
_NAMES = {
    "z": ("compress2", "compressBound", "crc32", "uncompress"),
    "zstd": (
        "ZSTD_CCtx_setParameter", "ZSTD_compress2", "ZSTD_compressBound", "ZSTD_createCCtx", "ZSTD_decompress", "ZSTD_freeCCtx",
        "ZSTD_getErrorName", "ZSTD_isError",
    ),
}  # fmt: skip
# What the header of HIP 5.2 takes for granted of its own compiler.
_OPTIONS = ("-DHIP_PI=3.141592653589793", "-DHIP_PI_F=3.14159265f", "-mcode-object-version=5")
_FENCE = """
extern "C" __attribute__((device)) void __atomic_work_item_fence(__cl_mem_fence_flags, __memory_order, __memory_scope) {
    __builtin_amdgcn_fence(__ATOMIC_SEQ_CST, "agent");
}
"""


def wanted() -> bool:
    """Return whether this machine has no ROCm."""
    return not Path(os.environ.get("ROCM_PATH", "/opt/rocm")).exists()


def _run(*words: str | Path) -> None:
    done = subprocess.run(list(map(str, words)), capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{words[0]}: {done.stderr[:2000]}")


def prepare() -> None:
    """Do it, before numba-hip is imported."""
    root = Path(tempfile.mkdtemp(prefix="portable_nn-without-rocm-"))
    (root / "lib").mkdir()
    for name, version in (("libamd_comgr", 2), ("libhiprtc-builtins", 5)):
        there = _LIBRARIES / f"{name}.so.{version}"
        if not there.exists():
            raise RuntimeError(f"{there} is not there ({INSTALL})")
        (root / "lib" / f"{name}.so").symlink_to(there)
    resources = Path(subprocess.run([str(clang()), "-print-resource-dir"], capture_output=True, text=True, check=True).stdout.strip())
    (root / "llvm" / "lib").mkdir(parents=True)
    (root / "llvm" / "lib" / "clang").symlink_to(resources.parent)
    (root / "versions").write_text("AMDROCM_SYSDEPS_1.0 { *; };")
    for name, functions in _NAMES.items():
        (root / "absent.c").write_text("void abort(void);\n" + "".join(f"void {f}(void) {{ abort(); }}\n" for f in functions))
        file = root / "lib" / f"librocm_sysdeps_{name}.so.1"
        _run(
            "gcc", "-shared", "-fPIC", "-fno-builtin", "-w", root / "absent.c", "-o", file,
            f"-Wl,-soname,{file.name}", f"-Wl,--version-script={root / 'versions'}",
        )  # fmt: skip
        ctypes.CDLL(str(file))  # libLLVM.so, which asks for it by this name, then finds it loaded
    os.environ["ROCM_PATH"] = str(root)
    os.environ["NUMBA_HIP_LIBCLANG_FILE"] = str(next(_LIBRARIES.glob(f"libclang-{resources.name}.so.*")))
    os.environ["NUMBA_HIP_USE_DEVICE_LIB_CACHE"] = "0"  # a real ROCm's must not be mixed with this
    from rocm import comgr

    comgr.compile_hip_to_bc, comgr.compile_bc = _hip_to_bitcode, _to_code_object


def _hip_to_bitcode(
    source: str, isa_name: str, hip_version_tuple: tuple[int, ...], logging: bool = False, extra_opts: list[str] | None = None
) -> tuple[bytes, None, None]:
    processor = isa_name.partition("--")[2]
    wave = 64 if processor.startswith("gfx9") else 32
    names = (
        "abi_version_500", f"isa_version_{_NEAREST[processor]}", "unsafe_math_off", "finite_only_off", "daz_opt_off",
        "correctly_rounded_sqrt_on", f"wavefrontsize64_{'on' if wave == 64 else 'off'}",
    )  # fmt: skip
    linked = [_BITCODE / f"{name}.bc" for name in ("opencl", "ocml", "ockl", *(f"oclc_{n}" for n in names))]
    with tempfile.TemporaryDirectory(prefix="portable_nn-hip-") as folder:
        text, made = Path(folder) / "source.hip", Path(folder) / "source.bc"
        text.write_text(source + (_FENCE if "__cl_mem_fence_flags" in source else ""))
        _run(
            str(clang()), "-x", "hip", "-O3", "-c", "-emit-llvm", "-std=c++14", "-w", "-nogpulib", "-nogpuinc", "-fgpu-rdc", "--offload-device-only",
            "--no-gpu-bundle-output", f"--offload-arch={processor}", f"-D__AMDGCN_WAVEFRONT_SIZE={wave}", *_OPTIONS,
            *(f"-DHIP_VERSION_{n}={v}" for n, v in zip(("MAJOR", "MINOR", "PATCH"), hip_version_tuple, strict=True)),
            *(w for path in linked for w in ("-Xclang", "-mlink-builtin-bitcode", "-Xclang", path)), *(extra_opts or ()), text, "-o", made,
        )  # fmt: skip
        return made.read_bytes(), None, None


@cache
def _without_vectors() -> None:
    from rocm.bindings.llvm.c import support

    words = (ctypes.c_char_p * 2)(b"numba-hip", b"-vectorize-loops=0")
    support.LLVMParseCommandLineOptions(2, ctypes.c_void_p(ctypes.addressof(words)), None)


def _to_code_object(code: bytes, isa_name: str, extra_opts: list[str]) -> tuple[bytes, None, None]:
    from numba.hip.util import llvmutils
    from rocm.bindings.llvm.c import core, target, targetmachine
    from rocm.bindings.llvm.c.transforms import passbuilder

    assert extra_opts == ["-ffp-contract=off", "-fno-vectorize"]  # the first is LLVM's own default, and not that of AMD's clang
    _without_vectors()
    for made_ready in ("TargetInfos", "Targets", "TargetMCs", "AsmPrinters"):
        getattr(target, f"LLVMInitializeAll{made_ready}")()
    _, found, _ = targetmachine.LLVMGetTargetFromTriple(_TRIPLE)
    machine = targetmachine.LLVMCreateTargetMachine(
        found, _TRIPLE, isa_name.partition("--")[2].encode(), b"", targetmachine.LLVMCodeGenOptLevel.LLVMCodeGenLevelAggressive,
        targetmachine.LLVMRelocMode.LLVMRelocPIC, targetmachine.LLVMCodeModel.LLVMCodeModelDefault,
    )  # fmt: skip
    module: Any = llvmutils._get_module_in_context(core.LLVMContextCreate(), code)[0]
    passbuilder.LLVMRunPasses(module, b"default<O3>", machine, passbuilder.LLVMCreatePassBuilderOptions())
    with tempfile.TemporaryDirectory(prefix="portable_nn-hip-") as folder:
        part, whole = Path(folder) / "kernel.o", Path(folder) / "kernel.hsaco"
        kind = targetmachine.LLVMCodeGenFileType.LLVMObjectFile
        targetmachine.LLVMTargetMachineEmitToFile(machine, module, str(part).encode(), kind, None)
        linker = subprocess.run([str(clang()), "-print-prog-name=ld.lld"], capture_output=True, text=True, check=True).stdout.strip()
        _run(linker, "-shared", "--no-undefined", part, "-o", whole)
        return whole.read_bytes(), None, None
