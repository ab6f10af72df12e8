"""The gate itself: a clean notebook passes it, and one with each fault is reported."""

import json
import re
from pathlib import Path

import nbformat
import pytest
from lab import ROOT, run_python
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

import notebooks


def code(source="x = 1", *outputs, count=1, tags=()):
    metadata = {"tags": list(tags)} if tags else {}
    more = {"outputs": list(outputs), "metadata": metadata, "id": f"cell-{count}"}
    return new_code_cell(source, execution_count=count, **more)


def data(**kinds):
    """A displayed output; ``text_plain`` stands for text/plain."""
    named = {kind.replace("_", "/"): text for kind, text in kinds.items()}
    return new_output("display_data", data=named)


def stream(text, name="stdout"):
    return new_output("stream", name=name, text=text)


def error(evalue="division by zero", traceback=()):
    return new_output("error", ename="E", evalue=evalue, traceback=list(traceback))


def faults(tmp_path, *cells, **metadata):
    """What the gate says of a notebook with these cells, as one text."""
    nb = new_notebook(cells=list(cells), metadata=notebooks.METADATA | metadata)
    nbformat.write(nb, tmp_path / "n.ipynb")
    return "\n".join(notebooks.problems(tmp_path / "n.ipynb"))


def test_clean(tmp_path):
    for cell in (
        code(),
        code("1 / 0", error(), tags=["raises-exception"]),
        code("%matplotlib inline\nx = '%nosuch'\nif True:\n    x = 5 \\\n    % 3"),
        code("x", stream("see https://example.org/home/page and runs/tmp/x")),
        code("\n".join(["x = 1"] * 25)),
    ):
        assert faults(tmp_path, cell) == ""


def test_fault_in_a_cell(tmp_path):
    for cell, words in (
        (code(count=7), "execution_count 7, expected 1: not run"),
        (code("plt.plot(x);"), "trailing ';'"),
        (code("%nosuchmagic"), "%nosuchmagic: magic"),
        (code("%%bash\nls"), "%%bash: magic"),
        (code("  "), "empty code cell"),
        (new_markdown_cell(" \n", id="m"), "empty markdown cell"),
        (code("1", tags=["nbval-skip"]), "nbval-skip hides"),
        (code("# NBVAL_SKIP\n1"), "NBVAL_SKIP hides"),
        (code("1 / 0", error()), "error output E: division by zero"),
        (code("w()", stream("careful", "stderr")), "stderr output: 'careful'"),
        (code("\n".join(["x = 1"] * 26)), "26 lines, the limit is 25"),
        (new_markdown_cell("The colour of teh frame.", id="m"), "teh ==> the"),
        (code("x", stream("x" * 301_000)), "an output of 301 kB, the limit is 300 kB"),
        (code("x", data(text_plain="PosixPath('/home/me/clip.mp4')")), "machine: /home/me/clip"),
        (code("x", stream("saved to /tmp/run.pt\n")), "machine: /tmp/run.pt"),
        (code("x", stream(r"C:\Users\me")), r"machine: C:\Users\me"),
        (code("x", data(text_html="<a href='/home/me/x'>")), "machine: /home/me/x"),
        (code("x", error("e", ["\x1b[32m/tmp/a.py\x1b[39m"])), "machine: /tmp/a.py"),
        (code("w", data(**{notebooks.WIDGET_VIEW: {"model_id": "1"}})), "widget view is saved"),
        (code("x", data(text_plain="<object at 0x7f33ae69b2e0>")), "make notebooks"),
        (code("x", stream("a\n"), stream("b\n")), "make notebooks"),
    ):
        assert words in faults(tmp_path, cell)


def test_fault_of_the_notebook(tmp_path):
    assert "metadata.widgets" in faults(tmp_path, code(), widgets={})
    assert "kernelspec" in faults(tmp_path, code(), kernelspec={"name": "v", "display_name": "v"})
    assert "make notebooks" in faults(tmp_path, code(), language_info={"name": "python"})
    many = [code(count=i) for i in range(1, 47)]
    assert faults(tmp_path, *many) == ("46 cells besides exercises and captions, the limit is 45")
    exercise = [code("f", tags=["check"], count=46), new_markdown_cell("### ✎ Exercise 1.1")]
    assert faults(tmp_path, *many[:45], *exercise) == ""
    huge = [code("x", stream("x" * 260_000), count=i) for i in range(1, 5)]
    assert faults(tmp_path, *huge) == "1.0 MB, the limit is 1 MB"


def test_ids_must_be_there_and_differ(tmp_path):
    path = tmp_path / "n.ipynb"
    faults(tmp_path, code(), code(count=2))
    for change in ({"id": "cell-2"}, {}):
        raw = json.loads(path.read_text())
        raw["cells"][0].pop("id")
        raw["cells"][0] |= change
        path.write_text(json.dumps(raw))
        assert "id of their own" in "\n".join(notebooks.problems(path))


def test_check_counts_and_answers(tmp_path, capsys):
    assert faults(tmp_path, code()) == ""
    assert notebooks.main(["check", str(tmp_path / "n.ipynb")]) == 0
    faults(tmp_path, code(count=3))
    assert notebooks.main(["check", str(tmp_path / "n.ipynb")]) == 1
    assert "n.ipynb: cell 0: execution_count 3" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        notebooks.main(["check", str(tmp_path / "missing.ipynb")])
    assert "got no file at" in capsys.readouterr().err


def test_what_changes_from_run_to_run_gets_a_fixed_word():
    for before, after in (
        ("<object at 0x7f33ae69b2e0>", "<object at 0xADDRESS>"),
        ("'uid': '0f8fad5b-d9cb-469f-a165-70867728950e'", "'uid': 'UUID'"),
        ("  0%|          | 0/5 [00:00<?, ?it/s]", "(a progress bar, alive while the cell runs)"),
        ("epoch 1:   0%|    | 0.00/1.2k [00:01<?, ?batch/s]", "(a progress bar, "),
        ("loss 0.25 after 12 s", "loss 0.25 after 12 s"),
    ):
        nb = new_notebook(cells=[code("x", data(text_plain=before), stream(before))])
        outputs = notebooks.without_what_changes(nb).cells[0].outputs
        assert outputs[0].data["text/plain"].startswith(after)
        assert outputs[1].text.startswith(after)


@pytest.mark.parametrize(
    "tags, left", [(["nbval-ignore-output"], ["3"]), ([], [notebooks.BAR, "3"])]
)
def test_progress_bars_go_where_nbval_does_not_count_outputs(tags, left):
    bar = data(text_plain="  0%|          | 0/5 [00:00<?, ?it/s]")
    nb = new_notebook(cells=[code("x", bar, data(text_plain="3"), tags=tags)])
    outputs = notebooks.without_what_changes(nb).cells[0].outputs
    assert [output.data["text/plain"] for output in outputs] == left


@pytest.mark.parametrize("folder", ["/home/me/blvnet_lab/", "~/course/", "/x/lib/python3.11/"])
def test_tracebacks_lose_the_folders_of_this_machine(folder):
    line = f"File \x1b[32m{folder}blvnet_lab/models/tam.py:33\x1b[39m, in forward"
    nb = new_notebook(cells=[code("x", error("e", [line]), tags=["raises-exception"])])
    (kept,) = notebooks.without_what_changes(nb).cells[0].outputs[0].traceback
    assert kept == "File \x1b[32mblvnet_lab/models/tam.py:33\x1b[39m, in forward"


UNRULY = [
    "import os\nimport pathlib\nimport time\n\nimport ipywidgets\nfrom tqdm.auto import tqdm\n\n"
    "import blvnet_lab",
    "os.environ['BLVNET_LAB_SCALE'], pathlib.Path.cwd().name, object()",
    "for _ in tqdm(range(3), desc='epoch'):\n    time.sleep(0.02)",
    "print('a', flush=True)\ntime.sleep(0.3)\nprint('b')",
    "ipywidgets.IntSlider()",
]


def test_run_twice_gives_the_same_bytes_and_strict_nbval_agrees(tmp_path, capsys, monkeypatch):
    path = tmp_path / "lesson" / "n.ipynb"
    path.parent.mkdir()
    nbformat.write(new_notebook(cells=[new_code_cell(source) for source in UNRULY]), path)
    first = []
    for news in ("changed", "same bytes"):
        assert notebooks.main(["run", str(path)]) == 0
        assert re.search(rf"\[1/1\] n.ipynb .* {news}\n", capsys.readouterr().out)
        first.append(path.read_bytes())
    assert first[0] == first[1]
    assert notebooks.problems(path) == []
    outputs = [output for cell in nbformat.read(path, 4).cells for output in cell.outputs]
    assert [output.get("text") or output.data["text/plain"] for output in outputs] == [
        "('shipped', 'lesson', <object at 0xADDRESS>)",
        "(a progress bar, alive while the cell runs)",
        "a\nb\n",
        "IntSlider(value=0)",
    ]

    changed = path.with_name("changed.ipynb")
    changed.write_text(path.read_text().replace('"b\\n"', '"changed\\n"'))
    monkeypatch.chdir(ROOT)
    words = ["-m", "pytest", "-p", "conftest", "-c", "pyproject.toml", "-q", "--nbval"]
    done = run_python(*words, path, changed, BLVNET_LAB_SCALE="large")  # the contract wins
    assert done.stdout.startswith("........F.") and "1 failed, 9 passed" in done.stdout, done


def test_a_failing_notebook_stays_as_it_was_and_the_others_run(tmp_path, capsys):
    bad, good = tmp_path / "a.ipynb", tmp_path / "b.ipynb"
    for path, source in ((bad, "1 / 0"), (good, "1 + 1")):
        nbformat.write(new_notebook(cells=[new_code_cell(source)]), path)
    before = bad.read_bytes()
    assert notebooks.main(["run", str(bad), str(good)]) == 1
    assert bad.read_bytes() == before
    assert nbformat.read(good, 4).cells[0].execution_count == 1
    said = capsys.readouterr().out
    for words in ("a.ipynb ... FAILED, left as it was", "ZeroDivisionError", "1 of 2 failed: a."):
        assert words in said


def figure(alt=None):
    picture = new_output("display_data", {"image/png": "x"})
    if alt is not None:
        picture.metadata["image/png"] = {"alt": alt}
    return picture


def test_a_caption_is_the_alternative_text():
    caption = new_markdown_cell("*Figure 2.1: A `clip`, *played*.*\n\nMore.")
    nb = new_notebook(cells=[code("f", figure()), caption])
    notebooks.add_alternative_texts(nb)
    assert nb.cells[0].outputs[0].metadata["image/png"]["alt"] == "A clip, played."


def test_captions():
    for cells, words in (
        ([code("f", figure())], "without a caption; begin cell 1 with it: *Figure 2.1: what"),
        ([code("f", figure()), new_markdown_cell("## Next")], "a figure without a caption"),
        ([code("f"), new_markdown_cell("*Figure 2.1: A clip.*")], "no figure above it"),
        ([code("f", figure("A")), new_markdown_cell("*Figure 2.2: A*")], "2.2, expected 2.1"),
        ([code("f", figure("B")), new_markdown_cell("*Figure 2.1: A*")], "is not its caption"),
        ([code("f", figure("A")), new_markdown_cell("*Figure 2.1: A*\n\nSee?")], ""),
    ):
        nb = new_notebook(cells=[*cells, new_markdown_cell("the end")])
        found = "\n".join(notebooks.caption_problems(nb, Path("02_why.ipynb")))
        assert words in found and bool(words) == bool(found)
