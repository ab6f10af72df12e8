"""A JupyterLab and a Chromium, one of each for all the browser tests of a process."""

import shutil
from collections.abc import Iterator

import pytest
from lab import ROOT, Lab, running_browser, running_lab


@pytest.fixture(scope="session")
def lab(tmp_path_factory) -> Iterator[Lab]:
    """Its root has a copy of the notebooks: the committed files are never run in place."""
    root = tmp_path_factory.mktemp("root")
    ignored = shutil.ignore_patterns(".ipynb_checkpoints")
    shutil.copytree(ROOT / "notebooks", root / "notebooks", ignore=ignored)
    with running_lab(root, tmp_path_factory.mktemp("lab")) as server:
        yield server


@pytest.fixture(scope="session")
def browser():
    with running_browser() as instance:
        yield instance
