"""Answers to the exercises of notebook 06: (check, answer, words of the property it breaks)."""

import csv
import io
import random

import numpy as np
import pandas as pd
import torch

from blvnet_lab.course.exercises import (
    check_average_views,
    check_divide_films,
    check_fitting_weights,
    check_kinetics_rows,
)


def row_of(label, film, start, end, split):
    path = f"{film}_{int(start):06d}_{int(end):06d}.mp4"
    split = "val" if split == "validate" else split
    return {"path": path, "class_name": label, "split": split, "source_id": film}


def row_by_name(line):
    times = line["time_start"], line["time_end"]
    return row_of(line["label"], line["youtube_id"], *times, line["split"])


def rows_split_at_commas(text):
    names, *lines = [line.split(",") for line in text.splitlines()]
    return [row_by_name(dict(zip(names, line, strict=False))) for line in lines]


def rows_split_and_stripped(text):
    names, *lines = [line.rsplit(",", text.split("\n")[0].count(",")) for line in text.splitlines()]
    rows = [row_by_name(dict(zip(names, line, strict=False))) for line in lines]
    return [row | {"class_name": row["class_name"].replace(",", "").strip('"')} for row in rows]


def rows_by_position(text):
    return [row_of(*line[:5]) for line in csv.reader(text.splitlines()[1:])]


def rows_with_header(text):
    names = text.splitlines()[0].split(",")
    lines = csv.DictReader(text.splitlines(), names)
    return [row_by_name(line | {"time_start": 0, "time_end": 0}) for line in lines]


def rows_not_padded(text):
    rows = csv.DictReader(text.splitlines())
    return [
        row_by_name(r)
        | {"path": f"{r['youtube_id']}_{r['time_start']}_{r['time_end']}.mp4"}
        for r in rows
    ]  # fmt: skip


def rows_padded_on_the_right(text):
    rows = csv.DictReader(text.splitlines())
    return [
        row_by_name(r)
        | {"path": f"{r['youtube_id']}_{r['time_start']:06}_{r['time_end']:06}.mp4"}
        for r in rows
    ]  # fmt: skip


def rows_without_suffix(text):
    return [row | {"path": row["path"].removesuffix(".mp4")} for row in rows_by_csv(text)]


def rows_with_validate(text):
    found = csv.DictReader(text.splitlines())
    return [row_by_name(line) | {"split": line["split"]} for line in found]


def rows_film_from_the_path(text):
    return [row | {"source_id": row["path"].split("_")[0]} for row in rows_by_csv(text)]


def rows_strip_the_id(text):
    return [row | {"source_id": row["source_id"].strip("-_")} for row in rows_by_csv(text)]


def rows_film_is_the_clip(text):
    return [row | {"source_id": row["path"]} for row in rows_by_csv(text)]


def rows_pandas_guesses(text):
    return [row_by_name(line) for line in pd.read_csv(io.StringIO(text)).to_dict("records")]


def rows_once_a_film(text):
    return list({row["source_id"]: row for row in rows_by_csv(text)}.values())


def rows_end_with_newline_only(text):
    names, *lines = csv.reader(text.replace("\r", "?").split("\n"))
    return [row_by_name(dict(zip(names, line, strict=True))) for line in lines if line]


def rows_test_is_val(text):
    rows = rows_by_csv(text)
    return [r | {"split": "train" if r["split"] == "train" else "val"} for r in rows]


def rows_know_no_test(text):
    names = {"train": "train", "val": "val", "validate": "val"}
    return [r | {"split": names[r["split"]]} for r in rows_by_csv(text)]


def rows_drop_test(text):
    return [row for row in rows_by_csv(text) if row["split"] != "test"]


def rows_without_apostrophes(text):
    rows = rows_by_csv(text)
    return [row | {"class_name": row["class_name"].replace("'", "")} for row in rows]


def rows_in_small_letters(text):
    return [row | {"class_name": row["class_name"].lower()} for row in rows_by_csv(text)]


def rows_sorted(text):
    return sorted(rows_by_csv(text), key=lambda row: row["path"])


def rows_share_a_dictionary(text):
    row, rows = {}, []
    for found in rows_by_csv(text):
        row.update(found)
        rows.append(row)
    return rows


def rows_by_csv(text):
    return [row_by_name(line) for line in csv.DictReader(text.splitlines())]


def rows_by_columns(text):
    names, *lines = csv.reader(io.StringIO(text, newline=""))
    place = {name: column for column, name in enumerate(names)}
    rows = []
    for line in lines:
        film, split = line[place["youtube_id"]], line[place["split"]]
        times = "_".join(line[place[name]].zfill(6) for name in ("time_start", "time_end"))
        rows.append(
            {
                "source_id": film,
                "class_name": line[place["label"]],
                "split": {"validate": "val"}.get(split, split),
                "path": f"{film}_{times}.mp4",
                "seconds": 10,
            }
        )
    return rows


def rows_by_pandas(text):
    table = pd.read_csv(io.StringIO(text), dtype=str, keep_default_na=False)
    start, end = (table[name].str.zfill(6) for name in ("time_start", "time_end"))
    table["path"] = table["youtube_id"] + "_" + start + "_" + end + ".mp4"
    table["split"] = table["split"].replace("validate", "val")
    return table.rename(columns={"label": "class_name", "youtube_id": "source_id"})


def chosen(films, val_share, seed):
    """The films for validation, of a list of them."""
    count = min(max(1, round(val_share * len(films))), len(films) - 1)
    return set(random.Random(seed).sample(films, count))


def sides(source_ids, val):
    return ["val" if film in val else "train" for film in source_ids]


def divide_clips(source_ids, val_share, seed):
    order = random.Random(seed).sample(range(len(source_ids)), len(source_ids))
    count = round(val_share * len(source_ids))
    return ["val" if place < count else "train" for place in order]


def divide_by_place(source_ids, val_share, seed):
    count = round(val_share * len(source_ids))
    return ["val"] * count + ["train"] * (len(source_ids) - count)


def divide_first_films(source_ids, val_share, seed):
    films = sorted(set(source_ids))
    count = min(max(1, round(val_share * len(films))), len(films) - 1)
    return sides(source_ids, films[:count])


def divide_says_films(source_ids, val_share, seed):
    films = sorted(set(source_ids))
    return sides(films, chosen(films, val_share, seed))


def divide_swapped(source_ids, val_share, seed):
    return divide_by_sample(source_ids, 1 - val_share, seed)


def divide_counts_clips(source_ids, val_share, seed):
    films = sorted(set(source_ids))
    random.Random(seed).shuffle(films)
    val, count = set(), 0
    for film in films[:-1]:
        if val and count >= val_share * len(source_ids):
            break
        val.add(film)
        count += source_ids.count(film)
    return sides(source_ids, val)


def divide_rounds_down(source_ids, val_share, seed):
    films = sorted(set(source_ids))
    count = min(max(1, int(val_share * len(films))), len(films) - 1)
    return sides(source_ids, random.Random(seed).sample(films, count))


def divide_rounds_up(source_ids, val_share, seed):
    films = sorted(set(source_ids))
    count = min(max(1, -int(-val_share * len(films) // 1)), len(films) - 1)
    return sides(source_ids, random.Random(seed).sample(films, count))


def divide_leaves_a_side_empty(source_ids, val_share, seed):
    films = sorted(set(source_ids))
    val = random.Random(seed).sample(films, round(val_share * len(films)))
    return sides(source_ids, val)


def divide_takes_all(source_ids, val_share, seed):
    films = sorted(set(source_ids))
    val = random.Random(seed).sample(films, max(1, round(val_share * len(films))))
    return sides(source_ids, val)


def divide_throws_for_each_film(source_ids, val_share, seed):
    dice = random.Random(seed)
    return sides(source_ids, {f for f in sorted(set(source_ids)) if dice.random() < val_share})


def divide_seeds_all(source_ids, val_share, seed):
    torch.manual_seed(seed)
    films = sorted(set(source_ids))
    count = min(max(1, round(val_share * len(films))), len(films) - 1)
    return sides(source_ids, {films[i] for i in torch.randperm(len(films))[:count]})


def divide_seeds_python(source_ids, val_share, seed):
    random.seed(seed)
    films = sorted(set(source_ids))
    count = min(max(1, round(val_share * len(films))), len(films) - 1)
    return sides(source_ids, random.sample(films, count))


def divide_ignores_the_seed(source_ids, val_share, seed):
    return divide_by_sample(source_ids, val_share, 0)


def divide_without_a_seed(source_ids, val_share, seed):
    return divide_by_sample(source_ids, val_share, None)


def divide_in_order_of_rows(source_ids, val_share, seed):
    return sides(source_ids, chosen(list(dict.fromkeys(source_ids)), val_share, seed))


def divide_in_order_of_a_set(source_ids, val_share, seed):
    return sides(source_ids, chosen(list(set(source_ids)), val_share, seed))


def divide_by_hash(source_ids, val_share, seed):
    films = sorted(set(source_ids), key=lambda film: hash((film, seed)))
    count = min(max(1, round(val_share * len(films))), len(films) - 1)
    return sides(source_ids, films[:count])


def divide_mixes_in_the_clips(source_ids, val_share, seed):
    return divide_by_sample(source_ids, val_share, seed + len(source_ids))


def divide_rotates(source_ids, val_share, seed):
    films = sorted(set(source_ids))
    count = min(max(1, round(val_share * len(films))), len(films) - 1)
    return sides(source_ids, {films[(seed + k) % len(films)] for k in range(count)})


def divide_in_blocks(source_ids, val_share, seed):
    films = sorted(set(source_ids))
    count = min(max(1, round(val_share * len(films))), len(films) - 1)
    return sides(source_ids, {films[(seed * count + k) % len(films)] for k in range(count)})


def divide_shuffles_clips(source_ids, val_share, seed):
    """Takes the films in the order in which their first clips come."""
    films = list(dict.fromkeys(random.Random(seed).sample(sorted(source_ids), len(source_ids))))
    count = min(max(1, round(val_share * len(films))), len(films) - 1)
    return sides(source_ids, films[:count])


def divide_draws_films_twice(source_ids, val_share, seed):
    films = sorted(set(source_ids))
    count = min(max(1, round(val_share * len(films))), len(films) - 1)
    return sides(source_ids, random.Random(seed).choices(films, k=count))


def divide_says_whether_val(source_ids, val_share, seed):
    return [side == "val" for side in divide_by_sample(source_ids, val_share, seed)]


def divide_as_series(source_ids, val_share, seed):
    return pd.Series(divide_by_sample(source_ids, val_share, seed))


def divide_by_sample(source_ids, val_share, seed):
    return sides(source_ids, chosen(sorted(set(source_ids)), val_share, seed))


def divide_by_permutation(source_ids, val_share, seed):
    films, film_of = np.unique(source_ids, return_inverse=True)
    count = int(np.clip(round(val_share * len(films)), 1, len(films) - 1))
    place = np.random.default_rng(seed).permutation(len(films))
    return np.where(place < count, "val", "train")[film_of]


def divide_by_numpy_names(source_ids, val_share, seed):
    """Looks films up by NumPy's texts."""
    films = np.unique(source_ids)
    side = dict.fromkeys(films, "train")
    count = min(max(1, round(val_share * len(films))), len(films) - 1)
    for film in np.random.default_rng(seed).choice(films, count, replace=False):
        side[film] = "val"
    return [side[film] for film in source_ids]


def divide_by_torch(source_ids, val_share, seed):
    films = sorted(set(source_ids))
    count = min(max(1, round(val_share * len(films))), len(films) - 1)
    order = torch.randperm(len(films), generator=torch.Generator().manual_seed(seed))
    val = {films[i] for i in order[:count]}
    return tuple("val" if film in val else "train" for film in source_ids)


def fitted(wanted, offered, rename=lambda name: name.removeprefix("module."), fits=None):
    fits = fits or (lambda new, old: new.shape == old.shape)
    named = {rename(name): tensor for name, tensor in offered.items()}
    fitting = {n: t for n, t in named.items() if n in wanted and fits(t, wanted[n])}
    return fitting, [name for name in wanted if name not in fitting]


def weights_keep_the_prefix(wanted, offered):
    return fitted(wanted, offered, rename=lambda name: name)


def weights_lstrip(wanted, offered):
    return fitted(wanted, offered, rename=lambda name: name.lstrip("module."))


def weights_replace(wanted, offered):
    return fitted(wanted, offered, rename=lambda name: name.replace("module.", ""))


def weights_cut_seven(wanted, offered):
    return fitted(wanted, offered, rename=lambda name: name[7:] if "module." in name else name)


def weights_any_shape(wanted, offered):
    return fitted(wanted, offered, fits=lambda new, old: True)


def weights_same_count(wanted, offered):
    return fitted(wanted, offered, fits=lambda new, old: new.numel() == old.numel())


def weights_same_rank(wanted, offered):
    return fitted(wanted, offered, fits=lambda new, old: new.dim() == old.dim())


def weights_that_broadcast(wanted, offered):
    def fits(new, old):
        try:
            return torch.broadcast_shapes(new.shape, old.shape) == old.shape
        except RuntimeError:
            return False

    return fitted(wanted, offered, fits=fits)


def weights_all_offered(wanted, offered):
    return dict(offered), fitted(wanted, offered)[1]


def weights_of_wanted(wanted, offered):
    fitting, missing = fitted(wanted, offered)
    return {name: wanted[name] for name in fitting}, missing


def weights_missing_by_name_only(wanted, offered):
    names = {name.removeprefix("module.") for name in offered}
    return fitted(wanted, offered)[0], [name for name in wanted if name not in names]


def weights_say_what_is_unused(wanted, offered):
    fitting, _ = fitted(wanted, offered)
    return fitting, [name for name in offered if name not in wanted]


def weights_sorted(wanted, offered):
    fitting, missing = fitted(wanted, offered)
    return fitting, sorted(missing)


def weights_pop(wanted, offered):
    fitting = {name: offered.pop(name) for name in list(offered) if name in wanted}
    return fitting, [name for name in wanted if name not in fitting]


def weights_only(wanted, offered):
    return fitted(wanted, offered)[0]


def weights_strict_false(wanted, offered):
    return {**wanted, **fitted(wanted, offered)[0]}, []


def by_ending(wanted, offered, ends):
    fitting = {}
    for name, tensor in wanted.items():
        for key, weight in offered.items():
            if ends(key, name) and weight.shape == tensor.shape:
                fitting.setdefault(name, weight)
    return fitting, [name for name in wanted if name not in fitting]


def weights_by_ending(wanted, offered):
    return by_ending(wanted, offered, str.endswith)


def weights_by_last_parts(wanted, offered):
    return by_ending(wanted, offered, lambda key, n: key == n or key.endswith("." + n))


def weights_by_ending_the_last_one(wanted, offered):
    turned = dict(reversed(offered.items()))
    return by_ending(wanted, turned, lambda key, n: key == n or key.endswith("." + n))


def weights_by_ending_of_wanted(wanted, offered):
    clean = {name.removeprefix("module."): weight for name, weight in offered.items()}
    return by_ending(wanted, clean, lambda key, n: n == key or n.endswith("." + key))


def weights_with_axes_only(wanted, offered):
    return fitted(wanted, offered, fits=lambda new, old: new.dim() and new.shape == old.shape)


def weights_squeezed(wanted, offered):
    return fitted(wanted, offered, fits=lambda a, b: a.squeeze().shape == b.squeeze().shape)


def weights_as_floats(wanted, offered):
    fitting, missing = fitted(wanted, offered)
    return {name: weight.float() for name, weight in fitting.items()}, missing


def weights_by_rename(wanted, offered):
    return fitted(wanted, offered)


def weights_by_loop(wanted, offered):
    fitting, missing = {}, []
    for name, tensor in wanted.items():
        found = offered.get(name, offered.get("module." + name))
        if found is not None and found.size() == tensor.size():
            fitting[name] = found
        else:
            missing.append(name)
    return fitting, missing


def weights_by_slices(wanted, offered):
    fitting = {}
    for name, tensor in offered.items():
        short = name[len("module.") :] if name.startswith("module.") else name
        if short in wanted and list(wanted[short].shape) == list(tensor.shape):
            fitting[short] = tensor.clone()
    return fitting, [*filter(lambda name: name not in fitting, wanted)]


def views_of(logits, videos):
    return [logits[videos == video] for video in range(int(videos.max()) + 1)]


def views_softmax_first(logits, videos):
    return torch.stack([views.softmax(1).mean(0) for views in views_of(logits, videos)])


def views_summed(logits, videos):
    return torch.stack([views.sum(0).softmax(0) for views in views_of(logits, videos)])


def views_highest(logits, videos):
    return torch.stack([views.amax(0).softmax(0) for views in views_of(logits, videos)])


def views_first_only(logits, videos):
    return torch.stack([views[0].softmax(0) for views in views_of(logits, videos)])


def views_all_together(logits, videos):
    return logits.mean(0, keepdim=True).softmax(1)


def views_without_softmax(logits, videos):
    return torch.stack([views.mean(0) for views in views_of(logits, videos)])


def views_softmax_over_videos(logits, videos):
    return torch.stack([views.mean(0) for views in views_of(logits, videos)]).softmax(0)


def views_side_by_side(logits, videos):
    count = int(videos.max()) + 1
    if len(logits) % count:
        return views_by_mask(logits, videos)
    return logits.unflatten(0, (count, -1)).mean(1).softmax(1)


def views_turn_about(logits, videos):
    count = int(videos.max()) + 1
    if len(logits) % count:
        return views_by_mask(logits, videos)
    return logits.unflatten(0, (-1, count)).mean(0).softmax(1)


def views_one_number_for_all(logits, videos):
    count = int(videos.max()) + 1
    sums = torch.zeros(count, logits.shape[1], dtype=logits.dtype).index_add(0, videos, logits)
    return (sums / (len(logits) / count)).softmax(1)


def views_as_they_come(logits, videos):
    order = list(dict.fromkeys(videos.tolist()))
    return torch.stack([logits[videos == video].mean(0).softmax(0) for video in order])


def views_exp(logits, videos):
    powers = torch.stack([views.mean(0) for views in views_of(logits, videos)]).exp()
    return powers / powers.sum(1, keepdim=True)


def views_votes(logits, videos):
    votes = torch.nn.functional.one_hot(logits.argmax(1), logits.shape[1]).to(logits.dtype)
    return torch.stack([views.mean(0) for views in views_of(votes, videos)])


def views_one_maximum_for_all(logits, videos):
    means = torch.stack([views.mean(0) for views in views_of(logits, videos)])
    powers = (means - means.max()).exp()
    return powers / powers.sum(1, keepdim=True)


def views_clamped(logits, videos):
    means = torch.stack([views.mean(0) for views in views_of(logits, videos)])
    powers = means.clamp(-80, 80).exp()
    return powers / powers.sum(1, keepdim=True)


def views_by_mask(logits, videos):
    return torch.stack([views.mean(0).softmax(0) for views in views_of(logits, videos)])


def views_by_index_add(logits, videos):
    count = int(videos.max()) + 1
    sums = logits.new_zeros(count, logits.shape[1]).index_add_(0, videos, logits)
    return torch.softmax(sums / videos.bincount()[:, None], dim=1)


def views_by_matrix(logits, videos):
    member = torch.nn.functional.one_hot(videos).to(logits.dtype)  # (N, videos)
    mean = member.t() @ logits / member.sum(0)[:, None]
    return mean.log_softmax(1).exp()


WRONG = [
    (check_kinetics_rows, rows_split_at_commas, "quotes around a label"),
    (check_kinetics_rows, rows_split_and_stripped, "a comma between quotes"),
    (check_kinetics_rows, rows_by_position, "columns are read by their name"),
    (check_kinetics_rows, rows_with_header, "none for the header"),
    (check_kinetics_rows, rows_not_padded, "six digits for each time"),
    (check_kinetics_rows, rows_padded_on_the_right, "six digits for each time"),
    (check_kinetics_rows, rows_without_suffix, "{id}_{start}_{end}.mp4"),
    (check_kinetics_rows, rows_with_validate, "validate of Kinetics-700 is val"),
    (check_kinetics_rows, rows_film_from_the_path, "an id may begin with - and hold _"),
    (check_kinetics_rows, rows_strip_the_id, "an id may begin with - and hold _"),
    (check_kinetics_rows, rows_film_is_the_clip, "the film is the youtube_id"),
    (check_kinetics_rows, rows_pandas_guesses, "an id is text"),
    (check_kinetics_rows, rows_once_a_film, "the rows are those of the lines"),
    (check_kinetics_rows, rows_end_with_newline_only, "runs without an error"),
    (check_kinetics_rows, rows_test_is_val, "test stays test"),
    (check_kinetics_rows, rows_know_no_test, "runs without an error"),
    (check_kinetics_rows, rows_drop_test, "there is a row for each line"),
    (check_kinetics_rows, rows_without_apostrophes, "letter by letter"),
    (check_kinetics_rows, rows_in_small_letters, "letter by letter"),
    (check_kinetics_rows, rows_sorted, "in their order"),
    (check_kinetics_rows, rows_share_a_dictionary, "the rows are those of the lines"),
    (check_divide_films, divide_clips, "all clips of a film are on one side"),
    (check_divide_films, divide_by_place, "all clips of a film are on one side"),
    (check_divide_films, divide_first_films, "another seed, another division"),
    (check_divide_films, divide_says_films, "for each clip"),
    (check_divide_films, divide_swapped, "the share of films for validation"),
    (check_divide_films, divide_counts_clips, "counts as one"),
    (check_divide_films, divide_rounds_down, "the number of films is rounded, here up"),
    (check_divide_films, divide_rounds_up, "the number of films is rounded, here down"),
    (check_divide_films, divide_leaves_a_side_empty, "no side is empty"),
    (check_divide_films, divide_takes_all, "no side is empty"),
    (check_divide_films, divide_throws_for_each_film, "the share of films for validation"),
    (check_divide_films, divide_seeds_all, "global dice are left"),
    (check_divide_films, divide_seeds_python, "global dice are left"),
    (check_divide_films, divide_ignores_the_seed, "another seed, another division"),
    (check_divide_films, divide_without_a_seed, "the same seed, the same"),
    (check_divide_films, divide_in_order_of_rows, "the order of the clips does not matter"),
    (check_divide_films, divide_in_order_of_a_set, "the order of the clips does not matter"),
    (check_divide_films, divide_by_hash, "the same in every process"),
    (check_divide_films, divide_mixes_in_the_clips, "their number changes nothing"),
    (check_divide_films, divide_rotates, "another seed, another division"),
    (check_divide_films, divide_in_blocks, "the films are chosen at random"),
    (check_divide_films, divide_shuffles_clips, "their number changes nothing"),
    (check_divide_films, divide_draws_films_twice, "the share of films for validation"),
    (check_divide_films, divide_says_whether_val, "whether it is train or val"),
    (check_fitting_weights, weights_keep_the_prefix, "module. at the beginning of a name"),
    (check_fitting_weights, weights_lstrip, "only the first module."),
    (check_fitting_weights, weights_replace, "only the first module."),
    (check_fitting_weights, weights_cut_seven, "at the beginning of a name only"),
    (check_fitting_weights, weights_any_shape, "another shape does not fit"),
    (check_fitting_weights, weights_same_count, "another shape does not fit"),
    (check_fitting_weights, weights_same_rank, "another shape does not fit"),
    (check_fitting_weights, weights_that_broadcast, "another shape does not fit"),
    (check_fitting_weights, weights_all_offered, "another shape does not fit"),
    (check_fitting_weights, weights_of_wanted, "the weights are the offered ones"),
    (check_fitting_weights, weights_missing_by_name_only, "another shape does not fit (missing)"),
    (check_fitting_weights, weights_say_what_is_unused, "not offered is missing"),
    (check_fitting_weights, weights_sorted, "in the order in which it is wanted"),
    (check_fitting_weights, weights_pop, "left as it was"),
    (check_fitting_weights, weights_only, "two things"),
    (check_fitting_weights, weights_strict_false, "not offered is missing"),
    (check_fitting_weights, weights_by_ending, "as a whole"),
    (check_fitting_weights, weights_by_last_parts, "as a whole"),
    (check_fitting_weights, weights_by_ending_the_last_one, "as a whole"),
    (check_fitting_weights, weights_by_ending_of_wanted, "a name fits as a whole"),
    (check_fitting_weights, weights_with_axes_only, "without axes fits"),
    (check_fitting_weights, weights_squeezed, "another shape does not fit"),
    (check_fitting_weights, weights_as_floats, "the weights are the offered ones"),
    (check_average_views, views_softmax_first, "logits are averaged first"),
    (check_average_views, views_summed, "logits are averaged first"),
    (check_average_views, views_highest, "logits are averaged first"),
    (check_average_views, views_first_only, "logits are averaged first"),
    (check_average_views, views_all_together, "every video has a row"),
    (check_average_views, views_without_softmax, "it gives probabilities"),
    (check_average_views, views_softmax_over_videos, "it gives probabilities"),
    (check_average_views, views_side_by_side, "need not lie side by side"),
    (check_average_views, views_turn_about, "averaged with each other"),
    (check_average_views, views_one_number_for_all, "different numbers of views"),
    (check_average_views, views_as_they_come, "row v is video v"),
    (check_average_views, views_exp, "large logits"),
    (check_average_views, views_one_maximum_for_all, "no harm to another"),
    (check_average_views, views_clamped, "large logits"),
    (check_average_views, views_votes, "it gives probabilities"),
]

RIGHT = [
    (check_kinetics_rows, rows_by_csv),
    (check_kinetics_rows, rows_by_columns),
    (check_kinetics_rows, rows_by_pandas),
    (check_divide_films, divide_by_sample),
    (check_divide_films, divide_by_permutation),
    (check_divide_films, divide_by_torch),
    (check_divide_films, divide_as_series),
    (check_divide_films, divide_by_numpy_names),
    (check_fitting_weights, weights_by_rename),
    (check_fitting_weights, weights_by_loop),
    (check_fitting_weights, weights_by_slices),
    (check_average_views, views_by_mask),
    (check_average_views, views_by_index_add),
    (check_average_views, views_by_matrix),
]
