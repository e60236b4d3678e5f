"""The process of a peer; `PEERS` says which there are, with the variables that make each what it is.

    PYTHONPATH=<copy>:<copy>/backends:<asv_bench> <its python> -m harness.library torch
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any

from .worker import serve


@dataclass(frozen=True)
class Kind:
    """A peer.

    Parameters
    ----------
    says : str
        What it is, for the table's legend.
    module, make : str
        Where its class is, and how it is made of it.
    environment : dict
        Variables of its process; an empty one is taken away.
    """

    says: str
    module: str
    make: Callable[[Any], Any]
    environment: dict[str, str] = field(default_factory=dict)


# glibc gives large blocks back to the system and takes them anew, with page faults; these keep them.
_KEEP = {"MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": str(1 << 40), "MALLOC_TOP_PAD_": str(1 << 28)}
_NO_CORE = {"OPENBLAS_CORETYPE": ""}

PEERS: dict[str, Kind] = {
    "ours": Kind("portable_nn, captured", "ours", lambda m: m.OursPeer(captured=True)),
    "ours_last": Kind("portable_nn, captured, images channels-last", "ours", lambda m: m.OursPeer(captured=True, channels_last=True)),
    "ours_eager": Kind("portable_nn, call by call", "ours", lambda m: m.OursPeer(captured=False)),
    "torch": Kind("PyTorch, eager", "torch_peer", lambda m: m.TorchPeer()),
    "torch_last": Kind("PyTorch, eager, channels-last", "torch_peer", lambda m: m.TorchPeer(channels_last=True)),
    "torch_keep": Kind("PyTorch, eager, with glibc told to keep memory", "torch_peer", lambda m: m.TorchPeer(), _KEEP),
    "torch_compile": Kind("PyTorch through torch.compile", "torch_peer", lambda m: m.TorchPeer(compiled=True)),
    "jax": Kind("JAX through jit", "jax_peer", lambda m: m.JaxPeer(), {"JAX_PLATFORMS": "cpu"}),
    "numpy": Kind("NumPy, OpenBLAS as it chooses its kernels", "numpy_peer", lambda m: m.NumPyPeer(), _NO_CORE),
    "numpy_skx": Kind("NumPy with OPENBLAS_CORETYPE=SkylakeX, memory kept", "numpy_peer", lambda m: m.NumPyPeer(), {"OPENBLAS_CORETYPE": "SkylakeX", **_KEEP}),
    "tinygrad_cpu": Kind("tinygrad through TinyJit, CPU", "tinygrad_peer", lambda m: m.TinygradPeer(), {"DEV": "CPU"}),
    "tinygrad_cl": Kind("tinygrad through TinyJit, OpenCL", "tinygrad_peer", lambda m: m.TinygradPeer(), {"DEV": "CL"}),
    "clblast": Kind("CLBlast, untuned", "clblast_peer", lambda m: m.CLBlastPeer()),
}  # fmt: skip


if __name__ == "__main__":
    kind = PEERS[sys.argv[1]]
    serve(kind.make(import_module(f"harness.peers.{kind.module}")))
