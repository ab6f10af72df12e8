#!/usr/bin/env bash
# A NaN in what a Jupyter kernel sends to the browser (a trait of an anywidget, `display` of JSON)
# arrives as the word "nan", an infinity as "inf": strings among numbers. If a package that nobody
# asked for, orjson, is installed beside the kernel, both arrive as null.
#
# Why it matters: scores of a class without clips and diverged losses are NaN. In JavaScript
# Number.isNaN("nan") and Number.isNaN(null) are both false, total + "nan" is a text, and null
# counts as 0: without orjson a curve breaks, with it the missing score is drawn as the worst one.
# At most there is one warning, in the output of a cell.
# Seen with: jupyter-client 8.10.0, ipykernel 7.4.0, anywidget 0.11.0; orjson 3.8.3.
# Source: jupyter_client/session.py. `json_packer` refuses NaN, and then sends what `json_clean` in
# jsonutil.py makes of the message: `repr` of every number that is not finite. Where orjson can be
# imported, `orjson_packer` is the default.
# Remedy: send arrays of numbers as bytes, in which NaN is NaN; or None in its place.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
"${PYTHON:-python3}" -m venv venv
venv/bin/python -m pip install --quiet jupyter-client==8.10.0 ipykernel==7.4.0 anywidget==0.11.0 \
    nbclient==0.11.0 ipython==9.18.1

cat >arrives.py <<'PY'
import nbformat
from nbclient import NotebookClient

SOURCE = """
import anywidget, traitlets, warnings
from IPython.display import display

warnings.simplefilter("ignore")

class Curve(anywidget.AnyWidget):
    _esm = "export default {render() {}}"
    values = traitlets.List().tag(sync=True)

curve = Curve(values=[0.5, float("nan"), float("inf")])
display({"application/json": {"values": curve.values}}, raw=True)
"""
notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(SOURCE)])
NotebookClient(notebook).execute()
widgets = notebook.metadata.widgets["application/vnd.jupyter.widget-state+json"].state.values()
(values,) = (each.state["values"] for each in widgets if "values" in each.state)
(shown,) = notebook.cells[0].outputs
assert shown.data["application/json"]["values"] == values
print(values)
PY
echo "jupyter-client 8.10.0, ipykernel 7.4.0, anywidget 0.11.0"
echo "expected: an error for [0.5, nan, inf], or numbers"
without=$(venv/bin/python arrives.py 2>log)
echo "seen: $without"
venv/bin/python -m pip install --quiet orjson==3.8.3
with=$(venv/bin/python arrives.py 2>log)
echo "seen, orjson installed: $with"

test "$without" = "[0.5, 'nan', 'inf']"
test "$with" = "[0.5, None, None]"
