"""Compiling kernels for GPUs that are not here: which programs there are, and what compilers say of them.

`python -m offline` (with tests and backends on PYTHONPATH) writes the tables of docs/reference.
"""
