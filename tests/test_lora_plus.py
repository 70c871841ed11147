"""LoRA+ against PEFT: which parameter learns at which rate, and one real step of AdamW."""

import pytest
import torch

import lora
from experiments.run.training import make_optimizer, train
from minigpt.errors import InputError
from objectives import SFT, make_batch
from tests.conftest import oracle
from tests.test_lora import assert_close, make_adapted, make_gpt
from tests.test_lora_peft import EVERY, copy_adapters, make_peft, peft_name

pytestmark = pytest.mark.parity
oracle("peft")
loraplus = oracle("peft.optimizers.loraplus")


def make_pair(dora: bool):
    """Our model and PEFT's with the same adapters, in fp64: AdamW magnifies gradients near 0."""
    ours = make_gpt()
    theirs = make_peft(ours, EVERY, r=4, lora_alpha=12, use_dora=dora).double()
    lora.inject(ours, lora.LoRAConfig(4, 12.0, dora=dora))
    ours.double()
    copy_adapters(theirs, ours)
    return ours, theirs


def settings_by_name(model, optimizer, *keys) -> dict[str, tuple]:
    names = {parameter: name for name, parameter in model.named_parameters()}
    return {
        names[p]: tuple(group[key] for key in keys)
        for group in optimizer.param_groups
        for p in group["params"]
    }


# PEFT lets DoRA's magnitudes decay and we do not, so there decay is compared without any.
@pytest.mark.parametrize("dora, weight_decay", [(False, 0.1), (False, 0.0), (True, 0.0)])
def test_rates_members_and_a_step_equal_peft(dora, weight_decay):
    ours, theirs = make_pair(dora)
    optimizer = make_optimizer(ours, weight_decay=weight_decay, lora_plus=16.0)
    their_optimizer = loraplus.create_loraplus_optimizer(
        theirs, torch.optim.AdamW, lr=1e-3, loraplus_lr_ratio=16.0,
        loraplus_weight_decay=weight_decay,
    )  # fmt: skip

    batch = make_batch([[1, 2], [3]], [[4, 5, 6], [7, 8, 9, 10, 11]])
    (metrics,) = train(
        ours, optimizer, [[batch]], SFT(), learning_rates=[1e-3], dropout=False,
        precision="fp32", max_grad_norm=float("inf"),
    )  # fmt: skip
    assert metrics["learning_rate"] == 1e-3
    inputs = torch.tensor([[1, 2, 4, 5, 0], [3, 7, 8, 9, 10]])
    labels = torch.tensor([[-100, 4, 5, 6, -100], [7, 8, 9, 10, 11]])
    logits = theirs(inputs).logits  # (B, T, V); their own loss would round them to fp32
    loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), labels.flatten())
    loss.backward()
    their_optimizer.step()

    keys = ("lr", "weight_decay")
    got = settings_by_name(ours, optimizer, *keys)
    expected = settings_by_name(theirs, their_optimizer, *keys)
    assert {peft_name(name): value for name, value in got.items()} == expected
    assert len(expected) == (24 if dora else 16)
    assert metrics["loss"] == pytest.approx(loss.item(), abs=1e-9)
    parameters = dict(theirs.named_parameters())
    for name in got:
        assert_close(ours.get_parameter(name), parameters[peft_name(name)], 1e-9)


def test_magnitudes_learn_as_fast_as_b_and_do_not_decay():
    model = make_adapted(rank=4, dora=True)
    optimizer = make_optimizer(model, weight_decay=0.1, lora_plus=4.0)
    settings = settings_by_name(model, optimizer, "ratio", "weight_decay")
    expected = {"lora_A.weight": (1.0, 0.1), "lora_B.weight": (4.0, 0.1)}
    for name, value in settings.items():
        factor = name[name.index("lora_") :]
        assert value == expected.get(factor, (4.0, 0.0))
    assert len(settings) == 24


@pytest.mark.parametrize("adapted, count", [(False, 2), (True, 1)])
@pytest.mark.parametrize("weight_decay", [0.0, 0.1])
def test_a_ratio_of_one_is_plain_adamw(adapted, count, weight_decay):
    model = make_adapted(rank=4) if adapted else make_gpt()
    groups = make_optimizer(model, weight_decay=weight_decay).param_groups
    assert [group["weight_decay"] for group in groups] == [weight_decay, 0.0][:count]
    assert {group["ratio"] for group in groups} == {1.0}
    assert [{p.dim() for p in group["params"]} for group in groups] == [{2}, {1}][:count]


@pytest.mark.parametrize("ratio", [0.5, 0.0, -2.0, float("nan"), float("inf")])
def test_ratios_without_sense_are_refused(ratio):
    with pytest.raises(InputError, match=f"--lora-plus is {ratio}; expected at least 1, at most"):
        make_optimizer(make_adapted(rank=4), lora_plus=ratio)


def test_a_model_without_adapters_has_no_ratio():
    with pytest.raises(InputError, match="lora_plus is 2.0 for a model without adapters; expected"):
        make_optimizer(make_gpt(), lora_plus=2.0)
