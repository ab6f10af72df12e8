#!/usr/bin/env bash
# pytest-xdist, which runs tests in several processes: `--dist loadgroup` with pytest 9.2 has no
# effect. Tests marked with the same `xdist_group` go to different processes, without a word.
#
# Why it matters: tests are put into one group because they share something costly (a server, a
# trained network) or because they must not run at the same time. The first is then made in every
# process, and the second races.
# Seen with: pytest-xdist 3.8.0, pytest 9.2.0 (and as it should be with pytest 9.0.1).
# Source: `WorkerInteractor.pytest_collection_modifyitems` in xdist/remote.py writes the group into
# `item._nodeid`. In pytest 9.2 `Node.nodeid` in _pytest/nodes.py reads `_id` instead.
# Remedy: `--dist loadfile` or `loadscope`; for other groups, the hook `pytest_xdist_make_scheduler`
# with a subclass of LoadFileScheduling whose `_split_scope` names the group of a test.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
cat >test_groups.py <<'PY'
import time

import pytest


@pytest.mark.xdist_group("one")
@pytest.mark.parametrize("number", range(8))
def test_group(number, worker_id):
    with open("workers.txt", "a") as file:
        file.write(worker_id + "\n")
    time.sleep(0.2)
PY

processes() { # those that the tests of the group ran in, with this version of pytest
  "${PYTHON:-python3}" -m venv "venv-$1"
  "venv-$1/bin/python" -m pip install --quiet pytest-xdist==3.8.0 "pytest==$1"
  rm -f workers.txt
  "venv-$1/bin/python" -m pytest -q -p no:cacheprovider -n 2 --dist loadgroup test_groups.py >log
  sort -u workers.txt | wc -l | tr -d ' '
}

echo "expected: all 8 tests of a group run in 1 process"
before=$(processes 9.0.1)
after=$(processes 9.2.0)
echo "seen: pytest-xdist 3.8.0 with pytest 9.0.1: in $before; with pytest 9.2.0: in $after"
[ "$before" = 1 ] && [ "$after" = 2 ]
