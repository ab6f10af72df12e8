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

# ---------------------------------------------------------------- files


def test_the_map_names_every_file_of_the_library():
    page = (ROOT / "docs" / "map.md").read_text("utf-8")
    tree, found = page.partition("\nblvnet_lab/\n")[2].partition("\nnotebooks/")[0], set()
    for part in re.split(r"^  (?=\w)", tree, flags=re.MULTILINE):
        room = re.match(r"\w+/|", part)[0]
        found |= {room + name for name in re.findall(r"\w+\.py", part)}
    paths = (path.relative_to(ROOT / "blvnet_lab") for path in LIBRARY)
    files = {f"{path.parts[0]}/{path.name}" if path.parent.name else path.name for path in paths}
    assert found == {file for file in files if not re.search(r"__|nb0[2-9]", file)}


# ---------------------------------------------------------------- packages

DESIGN_CARD = (
    "torch torchvision jupyterlab ipywidgets matplotlib plotly decord2 nbval pytest".split()
)


def name_of(requirement: str) -> str:
    """``decord2`` of ``decord2>=3.4,<4; sys_platform == "linux"``."""
    return re.match(r"[A-Za-z0-9._-]+", requirement)[0].lower().replace("_", "-")


def by_name(requirements: list[str]) -> dict[str, str]:
    """Package name to its whole requirement, written without blanks outside the marker."""
    found = {}
    for text in requirements:
        versions, *marker = text.partition(";")
        versions = re.sub(r"\s*([<>=!~,]+)\s*", r"\1", versions).strip()
        found[name_of(text)] = versions + "".join(marker)
    return found


def conda_requirements(text: str) -> tuple[list[str], list[str]]:
    """What an environment.yml lists: (conda part, pip part)."""
    listed = yaml.safe_load(text)["dependencies"]
    conda = [entry for entry in listed if isinstance(entry, str)]
    (pip,) = (entry["pip"] for entry in listed if isinstance(entry, dict))
    return conda, pip


def environment_problems(
    environment: str, plain: list[str], dev: list[str], python: str
) -> list[str]:
    """How an environment.yml differs from pyproject's requirements; empty if it does not."""
    conda, pip = conda_requirements(environment)
    found = []
    if "pip" not in conda:
        found.append("pip is not listed, so the pip part has nothing to run it")
    if pip[-1] != "-e .":
        found.append("the pip part does not end with '-e .'")
    own = [entry for entry in conda if entry != "pip"] + pip[:-1]
    if len({name_of(entry) for entry in own}) < len(own):
        found.append("a package is listed twice")
    listed = by_name(own)
    wanted = by_name(plain) | {"python": f"python{python}"}
    wanted |= {name: text for name, text in by_name(dev).items() if name in ("pytest", "nbval")}
    known = by_name(dev) | wanted
    found += [f"{name} is missing" for name in wanted if name not in listed]
    found += [f"{name} is not in pyproject.toml" for name in listed if name not in known]
    found += [
        f"{name}: {text} here, {known[name]} in pyproject.toml"
        for name, text in listed.items()
        if known.get(name, text) != text
    ]
    if "decord" in listed:
        found.append("decord is listed: it and decord2 own the same name, decord")
    return found


def test_environment_and_pyproject_list_the_same():
    environment = (ROOT / "environment.yml").read_text("utf-8")
    dev = PROJECT["optional-dependencies"]["dev"]
    plain, python = PROJECT["dependencies"], PROJECT["requires-python"]
    assert environment_problems(environment, plain, dev, python) == []
    assert yaml.safe_load(environment)["name"] == PROJECT["name"]
    assert yaml.safe_load(environment)["channels"] == ["conda-forge"]


SMALL = """
dependencies:
  - python>=3.11
  - pip
  - numpy>=2
  - pytest>=8
  - nbval==0.11.0
  - pip:
      - 'av>=18,<20; os_name == "posix"'
      - -e .
"""


@pytest.mark.parametrize(
    "old, new, words",
    [
        ("", "", ""),
        ("  - numpy>=2\n", "", "numpy is missing"),
        ("  - nbval==0.11.0\n", "", "nbval is missing"),
        ("numpy>=2", "numpy>=1", "numpy: numpy>=1 here, numpy>=2 in"),
        ("posix", "nt", 'av: av>=18,<20; os_name == "nt" here'),
        ("numpy>=2", "numpy>=2\n  - jax", "jax is not in pyproject.toml"),
        ("numpy>=2", "numpy>=2\n  - decord", "decord is listed"),
        ("      - -e .\n", "", "does not end with '-e .'"),
        ("  - pip\n", "", "pip is not listed"),
    ],
)
def test_environment_that_differs_is_noticed(old, new, words):
    found = environment_problems(
        SMALL.replace(old, new, 1),
        plain=["numpy >= 2", 'av>=18,<20; os_name == "posix"'],
        dev=["pytest>=8", "nbval==0.11.0", "ruff"],
        python=">=3.11",
    )
    assert words in "\n".join(found) if words else found == []


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
    return {
        "sys_platform": "darwin",
        "platform_machine": machine,
        "python_version": "3.12",
        "platform_release": f"{darwin}.1.0",
        "platform_version": version,
    }


@pytest.mark.parametrize(
    "system, has_a_wheel",
    [
        (LINUX | KERNELS, True),
        (LINUX | KERNELS | {"platform_machine": "aarch64"}, True),
        (LINUX | KERNELS | {"platform_machine": "riscv64"}, False),
        (LINUX | KERNELS | {"python_version": "3.15"}, False),
        (macos(22), False),  # macOS 13
        (macos(23), True),
        (macos(25, "x86_64"), False),
        (LINUX | {"sys_platform": "win32", "platform_machine": "AMD64"}, True),
        (LINUX | {"sys_platform": "win32", "platform_machine": "ARM64"}, False),
    ],
)
def test_decord_is_asked_for_where_it_has_wheels(system, has_a_wheel):
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


# ---------------------------------------------------------------- imports run one way

GROUND = {"paths", "progress", "threads"}  # standard library and tqdm only; for all others
CORE = {"models", "data", "introspect", "training"}
WORKSHOP = {"weights", "deploy", "datasets", "runs", "benchmark"}
COMMAND_LINE = {"cli", "__main__"}
# frozen records of options, standard library only
LIGHT = {"blvnet_lab.training.recipe", "blvnet_lab.training.presets"}
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


def imported_parts(source: str, module: str) -> Iterator[tuple[ast.stmt, str]]:
    """Each import of a part of blvnet_lab in ``source``: (statement, part).

    ``module`` is the file's path from the checkout, ``blvnet_lab/models/tam.py``. Imports inside
    functions and under ``if TYPE_CHECKING`` count like all others.
    """
    package = list(PurePosixPath(module).parent.parts)
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            base = ".".join([*base, *([node.module] if node.module else [])])
            # `from blvnet_lab import models` names a part only in its second half
            names = [f"{base}.{alias.name}" for alias in node.names]
        else:
            continue
        for name in names:
            top, _, rest = name.partition(".")
            part = rest.partition(".")[0]
            if top == "blvnet_lab" and part and not part.startswith("__version"):
                yield node, part


def import_problems(source: str, module: str) -> list[str]:
    """Imports in ``source`` that run against the arrows."""
    part = part_of(module)
    folder = PurePosixPath(module).parent.relative_to("blvnet_lab").as_posix()
    lazy = {
        node.lineno
        for function in ast.walk(ast.parse(source))
        if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef)
        for node in ast.walk(function)
        if isinstance(node, ast.Import | ast.ImportFrom)
    }
    found = []
    for node, other in imported_parts(source, module):
        if other == part or (other in GROUND and part not in GROUND):
            continue
        where = f"{module}:{node.lineno}: {part} imports {other}"
        if part in COMMAND_LINE:
            light = getattr(node, "module", None) in LIGHT  # the options themselves
            if other not in COMMAND_LINE and node.lineno not in lazy and not light:
                found.append(f"{where} outside a function")
        elif other not in MAY_IMPORT.get(folder, MAY_IMPORT[part]):
            found.append(where)
    return found


def test_imports_run_one_way():
    assert len(LIBRARY) > 5
    for path in LIBRARY:
        module = path.relative_to(ROOT).as_posix()
        assert import_problems(path.read_text("utf-8"), module) == []


@pytest.mark.parametrize(
    "module, source, words",
    [
        ("models/tam.py", "import blvnet_lab.data.reading", "models imports data"),
        ("models/tam.py", "from blvnet_lab.data import reading", "models imports data"),
        ("models/tam.py", "from blvnet_lab import data", "models imports data"),
        ("models/tam.py", "from .. import training", "models imports training"),
        ("models/tam.py", "from ..introspect.capture import x", "models imports introspect"),
        ("models/tam.py", "def f():\n    import blvnet_lab.viz.figures", "models imports viz"),
        ("models/tam.py", "import os, blvnet_lab.course", "models imports course"),
        ("data/formats/ucf.py", "from ...models import tam", "data imports models"),
        ("introspect/taps.py", "from blvnet_lab.data import reading", "introspect imports data"),
        ("training/engine.py", "from blvnet_lab.runs.train import train", "training imports runs"),
        ("viz/figures.py", "from blvnet_lab.models.tam import TAM", "viz imports models"),
        ("viz/explorers/tam.py", "from blvnet_lab import training", "viz imports training"),
        ("course/checks.py", "from blvnet_lab.viz import show", "course imports viz"),
        ("benchmark/run.py", "from blvnet_lab.course import checks", "benchmark imports course"),
        ("paths.py", "from blvnet_lab.models import tam", "paths imports models"),
        ("__init__.py", "from blvnet_lab.models import tam", "__init__ imports models"),
        ("cli.py", "from blvnet_lab.training import engine", "cli imports training outside a fun"),
        ("__main__.py", "import blvnet_lab.models", "__main__ imports models outside a func"),
    ],
)
def test_import_against_the_arrows_is_noticed(module, source, words):
    assert words in "\n".join(import_problems(source, f"blvnet_lab/{module}"))


@pytest.mark.parametrize(
    "module, source",
    [
        ("models/files.py", "from blvnet_lab.paths import samples\nfrom .tam import TAM"),
        ("introspect/taps.py", "from blvnet_lab.models.tam import TAM\nimport torch.data"),
        ("viz/widgets.py", "import torch\nfrom .figures import strip"),
        ("viz/explorers/tam.py", "from blvnet_lab import data, models, introspect"),
        ("course/checks.py", "from blvnet_lab import models, data, training, introspect"),
        ("runs/train.py", "from blvnet_lab.weights import load_resnet"),
        ("cli.py", "def main():\n    from .viz import figures\n    import blvnet_lab.data"),
        ("cli.py", "import blvnet_lab\nfrom blvnet_lab import __version__"),
        ("__main__.py", "from blvnet_lab.cli import main"),
    ],
)
def test_import_along_the_arrows_is_fine(module, source):
    assert import_problems(source, f"blvnet_lab/{module}") == []


# ---------------------------------------------------------------- rules of taste


def taste_problems(source: str, module: str) -> list[str]:
    """Constructs this library does without, each with the reason."""
    part, tree, found = part_of(module), ast.parse(source), []
    # Of all code only a learner's may raise anything at all, and the check must go on.
    calls_learners = {
        node.lineno
        for function in ast.walk(tree)
        if module == "blvnet_lab/course/checking.py" and getattr(function, "name", "") == "ask"
        for node in ast.walk(function)
        if isinstance(node, ast.ExceptHandler)
    }

    def report(node: ast.AST, text: str) -> None:
        found.append(f"{module}:{node.lineno}: {text}")

    on_new_values = set()  # what is made on the spot, no module returns and no hook has seen
    for node in ast.walk(tree):
        match node:
            case ast.Call(
                func=ast.Attribute(value=ast.Name(id="torch"), attr="relu_") as function,
                args=[ast.BinOp() | ast.Call(func=ast.Name())
                      | ast.Call(func=ast.Attribute(value=ast.Call(func=ast.Name(id="super"))))],
            ):  # fmt: skip
                on_new_values.add(function)
            case ast.keyword(arg="inplace", value=value):
                if not (isinstance(value, ast.Constant) and value.value is False):
                    report(node, "inplace=True falsifies what hooks have captured")
            case ast.Call(func=ast.Attribute(attr=name) | ast.Name(id=name), args=[first, *_]) if (
                name in ("ReLU", "ReLU6") and not isinstance(first, ast.Starred)
            ):
                report(node, f"{name}(True): inplace=True falsifies what hooks have captured")
            case ast.Attribute(attr="relu_") if node not in on_new_values:
                report(node, "relu_ works in place and falsifies what hooks have captured")
            case ast.Call(func=ast.Name(id="print")) if part not in COMMAND_LINE:
                report(node, "print( in the library: return it, or log it")
            case ast.Attribute(value=ast.Name(id="sys"), attr="path"):
                report(node, "sys.path: install the package instead")
            case ast.ExceptHandler(type=None):
                report(node, "bare except: name what can go wrong")
            case ast.ExceptHandler(type=caught, lineno=line) if line not in calls_learners:
                names = caught.elts if isinstance(caught, ast.Tuple) else [caught]
                for name in names:
                    if isinstance(name, ast.Name) and name.id in ("Exception", "BaseException"):
                        report(node, f"except {name.id}: name what can go wrong")
            case ast.Call(func=ast.Attribute(attr="cuda")):
                report(node, ".cuda(: use .to(device)")
            case ast.ImportFrom(module=origin, names=names):
                if any(alias.name == "*" for alias in names):
                    report(node, "import *: name what is meant")
                if origin == "sys" and any(alias.name == "path" for alias in names):
                    report(node, "sys.path: install the package instead")
            case ast.arguments(kwarg=ast.arg() as kwarg) if part == "models":
                report(kwarg, f"**{kwarg.arg} in models: spell the arguments out")
    return found


def test_rules_of_taste():
    for path in LIBRARY:
        module = path.relative_to(ROOT).as_posix()
        assert taste_problems(path.read_text("utf-8"), module) == []


@pytest.mark.parametrize(
    "source, words",
    [
        ("nn.ReLU(inplace=True)", "inplace=True"),
        ("relu(x, inplace=fast)", "inplace=True"),
        ("nn.ReLU(True)", "inplace=True"),
        ("x.relu_()", "relu_ works in place"),
        ("torch.relu_(x)", "relu_ works in place"),
        ("torch.relu_(self.bn(x))", "relu_ works in place"),
        ("print('loss', loss)", "print("),
        ("sys.path.insert(0, '.')", "sys.path"),
        ("from sys import path", "sys.path"),
        ("try:\n    x()\nexcept:\n    pass", "bare except"),
        ("try:\n    x()\nexcept Exception:\n    raise", "except Exception"),
        ("try:\n    x()\nexcept (KeyError, BaseException) as e:\n    y()", "except BaseException"),
        ("model.cuda()", ".cuda("),
        ("from torch.nn import *", "import *"),
        ("def build(depth, **kwargs):\n    pass", "**kwargs in models"),
        ("class A:\n    def f(self, *, x=1, **rest): ...", "**rest in models"),
    ],
)
def test_offender_is_noticed(source, words):
    assert words in "\n".join(taste_problems(source, "blvnet_lab/models/tam.py"))


@pytest.mark.parametrize(
    "module, source",
    [
        ("models/tam.py", '"""Not inplace=True, print(, sys.path, except Exception or .cuda(."""'),
        ("models/tam.py", "nn.ReLU()\nnn.ReLU(inplace=False)\nbuild(**sizes)"),
        ("models/tam.py", "torch.relu_(a + b)\ntorch.relu_(weighted_sum(x))"),
        ("models/tam.py", "torch.relu_(super().forward(x))\ntorch.cuda.is_available()"),
        ("models/tam.py", "try:\n    x()\nexcept (KeyError, OSError):\n    pass"),
        ("viz/figures.py", "def bars(values, **style): ..."),
        ("cli.py", "print('done')"),
    ],
)
def test_no_offender(module, source):
    assert taste_problems(source, f"blvnet_lab/{module}") == []


# ---------------------------------------------------------------- findings


def finding_problems(text: str) -> list[str]:
    """What a script of findings/ lacks: header, pinned packages, no word of this project."""
    head, strict, body = text.partition("\nset -euo pipefail\n")
    lines = head.splitlines()
    found = []
    if lines[0] != "#!/usr/bin/env bash" or not all(line.startswith("#") for line in lines):
        found.append("it does not begin with '#!/usr/bin/env bash' and a header of comments")
    parts = ("Why it matters", "Seen with", "Source", "Remedy")
    found += [f"no '# {part}: '" for part in parts if f"\n# {part}: " not in head]
    wanted = ("mktemp -d", "trap ", "${PYTHON:-python3}", "expected:", "seen:")
    found += [f"no {words!r}" for words in wanted if words not in body]
    if not strict:
        found.append("no 'set -euo pipefail' after the header")
    installed = [
        word
        for line in re.findall("pip install (.*)", body.replace("\\\n", " "))
        for word in itertools.takewhile(lambda word: word[0] != ">", shlex.split(line))
        if word[0] != "-"
    ]
    found += [f"{word} is not pinned by ==" for word in installed if "==" not in word]
    if not installed:
        found.append("no package is installed")
    if "blvnet" in text.lower():
        found.append("it names this project")
    return found


def test_findings_stand_alone():
    scripts = sorted((ROOT / "findings").iterdir())
    assert scripts
    for path in scripts:
        assert path.suffix == ".sh" and os.access(path, os.X_OK), f"{path.name} is no script"
        assert (path.name, finding_problems(path.read_text("utf-8"))) == (path.name, [])
        subprocess.run(["bash", "-n", str(path)], check=True)


FINDING = """#!/usr/bin/env bash
# Surprising.
# Why it matters: why
# Seen with: av 1
# Source: here
# Remedy: this
set -euo pipefail
folder=$(mktemp -d); trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder"
pip install --quiet av==1 \\
    'six==1; python_version >= "3"' >log 2>&1
echo "expected: 1"; echo "seen: 2"
"""


@pytest.mark.parametrize(
    "old, new, words",
    [
        ("", "", ""),
        ("#!/usr/bin/env bash\n", "", "does not begin with"),
        ("# Surprising.", "true", "does not begin with"),
        ("# Source: here\n", "", "no '# Source: '"),
        ("set -euo pipefail", "set -e", "no 'set -euo pipefail'"),
        ("trap ", "on ", "no 'trap '"),
        ("av==1", "av", "av is not pinned"),
        ("'six==1;", "'six>=1;", "six>=1; python_version"),
        ("pip install", "pip download", "no package is installed"),
        ("Surprising", "Seen in blvnet_lab", "names this project"),
    ],
)
def test_finding_that_does_not_stand_alone_is_noticed(old, new, words):
    found = "\n".join(finding_problems(FINDING.replace(old, new, 1)))
    assert words in found if words else found == ""


# ---------------------------------------------------------------- files and settings


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
        for line in (
            "expected: Python 3.11 or newer",
            f"got:      {got}",
            "remedy:   make lab PYTHON=python3.12",
        ):
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
