"""The handoff from SFT to DPO: what is kept of the policy, and the preference pairs."""

import hashlib
import json
from pathlib import Path

from experiments.run.config import Config
from experiments.run.folder import RunFolder
from experiments.run.policy import save_policy
from experiments.run.reference_cache import weights_fingerprint
from experiments.run.seeds import torch_generator
from experiments.run.training import autocast
from minigpt import GPT
from minigpt.errors import InputError
from minigpt.files import hash_file, reading, write_text
from minigpt.parallel import by_first
from minigpt.tokenizer import Tokenizer
from tasks import Example, PreferencePair, Task, build_pairs, describe_pairs

# The files of a handoff in a run's folder; the pairs' by the random stream they are drawn from.
PAIRS = {"pairs": "pairs.jsonl", "held-out pairs": "held-out-pairs.jsonl"}
REFERENCE = "reference"
HELD_OUT = 256  # examples of dev, at most, that held-out pairs are made of


def hand_over(
    config: Config, task: Task, policy: GPT, tokenizer: Tokenizer, folder: RunFolder, *, epoch: int
) -> None:
    """Make the preference pairs and keep the reference: the policy as it stands after `epoch`.

    Pairs to train on are made of the training examples; others, to look at what DPO does on pairs
    that it does not learn from, of examples of dev.
    """
    print(
        f"handoff: the reference is the policy after epoch {epoch}; making {config.pairs} pairs",
        flush=True,
    )

    def make(name: str, examples: list[Example]) -> dict:
        made = _make_pairs(config, task, policy, tokenizer, examples, stream=name)
        path = folder.path / PAIRS[name]
        save_pairs(path, [pair for pair, _ in made])
        return {
            "pairs": describe_pairs(made, len(examples), free_text=task.free_text),
            "pairs_sha256": hash_file(path, hashlib.sha256()),
        }

    training = make("pairs", task.examples("train"))
    if not training["pairs"]["pairs"]:
        raise InputError(f"no {config.pairs} pair has two different sides; expected some")
    held_out = make("held-out pairs", some_of(task.examples("dev"), HELD_OUT))
    save_policy(policy, folder.path / REFERENCE, base_model_name=config.model)
    weights = weights_fingerprint(policy)
    reference = {"epoch": epoch, "weights": weights, **training, "held_out": held_out}
    folder.update(reference=reference)


def _make_pairs(
    config: Config,
    task: Task,
    policy: GPT,
    tokenizer: Tokenizer,
    examples: list[Example],
    *,
    stream: str,
) -> list[tuple[PreferencePair, Example]]:
    """Return the pairs that the policy as it stands makes, with their examples; from `stream`."""
    with autocast(policy.wte.weight.device, config.precision):
        return build_pairs(
            config.pairs,
            task,
            policy,
            tokenizer,
            examples,
            generator=torch_generator(config.seed, stream, device=config.device),
            n_samples=config.pair_samples,
        )


def some_of(examples: list[Example], most: int) -> list[Example]:
    """Return at most `most` of the examples, evenly spread over them: the same in every run."""
    if len(examples) <= most:
        return examples
    return [examples[i * len(examples) // most] for i in range(most)]


@by_first
def save_pairs(path: Path, pairs: list[PreferencePair]) -> None:
    """Write pairs as JSON, one a line."""
    write_text(path, "".join(json.dumps(pair._asdict()) + "\n" for pair in pairs))


def load_pairs(path: Path, handoff: dict) -> list[PreferencePair]:
    """Read the pairs of a handoff, as run.json records it; raises InputError for others."""
    with reading(path, "the preference pairs that the run wrote there, start it anew"):
        lines = path.read_text(encoding="utf-8").split("\n")[:-1]
        pairs = [PreferencePair(**json.loads(line)) for line in lines]
        number = handoff["pairs"]["pairs"]
        told = handoff.get("pairs_sha256")  # records of before it was kept have none
        same = told is None or told == hash_file(path, hashlib.sha256())
    kinds = [str, str, str, bool, bool]
    sound = all([*map(type, pair)] == kinds for pair in pairs)
    if not same or not sound or len(pairs) != number:
        raise InputError(
            f"the {len(pairs)} preference pairs in {path} are not the "
            f"{number} that the run wrote there; expected those, start it anew"
        )
    return pairs
