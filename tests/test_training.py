"""The training loop: accumulation changes nothing, only what trains moves, metrics are means."""

import numpy as np
import pytest
import torch

from experiments.run.policy import make_policy
from experiments.run.schedule import Phase, handoff_phases, warmup_cosine
from experiments.run.seeds import numpy_generator, torch_generator, torch_seed
from experiments.run.source import Source
from experiments.run.training import accumulate_gradients, make_optimizer, train, trainable
from lora import LoRAConfig, inject, lora_layers
from minigpt import GPT, GPTConfig
from minigpt.errors import InputError
from objectives import (
    SFT,
    FrozenReference,
    PreferenceConfig,
    PreferenceObjective,
    frozen_copy,
    make_batch,
)

TINY = GPTConfig(vocab_size=31, n_positions=16, n_layer=2, n_head=2, n_embd=8)
STEPS = 4
RATES = {"sft_learning_rate": 0.2, "dpo_learning_rate": 0.1}


def tiny() -> GPT:
    return GPT(TINY, generator=torch.Generator().manual_seed(0)).double()


def sequences(n: int, seed: int) -> tuple[list[list[int]], list[list[int]]]:
    """Ragged prompts and completions."""
    draw = np.random.default_rng(seed)
    prompts = [draw.integers(0, 31, draw.integers(1, 6)).tolist() for _ in range(n)]
    return prompts, [draw.integers(0, 31, draw.integers(1, 9)).tolist() for _ in range(n)]


def trajectory(objective: str, microbatches: int) -> tuple[list[dict], torch.Tensor]:
    """Metrics and final weights of a few steps of eight examples, cut into microbatches."""
    model = tiny()
    chosen, reference = SFT(), FrozenReference(frozen_copy(model))
    if objective == "dpo":
        loss = PreferenceConfig(beta=0.3, sft_weight=0.1)
        chosen = PreferenceObjective(loss, reference)
    steps = []
    for step in range(STEPS):
        prompts, completions = sequences(8, seed=step)
        _, rejected = sequences(8, seed=100 + step)
        parts = np.array_split(np.arange(8), microbatches)
        steps.append(
            [
                make_batch(
                    [prompts[i] for i in part] * 2,
                    [completions[i] for i in part] + [rejected[i] for i in part],
                )
                if objective == "dpo"
                else make_batch([prompts[i] for i in part], [completions[i] for i in part])
                for part in parts
            ]
        )
    metrics = list(
        train(
            model,
            make_optimizer(model),
            steps,
            chosen,
            learning_rates=[1e-2] * STEPS,
            dropout=False,
            precision="fp32",
            max_grad_norm=1.0,
        )
    )
    return metrics, torch.cat([p.detach().flatten() for p in model.parameters()])


@pytest.mark.parametrize("objective", ["sft", "dpo"])
@pytest.mark.parametrize("microbatches", [2, 4, 8])
def test_accumulation_gives_the_same_trajectory(objective, microbatches):
    whole, weights = trajectory(objective, 1)
    parts, other_weights = trajectory(objective, microbatches)
    assert len(whole) == STEPS
    torch.testing.assert_close(weights, other_weights, rtol=0, atol=1e-9)
    for one, other in zip(whole, parts):
        for name in one.keys() - {"num_tokens"}:
            assert float(one[name]) == pytest.approx(float(other[name]), abs=1e-9), name


def test_the_first_gradients_are_kept_as_what_is_added_to_zeros():
    batches = [make_batch(*sequences(2, seed=n)) for n in range(3)]
    kept, added = tiny().float(), tiny().float()
    for parameter in added.parameters():
        parameter.grad = torch.zeros_like(parameter)
    for model in (kept, added):
        accumulate_gradients(model, batches, SFT(), precision="fp32")
    for one, other in zip(kept.parameters(), added.parameters()):
        torch.testing.assert_close(one.grad, other.grad, rtol=0, atol=0)


def test_sft_lowers_the_loss_and_dpo_raises_the_margin():
    prompts, completions = sequences(8, seed=1)
    _, rejected = sequences(8, seed=2)
    model = tiny()
    reference = FrozenReference(frozen_copy(model))
    settings = {
        "learning_rates": [1e-2] * 30,
        "dropout": False,
        "precision": "fp32",
        "max_grad_norm": 1.0,
    }
    sft = list(
        train(
            model,
            make_optimizer(model),
            [[make_batch(prompts, completions)]] * 30,
            SFT(),
            **settings,
        )
    )
    assert sft[-1]["loss"] < 0.7 * sft[0]["loss"]
    model = tiny()
    pairs = [[make_batch(prompts * 2, completions + rejected)]] * 30
    objective = PreferenceObjective(PreferenceConfig(beta=0.1), reference)
    dpo = list(train(model, make_optimizer(model), pairs, objective, **settings))
    assert dpo[0]["rewards/margins"] == pytest.approx(0, abs=1e-12)
    assert dpo[-1]["rewards/margins"] > 1 and dpo[-1]["rewards/accuracies"] == 1


def test_only_adapters_move_under_lora():
    model = tiny().float()
    inject(model, LoRAConfig(rank=2), generator=torch.Generator().manual_seed(0))
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    batch = make_batch(*sequences(4, seed=0))
    list(
        train(
            model,
            make_optimizer(model),
            [[batch]] * 3,
            SFT(),
            learning_rates=[1e-2] * 3,
            dropout=True,
            precision="fp32",
            max_grad_norm=1.0,
        )
    )
    moved = {name for name, p in model.named_parameters() if not torch.equal(p, before[name])}
    assert moved == {name for name in before if "lora_" in name} and len(moved) == 16
    assert len(trainable(model)) == 16


def test_bf16_trains_fp32_weights():
    model = tiny().float()
    batch = make_batch(*sequences(4, seed=0))
    metrics = list(
        train(
            model,
            make_optimizer(model),
            [[batch]] * 20,
            SFT(),
            learning_rates=[1e-2] * 20,
            dropout=False,
            precision="bf16",
            max_grad_norm=1.0,
        )
    )
    assert metrics[-1]["loss"] < metrics[0]["loss"]
    assert all(p.dtype == torch.float32 for p in model.parameters())


def test_num_tokens_counts_padding_and_grad_norm_is_taken_before_clipping():
    model = tiny()
    batch = make_batch([[1], [1, 2, 3]], [[2], [4, 5]])  # rows of 1 and 4 input tokens
    (metrics,) = train(
        model,
        make_optimizer(model),
        [[batch]],
        SFT(),
        learning_rates=[0.0],
        dropout=False,
        precision="fp32",
        max_grad_norm=1e-3,
    )
    assert metrics["num_tokens"] == 8 and metrics["grad_norm"] > 1e-2


def test_only_matrices_decay():
    groups = make_optimizer(tiny(), weight_decay=0.1).param_groups
    assert [group["weight_decay"] for group in groups] == [0.1, 0.0]
    assert {p.dim() for p in groups[0]["params"]} == {2}
    assert {p.dim() for p in groups[1]["params"]} == {1}


@pytest.mark.parametrize(
    "epochs, switch, expected",
    [
        (10, 3, (Phase("sft", 1, 3, 0.2, True), Phase("dpo", 4, 10, 0.1, False))),
        (10, 0, (Phase("dpo", 1, 10, 0.1, False),)),
        (10, 10, (Phase("sft", 1, 10, 0.2, True),)),
        (1, 0, (Phase("dpo", 1, 1, 0.1, False),)),
    ],
)
def test_phases(epochs, switch, expected):
    assert handoff_phases(epochs, switch, **RATES) == expected


@pytest.mark.parametrize(
    "epochs, switch, message",
    [
        (10, 11, "--switch-epoch is 11; expected 0"),
        (10, -1, "--switch-epoch is -1"),
        (0, 0, "epochs is 0"),
    ],
)
def test_phases_that_cannot_be(epochs, switch, message):
    with pytest.raises(InputError, match=message):
        handoff_phases(epochs, switch, **RATES)


def test_the_learning_rate_rises_to_its_peak_and_falls_towards_zero():
    rates = [warmup_cosine(step, 100, peak=2.0, warmup=10) for step in range(100)]
    assert rates[0] == pytest.approx(0.2) and max(rates) == rates[10] == 2.0
    assert rates[:11] == sorted(rates[:11]) and rates[10:] == sorted(rates[10:], reverse=True)
    assert rates[55] == pytest.approx(1.0) and 0 < rates[-1] < 0.01
    assert warmup_cosine(0, 1, peak=2.0, warmup=0) == 2.0


def test_streams_are_repeatable_and_independent():
    def draws(seed, *name):
        return numpy_generator(seed, *name).integers(0, 2**32, 4).tolist()

    assert draws(0, "data order", 1) == draws(0, "data order", 1)
    others = [draws(0, "data order", 2), draws(1, "data order", 1), draws(0, "floors", 1)]
    assert all(other != draws(0, "data order", 1) for other in others)
    assert torch_seed(0, "dropout") != torch_seed(1, "dropout")
    first, again = (torch.rand(3, generator=torch_generator(0, "pairs")) for _ in range(2))
    assert torch.equal(first, again)


@pytest.mark.slow
def test_frozen_weights_kept_in_bf16_are_those_of_autocast():
    """Rounding the frozen weights once or in every forward: the same training, bit for bit."""

    def trained(precision: str) -> list[torch.Tensor]:
        policy, adapted = make_policy(
            Source("verse"),
            dropout=0.0,
            device="cpu",
            lora=LoRAConfig(4),
            precision=precision,
            compile="eager",
            generator=torch_generator(0, "init"),
        )
        assert adapted
        kept = {layer.base.weight.dtype for layer in lora_layers(policy).values()}
        assert kept == {torch.bfloat16 if precision == "bf16" else torch.float32}
        prompts, completions = sequences(8, seed=0)
        steps = [[make_batch(prompts, completions)]] * 2
        for _ in train(
            policy,
            make_optimizer(policy),
            steps,
            SFT(),
            learning_rates=[1e-2] * 2,
            dropout=False,
            precision="bf16",
            max_grad_norm=1.0,
        ):
            pass
        return trainable(policy)

    for kept, rounded in zip(trained("bf16"), trained("fp32")):
        assert torch.equal(kept, rounded)
