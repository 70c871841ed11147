"""What a run exports, as transformers and PEFT read it, and as another run starts from it."""

import json
import shlex
from pathlib import Path

import pytest
import torch
import tyro

import lora
from experiments import export, handoff
from experiments.export import ExportConfig
from experiments.run.config import Config, identity, make_config
from experiments.run.loading import load_run
from experiments.run.model_card import command_of, model_card
from experiments.run.plan import with_defaults
from experiments.run.record import read_record, write_record
from experiments.run.source import find_source, load_source
from minigpt import GPT, GPTConfig, generate, get_tokenizer, load_pretrained, save_pretrained
from tasks.paraphrase import ParaphraseTask
from tests.conftest import CASES, oracle

pytestmark = pytest.mark.parity
transformers = oracle("transformers")
peft = oracle("peft")
PROMPT = "How do I make tea?"
SPANISH = "¿Cómo hago té en la montaña? El niño soñó con una cigüeña. ¿Sí o no? yes no\n"


def merged(run: Path, which: str = "best") -> GPT:
    model = load_run(run, which).model
    lora.merge(model)
    lora.unload(model)
    return model


@torch.no_grad()
def assert_same_model(theirs, ours: GPT, tokens: list[int]) -> None:
    """The same logits to 1e-4, and the same 40 greedy tokens."""
    difference = (theirs(torch.tensor([tokens])).logits - ours(torch.tensor([tokens]))).abs().max()
    assert difference < 1e-4
    expected = generate(ours, [tokens], max_new_tokens=40, temperature=0)[0]
    found = theirs.generate(
        input_ids=torch.tensor([tokens]), max_new_tokens=40, do_sample=False, eos_token_id=None
    )
    assert found[0, len(tokens) :].tolist() == expected and len(expected) == 40


def exported(run: Path, out: Path, **options) -> Path:
    return export.run(ExportConfig(run, out, **options))


def test_transformers_reads_a_merged_run(lora_run, tmp_path):
    folder = exported(lora_run, tmp_path / "new" / "out", merge=True)
    ours = merged(lora_run)
    tokens = get_tokenizer(ours).encode(PROMPT)
    theirs = transformers.AutoModelForCausalLM.from_pretrained(folder).eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    assert tokenizer(PROMPT)["input_ids"] == tokens
    assert_same_model(theirs, ours, tokens)
    pipe = transformers.pipeline("text-generation", model=str(folder))
    text = pipe(PROMPT, max_new_tokens=8, do_sample=False)[0]["generated_text"]
    new = generate(ours, [tokens], max_new_tokens=8, temperature=0)[0]
    assert text == get_tokenizer(ours).decode([*tokens, *new])
    assert theirs.generation_config.eos_token_id == get_tokenizer(ours).eot
    assert find_source(folder).adapters == ()
    assert torch.equal(load_source(find_source(folder)).wte.weight, ours.wte.weight)


def test_peft_reads_the_adapters_of_a_run_beside_their_base(lora_run, tmp_path):
    folder = exported(lora_run, tmp_path / "out", format="peft", which="last")
    ours = load_run(lora_run, "last").model
    tokens = get_tokenizer(ours).encode(PROMPT)
    base = transformers.AutoModelForCausalLM.from_pretrained(folder / "base")
    assert_same_model(peft.PeftModel.from_pretrained(base, folder).eval(), ours, tokens)
    named = peft.PeftConfig.from_pretrained(folder).base_model_name_or_path
    assert Path(named) == folder / "base"
    assert_same_model(peft.AutoPeftModelForCausalLM.from_pretrained(folder).eval(), ours, tokens)
    assert transformers.AutoTokenizer.from_pretrained(folder)(PROMPT)["input_ids"] == tokens
    folder = folder.rename(tmp_path / "moved")  # the base named is not there any more
    source = find_source(folder)
    assert source.weights == str(folder / "base") and source.adapters == (folder,)
    state = load_source(source).state_dict()
    for name, expected in merged(lora_run, "last").state_dict().items():
        assert torch.equal(state[name], expected)


def test_a_base_on_the_hub_is_named_and_not_copied(lora_run, tmp_path, monkeypatch):
    """Without the network: the run's base is what the Hub's would be."""
    monkeypatch.setattr(export, "find_source", lambda *_: find_source("gpt2"))
    folder = exported(lora_run, tmp_path / "out", format="peft")
    named = json.loads((folder / "adapter_config.json").read_text())["base_model_name_or_path"]
    assert named == "openai-community/gpt2" and not (folder / "base").exists()
    assert 'from_pretrained("openai-community/gpt2")' in (folder / "README.md").read_text()


def test_our_own_format_is_bit_for_bit(lora_run, tmp_path):
    folder = exported(lora_run, tmp_path / "out", format="native", merge=True, which="reference")
    state = load_pretrained(folder).state_dict()
    expected = merged(lora_run, "reference").state_dict()
    assert state.keys() == expected.keys()
    assert all(torch.equal(state[name], expected[name]) for name in state)


@pytest.fixture(scope="module")
def full_run(lora_run, tmp_path_factory) -> Path:
    """A run of all weights as far as the commands look at it: the record of one, and weights."""
    folder = tmp_path_factory.mktemp("runs") / "full"
    save_pretrained(merged(lora_run), folder / "best")
    record = read_record(lora_run / "run.json")
    record["config"]["parameterization"] = "full"
    write_record(folder / "run.json", record)
    (folder / "metrics.jsonl").write_text((lora_run / "metrics.jsonl").read_text())
    return folder


def test_a_run_of_all_weights_needs_no_merging(full_run, lora_run, tmp_path):
    folder = exported(full_run, tmp_path / "out")
    theirs = transformers.AutoModelForCausalLM.from_pretrained(folder).eval()
    ours = merged(lora_run)
    assert_same_model(theirs, ours, get_tokenizer(ours).encode(PROMPT))


@pytest.mark.parametrize(
    "which, arguments, sentence",
    [
        ("lora", [], "expected --merge or --format peft"),
        ("lora", ["--format", "native"], "expected --merge or --format peft"),
        ("lora", ["--format", "peft", "--merge"], "leaves no adapters"),
        ("full", ["--format", "peft"], "there are no adapters for peft"),
        ("full", ["--merge"], "nothing to merge"),
        ("full", ["--base", "verse"], "holds no adapters"),
        ("full", ["--which", "last"], "keeps no last policy"),
        ("none", [], "there is no run in"),
        ("lora", ["--format", "gguf"], "invalid choice"),
    ],
)
def test_what_does_not_fit_the_run_is_refused(
    which, arguments, sentence, lora_run, full_run, tmp_path, capsys
):
    run = {"lora": lora_run, "full": full_run, "none": tmp_path / "none"}[which]
    out = tmp_path / "out"
    with pytest.raises(SystemExit) as exit:
        export.main(["--run", str(run), "--out", str(out), *arguments])
    assert exit.value.code == 2 and not out.exists()
    assert sentence in " ".join(capsys.readouterr().err.replace("│", " ").split())


@pytest.mark.parametrize("kind", ["folder", "file"])
def test_nothing_is_overwritten(kind, full_run, tmp_path, capsys):
    out = tmp_path / "out"
    (out if kind == "folder" else tmp_path).mkdir(exist_ok=True)
    kept = out / "kept" if kind == "folder" else out
    kept.write_text("mine")
    with pytest.raises(SystemExit) as exit:
        export.main(["--run", str(full_run), "--out", str(out)])
    assert exit.value.code == 2 and "expected a new or an empty folder" in capsys.readouterr().err
    assert kept.read_text() == "mine" and len(list(tmp_path.rglob("*"))) == 1 + (kind == "folder")


# --- The card.


def test_the_card_says_what_the_record_says(lora_run, small_model):
    record = json.loads((lora_run / "run.json").read_text())
    card = model_card(lora_run, "best", "peft", ParaphraseTask, base="base")
    front = oracle("huggingface_hub").ModelCard(card).data.to_dict()
    assert front == {
        "library_name": "peft",
        "pipeline_tag": "text-generation",
        "tags": ["gpt2", "sft", "dpo", "lora"],
    }
    epoch = record["best"]["epoch"]
    for said in (
        f"The GPT-2 `{small_model}`, fine-tuned (LoRA adapters of rank 8) on the task `para",
        "32 for train, 8 for dev",
        "by SFT in epoch 1, then DPO on `right-vs-wrong` pairs in epoch 2, its reference the p",
        f"policy called best, that of epoch {epoch}, chosen by `accuracy` on dev",
        record["commit"] or "a commit that is not known",
        record["contents"]["data"],
        record["contents"]["weights"],
    ):
        assert said in card
    value, (low, high) = (record["best"]["scores"]["accuracy"][k] for k in ("value", "interval"))
    row = next(line for line in card.splitlines() if line.startswith("| accuracy"))
    assert row.split(" | ")[1] == f"{100 * value:.2f} [{100 * low:.2f}, {100 * high:.2f}]"
    assert "dev, majority class" in card and "| test" not in card
    last = model_card(lora_run, "last", "native", ParaphraseTask)
    assert "policy called last, that of epoch 2." in last and "chosen by" not in last
    assert "(LoRA adapters of rank 8, merged since)" in last


@pytest.mark.parametrize(
    "options",
    [
        {"model": "verse", "switch_epoch": 0, "out": "a b"},
        {"data": Path("a folder"), "parameterization": "lora", "dora": True, "alpha": 3.5}
        | {"targets": ("mlp", "h.0.*"), "layers": (0, 2), "rank_pattern": (("h.*.mlp.*", 2),)},
        {"preference": None, "loss": "simpo", "target_margin": 0.5, "train_examples": 3},
    ],
)
def test_the_cards_command_has_the_runs_options(options):
    config = make_config(**{k: v for k, v in options.items() if k != "preference"})
    recorded = make_config(**identity(with_defaults(config)))
    words = shlex.split(command_of(recorded))
    assert words[:3] == ["python", "-m", "experiments.handoff"] and "--out" not in words
    assert identity(tyro.cli(Config, args=words[3:])) == identity(with_defaults(config))


# --- A tokenizer of one's own.


@pytest.mark.slow
def test_a_spanish_tokenizer_survives_in_and_out(tmp_path):
    tokenizers = oracle("tokenizers")
    made = tokenizers.Tokenizer(tokenizers.models.BPE())
    made.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = tokenizers.decoders.ByteLevel()
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=400,
        initial_alphabet=tokenizers.pre_tokenizers.ByteLevel.alphabet(),
        special_tokens=["<fin>"],
        show_progress=False,
    )
    made.train_from_iterator([SPANISH] * 8, trainer)
    theirs = transformers.PreTrainedTokenizerFast(tokenizer_object=made, eos_token="<fin>")
    shape = GPTConfig(vocab_size=len(theirs), n_positions=128, n_layer=2, n_head=2, n_embd=16)
    model = GPT(shape, generator=torch.Generator().manual_seed(0))
    save_pretrained(model, tmp_path / "model", "hugging_face")
    theirs.save_pretrained(tmp_path / "model")
    config = make_config(
        task="paraphrase",
        data=str(CASES / "quora-unlabelled-test"),
        model=str(tmp_path / "model"),
        out=tmp_path / "run",
        parameterization="lora",
        epochs=1,
        switch_epoch=1,
        train_examples=8,
        dev_examples=4,
        sft_learning_rate=0.05,
        device="cpu",
    )
    handoff.run(config)
    folder = exported(tmp_path / "run", tmp_path / "out", merge=True)
    ids = theirs(SPANISH)["input_ids"]
    found = transformers.AutoTokenizer.from_pretrained(folder)
    assert found(SPANISH)["input_ids"] == ids and found.decode(ids) == SPANISH
    assert found.eos_token == "<fin>"
    ours = load_pretrained(folder).eval()
    tokenizer = get_tokenizer(ours)
    assert tokenizer.encode(SPANISH) == ids and tokenizer.decode(ids) == SPANISH
    assert tokenizer.eot == found.eos_token_id and len(ids) < len(SPANISH) / 2
    read = transformers.AutoModelForCausalLM.from_pretrained(folder).eval()
    assert_same_model(read, ours, ids)
    folder = exported(tmp_path / "run", tmp_path / "adapters", format="peft")
    assert transformers.AutoTokenizer.from_pretrained(folder)(SPANISH)["input_ids"] == ids
