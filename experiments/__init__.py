"""The experiments: each module is a command, and has its options and a `run` for notebooks."""

import experiments.run.starting  # noqa: F401  before the imports that take seconds

# isort: split
from experiments.run.loading import load_run

__all__ = ["load_run"]
