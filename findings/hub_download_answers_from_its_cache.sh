#!/usr/bin/env bash
# hf_hub_download of a branch returns the file that was downloaded before, without a word, where the
# Hugging Face Hub refuses it now: 401 with "RepoNotFound" (a repository that was deleted, renamed
# or made private), 403, 500; or where nothing answers.
#
# Why it matters: a file on "main" may be an old one, or one that its owner has withdrawn, and
# neither an exception nor a log line says so. An error is raised only on machines that do not have
# the file yet, so that the same program fails on one and gives old results on another.
# Seen with: huggingface_hub 2.4.0; 0.36.0 gives the same file (and logs its tries on a 500).
# Source: `_get_metadata_or_catch_error` in huggingface_hub/file_download.py keeps the error (all but
# an unknown revision or file), and `_hf_hub_download_to_cache_dir` raises it only if the cache has
# no commit for that branch. The docstring speaks of "networking is off" only, and lists
# RepositoryNotFoundError among what is raised.
# Remedy: ask for the commit first (`HfApi().model_info(name, revision=branch).sha`), which raises;
# then download that commit, which cannot change.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
"${PYTHON:-python3}" -m venv venv
venv/bin/python -m pip install --quiet huggingface_hub==2.4.0

HF_HOME="$folder/home" venv/bin/python - <<'PY'
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import huggingface_hub
from huggingface_hub.errors import RepositoryNotFoundError

now = {"status": 200, "commit": "a" * 40, "content": b"first"}


class Hub(BaseHTTPRequestHandler):
    """Answers for one file of one repository, as the hub does."""

    def do_HEAD(self):
        content = now["content"] if now["status"] == 200 else b""
        self.send_response(now["status"])
        if now["status"] == 200:
            self.send_header("X-Repo-Commit", now["commit"])
            self.send_header("ETag", f'"{content.decode()}"')
        if now["status"] == 401:
            self.send_header("X-Error-Code", "RepoNotFound")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        return content

    def do_GET(self):
        self.wfile.write(self.do_HEAD())

    def log_message(self, *args):
        pass


server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
threading.Thread(target=server.serve_forever, daemon=True).start()
endpoint = f"http://127.0.0.1:{server.server_port}"


def download(cache):
    """What the file on main holds, or the name of the error."""
    where = {"endpoint": endpoint, "cache_dir": cache}
    try:
        return Path(huggingface_hub.hf_hub_download("owner/name", "file", **where)).read_text()
    except RepositoryNotFoundError as error:
        return type(error).__name__


print("huggingface_hub", huggingface_hub.__version__)
assert download("cache") == "first"
now.update(commit="b" * 40, content=b"second")  # a new commit, which nobody downloads
print("expected: after that RepositoryNotFoundError, or another error, wherever it is refused")
seen = {}
for status in (401, 403, 500):
    now["status"] = status
    seen[status] = download("cache")
now["status"] = 401
seen["401, nothing downloaded before"] = download("empty")
server.shutdown()
server.server_close()
seen["nothing answers"] = download("cache")
try:
    huggingface_hub.HfApi(endpoint=endpoint).model_info("owner/name")
except Exception as error:
    seen["nothing answers, model_info"] = type(error).__name__
for case, found in seen.items():
    print(f"seen: {case}: {found}")

assert [seen[case] for case in (401, 403, 500, "nothing answers")] == ["first"] * 4
assert seen["401, nothing downloaded before"] == "RepositoryNotFoundError"
assert seen["nothing answers, model_info"] == "ConnectError"
PY
