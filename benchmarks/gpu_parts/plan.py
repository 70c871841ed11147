"""The parts in their order: what is asked first comes first, whatever time there is.

The seconds are guesses, but for "compile", which took 60 on an H200.
"""

from collections.abc import Iterator
from functools import partial

from benchmarks.gpu_parts import headline, pretraining, steps
from benchmarks.gpu_parts.compiled import compare_gradients, compare_handoffs
from benchmarks.gpu_parts.device import measure_device
from benchmarks.gpu_parts.kernels import check_kernels
from benchmarks.gpu_parts.part import Part, Settings
from benchmarks.run import PEERS

SECONDS = {"eager": 25.0, "minigpt": 45.0, "inductor": 90.0, "peers": 40.0}


def make_plan(settings: Settings) -> list[Part]:
    """Return the parts in their order."""
    plan = [
        Part("device", measure_device, 20),
        Part("kernels", check_kernels, 40),
        Part("compile", compare_gradients, 60),
        *_steps(settings, "sft/full/paraphrase", "eager", "minigpt"),
        *_steps(settings, "sft/lora/paraphrase", "eager", "minigpt", "peers"),
        Part(headline.EARLIER, headline.project, 120),
        *_steps(settings, "sft/full/paraphrase", "inductor"),
        *_steps(settings, "dpo/full/paraphrase", "eager", "minigpt"),
        *_steps(settings, "dpo/lora/paraphrase", "eager", "minigpt"),
        Part("handoff", compare_handoffs, 60),
        Part("headline", headline.run_headline, 120),  # and all that is left, if it takes that
        *_steps(settings, "sft/full/preferences", "eager", "minigpt"),
        *_steps(settings, "sft/full/paraphrase", "peers"),
        *_steps(settings, "dpo/lora/paraphrase", "peers"),
        *_steps(settings, "dpo/full/paraphrase", "peers"),
        Part("memory", steps.measure_memory, 60),
        Part(pretraining.EARLIER, pretraining.measure_pretraining, 60),
        *_steps(settings, "sft/lora/paraphrase", "inductor"),
        *_steps(settings, "sft/full/preferences", "inductor"),
    ]
    if settings.corpus is not None:
        seconds = settings.pretrain_seconds + 30
        verse = Part("verse", pretraining.pretrain_verse, seconds)
        where = [part.name for part in plan].index("headline")
        speed = plan.pop([part.name for part in plan].index(pretraining.EARLIER))
        plan[where:where] = [speed, verse]
    return plan


def _steps(settings: Settings, row: str, *sides: str) -> Iterator[Part]:
    """Yield the parts that measure a row's step: ours in backends, or the peers'."""
    for side in sides:
        if side == "peers":
            measure = partial(steps.measure_peers, *row.split("/"))
            yield Part(f"{row}/peers", measure, SECONDS[side], PEERS)
        elif side in settings.backends:
            measure = partial(steps.measure_ours, *row.split("/"), side)
            yield Part(f"{row}/{side}", measure, SECONDS[side])
