"""The task of given preferences, from files and from rows in memory, beside TRL."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from experiments import handoff
from experiments.run.config import Config, identity, make_config
from experiments.run.data import dpo_data
from experiments.run.flags import RowsConfig
from experiments.run.reference_cache import weights_fingerprint
from minigpt import GPT, GPTConfig, get_tokenizer, save_pretrained
from minigpt.errors import InputError
from objectives import PreferenceConfig
from tasks import PreferencePair, from_rows, get_task
from tasks.likelihood import bits_per_char
from tasks.own.conversation import render, shared_prompt
from tests.conftest import oracle

CASES = Path(__file__).parent / "cases" / "own-data"
NAMES = [
    "preferences",
    "preferences-implicit-prompt",
    "preferences-conversations",
    "preferences-one-side-empty",
]
SHAPE = GPTConfig(vocab_size=16384, n_positions=64, n_layer=2, n_head=2, n_embd=16)
TEMPLATE = (
    "{% for m in messages %}{% if not loop.first %}{{ '\n\n' }}{% endif %}"
    "{{ m['role'] | capitalize }}: {{ m['content'] }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '\n\nAssistant:' }}{% else %}{{ eos_token }}{% endif %}"
)


def tiny(seed: int = 0) -> GPT:
    return GPT(SHAPE, generator=torch.Generator().manual_seed(seed)).eval()


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("model")
    save_pretrained(tiny(), folder, "hugging_face")
    return folder


def rows_of(name: str) -> list[dict]:
    return [json.loads(line) for line in (CASES / f"{name}.jsonl").read_text().splitlines()]


def small(model: Path, out: Path, **options) -> Config:
    defaults = {"task": "preference", "epochs": 2, "switch_epoch": 1, "device": "cpu"}
    return make_config(**{**defaults, "model": str(model), "out": out, **options})


def pairs_of(task, split: str) -> list[PreferencePair]:
    maker = task.preferences["given"]
    return maker(task.examples(split), None)  # nothing is drawn


@pytest.mark.parametrize("name", NAMES)
def test_a_file_and_its_rows_in_memory_make_the_same_task(name):
    path = CASES / f"{name}.jsonl"
    ours, theirs = get_task("preference", path), from_rows("preference", rows_of(name))
    for split in ("train", "dev", "test"):
        assert pairs_of(ours, split) == pairs_of(theirs, split)
        assert len(pairs_of(ours, split)) == len(ours.examples(split)) > 0
    skipped = {"empty rejected": 1} if name.endswith("empty") else {}
    assert ours.accounts[path.name].skipped == theirs.accounts["rows for train"].skipped == skipped


def test_what_the_rows_say_is_what_is_learnt():
    plain = from_rows("preference", rows_of("preferences"))
    implicit = from_rows("preference", rows_of("preferences-implicit-prompt"))
    spoken = from_rows("preference", rows_of("preferences-conversations"))
    rows = {(r["prompt"], r["chosen"], r["rejected"]) for r in rows_of("preferences")}
    found = {pair[:3] for split in ("train", "dev", "test") for pair in pairs_of(plain, split)}
    assert found == rows
    assert pairs_of(implicit, "train") == pairs_of(plain, "train")
    assert ("User: Write one line about tea.\n\nAssistant:", " tea is nice.") in {
        (pair.prompt, pair.rejected)
        for s in ("train", "dev", "test")
        for pair in pairs_of(spoken, s)
    }


def test_a_conversation_is_rendered_by_one_template():
    asked = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Capital?"}]
    answers = [{"role": "assistant", "content": "Paris"}, {"role": "user", "content": "Sure?"}]
    prompt, completion = render(asked, answers)
    assert prompt == "System: Be brief.\n\nUser: Capital?\n\nAssistant:"
    assert completion == " Paris\n\nUser: Sure?"
    # A prompt inside both sides, beside a column that repeats it as text, as UltraFeedback has it.
    other = [*asked, {"role": "assistant", "content": "Lyon"}]
    row = {"prompt": "Capital?", "chosen": asked + answers[:1], "rejected": other}
    rows = [row | {"chosen": [*row["chosen"], {"role": "user", "content": str(n)}]} for n in "abc"]
    (pair, *_) = pairs_of(from_rows("preference", rows[:1], dev=rows[1:2]), "train")
    assert pair[:3] == (prompt, " Paris\n\nUser: a", " Lyon")


WORDS = [
    "The",
    " the",
    "\n",
    "\n\n",
    " ",
    "  ",
    "can't",
    "12",
    " 3",
    "...",
    "!",
    "é",
    "\t",
    "un",
    "x",
]


@pytest.mark.parametrize("size", [16384, 50257])
def test_an_implicit_prompt_leaves_the_tokens_of_the_whole_texts(size):
    tokenizer = get_tokenizer("verse" if size < 50_000 else "gpt2")
    generator, cut = np.random.default_rng(0), 0
    for _ in range(300):
        begin, one, other = ("".join(generator.choice(WORDS, n)) for n in (6, 3, 3))
        texts = begin + one, begin + other
        end = shared_prompt(*texts)
        for text in texts:
            prompt, completion = text[:end], text[end:]
            assert tokenizer.encode(prompt) + tokenizer.encode(completion) == tokenizer.encode(text)
        assert texts[0][:end] == texts[1][:end] and end > 0
        cut += end < len(begin)
    assert 50 < cut < 300
    # The longest such prefix that ends with a word: one word more is no longer common.
    assert shared_prompt("Say it: unhappy", "Say it: unlucky") == len("Say it:")
    assert shared_prompt("abc", "abd") == 0


def test_rows_of_no_use_are_skipped_counted_and_told():
    good = {"prompt": "Why?", "chosen": " so", "rejected": " no"}
    message = [{"role": "assistant", "content": "so"}]
    bad = [
        ({"chosen": "  "}, "empty chosen"),
        ({"rejected": ""}, "empty rejected"),
        ({"prompt": ""}, "empty prompt"),
        ({"prompt": None}, "no prompt"),
        ({"chosen": " no"}, "chosen and rejected are equal"),
        ({"chosen": 3}, "chosen is not text"),
        ({"rejected": None}, "no rejected"),
        ({"prompt": ["Why?"]}, "prompt is not text"),
        ({"chosen": message}, "chosen is not text"),
        (
            {"prompt": None, "chosen": message, "rejected": message},
            "nothing but a prompt",
        ),
        ({"chosen": " \ud800"}, "not Unicode"),
    ]
    rows = [good] * 100 + [good | change for change, _ in bad]
    rows.append({"chosen": "so", "rejected": "no"})  # which have nothing in common
    task = from_rows("preference", rows, dev=rows[:1])
    account = task.accounts["rows for train"]
    assert account.used == 100 and account.rows == len(rows)
    reasons = [*(reason for _, reason in bad), "empty prompt"]
    assert account.skipped == {reason: reasons.count(reason) for reason in reasons}
    assert "empty chosen: first in row 101" in account.notes
    with pytest.raises(InputError, match="no row of use among 60 .empty rejected: first in row 1"):
        from_rows("preference", [good | {"rejected": ""}] * 60)


def test_scores_and_floors_are_those_written_out():
    model, tokenizer = tiny(), get_tokenizer(tiny())
    rows = [
        {"prompt": "One ", "chosen": "and two", "rejected": "three"},
        {"prompt": "One ", "chosen": "a", "rejected": "three, four, five"},
        {"prompt": "Six ", "chosen": "seven", "rejected": "eight"},
    ]
    task = from_rows("preference", rows, dev=rows)
    found = task.evaluate(model, tokenizer, "dev", generator=torch.Generator())
    scores = found.scores
    grouped = found.grouped(task.groups("dev"))
    for metric in grouped.values():  # an interval is over prompts, of which one has two pairs
        assert metric.statistics.shape == (2, 2)

    def nats(row: dict, side: str) -> tuple[float, int]:
        prompt, text = tokenizer.encode(row["prompt"]), tokenizer.encode(row[side])
        ids = torch.tensor([prompt + text + [tokenizer.eot]])
        logps = torch.log_softmax(model(ids[:, :-1]), dim=-1)[0]
        scored = range(len(prompt), ids.shape[1])
        return sum(logps[t - 1, ids[0, t]].item() for t in scored), len(scored)

    chosen, rejected = ([nats(row, side) for row in rows] for side in ("chosen", "rejected"))
    characters = sum(len(row["chosen"]) for row in rows)
    bits = -sum(logp for logp, _ in chosen) / np.log(2)
    assert scores["bits_per_char"] == pytest.approx(bits / characters, abs=1e-5)
    assert scores["bits_per_char"] == pytest.approx(
        bits_per_char(model, tokenizer, list(task.examples("dev"))).value, abs=1e-5
    )
    both = list(zip(chosen, rejected))
    assert scores["preference_accuracy"] == np.mean([a[0] > b[0] for a, b in both])
    assert scores["preference_accuracy_per_token"] == np.mean(
        [a[0] / a[1] > b[0] / b[1] for a, b in both]
    )
    assert task.floors("dev", generator=np.random.default_rng(0)) == {
        "longer wins": {"preference_accuracy": pytest.approx(1.5 / 3)},
        "shorter wins": {"preference_accuracy": pytest.approx(1.5 / 3)},
    }


def test_what_does_not_fit_is_cut_and_told():
    model, tokenizer = tiny(), get_tokenizer(tiny())
    long = " long" * 100
    rows = [{"prompt": f"{n}", "chosen": f" yes{long if n < 2 else ''}", "rejected": " no"}
            for n in range(8)]  # fmt: skip
    task = from_rows("preference", rows, dev=rows)
    task.check_fit(tokenizer, SHAPE.n_positions)
    notes = task.accounts["rows for dev"].notes
    assert notes[-2] == "chosen is longer in 100.0 % of dev (means: 129 and 3 characters)"
    assert notes[-1] == "2 chosen and 0 rejected sides for dev are cut to fit 64 tokens"
    metric = task.evaluate(model, tokenizer, "dev", generator=torch.Generator())
    characters = metric.metrics["bits_per_char"].statistics[:, 1]
    kept = len(tokenizer.decode(tokenizer.encode(rows[0]["chosen"])[: SHAPE.n_positions]))
    assert characters.tolist() == [kept, kept, 4, 4, 4, 4, 4, 4]


def test_the_plan_shows_lengths_lost_rows_and_shares(model, tmp_path, capsys):
    data = CASES / "preferences-one-side-empty.jsonl"
    plan = ["--task", "preference", "--data", str(data), "--model", str(model), "--dry-run"]
    handoff.main([*plan, "--train-examples", "20", "--dev-examples", "5", "--out", str(tmp_path)])
    printed = capsys.readouterr().out
    for shown in (
        "20 training examples",
        "tokens of an example: median",
        "examples   train 20, dev 5, test 5",
        "about 10 % dev, 10 % test by the hash",
        "1 rows of preferences-one-side-empty.jsonl: empty rejected",
        "empty rejected: first in line 8",
        "rows for train repeat another one",
        "chosen is longer in 100.0 % of dev (means: ",
        "given pairs, sigmoid loss",
    ):
        assert shown in printed


def test_options_that_a_task_does_not_take_are_refused(model):
    for options, match in [
        ({"task": "sonnet", "dev": "0.1"}, "the task 'sonnet' has no option 'dev'"),
        ({"temperature": 0.5, "train": "x.csv"}, "'preference' has no option 'temperature'"),
        ({}, "got neither of --data and --train"),
        ({"data": "x.csv", "pairs": "gold-vs-sample"}, "unknown pairs .* expected given"),
    ]:
        with pytest.raises(InputError, match=match):
            handoff.run(small(model, "x", **options))
    assert not Path("x").exists()


def test_recorded_options_are_as_before():
    found = identity(make_config())
    assert not {"train", "dev", "test", "rows"} & found.keys()
    assert identity(make_config(dev="0.2"))["dev"] == "0.2"
    assert make_config(**found, dev="0.2").rows == RowsConfig(dev="0.2")


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_a_run_from_the_command_line(name, model, tmp_path, capsys):
    out = tmp_path / "run"
    data = CASES / f"{name}.jsonl"
    files = ["--data", str(data), "--model", str(model), "--out", str(out)]
    options = "--task preference --epochs 2 --switch-epoch 1 --device cpu --dev 0.2"
    handoff.main([*files, *options.split()])
    printed = capsys.readouterr().out
    assert "chosen is longer in 100.0 % of dev" in printed and "preferred %" in printed
    record = json.loads((out / "run.json").read_text())
    assert record["config"]["dev"] == "0.2" and "train" not in record["config"]
    assert (out / "curves.png").is_file()
    assert "longer wins" in (out / "report.txt").read_text()
    pairs = [json.loads(line) for line in (out / "pairs.jsonl").read_text().splitlines()]
    task = get_task("preference", data, dev=0.2)
    assert pairs == [pair._asdict() for pair in pairs_of(task, "train")]


@pytest.mark.slow
def test_a_run_from_rows_goes_on_with_the_same_rows_only(model, tmp_path):
    rows = rows_of("preferences")
    task = from_rows("preference", rows, dev=0.2, limits={"train": 12})
    config = small(model, tmp_path / "run", task="sonnet")
    result = handoff.run(config, task=task)
    assert [record["phase"] for record in result.epochs] == ["untuned", "sft", "dpo"]
    assert json.loads((tmp_path / "run/run.json").read_text())["config"]["task"] == "preference"

    again = small(model, tmp_path / "run", resume=True)
    same = from_rows("preference", (row for row in rows), dev=0.2, limits={"train": 12})
    assert handoff.run(again, task=same).last["scores"] == result.last["scores"]
    worse = [row | {"rejected": row["rejected"] + "!"} for row in rows]
    for other in (worse, rows[:30]):
        task = from_rows("preference", other, dev=0.2, limits={"train": 12})
        with pytest.raises(InputError, match="the data has changed since"):
            handoff.run(again, task=task)
    with pytest.raises(InputError, match="dev_examples is 3 beside a task that has its data"):
        handoff.run(small(model, tmp_path / "x", dev_examples=3), task=task)
    assert not (tmp_path / "x").exists()


@pytest.mark.slow
@pytest.mark.parity
@pytest.mark.parametrize("name", NAMES[:3])
def test_tokens_log_probs_and_rewards_are_trls(name, tmp_path):
    """One step of TRL's DPOTrainer on the file's own rows, whose prompts end with a word."""
    trl, transformers = oracle("trl"), oracle("transformers")
    policy, reference = tiny(0), tiny(1)
    folders = [tmp_path / "policy", tmp_path / "reference"]
    for model, folder in zip((policy, reference), folders):
        save_pretrained(model, folder, "hugging_face")
    tokenizer = transformers.AutoTokenizer.from_pretrained(folders[0])
    tokenizer.chat_template, tokenizer.pad_token = TEMPLATE, tokenizer.eos_token
    rows = rows_of(name)[:10]
    trainer = trl.DPOTrainer(
        *(transformers.AutoModelForCausalLM.from_pretrained(folder) for folder in folders),
        processing_class=tokenizer,
        train_dataset=oracle("datasets").Dataset.from_list(rows),
        args=trl.DPOConfig(
            output_dir=str(tmp_path / "out"),
            per_device_train_batch_size=len(rows),
            max_steps=1,
            logging_steps=1,
            report_to=[],
            use_cpu=True,
            bf16=False,
            gradient_checkpointing=False,
            disable_tqdm=True,
            save_strategy="no",
            beta=0.3,
        ),
    )
    task = from_rows("preference", rows, dev=rows)
    pairs = pairs_of(task, "dev")
    theirs = trainer.train_dataset
    ours = get_tokenizer(policy)
    for pair, row in zip(pairs, theirs):
        assert ours.encode(pair.prompt) == row["prompt_ids"]
        assert [*ours.encode(pair.chosen), ours.eot] == row["chosen_ids"]
        assert [*ours.encode(pair.rejected), ours.eot] == row["rejected_ids"]

    trainer.train()
    logged = trainer.state.log_history[0]
    data = dpo_data(
        pairs,
        task,
        ours,
        reference,  # which computes its own log-probs
        preference=PreferenceConfig(beta=0.3),
        reference=weights_fingerprint(reference),
        precision="fp32",
        folder=tmp_path,
        share_prompts=True,
    )
    losses, metrics = data.objective(policy, data.batch(np.arange(len(pairs))))
    told = {"loss": losses, **metrics}
    assert told.pop("weights").shape == (len(pairs),)  # of which TRL says nothing
    assert len(told) == 7
    for metric, values in told.items():
        assert values.mean().item() == pytest.approx(float(logged[metric]), abs=1e-4), metric
