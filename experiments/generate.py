"""Try a model: `python -m experiments.generate --run RUN --prompt "Shall I compare thee"`.

Without --prompt or --prompts, prompts are read from the terminal, a line each. With --beside, a
run's reference and the untuned model write beside it, every sample from the same random numbers.
"""

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from experiments.run.command import command_line
from experiments.run.display import printable
from experiments.run.loading import load_run, load_untuned
from experiments.run.option_types import checked
from experiments.run.plan import chosen_device
from experiments.run.seeds import torch_generator
from experiments.run.source import find_source, keeps, load_source
from lora import FUSED
from minigpt import GPT, accelerate, generate, get_tokenizer
from minigpt.errors import InputError
from tasks.text import read_text


@dataclass(frozen=True)
class GenerateConfig:
    """Let a run's policy, or any model, continue prompts."""

    run: Path | None = None
    """Folder of a run."""
    which: Literal["best", "last", "reference"] = "best"
    """The run's policy: of its best epoch on dev, of its last, or the one that DPO started from."""
    model: str | None = None
    """A model in place of a run: what --model of experiments.handoff takes."""
    base: str | None = None
    """The base of adapters, if it is not where they say."""
    prompt: str | None = None
    """A prompt; \\n in it stands for a line break, here and in all other prompts."""
    prompts: Path | None = None
    """File with a prompt on each line."""
    max_new_tokens: int = 100
    """At most so many tokens; end-of-text and a full context end a text as well."""
    temperature: float = 1.0
    """Divides the logits; 0 always takes the likeliest token."""
    top_p: float | None = None
    """Probability mass that tokens are drawn from; None: all."""
    top_k: int | None = None
    """Draw from so many of the likeliest tokens; None: all."""
    seed: int = 0
    """Decides what is drawn, for every prompt by its number."""
    samples: int = 1
    """Texts for each prompt."""
    beside: bool = False
    """Show the run's reference and the untuned model as well."""
    device: str | None = None
    """cpu, cuda, cuda:1, ...; None: cuda where there is one."""


def run(config: GenerateConfig) -> list[dict]:
    """Print what the models write and return it, a dict for each text.

    Its keys are prompt (its number, from 0), model, sample and text. Raises InputError for options
    without sense, before a model is loaded, and for a prompt that leaves no room for a token.
    """
    config = checked(config)
    _check(config)
    prompts = _prompts(config)
    models = _models(config)
    written = []
    for number, prompt in enumerate(prompts):
        prompt = prompt.replace("\\n", "\n")
        texts = {name: _continue(model, prompt, number, config) for name, model in models.items()}
        rows = [
            {"prompt": number, "model": name, "sample": sample, "text": texts[name][sample]}
            for sample in range(config.samples)
            for name in models
        ]
        print(printable(_page(prompt, rows)), flush=True)
        written += rows
    return written


def _check(config: GenerateConfig) -> None:
    if (config.run is None) == (config.model is None):
        raise InputError("expected one of --run, a run's folder, and --model, a model")
    if config.prompt is not None and config.prompts is not None:
        raise InputError("--prompt and --prompts are both given; expected one of them, or none")
    if config.run is None and (config.beside or config.which != "best"):
        raise InputError("--model has no other policies; expected --beside and --which with --run")
    chosen_device(config.device)


def _prompts(config: GenerateConfig) -> Iterator[str] | list[str]:
    """The prompts, those of a file read at once; those of a terminal as they are typed."""
    if config.prompt is not None:
        return [config.prompt]
    if config.prompts is None:
        return _typed()
    lines = [line for line in read_text(config.prompts).splitlines() if line.strip()]
    if not lines:
        raise InputError(f"{config.prompts} holds no prompt; expected one on each line")
    return lines


def _typed() -> Iterator[str]:
    """Yield what is typed, a line each, until the input ends (Ctrl-D)."""
    while True:
        if sys.stdin.isatty():
            print("prompt: ", end="", flush=True)
        line = sys.stdin.readline()
        if not line:
            return
        if line.strip():
            yield line.rstrip("\r\n")


def _models(config: GenerateConfig) -> dict[str, GPT]:
    """The models by the names that they are shown under, the one asked for first."""
    device = chosen_device(config.device)
    if config.run is None:
        source = find_source(config.model, config.base)
        models = {config.model: load_source(source, device=device)}
    else:
        where = {"base": config.base, "device": device}
        others = ["reference"] if config.beside and keeps(config.run, "reference") else []
        models = {
            which: load_run(config.run, which, **where).model
            for which in dict.fromkeys([config.which, *others])
        }
        if config.beside:
            models["untuned"] = load_untuned(config.run, config.which, **where)
    for model in models.values():
        accelerate(model, FUSED)
    return models


def _continue(model: GPT, prompt: str, number: int, config: GenerateConfig) -> list[str]:
    """The samples of one model for one prompt; all models draw the same random numbers."""
    tokenizer, device = get_tokenizer(model), str(model.wte.weight.device)
    tokens = generate(
        model,
        [tokenizer.encode(prompt)] * config.samples,
        max_new_tokens=config.max_new_tokens,
        temperature=config.temperature,
        top_k=config.top_k,
        top_p=config.top_p,
        generator=torch_generator(config.seed, "generate", number, device=device),
        stop=lambda new: new[-1] == tokenizer.eot,
    )
    return [tokenizer.decode([t for t in new if t != tokenizer.eot]) for new in tokens]


def _page(prompt: str, rows: list[dict]) -> str:
    """The prompt, marked, and the texts, under headings if there are several."""
    lines = [f"> {line}" for line in prompt.splitlines()]
    for row in rows:
        if len(rows) > 1:
            lines += ["", f"[{row['model']}, sample {row['sample'] + 1}]"]
        lines.append(row["text"])
    return "\n".join([*lines, ""])


def main(argv: list[str] | None = None) -> None:
    """Run from the command line."""
    command_line(GenerateConfig, run, argv)


if __name__ == "__main__":
    main()
