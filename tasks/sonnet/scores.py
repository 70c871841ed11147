"""What is said of the sonnets' metrics: how each is computed, compared and shown.

The margins are a matter of taste that is better stated than hidden: a hundredth of a bit per
character, half a point of chrF.
"""

from tasks.chrf import mean_chrf_score
from tasks.likelihood import BITS_PER_CHAR, BITS_PER_CHAR_TEXT
from tasks.metric import Score, ratio

DISTINCT = (1, 2, 3)  # words of the n-grams whose variety is counted

SONNET_SCORES = {
    "bits_per_char": BITS_PER_CHAR,
    "bits_per_char_text": BITS_PER_CHAR_TEXT,
    "chrf": Score(mean_chrf_score, short="chrF", long="chrF, whole sonnet", margin=0.5, decimals=2),
    "chrf_generated": Score(
        mean_chrf_score, short="chrF generated", long="chrF, generated lines alone", decimals=2
    ),
    "chrf_mbr": Score(
        mean_chrf_score,
        short="chrF MBR",
        long="chrF of the minimum-Bayes-risk sample, whole sonnet",
        decimals=2,
    ),
    "preference_accuracy": Score(
        ratio,
        short="preferred %",
        long="gold preferred to it with two lines swapped, %",
        factor=100,
        decimals=1,
    ),
    "copy_rate": Score(
        ratio,
        short="copied %",
        long="word 5-grams from training sonnets, %",
        larger_is_better=False,
        factor=100,
        decimals=1,
    ),
    "longest_copy": Score(
        ratio,
        short="longest copy",
        long="longest copied run, words",
        larger_is_better=False,
        decimals=1,
    ),
    "lines": Score(
        ratio,
        short="14 lines %",
        long="samples that do not end before the fourteenth line, %",  # where all are cut
        factor=100,
        decimals=1,
    ),
    "rhyme": Score(
        ratio, short="rhymes %", long="pairs of lines that rhyme, %", factor=100, decimals=1
    ),
    "syllables": Score(
        ratio, short="syllables %", long="lines of 9 to 11 syllables, %", factor=100, decimals=1
    ),
    **{
        f"distinct_{n}": Score(
            ratio,
            short=f"distinct-{n} %",
            long=f"different word {n}-grams of a prompt's samples, %",
            factor=100,
            decimals=1,
        )
        for n in DISTINCT
    },
    "judged_gold": Score(
        ratio,
        short="judged gold %",
        long="lines that the judge takes for a poet's, %",
        factor=100,
        decimals=1,
    ),
}
