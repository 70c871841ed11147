"""What a model is fine-tuned for: examples, preference pairs and evaluation."""

from tasks.base import Example, PreferencePair, Task, Written
from tasks.metric import Evaluation, Metric, Score
from tasks.preferences import build_pairs, describe_pairs
from tasks.registry import from_rows, get_task

__all__ = [
    "Evaluation",
    "Example",
    "Metric",
    "PreferencePair",
    "Score",
    "Task",
    "Written",
    "build_pairs",
    "describe_pairs",
    "from_rows",
    "get_task",
]
