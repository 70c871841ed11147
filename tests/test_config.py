"""A run's options: flat flags, nested Config, recorded identity, and the plan made of them."""

import json
from pathlib import Path

import pytest
import tyro

from experiments.run.config import Config, flat_options, identity, make_config
from experiments.run.plan import resolve
from experiments.run.schedule import Phase
from experiments.study.arms import place
from lora import LoRAConfig
from minigpt import GPT, GPTConfig, save_pretrained
from minigpt.errors import InputError
from objectives import PreferenceConfig

RECORDS = Path(__file__).parent.parent / "records" / "study" / "runs"
ADAPTERS = {
    "rank": 4,
    "alpha": 8.0,
    "lora_dropout": 0.1,
    "targets": ("attention", "h.0.mlp.c_fc"),
    "rank_stabilised": True,
    "layers": (0, 2),
    "rank_pattern": (("mlp", 16), ("attention", 2)),
    "dora": True,
}
LOSS = {"loss": "simpo", "beta": 3.0, "sft_weight": 0.5, "target_margin": 0.0}


def test_every_recorded_run_is_found_again():
    """The samples of each evaluation became an option after the first fourteen were recorded."""
    paths = sorted(RECORDS.glob("*/run.json"))
    for path in paths:
        recorded = json.loads(path.read_text())["config"]
        config = make_config(**recorded)
        assert identity(config) == {"samples": None, **recorded}
        assert place(config, Path("study")).out == Path("study", "runs", path.parent.name)
    assert len(paths) == 68


def test_flags_are_flat_and_the_config_is_nested():
    arguments = (
        "--parameterization lora --rank 4 --alpha 8 --lora-dropout 0.1 --targets attention "
        "h.0.mlp.c_fc --rank-stabilised --layers 0 2 --rank-pattern mlp 16 attention 2 --dora "
        "--lora-plus 2 --loss simpo --beta 3 --sft-weight 0.5 --target-margin 0 --dropout 0.2"
    )
    config = tyro.cli(Config, args=arguments.split())
    others = {"parameterization": "lora", "lora_plus": 2.0, "dropout": 0.2}
    assert config == make_config(**ADAPTERS, **LOSS, **others)
    assert config.lora == LoRAConfig(
        4,
        8.0,
        0.1,
        ("attention", "h.0.mlp.c_fc"),
        rank_stabilised=True,
        layers=(0, 2),
        rank_pattern=(("mlp", 16), ("attention", 2)),
        dora=True,
    )
    assert config.preference == PreferenceConfig("simpo", 3.0, 0.0, 0.5, 0.0)
    assert tyro.cli(Config, args=[]) == Config() == make_config()


@pytest.mark.parametrize("options", [{}, ADAPTERS, LOSS, {**ADAPTERS, **LOSS, "dropout": 0.2}])
def test_flat_options_make_the_same_config_even_through_json(options):
    config = make_config(**options)
    flat = flat_options(config)
    assert options.items() <= flat.items()
    assert make_config(**flat) == make_config(**json.loads(json.dumps(flat))) == config


def test_an_identity_names_newer_options_and_margins_only_where_they_differ():
    assert "rank_stabilised" not in identity(Config())
    assert identity(make_config(rank_stabilised=True))["rank_stabilised"] is True
    assert identity(make_config(loss="simpo"))["target_margin"] is None
    assert identity(make_config(loss="simpo", target_margin=0.3))["target_margin"] == 0.3
    assert identity(Config(lora=LoRAConfig())) == identity(Config())


def test_the_plan_holds_what_follows_from_the_options():
    options = {"rank": 4, "loss": "ipo", "switch_epoch": 2, "epochs": 5, "device": "cpu"}
    config = make_config(**options, parameterization="lora", dpo_learning_rate=0.5)
    plan = resolve(config)
    assert (plan.lora, plan.preference) == (config.lora, config.preference)
    peak = plan.config.sft_learning_rate
    assert plan.phases == (Phase("sft", 1, 2, peak, True), Phase("dpo", 3, 5, 0.5, False))
    assert resolve(Config(device="cpu")).lora is None
    assert resolve(plan.config) == plan


@pytest.mark.parametrize("name", [*ADAPTERS, "lora_plus"])
def test_options_of_adapters_are_refused_without_adapters(name):
    options = {name: {**ADAPTERS, "lora_plus": 2.0}[name]}
    resolve(make_config(**options, parameterization="lora", device="cpu"))
    flag = "--" + name.replace("_", "-")
    with pytest.raises(InputError, match=f"full does not use {flag}, got .*; expected it with"):
        resolve(make_config(**options))


@pytest.mark.parametrize("ratio", [0.5, float("nan"), float("inf")])
def test_a_ratio_of_lora_plus_is_refused_before_anything_is_loaded(ratio):
    with pytest.raises(InputError, match="--lora-plus is .*; expected at least 1, at most"):
        resolve(make_config(parameterization="lora", lora_plus=ratio, model="not there"))


@pytest.mark.parametrize("method", ["full", "lora"])
def test_default_rates_fall_with_the_width_of_the_model_there_is(method, tmp_path):
    def rates(model: str) -> tuple[float, float]:
        config = resolve(make_config(model=model, parameterization=method, device="cpu")).config
        return config.sft_learning_rate, config.dpo_learning_rate

    save_pretrained(GPT(GPTConfig(vocab_size=50, n_positions=8, n_layer=1, n_embd=96)), tmp_path)
    tuned = rates("verse")  # 256 channels
    assert rates(str(tmp_path)) == pytest.approx([rate * 256 / 96 for rate in tuned])
    assert rates("gpt2") == pytest.approx([rate / 3 for rate in tuned])
    assert rates("gpt2-xl") == pytest.approx([rate * 256 / 1600 for rate in tuned])
