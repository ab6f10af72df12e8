#!/usr/bin/env bash
# `jupyter nbconvert --TagRemovePreprocessor.remove_cell_tags=solution` leaves out the cells with
# that tag in HTML, Markdown and scripts. With `--to notebook` the same option is accepted, and all
# solutions are in the result. And `--clear-output` leaves what widgets have shown: their state,
# with pictures and values, is not an output, but metadata of the notebook.
#
# Why it matters: whoever hands out a course's notebooks without its solutions looks at the page
# made of them, where they are gone. A student's own pictures, shown in an Image widget, go with a
# notebook that looks empty.
# Seen with: nbconvert 7.17.2.
# Source: `enabled` is set to True for TagRemovePreprocessor by exporters with a template
# (nbconvert/exporters/templateexporter.py), not by NotebookExporter, and a switched-off
# preprocessor does not mind being given tags (issue 764 of nbconvert). `ClearOutputPreprocessor`
# (nbconvert/preprocessors/clearoutput.py) sees to cells alone.
# Remedy: `--TagRemovePreprocessor.enabled=True` as well; `del notebook.metadata["widgets"]`, or do
# not save the state of widgets. Look into the file that is handed out, not into a page.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
"${PYTHON:-python3}" -m venv venv
venv/bin/python -m pip install --quiet nbconvert==7.17.2

venv/bin/python - <<'PY'
import subprocess
import sys

import nbconvert
import nbformat

STATE = "application/vnd.jupyter.widget-state+json"
REMOVE = "--TagRemovePreprocessor.remove_cell_tags=solution"
ENABLE = "--TagRemovePreprocessor.enabled=True"

output = nbformat.v4.new_output("stream", text="the printed answer")
task = nbformat.v4.new_markdown_cell("Which tap is the largest?")
solution = nbformat.v4.new_code_cell(
    "taps.abs().argmax()", metadata={"tags": ["solution"]}, outputs=[output]
)
model = {
    "model_name": "HTMLModel",
    "model_module": "@jupyter-widgets/controls",
    "model_module_version": "2.0.0",
    "state": {"value": "shown by a widget"},
}
metadata = {"widgets": {STATE: {"state": {"a": model}, "version_major": 2, "version_minor": 0}}}
notebook = nbformat.v4.new_notebook(cells=[task, solution], metadata=metadata)
nbformat.write(notebook, "lesson.ipynb")


def converted(*options):
    command = [sys.executable, "-m", "nbconvert", "lesson.ipynb", "--stdout", *options]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def has_solution(*options):
    text = converted(*options)
    assert "Which tap" in text
    return "argmax" in text


print("nbconvert", nbconvert.__version__)
print("expected: no solution in any format")
seen = {to: has_solution("--to", to, REMOVE) for to in ("html", "markdown", "python", "notebook")}
enabled = has_solution("--to", "notebook", REMOVE, ENABLE)
print("seen: solution in", [to for to, found in seen.items() if found], "when enabled:", enabled)
cleared = converted("--to", "notebook", "--clear-output")
answer, shown = "the printed answer" in cleared, "shown by a widget" in cleared
print("expected: nothing shown is left by --clear-output")
print(f"seen: printed text left: {answer}, what a widget shows left: {shown}")

assert seen == {"html": False, "markdown": False, "python": False, "notebook": True}, "removed now"
assert not enabled
assert not answer and shown, "the state of widgets is cleared now"
PY
