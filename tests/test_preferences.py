"""Preference pairs: what is chosen, what is rejected, what is dropped, and from which draws."""

from collections import Counter

import numpy as np
import pytest
import torch
from sacrebleu.metrics import CHRF

from experiments.run.data import dpo_data
from minigpt import GPT, GPTConfig, get_tokenizer
from minigpt.errors import InputError
from objectives import PreferenceConfig
from tasks import Example, PreferencePair, build_pairs, describe_pairs, get_task
from tasks.registry import TASKS
from tasks.sonnet.corruption import corrupt

TOKENIZER = get_tokenizer("verse")


@pytest.fixture
def model() -> GPT:
    config = GPTConfig(vocab_size=16384, n_positions=256, n_layer=1, n_head=2, n_embd=16)
    return GPT(config, generator=torch.Generator().manual_seed(0))


def build(name, task, model, examples, seed=0, **options):
    generator = torch.Generator().manual_seed(seed)
    made = build_pairs(name, task, model, TOKENIZER, examples, generator=generator, **options)
    return [pair for pair, _ in made]


def test_the_right_answer_beats_the_wrong_one(model):
    examples = [Example("Same?", " yes"), Example("And now?", " no")]
    pairs = build("right-vs-wrong", get_task("paraphrase"), model, examples)
    assert [pair[:3] for pair in pairs] == [("Same?", " yes", " no"), ("And now?", " no", " yes")]


def test_gold_beats_the_policys_own_sample(model, monkeypatch):
    monkeypatch.setattr("tasks.sonnet.task.MAX_NEW_TOKENS", 12)
    task = get_task("sonnet")
    examples = task.examples("train")[:3]
    pairs = build("gold-vs-sample", task, model, examples)
    sampled = task.sample(
        model, TOKENIZER, [e.prompt for e in examples], generator=torch.Generator().manual_seed(0)
    )
    assert [tuple(pair) for pair in pairs] == [
        (*e, text, True, ends) for e, (text, ends) in zip(examples, sampled)
    ]
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
    kept = sum(
        line in pair.chosen.splitlines() for pair in pairs for line in pair.rejected.splitlines()
    )
    assert kept < 0.2 * sum(pair.chosen.count("\n") for pair in pairs)
    assert build("gold-vs-corrupted", task, model, examples) == pairs
    assert build("gold-vs-corrupted", task, model, examples, seed=1) != pairs


def test_pairs_without_a_difference_are_dropped(model):
    examples = [
        Example("p", "the same\nthe same\n"),
        Example("p", "one line\n"),
        Example("p", "a b\nc d\ne f\ng h\ni j\nk l\n"),
    ]
    pairs = build("gold-vs-corrupted", get_task("sonnet"), model, examples)
    assert [pair.chosen for pair in pairs] == [examples[2].completion]


def test_every_task_makes_its_own_pairs_the_default_first():
    assert {name: [*task.preferences] for name, task in TASKS.items()} == {
        "paraphrase": ["right-vs-wrong"],
        "sonnet": ["gold-vs-sample", "gold-vs-corrupted", "best-vs-worst"],
        "preference": ["given"],
        "choice": ["right-vs-wrong"],
        "completion": ["gold-vs-sample", "gold-vs-corrupted", "best-vs-worst"],
    }


def test_corruptions_are_drawn_one_example_after_another(model):
    task, generator = get_task("sonnet"), torch.Generator().manual_seed(3)
    examples = task.examples("train")[:9]
    expected = [(*e, corrupt(e.completion, generator)) for e in examples]
    pairs = build("gold-vs-corrupted", task, model, examples, seed=3)
    assert [pair[:3] for pair in pairs] == expected


def test_a_construction_of_another_task_is_refused(model):
    with pytest.raises(InputError, match="right-vs-wrong.*sonnet.*gold-vs-sample"):
        build("right-vs-wrong", get_task("sonnet"), model, [])


def chrf(text: str, gold: str) -> float:
    return CHRF().sentence_score(text, [gold]).score


def test_the_best_sample_beats_the_worst(model, monkeypatch):
    monkeypatch.setattr("tasks.sonnet.task.MAX_NEW_TOKENS", 12)
    task = get_task("sonnet")
    examples = task.examples("train")[:3]
    pairs = build("best-vs-worst", task, model, examples, n_samples=5)
    prompts = [example.prompt for example in examples for _ in range(5)]
    sampled = task.sample(model, TOKENIZER, prompts, generator=torch.Generator().manual_seed(0))
    for i, (pair, example) in enumerate(zip(pairs, examples, strict=True)):
        ranked = sorted(sampled[5 * i : 5 * i + 5], key=lambda s: chrf(s.text, example.completion))
        (worst, worst_ends), *_, (best, best_ends) = ranked
        assert pair == (example.prompt, best, worst, best_ends, worst_ends)
    assert build("best-vs-worst", task, model, examples, n_samples=5) == pairs


def test_samples_that_all_score_the_same_make_no_pair(model, monkeypatch):
    monkeypatch.setattr("tasks.sonnet.task.MAX_NEW_TOKENS", 4)
    task = get_task("sonnet", temperature=0)  # greedy: the same text each time
    assert build("best-vs-worst", task, model, task.examples("train")[:2]) == []


def test_one_sample_cannot_be_best_and_worst(model):
    task = get_task("sonnet")
    with pytest.raises(InputError, match="n_samples = 1; expected at least 2"):
        build("best-vs-worst", task, model, task.examples("train")[:1], n_samples=1)


GOLD = "".join(f"the {name} line of four\n" for name in ("first", "second", "third", "last"))


def test_pairs_in_numbers():
    examples = [Example(f"prompt {i}", GOLD) for i in range(5)]
    half = GOLD[: len(GOLD) // 2]
    pairs = [
        PreferencePair("prompt 0", GOLD, GOLD.replace("line", "verse")),
        PreferencePair("prompt 1", GOLD, half),  # two lines of four are enough
        PreferencePair("prompt 2", "one line\n", GOLD[::-1]),  # degenerate
        PreferencePair("prompt 3", GOLD, ""),  # degenerate
    ]
    found = describe_pairs([*zip(pairs, examples)], len(examples), free_text=True)
    assert all(type(value) in (int, float) for value in found.values())
    assert found["examples"] == 5 and found["pairs"] == 4
    assert found["share_dropped"] == pytest.approx(0.2)
    assert found["share_degenerate"] == 0.5
    margins = [chrf(pair.chosen, GOLD) - chrf(pair.rejected, GOLD) for pair in pairs]
    assert found["margin_mean"] == pytest.approx(sum(margins) / 4)
    low, low_middle, high_middle, high = sorted(margins)
    assert found["margin_50"] == pytest.approx((low_middle + high_middle) / 2)
    assert found["margin_10"] == pytest.approx(low + 0.3 * (low_middle - low))
    assert found["margin_90"] == pytest.approx(high_middle + 0.7 * (high - high_middle))
    lengths = [len(pair.rejected) / len(pair.chosen) for pair in pairs]
    assert found["length_ratio"] == pytest.approx(sum(lengths) / 4)


def test_a_pair_is_graded_by_its_own_example_where_prompts_repeat(model):
    poems = ["a rose\nby any name\nis red\n" * 3, "no two\nof them\nare alike\n", "one\n"]
    examples = [Example("Write a line:", text) for text in poems]  # the last one makes no pair
    generator = torch.Generator().manual_seed(0)
    made = build_pairs(
        "gold-vs-corrupted", get_task("sonnet"), model, TOKENIZER, examples, generator=generator
    )
    assert [example for _, example in made] == examples[:2]
    assert [pair.chosen for pair, _ in made] == poems[:2]
    found = describe_pairs(made, len(examples), free_text=True)
    margins = [100 - chrf(pair.rejected, pair.chosen) for pair, _ in made]
    assert found["margin_mean"] == pytest.approx(sum(margins) / 2)
    assert found["share_degenerate"] == 0


def test_answers_have_no_margin():
    examples = [Example("Same?", " yes"), Example("And now?", " no")]
    pairs = [PreferencePair("Same?", " yes", " no"), PreferencePair("And now?", " no", " yes")]
    assert describe_pairs([*zip(pairs, examples)], len(examples), free_text=False) == {
        "examples": 2,
        "pairs": 2,
        "share_dropped": 0,
        "share_degenerate": 0,
        "length_ratio": pytest.approx((3 / 4 + 4 / 3) / 2),
    }


def test_when_every_pair_was_dropped_there_are_only_counts():
    assert describe_pairs([], 1, free_text=True) == {
        "examples": 1,
        "pairs": 0,
        "share_dropped": 1,
    }


def test_a_side_that_was_cut_ends_without_end_of_text(model, tmp_path):
    """What DPO scores of it are the tokens that the policy wrote."""
    pairs = [
        PreferencePair("one\n", "two\n", "three\n"),
        PreferencePair("one\n", "two\n", "three\n", rejected_ends=False),
        PreferencePair("one\n", "two\n", "three\n", chosen_ends=False),
    ]
    data = dpo_data(
        pairs,
        get_task("sonnet"),
        TOKENIZER,
        model,
        preference=PreferenceConfig("simpo"),
        reference="",
        precision="fp32",
        folder=tmp_path,
        share_prompts=False,
    )
    batch = data.batch(np.arange(3))
    ended = set(batch.sequence[batch.target == TOKENIZER.eot].tolist())
    assert ended == {0, 1, 3, 5}  # of all chosen, then all rejected
