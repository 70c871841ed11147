"""Verse made worse without a new word: what a reader of sense and rhyme should tell apart."""

import re

import torch

_LAST_WORD = re.compile(r"(.*?)([\w'’]*)(\W*)")  # what stands before it, itself, punctuation


def corrupt(text: str, generator: torch.Generator) -> str:
    """The lines of a text shuffled, and then their last words shuffled among the lines.

    Punctuation stays where its line went. No line is new in length or vocabulary, so what is left
    to tell the two texts apart is sense and rhyme.
    """
    lines = text.splitlines()
    parts = [_LAST_WORD.fullmatch(lines[i]).groups() for i in _permutation(len(lines), generator)]
    words = [parts[i][1] for i in _permutation(len(lines), generator)]
    return "".join(f"{head}{word}{tail}\n" for (head, _, tail), word in zip(parts, words))


def _permutation(n: int, generator: torch.Generator) -> list[int]:
    return torch.randperm(n, generator=generator, device=generator.device).tolist()
