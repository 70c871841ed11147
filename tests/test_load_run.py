"""A run's policies as models again: loaded to look at, and as what another run starts from."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import experiments
import lora
import minigpt
from experiments import handoff
from experiments.run.config import Config, identity, make_config
from experiments.run.contents import base_hash
from experiments.run.loading import load_untuned
from experiments.run.plan import resolve
from experiments.run.policy import make_policy
from experiments.run.record import write_record
from experiments.run.source import Source, find_source, load_source
from lora import LoRAConfig
from minigpt import GPT, accelerate, get_tokenizer, load_pretrained, load_run, save_pretrained
from minigpt.errors import InputError
from tests.conftest import CASES

IDS = torch.arange(24).view(2, 12)  # (B, T)


@pytest.fixture
def copied(lora_run, small_model, tmp_path) -> Path:
    """A copy of the run, and of its base, that may be changed."""
    shutil.copytree(small_model, tmp_path / "model")
    shutil.copytree(lora_run, tmp_path / "run")
    edit_base(tmp_path / "run", str(tmp_path / "model"))
    return tmp_path / "run"


def edit_base(run: Path, base: str | None) -> None:
    for path in run.glob("*/adapter_config.json"):
        values = json.loads(path.read_text()) | {"base_model_name_or_path": base}
        path.write_text(json.dumps(values))


def nudge(folder: Path) -> None:
    """Change one weight of a model."""
    model = load_pretrained(folder)
    with torch.no_grad():
        model.h[0].mlp.c_fc.bias[3] += 1e-3
    save_pretrained(model, folder)


@torch.no_grad()
def logits(model: GPT) -> torch.Tensor:
    return model.eval()(IDS)


def start(source: Source, **options) -> GPT:
    """The policy of a run that begins there."""
    rest = {"lora": None, "precision": "fp32", "compile": "eager"} | options
    generator = torch.Generator().manual_seed(0)
    return make_policy(source, dropout=0.0, device="cpu", generator=generator, **rest)[0]


def test_all_three_policies_are_those_of_the_run(lora_run, small_model):
    """Each is the base with the adapters of its folder, and the untuned model when disabled."""
    base = load_pretrained(small_model)
    found = {}
    for which in ("best", "last", "reference"):
        model, tokenizer, config = load_run(lora_run, which)
        expected = load_pretrained(small_model)
        lora.load_adapter(expected, lora_run / which)
        assert torch.equal(logits(model), logits(expected))
        assert not model.training
        assert {type(layer) for layer in lora.lora_layers(model).values()} == {lora.LoRALinear}
        with lora.disabled(model):
            assert torch.equal(logits(model), logits(base))
        assert tokenizer.encode("no") == get_tokenizer("verse").encode("no")
        assert config == make_config(**json.loads((lora_run / "run.json").read_text())["config"])
        assert config.parameterization == "lora" and config.epochs == 2
        found[which] = logits(model)
    assert torch.equal(found["best"], found["reference"])  # both of epoch 1
    assert (found["last"] - found["best"]).abs().max() > 1e-3
    assert (found["best"] - logits(base)).abs().max() > 1e-2


@pytest.mark.slow
def test_minigpt_hands_it_on_and_imports_nothing_for_it():
    code = (
        "import sys, minigpt\n"
        "assert not {'lora', 'tasks', 'experiments'} & set(sys.modules)\n"
        "assert minigpt.load_run is sys.modules['experiments'].load_run\n"
        "assert 'load_run' in minigpt.__all__\n"
        "assert not hasattr(minigpt, 'load_runs')\n"
    )
    root = Path(__file__).parent.parent
    subprocess.run([sys.executable, "-c", code], check=True, cwd=root)
    assert minigpt.load_run is experiments.load_run


def test_what_is_no_run_or_not_there_is_told(lora_run, copied, tmp_path):
    with pytest.raises(InputError, match="no run in .*nowhere; expected a folder with a run.json"):
        load_run(tmp_path / "nowhere")
    with pytest.raises(InputError, match="unknown policy 'worst'; expected one of best, last, ref"):
        load_run(lora_run, "worst")
    for which in ("last", "reference"):
        shutil.rmtree(copied / which)
        with pytest.raises(InputError, match=f"keeps no {which} policy .its status: finished"):
            load_run(copied, which)
        with pytest.raises(InputError, match=f"keeps no {which} policy"):
            find_source(copied / which)
    text = (copied / "run.json").read_text()
    write_record(copied / "run.json", {"config": {"corpus": "x"}})
    with pytest.raises(InputError, match="records another kind of run"):
        load_run(copied)
    for damaged in (text[:40], text.replace('"rank": 8', '"rank": 9')):
        (copied / "run.json").write_text(damaged)
        with pytest.raises(InputError, match="run.json (is damaged|cannot be read)"):
            load_run(copied)


def test_a_base_that_changed_or_is_gone_is_refused(copied, small_model):
    expected = logits(load_run(copied).model)
    nudge(copied.parent / "model")
    for load in (load_run, lambda run: load_source(find_source(run))):
        with pytest.raises(InputError, match="the weights have changed since the run in"):
            load(copied)
    shutil.rmtree(copied.parent / "model")
    with pytest.raises(InputError, match="name the base .*model', which is not there; expected it"):
        load_run(copied)
    with pytest.raises(InputError, match="no model nothing"):
        load_run(copied, base="nothing")
    assert torch.equal(logits(load_run(copied, base=str(small_model)).model), expected)


def test_the_hash_of_a_bf16_runs_base_is_found_from_fp32_weights(small_model):
    source, adapters = Source(str(small_model)), LoRAConfig(2)
    hashes = {p: base_hash(start(source, lora=adapters, precision=p)) for p in ("fp32", "bf16")}
    policy = start(source, lora=adapters)
    assert {p: base_hash(policy, p) for p in hashes} == hashes and len({*hashes.values()}) == 2


@pytest.mark.parametrize("dora", [False, True])
def test_a_policy_in_bf16_begins_as_its_base(small_model, dora):
    policy = start(Source(str(small_model)), lora=LoRAConfig(4, dora=dora), precision="bf16")
    layers = lora.lora_layers(policy).values()
    assert {layer.base.weight.dtype for layer in layers} == {torch.bfloat16}
    with torch.autocast("cpu", torch.bfloat16):
        found = logits(policy)
        with lora.disabled(policy):
            assert torch.equal(found, logits(policy))


# --- What --model takes.


@pytest.mark.parametrize("lora_config", [None, LoRAConfig(4)], ids=["full", "lora"])
def test_a_run_begins_from_adapters_merged_into_their_base(lora_run, copied, lora_config):
    """New adapters are nothing at first, so the reference at epoch 0 is the merged policy."""
    merged = load_run(lora_run).model
    accelerate(merged, lora.FUSED)
    lora.merge(merged)
    expected = logits(merged)
    shutil.copytree(copied / "best", copied.parent / "adapters")
    for name in (lora_run, lora_run / "best", copied.parent / "adapters"):
        policy = start(find_source(name), lora=lora_config)
        assert torch.equal(logits(policy), expected)
        adapted = lora.lora_layers(policy)
        assert {layer.rank for layer in adapted.values()} == ({4} if lora_config else set())
        assert sum(p.numel() for p in policy.parameters() if p.requires_grad) > 0
    last = start(find_source(lora_run / "last"), lora=lora_config)
    assert (logits(last) - expected).abs().max() > 1e-3


def test_a_base_is_found_by_name_beside_the_adapters_or_where_it_is_said(
    lora_run, small_model, tmp_path, monkeypatch
):
    folder = tmp_path / "adapters"
    shutil.copytree(lora_run / "best", folder)

    def found(name: str | None, base: str | None = None) -> str:
        edit_base(tmp_path, name)
        source = find_source(folder, base)
        assert source.adapters == (folder,)
        return source.weights

    assert found("gpt2") == found("openai-community/gpt2") == "gpt2"
    assert found(str(small_model)) == str(small_model)
    for name in (None, "gone/model"):
        with pytest.raises(InputError, match="name the base .* which is not there"):
            found(name)
        assert found(name, base="verse") == "verse"
    shutil.copytree(small_model, folder / "base")
    assert found(None) == found("gone/model") == found("base") == str(folder / "base")
    monkeypatch.chdir(tmp_path)
    shutil.copytree(small_model, tmp_path / "gpt2")
    assert found("gpt2") == "gpt2" and found("./gpt2") == "./gpt2"
    assert find_source("./gpt2") == Source("./gpt2") and find_source("gpt2") == Source("gpt2")
    shutil.copytree(lora_run / "best", tmp_path / "verse")
    assert find_source("verse") == Source("verse")
    assert find_source("./verse", base="verse") == Source("verse", (Path("verse"),))
    for name in ("x\0", "x" * 10_000):
        edit_base(tmp_path, name)
        with pytest.raises(InputError, match="name the base .* which is not there"):
            find_source("./verse")


def test_adapters_on_adapters_are_merged_in_their_order(lora_run, copied):
    edit_base(copied, str(lora_run))
    (copied / "run.json").unlink()  # whose base was another
    source = find_source(copied / "last")
    assert source.adapters == (lora_run / "best", copied / "last")
    model = load_run(lora_run).model
    lora.merge(model)
    lora.unload(model)
    lora.load_adapter(model, copied / "last")
    torch.testing.assert_close(logits(load_source(source)), logits(model), rtol=0, atol=1e-5)
    edit_base(copied, str(copied / "best"))
    with pytest.raises(InputError, match="name themselves as their base"):
        find_source(copied / "best")


def test_a_run_from_adapters_whose_base_was_told_finds_it_again(lora_run, small_model, tmp_path):
    """The adapters name a base that is gone; --base stood in for it, and the record says so."""
    adapters, run = tmp_path / "adapters", tmp_path / "run"
    for folder in (adapters, run / "best"):
        shutil.copytree(lora_run / "last", folder)
    edit_base(tmp_path, "gone/model")
    edit_base(run, str(adapters))
    chain = Source(str(small_model), (adapters, run / "best"))

    def record(**options) -> None:
        config = identity(make_config(model=str(adapters), parameterization="lora", **options))
        write_record(run / "run.json", {"config": config})

    record(base=str(small_model))
    assert find_source(run) == find_source(run / "best") == chain
    expected = load_source(find_source(adapters, str(small_model)))
    assert torch.equal(logits(load_untuned(run)), logits(expected))
    lora.load_adapter(expected, run / "best")
    assert torch.equal(logits(load_run(run).model), logits(expected))
    # A place that is told now goes before it, and stands under the innermost adapters as well.
    assert find_source(run, "verse") == Source("verse", chain.adapters)
    assert torch.equal(logits(load_run(run, base=str(small_model)).model), logits(expected))
    record()
    with pytest.raises(InputError, match=f"the adapters in {adapters} name the base 'gone/model'"):
        find_source(run)
    # The adapters were moved: `base` is their place, and theirs is the one on record.
    record(base=str(small_model))
    moved = adapters.rename(tmp_path / "moved")
    assert find_source(run, str(moved)) == Source(str(small_model), (moved, run / "best"))
    edit_base(run, str(run / "best"))
    assert find_source(run, "verse") == Source("verse", (run / "best",))


@pytest.mark.parametrize("name", ["verse", "model"])
def test_a_base_without_adapters_is_refused(name, small_model):
    name = str(small_model) if name == "model" else name
    with pytest.raises(InputError, match="holds no adapters; expected --base beside adapters"):
        resolve(Config(model=name, base="gpt2"))


@pytest.mark.slow
def test_dpo_begins_from_ones_own_sft_and_the_plan_says_so(lora_run, small_model, tmp_path, capsys):
    options = {
        "task": "paraphrase",
        "data": CASES / "quora-unlabelled-test",
        "train_examples": 8,
        "dev_examples": 4,
        "epochs": 1,
        "switch_epoch": 0,
        "device": "cpu",
    }
    config = make_config(model=str(lora_run), out=tmp_path / "dpo", **options)
    handoff.run(config)
    start = f"start      {small_model}, the adapters in {lora_run / 'best'} merged into it\n"
    assert start in capsys.readouterr().out
    record = json.loads((tmp_path / "dpo" / "run.json").read_text())
    merged = load_source(find_source(lora_run))
    assert record["contents"]["weights"] == base_hash(merged)
    assert record["config"]["dpo_learning_rate"] == pytest.approx(2e-5 * 256 / 16)
    reference = load_run(tmp_path / "dpo", "reference").model
    assert torch.equal(logits(reference), logits(merged))
    # A run of all weights needs no base to be loaded, and is itself something to begin from.
    assert find_source(tmp_path / "dpo") == Source(str(tmp_path / "dpo" / "best"))
    assert resolve(make_config(model=str(tmp_path / "dpo"), **options)).source.adapters == ()


def test_the_base_is_told_where_it_is_not_the_default():
    assert "base" not in identity(Config())
    assert identity(Config(model="x", base="y"))["base"] == "y"
