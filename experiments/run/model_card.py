"""The model card of an exported policy, from what its run recorded and nothing beyond it."""

import json
import shlex
from pathlib import Path
from typing import NamedTuple

from experiments.run.config import NOT_IDENTITY, Config, flat_options
from experiments.run.display import show_floor, show_with_interval
from experiments.run.evaluation import best_epoch, evaluations
from experiments.run.metrics_log import read_finished
from experiments.run.options_file import as_flags
from experiments.run.record import read_run
from experiments.run.source import Source, hub_name, options_of
from experiments.run.tables import Table, table_markdown
from tasks import Task

USE = {
    "hugging_face": """\
from transformers import AutoModelForCausalLM, AutoTokenizer

tokenizer = AutoTokenizer.from_pretrained(".")
model = AutoModelForCausalLM.from_pretrained(".")
""",
    "peft": """\
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer

tokenizer = AutoTokenizer.from_pretrained(".")
base = AutoModelForCausalLM.from_pretrained("{base}")
model = PeftModel.from_pretrained(base, ".")
""",
    "native": """\
from minigpt import get_tokenizer, load_pretrained

model = load_pretrained(".")
tokenizer = get_tokenizer(model)
""",
}
LIBRARIES = {"hugging_face": "transformers", "peft": "peft", "native": "minigpt"}


class Policy(NamedTuple):
    """A policy that a run kept, and what the run recorded of it."""

    which: str
    config: Config
    record: dict
    task: Task | type[Task]
    untuned: dict | None  # the evaluation on dev before training
    dev: dict | None  # the policy's own; None if it had none

    @classmethod
    def read(cls, run: Path, which: str, task: Task | type[Task]) -> "Policy":
        """Read it from the folder of a run; InputError for records that were changed."""
        config, record = options_of(run), read_run(run)
        epochs = {found["epoch"]: found for found in evaluations(read_finished(run, record))}
        if which == "best":
            dev = best_epoch(list(epochs.values()), task.headline)
        elif which == "reference":
            dev = epochs.get(record["reference"]["epoch"])
        else:
            dev = epochs.get(config.epochs)
        return cls(which, config, record, task, epochs.get(0), dev)


def model_card(
    run: Path, which: str, format: str, task: Task | type[Task], *, base: str | None = None
) -> str:
    """Return the card of a run's policy as Markdown, with the front matter that the Hub reads.

    `base` is what adapters in PEFT's format stand beside: a name on the Hub or a folder.
    """
    policy = Policy.read(run, which, task)
    return "\n".join(
        [
            _front_matter(policy.config, format),
            f"# {run.resolve().name}, {which}\n",
            _training(policy, merged=format != "peft"),
            "## Scores\n",
            _scores(policy),
            "## Use\n",
            f"```python\n{USE[format].format(base=base)}```\n",
            "## How it was made\n",
            _making(policy.config, policy.record),
        ]
    )


def _front_matter(config: Config, format: str) -> str:
    used = {
        "sft": config.switch_epoch > 0,
        _loss(config).lower(): config.switch_epoch < config.epochs,
        "lora": config.parameterization == "lora",
    }
    tags = ["gpt2", *(name for name, is_used in used.items() if is_used)]
    fields = {"library_name": LIBRARIES[format], "pipeline_tag": "text-generation", "tags": tags}
    if base := hub_name(Source(config.model)):
        fields["base_model"] = base
    # JSON is YAML too.
    return "\n".join(["---", *(f"{k}: {json.dumps(v)}" for k, v in fields.items()), "---", ""])


def _training(policy: Policy, *, merged: bool) -> str:
    """What was trained on what, and which of its policies this is."""
    config, record = policy.config, policy.record
    moved = "all weights"
    if config.parameterization == "lora":
        moved = f"LoRA adapters of rank {config.lora.rank}" + ", merged since" * merged
    k, phases = config.switch_epoch, []
    if k > 0:
        phases.append(f"SFT in {_epochs(1, k)}")
    if k < config.epochs:
        phases.append(
            f"{_loss(config)} on `{config.pairs}` pairs in {_epochs(k + 1, config.epochs)}, "
            f"its reference the policy after epoch {k}"
        )
    examples = record.get("accounts", {}).get("examples", {})
    counts = ", ".join(f"{n:,} for {split}" for split, n in examples.items())
    lines = [
        f"The GPT-2 `{config.model}`, fine-tuned ({moved}) on the task `{config.task}` "
        f"({counts or 'number of examples not recorded'}) by {', then '.join(phases)}.",
        f"This is the policy called {policy.which}"
        + (f", that of epoch {policy.dev['epoch']}" if policy.dev else "")
        + (f", chosen by `{policy.task.headline}` on dev." if policy.which == "best" else "."),
    ]
    if record.get("status") != "finished":
        lines.append(f"The run had not finished (its status: {record.get('status')}).")
    return "\n".join(lines) + "\n"


def _epochs(first: int, last: int) -> str:
    return f"epoch {first}" if first == last else f"the epochs {first} to {last}"


def _loss(config: Config) -> str:
    return "DPO" if config.preference.loss == "sigmoid" else config.preference.loss


def _scores(policy: Policy) -> str:
    """A line for every metric: the policy, what it began from, and what no learning scores."""
    found = {"dev": policy.dev, "dev, untuned": policy.untuned}
    if policy.which == "best":
        found["test"] = policy.record.get("test")
    columns = {title: evaluation["scores"] for title, evaluation in found.items() if evaluation}
    fixed = policy.record.get("floors", {}) | policy.record.get("ceilings", {})
    heads = ["", *columns, *(f"dev, {name}" for name in fixed)]
    rows = []
    for name, score in policy.task.metrics.items():
        cells = [
            show_with_interval(score, scores[name]) if name in scores else "-"
            for scores in columns.values()
        ]
        cells += [show_floor(score, name, floor) for floor in fixed.values()]
        rows.append([score.title, *cells])
    table = table_markdown(Table(heads, rows))
    return (
        f"{table}\n\nBrackets are 95 % bootstrap intervals over {policy.task.unit}; columns "
        "without them are what no learning scores, and what the right text itself does. Nothing "
        "else was measured.\n"
    )


def _making(config: Config, record: dict) -> str:
    known = record.get("commit")  # none where the code was no git checkout
    commit = f"commit `{known}`" if known else "a commit that is not known"
    changes = ", with changes that were not committed" if record.get("dirty") else ""
    versions = ", ".join(f"{name} {number}" for name, number in record["versions"].items())
    contents = [f"SHA-256 of the {what}: `{h}`" for what, h in record.get("contents", {}).items()]
    lines = [
        f"minigpt-lab at {commit}{changes}; {versions}; "
        f"{config.precision} on {config.device}; begun {record.get('started')}.",
        *contents,
        f"```sh\n{command_of(config)}\n```",
        f"All options:\n\n```json\n{json.dumps(record['config'], indent=2)}\n```",
    ]
    return "\n\n".join(lines) + "\n"


def command_of(config: Config) -> str:
    """Return the command that has these options; where a default was taken, it stands there too."""
    default = flat_options(Config())
    given = {
        name: value
        for name, value in flat_options(config).items()
        if name not in NOT_IDENTITY and value != default[name]
    }
    flags = as_flags(json.loads(json.dumps(given, default=str)))  # paths to text, tuples to lists
    return shlex.join(["python", "-m", "experiments.handoff", *flags])
