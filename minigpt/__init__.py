"""A GPT-2 to read, load, run and change; nothing here knows about training."""

from minigpt.cache import KVCache
from minigpt.config import PRESETS, GPTConfig
from minigpt.fast.compiling import compile, compile_model
from minigpt.fast.swap import accelerate, decelerate
from minigpt.model import GPT
from minigpt.sampling import generate
from minigpt.tokenizer import get_tokenizer
from minigpt.weights import load_pretrained, pretrained_config, save_pretrained

__all__ = [
    "GPT",
    "GPTConfig",
    "KVCache",
    "PRESETS",
    "accelerate",
    "compile",
    "compile_model",
    "decelerate",
    "generate",
    "get_tokenizer",
    "load_pretrained",
    "pretrained_config",
    "save_pretrained",
]
