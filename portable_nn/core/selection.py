"""Which backend: argument or `with use_backend(...)` > PORTABLE_NN_BACKEND > config file > auto.

The choice decides where *new* arrays go; arrays that exist run where they live. A named backend that is not there is
an error, never a silent fallback.
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from difflib import get_close_matches
from functools import cache, lru_cache
from importlib import import_module
from importlib.metadata import entry_points
from pathlib import Path
from types import ModuleType

from .backend import Backend, Status
from .errors import BackendError
from .recording import current as recording
from .version import VERSION

# name -> (package, what to type to get it). The order is that of `auto`.
TABLE = {
    "cupy": ("portable_nn_cupy", 'pip install "portable-nn[cuda13]"'),
    "opencl": ("portable_nn_opencl", 'pip install "portable-nn[opencl]"'),
    "numpy": ("portable_nn_numpy", "pip install portable-nn"),
    "numba": ("portable_nn_numba", 'pip install "portable-nn[numba]" (on AMD: "portable-nn[numba-rocm]")'),
    "null": ("portable_nn_null", "pip install portable-nn"),
}
AUTO = ("cupy", "opencl", "numpy")

_chosen: ContextVar[tuple[str, Backend] | None] = ContextVar("portable_nn_backend", default=None)
_instances: dict[tuple[str, str | None], Backend] = {}


@cache
def _packages() -> dict[str, str]:
    found = {name: package for name, (package, _) in TABLE.items()}
    for point in entry_points(group="portable_nn.backends"):
        found.setdefault(point.name, point.value)
    return found


def names() -> tuple[str, ...]:
    """Return the names that PORTABLE_NN_BACKEND accepts, `auto` left out."""
    return tuple(_packages())


def _adapter(name: str) -> ModuleType:
    module = import_module(_packages()[name])
    if name in TABLE and module.VERSION != VERSION:
        raise BackendError(
            f"backend {name!r} comes from {module.__file__} with version {module.VERSION}, but portable_nn is {VERSION}: "
            f"a checkout and an installed copy are mixed; uninstall one of them"
        )
    return module


def install_command(name: str) -> str:
    """Return what to type to get backend `name`."""
    return TABLE[name][1] if name in TABLE else f"install the package {_packages()[name]}"


def status(name: str) -> Status:
    """Return the state of backend `name`: ready, not installed, no device or broken, and why."""
    try:
        found: Status = _adapter(name).status()
        return found
    except ImportError as error:
        return Status(name, "not installed", str(error), install=install_command(name))
    except Exception as error:  # a broken driver or package of one backend must not hurt the others
        return Status(name, "broken", f"{type(error).__name__}: {error}", install=install_command(name))


def backends() -> list[Status]:
    """Return name, state, reason and devices of every known backend."""
    return [status(name) for name in names()]


def _check(name: str) -> None:
    if name not in _packages():
        close = get_close_matches(name, (*names(), "auto"), 1)
        hint = f"did you mean {close[0]!r}? " if close else ""
        raise BackendError(f"there is no backend named {name!r}; {hint}Known: {', '.join(names())}, auto")


def get(name: str, device: str | None = None) -> Backend:
    """Return backend `name` on `device` (index or part of a name; PORTABLE_NN_DEVICE by default), loading it once."""
    wanted = device or os.environ.get("PORTABLE_NN_DEVICE") or _config().get("device")
    found = _instances.get((name, wanted))
    if found is not None:
        return found
    _check(name)
    try:
        made: Backend = _adapter(name).backend(wanted)
    except (ImportError, BackendError) as error:
        lines = [f"backend {name!r} was asked for but is not available: {error}"]
        lines += [f"  {s.name}: {s.state}{f' ({s.reason})' if s.reason else ''}" for s in backends()]
        ready = [s.name for s in backends() if s.state == "ready" and s.name != "null"]
        lines.append(f"Install it with: {install_command(name)}")
        lines.append(f"or set PORTABLE_NN_BACKEND to one that is ready: {', '.join(ready) or 'none'}")
        raise BackendError("\n".join(lines)) from error
    return _instances.setdefault((name, wanted), made)


def config_path() -> Path:
    """Return where the user's config file is looked for."""
    root = Path(os.environ.get("XDG_CONFIG_HOME", "") or Path.home() / ".config")
    return root / "portable_nn" / "config.toml"


@cache
def _config() -> dict[str, str]:
    path = config_path()
    if not path.is_file():
        return {}
    try:
        return {key: str(value) for key, value in tomllib.loads(path.read_text()).items()}
    except tomllib.TOMLDecodeError as error:
        raise BackendError(f"{path} is not valid TOML: {error}") from error


def wish() -> tuple[str, ...]:
    """Return the names asked for by environment or config file, in order; ("auto",) when nothing was said."""
    return _wished(os.environ.get("PORTABLE_NN_BACKEND") or _config().get("backend") or "auto")


@lru_cache(maxsize=64)
def _wished(text: str) -> tuple[str, ...]:
    wished = tuple(part.strip() for part in text.split(",") if part.strip())
    for name in wished:
        if name != "auto":
            _check(name)
    return wished or ("auto",)


@cache
def resolve(wished: tuple[str, ...], device: str | None = None) -> Backend:
    """Return the first backend of `wished` (names, or "auto") that is ready, on `device` (PORTABLE_NN_DEVICE by default)."""
    order = [n for name in wished for n in (AUTO if name == "auto" else (name,))]
    if len(order) == 1:
        return get(order[0], device)
    for name in order:
        if status(name).state == "ready":
            return get(name, device)
    lines = [f"  {s.name}: {s.state} ({s.reason})" for s in backends() if s.name in order]
    raise BackendError("none of the backends asked for is ready:\n" + "\n".join(lines))


def default() -> Backend:
    """Return the backend on which new arrays are made; inside a captured step, the one that records it."""
    recorder = recording.get()
    if recorder is not None:
        return recorder.backend
    chosen = _chosen.get()
    if chosen is not None:
        return chosen[1]
    return resolve(wish(), os.environ.get("PORTABLE_NN_DEVICE"))


def explicit() -> str | None:
    """Return the name of the backend if one was chosen by name (context or environment), else None."""
    chosen = _chosen.get()
    if chosen is not None:
        return chosen[0]
    return _named(os.environ.get("PORTABLE_NN_BACKEND"))


@lru_cache(maxsize=64)
def _named(text: str | None) -> str | None:
    """Return the one backend that PORTABLE_NN_BACKEND (`text`) or the config file names: every operand asks for it."""
    del text  # what `wish` reads again; here it is the key
    wished = wish()
    return None if "auto" in wished or len(wished) > 1 else wished[0]


@contextmanager
def use_backend(backend: str | Backend, device: str | None = None) -> Iterator[Backend]:
    """Make new arrays on `backend` inside the block.

    Parameters
    ----------
    backend : str or Backend
        A name as in PORTABLE_NN_BACKEND, or a backend object.
    device : str, optional
        Index or part of the name of the device.

    Examples
    --------
    >>> with pnn.use_backend("numpy"):
    ...     x = pnn.asarray([1.0, 2.0])
    """
    if isinstance(backend, Backend):
        made = backend
    elif backend == "auto":
        made = resolve(("auto",), device)
    else:
        made = get(backend, device)
    token = _chosen.set((made.name, made))
    try:
        yield made
    finally:
        _chosen.reset(token)
