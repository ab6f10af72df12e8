"""The course in a folder of one's own, what teachers get, and the pages that both read."""

import builtins
import csv
import dis
import json
import os
import re
import shutil
import subprocess
import sys
import time
import tomllib
import urllib.error
import urllib.request
from pathlib import Path

import nbformat
import pytest
from lab import ROOT, free_port, lab_and_browser, open_page
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

import notebooks
from blvnet_lab import course, exercises, instructor, paths, slides
from blvnet_lab.exercises import solutions

NAMES = sorted(path.name for path in (ROOT / "notebooks").glob("*.ipynb"))
PAGES = ["glossary.md", "references.md"]
NB02 = "02_why_time_matters.ipynb"


def contents(folder):
    """Names and bytes of all files in a folder."""
    return {path.name: path.read_bytes() for path in Path(folder).iterdir()}


# ---------------------------------------------------------------- copying, and putting back


def test_the_whole_course_is_copied(tmp_path):
    copied = course.copy_course(tmp_path / "new" / "folder")
    assert copied == course.Copied(sorted(NAMES + PAGES), [], [])
    assert contents(tmp_path / "new" / "folder") == {
        name: (ROOT / "notebooks" / name).read_bytes() for name in NAMES + PAGES
    }
    assert course.FIRST in NAMES


def test_what_is_there_is_never_touched(tmp_path):
    (tmp_path / NB02).write_text("mine")
    (tmp_path / "glossary.md").mkdir()
    (tmp_path / course.FIRST).symlink_to("nowhere")
    copied = course.copy_course(tmp_path)
    assert copied.yours == sorted([course.FIRST, NB02, "glossary.md"]) and copied.same == []
    assert (tmp_path / NB02).read_text() == "mine"
    assert (tmp_path / course.FIRST).is_symlink() and (tmp_path / "glossary.md").is_dir()
    again = course.copy_course(tmp_path)
    assert again == course.Copied([], copied.new, copied.yours)


def test_an_update_adds_what_is_new(tmp_path):
    course.copy_course(tmp_path)
    (tmp_path / NB02).unlink()
    assert course.copy_course(tmp_path).new == [NB02]


def test_reset_keeps_mine(tmp_path):
    course.copy_course(tmp_path)
    shipped = (ROOT / "notebooks" / NB02).read_bytes()
    for number, text in enumerate(["first", "second"], start=1):
        (tmp_path / NB02).write_text(text)
        target, kept = course.reset("02", tmp_path)
        assert target == tmp_path / NB02 and target.read_bytes() == shipped
        assert kept.name == f"02_why_time_matters.mine-{number}.ipynb"
        assert kept.read_text() == text
    assert (tmp_path / "02_why_time_matters.mine-1.ipynb").read_text() == "first"
    before = contents(tmp_path)
    assert course.reset(NB02, tmp_path) == (tmp_path / NB02, None)  # nothing to keep
    assert contents(tmp_path) == before
    (tmp_path / NB02).unlink()
    assert course.reset("02_why_time_matters", tmp_path) == (tmp_path / NB02, None)
    assert (tmp_path / NB02).read_bytes() == shipped


@pytest.mark.parametrize("name", ["2", "02", "02_why_time_matters", NB02, f"somewhere/{NB02}"])
def test_names_of_a_notebook(name):
    assert course.find_notebook(name).name == NB02


@pytest.mark.parametrize("name", ["02_why_time_mater", "why_time_matters"])
def test_a_misspelled_name_is_answered_with_the_near_ones(name):
    with pytest.raises(ValueError, match=f'got "{name}".*near it are.*02_why_time_matters'):
        course.find_notebook(name)


def test_a_page_can_be_reset_too(tmp_path):
    course.copy_course(tmp_path)
    (tmp_path / "glossary.md").write_text("mine")
    target, kept = course.reset("glossary", tmp_path)
    assert target.read_bytes() == (paths.notebooks() / "glossary.md").read_bytes()
    assert kept.name == "glossary.mine-1.md" and kept.read_text() == "mine"


def test_folders_that_are_none_of_yours(tmp_path):
    shipped = contents(ROOT / "notebooks")
    for act in (lambda f: course.copy_course(f), lambda f: course.reset("02", f)):
        with pytest.raises(ValueError, match="a folder of your own"):
            act(paths.notebooks())
    assert contents(ROOT / "notebooks") == shipped
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match="got the file"):
        course.copy_course(tmp_path / "file")
    with pytest.raises(NotADirectoryError, match="python -m blvnet_lab course"):
        course.reset("02", tmp_path / "nowhere")


def lab_command(*arguments, cwd, env=None):
    command = [sys.executable, "-m", "blvnet_lab", *map(str, arguments)]
    environment = os.environ | {"PYTHONPATH": str(ROOT)} | (env or {})
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True)


def test_from_an_installed_package(tmp_path):
    """The layout of the wheel, made as pyproject.toml says: there is no clone beside it."""
    wheel = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["tool"]["hatch"]["build"]
    wheel = wheel["targets"]["wheel"]
    site = tmp_path / "site-packages"
    for name in wheel["only-include"]:
        if name != "data_samples":  # 6 MB that the course need not copy
            shutil.copytree(
                ROOT / name,
                site / wheel["sources"].get(name, name),
                ignore=shutil.ignore_patterns("__pycache__", ".ipynb_checkpoints"),
            )
    done = lab_command("course", "mine", cwd=tmp_path, env={"PYTHONPATH": str(site)})
    assert done.returncode == 0, done.stderr
    assert f"{len(NAMES + PAGES)} new" in done.stdout
    assert "jupyter lab " + os.path.join("mine", course.FIRST) in done.stdout
    assert sorted(os.listdir(tmp_path / "mine")) == sorted(NAMES + PAGES)
    (tmp_path / "mine" / NB02).write_text("mine")
    done = lab_command("course", "mine", cwd=tmp_path, env={"PYTHONPATH": str(site)})
    assert f"kept, differs from the one shipped: {NB02}" in done.stdout and "--reset" in done.stdout
    done = lab_command(
        "course", "mine", "--reset", "02", cwd=tmp_path, env={"PYTHONPATH": str(site)}
    )
    assert "is as shipped, yours is 02_why_time_matters.mine-1.ipynb" in done.stdout
    done = lab_command("course", "mine", "--reset", "why_time", cwd=tmp_path)
    assert done.returncode != 0 and "near it are 02_why_time_matters" in done.stderr
    assert "Traceback" not in done.stderr


def test_open_starts_jupyterlab_on_it(tmp_path):
    port = free_port()
    environment = os.environ | {
        "PYTHONPATH": str(ROOT),
        "JUPYTER_PORT": str(port),
        "JUPYTER_TOKEN": "token",
        "BROWSER": "true",  # a program that does nothing
        **{f"JUPYTER_{kind}_DIR": str(tmp_path / kind) for kind in ("CONFIG", "DATA", "RUNTIME")},
    }
    command = [sys.executable, "-m", "blvnet_lab", "course", "mine", "--open"]
    with (tmp_path / "log").open("wb") as log:
        server = subprocess.Popen(
            command, cwd=tmp_path, env=environment, stdout=log, stderr=subprocess.STDOUT
        )
    try:
        address = f"http://127.0.0.1:{port}/api/contents?token=token"
        deadline = time.monotonic() + 90
        while True:
            try:
                with urllib.request.urlopen(address, timeout=10) as answer:
                    served = {entry["name"] for entry in json.load(answer)["content"]}
                break
            except (urllib.error.URLError, OSError):
                assert server.poll() is None and time.monotonic() < deadline, (
                    tmp_path / "log"
                ).read_text()
                time.sleep(0.2)
        assert served == {*NAMES, *PAGES}
    finally:
        server.terminate()
        server.wait(20)


# ---------------------------------------------------------------- for teachers


@pytest.fixture(scope="module")
def teaching(tmp_path_factory):
    """The folder of `instructor`, of the real notebooks."""
    out = tmp_path_factory.mktemp("teaching")
    written = instructor.write_instructor(out)
    assert sorted(path for path in out.rglob("*") if path.is_file()) == written
    return out


def solved(teaching):
    for path in sorted((teaching / "source").glob("*/*.ipynb")):
        assert path.stem == path.parent.name  # nbgrader: source/<assignment>/<notebook>
        yield path, nbformat.read(path, as_version=4)


def exercise_cells(nb, tag):
    return [cell for cell in nb.cells if tag in cell.metadata.get("tags", [])]


def test_every_stub_is_solved(teaching):
    count = 0
    for path, nb in solved(teaching):
        nbformat.validate(nb)
        original = nbformat.read(ROOT / "notebooks" / path.name, as_version=4)
        for cell, was in zip(nb.cells, original.cells, strict=True):
            tags = cell.metadata.get("tags", [])
            if "exercise" in tags:
                count += 1
                begin, end = cell.source.split(instructor.BEGIN), instructor.END
                assert len(begin) == 2 and cell.source.rstrip().endswith(end)
                assert was.source.partition("    raise NotImpl")[0].rstrip() == begin[0].rstrip()
                compile(cell.source, path.name, "exec")
                assert "NotImplementedError" not in cell.source
            elif "check" in tags:
                assert cell.source == f"assert (found := {was.source.strip()}), found"
            else:
                assert cell == was
            if {"exercise", "check"} & set(tags):
                assert cell.outputs == [] and cell.execution_count is None
    assert count == len(exercises.__all__) > 3


def global_names(code):
    """Names that compiled code looks up outside its functions."""
    found = {i.argval for i in dis.get_instructions(code) if i.opname in LOOK_UP}
    return found.union(*(global_names(c) for c in code.co_consts if hasattr(c, "co_consts")))


LOOK_UP = {"LOAD_GLOBAL", "LOAD_NAME"}


def test_solutions_find_what_they_use(teaching):
    """Each name is the notebook's by then, or imported within the solution."""
    for path, nb in solved(teaching):
        for index, cell in enumerate(nb.cells):
            if "exercise" in cell.metadata.get("tags", []):
                used = global_names(compile(cell.source, path.name, "exec"))
                own = {cell.source.partition("def ")[2].partition("(")[0], "__name__"}
                known = instructor._names_before(nb, index) | vars(builtins).keys() | own
                assert used <= known, f"{path.name}, cell {index}: {used - known}"


def test_metadata_is_what_nbgrader_asks_for(teaching):
    """Its schema 3: keys, types, and what excludes what."""
    kinds = {
        "schema_version": int, "grade_id": str, "grade": bool, "solution": bool, "locked": bool,
        "task": bool,
    }  # fmt: skip
    for _, nb in solved(teaching):
        seen = set()
        for cell in nb.cells:
            if "nbgrader" not in cell.metadata:
                assert not exercise_cells(new_notebook(cells=[cell]), "exercise")
                continue
            data = dict(cell.metadata["nbgrader"])
            assert cell.cell_type == "code" and data["schema_version"] == 3
            points = data.pop("points", None)
            assert {key: type(value) for key, value in data.items()} == kinds
            assert re.fullmatch(r"[A-Za-z0-9_-]+", data["grade_id"])
            assert data["grade_id"] not in seen
            seen.add(data["grade_id"])
            assert not data["task"] and data["grade"] != data["solution"]
            assert data["locked"] == data["grade"]
            assert (points in (1, 2, 3)) if data["grade"] else points is None
        assert seen


def test_grade_ids_stay_the_same():
    """Else answers handed in before an update could not be marked after it."""
    nb = nbformat.read(ROOT / "notebooks" / NB02, as_version=4)
    first = instructor.find_exercises(nb, NB02)[0]
    assert (first.solution_id, first.grade_id) == ("ex-2-1-shift", "check-2-1-shift")


def test_the_marking_sheet_is_complete(teaching):
    with (teaching / "marking_sheet.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    checks = [row["check"].removeprefix("exercises.") for row in rows]
    assert sorted(checks) == sorted(exercises.__all__)
    ids = [
        (path.name, cell.metadata["nbgrader"]["grade_id"], cell.metadata["nbgrader"]["points"])
        for path, nb in solved(teaching)
        for cell in exercise_cells(nb, "check")
    ]
    assert [(row["notebook"], row["grade_id"], int(row["points"])) for row in rows] == ids
    text = (teaching / "marking_sheet.md").read_text("utf-8")
    for row in rows:
        assert int(row["minutes"]) > 0 and all(value.strip() for value in row.values())
        assert row["difficulty"].count("●") == int(row["points"])
        assert f"| {row['exercise']} | {row['title']} |" in text
    assert f"{len(rows)} exercises" in text


def test_nothing_is_overwritten_untold(teaching):
    before = (teaching / "marking_sheet.csv").read_bytes()
    (teaching / "marking_sheet.csv").write_text("graded")
    with pytest.raises(FileExistsError, match=r"expected .* got .*marking_sheet\.csv.*--replace"):
        instructor.write_instructor(teaching)
    assert (teaching / "marking_sheet.csv").read_text() == "graded"
    instructor.write_instructor(teaching, replace=True)
    assert (teaching / "marking_sheet.csv").read_bytes() == before


HEADING = "### ✎ Exercise 2.1 · A shift in time · ●●○ · 8 minutes"
STUB = 'def shift(x, offset):\n    """What."""\n    raise NotImplementedError  # your turn'


def exercise(heading=HEADING, stub=STUB, check="exercises.check_shift(shift)"):
    cells = [
        new_code_cell("import torch"),
        new_markdown_cell(heading + "\n\nWrite it."),
        new_code_cell(stub, metadata={"tags": ["exercise"]}),
        new_code_cell(check, metadata={"tags": ["check"]}),
    ]
    return new_notebook(cells=cells)


def solve(nb):
    (found,) = instructor.find_exercises(nb, "n.ipynb")
    instructor.solve(nb, found)
    return nb.cells[2].source


@pytest.mark.parametrize(
    "changed, words",
    [
        ({"heading": "### ✎ Exercise 2.1: A shift"}, "cell 1: expected ### ✎ Exercise 2.1 · "),
        ({"check": "shift(1)"}, "cell 3: expected exercises.check_name"),
        ({"check": "exercises.check_shift(shift)\nx = 1"}, "cell 3: expected exercises.check"),
        ({"check": "exercises.check_shif(shif)"}, "solutions to have shif"),
        ({"stub": STUB.replace("offset", "by")}, r"takes, \(x, offset\), got \(x, by\)"),
        ({"stub": STUB.replace("shift", "move")}, "expected a function shift, found none"),
        ({"stub": STUB.replace("raise", "y = x\n    raise")}, "got 2 statements"),
        ({"heading": "## 3 · Text"}, "cell 2: expected a text that begins"),
    ],
)
def test_a_malformed_exercise_is_an_error(changed, words):
    with pytest.raises(ValueError, match=words):
        solve(exercise(**changed))


def test_an_exercise_without_its_check_is_an_error():
    nb = exercise()
    del nb.cells[3]
    with pytest.raises(ValueError, match=r"cell 2: expected a check of exercise 2\.1"):
        instructor.find_exercises(nb, "n.ipynb")


def test_decorators_comments_and_imports_are_kept(monkeypatch):
    monkeypatch.setattr(solutions, "shift", answer_with_everything)
    stub = "@memo\n" + STUB
    source = solve(exercise(stub=stub.replace("x, offset", "x, *, offset=1")))
    assert source == (
        '@memo\ndef shift(x, *, offset=1):\n    """What."""\n    ### BEGIN SOLUTION\n'
        "    import re\n    # first\n    if x:\n        return re.sub(x, x, offset)  # last\n"
        "    return torch\n    ### END SOLUTION"
    )


torch = None  # the notebook has imported it, so the solution need not
offset = 0  # has the name of a parameter: not what the solution means


def answer_with_everything(x, *, offset=1):
    """Not copied."""
    # first
    if x:
        return re.sub(x, x, offset)  # last
    return torch


def test_a_wrong_solution_is_not_taught(monkeypatch):
    monkeypatch.setattr(solutions, "shift", lambda x, offset: x)
    found = instructor.find_exercises(exercise(), "n.ipynb")
    with pytest.raises(ValueError, match=r"2\.1: expected the solution to pass"):
        instructor.marking_sheet(found)


# ---------------------------------------------------------------- slides


def test_headings_make_slides():
    nb = exercise()
    nb.cells.insert(0, new_markdown_cell("# Title"))
    nb.cells.append(new_markdown_cell("## 4 · Next"))
    nb.cells.append(new_markdown_cell("Text."))
    assert slides.slide_types(nb) == [
        "slide", "subslide", "subslide", "-", "-", "slide", "subslide",
    ]  # fmt: skip


def test_a_caption_stays_with_its_figure():
    nb = exercise()
    nb.cells.append(new_markdown_cell("*Figure 4.1: A clip.*\n\nWhat comes next?"))
    kinds = slides.slide_types(nb)
    slides.captions_apart(nb)
    assert [cell.source for cell in nb.cells[-2:]] == ["*Figure 4.1: A clip.*", "What comes next?"]
    assert slides.slide_types(nb) == [*kinds[:-1], "-", "subslide"]
    assert len({cell.id for cell in nb.cells}) == len(nb.cells)


def slide_of(name):
    return name.replace(".ipynb", ".slides.html")


def test_slides_load_from_beside_them_what_is_there(tmp_path):
    pages = slides.write_slides(tmp_path)
    assert [page.name for page in pages] == [slide_of(name) for name in NAMES]
    text = pages[0].read_text("utf-8")
    assert "https://unpkg.com/reveal.js" in text and slides.STYLE in text
    assert text.count("<section>") > 10 and "<details>" in (tmp_path / slide_of(NB02)).read_text()
    with pytest.raises(FileExistsError, match="--replace"):
        slides.write_slides(tmp_path)
    for name in slides.LOCAL.values():
        path = tmp_path / name.partition("?")[0]
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    text = slides.write_slides(tmp_path, replace=True)[0].read_text("utf-8")
    loaded = re.findall(r"(?:src|href)=\"(https?:[^\"]+\.(?:js|css)[^\"]*)\"", text)
    assert loaded == [] and "unpkg.com" not in text


# ---------------------------------------------------------------- pages


@pytest.mark.parametrize(
    "name", ["README.md", "docs/teaching.md", *(f"notebooks/{p}" for p in PAGES)]
)
def test_links_and_alternative_texts(name):
    path = ROOT / name
    assert list(notebooks.markdown_problems(path.read_text("utf-8"), path)) == []


def test_a_copied_course_has_no_dead_links(tmp_path):
    course.copy_course(tmp_path)
    for name in NAMES:
        for cell in nbformat.read(tmp_path / name, as_version=4).cells:
            if cell.cell_type == "markdown":
                assert list(notebooks.markdown_problems(cell.source, tmp_path / name)) == [], name


@pytest.mark.parametrize(
    "text, words",
    [
        ("[a](other.md)", ""),
        ("[a](other.md#what-was-measured)", ""),
        ("[a](#part) ![b](other.md) <img src='x' alt='c'>", ""),
        ("`[a](nowhere.md)`\n```\n[a](nowhere.md)\n```", ""),
        ("[a](https://example.org/nowhere)", ""),
        ("[a](nowhere.md)", "nowhere.md leads nowhere"),
        ("[a](other.md#nothing)", "other.md has no heading #nothing"),
        ("![](other.md)", "no alternative text"),
        ("<img src='x'>", "without an alternative text"),
        ("<img src='x' alt=''>", "without an alternative text"),
    ],
)
def test_dead_links_are_noticed(tmp_path, text, words):
    (tmp_path / "other.md").write_text("# T\n\n## What was `measured`?\n")
    (tmp_path / "page.md").write_text("# Part\n")
    found = "\n".join(notebooks.markdown_problems(text, tmp_path / "page.md"))
    assert words in found if words else found == ""


def test_misspelled_words_are_noticed():
    nb = new_notebook(cells=[new_markdown_cell("The colour of teh frame, normalised.")])
    (found,) = notebooks.misspelled(nb)
    assert "teh ==> the" in found
    nb.cells[0].source = "The colour of the frame, normalised."
    assert notebooks.misspelled(nb) == []


def test_the_glossary_has_the_vocabulary():
    text = (ROOT / "notebooks" / "glossary.md").read_text("utf-8").lower()
    for word in (
        "clip frame pair partner branch stage tap merged view alpha beta top-1 causal twins"
    ).split():  # fmt: skip
        assert word in text
    rows = re.findall(r"^\| \*\*(.+?)\*\* \| (.+?) \| (.+?) \|$", text, re.MULTILINE)
    assert len(rows) > 30 and all(re.search(r"\d\d", where) for _, _, where in rows)


def test_times_in_the_teaching_guide_are_those_of_the_notebooks():
    text = (ROOT / "docs" / "teaching.md").read_text("utf-8")
    told = {}
    for name in NAMES:
        heading = nbformat.read(ROOT / "notebooks" / name, as_version=4).cells[0].source
        (told[name[:2]],) = re.findall(r"\*\*Time\*\* (\d+) minutes", heading)
    assert dict(re.findall(r"^\| (\d\d) [^|]*\| (\d+) min", text, re.MULTILINE)) == told


# ---------------------------------------------------------------- in JupyterLab


@pytest.mark.browser
def test_hints_are_closed_and_headings_listed():
    with lab_and_browser() as (lab, browser), open_page(browser, lab) as page:
        course.copy_course(lab.root)
        page.goto(lab.address(NB02))
        hints = page.locator(".jp-Notebook details")
        hints.first.wait_for()
        assert hints.count() > 5 and not any(hints.evaluate_all("all => all.map(x => x.open)"))
        hints.first.locator("summary").click()
        assert hints.first.evaluate("x => x.open")
        page.evaluate("() => void window.jupyterapp.commands.execute('toc:show-panel')")
        listed = page.locator(".jp-TableOfContents .jp-tocItem-content")
        listed.filter(has_text="Exercise 2.1").wait_for()
        assert "Recap" in listed.all_inner_texts()


@pytest.mark.browser
def test_settings_are_installed_and_pages_open_to_be_read():
    shipped = json.loads((ROOT / "notebooks" / "lab_settings.json").read_text("utf-8"))
    folder = Path(sys.prefix) / "share" / "jupyter" / "lab" / "settings" / "overrides.d"
    installed = json.loads((folder / "blvnet_lab.json").read_text("utf-8"))
    assert installed == shipped, "install the package again: pip install -e ."
    with lab_and_browser() as (lab, browser), open_page(browser, lab) as page:
        course.copy_course(lab.root)
        page.goto(lab.address("glossary.md"))
        viewer = page.locator(".jp-MarkdownViewer")
        viewer.get_by_role("link", name="references").last.click()
        page.get_by_role("heading", name="References and further reading").wait_for()
        viewer.first.wait_for(state="attached")
