"""What became of the rows of a file: each is used or left out, and both are told."""

from collections import Counter
from dataclasses import dataclass, field


@dataclass
class FileAccount:
    """The rows of one file: `used` and `skipped` add up to all that it holds."""

    unit: str = "rows"
    used: int = 0
    skipped: Counter[str] = field(default_factory=Counter)  # reason -> rows
    notes: list[str] = field(default_factory=list)  # what is odd about rows, used or not
    malformed: int = 0  # of the skipped rows, those that are no rows at all

    @property
    def rows(self) -> int:
        return self.used + self.skipped.total()

    def leave_out(self, rows: int, reason: str) -> None:
        """Count rows as left out that were counted as used; none where there are too few."""
        if rows > 0:
            self.used -= rows
            self.skipped[reason] += rows

    def skip(self, reason: str, where: str, detail: str = "") -> None:
        """Count a row as left out; a note says where the first one with this reason stands."""
        if reason not in self.skipped:
            self.notes.append(f"{reason}: first in {where}" + (f" ({detail})" if detail else ""))
        self.skipped[reason] += 1

    def skip_malformed(self, reason: str, where: str, detail: str = "") -> None:
        """Count a row as left out that is not what a row of its file must be."""
        self.skip(reason, where, detail)
        self.malformed += 1

    def record(self) -> dict:
        """Return the account as run.json keeps it."""
        return {
            "unit": self.unit,
            "rows": self.rows,
            "used": self.used,
            "skipped": dict(self.skipped),
            "notes": self.notes,  # itself, so that what is noted later is told, too
        }
