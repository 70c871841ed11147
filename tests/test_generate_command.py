"""experiments.generate: prompts in, texts out, side by side, and options that make no sense."""

import io
import shutil

import pytest
import torch

from experiments import generate as command
from experiments.generate import GenerateConfig
from experiments.run.loading import load_run
from experiments.run.seeds import torch_generator
from minigpt import generate, get_tokenizer, load_pretrained, save_pretrained
from minigpt.errors import InputError

SHORT = {"max_new_tokens": 6, "device": "cpu"}
PROMPT = "How do I make tea?\nWell:"


def written(**options) -> list[dict]:
    return command.run(GenerateConfig(**{**SHORT, **options}))


def expected(model, number: int = 0, samples: int = 1, prompt: str = PROMPT, **options):
    tokenizer = get_tokenizer(model)
    new = generate(
        model,
        [tokenizer.encode(prompt)] * samples,
        max_new_tokens=6,
        generator=torch_generator(0, "generate", number),
        stop=lambda new: new[-1] == tokenizer.eot,
        **options,
    )
    return [tokenizer.decode(tokens) for tokens in new]


def test_a_run_writes_beside_its_reference_and_the_untuned_model(lora_run, small_model, capsys):
    rows = written(run=lora_run, which="last", prompt=PROMPT, samples=2, beside=True)
    order = [(row["sample"], row["model"]) for row in rows]
    assert order == [(i, name) for i in (0, 1) for name in ("last", "reference", "untuned")]
    models = {which: load_run(lora_run, which).model for which in ("last", "reference")}
    models["untuned"] = load_pretrained(small_model)
    for name, model in models.items():
        texts = [row["text"] for row in rows if row["model"] == name]
        assert texts == expected(model, samples=2)
    shown = capsys.readouterr().out
    assert shown.startswith("> How do I make tea?\n> Well:\n\n[last, sample 1]\n")
    assert shown.count("[untuned, sample ") == 2


def test_any_model_is_tried_by_file_or_line_by_line(small_model, tmp_path, monkeypatch, capsys):
    (tmp_path / "prompts.txt").write_text("How do I make tea?\\nWell:\n\nWhy?\n")
    rows = written(model=str(small_model), prompts=tmp_path / "prompts.txt", temperature=0, top_k=5)
    model = load_pretrained(small_model)
    texts = [expected(model, temperature=0)[0], expected(model, prompt="Why?", temperature=0)[0]]
    assert [row["text"] for row in rows] == texts and [row["prompt"] for row in rows] == [0, 1]
    assert "sample" not in capsys.readouterr().out
    monkeypatch.setattr("sys.stdin", io.StringIO("How do I make tea?\\nWell:\n\nWhy?"))
    assert written(model=str(small_model), temperature=0) == rows
    assert "prompt:" not in capsys.readouterr().out  # nobody is at a terminal


def test_what_a_model_writes_cannot_steer_the_terminal(small_model, monkeypatch, capsys):
    monkeypatch.setattr(command, "generate", lambda *_, **__: [[0]])
    monkeypatch.setattr(type(get_tokenizer("verse")), "decode", lambda *_: "a\x1b[2Jb")
    assert written(model=str(small_model), prompt="x\x1b")[0]["text"] == "a\x1b[2Jb"
    assert capsys.readouterr().out == "> x\\x1b\na\\x1b[2Jb\n\n"


def test_sft_alone_has_no_reference_to_show(lora_run, tmp_path):
    shutil.copytree(lora_run, tmp_path / "run")
    shutil.rmtree(tmp_path / "run" / "reference")
    rows = written(run=tmp_path / "run", prompt="a", beside=True)
    assert [row["model"] for row in rows] == ["best", "untuned"]


@pytest.mark.parametrize("name", ["temperature", "seed"])
def test_a_zero_that_makes_sense_is_accepted(name, monkeypatch):
    class LoadsTheModel(Exception):
        """All options were accepted."""

    def load(*_, **__):
        raise LoadsTheModel

    monkeypatch.setattr(command, "load_source", load)
    with pytest.raises(LoadsTheModel):
        command.main(["--model", "verse", "--prompt", "a", f"--{name}", "0"])


@pytest.mark.parametrize(
    "arguments, sentence",
    [
        ([], "expected one of --run"),
        (["--run", "a", "--model", "verse"], "expected one of --run"),
        (["--model", "verse", "--beside"], "--model has no other policies"),
        (["--model", "verse", "--which", "last"], "--model has no other policies"),
        (["--model", "verse", "--prompt", "a", "--prompts", "b"], "are both given"),
        (["--model", "verse", "--prompts", "nowhere.txt"], "cannot read nowhere.txt"),
        (["--model", "verse", "--device", "abacus"], "cannot be used"),
        (["--model", "nowhere", "--prompt", "a"], "there is no model nowhere"),
        (["--run", "nowhere", "--prompt", "a"], "there is no run in nowhere"),
        (["--model", "verse", "--base", "gpt2", "--prompt", "a"], "holds no adapters"),
        (["--model", "verse", "--prompt", ""], "prompt 0 is empty"),
    ],
)
def test_what_cannot_be_tried_is_told(arguments, sentence, capsys):
    with pytest.raises(SystemExit) as exit:
        command.main(arguments)
    assert exit.value.code == 2
    error = capsys.readouterr().err
    assert sentence in error and error.count("\n") == 1


def test_an_untuned_model_that_changed_is_refused(lora_run, small_model, tmp_path):
    model = load_pretrained(small_model)
    with torch.no_grad():
        model.wte.weight[0, 0] += 1
    save_pretrained(model, tmp_path / "changed")
    with pytest.raises(InputError, match="the weights have changed"):
        written(run=lora_run, base=str(tmp_path / "changed"), prompt="a", beside=True)
