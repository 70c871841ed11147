"""The least time that a row can take: counted operations and bytes over measured ceilings.

A position of a sequence is a prefix, and a prefix that occurs twice in a pair (the prompt of the
chosen and of the rejected) has to be read once. With n positions, p the sum over positions of the
positions that each attends to (itself and those before it), s of the positions scored:

    products   N = sum over linears of 2 n in out      C->3C, C->C, C->4C, 4C->C in each block
    attention  a = 4 C p in each block                 q k' and the weighted sum of v
    head       h = 2 s C V
    adapters   l = sum over linears of 2 n r (in + out)

In the last block only keys and values are needed at every position; the rest, at the s scored.
Gradients cost each product once more for its input and once more for its weight:

    full       forward N + a + h,      backward 2 N + 2 a + 2 h
    LoRA       forward N + a + h + l,  backward N + 2 a + h + 2 l, where frozen weights get none;
               nor does the input of the first linear, with nothing trained below it

Softmax, norms and GELU are not counted. The optimizer moves, in fp32, per trained number: the
gradient read once for its norm; gradient, weight and both moments read, and the last three
written, by AdamW: 8 numbers, 32 bytes. It begins when the gradients are there, so that a step
takes products and optimizer one after the other.

A new token reads all weights and the cache, 2 C numbers a block and position, whatever the number
of rows; it takes the longer of bytes and operations.
"""

from collections.abc import Callable, Sequence
from dataclasses import astuple, dataclass

import torch
from torch.nn import functional as F

from benchmarks.job import DTYPES, NEW_TOKENS, Job, clock
from minigpt.config import GPTConfig
from minigpt.fast.linear import linear

OPTIMIZER_BYTES = 32  # per trained number
# Rows of the products whose speed is measured: on a CPU a step of questions, and of sonnets; a GPU
# is not filled by these.
ROWS = {"cpu": (384, 2048), "cuda": (8192, 32768)}
COPIED = 1 << 28  # bytes
TRIES = 10


@dataclass(frozen=True)
class Ceilings:
    """What the device can do, as measured."""

    flops: dict[str, float]  # precision -> floating-point operations per second
    bandwidth: float  # bytes per second, read and written


@dataclass(frozen=True)
class Work:
    """What a forward has to do; see the module."""

    positions: float
    attended: float  # sum over positions of the positions that they attend to
    last: float  # positions at which the last block's output is needed
    last_attended: float
    scored: float

    def __add__(self, other: "Work") -> "Work":
        return Work(*(a + b for a, b in zip(astuple(self), astuple(other))))

    def __mul__(self, factor: float) -> "Work":
        return Work(*(value * factor for value in astuple(self)))


def least_work(prompt: list[int], completions: list[list[int]]) -> Work:
    """The work that the completions of one prompt need, every prefix read once."""
    prefixes, scored = set(), set()
    for completion in completions:
        tokens = (*prompt, *completion)
        prefixes |= {tokens[:end] for end in range(1, len(tokens))}
        scored |= {tokens[:end] for end in range(len(prompt), len(tokens))}
    attended, last_attended = sum(map(len, prefixes)), sum(map(len, scored))
    return Work(len(prefixes), attended, len(scored), last_attended, len(scored))


def linears(config: GPTConfig, work: Work) -> list[tuple[float, int, float]]:
    """Every linear of the blocks, the first one first: positions, inputs of each, all outputs."""
    C, n, last = config.n_embd, work.positions, work.last
    inner = [(n, C, 3 * C * n), (n, C, C * n), (n, C, 4 * C * n), (n, 4 * C, C * n)]
    outer = [
        (n, C, 2 * C * n + C * last),  # keys and values everywhere, queries where needed
        (last, C, C * last),
        (last, C, 4 * C * last),
        (last, 4 * C, C * last),
    ]
    return inner * (config.n_layer - 1) + outer


def forward_flops(config: GPTConfig, work: Work) -> float:
    """Operations of a forward without adapters."""
    return _products(linears(config, work)) + _attention(config, work) + _head(config, work)


def step_flops(config: GPTConfig, work: Work, rank: int | None) -> float:
    """Operations of forward and backward; `rank` None trains all weights."""
    forward = forward_flops(config, work)
    if rank is None:
        return 3 * forward
    layers = linears(config, work)
    adapters = sum(2 * rank * (n * inputs + outputs) for n, inputs, outputs in layers)
    n, inputs, _ = layers[0]
    spared = _products(layers[:1]) + 2 * rank * n * inputs
    return 2 * forward + _attention(config, work) + 3 * adapters - spared


def trained_numbers(config: GPTConfig, rank: int | None) -> int:
    """How many numbers the optimizer moves."""
    C = config.n_embd
    if rank is not None:
        return config.n_layer * rank * (4 * C + 2 * C + 5 * C + 5 * C)
    block = 12 * C * C + 13 * C  # weights; biases and the two norms
    return (config.vocab_size + config.n_positions) * C + config.n_layer * block + 2 * C


def least_training(config: GPTConfig, job: Job, ceilings: Ceilings) -> dict[str, float]:
    """A step's operations and bytes, and the seconds that they take at the least."""
    examples = job.examples()
    works = [least_work(e["prompt"], [e[side] for side in job.scored]) for e in examples]
    step = sum(works[1:], works[0]) * (job.batch / len(works))
    flops = step_flops(config, step, job.rank)
    moved = OPTIMIZER_BYTES * trained_numbers(config, job.rank)
    seconds = flops / ceilings.flops[job.precision] + moved / ceilings.bandwidth
    return {"flops": flops, "bytes": moved, "seconds": seconds}


def least_generation(config: GPTConfig, job: Job, ceilings: Ceilings) -> dict[str, float]:
    """The same for reading the prompts once and then every new token."""
    size = DTYPES[job.precision].itemsize
    prompts = job.prompts()
    # The token after a prompt is the only one scored in it.
    works = [least_work(prompt, [[0]]) for prompt in prompts]
    flops = forward_flops(config, sum(works[1:], works[0]))
    moved = 0.0
    seconds = flops / ceilings.flops[job.precision]
    weights = trained_numbers(config, None) - config.n_positions * config.n_embd
    for new in range(1, NEW_TOKENS):
        seen = sum(len(prompt) + new for prompt in prompts)
        token = forward_flops(config, Work(len(prompts), seen, len(prompts), seen, len(prompts)))
        read = size * (weights + 2 * config.n_embd * config.n_layer * seen)
        flops, moved = flops + token, moved + read
        seconds += max(token / ceilings.flops[job.precision], read / ceilings.bandwidth)
    return {"flops": flops, "bytes": moved, "seconds": seconds}


def measure_ceilings(
    config: GPTConfig, device: str, precisions: Sequence[str] = tuple(DTYPES)
) -> Ceilings:
    """The speed of a block's widest linear, ours or PyTorch's, and of copying; the best of all."""

    def rate(dtype: torch.dtype, rows: int) -> float:
        x = torch.randn(rows, config.n_embd, device=device).to(dtype)
        W = torch.randn(4 * config.n_embd, config.n_embd, device=device).to(dtype)
        ours = _fastest(lambda: linear(x, W), device)
        return 2 * rows * W.numel() / min(ours, _fastest(lambda: F.linear(x, W), device))

    source = torch.ones(COPIED // 4, device=device)
    target = torch.empty_like(source)
    return Ceilings(
        {name: max(rate(DTYPES[name], rows) for rows in ROWS[device]) for name in precisions},
        2 * COPIED / _fastest(lambda: target.copy_(source), device),
    )


def _fastest(function: Callable[[], object], device: str) -> float:
    seconds = []
    for _ in range(TRIES):
        begun = clock(device)
        function()
        seconds.append(clock(device) - begun)
    return min(seconds)


def _products(layers: list[tuple[float, int, float]]) -> float:
    return sum(2 * inputs * outputs for _, inputs, outputs in layers)


def _attention(config: GPTConfig, work: Work) -> float:
    pairs = (config.n_layer - 1) * work.attended + work.last_attended
    return 4 * config.n_embd * pairs


def _head(config: GPTConfig, work: Work) -> float:
    return 2 * config.n_embd * config.vocab_size * work.scored
