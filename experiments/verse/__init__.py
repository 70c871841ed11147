"""The text that the shipped model is pretrained on."""
