"""The form of an English sonnet: fourteen rhyming lines of ten syllables, give or take one.

Sounds are those of the CMU Pronouncing Dictionary, which `pronouncing` loads when it is first asked
for a word. It lacks one in twenty-five of Shakespeare's words; those go by their spelling.
"""

import re
from collections.abc import Sequence

import pronouncing

from tasks.text import words

SCHEME = "ABABCDCDEFEFGG"
RHYMES = [(i, j) for j, b in enumerate(SCHEME) for i, a in enumerate(SCHEME[:j]) if a == b]
SYLLABLES = range(9, 12)  # ten, one more in a feminine ending, one lost in an elision

_VOWELS = re.compile(r"[aeiouy]+")
_SPELT_ENDING = re.compile(r"[aeiouy]+[^aeiouy]*e?$")


def rhyming_pairs(lines: Sequence[str], given: int) -> tuple[int, int]:
    """Return how many pairs of lines rhyme as they should, and how many should.

    Pairs among the `given` first lines are left out. A missing line does not rhyme.
    """
    pairs = [(i, j) for i, j in RHYMES if j >= given]
    rhyming = [
        j < len(lines) and rhymes(_last_word(lines[i]), _last_word(lines[j])) for i, j in pairs
    ]
    return sum(rhyming), len(pairs)


def rhymes(first: str, second: str) -> bool:
    """Return whether two words, in lower case, sound the same from the last stressed vowel on.

    One pronunciation of each has to. If the dictionary lacks either, both are compared from the
    last group of vowels on as they are spelt, a final e taken as silent. No word rhymes with
    itself, or with none.
    """
    if first == second or not first or not second:
        return False
    phones = _phones(first), _phones(second)
    if all(phones):
        one, other = ({_ending(p) for p in each} for each in phones)
    else:
        one, other = ({_spelt_ending(word)} for word in (first, second))
    return not one.isdisjoint(other)


def metrical_lines(lines: Sequence[str]) -> tuple[int, int]:
    """Return how many lines have 9 to 11 syllables, and how many lines there are."""
    return sum(syllables(line) in SYLLABLES for line in lines), len(lines)


def syllables(line: str) -> int:
    """Return the syllables of a line, by each word's first pronunciation in the dictionary.

    Words it lacks have one for each group of vowels, a final e taken as silent, and one at least.
    """
    return sum(_syllables(word) for word in words(line))


def _syllables(word: str) -> int:
    phones = _phones(word)
    if phones:
        return pronouncing.syllable_count(phones[0])
    return max(1, len(_VOWELS.findall(_letters(word).removesuffix("e"))))


def _phones(word: str) -> list[str]:
    """Return the pronunciations of a word; "lov'd" is looked up as "loved" where it must be."""
    found = pronouncing.phones_for_word(word)
    if not found and word.endswith("'d"):
        found = pronouncing.phones_for_word(word[:-2] + "ed")
    return found


def _ending(phones: str) -> str:
    # Without the marks of stress: a secondary one rhymes with a primary one.
    return re.sub(r"\d", "", pronouncing.rhyming_part(phones))


def _spelt_ending(word: str) -> str:
    letters = _letters(word)
    found = _SPELT_ENDING.search(letters)
    return found.group() if found else letters


def _letters(word: str) -> str:
    return word.replace("'", "")


def _last_word(line: str) -> str:
    return next(reversed(words(line)), "")
