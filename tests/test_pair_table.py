"""The table of preference pairs in a study's report, from records written by hand."""

import json

from experiments.run.config import Config
from experiments.run.tables import Table
from experiments.study.arms import Arm
from experiments.study.pair_table import COLUMNS, pair_blocks
from experiments.study.results import ArmResult
from experiments.study.runs import Run
from tasks import Example, PreferencePair, describe_pairs, get_task

GOLD = "".join(f"the {name} line of four\n" for name in ("first", "second", "third", "last"))
PAIRS = {
    "examples": 131,
    "pairs": 131,
    "share_dropped": 0.0,
    "share_degenerate": 0.25,
    "length_ratio": 0.96,
    "margin_mean": 71.5,
    "margin_10": 70.0,
    "margin_50": 71.0,
    "margin_90": 73.0,
}


def arm_result(folder, name: str, *pairs: dict | None) -> ArmResult:
    """An arm with a finished run per seed; None stands for SFT alone, which has no pairs."""
    runs = []
    for seed, described in enumerate(pairs):
        record = {"config": {"seed": seed}, "status": "finished"}
        if described is not None:
            record["reference"] = {"epoch": 3, "weights": "0", "pairs": described}
        path = folder / f"{name}-{seed}"
        path.mkdir()
        (path / "run.json").write_text(json.dumps(record))
        runs.append(Run(path, get_task("sonnet")))
    return ArmResult(Arm(name, Config()), runs)


def test_a_row_per_arm_with_pairs_means_over_seeds(tmp_path):
    other = PAIRS | {"pairs": 129, "share_dropped": 0.01, "share_degenerate": 0.5}
    results = [
        arm_result(tmp_path, "alone", None, None),
        arm_result(tmp_path, "V1", PAIRS, other),
        arm_result(tmp_path, "V2", PAIRS | {"margin_mean": -0.125}, PAIRS),
    ]
    _heading, paragraph, table = pair_blocks(results)
    assert isinstance(table, Table)
    assert table.header == [
        "arm",
        "examples",
        "pairs",
        "dropped %",
        "degenerate %",
        "length ratio",
        "margin",
        "margin, 10 %",
        "margin, 50 %",
        "margin, 90 %",
    ]
    assert table.rows == [
        ["V1", "131", "130", "0.5", "37.5", "0.96", "71.50", "70.00", "71.00", "73.00"],
        ["V2", "131", "131", "0.0", "25.0", "0.96", "35.69", "70.00", "71.00", "73.00"],
    ]
    assert "half of the gold's lines" in paragraph.text


def test_arms_with_the_same_pairs_need_no_table(tmp_path):
    answers = {name: PAIRS[name] for name in PAIRS if not name.startswith("margin")}
    alone = arm_result(tmp_path, "alone", None)
    assert pair_blocks([alone]) == []
    assert pair_blocks([alone, arm_result(tmp_path, "V1", PAIRS)]) == []
    assert pair_blocks([alone, *(arm_result(tmp_path, name, answers) for name in "ab")]) == []


def test_every_statistic_of_pairs_has_a_column():
    example = Example("prompt", GOLD)
    found = describe_pairs([(PreferencePair(*example, GOLD[::-1]), example)], 1, free_text=True)
    assert list(found) == list(COLUMNS)
