"""Tasks on anybody's own rows: files in the usual formats, or dicts in memory."""

from tasks.own.choice import ChoiceTask
from tasks.own.completion import CompletionTask
from tasks.own.preference import PreferenceTask
from tasks.own.rows import RowsTask

__all__ = ["ChoiceTask", "CompletionTask", "PreferenceTask", "RowsTask"]
