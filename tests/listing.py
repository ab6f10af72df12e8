"""What tests of data sets share: manifests made with any wishes, and what is in them."""

from pathlib import Path

import pandas as pd

from blvnet_lab.data import DataSet
from blvnet_lab.datasets.inventory import build_manifest
from blvnet_lab.datasets.journal import Tables
from blvnet_lab.datasets.selection import Selection


def listed(dataset: str, root: Path, out: Path, **wishes) -> Tables:
    """`build_manifest` with options and the fields of a selection side by side."""
    options = {name: wishes.pop(name) for name in ("annotations", "fold", "source") & wishes.keys()}
    return build_manifest(dataset, root, out=out, selection=Selection(**wishes), **options)


def rows(manifest: Path, *columns: str) -> list[tuple]:
    """The manifest's rows, with the names of files only."""
    table = DataSet.read(manifest).rows
    table["path"] = [Path(path).name for path in table["path"]]
    return sorted(table[list(columns)].itertuples(index=False, name=None))


def findings(found: Tables) -> set[tuple]:
    """(kind, split, name) of the report, which must be what was returned."""
    table = found.problems.assign(name=[Path(name).name for name in found.problems["name"]])
    report = pd.read_csv(found.report, keep_default_na=False, dtype=str)
    pd.testing.assert_frame_equal(report, found.problems, check_dtype=False)
    return set(table[["kind", "split", "name"]].itertuples(index=False, name=None))
