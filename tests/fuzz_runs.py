"""A run's folder to damage, as the run itself makes it, and what reading it may give.

A `check` reads the folder. It raises InputError, or else all that it read is what was written:
every file is under a hash.
"""

import hashlib
import json
from pathlib import Path

import numpy as np
import torch

from experiments.run.checkpoint import load_checkpoint, read_progress, save_checkpoint
from experiments.run.evaluation import check_evaluated, evaluations, save_statistics
from experiments.run.folder import RunFolder, open_run
from experiments.run.handover import load_pairs, save_pairs
from experiments.run.metrics_log import EVALUATION, STEP
from experiments.run.record import KEY
from experiments.run.reference_cache import load_or_compute
from experiments.run.result import Result
from experiments.run.training import make_optimizer
from experiments.study.runs import Run
from minigpt import GPT, GPTConfig
from tasks import Metric, PreferencePair, get_task
from tests.fuzz_models import same_tensors

SHAPE = GPTConfig(vocab_size=11, n_positions=8, n_layer=1, n_head=2, n_embd=4)
CONFIG, CONTENTS = {"task": "paraphrase"}, {"data": "0"}
PAIRS = [PreferencePair("a", "b", "c"), PreferencePair("d", "e\u2028", "f")] * 3
LOGPS = torch.arange(8.0).reshape(4, 2)
CACHE_KEY = {"weights": "a", "precision": "fp32"}
EPOCHS, STEPS = 3, 8  # of training, and in each of them: more than are logged together


def trained(steps: int):
    """A model and its optimizer after some steps on random gradients."""
    model = GPT(SHAPE, generator=torch.Generator().manual_seed(0))
    optimizer = make_optimizer(model)
    draw = torch.Generator().manual_seed(1)
    for _ in range(steps):
        for parameter in model.parameters():
            parameter.grad = torch.randn(parameter.shape, generator=draw)
        optimizer.step()
    return model, optimizer


def state_of(model, optimizer) -> dict:
    """All tensors that a checkpoint brings back."""
    moments = optimizer.state_dict()["state"]
    kept = {f"{n} {name}": t for n, state in moments.items() for name, t in state.items()}
    return model.state_dict() | kept


def accuracy(epoch: int) -> Metric:
    addends = np.array([[1.0, 1.0], [epoch / EPOCHS, 1.0], [0.0, 1.0]])
    return get_task("paraphrase", "nowhere").metrics["accuracy"].of(addends)


# --- The checkpoint, the cache of the reference, and the pairs, each alone.


def make_checkpoint(folder: Path) -> None:
    save_checkpoint(folder / "checkpoint.safetensors", *trained(2), {"step": 5, "epoch": 1})


def check_checkpoint(folder: Path, changed: str) -> None:
    path, now = folder / "checkpoint.safetensors", trained(0)
    progress = read_progress(path)
    load_checkpoint(path, *now)
    assert progress == {"step": 5, "epoch": 1}
    assert same_tensors(state_of(*now), state_of(*trained(2)))


def make_cache(folder: Path) -> None:
    load_or_compute(folder, CACHE_KEY, LOGPS.clone)


def check_cache(folder: Path, changed: str) -> None:
    def compute():
        raise AssertionError("what is in the folder was not found")

    assert torch.equal(load_or_compute(folder, CACHE_KEY, compute), LOGPS)


def make_pairs(folder: Path) -> None:
    save_pairs(folder / "pairs.jsonl", PAIRS)


def check_pairs(folder: Path, changed: str) -> None:
    assert load_pairs(folder / "pairs.jsonl", handoff()) == PAIRS


def check_pairs_of_before(folder: Path, changed: str) -> None:
    """Without a hash their number and their form must fit."""
    pairs = load_pairs(folder / "pairs.jsonl", {"pairs": {"pairs": len(PAIRS)}})
    assert len(pairs) == len(PAIRS) and all(isinstance(t, str) for pair in pairs for t in pair[:3])


def handoff() -> dict:
    lines = "".join(json.dumps(pair._asdict()) + "\n" for pair in PAIRS)
    digest = hashlib.sha256(lines.encode()).hexdigest()
    return {"epoch": 1, "weights": "0", "pairs": {"pairs": len(PAIRS)}, "pairs_sha256": digest}


# --- The whole folder.


def make_run(folder: Path) -> None:
    """The folder of a finished run, but for weights, pictures and texts, which no run reads."""
    with open_run(folder, CONFIG, resume=False, contents=CONTENTS) as run:
        make_pairs(folder)
        make_cache(folder)
        run.update(reference=handoff(), floors={"yes": {"accuracy": 0.5}})
        (folder / "evaluations").mkdir()
        for epoch in range(EPOCHS + 1):
            for step in range(STEPS * (epoch - 1), STEPS * epoch) if epoch else ():
                run.log(kind=STEP, step=step + 1, epoch=epoch, phase="sft", loss=1 / (step + 1))
            run.log(**evaluated(epoch))
            path = folder / "evaluations" / f"dev-{epoch:02}.safetensors"
            save_statistics(path, {"accuracy": accuracy(epoch)})
        progress = {"step": STEPS * EPOCHS, "epoch": EPOCHS + 1, "log": run.log_extent()}
        save_checkpoint(run.checkpoint, *trained(2), progress)
        run.update(best=evaluated(EPOCHS), last=evaluated(EPOCHS), test=None)


def evaluated(epoch: int) -> dict:
    score = {"value": accuracy(epoch).value, "interval": [0.0, 1.0], "larger_is_better": True}
    return {
        "kind": EVALUATION, "step": STEPS * epoch, "epoch": epoch, "phase": "sft", "split": "dev",
        "seconds": 1.5, "evaluation_seconds": 0.5, "scores": {"accuracy": score}, "samples": ["a"],
    }  # fmt: skip


def make_run_of_before(folder: Path) -> None:
    """The same without the hashes of run.json, of the log and of the checkpoint."""
    make_run(folder)
    record = json.loads((folder / "run.json").read_text())
    del record[KEY], record["log"]
    (folder / "run.json").write_text(json.dumps(record))
    progress = {"step": STEPS * EPOCHS, "epoch": EPOCHS + 1}
    save_checkpoint(folder / "checkpoint.safetensors", *trained(2), progress)


def check_run(folder: Path, changed: str) -> None:
    assert studied(folder) == {"epochs": [*map(evaluated, range(EPOCHS + 1))], "accuracy": 2 / 3}
    now = trained(0)
    with open_run(folder, CONFIG, resume=True, contents=CONTENTS) as run:
        found = resumed(run, *now)
        assert found.pop("epochs") == [*map(evaluated, range(EPOCHS + 1))]
        progress = {"step": STEPS * EPOCHS, "epoch": EPOCHS + 1}
        assert found == {"progress": progress, "floors": {"yes": {"accuracy": 0.5}}}
        assert len(run.logged()) == (STEPS + 1) * EPOCHS + 1


def check_run_of_before(folder: Path, changed: str) -> None:
    """Numbers may be others, but names, types and all steps and epochs have to be there."""
    studied(folder)
    with open_run(folder, CONFIG, resume=True, contents=CONTENTS) as run:
        found = resumed(run, *trained(0))
        steps = [line["step"] for line in run.logged() if line["kind"] == STEP]
    assert {*range(1, STEPS * EPOCHS + 1)} <= {*steps}
    assert {line["epoch"] for line in found["epochs"]} >= {*range(EPOCHS + 1)}


def studied(folder: Path) -> dict:
    """What a study reads, and a notebook."""
    run, result = Run(folder, get_task("paraphrase", "nowhere")), Result.read(folder)
    assert result.epochs == run.epochs and repr(result) and result.scores() and result.samples()
    return {"epochs": run.epochs, "accuracy": run.metrics["accuracy"].value}


def resumed(run: RunFolder, model, optimizer) -> dict:
    """What a resumed run reads."""
    progress = run.restore(model, optimizer)
    assert same_tensors(state_of(model, optimizer), state_of(*trained(2)))
    epochs = evaluations(run.logged())
    check_evaluated(epochs, [*range(EPOCHS + 1)], run.path)
    assert load_pairs(run.path / "pairs.jsonl", run.recorded("reference")) == PAIRS
    check_cache(run.path, "")
    return {"progress": progress, "epochs": epochs, "floors": run.recorded("floors")}
