"""The experiments: each module is a command, and has its options and a `run` for notebooks."""
