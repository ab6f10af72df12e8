#!/usr/bin/env bash
# A marker that asks for a release of macOS stops pip on Linux. In `sys_platform == "darwin" and
# platform_release >= "23"` the first half is false there, but the second is evaluated all the
# same, and an ordinary kernel's release, 6.8.0-45-generic, is no version number: InvalidVersion,
# and the whole installation fails.
#
# Why it matters: a requirement meant for Macs alone makes a package impossible to install on
# Linux, with the pip that Python 3.12.5 to 3.14 bring along. Older and newer ones take it, so
# whoever upgrades pip first never sees it; nor does CI on a kernel whose release happens to look
# like a version.
# Seen with: pip 24.1 to 25.3 (packaging 24.1 to 25.0); not with 24.0 (packaging 21.3) nor 26.0.
# Source: `_evaluate_markers` in packaging/markers.py compares everything first and applies `and`
# and `or` afterwards. The specification of dependency specifiers asks for a comparison as text
# where one side is no version.
# Remedy: no marker that compares platform_release or platform_version; let the code look instead.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
"${PYTHON:-python3}" -m venv venv
# The release of a common kernel in place of this machine's own.
site=$(venv/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
cat >"$site/sitecustomize.py" <<'PY'
import platform

platform.release = lambda: "6.8.0-45-generic"
PY

try() { # the words of the first line that tells: "Ignoring ..." or the error
    venv/bin/python -m pip install --quiet pip=="$1"
    venv/bin/python -m pip install --dry-run \
        'six==1.17.0; sys_platform == "darwin" and platform_release >= "23"' >log 2>&1 || true
    grep -oE 'Ignoring six|InvalidVersion' log | head -n 1
}

echo "expected: on Linux the requirement is ignored, whatever the kernel is called"
old=$(try 25.3)
echo "seen: pip $(venv/bin/python -m pip --version | cut -d' ' -f2): $old"
new=$(try 26.0)
echo "seen: pip $(venv/bin/python -m pip --version | cut -d' ' -f2): $new"

[[ $old == Invalid* ]]
[[ $new == Ignoring* ]]
