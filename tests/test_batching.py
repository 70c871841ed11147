"""Tokenising, length buckets, and the layout of a batch against the naive computation."""

import doctest

import numpy as np
import pytest
import torch

import objectives.batch as batch_module
from minigpt import GPT, GPTConfig, get_tokenizer
from minigpt.errors import InputError
from minigpt.tokenizer import Tokenizer
from objectives import make_batch, sequence_logps
from objectives.sequences import (
    length_buckets,
    padding_share,
    pair_batch,
    sequence_batch,
    token_blocks,
    tokenise,
)

TOKENIZER = get_tokenizer("verse")
PAIRS = [("The quick brown", " fox"), ("To be,", " or not to be"), ("a", "b" * 50)]


def tiny_gpt() -> GPT:
    config = GPTConfig(vocab_size=50, n_positions=16, n_layer=2, n_head=2, n_embd=8)
    model = GPT(config, generator=torch.Generator().manual_seed(0)).double().eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter *= 10  # untrained log-probs are nearly uniform and would hide a wrong shift
    return model


def lengths_like_questions(n: int) -> np.ndarray:
    return np.random.default_rng(0).lognormal(np.log(40), 0.3, n).astype(int) + 5


@pytest.mark.parametrize("seed", [None, 3])
@pytest.mark.parametrize("n", [1, 31, 32, 33, 5000])
def test_every_number_is_in_one_batch(n, seed):
    generator = None if seed is None else np.random.default_rng(seed)
    batches = length_buckets(lengths_like_questions(n), 32, generator)
    assert sorted(np.concatenate(batches)) == list(range(n))
    assert max(map(len, batches)) <= 32


def test_tokens_lie_in_a_file_that_is_mapped():
    sequences = tokenise(PAIRS, TOKENIZER, n_positions=64, end_of_text=True)
    assert isinstance(sequences.tokens, np.memmap) and not sequences.tokens.flags.writeable
    prompt, completion = sequences.split(1)
    assert TOKENIZER.decode(prompt.tolist()) == "To be,"
    assert completion.tolist() == [*TOKENIZER.encode(" or not to be"), TOKENIZER.eot]


def test_batches_hold_similar_lengths():
    lengths = lengths_like_questions(20_000)
    batches = length_buckets(lengths, 32, np.random.default_rng(1))
    assert padding_share(lengths, batches) < 0.03
    unsorted = np.array_split(np.random.default_rng(1).permutation(20_000), 625)
    assert padding_share(lengths, unsorted) > 0.3


def test_padding_share_is_what_it_says():
    lengths = np.array([1, 3, 2, 2])
    assert padding_share(lengths, [np.array([0, 1]), np.array([2, 3])]) == pytest.approx(2 / 10)


def test_the_generator_decides_the_order():
    lengths = lengths_like_questions(500)

    def order(seed):
        return [list(batch) for batch in length_buckets(lengths, 8, np.random.default_rng(seed))]

    assert order(1) == order(1)
    assert order(1) != order(2)


def test_batches_come_in_random_order_and_without_a_generator_longest_first():
    lengths = lengths_like_questions(2000)
    shuffled = [lengths[b].max() for b in length_buckets(lengths, 32, np.random.default_rng(0))]
    assert abs(np.corrcoef(shuffled, np.arange(len(shuffled)))[0, 1]) < 0.5
    in_order = [lengths[b].max() for b in length_buckets(lengths, 32)]
    assert in_order == sorted(in_order, reverse=True)


def test_tokenise_joins_what_was_encoded_apart():
    sequences = tokenise(PAIRS, TOKENIZER, n_positions=256, end_of_text=True)
    assert len(sequences) == 3 and sequences.truncated == 0
    for i, (prompt, completion) in enumerate(PAIRS):
        head, tail = sequences.split(i)
        assert head.tolist() == TOKENIZER.encode(prompt)
        assert tail.tolist() == [*TOKENIZER.encode(completion), TOKENIZER.eot]
        assert sequences.lengths[i] == len(head) + len(tail)
    assert sequences.tokens.dtype == np.uint16
    without = tokenise(PAIRS, TOKENIZER, n_positions=256, end_of_text=False)
    assert without.split(0)[1].tolist() == TOKENIZER.encode(" fox")


def test_truncation_takes_the_prompts_beginning_then_the_completions_end():
    prompt, completion = "one two three four five", " six seven eight"
    head, tail = TOKENIZER.encode(prompt), TOKENIZER.encode(completion)
    assert (len(head), len(tail)) == (5, 3)

    def cut(n_positions):
        sequences = tokenise(
            [(prompt, completion)], TOKENIZER, n_positions=n_positions, end_of_text=False
        )
        kept_head, kept_tail = sequences.split(0)
        return kept_head.tolist(), kept_tail.tolist(), sequences.truncated

    assert cut(7) == (head, tail, 0)  # 8 tokens fit: the last one is never an input
    assert cut(6) == (head[1:], tail, 1)
    assert cut(3) == (head[-1:], tail, 1)
    assert cut(2) == (head[-1:], tail[:2], 1)


def test_a_vocabulary_of_more_than_65536_tokens_keeps_its_numbers():
    for last, dtype in ((65_535, np.uint16), (65_536, np.uint32), (250_000, np.uint32)):
        tokenizer = Tokenizer(TOKENIZER.encoding, eot=last, vocab_size=last + 1)
        blocks = token_blocks([[last, 5, last]], tokenizer, n_positions=2)
        assert blocks.tokens.dtype == dtype
        assert [list(map(list, blocks.split(i))) for i in range(2)] == [
            [[last], [last, 5]],
            [[5], [last]],
        ]
        sequences = tokenise(PAIRS, tokenizer, n_positions=64, end_of_text=True)
        assert sequences.tokens.dtype == dtype
        batch = sequence_batch(sequences, np.arange(1))
        assert batch.target.tolist() == [*TOKENIZER.encode(" fox"), last]


def test_nothing_to_tokenise_is_an_error():
    with pytest.raises(InputError, match="no examples"):
        tokenise([], TOKENIZER, n_positions=8, end_of_text=False)


def test_a_batch_written_out():
    #      prompt    completion                     input row, padded
    #  0   1 2 3     4                              1 2 3
    #  1   5         6 7 8                          5 6 7
    #  2   1 2 3     9     (reads what 0 reads)     1 2 3
    #  3   4 4       9                              4 4 0
    prompts, completions = [[1, 2, 3], [5], [1, 2, 3], [4, 4]], [[4], [6, 7, 8], [9], [9]]
    batch = make_batch(prompts, completions, index=[7, 3, 1, 0])
    assert batch.inputs.tolist() == [[1, 2, 3], [5, 6, 7], [4, 4, 0]]
    assert batch.row.tolist() == [0, 1, 1, 1, 0, 2]
    assert batch.position.tolist() == [2, 0, 1, 2, 2, 1]
    assert batch.target.tolist() == [4, 6, 7, 8, 9, 9]
    assert batch.sequence.tolist() == [0, 1, 1, 1, 2, 3]
    assert batch.counts.tolist() == [1, 3, 1, 1]
    assert batch.index.tolist() == [7, 3, 1, 0]


def test_the_example_in_the_docstring_is_true():
    failed, seen = doctest.testmod(batch_module)
    assert (failed, seen) == (0, 5)


@pytest.mark.parametrize("prompt, completion", [([], [1]), ([1], [])])
def test_an_empty_side_is_an_error(prompt, completion):
    with pytest.raises(ValueError, match="sequence 0"):
        make_batch([prompt], [completion])


def test_tokens_that_are_no_whole_numbers_are_not_cut_to_some():
    with pytest.raises(ValueError, match="sequence 1 holds float64; expected whole numbers"):
        make_batch([[1], [1.5]], [[2], [3]])


def test_sequence_logps_equal_the_naive_computation():
    generator = np.random.default_rng(0)
    model = tiny_gpt()
    prompts = [generator.integers(50, size=n).tolist() for n in (1, 4, 7, 9, 4)]
    completions = [generator.integers(50, size=n).tolist() for n in (3, 1, 8, 2, 1)]
    prompts[4] = prompts[1]  # two completions of one prompt
    with torch.no_grad():
        found = sequence_logps(model, make_batch(prompts, completions))
        for n, (prompt, completion) in enumerate(zip(prompts, completions)):
            ids = torch.tensor([prompt + completion])
            logps = torch.log_softmax(model(ids[:, :-1]), dim=-1)  # (1, T, V) of every position
            taken = logps.gather(-1, ids[:, 1:, None])[0, :, 0]
            scored = torch.arange(len(taken)) >= len(prompt) - 1
            assert found[n].item() == pytest.approx((taken * scored).sum().item(), abs=1e-9)


def test_answers_of_one_token_run_the_model_once():
    texts = [("Same?", " yes"), ("Or not?", " yes")]
    yes = tokenise(texts, TOKENIZER, n_positions=64, end_of_text=False)
    no = tokenise([(p, " no") for p, _ in texts], TOKENIZER, n_positions=64, end_of_text=False)
    batch = pair_batch(yes, no, np.array([1, 0]))
    assert len(batch) == 4 and len(batch.inputs) == 2
    assert batch.index.tolist() == [1, 0, 1, 0]
    assert batch.target.tolist() == [3763, 3763, 645, 645]


def test_a_sequence_batch_takes_the_numbered_sequences():
    sequences = tokenise(PAIRS, TOKENIZER, n_positions=64, end_of_text=True)
    batch = sequence_batch(sequences, np.array([2, 0]))
    assert batch.index.tolist() == [2, 0]
    assert batch.target.tolist() == [*sequences.split(2)[1], *sequences.split(0)[1]]
