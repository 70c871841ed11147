"""Damaged files of a run are refused in one sentence, before a number of theirs is used."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from experiments.run.checkpoint import load_checkpoint, read_progress, save_checkpoint
from experiments.run.evaluation import load_statistics, save_statistics
from experiments.run.handover import load_pairs, save_pairs
from experiments.run.hashed_tensors import KEY, load_hashed, save_hashed
from experiments.run.reference_cache import load_or_compute
from minigpt.errors import InputError
from tasks import PreferencePair, get_task
from tests.fuzz_runs import trained

NAME = "h.0.attn.c_attn.weight"
EXP_AVG, EXP_AVG_SQ = f"optimizer/exp_avg/{NAME}", f"optimizer/exp_avg_sq/{NAME}"
STEP, WEIGHT = f"optimizer/step/{NAME}", f"model/{NAME}"


@pytest.fixture
def checkpoint(tmp_path):
    path = tmp_path / "checkpoint.safetensors"
    save_checkpoint(path, *trained(1), {"step": 1})
    return path


def rewrite(path, change, *, hashed: bool) -> None:
    """Change the tensors of a file, under no hash, as files of before it, or a right one."""
    with safe_open(path, "pt") as file:
        metadata = {k: v for k, v in file.metadata().items() if k != KEY}
        tensors = {name: file.get_tensor(name).clone() for name in file.keys()}
    change(tensors)
    if hashed:
        save_hashed(path, tensors, metadata)
    else:
        save_file(tensors, path, metadata)


def replaced(name, value):
    return lambda tensors: tensors.update({name: value(tensors[name])})


CHANGES = {
    "one square": replaced(EXP_AVG_SQ, lambda t: t[0, :1].clone()),
    "one average": replaced(EXP_AVG, lambda t: t[0, :1].clone()),
    "broadcast": replaced(WEIGHT, lambda t: t[:1, :1].clone()),
    "integers": replaced(WEIGHT, lambda t: t.int()),
    "doubles": replaced(EXP_AVG, lambda t: t.double()),
    "transposed": replaced(EXP_AVG_SQ, lambda t: t.T.contiguous()),
    "nan weight": replaced(WEIGHT, lambda t: t * torch.nan),
    "inf square": replaced(EXP_AVG_SQ, lambda t: t + torch.inf),
    "nan step": replaced(STEP, lambda t: t * torch.nan),
    "long step": replaced(STEP, lambda t: t.repeat(3)),
    "no average": lambda tensors: tensors.pop(EXP_AVG),
    "no step": lambda tensors: tensors.pop(STEP),
    "no weight": lambda tensors: tensors.pop(WEIGHT),
    "surplus": lambda tensors: tensors.update({"model/" + "x" * 5000: torch.zeros(1)}),
    "no random state": lambda tensors: tensors.pop("random/cpu"),
    "short random state": replaced("random/cpu", lambda t: t[:-1].clone()),
}


@pytest.mark.parametrize("hashed", [True, False])
@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_a_checkpoint_of_other_tensors_is_refused(checkpoint, change, hashed):
    rewrite(checkpoint, change, hashed=hashed)
    model, optimizer = trained(steps=2)
    before = [parameter.clone() for parameter in model.parameters()]
    random = torch.get_rng_state()
    with pytest.raises(InputError) as refused:
        load_checkpoint(checkpoint, model, optimizer)
    assert len(str(refused.value)) < 500
    assert all(map(torch.equal, before, model.parameters()))
    assert torch.equal(random, torch.get_rng_state())


@pytest.mark.parametrize("number", [0, 1])
def test_the_random_state_is_that_of_the_models_own_gpu(tmp_path, monkeypatch, number):
    own, first = torch.device("cuda", number), torch.device("cuda", 0)
    at_saving = torch.arange(16, dtype=torch.uint8)
    states = {first: at_saving + 1, own: at_saving}
    monkeypatch.setattr(torch.cuda, "get_rng_state", lambda device=first: states[device])
    monkeypatch.setattr(
        torch.cuda, "set_rng_state", lambda state, device=first: states.update({device: state})
    )
    model, optimizer = trained(1)
    weight = SimpleNamespace(device=own)  # this machine need not have a GPU, let alone two
    there = SimpleNamespace(
        wte=SimpleNamespace(weight=weight), named_parameters=model.named_parameters
    )
    save_checkpoint(tmp_path / "saved", there, optimizer, {"step": 1})
    states[own] = at_saving + 2
    others = {device: state for device, state in states.items() if device != own}
    load_checkpoint(tmp_path / "saved", there, optimizer)
    assert torch.equal(states.pop(own), at_saving) and states == others


def test_dropout_draws_on_from_where_it_was_saved(checkpoint):
    drawn = torch.rand(3)
    load_checkpoint(checkpoint, *trained(1))
    assert torch.equal(torch.rand(3), drawn)


def test_a_checkpoint_from_before_the_hash_is_loaded(checkpoint):
    rewrite(checkpoint, lambda tensors: None, hashed=False)
    (model, optimizer), (saved, saved_optimizer) = trained(steps=2), trained(1)
    load_checkpoint(checkpoint, model, optimizer)
    for one, other in zip(model.parameters(), saved.parameters(), strict=True):
        assert torch.equal(one, other)
        for key in ("step", "exp_avg", "exp_avg_sq"):
            assert torch.equal(optimizer.state[one][key], saved_optimizer.state[other][key])


@pytest.mark.parametrize("place", np.linspace(0, 0.999, 25))
def test_every_changed_byte_of_a_checkpoint_is_found(checkpoint, place):
    data = bytearray(checkpoint.read_bytes())
    data[int(place * len(data))] ^= 1
    checkpoint.write_bytes(data)
    with pytest.raises(InputError):
        read_progress(checkpoint)
        load_checkpoint(checkpoint, *trained(1))


@pytest.mark.parametrize(
    "logps",
    [
        torch.zeros(3),
        torch.zeros(3, 1),
        torch.zeros(3, 2, 1),
        torch.zeros(3, 2, dtype=torch.int32),
        torch.full((3, 2), torch.nan),
    ],
)
def test_a_cache_of_other_numbers_is_refused(tmp_path, logps):
    load_or_compute(tmp_path, {"weights": "a"}, lambda: torch.zeros(3, 2))
    (path,) = tmp_path.iterdir()
    rewrite(path, lambda tensors: tensors.update(logps=logps), hashed=False)
    with pytest.raises(InputError, match="is damaged; expected finite float32 logps"):
        load_or_compute(tmp_path, {"weights": "a"}, lambda: torch.zeros(3, 2))


def test_a_changed_number_of_the_cache_is_found(tmp_path):
    load_or_compute(tmp_path, {"weights": "a"}, lambda: torch.zeros(3, 2))
    (path,) = tmp_path.iterdir()
    path.write_bytes(path.read_bytes()[:-1] + b"\x01")
    with pytest.raises(InputError, match="was changed since it was written"):
        load_or_compute(tmp_path, {"weights": "a"}, lambda: torch.zeros(3, 2))


def test_a_hash_under_a_damaged_name_is_missed(tmp_path):
    load_or_compute(tmp_path, {"weights": "a"}, lambda: torch.zeros(3, 2))
    (path,) = tmp_path.iterdir()
    path.write_bytes(path.read_bytes().replace(b"sha256", b"shq256")[:-1] + b"\x01")
    with pytest.raises(InputError, match="is damaged at shq256"):
        load_or_compute(tmp_path, {"weights": "a"}, lambda: torch.zeros(3, 2))


PAIRS = [PreferencePair("a", "b", "c"), PreferencePair("d", "e\u2028", "f", rejected_ends=False)]
HANDOFF = {"pairs": {"pairs": 2}}


def test_pairs_come_back_as_they_were(tmp_path):
    save_pairs(tmp_path / "pairs.jsonl", PAIRS)
    assert load_pairs(tmp_path / "pairs.jsonl", HANDOFF) == PAIRS


@pytest.mark.parametrize(
    "change",
    [
        lambda text: text[: text.index("\n") + 1],
        lambda text: text[:-1],
        lambda text: text + text,
        lambda text: text.replace('"c"', "3"),
        lambda text: text.replace("false", "0"),
        lambda text: text.replace("rejected", "worse"),
        lambda text: text.replace('"c"', "[" * 100_000),
        lambda text: "",
    ],
)
def test_damaged_pairs_are_refused(tmp_path, change):
    path = tmp_path / "pairs.jsonl"
    save_pairs(path, PAIRS)
    path.write_text(change(path.read_text()))
    with pytest.raises(InputError, match="start it anew"):
        load_pairs(path, HANDOFF)


def test_changed_pairs_are_refused_by_their_hash(tmp_path):
    save_pairs(tmp_path / "pairs.jsonl", PAIRS)
    with pytest.raises(InputError, match="start it anew"):
        load_pairs(tmp_path / "pairs.jsonl", {**HANDOFF, "pairs_sha256": "0" * 64})


@pytest.mark.parametrize(
    "tensors",
    [
        {"nonsense": torch.zeros(3, 2)},
        {"bits_per_char": torch.zeros(3)},
        {"bits_per_char": torch.full((3, 2), torch.nan)},
    ],
)
def test_damaged_evaluations_are_refused(tmp_path, tensors):
    task = get_task("sonnet")
    path = tmp_path / "dev-01.safetensors"
    whole = task.metrics["bits_per_char"].of(np.ones((3, 2)))
    save_statistics(path, {"bits_per_char": whole})
    assert load_statistics(path, task)["bits_per_char"].value == whole.value
    save_file(tensors, path)
    with pytest.raises(InputError, match="is damaged at"):
        load_statistics(path, task)
    assert load_hashed(path).keys() == tensors.keys()
