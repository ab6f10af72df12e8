#!/usr/bin/env bash
# nbval, which tests notebooks by running them again, passes a cell whose magic does not exist, with
# `--nbval-lax` as a rule, with `--nbval` if the notebook was stripped of its outputs. A cell under
# `%%no_such_magic` is not run at all, and is counted as passed.
#
# Why it matters: a misspelt magic, or one of an extension that is not installed (`%%writefil`,
# `%load_ext` left out), switches a cell off, and the test of the notebook stays green.
# Seen with: nbval 0.11.0, pytest 9.0.1, ipykernel 7.1.0.
# Source: IPython answers an unknown magic with a UsageError on stderr and the status "error" in the
# kernel's reply, but sends no message of type "error". `IPyNbCell.runtest` in nbval/plugin.py looks
# for that message only. stderr is an output like others, and outputs are compared only in strict
# mode, or where a cell asks for it (`# NBVAL_CHECK_OUTPUT`), and only for cells that have an
# execution count.
# Remedy: run the notebook with nbclient as well (`jupyter execute`), which asks for the status; or
# check the names of magics in the source.
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


def run(source, mode="--nbval", number=None):
    """What nbval makes of a notebook of this cell, and whether nbclient runs it without error."""
    cell = nbformat.v4.new_code_cell(source, execution_count=number)
    notebook = nbformat.v4.new_notebook(cells=[cell])
    nbformat.write(notebook, "test.ipynb")
    command = [sys.executable, "-m", "pytest", mode, "-q", "test.ipynb"]
    done = subprocess.run(command, capture_output=True, text=True)
    try:
        NotebookClient(notebook).execute()
    except CellExecutionError:
        return done.returncode, done.stdout.splitlines()[-1], "error"
    return done.returncode, done.stdout.splitlines()[-1], "no error"


print("nbval 0.11.0")
print("expected: nbval fails on each of these notebooks")
CELL_MAGIC = "%%no_such_magic\n1 / 0"
seen = []
for case in (
    ("1 / 0",),
    ("%no_such_magic",),
    (CELL_MAGIC,),
    (CELL_MAGIC, "--nbval-lax", 1),
    (CELL_MAGIC, "--nbval", 1),
):
    code, line, client = run(*case)
    seen.append((code, client))
    print(f"seen: {case}: nbval: {line} (exit status {code}); nbclient: {client}")

assert [client for _, client in seen] == ["error"] * 5
codes = [code for code, _ in seen]
assert codes[1:4] == [0, 0, 0], "unknown magics fail now"
assert codes[0] == codes[4] == 1, "saved without stderr, it fails in strict mode"
PY
