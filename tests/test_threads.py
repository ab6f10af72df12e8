"""Threads give way on a busy machine, and the user's own choice stays."""

import os
import re
import subprocess
import sys
from types import SimpleNamespace

import pytest
import torch
from lab import ROOT

from blvnet_lab import threads

NAMES = (*threads.CHOSEN_BY_USER, "GOMP_SPINCOUNT", "OMP_WAIT_POLICY")


@pytest.fixture
def machine(monkeypatch, tmp_path):
    """Set the number of cores, of threads that want one (this one included), and own cores."""

    def make(cores: int, *running: int, own: int | None = None) -> None:
        lines = [f"9.00 9.00 9.00 {number}/300 4711\n" for number in running]
        monkeypatch.setattr(os, "cpu_count", lambda: cores)
        ours = set(range(own or cores))
        monkeypatch.setattr(os, "sched_getaffinity", lambda pid: ours, raising=False)
        load = SimpleNamespace(read_text=lambda: lines.pop(0) if lines[1:] else lines[0])
        monkeypatch.setattr(threads, "LOAD", load)
        monkeypatch.delitem(sys.modules, "torch", raising=False)

    return make


@pytest.mark.parametrize(
    "cores, running, own, expected",
    [
        (2, (2,), None, None),  # quiet
        (2, (3,), None, "1"),
        (2, (9, 9, 2, 9), None, None),  # a moment ago they only began
        (8, (9,), None, "4"),
        (8, (500,), None, "1"),
        (64, (65,), 4, "2"),  # in a container
        (1, (9,), None, None),  # there is but one
    ],
)
def test_a_share_of_the_cores(cores, running, own, expected, machine):
    machine(cores, *running, own=own)
    environment = {}
    line = threads.choose_threads(environment)
    assert environment.pop("GOMP_SPINCOUNT") == str(threads.SPIN_COUNT)
    child = dict(environment)
    assert environment.pop(threads.CHOSEN_HERE, None) == expected
    assert environment == ({} if expected is None else {"OMP_NUM_THREADS": expected})
    machine(cores, 1, own=own)
    threads.choose_threads(child)
    assert child == {"GOMP_SPINCOUNT": str(threads.SPIN_COUNT)}, "a child chooses for itself"
    assert bool(line) == (expected is not None)
    if line:
        others = running[0] - 1
        assert line.startswith(f"{others} other threads compete for the {cores} cores: computing")


@pytest.mark.parametrize("name", NAMES)
def test_what_the_user_has_set_stays(name, machine):
    machine(2, 9)
    environment = {name: "7"}
    threads.choose_threads(environment)
    assert environment.pop(name) == "7"
    assert ("OMP_NUM_THREADS" in environment) == (name not in threads.CHOSEN_BY_USER)
    assert ("GOMP_SPINCOUNT" in environment) == (name in threads.CHOSEN_BY_USER)


@pytest.mark.parametrize("chosen, expected", [(2, 1), (7, 7)])
def test_pytorch_is_there_already(chosen, expected, machine, monkeypatch):
    """As in a notebook; a number that is not PyTorch's own choice is the user's."""
    machine(2, 9)
    monkeypatch.setitem(sys.modules, "torch", torch)
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(chosen)
        threads.choose_threads({})
        assert torch.get_num_threads() == expected
    finally:
        torch.set_num_threads(before)


def test_it_is_chosen_before_pytorch_starts():
    code = "import blvnet_lab, sys; assert 'torch' not in sys.modules; import torch"
    clean = {name: value for name, value in os.environ.items() if name not in NAMES}
    clean |= {"PYTHONPATH": str(ROOT), "OMP_DISPLAY_ENV": "VERBOSE"}
    done = subprocess.run([sys.executable, "-c", code], env=clean, capture_output=True, text=True)
    found = re.search(r"GOMP_SPINCOUNT = '(\d+)'", done.stderr)
    if found is None:
        pytest.skip("this PyTorch has another OpenMP than GNU's")
    assert int(found[1]) == threads.SPIN_COUNT


def test_notebooks_of_make_lab_wait_alike():
    assert f"export GOMP_SPINCOUNT ?= {threads.SPIN_COUNT}\n" in (ROOT / "Makefile").read_text()
