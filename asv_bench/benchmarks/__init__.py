"""Benchmarks for airspeed-velocity; `ops` is generated from the records of portable_nn's registry."""
