"""The model card of an exported policy, from what its run recorded and nothing beyond it."""

import json
import shlex
from pathlib import Path

from experiments.run.config import NOT_IDENTITY, Config, flat_options
from experiments.run.display import show_floor, show_with_interval
from experiments.run.evaluation import best_epoch, evaluations
from experiments.run.folder import RunFolder
from experiments.run.record import read_record
from experiments.run.source import Source, hub_name, options_of
from tasks.base import Task
from tasks.registry import task_class

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


def model_card(run: Path, which: str, format: str, *, base: str | None = None) -> str:
    """Return the card of a run's policy as Markdown, with the front matter that the Hub reads.

    `base` is what adapters in PEFT's format stand beside: a name on the Hub or a folder.
    """
    config, record = options_of(run), read_record(run / "run.json")
    task = task_class(config.task)
    epochs = evaluations(RunFolder(run).logged())
    shown = _evaluation(record, epochs, which, task)
    return "\n".join(
        [
            _front_matter(config, format),
            f"# {run.resolve().name}, {which}\n",
            _training(config, record, which, shown, task.headline),
            "## Scores\n",
            _scores(record, epochs, which, shown, task),
            "## Use\n",
            f"```python\n{USE[format].format(base=base)}```\n",
            "## How it was made\n",
            _making(config, record),
        ]
    )


def _evaluation(record: dict, epochs: list[dict], which: str, task: type[Task]) -> dict | None:
    """The evaluation on dev of the policy; None if it had none."""
    if which == "best":
        return best_epoch(epochs, task.headline)
    epoch = record["reference"]["epoch"] if which == "reference" else record["config"]["epochs"]
    return next((found for found in epochs if found["epoch"] == epoch), None)


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
    return "\n".join(["---", *(f"{k}: {json.dumps(v)}" for k, v in fields.items()), "---", ""])


def _epochs(first: int, last: int) -> str:
    return f"epoch {first}" if first == last else f"the epochs {first} to {last}"


def _loss(config: Config) -> str:
    return "DPO" if config.preference.loss == "sigmoid" else config.preference.loss


def _training(config: Config, record: dict, which: str, shown: dict | None, headline: str) -> str:
    """What was trained on what, and which of its policies this is."""
    adapted = config.parameterization == "lora"
    moved = f"LoRA adapters of rank {config.lora.rank}" if adapted else "all weights"
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
        f"This is the policy called {which}"
        + (f", that of epoch {shown['epoch']}" if shown else "")
        + (f", chosen by `{headline}` on dev." if which == "best" else "."),
    ]
    if record.get("status") != "finished":
        lines.append(f"The run had not finished (its status: {record.get('status')}).")
    return "\n".join(lines) + "\n"


def _scores(
    record: dict, epochs: list[dict], which: str, shown: dict | None, task: type[Task]
) -> str:
    """A line for every metric: the policy, what it began from, and what no learning scores."""
    columns = {"dev": shown, "dev, untuned": epochs[0] if epochs else None}
    if which == "best" and record.get("test"):
        columns["test"] = record["test"]
    columns = {title: found["scores"] for title, found in columns.items() if found}
    fixed = record.get("floors", {}) | record.get("ceilings", {})
    heads = ["", *columns, *(f"dev, {name}" for name in fixed)]
    rows = [heads, ["---"] * len(heads)]
    for name, score in task.metrics.items():
        cells = [
            show_with_interval(score, scores[name]) if name in scores else "-"
            for scores in columns.values()
        ]
        cells += [show_floor(score, name, floor) for floor in fixed.values()]
        rows.append([score.title, *cells])
    table = "\n".join(f"| {' | '.join(row)} |" for row in rows)
    return (
        f"{table}\n\nBrackets are 95 % bootstrap intervals over {task.unit}; columns without them "
        "are what no learning scores, and what the right text itself does. Nothing else was "
        "measured.\n"
    )


def _making(config: Config, record: dict) -> str:
    changes = ", with changes that were not committed" if record.get("dirty") else ""
    versions = ", ".join(f"{name} {number}" for name, number in record["versions"].items())
    contents = [f"SHA-256 of the {what}: `{h}`" for what, h in record.get("contents", {}).items()]
    lines = [
        f"minigpt-lab at commit `{record.get('commit')}`{changes}; {versions}; "
        f"{config.precision} on {config.device}; begun {record.get('started')}.",
        *contents,
        f"```sh\n{command_of(config)}\n```",
        f"All options:\n\n```json\n{json.dumps(record['config'], indent=2)}\n```",
    ]
    return "\n\n".join(lines) + "\n"


def command_of(config: Config) -> str:
    """Return the command that has these options; where a default was taken, it stands there too."""
    default = flat_options(Config())
    words = ["python", "-m", "experiments.handoff"]
    for name, value in flat_options(config).items():
        if name not in NOT_IDENTITY and value != default[name]:
            words += [f"--{name.replace('_', '-')}", *_words(value)]
    return shlex.join(words)


def _words(value) -> list[str]:
    """A value as the words behind its flag; the flag alone switches something on."""
    if isinstance(value, tuple):
        return [word for item in value for word in _words(item)]
    return [] if value is True else [str(value)]
