"""Every option of a handoff that is a number: what makes no sense is refused before any work."""

import typing

import pytest

from experiments import handoff
from experiments.run import loop
from experiments.run.bounds import BOUNDS
from experiments.run.config import Config
from experiments.run.flags import make_lora, make_preference

ADAPTERS = ("rank", "alpha", "lora_dropout", "lora_plus")
ZERO_MAKES_SENSE = {
    "switch_epoch",
    "seed",
    "weight_decay",
    "dropout",
    "lora_dropout",
    "label_smoothing",
    "sft_weight",
    "target_margin",
    "temperature",
}
OPTIONS = [*BOUNDS, "switch_epoch"]


def test_every_number_has_bounds():
    hints = [typing.get_type_hints(of) for of in (Config, make_lora, make_preference)]
    numbers = {
        name
        for hint in hints
        for name, kind in hint.items()
        if {int, float} & {kind, *typing.get_args(kind)}
    }
    assert numbers == set(OPTIONS) and len(OPTIONS) == 24


class LoadsTheModel(Exception):
    """All options were accepted."""


@pytest.mark.parametrize("value", ["-1", "0", "nan", "inf", "1e300", "many"])
@pytest.mark.parametrize("name", OPTIONS)
def test_a_number_makes_sense_or_is_refused(name, value, tmp_path, monkeypatch, capsys):
    def load(*_, **__):
        raise LoadsTheModel

    monkeypatch.setattr(loop, "make_policy", load)
    arguments = ["--out", str(tmp_path / "run"), "--" + name.replace("_", "-"), value]
    if name in ADAPTERS:
        arguments += ["--parameterization", "lora"]
    if name == "target_margin":
        arguments += ["--loss", "simpo"]
    if value == "0" and name in ZERO_MAKES_SENSE:
        with pytest.raises(LoadsTheModel):
            handoff.main(arguments)
    else:
        with pytest.raises(SystemExit) as exit:
            handoff.main(arguments)
        assert exit.value.code == 2
        error = capsys.readouterr().err
        assert value == "many" or "int" in error or error.count("\n") == 1
    assert not (tmp_path / "run").exists()
