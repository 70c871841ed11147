"""The parts of `python -m benchmarks.gpu`: each measures one thing, in a process of its own.

`plan.py` has them in their order, `part.py` says what a part is; the other modules measure.
"""
