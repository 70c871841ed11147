"""Cross-validation: folds that share no text, are of one size, and are the same for every run."""

from collections import Counter
from itertools import chain, combinations

import numpy as np
import pytest

from experiments import handoff
from experiments.run.config import Config, identity, make_config
from experiments.run.contents import data_hash, read_task
from experiments.run.reading import account_for, account_lines
from minigpt.errors import InputError
from tasks import from_rows, get_task
from tasks.paraphrase.leak import question_groups
from tasks.paraphrase.quora import QuestionPair
from tasks.sonnet.folds import sonnet_groups
from tasks.sonnet.shakespeare import Sonnet, read_sonnets
from tasks.splits import Fold, draw_folds
from tasks.text import text_key
from tests.conftest import CASES

K = 7


def folds(name: str, data=None, of: int = K, **options) -> list:
    """The task with each fold as dev."""
    return [get_task(name, data, fold=Fold(k, of), **options) for k in range(of)]


@pytest.mark.parametrize("seed", range(5))
def test_groups_are_dealt_out_whole_and_evenly_whatever_their_order(seed):
    generator = np.random.default_rng(seed)
    groups = generator.zipf(1.5, 400).clip(max=200).astype(np.uint64)
    dealt = draw_folds(groups, 5)
    assert {len(set(dealt[groups == group])) for group in groups} == {1}
    sizes = np.bincount(dealt, minlength=5)
    assert sizes.sum() == 400 and np.ptp(sizes) <= Counter(groups.tolist()).most_common(1)[0][1]
    order = generator.permutation(400)
    assert (draw_folds(groups[order], 5) == dealt[order]).all()
    assert np.ptp(np.bincount(draw_folds(np.arange(154), 7))) == 0


def test_every_sonnet_is_dev_once_and_near_duplicates_are_so_together():
    tasks, everything = folds("sonnet"), sorted(map(tuple, read_sonnets().values()))
    dev = [[tuple(lines) for lines in task.sonnets["dev"]] for task in tasks]
    assert [len(sonnets) for sonnets in dev] == 7 * [22]
    assert sorted(sonnet for sonnets in dev for sonnet in sonnets) == everything
    for task, held_out in zip(tasks, dev):
        train = [tuple(lines) for lines in task.sonnets["train"]]
        assert sorted(train + held_out) == everything and task.scored_splits == ("train", "dev")
        lines = [{text_key(line) for s in sonnets for line in s} for sonnets in (train, held_out)]
        assert not lines[0] & lines[1]
    numbers = {tuple(lines): number for number, lines in read_sonnets().items()}
    for pair in ({36, 96}, {153, 154}):
        assert any(pair <= {numbers[sonnet] for sonnet in sonnets} for sonnets in dev)


def test_sonnets_belong_together_by_a_line_whatever_its_spelling_of_case_and_commas():
    sonnets = [Sonnet(n, lines, "sonnets.txt") for n, lines in read_sonnets().items()]
    groups = sonnet_groups(sonnets)
    tied = {(a + 1, b + 1) for a, b in combinations(range(154), 2) if groups[a] == groups[b]}
    assert tied == {(36, 96), (153, 154)}
    other = Sonnet(200, ["shall I compare thee, to a SUMMER'S day", *"abcdefghijklm"], "own.txt")
    groups = sonnet_groups([*sonnets, other])
    assert np.flatnonzero(groups == groups[-1]).tolist() == [17, 154]


def test_sonnets_that_say_the_same_are_one_unit_of_an_interval():
    found = [task.groups("dev") for task in folds("sonnet")]
    tied = [groups for groups in found if groups is not None]
    assert [len(groups) - len(set(groups.tolist())) for groups in tied] in ([1, 1], [2])
    assert get_task("sonnet").groups("dev") is None  # all of them are independent


def test_lines_that_training_has_are_counted(tmp_path):
    assert get_task("sonnet").leak("dev") == (
        "of 12 sonnets 0.0 % share a line with one of training (dev)"
    )
    sonnets = read_sonnets()
    for name, numbers in (("sonnets.txt", (1, 2, 36)), ("TRUE_sonnets_held_out_dev.txt", (95, 96))):
        text = "".join(f"{n}\n\n" + "\n".join(sonnets[n]) + "\n\n" for n in numbers)
        (tmp_path / name).write_text(text)
    told = "of 2 sonnets 50.0 % share a line with one of training (dev)"
    lines = account_lines(account_for(get_task("sonnet", tmp_path)))
    assert f"leak       {told}" in lines


def test_a_fold_held_back_is_in_neither_split_and_told():
    back, tuned = get_task("sonnet", fold=Fold(3, K)), get_task("sonnet", fold=Fold(0, K, (3,)))
    used = tuned.sonnets["train"] + tuned.sonnets["dev"]
    assert len(tuned.sonnets["train"]) == 5 * 22 and len(tuned.sonnets["dev"]) == 22
    assert not any(sonnet in used for sonnet in back.sonnets["dev"])
    account = account_for(tuned)
    assert account["files"]["sonnets.txt"]["skipped"] == {"in fold 3, held back": 22}
    assert account["drawn"] == (
        "all from sonnets.txt: of 7 folds, from 0 on, fold 0 is dev, fold 3 is held back, "
        "the rest train"
    )
    assert account["not_scored"] == {
        "test": "there are none; expected train or dev, which are all that folds leave"
    }


def test_several_folds_can_be_held_back():
    part = [get_task("sonnet", fold=Fold(k, K)).sonnets["dev"] for k in (3, 4)]
    tuned = get_task("sonnet", fold=Fold(5, K, (3, 4)))
    used = tuned.sonnets["train"] + tuned.sonnets["dev"]
    assert len(tuned.sonnets["train"]) == 4 * 22 and len(tuned.sonnets["dev"]) == 22
    assert not any(sonnet in used for held_back in part for sonnet in held_back)


def test_folds_of_the_training_split_leave_dev_and_test_alone(tmp_path):
    data = tmp_path / "quora-train.csv"
    pairs = [f"{n}\tWhat is {n}?\tWhy is {n}?\t{n % 2}" for n in range(200)]
    data.write_text("\n".join(["id\tsentence1\tsentence2\tis_duplicate", *pairs, ""]))
    rows = [{"prompt": f"{n}?", "chosen": " y", "rejected": " n"} for n in range(60)]
    for name, make in {
        "sonnet": lambda fold: get_task("sonnet", fold=fold),
        "paraphrase": lambda fold: get_task("paraphrase", data, fold=fold),
        "own": lambda fold: from_rows("preference", rows, dev=0.2, test=0.2, fold=fold),
    }.items():
        whole = make(None)
        folds = [make(Fold(k, 3, of_train=True)) for k in range(3)]
        everything = list(whole.examples("train"))
        dev = [example for task in folds for example in task.examples("dev")]
        assert sorted(dev) == sorted(everything) and whole.examples("dev"), name
        for task in folds:
            both = [*task.examples("train"), *task.examples("dev")]
            assert sorted(both) == sorted(everything) and task.scored_splits == ("train", "dev")
        skipped = sum((account.skipped for account in folds[0].accounts.values()), Counter())
        assert skipped["not of train, held back"] == sum(
            len(whole.examples(split)) for split in ("dev", "test")
        )


def test_sonnets_of_several_files_are_pooled():
    data = CASES / "sonnets-numbered-145-to-156"
    files = get_task("sonnet", data)
    pooled = [task.sonnets["dev"] for task in folds("sonnet", data, of=4)]
    read = [sonnet for split in ("train", "dev", "test") for sonnet in files.sonnets[split]]
    assert sorted(chain(*pooled)) == sorted(read) and {len(dev) for dev in pooled} == {11}
    task = get_task("sonnet", data, fold=Fold(0, 4), limits={"train": 5, "dev": 2})
    accounts = task.accounts.values()
    assert sum(a.used for a in accounts) == 7 and sum(a.rows for a in accounts) == 44


def questions(pairs: list[QuestionPair]) -> set[str]:
    return {text_key(question) for pair in pairs for question in pair[:2]}


@pytest.mark.parametrize("alone", [False, True], ids=["the course's", "one file"])
def test_question_pairs_are_dev_once_and_no_question_is_on_two_sides(alone):
    data = CASES / "quora-unlabelled-test"
    data = data / "quora-train.csv" if alone else data
    tasks = folds("paraphrase", data, of=4)
    everything = tasks[0].pairs("train") + tasks[0].pairs("dev")
    dev = [task.pairs("dev") for task in tasks]
    assert sorted(chain(*dev)) == sorted(everything) and len(everything) == 80
    for task in tasks:
        assert not questions(task.pairs("train")) & questions(task.pairs("dev"))
        assert task.scored_splits == ("train", "dev") and "quora-dev.csv" not in task.accounts
    small = get_task("paraphrase", data, fold=Fold(1, 4, (2,)), limits={"train": 9, "dev": 5})
    assert len(small.pairs("train")) == 9 and set(small.pairs("dev")) < set(dev[1])
    assert not questions(small.pairs("train")) & questions(dev[1] + dev[2])
    account = account_for(small)["files"]["quora-train.csv"]
    assert account["used"] == 14 and account["skipped"]["in fold 2, held back"] == len(dev[2])


def test_question_groups_are_the_components_of_their_graph():
    generator = np.random.default_rng(0)
    pairs = [QuestionPair(f"Q {a}?", f"q {b}", True) for a, b in generator.integers(0, 60, (50, 2))]
    groups, names = question_groups(pairs), [questions([pair]) for pair in pairs]
    for i, reached in enumerate(names):
        grown = set()
        while grown != reached:
            grown = reached
            reached = reached.union(*(name for name in names if name & reached))
        assert (groups == groups[i]).tolist() == [name <= reached for name in names]
    assert 1 < len(set(groups)) < 50


def rows(*prompts: str) -> list[dict]:
    return [{"prompt": p, "chosen": f" yes {n}", "rejected": " no"} for n, p in enumerate(prompts)]


def test_own_rows_are_folded_by_what_they_share():
    own = rows(*(f"What is {n // 2}?" for n in range(40)))
    tasks = [from_rows("preference", own, fold=Fold(k, 4)) for k in range(4)]
    dev = [list(task.examples("dev")) for task in tasks]
    assert [len(examples) for examples in dev] == 4 * [10]
    assert len({example.prompt for examples in dev for example in examples}) == 20
    for task, examples in zip(tasks, dev):
        prompts = {example.prompt for example in task.examples("train")}
        assert len(prompts) == 15 and not prompts & {example.prompt for example in examples}
    back = from_rows("preference", own, fold=Fold(0, 4, (1,)))
    assert len(back.examples("train")) == 20
    with pytest.raises(InputError, match="got --dev or --test beside --folds"):
        from_rows("preference", own, dev=0.2, fold=Fold(0, 4))
    with pytest.raises(InputError, match="make 20 groups that share no text; expected at least 30"):
        from_rows("preference", own, fold=Fold(0, 30))


def test_every_seed_and_arm_reads_the_same_fold():
    shared = {"folds": K, "fold": 2, "train_examples": 50}
    configs = [make_config(**shared), make_config(**shared, seed=5, parameterization="lora")]
    hashes = {data_hash(read_task(config)) for config in configs}
    assert len(hashes) == 1
    assert hashes != {data_hash(read_task(make_config(**shared | {"fold": 3})))}


def test_recorded_options_are_as_before_without_folds():
    assert not {"folds", "fold", "held_back"} & identity(Config()).keys()
    told = identity(make_config(folds=7, fold=0))
    assert (told["folds"], told["fold"]) == (7, 0) and "held_back" not in told


@pytest.mark.parametrize(
    "flags, message",
    [
        ("--folds 7", "--folds is 7 and --fold None; expected both --folds and"),
        ("--fold 1", "expected both --folds and --fold, or none of them"),
        ("--folds 7 --fold 7", "--fold is 7; expected 0 to 6, as --folds is 7"),
        ("--folds 7 --fold 1 --held-back 7", "--held-back is 7; expected 0 to 6"),
        ("--folds 7 --fold 1 --held-back 1", "--fold and --held-back are both 1"),
        ("--folds 2 --fold 0 --held-back 1", "expected one to train on beside the others"),
        ("--folds 200 --fold 0", "make 152 groups that share no text; expected at least 200"),
    ],
)
def test_folds_without_sense_are_one_sentence(flags, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as exit:
        handoff.main(["--device", "cpu", *flags.split()])
    error = capsys.readouterr().err
    assert exit.value.code == 2 and message in error and error.count("\n") == 1
    assert not list(tmp_path.iterdir())
