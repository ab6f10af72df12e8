"""Checks of notebook 06: Kinetics rows, splits by video, weights that fit, views."""

from collections.abc import Mapping, Sequence
from itertools import pairwise

import torch
from torch import Tensor

from blvnet_lab.course import solutions
from blvnet_lab.course.checking import Answer, Check, cases, deterministic
from blvnet_lab.course.inputs import rand
from blvnet_lab.course.verdicts import plain, require

HEADER = "label,youtube_id,time_start,time_end,split,is_cc\n"


def _line(label: str, name: str = "abc4YTwq073", split: str = "train") -> str:
    return f"{HEADER}{label},{name},44,54,{split},0\n"


check_kinetics_rows = Check(
    cases(
        "a row for each line and none for the header: the file {id}_{start}_{end}.mp4 with six "
        "digits for each time, the label, the split, and the youtube_id",
        'f"{youtube_id}_{start:06d}_{end:06d}.mp4", with start and end as int; a list of '
        "dictionaries with the keys path, class_name, split, source_id",
        *((_line("abseiling"),), (HEADER,)),
    ),
    cases(
        "a label is taken letter by letter: quotes around it are none of it, a comma between is; "
        "an id is text: it may hold - and _ anywhere, or digits only, and stays as it is",
        "split(',') knows nothing of quotes: take Python's csv module, and replace nothing; pandas "
        "makes numbers of digits unless you say dtype=str",
        *((_line(f'"{label}"'),) for label in ("air drumming", "beer, wine", "a man's head")),
        *((_line("a", name),) for name in ("-_YTw_0-73Y", "00412345678")),
    ),
    cases(
        "the split is train, val or test: the validate of Kinetics-700 is val",
        "only validate gets another word; every other one stays as it is",
        *((_line("abseiling", split=split),) for split in ("val", "validate", "test")),
    ),
    cases(
        "the rows are those of the lines, in their order, also for clips of one video; columns are "
        "read by their name, and lines may end as on Windows",
        "append a *new* dictionary for each line of csv.DictReader(text.splitlines())",
        (f"{HEADER}b,abc4YTwq073,1,11,val,0\na,-bc4,22,32,train,0\nb,abc4YTwq073,3,13,val,0",),
        ("youtube_id,label,time_start,time_end,split\r\nabc4YTwq073,abseiling,44,54,train\r\n",),
    ),
    by=solutions.kinetics_rows,
)

MANY = [f"video{k:03}" for k in range(200)]


def _sides(split_videos: Answer, source_ids: list[str], share: float, seed: int) -> dict[str, str]:
    """Check a split, and return the side of each video."""
    got = plain(split_videos(source_ids, share, seed))
    hint = "split the videos; a list of train or val for each clip, looked up for its video"
    is_list = isinstance(got, list) and len(got) == len(source_ids)
    require(is_list and all(side in ("train", "val") for side in got), got, hint)
    sides = dict(zip(source_ids, got, strict=True))
    torn = [name for name, side in zip(source_ids, got, strict=True) if side != sides[name]]
    require(not torn, f"clips of {', '.join(torn[:3])} on both sides", hint)
    return sides


def split_has_a_share_of_videos(split_videos: Answer) -> None:
    """a share val_share of the videos, rounded, is for validation, with all of their clips; no
    side is empty, and a video with many clips counts as one
    """
    for source_ids, share, wanted in (
        *(([*"aabb"], 0.5, 1), ([*"aabc"], 0.05, 1), ([*"aabc"], 0.95, 2)),
        *((MANY[:1] * 30 + MANY[1:10], 0.2, 2), (MANY[:10], 0.27, 3), (MANY[:10], 0.23, 2)),
    ):
        sides = [*_sides(split_videos, source_ids, share, 0).values()]
        found = f"{sides.count('val')} of {len(sides)} videos for validation instead of {wanted}"
        hint = "random.sample of sorted(set(source_ids)), round(share * videos), 1 on either side"
        require(sides.count("val") == wanted, found, hint)


def split_is_random(split_videos: Answer) -> None:
    """another seed gives quite another split, at random; neither the order of the clips nor their
    number changes it
    """
    first, other = (_sides(split_videos, MANY, 0.25, seed) for seed in (0, 1))
    common = sum(first[name] == other[name] == "val" for name in MANY)  # about 13 by chance
    found = f"{common} of the 50 videos for validation are the same with two seeds"
    require(common < 40, found, "draw with a generator that is seeded with `seed`")
    changes = sum(first[a] != first[b] for a, b in pairwise(MANY))  # about 75 by chance
    found = "videos for validation that stand next to each other in the alphabet"
    require(changes > 20, found, "shuffle them, or draw some")
    for source_ids in (MANY[::-1], MANY + 2 * MANY[::2]):
        found = "another split of the same videos, whose clips come in another order and number"
        hint = "shuffle sorted(set(source_ids)): the order of a set differs between processes"
        require(_sides(split_videos, source_ids, 0.25, 0) == first, found, hint)


check_split_videos = Check(
    split_has_a_share_of_videos,
    deterministic(lambda split_videos: split_videos(MANY, 0.25, 0)),
    split_is_random,
)


def _weights(wanted: Mapping[str, tuple], offered: Mapping[str, tuple]) -> tuple[dict, dict]:
    """Make an example of weights with these shapes, each with its own value."""
    old, new = (
        {name: torch.full(shape, 1.0 + first + i) for i, (name, shape) in enumerate(shapes.items())}
        for shapes, first in ((wanted, 0), (offered, 7))
    )
    return old, new


STEM = {"stem": (2, 3)}
check_fitting_weights = Check(
    cases(
        "what has the name and the shape of a wanted one fits, with its value; what is not offered "
        "is missing, in the order in which it is wanted, and what nobody wants is left out",
        "go through the names of wanted: fitting[name] = offered[...], or it is missing",
        *(_weights(STEM, offered) for offered in (STEM, {}, STEM | {"fc": (4,)})),
        _weights(dict.fromkeys("fbagdceh", (1,)), {"a": (1,), "c": (2,)}),
    ),
    cases(
        "another shape does not fit, and () is a shape like any other",
        "compare .shape: two shapes may have as many numbers",
        *(_weights(STEM, {"stem": shape}) for shape in ((2, 4), (3, 2), (1, 3))),
        *(_weights({"count": ()}, {"count": shape}) for shape in ((), (1,))),
    ),
    cases(
        "module. at the beginning of a name, from DistributedDataParallel, is taken away, and "
        "nothing else: a name fits as a whole",
        'name.removeprefix("module."): lstrip takes letters away, replace takes all',
        *(_weights(STEM, {name: (2, 3)}) for name in ("module.stem", "module.net.stem")),
        _weights({"net.stem": (2, 3)}, STEM),
        _weights({"a.module.b": (), "dome": ()}, {"a.module.b": (), "module.dome": ()}),
    ),
    by=solutions.fitting_weights,
)


def _views(logits: Sequence, videos: Sequence[int]) -> tuple[Tensor, Tensor]:
    return torch.tensor(logits, dtype=torch.float32), torch.tensor(videos)


check_average_views = Check(
    cases(
        "it gives probabilities of the classes: logits are averaged first, then comes the softmax",
        "torch.softmax(mean, dim=1) of the mean logits; exp(1000) is inf, torch.softmax is not",
        *(_views([[0, 1]], [0]), _views([[0, 4], [0, 0]], [0, 0]), _views([[1000, 999]], [0])),
    ),
    cases(
        "row v is the mean of all views of video v and of no others, wherever they lie",
        "logits[videos == v] are the views of video v; each has its own number of views",
        *(_views([[0, 1], [2, 0]], [0, 1]), _views([[1, 2], [3, 0], [0, 5]], [2, 0, 1])),
        _views([[0, 9], [0, 3], [0, 0], [6, 0]], [0, 0, 0, 1]),
        (3 * rand(30, 5), torch.arange(30) ** 2 % 31 % 7),
    ),
    by=solutions.average_views,
)
