"""The shape of a GPT-2, and the shapes that have a name."""

from dataclasses import asdict, dataclass

from minigpt.errors import InputError


@dataclass(frozen=True)
class GPTConfig:
    """Everything that decides the shapes in a GPT-2 (Radford et al., 2019), and its dropout."""

    vocab_size: int = 50257  # V
    n_positions: int = 1024  # longest sequence in tokens, the largest T
    n_layer: int = 12
    n_head: int = 12  # H
    n_embd: int = 768  # C
    dropout: float = 0.0  # probability, after the embeddings, in attention, before each residual

    def __post_init__(self):
        for name in ("vocab_size", "n_positions", "n_layer", "n_head", "n_embd"):
            value = getattr(self, name)
            if not isinstance(value, int) or isinstance(value, bool) or value < 1:
                raise InputError(f"{name} is {value!r}; expected a positive whole number")
        if self.n_embd % self.n_head:
            raise InputError(
                f"n_embd {self.n_embd} cannot be split over {self.n_head} heads; "
                "expected a multiple of n_head"
            )
        if not isinstance(self.dropout, (int, float)) or not 0.0 <= self.dropout < 1.0:
            raise InputError(f"dropout is {self.dropout!r}; expected a probability in [0, 1)")

    def to_dict(self) -> dict:
        """The fields as plain values, for JSON."""
        return asdict(self)


PRESETS: dict[str, GPTConfig] = {
    "gpt2": GPTConfig(),
    "gpt2-medium": GPTConfig(n_layer=24, n_head=16, n_embd=1024),
    "gpt2-large": GPTConfig(n_layer=36, n_head=20, n_embd=1280),
    "gpt2-xl": GPTConfig(n_layer=48, n_head=25, n_embd=1600),
    # Ships with the package: the first 16,383 tokens of GPT-2's vocabulary plus end-of-text.
    "verse": GPTConfig(vocab_size=16384, n_positions=256, n_layer=6, n_head=4, n_embd=256),
}
