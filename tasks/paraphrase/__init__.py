"""Do two questions ask the same thing?"""

from tasks.paraphrase.task import ParaphraseTask

__all__ = ["ParaphraseTask"]
