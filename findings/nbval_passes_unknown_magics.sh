#!/usr/bin/env bash
# nbval, which tests notebooks by running them again, passes a cell whose magic does not exist. A
# cell under `%%no_such_magic` is not run at all, and is counted as passed.
#
# Why it matters: a misspelt magic, or one of an extension that is not installed (`%%writefil`,
# `%load_ext` left out), switches a cell off, and the test of the notebook stays green.
# Seen with: nbval 0.11.0, pytest 9.0.1, ipykernel 7.1.0.
# Source: IPython answers an unknown magic with a UsageError on stderr and the status "error" in
# the kernel's reply, but sends no message of type "error". `IPyNbCell.runtest` in nbval/plugin.py
# looks for that message only, and stderr is among the outputs that it does not compare.
# Remedy: run the notebook with nbclient as well (`jupyter execute`), which asks for the status;
# or check the names of magics in the source.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
"${PYTHON:-python3}" -m venv venv
venv/bin/python -m pip install --quiet nbval==0.11.0 pytest==9.0.1 ipykernel==7.1.0 nbclient==0.10.2

venv/bin/python - <<'PY'
import subprocess
import sys

import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError


def run(*sources):
    """What nbval makes of a notebook of these cells, and whether nbclient runs it without error."""
    cells = [nbformat.v4.new_code_cell(source) for source in sources]
    notebook = nbformat.v4.new_notebook(cells=cells)
    nbformat.write(notebook, "test.ipynb")
    command = [sys.executable, "-m", "pytest", "--nbval", "-q", "test.ipynb"]
    done = subprocess.run(command, capture_output=True, text=True)
    try:
        NotebookClient(notebook).execute()
    except CellExecutionError:
        return done.returncode, done.stdout.splitlines()[-1], "error"
    return done.returncode, done.stdout.splitlines()[-1], "no error"


print("nbval 0.11.0")
print("expected: nbval fails on each of these notebooks")
seen = {}
for sources in (("1 / 0",), ("%no_such_magic",), ("%%no_such_magic\n1 / 0",)):
    seen[sources] = code, line, client = run(*sources)
    print(f"seen: {' '.join(sources)!r}: nbval: {line} (exit status {code}); nbclient: {client}")

codes = [code for code, _, _ in seen.values()]
assert codes[0] == 1
assert codes[1:] == [0, 0], "unknown magics fail now"
assert [client for _, _, client in seen.values()] == ["error"] * 3
PY
