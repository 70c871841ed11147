"""Tuning: which searches there are, on which data, and where their values go; runs are made up."""

import json
import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace

import pytest

from experiments.dpo_hyperparameters import AS_TUNED, DPOHyperparametersStudy
from experiments.handoff_grid import HandoffGridStudy
from experiments.parameterization import ParameterizationStudy
from experiments.reproduce import EXPERIMENTS
from experiments.run.config import Config, flat_options, identity, make_config
from experiments.run.contents import read_task
from experiments.run.record import write_record
from experiments.run.tables import Link
from experiments.study.arms import SFT_ALONE, Study
from experiments.study.tuned import kind_of, method_of
from experiments.study.tuning import PARTS, planned_runs, tune
from experiments.study.tuning_table import tuning_blocks
from minigpt.errors import InputError, NotFinite

STUDIES = tuple(EXPERIMENTS.values())
VARIANTS = {"lora-r16-rank-stabilised", "lora-r16-dora", "lora-r16-lora-plus-16.0"}
METHODS = {"full", "lora-r4", "lora-r8", "lora-r16"} | VARIANTS
LOSSES = {"sigmoid", "ipo", "ipo-mean", "hinge", "simpo", "orpo"}
BEST = {"sft_learning_rate": 1e-3, "dpo_learning_rate": 7e-6, "beta": 0.3}
BREAKS = {"full": 1.5e-3, "lora": 5e-3}  # SFT at a higher rate than this diverges


def base(folder, **options) -> Study:
    return Study(**{"device": "cpu", "out": folder, **options})


def studies_of(base: Study) -> list[Study]:
    shared = {name: getattr(base, name) for name in Study.__dataclass_fields__}
    return [kind(**shared) for kind in STUDIES]


def off(config: Config, option: str) -> float:
    """How far a value is from the best."""
    return abs(math.log(flat_options(config)[option] / BEST[option]))


def make_up(config: Config) -> None:
    """Write what is left of a run: SFT's rate and beta move its bits, DPO's rate its own loss."""
    dpo = config.switch_epoch < config.epochs
    config.out.mkdir(parents=True, exist_ok=True)
    record = {"config": identity(config), "status": "finished"}
    if config.sft_learning_rate > BREAKS[config.parameterization]:
        record |= {"status": "failed", "error": f"{NotFinite.__name__}: training diverged"}
    bits = 1.8 + 0.01 * off(config, "sft_learning_rate") + 0.001 * dpo * off(config, "beta")
    score = {"value": bits, "interval": [bits, bits], "larger_is_better": False}
    place = {"epoch": config.epochs, "step": 99, "phase": "dpo" if dpo else "sft"}
    steps = [{"kind": "step", **place, "step": n, "loss": 0.7} for n in range(20)]
    last = {"kind": "evaluation", **place, "split": "dev", "seconds": 1.0}
    last |= {"scores": {"bits_per_char": score}}
    if dpo:
        last["eval_loss"] = 0.6 + 0.01 * off(config, "dpo_learning_rate")
    lines = "".join(json.dumps(line) + "\n" for line in [*steps, last])
    (config.out / "metrics.jsonl").write_text(lines)
    write_record(config.out / "run.json", record)


class Runs:
    """What carries out runs: it makes them up, and remembers them."""

    def __init__(self, make: Callable[[Config], None] = make_up):
        self.make, self.configs = make, []

    def __call__(self, configs: Sequence[Config]) -> None:
        for config in configs:
            self.configs.append(config)
            self.make(config)


@pytest.fixture(scope="module")
def tuned(tmp_path_factory):
    """A study without folds, tuned by six runs of each search: base, what was found, the runs."""
    study, runs = base(tmp_path_factory.mktemp("tuned")), Runs()
    return *tune(study, studies_of(study), 6, runs), runs


def test_every_method_and_loss_has_a_search_of_as_many_runs(tuned):
    _, found, runs = tuned
    kinds = {
        option: {one.search.kind for one in found if one.search.option == option} for option in BEST
    }
    assert kinds["sft_learning_rate"] == METHODS
    losses = {f"full {loss}" for loss in LOSSES}
    assert kinds["dpo_learning_rate"] == losses | {"lora-r8 sigmoid"}
    assert kinds["beta"] == {"full sigmoid", "lora-r8 sigmoid"}
    assert {len(one.trials) for one in found} == {6}
    assert len(runs.configs) == 6 * len(found) == 6 * 16


def test_the_best_is_found_and_what_diverges_never_is(tuned):
    _, found, _ = tuned
    for one in found:
        option, kind, value, _ = one.tuned
        if option == "sft_learning_rate":
            stopped = {v for v, trial in one.trials.items() if trial.diverged}
            assert (
                stopped == {v for v in one.trials if v > BREAKS[kind[:4]]} and value not in stopped
            )
        assert BEST[option] / 1.8 < value < BEST[option] * 1.8, (option, kind)
    for one in found:  # DPO begins where the best SFT has ended
        if one.search.option != "sft_learning_rate":
            rates = {o.tuned.kind: o.tuned.value for o in found[: len(METHODS)]}
            assert one.search.config.sft_learning_rate == rates[one.search.kind.split()[0]]


def test_arms_run_at_what_was_tuned_for_them_and_keep_what_they_say_themselves(tuned):
    study, found, _ = tuned
    values = {(one.tuned.option, one.tuned.kind): one.tuned.value for one in found}
    plain = {arm.name: arm.config for each in studies_of(study) for arm in each.arms()}
    for each in studies_of(study):
        for arm in each.arms():
            (config, *_), said = each.configs(arm), plain[arm.name]
            for option in BEST:
                kind = kind_of(config, option)
                if kind and option not in arm.fixed:
                    assert flat_options(config)[option] == values[option, kind], arm.name
                elif option in arm.fixed:
                    assert flat_options(config)[option] == flat_options(said)[option]
    (sft,) = ParameterizationStudy(out=study.out, seeds=(0,), tuned=study.tuned).arms()[:1]
    (config,) = ParameterizationStudy(out=study.out, seeds=(0,), tuned=study.tuned).configs(sft)
    assert config.sft_learning_rate == values["sft_learning_rate", "full"]
    assert config.preference.beta == 0.1, "an arm of SFT alone is the same whatever DPO's are"


def test_changes_of_dpo_are_held_against_dpo_as_tuned(tuned):
    study, *_ = tuned
    shared = {"out": study.out, "device": "cpu"}
    plain, grid = (DPOHyperparametersStudy(**shared, tuned=t) for t in ((), study.tuned))
    assert {arm.name for arm in grid.arms()} - {arm.name for arm in plain.arms()} == {AS_TUNED}
    usual, smoothed = (
        next(arm for arm in grid.arms() if arm.name == name)
        for name in (AS_TUNED, "label smoothing 0.1")
    )
    (usual,), (smoothed,) = grid.configs(usual), grid.configs(smoothed)
    unsmoothed = replace(smoothed.preference, label_smoothing=0.0)
    assert replace(smoothed, out=usual.out, preference=unsmoothed) == usual
    assert {claim.b for claim in grid.claims()} == {AS_TUNED, SFT_ALONE}


def test_runs_are_as_long_as_the_study_s_and_are_scored_at_its_end(tuned):
    study, _, runs = tuned
    for config in runs.configs:
        assert config.epochs == config.evaluate_every == study.epochs and config.seed == 0
        assert config.headline_only
        assert config.switch_epoch in (study.early_switch, study.epochs)


def test_without_folds_the_training_split_alone_is_read(tuned):
    study, _, runs = tuned
    (options,) = {(c.folds, c.fold, c.held_back, c.folds_of) for c in runs.configs}
    task, reported = read_task(runs.configs[0]), study.read_task()
    read = {*task.examples("train"), *task.examples("dev")}
    assert options[-1] == "train" and read == {*reported.examples("train")}
    assert len(task.examples("dev")) in (26, 27) and "test" not in task.scored_splits


@pytest.mark.parametrize("folds", [3, 7])
def test_what_is_used_on_a_fold_was_tuned_without_it(tmp_path, folds):
    study, runs = base(tmp_path, folds=folds), Runs()
    shared = {"out": tmp_path, "folds": folds, "device": "cpu"}
    studies = [ParameterizationStudy(**shared), HandoffGridStudy(**shared)]
    _, found = tune(study, studies, 3, runs)
    for kind in {(one.search.option, one.search.kind) for one in found}:
        its_own = [one.search for one in found if (one.search.option, one.search.kind) == kind]
        assert len(its_own) == PARTS
        served = Counter(fold for search in its_own for fold in search.folds)
        assert served == Counter(range(folds)), "every fold is served once"
    for one in found:
        for trial in one.trials:
            config = one.search.run_at(trial)
            read = {*range(folds)} - {*config.held_back}
            assert not read & {*one.search.folds} and config.fold in read and len(read) >= 2
    for part in {one.search.folds for one in found}:
        sft = {o.tuned.kind: o.tuned.value for o in found[:12] if o.search.folds == part}
        for one in found[12:]:
            if one.search.folds == part:
                assert one.search.config.sft_learning_rate == sft[one.search.kind.split()[0]]


def test_rates_are_chosen_for_each_fold(tmp_path):
    def make(config: Config) -> None:  # where the folds 0 and 1 are held back, the best is lower
        low = 0 in config.held_back and config.switch_epoch == config.epochs
        make_up(config if low else replace(config, sft_learning_rate=BEST["sft_learning_rate"]))

    study = base(tmp_path, folds=6)
    grid = ParameterizationStudy(out=tmp_path, folds=6, ranks=(8,), seeds=(0,))
    study, found = tune(study, [grid], 4, Runs(make))
    grid = replace(grid, tuned=study.tuned)
    rates = {config.fold: config.sft_learning_rate for config in grid.configs(grid.arms()[0])}
    parts = {one.tuned.folds: one.tuned.value for one in found if one.tuned.kind == "full"}
    assert rates == {fold: value for part, value in parts.items() for fold in part}
    assert len(set(parts.values())) > 1


def test_too_few_folds_are_refused(tmp_path):
    with pytest.raises(InputError, match="--folds is 2; expected 3 or more"):
        planned_runs(base(tmp_path, folds=2), studies_of(base(tmp_path)), 3)


@pytest.mark.parametrize("folds, times", [(None, 1), (7, PARTS)])
def test_the_plan_counts_every_run(tmp_path, tuned, folds, times):
    _, found, _ = tuned
    planned = planned_runs(base(tmp_path, folds=folds), studies_of(base(tmp_path)), 6)
    assert len(planned) == times * 6 * len(found)
    assert not list(tmp_path.iterdir())


def test_the_table_has_every_run_what_was_chosen_and_what_diverged(tuned):
    study, found, runs = tuned
    how, table = tuning_blocks(study, found)
    assert "has 6 runs" in how.text and "training split" in how.text
    assert len(table.rows) == len(runs.configs)
    notes = Counter(row[-2] for row in table.rows)
    assert notes["chosen"] + notes["chosen, at the edge"] == len(found)
    assert notes["diverged: stopped, not finite"] >= 6
    links = {row[-1] for row in table.rows}
    assert {link.target.parent for link in links} == {config.out for config in runs.configs}
    assert all(isinstance(link, Link) and link.target.is_file() for link in links)


def test_a_value_at_the_edge_of_the_budget_is_marked(tmp_path):
    study = base(tmp_path)
    studies = [ParameterizationStudy(out=tmp_path, ranks=(8,))]

    def make(config: Config) -> None:
        make_up(replace(config, sft_learning_rate=BEST["sft_learning_rate"] / 1e6))

    _, found = tune(study, studies, 3, Runs(make))
    _, table = tuning_blocks(study, found)
    assert Counter(row[-2] for row in table.rows)["chosen, at the edge"] == len(found)


def test_a_loss_that_rises_counts_as_diverged(tmp_path):
    study = base(tmp_path)
    studies = [ParameterizationStudy(out=tmp_path, ranks=(8,))]

    def make(config: Config) -> None:
        make_up(config)
        if config.sft_learning_rate > 2e-4:
            log = config.out / "metrics.jsonl"
            *most, last = log.read_text().splitlines(keepends=True)
            most[12] = most[12].replace("0.7", "9")
            log.write_text("".join([*most, last]))

    _, found = tune(study, studies, 6, Runs(make))
    for one in found:
        notes = {value: trial.diverged for value, trial in one.trials.items()}
        assert one.tuned.value <= 2e-4 and set(notes.values()) >= {None, "the loss rose"}


def test_a_preference_loss_is_not_tuned_without_held_out_pairs(tmp_path):
    def make(config: Config) -> None:
        make_up(config)
        log = config.out / "metrics.jsonl"
        log.write_text(log.read_text().replace("eval_loss", "eval_lost"))

    study = base(tmp_path)
    studies = [HandoffGridStudy(out=tmp_path)]
    with pytest.raises(InputError, match="has no held-out pairs"):
        tune(study, studies, 3, Runs(make))


def test_methods_have_names_that_tell_all_adapters_apart():
    options = [
        {},
        {"rank": 16},
        {"dora": True},
        {"rank_stabilised": True},
        {"lora_plus": 16.0},
        {"alpha": 64.0},
        {"targets": ("attention",)},
    ]
    names = [method_of(make_config(parameterization="lora", **given)) for given in options]
    assert method_of(Config()) == "full" and len(set(names)) == len(names)
    assert names[:5] == [
        "lora-r8",
        "lora-r16",
        "lora-r8-dora",
        "lora-r8-rank-stabilised",
        "lora-r8-lora-plus-16.0",
    ]


def test_a_run_that_diverges_stops_no_other_and_is_not_done_again(tmp_path):
    study, studies = base(tmp_path), [ParameterizationStudy(out=tmp_path, ranks=(8,))]
    runs = Runs()

    def one_by_one(configs: Sequence[Config]) -> None:  # as run_all: what fails stops the others
        for config in configs:
            if (config.out / "run.json").exists():
                continue
            runs([config])
            if config.sft_learning_rate > BREAKS[config.parameterization]:
                (config.out / "checkpoint.safetensors").write_bytes(b"large")
                raise InputError(f"the run {config.out} failed")

    _, found = tune(study, studies, 6, one_by_one)
    done = [config.out for config in runs.configs]
    assert len(done) == len(set(done)) == 12 and {len(one.trials) for one in found} == {6}
    assert any(trial.diverged for one in found for trial in one.trials.values())
    assert not list(tmp_path.rglob("checkpoint.safetensors"))
    again = Runs(lambda config: None)
    tune(study, studies, 6, again)
    assert len(again.configs) == sum(not t.diverged for one in found for t in one.trials.values())


def test_any_other_failure_stops_tuning(tmp_path):
    def fail(configs: Sequence[Config]) -> None:
        raise InputError("the disk is full")

    with pytest.raises(InputError, match="the disk is full"):
        tune(base(tmp_path), [ParameterizationStudy(out=tmp_path)], 3, fail)
