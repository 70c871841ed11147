"""The judge of single lines, and how varied samples are, by arithmetic written out."""

import hashlib
import json
import math

import pytest

from minigpt.files import hash_file
from minigpt.weights.pretrained import VERSE
from tasks import get_task
from tasks.base import Example
from tasks.sonnet.continuations import set_statistics
from tasks.sonnet.diversity import distinct_ngrams
from tasks.sonnet.judge import SAMPLED, LineJudge, accuracy, fit_judge

STORED = json.loads(SAMPLED.read_text(encoding="utf-8"))


def test_the_evidence_of_an_ngram_by_hand():
    """Of three gold lines two have an "a", of one sampled line none: log 3/5 - log 1/3."""
    judge = LineJudge(["a", "a", "b"], ["b"])
    assert judge.evidence["a"] == pytest.approx(math.log(3 / 5) - math.log(1 / 3))
    assert judge.evidence["b"] == pytest.approx(math.log(2 / 5) - math.log(2 / 3))
    assert judge.evidence["\na\n"] == judge.evidence["a"]  # the ends of a line belong to it
    judge = LineJudge(["a", "b"], ["b", "d"])
    assert judge.evidence["\n"] == judge.evidence["b"] == 0
    assert judge.count(["a", " a ", "b", "c", "d"]) == (2, 5)  # nothing speaks for b and c
    assert judge.count([]) == (0, 0)


def test_what_occurs_twice_in_a_line_counts_once():
    assert LineJudge(["aa"], ["b"]).evidence["a"] == LineJudge(["a"], ["b"]).evidence["a"]


def test_the_judge_tells_lines_it_has_not_read_and_says_how_well():
    task = get_task("sonnet")
    sonnets = task.sonnets
    judge = fit_judge(sonnets)
    right = accuracy(judge, sonnets["dev"])
    gold, sampled = (
        [line for text in texts for line in text.splitlines()]
        for texts in (
            [example.completion for example in task.examples("dev")],
            [STORED["texts"][lines[0]] for lines in sonnets["dev"]],
        )
    )
    shares = [judge.count(lines)[0] / len(lines) for lines in (gold, sampled)]
    assert right == pytest.approx((shares[0] + 1 - shares[1]) / 2)
    assert 0.65 < right < 0.9
    ceilings = task.ceilings("dev")
    assert ceilings["judge's accuracy"] == {"judged_gold": right}
    assert ceilings["gold"]["judged_gold"] == pytest.approx(shares[0])


def test_the_judge_learns_from_training_sonnets_alone():
    """Their own lines, but the given ones, and what was written in place of these."""
    sonnets = get_task("sonnet").sonnets
    few = {**sonnets, "train": sonnets["train"][1:3]}
    gold = [line for lines in few["train"] for line in lines[3:]]
    texts = [STORED["texts"][lines[0]] for lines in few["train"]]
    sampled = [line for text in texts for line in text.splitlines()]
    assert 20 <= len(sampled) <= len(gold) == 22
    assert fit_judge(few).evidence == LineJudge(gold, sampled).evidence


def test_for_sonnets_of_ones_own_it_learns_from_what_was_written_for_others():
    dev = get_task("sonnet").sonnets["dev"]
    own = {"train": [[f"my line {i}" for i in range(14)]], "dev": dev, "test": []}
    others = dict(STORED["texts"])
    for lines in dev:
        del others[lines[0]]
    sampled = [line for text in others.values() for line in text.splitlines()]
    judge = fit_judge(own)
    assert judge.evidence == LineJudge(own["train"][0][3:], sampled).evidence
    assert judge.count(own["train"][0])[0] == 14
    assert accuracy(judge, own["train"]) is None  # nothing was written for these


def test_a_limit_of_the_training_sonnets_is_none_for_the_judge():
    whole, few = get_task("sonnet"), get_task("sonnet", limits={"train": 8, "dev": 2})
    assert few._judge.evidence == whole._judge.evidence
    assert few.ceilings("dev")["judge's accuracy"] == whole.ceilings("dev")["judge's accuracy"]


def test_the_sampled_lines_are_the_shipped_models():
    """After another pretraining: `python -m experiments.verse.sonnet_lines`."""
    assert STORED["weights"] == hash_file(VERSE / "model.safetensors", hashlib.sha256())
    assert len(STORED["texts"]) == 154


def test_distinct_ngrams_by_hand():
    texts = ["The rose, the red rose\nthe red", "the rose"]
    assert distinct_ngrams(texts, 1) == (3, 9)
    # the rose, rose the, the red, red rose, rose the, the red; the rose
    assert distinct_ngrams(texts, 2) == (4, 7)
    assert distinct_ngrams(texts, 9) == (0, 0)
    assert distinct_ngrams([texts[0]] * 5, 2) == (4, 30)  # always the same: seen


def test_distinct_ngrams_are_counted_by_prompt():
    examples = [Example("a\nb\nc\n", "d\n")] * 2
    found = set_statistics(examples, ["one two", "one two", "one two", "three"])
    assert found["distinct_1"].tolist() == [[2, 4], [3, 3]]
    assert found["distinct_2"].tolist() == [[1, 2], [1, 1]]
    assert found["distinct_3"].tolist() == [[0, 0], [0, 0]]
