"""What the shipped model makes of the sonnets before any fine-tuning, for the judge of lines.

`python -m experiments.verse.sonnet_lines` writes tasks/sonnet/data/sampled.json anew, which takes a
minute or two; do so when the shipped model has changed.
"""

import hashlib
import json

from experiments.run.seeds import torch_generator
from minigpt import get_tokenizer, load_pretrained
from minigpt.files import hash_file, write_text
from minigpt.weights.pretrained import VERSE
from tasks.sonnet.judge import SAMPLED
from tasks.sonnet.shakespeare import GIVEN_LINES, read_sonnets
from tasks.sonnet.task import SonnetTask
from tasks.sonnet.verses import text_of

MODEL = "verse"


def sampled_lines() -> dict:
    """Return what the model writes after the first lines of each sonnet, as the evaluation asks it.

    With it stands which weights wrote it, by the SHA-256 of their file.
    """
    task, sonnets = SonnetTask(), list(read_sonnets().values())
    written = task.sample(
        load_pretrained(MODEL),
        get_tokenizer(MODEL),
        [text_of(lines[:GIVEN_LINES]) for lines in sonnets],
        generator=torch_generator(0, "judge"),
    )
    return {
        "model": MODEL,
        "weights": hash_file(VERSE / "model.safetensors", hashlib.sha256()),
        "temperature": task.sampling.temperature,
        "top_p": task.sampling.top_p,
        "texts": {lines[0]: text for lines, (text, _) in zip(sonnets, written)},
    }


def main() -> None:
    """Run from the command line."""
    write_text(SAMPLED, json.dumps(sampled_lines(), indent=1) + "\n")
    print(f"written: {SAMPLED}")


if __name__ == "__main__":
    main()
