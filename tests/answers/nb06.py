"""Answers to the exercises of notebook 06: wrong ones under the property they break, right ones."""

import csv
import io
import random

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F


def row_of(line, **changed):
    name, times = line["youtube_id"], (int(line["time_start"]), int(line["time_end"]))
    split = "val" if line["split"] == "validate" else line["split"]
    row = {"path": f"{name}_{times[0]:06d}_{times[1]:06d}.mp4", "class_name": line["label"]}
    return row | {"split": split, "source_id": name} | changed


def lines_of(text):
    return list(csv.DictReader(text.splitlines()))


def rows(text, **changes):
    """Make the rows; `changes` are functions of a line, for a key each."""
    return [row_of(x, **{key: new(x) for key, new in changes.items()}) for x in lines_of(text)]


def rows_with(**changes):
    return lambda text: rows(text, **changes)


def rows_by_pandas(text):
    table = pd.read_csv(io.StringIO(text), dtype=str, keep_default_na=False)
    start, end = (table[name].str.zfill(6) for name in ("time_start", "time_end"))
    table["path"] = table["youtube_id"] + "_" + start + "_" + end + ".mp4"
    table["split"] = table["split"].replace("validate", "val")
    table = table.rename(columns={"label": "class_name", "youtube_id": "source_id"})
    return table[["path", "class_name", "split", "source_id"]]


def between(count, videos):
    return min(max(1, count), len(videos) - 1)


def split_with(
    videos_of=lambda ids: sorted(set(ids)),
    count_of=lambda share, videos: between(round(share * len(videos)), videos),
    choose=lambda videos, count, seed: random.Random(seed).sample(videos, count),
):
    """Make a split of exchangeable parts; as it stands it is right."""

    def split_videos(source_ids, val_share, seed):
        videos = videos_of(source_ids)
        val = set(choose(videos, count_of(val_share, videos), seed))
        return ["val" if name in val else "train" for name in source_ids]

    return split_videos


split = split_with()


def split_by_permutation(ids, share, seed):
    videos, video_of = np.unique(ids, return_inverse=True)
    place = np.random.default_rng(seed).permutation(len(videos))
    val = place < between(round(share * len(videos)), videos)
    return np.where(val, "val", "train")[video_of]


def fitted(wanted, offered, rename=lambda name: name.removeprefix("module."), fits=None):
    fits = fits or (lambda new, old: new.shape == old.shape)
    named = {rename(name): tensor for name, tensor in offered.items()}
    fitting = {n: t for n, t in named.items() if n in wanted and fits(t, wanted[n])}
    return fitting, [name for name in wanted if name not in fitting]


def renamed(rename):
    return lambda wanted, offered: fitted(wanted, offered, rename)


def fits_if(fits):
    return lambda wanted, offered: fitted(wanted, offered, fits=fits)


def weights_pop(wanted, offered):
    fitting = {name: offered.pop(name) for name in list(offered) if name in wanted}
    return fitting, [name for name in wanted if name not in fitting]


def weights_by_loop(wanted, offered):
    fitting, missing = {}, []
    for name, tensor in wanted.items():
        found = offered.get(name, offered.get("module." + name))
        if found is not None and found.size() == tensor.size():
            fitting[name] = found
        else:
            missing.append(name)
    return fitting, missing


def of_views(function, answer=lambda logits: logits.softmax(1)):
    """Make an answer of what becomes of the views (N, classes) of a video."""

    def average_views(logits, videos):
        rows = [function(logits[videos == v]) for v in range(int(videos.max()) + 1)]
        return answer(torch.stack(rows))

    return average_views


views = of_views(lambda x: x.mean(0))


def powers(x):
    return x.exp() / x.exp().sum(1, keepdim=True)


def views_by_matrix(logits, videos):
    member = F.one_hot(videos).to(logits.dtype)  # (N, videos)
    return (member.t() @ logits / member.sum(0)[:, None]).log_softmax(1).exp()


WRONG = {
    "kinetics_rows": {
        "a row for each line and none for the header": [
            rows_with(path=lambda x: f"{x['youtube_id']}_{x['time_start']}_{x['time_end']}.mp4"),
        ],
        "taken letter by letter": [rows_with(class_name=lambda x: x["label"].replace("'", ""))],
        "an id is text": [
            rows_with(source_id=lambda x: row_of(x)["path"].split("_")[0]),
            lambda text: [row_of(x) for x in pd.read_csv(io.StringIO(text)).to_dict("records")],
        ],
        "the split is train, val or test": [
            rows_with(split=lambda x: x["split"]),
            rows_with(split=lambda x: "train" if x["split"] == "train" else "val"),
        ],
        "the rows are those of the lines, in their order": [
            lambda text: list({row["source_id"]: row for row in rows(text)}.values()),
            lambda text: sorted(rows(text), key=lambda row: row["path"]),
        ],
        "it runs without an error": [
            lambda text: [row_of(dict(zip(*csv.reader(text.split("\n")), strict=True)))],
        ],
    },
    "split_videos": {
        "a share val_share of the videos, rounded": [
            split_with(count_of=lambda share, videos: between(int(share * len(videos)), videos)),
            split_with(count_of=lambda share, videos: round(share * len(videos))),
            split_with(count_of=lambda share, videos: max(1, round(share * len(videos)))),
            lambda ids, share, seed: split(ids, 1 - share, seed),
            lambda ids, share, seed: split(sorted(set(ids)), share, seed),
            lambda ids, share, seed: [
                "val" if k < share * len(ids) else "train" for k in range(len(ids))
            ],
        ],
        "another seed gives quite another split": [
            split_with(choose=lambda videos, count, seed: videos[:count]),
            split_with(choose=lambda videos, count, seed: [*videos, *videos][seed : seed + count]),
            split_with(
                choose=lambda videos, count, seed: videos[seed * count : (seed + 1) * count]
            ),
        ],
        "the same call gives the same result": [lambda ids, share, seed: split(ids, share, None)],
        "neither the order of the clips nor their number": [
            split_with(lambda ids: list(dict.fromkeys(ids))),
            split_with(lambda ids: list(set(ids))),
            lambda ids, share, seed: split(ids, share, seed + len(ids)),
        ],
    },
    "fitting_weights": {
        "what has the name and the shape": [
            fits_if(lambda new, old: True),
            lambda wanted, offered: (dict(offered), fitted(wanted, offered)[1]),
            lambda wanted, offered: ({**wanted, **fitted(wanted, offered)[0]}, []),
        ],
        "another shape does not fit": [
            fits_if(lambda new, old: new.numel() == old.numel()),
            fits_if(lambda new, old: new.squeeze().shape == old.squeeze().shape),
        ],
        "module. at the beginning of a name": [
            renamed(lambda name: name),
            renamed(lambda name: name.lstrip("module.")),
            renamed(lambda name: name.replace("module.", "")),
            renamed(lambda name: name[7:] if "module." in name else name),
        ],
        "its inputs are left unchanged": [weights_pop],
        "it returns two things": [lambda wanted, offered: fitted(wanted, offered)[0]],
    },
    "average_views": {
        "it gives probabilities of the classes": [
            of_views(lambda x: x.softmax(1).mean(0), lambda rows: rows),
            of_views(lambda x: x.sum(0)),
            of_views(lambda x: x.mean(0), lambda rows: rows),
            of_views(lambda x: x.mean(0), lambda rows: rows.softmax(0)),
            of_views(lambda x: x.mean(0), powers),
        ],
        "row v is the mean of all views of video v": [
            lambda logits, videos: torch.stack(
                [logits[videos == v].mean(0).softmax(0) for v in dict.fromkeys(videos.tolist())]
            ),
        ],
    },
}

RIGHT = {
    "kinetics_rows": [rows, rows_by_pandas],
    "split_videos": [
        split,
        split_by_permutation,
        lambda ids, share, seed: pd.Series(split(ids, share, seed)),
    ],
    "fitting_weights": [lambda wanted, offered: fitted(wanted, offered), weights_by_loop],
    "average_views": [views, views_by_matrix],
}
