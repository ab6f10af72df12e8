"""Compact is a feature: sizes have ceilings, which only go down, and the options are frozen.

A change that needs more lines looks first for what it can take away.
"""

import ast
from collections import Counter
from pathlib import Path

import pytest
import tyro
from lab import ROOT

from blvnet_lab import cli

CEILINGS = {
    "blvnet_lab": 20906,
    "blvnet_lab/models": 1314,
    "blvnet_lab/introspect": 1012,
    "blvnet_lab/data": 2002,
    "blvnet_lab/training": 1794,
    "blvnet_lab/weights": 743,
    "blvnet_lab/deploy": 992,
    "blvnet_lab/datasets": 3060,
    "blvnet_lab/runs": 2152,
    "blvnet_lab/benchmark": 970,
    "blvnet_lab/viz": 3462,
    "blvnet_lab/course": 2886,
    "blvnet_lab/cli.py": 244,
    "blvnet_lab/paths.py": 130,
    "tests": 26290,
}
MAX_FILE, MAX_FUNCTION, MAX_CLASS, MAX_PARAMETERS = 400, 70, 200, 8
MANY_PARAMETERS = 3  # functions with more of them
README_BYTES = 8400
LISTED = ROOT / "tests" / "data" / "options.txt"

FILES = {path: path.read_text("utf-8") for path in (ROOT / "blvnet_lab").rglob("*.py")}
NODES = [(path, node) for path, text in FILES.items() for node in ast.walk(ast.parse(text))]


def lines_below(place: Path) -> int:
    files = [place] if place.is_file() else place.rglob("*.py")
    return sum(len(path.read_text("utf-8").splitlines()) for path in files)


@pytest.mark.parametrize("place, ceiling", CEILINGS.items())
def test_lines(place, ceiling):
    assert 0 < lines_below(ROOT / place) <= ceiling


def length(node: ast.AST) -> int:
    return node.end_lineno - node.lineno + 1


def parameters(function: ast.FunctionDef) -> int:
    names = [a.arg for a in function.args.args + function.args.kwonlyargs]
    return len(names) - (names[:1] in (["self"], ["cls"]))


def test_files_functions_and_classes():
    functions = [(path, n) for path, n in NODES if isinstance(n, ast.FunctionDef)]
    classes = [(path, n) for path, n in NODES if isinstance(n, ast.ClassDef)]
    long = [path.name for path, text in FILES.items() if len(text.splitlines()) > MAX_FILE]
    long += [f"{p.name}: {n.name}" for p, n in functions if length(n) > MAX_FUNCTION]
    long += [f"{p.name}: {n.name}" for p, n in classes if length(n) > MAX_CLASS]
    assert long == []
    many = [f"{p.name}: {n.name}" for p, n in functions if parameters(n) > MAX_PARAMETERS]
    assert len(many) <= MANY_PARAMETERS, many


def test_a_public_name_means_one_thing():
    public = Counter(
        node.name
        for text in FILES.values()
        for node in ast.parse(text).body
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_")
    )
    assert [name for name, count in public.items() if count > 1] == []


def test_readme_is_short():
    assert len((ROOT / "README.md").read_bytes()) <= README_BYTES


def options() -> str:
    found = []
    for name in sorted(cli.COMMANDS):
        parser = tyro.extras.get_parser(cli.as_command(name))
        for action in parser._actions:
            names = "/".join(action.option_strings) or str(action.metavar)
            if names != "-h/--help":
                found.append(f"{name} {names}")
    return "\n".join(found) + "\n"


def test_commands_and_options_are_those_listed():
    """A new one is written into the list on purpose; one that goes is missed by somebody."""
    assert options() == LISTED.read_text("utf-8")
