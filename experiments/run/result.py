"""What a run found, as a notebook gets it."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, repr=False)
class Result:
    """What a finished run found. `epochs` are the evaluations on dev, the untuned model's first."""

    folder: Path
    epochs: list[dict]
    best: dict
    test: dict | None
    floors: dict[str, dict[str, float]]

    @property
    def last(self) -> dict:
        return self.epochs[-1]

    def __repr__(self) -> str:
        name, score = next(iter(self.best["scores"].items()))
        return (
            f"Result({str(self.folder)!r}, {len(self.epochs) - 1} epochs, "
            f"best {self.best['epoch']}: {name} {score['value']:.4g})"
        )
