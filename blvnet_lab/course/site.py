"""Write the course as a website: notebooks as pages with navigation and search, by Sphinx and MyST.

    python -m blvnet_lab site --out site
    python -m http.server --directory site      # or open site/index.html

The pages load nothing from the internet; formulas are MathML, which browsers render by themselves.
The folder page/ holds what the command `page` writes, which may need the internet.
"""

import shlex
import shutil
import sys
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from blvnet_lab.course.copies import shipped
from blvnet_lab.course.page import LOCAL, NEEDED, write_page
from blvnet_lab.course.written import Written, internet_advice
from blvnet_lab.paths import check_absent, write_files

PACKAGES = {"sphinx": "sphinx", "myst_nb": "myst-nb", "sphinx_book_theme": "sphinx-book-theme"}
SETTINGS = {
    "project": "blvnet_lab",
    "html_title": "blvnet_lab",
    "extensions": ["myst_nb", "blvnet_lab.course.site"],
    "html_theme": "sphinx_book_theme",
    "html_theme_options": {
        "home_page_in_toc": True,
        "navbar_persistent": [],  # the search is in the sidebar
        "show_toc_level": 2,
        "footer_content_items": [],  # otherwise an author and a year
    },
    "html_context": {"default_mode": "auto"},  # light or dark, as the reader prefers
    "html_math_renderer": "mathml",
    "myst_enable_extensions": ["dollarmath"],
    "myst_heading_anchors": 4,
    "nb_execution_mode": "off",  # they are executed already
    "nb_ipywidgets_js": {},  # widgets need a kernel: pages show their pictures
    "suppress_warnings": ["mystnb.unknown_mime_type"],  # and those of plotly's figures
}
INDEX = """# Efficient video networks, by hand

A course in notebooks: you build bLVNet-TAM, train it, and take it apart. These pages are to be
read; to run the notebooks, install the package: `python -m blvnet_lab course my_course --open`.
And a page in which you turn taps and reorder frames: <a href="page/index.html">the networks in your
browser</a>.

```{toctree}
:maxdepth: 1
"""


def write_site(out: Path, *, replace: bool = False) -> Written:
    """Write the course as a website that works offline: pages to read, with navigation and search.

    It needs the extra `site`. The folder page/ holds what the command `page` writes.

    Args:
        out: folder for the pages, which start at index.html.
        replace: overwrite existing files.

    Raises:
        FileExistsError: files exist already, and `replace` is not set.
        ValueError: packages are missing.
    """
    if lacking := [name for module, name in PACKAGES.items() if find_spec(module) is None]:
        raise ValueError(
            f"expected the packages that make a site, but {', '.join(lacking)} cannot be found: "
            f"pip install {' '.join(lacking)} (or the extra `site` of this package)"
        )
    sources = sorted(shipped(), key=lambda path: (path.suffix != ".ipynb", path.name))
    names = ["index", *(path.stem for path in sources)]
    pages = [out / f"{name}.html" for name in names]
    check_absent(pages, replace=replace)  # before the work
    from sphinx.application import Sphinx  # takes seconds to import

    with TemporaryDirectory() as folder:
        source, made, kept = (Path(folder, name) for name in ("source", "made", "kept"))
        source.mkdir()
        for path in sources:
            shutil.copy(path, source)
        toc = "\n".join([INDEX, *names[1:], "```", ""])
        (source / "index.md").write_text(toc, "utf-8")
        Sphinx(source, None, made, kept, "html", SETTINGS, status=None, warning=sys.stderr).build()
        found = (path for path in made.rglob("*") if path.is_file())
        files = {out / path.relative_to(made): path.read_bytes() for path in found}
    check_absent(files, replace=replace)
    page = write_page(out / "page", notebooks="../index.html", replace=replace)
    write_files(files, replace=replace)
    serve = shlex.join(["python", "-m", "http.server", "-d", str(out)])
    advice = internet_advice(page.out, NEEDED, offline=all((page.out / f).exists() for f in LOCAL))
    return Written(out, pages, f"begin with {pages[0]}; to serve them: {serve}\n{advice}")


def setup(app: Any) -> None:
    """Let Sphinx write formulas as MathML."""
    from docutils import nodes
    from docutils.utils.math.latex2mathml import tex2mathml

    def write(translator: Any, node: Any, as_block: bool = False) -> None:
        formula = node.astext().replace(r"\big", "")  # docutils does not know this size
        translator.body.append(tex2mathml(formula, as_block=as_block))
        raise nodes.SkipNode

    app.add_html_math_renderer("mathml", (write, None), (partial(write, as_block=True), None))
