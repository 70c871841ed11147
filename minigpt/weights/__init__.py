"""Weights on disk: three formats, one way in and out."""

from minigpt.weights.pretrained import load_pretrained, pretrained_config, save_pretrained

__all__ = ["load_pretrained", "pretrained_config", "save_pretrained"]
