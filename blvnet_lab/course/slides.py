"""Write the notebooks as slides, by nbconvert for reveal.js.

    python -m blvnet_lab slides --out slides             # these slides need the internet
    cd slides && npm install reveal.js@4.0.2 requirejs@2 jquery@3 mathjax@2
    python -m blvnet_lab slides --out slides --replace   # and these do not

Headings start new slides, so the notebooks need no slide metadata: each section is a column of
slides; the right arrow leads to the next section, the down arrow through the section.
"""

from pathlib import Path

import nbformat
from nbformat import NotebookNode

from blvnet_lab.course.copies import CAPTION, EXERCISE_TAGS, Written, internet_advice
from blvnet_lab.paths import check_absent, notebooks, write_files

# What the pages load, and where `npm install` puts it.
NEEDED = "reveal.js@4.0.2 requirejs@2 jquery@3 mathjax@2"
LOCAL = {
    "reveal_url_prefix": "node_modules/reveal.js",
    "require_js_url": "node_modules/requirejs/require.js",
    "jquery_url": "node_modules/jquery/dist/jquery.min.js",
    "mathjax_url": "node_modules/mathjax/MathJax.js?config=TeX-AMS_CHTML-full,Safe",
}
# Prose is longer than bullet points, so letters are smaller and text is aligned left.
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
    """Choose each cell's slide: `slide` to the right, `subslide` below, `-` with the last cell.

    A section's heading starts a new column; its other cells follow below, each on its own slide,
    but an exercise's text, stub and check stay together, and so do a figure and its caption.
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
    """Write the notebooks as slides for a browser, pictures included.

    They load reveal.js and MathJax from `node_modules` in the same folder if it is there, otherwise
    from the internet.

    Args:
        out: folder for a page per notebook.
        replace: overwrite existing files.

    Raises:
        FileExistsError: files exist already, and `replace` is not set.
    """
    pages = {path: out / f"{path.stem}.slides.html" for path in sorted(notebooks().glob("*.ipynb"))}
    check_absent(pages.values(), replace=replace)  # before the work
    from nbconvert import SlidesExporter  # takes seconds to import

    offline = all((out / name.partition("?")[0]).exists() for name in LOCAL.values())
    exporter = SlidesExporter(
        reveal_theme="white",  # the default, "simple", waits for a font from the internet
        reveal_width="1280",
        reveal_height="800",
        reveal_scroll=True,  # for cells that are still too tall
        reveal_number="h.v",
        reveal_transition="none",
        **(LOCAL if offline else {}),
    )
    files = {}
    for path, target in pages.items():
        nb = nbformat.read(path, as_version=4)
        for cell, kind in zip(nb.cells, slide_types(nb), strict=True):
            cell.metadata["slideshow"] = {"slide_type": kind}
        page, _ = exporter.from_notebook_node(nb, {"metadata": {"name": path.stem}})
        files[target] = page.replace("</head>", STYLE, 1)
    write_files(files, replace=replace)
    return Written(out, sorted(files), internet_advice(out, NEEDED, offline=offline))
