"""A handoff's options in a file: `--config` reads it, flags override it, `--print-config` shows it.

It is run.json as a run wrote it, or names and values as flat as the flags, in JSON, TOML or YAML.
"""

import argparse
import json
import sys
from collections.abc import Mapping
from difflib import get_close_matches
from importlib.util import find_spec
from pathlib import Path
from typing import Any, get_type_hints

import tyro

from experiments.run.bounds import flag
from experiments.run.config import Config, flat_options
from experiments.run.flags import RowsConfig, make_lora, make_preference
from experiments.run.option_types import fits, named
from minigpt.errors import InputError
from minigpt.files import reading

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib


def parse_options(argv: list[str]) -> Config:
    """Return the Config of a command line; with --print-config show it and exit instead.

    Raises InputError for a file that cannot be read, names no option or gives one a wrong value.
    """
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--config", type=Path)
    parser.add_argument("--print-config", action="store_true")
    own, flags = parser.parse_known_args(argv)
    given = as_flags(read_options(own.config)) if own.config else []
    config = tyro.cli(Config, args=[*given, *flags])  # of a flag that comes twice, the last counts
    if own.print_config:
        print(as_toml(config), end="")
        raise SystemExit(0)
    return config


def read_options(path: Path) -> dict[str, Any]:
    """Return the options in a file by the names of their flags, each of the type of its flag."""
    options = _read(path)
    options = options.get("config", options)  # as in run.json
    hints = _hints()
    for name, value in options.items():
        if name not in hints:
            close = get_close_matches(str(name), hints, 1) or ["epochs"]
            raise InputError(
                f"{path} names {name!r}, which is no option; expected names of flags, such as "
                f"{close[0]}"
            )
        if not fits(value, hints[name]):
            raise InputError(f"{name} in {path} is {value!r}; expected {named(hints[name])}")
    return options


def _read(path: Path) -> dict[str, Any]:
    """Return what a file holds, as its name says which language it is in."""
    kind = path.suffix.lower()
    if kind not in (".json", ".toml", ".yaml", ".yml"):
        raise InputError(f"--config {path} is of no known kind; expected .json, .toml or .yaml")
    with reading(path, f"a file of options in {kind[1:].upper()}"):
        text = path.read_text(encoding="utf-8")
        if kind == ".toml":
            return tomllib.loads(text)
        return dict(json.loads(text) if kind == ".json" else _from_yaml(text, path) or {})


def _from_yaml(text: str, path: Path) -> Any:
    if not find_spec("yaml"):
        raise InputError(
            f"{path} needs the package pyyaml, which is not installed; expected it, "
            "pip install pyyaml, or the same options in TOML"
        )
    import yaml  # only where it is asked for

    return yaml.safe_load(text)


def _hints() -> dict[str, Any]:
    """Return the type of every option, flat as the flags are."""
    nested = {"lora": make_lora, "preference": make_preference, "rows": RowsConfig}
    hints: dict[str, Any] = {}
    for name, hint in get_type_hints(Config).items():
        hints |= get_type_hints(nested[name]) if name in nested else {name: hint}
    del hints["return"]  # that of the functions
    return hints


def as_flags(options: Mapping[str, Any]) -> list[str]:
    """Return options as a command line has them; null stands for the default."""
    flags = []
    for name, value in options.items():
        if isinstance(value, bool):
            flags.append(flag(name) if value else flag(f"no_{name}"))
        elif isinstance(value, list):
            flags += [flag(name), *_flat(value)]
        elif value is not None:
            flags.append(f"{flag(name)}={value}")
    return flags


def _flat(values: list) -> list[str]:
    return [text for v in values for text in (_flat(v) if isinstance(v, list) else [str(v)])]


def as_toml(config: Config) -> str:
    """Return all options but those that are None, a line each, which reads back as the same."""
    options = json.loads(json.dumps(flat_options(config), default=str))
    lines = [
        f"{name} = {json.dumps(value, ensure_ascii=False)}\n"  # which are TOML's forms too
        for name, value in options.items()
        if value is not None
    ]
    return "".join(lines)
