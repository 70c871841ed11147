"""The experiments: each module is a command, and has a Config and a run for notebooks."""
