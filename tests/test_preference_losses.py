"""The family of losses on pairs, against arithmetic written out, by property and against TRL."""

import math

import pytest
import torch

from minigpt import GPT, GPTConfig
from minigpt.errors import InputError
from objectives import (
    PREFERENCE_LOSSES,
    FrozenReference,
    PreferenceConfig,
    PreferenceObjective,
    dpo_loss,
    hinge_loss,
    ipo_loss,
    ipo_mean_loss,
    make_batch,
    orpo_loss,
    sequence_logps,
    simpo_loss,
)
from tests.conftest import oracle

TINY = GPTConfig(vocab_size=23, n_positions=16, n_layer=2, n_head=2, n_embd=8)
EOS = 22

# One pair: the policy's log-probs -10 and -12, the reference's -11 and -11, over 4 and 3 tokens.
POLICY, REFERENCE, COUNTS = ([-10.0], [-12.0]), ([-11.0], [-11.0]), ([4.0], [3.0])
REFERENCED = ("sigmoid", "ipo", "ipo-mean", "hinge")
# Every function, whether it takes the reference and the lengths, and its options.
each_function = pytest.mark.parametrize(
    "function, reference, counts, options",
    [
        (dpo_loss, True, False, {"beta": 0.1}),
        (dpo_loss, True, False, {"beta": 0.1, "label_smoothing": 0.2}),
        (ipo_loss, True, False, {"beta": 0.1}),
        (ipo_mean_loss, True, True, {"beta": 0.1}),
        (hinge_loss, True, False, {"beta": 0.1}),
        (simpo_loss, False, True, {"beta": 0.7, "target_margin": 0.3}),
        (orpo_loss, False, True, {"beta": 0.7}),
    ],
)


def fp64(*sides) -> list[torch.Tensor]:
    return [torch.tensor(side, dtype=torch.float64) for side in sides]


def tiny(seed: int = 0) -> GPT:
    """A random model whose predictions are far from uniform."""
    model = GPT(TINY, generator=torch.Generator().manual_seed(seed))
    with torch.no_grad():
        model.wte.weight.mul_(20)
    return model


def pair_batch():
    """Three pairs with prompts and completions of several lengths."""
    chosen, rejected = [[7, 8], [9, 10, 11], [12]], [[8], [9, 11, 10, 3], [13]]
    return make_batch([[1, 2, 3], [4], [5, 6]] * 2, chosen + rejected, index=[0, 1, 2, 0, 1, 2])


def objective(loss: PreferenceConfig, reference: GPT) -> PreferenceObjective:
    return PreferenceObjective(loss, FrozenReference(reference) if loss.uses_reference else None)


@pytest.mark.parametrize(
    "function, sides, options, loss, rewards",
    [
        # log-ratios 1 and -1: h = 2, 1 / (2 * 0.5) = 1, (2 - 1)^2
        (ipo_loss, POLICY + REFERENCE, {"beta": 0.5}, 1.0, (0.5, -0.5)),
        # 1 / (2 * 0.1) = 5, (2 - 5)^2
        (ipo_loss, POLICY + REFERENCE, {"beta": 0.1}, 9.0, (0.1, -0.1)),
        # per token 1/4 and -1/3: h = 7/12, (7/12 - 1)^2 = 25/144
        (ipo_mean_loss, POLICY + REFERENCE + COUNTS, {"beta": 0.5}, 25 / 144, (0.5, -0.5)),
        # margin 0.1 * 2: 1 - 0.2
        (hinge_loss, POLICY + REFERENCE, {"beta": 0.1}, 0.8, (0.1, -0.1)),
        # margin 0.6 * 2 = 1.2, past 1
        (hinge_loss, POLICY + REFERENCE, {"beta": 0.6}, 0.0, (0.6, -0.6)),
        # 2 * -10 / 4 = -5 and 2 * -12 / 3 = -8: margin 3, log(1 + e^-(3 - 1))
        (
            simpo_loss,
            POLICY + COUNTS,
            {"beta": 2.0, "target_margin": 1.0},
            0.12692801104297263,
            (-5.0, -8.0),
        ),
        # p = 0.6 and 0.5 per token: odds 1.5 and 1, sigmoid(log 1.5) = 0.6, so the loss is
        # -log 0.6 - 0.1 log 0.6 = 1.1 * 0.5108256237659907
        (
            orpo_loss,
            ([4 * math.log(0.6)], [3 * math.log(0.5)], *COUNTS),
            {"beta": 0.1},
            0.5619081861425898,
            (-0.05108256237659907, -0.06931471805599453),
        ),
    ],
)
def test_losses_and_rewards_by_hand(function, sides, options, loss, rewards):
    output = function(*fp64(*sides), **options)
    assert [side.item() for side in output] == pytest.approx([loss, *rewards], abs=1e-12)


@each_function
def test_shapes_that_torch_would_spread_over_each_other_are_refused(
    function, reference, counts, options
):
    sides = [*fp64(*POLICY), *(fp64(*REFERENCE) * reference), *(fp64(*COUNTS) * counts)]
    for i, side in enumerate(sides):
        spread = [*sides[:i], side[:, None].expand(3, 1), *sides[i + 1 :]]
        with pytest.raises(InputError, match="shapes .*; expected all alike$"):
            function(*spread, **options)


@each_function
def test_gradients_equal_finite_differences(function, reference, counts, options):
    others = fp64([-3, -4, -2], [-3, -3, -6]) if reference else []
    others += fp64([2, 4, 1], [1, 3, 5]) if counts else []
    policy = [side.requires_grad_() for side in fp64([-2.5, -9, -0.01], [-4.5, -2, -30])]
    assert torch.autograd.gradcheck(
        lambda *sides: function(*sides, *others, **options).loss, policy
    )


def test_label_smoothing_goes_through_the_objective():
    """A share of each pair's loss is that of the pair turned round; TRL's DPO leaves it out."""
    policy, reference = tiny(0).double(), tiny(1).double()
    smoothed = PreferenceConfig("sigmoid", beta=0.4, label_smoothing=0.1)
    losses, metrics = objective(smoothed, reference)(policy, pair_batch())
    margins = metrics["rewards/margins"]
    expected = [0.9 * math.log1p(math.exp(-m)) + 0.1 * math.log1p(math.exp(m)) for m in margins]
    assert losses.tolist() == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize(
    "name, expected",
    [
        ("sigmoid", math.log(2)),
        ("ipo", 25.0),
        ("ipo-mean", 25.0),
        ("hinge", 1.0),
    ],
)
def test_loss_at_the_reference(name, expected):
    """ln 2 for sigmoid, (1 / (2 beta))^2 for IPO, 1 for hinge, whatever the log-probs."""
    model = tiny().double()
    losses = objective(PreferenceConfig(name, beta=0.1), model)(model, pair_batch()).losses
    torch.testing.assert_close(losses, torch.full((3,), expected, dtype=torch.float64))


def test_reference_free_losses_where_both_sides_are_as_likely_per_token():
    sides = fp64([-4.0], [-8.0], [2.0], [4.0])  # -2 nats per token on both
    assert simpo_loss(*sides, beta=2.0, target_margin=0.0).loss.item() == pytest.approx(math.log(2))
    assert orpo_loss(*sides, beta=0.1).loss.item() == pytest.approx(2 + 0.1 * math.log(2))


@each_function
def test_losses_fall_as_the_rejected_grows_unlikelier(function, reference, counts, options):
    """From level sides on; IPO's target, and the optimum under smoothing, lie beyond the range."""
    rejected = torch.linspace(-4, -7, 7, dtype=torch.float64)
    level = torch.full_like(rejected, -4)
    others = [level, level] if reference else []
    others += [torch.full_like(level, 2)] * 2 if counts else []
    assert (function(level, rejected, *others, **options).loss.diff() < 0).all()


def test_simpo_grows_with_the_target_margin():
    losses = [
        simpo_loss(*fp64(*POLICY, *COUNTS), beta=2.0, target_margin=margin).loss.item()
        for margin in (0.0, 0.5, 1.0, 4.0)
    ]
    assert losses == sorted(losses) and len(set(losses)) == 4


def test_ipo_punishes_a_margin_past_its_target():
    chosen = torch.tensor([4.0, 5.0, 6.0], requires_grad=True)  # log-ratios; 1 / (2 * 0.1) = 5
    zeros = torch.zeros(3)
    ipo_loss(chosen, zeros, zeros, zeros, beta=0.1).loss.sum().backward()
    assert chosen.grad.tolist() == pytest.approx([-2, 0, 2])


def test_the_two_ipos_agree_up_to_scale_where_lengths_are_equal():
    """(n d - 1 / (2 beta))^2 = n^2 (d - 1 / (2 n beta))^2, d the difference per token, here n = 4.

    Through this the published form, which TRL lacks, leans on TRL too.
    """
    sides, counts = fp64([-10, -3], [-12, -9], [-11, -5], [-11, -4]), fp64([4, 4], [4, 4])
    torch.testing.assert_close(
        ipo_loss(*sides, beta=0.3).loss, 16 * ipo_mean_loss(*sides, *counts, beta=1.2).loss
    )


def test_orpo_stays_finite_where_a_probability_rounds_to_1():
    for logps in ([0.0, -5.0], [-5.0, 0.0], [0.0, 0.0], [-1e-8, -200.0]):
        chosen, rejected = (torch.tensor([logp], requires_grad=True) for logp in logps)
        loss = orpo_loss(chosen, rejected, torch.ones(1), torch.ones(1), beta=0.1).loss
        loss.backward()
        assert all(x.isfinite().all() for x in (loss, chosen.grad, rejected.grad)), logps


@pytest.mark.parametrize("name", [name for name in PREFERENCE_LOSSES if name != "orpo"])
def test_sft_weight_adds_the_chosen_sides_mean_nll(name):
    model, other, batch = tiny(0).double(), tiny(1).double(), pair_batch()
    plain = objective(PreferenceConfig(name), other)(model, batch)
    mixed = objective(PreferenceConfig(name, sft_weight=0.7), other)(model, batch)
    nll = -sequence_logps(model, batch)[:3] / torch.tensor([2, 3, 1])
    torch.testing.assert_close(mixed.losses - plain.losses, 0.7 * nll)
    torch.testing.assert_close(mixed.metrics, plain.metrics)


def test_the_objective_takes_lengths_from_the_batch():
    """SimPO with the chosen completions' 2, 3 and 1 tokens and the rejected ones' 1, 4 and 1."""
    model, batch = tiny().double(), pair_batch()
    chosen, rejected = sequence_logps(model, batch).chunk(2)
    rewards = 2 * chosen / torch.tensor([2, 3, 1]), 2 * rejected / torch.tensor([1, 4, 1])
    losses, metrics = PreferenceObjective(PreferenceConfig("simpo"))(model, batch)
    torch.testing.assert_close(losses, torch.log1p(torch.exp(1 - rewards[0] + rewards[1])))
    torch.testing.assert_close(metrics["rewards/margins"], rewards[0] - rewards[1])
    torch.testing.assert_close(metrics["logps/chosen"], chosen)  # summed, under every loss


def test_none_takes_the_losss_own_default():
    assert {name: PreferenceConfig(name).beta for name in PREFERENCE_LOSSES} == {
        "sigmoid": 0.1,
        "ipo": 0.1,
        "ipo-mean": 0.1,
        "hinge": 0.1,
        "simpo": 2.0,
        "orpo": 0.1,
    }
    assert PreferenceConfig("simpo").target_margin == 1.0
    assert PreferenceConfig("ipo").target_margin is None
    assert PreferenceConfig("simpo", target_margin=0.0).target_margin == 0


@pytest.mark.parametrize(
    "options",
    [
        {"beta": 0.0},
        {"beta": -1.0},
        {"beta": math.nan},
        {"label_smoothing": 0.5},
        {"label_smoothing": -0.1},
        {"sft_weight": -1.0},
        {"loss": "simpo", "target_margin": -0.1},
    ],
)
def test_options_out_of_range_are_refused(options):
    with pytest.raises(InputError, match=f"{list(options)[-1]} is .*; expected"):
        PreferenceConfig(**options)


@pytest.mark.parametrize(
    "name, option",
    [
        *((name, "label_smoothing") for name in PREFERENCE_LOSSES if name != "sigmoid"),
        *((name, "target_margin") for name in PREFERENCE_LOSSES if name != "simpo"),
        ("orpo", "sft_weight"),
    ],
)
@pytest.mark.parametrize("value", [0.1, math.nan])
def test_an_option_that_the_loss_does_not_use_is_refused(name, option, value):
    with pytest.raises(InputError, match=f"the loss {name} does not use {option}, got {value}"):
        PreferenceConfig(name, **{option: value})


def test_a_target_margin_of_0_is_an_option_too():
    with pytest.raises(InputError, match="sigmoid does not use target_margin.* with simpo only"):
        PreferenceConfig(target_margin=0.0)


def test_an_unknown_loss_is_refused_with_the_names():
    with pytest.raises(InputError, match="'dpo'; expected one of sigmoid, ipo, ipo-mean, hinge"):
        PreferenceConfig("dpo")


@pytest.mark.parametrize("name", PREFERENCE_LOSSES)
def test_a_reference_is_given_exactly_where_the_loss_uses_one(name):
    loss = PreferenceConfig(name)
    assert loss.uses_reference == (name in REFERENCED)
    with pytest.raises(ValueError, match=f"the loss {name} (needs a|uses no) reference"):
        PreferenceObjective(loss, None if loss.uses_reference else FrozenReference(tiny()))


RAGGED = {
    "prompt": ["w1 w2 w3", "w4"],
    "chosen": [" w7 w8", " w9 w10 w2 w2"],
    "rejected": [" w8", " w9 w11 w3"],
}
# Where TRL takes an SFT term over other tokens than ours, both agree on such rows.
EVEN = {"prompt": ["w1", "w4"], "chosen": [" w7 w8", " w9 w10"], "rejected": [" w8", " w9 w11 w3"]}


@pytest.mark.parity
@pytest.mark.parametrize(
    "loss, theirs",
    [
        (PreferenceConfig("sigmoid", beta=0.4), {"loss_type": "sigmoid"}),
        (PreferenceConfig("ipo-mean", beta=0.4), {"loss_type": "ipo"}),
        (PreferenceConfig("hinge", beta=0.4), {"loss_type": "hinge"}),
        (PreferenceConfig("hinge", beta=1.0), {"loss_type": "hinge"}),  # one pair is past the kink
    ],
    ids=["sigmoid", "ipo-mean", "hinge", "hinge-kink"],
)
def test_losses_with_a_reference_agree_with_trl(loss, theirs, tmp_path):
    """One real step of TRL's DPOTrainer on a tiny GPT-2: the loss and every metric it logs."""
    trl = oracle("trl")
    policy, reference = tiny(0), tiny(1)
    logged = trl_step(
        trl.DPOTrainer,
        trl.DPOConfig,
        RAGGED,
        tmp_path,
        policy,
        beta=loss.beta,
        ref_model=reference,
        **theirs,
    )
    losses, metrics = objective(loss, reference)(policy, rows_batch(RAGGED))
    weights = metrics.pop("weights", None)  # which TRL does not log
    assert (weights is not None) == (loss.loss == "sigmoid") and len(metrics) == 6
    assert_logged({"loss": losses, **metrics}, logged)


@pytest.mark.parity
@pytest.mark.parametrize(
    "rows, loss, theirs",
    [
        (RAGGED, PreferenceConfig("simpo"), {"simpo_gamma": 1.0, "cpo_alpha": 0.0}),
        (
            EVEN,
            PreferenceConfig("simpo", beta=3.0, target_margin=0.2, sft_weight=0.6),
            {"simpo_gamma": 0.2, "cpo_alpha": 0.6},
        ),
    ],
    ids=["plain", "with-sft"],
)
def test_simpo_agrees_with_trl(rows, loss, theirs, tmp_path):
    """TRL logs the mean log-probs here as logps/*; its rewards are beta times those."""
    cpo = oracle("trl.experimental.cpo")
    policy = tiny()
    logged = trl_step(
        cpo.CPOTrainer,
        cpo.CPOConfig,
        rows,
        tmp_path,
        policy,
        loss_type="simpo",
        beta=loss.beta,
        **theirs,
    )
    losses, metrics = PreferenceObjective(loss)(policy, rows_batch(rows))
    assert_logged({"loss": losses, **rewards_of(metrics)}, logged)


@pytest.mark.parity
def test_orpo_agrees_with_trl_on_even_rows(tmp_path):
    orpo = oracle("trl.experimental.orpo")
    policy = tiny()
    logged = trl_step(orpo.ORPOTrainer, orpo.ORPOConfig, EVEN, tmp_path, policy, beta=0.4)
    losses, metrics = PreferenceObjective(PreferenceConfig("orpo", beta=0.4))(
        policy, rows_batch(EVEN)
    )
    assert_logged({"loss": losses, **rewards_of(metrics)}, logged)


@pytest.mark.parity
def test_orpos_odds_ratio_term_agrees_with_trl_on_all_rows(tmp_path):
    """The loss without its SFT term: where prompts are longer, TRL's is over them as well."""
    orpo = oracle("trl.experimental.orpo")
    policy, batch = tiny(), rows_batch(RAGGED)
    logged = trl_step(orpo.ORPOTrainer, orpo.ORPOConfig, RAGGED, tmp_path, policy, beta=0.4)
    losses, metrics = PreferenceObjective(PreferenceConfig("orpo", beta=0.4))(policy, batch)
    nll = (-sequence_logps(policy, batch) / batch.counts).chunk(2)[0]
    assert_logged(
        {"loss": losses - nll, **rewards_of(metrics)},
        {**logged, "loss": logged["loss"] - float(logged["nll_loss"])},
    )


def rewards_of(metrics) -> dict[str, torch.Tensor]:
    return {name: values for name, values in metrics.items() if name.startswith("rewards/")}


def assert_logged(ours: dict[str, torch.Tensor], logged: dict) -> None:
    for name, values in ours.items():
        assert values.mean().item() == pytest.approx(float(logged[name]), abs=1e-5), name


def trl_step(trainer, config, rows, folder, policy: GPT, ref_model: GPT | None = None, **options):
    """What a TRL trainer logs of one step on all the rows."""
    transformers, datasets = oracle("transformers"), oracle("datasets")
    models = [as_transformers(model, transformers) for model in (policy, ref_model) if model]
    trainer = trainer(
        *models,
        processing_class=word_tokenizer(transformers),
        train_dataset=datasets.Dataset.from_dict(rows),
        args=config(
            output_dir=str(folder),
            per_device_train_batch_size=2,
            max_steps=1,
            logging_steps=1,
            report_to=[],
            use_cpu=True,
            bf16=False,
            gradient_checkpointing=False,
            disable_tqdm=True,
            save_strategy="no",
            max_length=TINY.n_positions,
            **options,
        ),
    )
    trainer.train()
    return trainer.state.log_history[0]


def word_tokenizer(transformers):
    """Token i is the word "wi"; the last is end-of-text."""
    tokenizers = oracle("tokenizers")
    words = [f"w{i}" for i in range(EOS)] + ["<eos>"]
    raw = tokenizers.Tokenizer(
        tokenizers.models.WordLevel({w: i for i, w in enumerate(words)}, unk_token="w0")
    )
    raw.pre_tokenizer = tokenizers.pre_tokenizers.WhitespaceSplit()
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=raw, eos_token="<eos>", pad_token="<eos>"
    )


def rows_batch(rows: dict[str, list[str]]):
    """The same rows as our batch, with the end-of-text that TRL appends."""
    prompts, chosen, rejected = (
        [[int(word[1:]) for word in text.split()] for text in rows[side]]
        for side in ("prompt", "chosen", "rejected")
    )
    return make_batch(prompts * 2, [[*completion, EOS] for completion in chosen + rejected])


def as_transformers(model: GPT, transformers):
    """The same weights in transformers' GPT-2, whose linears store the transpose."""
    config = transformers.GPT2Config(
        vocab_size=TINY.vocab_size,
        n_positions=TINY.n_positions,
        n_embd=TINY.n_embd,
        n_layer=TINY.n_layer,
        n_head=TINY.n_head,
        resid_pdrop=0,
        embd_pdrop=0,
        attn_pdrop=0,
        bos_token_id=EOS,
        eos_token_id=EOS,
    )
    theirs = transformers.GPT2LMHeadModel(config)
    linears = ("c_attn.weight", "c_proj.weight", "c_fc.weight")
    state = {
        f"transformer.{name}": value.T if name.endswith(linears) else value
        for name, value in model.state_dict().items()
    }
    theirs.load_state_dict({**state, "lm_head.weight": model.wte.weight})
    return theirs
