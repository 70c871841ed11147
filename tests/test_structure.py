"""The house: which way imports point, what lies in a room, and how long a piece may be."""

import ast
import configparser
import re
from graphlib import TopologicalSorter
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parent.parent
# From the bottom up: a room imports from those of a lower number, and from itself.
HEIGHTS = {
    "minigpt": 0,
    "lora": 1,
    "objectives": 2,
    "tasks": 3,
    "experiments.run": 4,
    "experiments.study": 5,
    "experiments.verse": 5,
    "experiments": 6,  # the commands
    "benchmarks": 7,
}
LONGEST_MODULE = 250  # lines
LONGEST_FUNCTION = 50  # lines, with signature and docstring


class Arrow(NamedTuple):
    """One module imports another, anywhere: in a function too, or for types alone."""

    importer: str
    imported: str


def read_sources() -> dict[str, str]:
    """The text of every module of the packages, by the module's full name."""
    sources = {}
    for package in sorted({room.split(".")[0] for room in HEIGHTS}):
        for path in sorted((ROOT / package).rglob("*.py")):
            parts = path.relative_to(ROOT).with_suffix("").parts
            name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
            sources[name] = path.read_text(encoding="utf-8")
    return sources


SOURCES = read_sources()
MODULES = {name: ast.parse(source, name) for name, source in SOURCES.items()}
PACKAGES = {module.rpartition(".")[0] for module in MODULES} - {""}


def arrows() -> list[Arrow]:
    """Every import between modules of the packages."""
    found = []
    for module, tree in MODULES.items():
        for node in ast.walk(tree):
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                assert node.level == 0, f"{module} line {node.lineno}: a relative import"
                # `from package import x` asks for the submodule x where there is one.
                names = [f"{node.module}.{alias.name}" for alias in node.names]
                names = [name if name in MODULES else node.module for name in names]
            else:
                continue
            found += [Arrow(module, name) for name in names if name in MODULES]
    return found


ARROWS = arrows()


def room_of(module: str) -> str:
    """The longest name of a room that the module's name begins with."""
    return max((room for room in HEIGHTS if f"{module}.".startswith(f"{room}.")), key=len)


def folders_of(module: str) -> set[str]:
    """The packages that a module lies in, which are imported before it."""
    parts = module.split(".")
    return {".".join(parts[:n]) for n in range(1, len(parts))}


def is_fast(module: str) -> bool:
    return "fast" in module.split(".")


def test_all_modules_are_seen():
    assert len(MODULES) >= 117 and len(ARROWS) >= 700
    assert {room_of(module) for module in MODULES} == set(HEIGHTS)
    assert Arrow("experiments.study.arms", "experiments.run.config") in ARROWS
    assert Arrow("experiments.pretrain", "experiments.verse.corpus") in ARROWS
    assert room_of("experiments.run") == room_of("experiments.run.config") == "experiments.run"
    assert room_of("experiments.handoff") == "experiments"


def test_no_circles():
    """To import a module is to import the packages that it lies in as well."""
    imports = {module: set() for module in MODULES}
    for importer, imported in ARROWS:
        imports[importer] |= {imported} | folders_of(imported) - folders_of(importer)
        imports[importer] -= {importer}
    list(TopologicalSorter(imports).static_order())  # raises CycleError with the circle


def test_no_arrows_up():
    def points_down(arrow: Arrow) -> bool:
        above, below = room_of(arrow.importer), room_of(arrow.imported)
        return above == below or HEIGHTS[above] > HEIGHTS[below]

    assert [arrow for arrow in ARROWS if not points_down(arrow)] == []


def test_only_pretrain_needs_the_corpus():
    users = {a.importer for a in ARROWS if room_of(a.imported) == "experiments.verse"}
    assert {user for user in users if room_of(user) != "experiments.verse"} == {
        "experiments.pretrain"
    }


def test_the_plain_modules_know_nothing_of_the_fast_path():
    """What a reader reads is what is run; only `__init__` hands the swap on."""
    rooms = ("minigpt", "lora")
    plain = [m for m in MODULES if room_of(m) in rooms and m not in rooms and not is_fast(m)]
    assert len(plain) >= 20
    assert [a for a in ARROWS if a.importer in plain and is_fast(a.imported)] == []


def test_nothing_needs_what_windows_lacks():
    """Functions included, but for the one that asks the system first."""
    lacking = {"fcntl", "grp", "posix", "pty", "pwd", "resource", "syslog", "termios", "tty"}
    imported = {
        (module, alias.name if isinstance(node, ast.Import) else node.module)
        for module, tree in MODULES.items()
        for node in ast.walk(tree)
        if isinstance(node, (ast.Import, ast.ImportFrom))
        for alias in node.names
    }
    assert len(imported) > 700
    assert {(module, name) for module, name in imported if name in lacking} == {
        ("experiments.run.memory", "resource")
    }


@pytest.mark.parametrize("package", sorted(PACKAGES))
def test_no_name_of_a_package_shadows_a_submodule(package):
    """`import package.x` and `from package import x` mean the same x, if both work."""
    bound = {}
    for node in MODULES[package].body:
        if isinstance(node, ast.ImportFrom):
            bound |= {alias.asname or alias.name: node.module for alias in node.names}
        elif isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            bound[node.name] = "a definition"
        elif isinstance(node, ast.Assign):
            bound |= {target.id: "an assignment" for target in node.targets}
    submodules = {name for name in bound if f"{package}.{name}" in MODULES}
    assert {name: bound[name] for name in submodules if bound[name] != package} == {}


def test_every_package_is_installed_but_the_benchmarks():
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg", encoding="utf-8")
    listed = setup["options"]["packages"].split()
    expected = {package for package in PACKAGES if room_of(package) != "benchmarks"}
    assert sorted(listed) == sorted(expected) and len(listed) >= 13


def test_the_top_of_the_experiments_holds_the_commands_alone():
    top = [m for m in MODULES if room_of(m) == "experiments" and m != "experiments"]
    assert 9 <= len(top) <= 16
    last = {module: ast.unparse(MODULES[module].body[-1]) for module in top}
    assert {m for m in top if not last[m].startswith("if __name__ == '__main__':")} == set()


def test_modules_are_short():
    lengths = {module: len(source.splitlines()) for module, source in SOURCES.items()}
    assert sum(lengths.values()) > 10_000
    assert {m: n for m, n in lengths.items() if n > LONGEST_MODULE} == {}


def test_functions_are_short():
    lengths = [
        (f"{module}.{node.name}", node.end_lineno - node.lineno + 1)
        for module, tree in MODULES.items()
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef)
    ]
    assert len(lengths) > 500
    assert [(name, lines) for name, lines in lengths if lines > LONGEST_FUNCTION] == []


def test_the_hooks_and_ci_lint_with_the_same_ruff():
    constraints = (ROOT / "constraints.txt").read_text(encoding="utf-8")
    hooks = (ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8")
    (pinned,) = re.findall(r"^ruff==(.+)$", constraints, re.MULTILINE)
    assert re.findall(r"rev: v(\S+)", hooks) == [pinned]
