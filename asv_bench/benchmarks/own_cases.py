"""Cases of your own, from the TOML file that PORTABLE_NN_BENCH_CASES names.

    [[case]]
    op = "conv2d"
    name = "my first layer"
    args = [{shape = [8, 3, 224, 224]}, {shape = [64, 3, 7, 7], low = -0.1, high = 0.1}]
    settings = {stride = 2, padding = 3}

An operand is a table with `shape` and, if need be, `low`, `high`, `dtype` and `view`, as in the op's record; everything else is a
setting. With such a file only its cases are run.
"""

from __future__ import annotations

import os
import tomllib
from pathlib import Path
from typing import Any

from portable_nn.core.errors import ArgumentError
from portable_nn.core.registry import find
from portable_nn.core.samples import A, Bench

_FIELDS = ("shape", "low", "high", "dtype", "view")


def _value(given: Any, where: str) -> Any:
    if isinstance(given, dict):
        unknown = set(given) - set(_FIELDS)
        if "shape" not in given or unknown:
            raise ArgumentError(f"{where}: {given!r} was given as an operand; it needs shape and may have {', '.join(_FIELDS[1:])}")
        return A(**{**given, "shape": tuple(given["shape"])})
    if isinstance(given, list):
        return [_value(v, where) for v in given] if any(isinstance(v, dict) for v in given) else tuple(given)
    return given


def read(path: str | Path) -> dict[str, dict[str, Bench]]:
    """Return the cases of a file by op and name.

    Raises
    ------
    ArgumentError
        If a case has no op, args or name, an op does not exist, or an operand has no shape.
    """
    with open(path, "rb") as file:
        entries = tomllib.load(file).get("case", [])
    if not entries:
        raise ArgumentError(f"{path}: has no [[case]]; see asv_bench/benchmarks/own_cases.py for one")
    found: dict[str, dict[str, Bench]] = {}
    for number, entry in enumerate(entries, 1):
        where = f"{path}, case {number}"
        missing = [key for key in ("op", "name", "args") if key not in entry]
        if missing:
            raise ArgumentError(f"{where}: {', '.join(missing)} missing; a case has op, name, args and perhaps settings")
        find(entry["op"])
        args = tuple(_value(v, where) for v in entry["args"])
        settings = {k: _value(v, where) for k, v in entry.get("settings", {}).items()}
        found.setdefault(entry["op"], {})[entry["name"]] = Bench(entry["name"], args, settings)
    return found


def chosen() -> dict[str, dict[str, Bench]] | None:
    """Return the cases of the file that the environment names; None without one."""
    path = os.environ.get("PORTABLE_NN_BENCH_CASES")
    return read(path) if path else None
