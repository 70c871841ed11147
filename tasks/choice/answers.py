"""What a model thinks of the answers that it can give, each of one token or of several."""

from collections.abc import Sequence
from itertools import permutations

import numpy as np

from minigpt.errors import InputError, listed
from minigpt.model import GPT
from minigpt.tokenizer import Tokenizer
from objectives import make_batch, precompute
from objectives.batch import Batch
from objectives.sequences import length_buckets, tokenise
from tasks.base import Draws, Example, PreferencePair

BATCH = 128  # answers scored together, those of as many prompts as they make


def answer_logps(
    model: GPT, tokenizer: Tokenizer, prompts: list[str], answers: Sequence[str]
) -> np.ndarray:
    """Return log p(answer | prompt) of each of C answers after each of N prompts: (N, C), in nats.

    It is the sum over the answer's tokens, as a probability is; nothing is divided by their number,
    so a longer answer has to be as likely as a whole. Answers of one token share one forward. A
    prompt that does not fit before the longest answer loses its beginning, for all answers alike.
    """
    encoded = [tokenizer.encode(answer) for answer in answers]
    longest = answers[max(range(len(answers)), key=lambda i: len(encoded[i]))]
    sequences = tokenise(
        [(prompt, longest) for prompt in prompts],
        tokenizer,
        n_positions=model.config.n_positions,
        end_of_text=False,
    )

    def batch(index: np.ndarray) -> Batch:
        read = [sequences.split(i)[0] for i in index] * len(answers)
        written = [answer for answer in encoded for _ in index]
        return make_batch(read, written, np.tile(index, len(answers)))

    device = model.wte.weight.device
    buckets = length_buckets(sequences.lengths, max(1, BATCH // len(answers)))
    batches = (batch(index).to(device) for index in buckets)
    return precompute(model, batches, len(prompts), n_completions=len(answers)).cpu().numpy()


def check_answers(answers: Sequence[str], tokenizer: Tokenizer, n_positions: int) -> None:
    """Raise InputError unless the tokens of the answers tell them apart and fit into a context.

    An answer whose tokens another one begins with is at least as likely as that one, whatever the
    prompt, so that the other could never be predicted.
    """
    encoded = [tokenizer.encode(answer) for answer in answers]
    for (i, tokens), (j, others) in permutations(enumerate(encoded), 2):
        if others[: len(tokens)] == tokens:
            relation = "are" if others == tokens else "begin"
            raise InputError(
                f"the tokens of the label word {answers[i]!r} ({listed(tokens)}) {relation} those "
                f"of {answers[j]!r} ({listed(others)}), which could never be predicted; "
                "expected words of which none begins another"
            )
        if len(tokens) > n_positions:
            raise InputError(
                f"the label word {answers[i]!r} has {len(tokens):,} tokens, which leave no room "
                f"for a prompt in a context of {n_positions:,}; expected fewer"
            )


def right_vs_wrong(examples: list[Example], draws: Draws) -> list[PreferencePair]:
    """Prefer the right answer to the wrong one that the policy finds likeliest.

    One pair for each example, as an epoch of DPO then has as many steps as one of SFT, and as
    answers that are far off already have little left to teach. With two answers the wrong one is
    the other, and no model is asked.
    """
    answers = draws.task.answers
    if len(answers) == 2:
        other = dict(zip(answers, reversed(answers)))
        return [PreferencePair(prompt, answer, other[answer]) for prompt, answer in examples]
    prompts = [example.prompt for example in examples]
    logps = answer_logps(draws.model, draws.tokenizer, prompts, answers)
    right = [answers.index(example.completion) for example in examples]
    logps[np.arange(len(examples)), right] = -np.inf
    return [PreferencePair(*e, answers[wrong]) for e, wrong in zip(examples, logps.argmax(axis=1))]
