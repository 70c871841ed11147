"""The notebooks run from top to bottom, show what their code gives, and check their exercises."""

import importlib
import re
import shutil
import sys
from pathlib import Path

import nbformat
import pytest
import torch
from jupyter_client.manager import start_new_kernel
from nbclient.exceptions import CellExecutionError

from minigpt import GPT, GPTConfig, save_pretrained
from tests.conftest import oracle

ROOT = Path(__file__).parent.parent
FOLDER = ROOT / "notebooks"
NAMES = sorted(path.name for path in FOLDER.glob("*.ipynb"))
MOST_BYTES = 3_000_000  # of the six together, outputs included
EXERCISES = {"1": 2, "2": 3, "3": 3, "4": 2, "5": 2, "6": 2}  # by the notebook's number
DETAILS = re.compile(r"<details><summary>(\w+)</summary>\n\n(.*?)\n</details>", re.DOTALL)
LINK = re.compile(r"\[([^\]]+)\]\(([^)]+)\)")
NUMBER = re.compile(r"[-+]?\d[\d.,]*(e[-+]?\d+)?\b|\bnan\b")

every = pytest.mark.parametrize("name", NAMES)


@pytest.fixture(scope="module", autouse=True)
def from_the_folder():
    """What a kernel does that Jupyter starts for a notebook: its folder is on the path."""
    sys.path.insert(0, str(FOLDER))
    yield
    sys.path.remove(str(FOLDER))


def read(name: str) -> nbformat.NotebookNode:
    return nbformat.read(FOLDER / name, as_version=4)


def code(notebook: nbformat.NotebookNode) -> list[nbformat.NotebookNode]:
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def prose(notebook: nbformat.NotebookNode) -> str:
    return "\n\n".join(c.source for c in notebook.cells if c.cell_type == "markdown")


def test_all_are_seen():
    assert [name[0] for name in NAMES] == list("123456")
    assert sum(path.stat().st_size for path in FOLDER.glob("*.ipynb")) < MOST_BYTES


@every
def test_outputs_are_as_new_as_the_code(name):
    """`execute.py` leaves a hash of the code; counts out of order are cells run by hand."""
    notebook = read(name)
    execute = importlib.import_module("execute")
    assert notebook.metadata.get("executed") == execute.code_hash(notebook), (
        f"the code of {name} has changed since it was run; expected: python notebooks/execute.py"
    )
    cells = code(notebook)
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    outputs = [output for cell in cells for output in cell.outputs]
    assert not [output for output in outputs if output.output_type == "error"]
    assert any("image/png" in str(output) for output in outputs)  # a Result's is in its page


def test_changed_code_is_noticed():
    execute, notebook = importlib.import_module("execute"), read(NAMES[0])
    code(notebook)[-1].source += "  # changed"
    assert notebook.metadata["executed"] != execute.code_hash(notebook)


@every
def test_nothing_tells_of_one_machine(name):
    text = (FOLDER / name).read_text(encoding="utf-8")
    assert re.findall(r"/(?:work|root|home|tmp|usr)/[\w./-]*", text) == []


@every
def test_links_lead_to_what_they_name(name):
    links = LINK.findall(prose(read(name)))
    assert len(links) >= 2
    for label, target in links:
        if target.startswith("https://"):
            continue
        path = (FOLDER / target.split("#")[0]).resolve()
        assert path.is_file(), target
        if path.suffix == ".py" and (named := re.fullmatch(r"`(\w+)`", label)):
            source = path.read_text(encoding="utf-8")
            assert re.search(rf"(?:def|class) {named[1]}\b", source), label


@every
def test_a_misconception_is_named(name):
    assert "misconception" in prose(read(name)).lower()


# The exercises

WRONG = {  # by exercise: answers that their checks must not pass
    "check_sequence_logp": [
        "def sequence_logp(model, prompt, completion):  # without the shift\n"
        "    tokens = torch.tensor([prompt + completion])\n"
        "    logps = model(tokens).log_softmax(-1)[0, len(prompt) :]\n"
        "    return logps.gather(1, torch.tensor(completion)[:, None]).sum()",
        "def sequence_logp(model, prompt, completion):  # the mean\n"
        "    tokens = torch.tensor([prompt + completion])\n"
        "    logps = model(tokens[:, :-1]).log_softmax(-1)[0, len(prompt) - 1 :]\n"
        "    return logps.gather(1, torch.tensor(completion)[:, None]).mean()",
        "def sequence_logp(model, prompt, completion):  # the prompt as well\n"
        "    tokens = torch.tensor([prompt + completion])\n"
        "    logps = model(tokens[:, :-1]).log_softmax(-1)[0]\n"
        "    return logps.gather(1, tokens[0, 1:, None]).sum()",
    ],
    "check_padding": [
        "def pad(rows):  # on the left\n"
        "    return torch.tensor([[0] * (4 - len(row)) + row for row in rows])",
        "def pad(rows):  # one column too many\n"
        "    return torch.tensor([row + [0] * (5 - len(row)) for row in rows])",
    ],
    "check_lora_layer": [
        "class MyLoRA(MyLoRA):  # scaled by alpha\n"
        "    def __init__(self, base, rank, alpha):\n"
        "        super().__init__(base, rank, alpha)\n"
        "        self.scaling = alpha",
        "class MyLoRA(MyLoRA):  # both zero\n"
        "    def __init__(self, *arguments):\n"
        "        super().__init__(*arguments)\n"
        "        nn.init.zeros_(self.A)",
        "class MyLoRA(MyLoRA):  # the base trains as well\n"
        "    def __init__(self, *arguments):\n"
        "        super().__init__(*arguments)\n"
        "        self.base.requires_grad_(True)",
    ],
    "check_zero_gradients": [
        'without_gradient = {"B": {"B"}, "A": {"A"}, "both": {"A", "B"}}',
        'without_gradient = {"B": {"A"}, "A": {"B"}, "both": set()}',
    ],
    "check_alpha": [
        "def alpha_elsewhere(rank, alpha):\n    return alpha",
        "def alpha_elsewhere(rank, alpha):\n    return alpha * rank",
    ],
    "check_dpo_loss": [
        "def my_dpo_loss(pc, pr, rc, rr, beta):  # sides swapped\n"
        "    return -F.logsigmoid(beta * ((pr - rr) - (pc - rc)))",
        "def my_dpo_loss(pc, pr, rc, rr, beta):  # underflows\n"
        "    return -torch.log(torch.sigmoid(beta * ((pc - rc) - (pr - rr))))",
        "def my_dpo_loss(pc, pr, rc, rr, beta):  # no reference\n"
        "    return -F.logsigmoid(beta * (pc - pr))",
        "def my_dpo_loss(pc, pr, rc, rr, beta):  # one number\n"
        "    return -F.logsigmoid(beta * ((pc - rc) - (pr - rr))).mean()",
    ],
    "check_swapped": [
        "def swapped(loss):\n    return -loss",
        "def swapped(loss):\n    return 1 - loss",
    ],
    "check_best_margin": [
        "def best_margin(smoothing):\n    return 1 - smoothing",
        "def best_margin(smoothing):\n    return math.log(smoothing / (1 - smoothing))",
    ],
    "check_change_of_chosen": [
        "def change_of_chosen(g_chosen, g_rejected, weight, beta, rate):  # no pull\n"
        "    return rate * beta * weight * (g_chosen @ g_chosen)",
        "def change_of_chosen(g_chosen, g_rejected, weight, beta, rate):  # no weight\n"
        "    return rate * beta * (g_chosen @ g_chosen - g_chosen @ g_rejected)",
        "def change_of_chosen(g_chosen, g_rejected, weight, beta, rate):  # descends on log p\n"
        "    return -rate * beta * weight * (g_chosen @ g_chosen - g_chosen @ g_rejected)",
    ],
    "check_beta_for_budget": [
        "def beta_for_budget(kl_of_beta, budget):\n    return max(kl_of_beta)",
        "def beta_for_budget(kl_of_beta, budget):  # below, where at is enough\n"
        "    return min(beta for beta, kl in kl_of_beta.items() if kl < budget)",
    ],
    "check_bootstrap": [
        "def interval(a, b, generator):  # not paired\n"
        "    draws = generator.integers(len(a), size=(2, 2000, len(a)))\n"
        "    return tuple(np.quantile(a[draws[0]].mean(1) - b[draws[1]].mean(1), [0.025, 0.975]))",
        "def interval(a, b, generator):  # of the units, not of their mean\n"
        "    return tuple(np.quantile(a - b, [0.025, 0.975]))",
        "def interval(a, b, generator):  # of 90 %\n"
        "    draws = generator.integers(len(a), size=(2000, len(a)))\n"
        "    return tuple(np.quantile((a - b)[draws].mean(1), [0.05, 0.95]))",
    ],
    "check_undecided": ['undecided = ("full, SFT alone", "full, DPO alone")'],
    "check_length_bias": [
        "def longer_wins(rows):  # a tie is no win\n"
        "    return sum(len(r['chosen']) > len(r['rejected']) for r in rows) / len(rows)",
        "def longer_wins(rows):\n    return 0.5",
    ],
    "check_biased_pairs": [
        "def biased(rows):\n    return rows",
        "def biased(rows):  # the other way round\n"
        "    return [{**row, 'rejected': row['rejected'] * 2} for row in rows]",
        "def biased(rows):  # nothing left\n    return [{**row, 'rejected': ''} for row in rows]",
    ],
}


class Exercise:
    """An open cell, what is folded away under it, and the cells that it builds on."""

    def __init__(self, notebook: nbformat.NotebookNode, cell: nbformat.NotebookNode):
        self.check = cell.source.rstrip().rsplit("\n", 1)[1]
        self.open = cell.source.removesuffix(self.check)
        self.name = self.check.partition("(")[0]
        folded = notebook.cells[notebook.cells.index(cell) + 1].source
        self.folded = dict(DETAILS.findall(folded))
        self.solution = re.search(r"```python\n(.*?)```", self.folded["Solution"], re.DOTALL)[1]
        imports, *others = code(notebook)
        setup = [imports, *(c for c in others if "setup" in c.metadata.get("tags", []))]
        lines = "\n".join(cell.source for cell in setup).splitlines()
        self.setup = "\n".join(line for line in lines if not line.startswith("%"))

    def verdict(self, *answers: str):
        """What the check says of answers, the last of which counts."""
        namespace: dict = {}
        for source in (self.setup, *answers):
            exec(source, namespace)
        return eval(self.check, namespace)


def import_oracles(name: str) -> None:
    """Notebook 6 hands its model on to transformers and PEFT."""
    if name.startswith("6"):
        oracle("transformers")
        oracle("peft")


def exercises(name: str) -> list[Exercise]:
    import_oracles(name)
    notebook = read(name)
    cells = [c for c in code(notebook) if "exercise" in c.metadata.get("tags", [])]
    return [Exercise(notebook, cell) for cell in cells]


@every
def test_exercises_are_open_until_solved_and_wrong_answers_fail(name, monkeypatch):
    monkeypatch.chdir(FOLDER)
    found = exercises(name)
    assert len(found) == EXERCISES[name[0]]
    for exercise in found:
        assert list(exercise.folded) == ["Hint", "Solution"]
        assert not exercise.verdict(exercise.open).passed
        solved = exercise.verdict(exercise.solution)
        assert solved.passed, (exercise.name, solved)
        assert len(WRONG[exercise.name]) >= 1
        for wrong in WRONG[exercise.name]:
            verdict = exercise.verdict(exercise.solution, wrong)
            assert not verdict.passed and "still to be" not in verdict.words, (wrong, verdict)


def test_every_check_has_wrong_answers():
    assert {exercise.name for name in NAMES for exercise in exercises(name)} == set(WRONG)


# The fresh run


def appearance(cell: nbformat.NotebookNode) -> list[tuple[str, str]]:
    """A cell's outputs but for their numbers, and the texts of cells that sample but for all."""
    found = []
    for output in cell.outputs:
        data = output.get("data", {})
        text = output.get("text", "" if "image/png" in data else data.get("text/plain", ""))
        text = "" if "varies" in cell.metadata.get("tags", []) else " ".join(text.split())
        found.append((" ".join(sorted([output.output_type, *data])), NUMBER.sub("#", text)))
    return found


@pytest.mark.slow
@every
def test_a_fresh_run_has_no_error_and_looks_as_committed(name, tmp_path, monkeypatch):
    """In a copy, as notebook 6 begins and ends by removing the runs that it may have left."""
    import_oracles(name)
    copy, execute = tmp_path / "notebooks", importlib.import_module("execute")
    shutil.copytree(FOLDER, copy, ignore=shutil.ignore_patterns("runs"))
    (tmp_path / "records").symlink_to(ROOT / "records")
    monkeypatch.setattr(execute, "FOLDER", copy)
    committed, fresh = read(name), read(name)
    execute.execute(fresh)  # raises CellExecutionError where a cell fails
    for before, after in zip(code(committed), code(fresh), strict=True):
        assert appearance(after) == appearance(before), after.source


@pytest.mark.slow
def test_a_cell_that_fails_fails_the_run():
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("1 / 0")])
    with pytest.raises(CellExecutionError, match="ZeroDivisionError"):
        importlib.import_module("execute").execute(notebook)


# The stop button

SHAPE = GPTConfig(vocab_size=16384, n_positions=256, n_layer=2, n_head=2, n_embd=16)
RUN = """
from experiments import handoff
from experiments.run.config import make_config

def told(row):
    print(row["kind"], row["step"], flush=True)

result = handoff.run(
    make_config(
        model={model!r}, out={out!r}, epochs=3, switch_epoch=1, train_examples=4, dev_examples=2,
        batch_size=1, pairs="gold-vs-corrupted", samples=1, device="cpu", resume={resume},
    ),
    observer=told,
)
print("finished at", result.last["step"])
"""


@pytest.mark.slow
def test_the_stop_button_leaves_a_run_that_the_next_cell_resumes(tmp_path):
    """In a real kernel: Jupyter's interrupt in the middle, then the same cell with resume=True."""
    save_pretrained(GPT(SHAPE, generator=torch.Generator().manual_seed(0)), tmp_path / "model")
    manager, client = start_new_kernel(kernel_name="python3", cwd=str(ROOT))

    def run(*, resume: bool, stop_after: str | None = None) -> tuple[dict, str]:
        """Run the cell; return the kernel's reply and all that the cell printed."""
        told: list[str] = []

        def listen(message: dict) -> None:
            told.append(message["content"].get("text", ""))
            if stop_after in "".join(told).splitlines() and told.count("stopped") == 0:
                told.append("stopped")
                manager.interrupt_kernel()

        cell = RUN.format(model=str(tmp_path / "model"), out=str(tmp_path / "run"), resume=resume)
        reply = client.execute_interactive(cell, timeout=300, output_hook=listen)
        return reply["content"], "".join(told)

    try:
        reply, told = run(resume=False, stop_after="step 5")
        assert reply["ename"] == "Interruption" and "resume=True goes on" in reply["evalue"], reply
        assert "finished" not in told
        for _ in range(2):  # the next cell, and that cell once more
            reply, told = run(resume=True)
            assert reply["status"] == "ok" and "finished at 12" in told, reply
            assert "step 1\n" not in told
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)
