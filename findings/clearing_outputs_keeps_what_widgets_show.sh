#!/usr/bin/env bash
# `jupyter nbconvert --clear-output`, which empties a notebook before it is handed out, leaves what
# its widgets show in the file: all text printed within an `Output`, values, pictures.
#
# Why it matters: an exercise whose solution has been run and cleared looks empty, in Jupyter and in
# a diff of its cells, and the answers are there to be read with any editor. The pictures make the
# file large, too.
# Seen with: nbconvert 7.17.2, nbclient 0.11.0, ipywidgets 8.1.9.
# Source: the state of widgets is saved in the metadata of the notebook, under "widgets" (by
# JupyterLab and by nbclient), and the outputs only refer to it. `ClearOutputPreprocessor` in
# nbconvert/preprocessors/clearoutput.py goes through the cells alone.
# Remedy: nbconvert --ClearMetadataPreprocessor.enabled=True --clear-output, or nbstripout.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
"${PYTHON:-python3}" -m venv venv
venv/bin/python -m pip install --quiet nbconvert==7.17.2 nbclient==0.11.0 ipywidgets==8.1.9 \
    ipykernel==7.4.0 nbstripout==0.9.1

cat >make.py <<'PY'
import nbformat
from nbclient import NotebookClient

SOURCE = """
import ipywidgets

answer = ipywidgets.Output()
with answer:
    print("the answer is", 6 * 7)
answer
"""
notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(SOURCE)])
NotebookClient(notebook).execute()
nbformat.write(notebook, "run.ipynb")
PY
venv/bin/python make.py 2>log
convert() {
  venv/bin/python -m nbconvert --log-level ERROR --to notebook --clear-output "$@" run.ipynb
}
convert --output cleared.ipynb
convert --output bare.ipynb --ClearMetadataPreprocessor.enabled=True
cp run.ipynb stripped.ipynb
venv/bin/nbstripout stripped.ipynb
found() { grep -c "the answer is 42" "$1.ipynb" || true; } # the source has no 42

echo "nbconvert 7.17.2, nbstripout 0.9.1"
echo "expected: the answer is in none of the cleared files"
for file in run cleared bare stripped; do
  echo "seen: $file.ipynb: $(found $file)"
done
grep -q '"outputs": \[\]' cleared.ipynb
test "$(found run) $(found cleared) $(found bare) $(found stripped)" = "1 1 0 0"
