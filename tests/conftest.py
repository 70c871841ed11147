"""What several test modules share: oracles, tiny models, a run; no network, one thread."""

import importlib
import os
import shutil
from pathlib import Path

import pytest
import torch

from experiments import handoff
from experiments.run.config import make_config
from minigpt import GPT, GPTConfig, download, get_tokenizer, save_pretrained

CASES = Path(__file__).parent / "cases"  # files of every odd shape, made up

# A second thread would mostly wait, as the models are that small, and under `-n` the workers share
# the cores already. The variable is for the processes that tests start.
torch.set_num_threads(1)
os.environ["OMP_NUM_THREADS"] = "1"

DOWNLOAD = download._download


def pytest_addoption(parser):
    parser.addoption(
        "--fuzz", type=int, default=300, metavar="N", help="damaged files of each format"
    )


def pytest_collection_modifyitems(items):
    """Begin with what takes long, so that at the end no core waits for another."""
    items.sort(key=lambda item: item.get_closest_marker("slow") is None)


def oracle(name: str):
    """Import an independent implementation to test against.

    Without it the test module is skipped by name; in CI a missing oracle is a failure, since a
    test that quietly compares with nothing proves nothing. Tests that call this are marked parity.
    """
    if os.environ.get("CI"):
        return importlib.import_module(name)
    return pytest.importorskip(name)


def need_program(name: str) -> None:
    """Skip the test, or fail it in CI, where a program is missing that pip does not install."""
    if shutil.which(name) is None:
        missing = pytest.fail if os.environ.get("CI") else pytest.skip
        missing(f"the program {name} is not installed")


@pytest.fixture(scope="session", autouse=True)
def no_network(tmp_path_factory):
    """Keep every test off the network and the user's downloads, unless it asks for `downloads`."""

    def refuse(url, *_):
        pytest.fail(f"a test fetches {url}; expected no network")

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MINIGPT_CACHE", str(tmp_path_factory.mktemp("cache")))
        patch.setenv("https_proxy", "http://127.0.0.1:9")  # nobody listens; for other processes
        patch.setattr(download, "_download", refuse)
        yield


@pytest.fixture
def downloads(monkeypatch):
    """Fetching as it is, for a test with a server of its own."""
    monkeypatch.setattr(download, "_download", DOWNLOAD)


@pytest.fixture(scope="session")
def model(tmp_path_factory) -> Path:
    """A folder with a model that trains in a moment, under the verse model's vocabulary.

    Every few tokens it ends the text, so that its sonnets are soon written.
    """
    shape = GPTConfig(vocab_size=16384, n_positions=256, n_layer=1, n_head=2, n_embd=16)
    gpt = GPT(shape, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        end = gpt.wte.weight[get_tokenizer("verse").eot].mul_(5)
        gpt.ln_f.bias += 9 * end / end.square().sum()  # 9 is added to the logit of end-of-text
    folder = tmp_path_factory.mktemp("tiny")
    save_pretrained(gpt, folder)
    return folder


@pytest.fixture(scope="session")
def small_model(tmp_path_factory) -> Path:
    """A model of two layers with the verse model's vocabulary."""
    shape = GPTConfig(vocab_size=16384, n_positions=256, n_layer=2, n_head=2, n_embd=16)
    folder = tmp_path_factory.mktemp("small") / "model"
    save_pretrained(GPT(shape, generator=torch.Generator().manual_seed(0)), folder)
    return folder


@pytest.fixture(scope="session")
def lora_run(small_model, tmp_path_factory) -> Path:
    """A finished run of LoRA on a few question pairs: SFT, then DPO. Not to be changed."""
    folder = tmp_path_factory.mktemp("runs") / "lora"
    handoff.run(
        make_config(
            task="paraphrase",
            data=str(CASES / "quora-unlabelled-test"),
            model=str(small_model),
            out=folder,
            parameterization="lora",
            epochs=2,
            switch_epoch=1,
            train_examples=32,
            dev_examples=8,
            sft_learning_rate=0.05,  # for the adapters to show in the logits
            dpo_learning_rate=0.02,
            batch_size=16,
            device="cpu",
        )
    )
    return folder
