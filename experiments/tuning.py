"""Learning rates by a small stated budget, the same for every method.

LoRA wants a higher rate than full fine-tuning, so one rate for both, or a rate tuned for one of
them, would decide a comparison before it is made.
"""

from dataclasses import fields, replace

from experiments.config import with_defaults
from experiments.evaluation import best_epoch
from experiments.results import Run
from experiments.runner import run_all
from experiments.study import Arm, Study
from tasks import Task

BUDGET = {  # of each tuning run; there are as many runs per method as FACTORS, with one seed
    "sonnet": {"epochs": 3},
    "paraphrase": {"epochs": 2, "train_examples": 4000, "dev_examples": 4000},
}
FACTORS = (1 / 3, 1.0, 3.0)  # of the default rate
METHODS = ("full", "lora")


def tuning_arms(study: Study) -> dict[str, list[Arm]]:
    """Short runs of SFT at every rate, by method."""
    budget = {name: min(value, getattr(study, name) or value)
              for name, value in BUDGET[study.task].items()}
    shared = {field.name: getattr(study, field.name) for field in fields(Study)}
    short = replace(Study(**shared), **budget, seeds=study.seeds[:1], sft_learning_rates=())
    arms = {}
    for method in METHODS:
        default = with_defaults(short.arm(method, parameterization=method).config)
        rates = [factor * default.sft_learning_rate for factor in FACTORS]
        arms[method] = [short.arm(f"{method}, rate {rate:.2g}", parameterization=method,
                                  sft_learning_rate=rate) for rate in rates]
    return arms


def tune(study: Study, task: Task) -> tuple[Study, dict[str, dict[float, float]]]:
    """The study at the best rate of each method, and the scores that decided: method -> rate.

    The best is the rate whose best epoch has the best headline score on dev.
    """
    arms = tuning_arms(study)
    configs = {arm.name: study_config for method in METHODS for arm in arms[method]
               for study_config in replace(study, seeds=study.seeds[:1]).configs(arm)}
    run_all(list(configs.values()), study.jobs)
    scores: dict[str, dict[float, float]] = {}
    chosen = []
    sign = 1 if task.metrics[task.headline].larger_is_better else -1
    for method in METHODS:
        scores[method] = {}
        for arm in arms[method]:
            best = best_epoch(Run(configs[arm.name].out, task).epochs, task.headline)
            scores[method][arm.config.sft_learning_rate] = best["scores"][task.headline]["value"]
        chosen.append((method, max(scores[method], key=lambda rate: sign * scores[method][rate])))
    return replace(study, sft_learning_rates=tuple(chosen)), scores
