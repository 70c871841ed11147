"""Options in a file: what a run wrote gives the same run again, and flags override it."""

import json
from pathlib import Path

import pytest

from experiments import handoff
from experiments.run import options_file
from experiments.run.config import Config, identity, make_config
from experiments.run.options_file import as_toml, parse_options
from minigpt.errors import InputError
from tests.conftest import oracle

RECORDED = sorted((Path(__file__).parent.parent / "records/study/runs").glob("*/run.json"))
OPTIONS = {
    "parameterization": "lora",
    "rank": 4,
    "targets": ("attention", "h.0.mlp.*"),
    "layers": (0, 2),
    "rank_pattern": (("mlp", 16), ("attention", 2)),
    "dora": True,
    "loss": "simpo",
    "beta": 2.5,
    "sft_learning_rate": 3e-05,
    "data": Path('a "folder" of\tmine/é'),
    "seed": 7,
    "dry_run": True,
}


@pytest.mark.parametrize("path", RECORDED[::12], ids=lambda path: path.parent.name)
def test_a_recorded_run_gives_its_options_again(path):
    recorded = json.loads(path.read_text())["config"]
    assert identity(parse_options(["--config", str(path)])) == {"samples": None, **recorded}


@pytest.mark.parametrize("options", [{}, OPTIONS])
def test_what_print_config_shows_reads_back_as_the_same_config(options, tmp_path, capsys):
    config = make_config(**options)
    file = tmp_path / "x.toml"
    file.write_text(as_toml(config), encoding="utf-8")
    assert parse_options([f"--config={file}"]) == config
    with pytest.raises(SystemExit) as exit:
        handoff.main(["--config", str(file), "--print-config"])
    assert exit.value.code == 0 and capsys.readouterr().out == file.read_text(encoding="utf-8")


def test_flags_override_the_file_wherever_they_stand(tmp_path):
    file = tmp_path / "x.json"
    file.write_text(json.dumps({"epochs": 4, "dora": True, "targets": ["mlp"], "beta": None}))
    flags = ["--epochs", "10", "--no-dora", "--targets", "attention", "h.1.*"]
    for argv in ([*flags, "--config", str(file)], ["--config", str(file), *flags]):
        assert parse_options(argv) == make_config(epochs=10, targets=("attention", "h.1.*"))
    assert parse_options([]) == Config()


@pytest.mark.parity
def test_yaml_says_the_same(tmp_path):
    yaml = oracle("yaml")
    (tmp_path / "x.yaml").write_text(yaml.safe_dump({"rank": 4, "rank_pattern": [["mlp", 16]]}))
    expected = make_config(rank=4, rank_pattern=(("mlp", 16),))
    assert parse_options(["--config", str(tmp_path / "x.yaml")]) == expected


@pytest.mark.parametrize(
    "name, text, sentence",
    [
        ("x.toml", "epoch = 3", "x.toml names 'epoch', which is no option; .* such as epochs"),
        ("x.toml", "epochs = '3'", "epochs in .*x.toml is '3'; expected a whole number$"),
        ("x.toml", "epochs = true", "epochs in .* is True; expected a whole number$"),
        ("x.toml", "beta = 'x'", "beta in .* is 'x'; expected a number$"),
        ("x.toml", "precision = 'fp16'", "is 'fp16'; expected fp32 or bf16$"),
        ("x.toml", "targets = 'all'", "targets in .* is 'all'; expected a list of text$"),
        (
            "x.toml",
            "rank_pattern = [['a']]",
            "expected a list of a list of text and a whole",
        ),
        ("x.toml", "epochs = ", "x.toml cannot be read, it is not a file of options in TOML"),
        ("x.json", "[1]", "x.json cannot be read, it is not a file of options in JSON"),
        ("x.ini", "", "x.ini is of no known kind; expected .json, .toml or .yaml"),
        (None, "", "no.toml cannot be read: No such file"),
    ],
)
def test_a_bad_file_is_refused_in_a_sentence(tmp_path, capsys, name, text, sentence):
    if name:
        (tmp_path / name).write_text(text)
    path = str(tmp_path / (name or "no.toml"))
    with pytest.raises(InputError, match=sentence):
        parse_options(["--config", path])
    with pytest.raises(SystemExit) as exit:
        handoff.main(["--config", path, "--dry-run"])
    assert exit.value.code == 2 and capsys.readouterr().err.startswith("error: ")


def test_yaml_without_its_package_is_refused_with_the_command(tmp_path, monkeypatch):
    (tmp_path / "x.yaml").write_text("epochs: 3")
    monkeypatch.setattr(options_file, "find_spec", lambda name: None)
    with pytest.raises(InputError, match="expected it, pip install pyyaml, or .* TOML"):
        parse_options(["--config", str(tmp_path / "x.yaml")])


def test_null_is_the_default_of_every_option_that_may_be_null():
    """So that files can leave it out."""
    assert parse_options(options_file.as_flags(dict.fromkeys(options_file._hints()))) == Config()
