"""How scores, tables, times and texts are shown to people."""

from collections.abc import Iterable, Sequence

from tqdm import tqdm

from minigpt.parallel import is_first
from tasks import Score

TERMINAL = 100  # columns that what is printed keeps to


def show_with_interval(score: Score, recorded: dict) -> str:
    """Return a recorded score as "value [low, high]"."""
    low, high = (score.show(bound) for bound in recorded["interval"])
    return f"{score.show(recorded['value'])} [{low}, {high}]"


def show_floor(score: Score, name: str, floor: dict[str, float], missing: str = "-") -> str:
    """Return what a floor has of the metric `name`, and `missing` where it has nothing.

    Where the floor was drawn, its standard deviation over the draws follows.
    """
    if name not in floor:
        return missing
    spread = f" ± {score.show(floor[f'{name}_sd'])}" if f"{name}_sd" in floor else ""
    return score.show(floor[name]) + spread


def align(rows: Sequence[Sequence[str]]) -> list[str]:
    """Return the rows of a table as lines, its columns padded to their widest cell."""
    widths = [max(map(len, column)) for column in zip(*rows)]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip() for row in rows
    ]


def show_duration(seconds: float) -> str:
    """Return a time as people say it: "40 s", "3 min", "2 h 05 min"."""
    if seconds < 59.5:
        return f"{seconds:.0f} s"
    hours, minutes = divmod(round(seconds / 60), 60)
    return f"{hours} h {minutes:02} min" if hours else f"{minutes} min"


def step_bar(steps: Iterable[dict], title: str, *, total: int, done: int) -> tqdm:
    """Return the steps that are left of `total`, shown as a bar while they are taken.

    Only where somebody looks: at the first process's terminal.
    """
    return tqdm(
        steps,
        title,
        total=total,
        initial=done,
        leave=False,
        disable=None if is_first() else True,
        bar_format="{l_bar}{bar}| {n_fmt}/{total_fmt} [{elapsed}{postfix}]",
    )


def printable(text: str) -> str:
    """Return a text whose control characters, all but the ends of lines, are shown as escapes.

    Otherwise what a model wrote, or a file of data holds, could clear the reader's screen.
    """
    return "".join(
        character
        if character.isprintable() or character in "\n\t"
        else character.encode("unicode_escape").decode()
        for character in text
    )
