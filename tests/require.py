"""Tools that tests may lack: skip with the reason, or fail where PORTABLE_NN_TEST_REQUIRE names the tool ("g++,nvrtc" or "all")."""

from __future__ import annotations

import os

VARIABLE = "PORTABLE_NN_TEST_REQUIRE"


def required(tool: str) -> bool:
    """Tell whether the absence of a tool is a failure."""
    return bool({name.strip() for name in os.environ.get(VARIABLE, "").split(",")} & {tool, "all"})


def require(tool: str, missing: str) -> None:
    """Skip the test (or module) if `missing` says why a tool is not there; fail if the tool is required."""
    import pytest

    if not missing:
        return
    if required(tool):
        pytest.fail(f"{VARIABLE} asks for {tool}: {missing}", pytrace=False)
    pytest.skip(f"{tool}: {missing}", allow_module_level=True)
