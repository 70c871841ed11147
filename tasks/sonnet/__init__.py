"""Continue a sonnet from its first three lines."""

from tasks.sonnet.task import SonnetTask

__all__ = ["SonnetTask"]
