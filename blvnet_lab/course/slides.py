"""The notebooks as slides, made by nbconvert for reveal.js.

    python -m blvnet_lab slides --out slides             # presented with the internet
    cd slides && npm install reveal.js@4.0.2 requirejs@2 jquery@3 mathjax@2
    python -m blvnet_lab slides --out slides --replace   # and from then on without

The headings say where a slide begins, so the notebooks need no marks of their own: each section
is a column of slides, the arrow to the right leads to the next section, the one down through it.
"""

from pathlib import Path

import nbformat
from nbformat import NotebookNode

from blvnet_lab.course.copies import CAPTION, EXERCISE_TAGS
from blvnet_lab.course.written import Written, internet_advice
from blvnet_lab.paths import notebooks, write_files

# What the pages load, and where `npm install` puts it.
NEEDED = "reveal.js@4.0.2 requirejs@2 jquery@3 mathjax@2"
LOCAL = {
    "reveal_url_prefix": "node_modules/reveal.js",
    "require_js_url": "node_modules/requirejs/require.js",
    "jquery_url": "node_modules/jquery/dist/jquery.min.js",
    "mathjax_url": "node_modules/mathjax/MathJax.js?config=TeX-AMS_CHTML-full,Safe",
}
# Prose is longer than bullet points: smaller letters, and from the left.
STYLE = """<style>
.reveal { font-size: 26px; }
.reveal .slides section { text-align: left; }
.reveal h1, .reveal h2, .reveal h3 { text-transform: none; letter-spacing: normal; }
.reveal h1 { font-size: 1.8em; }
.reveal h2 { font-size: 1.5em; }
.reveal h3 { font-size: 1.2em; }
.reveal .jp-OutputArea-output img, .reveal .jp-OutputArea-output svg { max-height: 520px; }
.reveal div.highlight > pre { font-size: 16px; line-height: 1.3; }
.reveal .jp-OutputArea-output pre { font-size: 16px; }
</style>
</head>"""


def slide_types(nb: NotebookNode) -> list[str]:
    """Say how each cell is shown: `slide` to the right, `subslide` below, `-` beneath the last one.

    A section's heading begins a slide; its other cells follow below, each on a slide of its own,
    but for an exercise, whose text, stub and check stay together, and a figure and its caption.
    """
    types = []
    for cell in nb.cells:
        if cell.cell_type == "markdown" and cell.source.startswith(("# ", "## ")):
            types.append("slide")
        elif EXERCISE_TAGS & set(cell.metadata.get("tags", [])) or CAPTION.match(cell.source):
            types.append("-")
        else:
            types.append("subslide")
    return types


def write_slides(out: Path, *, replace: bool = False) -> Written:
    """Write the notebooks as slides for a browser, pictures and all.

    What else they need (reveal.js, MathJax) is loaded from `node_modules` in the same folder if
    it is there, otherwise from the internet.

    Args:
        out: folder for a page for each notebook.
        replace: write over files that are there already.

    Raises:
        FileExistsError: files are there, and `replace` does not say what to do with them.
    """
    from nbconvert import SlidesExporter  # takes seconds to import

    offline = all((out / name.partition("?")[0]).exists() for name in LOCAL.values())
    exporter = SlidesExporter(
        reveal_theme="white",  # the default, "simple", waits for letters from the internet
        reveal_width="1280",
        reveal_height="800",
        reveal_scroll=True,  # where a cell is too tall all the same
        reveal_number="h.v",
        reveal_transition="none",
        **(LOCAL if offline else {}),
    )
    files = {}
    for path in sorted(notebooks().glob("*.ipynb")):
        nb = nbformat.read(path, as_version=4)
        for cell, kind in zip(nb.cells, slide_types(nb), strict=True):
            cell.metadata["slideshow"] = {"slide_type": kind}
        page, _ = exporter.from_notebook_node(nb, {"metadata": {"name": path.stem}})
        files[out / f"{path.stem}.slides.html"] = page.replace("</head>", STYLE, 1)
    write_files(files, replace=replace)
    return Written(out, sorted(files), internet_advice(out, NEEDED, offline=offline))
