"""Sample videos that only time can tell apart: moving shapes, written as real H.264 files.

The ten classes come as *partners*. Clips of two partners are made from the same random scene, and
hold the very same frames in another order; a model that is blind to order can only toss a coin:

- *direction* partners: one is the other played backwards (moves_right / moves_left, ...). Two
  neighbouring frames tell them apart; a single frame, or any bag of single frames, cannot.
- *order* partners: one is the other with its two halves exchanged (right_then_left /
  left_then_right, ...). Even the pairs that a network forms of a clip's frames, (0, 1), (2, 3) and
  so on, are the same; only a model that sees beyond a pair can tell them apart.
"""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
import pandas as pd

from blvnet_lab.data.dataset_files import DataSet
from blvnet_lab.datasets.encoding import write_h264
from blvnet_lab.datasets.selection import mirror_table
from blvnet_lab.paths import check_empty
from blvnet_lab.progress import tqdm

FRAMES = 24  # so that sampling 8 or 16 at the segments' centres commutes with both changes
FPS = 12
SIZE = 64  # height and width in pixels
GOP = 3  # frames from keyframe to keyframe; at T = 8 every sampled frame is the middle one
# One quantiser for all frames, since a frame that gets more bits than others betrays its time.
X264 = "qp=28:ipratio=1:pbratio=1:aq-mode=0"

Array = np.ndarray
Kind = Literal["direction", "order"]


class Partners(NamedTuple):
    """Two classes that only time tells apart, and how a clip of the first moves."""

    kind: Kind
    names: tuple[str, str]
    moves: Literal["x", "y", "radius", "angle"]  # what changes while the rest stays
    distance: tuple[float, float]  # the range it is drawn from, in pixels or radians


TURN = (0.8 * np.pi, 1.6 * np.pi)
PARTNERS = (
    Partners("direction", ("moves_right", "moves_left"), "x", (24, 48)),
    Partners("direction", ("moves_up", "moves_down"), "y", (24, 48)),
    Partners("direction", ("turns_clockwise", "turns_counterclockwise"), "angle", TURN),
    Partners("order", ("right_then_left", "left_then_right"), "x", (18, 36)),
    Partners("order", ("grows_then_shrinks", "shrinks_then_grows"), "radius", (7, 12)),
)
CLASSES = tuple(name for partners in PARTNERS for name in partners.names)
# Class 2k and 2k + 1 are partners: the partner of a label is `label ^ 1`.
KINDS: dict[str, Kind] = {name: p.kind for p in PARTNERS for name in p.names}
# The class of a clip played backwards; there and back again stays the same.
REVERSAL = [label ^ (kind == "direction") for label, kind in enumerate(KINDS.values())]


def partner_frames(frames: Array, kind: Kind) -> Array:
    """Reorder frames (T, ...), T even, to those of the partner class."""
    if kind == "direction":
        return frames[::-1]
    half = len(frames) // 2
    return np.concatenate([frames[half:], frames[:half]])


def _motion(partners: Partners, rng: np.random.Generator) -> Array:
    """Draw the shape's motion (FRAMES, 4): x, y from the middle, radius (pixels), angle (rad)."""
    x, y, radius, angle = rng.uniform((-12, -12, 7, 0), (12, 12, 12, 2 * np.pi))
    place = np.linspace(-0.5, 0.5, FRAMES)  # at constant speed
    if partners.kind == "order":  # there in the first half, and back over the same frames
        there = np.linspace(-0.5, 0.5, FRAMES // 2)
        place = np.concatenate([there, there[::-1]])
    travel = rng.uniform(*partners.distance) * place
    match partners.moves:
        case "x":
            x = x / 2 + travel
        case "y":
            y = y / 2 - travel
        case "angle":  # larger, so that the notch that shows the angle is easy to see
            radius, angle = radius + 4, angle + travel
        case "radius":
            radius = radius + 2 + travel
    return np.stack(np.broadcast_arrays(x, y, radius, angle, place)[:4], axis=1)


def render(partners: Partners, rng: np.random.Generator) -> Array:
    """Draw a clip of the first of two partners: (FRAMES, SIZE, SIZE, 3) uint8."""
    bodies, notches, background = _scene(partners, rng)
    # Brighter than any background, and a dark one for the notch that shows the angle.
    colour, inner = rng.uniform(150, 255, 3), rng.uniform(0, 80, 3)
    frames = np.empty((FRAMES, SIZE, SIZE, 3), np.uint8)
    for t, (body, notch) in enumerate(zip(bodies, notches, strict=True)):
        frame = background + body * (colour - background)
        frame = frame + body * notch * (inner - frame)
        frame = frame + rng.normal(0, 2, frame.shape)
        frames[t] = frame.clip(0, 255).round()
    return frames


def _scene(partners: Partners, rng: np.random.Generator) -> tuple[Array, Array, Array]:
    """Draw how much of each pixel is shape or notch (FRAMES, SIZE, SIZE, 1); the background."""
    motion, background = _motion(partners, rng), _background(rng)
    distance = SHAPES[rng.choice(list(SHAPES))]
    rows, columns = np.mgrid[:SIZE, :SIZE] - (SIZE - 1) / 2
    x, y, radius, angle = motion.T[:, :, None, None]  # (FRAMES, 1, 1) each
    dx, dy = columns - x, rows - y
    cos, sin = np.cos(angle), np.sin(angle)
    u, v = cos * dx + sin * dy, cos * dy - sin * dx  # the shape's own axes
    notches = _cover(np.hypot(u - 0.55 * radius, v) - 0.3 * radius)
    return _cover(distance(u, v, radius)), notches, background


def shape_masks(scene: str, class_name: str, seed: int = 0) -> Array:
    """Draw where the shape is in a sample video: (FRAMES, SIZE, SIZE) bool.

    Args:
        scene: the video's `source_id` in the manifest, such as "val_0_0003".
        class_name: one of the two partners that the scene was made for.
        seed: the seed with which the videos were written.
    """
    split, place, i = scene.rsplit("_", 2)
    partners = PARTNERS[int(place)]
    if class_name not in partners.names:
        raise ValueError(f"expected one of {partners.names} in {scene}, got {class_name!r}")
    bodies, _, _ = _scene(partners, _rng(split, int(place), int(i), seed))
    masks = bodies[..., 0] > 0.5
    if class_name == partners.names[1]:
        masks = partner_frames(masks, partners.kind).copy()  # PyTorch has no negative strides
    return masks


def _cover(distance: Array) -> Array:
    """Compute how much of each pixel lies inside (H, W, 1), from distances to the outline."""
    return np.clip(0.5 - distance, 0, 1)[..., None]


# Distances to the outline in pixels, negative inside; u, v are measured from the centre.
SHAPES: dict[str, Callable[[Array, Array, float], Array]] = {
    "disc": lambda u, v, r: np.hypot(u, v) - r,
    "square": lambda u, v, r: np.maximum(abs(u), abs(v)) - 0.85 * r,
    "diamond": lambda u, v, r: (abs(u) + abs(v) - 1.15 * r) / np.sqrt(2),
    "ellipse": lambda u, v, r: np.hypot(u, 1.6 * v) - 1.1 * r,
}


def _background(rng: np.random.Generator) -> Array:
    """Draw a still, soft texture of two colours with a few blots, (SIZE, SIZE, 3) in 0..255."""
    blend = rng.uniform(0, 1, (rng.integers(2, 7), rng.integers(2, 7)))
    for _ in range(2):  # along one axis, then the other
        places, known = np.linspace(0, blend.shape[1] - 1, SIZE), np.arange(blend.shape[1])
        blend = np.stack([np.interp(places, known, line) for line in blend], axis=1)
    blend = blend[..., None]
    first, second = rng.uniform(10, 110, (2, 3))
    picture = first + blend * (second - first)
    y, x = np.mgrid[:SIZE, :SIZE]
    for _ in range(rng.integers(0, 4)):  # still things besides the one that moves
        centre, radius = rng.uniform(0, SIZE, 2), rng.uniform(2, 7)
        blot = _cover(np.hypot(x - centre[0], y - centre[1]) - radius)
        picture = picture + blot * (rng.uniform(10, 130, 3) - picture)
    return picture


def write_clip(path: str | Path, frames: Array) -> None:
    """Write uint8 frames (T, H, W, 3), H and W even, as H.264 in mp4, reproducibly."""
    write_h264(path, frames, FPS, gop=GOP, x264=X264)


def scenes(split: str, per_class: int, seed: int) -> Iterator[tuple[str, Partners, Array]]:
    """Draw `per_class` random scenes for each pair of partners: (name, partners, frames)."""
    for place, partners in enumerate(PARTNERS):
        for i in range(per_class):
            scene = f"{split}_{place}_{i:04d}"
            yield scene, partners, render(partners, _rng(split, place, i, seed))


def _rng(split: str, place: int, i: int, seed: int) -> np.random.Generator:
    return np.random.default_rng([seed, {"train": 0, "val": 1}[split], place, i])


def write_dataset(
    out: Path, clips_per_class: int = 100, val_per_class: int = 50, seed: int = 0
) -> Path:
    """Write the sample videos: short H.264 files of classes that only time tells apart.

    Both partners of a scene go to the same split; `source_id` in the manifest is the scene.
    Returns the manifest's path.

    Args:
        out: new or empty folder for the videos and manifest.csv.
        clips_per_class: training videos per class.
        val_per_class: validation videos per class.
        seed: of all scenes; equal seeds give equal bytes on the same machine.
    """
    folder = Path(out).absolute()
    counts = {"train": clips_per_class, "val": val_per_class}
    if min(counts.values()) < 1:
        raise ValueError(f"expected at least one video of each class and split, got {counts}")
    check_empty(folder)
    rows = []
    with tqdm(total=sum(counts.values()) * len(CLASSES), desc="writing", unit="clip") as bar:
        for split, per_class in counts.items():
            for scene, partners, frames in scenes(split, per_class, seed):
                versions = (frames, partner_frames(frames, partners.kind))
                for name, version in zip(partners.names, versions, strict=True):
                    path = folder / split / name / f"{scene}.mp4"
                    path.parent.mkdir(parents=True, exist_ok=True)
                    write_clip(path, version)
                    rows.append((path, CLASSES.index(name), name, split, scene))
                    bar.update()
    table = pd.DataFrame(rows, columns=["path", "label", "class_name", "split", "source_id"])
    facts = {"num_frames": FRAMES, "fps": FPS, "height": SIZE, "width": SIZE, "status": "ok"}
    table = table.sort_values("path").assign(**facts)
    return DataSet(table, CLASSES, mirror_table(CLASSES)).save(folder / "manifest.csv")
