"""Clips with several labels: in files, in training, in evaluation, in published lists."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from fractions import Fraction
from itertools import product
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from listing import findings, listed, rows
from test_published import CHARADES, MINIATURES, lay_out, video  # noqa: F401 (a fixture)
from videos import draw, write_video

from blvnet_lab.data import ClipDataset, DataSet
from blvnet_lab.data.dataset import load_clips
from blvnet_lab.data.dataset_files import by_class
from blvnet_lab.deploy.variants import export_file
from blvnet_lab.models import load_model, tsn
from blvnet_lab.runs.compare import Beside
from blvnet_lab.runs.evaluate import evaluate_file
from blvnet_lab.runs.features import extract_features
from blvnet_lab.runs.predict import OverTime, predict_video
from blvnet_lab.runs.staircase import run_staircase
from blvnet_lab.runs.train import train
from blvnet_lab.training.checkpoint import load_trained
from blvnet_lab.training.engine import fit, train_one_epoch
from blvnet_lab.training.evaluation import Predictions, predictions_table, standard_scores
from blvnet_lab.training.metrics import average_precisions, per_class_scores
from blvnet_lab.training.recipe import Augmentation, Network, Output, Recipe
from blvnet_lab.viz import training_figure
from blvnet_lab.weights.hub import model_card

HEAD = "path,label,class_name,split\n"
MIXED = HEAD + "a.mp4,2;0,up;left,train\nb.mp4,1,right,train\nc.mp4,3,none,train\n"


def put(folder: Path, text: str) -> Path:
    (folder / "manifest.csv").write_text(text)
    return folder / "manifest.csv"


def test_one_separator_makes_all_clips_such_with_several_labels(tmp_path):
    found = DataSet.read(put(tmp_path, MIXED))
    assert found.multi_label and found.classes == ("left", "right", "up", "none")
    assert found.split("train").multi_label and found.with_rows(found.rows[1:2]).multi_label
    # A part of it in which every clip has one label still says so in its own file.
    part = found.with_rows(found.rows[1:].assign(label=["0", "1"]))
    again = DataSet.read(part.save(tmp_path / "part.csv"))
    assert (tmp_path / "part.csv").read_text().splitlines()[1] == "b.mp4,0;,right,train,ok"
    assert again.multi_label and again.classes == ("right", "none")
    whole = DataSet.read(found.save(tmp_path / "whole.csv"))
    assert whole.names == found.names and whole.rows["label"].tolist() == ["2;0;", "1;", "3;"]
    pd.testing.assert_frame_equal(DataSet.read(whole.save(tmp_path / "b.csv")).rows, whole.rows)


def test_a_name_with_the_separator_is_one_name_where_labels_are_single(tmp_path):
    found = DataSet.read(put(tmp_path, HEAD + "a.mp4,0,up; down,train\n"))
    assert not found.multi_label and found.classes == ("up; down",)
    assert found.rows["label"].dtype == "int64"


def test_labels_that_cannot_be(tmp_path):
    for row, words in (
        ("d.mp4,0;one,left;right,train", r'";" between whole numbers .*as many class names.*one'),
        ("d.mp4,0;1.5,left;right,train", r"between whole numbers"),
        ("d.mp4,0;1,left,train", r"as many .*, got '0;1' and 'left' of .*d\.mp4"),
        ("d.mp4,;,;,train", r"between whole numbers"),
        ("d.mp4,0;2,left;right,train", r"expected label 2 to be up in every row.*got right"),
        ("d.mp4,0;-1,left;right,train", r"numbers from 0 on in the column label"),
        ("a.mp4,1;0,right;left,train", r"expected every video in one row, got two of .*a\.mp4"),
    ):
        with pytest.raises(ValueError, match=words):
            DataSet.read(put(tmp_path, f"{MIXED}{row}\n"))


def test_targets_and_their_mirror_images(tmp_path):
    for number, name in enumerate("abc"):
        pictures = [draw(4 * number + t, (64, 112)) for t in range(4)]
        write_video(tmp_path / f"{name}.mp4", 4, pictures=pictures)
    classes = "label,class_name,mirror\n0,left,1\n1,right,0\n2,up,2\n3,none,\n"
    (tmp_path / "classes.csv").write_text(classes)
    text = MIXED.replace("3,none", "1;3,right;none")
    data_set = DataSet.read(put(tmp_path, text))
    clips = ClipDataset(data_set, "train", 4, lambda frames: frames, mirror=True)
    assert clips.labels.tolist() == [[1, 0, 1, 0], [0, 1, 0, 0], [0, 1, 0, 1]]
    plain, seen = ClipDataset(data_set, "train", 4, lambda frames: frames), set()
    torch.manual_seed(0)
    for i in [0, 1, 2] * 12:
        (frames, target), (before, target_before) = clips[i], plain[i]
        assert target.dtype == torch.float32
        is_flipped = torch.equal(frames, before.flip(-1))
        assert is_flipped or torch.equal(frames, before)
        seen.add((i, is_flipped))
        expected = target_before[[1, 0, 2, 3]] if is_flipped else target_before
        assert torch.equal(target, expected)
    assert seen == {(0, False), (0, True), (1, False), (1, True), (2, False)}, "none has no mirror"
    for use in (lambda: load_clips(data_set, "train", 4, None), lambda: data_set.one_label("x")):
        with pytest.raises(ValueError, match=r"one label each.*manifest\.csv may have several"):
            use()


def by_thresholds(scores: list[int], hits: list[bool]) -> Fraction:
    """Average precision from the curve: gains of recall times precision, a step a threshold."""
    area, recall = Fraction(0), Fraction(0)
    for limit in sorted(set(scores), reverse=True):
        taken = [hit for score, hit in zip(scores, hits, strict=True) if score >= limit]
        precision, now = Fraction(sum(taken), len(taken)), Fraction(sum(taken), sum(hits))
        area, recall = area + (now - recall) * precision, now
    return area


@pytest.mark.parametrize("values", [3, 1000])  # with ties, and (nearly) none
def test_average_precision_is_that_of_the_curve(values):
    generator = torch.Generator().manual_seed(0)
    logits = torch.randint(values, (40, 6), generator=generator).float()
    labels = (torch.rand(40, 6, generator=generator) < 0.3).float()
    labels[:, 5] = 0
    found = average_precisions(logits, labels)
    for k in range(5):
        expected = by_thresholds(logits[:, k].tolist(), labels[:, k].bool().tolist())
        assert found[k].item() == pytest.approx(float(expected), abs=1e-12)
    assert found[5].isnan(), "no clip of the class: in no mean"
    predictions = Predictions(logits, labels, torch.arange(40), {})
    scores = standard_scores(predictions)
    assert scores["map"] == pytest.approx(found[:5].mean().item())
    same = standard_scores(replace(predictions, logits=torch.zeros(40, 6)))
    assert same["map"] == pytest.approx(scores["constant"]) == labels[:, :5].mean().item()
    assert {type(value) for value in scores.values()} == {float}, "a checkpoint can hold them"


def test_tables_by_hand():
    logits = torch.tensor([[2.0, -1.0, 0.0], [0.0, 1.0, 3.0], [1.0, 2.0, -2.0]])
    labels = torch.tensor([[1.0, 0.0, 1.0], [1.0, 0.0, 0.0], [0.0, 1.0, 0.0]])
    table = per_class_scores(logits, labels, ["a", "b", "c"])
    assert table.values.tolist() == [["a", 2, pytest.approx(5 / 6)], ["b", 1, 1.0], ["c", 1, 0.5]]
    found = Predictions(logits[1:], labels[1:], torch.tensor([1, 2]), {0: "broken"})
    table = predictions_table(found, [*"abc"], ["x", "y", "z"], labels.bool().numpy())
    assert list(table)[:4] == ["path", "class_name", "label", "predicted"]
    assert table["class_name"].tolist() == ["a;c", "a", "b"]
    assert table["label"].tolist() == ["0;2", "0", "1"]
    assert table["predicted"].fillna("").tolist() == ["", "c", "b"]
    assert table["right"][1:].tolist() == [False, True] and table["rank"][1:].tolist() == [3, 1]
    expected = [0.952574, 0.880797]  # sigmoids of 3 and 2
    assert table["probability_1"][1:].tolist() == pytest.approx(expected, abs=1e-6)
    assert table["unreadable"].tolist() == ["broken", "", ""]


class Vectors(torch.utils.data.Dataset):
    """Clips of noise with given labels (N, num_classes), or (N,)."""

    def __init__(self, labels: torch.Tensor):
        self.labels, self.multi_label = labels, labels.ndim == 2

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, i: int):
        generator = torch.Generator().manual_seed(i)
        return torch.randn(2, 3, 32, 32, generator=generator), self.labels[i]


def test_the_loss_is_binary_cross_entropy_of_every_class(tmp_path):
    labels = torch.tensor([[1.0, 0, 1], [0, 0, 1]])
    model = tsn(depth="tiny", num_frames=2, num_classes=3, dropout=0.0)
    torch.nn.init.normal_(model.classifier.weight, std=0.5)
    clips = torch.stack([Vectors(labels)[i][0] for i in range(2)])
    with torch.no_grad():
        chances = model.train()(clips).double().sigmoid()
    expected = -(labels * chances.log() + (1 - labels) * (1 - chances).log()).mean()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
    steady = torch.optim.lr_scheduler.ConstantLR(optimizer, 1.0)
    options = {"optimizer": optimizer, "scheduler": steady, "device": torch.device("cpu")}
    loss = train_one_epoch(model, [(clips, labels)], **options)
    assert loss == pytest.approx(expected.item(), rel=1e-5)
    with pytest.raises(ValueError, match=r"labels from 0 to 2, got 0 to 4"):
        train_one_epoch(model, [(clips, torch.zeros(2, 5))], **options)
    mixed = Recipe(augmentation=Augmentation(mixup=1.0))  # of vectors, too
    assert np.isfinite(train_one_epoch(model, [(clips, labels)], recipe=mixed, **options))


def test_a_trained_network_knows_how_many_labels_a_clip_may_have():
    model = tsn(depth="tiny", num_frames=2, num_classes=3)
    for clips in (Vectors(torch.eye(3)), Vectors(torch.arange(3))):
        fit(model, clips, clips, Recipe(epochs=1, batch_size=3, num_frames=2, size=(32, 32)))
        assert model.multi_label == clips.multi_label


def test_settings_that_mean_nothing_for_several_labels():
    model, clips = tsn(depth="tiny", num_frames=2, num_classes=3), Vectors(torch.eye(3))
    for setting in ({"balanced": True}, {"label_smoothing": 0.1}):
        with pytest.raises(ValueError, match=r"label_smoothing=0, as the clips may have several"):
            fit(model, clips, clips, Recipe(batch_size=2, num_frames=2, size=(32, 32), **setting))


NAMES = ("dark", "bright", "still", "flickers")
RECIPE = Recipe(
    epochs=6, batch_size=8, rate_batch=8, num_frames=4, size=(32, 32), ema=0.9,
    network=Network(architecture="tsn"),
)  # fmt: skip


@pytest.fixture(scope="module")
def manifest(tmp_path_factory) -> Path:
    """Clips that are dark or bright, and still or not; some are only known to be one thing."""
    folder, table = tmp_path_factory.mktemp("set"), []
    rng = np.random.default_rng(0)
    for number, (bright, flickers) in enumerate([*product((0, 1), repeat=2)] * 8):
        level = 60 + 110 * bright + 60 * flickers * (np.arange(8) % 2)
        pictures = (level[:, None, None, None] + rng.normal(0, 20, (8, 32, 48, 3))).clip(0, 255)
        pictures = [*pictures.astype(np.uint8)]
        write_video(folder / f"{number}.mp4", 8, size=(32, 48), pictures=pictures)
        labels = [bright, 2 + flickers][: 1 if number % 16 == 5 else 2]
        names = ";".join(NAMES[label] for label in labels)
        split = "val" if number % 8 >= 4 else "train"
        table.append((f"{number}.mp4", ";".join(map(str, labels)), names, split))
    return put(folder, HEAD + "".join(",".join(row) + "\n" for row in table))


@pytest.fixture(scope="module")
def run(manifest, tmp_path_factory):
    return train(manifest, Output(tmp_path_factory.mktemp("run") / "run"), RECIPE)


def test_training_learns_and_keeps_the_best_epoch(run, manifest):
    history, folder = run.fitted.history, run.file.parent
    assert 0.45 < history[0]["constant"] < 0.55 and {"map", "raw_map"} <= history[0].keys()
    best = max(line["map"] for line in history)
    assert best > 0.9, "far above what the same answer to all clips reaches"
    assert history[-1]["train_loss"] < history[0]["train_loss"] < 1.5
    evaluation = evaluate_file(run.file, manifest, out=folder / "eval")
    assert evaluation.scores["map"] == pytest.approx(best, abs=1e-6)
    assert run.trained.multi_label and load_trained(run.file).multi_label
    best_yet = load_trained(folder / "best.pt")
    assert best_yet.multi_label
    models = (run.trained.model, best_yet.model, load_trained(run.file).model, load_model(run.file))
    assert all(model.multi_label for model in models)
    curves = [line.get_label() for line in training_figure(history).axes[1].lines]
    assert curves == ["map"]
    other = manifest.with_name("other.csv")
    other.write_text(manifest.read_text().replace("1.mp4,0;3,dark;flickers", "1.mp4,0;,dark"))
    with pytest.raises(ValueError, match=r"got other labels of train"):
        train(other, Output(folder, resume=True), RECIPE)


def test_evaluation_says_and_writes_what_there_is(run, manifest, tmp_path):
    found = evaluate_file(run.file, manifest, out=tmp_path / "one")
    text = str(found)
    assert re.match(r"mAP \d+\.\d\d %, with the same answer to all clips \d+\.\d\d %\n", text)
    assert "classes with the lowest average precision, of 4" in text and "confusion" not in text
    written = {path.name for path in (tmp_path / "one").iterdir()}
    assert written == {"scores.json", "predictions.csv", "per_class.csv"}
    table = pd.read_csv(tmp_path / "one" / "per_class.csv")
    labels = DataSet.read(manifest).split("val").rows["label"]
    assert table["clips"].sum() == sum(len(label.split(";")) for label in labels)
    assert table["average_precision"].mean() == pytest.approx(found.scores["map"], abs=1e-5)
    rows = DataSet.read(manifest).rows
    some = DataSet(rows[rows["label"].str.contains("1")]).save(tmp_path / "some.csv")
    assert "dark" not in some.read_text(), "the manifest names three of the four classes"
    fewer = evaluate_file(run.file, some)
    assert fewer.per_class["class_name"].tolist() == [*NAMES[1:]]
    bright = found.table.query("class_name.str.contains('bright')").reset_index(drop=True)
    pd.testing.assert_frame_equal(fewer.table, bright)


def test_probabilities_are_of_each_class_by_itself(run, manifest, tmp_path):
    row = DataSet.read(manifest).split("val").rows.iloc[0]
    found = predict_video(run.file, row["path"], OverTime(0.1, 0.3), top=4)
    table = evaluate_file(run.file, manifest).table.query("path == @row.path")
    shares = found.table.set_index("class_name")["probability"]
    assert shares.iloc[0] == pytest.approx(table["probability_1"].iloc[0], abs=1e-5)
    assert abs(shares.sum() - 1) > 0.05 and "a probability of its own" in str(found)
    assert (found.timeline.sum(axis=1) - 1).abs().max() > 0.05


def test_an_exported_network_and_its_card_say_that_it_gives_several_labels(run, manifest, tmp_path):
    evaluate_file(run.file, manifest, out=tmp_path)
    card = model_card(run.file, evaluation=tmp_path)
    assert "\n- classes, of which a clip may have several: " in card and "\n- mAP: " in card
    assert "accuracy" not in card
    notes = {"notes.json": ""}
    path = export_file(run.file, tmp_path / "a.pt2", size=(32, 32)).path
    torch.export.load(path, extra_files=notes)
    assert json.loads(notes["notes.json"])["multi_label"] is True


def test_what_is_refused(run, manifest, tmp_path):
    single = tmp_path / "single.csv"
    lines = DataSet.read(manifest).rows
    lines["label"] = np.arange(len(lines)) % 2
    DataSet(lines.assign(class_name=lines["label"].map({0: "dark", 1: "bright"}))).save(single)
    other = train(single, Output(tmp_path / "other"), replace(RECIPE, epochs=1)).file
    playing, out = Beside(playing=("reversed",)), tmp_path / "f.safetensors"
    for use, words in (
        (lambda: evaluate_file(run.file, manifest, playing), "for --playing and --against, but"),
        (lambda: evaluate_file(run.file, single), r"clips with one label, .* for several labels"),
        (lambda: evaluate_file(other, manifest), r"clips with several labels, .* for one label"),
        (lambda: extract_features(run.file, manifest, out=out), "one label each, for features"),
        (lambda: run_staircase(out=tmp_path / "s", manifest=manifest), "for a staircase, but"),
    ):
        with pytest.raises(ValueError, match=words):
            use()
    found = extract_features(run.file, single, out=out)  # its classes are others
    trained = found.network()
    assert not trained.multi_label and trained.notes["init"] == "run/model.safetensors"
    assert trained.notes["clips"] == {"train": 16, "val": 16}, "of the features"


def test_whole_videos_of_charades_have_all_their_labels(video, tmp_path):  # noqa: F811
    lists, videos, *_ = MINIATURES["charades"]
    twice = lists["Charades_v1_test.csv"].replace("c000 0.10 1.30", "c001 3 4;c001 0.1 1.3")
    lay_out(tmp_path / "set", lists | {"Charades_v1_test.csv": twice}, videos, video)
    found = listed("charades-videos", tmp_path / "set", tmp_path / "out")
    one, other = "Holding some clothes", "Putting clothes, somewhere"
    assert rows(found.manifest, "path", "label", "class_name", "split") == [
        ("46GP8.mp4", "0;1;", f"{one};{other}", "train"), ("YSKX3.mp4", "1;", other, "val"),
    ]  # fmt: skip
    assert DataSet.read(found.manifest).rows["part_start"].isna().all()
    assert ("row without label", "train", "N11GT") in findings(found)
    some = listed("charades-videos", tmp_path / "set", tmp_path / "some", classes=[f'"{other}"'])
    labels = rows(some.manifest, "path", "label", "class_name")
    assert labels == [("46GP8.mp4", "0;", other), ("YSKX3.mp4", "0;", other)]
    with pytest.raises(ValueError, match=r"all clips, as they have several labels, got 1 a class"):
        listed("charades-videos", tmp_path / "set", tmp_path / "out", clips_per_class=1)


def test_multi_moments_in_time(video, tmp_path):  # noqa: F811
    lists = {
        "moments_categories.txt": "adult+male+singing,1\nclapping,0\nrunning,2\n",
        "trainingSet.csv": "clapping/a.mp4,2,0\nb.mp4,1\n",
        "validationSet.csv": '"clapping/c, d.mp4",1,2\n',
    }
    videos = ["training/clapping/a.mp4", "videos/b.mp4", "videos/clapping/c, d.mp4"]
    lay_out(tmp_path / "set", lists, videos, video)
    found = listed("multi-moments-in-time", tmp_path / "set", tmp_path / "out")
    assert rows(found.manifest, "path", "class_name", "label", "split") == [
        ("a.mp4", "running;clapping", "2;0;", "train"),
        ("b.mp4", "adult+male+singing", "1;", "train"),
        ("c, d.mp4", "adult+male+singing;running", "1;2;", "val"),
    ]


@pytest.mark.parametrize("numbers", [False, True])
def test_lists_of_ones_own(numbers, video, tmp_path):  # noqa: F811
    names = [f"v{k}/{k}.mp4" for k in range(7)]
    labels = ["1; 0", "2", "0;2", "1", "2;1", "0", "0;1;2"]  # no two are alike
    lines = "".join(f"{name} {label}\n" for name, label in zip(names, labels, strict=True))
    if not numbers:
        lines = re.sub(r"(?<=[; ])\d", lambda m: ("hop", "run", "up")[int(m[0])], lines)
    lay_out(tmp_path / "set", {"list.txt": lines}, names, video)
    for k, name in enumerate(names):  # equal files are of one source
        with (tmp_path / "set" / name).open("ab") as file:
            file.write(b"\0\0\0\x09free" + bytes([k]))
    annotations = tmp_path / "set" / "list.txt"
    wishes = {"annotations": annotations, "source": "(.+)", "val_share": 0.5}
    made = listed("list", tmp_path / "set", tmp_path / "out", **wishes)
    assert not any("class without" in kind for kind, *_ in findings(made))
    found = DataSet.read(made.manifest)
    assert found.multi_label and len(found.classes) == 3
    assert found.rows["label"].tolist() == [f"{text.replace(' ', '')};" for text in labels]
    each = by_class(found.rows)
    shares = pd.crosstab(each["label"], each["split"])
    assert shares.shape == (3, 2) and (shares > 0).all(axis=None), "every class is in both"


def test_a_class_that_the_list_does_not_know_is_answered_with_near_ones(tmp_path):
    lists = {"jester-v1-labels.csv": "Stop Sign\nThumb Up\n", "jester-v1-train.csv": "1;Stop Sing"}
    lay_out(tmp_path, lists, [], {})
    with pytest.raises(ValueError, match=r"got 'Stop Sing'.*did you mean Stop Sign\?"):
        listed("jester", tmp_path, tmp_path / "out")
