"""Ours beside transformers, PEFT and TRL, and beside the least time that the machine allows.

`python -m benchmarks.run` compares, `python -m benchmarks.growth` shows how cost grows. Every
measurement is a process of its own; the library never imports this package.
"""
