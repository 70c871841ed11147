"""What a model is fine-tuned for: examples, preference pairs and evaluation."""

from tasks.base import Evaluation, Example, Metric, PreferencePair, Task
from tasks.preferences import build_pairs
from tasks.registry import get_task

__all__ = [
    "Evaluation", "Example", "Metric", "PreferencePair", "Task", "build_pairs", "get_task",
]
