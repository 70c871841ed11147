"""Choosing one of several samples.

Minimum Bayes risk (Kumar and Byrne, 2004) takes the sample that is the best guess when each of the
samples may be the right text: the one with the highest mean utility against them all (Eikema and
Aziz, 2020). No model and no gold text is asked.
"""

from collections.abc import Sequence

from tasks.chrf import chrf_between


def minimum_bayes_risk(texts: Sequence[str]) -> int:
    """Return the number of the text with the highest mean chrF against all, the first of equals."""
    return int(chrf_between(texts).mean(axis=1).argmax())
