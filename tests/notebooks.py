"""The notebooks' tool: `run` executes them again in place, `check` inspects them without a kernel.

    python tests/notebooks.py run   [notebook ...]
    python tests/notebooks.py check [notebook ...]

Committed notebooks are always the work of `run` (`make notebooks`): executed top to bottom at the
shipped scale, and freed of all that differs from run to run, so that running one twice gives the
same bytes and a change in a diff is a change in the course.
"""

import argparse
import atexit
import base64
import functools
import io
import itertools
import json
import os
import re
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Iterator
from pathlib import Path

import nbformat
from lab import LIMIT_S, find_chromium
from nbconvert.preprocessors.coalescestreams import CoalesceStreamsPreprocessor
from nbval.plugin import get_sanitize_patterns
from PIL import Image

from blvnet_lab.course.copies import CAPTION, EXERCISE, EXERCISE_TAGS

ROOT = Path(__file__).resolve().parent.parent
MAX_BYTES = 1_000_000  # a notebook; GitHub gives up on rendering somewhere above this
MAX_OUTPUT_BYTES = 300_000  # one output
MAX_CELLS = 45  # besides those of exercises and captions
MAX_LINES = 25  # a code cell

KERNELSPEC = {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"}
METADATA = {"kernelspec": KERNELSPEC, "language_info": {"file_extension": ".py", "name": "python"}}
CELL_METADATA = {"tags", "slideshow"}  # what stays of a cell's metadata
WIDGET_VIEW = "application/vnd.jupyter.widget-view+json"
PLOTLY = "application/vnd.plotly.v1+json"
IGNORED = "nbval-ignore-output"
BAR = "(a progress bar, alive while the cell runs)"  # of nbval_sanitize.cfg
# What hides a cell, or means something else under nbval than in JupyterLab.
SOURCE_PROBLEMS = {
    r"^\s*#\s*NBVAL_SKIP\s*$": "comment NBVAL_SKIP hides the cell from the tests",
    r"^\s*%%?(?!matplotlib|load_ext|autoreload)\w+": "magic (nbval passes one that does not exist)",
    r";\s*\Z": "trailing ';' does not silence the output under nbval: use `_ = ...`",
}

# A file's place on somebody's machine, but not the middle of a web address or of base64.
MACHINE_PATH = re.compile(
    r"(?<![\w./~-])(?:/(?:home|Users|root|tmp|private|var/folders)/|[A-Z]:\\)[^\s\"'<>]*"
)
# The folders in front of a package's file, in a traceback (colour codes may surround the path).
TRACEBACK_FOLDERS = re.compile(
    r"(?:~|[A-Z]:)?[\\/][^\s\x1b]*[\\/](?=(?:blvnet_lab|site-packages|python3\.\d+)[\\/])"
)
# What a browser opens in the same folder, of a link or a picture in Markdown.
LINK = re.compile(r"(?P<picture>!?)\[(?P<text>[^\]]*)\]\((?P<target>[^)\s]+)\)")
IMG = re.compile(r"<img\b(?![^>]*\balt\s*=\s*[\"'][^\"'])[^>]*>")
UNSTABLE = get_sanitize_patterns((ROOT / "tests" / "nbval_sanitize.cfg").read_text("utf-8"))


def without_what_changes(nb: nbformat.NotebookNode) -> nbformat.NotebookNode:
    """A copy of ``nb`` without what differs between two runs, or between two machines.

    Cell ids, sources, tags and the outputs that a reader sees stay.
    """
    nb = nbformat.from_dict(json.loads(json.dumps(nb)))
    nb.metadata = nbformat.from_dict(METADATA)
    for cell in nb.cells:
        kept = {key: value for key, value in cell.metadata.items() if key in CELL_METADATA}
        cell.metadata = nbformat.from_dict(kept)
        # Where streams are cut is a matter of timing.
        CoalesceStreamsPreprocessor().preprocess_cell(cell, {}, 0)
        for output in cell.get("outputs", []):
            # A view without its kernel is "Error displaying widget: model not found", and its id
            # is random. The text and the picture beside it stay. tqdm's text is the bar before its
            # first step, for ever at 0 %: nbval_sanitize.cfg has a fixed word for it.
            data = output.get("data", {})
            data.pop(WIDGET_VIEW, None)
            for kind, value in data.items():
                if kind.startswith("text/"):
                    data[kind] = _stable(value)
            if output.output_type == "stream":
                output.text = _stable(output.text)
            if output.output_type == "error":
                lines = (TRACEBACK_FOLDERS.sub("", line) for line in output.traceback)
                output.traceback = [*map(_stable, lines)]
        if cell.cell_type == "code" and IGNORED in kept.get("tags", []):
            # Elsewhere nbval counts outputs. Here a page need not say twenty times where bars were.
            cell.outputs = [o for o in cell.outputs if o.get("data", {}).get("text/plain") != BAR]
    return nb


def shrink_pictures(nb: nbformat.NotebookNode) -> None:
    """Re-encode pictures, the same pixels in fewer bytes: widgets encode them for speed."""
    for cell in nb.cells:
        for data in (output.get("data", {}) for output in cell.get("outputs", [])):
            if picture := data.get("image/png"):
                file = io.BytesIO()
                image = Image.open(io.BytesIO(base64.b64decode(picture)))
                image.save(file, "PNG", optimize=True)
                data["image/png"] = base64.b64encode(file.getvalue()).decode()


def _stable(text: str) -> str:
    for pattern, word in UNSTABLE:
        text = re.sub(pattern, word, text)
    return text


@functools.cache
def start_picture_server() -> None:
    """One Chromium draws all plotly pictures: 0.2 s each, against 3.5 s for one Chromium each."""
    import kaleido

    chromium = find_chromium()
    if chromium is None:
        raise SystemExit(
            "expected: Chromium, to draw the static pictures of plotly figures\n"
            "got:      none found\n"
            "remedy:   apt-get install chromium, or set BROWSER_PATH to Chrome or Chromium"
        )
    os.environ["BROWSER_PATH"] = chromium
    warnings.filterwarnings("ignore", message=".*kopts.*server")  # plotly passes them regardless
    kaleido.start_sync_server(silence_warnings=True)
    atexit.register(kaleido.stop_sync_server)


def add_pictures(nb: nbformat.NotebookNode) -> int:
    """A PNG beside every plotly figure, for GitHub, HTML and PDF; returns how many."""
    import plotly.io as pio

    outputs = [output for cell in nb.cells for output in cell.get("outputs", [])]
    bundles = [output.data for output in outputs if PLOTLY in output.get("data", {})]
    for data in bundles:
        start_picture_server()
        figure = pio.from_json(json.dumps(data[PLOTLY]))
        data["image/png"] = base64.b64encode(figure.to_image("png")).decode()
    return len(bundles)


def add_alternative_texts(nb: nbformat.NotebookNode) -> None:
    """The caption below a figure as the alternative text of its picture, where HTML has one."""
    for cell, below in itertools.pairwise(nb.cells):
        caption = CAPTION.match(below.source) if below.cell_type == "markdown" else None
        for output, kind in pictures_of(cell):
            if caption is not None:
                output.metadata[kind] = output.metadata.get(kind, {}) | {"alt": said(caption)}


def said(caption: re.Match) -> str:
    """A caption without its Markdown."""
    return re.sub(r"[*`]", "", caption["text"])


def pictures_of(cell: nbformat.NotebookNode) -> list[tuple[nbformat.NotebookNode, str]]:
    """The outputs of a cell that are pictures, with their kind."""
    return [
        (output, kind)
        for output in cell.get("outputs", [])
        for kind in output.get("data", {})
        if kind in ("image/png", "image/jpeg")
    ]


def kernel_environment(scratch: str) -> dict[str, str]:
    """Environment of the kernels: this checkout, the shipped scale, nobody's IPython settings."""
    paths = [str(ROOT), os.environ.get("PYTHONPATH", "")]
    paths = os.pathsep.join(filter(None, paths))
    own = {"BLVNET_LAB_SCALE": "shipped", "IPYTHONDIR": scratch, "PYTHONPATH": paths}
    return os.environ | own


def execute(path: Path, env: dict[str, str]) -> nbformat.NotebookNode:
    """The notebook, executed in its own folder; raises ``CellExecutionError`` at a failed cell."""
    from nbclient import NotebookClient
    from traitlets.config import Config

    nb = nbformat.read(path, as_version=4)
    NotebookClient(
        nb,
        # else newer kernels warn of unencrypted TCP at every start, in the middle of our lines
        config=Config({"KernelManager": {"transport_encryption": "auto"}}),
        timeout=LIMIT_S,
        startup_timeout=LIMIT_S,
        kernel_name="python3",
        resources={"metadata": {"path": str(path.parent)}},
        store_widget_state=False,  # else 5 MB for each plotly FigureWidget
        record_timing=False,  # else timestamps in every cell
    ).execute(env=env)
    return nb


def run(paths: list[Path]) -> int:
    """Execute the notebooks in place; one that fails keeps its old outputs. 1 if any failed."""
    from nbclient.exceptions import CellExecutionError, CellTimeoutError, DeadKernelError

    failed = []
    with tempfile.TemporaryDirectory() as scratch:
        env = kernel_environment(scratch)
        for number, path in enumerate(paths, start=1):
            print(f"[{number}/{len(paths)}] {path.name} ...", end=" ", flush=True)
            start = time.monotonic()
            try:
                nb = execute(path, env)
            except (CellExecutionError, CellTimeoutError, DeadKernelError) as error:
                failed.append(path.name)
                print(f"FAILED, left as it was\n{error}", flush=True)
                continue
            seconds = time.monotonic() - start
            pictures = add_pictures(nb)
            add_alternative_texts(nb)
            shrink_pictures(nb)
            nb = without_what_changes(nb)
            nbformat.validate(nb)
            text = nbformat.writes(nb) + "\n"
            news = "same bytes" if text == path.read_text("utf-8") else "changed"
            path.write_text(text, encoding="utf-8", newline="\n")
            print(
                f"{seconds:.1f} s, {len(text.encode()) / 1e3:.0f} kB, "
                f"{pictures} plotly pictures, {news}",
                flush=True,
            )
    if failed:
        print(f"{len(failed)} of {len(paths)} failed: {', '.join(failed)}")
    return 1 if failed else 0


def problems(path: Path) -> list[str]:
    """What keeps the notebook at ``path`` from being committed; empty if nothing does."""
    text, found = path.read_text("utf-8"), []
    size, ids = len(text.encode()), [cell.get("id") for cell in json.loads(text)["cells"]]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # missing ids are repaired; that is reported below
        nb = nbformat.reads(text, as_version=4)
        nbformat.validate(nb)
    if None in ids or len(set(ids)) < len(ids):
        found.append("cells without an id of their own: every run would give them new ones")
    if size > MAX_BYTES:
        found.append(f"{size / 1e6:.1f} MB, the limit is {MAX_BYTES / 1e6:.0f} MB")
    if (count := sum(not (of_exercise(c) or only_caption(c)) for c in nb.cells)) > MAX_CELLS:
        found.append(f"{count} cells besides exercises and captions, the limit is {MAX_CELLS}")
    if nb.metadata.get("kernelspec", {}).get("name") != "python3":
        found.append("kernelspec is not 'python3': it would not start on other machines")
    if "widgets" in nb.metadata:
        found.append("metadata.widgets is saved: large, and breaks the rendering on GitHub")
    expected = 1
    for index, cell in enumerate(nb.cells):
        if cell.cell_type == "markdown":
            found += [f"cell {index}: {line}" for line in markdown_problems(cell.source, path)]
        found += [f"cell {index}: {line}" for line in cell_problems(cell, expected)]
        if cell.cell_type == "code":
            expected = (cell.execution_count or expected) + 1
    found += caption_problems(nb, path)
    if not found and without_what_changes(nb) != nb:  # saved by an editor, say
        found.append("not as `make notebooks` writes it (metadata, timing or ids): run that")
    return found + misspelled(nb)


def of_exercise(cell: nbformat.NotebookNode) -> bool:
    """Whether a cell is the text, the stub or the check of an exercise."""
    tags = set(cell.metadata.get("tags", []))
    return cell.source.startswith(EXERCISE) or bool(EXERCISE_TAGS & tags)


def only_caption(cell: nbformat.NotebookNode) -> bool:
    """Whether a cell is there for a caption alone."""
    return cell.cell_type == "markdown" and CAPTION.fullmatch(cell.source) is not None


def caption_problems(nb: nbformat.NotebookNode, path: Path) -> Iterator[str]:
    """Figures without a caption, captions without a figure, and numbers out of order."""
    count = 0
    for index, (cell, below) in enumerate(itertools.pairwise(nb.cells)):
        caption = CAPTION.match(below.source) if below.cell_type == "markdown" else None
        pictures = pictures_of(cell)
        count += bool(pictures)
        wanted = f"{path.name[:2].removeprefix('0')}.{count}"
        if pictures and caption is None:
            begin = f"begin cell {index + 1} with it: *Figure {wanted}: what it shows*"
            yield f"cell {index}: a figure without a caption; {begin}"
        elif caption is not None and not pictures:
            yield f"cell {index + 1}: a caption, but no figure above it"
        elif caption is not None and caption["number"] != wanted:
            yield f"cell {index + 1}: Figure {caption['number']}, expected {wanted}"
        elif caption is not None:
            for output, kind in pictures:
                if output.metadata.get(kind, {}).get("alt") != said(caption):
                    yield f"cell {index}: its alternative text is not its caption; run it again"


def markdown_problems(text: str, path: Path) -> Iterator[str]:
    """Relative links that lead nowhere from ``path``, and pictures without an alternative text."""
    text = re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE)
    text = re.sub(r"`[^`\n]*`", "", text)
    for link in LINK.finditer(text):
        if link["picture"] and not link["text"].strip():
            yield f"the picture {link['target']} has no alternative text: ![what it shows](...)"
        target, _, anchor = link["target"].partition("#")
        if re.match(r"[a-z]+:", target):  # of the web: whether it is there is not ours to say
            continue
        there = path.parent / target if target else path
        if not there.exists():
            yield f"the link {link['target']} leads nowhere"
        elif anchor and there.suffix == ".md" and anchor not in headings(there):
            yield f"{there.name} has no heading #{anchor}"
    for picture in IMG.findall(text):
        yield f"a picture without an alternative text: {picture[:80]}"


def headings(path: Path) -> set[str]:
    """Names of the headings of a Markdown file, as GitHub makes them."""
    titles = re.findall(r"^#{1,6} (.+)$", path.read_text("utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


def misspelled(nb: nbformat.NotebookNode) -> list[str]:
    """Words in text and code that codespell knows to be mistakes; British spelling is none."""
    text = "\n".join(cell.source for cell in nb.cells)
    command = [sys.executable, "-m", "codespell_lib", "-"]  # its settings are in pyproject.toml
    done = subprocess.run(command, input=text, cwd=ROOT, capture_output=True, encoding="utf-8")
    found = [f"spelling: {line.strip()}" for line in done.stdout.splitlines() if "==>" in line]
    if done.returncode and not found:  # it is not installed, say: that is no clean notebook
        raise SystemExit(f"expected codespell to read the notebook, got\n{done.stderr}")
    return found


def cell_problems(cell: nbformat.NotebookNode, expected_count: int) -> Iterator[str]:
    """What is wrong with one cell that should have ``expected_count`` as its number."""
    tags = set(cell.metadata.get("tags", []))
    if "nbval-skip" in tags:
        yield "tag nbval-skip hides the cell from the tests"
    if not cell.source.strip():
        yield f"empty {cell.cell_type} cell"
        return
    if cell.cell_type != "code":
        return
    if cell.execution_count != expected_count:
        yield (
            f"execution_count {cell.execution_count}, expected {expected_count}: not run from top "
            "to bottom (nbval compares nothing in a cell that was not run)"
        )
    if (lines := len(cell.source.splitlines())) > MAX_LINES:
        yield f"{lines} lines, the limit is {MAX_LINES}"
    for pattern, words in SOURCE_PROBLEMS.items():
        if found := re.search(pattern, cell.source, re.MULTILINE):
            yield f"{found[0].strip()}: {words}"
    for output in cell.outputs:
        yield from output_problems(output, tags)


def output_problems(output: nbformat.NotebookNode, tags: set[str]) -> Iterator[str]:
    """What no committed output may hold."""
    if output.output_type == "error" and "raises-exception" not in tags:
        yield f"error output {output.ename}: {output.evalue} (meant? tag it raises-exception)"
    if output.output_type == "stream" and output.name == "stderr":
        yield f"stderr output: {output.text.strip()[:80]!r}"
    if WIDGET_VIEW in output.get("data", {}):
        yield "a widget view is saved: an error message once its kernel is gone"
    size = len(json.dumps(output, ensure_ascii=False).encode())
    if size > MAX_OUTPUT_BYTES:
        yield f"an output of {size / 1e3:.0f} kB, the limit is {MAX_OUTPUT_BYTES / 1e3:.0f} kB"
    if path := MACHINE_PATH.search(_readable(output)):
        yield f"an output shows a path of one machine: {path[0][:80]}"


def _readable(output: nbformat.NotebookNode) -> str:
    """All text of an output: streams, errors and what is not a picture."""
    data = output.get("data", {})
    pieces = [output.get("text", ""), output.get("evalue", ""), *output.get("traceback", [])]
    for kind, value in data.items():
        if not kind.startswith("image/") or kind == "image/svg+xml":
            pieces.append(value if isinstance(value, str) else json.dumps(value))
    # colour codes would hide where a path begins
    return re.sub(r"\x1b\[[\d;]*m", " ", "\n".join(pieces))


def check(paths: list[Path]) -> int:
    """Print every problem of every notebook; 1 if there is any."""
    found = [f"{path.name}: {line}" for path in paths for line in problems(path)]
    print("\n".join([*found, f"{len(paths)} notebooks, {len(found)} problems"]))
    return 1 if found else 0


def all_notebooks() -> list[Path]:
    """The course's notebooks in order, without JupyterLab's checkpoints."""
    return sorted((ROOT / "notebooks").glob("*.ipynb"))


def main(arguments: list[str] | None = None) -> int:
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=raw)
    parser.add_argument("command", choices=["run", "check"])
    parser.add_argument("notebooks", nargs="*", type=Path, help="default: all of notebooks/")
    given = parser.parse_args(arguments)
    paths = [path.resolve() for path in given.notebooks] or all_notebooks()
    if missing := [path for path in paths if not path.is_file()]:
        parser.error(f"expected notebooks, got no file at {', '.join(map(str, missing))}")
    return {"run": run, "check": check}[given.command](paths)


if __name__ == "__main__":
    sys.exit(main())
