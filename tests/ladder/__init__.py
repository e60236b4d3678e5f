"""The verification ladder: every op on every backend, as far as this machine can tell, as data.

`python -m ladder --list` (with tests and backends on PYTHONPATH) names the rungs; docs/verification.md explains them. Each
rung runs the checks of `portable_nn.testing.verify` on one way to execute (or compile) the kernels, writes
docs/reference/coverage/<rung>.json, and says why where its tool is missing.
"""
