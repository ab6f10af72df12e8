"""The checks of notebook 06: rows of Kinetics, films on one side, weights that fit, views."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from typing import Any
from unittest.mock import patch

import pandas as pd
import torch
from torch import Tensor

from blvnet_lab.course.checking import (
    Wrong,
    ask,
    check,
    kind,
    plain,
    require,
    require_chance_kept,
    same,
    state_of_chance,
    told,
    two,
)

HEADER = "label,youtube_id,time_start,time_end,split,is_cc\n"
KEYS = ("path", "class_name", "split", "source_id")


@check
def check_kinetics_rows(kinetics_rows: Callable[[str], list[dict[str, str]]]) -> str:
    """Checks `kinetics_rows(text)`: a dictionary for each line of a Kinetics annotation file."""
    by_name = "csv.DictReader(text.splitlines()) gives every line as a dictionary, by column name"
    name = 'f"{youtube_id}_{start:06d}_{end:06d}.mp4", with start and end as int'
    quotes = "split(',') knows nothing of quotes: take Python's csv module"
    cases: list[tuple[str, tuple, dict[str, str], str]] = [
        (
            HEADER + "abseiling,abc4YTwq073,44,54,train,0\n",
            ("abseiling", "abc4YTwq073", 44, 54, "train"),
            {
                "path": "the file is {id}_{start}_{end}.mp4, with six digits for each time",
                "class_name": "the class is the label",
                "split": "the split is the one of the line",
                "source_id": "the film is the youtube_id",
            },
            name,
        ),
        (
            HEADER + '"air drumming",axE99QAhe8k,26,136,val,0\n',
            ("air drumming", "axE99QAhe8k", 26, 136, "val"),
            {"class_name": "the quotes around a label are none of it"},
            quotes,
        ),
        (
            HEADER + '"tasting beer, wine",axE99QAhe8k,6,16,train,0\n',
            ("tasting beer, wine", "axE99QAhe8k", 6, 16, "train"),
            {"class_name": "a comma between quotes belongs to the label"},
            quotes,
        ),
        (
            HEADER + "abseiling,-_YTw_0-73Y,44,54,train,0\n",
            ("abseiling", "-_YTw_0-73Y", 44, 54, "train"),
            dict.fromkeys(KEYS, "an id may begin with - and hold _: it stays as it is"),
            "take the id from its column, as it is; nothing is split at _ or stripped",
        ),
        (
            HEADER + "abseiling,00412345678,44,54,train,0\n",
            ("abseiling", "00412345678", 44, 54, "train"),
            dict.fromkeys(KEYS, "an id is text, also where it has digits only"),
            "pandas makes numbers of such a column unless you say dtype=str",
        ),
        (
            "youtube_id,label,time_start,time_end,split\nabc4YTwq073,abseiling,44,54,train\n",
            ("abseiling", "abc4YTwq073", 44, 54, "train"),
            dict.fromkeys(KEYS, "columns are read by their name, wherever they are"),
            by_name,
        ),
        (
            "label,youtube_id,time_start,time_end,split\r\nabseiling,abc4YTwq073,44,54,train\r\n",
            ("abseiling", "abc4YTwq073", 44, 54, "train"),
            dict.fromkeys(KEYS, "Kinetics-600 has no is_cc, and its lines may end as on Windows"),
            "text.splitlines() knows all ends of lines",
        ),
        (
            "label,youtube_id,time_start,time_end,split\nabseiling,abc4YTwq073,44,54,validate\n",
            ("abseiling", "abc4YTwq073", 44, 54, "val"),
            {"split": "the validate of Kinetics-700 is val, as in the others"},
            "one name for one thing: write val",
        ),
        (
            HEADER + "abseiling,abc4YTwq073,44,54,test,0\n",
            ("abseiling", "abc4YTwq073", 44, 54, "test"),
            {"split": "the words are train, val and test: test stays test"},
            "only validate gets another word; every other one stays as it is",
        ),
        (
            HEADER + '"passing American football (not in game)",abc4YTwq073,44,54,train,0\n',
            ("passing American football (not in game)", "abc4YTwq073", 44, 54, "train"),
            {"class_name": "a label is taken letter by letter"},
            "what csv gives is the label: nothing is replaced in it, nor made small",
        ),
        (
            HEADER + "massaging person's head,abc4YTwq073,44,54,train,0\n",
            ("massaging person's head", "abc4YTwq073", 44, 54, "train"),
            {"class_name": "a label is taken letter by letter"},
            "only the quotes *around* a label are none of it, and csv takes those away",
        ),
    ]
    for text, row, broken, hint in cases:
        of = f"the lines {text!r}"
        rows = _rows(ask(kinetics_rows, text, of=of), of)
        always = dict.fromkeys(KEYS, next(iter(broken.values())))
        count = "there is a row for each line, and none for the header"
        same(len(rows), 1, count, of=of, hint=by_name)
        _same_row(rows[0], row, always | broken, of, hint)

    text = HEADER + 'b,abc4YTwq073,1,11,val,0\n"a c",-bc4YTwq073,22,32,train,0\n'
    text += "b,abc4YTwq073,3,13,val,0"
    of = f"the lines {text!r}"
    rows = _rows(ask(kinetics_rows, text, of=of), of)
    broken = "the rows are those of the lines, in their order"
    same(len(rows), 3, broken, of=of, hint="one row for each line, also for clips of one film")
    wanted = [
        ("b", "abc4YTwq073", 1, 11, "val"),
        ("a c", "-bc4YTwq073", 22, 32, "train"),
        ("b", "abc4YTwq073", 3, 13, "val"),
    ]
    for found, row in zip(rows, wanted, strict=True):
        each = "append a *new* dictionary for each line, and sort nothing"
        _same_row(found, row, dict.fromkeys(KEYS, broken), of, each)
    of = f"nothing but the header, {HEADER!r}"
    rows = _rows(ask(kinetics_rows, HEADER, of=of), of)
    same(len(rows), 0, "no lines, no rows", of=of, hint="begin with rows = []")
    return (
        "names of files, quotes, ids, columns of K400, K600 and K700, labels, splits, several lines"
    )


def _rows(got: Any, of: str) -> list[Mapping]:
    if isinstance(got, pd.DataFrame):  # as good as a list of dictionaries
        got = got.to_dict("records")
    if not isinstance(got, (list, tuple)) or not all(isinstance(row, dict) for row in got):
        raise Wrong(
            "it returns a list of dictionaries",
            of=of,
            found=kind(got),
            hint=f"one for each line, with the keys {', '.join(KEYS)}",
        )
    return list(got)


def _same_row(found: Mapping, row: tuple, broken: Mapping[str, str], of: str, hint: str) -> None:
    label, film, start, end, split = row
    wanted = {
        "path": f"{film}_{start:06d}_{end:06d}.mp4",
        "class_name": label,
        "split": split,
        "source_id": film,
    }
    for key in KEYS:
        if key not in found:
            raise Wrong(
                f"a row has the keys {', '.join(KEYS)}",
                of=of,
                found=f"a row with the keys {', '.join(map(str, found))}",
                hint="spell them as there",
            )
        required = f"{broken[key]} ({key})"
        require(found[key] is not None, required, of=of, found="None", hint=hint)
        same(found[key], wanted[key], required, of=of, hint=hint)


# ---------------------------------------------------------------- films stay on one side


def _hash_elsewhere(thing: Any, here: Callable[[Any], int] = hash) -> int:
    """As in another process, where the hashes of text are others; here that of the films' names."""
    is_text = isinstance(thing, (str, bytes, tuple)) and "film" in repr(thing)
    return here(("elsewhere", thing)) if is_text else here(thing)


@check
def check_divide_films(divide_films: Callable[[Sequence[str], float, int], list[str]]) -> str:
    """Checks `divide_films(source_ids, val_share, seed)`: "train" or "val" for each clip."""
    films = [f"film{k:02}" for k in range(20)]
    uneven = films[:1] * 30 + films[1:10]  # one film with many clips

    def divided(source_ids: list[str], share: float, seed: int, of: str) -> dict[str, str]:
        """The side of each film, after a look at all that must hold for every division."""
        got = ask(divide_films, source_ids, share, seed, of=of)
        got = got.tolist() if isinstance(got, pd.Series) else plain(got)
        hint = "a list as long as source_ids, of the words train and val"
        is_list = isinstance(got, list) and all(isinstance(side, str) for side in got)
        found = told(got) if isinstance(got, list) else kind(got)
        broken = "it says for each clip, in their order, whether it is train or val"
        fits = is_list and len(got) == len(source_ids) and set(got) <= {"train", "val"}
        require(fits, broken, of=of, found=found, hint=hint)
        sides: dict[str, set[str]] = {}
        for film, side in zip(source_ids, got, strict=True):
            sides.setdefault(film, set()).add(side)
        torn = [film for film, both in sides.items() if len(both) > 1]
        require(
            not torn,
            "all clips of a film are on one side",
            of=of,
            found=f"clips of {', '.join(torn[:3])} on both sides",
            hint="divide the films, then look up the side of each clip's film",
        )
        return {film: side.pop() for film, side in sides.items()}

    draw = "choose among the films, sorted(set(source_ids)): with clips, large films count more"
    twice = "random.sample and a permutation take no film twice; random.choices does"
    small = 'choose max(1, ...) of them for "val", and leave at least one'
    once = "a film with many clips counts as one"
    cases = [
        (["a", "a", "b", "b"], 0.5, 1, "val_share is the share of films for validation", draw),
        (films[:10] * 3, 0.2, 2, "val_share is the share of films for validation", draw),
        (uneven, 0.2, 2, once, draw),
        (films, 0.5, 10, "val_share is the share of films for validation", twice),
        (films[:10], 0.27, 3, "the number of films is rounded, here up", "round(share * films)"),
        (films[:10], 0.23, 2, "the number of films is rounded, here down", "round(share * films)"),
        (["a", "a", "b", "c"], 0.05, 1, "no side is empty", small),
        (["a", "a", "b", "c"], 0.95, 2, "no side is empty", small),
    ]
    for source_ids, share, wanted, broken, hint in cases:
        of = f"{len(source_ids)} clips of {len(set(source_ids))} films, val_share = {share}, seed 0"
        if len(source_ids) < 5:
            of = f"source_ids = {source_ids}, val_share = {share}, seed 0"
        found = list(divided(source_ids, share, 0, of).values()).count("val")
        counted = f"{found} of {len(set(source_ids))} films for validation instead of {wanted}"
        require(found == wanted, broken, of=of, found=counted, hint=hint)

    many = [f"film{k:03}" for k in range(200)]
    of = "200 films with a clip each, val_share = 0.25"
    before = state_of_chance()
    first = divided(many, 0.25, 0, of)
    broken = "the seed is for this division alone: all global dice are left as they were"
    hint = "a generator of your own: torch.Generator().manual_seed(seed), random.Random(seed)"
    require_chance_kept(before, broken, of=of, hint=hint)
    seeds = "another seed, another division; the same seed, the same"
    hint = "draw with a generator that begins with the seed"
    is_same = divided(many, 0.25, 0, of) == first
    require(is_same, seeds, of=of, found="two divisions with seed 0 that differ", hint=hint)
    right = [divided(many, 0.25, seed, of) for seed in range(3)]
    chosen = [{film for film, side in each.items() if side == "val"} for each in right]
    for seed in (1, 2):
        common = len(chosen[0] & chosen[seed])  # about 13 by chance
        found = f"{common} of the 50 films for validation are the same with seeds 0 and {seed}"
        require(common < 40, seeds, of=of, found=found, hint=hint)
    changes = sum(a != b for a, b in pairwise(first.values()))  # about 75 by chance
    require(
        changes > 20,
        "the films are chosen at random",
        of=of,
        found="films for validation that stand next to each other in the alphabet",
        hint="shuffle them, or draw some: a block that only begins elsewhere is not random",
    )
    more = f"{of}; and the same films, with 3 clips of every second one"
    require(
        divided(many + 2 * many[::2], 0.25, 0, more) == first,
        f"{once}: their number changes nothing",
        of=more,
        found="another division",
        hint="shuffle the films, sorted(set(source_ids)), and not the clips",
    )
    turned = [divided(many[::-1], 0.25, seed, of) for seed in range(3)]
    require(
        turned == right,
        "the order of the clips does not matter: a folder may be listed in any",
        of=of,
        found="another division when the same clips come in reversed order",
        hint="sort the films; the order of a set is different in every process, too",
    )
    with patch("builtins.hash", _hash_elsewhere):
        elsewhere = divided(many, 0.25, 0, of)
    require(
        elsewhere == first,
        "the division is the same in every process",
        of=of,
        found="another division where Python's hashes are others, as they are in every process",
        hint="no hash() of text, and no order of a set: sort the films, and draw among them",
    )
    return "films on one side, how many, no side empty, seeds, any order of clips, global dice"


# ---------------------------------------------------------------- weights that fit


@check
def check_fitting_weights(
    fitting_weights: Callable[[Mapping, Mapping], tuple[dict[str, Tensor], list[str]]],
) -> str:
    """Checks `fitting_weights(wanted, offered)`: the offered weights that fit, and who has none."""
    hint_name = 'name.removeprefix("module."): lstrip takes letters away, replace takes all'
    hint_shape = "compare .shape: two shapes may have as many numbers"
    hint_rest = "go through the names of wanted; those that are not in fitting are missing"
    whole = "a name fits as a whole, not by its ending"
    hint_whole = "clean the offered names first, then look them up: name in wanted"
    first_only = "only the first module. is taken away, and nothing else"
    one = {"stem": (2, 3)}
    count = {"count": ()}  # a whole number, as num_batches_tracked of a batch norm
    cases = [
        (one, one, ["stem"], "what has the name and the shape of a wanted one fits", hint_rest),
        (one, {}, [], "a wanted name that is not offered is missing", hint_rest),
        (one, {"stem": (2, 4)}, [], "another shape does not fit", hint_shape),
        (one, {"stem": (3, 2)}, [], "another shape does not fit", hint_shape),
        (one, {"stem": (1, 3)}, [], "another shape does not fit", hint_shape),
        (
            count,
            count,
            ["count"],
            "a number without axes fits, too",
            "() is a shape like any other",
        ),
        (count, {"count": (1,)}, [], "another shape does not fit", hint_shape),
        (one, {**one, "fc": (4,)}, ["stem"], "what nobody wants is left out", hint_rest),
        (
            one,
            {"module.stem": (2, 3)},
            ["stem"],
            "module. at the beginning of a name, from DistributedDataParallel, is taken away",
            hint_name,
        ),
        (one, {"module.net.stem": (2, 3)}, [], whole, hint_whole),
        ({"net.stem": (2, 3)}, one, [], whole, hint_whole),
        (
            {"model.module.bias": (2,), "dome": (1,), "bias": (2,)},
            {"module.model.module.bias": (2,), "module.dome": (1,), "module.bias": (2,)},
            ["model.module.bias", "dome", "bias"],
            first_only,
            hint_name,
        ),
        (
            {"model.module.bias": (2,)},
            {"model.module.bias": (2,)},
            ["model.module.bias"],
            "module. is taken away at the beginning of a name only",
            hint_name,
        ),
        (
            dict.fromkeys("fbagdceh", (1,)),
            {"a": (1,), "c": (2,)},
            ["a"],
            "what is missing is told in the order in which it is wanted",
            hint_rest,
        ),
    ]
    for wanted_shapes, offered_shapes, names, broken, hint in cases:
        of = f"wanted = {_told(wanted_shapes)}, offered = {_told(offered_shapes)}"
        wanted, offered = _weights(wanted_shapes, 0), _weights(offered_shapes, 7)
        got = ask(fitting_weights, wanted, offered, of=of)
        fitting, missing = two(got, "fitting, missing", of=of)
        require(
            isinstance(fitting, dict),
            "what fits is a dictionary, name to tensor",
            of=of,
            found=kind(fitting),
            hint="fitting[name] = tensor",
        )
        which = f"{broken} (fitting)"
        same(sorted(map(str, fitting)), sorted(names), which, of=of, hint=hint)
        lost = [name for name in wanted if name not in names]
        which = f"{broken} (missing)"
        require(missing is not None, which, of=of, found="None", hint=hint)
        same(missing, lost, which, of=of, hint=hint)
        for name in names:
            tensor = offered.get(name, offered.get(f"module.{name}"))
            values = f"the weights are the offered ones ({name})"
            same(fitting[name], tensor, values, of=of, hint="fitting[name] = offered[...]")
    return (
        "names, shapes, the prefix of DistributedDataParallel, what nobody wants, what is missing"
    )


def _weights(shapes: Mapping[str, tuple], first: int) -> dict[str, Tensor]:
    """Each of another value; whole numbers where there is no axis."""
    return {
        name: torch.full(shape, i, dtype=torch.float32 if shape else torch.int64)
        for i, (name, shape) in enumerate(shapes.items(), start=first)
    }


def _told(shapes: Mapping[str, tuple]) -> str:
    return "{" + ", ".join(f"{name}: {shape}" for name, shape in shapes.items()) + "}"


# ---------------------------------------------------------------- views


@check
def check_average_views(average_views: Callable[[Tensor, Tensor], Tensor]) -> str:
    """Checks `average_views(logits, videos)`: probabilities of each video, from all its views."""
    first = "logits are averaged first, and the softmax comes after"
    own = "the views of a video are averaged with each other, and with no others"
    after = "torch.softmax(mean, dim=1) of the mean logits"
    mask = "logits[videos == v] are the views of video v"
    cases = [
        ([[0, 1]], [0], "it gives probabilities: a softmax over classes", "dim=1: classes"),
        ([[0, 4], [0, 0]], [0, 0], first, after),
        ([[0, 1], [2, 0]], [0, 1], "every video has a row", mask),
        ([[0, 8], [0, 2], [0, 0], [6, 0]], [0, 0, 1, 1], own, mask),
        (
            [[0, 8], [6, 0], [0, 2], [0, 0]],
            [0, 1, 0, 1],
            "the views of a video need not lie side by side",
            mask,
        ),
        (
            [[0, 9], [0, 3], [0, 0], [6, 0]],
            [0, 0, 0, 1],
            "videos may have different numbers of views: each sum is divided by its own",
            "a mean for each video, not one number for all",
        ),
        ([[1, 2], [3, 0], [0, 5]], [2, 0, 1], "row v is video v, whatever comes first", mask),
        (
            [[1000, 999]],
            [0],
            "large logits give probabilities, too",
            "exp(1000) is inf: take torch.softmax",
        ),
        (
            [[1000, 0], [2, 1]],
            [0, 1],
            "large logits of one video do no harm to another",
            "whoever takes a maximum away takes each video's own; torch.softmax does",
        ),
    ]
    for logits, videos, broken, hint in cases:
        of = f"logits = {logits}, videos = {videos}"
        given = torch.tensor(logits, dtype=torch.float32), torch.tensor(videos)
        got = ask(average_views, *given, of=of)
        same(got, _probabilities(*given), broken, of=of, hint=hint)

    generator = torch.Generator().manual_seed(0)
    logits = 3 * torch.randn(30, 5, dtype=torch.float32, generator=generator)
    videos = torch.cat([torch.arange(7), torch.randint(7, (23,), generator=generator)])
    of = "30 random views of 7 videos, 5 classes"
    got = ask(average_views, logits, videos, of=of)
    same(got, _probabilities(logits, videos), own, of=of, hint=mask)
    return "one view and several, in any order and number, classes, and large logits"


def _probabilities(logits: Tensor, videos: Tensor) -> Tensor:
    """Video by video, with sums written out."""
    rows = []
    for video in range(int(videos.max()) + 1):
        views = [logits[i] for i in range(len(logits)) if videos[i] == video]
        mean = sum(views) / len(views)
        powers = (mean - mean.max()).exp()
        rows.append(powers / powers.sum())
    return torch.stack(rows)
