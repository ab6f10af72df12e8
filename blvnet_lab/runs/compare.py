"""Compare an evaluation with the same clips in other orders, or with another network on them."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from blvnet_lab.data import DataSet
from blvnet_lab.data.dataset import on_cpu
from blvnet_lab.datasets.partners import PARTNER
from blvnet_lab.introspect.influence import frame_orders
from blvnet_lab.training.evaluation import Predictions
from blvnet_lab.training.metrics import ranked

Playing = Literal["as-is", "reversed", "halves", "shuffled", "frozen"]
KEYS = ["measure", "class_name", "playing"]  # of a row of `playing_table`
ALL = "(all)"  # class_name of the rows over all classes
RIGHT_OR_WRONG, EITHER_SIGN = (0, 0, 1, 1), (-1, 1)
COMPARED = {"top_1": RIGHT_OR_WRONG, "top_1_of_other": RIGHT_OR_WRONG, "difference": EITHER_SIGN}


@dataclass(frozen=True)
class Beside:
    """Further evaluations of the same clips."""

    # Also evaluate with the frames in these orders: reversed, halves (second half first), shuffled
    # (one order for all clips), frozen (the middle frame repeated). As-is always comes first.
    playing: tuple[Playing, ...] = ()
    # Also evaluate this checkpoint, and compare the two.
    against: Path | None = None


@on_cpu()
def frame_order(playing: Playing, num_frames: int) -> Tensor:
    """Return the order of frames (T,) for a way of playing; "shuffled" is that of `ablations`."""
    t = torch.arange(num_frames)
    orders = {"as-is": t, "reversed": t.flip(0), "frozen": torch.full_like(t, num_frames // 2)}
    orders["halves"] = t.roll(num_frames // 2)
    orders["shuffled"] = frame_orders(num_frames).get("frames shuffled", t.flip(0))
    return orders[playing]


@on_cpu()
def partner_labels(classes: Sequence[str], data_set: DataSet | None = None) -> Tensor:
    """Find each class's partner (num_classes,) by name, or from a manifest's column `pair`.

    A class without a partner is its own.
    """
    labels = {name: k for k, name in enumerate(classes)}
    partners = torch.tensor([labels.get(PARTNER.get(name), k) for k, name in enumerate(classes)])
    if data_set is not None and "pair" in data_set.rows and not data_set.multi_label:
        ends = data_set.rows.query("pair != ''").groupby("pair")["label"].agg(["min", "max"])
        for one, other in ends.itertuples(index=False):
            partners[one], partners[other] = other, one
    return partners


def source_videos(clips: pd.DataFrame) -> pd.Series:
    """Identify the video that each clip comes from: its source_id or, without one, its file."""
    # The paths of parts end in their times (`clip_name`).
    files = clips["path"].str.replace(r"#t=[\d.,e+-]*$", "", regex=True)
    return clips["source_id"].where(clips["source_id"] != "", files)


def is_right(logits: Tensor, labels: Tensor, numbers: Tensor | None = None) -> pd.Series:
    """Score each clip 1.0 if its class is ranked first, else 0.0; indexed by clip number."""
    hits = (ranked(logits)[:, 0] == labels).double()
    return pd.Series(hits.numpy(), None if numbers is None else numbers.numpy())


def mean_over_videos(
    values: pd.Series, videos: pd.Series, added: Sequence[int] = RIGHT_OR_WRONG
) -> tuple[float, float, float]:
    """Compute the mean of clips' values, and its 95 % interval over their videos.

    Videos of average size with the values `added` are included, so that the interval has a width
    even where all values are equal: two right and two wrong ones for a share (Agresti and Coull,
    1998), one of each sign for a difference (Bonett and Price, 2012).
    """
    sums, sizes = values.groupby(videos).agg(["sum", "count"]).to_numpy("float64").T
    sums = np.append(sums, sizes.mean() * np.array(added))
    sizes = np.append(sizes, np.full(len(added), sizes.mean()))
    middle = sums.sum() / sizes.sum()
    width = 1.96 * np.linalg.norm(sums - middle * sizes) / sizes.sum()
    ends = np.clip([middle - width, middle + width], min(added), max(added))
    return float(values.mean()), *ends.tolist()


@on_cpu()
def playing_table(
    answers: Mapping[Playing, Predictions],
    clips: pd.DataFrame,
    partners: Tensor,
    reversal: Sequence[int | None],
) -> pd.DataFrame:
    """Tabulate a network's accuracy on clips played in several orders.

    Columns: measure (top-1, between partner classes, and how often the answer is the class of the
    clip played backwards), class_name, playing, clips, share, and the interval's low and high.

    clips: class_name and video of every clip, indexed by clip number.
    partners: (num_classes,), the label of each class's partner; its own label if it has none.
    """
    parts, turned_of = [], torch.tensor([-1 if label is None else label for label in reversal])
    for playing, found in answers.items():
        labels, best = found.labels, ranked(found.logits)[:, 0]
        partner, turned = partners[labels], turned_of[labels]
        both = found.logits.gather(1, torch.stack([labels, partner], 1))
        wins = (both[:, 0] - both[:, 1]).sign() / 2 + 0.5  # a tie is half
        part = clips.loc[found.indices.numpy()].assign(playing=playing)
        part["top-1"] = (best == labels).float().numpy()
        part["between partners"] = wins.where(partner != labels, torch.nan).numpy()
        part["as if reversed"] = (best == turned).float().where(turned >= 0, torch.nan).numpy()
        parts.append(part)
    hits = pd.concat(parts).melt(["class_name", "video", "playing"], var_name="measure").dropna()
    groups = pd.concat([hits.assign(class_name=ALL), hits]).groupby(KEYS, sort=False)
    rows = [(*key, len(of), *mean_over_videos(of["value"], of["video"])) for key, of in groups]
    return pd.DataFrame(rows, columns=[*KEYS, "clips", "share", "low", "high"])


def show_playing(table: pd.DataFrame, max_classes: int) -> str:
    """Format a `playing_table` as text, with the classes that lose most in other orders."""
    percent = 100 * table.set_index(KEYS)[["share", "low", "high"]]
    cells = percent.apply(lambda row: "{:.1f} ({:.1f}-{:.1f})".format(*row), axis=1)
    share = percent["share"]["top-1"].unstack().drop(ALL)
    lost = share["as-is"] - share.drop(columns="as-is").mean(axis=1)
    shown = [ALL, *lost.sort_values(ascending=False, kind="stable").index[:max_classes]]
    cells = cells[cells.index.isin(shown, level="class_name")].unstack(sort=False)
    return f"in %, with 95 % intervals over videos\n{cells.to_string(na_rep='')}"


def compare_answers(this: Predictions, other: Predictions, videos: pd.Series) -> dict[str, Any]:
    """Compare the top-1 of two networks on the clips that both could read; `videos` of all clips.

    p comes from the exact two-sided sign test over the videos on which one network gets more clips
    right than the other; where every video is a single clip, that is McNemar's test.
    """
    right = [is_right(found.logits, found.labels, found.indices) for found in (this, other)]
    both = pd.concat(right, axis=1, join="inner", keys=["top_1", "top_1_of_other"])
    both["difference"], videos = both["top_1"] - both["top_1_of_other"], videos[both.index]
    ahead = both["difference"].groupby(videos).sum()
    counts = [int((ahead > 0).sum()), int((ahead < 0).sum())]
    tail = sum(math.comb(sum(counts), k) for k in range(min(counts) + 1))
    found = {"clips": len(both), "videos": len(ahead)}
    found |= {name: mean_over_videos(both[name], videos, COMPARED[name]) for name in both}
    found |= {"videos_better": counts[0], "videos_worse": counts[1]}
    return found | {"p": min(1.0, 2 * tail / 2 ** sum(counts))}


def show_comparison(found: Mapping[str, Any]) -> str:
    """Format the result of `compare_answers` as text."""
    shown = pd.Series(found | {"p": f"{found['p']:.2g}"}).drop("against")
    for name in COMPARED:
        shown[name] = "{:.2f} % ({:.2f} to {:.2f})".format(*(100 * end for end in found[name]))
    return f"against {found['against']}, with 95 % intervals over videos\n{shown.to_string()}"
