"""What both sides are given: a random GPT-2 on disk, and examples as token numbers."""

import json
import re
from pathlib import Path

import numpy as np
import torch

from benchmarks.job import PROMPTS
from minigpt import GPT, PRESETS, GPTConfig, get_tokenizer, save_pretrained
from minigpt.errors import InputError
from minigpt.files import make_folder, write_text
from minigpt.tokenizer import Tokenizer
from tasks import get_task
from tasks.paraphrase.task import NO, TEMPLATE, YES

SHORTEST, LONGEST = 44, 51  # tokens of a paraphrase prompt, as most of Quora's are
PROMPT, ANSWER = 448, 64  # tokens of a long prompt and of an answer to it
# One token each, with the space before it.
WORDS = (
    "what is the best way to learn how do people find good books about music and history from "
    "home why would one of them make time for work"
).split()
HEAD_WIDTH = 64  # channels of one head, in every released GPT-2


def shape(name: str) -> GPTConfig:
    """The shape of a preset, or of LAYERSxCHANNELS, such as 6x256, with GPT-2's vocabulary.

    Raises InputError for any other name.
    """
    if name in PRESETS:
        return PRESETS[name]
    if not (size := re.fullmatch(r"(\d+)x(\d+)", name)):
        raise InputError(
            f"unknown model {name!r}; expected one of {', '.join(PRESETS)}, or "
            "layers x channels such as 6x256"
        )
    n_layer, n_embd = map(int, size.groups())
    return GPTConfig(n_layer=n_layer, n_head=max(1, n_embd // HEAD_WIDTH), n_embd=n_embd)


def write_inputs(folder: Path, config: GPTConfig, n_examples: int) -> None:
    """Write the random model and the examples of both tasks, where `Job` looks for them."""
    model = GPT(config, generator=torch.Generator().manual_seed(0))
    save_pretrained(model, folder / "model", "hugging_face")
    tokenizer = get_tokenizer(model)
    write_examples(folder / "paraphrase.json", paraphrases(tokenizer, n_examples))
    write_examples(folder / "sonnets.json", sonnets(tokenizer, max(n_examples, PROMPTS)))
    write_examples(folder / "preferences.json", preferences(tokenizer, n_examples))


def write_examples(path: Path, examples: list[dict[str, list[int]]]) -> None:
    make_folder(path.parent)
    write_text(path, json.dumps(examples))


def paraphrases(tokenizer: Tokenizer, n: int) -> list[dict[str, list[int]]]:
    """Made-up question pairs: prompts of SHORTEST to LONGEST tokens, answers of one token."""
    draw = np.random.default_rng(0)
    frame = len(tokenizer.encode(TEMPLATE.format(first="?", second="?")))
    examples = []
    for _ in range(n):
        n_words = draw.integers(SHORTEST, LONGEST + 1) - frame
        cut = n_words // 2
        words = draw.choice(WORDS, n_words)
        prompt = TEMPLATE.format(
            first=" ".join(words[:cut]) + "?", second=" ".join(words[cut:]) + "?"
        )
        answers = draw.permutation([YES, NO])
        examples.append(
            dict(zip(("prompt", "chosen", "rejected"), map(tokenizer.encode, (prompt, *answers))))
        )
    return examples


def preferences(tokenizer: Tokenizer, n: int) -> list[dict[str, list[int]]]:
    """Made-up words as long as public preference sets have them: a prompt and two answers."""
    draw = np.random.default_rng(1)

    def text(length: int) -> list[int]:
        return tokenizer.encode("".join(f" {word}" for word in draw.choice(WORDS, length)))

    sides = {"prompt": PROMPT, "chosen": ANSWER, "rejected": ANSWER}
    return [{side: text(length) for side, length in sides.items()} for _ in range(n)]


def sonnets(tokenizer: Tokenizer, n: int) -> list[dict[str, list[int]]]:
    """Three lines given, eleven chosen, another sonnet's eleven rejected; both end the text."""
    texts = get_task("sonnet").examples("train")
    encoded = [
        (tokenizer.encode(text.prompt), [*tokenizer.encode(text.completion), tokenizer.eot])
        for text in texts
    ]
    return [
        {
            "prompt": encoded[i % len(encoded)][0],
            "chosen": encoded[i % len(encoded)][1],
            "rejected": encoded[(i + 1) % len(encoded)][1],
        }
        for i in range(n)
    ]
