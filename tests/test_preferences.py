"""Preference pairs: what is chosen, what is rejected, what is dropped, and from which draws."""

from collections import Counter

import pytest
import torch

from minigpt import GPT, GPTConfig, get_tokenizer
from minigpt.errors import InputError
from tasks import Example, build_pairs, get_task
from tasks.preferences import CONSTRUCTIONS, corrupt
from tasks.registry import TASKS

TOKENIZER = get_tokenizer("verse")


@pytest.fixture
def model() -> GPT:
    config = GPTConfig(vocab_size=16384, n_positions=256, n_layer=1, n_head=2, n_embd=16)
    return GPT(config, generator=torch.Generator().manual_seed(0))


def build(name, task, model, examples, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return build_pairs(name, task, model, TOKENIZER, examples, generator=generator)


def test_the_right_answer_beats_the_wrong_one(model):
    examples = [Example("Same?", " yes"), Example("And now?", " no")]
    pairs = build("right-vs-wrong", get_task("paraphrase"), model, examples)
    assert pairs == [("Same?", " yes", " no"), ("And now?", " no", " yes")]


def test_gold_beats_the_policys_own_sample(model, monkeypatch):
    monkeypatch.setattr("tasks.sonnet.MAX_NEW_TOKENS", 12)
    task = get_task("sonnet")
    examples = task.examples("train")[:3]
    pairs = build("gold-vs-sample", task, model, examples)
    sampled = task.sample(model, TOKENIZER, [e.prompt for e in examples],
                          generator=torch.Generator().manual_seed(0))
    assert [tuple(pair) for pair in pairs] == [(*e, text) for e, text in zip(examples, sampled)]
    assert build("gold-vs-sample", task, model, examples) == pairs
    assert build("gold-vs-sample", task, model, examples, seed=1) != pairs


def test_gold_beats_its_lines_and_last_words_shuffled(model):
    task = get_task("sonnet")
    examples = task.examples("train")
    pairs = build("gold-vs-corrupted", task, model, examples)
    assert len(pairs) == 131
    for pair, example in zip(pairs, examples):
        assert (pair.prompt, pair.chosen) == example
        assert pair.rejected != pair.chosen
        assert Counter(pair.rejected) == Counter(pair.chosen)  # the same characters
        assert pair.rejected.count("\n") == pair.chosen.count("\n")
    kept = sum(line in pair.chosen.splitlines() for pair in pairs
               for line in pair.rejected.splitlines())
    assert kept < 0.2 * sum(pair.chosen.count("\n") for pair in pairs)
    assert build("gold-vs-corrupted", task, model, examples) == pairs
    assert build("gold-vs-corrupted", task, model, examples, seed=1) != pairs


def test_punctuation_stays_when_last_words_move():
    text = "on the sea,\nof the 'land.'\n"
    assert {corrupt(text, torch.Generator().manual_seed(seed)) for seed in range(40)} == {
        text,
        "on the 'land,\nof the sea.'\n",
        "of the 'land.'\non the sea,\n",
        "of the sea.'\non the 'land,\n",
    }


def test_pairs_without_a_difference_are_dropped(model):
    examples = [Example("p", "the same\nthe same\n"), Example("p", "one line\n"),
                Example("p", "a b\nc d\ne f\ng h\ni j\nk l\n")]
    pairs = build("gold-vs-corrupted", get_task("sonnet"), model, examples)
    assert [pair.chosen for pair in pairs] == [examples[2].completion]


def test_every_task_offers_constructions_that_exist():
    assert {name for task in TASKS.values() for name in task.preferences} == set(CONSTRUCTIONS)


def test_a_construction_of_another_task_is_refused(model):
    with pytest.raises(InputError, match="right-vs-wrong.*sonnet.*gold-vs-sample"):
        build("right-vs-wrong", get_task("sonnet"), model, [])
