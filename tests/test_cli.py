"""The command line itself: what becomes of words, of errors of the system, and of a closed pipe."""

import io
import os
import subprocess
import sys
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from unittest.mock import Mock

import pandas as pd
import pytest
from lab import ROOT, type_command
from videos import write_video

from blvnet_lab import cli
from blvnet_lab.paths import data_samples
from blvnet_lab.runs.train import Run

MANIFEST = "data_samples/motion/manifest.csv"


@pytest.fixture
def elsewhere(tmp_path, monkeypatch):
    """A folder to work in without data_samples/, and a home below it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("USERPROFILE", str(tmp_path / "home"))
    return tmp_path


def test_samples_are_those_of_the_package_where_there_are_none(elsewhere, monkeypatch, capsys):
    shipped = data_samples() / "motion" / "manifest.csv"
    for words, name, found in (
        (["plan", MANIFEST], MANIFEST, shipped),
        (["train", f"--init={MANIFEST}"], MANIFEST, shipped),
        (["partners", "data_samples/motion"], "data_samples/motion", shipped.parent),
    ):
        assert cli.in_reach(words) == [word.replace(name, str(found)) for word in words]
        (line,) = capsys.readouterr().err.splitlines()
        assert line == f"{name} is not here: taken from the package, {found}"
    type_command(monkeypatch, "plan", MANIFEST, "--clips-per-second", 3)
    # The plan wraps its lines where the path makes them long.
    assert f"classes, in {shipped}" in " ".join(capsys.readouterr().out.split())


@pytest.mark.parametrize(
    "words",
    [
        "plan data_samples/motion/nowhere.csv",
        "plan my/data_samples/motion/manifest.csv",
        "manifest folder --root data_samples/motion",
        # Nothing of the package may be written over.
        "samples --out data_samples/motion",
        "course data_samples/checkpoints",
        "benchmark --json data_samples/benchmark.json",
        "benchmark --json=data_samples/benchmark.json",
        "import-official a.pth data_samples/checkpoints/blvnet_tam_causal.safetensors",
        "train --resume --init auto",
        "plan data_samples/motion/manifest.csv",
        "",
    ],
)
def test_other_words_stay(elsewhere, words, capsys):
    (elsewhere / "data_samples" / "motion").mkdir(parents=True)
    (elsewhere / "data_samples" / "motion" / "manifest.csv").touch()
    assert cli.in_reach(words.split()) == words.split() and capsys.readouterr().err == ""


def test_resume_may_say_auto():
    words = ["train", "m.csv", "--resume", "auto", "--out", "auto"]
    assert cli.in_reach(words) == ["train", "m.csv", "--resume", "--out", "auto"]


def test_a_quoted_home_is_the_home(elsewhere, monkeypatch, capsys):
    type_command(monkeypatch, "course", "~/my course")
    assert (elsewhere / "home" / "my course" / "00_start_here.ipynb").is_file()
    assert not (elsewhere / "~").exists() and "~" not in capsys.readouterr().out
    home = str(elsewhere / "home")
    words = ["slides", "--out=~/x", "a~/x", "~"]
    assert cli.in_reach(words) == ["slides", f"--out={home}/x", "a~/x", home]


@pytest.mark.parametrize("words", ["course file/sub", "instructor --out file", "slides --out file"])
def test_a_file_in_the_place_of_a_folder(elsewhere, monkeypatch, words):
    words = words.split()
    (elsewhere / "file").touch()
    # What is written does not matter here, and takes seconds to make.
    monkeypatch.setattr("blvnet_lab.course.slides.notebooks", lambda: elsewhere)
    (elsewhere / "n.ipynb").write_text((ROOT / "notebooks" / "00_start_here.ipynb").read_text())
    with pytest.raises(SystemExit, match=f"^blvnet_lab: expected a folder, got {words[-1]}, which"):
        type_command(monkeypatch, *words)


def test_errors_have_one_form():
    for error, words in (
        (PermissionError(13, "Denied", "a.csv"), "read or write a.csv, got Denied: check it"),
        (OSError(28, "No space left", "d/.a.7.part"), "write d/a, got No space left: check it"),
        (OSError(28, "No space left"), "[Errno 28] No space left"),
        (FileExistsError("expected x, got y: z"), "expected x, got y: z"),  # one of ours
        (ValueError("expected x, got y: z"), "expected x, got y: z"),
    ):
        assert words in cli.error_line(error)


@pytest.mark.parametrize("words", ["course --help", "course mine"])
def test_a_closed_pipe_ends_quietly(tmp_path, words):
    """`... --help | head -3`: the reader has gone before all is written."""
    command = [sys.executable, "-m", "blvnet_lab", *words.split()]
    # Buffered, as it is for most people: then it is noticed only at the end.
    environment = os.environ | {"PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": ""}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, cwd=tmp_path, env=environment, **pipes) as process:
        process.stdout.close()
        assert process.stderr.read() == ""
    assert process.returncode == 1


@pytest.mark.parametrize("alphabet", ["cp1252", "utf-8"])
def test_names_that_the_terminal_cannot_write(tmp_path, monkeypatch, alphabet):
    """In tables, paths, errors, help and progress; what goes to files is UTF-8 all the same."""
    for name in ("\u8df3\u8dc3/\u9ad8.mp4", "\u8df3\u8dc3/b.mp4", "caf\u00e9/\U0001f600.mp4"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        write_video(tmp_path / name, 4 + len(name), size=(32, 48))
    out, errors = io.BytesIO(), io.BytesIO()
    for stream, buffer in (("stdout", out), ("stderr", errors)):  # strict, as Python begins
        monkeypatch.setattr(sys, stream, io.TextIOWrapper(buffer, alphabet))
    target = tmp_path / "\u51fa"
    type_command(monkeypatch, "manifest", "folder", "--root", tmp_path, "--out", target)
    written = "\u51fa" if alphabet == "utf-8" else "\\u51fa"
    assert f"{written}{os.sep}manifest.csv is the manifest".encode(alphabet) in out.getvalue()
    assert "\u8df3\u8dc3" in (target / "classes.csv").read_text("utf-8")
    (tmp_path / "list").write_text("\u8df3\n", "utf-8")
    for words in (["--help"], ["--hlep"], ["folder", "--root", tmp_path, "--out", target,
                                           "--class-list", tmp_path / "list"]):  # fmt: skip
        with pytest.raises(SystemExit) as ended:
            type_command(monkeypatch, "manifest", *words)
    print(ended.value.code, file=sys.stderr, flush=True)  # as Python does at the end
    name = "\u8df3\u8dc3" if alphabet == "utf-8" else "\\u8df3\\u8dc3"
    assert f"near it are {name}\n".encode(alphabet) in errors.getvalue()
    assert b"--val-share" in out.getvalue()


@pytest.mark.skipif(os.name == "nt", reason="needs a POSIX shell")
@pytest.mark.parametrize("words, code", [("cost --help >&-", 0), ("cost --dpeth 50 >&- 2>&-", 2)])
def test_outputs_that_are_closed(tmp_path, words, code):
    line = f'"{sys.executable}" -m blvnet_lab {words}'
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(line, shell=True, cwd=tmp_path, env=environment, capture_output=True)
    assert (done.returncode, done.stdout, done.stderr) == (code, b"", b"")


@pytest.mark.parametrize(
    "rank, others, prints", [("0", True, True), ("1", True, False), ("1", False, True)]
)
def test_one_of_several_processes_prints(monkeypatch, rank, others, prints):
    """A batch system may set a rank for a process that is alone."""
    for name in ("WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.setenv(name, "2" if others else "")
    monkeypatch.setenv("RANK", rank)
    assert cli.is_first() is prints


@pytest.mark.parametrize("stopped", ["", "SIGTERM"])
@pytest.mark.parametrize("published", ["", "ImageNet"])
def test_what_a_run_says(stopped, published):
    fitted = SimpleNamespace(unreadable=pd.DataFrame(range(3)), stopped=stopped)
    shown = str(Run(fitted, None, Path("m.safetensors"), "random weights", published))
    assert "started from random weights" in shown and "3 videos were passed over" in shown
    assert ("the published run started from ImageNet" in shown) == bool(published)
    assert ("SIGTERM: run the same again with --resume" in shown) == bool(stopped)
    assert ("m.safetensors is the best network" in shown) != bool(stopped)


@pytest.mark.parametrize("stopped", ["SIGINT", "SIGTERM", "a signal to another process", ""])
def test_a_run_that_was_stopped_is_no_success(stopped, monkeypatch, capsys):
    run = Run(SimpleNamespace(unreadable=(), stopped=stopped), None, Path("m"), "random weights")
    monkeypatch.setattr(cli, "as_command", lambda *_: lambda: run)
    with pytest.raises(SystemExit) if stopped else nullcontext() as ended:
        type_command(monkeypatch, "train")
    assert "random weights" in capsys.readouterr().out
    assert not stopped or ended.value.code == {"SIGINT": 130}.get(stopped, 143)


def test_ctrl_c_promises_nothing(monkeypatch, capsys):
    monkeypatch.setattr(cli, "run_typed", Mock(side_effect=KeyboardInterrupt))
    with pytest.raises(SystemExit) as ended:
        type_command(monkeypatch, "train")
    said = capsys.readouterr().err
    assert ended.value.code == 130 and "interrupted; files that are complete stay" in said


@pytest.mark.parametrize("word, advises", [("b.mp4", True), ("--tpo", False)])
def test_more_files_than_a_command_takes(word, advises, elsewhere, monkeypatch, capsys):
    for name in ("c.pt", "a.mp4", "b.mp4"):
        (elsewhere / name).touch()
    with pytest.raises(SystemExit) as ended:
        type_command(monkeypatch, "predict", "c.pt", "--top", 2, "a.mp4", word)
    assert word in capsys.readouterr().err
    advice = "blvnet_lab: got more files than expected: run predict once for each"
    assert (ended.value.code == advice) == advises


def test_help_of_every_command_names_what_stands_first():
    """The first line of each docstring is shown without importing anything."""
    for name in cli.COMMANDS:
        first, *_ = cli.find(name).__doc__.splitlines()
        assert cli.first_line(name) == first


def test_values_of_a_preset_are_defaults(monkeypatch, capsys):
    with pytest.raises(SystemExit):
        type_command(monkeypatch, "train", "--preset", "ssv2-50-f16x2", "--help")
    shown = " ".join(capsys.readouterr().out.split())
    assert "--num-frames INT" in shown and "(default: 32)" in shown
    assert "MANIFEST" in shown and "--out PATH" in shown
