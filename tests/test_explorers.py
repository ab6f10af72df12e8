"""The clip and the branch explorer in Python: what their controls do to pictures and texts.

The oracles: videos whose every frame shows its own number, the models called by hand, hooks
registered by hand, and matplotlib's own colours.
"""

import copy
import re

import ipywidgets as widgets
import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
import torch
from nets import watched
from PIL import Image
from shown import NAMES, a_clip, bytes_of, decoded, everything_in, plain, scores_in, shipped, still
from videos import read_number, write_video

from blvnet_lab.data import VideoReadError, normalize, read_frames, sample_uniform
from blvnet_lab.introspect import wake_residuals
from blvnet_lab.models import blvnet_tam, tsn
from blvnet_lab.viz.explorers.branch import BranchExplorer
from blvnet_lab.viz.explorers.clip import ClipExplorer
from blvnet_lab.viz.explorers.evidence import EvidenceExplorer
from blvnet_lab.viz.theme import BLUE, BRANCH_COLOURS, ORANGE

SAMPLED = [1, 4, 7, 10, 13, 16, 19, 22]  # the centres of 8 equal parts of 24 frames
ORDERS = {
    "as filmed": SAMPLED,
    "frames of a pair exchanged": [4, 1, 10, 7, 16, 13, 22, 19],
    "halves exchanged": [13, 16, 19, 22, 1, 4, 7, 10],
    "frames reversed": SAMPLED[::-1],
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Videos that count their frames, 25 a second."""
    folder = tmp_path_factory.mktemp("videos")
    for name, count in (("a", 24), ("b", 24), ("c", 40), ("long", 200), ("short", 5)):
        write_video(folder / f"{name}.mp4", count, size=(64, 64))
    write_video(folder / "large.mp4", 10, size=(300, 800))
    (folder / "text<i>.mp4").write_text("not a video")
    return folder


@pytest.fixture
def manifest(folder):
    kinds = {"c": "moves_left", "a": "moves_right", "b": "moves_right"}
    rows = [{"path": str(folder / f"{n}.mp4"), "class_name": kind} for n, kind in kinds.items()]
    return pd.DataFrame(rows)


@pytest.fixture(scope="module")
def models():
    return {"no TAM": shipped("blvnet"), "TAM": shipped("blvnet_tam")}


@pytest.fixture
def explorer(models, manifest):
    return ClipExplorer(models, manifest, NAMES)


def numbers_in(strip: bytes, count: int = 8, tile: int = 96) -> list[int]:
    """The numbers that the tiles of the strip show."""
    picture = decoded(strip)
    assert picture.shape[:2] == (24 + tile + 6, 6 + count * (tile + 6))
    tiles = [picture[24:-6, 6 + i * (tile + 6) :][:, :tile, :3] for i in range(count)]
    return [read_number(tile.transpose(2, 0, 1)) for tile in tiles]


def by_hand(model: torch.nn.Module, path, numbers: list[int]) -> list[float]:
    with torch.no_grad():
        return model(normalize(read_frames(path, numbers))[None])[0].softmax(0).tolist()


def tam_scores(explorer: ClipExplorer) -> list[float]:
    return list(scores_in(explorer.scores.value)["TAM"].values())


def shown_state(explorer: ClipExplorer) -> list:
    parts = (explorer.frame, explorer.strip, explorer.scores, explorer.title, explorer.caption)
    return [part.value for part in parts] + [explorer.position.max]


def test_slider_steps_through_the_frames(explorer):
    assert (explorer.kind.value, explorer.number.value) == ("moves_right", 0)
    assert explorer.title.value == "<b>moves_right</b>, a.mp4: 24 frames, 1.0 s, 64 x 64 pixels"
    assert (explorer.play.max, explorer.position.max) == (23, 23)
    for number in (0, 1, 7, 23):
        explorer.position.value = number
        picture = decoded(explorer.frame.value)
        assert picture.shape == (256, 256, 3) and explorer.frame.layout.width == "256px"
        assert read_number(picture.transpose(2, 0, 1)) == number
        assert f"frame {number} (0 to 23)</code> at {number / 25:.2f} s" in explorer.caption.value


@pytest.mark.parametrize("order", ORDERS)
def test_each_order_is_what_the_networks_get(explorer, models, manifest, order):
    explorer.order.value = order
    assert numbers_in(explorer.strip.value) == ORDERS[order]
    edges = decoded(explorer.strip.value)[60, 5::102, :3].tolist()[:8]
    assert edges == [bytes_of(ORANGE), bytes_of(BLUE)] * 4
    for number in (0, *SAMPLED, 23):
        explorer.position.value = number
        text = plain(explorer.caption.value)
        if number not in SAMPLED:
            assert "not sampled" in text
            continue
        place = ORDERS[order].index(number)
        branch = ("little", "big")[place % 2]
        assert f"sampled, at place {place}, {branch} branch" in text
        assert BRANCH_COLOURS[branch] in explorer.caption.value
    scores, path = scores_in(explorer.scores.value), manifest["path"][1]
    ways = ORDERS[order], SAMPLED
    now, before = ({m: by_hand(models[m], path, n) for m in models} for n in ways)
    for title in models:
        assert list(scores[title].values()) == pytest.approx(now[title], abs=1e-4)
    assert explorer.scores.value.count("<b>moves_right</b>") == 2, "in the text, in the table"
    changes = re.findall(r"%( \([+-]\d+\))?</td>", explorer.scores.value)
    if order == "as filmed":
        assert not any(changes) and "Thin bars" not in explorer.scores.value
        return
    pairs = (pair for m in models for pair in zip(now[m], before[m], strict=True))
    expected = [100 * (new - old) for new, old in pairs]
    assert [int(change.strip(" ()")) for change in changes] == pytest.approx(expected, abs=0.51)
    # Else this would not see a network that always gets the clip as filmed.
    assert max(abs(np.subtract(now["TAM"], before["TAM"]))) > 1e-3


def test_shuffle_again(explorer, models, manifest):
    explorer.order.value = "frames shuffled"
    seen = [numbers_in(explorer.strip.value)]
    for start in ("frames shuffled", "as filmed"):
        explorer.order.value = start
        explorer.shuffle.click()
        assert explorer.order.value == "frames shuffled"
        seen.append(numbers_in(explorer.strip.value))
        expected = by_hand(models["TAM"], manifest["path"][1], seen[-1])
        assert tam_scores(explorer) == pytest.approx(expected, abs=1e-4)
    assert all(sorted(numbers) == SAMPLED for numbers in seen)
    assert len(set(map(tuple, seen))) == 3


def test_choosing_another_clip(explorer, models, manifest):
    explorer.number.value = 1
    assert "b.mp4" in explorer.title.value
    explorer.order.value = "frames reversed"  # is kept
    explorer.position.value = 23
    explorer.kind.value = "moves_left"
    assert explorer.number.max == 0
    assert (explorer.play.max, explorer.position.max, explorer.position.value) == (39, 39, 23)
    assert read_number(decoded(explorer.frame.value).transpose(2, 0, 1)) == 23
    sampled = [37, 32, 27, 22, 17, 12, 7, 2]
    assert numbers_in(explorer.strip.value) == sampled
    expected = by_hand(models["TAM"], manifest["path"][0], sampled)
    assert tam_scores(explorer) == pytest.approx(expected, abs=1e-4)
    assert "True class: <b>moves_left</b>" in explorer.scores.value
    explorer.position.value = 39
    explorer.kind.value = "moves_right"  # shorter: the slider moves back
    assert (explorer.number.max, explorer.position.value) == (1, 23)
    assert read_number(decoded(explorer.frame.value).transpose(2, 0, 1)) == 23


def test_a_file_of_ones_own(explorer, folder, models):
    before = shown_state(explorer)
    explorer.path.value = f' "{folder / "long.mp4"}" '
    assert explorer.title.value == "long.mp4: 200 frames, 8.0 s, 64 x 64 pixels"
    assert "unlike those of their training" in explorer.message.value
    assert "True class" not in explorer.scores.value
    sampled = [12, 37, 62, 87, 112, 137, 162, 187]
    assert numbers_in(explorer.strip.value) == sampled
    expected = by_hand(models["TAM"], folder / "long.mp4", sampled)
    assert tam_scores(explorer) == pytest.approx(expected, abs=1e-4)
    explorer.position.value = 199
    assert read_number(decoded(explorer.frame.value).transpose(2, 0, 1)) == 199
    explorer.position.value = 0
    explorer.path.value = ""  # back to the clip that the other controls say
    assert explorer.message.value == "" and shown_state(explorer) == before
    explorer.path.value = str(folder / "c.mp4")
    explorer.number.value = 1  # a clip of the manifest ends the file of one's own
    assert explorer.path.value == "" and "b.mp4" in explorer.title.value


def test_a_clip_that_is_a_part_of_a_video(models, folder):
    rows = {"path": str(folder / "long.mp4"), "class_name": "moves_left"}
    parts = pd.DataFrame({"part_start": [0, 4], "part_end": [2, 6]}).assign(**rows)
    explorer = ClipExplorer(models, parts, NAMES)
    explorer.number.value = 1
    assert "long.mp4#t=4,6: 50 frames, 2.0 s, 64 x 64 pixels" in explorer.title.value
    sampled = [100 + number for number in sample_uniform(50, 8).tolist()]
    assert numbers_in(explorer.strip.value) == sampled
    expected = by_hand(models["TAM"], folder / "long.mp4", sampled)
    assert tam_scores(explorer) == pytest.approx(expected, abs=1e-4)


def test_large_frames_are_scaled_down(explorer, folder):
    explorer.path.value = str(folder / "large.mp4")
    assert decoded(explorer.frame.value).shape == (120, 320, 3)
    whole = Image.fromarray(read_frames(folder / "large.mp4", [9])[0].permute(1, 2, 0).numpy())
    square = whole.crop((250, 0, 550, 300)).resize((64, 64), Image.Resampling.BILINEAR)
    assert abs(explorer._tiles[7] - np.asarray(square).astype(int)).mean() < 3


def test_a_video_shorter_than_the_clip(explorer, folder):
    explorer.path.value = str(folder / "short.mp4")
    assert numbers_in(explorer.strip.value) == [0, 0, 1, 2, 2, 3, 4, 4]
    text = plain(explorer.caption.value)
    assert "at place 0, little branch and at place 1, big branch" in text


@pytest.mark.parametrize(
    "name, words",
    [
        ("missing.mp4", "expected a video file, but it does not exist; check the path"),
        ("", "it is a folder without numbered pictures, such as 00001.jpg"),
        ("~nosuchuser/x.mp4", "~nosuchuser/x.mp4: expected a video file, but it does not exist"),
        ("text<i>.mp4", "text&lt;i&gt;.mp4: expected a video file, but its 11 bytes cannot"),
    ],
)
def test_an_unreadable_file_changes_nothing(explorer, folder, name, words):
    explorer.order.value = "frames reversed"
    before = shown_state(explorer)
    explorer.path.value = name if name.startswith("~") else str(folder / name)
    assert words in explorer.message.value
    assert "Still shown: a.mp4: 24 frames" in explorer.message.value
    assert "<i>" not in explorer.message.value and "\n" not in explorer.message.value
    assert shown_state(explorer) == before
    explorer.path.value = str(folder / "c.mp4")
    assert "Not read" not in explorer.message.value and "c.mp4" in explorer.title.value


def test_a_clip_of_the_manifest_that_is_gone(models, manifest):
    explorer = ClipExplorer(models, manifest.replace(r".*b\.mp4$", "gone.mp4", regex=True), NAMES)
    explorer.number.value = 1
    assert "gone.mp4: expected a video file" in explorer.message.value
    assert numbers_in(explorer.strip.value) == SAMPLED
    with pytest.raises(VideoReadError, match=r"gone\.mp4"):
        ClipExplorer(models, manifest.assign(path="gone.mp4"), NAMES)


def test_scores_that_are_no_numbers(manifest):
    model = shipped("blvnet_tam")
    torch.nn.init.constant_(model.classifier.weight, torch.nan)
    explorer = ClipExplorer({"it": model}, manifest, NAMES)
    explorer.order.value = "frames reversed"
    assert explorer.scores.value.count("nan %") == 10
    assert explorer.scores.value.count("width:0.0%") == 20
    assert explorer.static_picture().any()


def test_without_branches_there_are_no_branch_colours(manifest):
    explorer = ClipExplorer({"TSN": shipped("tsn"), "b": shipped("tsn_blnet")}, manifest, NAMES)
    explorer.position.value = 1
    assert "sampled, at place 0" in explorer.caption.value
    texts = [part.value for part in everything_in(explorer) if isinstance(part, widgets.HTML)]
    assert not any("branch" in text for text in texts)
    assert (decoded(explorer.strip.value)[60, 5::102] == 0).all(), "an edge"


def test_networks_in_the_wrappers_of_other_tools(manifest):
    model = shipped("blvnet_tam")
    wrapped = torch.optim.swa_utils.AveragedModel(model)
    clips = [ClipExplorer({"TAM": each}, manifest, NAMES).scores.value for each in (model, wrapped)]
    assert clips[0] == clips[1]
    for kind, part in ((BranchExplorer, "maps"), (EvidenceExplorer, "sums")):
        views = [kind(each, a_clip()) for each in (model, wrapped)]
        assert getattr(views[0], part).value == getattr(views[1], part).value
        assert views[0].about == views[1].about


def test_odd_numbers_of_frames_and_models_that_do_not_take_the_same_clips(models, manifest):
    def other(**size):
        return tsn(**{"depth": "tiny", "num_frames": 8, "num_classes": 10} | size)

    explorer = ClipExplorer({"TSN": other(num_frames=7)}, manifest, NAMES)
    assert len(explorer.order.options) == 3  # no pairs and halves to exchange
    for size, words in (({"num_frames": 16}, "T=16"), ({"in_channels": 10}, "C=")):
        with pytest.raises(ValueError, match=words):
            ClipExplorer({**models, "other": other(**size)}, manifest, NAMES)


GAP, TILE = 10, 128  # of the enlarged row, below the overview


def maps_by_hand(model, clip: torch.Tensor, names: list[str]) -> dict[str, torch.Tensor]:
    """Name to (P, C, h, w), by hooks of our own."""
    seen = watched(model := copy.deepcopy(model).eval(), *names)
    with torch.no_grad():
        model(clip[None])
    return seen


def colours_of(maps: torch.Tensor, limit: float) -> np.ndarray:
    """(h, w) as (TILE, TILE, 3), with matplotlib's colours."""
    colours = 255 * mpl.colormaps["RdBu_r"]((maps.numpy() / limit + 1) / 2)[:, :, :3]
    factor = TILE // len(colours)
    return colours.repeat(factor, 0).repeat(factor, 1)


def enlarged_tiles(explorer: BranchExplorer) -> list[np.ndarray]:
    """The tiles of the row below, without transparency."""
    row = decoded(explorer.maps.value)[-GAP - TILE : -GAP]
    count = (np.flatnonzero(row[:, :, 3].any(0)).max() + GAP) // (TILE + GAP)
    return [row[:, GAP + i * (TILE + GAP) :][:, :TILE, :3] for i in range(count)]


def close(picture: np.ndarray, expected: np.ndarray) -> bool:
    return picture.shape == expected.shape and abs(picture - expected).max() <= 6


@pytest.mark.parametrize(
    "stage, channel, position",
    [("stem", 3, 0), ("stage1", 17, 2), ("stage2", 63, 3), ("stage3", 127, 1)],
)
def test_enlarged_maps_are_the_layers_output(stage, channel, position):
    model, clip = shipped("blvnet_tam"), a_clip()
    explorer = BranchExplorer(model, clip)
    explorer.stage.value = stage
    explorer.slider.value = channel
    explorer.position.value = position
    assert explorer.channel == channel
    parts = ("little", "big", "merged", "out")
    points = [f"{stage}.{part}" for part in parts]
    maps = {name: m[:, channel] for name, m in maps_by_hand(model, clip, points).items()}
    shared = max(maps[name].abs().max().item() for name in points[:3])
    limits = [shared, shared, shared, maps[points[3]].abs().max().item()]
    assert len(set(limits)) == 2
    tiles = enlarged_tiles(explorer)  # little frame, little map, big frame, big map, merged, out
    assert len(tiles) == 6
    for place, name, limit in zip((1, 3, 4, 5), points, limits, strict=True):
        assert close(tiles[place], colours_of(maps[name][position], limit)), name
    little, big, merged, out = (f"±{limit:.2g}" for limit in limits)
    assert [row.scale for row in explorer._rows()] == ["", little, "", big, merged, out]
    for part, name in zip(parts, points, strict=True):
        height, width = maps[name].shape[1:]
        words = f"{part} {height} x {width}, {maps[name].min():.2f} to {maps[name].max():.2f}"
        assert words in explorer.caption.value


def test_frames_are_those_of_the_pair():
    frames = torch.arange(8)[:, None, None, None] * torch.ones(8, 3, 64, 64) * 30
    explorer = BranchExplorer(shipped("blvnet_tam"), normalize(frames.to(torch.uint8)))
    for position in range(4):
        explorer.position.value = position
        tiles = enlarged_tiles(explorer)
        assert abs(tiles[0] - 60 * position).max() <= 1
        assert abs(tiles[2] - 60 * position - 30).max() <= 1
        text = plain(explorer.caption.value)
        assert f"frame {2 * position} (little) and frame {2 * position + 1} (big)" in text
    assert explorer.play.max == explorer.position.max == 3


def test_overview_has_every_pair():
    explorer = BranchExplorer(shipped("blvnet_tam"), a_clip())
    explorer.stage.value = "stage2"
    picture, rows = decoded(explorer.maps.value), explorer._rows()
    top, step = 12 + 2 * GAP, 64 + GAP
    left = np.flatnonzero((picture[top + 10, :, :3] == bytes_of(ORANGE)).all(-1))[0] + 2
    assert [row.colour for row in rows[:4]] == [ORANGE, ORANGE, BLUE, BLUE]
    for number, row in enumerate(rows):
        y = top + number * step
        assert picture[y + 10, left - 1, :3].tolist() == bytes_of(row.colour)
        for p, expected in enumerate(row.pictures):
            tile = picture[y:, left + p * step :][:64, :64, :3]
            shown = np.asarray(Image.fromarray(expected).resize((64, 64), Image.Resampling.BOX))
            assert np.array_equal(tile, shown), (row.name, p)
    alone = still(explorer)  # where no kernel runs
    assert (alone[: len(picture), : picture.shape[1]] == picture).all()
    assert alone[len(picture) :, :, 3].any(), "no text below"


def test_position_moves_the_frame_around_a_column():
    explorer = BranchExplorer(shipped("blvnet_tam"), a_clip())
    pictures = []
    for position in range(4):
        explorer.position.value = position
        pictures.append(decoded(explorer.maps.value)[: -GAP - TILE - 20])
    changed = [np.flatnonzero((pictures[0] != other).any((0, 2))) for other in pictures[1:]]
    ends = [columns.max() for columns in changed]
    assert np.diff(ends).tolist() == [64 + GAP] * 2


def test_channel_stays_in_range_when_the_stage_changes():
    explorer = BranchExplorer(shipped("blvnet_tam"), a_clip())
    channels = {"stem": 8, "stage1": 32, "stage2": 64, "stage3": 128, "stage4": 256}
    assert list(explorer.stage.options) == list(channels)
    explorer.stage.value = "stage4"
    explorer.slider.value = 200
    for stage in ("stage3", "stage1", "stem", "stage4"):
        explorer.stage.value = stage
        last = channels[stage] - 1
        assert explorer.slider.max == last
        assert explorer.channel == min(last, 7 if stage == "stage4" else last)
        assert f"{stage}, channel {explorer.channel} of {channels[stage]}" in explorer.caption.value


@pytest.mark.parametrize("stage, point", [("stage1", "stage1.merged"), ("stage4", "stage4.1")])
def test_most_active_first(stage, point):
    model, clip = shipped("blvnet_tam"), a_clip()
    explorer = BranchExplorer(model, clip)
    explorer.stage.value = stage
    explorer.order.value = "most active first"
    activity = maps_by_hand(model, clip, [point])[point].abs().mean((0, 2, 3))
    seen = []
    for place in range(8):
        explorer.slider.value = place
        seen.append(explorer.channel)
    expected = activity.sort(descending=True).values[:8]
    assert torch.allclose(activity[seen], expected) and len(set(seen)) == 8
    assert "number 8 in activity" in explorer.caption.value
    picture, caption = explorer.maps.value, explorer.caption.value
    explorer.order.value = "by number"
    assert explorer.channel == 7
    explorer.slider.value = seen[7]
    assert (explorer.maps.value, explorer.caption.value) == (picture, caption)
    explorer.slider.value = seen[0]
    assert "the most active" in explorer.caption.value


@pytest.mark.parametrize(
    "name, stage, rows",
    [
        ("blvnet", "stage2", "little frame, little map, big frame, big map, merged, out"),
        ("blvnet_tam", "stage4", "little frame, big frame, stage4.0, stage4.1"),
        ("tsn_blnet", "stage1", "frame, little map, big map, merged, out"),
        ("tsn_blnet", "stage4", "frame, stage4.0, stage4.1"),
        ("tsn", "stem", "frame, out"),
        ("tsn", "stage4", "frame, out"),
    ],
)
def test_rows_of_each_architecture(name, stage, rows):
    model, clip = shipped(name), a_clip()
    explorer = BranchExplorer(model, clip)
    explorer.stage.value = stage
    rows = rows.split(", ")
    assert [row.name for row in explorer._rows()] == rows
    positions = 4 if name.startswith("blvnet") else 8
    assert explorer.position.max + 1 == positions
    assert all(len(row.pictures) == positions for row in explorer._rows())
    assert len(enlarged_tiles(explorer)) == len(rows)
    words = {"tsn": "No branches", "tsn_blnet": "Every frame feeds both branches"}
    if stage != "stage4" and name in words:
        assert words[name] in explorer.caption.value
    if rows[-1] == "out":
        maps = maps_by_hand(model, clip, [f"{stage}.out"])[f"{stage}.out"][:, 0]
        expected = colours_of(maps[0], maps.abs().max().item())
        assert close(enlarged_tiles(explorer)[-1], expected)


def test_branch_explorer_at_depth_50():
    torch.manual_seed(0)
    model = wake_residuals(blvnet_tam(depth=50, num_frames=16))
    explorer = BranchExplorer(model, a_clip(16, 64))
    assert explorer.position.max == 7
    explorer.stage.value = "stage4"
    assert explorer.slider.max == 2047
    explorer.slider.value = 2047
    assert [row.name for row in explorer._rows()][2:] == ["stage4.0", "stage4.1", "stage4.2"]
    explorer.stage.value = "stage3"
    assert explorer.channel == 1023
    assert decoded(explorer.maps.value).shape[1] <= 860


def test_optical_flow_has_no_frames_of_its_own():
    for build in (tsn, blvnet_tam):
        model = build(depth="tiny", num_frames=4, num_classes=3, in_channels=10)
        explorer = BranchExplorer(model, torch.randn(4, 10, 32, 32))
        assert not any("frame" in row.name for row in explorer._rows())
        assert explorer.about.endswith("4 frames of 32x32)")


def test_maps_that_are_no_numbers_are_blank():
    model = shipped("blvnet_tam")
    torch.nn.init.constant_(model.stage1.big[0].conv1.weight, torch.nan)
    explorer = BranchExplorer(model, a_clip())
    explorer.stage.value = "stage1"
    little, big = enlarged_tiles(explorer)[1], enlarged_tiles(explorer)[3]
    assert (big == big[0, 0]).all() and len(np.unique(little)) > 10
