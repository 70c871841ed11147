"""What a report begins with: a picture of the primary claims, and a plain sentence on each."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from experiments.run.tables import Mark
from experiments.study.document import Block, Figures, Heading, Items, Paragraph, Picture
from experiments.study.forest import NOTE, TONES, Judged, draw_forest

Group = tuple[str, Sequence[Judged]]  # the claims of one experiment, under its heading


def answer_blocks(groups: Sequence[Group], folder: Path) -> list[Block]:
    """Return the answer to the primary claims, or to the others where no claim is primary."""
    primary = [(heading, [p for p in pairs if p[0].claim.primary]) for heading, pairs in groups]
    has_primary = any(pairs for _, pairs in primary)
    shown = [(heading, pairs) for heading, pairs in (primary if has_primary else groups) if pairs]
    if not shown:
        return []
    kind = "primary" if has_primary else "exploratory"
    forest = Picture(folder / "claims.svg", draw_forest(shown), f"The {kind} claims")
    blocks: list[Block] = [
        Heading("The answer"),
        Paragraph(_summary([pair for _, pairs in shown for pair in pairs], kind)),
        Figures([forest], NOTE),
    ]
    for heading, pairs in shown:
        # Not the heading alone, which another part of the report has, and its anchor with it.
        blocks.append(Heading(f"{heading}, {kind} claims", 3))
        blocks.append(Items([_sentence(*pair) for pair in pairs]))
    return blocks


def _summary(judged: Sequence[Judged], kind: str) -> str:
    words = Counter(verdict.word for _, verdict in judged)
    counts = ", ".join(f"{word}: {words[word]}" for word in TONES)
    return f"{kind.capitalize()} claims: {len(judged)} ({counts})."


def _sentence(case, verdict) -> tuple[Mark, str]:
    mark = Mark(verdict.word, TONES[verdict.word])
    return mark, f"“{case.claim.text}”, by {case.score.short}. {_capital(verdict.reason)}."


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]
