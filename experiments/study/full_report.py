"""The report of a study, which may have several experiments, from what lies in its folder alone."""

from collections.abc import Iterable, Sequence
from pathlib import Path

from experiments.run.record import read_run
from experiments.run.tables import Table
from experiments.study.answer import answer_blocks
from experiments.study.claims import PAPER
from experiments.study.document import Block, Folded, Heading, Paragraph, write_document
from experiments.study.figures import NOTE
from experiments.study.judging import cases_of, verdicts_on
from experiments.study.protocol import read_plan
from experiments.study.rate_table import CHOSEN, rate_blocks
from experiments.study.report import study_blocks
from experiments.study.results import ArmResult, load_results
from experiments.study.tuning_table import tried_runs
from tasks.registry import task_class

SCORES = (
    "Scores are those on the dev split after the last epoch, the mean over seeds ± their standard "
    "deviation, with a 95 % interval over examples and seeds in brackets; with one seed it speaks "
    "of the examples alone. Each arm keeps its own spread over seeds. The intervals hold for the "
    "training examples and the tuned values at hand. Floors need no learning; ± is their standard "
    "deviation over draws."
)
CLAIMS = (
    "A claim is judged by the interval of a lead, the first arm's over the second in the metric's "
    "good direction: a lead above 0 is better, whatever the metric. The margin is the smallest "
    "lead that matters; what would be found is the smallest that such a study tells, four times "
    "of five, from 0, or from the margin where the arms are said to be the same; p is how likely a "
    "lead as large, either way, is where there is none, and says nothing of a claim that two arms "
    "are the same. The primary claims were {when} and are judged together, by intervals so wide "
    "that in about 95 % of such studies all of them cover the truth, and then no verdict on them "
    "is wrong. All others are exploratory, and of many of those some are wrong. Seconds are those "
    "of training alone, without making pairs and the reference's log-probs; memory is the whole "
    "process's, its evaluations included; the runs may have shared a machine. "
    f"The claims are those of {PAPER}, or lead to them."
)
FIXED_BEFORE, FIXED = "fixed before the runs", "fixed when {} of the runs were finished,"
UNTUNED = "Not tuned here: the defaults of `experiments.handoff`, or the rates that were given."


def write_report(folder: Path) -> list[list[ArmResult]]:
    """Write report.md and report.html of the study whose study.json lies in the folder.

    Its runs must be done. Return the arms of each experiment. Raises InputError for records that
    are damaged or not there.
    """
    title, protocols, tuning, known = read_plan(folder)
    studies = []
    for protocol in protocols:
        task = task_class(protocol.task)
        runs = {name: [folder / run for run in runs] for name, runs in protocol.arms.items()}
        results = load_results(runs, task)
        studies.append((protocol, task, results, cases_of(protocol.claims, results, task)))
    # All together, as the primary claims of all studies are one family.
    verdicts = iter(verdicts_on([case for *_, cases in studies for case in cases]))
    judged = [[(case, next(verdicts)) for case in cases] for *_, cases in studies]
    groups = [(study[0].heading, pairs) for study, pairs in zip(studies, judged)]
    tried = {run: read_run(run) for run in dict.fromkeys(tried_runs(tuning))}
    rates = rate_blocks(tried)
    blocks: list[Block] = [
        *answer_blocks(groups, folder),
        *([Paragraph(CHOSEN)] if rates else []),
        Heading("How to read this"),
        Paragraph(SCORES),
        Paragraph(CLAIMS.format(when=FIXED.format(known) if known else FIXED_BEFORE)),
        Paragraph(f"Figures: {NOTE}"),
    ]
    for (protocol, task, results, _), pairs in zip(studies, judged):
        blocks += study_blocks(protocol, results, task, pairs, folder)
    blocks += [
        Heading("Learning rates"),
        *(map(_folded, tuning) if tuning else [Paragraph(UNTUNED)]),
        *rates,
        Heading("Where this was run"),
        machines_table([*_records(results for _, _, results, _ in studies), *tried.values()]),
    ]
    write_document(folder, title, blocks)
    print(f"report: {folder}/report.md and report.html")
    return [results for _, _, results, _ in studies]


def _folded(block: Block) -> Block:
    """Return what is said of tuning, its long tables folded."""
    return Folded("Every run of the search", [block]) if isinstance(block, Table) else block


def _records(studies: Iterable[Sequence[ArmResult]]) -> Iterable[dict]:
    """Return the record of every run, each once: arms of two studies may share theirs."""
    runs = [run for results in studies for result in results for run in result.parts]
    return {run.folder: run.record for run in runs}.values()


def machines_table(records: Iterable[dict]) -> Table:
    """Return a row for each commit, version and machine that runs tell of, in order of their start.

    The hours are those of the runs, added up, the tuning's among them.
    """
    found: dict[tuple[str, ...], list[dict]] = {}
    for record in sorted(records, key=lambda record: record["started"]):
        changed = ", changed" if record["dirty"] else ""
        place = (
            f"{(record['commit'] or 'not known')[:12]}{changed}",
            record["python"],
            record["versions"]["torch"],
            record["cuda"] or f"{record['platform']}, {record['threads']} threads",
        )
        found.setdefault(place, []).append(record)
    rows = [
        [
            *place,
            f"{len(runs)}",
            f"{sum(run['seconds'] for run in runs) / 3600:.1f}",
            f"{runs[0]['started'][:10]} to {runs[-1]['started'][:10]}",
        ]
        for place, runs in found.items()
    ]
    return Table(["commit", "Python", "torch", "machine", "runs", "hours", "begun"], rows)
