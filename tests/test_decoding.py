"""Minimum Bayes risk: the consensus is chosen, by utilities that equal sacrebleu's."""

import numpy as np
import pytest
from sacrebleu.metrics import CHRF

from tasks.chrf import chrf_between
from tasks.sonnet.decoding import minimum_bayes_risk


@pytest.mark.parametrize("longest", [3, 40, 400])
def test_chrf_of_all_pairs_equals_sacrebleu(longest):
    draw = np.random.default_rng(longest)
    texts = ["".join(draw.choice(list("abc \n"), draw.integers(longest))) for _ in range(7)]
    expected = [
        [CHRF().sentence_score(hypothesis, [reference]).score for reference in texts]
        for hypothesis in texts
    ]
    assert chrf_between(texts) == pytest.approx(np.array(expected), abs=1e-9)


def test_empty_texts_match_nothing():
    assert chrf_between(["", ""]).tolist() == [[0, 0], [0, 0]]
    assert minimum_bayes_risk(["", ""]) == 0
    assert minimum_bayes_risk(["", "words", "words"]) == 1


def test_the_consensus_is_chosen():
    texts = [
        "upon the quiet shore the lonely sailor weeps",
        "a king in winter counts his golden crowns",
        "upon the quiet shore a lonely maiden sleeps",
        "upon the quiet shore the lonely maiden weeps",  # agrees with both of the others
    ]
    assert minimum_bayes_risk(texts) == 3
    assert texts[minimum_bayes_risk(texts[::-1])] == texts[0]  # wherever it stands


def test_of_equal_samples_any_will_do():
    texts = ["the same line\n"] * 5
    assert texts[minimum_bayes_risk(texts)] == "the same line\n"
    assert minimum_bayes_risk(["one"]) == 0
