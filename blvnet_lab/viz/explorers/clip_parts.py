"""Parts of `ClipExplorer`: what it is given, what it says."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape

import pandas as pd

from blvnet_lab.models import VideoNet
from blvnet_lab.viz.images import paragraph, underlined

STRANGER = (
    "This video is not in the manifest. Small networks trained on coloured shapes have nothing "
    "meaningful to say about other videos."
)


def checked_manifest(
    models: Mapping[str, VideoNet], manifest: pd.DataFrame, class_names: Sequence[str] | None
) -> pd.DataFrame:
    """The manifest's rows that can be shown, as text; raises ValueError."""
    kinds = {(model.num_frames, model.classifier.out_features) for model in models.values()}
    if len(kinds) != 1:
        came = ", ".join(f"{frames} frames and {classes} classes" for frames, classes in kinds)
        raise ValueError(
            "expected models with the same num_frames and num_classes, since all get the same "
            f"clip, got {came or 'no models'}; build them alike, or make an explorer for each"
        )
    ((_, num_classes),) = kinds
    if class_names is not None and len(class_names) != num_classes:
        raise ValueError(
            f"expected {num_classes} class names, as many as the models have classes, got "
            f"{len(class_names)}; pass None to see numbers instead"
        )
    for title, model in models.items():
        if model.in_channels != 3:
            raise ValueError(
                f"expected models of RGB frames (in_channels=3), got {title} with in_channels="
                f"{model.in_channels}; BranchExplorer and TamExplorer take clips of other channels"
            )
    missing = [column for column in ("path", "class_name") if column not in manifest]
    manifest = manifest if missing else manifest.dropna(subset=["path", "class_name"])
    if missing or manifest.empty:
        came = f"no column {' and no '.join(missing)}" if missing else "no rows"
        raise ValueError(
            f"expected a manifest with path, class_name and at least one row, got {came}; "
            "blvnet_lab.data.DataSet.read(path).rows is one"
        )
    # Whole numbers beside gaps have become floats: 7.0 is 7 again.
    names = manifest["class_name"].convert_dtypes()
    texts = {"path": manifest["path"].map(str), "class_name": names.map(str)}
    return manifest.assign(**texts)


def paths_by_class(manifest: pd.DataFrame, class_names: Sequence[str]) -> dict[str, list[str]]:
    """Class name to the paths of its clips: known classes first, in their order."""
    found = manifest.groupby("class_name", sort=False)["path"].agg(list)
    known = [name for name in class_names if name in found]
    return {name: found[name] for name in (*known, *found.index)}


def legend(routed: Sequence[str]) -> str:
    """Under the clip, as HTML; `routed`: titles of the models whose pairs are split."""
    text = "The clip as the networks get it, with the numbers of the video's frames."
    ways = f"{underlined('little')} or {underlined('big')}"
    edges = f" Edges: to the {ways} branch in {escape(', '.join(routed))}." if routed else ""
    return paragraph(text + edges)
