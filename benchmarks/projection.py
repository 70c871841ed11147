"""What the paper's run takes, on paper: counted operations and bytes over a data sheet's speeds.

283,003 question pairs, ten epochs, an evaluation on 40,429 pairs before and after each. A pair is
read once in both phases, since its answers have one token.
"""

from dataclasses import dataclass

from benchmarks.data import LONGEST, SHORTEST
from benchmarks.least_work import (
    OPTIMIZER_BYTES,
    Work,
    forward_flops,
    step_flops,
    trained_numbers,
)
from minigpt import PRESETS, GPTConfig

PAIRS, DEV_PAIRS, EPOCHS = 283_003, 40_429, 10
TOKENS = (SHORTEST + LONGEST) // 2  # read of a pair
STEP_TOKENS = 32_768
PAIRS_OF_A_STEP = STEP_TOKENS // TOKENS
UTILISATION = 0.4  # of the data sheet's operations; a goal, and no measurement
STATE_BYTES = 18  # a parameter: weight, gradient and two moments in fp32, a copy in bf16
KEPT_BYTES = 34  # of activations, a token, layer and channel
FILLED = 0.9  # of a device's memory


@dataclass(frozen=True)
class Device:
    """A GPU by its data sheet."""

    name: str
    flops: float  # dense bf16, a second
    bandwidth: float  # bytes of its memory, a second
    link: float  # bytes to its neighbours, a second and direction
    memory: float  # bytes


H100 = Device("H100 SXM", 989e12, 3.35e12, 450e9, 80e9)
ASSUMPTIONS = (
    f"{H100.name}: {H100.flops / 1e12:.0f} TFLOP/s in bf16, {H100.bandwidth / 1e12} TB/s, "
    f"{H100.memory / 1e9:.0f} GB, {H100.link / 1e9:.0f} GB/s to its neighbours, by the data sheet",
    f"{UTILISATION:.0%} of those operations are reached, in training and evaluation; not measured",
    f"a pair has {TOKENS} tokens to read and one to score; a step has {STEP_TOKENS:,} tokens",
    f"{OPTIMIZER_BYTES} bytes a parameter and step for the optimizer, after the products",
    "several GPUs halve, quarter, ... the products; each sums 4 bytes a parameter with the others, "
    "in a ring, after the backward and not beside it",
    "the reference's log-probs are one forward over all pairs",
    f"memory: {STATE_BYTES} bytes a parameter, and {KEPT_BYTES} bytes a token, layer and channel "
    "of activations (Korthikanti et al., 2022, without attention scores); a step is cut into as "
    f"many microbatches as fit into {FILLED:.0%} of it",
    "reading, tokenising, start-up and checkpoints are not counted",
)


def on_paper(model: str, gpus: int, device: Device = H100) -> dict:
    """Return minutes of the run, their parts, and memory, for a preset on some GPUs."""
    config = PRESETS[model]
    pair = Work(TOKENS, TOKENS * (TOKENS + 1) / 2, TOKENS, TOKENS * (TOKENS + 1) / 2, 1)
    speed = UTILISATION * device.flops * gpus
    parameters = trained_numbers(config, None)
    steps = EPOCHS * -(-PAIRS // PAIRS_OF_A_STEP)
    read_alone = (EPOCHS + 1) * DEV_PAIRS + PAIRS  # pairs of the evaluations, of the reference
    seconds = {
        "products": EPOCHS * PAIRS * step_flops(config, pair, None) / speed,
        "optimizer": steps * OPTIMIZER_BYTES * parameters / device.bandwidth,
        "gradients": steps * 2 * (gpus - 1) / gpus * 4 * parameters / device.link,
        "evaluation": read_alone * forward_flops(config, pair) / speed,
    }
    return {
        "model": model,
        "gpus": gpus,
        "minutes": sum(seconds.values()) / 60,
        **{f"{name}_minutes": value / 60 for name, value in seconds.items()},
        **_memory(config, parameters, gpus, device),
    }


def _memory(config: GPTConfig, parameters: int, gpus: int, device: Device) -> dict:
    """Return the state's GB, and into how many microbatches of what size a GPU's share is cut."""
    token = KEPT_BYTES * config.n_layer * config.n_embd
    left = FILLED * device.memory - STATE_BYTES * parameters
    share = STEP_TOKENS / gpus
    parts = max(1, -(-share * token // left)) if left > 0 else None
    used = None if parts is None else (STATE_BYTES * parameters + share / parts * token) / 1e9
    return {
        "state_gb": STATE_BYTES * parameters / 1e9,
        "microbatches": None if parts is None else int(parts),
        "gb": used,
    }
