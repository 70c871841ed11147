"""What a reader sees of a run: the plan, a line per epoch, the table, the figure, the samples."""

import numpy as np

from experiments.run.config import Config
from experiments.run.curves import draw_curves
from experiments.run.data import PhaseData
from experiments.run.display import TERMINAL, printable, show_with_interval
from experiments.run.folder import RunFolder
from experiments.run.plan import RunPlan
from experiments.run.reading import account_lines
from experiments.run.result import Result
from experiments.run.schedule import Phase
from experiments.run.score_table import as_text, fitting, score_rows
from experiments.run.seeds import numpy_generator
from experiments.run.source import POLICIES
from lora import trainable_parameters
from minigpt import GPT
from minigpt.files import write_text
from minigpt.parallel import by_first
from objectives.sequences import Sequences, length_buckets, padding_share
from tasks import Task


def print_summary(
    plan: RunPlan,
    policy: GPT,
    adapted: list[str],
    data: PhaseData,
    sequences: Sequences,
    account: dict,
) -> None:
    """Print the plan before it is carried out: model, data, phases, where the record will lie.

    `account` is what `account_for` found of the task's files.
    """
    config, loss = plan.config, plan.preference
    trained, total = trainable_parameters(policy)
    print(
        f"model      {config.model}: {total:,} parameters, {trained:,} trained "
        f"({100 * trained / total:.2f} %), {config.precision} on {config.device}"
    )
    if str(plan.source) != config.model:
        print(f"start      {plan.source}")
    if adapted:
        print(f"adapters   rank {plan.lora.rank} on {len(adapted)} layers: {', '.join(adapted)}")
    for line in (*_data_lines(config, sequences), *account_lines(account)):
        print(line)
    pairs = account["examples"]["train"]  # or fewer: how many is known at the handoff
    sft, dpo = data.steps_per_epoch(config.batch_size), -(-pairs // config.batch_size)
    for phase in plan.phases:
        print(
            f"phase      {phase.objective.upper()}, epochs {phase.first} to {phase.last}: "
            f"{_steps(phase, sft, dpo)} of {config.batch_size}, "
            f"learning rate {phase.learning_rate:g}, fresh AdamW"
        )
        if phase.objective == "dpo":
            print(
                f"           {config.pairs} pairs, {loss.loss} loss, beta {loss.beta:g}, "
                f"reference: the policy after epoch {phase.first - 1}"
            )
    print(f"record     {config.out}, seed {config.seed}", flush=True)


def _steps(phase: Phase, sft: int, dpo: int) -> str:
    if phase.objective == "sft":
        return f"{sft * phase.epochs:,} steps"
    return f"at most {dpo * phase.epochs:,} steps"


def _data_lines(config: Config, sequences: Sequences) -> list[str]:
    """Return how many the training examples are, and how long."""
    lengths, order = sequences.lengths, numpy_generator(config.seed, "data order", 1)
    padding = padding_share(lengths, length_buckets(lengths, config.batch_size, order))
    middle, long = np.percentile(lengths, [50, 95])
    return [
        f"data       {config.task}: {len(sequences):,} training examples, "
        f"{lengths.sum():,} tokens, {sequences.truncated} cut to fit the context; "
        f"{100 * padding:.1f} % padding",
        f"           tokens of an example: median {middle:.0f}, 95 % up to {long:.0f}, "
        f"longest {lengths.max():,}",
    ]


def epoch_line(record: dict, epochs: int, task: Task, left: str | None) -> str:
    """Return one evaluation in one line: the headline, and other scores where there is room.

    `left` is how long the run will still take, where that is known.
    """
    line = f"epoch {record['epoch']:>2}/{epochs}  {record['phase']:<7}"
    end = f"  {left} left" if left else ""
    for name in (name for name in task.judged if name in record["scores"]):
        score, recorded = task.metrics[name], record["scores"][name]
        longer = f"{line}  {score.short} {show_with_interval(score, recorded)}"
        if name == task.headline or len(longer + end) <= TERMINAL:
            line = longer
    return line + end


@by_first
def write_report(result: Result, folder: RunFolder) -> None:
    """Print the table and two samples; write curves.png, samples.txt and report.txt.

    The terminal gets the scores that claims are judged by; report.txt has them all.
    """
    everything = {name: result.task.metrics[name] for name in result.epochs[0]["scores"]}
    judged = {name: everything[name] for name in result.task.judged if name in everything}
    found = result.epochs, result.best, result.test, result.floors
    write_text(folder.path / "report.txt", as_text(score_rows(*found, everything)) + "\n")
    write_text(folder.path / "samples.txt", _samples(result.epochs))
    draw_curves(folder.path / "curves.png", folder.logged(), result.floors, result.task)
    print("\n" + as_text(fitting(score_rows(*found, judged))) + "\n")
    for sample in result.last["samples"][:2]:
        print(printable(sample) + "\n")


def print_kept(config: Config, freed: int) -> None:
    """Print where the record lies, what of the weights is there, and what was removed."""
    weights = [name for name in POLICIES if (config.out / name).exists()]
    print(f"record: {config.out}/run.json, metrics.jsonl, report.txt, curves.png, samples.txt")
    if weights:
        print(f"weights: {', '.join(f'{name}/' for name in weights)}")
    if freed:
        print(f"removed: {freed / 1e6:,.1f} MB that --keep checkpoint would keep")


def _samples(epochs: list[dict]) -> str:
    parts = []
    for record in epochs:
        parts.append(f"=== epoch {record['epoch']}, {record['phase']}")
        parts += record["samples"]
    return "\n\n".join(parts) + "\n"
