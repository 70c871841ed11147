"""One run from its options to its result: `run` prepares, and `TrainingRun` trains."""

import torch

from experiments.run.config import Config, identity
from experiments.run.contents import contents_of, read_task
from experiments.run.data import sft_data
from experiments.run.folder import RunFolder
from experiments.run.keeping import clear
from experiments.run.observers import Observer, open_log
from experiments.run.plan import resolve
from experiments.run.policy import make_policy
from experiments.run.reading import account_for
from experiments.run.report import print_kept, print_summary, write_report
from experiments.run.result import Result
from experiments.run.seeds import torch_generator, torch_seed
from experiments.run.together import open_together
from experiments.run.training_run import TrainingRun
from minigpt import get_tokenizer
from minigpt.parallel import is_first
from tasks import Task


def run(
    config: Config, task: Task | None = None, *, observer: Observer | None = None
) -> Result | None:
    """Do what `config` says; None for a dry run, which only prints the plan.

    A `task` that is there already stands for the one that `config` names, with its data.
    `observer` is called with each row of metrics.jsonl, a dict, once it is written. What it raises
    ends the run as failed; resumed, the run goes on from its latest checkpoint and tells the rows
    after it again.
    Raises InputError for anything wrong with the input. torch's random state is the caller's again
    afterwards.
    """
    plan = resolve(config, type(task) if task else None)
    config = plan.config
    account = account_for(task := read_task(config, task))
    policy, adapted = make_policy(
        plan.source,
        dropout=config.dropout,
        device=config.device,
        lora=plan.lora,
        precision=config.precision,
        compile=config.compile,
        generator=torch_generator(config.seed, "init"),
    )
    data, sequences = sft_data(task, get_tokenizer(policy), policy.config.n_positions)
    task.check_fit(get_tokenizer(policy), policy.config.n_positions)
    print_summary(plan, policy, adapted, data, sequences, account)
    if config.dry_run:
        return None
    contents, device = contents_of(task, policy), policy.wte.weight.device
    with (
        torch.random.fork_rng(devices=None if device.type == "cpu" else [device]),
        open_together(
            config.out, identity(config), resume=config.resume, contents=contents
        ) as folder,
        open_log(config.log if is_first() else None, folder.path, identity(config)) as log,
    ):
        folder.observers += [each for each in (observer, log) if each]
        folder.update(accounts=account, **_options(task, folder))
        torch.manual_seed(torch_seed(config.seed, "dropout"))
        if folder.is_finished and not folder.checkpoint.exists():
            result = Result.read(folder.path, task)
        else:
            training = TrainingRun(plan, task, policy, folder, sft=data)
            training.train()
            result = training.finish()
        write_report(result, folder)
    print_kept(config, clear(config.out, config.keep))
    return result


def _options(task: Task, folder: RunFolder) -> dict:
    """Return the task's options for run.json; none where nobody knows if a run began with them."""
    known = "task" in folder.record.get("contents", {})  # not in runs of before
    return {"task_options": task.options()} if known else {}
