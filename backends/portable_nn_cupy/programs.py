"""Programs: kernel text through `cupy.RawModule`. CuPy keeps the binaries on disk (CUPY_CACHE_DIR)."""

from __future__ import annotations

from typing import Any

import cupy

from portable_nn.core.errors import BackendError
from portable_nn_kernels.launch import Define, Launch
from portable_nn_kernels.source import program_text

from .devices import is_hip

# What DIALECT.md asks of the compiler: no contraction. CuPy adds the architecture, the standard (C++17) and -ftz=true.
CUDA_OPTIONS = ("--fmad=false",)
HIP_OPTIONS = ("-ffp-contract=off",)


class Programs:
    """The compiled programs of one device."""

    def __init__(self) -> None:
        self._kept: dict[tuple[str, tuple[tuple[str, Define], ...]], Any] = {}
        self.options = HIP_OPTIONS if is_hip() else CUDA_OPTIONS

    def kernel(self, launch: Launch) -> Any:
        """Return the launch's kernel on the current device, compiled and loaded."""
        key = (launch.source, launch.defines)
        module = self._kept.get(key)
        if module is None:
            text = program_text(launch.source, launch.defines, "cuda")
            module = self._kept[key] = cupy.RawModule(code=text, options=self.options)
        try:
            # The function object itself: RawKernel looks it up by device at each call, and we are bound to one.
            return module.get_function(launch.kernel).kernel
        except cupy.cuda.compiler.CompileException as error:
            raise BackendError(_refusal(launch, str(error))) from error
        except cupy.cuda.driver.CUDADriverError as error:
            where = "its rendered text" if "\n" in launch.source else launch.source
            raise BackendError(f"{launch.kernel}: {where} holds no kernel of this name, or does not load ({error})") from error


def _refusal(launch: Launch, log: str) -> str:
    lines = [line for line in log.splitlines() if line.strip()]
    errors = [i for i, line in enumerate(lines) if "error" in line]
    shown = lines[errors[0] : errors[0] + 6] if errors else lines[:8]
    defines = " ".join(f"{name}={value}" for name, value in launch.defines)
    where = "its rendered text" if "\n" in launch.source else launch.source
    return "\n  ".join([f"{launch.kernel}: the CUDA compiler refused {where} with {defines or 'no defines'}:", *shown])
