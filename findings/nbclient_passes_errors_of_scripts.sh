#!/usr/bin/env bash
# nbclient, by which `jupyter execute`, `nbconvert --execute` and Jupyter Book 1 run notebooks,
# stops at an error of a cell, but not if the error happens in a script run by `%run`, below
# `%%capture` or within ipywidgets' `interact`: it goes on, and exits with 0. Below `%%capture`,
# which is to keep quiet, and `%run` the traceback is in the saved notebook; that of `interact` is
# in no cell.
#
# Why it matters: a course whose figures are drawn by sliders, or whose training is silenced by
# `%%capture`, is tested green while all of it is broken, and the cells below go on with old values.
# Seen with: nbclient 0.11.0, IPython 9.18.1, ipykernel 7.4.0, ipywidgets 8.1.9.
# Source: nbclient looks at the status of the kernel's reply alone (`_check_raise_for_error` in
# nbclient/client.py). `%run` and `%%capture` show an error themselves, and end well. `interact`
# shows it in an Output widget, whose `__exit__` says that it is dealt with; nbclient moves what is
# displayed there into the state of the widget.
# Remedy: look for outputs of type "error" in the executed notebook; call the function of an
# `interact` once by itself; IPython's `%%time` and `%%timeit` do raise.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
"${PYTHON:-python3}" -m venv venv
venv/bin/python -m pip install --quiet nbclient==0.11.0 ipython==9.18.1 ipykernel==7.4.0 \
    ipywidgets==8.1.9
echo "1 / 0" > fails.py

venv/bin/python - <<'PY'
import nbclient
import nbformat

INTERACT = """from ipywidgets import interact
@interact(frame=(0, 7))
def draw(frame):
    1 / 0
"""
CELLS = {
    "plain": "1 / 0",
    "%%time": "%%time\n1 / 0",
    "%run": "%run fails.py",
    "%%capture": "%%capture\n1 / 0",
    "interact": INTERACT,
}


def run(source):
    """Whether nbclient raises, and whether a traceback is in the outputs of the notebook."""
    cell = nbformat.v4.new_code_cell(source)
    try:
        nbclient.execute(nbformat.v4.new_notebook(cells=[cell]), timeout=120)
        raised = False
    except nbclient.exceptions.CellExecutionError:
        raised = True
    return raised, any(output.output_type == "error" for output in cell.outputs)


print("nbclient", nbclient.__version__)
print("expected: CellExecutionError for each, and a traceback in the notebook")
seen = {name: run(source) for name, source in CELLS.items()}
for name, (raised, shown) in seen.items():
    print(f"seen: {name}: raised: {raised}, traceback in the outputs: {shown}", flush=True)

assert seen["plain"] == seen["%%time"] == (True, True)
assert seen["%run"] == seen["%%capture"] == (False, True), "nbclient raises now"
assert seen["interact"] == (False, False), "errors of widgets are seen now"
PY
