"""Oclgrind, a simulator that finds races, uninitialised reads, accesses out of bounds and divergent barriers: its environment and its log.

Its exit code and the results of API calls say nothing: only the log does.
"""

from __future__ import annotations

# (kernel, how the fault begins) -> why it is none
EXPECTED: dict[tuple[str, str], str] = {
    ("pnn_conv_panels", "Uninitialized value written to global memory"): "pixels are turned in registers by partial writes to a vector, which Oclgrind takes for unset lanes; with all scratch poisoned by NaN (the test suite) every output is right",
    ("pnn_conv_lines", "Controlflow depends on uninitialized value"): "loads whole vectors; the spare lanes behind a row are not stored",
}
ENVIRONMENT = {
    # Unoptimised: the optimiser removes dead faulty accesses, and inserts `freeze`, which Oclgrind does not know.
    "PYOPENCL_BUILD_OPTIONS": "-cl-opt-disable",
    "OCLGRIND_DATA_RACES": "1", "OCLGRIND_UNINITIALIZED": "1", "OCLGRIND_UNIFORM_WRITES": "1", "OCLGRIND_MAX_ERRORS": "5",
}  # fmt: skip


def faults_in(log: str) -> str:
    """Return the blocks of a log that are not expected. A block is a line and the indented ones below it."""
    blocks: list[list[str]] = []
    for line in log.splitlines():
        if line.startswith("\t") and blocks:
            blocks[-1].append(line)
        elif line.strip():
            blocks.append([line])
    told = []
    for block in blocks:
        kernel = next((line.split(":")[1].strip() for line in block if line.strip().startswith("Kernel:")), "")
        expected = any(kernel == k and block[0].strip().startswith(fault) for k, fault in EXPECTED)
        if not expected and not block[0].startswith("Oclgrind:"):
            told.append("\n".join(line for line in block if line.strip()))
    return "\n".join(told)
