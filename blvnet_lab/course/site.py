"""Write web pages: networks that run in the visitor's browser, and the course as a website.

    python -m blvnet_lab page --out page
    cd page && python -m http.server            # then http://localhost:8000
    python -m blvnet_lab site --out site        # the same in site/page
    python -m http.server --directory site      # or open site/index.html

The page shows the four networks and the causal one to visitors who install nothing: onnxruntime-web
runs them in the browser, Vue keeps the page to them. Both come from the internet, or from
node_modules in the same folder (npm install, then --replace). The website has the notebooks as
pages with navigation and search, by Sphinx and MyST. These load nothing from the internet; formulas
are MathML, which browsers render by themselves.
"""

import json
import re
import shlex
import shutil
import sys
from functools import partial
from html import escape
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from torch.nn.functional import pad

from blvnet_lab.course.copies import Written, internet_advice, shipped
from blvnet_lab.data import DataSet, read_frames, sample_uniform
from blvnet_lab.data.transforms import MEAN, STD
from blvnet_lab.datasets.motion import FPS
from blvnet_lab.deploy.variants import export_stream, export_with_taps
from blvnet_lab.introspect.taps import identity_taps, tams
from blvnet_lab.models import capture_points, load_model
from blvnet_lab.paths import PACKAGE, check_absent, check_target, data_samples, write_files
from blvnet_lab.progress import tqdm
from blvnet_lab.runs.staircase import PAPER, TITLES, find_partners

FILES = {  # of the two libraries, by the names under which page.js imports them
    "onnxruntime-web": "onnxruntime-web@1.30.0/dist/ort.wasm.bundle.min.mjs",
    "vue": "vue@3.5.45/dist/vue.esm-browser.prod.js",
}
ONLINE = {name: f"https://cdn.jsdelivr.net/npm/{file}" for name, file in FILES.items()}
LOCAL = {n: f"./node_modules/{re.sub('@[^/]+', '', file)}" for n, file in FILES.items()}
NEEDED = " ".join(file.partition("/")[0] for file in FILES.values())
STATIC = [*(PACKAGE / "course/page_files").iterdir(), PACKAGE / "viz/explorers/camera.js"]
CAUSAL = "blvnet_tam_causal"
FRAMES, SIZE = 8, (64, 64)


def write_page(out: Path, *, notebooks: str = "", replace: bool = False) -> Written:
    """Write a web page on which visitors reorder frames, turn taps and use their camera.

    It consists of static files: any web server will do, and nothing is sent to it.

    Args:
        out: folder for the page, which starts at index.html.
        notebooks: address of the course for the page's links; without it there are no links.
        replace: overwrite existing files.

    Raises:
        FileExistsError: files exist already, and `replace` is not set.
        ValueError: packages for the export to ONNX are missing.
    """
    names = [*PAPER, CAUSAL]
    link = f'<a href="{escape(notebooks)}">' if notebooks else "<a>"
    files = {out / p.name: p.read_text("utf-8") for p in STATIC}
    offline = all((out / file).exists() for file in LOCAL.values())
    libraries, start = json.dumps(LOCAL if offline else ONLINE), out / "index.html"
    files[start] = files[start].replace("<a course>", link).replace('"libraries"', libraries)
    made = [*(out / f"{name}.onnx" for name in names), out / "clips.bin", out / "page.json"]
    check_absent([*files, *made], replace=replace)
    check_target(start, ".html")  # before the work
    networks = []
    with TemporaryDirectory() as folder:
        for name, path in zip(tqdm(names, desc="networks"), made, strict=False):
            model = load_model(data_samples() / "checkpoints" / f"{name}.safetensors")
            write = export_stream if name == CAUSAL else export_with_taps
            write(model, Path(folder) / path.name, SIZE)
            files[path] = (Path(folder) / path.name).read_bytes()
            taps = {f"{tam}.taps": module.taps.detach() for tam, module in tams(model).items()}
            network = {"name": name, "title": TITLES.get(name, "bLVNet-TAM")}
            network["places"] = capture_points(model)[:-1]  # without the classifier
            network["taps"] = {tam: own.tolist() for tam, own in taps.items()}
            network["alone"] = {tam: identity_taps(own).tolist() for tam, own in taps.items()}
            networks.append(network)
    motion = DataSet.read(data_samples() / "motion" / "manifest.csv").split("val")
    first = motion.rows.drop_duplicates("label").sort_values("label")  # a clip of each class
    chosen = sample_uniform(int(first.num_frames.min()), FRAMES)
    clips = [read_frames(path, chosen).permute(0, 2, 3, 1) for path in first.path]  # (T, H, W, RGB)
    partners, kinds = find_partners(motion.classes)
    files[out / "clips.bin"] = b"".join(pad(clip, (0, 1), value=255).numpy() for clip in clips)
    order, half = list(range(FRAMES)), FRAMES // 2
    turns = {"reverse": order[::-1], "exchange halves": order[half:] + order[:half]}
    about = {"frames": FRAMES, "size": SIZE, "turns": turns, "networks": networks}
    about["rate"] = FPS * FRAMES / int(first.num_frames.min())  # a second
    # Bytes x become inputs factor * x + shift, for each of the three colours.
    about["colours"] = [(1 / (255 * std), -mean / std) for mean, std in zip(MEAN, STD, strict=True)]
    about["classes"] = [name.replace("_", " ") for name in motion.classes]
    about["partners"] = partners.tolist()
    about["made"] = ["reverse" if kind == "direction" else "exchange halves" for kind in kinds]
    files[out / "page.json"] = json.dumps(about)
    write_files(files, replace=replace)
    serve = shlex.join(["python", "-m", "http.server", "--directory", str(out)])
    advice = internet_advice(out, NEEDED, offline=offline)
    see = f"to see the page, run  {serve}\nand open http://localhost:8000"
    return Written(out, sorted(files), f"{advice}\n{see}")


# --- The course as a website -------------------------------------------------------------------

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
    has_all = all((page.out / file).exists() for file in LOCAL.values())
    advice = internet_advice(page.out, NEEDED, offline=has_all)
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
