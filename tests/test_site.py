"""The course as a site. The oracle is the notebooks' own text."""

import re
import sys
from pathlib import Path
from types import SimpleNamespace

import nbformat
import pytest
from lab import ROOT, new_page, type_command

from blvnet_lab.course import site
from blvnet_lab.course.copies import Written

LOADED = re.compile(
    r"<(?:script|img|iframe|source)\b[^>]*\bsrc=\"([^\"]+)|<link\b[^>]*\bhref=\"([^\"]+)"
)


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    for module, name in site.PACKAGES.items():
        pytest.importorskip(module, reason=f"needs {name}: pip install -e '.[site]'")
    with pytest.MonkeyPatch.context() as patch:
        for name in ("with_taps", "stream"):  # test_page.py has a page with its networks
            export = f"blvnet_lab.course.site.export_{name}"
            patch.setattr(export, lambda model, path, size: path.touch())
        return site.write_site(tmp_path_factory.mktemp("new") / "site")


def test_every_notebook_is_a_page_in_order(written):
    names = [path.stem for path in sorted((ROOT / "notebooks").glob("*.ipynb"))]
    names = ["index", *names, "glossary", "references"]
    assert [path.name for path in written.files] == [f"{name}.html" for name in names]
    assert f"begin with {written.files[0]}" in str(written)
    listed = re.findall(r'toctree-l1"><a class="reference internal" href="([^"]+)"',
                        written.files[0].read_text("utf-8"))  # fmt: skip
    assert listed[-len(names) + 1 :] == [path.name for path in written.files[1:]]


def test_nothing_is_loaded_from_elsewhere_and_all_is_there(written):
    for page in written.files:
        for found in LOADED.findall(page.read_text("utf-8")):
            name = "".join(found).partition("?")[0]
            assert name.startswith("data:") or (page.parent / name).is_file(), (page.name, name)


def test_the_page_is_in_it(written):
    page = written.out / "page" / "index.html"
    assert page.is_file()
    assert 'href="page/index.html"' in written.files[0].read_text("utf-8")
    linked = re.search(r'<a href="(\.\.[^"]+)"', page.read_text("utf-8"))[1]
    assert (page.parent / linked).resolve() == written.files[0].resolve()


def test_text_pictures_and_formulas_are_there(written):
    for path in sorted((ROOT / "notebooks").glob("*.ipynb")):
        nb, page = nbformat.read(path, 4), (written.out / f"{path.stem}.html").read_text("utf-8")
        texts = [cell.source for cell in nb.cells if cell.cell_type == "markdown"]
        formulas = sum(text.count("$$") // 2 for text in texts)
        assert page.count('display="block"') == formulas and "$$" not in page
        outputs = [o.get("data", {}) for cell in nb.cells for o in cell.get("outputs", [])]
        pictures = sum(any(kind.startswith("image/") for kind in data) for data in outputs)
        assert page.count("_images/") >= pictures
        assert page.count("<details") == sum(text.count("<details") for text in texts)
        assert 'class="system-message' not in page


@pytest.mark.browser
def test_search_and_navigation_offline(written, browser):
    with new_page(browser, ("error", "warning"), offline=True) as page:
        page.goto((written.out / "search.html").as_uri() + "?q=receptive")
        page.get_by_role("link", name="09 · See temporal aggregation").last.click()
        page.get_by_role("heading", name="09 · See temporal aggregation").wait_for()
        page.get_by_role("link", name="glossary").first.click()
        page.get_by_role("heading", name="Glossary").wait_for()
        assert "invalid" not in str(page.problems)
        assert page.get_by_role("button", name="Search").filter(visible=True).count() == 1


def test_pages_that_are_there_are_left_alone(tmp_path, monkeypatch):
    monkeypatch.setattr(site, "find_spec", lambda name: Path)
    (tmp_path / "index.html").write_text("mine")
    with pytest.raises(SystemExit, match=r"got .*index\.html: choose another folder.*--replace"):
        type_command(monkeypatch, "site", "--out", tmp_path)
    assert [path.read_text() for path in tmp_path.iterdir()] == ["mine"]


def test_all_is_written_or_nothing_and_then_what_to_do(tmp_path, monkeypatch):
    class Sphinx:
        def __init__(self, source, settings, made, *given, **options):
            self.made = made

        def build(self):
            self.made.mkdir()
            for name in ("index.html", "search.html"):
                (self.made / name).write_text("new")

    def write_page(out, **options):
        out.mkdir(exist_ok=True)
        return Written(out, [], "")

    monkeypatch.setitem(sys.modules, "sphinx.application", SimpleNamespace(Sphinx=Sphinx))
    monkeypatch.setattr(site, "find_spec", lambda name: Path)
    monkeypatch.setattr(site, "write_page", write_page)
    mine = tmp_path / "search.html"
    mine.write_text("mine")
    with pytest.raises(FileExistsError, match=r"got .*search\.html: choose another folder"):
        site.write_site(tmp_path)
    assert [*tmp_path.iterdir()] == [mine] and mine.read_text() == "mine"
    said = str(site.write_site(tmp_path, replace=True))
    assert mine.read_text() == (tmp_path / "index.html").read_text() == "new"
    assert f"{tmp_path / 'page'} need the internet; to do without, run there:  npm install" in said
    assert said.endswith("and then this command again, with --replace")
    for file in map(tmp_path.joinpath("page").joinpath, site.LOCAL.values()):
        file.parent.mkdir(parents=True)
        file.touch()
    assert "no internet" in str(site.write_site(tmp_path, replace=True))


def test_packages_that_are_lacking_are_named(monkeypatch, tmp_path):
    monkeypatch.setattr(site, "find_spec", lambda name: None if name == "myst_nb" else Path)
    with pytest.raises(ValueError, match=r"myst-nb cannot be found: pip install myst-nb \(or the"):
        site.write_site(tmp_path / "site")
    assert not (tmp_path / "site").exists()
