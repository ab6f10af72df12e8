"""Parity with the published implementation, and the strictness of loading its checkpoints."""

import argparse
import functools
import json
import os
import pickle
import re
import zlib
from datetime import datetime
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from lab import type_command
from nets import watched

from blvnet_lab.models import blvnet, blvnet_tam, load_model, load_notes, tsn, tsn_blnet
from blvnet_lab.weights import import_official, load_official
from blvnet_lab.weights.names import bare_state_dict
from blvnet_lab.weights.official import read_published

DATA = Path(__file__).parent / "data"
CASES = json.loads((DATA / "official_cases.json").read_text())
LOGITS = np.load(DATA / "official_logits.npz")

# Where the published network's intermediate results are found in ours. The outputs of its stages
# are copied to both frames of a pair; ours hold one map per pair.
PLACES = {
    "conv1": "stem.conv",
    "tam": "stem.tam",
    **{
        f"layer{i}.{part}": f"stage{i}.{part}"
        for part in ("tam", "big", "fusion")
        for i in (1, 2, 3)
    },
    **{f"layer{i}.little_e": f"stage{i}.little" for i in (1, 2, 3)},
    "layer4": "stage4",
    "bn_bl_init": "stem.fusion.1",
}


def official_tensor(key: str, shape: list[int]) -> torch.Tensor:
    """The rule by which the weights of the parity cases were made."""
    rng = np.random.default_rng(zlib.crc32(key.encode()))
    last = key.rsplit(".", 1)[-1]
    if last == "num_batches_tracked":
        return torch.tensor(0)
    if last == "running_var":
        value = rng.uniform(0.5, 1.5, shape)
    elif last in ("running_mean", "bias"):
        value = 0.1 * rng.standard_normal(shape)
    elif len(shape) == 1:
        value = rng.uniform(0.5, 1.5, shape)
    elif len(shape) == 2:
        value = rng.standard_normal(shape) / np.sqrt(shape[1])
    elif shape[1] == 1:
        value = rng.uniform(-0.5, 1.0, shape)
    else:
        value = rng.standard_normal(shape) * np.sqrt(2 / np.prod(shape[1:]))
    return torch.from_numpy(np.asarray(value, dtype=np.float32))


@functools.cache  # drawing takes a second; who changes the dictionary makes one of their own
def official_state(case: str) -> dict[str, torch.Tensor]:
    shapes = CASES[case]["state_dict_shapes"]
    return {key: official_tensor(key, shape) for key, shape in shapes.items()}


def model_of(case: str, **changes):
    config = CASES[case]["config"]
    arguments = {name: config[name] for name in ("depth", "num_classes", "dropout")}
    arguments |= {"num_frames": config["frames"], "num_taps": config["blending_frames"]}
    return blvnet_tam(**(arguments | changes)).eval()


def assert_published_logits(model, case: str, cases=CASES, logits=LOGITS) -> None:
    clip = np.random.default_rng(cases[case]["input_seed"])
    clip = torch.from_numpy(clip.standard_normal(cases[case]["input_shape"]).astype(np.float32))
    with torch.no_grad():
        ours = model(clip)
    published = torch.from_numpy(logits[case])
    assert (ours - published).abs().max() <= 1e-5 * published.abs().max()


@pytest.fixture(scope="module")
def state():
    return official_state("r50_f4x2_blend5")


@pytest.mark.parametrize("case", CASES)
def test_same_logits_and_activations_as_published(case):
    state, model = official_state(case), model_of(case)
    report = load_official(model, state)
    assert report.layout == "video"
    assert sorted(report.loaded) == sorted(model.state_dict())
    assert (report.adapted, report.kept, report.ignored) == ([], [], [])

    seen = watched(model, *PLACES.values())
    assert_published_logits(model, case)

    ours = {}
    for name, expected in CASES[case]["activations"].items():
        if name in PLACES:
            maps = seen[PLACES[name]]  # little and big of each pair -> frames, little first
            ours[name] = torch.stack(maps, dim=2) if isinstance(maps, tuple) else maps
        else:  # layer1..3: the merged map, copied to both frames of its pair
            ours[name] = seen[f"stage{name[-1]}.fusion"].repeat_interleave(2, dim=0)
        assert_published_maps(ours[name], expected, name)


def assert_published_maps(ours: torch.Tensor, expected: dict, name: str) -> None:
    """Mean, deviation and first values as recorded in the published network."""
    ours, scale = ours.reshape(expected["shape"]).double(), expected["std"]
    assert abs(ours.mean() - expected["mean"]) < 1e-5 * scale, name
    assert abs(ours.std() - expected["std"]) < 1e-5 * scale, name
    first = torch.tensor(expected["first"], dtype=torch.float64)
    assert (ours.flatten()[:4] - first).abs().max() < 1e-4 * scale, name


def image_state(state: dict) -> dict:
    """The ImageNet layout: no TAMs, no prefix of its own, a classifier of 1000 classes."""
    image = {
        "module." + key.removeprefix("baseline_model."): value
        for key, value in state.items()
        if ".tam." not in key and not key.startswith("new_fc")
    }
    image["module.fc.weight"], image["module.fc.bias"] = torch.zeros(1000, 2048), torch.zeros(1000)
    return {"state_dict": image, "epoch": 1}


def test_image_layout_leaves_taps_and_classifier(state):
    model = model_of("r50_f4x2_blend5")
    taps = model.stem.tam.taps.detach().clone()
    report = load_official(model, image_state(state))
    assert report.layout == "image"
    assert len(report.kept) == 7 + 2  # seven TAMs, weight and bias of the classifier
    assert report.ignored == ["fc.weight", "fc.bias"]
    assert torch.equal(model.stem.tam.taps, taps)
    assert torch.equal(model.stem.conv.weight, state["baseline_model.conv1.weight"])
    old = {name: tensor for name, tensor in state.items() if "num_batches" not in name}
    for norms in (state, old):  # before there were batch counters
        assert load_official(model, norms).loaded.count("stem.bn.num_batches_tracked") == 1
    assert "9 not in this checkpoint" in str(report)
    for builder in (blvnet, tsn_blnet):  # no TAM: only the classifier is left
        assert len(load_official(builder(num_frames=8), image_state(state)).kept) == 2


def test_what_does_not_fit_is_named_and_nothing_is_loaded(state):
    model = model_of("r50_f4x2_blend5")
    before = model.stem.conv.weight.detach().clone()
    for change, words in (
        (lambda s: s.pop("baseline_model.layer2.tam.blending_layers.4.weight"), "stage2.tam.taps"),
        (lambda s: s.pop("baseline_model.layer2.tam.blending_layers.1.weight"), "taps of stage2"),
        (lambda s: s.pop("baseline_model.bn1.bias"), "missing: stem.bn.bias"),
        (lambda s: s.update({"baseline_model.extra": torch.zeros(1)}), "left over: extra"),
        (lambda s: s.update({"new_fc.bias": torch.zeros(7)}), "checkpoint (7,)"),
        (lambda s: s.update({"epoch": 3}), "none: epoch"),
    ):
        changed = dict(state)
        change(changed)
        with pytest.raises(ValueError) as error:
            load_official(model, changed)
        assert words in str(error.value)
        assert torch.equal(model.stem.conv.weight, before)


def test_wrong_network(state):
    for model, words in (
        (blvnet(num_frames=8, num_classes=10), r"left over: stem\.tam\.taps"),
        (tsn(depth="tiny"), r"missing: stage\d.* more.* left over: "),
        (model_of("r50_f4x2_blend5", causal=True), "look ahead, too, got one with causal"),
    ):
        with pytest.raises(ValueError, match=words):
            load_official(model, state)


# Ours -> official, the longest first; the classifier and the taps are apart.
OFFICIAL_NAMES = {
    **{"stem.conv.": "conv1.", "stem.bn.": "bn1."},
    **{"stem.big.0.": "b_conv0.", "stem.big.1.": "bn_b0."},
    **{f"stem.little.{3 * i}.": f"l_conv{i}." for i in (0, 1, 2)},
    **{f"stem.little.{3 * i + 1}.": f"bn_l{i}." for i in (0, 1, 2)},
    **{"stem.fusion.0.": "bl_init.", "stem.fusion.1.": "bn_bl_init."},
    **{f"stage{i}.little.expand.": f"layer{i}.little_e." for i in (1, 2, 3)},
    **{f"stage{i}.fusion.": f"layer{i}.fusion.0." for i in (1, 2, 3)},
    **{f"stage{i}.": f"layer{i}." for i in (1, 2, 3, 4)},
    "stem.tam.": "tam.",
}


def official_zeros(builder=blvnet, num_classes=1000, **arguments) -> dict[str, torch.Tensor]:
    """The official names and shapes of a model, as zeros that take no room, in memory or on disk.

    Of `blvnet` the image layout, of `blvnet_tam` the video layout.
    """
    with torch.device("meta"):
        model = builder(num_classes=num_classes, **arguments)
    prefix, found = "baseline_model." if builder is blvnet_tam else "", {}
    for name, tensor in model.state_dict().items():
        for ours, official in OFFICIAL_NAMES.items():
            if name.startswith(ours):
                name = prefix + name.replace(ours, official, 1)
                break
        name = name.replace("classifier.", "new_fc." if prefix else "fc.")
        if name.endswith(".taps"):
            words = ["prev", "curr", "next"] if len(tensor) == 3 else None
            for i in range(len(tensor)):
                tap = words[i] if words else f"blending_layers.{i}"
                key = name.replace("taps", f"{tap}.weight")
                found[key] = torch.zeros(1).expand(tensor.shape[1], 1, 1, 1)
        else:
            found[name] = torch.zeros(1, dtype=tensor.dtype).reshape(()).expand(tensor.shape)
    return found


def imported(checkpoint: dict, folder: Path, **options):
    """The model and the report, of a file that holds the checkpoint."""
    torch.save(checkpoint, folder / "checkpoint.pth")
    found = import_official(folder / "checkpoint.pth", None, **options)
    return found.model, found.report


@pytest.mark.parametrize("case", ["r50_f4x2_blend5", "r101_f4x2_nodropout"])
def test_imported_file_has_the_published_logits(case, tmp_path, monkeypatch, capsys):
    config = CASES[case]["config"]
    path, out = tmp_path / "checkpoint.pth.tar", tmp_path / "new" / "model.safetensors"
    wrapped = {f"module.{key}": value for key, value in official_state(case).items()}
    momentum = {"state": {0: {"momentum_buffer": torch.zeros(3)}}, "param_groups": [{"lr": 0.1}]}
    beside = {"optimizer": momentum, "epoch": 3, "best_top1": torch.tensor(6.1)}
    torch.save({"state_dict": wrapped, **beside}, path)
    type_command(monkeypatch, "import-official", path, out, "--num-frames", config["frames"])
    text = capsys.readouterr().out
    assert f"video checkpoint: {len(load_model(out).state_dict())} tensors" in text
    assert f"depth={config['depth']}" in text

    model = load_model(out)
    wanted = {"num_taps": config["blending_frames"], "depth": config["depth"], "alpha": 2}
    wanted |= {"num_classes": config["num_classes"], "num_frames": config["frames"]}
    assert wanted.items() <= model.arguments.items() and model.architecture == "blvnet_tam"
    assert load_notes(out) == {"source": {"file": "checkpoint.pth.tar", "layout": "video"}}
    assert str(tmp_path).encode() not in out.read_bytes()
    assert_published_logits(model, case)
    for large in (path, out):
        large.unlink()


@pytest.mark.parametrize("layout, builder", [("image", blvnet), ("video", blvnet_tam)])
def test_every_depth_is_recognised(layout, builder):
    for depth in (50, 101, 152):
        found = read_published(official_zeros(builder, depth=depth))
        assert (found.sizes["depth"], found.layout) == (depth, layout)
        assert found.sizes.get("num_classes") == (None if layout == "image" else 1000)


def test_the_checkpoint_says_how_it_is_built(tmp_path):
    shapes = {"alpha": 4, "num_taps": 1, "in_channels": 10}
    zeros = official_zeros(blvnet_tam, 7, **shapes)
    model, report = imported(zeros, tmp_path, num_frames=2)
    assert (shapes | {"num_classes": 7, "num_frames": 2}).items() <= model.arguments.items()
    assert (report.adapted, report.kept) == ([], [])
    # Fine-tuned on other images, without video: that classifier is used.
    model, report = imported(official_zeros(num_classes=12), tmp_path)
    assert model.arguments["num_classes"] == 12 and "classifier.weight" in report.loaded


def test_image_layout_begins_with_the_taps_that_are_asked_for(tmp_path, monkeypatch, capsys):
    path = tmp_path / "bLResNet-50.pth"
    zeros = {f"module.{key}": value for key, value in official_zeros().items()}
    torch.save({"state_dict": zeros}, path)
    options = {"num_classes": 5, "in_channels": 10, "tap_init": "kaiming"}
    out = tmp_path / "model.safetensors"
    typed = [word for key, value in options.items() for word in ("--" + key, value)]
    type_command(monkeypatch, "import-official", path, out, *typed)
    text = capsys.readouterr().out
    assert "1 adapted" in text and "9 not in this checkpoint" in text and "2 of the" in text
    model = load_model(out)
    assert model.arguments["num_classes"] == 5 and model.arguments["in_channels"] == 10
    taps = model.stage2.tam.taps
    assert taps.mean().abs() < 0.1, "random signs, not near the identity"

    rng = torch.get_rng_state()
    found = (import_official(path, None, **given).model for given in (options, {}))
    again, near_identity = (model.stage2.tam.taps for model in found)
    assert torch.equal(torch.get_rng_state(), rng) and torch.equal(taps, again)
    assert (near_identity.mean(1) - torch.tensor([0.0, 1.0, 0.0])).abs().max() < 0.05


def without(*keys, **arguments) -> dict[str, torch.Tensor]:
    zeros = official_zeros(blvnet_tam, 7, **arguments)
    return {key: tensor for key, tensor in zeros.items() if not key.endswith(keys)}


def torchvision_names() -> dict[str, torch.Tensor]:
    from torchvision.models import resnet50

    with torch.device("meta"):
        return {key: torch.zeros(1000) for key in resnet50().state_dict()}


def blocks_left_out() -> dict[str, torch.Tensor]:
    return {k: v for k, v in official_zeros().items() if not k.startswith(("layer3.big.4.", "fc"))}


def test_what_cannot_be_imported_is_said(tmp_path):
    for checkpoint, options, words in (
        (without, {"num_classes": 8}, ["misshapen: classifier.weight (model (8, ", "num_classes"]),
        (lambda: without(in_channels=10), {"in_channels": 3}, ["misshapen: stem.conv.weight"]),
        (without, {"num_frames": 7}, ["even num_frames, got 7"]),
        (official_zeros, {"num_classes": 0}, ["at least 1, got 16, 0 and 3"]),
        (blocks_left_out, {}, ["50 (3, 4, 6, 3)", "got one with (3, 4, 5, 3)"]),
        (torchvision_names, {}, ["torchvision", "load_resnet", "--init"]),
        (lambda: {"encoder.weight": torch.zeros(1)}, {}, ["(0, 0, 0, 0)", "encoder.weight"]),
        (lambda: without("model.conv1.weight"), {}, ["missing: stem.conv.weight"]),
        (lambda: without("new_fc.weight"), {}, ["missing: classifier.weight"]),
        (lambda: without("baseline_model.tam.prev.weight"), {}, ["taps of stem.tam", "[1, 2]"]),
        (lambda: {1: torch.zeros(1), "a": 2}, {}, ["none: 1, a"]),
    ):
        with pytest.raises(ValueError) as error:
            imported(checkpoint(), tmp_path, **options)
        for word in words:
            assert word in str(error.value)


class RunsACommand:
    def __init__(self, command: str):
        self.command = command

    def __reduce__(self):
        return (os.system, (self.command,))


class Custom:
    """Harmless, but no tensor and no plain container."""


def test_refused_files_leave_everything_as_it_was(tmp_path, monkeypatch):
    path, out, ran = tmp_path / "file.pth", tmp_path / "model.safetensors", tmp_path / "ran"
    out.write_text("the model that was there before")
    torch.save(official_zeros(), path)
    whole, calls = path.read_bytes(), f"{os.system.__module__}.system"
    for content, words in (
        (RunsACommand(f"touch {ran}"), f"would call {calls}: a pickle can run any program"),
        ({"state_dict": {}, "args": Custom()}, "would call test_official.Custom"),
        (whole[:9999], r"damaged or another kind .*: give the right file, or delete a damaged"),
        (b"<html>404</html>", "damaged or another kind of file"),
        ({}, "got an empty one"),
        ([1, 2], "expected a state dict, got list"),
        (None, "there is no file"),
    ):
        path.unlink(missing_ok=True)
        if isinstance(content, bytes):
            path.write_bytes(content)
        elif content is not None:
            torch.save(content, path)
        with pytest.raises(SystemExit, match=words) as error:
            type_command(monkeypatch, "import-official", path, out)
        assert str(error.value).startswith("blvnet_lab: ") and "\n" not in str(error.value)
        assert "Re-running" not in str(error.value), "PyTorch's advice to load it unsafely"
        assert not ran.exists()
        assert out.read_text() == "the model that was there before"
    assert sorted(tmp_path.iterdir()) == [out]


def test_a_checkpoint_of_ours_needs_no_import(tmp_path):
    model = blvnet_tam(depth="tiny", num_frames=4)
    torch.save(model.state_dict(), tmp_path / "own.pt")
    for read in (lambda path: import_official(path, None), lambda path: load_official(model, path)):
        with pytest.raises(ValueError, match=r"our names already.*load_model"):
            read(tmp_path / "own.pt")


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("core", [b"numpy._core.multiarray", b"numpy.core.multiarray"])
def test_what_training_scripts_keep_beside_the_weights_is_left_out(core, zipped, tmp_path):
    weights = {"layer.weight": torch.ones(2)}
    beside = {
        "best": np.float64(71.2),
        "epoch": np.int64(3),
        "confusion": np.eye(2, dtype=np.float32),
        "args": argparse.Namespace(lr=0.1, out=Path("runs"), when=datetime(2019, 12, 2)),
        "more": SimpleNamespace(best=np.float32(1)),
    }
    path = tmp_path / "checkpoint.pth.tar"
    known = torch.serialization.get_safe_globals()
    # As written by NumPy before version 2 and since, in Python's protocol that names them so.
    pickled = pickle.dumps(beside["best"], 2)
    assert b"multiarray" in pickled
    torch.save({"state_dict": weights, **beside}, path, _use_new_zipfile_serialization=zipped)
    if not zipped:
        own = re.search(rb"numpy\._?core\.multiarray", pickled)[0]
        path.write_bytes(path.read_bytes().replace(own + b"\n", core + b"\n"))
    found = bare_state_dict(path)
    assert list(found) == ["layer.weight"] and torch.equal(*found.values(), *weights.values())
    assert set(torch.serialization.get_safe_globals()) == set(known)
    torch.save({"state_dict": weights, "hook": print}, path)
    with pytest.raises(ValueError, match=r"would call .*print: a pickle can run any program"):
        bare_state_dict(path)
