"""Mutation check: plant faults in kernels, plans, rules and the core, and count how many the suite catches.

`PYTHONPATH=.:backends:tests python -m mutation` plants the chosen faults one after the other, each in a private copy of the
repository, and runs the tests that concern it until one fails. Faults are data: rules make them (`c_faults`, `python_faults`), a
hash chooses among them (`choice`), so that nobody picks the easy ones; `planted.toml` adds by hand the kinds no rule makes.
`equivalent.toml` lists the faults that change no result, each with its proof, and `survivors.toml` why one is not caught.
"""
