"""gaps: what a backend says it cannot run. Its package's `unsupported.toml` is the only place, and it is held to it."""

from __future__ import annotations

import tomllib
from functools import cache
from importlib.util import find_spec
from pathlib import Path

from ..core.backend import Backend

FILE = "unsupported.toml"


@cache
def listed(package: str) -> dict[str, str]:
    """Return the gaps of a backend's package: ``op`` or ``op/dtype`` -> reason. A package without the file has none."""
    spec = find_spec(package)
    path = Path(spec.origin).parent / FILE if spec is not None and spec.origin else None
    if path is None or not path.is_file():
        return {}
    found: dict[str, str] = tomllib.loads(path.read_text(encoding="utf-8")).get("ops", {})
    assert all(isinstance(reason, str) and reason.strip() for reason in found.values()), f"{path}: every gap needs a reason"
    return found


def reason(backend: Backend, op: str, dtype: str) -> str:
    """Return why a backend has no kernel for an op in a dtype; empty if it should have one.

    The file is looked for in the package of the backend's class, or in the one that its attribute `package` names.
    """
    found = listed(getattr(backend, "package", type(backend).__module__.partition(".")[0]))
    return found.get(op) or found.get(f"{op}/{dtype}") or ""
