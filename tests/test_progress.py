"""Bars in terminals, lines in log files."""

import io
import re
import sys

import pytest
from lab import ROOT
from test_engine import fitted

from blvnet_lab import progress


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_log_has_a_line_in_the_end(capsys):
    assert list(progress.tqdm(range(1000), "reading", unit="file")) == list(range(1000))
    text = capsys.readouterr().err
    (line,) = text.splitlines()
    assert re.fullmatch(r"reading: 100% 1000/1000 \[\S+<\S+, .+file/s\]", line)
    assert "\r" not in text and "\x1b" not in text


@pytest.mark.parametrize("how", [{"leave": False, "delay": 1}, {"disable": True}, {}])
def test_a_log_has_no_line_of_what_leaves_none_or_another_process_shows(how, capsys, monkeypatch):
    if not how:
        monkeypatch.setattr(progress.tqdm, "shown", False)
    with progress.tqdm(total=5, **how) as bar:
        bar.update(5)
        if "leave" not in how:
            bar.refresh()
    assert capsys.readouterr().err == ""


def test_a_log_has_a_line_now_and_then(capsys, monkeypatch):
    now = 100.0
    monkeypatch.setattr("tqdm.std.time", lambda: now)
    with progress.tqdm(total=100, desc="reading") as bar:
        for _ in range(100):
            now += progress.LOG_SECONDS / 10
            bar.update()
    lines = capsys.readouterr().err.splitlines()
    assert [int(re.search(r" (\d+)/100 ", line)[1]) for line in lines] == list(range(10, 101, 10))


def test_a_terminal_has_a_bar(monkeypatch):
    monkeypatch.setattr(sys, "stderr", Terminal())
    for _ in progress.tqdm(range(3), "reading", mininterval=0):
        pass
    text = sys.stderr.getvalue()
    assert text.count("\r") >= 4 and text.count("\n") == 1 and "100%|" in text


def test_a_run_has_a_line_an_epoch(capsys):
    fitted()
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 2
    for epoch, line in enumerate(lines, start=1):
        assert line.startswith(f"training blvnet_tam, seed 0: {50 * epoch:3}% {3 * epoch}/6 [")
        assert f"epoch={epoch}, loss=0." in line and "top_1=" in line


def test_all_progress_is_shown_alike():
    direct = [
        path.name
        for path in (ROOT / "blvnet_lab").rglob("*.py")
        if re.search(r"^\s*(from|import) tqdm", path.read_text("utf-8"), re.MULTILINE)
    ]
    assert direct == ["progress.py"]
