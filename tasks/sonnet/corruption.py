"""Verse made worse without a new word: what a reader of sense and rhyme should tell apart."""

import re
from itertools import combinations

import torch

from minigpt.errors import InputError

_LAST_WORD = re.compile(r"(.*?)([\w'’]*)(\W*)")  # what stands before it, itself, punctuation


def corrupt(text: str, generator: torch.Generator) -> str:
    """Return the lines of a text shuffled, and then their last words shuffled among the lines.

    Punctuation stays where its line went. No line is new in length or vocabulary, so what is left
    to tell the two texts apart is sense and rhyme.
    """
    lines = text.splitlines()
    parts = [_LAST_WORD.fullmatch(lines[i]).groups() for i in _permutation(len(lines), generator)]
    words = [parts[i][1] for i in _permutation(len(lines), generator)]
    return "".join(f"{head}{word}{tail}\n" for (head, _, tail), word in zip(parts, words))


def swap_two_lines(text: str, generator: torch.Generator) -> str:
    """Return the text with two of its lines, which differ, in each other's place.

    Every such pair of lines is equally likely. What is left to tell the two texts apart is sense
    across lines and the order of the rhymes. A metric asks for that because `corrupt` is too
    easy: the untuned verse model knows the original from it every time, and from this in about
    three cases of four. Raises InputError for a text without two different lines.
    """
    lines = text.splitlines()
    swaps = [(i, j) for i, j in combinations(range(len(lines)), 2) if lines[i] != lines[j]]
    if not swaps:
        raise InputError(f"no two lines of {text!r} can change places; expected two that differ")
    i, j = swaps[torch.randint(len(swaps), (), generator=generator, device=generator.device)]
    lines[i], lines[j] = lines[j], lines[i]
    return "".join(f"{line}\n" for line in lines)


def _permutation(n: int, generator: torch.Generator) -> list[int]:
    return torch.randperm(n, generator=generator, device=generator.device).tolist()
