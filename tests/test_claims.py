"""What studies claim, and what it is judged by: distances, early stopping, a handoff's parts."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from experiments import handoff
from experiments.adapters import AdaptersStudy
from experiments.data_scale import DataScaleStudy
from experiments.dpo_hyperparameters import DPOHyperparametersStudy
from experiments.handoff_grid import HandoffGridStudy
from experiments.pair_construction import PairConstructionStudy
from experiments.parameterization import ParameterizationStudy
from experiments.reproduce import EXPERIMENTS
from experiments.run.config import make_config
from experiments.run.plan import resolve
from experiments.study.arms import Arm
from experiments.study.claims import MEMORY, PEAK_MEMORY, Claim
from experiments.study.fold_units import fold_blocks
from experiments.study.handoff_table import handoff_blocks, not_given, own_change, sft_alone
from experiments.study.held_out_table import held_out_blocks
from experiments.study.judging import cases_of, not_scored, verdicts_on
from experiments.study.report import arms_table
from experiments.study.results import ArmResult
from experiments.study.runs import FoldedRun, Run
from experiments.study.sizes import compare_sizes
from experiments.study.statistics import compare, contrast
from experiments.study.stopping import stopped_early
from tasks import get_task
from tasks.likelihood import BITS_PER_CHAR
from tasks.metric import Metric, ratio
from tests.conftest import CASES

STUDIES = tuple(EXPERIMENTS.values())


def bits(values) -> Metric:
    """Bits per character of units with one character each."""
    values = np.asarray(values, dtype=float)
    return BITS_PER_CHAR.of(np.stack([values, np.ones(len(values))], axis=1))


def arm_of(draw: np.random.Generator, mean: float, *, seeds=3, units=30, sd=0.1) -> list[Metric]:
    """An arm whose seeds move it by `sd`, and its units by 0.5 in all of them."""
    own = draw.normal(0.0, 0.5, size=units)
    return [bits(mean + draw.normal(0.0, sd) + own) for _ in range(seeds)]


def test_the_distances_of_two_pairs_with_an_arm_in_common():
    """|F - L| - |H - F| has the weights 2, -1, -1 of F, L, H; with the other sign H - L."""
    draw = np.random.default_rng(0)
    arms = {"F": arm_of(draw, 1.8), "L": arm_of(draw, 2.6), "H": arm_of(draw, 1.9)}
    found = compare_sizes(arms, ("F", "L"), ("H", "F"))
    means = {name: np.mean([m.value for m in arm]) for name, arm in arms.items()}
    distances = abs(means["F"] - means["L"]), abs(means["H"] - means["F"])
    assert found.scores == pytest.approx(distances)
    assert found.value == pytest.approx(distances[0] - distances[1])
    one = contrast([(2, arms["F"]), (-1, arms["L"]), (-1, arms["H"])])
    other = compare(arms["H"], arms["L"]).estimate
    assert found.estimate.error == pytest.approx(max(one.error, other.error))
    assert (
        found.larger_is_better and found.lead.value == found.value
    )  # though fewer bits are better
    turned = compare_sizes(arms, ("L", "F"), ("F", "H"))
    assert turned.value == pytest.approx(found.value)
    assert turned.estimate.error == pytest.approx(found.estimate.error)


@pytest.mark.parametrize("change", [0.0, 0.15, -0.3])
def test_intervals_of_distances_cover_the_truth(change):
    """100 studies: at 95 % all but 5 are expected to cover it, and more than 11 would be odd."""
    missed = 0
    for trial in range(100):
        draw = np.random.default_rng([5, trial])
        arms = {"F": arm_of(draw, 2.0), "L": arm_of(draw, 2.4), "H": arm_of(draw, 2.0 + change)}
        low, high = compare_sizes(arms, ("F", "L"), ("H", "F")).estimate.interval()
        missed += not low <= 0.4 - abs(change) <= high
    assert missed <= 11


def run_of(epochs: list[dict[str, Metric]], **record) -> SimpleNamespace:
    """A run with these metrics after each epoch, from 0 on."""
    run = SimpleNamespace(
        epochs=[{"epoch": n, "scores": {}} for n in range(len(epochs))],
        metrics_after=lambda epoch: epochs[epoch],
        metrics={**epochs[-1], MEMORY: PEAK_MEMORY.of(np.array([[100.0, 1.0]] * 2))},
        record={"floors": {}, "ceilings": {}, "peak_memory_mib": 100.0, **record},
        task=get_task("sonnet"),
    )
    run.parts = [run]
    return run


def test_early_stopping_scores_no_example_at_an_epoch_that_it_chose():
    """Units 0 and 2 are best after epoch 1, units 1 and 3 after epoch 2: each is scored after the
    epoch that the other two have chosen, the worse one for it, and not after its own."""
    untuned, first, second = bits([0, 0, 0, 0]), bits([1, 5, 1, 5]), bits([4, 2, 4, 2])
    run = run_of([{"bits_per_char": each} for each in (untuned, first, second)])
    assert stopped_early(run, "bits_per_char").statistics[:, 0].tolist() == [4, 5, 4, 5]
    alike = run_of([{"bits_per_char": bits([9 - n] * 4), "chrf": bits([n] * 4)} for n in range(4)])
    assert stopped_early(alike, "chrf").value == 3  # all choose the last epoch, by the headline


def test_a_claim_is_judged_where_it_says():
    runs = [run_of([{"bits_per_char": bits([v + s, v])} for v in (3, 1, 2)]) for s in (0, 0.1)]
    other = [run_of([{"bits_per_char": bits([v, v])} for v in (3, 2, 2.5)]) for _ in range(2)]
    config = make_config()
    results = [ArmResult(Arm(name, config), arm) for name, arm in (("a", runs), ("b", other))]
    claims = [
        Claim("", "", "a", "b", "bits_per_char", "more", at=at) for at in ("end", 0, 1, "best")
    ]
    claims.append(Claim("", "", "a", "b", "bits_per_char", "more", beyond=["a", "a"]))
    claims.append(Claim("", "", "a", "b", MEMORY, "more"))
    cases = cases_of(claims, results, get_task("sonnet"))
    firsts = [case.difference.scores for case in cases]
    assert firsts[0] == pytest.approx((2.025, 2.5)) and firsts[1] == pytest.approx((3.025, 3))
    assert firsts[2] == firsts[3] == pytest.approx((1.025, 2))
    assert firsts[4] == pytest.approx((0.475, 0)) and firsts[5] == (100, 100)
    assert cases[4].difference.words == ("larger", "smaller") and not cases[4].floors
    assert cases[5].margin == pytest.approx(10) and cases[5].difference.estimate.error == 0


def handoff_arms() -> list[ArmResult]:
    """SFT alone, its like under another rate, and a handoff after epoch 1; three seeds each."""
    draw = np.random.default_rng(3)
    sft = make_config(epochs=3, switch_epoch=3)
    handed = make_config(epochs=3, switch_epoch=1, pairs="best-vs-worst", beta=0.3, seed=1)
    arms = []
    for name, config in (
        ("other rate", replace(sft, sft_learning_rate=1.0)),
        ("SFT alone", sft),
        ("handoff", handed),
    ):
        more = {"reference": {"epoch": 1}, "config": {"beta": 0.5}} if name == "handoff" else {}
        runs = [
            run_of(
                [
                    {
                        n: bits(draw.normal(2, 0.1, size=12))
                        for n in ("bits_per_char", "bits_per_char_text", "chrf")
                    }
                    for _ in range(4)
                ],
                **more,
            )
            for _ in range(3)
        ]
        arms.append(ArmResult(Arm(name, config), runs))
    return arms


def test_the_parts_of_a_handoff_add_up_to_the_whole():
    arms = handoff_arms()
    handed = arms[-1]
    alone = sft_alone(handed, arms)
    assert alone.name == "SFT alone"
    for metric in ("bits_per_char", "chrf"):
        whole = compare(handed.metrics(metric), alone.metrics(metric))
        itself, missing = own_change(handed, metric), not_given(handed, alone, metric)
        assert itself.lead.value + missing.lead.value == pytest.approx(whole.lead.value)
        assert itself.scores[1] == missing.scores[0]  # SFT stopped at the handoff
    _, _, table, others = handoff_blocks(arms, get_task("sonnet"))
    assert [row[:2] for row in table.rows] == [["handoff", "bits/char"], ["handoff", "chrF"]]
    assert [row[1] for row in others.blocks[0].rows] == ["bits/char, text"]
    assert all(len(row) == len(table.header) and all(row) for row in table.rows)
    _, _, table, _ = handoff_blocks([arms[0], handed], get_task("sonnet"))
    assert [i for i, cell in enumerate(table.rows[0]) if cell == ""] == [2, 5, 7]
    assert handoff_blocks(arms[:2], get_task("sonnet")) == []
    alone = replace(handed.arm.config, switch_epoch=0, sft_learning_rate=9.0)  # of no use to it
    assert sft_alone(ArmResult(Arm("DPO alone", alone), handed.runs), arms[1:]) is arms[1]


def test_held_out_pairs_have_a_row_for_every_arm_that_recorded_them():
    arms = handoff_arms()
    assert held_out_blocks(arms) == []  # records of before
    for seed, run in enumerate(arms[-1].runs):
        run.epochs[-1] |= {
            "eval_loss": 0.4 + 0.1 * seed,
            "eval_rewards/accuracies": 0.75,
            "eval_rewards/margins": 0.5 + seed,
            "eval_kl/chosen": 0.01,
            "eval_kl/rejected": 0.02,
        }
    _, table = held_out_blocks(arms)
    loss, others = "0.500 ± 0.100, worst run 0.600", ["3.000 ± 2.000", "0.0100 ± 0.0000"]
    assert table.rows == [["handoff", loss, "75.0 ± 0.0", *others, "0.0200 ± 0.0000"]]


def test_folds_are_read_as_one_run_by_all_of_it():
    """Held-out pairs are told by the folds' mean, and an epoch is chosen for all folds together."""
    first, second = (
        run_of([{"bits_per_char": bits(values)} for values in by_epoch])
        for by_epoch in (([9, 9], [1, 2], [3, 3]), ([9, 9], [5, 6], [2, 1]))
    )
    for run, accuracy in ((first, 0.5), (second, 0.7)):
        run.epochs[-1] |= {"eval_rewards/accuracies": accuracy}
    folded = FoldedRun([first, second])
    assert folded.epochs[-1]["eval_rewards/accuracies"] == pytest.approx(0.6)
    assert folded.epochs[0].keys() == {"epoch", "scores"}
    # Even units have 1, 5 and 3, 2: sums 6 and 5; odd ones 2, 6 and 3, 1: both choose the last.
    assert stopped_early(folded, "bits_per_char").statistics[:, 0].tolist() == [3, 3, 2, 1]


def with_verdicts(claims, arms, task) -> list:
    cases = cases_of(claims, arms, task)
    return list(zip(cases, verdicts_on(cases)))


def test_folds_as_units_count_in_full_what_their_examples_share():
    """Folds whose leads are 0.1, 0.2 and 0.6 for each example and seed: Student's t of those."""
    leads = (0.1, 0.2, 0.6)

    def arm(name: str, behind: float) -> ArmResult:
        values = [bits(np.arange(4) + behind * lead) for lead in leads]
        rates = (3e-4, 3e-4, 1e-4)
        configs = [{"switch_epoch": 3, "epochs": 3, "sft_learning_rate": rate} for rate in rates]
        runs = [run_of([{"bits_per_char": v}], config=c) for v, c in zip(values, configs)]
        return ArmResult(Arm(name, make_config()), [FoldedRun(runs)] * 3)

    arms, task = [arm("a", 0), arm("b", 1)], get_task("sonnet")
    claim = Claim("a beats b", "", "a", "b", "bits_per_char", "more", primary=True)
    exploratory = replace(claim, primary=False)
    judged = with_verdicts([claim, exploratory], arms, task)
    _, table, _, values = fold_blocks(judged, arms, task)[0].blocks
    half = 4.303 * np.std(leads, ddof=1) / np.sqrt(3)
    interval = f"[{0.3 - half:.3f}, {0.3 + half:.3f}]"
    told = [f"0.300 {interval}", f"{interval}, 95 %", "cannot be told"]
    assert table.rows == [["a beats b", "bits/char", "0.100", "0.200", "0.600", *told]]
    assert values.rows[0] == ["a", "SFT 0.0003", "SFT 0.0003", "SFT 0.0001"]
    (case,) = cases_of([claim], arms, task)
    assert case.difference.units == 12
    assert arms[0].metrics(MEMORY)[0].statistics.tolist() == [[100.0, 1.0]] * 3  # of each fold once
    two = replace(claim, a="SFT alone", b="other rate")
    assert fold_blocks(with_verdicts([two], handoff_arms(), task), handoff_arms(), task) == []
    assert fold_blocks(with_verdicts([exploratory], arms, task), arms, task) == []


def test_seconds_of_an_epoch_that_is_not_evaluated_are_those_of_the_next():
    seconds = [(0, 0.0), (1, 20.0), (4, 60.0)]  # SFT for one epoch, DPO for three
    run = SimpleNamespace(epochs=[{"epoch": n, "seconds": s} for n, s in seconds])
    assert Run.time.fget(run).value == (20 + 3 * 60) / 4


def test_a_claim_about_dpo_itself_holds_an_arm_against_its_own_reference():
    arms = handoff_arms()
    claim = Claim("", "", "handoff", "handoff", "bits_per_char", "same", own=True)
    (case,) = cases_of([claim], arms, get_task("sonnet"))
    assert case.difference == own_change(arms[-1], "bits_per_char")
    assert case.difference.scores[0] != case.difference.scores[1]


def test_claims_on_what_training_has_not_seen_want_the_same_examples():
    """A model that says "no" to all is no better for having seen other examples."""
    runs = {}
    right = np.array([[1, 1], [1, 1], [0, 1], [1, 1]])
    for name, unseen in (("few", [1, 1, 1, 1]), ("many", [1, 1, 0, 1]), ("other", [1, 1, 0, 1])):
        metric = Metric(right * np.array(unseen)[:, None], ratio)
        runs[name] = run_of([{"accuracy_unseen": metric, "accuracy": Metric(right, ratio)}])
    arms = {name: ArmResult(Arm(name, make_config()), [run] * 3) for name, run in runs.items()}
    claim = Claim("", "", "many", "few", "accuracy_unseen", "more")
    assert not_scored([claim], [arms["few"], arms["many"]]) == ["accuracy_unseen"]
    assert not_scored([claim], [arms["many"], arms["other"]]) == []
    everything = replace(claim, metric="accuracy")
    assert not_scored([everything], [arms["few"], arms["many"]]) == []


def test_an_arm_is_held_against_its_own_floors():
    """Those of what its training has not seen, which another arm's may have."""
    task = get_task("sonnet")
    arms = [
        ArmResult(
            Arm(name, make_config()),
            [run_of([{"bits_per_char": bits([v, v])}], floors={"f": {"bits_per_char": floor}})] * 3,
        )
        for name, v, floor in (("a", 2.0, 1.9), ("b", 2.2, 2.5))
    ]
    (case,) = cases_of([Claim("", "", "b", "a", "bits_per_char", "more")], arms, task)
    assert case.floors == {"f": 1.9}
    arms[0].runs[0].record["floors"] = {"f": {"bits_per_char": 2.1}}
    (case,) = cases_of([Claim("", "", "b", "a", "bits_per_char", "more")], arms, task)
    assert case.floors == {}


@pytest.mark.parametrize("beyond", [None, ("b", "c")])
def test_floors_count_where_they_reach_the_best_of_the_arms_of_a_claim(beyond):
    found = {"far": {"bits_per_char": 2.6}, "near": {"bits_per_char": 2.1}, "none": {"chrf": 9.0}}
    arms = [
        ArmResult(
            Arm(name, make_config()), [run_of([{"bits_per_char": bits([v, v])}], floors=found)] * 3
        )
        for name, v in (("a", 2.5), ("b", 2.2), ("c", 2.0))
    ]
    claim = Claim("", "", "a", "b", "bits_per_char", "more", beyond=beyond)
    (case,) = cases_of([claim], arms, get_task("sonnet"))
    assert list(case.floors) == ([] if beyond else ["near"])  # fewer bits are better, and c has 2.0


@pytest.mark.slow
def test_the_reference_of_a_handoff_is_sft_stopped_there(small_model, tmp_path):
    """Bit for bit: the phases have schedules of their own, so that no arm has to be run for it."""
    small = {"train_examples": 16, "dev_examples": 8, "batch_size": 8, "sft_learning_rate": 0.05}
    stopped, handed = (
        handoff.run(
            make_config(
                task="paraphrase",
                data=str(CASES / "quora-unlabelled-test"),
                model=str(small_model),
                out=tmp_path / f"{epochs} epochs",
                epochs=epochs,
                switch_epoch=2,
                device="cpu",
                **small,
            )
        ).epochs[2]
        for epochs in (2, 3)
    )
    assert stopped["scores"] == handed["scores"]
    assert handed["epoch"] == 2 and handed["phase"] == "sft"


def test_reports_of_runs_with_fewer_metrics_show_those(monkeypatch):
    arms = [arm for arm in handoff_arms() if arm.name != "handoff"]
    monkeypatch.setattr("experiments.study.report._costs", lambda result: ["", "", ""])
    monkeypatch.setattr("experiments.study.report._links", lambda result: "")
    monkeypatch.setattr(ArmResult, "values", lambda self, name: np.zeros((3, 4)))
    table = arms_table(arms, get_task("sonnet"))
    told = ["arm", "bits/char", "chrF", "bits/char, text", "trained parameters"]
    assert list(table.header)[:5] == told


def test_the_primary_claims_are_few_and_of_the_headline():
    primary = [c for study in STUDIES for c in study().claims() if c.primary]
    assert [claim.text for claim in primary] == [
        "full fine-tuning is better than LoRA r = 8",
        "full: DPO alone does as SFT alone",
        "full: SFT to epoch 3, then DPO, does as SFT to the end",
        "full: DPO itself, after epoch 3, changes about nothing",
        "full: SFT to epoch 9, then DPO, does as SFT to the end",
        "full: DPO itself, after epoch 9, changes about nothing",
        "LoRA or not matters more than DPO from epoch 4 on (full)",
    ]
    assert {claim.metric for claim in primary} == {"bits_per_char"}
    assert {claim.at for claim in primary} == {"end"}


def test_the_questions_of_the_paper_have_rows():
    texts = {study: [c.text for c in study().claims()] for study in STUDIES}
    curves = [f"full fine-tuning is better than LoRA r = 4 after epoch {n}" for n in range(1, 10)]
    assert set(curves) < set(texts[ParameterizationStudy])
    for text in ("is faster than", "needs less memory than"):
        assert f"LoRA r = 16 {text} full fine-tuning" in texts[ParameterizationStudy]
    makers = "V1 pairs (gold-vs-sample)", "V2 pairs (gold-vs-corrupted)", "V3 pairs (best-vs-worst)"
    for a, b in ((1, 0), (2, 0), (2, 1)):
        assert f"{makers[a]} do as {makers[b]}" in texts[PairConstructionStudy]
    assert all(f"DPO on {m} does as SFT alone" in texts[PairConstructionStudy] for m in makers)
    assert "beta 1, rate 2e-05 does as SFT alone" in texts[DPOHyperparametersStudy]
    assert "beta 1, rate 2e-05 does as beta 0.1, rate 2e-05" in texts[DPOHyperparametersStudy]
    assert (
        "more data beat more epochs on less, each stopped at its best epoch"
        in texts[DataScaleStudy]
    )
    assert "DoRA is better than LoRA" in texts[AdaptersStudy]
    one = HandoffGridStudy(methods=("full",), epochs=4)
    arms = [arm.name for arm in one.arms()]
    assert arms == [*(f"full, switch {n}" for n in (4, 0, 1, 3)), "LoRA, switch 4"]
    assert any(claim.beyond for claim in one.claims())  # LoRA is there to lie apart from


def test_the_family_differs_in_one_thing_each_and_shares_runs_with_the_ranks(tmp_path):
    study = AdaptersStudy(out=tmp_path, device="cpu", seeds=(0,))
    arms = {arm.name: arm for arm in study.arms()}
    lora = arms["LoRA"].config
    assert arms["rsLoRA"].config == replace(lora, lora=replace(lora.lora, rank_stabilised=True))
    assert arms["DoRA"].config == replace(lora, lora=replace(lora.lora, dora=True))
    assert arms["LoRA+"].config == replace(lora, lora_plus=16.0)
    ranks = ParameterizationStudy(out=tmp_path, device="cpu", seeds=(0,))
    other = {arm.name: ranks.configs(arm)[0].out for arm in ranks.arms()}
    assert study.configs(arms["full"])[0].out == other["full"]
    assert study.configs(arms["LoRA"])[0].out == other["LoRA r = 16"]


def test_lora_plus_keeps_the_geometric_mean_of_its_rates():
    plain, plus = (
        resolve(make_config(parameterization="lora", lora_plus=ratio, device="cpu")).config
        for ratio in (1.0, 16.0)
    )
    for name in ("sft_learning_rate", "dpo_learning_rate"):
        of_a = getattr(plus, name)
        assert (of_a * 16 * of_a) ** 0.5 == pytest.approx(getattr(plain, name))
