"""A GPT-2 to read, load, run and change; nothing here knows about training."""

import importlib

from minigpt.cache import KVCache
from minigpt.config import PRESETS, GPTConfig
from minigpt.fast.compiling import compile, compile_model
from minigpt.fast.swap import accelerate, decelerate
from minigpt.model import GPT
from minigpt.sampling import generate
from minigpt.tokenizer import get_tokenizer
from minigpt.weights import load_pretrained, pretrained_config, save_pretrained
from minigpt.windows import Trace, attention, trace

__all__ = [
    "GPT",
    "GPTConfig",
    "KVCache",
    "PRESETS",
    "Trace",
    "accelerate",
    "attention",
    "compile",
    "compile_model",
    "decelerate",
    "generate",
    "get_tokenizer",
    "load_pretrained",
    "load_run",
    "pretrained_config",
    "save_pretrained",
    "trace",
]


def __getattr__(name: str):
    """Hand on `experiments.load_run`, which people look for beside `load_pretrained`.

    A run is made of packages that stand on this one, so it is imported when it is asked for (PEP
    562) and not before: whoever only wants the model loads nothing else.
    """
    if name == "load_run":
        return importlib.import_module("experiments").load_run
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
