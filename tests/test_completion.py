"""Completions of one's own: rows and running text, cuts and blocks, scores, floors and pairs."""

import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch

from experiments import handoff
from experiments.run.reading import account_for, account_lines
from minigpt import GPT, GPTConfig, get_tokenizer, save_pretrained
from minigpt.errors import InputError
from objectives.sequences import token_blocks, tokenise
from tasks import build_pairs, from_rows, get_task
from tasks.base import Written
from tasks.own.passages import MARK, PASSAGE, beginning, cut, documents, parts
from tasks.own.writing import shuffled, writing_scores, writing_statistics
from tests.conftest import oracle

CASES = Path(__file__).parent / "cases"
COMPLETIONS = CASES / "own-data" / "completions.jsonl"
TOKENIZER = get_tokenizer("verse")
FLAGS = ["--epochs", "2", "--switch-epoch", "1", "--device", "cpu", "--task", "completion"]


@pytest.fixture(scope="module")
def model() -> GPT:
    config = GPTConfig(vocab_size=16384, n_positions=64, n_layer=2, n_head=2, n_embd=16)
    return GPT(config, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def folder(model, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("model")
    save_pretrained(model, folder, "hugging_face")
    return folder


def rows(n=20) -> list[dict]:
    return [{"prompt": f"Write {i}:", "completion": f" The {i} of us\nare here."} for i in range(n)]


def book(n=40) -> str:
    """A text of many short paragraphs, some of several lines."""
    lines = [f"In chapter {i} the {i * i} of us are here.\nAnd there are more." for i in range(n)]
    return "\n\n".join(lines)


def evaluate(task, model, split="dev"):
    return task.evaluate(model, TOKENIZER, split, generator=torch.Generator().manual_seed(0))


@pytest.mark.parity
def test_bits_per_character_are_those_of_transformers(model, folder):
    transformers = oracle("transformers")
    theirs = transformers.AutoModelForCausalLM.from_pretrained(folder)
    task = from_rows("completion", rows())
    examples = task.examples("dev")
    nats = {True: 0.0, False: 0.0}
    for example in examples:
        prompt = TOKENIZER.encode(example.prompt)
        for end_of_text in nats:
            answer = TOKENIZER.encode(example.completion) + [TOKENIZER.eot] * end_of_text
            labels = torch.tensor([[-100] * len(prompt) + answer])
            with torch.no_grad():
                loss = theirs(torch.tensor([prompt + answer]), labels=labels).loss.item()
            nats[end_of_text] += loss * len(answer)
    characters = sum(len(example.completion) for example in examples)
    scores = evaluate(task, model).scores
    for name, end_of_text in (("bits_per_char", True), ("bits_per_char_text", False)):
        expected = nats[end_of_text] / np.log(2) / characters
        assert scores[name] == pytest.approx(expected, abs=1e-4)
    alone = task.evaluate_headline(model, TOKENIZER, "dev", generator=torch.Generator())
    assert alone.scores == {"bits_per_char": scores["bits_per_char"]}


def test_samples_are_scored_by_sacrebleu():
    sacrebleu = pytest.importorskip("sacrebleu")
    examples = from_rows("completion", rows()).examples("train")[:5]
    written = [f" The {i} of them are\nhere, are here." for i in range(10)]  # two of each
    scores = []
    for half in (written[::2], written[1::2]):
        chrf = sacrebleu.corpus_chrf(half, [[e.completion for e in examples]])
        scores.append(chrf.score)
    found = writing_statistics(examples, written)["chrf"]
    task = from_rows("completion", rows())
    assert task.metrics["chrf"].of(found).value == pytest.approx(np.mean(scores))


def test_distinct_pairs_by_hand():
    (example, *_) = from_rows("completion", rows()).examples("train")
    scores = writing_scores([example] * 2, ["a b a b, a B", "one two three"])
    assert scores["distinct"] == (2 + 2) / (5 + 2)


@pytest.mark.parametrize("text", [book(), "word " * 500, "x" * 2000, "a\n" * 900, "short"])
def test_what_is_cut_is_whole_again(text):
    pieces = list(cut(text))
    assert "".join(pieces) == text and max(map(len, pieces)) <= PASSAGE
    for piece in pieces[:-1]:
        assert len(piece) >= PASSAGE // 2
    for piece in pieces:
        prompt = beginning(piece)
        assert piece.startswith(prompt) and len(prompt) >= len(piece) // 4


def test_passages_end_with_a_blank_line_a_line_or_a_word():
    assert [piece[-2:] for piece in cut(book())][:-1] == ["\n\n"] * 3
    assert all(piece[-1:] == "\n" for piece in cut("a b\n" * 400))
    assert all(piece.startswith(" word") for piece in list(cut("word " * 500))[1:])
    assert beginning("To be, or not to be") == "To be,"
    assert beginning("First line\nSecond line, and more of it.") == "First line\n"


def test_documents_are_files_or_what_marks_part():
    assert documents(["a\n\nb", f" {MARK}\nc\r\nd\n{MARK}\n", ""]) == ["a\n\nb", "c\nd"]
    assert "".join(parts(book())) == book() and 20 <= len(parts(book())) <= 40


def test_every_token_of_the_text_is_scored_once_with_the_one_before_it():
    tokens = list(range(1, 24))
    blocks = token_blocks([tokens[:10], tokens[10:]], TOKENIZER, n_positions=8)
    split = [tuple(map(list, blocks.split(i))) for i in range(len(blocks))]
    assert split == [([TOKENIZER.eot], tokens[:8]), ([8], tokens[8:16]), ([16], tokens[16:])]
    with pytest.raises(InputError, match="no text to cut"):
        token_blocks([], TOKENIZER, n_positions=8)


def test_sft_reads_whole_documents_and_end_of_text_behind_each(tmp_path):
    texts = [book(n) for n in (30, 35, 40, 45)]
    for i, text in enumerate(texts):
        (tmp_path / f"{i}.txt").write_text(text)
    task = get_task("completion", tmp_path)
    sequences = task.training_sequences(TOKENIZER, 64)
    tokens = [t for i in range(len(sequences)) for t in sequences.split(i)[1].tolist()]
    read = TOKENIZER.decode(tokens).split(MARK)
    assert read[-1] == "" and len(read) == 3 and set(read[:-1]) < set(texts)
    assert len(sequences) == -(-len(tokens) // 64)
    held_out = [task.contents(split) for split in ("dev", "test")]
    whole = ["".join(p + c for p, c, _ in contents) for contents in held_out]
    assert sorted([*read[:-1], *whole]) == sorted(texts)  # each document on one side
    assert not task.end_of_text


def test_where_passages_are_left_out_the_text_ends():
    task = from_rows("completion", [{"text": book()}, {"text": "A b."}], dev=rows_of_text(3))
    assert len(task.examples("train")) == 5  # four passages of the first
    task = from_rows("completion", [{"text": book()}], dev=rows_of_text(3), limits={"train": 2})
    stream = list(task._stream(TOKENIZER))
    numbers = task._numbers["train"]
    assert stream.count([TOKENIZER.eot]) == 1 + (numbers[1] != numbers[0] + 1)


def rows_of_text(n):
    return [{"text": f"This is the text number {i}, no more."} for i in range(n)]


def test_columns_of_others_are_no_passages_of_ours():
    rows = [{"text": book(n)} for n in (20, 21, 22, 23, 24)]
    rows.append({"text": "", "passage": "a passage", "document": "d"})
    task = from_rows("completion", [*rows, {"text": "half a pair \ud83d of surrogates " * 9}])
    (account,) = task.accounts.values()
    assert account.skipped["empty text"] == account.skipped["not Unicode"] == 1


@pytest.mark.parametrize("form", ["marks", "book", "folder", "text.jsonl"])
def test_running_text_in_every_form(model, tmp_path, form):
    texts = [book(n) for n in (20, 21, 22, 23, 24)]
    data = tmp_path / "data.txt"
    if form == "folder":
        for i, text in enumerate(texts):
            (tmp_path / f"{i}.txt").write_text(text)
        data = tmp_path
    elif form == "text.jsonl":
        data = tmp_path / form
        data.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    else:
        data.write_text((f"\n{MARK}\n" if form == "marks" else "\n\n").join(texts))
    task = get_task("completion", data)
    account = account_for(task)
    told = "\n".join(account_lines(account))
    assert ("of documents, which files and" in told) == (form == "book")
    assert "passages of" in told and "passages are used" in told
    (file,) = account["files"].values()
    assert sum(account["examples"].values()) == file["used"] == file["rows"]
    scores = evaluate(task, model).scores
    assert set(scores) == {"bits_per_char", "chrf", "distinct"}


def test_what_does_not_fit_is_cut_and_its_characters_do_not_count(model):
    long = {"prompt": "word " * 90, "completion": " word" * 90}
    fits = {"prompt": "word", "completion": " word" * 30}
    task = from_rows("completion", rows(), dev=[long, fits])
    statistics = evaluate(task, model).metrics["bits_per_char_text"].statistics
    assert sorted(statistics[:, 1]) == [30 * 5, 64 * 5]
    task.check_fit(TOKENIZER, 64)
    (note,) = [note for note in task.accounts["rows for dev"].notes if "cut" in note]
    assert note.startswith("1 of 2 examples for dev are cut to fit")
    assert len(task.sample(model, TOKENIZER, [long["prompt"]], generator=torch.Generator())) == 1


def test_intervals_are_over_prompts(model):
    again = [{"prompt": "Write 1:", "completion": " More of us."}] * 3
    task = from_rows("completion", rows(), dev=rows(4) + again)
    metrics = evaluate(task, model).grouped(task.groups("dev"))
    assert {len(metric.statistics) for metric in metrics.values()} == {4}
    assert metrics["distinct"].statistics.sum(axis=0)[1] >= 7


def test_floors_and_ceilings():
    task = from_rows("completion", rows())
    floors = task.floors("dev", generator=np.random.default_rng(0))
    assert [*floors] == ["random completion", "prompt again"]
    assert floors["random completion"]["chrf"] > floors["prompt again"]["chrf"]
    assert floors["random completion"]["chrf_sd"] > 0
    assert task.ceilings("dev")["gold"]["chrf"] == pytest.approx(100)


def test_a_shuffled_text_has_the_same_lines_or_words():
    generator = torch.Generator().manual_seed(0)
    lines = "one of\ntwo of\n\nthree of\nfour of\n"
    other = shuffled(lines, generator)
    assert other != lines and Counter(other.split("\n")) == Counter(lines.split("\n"))
    assert other.endswith("\n") and other.count("\n\n") == 1
    line = " a few words, no more\n"
    other = shuffled(line, generator)
    assert other != line and other[0] == " "
    assert Counter(other.split()) == Counter(line.split()) and other[-1] == "\n"
    for text in ("a\nb\n", "two words", "same same", "one"):
        others = {shuffled(text, generator) for _ in range(9)}
        assert len(others) == 1 and (others == {text}) == (text in ("same same", "one"))


@pytest.mark.parametrize("name", ["gold-vs-sample", "gold-vs-corrupted", "best-vs-worst"])
def test_pairs(model, name):
    task = from_rows("completion", rows())
    examples = task.examples("train")[:4]
    made = build_pairs(
        name,
        task,
        model,
        TOKENIZER,
        examples,
        generator=torch.Generator().manual_seed(0),
        n_samples=2,
    )
    pairs = [pair for pair, _ in made]
    assert [pair.prompt for pair in pairs] == [example.prompt for example in examples]
    if name != "best-vs-worst":
        assert [pair.chosen for pair in pairs] == [example.completion for example in examples]


def test_empty_samples_make_no_pair_where_no_end_of_text_is_scored(model, monkeypatch):
    rows_task, text_task = (from_rows("completion", data) for data in (rows(), rows_of_text(20)))
    for task, ends, n_pairs in ((rows_task, True, 2), (rows_task, False, 1), (text_task, True, 1)):
        written = [Written("", ends), Written(" one", ends)]
        monkeypatch.setattr("tasks.own.completion.sample_texts", lambda *_, w=written, **__: w)
        examples = task.examples("train")[:2]
        pairs = build_pairs(
            "gold-vs-sample", task, model, TOKENIZER, examples, generator=torch.Generator()
        )
        assert len(pairs) == n_pairs


def test_prompts_beside_running_text_are_counted():
    task = from_rows("completion", [*rows_of_text(20), *rows(1)])
    (account,) = task.accounts.values()
    assert account.skipped == {"a prompt, where the first row is running text": 1}
    task = from_rows("completion", [{"prompt": "a"}, *rows(20)])  # a first row without use
    (account,) = task.accounts.values()
    assert account.skipped == {"no completion": 1} and account.used == 20


def test_rows_without_use_are_counted():
    bad = [
        {"prompt": " ", "completion": "a"},
        {"prompt": "b", "completion": "\n"},
        {"prompt": "c", "completion": None},
        {"prompt": "d"},
    ]
    task = from_rows("completion", rows(40) + bad)
    (account,) = task.accounts.values()
    assert account.used == 40
    assert account.skipped == {"empty prompt": 1, "empty completion": 1, "no completion": 2}
    task = from_rows("completion", [*rows_of_text(20), {"text": "word"}, {"text": " "}])
    (account,) = task.accounts.values()
    assert account.used == 20
    assert account.skipped == {"too short to be cut in two": 1, "empty text": 1}


@pytest.mark.parametrize(
    "content, name, message",
    [
        ('{"prompt": "a", "answer": "b"}\n', "a.jsonl", "there is no completion"),
        ("", "a.txt", "it is empty"),
        (MARK, "a.txt", "it is empty"),
        (b"caf\xe9 and more", "a.txt", "line 1: byte 0xe9 is not UTF-8"),
        ('{"text": "The only one of all."}\n', "a.jsonl", "make 1 groups"),
    ],
)
def test_bad_files_are_one_sentence(tmp_path, content, name, message):
    path = tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(InputError, match=message):
        get_task("completion", path)


def test_a_file_with_odd_lines_loses_only_those(tmp_path):
    lines = [json.dumps(row).encode() for row in rows(300)]
    lines[10] = b'{"prompt": "a", "completion": "never clo'
    lines[20] = '{"prompt": "Café", "completion": "b"}'.encode("latin-1")
    lines[30] = json.dumps({"prompt": "a", "completion": "long " * 400_000}).encode()  # 2 MB
    path = tmp_path / "odd.jsonl"
    path.write_bytes(b"\n".join(lines))
    task = get_task("completion", path, dev="0.1", test="0")
    account = task.accounts["odd.jsonl"]
    assert account.used == 298 and account.rows == 300
    assert account.skipped == {"not JSON": 1, "not UTF-8": 1}
    sequences = [
        tokenise(task.examples(split), TOKENIZER, n_positions=64, end_of_text=True)
        for split in task.scored_splits
    ]
    assert (
        sum(s.truncated for s in sequences) == 1 and max(s.lengths.max() for s in sequences) == 65
    )


@pytest.mark.parametrize("options", [{"n_samples": 0}, {"temperature": -1}, {"top_p": 0}])
def test_options_out_of_range(options):
    with pytest.raises(InputError, match=f"{next(iter(options))} is"):
        from_rows("completion", rows(), **options)


@pytest.mark.slow
@pytest.mark.parametrize("form", ["rows", "text"])
def test_a_run_from_the_command_line_and_from_rows(folder, tmp_path, form):
    text = [book(n) for n in (8, 9, 10, 11)]
    data = COMPLETIONS if form == "rows" else tmp_path / "data.txt"
    if form == "text":
        data.write_text(MARK.join(text))
    common = ["--model", str(folder), "--data", str(data), "--out", str(tmp_path / "run")]
    handoff.main([*FLAGS, *common])
    record = json.loads((tmp_path / "run" / "run.json").read_text())
    assert record["status"] == "finished" and (tmp_path / "run" / "curves.png").is_file()
    given = [json.loads(line) for line in COMPLETIONS.read_text().splitlines()]
    if form == "text":
        given = [{"text": document} for document in text]
    config = handoff.Config(
        model=str(folder), epochs=2, switch_epoch=1, device="cpu", out=tmp_path / "rows"
    )
    result = handoff.run(config, from_rows("completion", given))
    assert result.last["scores"] == record["last"]["scores"] and result.test == record["test"]
