"""The logits of every clip, on one process and on several; `evaluate` and `predict`."""

import json
import shlex
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from lab import type_command
from PIL import Image
from torch import nn
from torch.utils.data import Dataset, TensorDataset
from training_process import Task, places, started
from videos import read_number, shown_by_ffmpeg, write_shown, write_video

from blvnet_lab import cli
from blvnet_lab.data import (
    DataSet,
    VideoReadError,
    mirror_labels,
    probe_video,
    read_frames,
    sample_views,
    view_transform,
)
from blvnet_lab.datasets.motion import CLASSES, write_dataset
from blvnet_lab.models import save_model, tsn
from blvnet_lab.runs import predict as predicting
from blvnet_lab.runs.evaluate import Computing, evaluate_file, load_with_views
from blvnet_lab.runs.predict import predict_video, write_annotated
from blvnet_lab.runs.train import clip_datasets
from blvnet_lab.training import distributed
from blvnet_lab.training.checkpoint import Trained, save_trained
from blvnet_lab.training.distributed import TORCHRUN, Ranks, process_group, rank_in_group
from blvnet_lab.training.engine import build
from blvnet_lab.training.evaluation import (
    Predictions,
    Stopped,
    evaluate,
    predictions_table,
    standard_scores,
)
from blvnet_lab.training.metrics import confusion_matrix, ranked, top_k_accuracy
from blvnet_lab.training.recipe import Hardware, Network, Recipe, Views

CPU = torch.device("cpu")


# ---------------------------------------------------------------- evaluate
class Known(Dataset):
    """Clips that are the logits to be given, (N, num_classes) or, with views, (N, V, ...)."""

    def __init__(self, logits: torch.Tensor, broken: tuple[int, ...] = ()):
        self.clips = logits[..., None, None, None, :]  # (N, [V,] T=1, C=1, H=1, W=num_classes)
        self.labels = (torch.arange(len(logits)) * 7 % logits.shape[-1]).tolist()
        self.broken = broken

    def __len__(self) -> int:
        return len(self.clips)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        if index in self.broken:
            raise VideoReadError(f"clip {index} is broken")
        return self.clips[index], self.labels[index]


class Reads(nn.Module):
    """Returns the clips' logits; remembers the sizes of its batches."""

    def __init__(self):
        super().__init__()
        self.sizes = []

    def forward(self, clip: torch.Tensor) -> torch.Tensor:
        assert clip.ndim == 5
        self.sizes.append(len(clip))
        return clip[:, 0, 0, 0]


def noise(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def evaluated(dataset: Dataset, **options) -> Predictions:
    return evaluate(Reads(), dataset, device=CPU, **options)


@pytest.fixture
def as_rank(monkeypatch):
    name = "blvnet_lab.training.evaluation.current_ranks"
    return lambda ranks: monkeypatch.setattr(name, lambda: ranks)


def same(one: Predictions, other: Predictions) -> bool:
    pairs = zip(vars(one).values(), vars(other).values(), strict=True)
    return all(torch.equal(a, b) if isinstance(a, torch.Tensor) else a == b for a, b in pairs)


@pytest.mark.parametrize("batch_size, workers", [(1, 0), (4, 2), (100, 0)])
@pytest.mark.parametrize("broken", [(), (0, 4, 5, 6, 7, 10)])  # first, last, and a batch of four
def test_predictions_come_in_order_without_unreadable_clips(broken, batch_size, workers):
    logits, good = noise(11, 5), [index for index in range(11) if index not in broken]
    dataset = Known(logits, broken)
    found = evaluated(dataset, batch_size=batch_size, hardware=Hardware(workers=workers))
    assert torch.equal(found.logits, logits[good]) and found.logits.dtype == torch.float32
    assert found.indices.tolist() == good
    labels = torch.tensor([dataset.labels[index] for index in good])
    assert torch.equal(found.labels, labels) and found.labels.dtype == torch.int64
    assert found.unreadable == {index: f"clip {index} is broken" for index in broken}


def test_labels_of_a_small_kind_of_integer_and_nothing_to_evaluate():
    """The 10,000 places of a confusion matrix are more than a uint8 can count."""
    logits, labels = noise(4, 100), torch.tensor([1, 3, 7, 99], dtype=torch.uint8)
    found = evaluated(TensorDataset(logits[:, None, None, None], labels))
    true, _ = confusion_matrix(found.logits, found.labels).nonzero(as_tuple=True)
    assert true.tolist() == [1, 3, 7, 99]
    with pytest.raises(ValueError, match=r"not one of the 3 could be read: see whether"):
        evaluated(Known(noise(3, 2), (0, 1, 2)))
    with pytest.raises(ValueError, match="expected batch_size to be positive, got 0"):
        evaluated(Known(noise(3, 2)), batch_size=0)


@dataclass(frozen=True)
class OneOf(Ranks):
    """A rank among others that do not run: it hears what `others` say, and notes what it says."""

    gathered: list = field(default_factory=list)
    others: list = field(default_factory=list)
    stopped: bool = False

    def gather(self, value):
        self.gathered.append(value)
        return [*self.others, value]

    def any(self, *flags):
        return tuple(flag or self.stopped for flag in flags)


@pytest.mark.parametrize("world", [1, 3, 9])  # 7 clips: also fewer than ranks
@pytest.mark.parametrize("broken", [(), (0, 3)])
def test_ranks_share_the_clips_without_padding_or_duplicates(world, broken, as_rank):
    dataset = Known(noise(7, 4), broken)
    alone, parts = evaluated(dataset), []
    for rank in range(world - 1, 0, -1):  # they may answer in any order
        ranks, model = OneOf(rank, world), Reads()
        said = [(torch.zeros(1, 4), torch.zeros(1), torch.tensor([99]))]
        ranks = replace(ranks, others=[(said, {})])
        as_rank(ranks)
        evaluate(model, dataset, batch_size=2, device=CPU)
        (part,) = ranks.gathered
        read = [index for _, _, indices in part[0] for index in indices.tolist()]
        assert sum(model.sizes) == len(read) <= -(-7 // world), "no clip is evaluated for nothing"
        parts.append(part)
    last = OneOf(0, world, others=parts)
    as_rank(last)
    found = evaluated(dataset, batch_size=2)
    batches = [batch for part, _ in [*parts, *last.gathered] for batch in part]
    read = sorted(index for batch in batches for index in batch[2].tolist())
    assert read == [index for index in range(7) if index not in broken], "each once"
    assert same(found, alone)


def test_views_are_averaged_before_the_softmax():
    views, model = noise(5, 6, 5) * 4, Reads()  # clips, views, classes
    found = evaluate(model, Known(views), batch_size=13, device=CPU)
    assert model.sizes == [12, 12, 6], "a batch counts views"
    expected = torch.stack([sum(clip.double()) / 6 for clip in views])
    torch.testing.assert_close(found.logits.double(), expected, rtol=0, atol=1e-6)
    again = evaluate(model, Known(views), batch_size=4, device=CPU)
    assert same(again, found) and model.sizes[3:] == [4, 2] * 5, "never more than it allows"
    # One view is sure of class 0, two lean to class 1: averaging probabilities would give 1.
    views = torch.tensor([[[10.0, 0.0], [0.0, 4.0], [0.0, 4.0]]])
    assert views.softmax(-1).mean(1).argmax().item() == 1
    assert evaluated(Known(views)).logits.argmax().item() == 0


def test_means_over_views_keep_their_precision_in_bfloat16():
    # The logits are exact in bfloat16; their mean is not.
    views, half = Known(torch.tensor([[[1.0, 0.0], [1.0, 0.0], [1.0078125, 0.0]]])), Reads()
    half.register_forward_hook(lambda *call: call[2].bfloat16())
    for model in (Reads(), half):
        found = evaluate(model, views, device=CPU, hardware=Hardware(precision="bfloat16"))
        assert found.logits[0, 0].item() == pytest.approx(1 + 0.0078125 / 3, abs=1e-6)


def test_an_evaluation_can_be_stopped(as_rank):
    asked, model = iter([False, True]), Reads()
    with pytest.raises(Stopped):
        evaluate(model, Known(noise(9, 3)), batch_size=2, device=CPU, stop=lambda: next(asked))
    assert model.sizes == [2, 2], "at once"
    evaluated(Known(noise(4, 3)), stop=lambda: False)
    as_rank(OneOf(0, 2, stopped=True))
    with pytest.raises(Stopped):  # another rank was asked to
        evaluated(Known(noise(4, 3)), stop=lambda: False)


@pytest.mark.parametrize("workers", [0, 2])
def test_no_generator_is_touched(workers):
    model = tsn(depth="tiny", num_frames=4, num_classes=3, dropout=0.5)
    before = torch.get_rng_state()
    data = [(noise(4, 3, 32, 32, seed=i), i % 3) for i in range(4)]
    evaluate(model, data, device=CPU, hardware=Hardware(workers=workers))
    assert torch.equal(before, torch.get_rng_state())


def predictions(logits: list[list[float]], labels: list[int], **others) -> Predictions:
    indices = torch.tensor(others.pop("indices", list(range(len(labels)))))
    unreadable = others.pop("unreadable", {})
    return Predictions(torch.tensor(logits), torch.tensor(labels), indices, unreadable)


def test_mean_class_accuracy_of_unbalanced_classes_by_hand():
    # Six clips of class 0, five of them right; two of class 1, none right; one of class 6, right.
    sure = torch.eye(7) + 0.01 * torch.arange(7, 0, -1)  # others follow in the order 0, 1, ...
    taken_for = [0, 0, 0, 0, 0, 3, 0, 6, 6]
    found = predictions(sure[taken_for].tolist(), [0, 0, 0, 0, 0, 0, 1, 1, 6])
    scores = standard_scores(found)
    expected = {"top_1": 6 / 9, "top_5": 1.0, "mean_class": (5 / 6 + 0 + 1) / 3}
    assert scores == pytest.approx(expected | {"largest_class": 6 / 9})
    # Class 6 comes sixth where class 3 or 0 was first.
    found = predictions(sure[[0, 3, 6, 1]].tolist(), [6, 6, 6, 5])
    assert standard_scores(found)["top_5"] == pytest.approx(1 / 4)


def test_equal_logits_count_alike_everywhere():
    """The lower label comes first: in top-1, in the confusion matrix and in the table."""
    logits = torch.randint(0, 3, (300, 40), generator=torch.Generator().manual_seed(0)).float()
    labels, names = torch.arange(300) % 40, [str(k) for k in range(40)]
    right = confusion_matrix(logits, labels).diag().sum().item()
    assert round(300 * top_k_accuracy(logits, labels)) == right
    found = predictions(logits.tolist(), labels.tolist())
    table = predictions_table(found, names, ["p"] * 300, labels.tolist())
    first = (logits == logits.max(1, keepdim=True).values).float().argmax(1)
    assert (ranked(logits)[:, 0] == first).all()
    assert table["right"].sum() == right and (table["rank"] == 1).sum() == right
    top_5 = top_k_accuracy(logits, labels, 5)
    assert (table["rank"] <= 5).mean() == pytest.approx(top_5)
    assert ranked(torch.tensor([[1.0, 2, 1, 2]])).tolist() == [[1, 3, 0, 2]]


def test_predictions_table_by_hand():
    # The probabilities of the last two are 0 in float32.
    logits = [[0.0, 2.0, 1.0, -1.0, -300.0, -400.0], [-400.0, -300.0, -1.0, 1.0, 2.0, 0.0]]
    found = predictions(logits, [2, 1], indices=[0, 2], unreadable={1: "broken, it is"})
    names, paths = list("abcdef"), ["one.mp4", "two.mp4", "three.mp4"]
    table = predictions_table(found, names, paths, [2, 5, 1])
    best = [f"{what}_{place}" for place in range(1, 6) for what in ("class", "probability")]
    first = ["path", "class_name", "label", "predicted", "right", "rank"]
    assert list(table) == [*first, *best, "unreadable"]
    assert table["path"].tolist() == paths and table["label"].tolist() == [2, 5, 1]
    assert table["class_name"].tolist() == ["c", "f", "b"]
    assert table["predicted"].fillna("-").tolist() == ["b", "-", "e"]
    assert table["right"].tolist() == [False, pd.NA, False]
    assert table["rank"].tolist() == [2, pd.NA, 5]  # of what is impossible, too
    assert table["unreadable"].tolist() == ["", "broken, it is", ""]
    shares = torch.tensor([2.0, 1.0, 0.0, -1.0]).softmax(0).tolist()
    for row, classes in ((0, "bcade"), (2, "edfcb")):
        assert [table[f"class_{place}"][row] for place in range(1, 6)] == list(classes)
        found = [table[f"probability_{place}"][row] for place in range(1, 6)]
        assert found == pytest.approx([*shares, 0.0], abs=1e-6)
    few = predictions_table(predictions([[0.0, 1.0]], [1]), ["a", "b"], ["p"], [1])
    assert list(few) == [*first, *best[:4], "unreadable"] and few["right"].tolist() == [True]


# ---------------------------------------------------------------- evaluate_file
RECIPE = Recipe(
    num_frames=4,
    size=(32, 32),
    network=Network("tsn"),
    evaluation=Views(num_clips=2, crops=3, short_side=36),
    hardware=Hardware(in_memory=True),
)


@pytest.fixture(scope="module")
def manifest(tmp_path_factory) -> Path:
    """Twenty clips of "val": one is a duplicate, two cannot be read, though nobody knows yet."""
    path = write_dataset(tmp_path_factory.mktemp("motion"), 1, 2, seed=5)
    table = pd.read_csv(path)
    (val,) = np.nonzero(table["split"] == "val")
    (path.parent / table["path"][val[0]]).write_bytes(b"no video" * 100)
    (path.parent / table["path"][val[7]]).unlink()
    table.loc[val[5], "status"] = "duplicate"
    table.to_csv(path, index=False)
    return path


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("run") / "model.safetensors"
    save_trained(Trained(network(), RECIPE, CLASSES), path)
    return path


def network(recipe: Recipe = RECIPE) -> nn.Module:
    """As if it had learned something: it is sure, and of different things."""
    model = build(recipe, 10).eval()
    nn.init.normal_(model.classifier.weight, std=2.0)
    colours = 0.5 * noise(64, 1, 3, 1, 1).expand(64, recipe.num_frames, 3, 32, 32)
    with torch.no_grad():  # else one class would stand out whatever the clip
        model.classifier.bias.copy_(-model(colours).mean(0))
    return model


@pytest.fixture
def on_cpu(monkeypatch):
    """The results of other processes, on the CPU, are compared with those of this one."""
    monkeypatch.setattr(distributed, "pick_device", lambda local_rank=0: CPU)


def by_hand(path: str, num_clips: int, crops: int) -> torch.Tensor:
    """Logits of a video in float64: every view on its own, then their mean."""
    model, info = network().double(), probe_video(path)
    views = view_transform((32, 32), crops, 36)
    logits = []
    for clip in sample_views(info.num_frames, 4, num_clips):
        for view in views(read_frames(info, clip)):
            with torch.no_grad():
                logits.append(model(view[None].double())[0])
    assert len(logits) == num_clips * crops
    return sum(logits) / len(logits)


def good_rows(manifest: Path) -> pd.DataFrame:
    table = DataSet.read(manifest).rows
    table = table[(table["split"] == "val") & (table["status"] == "ok")]
    return table.drop(index=table.index[[0, 6]])


def test_evaluation_is_what_a_loop_by_hand_finds(manifest, checkpoint, on_cpu):
    evaluation = evaluate_file(checkpoint, manifest, views="3x3", batch_size=40)
    rows = good_rows(manifest)
    logits = torch.stack([by_hand(path, 3, 3) for path in rows["path"]])
    torch.testing.assert_close(evaluation.predictions.logits.double(), logits, rtol=1e-4, atol=1e-4)
    guesses, labels = logits.argmax(1), torch.tensor(rows["label"].tolist())
    assert len(set(guesses.tolist())) > 1
    assert evaluation.scores["top_1"] == pytest.approx((guesses == labels).double().mean().item())
    five = [label in clip.topk(5).indices for clip, label in zip(logits, labels, strict=True)]
    assert evaluation.scores["top_5"] == pytest.approx(sum(five) / 17)
    shares = [(guesses == k)[labels == k].double().mean() for k in range(10) if (labels == k).any()]
    assert evaluation.scores["mean_class"] == pytest.approx(sum(shares).item() / len(shares))

    assert evaluation.clips == 19
    broken, gone = evaluation.unreadable.items()
    assert "cannot be opened" in broken[1] and "does not exist" in gone[1]
    assert {broken[0], gone[0]} == set(evaluation.table["path"]) - set(rows["path"])
    assert evaluation.classes == CLASSES
    read = evaluation.table[evaluation.table["unreadable"] == ""]
    assert read["path"].tolist() == rows["path"].tolist()
    assert read["predicted"].tolist() == [CLASSES[k] for k in guesses]
    best = logits.softmax(1).max(1).values.tolist()
    assert read["probability_1"].tolist() == pytest.approx(best, abs=1e-4)
    assert len(evaluation.table) == 19
    for true, guess in zip(labels, guesses, strict=True):
        evaluation.confusion[true, guess] -= 1
    assert not evaluation.confusion.any()
    assert evaluation.per_class["clips"].sum() == 17


def test_views_are_those_of_the_recipe_unless_others_are_asked_for(manifest, checkpoint, on_cpu):
    path = good_rows(manifest)["path"].iloc[3]
    for views, (num_clips, crops) in ((None, (2, 3)), ("1x1", (1, 1)), ("2x5", (2, 5))):
        evaluation = evaluate_file(checkpoint, manifest, views=views)
        assert evaluation.about["views"] == f"{num_clips}x{crops}"
        logits, expected = evaluation.predictions.logits, by_hand(path, num_clips, crops).float()
        torch.testing.assert_close(logits[3], expected, rtol=1e-4, atol=1e-4)
        if views == "1x1":  # what training looks at after each epoch
            _, val = clip_datasets(DataSet.read(manifest), replace(RECIPE, hardware=Hardware()))
            seen = evaluate(network(), val, device=CPU)
            torch.testing.assert_close(logits, seen.logits, rtol=1e-4, atol=1e-5)
            assert standard_scores(seen).items() <= evaluation.scores.items()


def test_the_recipe_says_how_frames_are_taken(manifest, tmp_path, on_cpu):
    """Distance of frames, the size at which they are read, the size of a view."""
    views = Views(size=(24, 40), short_side=40, crops=3)
    dense = replace(RECIPE, stride=2, read_short_side=40, evaluation=views)
    save_trained(Trained(network(), dense, CLASSES), tmp_path / "model.safetensors")
    evaluation = evaluate_file(tmp_path / "model.safetensors", manifest)
    info = probe_video(good_rows(manifest)["path"].iloc[0])
    frames = read_frames(info, sample_views(24, 4, 1, stride=2)[0], (40, 40))
    with torch.no_grad():
        logits = network()(view_transform((24, 40), 3, 40)(frames)).mean(0)
    torch.testing.assert_close(evaluation.predictions.logits[0], logits, rtol=1e-4, atol=1e-4)
    assert evaluation.about["size"] == [24, 40]
    larger = evaluate_file(tmp_path / "model.safetensors", manifest, size=(36, 36))
    assert larger.about["size"] == [36, 36]


def test_files(manifest, checkpoint, tmp_path, caplog):
    out = tmp_path / "new" / "out"
    found = evaluate_file(checkpoint, manifest, out=out)
    names = ["confusion.csv", "per_class.csv", "predictions.csv", "scores.json"]
    assert sorted(path.name for path in out.iterdir()) == names
    scores = json.loads((out / "scores.json").read_text())
    assert scores["unreadable"] == found.unreadable and len(found.unreadable) == 2
    assert scores["left_out"] == {"duplicate": 1} and scores["clips"] == 19
    assert {n: scores[n] for n in found.scores} == pytest.approx(found.scores, abs=1e-6)
    names = ("checkpoint", "manifest", "split", "views", "num_frames", "size", "precision")
    about = (str(checkpoint), str(manifest), "val", "2x3", 4, [32, 32], "float32")
    assert tuple(scores[name] for name in names) == about
    table = pd.read_csv(out / "predictions.csv", keep_default_na=False)
    assert list(table) == list(found.table) and set(table["right"]) == {"True", "False", ""}
    names = ["path", "class_name", "label", "unreadable"]
    assert table[names].to_numpy().tolist() == found.table[names].to_numpy().tolist()
    per_class = pd.read_csv(out / "per_class.csv", keep_default_na=False)
    assert per_class["clips"].tolist() == found.per_class["clips"].tolist()
    assert per_class["top_1"].tolist() == pytest.approx(found.per_class["top_1"].tolist())
    confusion = pd.read_csv(out / "confusion.csv", index_col="true class")
    assert list(confusion) == list(confusion.index) == list(CLASSES)
    assert (confusion.to_numpy() == found.confusion.numpy()).all()
    assert f"top-1 {100 * found.scores['top_1']:.2f} %, top-5" in str(found)
    left = 'of 19 clips of "val", 2 could not be read; left out by the manifest: 1 duplicate'
    assert left in str(found) and "2x3 views (clips x crops) of 4 frames of 32 x 32" in str(found)
    for name in ("playing.csv", "confusion.png"):
        (out / name).write_text("earlier")
    before = {path.name for path in out.iterdir()} - {"playing.csv"} | {"playing.1.csv"}
    found.write()
    there = {path.name for path in out.iterdir()}
    assert there == before, "what is the same is not kept twice, nor its picture renamed"
    (out / "predictions.csv").write_text("earlier")
    replace(found, confusion=None).write()
    said = f"another file was {out}/predictions.csv before: it is now {out}/predictions.1.csv"
    assert caplog.messages[-1] == said
    assert {path.name for path in out.iterdir()} == {
        *("playing.1.csv", "confusion.1.csv", "confusion.1.png", "predictions.1.csv"),
        *("predictions.csv", "per_class.csv", "scores.json"),
    }
    (out / "confusion.png").write_text("of other counts")
    replace(found, confusion=found.confusion + 1).write()
    assert (out / "confusion.2.png").read_text() == "of other counts"


def test_a_network_without_recipe_and_names(manifest, tmp_path, on_cpu):
    path, video = tmp_path / "model.safetensors", good_rows(manifest)["path"].iloc[0]
    save_model(network(), path)
    for function, given in ((evaluate_file, manifest), (predict_video, video)):
        with pytest.raises(ValueError, match=r"expected the size .*does not say how.*--size 64 64"):
            function(path, given)
    evaluation = evaluate_file(path, manifest, size=(32, 32))
    assert (evaluation.about["views"], evaluation.about["num_frames"]) == ("1x1", 4)
    assert evaluation.classes == CLASSES, "the manifest has names"
    table = predict_video(path, video, size=(32, 32)).table
    assert [f"class {label}" for label in table["label"]] == list(table["class_name"])


def relabelled(manifest: Path, folder: Path, names: list[str], mirrored=(), listed=True) -> Path:
    """The same clips under other names of classes, in the order of labels."""
    table = DataSet.read(manifest).rows
    table = table[table["label"] < len(names)]
    table["class_name"] = [names[label] for label in table["label"]]
    mirror = mirror_labels(names, mirrored) if listed else None
    return DataSet(table, names, mirror).save(folder / "manifest.csv")


@pytest.mark.parametrize("listed", [True, False])
def test_labels_must_mean_the_same_classes(manifest, checkpoint, tmp_path, listed):
    few, swapped = tmp_path / "few.safetensors", list(CLASSES)
    save_model(build(RECIPE, 4), few)
    swapped[3], swapped[6] = swapped[6], swapped[3]
    for file, names, words in (
        (checkpoint, swapped, 'label 3 to be "moves_down", as in {}, got "right_then_left": take'),
        (few, list(CLASSES), 'label 4 to be "no class", as in {}, got "turns_clockwise": take'),
        # A class that no clip has, but the class list.
        (checkpoint, [*CLASSES, "still"], 'label 10 to be "no class", as in {}, got "still": take'),
    ):
        path = relabelled(manifest, tmp_path / f"{len(names)} {names[3]}", names, listed=listed)
        if listed or names[10:] == []:
            with pytest.raises(ValueError, match=f"{path}: expected {words.format(file)}"):
                evaluate_file(file, path, size=(32, 32))
    path = relabelled(manifest, tmp_path / "fewer", list(CLASSES[:6]), listed=listed)
    assert evaluate_file(checkpoint, path, views="1x1").classes == CLASSES, "fewer are no harm"


def test_ten_crops_need_classes_that_are_their_own_mirror_image(manifest, checkpoint, tmp_path):
    with pytest.raises(ValueError, match=r"own mirror image, for 10 crops, .*take 5"):
        evaluate_file(checkpoint, manifest, views="1x10")
    path = relabelled(manifest, tmp_path / "listed", list(CLASSES))  # all their own
    ten, five = (evaluate_file(checkpoint, path, views=v).predictions for v in ("1x10", "1x5"))
    assert not torch.allclose(ten.logits, five.logits, atol=1e-3)


def test_views_that_there_are_not(checkpoint):
    for text in ("3x7", "", "0x1", "3x10x1"):
        with pytest.raises(ValueError, match=f'clips x crops, .* such as 3x10, got "{text}"'):
            load_with_views(checkpoint, text)
    assert load_with_views(checkpoint, "12x10").recipe.evaluation == Views((32, 32), 36, 12, 10)


def test_a_network_that_gives_no_numbers(manifest, tmp_path):
    model = network()
    model.classifier.bias.data[2] = float("nan")
    save_trained(Trained(model, RECIPE, CLASSES), tmp_path / "model.safetensors")
    with pytest.raises(FloatingPointError, match=r"finite logits, got others for 17 of 17 clips"):
        evaluate_file(tmp_path / "model.safetensors", manifest, out=tmp_path / "out")
    assert not any((tmp_path / "out").iterdir())


def test_a_folder_that_cannot_be_written_to(manifest, checkpoint, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("in the way")

    def too_late(*arguments, **options):
        raise AssertionError("it was evaluated before that was found out")

    monkeypatch.setattr("blvnet_lab.runs.evaluate.evaluate", too_late)
    for out in (tmp_path / "file", tmp_path / "file" / "out"):
        with pytest.raises((FileExistsError, NotADirectoryError)):
            evaluate_file(checkpoint, manifest, out=out)


def test_only_the_first_rank_writes(manifest, checkpoint, tmp_path, monkeypatch, as_rank):
    group = nullcontext((second := OneOf(1, 2), CPU))
    monkeypatch.setattr("blvnet_lab.runs.evaluate.process_group", lambda: group)
    as_rank(second)
    assert len(evaluate_file(checkpoint, manifest, out=tmp_path / "out").predictions.indices) == 9
    assert not (tmp_path / "out").exists()


def test_alone_unless_torchrun_says_otherwise(monkeypatch, on_cpu):
    part_of_it = ({n: "1" for n in TORCHRUN if n != name} for name in TORCHRUN)
    for environment in ({}, {"SLURM_PROCID": "1", "SLURM_NTASKS": "4"}, *part_of_it):
        for name in (*TORCHRUN, "SLURM_PROCID", "SLURM_NTASKS"):
            monkeypatch.delenv(name, raising=False)
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        with process_group() as (ranks, _):
            assert ranks == Ranks() and not torch.distributed.is_initialized()
        assert rank_in_group() is None


def contents(out: Path) -> tuple[dict, pd.DataFrame, str, str]:
    texts = [(out / f"{name}.csv").read_text() for name in ("per_class", "confusion")]
    scores = json.loads((out / "scores.json").read_text())
    return scores, pd.read_csv(out / "predictions.csv", keep_default_na=False), *texts


def test_any_number_of_processes_gives_the_same_figures(manifest, checkpoint, tmp_path, on_cpu):
    evaluate_file(checkpoint, manifest, out=tmp_path / "1")
    scores, alone, *others = contents(tmp_path / "1")
    # 19 clips: three processes do not share them evenly.
    out = tmp_path / "3"
    words = ("evaluate", str(checkpoint), str(manifest), "--out", str(out))
    tasks = [Task(str(out), words=words)] * 3
    with started(*tasks, environments=places(3)) as found:
        codes, said = [one.wait() for one in found], "".join(one.text() for one in found)
    assert codes == [0, 0, 0], said
    assert said.count("mean class accuracy") == 1, "one of them prints"
    assert "2 could not be read" in said and (out / "confusion.png").is_file()
    found, table, *others_found = contents(out)
    assert found == scores and others_found == others
    assert not list(out.glob(".*")), "nothing is half written"
    numbers = [name for name in table if name.startswith("probability")]
    pd.testing.assert_frame_equal(table.drop(columns=numbers), alone.drop(columns=numbers))
    found, expected = (t[numbers].apply(pd.to_numeric) for t in (table, alone))
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-4)


def test_prediction_is_what_evaluation_says(manifest, checkpoint):
    row = good_rows(manifest).iloc[4]
    for views in (None, "1x5"):
        found = predict_video(checkpoint, row["path"], views=views, top=4)
        table = evaluate_file(checkpoint, manifest, views=views).table
        evaluation = table.set_index("path").loc[row["path"]]
        assert list(found.table) == ["class_name", "label", "probability"]
        assert found.table["class_name"].tolist() == [evaluation[f"class_{k}"] for k in range(1, 5)]
        expected = [evaluation[f"probability_{k}"] for k in range(1, 5)]
        assert found.table["probability"].tolist() == pytest.approx(expected, abs=1e-4)
        assert [CLASSES[label] for label in found.table["label"]] == list(found.table["class_name"])
    everything = predict_video(checkpoint, row["path"], top=99).table
    assert len(everything) == 10 and everything["probability"].sum() == pytest.approx(1)
    assert everything["probability"].is_monotonic_decreasing


def test_predictions_that_cannot_be(checkpoint, tmp_path):
    whole = write_video(tmp_path / "whole.mkv", 40)
    with pytest.raises(ValueError, match=r"a class list in which every class .*: take 5 crops"):
        predict_video(checkpoint, whole, views="1x10")
    cut, content = tmp_path / "cut.mkv", whole.read_bytes()
    cut.write_bytes(content[: len(content) * 2 // 3])
    with pytest.raises(VideoReadError, match=r"cut\.mkv: .* cut short, after \d+ frames"):
        predict_video(checkpoint, cut)
    Image.new("RGB", (40, 30)).save(tmp_path / "IMG_0001.jpg")  # would be a video of one frame
    with pytest.raises(ValueError, match=r"a folder with 2: name one, such as .*cut\.mkv"):
        predict_video(checkpoint, tmp_path)


# ---------------------------------------------------------------- annotate
def answer(*probabilities: float, name: str = "moves") -> predicting.Prediction:
    count = range(len(probabilities))
    columns = {"class_name": [f"{name} {k}" for k in count], "label": count}
    table = pd.DataFrame(columns | {"probability": probabilities})
    return predicting.Prediction(table)


def parts(path: Path, rows: int, index: int) -> tuple[np.ndarray, np.ndarray, int]:
    """Frame `index`: picture (3, H, W), what is below it (h, W, 3), and pixels a row."""
    frame = read_frames(path, [index])[0].numpy()
    bright = frame.mean(2).max(0) >= 130  # the ground of the bars is dark, with little on it
    height = np.nonzero(bright)[0][-1] + 1
    below = frame[:, height:].transpose(1, 2, 0)
    return frame[:, :height], below, below.shape[0] // (rows + 1)


@pytest.mark.parametrize(
    "count, size, rotation, shown",
    [
        (150, (64, 112), 0, (360, 630)),  # small, of three blocks
        (5, (320, 180), 90, (640, 360)),  # a phone's, upright
        (4, (362, 441), 0, (362, 440)),
    ],
)
def test_the_whole_video_is_written(tmp_path, count, size, rotation, shown):
    suffix, pixels = ("mp4", "yuv420p") if size[1] % 2 == 0 else ("mkv", "yuv444p")
    video = tmp_path / f"video.{suffix}"
    write_video(video, count, size=size, rotation=rotation, pix_fmt=pixels)
    target = write_annotated(answer(0.75, 0.2), video, tmp_path / "new" / "answer.mp4")
    info = probe_video(target)
    assert (info.num_frames, info.fps, info.codec) == (count, 25, "h264")
    row = shown[0] // 36 * 2 if shown[0] < shown[1] else 20
    assert info.size == (shown[0] + 3 * row, shown[1])
    for index in {0, count // 2, count - 1, *(k for k in (63, 64, 128) if k < count)}:
        picture, _, _ = parts(target, 2, index)
        assert read_number(picture) == index
    assert [path.name for path in target.parent.iterdir()] == ["answer.mp4"]


def test_bars_are_as_long_as_the_classes_are_likely(tmp_path):
    video = write_video(tmp_path / "video.mp4", 3)
    target = write_annotated(answer(1.0, 0.5, 0.25, 0.0), video, tmp_path / "answer.mp4")
    _, below, row = parts(target, 4, 1)
    assert row == 20
    first, lengths = 630 * 3 // 5, []
    for place in range(1, 5):
        line = below[place * row - 3 : place * row + 3, first:].max(2)
        assert below[place * row - 5 : place * row + 5, first - 8 : first - 2].max() < 60
        lengths.append(int((line > 90).all(0).argmin()))
    assert lengths[3] == 0 and lengths[0] > 120
    assert lengths[1] == pytest.approx(lengths[0] / 2, abs=3)
    assert lengths[2] == pytest.approx(lengths[0] / 4, abs=3)
    blue = below[row, first + 20].astype(int)
    grey = below[2 * row, first + 20].astype(int)
    assert blue[2] - blue[0] > 80 and np.ptp(grey) < 30, "the best one stands out"
    same_again = parts(target, 4, 2)[1].astype(int)
    assert np.abs(same_again - below).mean() < 3


def test_annotated_frames_keep_their_times_and_shape(tmp_path):
    times = [0, 33, 66, 500, 505, 545, *range(600, 2400, 100)]
    source = write_shown(tmp_path / "a.mp4", ticks=times, aspect=Fraction(4, 3), size=(288, 352))
    target = write_annotated(answer(1.0), source, tmp_path / "answer.mp4")
    times = [shown_by_ffmpeg(path)[0] for path in (target, source)]
    assert times[0] == pytest.approx(times[1], abs=2e-5)
    height, width = probe_video(target).size
    assert (height - 2 * 20, width) == (360, 586), "of square pixels: 288 * 1.25, 352 * 4/3 * 1.25"


def test_annotations_that_cannot_be(tmp_path, caplog):
    video = write_video(tmp_path / "video.mp4", 3)
    before = video.read_bytes()
    for target, words in (
        (video, "another file to write to"),
        (tmp_path / ".." / tmp_path.name / "video.mp4", "another file to write to"),
        (tmp_path / "answer.avi", r"ends in \.mp4"),
        (video / "answer.mp4", "File exists"),
    ):
        with pytest.raises((ValueError, OSError), match=words):
            write_annotated(answer(1.0), video, target)
        with pytest.raises((ValueError, OSError), match=words):  # before the network is read
            predict_video(tmp_path / "none.safetensors", video, annotate=target)
    assert video.read_bytes() == before
    (tmp_path / "own.mp4").write_bytes(b"somebody's")
    for _ in range(2):  # the second time it is the same
        write_annotated(answer(1.0), video, tmp_path / "own.mp4")
    assert caplog.text.count("own.mp4 before: it is now ") == 1
    assert (tmp_path / "own.1.mp4").read_bytes() == b"somebody's"
    for name in ("own.mp4", "own.1.mp4"):
        (tmp_path / name).unlink()
    damaged = tmp_path / "damaged.mp4"
    write_video(damaged, 140)
    content = bytearray(damaged.read_bytes())  # a fault in the second block that is read
    begin = round(0.6 * len(content))
    content[begin : begin + 2000] = b"\xff" * 2000
    damaged.write_bytes(content)
    with pytest.raises(VideoReadError, match=r"damaged\.mp4"):
        write_annotated(answer(1.0), damaged, tmp_path / "answer.mp4")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["damaged.mp4", "video.mp4"]


# ---------------------------------------------------------------- commands
def test_evaluate_command(monkeypatch, capsys, manifest, checkpoint, tmp_path, on_cpu):
    out = tmp_path / "out"
    options = shlex.split("--views 1x5 --split val --batch-size 10 --workers 1")
    type_command(monkeypatch, "evaluate", checkpoint, manifest, "--out", out, *options)
    shown = capsys.readouterr().out
    evaluation = evaluate_file(checkpoint, manifest, views="1x5")
    assert str(evaluation) in shown.replace("\n\nscores.json", "\n") and "top-5" in shown
    few = replace(evaluation, classes=evaluation.classes[:5])
    assert "top-5" not in str(few), "all would be hits"
    assert all(why in shown for why in evaluation.unreadable.values())
    assert "lowest top-1, of" in shown and f"are in {out}" in shown
    with Image.open(out / "confusion.png") as picture:
        assert min(picture.size) > 500
    found = evaluate_file(checkpoint, manifest, computing=Computing("bfloat16"))
    assert "2x3 views" in str(found) and "bfloat16" in str(found) and "are in" not in str(found)


def test_confusion_of_many_classes_is_not_drawn(tmp_path, capsys):
    cli.draw("evaluate", SimpleNamespace(classes=range(51), out=tmp_path, confusion=...))
    assert "more than 50 classes" in capsys.readouterr().out and not any(tmp_path.iterdir())


def test_predict_command(monkeypatch, capsys, manifest, checkpoint, tmp_path):
    video, target = good_rows(manifest)["path"].iloc[1], tmp_path / "answer.mp4"
    type_command(monkeypatch, *("predict", checkpoint, video, "--annotate", target, "--top", 3))
    lines = capsys.readouterr().out.splitlines()
    table = predict_video(checkpoint, video, top=3).table
    for line, row in zip(lines, table.itertuples(), strict=False):
        assert line.split() == [f"{100 * row.probability:.1f}", "%", row.class_name]
    assert lines[3:] == [f"wrote {target}"]
    assert probe_video(target).num_frames == 24


def test_mistakes_are_one_line(monkeypatch, manifest, checkpoint):
    video = good_rows(manifest)["path"].iloc[0]
    for words, message in (
        (["evaluate", "nowhere.safetensors", manifest], "there is no file nowhere.safetensors"),
        (["evaluate", ".", manifest], "a checkpoint, e.g. model.safetensors; there is no file ."),
        (["evaluate", checkpoint, manifest, "--split", "test"], 'clips of split "test"'),
        (["evaluate", checkpoint, manifest, "--out", checkpoint], "expected a folder, got"),
        (["predict", checkpoint, manifest], "expected a video file"),
        (["predict", checkpoint, video, "--top", "-2"], "expected top to be at least 1 class"),
        (["predict", checkpoint, video, "--annotate", video], "expected another file"),
    ):
        with pytest.raises(SystemExit) as error:
            type_command(monkeypatch, *words)
        line = str(error.value.code)
        assert line.startswith("blvnet_lab: ") and message in line and "\n" not in line
