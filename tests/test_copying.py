"""Copying: runs and 5-grams against a search through all spans, and known answers."""

import numpy as np

from tasks.sonnet.copying import copied_ngrams, copied_runs, copying_source
from tasks.text import words


def test_words_have_no_punctuation_and_no_capitals():
    assert words("Thy beauty’s USE: ('Tis o'er-) 1609,\nself-love!") == [
        "thy",
        "beauty's",
        "use",
        "tis",
        "o'er",
        "self",
        "love",
    ]


def test_a_run_goes_on_over_lines_but_not_from_one_text_into_the_next():
    source = copying_source(["from fairest creatures\nwe desire increase,", "that thereby we"])
    text = "We desire increase, that fairest creatures we"
    assert copied_runs(text, source) == [1, 2, 3, 1, 1, 2, 3]
    assert copied_runs("Increase that thereby", source) == [1, 1, 2]
    assert copied_runs("unknown words", source) == [0, 0]


def test_a_copy_of_a_source_is_copied_whole():
    text = "When forty winters shall besiege thy brow"
    runs = copied_runs(text, copying_source(["something else", text]))
    assert runs == [1, 2, 3, 4, 5, 6, 7]
    assert copied_ngrams(runs) == (3, 3)


def test_too_few_words_for_an_ngram_are_not_copied():
    source = copying_source(["one two three four five"])
    for text in ("", "...", "one two three four"):
        assert copied_ngrams(copied_runs(text, source)) == (0, 0)


def test_runs_equal_those_of_a_search_through_all_spans():
    draw = np.random.default_rng(0)
    sources = [list(draw.choice(list("abc"), 30)) for _ in range(3)]
    text = list(draw.choice(list("abcd"), 60))

    def occurs(span):
        return any(s[i : i + len(span)] == span for s in sources for i in range(len(s)))

    expected = [
        max((n for n in range(1, end + 1) if occurs(text[end - n : end])), default=0)
        for end in range(1, len(text) + 1)
    ]
    source = copying_source(map(" ".join, sources))
    runs = copied_runs(" ".join(text), source)
    assert runs == expected
    grams = [text[i : i + 5] for i in range(len(text) - 4)]
    assert copied_ngrams(runs) == (sum(map(occurs, grams)), 56)
