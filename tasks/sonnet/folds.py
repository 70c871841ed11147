"""Cross-validation over all sonnets of a source; those that say the same lie in one fold."""

from pathlib import Path

import numpy as np

from tasks.sonnet.shakespeare import Sonnet, SonnetData, split_sonnets
from tasks.splits import Fold, components, text_hash
from tasks.text import text_key

# Two tellings of one Greek epigram (Marianus, Anthologia Graeca 9.627). They have no line in common
# and no more words than other pairs have by chance, so that no overlap would find them.
RETOLD = {154: 153}


def fold_sonnets(data: str | Path | None, fold: Fold) -> SonnetData:
    """Return all sonnets of a folder's files, or the package's, by what a fold makes of them.

    No split "test" is left. Raises InputError as `split_sonnets` does, and for fewer groups of
    sonnets than folds.
    """
    splits, accounts, _ = split_sonnets(data)
    own = [split for split, sonnets in splits.items() for _ in sonnets]
    pool = [sonnet for sonnets in splits.values() for sonnet in sonnets]
    drawn = fold.split(sonnet_groups(pool), own)
    for sonnet, split in zip(pool, drawn):
        if not split:
            accounts[sonnet.file].leave_out(1, fold.back)
    folded = {
        split: [sonnet for sonnet, its in zip(pool, drawn) if its == split]
        for split in ("train", "dev")
    }
    return SonnetData({**folded, "test": []}, accounts, f"all from {', '.join(accounts)}: {fold}")


def sonnet_groups(sonnets: list[Sonnet]) -> np.ndarray:
    """Return the group of each sonnet, (N,): those with a line in common are in one.

    A line is its words, in their order. Of Shakespeare's these are 36 and 96, which end alike; 153
    and 154 are in one group too (`RETOLD`).
    """
    longest = max(len(sonnet.lines) for sonnet in sonnets)
    keys = np.empty((len(sonnets), 1 + longest), dtype=np.uint64)
    for row, (number, lines, _) in zip(keys, sonnets):
        row[:] = text_hash("number", str(RETOLD.get(number, number)))
        row[1 : 1 + len(lines)] = [text_hash(text_key(line)) for line in lines]
    return components(keys)


def share_lines(sonnets: list[list[str]], others: list[list[str]]) -> list[bool]:
    """Return whether each sonnet, the list of its lines, has a line in common with the others."""
    known = {text_key(line) for lines in others for line in lines}
    return [any(text_key(line) in known for line in lines) for lines in sonnets]
