"""Scores as they go into a record: each with its interval and its direction."""

from experiments.seeds import numpy_generator, torch_generator
from experiments.statistics import bootstrap_interval
from experiments.training import autocast
from minigpt import GPT, get_tokenizer
from tasks import Task


def score(policy: GPT, task: Task, split: str, *, seed: int, precision: str) -> dict:
    """Every metric of `policy` on a split with a 95 % bootstrap interval, and texts to look at.

    Samples and resamples come from the same streams every time, so that two epochs differ by
    their weights alone.
    """
    device = policy.wte.weight.device
    with autocast(device, precision):
        evaluation = task.evaluate(
            policy, get_tokenizer(policy), split,
            generator=torch_generator(seed, "evaluation", device=str(device)),
        )
    scores = {
        name: {
            "value": metric.value,
            "interval": [*bootstrap_interval(metric, numpy_generator(seed, "bootstrap"))],
            "larger_is_better": metric.larger_is_better,
        }
        for name, metric in evaluation.metrics.items()
    }
    return {"scores": scores, "samples": list(evaluation.samples)}


def evaluations(records: list[dict]) -> list[dict]:
    """The lines of metrics.jsonl that hold scores, in order: epoch 0 is the untuned model."""
    return [record for record in records if "scores" in record]


def best_epoch(epochs: list[dict], headline: str) -> dict:
    """The trained epoch with the best headline score, the earliest of equals."""

    def quality(record: dict) -> float:
        headline_score = record["scores"][headline]
        sign = 1 if headline_score["larger_is_better"] else -1
        return sign * headline_score["value"]

    return max((record for record in epochs if record["epoch"] > 0), key=quality)
