"""Running text, cut: files into documents, documents into passages, passages in two."""

from collections.abc import Iterator
from typing import NamedTuple

MARK = "<|endoftext|>"  # between documents, as GPT-2's training data had them
FEWEST = 3  # documents; fewer cannot be split into train, dev and test
PARTS = 20  # that each document is cut into where there are fewer
PASSAGE = 600  # characters at most; some 150 to 200 tokens of English, so that contexts hold them


class Passage(NamedTuple):
    """What a row of running text has in the place of columns."""

    passage: str
    document: str


def documents(texts: list[str]) -> list[str]:
    """Return the documents of text files.

    A file is a document, or as many as end-of-text marks make of it. Blank lines part none, as they
    part stanzas and paragraphs too.
    """
    pieces = (piece for text in texts for piece in text.replace("\r\n", "\n").split(MARK))
    return [piece.strip() for piece in pieces if piece.strip()]


def parts(document: str) -> list[str]:
    """Return a document in about PARTS of equal length, as a single book has to be split, too."""
    return list(cut(document, most=len(document) // PARTS + 1))


def cut(text: str, most: int = PASSAGE) -> Iterator[str]:
    """Yield pieces of at most `most` characters, which make up the text, each as long as can be.

    A piece ends with a blank line, if there is one in its second half, or else with a line or a
    word. Spaces go with the word behind them, as in GPT-2's tokens.
    """
    start = 0
    while len(text) - start > most:
        end = _last_end(text, start + (most + 1) // 2, start + most)
        yield text[start:end]
        start = end
    yield text[start:]


def beginning(passage: str) -> str:
    """Return a quarter of a passage, to the end of a word; all of it where no word follows."""
    quarter = max(1, len(passage) // 4)
    ends = [passage.find(" ", quarter), passage.find("\n", quarter) + 1]
    return passage[: min((end for end in ends if end > 0), default=len(passage))]


def _last_end(text: str, low: int, high: int) -> int:
    for mark, kept in (("\n\n", 2), ("\n", 1), (" ", 0)):
        at = text.rfind(mark, low, high)
        if at >= 0:
            return at + kept
    return high
