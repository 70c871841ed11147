"""A GPT-2 to read, load, run and change; nothing here knows about training."""

from minigpt.config import PRESETS, GPTConfig
from minigpt.generate import KVCache, generate
from minigpt.model import GPT
from minigpt.tokenizer import get_tokenizer
from minigpt.weights import load_pretrained, save_pretrained

__all__ = [
    "GPT",
    "GPTConfig",
    "KVCache",
    "PRESETS",
    "generate",
    "get_tokenizer",
    "load_pretrained",
    "save_pretrained",
]
