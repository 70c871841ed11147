"""Damaged files of every format: an InputError in a sentence, or a load that is right.

Seeded. `--fuzz N` says how many damaged files of each format are tried. A case that raises another
exception, does not end, takes memory beyond the file's own size or loads other content than the
file's unharmed names, shapes and hashes allow is told by its number.
"""

import random
import resource
import signal
import time
from collections.abc import Callable
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import pytest

from minigpt import save_pretrained
from minigpt.errors import InputError
from minigpt.weights import tensor_bundle
from tasks.paraphrase.quora import OFFICIAL_FILE, read_pairs
from tests import fuzz_models as models
from tests import fuzz_runs as runs
from tests import fuzz_texts as texts
from tests.mutations import damage
from tests.tensorflow_checkpoint import write_checkpoint

FEW = 10  # cases of a format in every run of the tests
CPU_SECONDS = 3  # of one case, most of which take a hundredth of one
WALL_SECONDS = 60
EXTRA_MEMORY = 100 << 20  # bytes, of all cases of a format together; their files have 100 kB
EXTRA_SPACE = 1 << 30  # bytes of address space, which a wild size in a file would exceed
LONGEST = 600  # characters of a message, without the path of the folder


class Format(NamedTuple):
    """One kind of file or folder."""

    make: Callable[[Path], None]  # into an empty folder
    check: Callable[[Path, str], None]  # the folder, and the name of the file that was damaged
    damaged: str = "*"  # the files that are damaged, as a glob
    refused: tuple[float, float] = (0.25, 1.0)  # the share of the cases, at least and at most


HASHED = (0.8, 1.0)
TEXT = (0.05, 0.75)  # most of which can be read, whatever is done to a row or a sonnet


def make_native(folder: Path) -> None:
    save_pretrained(models.random_model(), folder)


def make_openai(folder: Path) -> None:
    write_checkpoint(models.random_model(), folder)


FORMATS = {
    "native": Format(make_native, models.check_native, refused=HASHED),
    "hugging_face": Format(models.make_hugging_face, models.check_hugging_face),
    "sharded": Format(models.make_sharded, models.check_hugging_face),
    "openai": Format(make_openai, models.check_openai, refused=HASHED),
    "openai with new sums": Format(make_openai, models.check_openai_with_new_sums),
    "adapter": Format(models.make_adapter, models.check_adapter),
    "tokenizer.json": Format(models.make_tokenizer, models.check_tokenizer, "tokenizer*"),
    "vocab.json": Format(models.make_vocabulary, models.check_tokenizer, "[vm]*[bs].*"),
    "checkpoint": Format(runs.make_checkpoint, runs.check_checkpoint, refused=HASHED),
    "reference cache": Format(runs.make_cache, runs.check_cache, refused=HASHED),
    "pairs.jsonl": Format(runs.make_pairs, runs.check_pairs, refused=HASHED),
    "pairs.jsonl of before": Format(runs.make_pairs, runs.check_pairs_of_before),
    "run": Format(runs.make_run, runs.check_run, "[!l]*"),
    "run of before": Format(runs.make_run_of_before, runs.check_run_of_before, "[!l]*"),
    "question pairs": Format(texts.make_pairs, texts.check_pairs, refused=TEXT),
    "quoted question pairs": Format(texts.make_quoted_pairs, texts.check_pairs, refused=TEXT),
    "sonnets": Format(texts.make_sonnets, texts.check_sonnets, refused=TEXT),
} | {
    name: Format(texts.make_rows(name), texts.check_rows, refused=(0.0, 0.75))
    for name in ("preferences.jsonl", "sentiment.csv", "pairs-with-label-column.tsv")
}
every_format = pytest.mark.parametrize("name", FORMATS)


@every_format
def test_a_few_damaged_files(name, tmp_path, monkeypatch):
    try_cases(name, FEW, tmp_path, monkeypatch)


@pytest.mark.slow
@every_format
def test_many_damaged_files(name, tmp_path, monkeypatch, request):
    cases = request.config.getoption("--fuzz")
    refused = try_cases(name, cases, tmp_path, monkeypatch)
    least, most = FORMATS[name].refused
    assert least * cases <= refused <= most * cases


def try_cases(name: str, cases: int, folder: Path, monkeypatch) -> int:
    """Return how many of the damaged folders were refused; fails at one that is not read right."""
    format = FORMATS[name]
    format.make(folder)
    if "new sums" in name:
        monkeypatch.setattr(tensor_bundle, "masked_crc32c", lambda data: AnySum())
    sound = {path: path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}
    damaged = [path for path in sound if path.relative_to(folder).match(format.damaged)]
    format.check(folder, "")
    restore(folder, sound)
    before, refused = peak_memory(), 0
    for case in range(cases):
        rng = random.Random(f"{name} {case}")
        path = rng.choice(damaged)
        content = damage(rng, path.name, sound[path])
        path.write_bytes(content)
        try:
            with within_bounds():
                format.check(folder, path.name)
        except InputError as error:
            refused += 1
            check_message(error, folder)
        except BaseException as error:
            error.add_note(f"case {case} of {name}, {path.name}: {content[:300]!r}")
            raise
        restore(folder, sound)
    assert peak_memory() - before < EXTRA_MEMORY
    format.check(folder, "")
    return refused


def check_message(error: InputError, folder: Path) -> None:
    """One sentence of a person's, and not for want of memory, as a wild size would have it."""
    message = str(error).replace(str(folder), "")
    assert len(message) <= LONGEST and message.isprintable(), message
    cause = error
    while cause := cause.__cause__ or cause.__context__:
        assert not isinstance(cause, MemoryError) and "allocat" not in str(cause), message


def restore(folder: Path, sound: dict[Path, bytes]) -> None:
    """Make the folder again what it was, whatever a check has left there."""
    for path in folder.rglob("*"):
        if path.is_file() and path not in sound:
            path.unlink()
    for path, content in sound.items():
        path.write_bytes(content)


class AnySum:
    """A checksum that fits: whoever changed the bytes has made it anew."""

    def __ne__(self, other: object) -> bool:
        return False


@contextmanager
def within_bounds():
    """End a case that hangs or wants wild amounts of memory; fail one that computes for long."""

    def end(*_):
        raise AssertionError(f"a case takes more than {WALL_SECONDS} seconds")

    handler, limit = signal.signal(signal.SIGALRM, end), resource.getrlimit(resource.RLIMIT_AS)
    start = time.process_time()
    signal.alarm(WALL_SECONDS)
    resource.setrlimit(resource.RLIMIT_AS, (address_space() + EXTRA_SPACE, limit[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, limit)
        signal.alarm(0)
        signal.signal(signal.SIGALRM, handler)
    assert time.process_time() - start < CPU_SECONDS


def address_space() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    return pages * resource.getpagesize()


def peak_memory() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def test_one_stray_quote_anywhere_costs_at_most_its_own_row(tmp_path, request):
    """Whatever stands after it is read as it was."""
    source = (texts.CASES / "quora-one-stray-quote" / OFFICIAL_FILE).read_text(encoding="utf-8")
    text, path = source.replace('"', ""), tmp_path / "pairs.tsv"
    path.write_text(text, encoding="utf-8")
    whole, _ = read_pairs(path)
    rng, start = random.Random(0), text.index("\n") + 1
    for _ in range(request.config.getoption("--fuzz")):
        at = rng.randrange(start, len(text))
        path.write_text(text[:at] + '"' + text[at:], encoding="utf-8")
        pairs, account = read_pairs(path)
        assert account.rows == 120 and account.used >= 119
        row = text.count("\n", 0, at) - 1
        assert pairs[:row] == whole[:row]
        assert pairs[len(pairs) - (119 - row) :] == whole[row + 1 :]
