"""Near-duplicates of a set of poems: which lines of a large text are other editions of theirs.

Editions of one poem differ in spelling, punctuation, capitals, hyphens and line breaks. So the
poems and the text are reduced to skeletons, in which most of that is gone, and a line counts as
a duplicate when its skeleton lies, nearly letter by letter, somewhere in the skeleton of a whole
poem. Line breaks do not matter then: half a line is found, and so are two halves run together.
"""

import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Sequence
from difflib import SequenceMatcher
from itertools import chain, pairwise

GRAM = 6  # letters in the fragments by which candidates are found
CANDIDATE = 0.2  # share of a line's fragments in one poem line that is worth a closer look
DRIFT = 8  # letters by which an alignment may shift: about one word added or dropped
BLOCK = 3  # letters in a row that count as found; fewer agree by chance
SURE = 14  # letters that must be found in any case: common phrases are shorter
SIMILAR = 0.5  # share of the letters beyond SURE that must be found as well

# Old printers used u for v, vv for w, i for j, y for i and a long s that reads as f; the letter e
# comes and goes ("mak'st", "makest", "self", "selfe"), and so do doubled letters.
_OLD_SPELLING = str.maketrans("vwjyf", "uuiis", "e")
_NOT_LETTERS = re.compile("[^a-z]+")
_DOUBLED = re.compile(r"(.)\1+")


def skeleton(line: str) -> str:
    """The letters of a line as an indifferent printer would set them: "Lov'st!" -> "loust"."""
    line = line.lower().replace("&", "and").replace("ſ", "s")
    if not line.isascii():
        line = unicodedata.normalize("NFKD", line)
    return _DOUBLED.sub(r"\1", _NOT_LETTERS.sub("", line).translate(_OLD_SPELLING))


class NearDuplicates:
    """An index of poems (each a list of lines) that tells which of their lines a line repeats."""

    def __init__(self, poems: Sequence[Sequence[str]]):
        self.lines = list(chain.from_iterable(poems))
        self._letters = ""
        self._start: list[int] = []  # of each line in _letters
        self._lines_with: dict[str, list[int]] = defaultdict(list)  # fragment -> line numbers
        for line in self.lines:
            self._start.append(len(self._letters))
            self._letters += skeleton(line)
        for number, (start, end) in enumerate(pairwise([*self._start, len(self._letters)])):
            for place in range(start, end):
                self._lines_with[self._letters[place : place + GRAM]].append(number)

    def match(self, line: str) -> str | None:
        """The line that `line` repeats, in full or in part, or None if it repeats none."""
        bones = skeleton(line)
        if len(bones) < SURE:
            return None
        number = self._candidate(bones)
        if number is None:
            return None
        enough = SURE + SIMILAR * (len(bones) - SURE)
        return self.lines[number] if self._letters_found(bones, number) >= enough else None

    def _candidate(self, bones: str) -> int | None:
        """The number of the line that shares most fragments with `bones`, if it shares enough."""
        fragments = [bones[i : i + GRAM] for i in range(len(bones) - GRAM + 1)]
        known = [self._lines_with[f] for f in fragments if f in self._lines_with]
        enough = CANDIDATE * len(fragments)
        if len(known) < enough:
            return None
        number, shared = Counter(chain.from_iterable(known)).most_common(1)[0]
        return number if shared >= enough else None

    def _letters_found(self, bones: str, number: int) -> int:
        """How many letters of `bones` stand, in order, about where line `number` stands."""
        start = self._start[number]
        near = self._letters[max(0, start - len(bones)) : start + 2 * len(bones)]
        run = SequenceMatcher(None, bones, near, autojunk=False).find_longest_match()
        first = run.b - run.a
        aligned = near[max(0, first - DRIFT) : first + len(bones) + DRIFT]
        blocks = SequenceMatcher(None, bones, aligned, autojunk=False).get_matching_blocks()
        return sum(block.size for block in blocks if block.size >= BLOCK)
