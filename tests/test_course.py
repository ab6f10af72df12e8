"""The course in a folder of one's own, what teachers get, and the pages that both read."""

import csv
import json
import os
import re
import shlex
import shutil
import sys
import tomllib
from functools import partial
from operator import attrgetter, itemgetter
from pathlib import Path
from unittest import mock

import nbformat
import pytest
from lab import ROOT, contents, open_page, run_python, type_command
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

import notebooks
from blvnet_lab import paths
from blvnet_lab.course import copies as course
from blvnet_lab.course import exercises, instructor, slides, solutions

NAMES = sorted(path.name for path in (ROOT / "notebooks").glob("*.ipynb"))
DOCS = ROOT / "docs"
PAGES = ["glossary.md", "references.md"]
PAGE_FILES = [ROOT / "notebooks" / name for name in PAGES]
NB02 = "02_why_time_matters.ipynb"
CHECKS = [name for name in vars(exercises) if name.startswith("check_")]


def copy_course(folder):
    return course.update_course(folder).files


def reset_notebook(name, folder):
    """The notebook, and where the edited one is now."""
    (done,) = course.update_course(folder, reset=(name,)).reset.items()
    return done


def only(**kinds):
    """What is said of all files; those not named are as shipped."""
    named = {name for names in kinds.values() for name in names}
    unchanged = [name for name in sorted(NAMES + PAGES) if name not in named]
    return {"new": [], "unchanged": unchanged, "updated": [], "kept": []} | kinds


def rewrite(path, change):
    nb = nbformat.read(path, as_version=4)
    change(nb)
    nbformat.write(nb, path)


def saved_by_jupyterlab(nb):
    """What autosave, running and Shift-Enter in the last cell leave in a notebook."""
    nb.metadata["language_info"] = {"name": "python", "version": "3.13.0"}
    nb.cells[1].metadata["scrolled"] = True
    for cell in nb.cells:
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], 7
    nb.cells.append(new_code_cell(""))


def edited(nb):
    nb.cells[3].source += "\n# mine"


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A copy of the notebooks that the package ships, to be updated."""
    folder = tmp_path / "package"
    shutil.copytree(ROOT / "notebooks", folder)
    monkeypatch.setattr(course, "notebooks", lambda: folder)
    return folder


@pytest.fixture
def mine(package, tmp_path):
    """A folder with the course as it was copied."""
    folder = tmp_path / "my course"
    assert copy_course(folder) == only(unchanged=[], new=sorted(NAMES + PAGES))
    return folder


def test_the_whole_course_is_copied_and_what_is_missing_added(mine):
    copied = contents(mine)
    assert set(json.loads(copied.pop(course.RECORD))) == set(copied)
    assert copied == {name: (ROOT / "notebooks" / name).read_bytes() for name in NAMES + PAGES}
    assert [problem for name in NAMES for problem in problems_of(mine / name)] == []
    (mine / NB02).unlink()
    assert copy_course(mine) == only(new=[NB02])


def test_what_is_there_is_never_touched(tmp_path):
    (tmp_path / NB02).write_text("mine")
    (tmp_path / "glossary.md").mkdir()
    (tmp_path / course.FIRST).symlink_to("nowhere")
    for _ in range(2):
        files = copy_course(tmp_path)
        assert files["kept"] == sorted([course.FIRST, NB02, "glossary.md"])
        assert (tmp_path / NB02).read_text() == "mine"
        assert (tmp_path / course.FIRST).is_symlink() and (tmp_path / "glossary.md").is_dir()


def test_opening_and_running_is_no_edit(mine):
    rewrite(mine / NB02, saved_by_jupyterlab)
    saved = (mine / NB02).read_bytes()
    assert copy_course(mine) == only() and (mine / NB02).read_bytes() == saved
    for change in (
        edited,
        lambda nb: nb.cells[0].update(cell_type="raw"),
        lambda nb: nb.cells[3].update(source=""),
    ):
        (mine / NB02).write_bytes(saved)
        rewrite(mine / NB02, change)
        before = (mine / NB02).read_bytes()
        assert copy_course(mine) == only(kept=[NB02]) and (mine / NB02).read_bytes() == before


def test_after_an_update_only_what_was_edited_is_kept(package, mine):
    other = NAMES[3]
    rewrite(mine / NB02, saved_by_jupyterlab)
    rewrite(mine / other, edited)
    (mine / "glossary.md").write_text("mine")
    kept = contents(mine)
    for name in (NB02, other):
        rewrite(package / name, lambda nb: nb.cells.append(new_markdown_cell("New.")))
    for name in PAGES:
        (package / name).write_text("# New page\n")
    expected = only(updated=[NB02, "references.md"], kept=sorted([other, "glossary.md"]))
    assert copy_course(mine) == expected
    for name in expected["updated"]:
        assert (mine / name).read_bytes() == (package / name).read_bytes()
    for name in expected["kept"]:
        assert (mine / name).read_bytes() == kept[name]
    assert copy_course(mine) == only(kept=expected["kept"]), "the record knows the new ones"
    # What was put back is not edited any more.
    assert reset_notebook(other, mine)[1].read_bytes() == kept[other]
    rewrite(package / other, lambda nb: nb.cells.append(new_markdown_cell("Newer.")))
    assert copy_course(mine) == only(updated=[other], kept=["glossary.md"])


def test_a_folder_of_an_older_version_is_kept(package, mine):
    (mine / course.RECORD).unlink()
    rewrite(package / NB02, lambda nb: nb.cells.append(new_markdown_cell("New.")))
    before = (mine / NB02).read_bytes()
    assert copy_course(mine) == only(kept=[NB02])
    assert (mine / NB02).read_bytes() == before
    # The others were as shipped, so from now on they are known.
    rewrite(package / NAMES[3], lambda nb: nb.cells.append(new_markdown_cell("New.")))
    assert copy_course(mine) == only(kept=[NB02], updated=[NAMES[3]])


def test_reset_keeps_mine(package, mine):
    shipped = (package / NB02).read_bytes()
    for number, text in enumerate(["first", "second"], start=1):
        (mine / NB02).write_text(text)
        target, kept = reset_notebook("02", mine)
        assert target == mine / NB02 and target.read_bytes() == shipped
        assert kept.name == f"02_why_time_matters.mine-{number}.ipynb"
        assert kept.read_text() == text
    assert (mine / "02_why_time_matters.mine-1.ipynb").read_text() == "first"
    rewrite(mine / NB02, saved_by_jupyterlab)
    assert reset_notebook(NB02, mine) == (mine / NB02, None)  # nothing to keep
    (mine / NB02).unlink()
    assert reset_notebook("02_why_time_matters", mine) == (mine / NB02, None)
    assert (mine / NB02).read_bytes() == shipped


def test_names_of_a_notebook():
    for name in ("2", "02", "02_why_time_matters", NB02, f"somewhere/{NB02}"):
        assert course.find_notebook(name).name == NB02
    for name in ("02_why_time_mater", "why_time_matters"):
        with pytest.raises(ValueError, match=f'got "{name}".*near it are.*02_why_time_matters'):
            course.find_notebook(name)


def test_the_package_is_no_folder_of_yours():
    shipped = contents(ROOT / "notebooks")
    for act in (copy_course, partial(reset_notebook, "02")):
        with pytest.raises(ValueError, match="a folder of your own"):
            act(paths.notebooks())
    assert contents(ROOT / "notebooks") == shipped


def test_from_an_installed_package(tmp_path, monkeypatch):
    """The layout of the wheel, made as pyproject.toml says: there is no clone beside it."""
    wheel = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["tool"]["hatch"]["build"]
    wheel, site = wheel["targets"]["wheel"], tmp_path / "site-packages"
    for name in wheel["only-include"]:
        if name != "data_samples":  # 6 MB that the course need not copy
            ignored = shutil.ignore_patterns("__pycache__", ".ipynb_checkpoints")
            shutil.copytree(ROOT / name, site / wheel["sources"].get(name, name), ignore=ignored)
    monkeypatch.chdir(tmp_path)
    done = run_python("-m", "blvnet_lab", "course", "mine", PYTHONPATH=str(site))
    assert done.returncode == 0, done.stderr
    assert f"{len(NAMES + PAGES)} new" in done.stdout
    assert "jupyter lab " + os.path.join("mine", course.FIRST) in done.stdout
    assert sorted(os.listdir(tmp_path / "mine")) == sorted([*NAMES, *PAGES, course.RECORD])


def test_what_the_course_command_says(package, mine, monkeypatch, capsys):
    edits = [NB02, NAMES[3], "glossary.md"]
    for name in edits:
        (mine / name).write_text("mine")
    for path in package.glob("0[45]*.ipynb"):
        rewrite(path, edited)
    (mine / "references.md").unlink()
    type_command(monkeypatch, "course", mine)
    shown = capsys.readouterr().out
    for line in (
        f"{mine}: 1 new, {len(NAMES + PAGES) - 6} unchanged, 2 updated, 3 kept",
        f"updated, you had not edited it: {NAMES[4]}",
        f"kept, you may have edited it: {NAMES[3]}",
        "Reload Notebook from Disk",
    ):
        assert line in shown
    # One command puts all of them back; a wrong name is noticed before any is.
    (again,) = re.findall("python -m blvnet_lab (course .*)", shown)
    for name, words in (("why_time", "near it are 02_why_time_matters"), ("", 'notebook, got ""')):
        with pytest.raises(SystemExit, match=words):
            type_command(monkeypatch, *shlex.split(again), name)
    assert (mine / NB02).read_text() == "mine"
    type_command(monkeypatch, *shlex.split(again), "1")
    shown = capsys.readouterr().out
    for name in edits:
        assert (mine / name).read_bytes() == (package / name).read_bytes()
        stem, _, suffix = name.rpartition(".")
        assert (mine / f"{stem}.mine-1.{suffix}").read_text() == "mine"
        assert f"{mine / name} is as shipped, yours is {stem}.mine-1.{suffix}" in shown
    assert f"{mine / NAMES[1]} is as shipped\n" in shown
    assert f"jupyter lab '{mine / NB02}'" in shown


def test_open_starts_jupyterlab_on_it(tmp_path, monkeypatch, capsys):
    started = []
    monkeypatch.setattr("jupyterlab.labapp.LabApp.launch_instance", started.append)
    type_command(monkeypatch, "course", tmp_path / "mine", "--open")
    ((first, *_),) = started
    assert first == str(tmp_path / "mine" / course.FIRST) and Path(first).is_file()
    assert "jupyter lab" not in capsys.readouterr().out


@pytest.fixture(scope="module")
def checked_once():
    """The checks of a teacher's sheet are run on their solutions once only."""
    whole, sheets = instructor.marking_sheet, []

    def sheet(found):
        if not sheets:
            sheets.append(whole(found))
        return sheets[0]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(instructor, "marking_sheet", sheet)
        yield


@pytest.fixture(scope="module")
def teaching(tmp_path_factory, checked_once):
    """The folder of `instructor`, of the real notebooks."""
    out = tmp_path_factory.mktemp("teaching")
    written = instructor.write_instructor(out)
    there = {path for path in out.rglob("*") if path.is_file()}
    expected = {*written.files, out / course.RECORD}
    assert expected == {path for path in there if path.name not in PAGES}
    assert "kept" not in written.advice
    again = instructor.write_instructor(out, replace=True)
    assert again.advice == f"{written.advice} --force", "nothing was edited"
    return out


def solved(teaching):
    for path in sorted((teaching / "source").glob("*/*.ipynb")):
        # nbgrader: source/<assignment>/<notebook>. The name says which of the two it is.
        assert path.name == f"{path.parent.name[:2]}_hand_in.ipynb"
        assert path.parent.name + ".ipynb" in NAMES
        yield path, nbformat.read(path, as_version=4)


def exercise_cells(nb, tag):
    return [cell for cell in nb.cells if tag in cell.metadata.get("tags", [])]


def test_every_stub_is_solved(teaching):
    count = 0
    for path, nb in solved(teaching):
        nbformat.validate(nb)
        assert [problem for page in path.parent.iterdir() for problem in problems_of(page)] == []
        course_name = f"{path.parent.name}.ipynb"
        original = nbformat.read(ROOT / "notebooks" / course_name, as_version=4)
        banner = nb.cells[0].source
        assert f"To hand in: this file, under this name, `{path.name}`" in banner
        assert f"`{course_name}`" in banner and "cannot be marked" in banner
        for cell, was in zip(nb.cells[1:], original.cells, strict=True):
            tags = cell.metadata.get("tags", [])
            if "exercise" in tags:
                count += 1
                head, begin, rest = cell.source.partition("### BEGIN SOLUTION\n")
                assert begin and rest.endswith("### END SOLUTION")
                assert was.source.partition("    raise NotImpl")[0].rstrip() == head.rstrip()
                compile(cell.source, path.name, "exec")
                assert "NotImplementedError" not in cell.source
            elif "check" in tags:
                call, shown, last = cell.source.splitlines()
                assert (call, shown) == (f"verdict = {was.source.strip()}", "display(verdict)")
                assert last == f"{cell.metadata['nbgrader']['points']} if verdict else 0"
            elif cell.cell_type == "code":
                assert cell == was and "verdict" not in cell.source, "a name of the tests"
            else:
                assert cell.source == re.sub(r"\[([^]]+)\]\(0\d_\w+\.ipynb\)", r"\1", was.source)
    assert count == len(CHECKS) > 3


def test_metadata_is_what_nbgrader_asks_for(teaching):
    """Its schema 3: keys, types, and what excludes what."""
    for _, nb in solved(teaching):
        cells = [*exercise_cells(nb, "exercise"), *exercise_cells(nb, "check")]
        assert len(cells) == sum("nbgrader" in cell.metadata for cell in nb.cells) > 0
        ids = {cell.metadata["nbgrader"]["grade_id"] for cell in cells}
        assert len(ids) == len(cells) and all(re.fullmatch(r"[A-Za-z0-9_-]+", x) for x in ids)
        for cell in cells:
            is_test = "check" in cell.metadata["tags"]
            marks = {"grade": is_test, "locked": is_test, "solution": not is_test}
            data = dict(cell.metadata["nbgrader"])
            assert (data.pop("points", None) in (1, 2, 3)) == is_test
            assert data.pop("grade_id") and data == marks | {"schema_version": 3, "task": False}
            assert cell.outputs == [] and cell.execution_count is None


def test_the_marking_sheet_is_complete(teaching):
    with (teaching / "marking_sheet.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    checks = [row["check"].removeprefix("exercises.") for row in rows]
    assert sorted(checks) == sorted(CHECKS)
    ids = [
        (f"{path.parent.name}.ipynb", *itemgetter("grade_id", "points")(cell.metadata["nbgrader"]))
        for path, nb in solved(teaching)
        for cell in exercise_cells(nb, "check")
    ]
    assert [(row["notebook"], row["grade_id"], int(row["points"])) for row in rows] == ids
    # These stay, else answers handed in before an update could not be marked after it.
    assert "check-2-1-shift" in {row["grade_id"] for row in rows}
    text = (teaching / "marking_sheet.md").read_text("utf-8")
    for row in rows:
        assert int(row["minutes"]) > 0 and all(value.strip() for value in row.values())
        assert row["difficulty"].count("●") == int(row["points"])
        assert f"| {row['exercise']} | {row['title']} |" in text
    assert f"{len(rows)} exercises" in text


def test_what_a_teacher_edited_is_kept(teaching, tmp_path, monkeypatch, capsys):
    shutil.copytree(teaching, tmp_path, dirs_exist_ok=True)
    config, folder = tmp_path / "nbgrader_config.py", tmp_path / "source" / NB02[:-6]
    points = folder / "02_hand_in.ipynb"
    text = tmp_path / "source" / NAMES[3][:-6] / "03_hand_in.ipynb"
    config.write_text("# mine\n")
    new = text.read_bytes()

    def more_points(nb):
        exercise_cells(nb, "check")[0].metadata["nbgrader"]["points"] = 7

    rewrite(points, more_points)
    rewrite(text, edited)
    mine = {path: path.read_bytes() for path in (points, text)}
    said = r"expected .* got .*marking_sheet\.csv.*--replace"
    with monkeypatch.context() as patch, pytest.raises(FileExistsError, match=said):
        patch.setattr(instructor, "marking_sheet", None)  # it does not begin
        instructor.write_instructor(tmp_path)
    assert mine == {path: path.read_bytes() for path in mine}, "nothing is overwritten untold"
    # Of this page nothing was edited; it is of an older version.
    monkeypatch.setattr(instructor, "_as_markdown", lambda rows: "newer")
    type_command(monkeypatch, "instructor", "--out", tmp_path, "--replace")
    shown = capsys.readouterr().out
    assert (tmp_path / "marking_sheet.md").read_text() == "newer"
    assert config.read_text() == "# mine\n" and f"kept as you edited it: {config}\n" in shown
    assert text.read_bytes() == new
    for path, content in mine.items():
        place = tmp_path / "kept" / path.relative_to(tmp_path)
        place = place.with_name(f"{place.stem}.mine-1.ipynb")
        assert place.read_bytes() == content
        assert f"kept as you edited it: {path} is now {place}\n" in shown
    # nbgrader hands out what lies in an assignment's folder: no solution may lie there.
    assert {path.name for path in folder.iterdir()} == {"02_hand_in.ipynb", *PAGES}
    assert shown.count("kept as you edited it") == 1 + len(mine)
    assert "nbgrader generate_assignment 01_from_video_to_tensor --force" in shown
    type_command(monkeypatch, "instructor", "--out", tmp_path, "--replace")
    assert config.read_text() == "# mine\n" and "is now" not in capsys.readouterr().out


def test_what_zip_collect_finds():
    """The pattern in the configuration, as nbgrader applies it: at the beginning of the path."""
    config = mock.MagicMock()
    exec(instructor.CONFIG, {"get_config": lambda: config})
    pattern = config.FileNameCollectorPlugin.named_regexp
    right = {"student_id": "anna", "file_id": "02_hand_in"}
    wrong = {"student_id": "anna", "file_id": "02_why_time_matters"}  # zip_collect warns of it
    for name, expected in (
        ("anna_02_hand_in.ipynb", right),
        ("anna/02_why_time_matters/02_hand_in.ipynb", right),
        ("anna_02_why_time_matters.ipynb", wrong),
        ("02_hand_in.ipynb", None),
        ("anna/.ipynb_checkpoints/02_hand_in-checkpoint.ipynb", None),
    ):
        match = re.match(pattern, f"/c/extracted/{name}")
        assert (match and match.groupdict()) == expected, name


STUB = 'def shift(x, *, offset=1):\n    """What."""\n    raise NotImplementedError  # your turn'


def exercise():
    heading = "### ✎ Exercise 2.1 · A shift in time · ●●○ · 8 minutes"
    return new_notebook(
        cells=[
            new_code_cell("import torch"),
            new_markdown_cell(heading + "\n\nWrite it."),
            new_code_cell("@memo\n" + STUB, metadata={"tags": ["exercise"]}),
            new_code_cell("exercises.check_shift(shift)", metadata={"tags": ["check"]}),
        ]
    )


def test_decorators_comments_and_imports_are_kept(monkeypatch):
    monkeypatch.setattr(solutions, "shift", answer_with_everything)
    (found,) = instructor.find_exercises(exercise())
    instructor.solve(found)
    expected = ("2.1", "A shift in time", 2, 8)
    assert (found.number, found.title, found.points, found.minutes) == expected
    assert found.stub.source == (
        '@memo\ndef shift(x, *, offset=1):\n    """What."""\n    ### BEGIN SOLUTION\n'
        "    import re\n    from test_course import torch\n    # first\n    if x:\n"
        "        return re.sub(x, x, offset)  # last\n    return torch\n    ### END SOLUTION"
    )


torch = None  # a name of the solution's module


def answer_with_everything(x, *, offset=1):
    """Not copied."""
    # first
    if x:
        return re.sub(x, x, offset)  # last
    return torch


def test_headings_make_slides():
    nb = exercise()
    nb.cells.insert(0, new_markdown_cell("# Title"))
    nb.cells.append(new_markdown_cell("## 4 · Next"))
    nb.cells.append(new_markdown_cell("Text."))
    nb.cells.append(new_markdown_cell("*Figure 4.1: A clip.*\n\nWhat comes next?"))
    kinds = "slide subslide subslide - - slide subslide -"
    assert slides.slide_types(nb) == kinds.split()


def slide_of(name):
    return name.replace(".ipynb", ".slides.html")


def test_slides_load_from_beside_them_what_is_there(tmp_path, monkeypatch):
    pages = slides.write_slides(tmp_path).files
    assert [page.name for page in pages] == [slide_of(name) for name in NAMES]
    text = pages[0].read_text("utf-8")
    assert "https://unpkg.com/reveal.js" in text and slides.STYLE in text
    assert text.count("<section>") > 10 and "<details>" in (tmp_path / slide_of(NB02)).read_text()
    one = Path(shutil.copy(ROOT / "notebooks" / NAMES[0], tmp_path))
    monkeypatch.setattr(slides, "notebooks", lambda: one.parent)
    with monkeypatch.context() as before_the_work:
        before_the_work.setattr("nbconvert.SlidesExporter", None)
        with pytest.raises(FileExistsError, match="--replace"):
            slides.write_slides(tmp_path)
    for name in slides.LOCAL.values():
        path = tmp_path / name.partition("?")[0]
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    written = slides.write_slides(tmp_path, replace=True)
    assert "no internet" in str(written)
    text = written.files[0].read_text("utf-8")
    loaded = re.findall(r"(?:src|href)=\"(https?:[^\"]+\.(?:js|css)[^\"]*)\"", text)
    assert loaded == [] and "unpkg.com" not in text


def problems_of(path):
    """What is wrong with the links and pictures of a page, or of a notebook's texts."""
    cells = [path.read_text("utf-8")]
    if path.suffix == ".ipynb":
        nb = nbformat.read(path, as_version=4)
        cells = [cell.source for cell in nb.cells if cell.cell_type == "markdown"]
    return [problem for cell in cells for problem in notebooks.markdown_problems(cell, path)]


@pytest.mark.parametrize(
    "path", [ROOT / "README.md", *DOCS.glob("*.md"), *PAGE_FILES], ids=attrgetter("name")
)
def test_links_and_alternative_texts(path):
    assert problems_of(path) == []


def test_dead_links_are_noticed(tmp_path):
    for text, words in (
        ("[a](other.md)", ""),
        ("[a](other.md#what-was-measured)", ""),
        ("[a](#part) ![b](other.md) <img src='x' alt='c'> [a](https://example.org/nowhere)", ""),
        ("`[a](nowhere.md)`\n```\n[a](nowhere.md)\n```", ""),
        ("[a](nowhere.md)", "nowhere.md leads nowhere"),
        ("[a](other.md#nothing)", "other.md has no heading #nothing"),
        ("![](other.md)", "no alternative text"),
        ("<img src='x' alt=''>", "without an alternative text"),
    ):
        (tmp_path / "other.md").write_text("# T\n\n## What was `measured`?\n")
        (tmp_path / "page.md").write_text("# Part\n")
        found = "\n".join(notebooks.markdown_problems(text, tmp_path / "page.md"))
        assert words in found if words else found == ""


def test_the_glossary_has_the_vocabulary():
    text = (ROOT / "notebooks" / "glossary.md").read_text("utf-8").lower()
    words = "clip frame pair partner branch stage tap merged view alpha beta top-1 causal twins"
    assert [word for word in words.split() if word not in text] == []
    rows = re.findall(r"^\| \*\*(.+?)\*\* \| (.+?) \| (.+?) \|$", text, re.MULTILINE)
    terms = [term for term, _, _ in rows]
    assert len(rows) > 30 and terms == sorted(terms)
    # Where a term is said to be met it is met.
    for term, _, where in rows:
        linked = re.findall(r"\[(\d\d)\]\((\S+)\)", where)
        assert linked and where == ", ".join(f"[{n}]({name})" for n, name in linked)
        for number, name in linked:
            assert name.startswith(number)
            nb = nbformat.read(ROOT / "notebooks" / name, as_version=4)
            read = "\n".join(cell.source for cell in nb.cells).lower()
            first = [re.sub(r" \(.*| .*", "", part.strip())[:8] for part in term.split(",")]
            assert any(word in read for word in first), f"{term} is not in {name}"


def test_the_table_in_the_teaching_guide_is_that_of_the_notebooks():
    """Titles and minutes; and the sums in its last row."""
    text = (ROOT / "docs" / "teaching.md").read_text("utf-8")
    expected, count = [], 0
    for name in NAMES:
        nb = nbformat.read(ROOT / "notebooks" / name, as_version=4)
        (title,) = re.findall(rf"^# {name[:2]} · (.+)$", nb.cells[0].source, re.MULTILINE)
        (minutes,) = re.findall(r"\*\*Time\*\* (\d+) minutes", nb.cells[0].source)
        found = instructor.find_exercises(nb)
        count += len(found)
        expected.append((f"{name[:2]} {title}", int(minutes), sum(one.minutes for one in found)))
    rows = re.findall(r"^\| (\d\d .+?) \| (\d+) min \| (\d+) \|", text, re.MULTILINE)
    assert [(title, int(all_), int(part)) for title, all_, part in rows] == expected
    sums = [sum(row[place] for row in expected) for place in (1, 2)]
    assert f"| all | {sums[0]} min | {sums[1]} | {count} exercises |" in text
    assert sums[0] == 670 and "eleven hours in all" in text


@pytest.mark.browser
def test_settings_hints_headings_and_pages_are_as_a_reader_wants_them(lab, browser):
    shipped = json.loads((ROOT / "notebooks" / "lab_settings.json").read_text("utf-8"))
    folder = Path(sys.prefix) / "share" / "jupyter" / "lab" / "settings" / "overrides.d"
    installed = json.loads((folder / "blvnet_lab.json").read_text("utf-8"))
    assert installed == shipped, "install the package again: pip install -e ."
    with open_page(browser, lab) as page:
        page.goto(lab.address(f"notebooks/{NB02}"))
        hints = page.locator(".jp-Notebook details")
        hints.first.wait_for()
        assert hints.count() > 5 and not any(hints.evaluate_all("all => all.map(x => x.open)"))
        hints.first.locator("summary").click()
        assert hints.first.evaluate("x => x.open")
        page.evaluate("() => void window.jupyterapp.commands.execute('toc:show-panel')")
        listed = page.locator(".jp-TableOfContents .jp-tocItem-content")
        listed.filter(has_text="Exercise 2.1").wait_for()
        assert "Recap" in listed.all_inner_texts()
        page.goto(lab.address("notebooks/glossary.md"))
        viewer = page.locator(".jp-MarkdownViewer")
        viewer.get_by_role("link", name="references").last.click()
        page.get_by_role("heading", name="References and further reading").wait_for()
        viewer.first.wait_for(state="attached")
