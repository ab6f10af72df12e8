"""`evaluate --playing` and `--against`: clips in other orders, two networks on the same clips."""

import itertools
import json

import numpy as np
import pandas as pd
import pytest
import torch
from lab import type_command

from blvnet_lab.data import DataSet, probe_video, read_frames, sample_views, view_transform
from blvnet_lab.datasets.motion import CLASSES, KINDS
from blvnet_lab.introspect.influence import frame_orders
from blvnet_lab.paths import data_samples
from blvnet_lab.runs.compare import Beside, compare_answers, mean_over_videos, playing_table
from blvnet_lab.runs.evaluate import evaluate_file
from blvnet_lab.training.checkpoint import load_trained
from blvnet_lab.training.evaluation import Predictions

NETWORKS = data_samples() / "checkpoints"
ORDERS = ("reversed", "halves", "shuffled", "frozen")
T = torch.arange(8)
FRAMES = {"as-is": T, "reversed": T.flip(0), "frozen": torch.full((8,), 4)}
FRAMES["halves"] = torch.tensor([4, 5, 6, 7, 0, 1, 2, 3])
FRAMES["shuffled"] = frame_orders(8)["frames shuffled"]


@pytest.fixture(scope="module")
def manifest(tmp_path_factory):
    """Two clips of each class, of which nobody knows that the first one cannot be read."""
    shipped = DataSet.read(data_samples() / "motion" / "manifest.csv").split("val")
    rows = shipped.rows.groupby("label").head(2)
    folder = tmp_path_factory.mktemp("few")
    (folder / "broken.mp4").write_bytes(b"no video")
    rows.loc[rows.index[0], "path"] = str(folder / "broken.mp4")
    return shipped.with_rows(rows).save(folder / "manifest.csv")


def table_of(name, manifest, **options):
    found = evaluate_file(NETWORKS / f"{name}.safetensors", manifest, Beside(ORDERS), **options)
    return found, found.playing.set_index(["measure", "class_name", "playing"])["share"]


def test_orders_of_several_views_are_what_a_loop_by_hand_finds(manifest):
    found, table = table_of("blvnet", manifest, views="2x3")
    model = load_trained(NETWORKS / "blvnet.safetensors").model.eval()
    turned = {k: k ^ (KINDS[name] == "direction") for k, name in enumerate(CLASSES)}
    hits = {name: {measure: [] for measure in range(3)} for name in FRAMES}
    for row in DataSet.read(manifest).rows.iloc[1:].itertuples():
        info = probe_video(row.path)
        clips = [read_frames(info, clip) for clip in sample_views(info.num_frames, 8, 2)]
        views = torch.cat([view_transform((64, 64), 3)(clip) for clip in clips])
        for name, order in FRAMES.items():
            with torch.no_grad():
                logits = torch.stack([model(view[order][None])[0] for view in views]).mean(0)
            best, label = logits.argmax().item(), row.label
            is_surer = (logits[label] > logits[label ^ 1]).item()
            for k, hit in enumerate((best == label, is_surer, best == turned[label])):
                hits[name][k].append(hit)
    for k, measure in enumerate(("top-1", "between partners", "as if reversed")):
        for name in FRAMES:
            assert table[measure, "(all)", name] == pytest.approx(np.mean(hits[name][k]), abs=1e-4)
    for score, measure in (("top_1", "top-1"), ("partners", "between partners")):
        assert found.scores[score] == pytest.approx(table[measure, "(all)", "as-is"], abs=1e-4)


def test_what_order_gives_to_networks_that_see_frames_or_pairs(manifest):
    _, blind = table_of("tsn", manifest)
    blind = blind.unstack()
    assert (blind["as-is"] == blind["reversed"]).all()
    assert (blind["as-is"] == blind["shuffled"]).all() and (blind["as-is"] != blind["frozen"]).any()
    _, pairs = table_of("blvnet", manifest)
    as_is, halves = (pairs.xs(order, level="playing") for order in ("as-is", "halves"))
    assert (as_is == halves).all() and (as_is.loc["top-1"] < 1).any(), "the same pairs of frames"
    for name in CLASSES[:6]:  # directions
        assert [pairs["top-1", name, order] for order in ("as-is", "reversed")] == [1, 0]
        assert [pairs["as if reversed", name, order] for order in ("as-is", "reversed")] == [0, 1]


@pytest.mark.parametrize("added, values", [((0, 0, 1, 1), (0, 1)), ((-1, 1), (-1, 0, 1))])
def test_intervals_over_videos(added, values):
    """Formulas for independent clips; copies of clips add nothing; 95 of 100 hold the truth."""
    rng = np.random.default_rng(0)
    for n in (1, 7, 300):
        x = rng.choice(values, n)
        with_added = np.append(x, added)
        middle, share = with_added.mean(), (with_added == 1).mean()
        spread = share * (1 - share)
        if -1 in values:  # of b and c clips: Bonett and Price's
            b, c, count = *((with_added == k).sum() for k in (1, -1)), n + 2
            spread = ((b + c) - (b - c) ** 2 / count) / count
        width = 1.96 * (spread / (n + len(added))) ** 0.5
        ends = max(middle - width, min(added)), min(middle + width, 1)
        for copies in (1, 3):
            clips = pd.Series(np.repeat(x, copies)), pd.Series(np.repeat(np.arange(n), copies))
            assert mean_over_videos(*clips, added) == pytest.approx((x.mean(), *ends))
    held = []
    for _ in range(400):
        videos = np.repeat(np.arange(40), rng.integers(1, 5, 40))
        same, own = rng.choice(values, 40)[videos], rng.choice(values, len(videos))
        x = np.where(rng.random(40)[videos] < 0.8, same, own)
        _, low, high = mean_over_videos(pd.Series(x), pd.Series(videos), added)
        held.append(low <= np.mean(values) <= high)
    assert 0.92 <= np.mean(held) <= 0.98


def answers(right: list[int], indices=None) -> Predictions:
    labels = torch.tensor([k % 3 for k in range(len(right))])
    logits = torch.eye(3)[torch.where(torch.tensor(right) > 0, labels, (labels + 1) % 3)]
    return Predictions(logits, labels, torch.tensor(indices or [*range(len(right))]), {})


@pytest.mark.parametrize("clips_per_video", [1, 2])
def test_paired_test_is_what_flipping_every_sign_gives(clips_per_video):
    """Of all ways to swap the networks' names in a video, how many look at least as one-sided?"""
    rng = np.random.default_rng(clips_per_video)
    for share in (0.3, 0.6, 1.0):
        a, b = rng.random(16) < 0.7 * share, rng.random(16) < 0.7
        videos = pd.Series(np.arange(16) // clips_per_video, name="anything")
        found = compare_answers(answers([*a]), answers([*b]), videos)
        signs = np.sign(np.add.reduceat(a * 1 - b, np.arange(0, 16, clips_per_video)))
        signs = signs[signs != 0]
        flips = [abs(np.dot(s, signs)) for s in itertools.product((-1, 1), repeat=len(signs))]
        assert found["p"] == pytest.approx(np.mean(np.array(flips) >= abs(signs.sum())))
        assert (found["videos_better"], found["videos_worse"]) == (sum(signs > 0), sum(signs < 0))
        assert found["top_1"][0] == pytest.approx(a.mean(), abs=1e-4)
        assert found["difference"][0] == pytest.approx(a.mean() - b.mean(), abs=1e-4)
        low, high = found["difference"][1:]
        assert -1 <= low < high <= 1


def test_clips_that_one_network_could_not_read_are_not_compared():
    videos = pd.Series(["a", "a", "b", "c"])
    found = compare_answers(answers([1, 1, 1], [0, 1, 3]), answers([0, 1, 0], [1, 2, 3]), videos)
    assert (found["clips"], found["videos_better"], found["p"]) == (2, 2, 0.5)
    same = compare_answers(answers([1, 0]), answers([1, 0]), videos)
    assert (same["p"], same["difference"][0]) == (1.0, 0.0) and same["difference"][1] < 0


def test_classes_without_partner_or_reversal_are_left_out():
    clips = pd.DataFrame({"class_name": ["a", "b", "c"], "video": ["v", "v", "w"]})
    table = playing_table({"as-is": answers([1, 0, 1])}, clips, torch.tensor([1, 0, 2]), [None] * 3)
    counts = table.set_index(["measure", "class_name"])["clips"].to_dict()
    assert counts == {
        ("top-1", "(all)"): 3, ("between partners", "(all)"): 2,
        **{("top-1", name): 1 for name in "abc"}, **{("between partners", k): 1 for k in "ab"},
    }  # fmt: skip


def test_command(manifest, tmp_path, monkeypatch, capsys):
    words = ["evaluate", NETWORKS / "tsm.safetensors", manifest, "--out", tmp_path, "--playing"]
    words += ["reversed", "as-is", "--against", NETWORKS / "tsn.safetensors"]
    type_command(monkeypatch, *words)
    printed = capsys.readouterr().out
    for text in ("between partners", "tsn.safetensors", "difference", "playing.csv are in"):
        assert text in printed
    table = pd.read_csv(tmp_path / "playing.csv")
    assert [*dict.fromkeys(table["playing"])] == ["as-is", "reversed"]
    scores = json.loads((tmp_path / "scores.json").read_text())
    assert (scores["comparison"]["clips"], scores["comparison"]["videos"]) == (19, 10)
    other = evaluate_file(NETWORKS / "tsn.safetensors", manifest).scores["top_1"]
    found = [scores["comparison"][name][0] for name in ("top_1", "top_1_of_other", "difference")]
    assert found == pytest.approx([scores["top_1"], other, scores["top_1"] - other], abs=1e-4)
