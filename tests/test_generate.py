"""Generation equals recomputation without a cache, and samples what its options promise."""

import pytest
import torch
from torch import nn

from minigpt import GPT, GPTConfig, KVCache, generate
from minigpt.cache import SLOTS
from minigpt.errors import InputError
from minigpt.sampling import sample
from tests.conftest import oracle

CONFIGS = {
    "one layer": GPTConfig(vocab_size=13, n_positions=12, n_layer=1, n_head=1, n_embd=8),
    "two layers": GPTConfig(vocab_size=50, n_positions=20, n_layer=2, n_head=4, n_embd=16),
    "with dropout": GPTConfig(
        vocab_size=300, n_positions=16, n_layer=3, n_head=2, n_embd=24, dropout=0.5
    ),
}


def tiny_model(name: str = "two layers", seed: int = 0) -> GPT:
    """A tiny model whose next tokens hang on everything before them; in fp64 no ties are near."""
    generator = torch.Generator().manual_seed(seed)
    model = GPT(CONFIGS[name], generator=generator).double()
    with torch.no_grad():
        for parameter in model.parameters():  # at 0.02 every row would repeat its last token
            parameter += 0.3 * torch.randn(parameter.shape, generator=generator).double()
    return model.eval()


def ragged_prompts(model: GPT, lengths: list[int], seed: int = 1) -> list[list[int]]:
    generator = torch.Generator().manual_seed(seed)
    vocab_size = model.config.vocab_size
    return [torch.randint(vocab_size, (n,), generator=generator).tolist() for n in lengths]


@torch.no_grad()
def recompute(model: GPT, prompts, n_new: int, pick) -> list[list[int]]:
    """Every row alone, the whole of it read anew for each token; `pick(logits (V,), step, row)`."""
    answers = []
    for row, prompt in enumerate(prompts):
        ids = list(prompt)
        for step in range(min(n_new, model.config.n_positions - len(prompt))):
            ids.append(pick(model(torch.tensor([ids]))[0, -1], step, row))
        answers.append(ids[len(prompt) :])
    return answers


def greedy(logits, step, row) -> int:
    return int(logits.argmax())


# The cache


@pytest.mark.parametrize("name", CONFIGS)
def test_greedy_equals_recomputation_up_to_the_context_limit_and_stops_there(name):
    model = tiny_model(name)
    limit = model.config.n_positions
    prompts = ragged_prompts(model, [1, 5, 3, limit - 1, 5, limit // 2])
    for n_new in (1, limit - 5, limit - 1, limit + 7):
        answers = generate(model, prompts, max_new_tokens=n_new, temperature=0)
        assert answers == recompute(model, prompts, n_new, greedy)
        assert [len(a) for a in answers] == [min(n_new, limit - len(p)) for p in prompts]
    assert len({tuple(answer) for answer in answers}) > 3  # not a model that always says the same


@pytest.mark.parametrize("options", [{}, {"top_k": 5}, {"top_p": 0.7}, {"top_k": 20, "top_p": 0.9}])
@pytest.mark.parametrize("name", CONFIGS)
def test_sampling_equals_recomputation_with_the_same_draws(name, options):
    model = tiny_model(name)
    prompts = ragged_prompts(model, [4, 1, 7])
    generator = torch.Generator().manual_seed(3)
    answers = generate(
        model, prompts, max_new_tokens=30, temperature=1.7, generator=generator, **options
    )
    generator = torch.Generator().manual_seed(3)
    draws = [torch.rand(len(prompts), generator=generator) for _ in range(30)]

    def pick(logits, step, row) -> int:
        logits = logits[None].float() / 1.7
        return int(sample(logits, draws[step][row, None], **options))

    assert answers == recompute(model, prompts, 30, pick)


def test_cache_gives_the_uncached_hidden_states_in_uneven_chunks():
    model = tiny_model()
    ids = torch.tensor(ragged_prompts(model, [18, 18, 18]))
    cache = KVCache(model, n_rows=3, n_slots=18)
    with torch.no_grad():
        chunks = [model.hidden(chunk, cache) for chunk in ids.split([5, 1, 9, 1, 2], dim=1)]
        torch.testing.assert_close(torch.cat(chunks, dim=1), model.hidden(ids))
    with pytest.raises(ValueError, match="1 tokens more than the 18 already there"):
        model.hidden(ids[:, :1], cache)


def test_cache_truncated_row_by_row_forgets_what_it_read_there():
    model = tiny_model()
    ids = torch.tensor(ragged_prompts(model, [10, 10]))
    cache = KVCache(model, n_rows=2, n_slots=12)
    with torch.no_grad():
        model.hidden(ids, cache)
        cache.truncate(torch.tensor([4, 7]))
        hidden = model.hidden(torch.tensor([[1, 2], [3, 4]]), cache)
        for row, new in (([*ids[0, :4].tolist(), 1, 2], 0), ([*ids[1, :7].tolist(), 3, 4], 1)):
            torch.testing.assert_close(hidden[new], model.hidden(torch.tensor([row]))[0, -2:])


def test_a_cache_grows_as_it_is_needed():
    config = GPTConfig(vocab_size=13, n_positions=64, n_layer=1, n_head=1, n_embd=8)
    model = GPT(config, generator=torch.Generator().manual_seed(0))
    cache = KVCache(model, n_rows=2, n_slots=SLOTS + 10)
    with torch.no_grad():
        model.hidden(torch.tensor([[1, 2, 3], [4, 5, 6]]), cache)
        cache.truncate(torch.tensor([3, 2]))
        model.hidden(torch.tensor([[7], [8]]), cache)
    assert cache.layers[0].mask.shape == (2, 1, 1, SLOTS)
    cache.keep([1])
    with torch.no_grad():
        model.hidden(torch.tensor([[9]]), cache)
        assert cache.layers[0].mask.tolist() == [[[[True] * 4 + [False] * (SLOTS - 4)]]]
        before = cache.layers[0].keys.clone()
        model.hidden(torch.ones(1, SLOTS, dtype=torch.long), cache)
    assert cache.layers[0].keys.shape[2] == SLOTS + 10  # not two times SLOTS: no more can come
    torch.testing.assert_close(cache.layers[0].keys[:, :, :4], before[:, :, :4])


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_cache_takes_the_dtype_in_force(dtype):
    model = tiny_model().to(dtype)
    prompts = ragged_prompts(model, [2, 6])
    assert all(len(a) == 5 for a in generate(model, prompts, max_new_tokens=5, temperature=0))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert all(len(a) == 5 for a in generate(model, prompts, max_new_tokens=5, temperature=0))


# Rows are independent


@pytest.mark.parametrize("name", CONFIGS)
def test_a_batch_says_what_each_prompt_says_alone(name):
    model = tiny_model(name)
    prompts = ragged_prompts(model, [6, 2, 9, 2, 1])
    together = generate(model, prompts, max_new_tokens=9, temperature=0)
    alone = [generate(model, [p], max_new_tokens=9, temperature=0)[0] for p in prompts]
    assert together == alone


def test_rows_that_finish_do_not_change_the_others():
    model = tiny_model()
    prompts = ragged_prompts(model, [3, 5, 1, 4, 2, 3])

    def run(stop=None):
        generator = torch.Generator().manual_seed(5)
        return generate(model, prompts, max_new_tokens=12, generator=generator, stop=stop)

    free = run()
    stopped = run(stop=lambda new: new[-1] % 4 == 0)
    assert len({len(answer) for answer in stopped}) > 2  # they did finish at different times
    for long, short in zip(free, stopped):
        assert long[: len(short)] == short
        assert [t % 4 == 0 for t in short[:-1]] == [False] * (len(short) - 1)
        assert short[-1] % 4 == 0 or len(short) == 12


def test_stop_sees_all_new_tokens_of_its_row_after_each_one():
    model = tiny_model()
    prompts = ragged_prompts(model, [3, 5])
    seen = []

    def stop(new: list[int]) -> bool:
        seen.append(list(new))
        return len(new) == 4

    answers = generate(model, prompts, max_new_tokens=10, temperature=0, stop=stop)
    assert seen == [answer[:n] for n in range(1, 5) for answer in answers]
    assert [len(answer) for answer in answers] == [4, 4]


def test_nothing_to_do():
    model = tiny_model()
    assert generate(model, [], max_new_tokens=5) == []
    assert generate(model, [[1], [2, 3]], max_new_tokens=0) == [[], []]


# Sampling


def test_frequencies_follow_softmax_with_temperature():
    logits = torch.tensor([2.0, 0.0, -1.0, 1.0, -3.0])
    n = 100_000
    uniform = torch.rand(n, generator=torch.Generator().manual_seed(7))
    counts = torch.bincount(sample((logits / 1.5).expand(n, -1), uniform), minlength=5)
    expected = n * torch.softmax(logits / 1.5, dim=0)
    chi_square = float(((counts - expected) ** 2 / expected).sum())
    assert chi_square < 18.5  # 4 degrees of freedom: passed by chance 999 times in 1000


def test_generate_draws_from_the_models_distribution():
    model = tiny_model("one layer")
    n = 20_000
    generator = torch.Generator().manual_seed(8)
    answers = generate(model, [[3, 1, 4]] * n, max_new_tokens=1, temperature=2, generator=generator)
    counts = torch.bincount(torch.tensor(answers).flatten(), minlength=13)
    with torch.no_grad():
        expected = n * torch.softmax(model(torch.tensor([[3, 1, 4]]))[0, -1] / 2, dim=0)
    chi_square = float(((counts - expected) ** 2 / expected).sum())
    assert chi_square < 32.9  # 12 degrees of freedom, 0.999


def support(probs: list[float], **options) -> list[int]:
    """The tokens that a sweep of the unit interval reaches."""
    uniform = torch.arange(5000) / 5000
    logits = torch.tensor(probs).log().expand(len(uniform), -1)
    return sorted(set(sample(logits, uniform, **options).tolist()))


def test_top_k_keeps_exactly_k_and_the_lower_of_equals():
    probs = [0.1, 0.2, 0.2, 0.3, 0.2]
    assert support(probs) == [0, 1, 2, 3, 4]
    assert [support(probs, top_k=k) for k in (1, 2, 3, 4, 5, 9)] == [
        [3], [1, 3], [1, 2, 3], [1, 2, 3, 4], [0, 1, 2, 3, 4], [0, 1, 2, 3, 4]
    ]  # fmt: skip
    assert support([0.25] * 4, top_k=1) == [0]


def test_top_p_keeps_the_fewest_tokens_that_reach_it():
    probs = [0.05, 0.5, 0.15, 0.3]  # in order of size 0.5, 0.3, 0.15, 0.05
    assert support(probs, top_p=1e-9) == [1]
    assert support(probs, top_p=0.49) == [1]
    assert support(probs, top_p=0.51) == [1, 3]
    assert support(probs, top_p=0.79) == [1, 3]
    assert support(probs, top_p=0.81) == [1, 2, 3]
    assert support(probs, top_p=0.96) == [0, 1, 2, 3]
    assert support(probs, top_p=1.0) == [0, 1, 2, 3]
    assert support([0.25] * 4, top_p=0.5) == [0, 1]  # reached exactly: no third
    assert support([0.25] * 4, top_p=0.51) == [0, 1, 2]


def test_top_p_acts_on_what_top_k_leaves():
    probs = [0.4, 0.2, 0.2, 0.1, 0.1]
    assert support(probs, top_p=0.6 - 1e-3) == [0, 1]
    assert support(probs, top_k=2, top_p=0.6 - 1e-3) == [0]  # 0.4 of 0.6 is two thirds


def test_kept_tokens_keep_their_proportions():
    n = 60_000
    logits = torch.tensor([0.1, 0.6, 0.3]).log().expand(n, -1)
    uniform = torch.rand(n, generator=torch.Generator().manual_seed(9))
    counts = torch.bincount(sample(logits, uniform, top_k=2), minlength=3)
    assert counts[0] == 0
    assert abs(float(counts[1]) / n - 2 / 3) < 0.006  # three standard errors


def test_a_token_of_probability_zero_is_never_picked():
    logits = torch.tensor([[-torch.inf, 0.0, -torch.inf, 0.0, -torch.inf]]).expand(3, -1)
    edges = torch.tensor([0.0, 0.5, 1 - 2**-24])
    assert set(sample(logits, edges).tolist()) == {1, 3}


def test_top_k_1_and_a_tiny_nucleus_are_greedy():
    model = tiny_model()
    prompts = ragged_prompts(model, [3, 6, 1])
    best = generate(model, prompts, max_new_tokens=12, temperature=0)
    assert generate(model, prompts, max_new_tokens=12, top_k=1) == best
    assert generate(model, prompts, max_new_tokens=12, top_p=1e-6) == best
    assert generate(model, prompts, max_new_tokens=12) != best


# What it leaves as it found it


def test_the_generator_decides_and_the_global_one_is_untouched():
    model = tiny_model()
    prompts = ragged_prompts(model, [3, 6])

    def run(seed):
        generator = torch.Generator().manual_seed(seed)
        return generate(model, prompts, max_new_tokens=12, generator=generator)

    before = torch.get_rng_state()
    assert run(1) == run(1) != run(2)
    generate(model, prompts, max_new_tokens=3, temperature=0)
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(4)
    drawn = generate(model, prompts, max_new_tokens=12)
    torch.manual_seed(4)
    assert generate(model, prompts, max_new_tokens=12) == drawn


def test_every_module_gets_its_mode_back_even_after_an_error():
    model = tiny_model("with dropout").train()
    model.h[1].mlp.dropout.eval()
    modes = [module.training for module in model.modules()]
    prompts = ragged_prompts(model, [3, 6])
    answers = generate(model, prompts, max_new_tokens=4, temperature=0)
    assert [module.training for module in model.modules()] == modes
    with pytest.raises(ZeroDivisionError):
        generate(model, prompts, max_new_tokens=4, stop=lambda new: 1 / 0)
    assert [module.training for module in model.modules()] == modes
    assert answers == recompute(model.eval(), prompts, 4, greedy)  # no dropout inside
    assert all(parameter.grad is None for parameter in model.parameters())


# Errors


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"max_new_tokens": -1}, "max_new_tokens is -1; expected 0 or more"),
        ({"temperature": -0.1}, "temperature is -0.1"),
        ({"temperature": float("nan")}, "temperature is nan"),
        ({"top_k": 0}, "top_k is 0; expected at least 1"),
        ({"top_p": 0.0}, "top_p is 0.0; expected more than 0"),
        ({"top_p": 1.1}, "top_p is 1.1"),
    ],
)
def test_options_outside_their_range(options, message):
    with pytest.raises(InputError, match=message):
        generate(tiny_model(), [[1]], **{"max_new_tokens": 1, **options})


@pytest.mark.parametrize(
    ("prompt", "message"),
    [
        ([], "prompt 1 is empty"),
        ([7] * 20, "prompt 1 has 20 tokens.* context of 20; expected at most 19"),
        ([7] * 99, "prompt 1 has 99 tokens"),
        ("to be", "prompt 1 is 'to be'; expected a list of token numbers"),
        (torch.tensor([7, 5]), r"prompt 1 is tensor.* expected a list of token numbers"),
        ([7, 1.5], r"prompt 1 is \[7, 1.5\]; expected a list of token numbers"),
        ([7, 50], "prompt 1 holds the token 50; expected numbers from 0 to 49"),
        ([-1], "prompt 1 holds the token -1"),
    ],
)
def test_prompts_that_cannot_be_continued(prompt, message):
    with pytest.raises(InputError, match=message):
        generate(tiny_model(), [[1], prompt], max_new_tokens=3)


# Against transformers


@pytest.mark.parity
@pytest.mark.parametrize("name", CONFIGS)
def test_greedy_equals_transformers_generate(name):
    transformers = oracle("transformers")
    model = tiny_model(name)
    theirs = as_transformers(model, transformers)
    for prompt in ragged_prompts(model, [1, 4, 7]):
        n_new = model.config.n_positions - len(prompt)
        with torch.no_grad():
            expected = theirs.generate(
                torch.tensor([prompt]),
                attention_mask=torch.ones(1, len(prompt), dtype=torch.long),
                max_new_tokens=n_new,
                do_sample=False,
            )[0, len(prompt) :].tolist()
        assert generate(model, [prompt], max_new_tokens=n_new, temperature=0) == [expected]
        assert len(expected) == n_new


def as_transformers(model: GPT, transformers):
    """The same weights in transformers' GPT-2, whose linears store the transpose."""
    config = transformers.GPT2Config(
        **{k: v for k, v in model.config.to_dict().items() if k != "dropout"},
        bos_token_id=None,
        eos_token_id=None,
    )
    theirs = transformers.GPT2LMHeadModel(config).double().eval()
    linears = {name for name, module in model.named_modules() if isinstance(module, nn.Linear)}
    state = {
        f"transformer.{name}": value.T if name.removesuffix(".weight") in linears else value
        for name, value in model.state_dict().items()
    }
    state["lm_head.weight"] = model.wte.weight
    theirs.load_state_dict(state)
    return theirs


# What is not a number, and temperatures near zero


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("temperature", [0, 1.0])
def test_logits_that_are_not_finite_are_refused(value, temperature):
    model = tiny_model()
    prompts = ragged_prompts(model, [3, 4])
    with torch.no_grad():
        model.ln_f.bias[0] = value
    with pytest.raises(InputError, match="new token 1 of prompt 0 are not all finite; .*diverged"):
        generate(model, prompts, max_new_tokens=3, temperature=temperature)


def test_the_row_and_the_token_that_are_not_finite_are_named():
    model = tiny_model()
    with torch.no_grad():
        model.wpe.weight[6] = float("nan")  # the seventh position
    prompts = ragged_prompts(model, [3, 5])
    with pytest.raises(InputError, match="new token 3 of prompt 1"):
        generate(model, prompts, max_new_tokens=9)


@pytest.mark.parametrize("temperature", [5e-324, 1e-300, 1e-45, 1e-38, 1e-37, 1e-33, 1e-31, 1e-20])
@pytest.mark.parametrize("options", [{}, {"top_k": 5}, {"top_p": 0.9}])
def test_the_coldest_temperatures_take_the_likeliest_token(temperature, options):
    model = tiny_model()
    with torch.no_grad():
        model.ln_f.weight *= 300  # logits in the thousands
    prompts = ragged_prompts(model, [3, 5])
    cold = generate(model, prompts, max_new_tokens=9, temperature=temperature, **options)
    assert cold == generate(model, prompts, max_new_tokens=9, temperature=0)
