"""Weights on disk: three formats, one way in and out."""

from minigpt.weights.pretrained import load_pretrained, save_pretrained

__all__ = ["load_pretrained", "save_pretrained"]
