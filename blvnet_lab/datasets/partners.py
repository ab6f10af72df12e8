"""Cut partner classes out of any footage: clips that only time tells apart, without labels.

A *window*, a second or so of a video, gives two clips of the very same frames: as it was shot, and
backwards (`arrow`) or with its halves exchanged (`halves`). For `directions`, a square of it is
taken in which nearly everything moves right, left, up or down, according to the motion vectors in
the video's coding; backwards, it moves the other way.

Every frame is compressed by itself, with one quantiser: partners hold the same pictures, bit for
bit. Traces of the video's own codec stay in them, whose quality may have an arrow of time, too.
"""

import hashlib
import os
import random
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import replace
from itertools import islice, product
from pathlib import Path
from typing import Literal

import av
import numpy as np
import pandas as pd

from blvnet_lab.data import DataSet, VideoReadError, check_video, probe_video, read_frames
from blvnet_lab.data.decoding import Orientation, ToRGB, motion_vectors
from blvnet_lab.data.probing import VideoInfo, refuse_damage
from blvnet_lab.data.reading import decode_frames
from blvnet_lab.datasets.encoding import Showing, showing_of, write_h264
from blvnet_lab.datasets.inventory import table_values
from blvnet_lab.datasets.journal import Journal, Tables, Values, write_tables
from blvnet_lab.datasets.layouts import SPLIT_OF, find_videos, passed_over
from blvnet_lab.datasets.motion import CLASSES, FRAMES, X264, partner_frames
from blvnet_lab.datasets.reencoding import file_state
from blvnet_lab.datasets.selection import mirror_table, reversal_table
from blvnet_lab.datasets.sources import divide, find_sources, one_sided_classes
from blvnet_lab.paths import atomic_write, check_empty, free_name, plain_name
from blvnet_lab.progress import tqdm

# Class 2k and 2k + 1 are partners: the partner of a label is `label ^ 1`.
CLASSES_OF = {
    "arrow": ("forwards", "backwards"),
    "halves": ("in_order", "exchanged"),
    "directions": CLASSES[:4],  # moves right, left, up, down, as in the sample clips
}
# The partner of each class, here and in the sample clips.
PARTNER = {name: of[k ^ 1] for of in (CLASSES, *CLASSES_OF.values()) for k, name in enumerate(of)}
SETTINGS = "partners.json"
FPS = 25  # approximate rate of clips; of faster videos every second frame is taken, or third, ...
CELLS = 8  # along the short side of a picture; motion is added up within each
ZOOM = 6  # pixels per cell in the grey pictures that are searched for cuts and still windows
STILL, MOVING = 0.004, 0.02  # shares of the picture, of a square, that must at least change
SURE, SURE_IN_THIRD = 0.6, 0.5  # shares of the moving area that must at least go the same way

Array = np.ndarray
Square = tuple[int, float, float, float]  # label; top, left, side as shares of the picture's sides
Window = tuple[int, Square]  # with its first frame


def cut_partners(
    videos: Path,
    /,
    *,
    out: Path,
    kind: Literal["arrow", "halves", "directions"] = "arrow",
    short_side: int = 128,
    windows_per_video: int = 8,
    source: str = "",
    val_share: float = 0.2,
    seed: int = 0,
) -> Tables:
    """Cut clips out of any videos, in classes that only time tells apart; no labels are needed.

    A window gives a clip and its partner, of 24 frames without sound, both in the same split.
    report.csv lists what is left out: windows that hardly move, contain a cut or have no clear
    direction, and videos that are too short or unreadable. Run again, it continues, and replaces
    clips of changed videos.

    Args:
        videos: a folder with videos of any kind; its subfolders are searched, too.
        out: folder for clips/, manifest.csv, classes.csv and report.csv.
        kind: arrow (forwards, backwards), halves (in_order, exchanged) or directions (moves_right,
            _left, _up, _down: where the motion vectors of an H.264 or MPEG-4 file agree).
        short_side: in pixels, to which larger clips are scaled; clips of directions are square.
        windows_per_video: at most this many, drawn with the seed.
        source: which videos share a source: a regular expression, as for `manifest folder`; by
            default those in the same subfolder, or whose names differ only in numbers.
        val_share: share of the clips that becomes val; clips of one source stay together.
        seed: of everything random.

    Raises ValueError if there are no clips, or `out` was begun with other settings or is in
    `videos`, FileExistsError if `out` holds something else.
    """
    root, out = Path(os.path.realpath(videos)), Path(os.path.realpath(out))
    if out.is_relative_to(root):
        raise ValueError(f"expected an out that is not in the folder of videos, {root}, got {out}")
    if not (out / SETTINGS).is_file():
        check_empty(out)
    if short_side < 16 or windows_per_video < 1 or not 0 < val_share < 1 or kind not in CLASSES_OF:
        wanted = f"a share between 0 and 1 and one of the kinds {', '.join(CLASSES_OF)}"
        got = f"{short_side}, {windows_per_video}, {val_share}, {kind}"
        raise ValueError(f"expected 16 pixels, 1 window or more, {wanted}, got {got}")
    settings = {"videos": str(root), "kind": kind, "short_side": short_side, "seed": seed}
    settings["windows_per_video"] = windows_per_video
    paths, problems, others = find_videos(root)
    names, classes = [Path(path).relative_to(root).as_posix() for path in paths], CLASSES_OF[kind]
    if not names:
        raise ValueError(f"expected videos in {root}, found none")
    # As for `manifest folder`, with a folder in place of a class.
    rows = pd.DataFrame({"names": [(name,) for name in names], "split": ""})
    rows["class_name"] = [os.path.dirname(name).partition("/")[0] for name in names]
    in_folders = not SPLIT_OF.keys() & {name.lower() for name in rows["class_name"]}
    rows = find_sources(rows, root, source, problems, in_folders=in_folders)
    done, kept = _cut_all(names, settings, out)
    left_out = [(why, "", name, where) for name in names for why, where in done[name]["left_out"]]
    clips = pd.DataFrame([clip for name in names for clip in done[name]["clips"]])
    if clips.empty:
        why, _, name, where = left_out[0]
        got = f"got no clip (videos: {len(names)}; {name}: {why}, {where})"
        raise ValueError(f"expected videos in which things move in {root}, {got}")
    clips["source_id"] = clips.pop("video").map(dict(zip(names, rows["source_id"], strict=True)))
    clips = clips.assign(split=divide(clips, val_share, seed), status="ok").sort_values("path")
    one_sided = one_sided_classes(clips, ("train", "val"))
    problems += [*passed_over(others, root), *left_out, *one_sided]
    counts = pd.crosstab(clips["class_name"], clips["split"]).reindex(classes, fill_value=0)
    data_set = DataSet(clips, classes, mirror_table(classes), None, reversal_table(classes))
    found = write_tables(data_set, problems, out, counts)
    return replace(found, backups=(*found.backups, *kept))


def _cut_all(names: list[str], settings: Values, out: Path) -> tuple[dict[str, Values], list[Path]]:
    """Cut videos that are new or have changed; return the log's entries for all.

    Clips that somebody has edited are renamed; their new names are returned, too.
    """
    journal = Journal(out / SETTINGS, settings, "partners.jsonl")
    before, waiting, kept = journal.last("video"), [], []
    for name in names:
        files = before[name]["files"] if name in before else {}
        changed = [Path(path) for path, state in files.items() if file_state(path) != state]
        if name not in before or changed:
            waiting.append(name)
        own = [path for path in changed if path.is_relative_to(out) and path.is_file()]
        kept += [path.rename(free_name(path)) for path in own]
    pool = ThreadPoolExecutor(os.cpu_count())
    try:
        cut = as_completed([pool.submit(_cut_video, settings, out, name) for name in waiting])
        for future in tqdm(cut, "cutting", len(waiting), unit="video"):
            entry = future.result()
            old = before.get(entry["video"], entry) if entry["clips"] else entry
            for path in {clip["path"] for clip in old["clips"]} - entry["files"].keys():
                # Otherwise somebody has edited it, or it belongs to the folder this is a copy of.
                if file_state(path) == old["files"][path] and Path(path).is_relative_to(out):
                    os.unlink(path)
            journal.add(entry)
    finally:
        pool.shutdown(cancel_futures=True)
    return journal.last("video"), kept


def _cut_video(settings: Values, out: Path, name: str) -> Values:
    """Cut the clips of one video; return the entry for the log."""
    path, count, clips = os.path.join(settings["videos"], name), settings["windows_per_video"], []
    state = file_state(path)
    try:
        info = refuse_damage(probe_video(path))
        windows, left_out = find_windows(info, settings["kind"] == "directions")
        if len(windows) > count:
            left_out.append(("video with more windows", f"{count} taken of {len(windows)}"))
            windows = random.Random(f"{settings['seed']} {name}").sample(windows, count)
        showing = showing_of(info)
        showing = replace(showing, fps=showing.fps / frame_step(info), times=None)
        for window in windows:
            clips += _write_pair(name, info, showing, window, settings, out)
    except VideoReadError as error:
        clips, left_out = [], [("unreadable", str(error))]
    files = {path: state} | {clip["path"]: file_state(clip["path"]) for clip in clips}
    return {"video": name, "files": files, "clips": clips, "left_out": left_out}


def _write_pair(
    name: str, info: VideoInfo, showing: Showing, window: Window, settings: Values, out: Path
) -> list[Values]:
    """Write a clip and its partner; return their rows of the manifest."""
    (start, (label, top, left, side)), kind = window, settings["kind"]
    step, inner = frame_step(info), side * min(info.size)
    scale = min(1, settings["short_side"] / inner)
    size = tuple(round(scale * length) for length in info.size)
    frames = read_frames(info, range(start, start + step * FRAMES, step), size)
    if kind == "directions":
        y, x, inner = int(top * size[0]), int(left * size[1]), round(scale * inner)
        frames = frames[..., y : y + inner, x : x + inner]
    height, width = (length // 2 * 2 for length in frames.shape[-2:])
    frames = frames[..., :height, :width].permute(0, 2, 3, 1).numpy()
    other = partner_frames(frames, "order" if kind == "halves" else "direction")
    mark = hashlib.sha1(name.encode()).hexdigest()[:8]  # two folders may hold the same name
    pair, rows = f"{plain_name(Path(name).stem)}-{mark}-{start}", []
    for own, version in ((label, frames), (label ^ 1, other)):
        class_name = CLASSES_OF[kind][own]
        path = out / "clips" / class_name / f"{pair}.mp4"
        row = {"path": str(path), "label": own, "class_name": class_name, "pair": pair}
        with atomic_write(path) as partial_file:
            write_h264(partial_file, version, showing, gop=1, x264=X264)
            rows.append(row | {"video": name} | table_values(check_video(partial_file)))
    return rows


def frame_step(info: VideoInfo) -> int:
    """Return the number of a video's frames per frame of a clip."""
    return max(1, round(info.fps / FPS))


def find_windows(info: VideoInfo, one_way: bool) -> tuple[list[Window], list[tuple[str, str]]]:
    """Find the windows of a video; also return (why, where) for all that are left out.

    one_way: take from each the square in which motion goes most clearly one way.
    """
    span, windows, left_out, has_vectors = FRAMES * frame_step(info), [], [], False
    grid = tuple(CELLS * length // min(info.size) for length in info.size)
    to_rgb = ToRGB((ZOOM * grid[0], ZOOM * grid[1]))
    side = CELLS // 2 if min(info.size) >= 192 else CELLS  # of a square; less is not sharp enough

    def look(picture: av.VideoFrame, orientation: Orientation) -> tuple[Array, Array | None]:
        areas = moving_areas(picture, orientation, grid) if one_way else None
        return to_rgb(picture, orientation).mean(-1), areas

    starts = range(0, info.num_frames - span + 1, span)
    looks = decode_frames(info, range(len(starts) * span), look, with_motion=one_way)
    for start in starts:
        grey, areas = zip(*islice(looks, span), strict=True)
        grey, areas = np.stack(grey), [found for found in areas if found is not None]
        has_vectors |= bool(areas)
        square = sure_square(areas, grey, side) if one_way else (0, 0, 0, 1)
        steps, why = changes(grey).mean((1, 2)), ""
        if steps.max() > 5 * max(np.quantile(steps, 0.75), 0.5):  # many are large where all is fast
            why = "scene cut"
        elif (changes(grey, span // 4) > 10).mean() < STILL:
            why = "hardly anything moves"
        elif not square:
            why = "no sure direction"
        if why:
            left_out.append((why, f"frames {start} to {start + span - 1}"))
        else:
            windows.append((start, square))
    if not starts:
        left_out = [("too short", f"{info.num_frames} frames, a clip takes {span}")]
    elif one_way and not has_vectors:
        remedy = "encode it again as H.264, with P-frames"
        left_out = [("no motion vectors", f"FFmpeg gives none of this {info.codec}: {remedy}")]
    return windows, left_out


def changes(grey: Array, lag: int = 1) -> Array:
    """Return how much pictures (T, H, W) change, apart from brightness: (T - lag, H, W)."""
    found = grey[lag:] - grey[:-lag]
    return np.abs(found - np.median(found, axis=(1, 2), keepdims=True))


def moving_areas(picture: av.VideoFrame, orientation: Orientation, grid: tuple) -> Array | None:
    """Compute the share of each cell that moves right, left, up, down or askew, when upright.

    Returns (rows, columns, 5), or None for a picture without motion vectors, such as a keyframe.
    """
    vectors = motion_vectors(picture)
    if vectors is None:
        return None
    turn, size = np.reshape(orientation, (2, 2)).T, np.array([[picture.width], [picture.height]])
    # A vector points to where its block comes from: the past (-1), or the future (1; B-frames).
    way = np.stack([vectors["motion_x"], vectors["motion_y"]])
    x, y = turn @ (way * vectors["source"] / vectors["motion_scale"])
    u, v = turn @ (np.stack([vectors["dst_x"], vectors["dst_y"]]) / size - 0.5) + 0.5
    shorter, longer = np.sort(np.abs([x, y]), axis=0)
    label = np.where(abs(x) > abs(y), x < 0, 2 + (y > 0))
    label = np.where(2 * shorter > longer, 4, label)
    # Smaller motion is a shaking camera, or the codec's inaccuracy.
    moves = longer >= max(0.5, size.min() / 256)
    area = moves * vectors["w"].astype(float) * vectors["h"] * np.prod(grid) / size.prod()
    bins, spans = (*grid, 5), ((0, 1), (0, 1), (0, 5))
    return np.histogramdd((v, u, label), bins, spans, weights=area)[0]


def sure_square(areas: Sequence[Array], grey: Array, side: int) -> Square | None:
    """Find the square, `side` cells high, in which motion goes most clearly one way.

    areas: `moving_areas` of pictures that have any; grey: (T, ZOOM * rows, ZOOM * columns), all
    """
    if len(areas) < 3:
        return None
    thirds, sure = np.stack([part.mean(0) for part in np.array_split(areas, 3)]), []
    rows, columns = thirds.shape[1:3]
    for top, left in product(range(0, rows - side + 1, 2), range(0, columns - side + 1, 2)):
        area = thirds[:, top : top + side, left : left + side].mean((1, 2))  # (3, 5)
        label = int(area[:, :4].sum(0).argmax())
        own, every = area[:, label], area.sum(1)
        inside = grey[:, ZOOM * top :, ZOOM * left :][:, : ZOOM * side, : ZOOM * side]
        moves = own.min() >= MOVING <= (changes(inside, len(grey) // 4) > 10).mean()
        if moves and own.sum() >= SURE * every.sum() and (own >= SURE_IN_THIRD * every).all():
            share = own.sum() / every.sum()
            sure.append((share, label, top / rows, left / columns, side / CELLS))
    return max(sure)[1:] if sure else None
