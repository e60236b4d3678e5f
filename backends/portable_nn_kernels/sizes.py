"""Sizes that plans read from the profile: declared with their candidates in tuning/sizes.toml, chosen per device by files.

A value comes from the user's file for the device, else from the shipped files whose `for` fits (the more it names, the
later it counts), else from the declaration.
"""

from __future__ import annotations

import json
import tomllib
from dataclasses import replace
from functools import cache
from importlib import resources
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from portable_nn.core import tuning
from portable_nn.core.samples import A, Bench
from portable_nn.core.tuning import Tunable

if TYPE_CHECKING:
    from .launch import Profile

_FOLDER = resources.files("portable_nn_kernels") / "tuning"


@cache
def declared() -> dict[str, Tunable]:
    """Return every tunable by its name, such as ``cpu.map.chunk``."""
    text = (_FOLDER / "sizes.toml").read_text(encoding="utf-8")
    found = {}
    for shape, groups in tomllib.loads(text).items():
        for group, sizes in groups.items():
            calls = tuple(_call(c) for c in sizes.pop("calls"))
            for key, said in sizes.items():
                name = f"{shape}.{group}.{key}"
                found[name] = Tunable(name, said["says"], said["default"], tuple(said["candidates"]), calls)
    return found


def _call(told: list[Any]) -> tuple[str, Bench]:
    """Return a call: the op, then operands (lists of lengths, or tables with `lengths`), then settings in a table."""
    op, *rest = told
    args: list[Any] = []
    settings: dict[str, Any] = {}
    for item in rest:
        if isinstance(item, list):
            args.append(A(tuple(item)))
        elif isinstance(item, dict) and "lengths" in item:
            args.append(A(tuple(item["lengths"]), **{k: v for k, v in item.items() if k != "lengths"}))
        elif isinstance(item, dict):
            settings = {k: tuple(v) if isinstance(v, list) else v for k, v in item.items()}
        else:
            args.append(item)
    shapes = " ".join("x".join(map(str, a.shape)) for a in args if isinstance(a, A))
    return op, Bench(shapes, tuple(args), MappingProxyType(settings))


def default(name: str) -> Any:
    """Return the declared value of a size."""
    return declared()[name].default


def tunables(profile: Profile) -> tuple[Tunable, ...]:
    """Return what may vary on a device: of its shape, and with the default that holds on it."""
    known = shipped(profile)
    found = (t for name, t in declared().items() if name.startswith(f"{profile.shape}."))
    return tuple(replace(t, default=known.get(t.name, t.default)) for t in found)


@cache
def _files() -> tuple[tuple[dict[str, Any], dict[str, Any]], ...]:
    """Return (for, sizes) of every shipped file, those that name less first."""
    folder = _FOLDER / "devices"
    files = sorted(f.name for f in folder.iterdir() if f.name.endswith(".json"))
    read = [json.loads((folder / name).read_text(encoding="utf-8")) for name in files]
    return tuple(sorted(((f["for"], f["sizes"]) for f in read), key=lambda pair: len(pair[0])))


def shipped(profile: Profile) -> dict[str, Any]:
    """Return the sizes of the shipped files that are for this device."""
    found: dict[str, Any] = {}
    for wanted, sizes in _files():
        if all(getattr(profile, field) == value for field, value in wanted.items()):
            found |= sizes
    return found


def with_sizes(profile: Profile, backend: str) -> Profile:
    """Return the profile with the sizes that the shipped files and the user's file give its device."""
    mine = tuning.of_user(backend, profile.name, tunables(profile))
    return replace(profile, sizes={**shipped(profile), **mine})
