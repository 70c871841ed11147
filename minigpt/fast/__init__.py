"""What `minigpt.accelerate` puts in the place of the plain classes."""
