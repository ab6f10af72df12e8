"""Promises of the project as a whole: packages listed alike, imports one way, rules of taste.

The rules are functions of source text, so that each is also shown to catch an offender.
"""

import ast
import importlib.util
import itertools
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

import pytest
import yaml
from lab import ROOT
from packaging.requirements import Requirement

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
LIBRARY = sorted((ROOT / "blvnet_lab").rglob("*.py"))


def test_the_map_names_every_file_of_the_library():
    page = (ROOT / "docs" / "map.md").read_text("utf-8")
    tree, found = page.partition("\nblvnet_lab/\n")[2].partition("\nnotebooks/")[0], set()
    for part in re.split(r"^  (?=\w)", tree, flags=re.MULTILINE):
        room = re.match(r"\w+/|", part)[0]
        found |= {room + name for name in re.findall(r"\w+\.py", part)}
    paths = (path.relative_to(ROOT / "blvnet_lab") for path in LIBRARY)
    files = {f"{path.parts[0]}/{path.name}" if path.parent.name else path.name for path in paths}
    assert found == {file for file in files if not re.search(r"__|nb0[2-9]", file)}


DESIGN_CARD = ["torch", "torchvision", "jupyterlab", "ipywidgets", "matplotlib", "plotly"]
DESIGN_CARD += ["decord2", "nbval", "pytest"]


def name_of(requirement: str) -> str:
    """``decord2`` of ``decord2>=3.4,<4; sys_platform == "linux"``."""
    return re.match(r"[A-Za-z0-9._-]+", requirement)[0].lower().replace("_", "-")


def by_name(requirements: list[str]) -> dict[str, str]:
    """Package name to its whole requirement, written without blanks outside the marker."""
    found = {}
    for text in requirements:
        versions, *marker = text.partition(";")
        found[name_of(text)] = "".join([versions.replace(" ", ""), *marker])
    return found


def test_environment_and_pyproject_list_the_same():
    environment = yaml.safe_load((ROOT / "environment.yml").read_text("utf-8"))
    *conda, rest = environment["dependencies"]
    *pip, last = rest["pip"]
    assert environment["name"] == PROJECT["name"] and environment["channels"] == ["conda-forge"]
    assert "pip" in conda and last == "-e .", "pip installs what is not of conda, and the package"
    own = [entry for entry in [*conda, *pip] if entry != "pip"]
    listed, dev = by_name(own), by_name(PROJECT["optional-dependencies"]["dev"])
    assert len(listed) == len(own), "a package is listed twice"
    plain = by_name([*PROJECT["dependencies"], f"python{PROJECT['requires-python']}"])
    plain |= {name: dev[name] for name in ("pytest", "nbval")}
    assert plain.items() <= listed.items() <= (dev | plain).items()


def test_packages_of_the_design_card_are_listed_and_decord_itself_is_not():
    optional = PROJECT["optional-dependencies"]
    listed = by_name(PROJECT["dependencies"] + optional["dev"])
    assert set(DESIGN_CARD) <= set(listed)
    assert set(DESIGN_CARD) - {"pytest", "nbval"} <= set(by_name(PROJECT["dependencies"]))
    assert not any("decord" in by_name(entries) for entries in (listed, *optional.values()))


LINUX = {"sys_platform": "linux", "platform_machine": "x86_64", "python_version": "3.13"}
KERNELS = {"platform_release": "6.8.0-45-generic", "platform_version": "#45-Ubuntu SMP PREEMPT"}


def macos(darwin: int, machine: str = "arm64") -> dict[str, str]:
    version = f"Darwin Kernel Version {darwin}.1.0: Mon Oct  9 21:27:24 PDT 2023; root:xnu"
    system = {"sys_platform": "darwin", "platform_machine": machine, "python_version": "3.12"}
    return system | {"platform_release": f"{darwin}.1.0", "platform_version": version}


def test_decord_is_asked_for_where_it_has_wheels():
    for system, has_a_wheel in (
        (LINUX | KERNELS, True),
        (LINUX | KERNELS | {"platform_machine": "riscv64"}, False),
        (LINUX | KERNELS | {"python_version": "3.15"}, False),
        (macos(22), False),  # macOS 13
        (macos(23), True),
        (macos(25, "x86_64"), False),
        (LINUX | {"sys_platform": "win32", "platform_machine": "AMD64"}, True),
    ):
        (text,) = (text for text in PROJECT["dependencies"] if name_of(text) == "decord2")
        assert Requirement(text).marker.evaluate(system) is has_a_wheel


def test_no_marker_reads_the_name_of_a_kernel_as_a_version():
    """pip 24.1 to 25.3 stop at that on Linux, also behind `sys_platform == "darwin" and`."""
    for requirements in (PROJECT["dependencies"], *PROJECT["optional-dependencies"].values()):
        for text in requirements:
            marker = text.partition(";")[2]
            found = re.findall(r"platform_(?:release|version)\s*([<>=!~]+)", marker)
            found += re.findall(r"([<>=!~]+)\s*platform_(?:release|version)", marker)
            assert not found, f"{text}: compare it with `in` or `not in`"


GROUND = {"paths", "progress", "threads"}  # standard library and tqdm only; for all others
CORE = {"models", "data", "introspect", "training"}
WORKSHOP = {"weights", "deploy", "datasets", "runs", "benchmark"}
COMMAND_LINE = {"cli", "__main__"}
LIGHT = {"blvnet_lab.training.recipe"}  # frozen records of options, standard library only
# Core < workshop < viz < course < command line: what each part may import of the others, besides
# GROUND. The command line imports anything, inside functions, so that --help is quick.
MAY_IMPORT = {
    "__init__": set(),  # importing the package loads nothing heavy
    **{part: set() for part in GROUND},
    "models": set(),
    "data": set(),
    "introspect": {"models"},
    "training": {"models", "data"},
    **{part: CORE | WORKSHOP for part in WORKSHOP},
    "viz": set(),  # figures take plain tensors and tables
    "viz/explorers": {"models", "data", "introspect", "deploy", "datasets"},  # run models, write
    "course": CORE | WORKSHOP,
}


def part_of(module: str) -> str:
    """``models`` of ``blvnet_lab/models/tam.py``, ``cli`` of ``blvnet_lab/cli.py``."""
    return PurePosixPath(PurePosixPath(module).parts[1]).stem


def imported_parts(tree: ast.AST) -> Iterator[tuple[ast.stmt, str]]:
    """Each import of a part of blvnet_lab: (statement, part), wherever it stands.

    None of them is relative: ruff sees to that.
    """
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            # `from blvnet_lab import models` names a part only in its second half
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        else:
            continue
        for name in names:
            top, part, *_ = [*name.split("."), ""]
            if top == "blvnet_lab" and part and not part.startswith("__version"):
                yield node, part


def import_problems(source: str, module: str) -> list[str]:
    """Imports in ``source`` that run against the arrows.

    ``module`` is the file's path from the checkout, ``blvnet_lab/models/tam.py``.
    """
    part, tree, found = part_of(module), ast.parse(source), []
    folder = PurePosixPath(module).parent.relative_to("blvnet_lab").as_posix()
    at_once = set(tree.body)  # not inside a function
    for node, other in imported_parts(tree):
        if other == part or (other in GROUND and part not in GROUND):
            continue
        where = f"{module}:{node.lineno}: {part} imports {other}"
        if part in COMMAND_LINE:
            light = getattr(node, "module", None) in LIGHT  # the options themselves
            if other not in COMMAND_LINE and node in at_once and not light:
                found.append(f"{where} outside a function")
        elif other not in MAY_IMPORT.get(folder, MAY_IMPORT[part]):
            found.append(where)
    return found


def test_imports_against_the_arrows_alone_are_noticed():
    for module, source, words in (
        ("models/tam.py", "from blvnet_lab.data import reading", "models imports data"),
        ("models/tam.py", "from blvnet_lab import data", "models imports data"),
        ("models/tam.py", "def f():\n    import blvnet_lab.viz.figures", "models imports viz"),
        ("training/engine.py", "from blvnet_lab.runs.train import train", "training imports runs"),
        ("viz/figures.py", "from blvnet_lab.models.tam import TAM", "viz imports models"),
        ("viz/explorers/tam.py", "from blvnet_lab import training", "viz imports training"),
        ("course/checks.py", "from blvnet_lab.viz import show", "course imports viz"),
        ("paths.py", "from blvnet_lab.models import tam", "paths imports models"),
        ("cli.py", "from blvnet_lab.training import engine", "cli imports training outside a fun"),
        ("__main__.py", "import blvnet_lab.models", "__main__ imports models outside a func"),
        ("introspect/taps.py", "from blvnet_lab.models.tam import TAM\nimport torch.data", ""),
        ("viz/explorers/tam.py", "from blvnet_lab import data, models, introspect", ""),
        ("cli.py", "def main():\n    from blvnet_lab.viz import figures", ""),
        ("cli.py", "import blvnet_lab\nfrom blvnet_lab import __version__", ""),
        ("__main__.py", "from blvnet_lab.cli import main", ""),
    ):
        found = "\n".join(import_problems(source, f"blvnet_lab/{module}"))
        assert words in found and bool(words) == bool(found)


def taste_problems(source: str, module: str) -> list[str]:
    """Constructs this library does without, each with the reason; ruff knows of more."""
    found, on_new_values = [], set()  # what is made on the spot, no hook has seen
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.Call(
                func=ast.Attribute(value=ast.Name(id="torch"), attr="relu_") as function,
                args=[ast.BinOp() | ast.Call(func=ast.Name())
                      | ast.Call(func=ast.Attribute(value=ast.Call(func=ast.Name(id="super"))))],
            ):  # fmt: skip
                on_new_values.add(function)
            case ast.keyword(arg="inplace", value=value) if getattr(value, "value", 0) is not False:
                found.append("inplace=True falsifies what hooks have captured")
            case ast.Call(func=ast.Attribute(attr=name) | ast.Name(id=name), args=[first, *_]) if (
                name in ("ReLU", "ReLU6") and not isinstance(first, ast.Starred)
            ):
                found.append(f"{name}(True): inplace=True falsifies what hooks have captured")
            case ast.Attribute(attr="relu_") if node not in on_new_values:
                found.append("relu_ works in place and falsifies what hooks have captured")
            case ast.Attribute(value=ast.Name(id="sys"), attr="path"):
                found.append("sys.path: install the package instead")
            case ast.Call(func=ast.Attribute(attr="cuda")):
                found.append(".cuda(: use .to(device)")
            case ast.arguments(kwarg=ast.arg(arg=name)) if part_of(module) == "models":
                found.append(f"**{name} in models: spell the arguments out")
    return found


@pytest.mark.parametrize("problems", [import_problems, taste_problems])
def test_imports_run_one_way_and_constructs_are_to_taste(problems):
    assert len(LIBRARY) > 5
    for path in LIBRARY:
        assert problems(path.read_text("utf-8"), path.relative_to(ROOT).as_posix()) == []


TAM = "models/tam.py"


def test_offenders_alone_are_noticed():
    for module, source, words in (
        (TAM, "nn.ReLU(inplace=True)", "inplace=True"),
        (TAM, "relu(x, inplace=fast)", "inplace=True"),
        (TAM, "nn.ReLU(True)", "inplace=True"),
        (TAM, "x.relu_()", "relu_ works in place"),
        (TAM, "torch.relu_(x)", "relu_ works in place"),
        (TAM, "torch.relu_(self.bn(x))", "relu_ works in place"),
        (TAM, "sys.path.insert(0, '.')", "sys.path"),
        (TAM, "model.cuda()", ".cuda("),
        (TAM, "def build(depth, **kwargs):\n    pass", "**kwargs in models"),
        (TAM, "class A:\n    def f(self, *, x=1, **rest): ...", "**rest in models"),
        (TAM, '"""Not inplace=True, sys.path or .cuda(."""', ""),
        (TAM, "nn.ReLU()\nnn.ReLU(inplace=False)\nbuild(**sizes)", ""),
        (TAM, "torch.relu_(a + b)\ntorch.relu_(weighted_sum(x))", ""),
        (TAM, "torch.relu_(super().forward(x))\ntorch.cuda.is_available()", ""),
        ("viz/figures.py", "def bars(values, **style): ...", ""),
    ):
        found = "\n".join(taste_problems(source, f"blvnet_lab/{module}"))
        assert words in found and bool(words) == bool(found)


@pytest.mark.parametrize("path", sorted((ROOT / "findings").iterdir()), ids=lambda path: path.stem)
def test_a_finding_stands_alone(path):
    """A script with a header and pinned packages, and no word of this project."""
    assert path.suffix == ".sh" and os.access(path, os.X_OK)
    subprocess.run(["bash", "-n", str(path)], check=True)
    text = path.read_text("utf-8")
    head, strict, body = text.partition("\nset -euo pipefail\n")
    assert strict and "blvnet" not in text.lower()
    assert head.startswith("#!/usr/bin/env bash\n")
    assert all(line.startswith("#") for line in head.splitlines())
    for part in ("Why it matters", "Seen with", "Source", "Remedy"):
        assert f"\n# {part}: " in head
    for words in ("mktemp -d", "trap ", "${PYTHON:-python3}", "expected:", "seen:"):
        assert words in body
    lines = re.findall("pip install (.*)", body.replace("\\\n", " "))
    words = (itertools.takewhile(lambda w: w[0] != ">", shlex.split(line)) for line in lines)
    packages = [*itertools.chain(*words)]
    assert packages and all("==" in word for word in packages if word[0] != "-")


def test_files_that_belong_to_the_project_are_there():
    for name in ("README.md", "Makefile", "LICENSE", "CITATION.cff"):
        assert (ROOT / name).stat().st_size > 0
    (start,) = re.findall(r"^START := (.*)$", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE)
    assert (ROOT / start).is_file(), "`make lab` opens a notebook that exists"
    for script in (ROOT / ".ci" / "run", ROOT / ".ci" / "pythons"):
        assert os.access(script, os.X_OK)
        subprocess.run(["bash", "-n", str(script)], check=True)


@pytest.mark.skipif(shutil.which("make") is None, reason="needs make")
def test_old_python_gets_a_remedy(tmp_path):
    old = tmp_path / "python3"
    old.write_text('#!/bin/sh\ncase "$2" in *platform*) echo 3.9.6;; *) exit 1;; esac\n')
    old.chmod(0o755)
    for python, got in ((old, "3.9.6"), ("no-such-python", "nothing that runs")):
        command = ["make", "lab", f"PYTHON={python}", f"VENV={tmp_path / 'venv'}"]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
        assert done.returncode != 0 and not (tmp_path / "venv").exists()
        lines = "expected: Python 3.11 or newer", "remedy:   make lab PYTHON=python3.12"
        for line in (*lines, f"got:      {got}"):
            assert line in done.stderr


def test_lab_settings_exist_in_jupyterlab():
    """JupyterLab passes over settings it does not know without a word."""
    schemas = Path(sys.prefix) / "share" / "jupyter" / "lab" / "schemas"
    if not schemas.is_dir():
        pytest.skip(f"JupyterLab's schemas are not at {schemas}")
    settings = json.loads((ROOT / "notebooks" / "lab_settings.json").read_text("utf-8"))
    for plugin, values in settings.items():
        schema = json.loads((schemas / (plugin.replace(":", "/") + ".json")).read_text("utf-8"))
        for name, value in values.items():
            assert name in schema["properties"], f"{plugin} has no setting {name}"
            kind = {str: "string", bool: "boolean", int: "integer", dict: "object"}[type(value)]
            assert schema["properties"][name]["type"] == kind


def test_reasons_to_skip_say_what_is_needed(monkeypatch):
    """In a copy of the top-level conftest.py, as a module of its own."""
    spec = importlib.util.spec_from_file_location("conftest_copy", ROOT / "conftest.py")
    skips = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(skips)
    for is_available, expected in ((False, True), (True, False)):
        monkeypatch.setattr("torch.cuda.is_available", lambda found=is_available: found)
        assert ("CUDA device" in (skips.why_no_gpu() or "")) is expected
    monkeypatch.setattr("lab.find_chromium", lambda: None)
    assert "apt-get install chromium" in skips.why_no_browser()
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert "pip install -e '.[dev]'" in skips.why_no_browser()
