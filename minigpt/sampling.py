"""Sampling from a model, many prompts at a time, with a key/value cache."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from numbers import Integral

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from minigpt.cache import KVCache
from minigpt.errors import InputError, NotFinite
from minigpt.model import GPT

GREEDY = 1e-37  # temperatures below, which float32 cannot divide by, take the likeliest token
COLD = 1e-30  # temperatures below, by which logits overflow
BLOCK = 128  # tokens whose probabilities are added up together


def generate(
    model: GPT,
    prompts: list[list[int]],
    *,
    max_new_tokens: int,
    temperature: float = 1.0,
    top_k: int | None = None,
    top_p: float | None = None,
    generator: torch.Generator | None = None,
    stop: Callable[[list[int]], bool] | None = None,
    rows: Sequence[int] | None = None,
) -> list[list[int]]:
    """Continue every prompt; return the new tokens of each, without the prompt.

    `temperature` divides the logits, 0 (or less than 1e-37) takes the likeliest token; `sample`
    explains `top_k` and `top_p`. `stop` is asked after each new token, with all new tokens of that
    row, and ends the row with True; that last token is part of the answer. To stop at end-of-text:
    `stop=lambda new: new[-1] == tokenizer.eot`. A row also ends after `max_new_tokens`, or when
    prompt and new tokens fill the model's context.

    `generator` (on the model's device; None is torch's own) decides the answer, and a row's part
    of it does not depend on when other rows end. `rows` are the numbers of the prompts to continue,
    all by default: what becomes of them is what would among all, and the others get no tokens. The
    model runs without gradients in eval mode.

    Raises InputError on a prompt that is empty, leaves no room in the context or holds a number
    outside the vocabulary, on options outside their range, and when a logit is not finite.
    """
    _check_options(max_new_tokens, temperature, top_k, top_p)
    _check_prompts(model, prompts)

    def pick(logits: Tensor, rows: list[int]) -> Tensor:
        if temperature < GREEDY:
            return logits.argmax(dim=-1)
        # For all prompts, finished or not, so that a row's number is its own from first to last.
        uniform = torch.rand(
            len(prompts), generator=generator, device=logits.device, dtype=torch.float32
        )
        logits = logits.float()
        if temperature < COLD:
            logits = logits - logits.amax(dim=-1, keepdim=True)
        return sample(logits / temperature, uniform[rows], top_k=top_k, top_p=top_p)

    going = [*range(len(prompts))] if rows is None else [*rows]
    if not going or max_new_tokens == 0:
        return [[] for _ in prompts]
    limits = [min(max_new_tokens, model.config.n_positions - len(prompt)) for prompt in prompts]
    with torch.no_grad(), evaluating(model), model.sampling():
        return _continue(model, prompts, going, limits, pick, stop)


def _continue(model, prompts, rows, limits, pick, stop) -> list[list[int]]:
    """Read the prompts of `rows`, then one token a step for each until it is at its limit or stops.

    `rows` are the prompts that are not finished, B of them.
    """
    new: list[list[int]] = [[] for _ in prompts]
    cache = KVCache(model, len(rows), max(len(prompts[row]) + limits[row] for row in rows))
    logits = _read_prompts(model, [prompts[row] for row in rows], cache)  # (B, V)
    while True:
        _check_logits(logits, rows, [len(new[row]) for row in rows])
        tokens = pick(logits, rows)  # (B,)
        for row, token in zip(rows, tokens.tolist()):
            new[row].append(token)
        going = [
            i
            for i, row in enumerate(rows)
            if len(new[row]) < limits[row] and not (stop and stop(new[row]))
        ]
        if not going:
            return new
        if len(going) < len(rows):
            rows = [rows[i] for i in going]
            tokens = tokens[going]
            cache.keep(going)
        logits = model.head(model.hidden(tokens[:, None], cache)[:, 0])


def _read_prompts(model: GPT, prompts: list[list[int]], cache: KVCache) -> Tensor:
    """Fill the cache with the prompts; return the logits (B, V) after each one's last token."""
    device = model.wte.weight.device
    ids = pad_sequence([torch.tensor(prompt) for prompt in prompts], batch_first=True)  # (B, T)
    hidden = model.hidden(ids.to(device), cache)  # (B, T, C)
    lengths = torch.tensor([len(prompt) for prompt in prompts], device=device)
    cache.truncate(lengths)
    last = hidden[torch.arange(len(prompts), device=device), lengths - 1]  # (B, C)
    return model.head(last)


def sample(
    logits: Tensor, uniform: Tensor, *, top_k: int | None = None, top_p: float | None = None
) -> Tensor:
    """Pick a token (B,) in each row of logits (B, V), by the numbers `uniform` (B,) in [0, 1).

    `top_k` keeps the k likeliest tokens. `top_p` then keeps the nucleus: the fewest tokens, the
    likeliest first, that hold at least this share of what is left (Holtzman et al., 2019). Among
    equally likely tokens the lower number comes first.
    """
    probs = torch.softmax(logits, dim=-1)
    if top_k is not None or top_p is not None:
        probs = _truncate(probs, top_k, 1.0 if top_p is None else top_p)
    # The inverse of the distribution function. As 1 - uniform is never 0, the first place where
    # the function reaches it is a step up: a token of probability 0 is never picked.
    return _first_reaching(probs, 1 - uniform)


def _truncate(probs: Tensor, top_k: int | None, top_p: float) -> Tensor:
    """Probabilities (B, V) with zeros for all tokens outside the top k and the nucleus."""
    V = probs.size(-1)
    ranked = _descending(probs) if top_k is None else probs.topk(min(top_k + 1, V)).values
    likeliest = ranked[:, :top_k]
    share = probs.new_full((len(probs),), top_p)
    last = _first_reaching(likeliest, share)[:, None]  # the place of the last one kept
    least = ranked.gather(-1, last)  # (B, 1)
    kept = probs >= least
    if (least == ranked.gather(-1, (last + 1).clamp(max=ranked.size(-1) - 1))).any():
        # More tokens are as likely as the last one than there are places left; lower ones first.
        above, tied = probs > least, probs == least
        places = last + 1 - above.sum(dim=-1, keepdim=True)
        kept = above | (tied & (tied.cumsum(dim=-1) <= places))
    return probs * kept


def _first_reaching(values: Tensor, share: Tensor) -> Tensor:
    """The first place in each row of values (B, V) at which the sum so far is a share of the whole.

    0 < share (B,) <= 1. A running sum is slow, so that the block with the place is found first,
    from the sums of the blocks.
    """
    V = values.size(-1)
    whole, rest = values.split([V - V % BLOCK, V % BLOCK], dim=-1)
    sums = torch.cat(
        [whole.unflatten(-1, (V // BLOCK, BLOCK)).sum(dim=-1), rest.sum(dim=-1, keepdim=True)],
        dim=-1,
    )
    sums = sums.cumsum(dim=-1, dtype=torch.float64)  # (B, V / BLOCK + 1)
    target = share[:, None] * sums[:, -1:]  # (B, 1)
    block = torch.searchsorted(sums, target)
    before = torch.where(block > 0, sums.gather(-1, (block - 1).clamp(min=0)), 0.0)
    places = block * BLOCK + torch.arange(BLOCK, device=values.device)  # (B, BLOCK)
    inside = values.gather(-1, places.clamp(max=V - 1)).masked_fill(places >= V, 0.0)
    within = inside.cumsum(dim=-1, dtype=torch.float64)
    # Rounding must not carry the target beyond the block, where it would find no step up.
    left = (target - before).clamp(max=within[:, -1:])
    return (block * BLOCK + torch.searchsorted(within, left))[:, 0]


def _descending(values: Tensor) -> Tensor:
    """Each row of values (B, V) sorted, the largest first."""
    if values.device.type != "cpu":
        return values.sort(dim=-1, descending=True).values
    # On the CPU PyTorch sorts places along with values, which takes 30 times as long as NumPy.
    return torch.from_numpy(np.sort(values.numpy(), axis=-1)).flip(-1)


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Eval mode inside (no dropout); afterwards every module has its own mode back."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, mode in modes:
            module.training = mode


def _check_logits(logits: Tensor, rows: list[int], lengths: list[int]) -> None:
    """Refuse logits (B, V) that are not all finite, in which every choice would be made up."""
    # One sum is a fraction of the work of looking at each, and finite only if all of them are.
    if logits.sum(dtype=torch.float32).isfinite() or logits.isfinite().all():
        return
    row = int((~logits.isfinite()).any(dim=-1).nonzero()[0])
    raise NotFinite(
        f"the logits of new token {lengths[row] + 1} of prompt {rows[row]} are not all finite; "
        "expected numbers, so look at whether training has diverged (its last losses) and whether "
        "the weights are finite"
    )


def _check_options(
    max_new_tokens: int, temperature: float, top_k: int | None, top_p: float | None
) -> None:
    if max_new_tokens < 0:
        raise InputError(f"max_new_tokens is {max_new_tokens}; expected 0 or more")
    if not 0 <= temperature < float("inf"):
        raise InputError(f"temperature is {temperature}; expected 0 (greedy) or a positive number")
    if top_k is not None and top_k < 1:
        raise InputError(f"top_k is {top_k}; expected at least 1, or None to keep all tokens")
    if top_p is not None and not 0 < top_p <= 1:
        raise InputError(f"top_p is {top_p}; expected more than 0 and at most 1, or None")


def _check_prompts(model: GPT, prompts: list[list[int]]) -> None:
    n_positions, vocab_size = model.config.n_positions, model.config.vocab_size
    for i, prompt in enumerate(prompts):
        if not isinstance(prompt, Sequence) or not all(isinstance(t, Integral) for t in prompt):
            raise InputError(f"prompt {i} is {prompt!r}; expected a list of token numbers")
        if not prompt:
            raise InputError(f"prompt {i} is empty; expected at least one token")
        if len(prompt) >= n_positions:
            raise InputError(
                f"prompt {i} has {len(prompt)} tokens, which leaves no room for a new one in a "
                f"context of {n_positions}; expected at most {n_positions - 1}"
            )
        if min(prompt) < 0 or max(prompt) >= vocab_size:
            wrong = next(token for token in prompt if not 0 <= token < vocab_size)
            raise InputError(
                f"prompt {i} holds the token {wrong}; expected numbers from 0 to {vocab_size - 1}"
            )
