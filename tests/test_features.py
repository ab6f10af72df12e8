"""Features of clips and what is read off them: files, probes, pictures.

The oracles: the network's own logits, closed forms, gradients by PyTorch, counting by hand.
"""

import numpy as np
import pandas as pd
import pytest
import torch
from nets import BUILDERS, WITH_TAMS, network
from safetensors import safe_open

from blvnet_lab.data import DataSet
from blvnet_lab.datasets.motion import CLASSES, write_dataset
from blvnet_lab.runs.evaluate import evaluate_file
from blvnet_lab.runs.features import Features, extract_features, features_of
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
    found, classifier = features_of(model, data, batch_size=4, device=CPU), model.classifier
    assert found.logits.shape == (5, classifier.in_features) and found.labels.tolist() == [
        *range(5)
    ]
    logits = evaluate(model, data, device=CPU).logits  # the classifier is back
    torch.testing.assert_close(classifier(found.logits), logits, rtol=1e-4, atol=1e-5)
    assert logits.std(0).min() > 1e-3, "clips differ"


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
    for words in (f"  {why}", "48 clips (30 of train, 18 of val), of 10 classes",
                  "1x3 views (clips x crops) of 24 x 40 pixels; 1 videos could not be read; "
                  "1 duplicate, as the manifest says"):  # fmt: skip
        assert words in str(features)
    # The network's own answers to these clips, by the classes' numbers alone.
    few = rows.reset_index()[rows["label"].to_numpy() < 3]
    few = DataSet(few.assign(class_name=[*map("abc".__getitem__, few["label"])]))
    path = few.save(out.parents[1] / "few" / "manifest.csv")
    logits = evaluate_file(checkpoint, path).predictions.logits
    chosen = features.clips.index[
        (features.clips["split"] == "val") & (features.clips["label"] < 3)
    ]
    made = load_trained(checkpoint).model.classifier(features.values[chosen])
    torch.testing.assert_close(made, logits, rtol=1e-4, atol=1e-5)


def test_files_that_hold_no_features(extracted, tmp_path):
    checkpoint, out, features = extracted
    (tmp_path / "text.safetensors").write_text("no tensors")
    for path in (checkpoint, tmp_path / "text.safetensors", tmp_path / "nowhere.safetensors"):
        with pytest.raises(ValueError, match=f"{path.name}: expected a file of .*features`, got"):
            Features.read(path)
    with pytest.raises(ValueError, match='features of split "test", got only train, val'):
        features.split("test")
    with pytest.raises(ValueError, match=r"ends in \.safetensors, got"):
        extract_features(checkpoint, out, out=tmp_path / "f.csv")
