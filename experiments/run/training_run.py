"""The course of a run: SFT, the handoff, DPO, and the evaluations between."""

import time
from collections.abc import Iterator
from itertools import islice

from torch.optim import AdamW

from experiments.run.checkpoint import save_checkpoint
from experiments.run.data import PhaseData, dpo_data
from experiments.run.display import show_duration, step_bar
from experiments.run.evaluation import (
    best_epoch,
    check_evaluated,
    evaluations,
    floors_and_ceilings,
    score,
)
from experiments.run.folder import RunFolder
from experiments.run.handover import PAIRS, REFERENCE, hand_over, load_pairs
from experiments.run.held_out import diagnose
from experiments.run.interruption import Interruption, signals_wait
from experiments.run.metrics_log import EVALUATION, STEP
from experiments.run.plan import RunPlan
from experiments.run.policy import restore_policy, save_policy
from experiments.run.report import epoch_line
from experiments.run.result import Result
from experiments.run.schedule import Phase, warmup_cosine
from experiments.run.seeds import numpy_generator, own_dropout
from experiments.run.time_left import seconds_left
from experiments.run.training import LOSS_EVERY, check_weights, make_optimizer, train
from lora import trainable_parameters
from minigpt import GPT, get_tokenizer
from minigpt.parallel import most
from tasks import Task

CHECKPOINT_SECONDS = 120  # between checkpoints within an epoch
WARMUP = 0.1  # of a phase's steps
MAX_GRAD_NORM = 1.0
PROGRESS = ("epoch", "done", "step", "seconds")  # of a TrainingRun, kept in its checkpoints


class TrainingRun:
    """One run: the policy, its optimizer, and how far they are."""

    def __init__(
        self, plan: RunPlan, task: Task, policy: GPT, folder: RunFolder, *, sft: PhaseData
    ):
        self.plan = plan
        self.config = plan.config
        self.task = task
        self.policy = policy
        self.folder = folder
        self.sft = sft
        self.held_out: PhaseData | None = None  # pairs that DPO is looked at with
        self.tokenizer = get_tokenizer(policy)
        self.optimizer = self._fresh_optimizer()
        self.epoch = 0  # at work in this epoch; 0 is the evaluation before any training
        self.done = 0  # steps done in it
        self.step = 0  # steps done in all
        self.seconds = 0.0  # spent on the epoch at work
        self.epochs: list[dict] = []  # the evaluations so far
        self.saved_at = time.monotonic()

    def train(self) -> None:
        """Go through the phases from wherever the run is."""
        self._restore()
        self._keep_best()
        if self.epoch == 0:
            parameters = dict(zip(("trained", "total"), trainable_parameters(self.policy)))
            beside = floors_and_ceilings(self.task, "dev", self.config)
            self.folder.update(parameters=parameters, **beside)
            self._evaluate("untuned")
            self._next_epoch()
        for phase in self.plan.phases:
            if self.epoch > phase.last:
                continue
            if self.epoch == phase.first and self.done == 0:
                self._begin(phase)
            data = self.sft if phase.objective == "sft" else self._dpo_data()
            while self.epoch <= phase.last:
                self._train_epoch(phase, data)
                if self.plan.is_evaluated(self.epoch):
                    self._evaluate(phase.objective)
                self._next_epoch()

    def finish(self) -> Result:
        """Score the best epoch's weights on test, once."""
        best = best_epoch(self.epochs, self.task.headline)
        restore_policy(self.policy, self.folder.path / "best")
        scored = "test" in self.task.scored_splits
        test = self._score("test", best["epoch"]) if scored else None
        self.folder.update(best=best, last=self.epochs[-1], test=test)
        floors = self.folder.recorded("floors")
        return Result(self.folder.path, self.epochs, best, test, floors, self.task)

    def _train_epoch(self, phase: Phase, data: PhaseData) -> None:
        """Train to the end of the epoch at work."""
        per_epoch, now = data.steps_per_epoch(self.config.batch_size), time.monotonic()
        title = f"epoch {self.epoch}/{self.config.epochs} {phase.objective}"
        progress = step_bar(self._steps(phase, data), title, total=per_epoch, done=self.done)
        with signals_wait() as noted:
            for metrics in progress:
                self.done, self.step = self.done + 1, self.step + 1
                self.seconds, now = self.seconds + time.monotonic() - now, time.monotonic()
                self.folder.log(kind=STEP, **self._place(phase.objective), **metrics)
                if self.step % LOSS_EVERY == 0:
                    left = self._time_left(phase.objective, self.done / per_epoch)
                    progress.set_postfix(loss=f"{metrics['loss']:.3f}", left=left)
                waited, stop = most(time.monotonic() - self.saved_at, *noted[:1] or [0])
                # Not after the last step: the epoch's end saves, once it is evaluated.
                if self.done < per_epoch and waited > CHECKPOINT_SECONDS:
                    self._save()
                if stop:
                    self._save()
                    raise Interruption(int(stop))
        self.folder.flush()  # which waits for the device, and stops a run that has diverged
        check_weights(self.policy)  # before they are evaluated
        self.seconds += time.monotonic() - now

    def _steps(self, phase: Phase, data: PhaseData) -> Iterator[dict]:
        """Take the steps that are left of the epoch at work, and yield the metrics of each."""
        config = self.config
        per_epoch = data.steps_per_epoch(config.batch_size)
        total = per_epoch * phase.epochs
        first = per_epoch * (self.epoch - phase.first) + self.done
        order = numpy_generator(config.seed, "data order", self.epoch)
        steps = islice(data.steps(config.batch_size, config.accumulation, order), self.done, None)
        return train(
            self.policy,
            self.optimizer,
            own_dropout(steps, config.seed, self.step),
            data.objective,
            learning_rates=[
                warmup_cosine(step, total, peak=phase.learning_rate, warmup=round(WARMUP * total))
                for step in range(first, total)
            ],
            dropout=phase.dropout,
            precision=config.precision,
            max_grad_norm=MAX_GRAD_NORM,
        )

    def _time_left(self, phase: str, share: float) -> str | None:
        """Return how long the run will still take, a `share` of the epoch at work being done."""
        at_work = {**self._place(phase), "seconds": self.seconds}
        tests = int("test" in self.task.scored_splits)
        seconds = seconds_left(self.plan, self.epochs, at_work, share, tests=tests)
        return None if seconds is None else show_duration(seconds)

    def _begin(self, phase: Phase) -> None:
        """A fresh optimizer; for DPO also the reference and the preference pairs."""
        self.optimizer = self._fresh_optimizer()
        if phase.objective == "dpo":
            epoch = phase.first - 1
            hand_over(self.config, self.task, self.policy, self.tokenizer, self.folder, epoch=epoch)

    def _fresh_optimizer(self) -> AdamW:
        decay, lora_plus = self.config.weight_decay, self.config.lora_plus
        return make_optimizer(self.policy, weight_decay=decay, lora_plus=lora_plus)

    def _dpo_data(self) -> PhaseData:
        """The pairs to train on; held-out ones, where the handoff made any, are kept beside."""
        handoff = self.folder.recorded("reference")
        held_out = handoff.get("held_out")  # runs of before they were made have none
        if held_out and held_out["pairs"]["pairs"]:
            self.held_out = self._pairs("held-out pairs", held_out)
        return self._pairs("pairs", handoff)

    def _pairs(self, name: str, made: dict) -> PhaseData:
        return dpo_data(
            load_pairs(self.folder.path / PAIRS[name], made),
            self.task,
            self.tokenizer,
            self.policy,
            reference=self.folder.recorded("reference")["weights"],
            precision=self.config.precision,
            folder=self.folder.path,
            preference=self.plan.preference,
            share_prompts=self.config.compile == "eager",
        )

    def _evaluate(self, phase: str) -> None:
        """Score the policy on dev, and log it."""
        started = time.monotonic()
        scored = self._score("dev", self.epoch) | self._diagnose()
        record = {
            "kind": EVALUATION,
            **self._place(phase),
            "split": "dev",
            "seconds": round(self.seconds, 3),
            "evaluation_seconds": round(time.monotonic() - started, 3),
            **scored,
        }
        self.folder.log(**record)
        self.epochs.append(record)
        left = self._time_left(phase, 1.0) if self.epoch < self.config.epochs else None
        print(epoch_line(record, self.config.epochs, self.task, left), flush=True)

    def _place(self, phase: str) -> dict:
        """Return where in the run a line of the log belongs."""
        return {"step": self.step, "epoch": self.epoch, "phase": phase}

    def _diagnose(self) -> dict[str, float]:
        """What the policy makes of held-out pairs; nothing before DPO."""
        if self.held_out is None:
            return {}
        return diagnose(
            self.policy,
            self.held_out,
            self.folder.path / REFERENCE,
            weights=self.folder.recorded("reference")["weights"],
            precision=self.config.precision,
        )

    def _score(self, split: str, epoch: int) -> dict:
        options = {n: getattr(self.config, n) for n in ("seed", "precision", "headline_only")}
        return score(self.policy, self.task, split, folder=self.folder.path, epoch=epoch, **options)

    def _next_epoch(self) -> None:
        self.epoch, self.done, self.seconds = self.epoch + 1, 0, 0.0
        if self.epoch > self.config.epochs:
            save_policy(self.policy, self.folder.path / "last", base_model_name=self.config.model)
        self._save()
        self._keep_best()

    def _keep_best(self) -> None:
        """Keep the weights if none were better, once the checkpoint is there that has their scores.

        A run that is killed in between does so when it goes on from there.
        """
        ended = self.epoch - 1
        evaluated = ended > 0 and self.done == 0 and self.plan.is_evaluated(ended)
        if evaluated and best_epoch(self.epochs, self.task.headline)["epoch"] == ended:
            save_policy(self.policy, self.folder.path / "best", base_model_name=self.config.model)

    def _save(self) -> None:
        self.folder.update()  # first: a checkpoint counts on all lines of the log before it
        check_weights(self.policy)
        progress = {n: getattr(self, n) for n in PROGRESS} | {"log": self.folder.log_extent()}
        save_checkpoint(self.folder.checkpoint, self.policy, self.optimizer, progress)
        self.saved_at = time.monotonic()

    def _restore(self) -> None:
        """Go back to the latest checkpoint, if there is one."""
        progress = self.folder.restore(self.policy, self.optimizer) or {}
        vars(self).update(progress)
        most(0)  # all of them wait for the first, which has cut the log that is read here
        self.epochs = evaluations(self.folder.logged())
        expected = [n for n in range(self.epoch) if self.plan.is_evaluated(n)]
        check_evaluated(self.epochs, expected, self.folder.path)
