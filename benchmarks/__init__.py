"""Ours beside transformers, PEFT and TRL, and beside the least time that the machine allows.

`python -m benchmarks.run` compares, `python -m benchmarks.growth` shows how cost grows,
`python -m benchmarks.gpu` does all that needs a GPU, and `python -m benchmarks.hosts` puts the
tables of several hosts side by side. Every measurement is a process of its own; the library never
imports this package.
"""
