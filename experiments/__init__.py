"""The experiments: each module is a command, and has its options and a `run` for notebooks."""

from experiments.run.loading import load_run

__all__ = ["load_run"]
