"""Tools that tests may lack: skip with the reason, or fail where PORTABLE_NN_TEST_REQUIRE names the tool ("g++,nvrtc" or "all")."""

from __future__ import annotations

import os

import pytest


def require(tool: str, missing: str) -> None:
    """Skip the test (or module) if `missing` says why a tool is not there; fail if the tool is required."""
    if not missing:
        return
    required = {name.strip() for name in os.environ.get("PORTABLE_NN_TEST_REQUIRE", "").split(",")}
    if required & {tool, "all"}:
        pytest.fail(f"PORTABLE_NN_TEST_REQUIRE asks for {tool}: {missing}", pytrace=False)
    pytest.skip(f"{tool}: {missing}", allow_module_level=True)
