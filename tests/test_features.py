"""Features of clips and what is read off them: files, probes, pictures.

The oracles: the network's own logits, closed forms, gradients by PyTorch, counting by hand.
"""

import numpy as np
import pandas as pd
import pytest
import torch
from nets import BUILDERS, WITH_TAMS, network
from safetensors import safe_open

from blvnet_lab import viz
from blvnet_lab.data import DataSet
from blvnet_lab.datasets.motion import CLASSES, write_dataset
from blvnet_lab.runs import features as module
from blvnet_lab.runs.compare import mean_over_videos
from blvnet_lab.runs.evaluate import evaluate_file
from blvnet_lab.runs.features import Features, extract_features, flat_features, probe_features
from blvnet_lab.runs.predict import predict_video
from blvnet_lab.training.checkpoint import Trained, load_trained, save_trained
from blvnet_lab.training.engine import build
from blvnet_lab.training.evaluation import evaluate
from blvnet_lab.training.recipe import Network, Recipe, Views

RECIPE = Recipe(num_frames=4, size=(32, 32), network=Network("blvnet"))
CPU = torch.device("cpu")


@pytest.mark.parametrize("views", [(), (3,)])
@pytest.mark.parametrize(
    "builder, causal", [*((b, False) for b in BUILDERS), *((b, True) for b in WITH_TAMS)]
)
def test_the_classifier_makes_the_logits_of_the_features(builder, causal, views):
    model = network(builder, **({"causal": True} if causal else {}), dropout=0.5).float()
    clips = torch.randn(5, *views, 8, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    data = [(clip, label) for label, clip in enumerate(clips)]
    found, classifier = module.features_of(model, data, batch_size=4, device=CPU), model.classifier
    assert found.logits.shape == (5, classifier.in_features)
    assert found.labels.tolist() == [*range(5)]
    logits = evaluate(model, data, device=CPU).logits  # the classifier is back
    torch.testing.assert_close(classifier(found.logits), logits, rtol=1e-4, atol=1e-5)
    assert logits.std(0).min() > 1e-3, "clips differ"


def test_the_classifier_goes_where_the_model_goes(monkeypatch):
    monkeypatch.setattr(module, "evaluate", lambda model, data: model.to("meta"))
    module.features_of(model := network(BUILDERS[0]), [])
    assert {weight.device.type for weight in model.parameters()} == {"meta"}


@pytest.fixture(scope="module")
def manifest(tmp_path_factory):
    """Of "val" one cannot be read, and one is a duplicate."""
    path = write_dataset(tmp_path_factory.mktemp("motion"), 3, 2, seed=5)
    table = pd.read_csv(path)
    (val,) = np.nonzero(table["split"] == "val")
    (path.parent / table["path"][val[2]]).write_bytes(b"no video" * 100)
    table.loc[val[5], "status"] = "duplicate"
    table.loc[val[0], "source_id"] = ""
    table.to_csv(path, index=False)
    return path


@pytest.fixture(scope="module")
def extracted(manifest, tmp_path_factory):
    """A network of three classes, none of the manifest's; the file of features; these."""
    folder = tmp_path_factory.mktemp("run")
    checkpoint, out = folder / "model.safetensors", folder / "new" / "features.safetensors"
    views = Views(size=(24, 40), crops=3, short_side=48)
    trained = Trained(build(RECIPE, 3).eval(), Recipe(**vars(RECIPE) | {"evaluation": views}))
    torch.nn.init.normal_(trained.model.classifier.weight)
    save_trained(Trained(trained.model, trained.recipe, ("a", "b", "c")), checkpoint)
    return checkpoint, out, extract_features(checkpoint, manifest, out=out, batch_size=7)


def test_parts_of_a_video_have_features_of_their_own(manifest, extracted, tmp_path):
    row = DataSet.read(manifest).rows.iloc[[0]].assign(split="val")
    rows = pd.concat([row.assign(part_start=k, part_end=k + 1.0, label=k) for k in (0.0, 1.0)])
    rows = rows.assign(class_name=["a", "b"], label=[0, 1])
    path = DataSet(rows).save(tmp_path / "manifest.csv")
    found = extract_features(extracted[0], path, out=tmp_path / "f.safetensors", split=("val",))
    assert found.clips["path"].tolist() == [f"{rows.iloc[0]['path']}#t={t}" for t in ("0,1", "1,2")]
    assert found.clips["label"].tolist() == [0, 1] and not torch.equal(*found.values)
    assert found.clips["source_id"].tolist() == rows["source_id"].tolist()


def test_features_in_a_file(manifest, extracted):
    checkpoint, out, features = extracted
    assert [path.name for path in out.parent.iterdir()] == [out.name]
    again = Features.read(out)
    assert torch.equal(again.values, features.values) and again.classes == CLASSES
    pd.testing.assert_frame_equal(again.clips, features.clips)
    assert str(again) == str(features)
    with safe_open(out, "pt") as file:  # for other tools
        assert torch.equal(file.get_tensor("features"), features.values)
        assert file.get_tensor("labels").tolist() == features.clips["label"].tolist()
    rows = DataSet.read(manifest).rows.set_index("path")
    val = rows.index[(rows["split"] == "val") & (rows["status"] == "ok")].delete(2)
    assert len(val) == 18 and features.clips["split"].tolist() == ["train"] * 30 + ["val"] * 18
    assert features.split("val").clips["path"].tolist() == val.tolist()
    for name in ("label", "split", "source_id"):
        assert features.clips[name].tolist() == rows.loc[features.clips["path"], name].tolist()
    (why,) = features.about["unreadable"].values()
    line = "features of each of 48 clips (30 of train, 18 of val), of 10 classes; 1 videos could"
    for words in (f"  {why}", line):
        assert words in str(features)
    # The network's own answers to these clips, by the classes' numbers alone.
    few = rows.reset_index()[rows["label"].to_numpy() < 3]
    few = DataSet(few.assign(class_name=[*map("abc".__getitem__, few["label"])]))
    path = few.save(out.parents[1] / "few" / "manifest.csv")
    logits = evaluate_file(checkpoint, path).predictions.logits
    chosen = features.clips.query("split == 'val' and label < 3").index
    made = load_trained(checkpoint).model.classifier(features.values[chosen])
    torch.testing.assert_close(made, logits, rtol=1e-4, atol=1e-5)


def test_files_that_hold_no_features(manifest, extracted, tmp_path, monkeypatch):
    checkpoint, out, features = extracted
    (tmp_path / "text.safetensors").write_text("no tensors")
    for path in (checkpoint, tmp_path / "text.safetensors", tmp_path / "nowhere.safetensors"):
        with pytest.raises(ValueError, match=f"{path.name}: expected a file of .*features`, got"):
            Features.read(path)
    with pytest.raises(ValueError, match='features of split "test", got only train, val'):
        features.split("test")
    with pytest.raises(ValueError, match=r"ends in \.safetensors, got"):
        extract_features(checkpoint, out, out=tmp_path / "f.csv")
    for call in (
        lambda: extract_features(checkpoint, manifest, out=checkpoint),
        lambda: probe_features(out, out=out),
        lambda: probe_features(out, out=checkpoint),
    ):
        with pytest.raises(ValueError, match=r"expected another file .* is read"):
            call()
    monkeypatch.setattr(module, "features_of", lambda *args, **options: pytest.fail("late"))
    with pytest.raises(ValueError, match='expected clips of split "test", got none'):
        split = ("train", "test")
        extract_features(checkpoint, manifest, out=tmp_path / "f.safetensors", split=split)


def clouds(count=60, classes=3, width=5, seed=0):
    """Features (N, C) of overlapping classes, in all units, one of them constant; labels."""
    draw = np.random.default_rng(seed)
    labels = np.arange(count) % classes
    x = draw.normal(size=(count, width)) + draw.normal(size=(classes, width))[labels]
    x = x * 10.0 ** np.arange(-3, width - 3) + 7
    x[:, 1] = 4.0
    return torch.from_numpy(x).float(), torch.from_numpy(labels)


@pytest.mark.parametrize("strength", [1e-3, 0.1, 10.0])
def test_at_the_optimum_the_gradient_is_zero(strength):
    x, labels = clouds()
    found = module.fit_linear(x, labels, 4, strength)  # one is unseen
    weight, bias = (part.numpy() for part in found)
    x, truth = x.double().numpy(), np.eye(4)[labels]
    scale = x.std(0)
    scale[1] = 1
    z, folded = (x - x.mean(0)) / scale, weight * scale
    odds = np.exp(z @ folded.T + bias + weight @ x.mean(0))
    error = odds / odds.sum(1, keepdims=True) - truth
    assert np.abs(error.T @ z / len(x) + strength * folded).max() < 1.1e-5
    assert np.abs(error.mean(0)).max() < 1.1e-5
    made = module.linear(torch.from_numpy(x), labels, 4, strength, torch.from_numpy(x[:7]))
    np.testing.assert_allclose(made, x[:7] @ weight.T + bias, rtol=1e-6)


@pytest.mark.parametrize("k", [1, 4, 99])
def test_neighbours_are_those_found_one_by_one(k, monkeypatch):
    monkeypatch.setattr(module, "AT_ONCE", 2)
    (x, labels), (asked, _) = clouds(), clouds(9, seed=1)
    scale = x.double().std(0, correction=0)
    scale[1] = 1
    for row, votes in zip(asked, module.nearest(x, labels, 3, k, asked), strict=True):
        distances = []
        for other, label in zip(x, labels, strict=True):
            distances.append((float(((row - other) / scale).norm()), int(label)))
        expected = [0.0] * 3
        for distance, label in sorted(distances)[:k]:
            expected[label] += 1 + 1 / (1 + min(k, 60)) / (1 + distance)
        assert votes.tolist() == pytest.approx(expected)


def sources(names: list[str], labels: list[int]) -> pd.DataFrame:
    paths = [f"{number}.mp4" for number in range(len(names))]
    return pd.DataFrame({"path": paths, "label": labels, "split": "train", "source_id": names})


def test_clips_of_a_source_are_held_out_together():
    names = [f"v{number // 3}" for number in range(60)] + [""] * 20
    labels = [number // 30 for number in range(60)] + [0, 1] * 10
    clips = sources(names, labels)
    folds = module.source_folds(clips).numpy()
    together = clips.assign(fold=folds)[:60].groupby("source_id")["fold"].nunique()
    assert (together == 1).all() and set(folds) == set(range(5))
    for label in (0, 1):  # ten sources and ten clips alone, of each class
        alone = np.array(labels) == label
        assert set(np.bincount(folds[alone], minlength=5)) <= {4, 6, 8, 10, 12}
    with pytest.raises(ValueError, match=r"two or more source videos, so that one .* got 1: add"):
        module.source_folds(sources(["v"] * 4, [0, 1, 0, 1]))
    parts = clips.assign(source_id="", path=[f"{k // 4}.mp4#t={k},{k + 0.5}" for k in range(80)])
    parts["fold"] = module.source_folds(parts).numpy()
    assert (parts.groupby(parts["path"].str[:2])["fold"].nunique() == 1).all()


def test_a_setting_is_chosen_by_clips_that_were_not_seen():
    labels = [0, 1] * 15
    clips = sources([f"v{number // 3}" for number in range(30)], labels)
    features = Features(torch.arange(30.0)[:, None], clips, ("a", "b"), {})
    rights, asked = {1: 20, 2: 25, 3: 25, 4: 10}, []

    def method(x, known, num_classes, setting, queries):
        assert not {*(x // 3).flatten().tolist()} & {*(queries // 3).flatten().tolist()}
        asked.extend((setting, number) for number in queries.flatten().long().tolist())
        truth = torch.tensor([labels[int(number)] for number in queries])
        right = queries.flatten() < rights[setting]
        logits = torch.nn.functional.one_hot(torch.where(right, truth, 1 - truth), 2).double()
        return logits * (2 if setting == 3 else 1)  # surer, where it is wrong, too

    assert module.cross_validated(method, [1, 2, 3, 4], features) == 3
    assert sorted(asked) == [(s, number) for s in (1, 2, 3, 4) for number in range(30)]
    pair = Features(torch.eye(2), sources(["v", "w"], [0, 1]), ("a", "b"), {})
    assert module.ask_neighbours(pair, torch.eye(2))[1] == 2, "there are no more to ask"


def test_a_probe_stands_beside_its_controls(tmp_path):
    """Features that are the labels, but for clips of "test", whose labels are others."""
    labels = np.arange(80) % 4
    split = np.repeat(["train", "val", "test"], [40, 30, 10])
    values = torch.eye(4)[labels] + 0.01 * torch.randn(80, 4)
    labels[70:] = 0
    clips = sources([""] * 80, labels.tolist()).assign(split=split)
    Features(values, clips, tuple("abcd"), {}).save(tmp_path / "f.safetensors")
    with torch.device("meta"):  # whatever the default is
        found = probe_features(tmp_path / "f.safetensors")
    table = found.table.set_index("method")
    for name in ("linear classifier", "nearest neighbours"):
        right = mean_over_videos(pd.Series(np.ones(30)), pd.Series(range(30)))
        assert table.loc[name, ["accuracy", "low", "high"]].tolist() == [1, *right[1:]]
    control = table.loc["linear, labels shuffled"]
    assert control["low"] < control["accuracy"] < control["high"] and control["accuracy"] < 0.6
    assert table.loc[["largest class", "chance"], "accuracy"].tolist() == [8 / 30, 0.25]
    for words in ('30 clips of "val"', "40 clips, 4 features each, of 4 classes", " 26.7   "):
        assert words in str(found)
    test = probe_features(tmp_path / "f.safetensors", split="test").table["accuracy"]
    assert test[[0, 3]].tolist() == pytest.approx([0.2, 1.0]), "two of ten look like class 0"


def test_a_probe_becomes_the_classifier_of_its_network(manifest, extracted, tmp_path, monkeypatch):
    checkpoint, file, features = extracted
    for name, value in (("STRENGTHS", (1.0, 0.01)), ("SHUFFLES", 1)):  # quicker
        monkeypatch.setattr(module, name, value)
    for size, views in (((24, 40), "1x3"), ((48, 48), "2x1")):  # as trained, and others
        out = tmp_path / views / "model.safetensors"
        if views == "2x1":
            file = tmp_path / "f.safetensors"
            features = extract_features(checkpoint, manifest, out=file, size=size, views=views)
        found = probe_features(file, out=out)
        evaluation = evaluate_file(out, manifest)
        assert (evaluation.about["size"], evaluation.about["views"]) == ([*size], views)
        assert evaluation.classes == CLASSES
        made = features.split("val").values.double() @ found.weight.T + found.bias
        logits = evaluation.predictions.logits.double()
        torch.testing.assert_close(logits, made, rtol=1e-3, atol=1e-3)
        assert evaluation.scores["top_1"] == pytest.approx(found.table["accuracy"][0])
        assert str(out) in str(found)
    best = predict_video(out, features.clips["path"].iloc[-1]).table["class_name"][0]
    assert best == CLASSES[made[-1].argmax()]
    assert load_trained(checkpoint).classes == ("a", "b", "c"), "the network itself stays"
    save_trained(load_trained(out), checkpoint)
    with pytest.raises(ValueError, match="the network that the features are from, got another"):
        probe_features(file, out=out)


def test_two_dimensions_and_what_they_lose():
    """One bit of the class is in three of seven features, the other in one; three tell nothing."""
    number, draw = np.arange(96), torch.Generator().manual_seed(0)
    one, other, junk = number % 2, number // 2 % 2, number // 4 % 2
    x = torch.tensor(np.stack([one, junk] * 3 + [other], 1)).float()
    x += 0.01 * torch.randn(96, 7, generator=draw)
    clips = sources([""] * 96, (number % 4).tolist())
    clips["split"] = np.where(number < 64, "train", "val")
    features = Features(x, clips, tuple("abcd"), {})
    with torch.device("meta"):
        points, title = flat_features(features)
    points["path"] = "home/data/" + points["split"] + "/a/" + points["path"]  # its end is shown
    known = ((x - x[:64].mean(0)) / x[:64].std(0, correction=0)).double().numpy()
    variances, axes = np.linalg.eigh(np.cov(known[:64].T))
    for name, axis in (("x", axes[:, -1]), ("y", axes[:, -2])):
        np.testing.assert_allclose(np.abs(points[name]), np.abs(known @ axis), atol=1e-4)
    share = variances[-2:].sum() / variances.sum()
    assert title.startswith(f"2 of 7 dimensions, with {share:.0%} of the variance; nearest")
    here, everywhere = [int(word[:-1]) for word in title.split() if word.endswith("%")][1:]
    assert here < 70 and everywhere == 100
    figure = viz.embedding_hover(points, title)
    assert figure.layout.title.text.split("<br>") == title.split("; ")
    assert "bdata" not in figure.to_json()
    drawn = [
        (trace.name, *point)
        for trace in figure.data
        for point in zip(trace.hovertext, trace.x, trace.y, strict=True)
    ]
    points["path"] = points["path"].str.removeprefix("home/data/")
    expected = points.round(3)[["class_name", "path", "x", "y"]].itertuples(index=False, name=None)
    assert sorted(drawn) == sorted(expected) and len(figure.data) == 8, "classes x splits"
    many = pd.DataFrame({"x": 0.5, "y": 0.5, "class_name": map(str, range(70)), "path": "a"})
    looks = viz.embedding_hover(many.assign(split="val")).data
    assert len({(each.marker.color, each.marker.symbol) for each in looks}) == 70
