"""Learning rates by a small stated budget, the same for every method.

LoRA wants a higher rate than full fine-tuning, so one rate for both, or a rate tuned for one of
them, would decide a comparison before it is made.
"""

from dataclasses import replace

from experiments.run.config import Config
from experiments.run.evaluation import best_epoch
from experiments.run.plan import with_defaults
from experiments.run.tables import Table
from experiments.study.arms import Study
from experiments.study.results import Run
from experiments.study.runner import CarryOut
from tasks import Task
from tasks.registry import task_class

# Each tuning run is cut down to the task's `tuning`; a method has as many as FACTORS, of one seed.
FACTORS = (1 / 3, 1.0, 3.0)  # of the default rate
METHODS = ("full", "lora")


def tuning_configs(study: Study) -> dict[str, list[Config]]:
    """Return short runs of SFT at every rate, by method."""
    budget = {
        name: min(value, getattr(study, name) or value)
        for name, value in task_class(study.task).tuning.items()
    }
    short = replace(study, **budget, seeds=study.seeds[:1], sft_learning_rates=())
    configs = {}
    for method in METHODS:
        default = with_defaults(short.arm(method, parameterization=method).config)
        rates = [factor * default.sft_learning_rate for factor in FACTORS]
        arms = [
            short.arm(f"{method}, rate {rate:.2g}", parameterization=method, sft_learning_rate=rate)
            for rate in rates
        ]
        configs[method] = [config for arm in arms for config in short.configs(arm)]
    return configs


def tune(
    study: Study, task: Task, carry_out: CarryOut
) -> tuple[Study, dict[str, dict[float, float]]]:
    """Return the study at each method's best rate, and the scores that decided: method -> rate.

    The best is the rate whose best epoch has the best headline score on dev. `carry_out` does the
    runs that are missing.
    """
    configs = tuning_configs(study)
    carry_out([config for method in METHODS for config in configs[method]])
    scores: dict[str, dict[float, float]] = {}
    chosen = []
    sign = 1 if task.metrics[task.headline].larger_is_better else -1
    for method in METHODS:
        scores[method] = {}
        for config in configs[method]:
            best = best_epoch(Run(config.out, task).epochs, task.headline)
            scores[method][config.sft_learning_rate] = best["scores"][task.headline]["value"]
        chosen.append((method, max(scores[method], key=lambda rate: sign * scores[method][rate])))
    return replace(study, sft_learning_rates=tuple(chosen)), scores


def tuning_table(study: Study, task: Task, scores: dict[str, dict[float, float]]) -> Table:
    """Return what `tune` found: a row for each method and rate."""
    budget = ", ".join(f"{name} {value:,}" for name, value in task.tuning.items())
    score = task.metrics[task.headline]
    chosen = dict(study.sft_learning_rates)
    rows = [
        [method, f"{rate:.2g}", score.show(value), "chosen" if rate == chosen[method] else ""]
        for method, by_rate in scores.items()
        for rate, value in by_rate.items()
    ]
    title = f"{study.task}, {study.model} ({budget}, one seed)"
    return Table([title, "rate", task.headline, ""], rows)
