"""Parity with the published implementation, and the strictness of loading its checkpoints."""

import json
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch

from blvnet_lab.models import blvnet, blvnet_tam, tsn, tsn_blnet
from blvnet_lab.models.official import load_official

DATA = Path(__file__).parent / "data"
CASES = json.loads((DATA / "official_cases.json").read_text())
LOGITS = np.load(DATA / "official_logits.npz")

# Where the published network's intermediate results are found in ours. The outputs of its stages
# are copied to both frames of a pair; ours hold one map per pair.
PLACES = {
    "conv1": "stem.conv",
    "tam": "stem.tam",
    **{f"layer{i}.tam": f"stage{i}.tam" for i in (1, 2, 3)},
    **{f"layer{i}.big": f"stage{i}.big" for i in (1, 2, 3)},
    **{f"layer{i}.little_e": f"stage{i}.little" for i in (1, 2, 3)},
    **{f"layer{i}.fusion": f"stage{i}.fusion" for i in (1, 2, 3)},
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


def official_state(case: str) -> dict[str, torch.Tensor]:
    shapes = CASES[case]["state_dict_shapes"]
    return {key: official_tensor(key, shape) for key, shape in shapes.items()}


def model_of(case: str, **changes):
    config = CASES[case]["config"]
    arguments = {
        "depth": config["depth"],
        "num_frames": config["frames"],
        "num_classes": config["num_classes"],
        "num_taps": config["blending_frames"],
        "dropout": config["dropout"],
    }
    return blvnet_tam(**(arguments | changes)).eval()


@pytest.fixture(scope="module")
def r50():
    return official_state("r50_f4x2_blend5"), model_of("r50_f4x2_blend5")


@pytest.mark.parametrize("case", CASES)
def test_same_logits_and_activations_as_published(case):
    state, model = official_state(case), model_of(case)
    report = load_official(model, state)
    assert report.layout == "video"
    assert sorted(report.loaded) == sorted(model.state_dict())
    assert (report.adapted, report.kept, report.ignored) == ([], [], [])

    seen = {}
    for place in PLACES.values():
        model.get_submodule(place).register_forward_hook(
            lambda module, args, output, place=place: seen.__setitem__(place, output)
        )
    clip = np.random.default_rng(CASES[case]["input_seed"])
    clip = torch.from_numpy(clip.standard_normal(CASES[case]["input_shape"]).astype(np.float32))
    with torch.no_grad():
        logits = model(clip)

    published = torch.from_numpy(LOGITS[case])
    assert (logits - published).abs().max() <= 1e-5 * published.abs().max()

    for name, expected in CASES[case]["activations"].items():
        if name in PLACES:
            ours = seen[PLACES[name]]
            if isinstance(ours, tuple):  # little and big of each pair -> frames, little first
                ours = torch.stack(ours, dim=2)
        else:  # layer1..3: the merged map, copied to both frames of its pair
            ours = seen[f"stage{name[-1]}.fusion"].repeat_interleave(2, dim=0)
        ours = ours.reshape(expected["shape"]).double()
        scale = expected["std"]
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


def test_image_layout_leaves_taps_and_classifier(r50):
    state, _ = r50
    model = model_of("r50_f4x2_blend5")
    taps = model.stem.tam.taps.detach().clone()
    report = load_official(model, image_state(state))
    assert report.layout == "image"
    assert len(report.kept) == 7 + 2  # seven TAMs, weight and bias of the classifier
    assert report.ignored == ["fc.weight", "fc.bias"]
    assert torch.equal(model.stem.tam.taps, taps)
    assert torch.equal(model.stem.conv.weight, state["baseline_model.conv1.weight"])
    assert "9 not in this checkpoint" in str(report)
    for builder in (blvnet, tsn_blnet):  # no TAM: only the classifier is left
        assert len(load_official(builder(num_frames=8), image_state(state)).kept) == 2


def test_optical_flow_averages_the_colours(r50):
    state, _ = r50
    model = model_of("r50_f4x2_blend5", in_channels=10)
    report = load_official(model, state)
    assert report.adapted == ["stem.conv.weight"]
    mean = state["baseline_model.conv1.weight"].double().mean(1)
    assert model.stem.conv.weight.shape == (64, 10, 7, 7)
    for channel in (0, 9):
        torch.testing.assert_close(model.stem.conv.weight[:, channel].double(), mean)


def test_training_checkpoint_file(r50, tmp_path):
    state, model = r50
    path = tmp_path / "checkpoint.pth.tar"
    wrapped = {f"module.{key}": value for key, value in state.items()}
    torch.save({"state_dict": wrapped, "optimizer": {"lr": 0.1}, "epoch": 3}, path)
    assert len(load_official(model, path).loaded) == len(model.state_dict())


@pytest.mark.parametrize(
    "change, words",
    [
        (lambda s: s.pop("baseline_model.layer2.tam.blending_layers.4.weight"), "stage2.tam.taps"),
        (lambda s: s.pop("baseline_model.layer2.tam.blending_layers.1.weight"), "taps of stage2"),
        (lambda s: s.pop("baseline_model.bn1.bias"), "missing: stem.bn.bias"),
        (lambda s: s.update({"baseline_model.extra": torch.zeros(1)}), "left over: extra"),
        (lambda s: s.update({"new_fc.bias": torch.zeros(7)}), "checkpoint (7,)"),
        (lambda s: s.update({"epoch": 3}), "none: epoch"),
    ],
)
def test_what_does_not_fit_is_named_and_nothing_is_loaded(r50, change, words):
    state, _ = r50
    state = dict(state)
    change(state)
    model = model_of("r50_f4x2_blend5")
    before = model.stem.conv.weight.detach().clone()
    with pytest.raises(ValueError) as error:
        load_official(model, state)
    assert words in str(error.value)
    assert torch.equal(model.stem.conv.weight, before)


def test_wrong_depth_and_wrong_network(r50):
    state, _ = r50
    with pytest.raises(ValueError, match=r"missing: stage\d.* more"):
        load_official(model_of("r50_f4x2_blend5", depth=101), state)
    with pytest.raises(ValueError, match=r"left over: stem\.tam\.taps"):
        load_official(blvnet(num_frames=8, num_classes=10), state)
    with pytest.raises(TypeError, match="got TSN"):
        load_official(tsn(depth="tiny"), state)


class Harmful:
    def __reduce__(self):
        return (print, ("this ran",))


@pytest.mark.parametrize(
    "content, words",
    [
        (None, "there is no file"),
        (b"", "torch.load"),
        (b"<html>404</html>", "torch.load"),
        (Harmful(), "weights_only"),
        ([1, 2], "expected a state dict, got list"),
    ],
)
def test_files_that_are_no_checkpoint(tmp_path, capfd, content, words):
    path = tmp_path / "checkpoint.pth"
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif content is not None:
        torch.save(content, path)
    with pytest.raises(ValueError, match=words) as error:
        load_official(blvnet(depth="tiny"), path)
    assert str(path) in str(error.value)
    assert "this ran" not in capfd.readouterr().out


def test_truncated_file(r50, tmp_path):
    path = tmp_path / "checkpoint.pth"
    torch.save(r50[0], path)
    path.write_bytes(path.read_bytes()[:100_000])
    with pytest.raises(ValueError, match="download it again"):
        load_official(r50[1], path)
