"""How much of what is written is new: distinct-n (Li et al., 2016, arXiv 1510.03055)."""

from collections.abc import Sequence

from tasks.text import words


def distinct_ngrams(texts: Sequence[str], n: int) -> tuple[int, int]:
    """Return how many different n-grams of words the texts have together, and how many in all.

    Li et al. count over all answers to all prompts. Here the texts are those written for one
    prompt, so that the counts of prompts add up, and a policy that always writes the same for a
    prompt is seen. The share falls with the number and the length of the texts: only as many,
    about as long, compare.
    """
    ngrams = [
        tuple(said[i : i + n]) for said in map(words, texts) for i in range(len(said) - n + 1)
    ]
    return len(set(ngrams)), len(ngrams)
