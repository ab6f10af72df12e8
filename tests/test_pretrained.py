"""Starting from a torchvision ResNet: torchvision's own modules are the oracle.

All weights are random, and nothing is downloaded: the download is replaced where it is tested.
"""

import copy
import json
import pickle
from http.client import IncompleteRead
from pathlib import Path
from urllib.error import URLError

import pytest
import torch
import torchvision
from nets import EXACT, assert_state, state_of
from torch import nn

from blvnet_lab.models import blvnet, blvnet_tam, tsn, tsn_blnet
from blvnet_lab.runs.train import start_from
from blvnet_lab.weights.official import is_resnet, load_resnet, torchvision_resnet

CASES = json.loads((Path(__file__).parent / "data" / "official_cases.json").read_text())
OFFICIAL = {  # names and shapes of an official video checkpoint
    key: torch.zeros(shape) for key, shape in CASES["r50_f4x2_blend5"]["state_dict_shapes"].items()
}


def trained(builder, *, seed: int = 0, double: bool = False, **arguments) -> nn.Module:
    """A network in eval mode with other random values in every tensor, as after a training.

    It is built without values first: drawing those that are drawn over here takes seconds.
    """
    with torch.device("meta"):
        model = builder(**arguments)
    model = (model.double() if double else model).to_empty(device="cpu").eval()
    generator = torch.Generator().manual_seed(seed)
    for number, (name, tensor) in enumerate(model.state_dict().items()):
        if name.endswith("num_batches_tracked"):
            tensor.fill_(1000 * seed + number)
        elif name.endswith("running_var") or (name.endswith(".weight") and tensor.ndim == 1):
            tensor.uniform_(0.5, 1.5, generator=generator)
        elif tensor.ndim == 4:
            tensor.normal_(0, (2 / tensor[0].numel()) ** 0.5, generator=generator)
        else:
            tensor.normal_(0, 0.1, generator=generator)
    return model


def shapes_of(builder, **arguments) -> dict[str, torch.Tensor]:
    """A state dict without values: enough to be refused."""
    with torch.device("meta"):
        return builder(**arguments).state_dict()


@pytest.fixture(scope="module")
def r50():
    return trained(torchvision.models.resnet50, double=True)


@pytest.fixture(scope="module")
def unchanged():
    """A model of each kind and what it holds: those that refuse can share it."""
    models = {builder: trained(builder, depth=50, seed=1) for builder in (tsn, blvnet_tam)}
    return {builder: (model, state_of(model)) for builder, model in models.items()}


def test_tsn_is_torchvisions_network():
    """Of the deepest; test_peers has the others."""
    resnet = trained(torchvision.models.resnet152)
    model = trained(tsn, depth=152, num_frames=2, num_classes=7, seed=1)
    before = state_of(model)
    report = load_resnet(model, resnet.state_dict())
    assert report.kept == ["classifier.weight", "classifier.bias"]
    assert report.ignored == ["fc.weight", "fc.bias"]
    assert sorted(report.loaded + report.kept) == sorted(model.state_dict())
    assert report.adapted == []
    assert all(torch.equal(model.state_dict()[name], before[name]) for name in report.kept)

    clip = torch.randn(2, 2, 3, 33, 47, generator=torch.Generator().manual_seed(1))
    resnet.fc = nn.Identity()
    with torch.no_grad():
        features = resnet(clip.flatten(0, 1)).unflatten(0, (2, 2))  # (B, T, 2048)
        ours = model.forward_features(clip).mean((-2, -1))
        torch.testing.assert_close(ours, features)
        torch.testing.assert_close(model(clip), model.classifier(features).mean(1))


def moved(block: nn.Module, stride: int) -> nn.Module:
    """Torchvision's block with the stride that it has here, and an averaging shortcut."""
    match = [] if block.downsample is None else [*block.downsample]
    pool = [nn.AvgPool2d(3, stride, padding=1)] if stride == 2 else []
    block.conv2.stride = (stride, stride)
    for conv in match[:1]:
        conv.stride = (1, 1)
    block.downsample = nn.Sequential(*pool, *match) if pool or match else None
    return block


@pytest.mark.parametrize("builder", [tsn_blnet, blvnet])
def test_big_little_blocks_compute_what_torchvisions_do(builder, r50):
    model = trained(builder, depth=50, seed=1, double=True)
    load_resnet(model, r50.state_dict())
    here = [*model.stage1.big, model.stage1.fusion, *model.stage2.big, model.stage2.fusion]
    here += [*model.stage3.big, model.stage3.fusion, *[model.stage4[i] for i in range(3)]]
    resnet = copy.deepcopy(r50)  # its strides are moved below
    there = [*resnet.layer1, *resnet.layer2, *resnet.layer3, *resnet.layer4]
    # Where a big branch begins, after stages 1 and 2, and where stage 4 begins.
    halved = [0, 2, 3, 6, 7, 13]
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for i, (ours, theirs) in enumerate(zip(here, there, strict=True)):
            channels = theirs.conv1.in_channels
            x = torch.randn(2, channels, 8, 8, generator=generator, dtype=torch.float64)
            if i not in halved:
                assert theirs.downsample is None
                assert torch.equal(torch.relu(ours(x)), theirs(x)), i  # nothing was moved
            else:
                expected = moved(theirs, stride=2)(x)
                assert expected.shape[-1] == 4
                torch.testing.assert_close(torch.relu(ours(x)), expected, **EXACT)
        x = torch.randn(2, 3, 16, 16, generator=generator, dtype=torch.float64)
        assert torch.equal(model.stem.bn(model.stem.conv(x)), r50.bn1(r50.conv1(x)))


def test_temporal_model_gets_the_same_and_keeps_the_rest(r50):
    model = trained(blvnet_tam, depth=50, seed=1, double=True)
    still = trained(blvnet, depth=50, seed=2, double=True)
    before = state_of(model)
    report = load_resnet(model, r50.state_dict())
    load_resnet(still, r50.state_dict())
    after = model.state_dict()
    assert len(set(report.loaded)) == len(report.loaded) == len(r50.state_dict()) - 2
    assert sorted(report.loaded + report.kept) == sorted(after)
    assert (report.adapted, report.ignored) == ([], ["fc.weight", "fc.bias"])
    for name in report.loaded:
        assert torch.equal(after[name], still.state_dict()[name]), name
        assert not torch.equal(after[name], before[name]), name
    for name in report.kept:
        assert torch.equal(after[name], before[name]), name
    # One of each stage, written out, batch counters included.
    for ours, theirs in {
        "stem.bn.running_var": "bn1.running_var",
        "stage1.big.0.downsample.1.weight": "layer1.0.downsample.0.weight",
        "stage2.big.2.conv2.weight": "layer2.2.conv2.weight",
        "stage2.fusion.bn3.bias": "layer2.3.bn3.bias",
        "stage3.fusion.bn1.num_batches_tracked": "layer3.5.bn1.num_batches_tracked",
        "stage4.0.downsample.2.running_mean": "layer4.0.downsample.1.running_mean",
    }.items():
        assert torch.equal(after[ours], r50.state_dict()[theirs]), ours


def test_report_names_the_parts_that_were_not_started(r50):
    lines = str(load_resnet(trained(blvnet_tam, depth=50), r50.state_dict())).splitlines()
    assert lines == [
        "resnet checkpoint: 318 tensors loaded",
        # 6 tensors for a convolution and its batch norm, 18 for a bottleneck, 6 for a shortcut's
        "  117 not in this checkpoint, left as they were: classifier: 2, taps: 7, stem.big: 6, "
        "stem.little: 18, stem.fusion: 6, stage1.little: 30, stage2.little: 24, stage3.little: 24",
        "  2 of the checkpoint, not used: fc.weight, fc.bias",
    ]


def test_optical_flow_averages_the_channels(r50):
    model = trained(blvnet_tam, depth=50, in_channels=10, seed=1, double=True)
    report = load_resnet(model, r50.state_dict())
    assert report.adapted == ["stem.conv.weight"] and "stem.conv.weight" in report.loaded
    assert "1 adapted to the number of input channels: stem.conv.weight" in str(report)
    mean = sum(r50.conv1.weight[:, channel] for channel in range(3)) / 3
    for channel in range(10):
        torch.testing.assert_close(model.stem.conv.weight[:, channel], mean, **EXACT)
    assert r50.conv1.weight.shape[1] == 3  # the checkpoint is as it was
    for shape in [(64,), (64, 4, 7, 7)]:
        with pytest.raises(ValueError, match=r"misshapen: stem\.conv\.weight"):
            load_resnet(model, r50.state_dict() | {"conv1.weight": torch.zeros(shape)})


def test_files_of_training_runs_and_of_other_classifiers(r50, tmp_path):
    state, path = dict(r50.state_dict()), tmp_path / "resnet.pth"
    other = state | {"fc.weight": torch.zeros(5, 2048), "fc.bias": torch.zeros(5)}
    bare = {name: tensor for name, tensor in state.items() if not name.startswith("fc.")}
    old = {name: tensor for name, tensor in state.items() if "num_batches" not in name}
    parallel = {f"module.{name}": tensor for name, tensor in state.items()}
    for content in (state, other, bare, old, {"state_dict": parallel, "epoch": 90}):
        torch.save(content, path)
        model = trained(blvnet, depth=50, double=True, seed=1)
        report = load_resnet(model, str(path))
        assert is_resnet(path) and len(report.loaded) == 318
        assert report.ignored == ([] if content is bare else ["fc.weight", "fc.bias"])
        assert torch.equal(model.stage3.fusion.conv1.weight, r50.layer3[5].conv1.weight)
        if content is old:  # before there were batch counters
            assert model.stem.bn.num_batches_tracked == model.stage4[0].bn1.num_batches_tracked == 0
            assert model.stem.big[1].num_batches_tracked > 0


@pytest.mark.parametrize("builder", [tsn, blvnet_tam])
def test_what_does_not_fit_is_named_and_nothing_is_loaded(r50, unchanged, builder):
    state = dict(r50.state_dict()) | {"extra": torch.zeros(1), "bn1.weight": torch.zeros(63)}
    del state["bn1.bias"]
    model, before = unchanged[builder]
    words = r"missing: stem\.bn\.bias; left over: extra; misshapen: .*\(63,\)"
    with pytest.raises(ValueError, match=rf"{words}.*Give the weights of .*\.resnet50"):
        load_resnet(model, state)
    assert_state(model, before)


@pytest.mark.parametrize("builder, depth", [(blvnet_tam, 101), (tsn_blnet, "tiny"), (tsn, "tiny")])
def test_depths_without_a_resnet(builder, depth, tmp_path):
    with torch.device("meta"):
        model = builder(depth=depth)
    with pytest.raises(ValueError) as error:  # before any file is read
        load_resnet(model, tmp_path / "missing.pth")
    assert f"got a {builder.__name__} of depth {depth}: build it with depth=50" in str(error.value)


def test_layouts_differ_by_their_names():
    assert is_resnet(shapes_of(torchvision.models.resnet152))
    assert not is_resnet(OFFICIAL)
    assert not is_resnet({key.removeprefix("baseline_model."): v for key, v in OFFICIAL.items()})
    assert not is_resnet(shapes_of(tsn, depth=50))


def test_download_is_of_the_newest_weights_checked_and_kept(torch_hub, monkeypatch):
    asked, names = [], ["resnet50-11ad3fa6", "resnet101-cd907fc2", "resnet152-f82ba261"]

    def download(url, dst, hash_prefix=None, progress=True):
        asked.append((url, hash_prefix))
        torch.save({"conv1.weight": torch.ones(2)}, dst)

    monkeypatch.setattr(torch.hub, "download_url_to_file", download)
    for depth in (50, 101, 152, 50):
        assert torch.equal(torch.load(torchvision_resnet(depth))["conv1.weight"], torch.ones(2))
    address = "https://download.pytorch.org/models"
    assert asked == [(f"{address}/{name}.pth", name.partition("-")[2]) for name in names]
    assert sorted(path.stem for path in torch_hub.iterdir()) == sorted(names)


@pytest.mark.parametrize("failure", [URLError("no route"), IncompleteRead(b"half")])
def test_failing_download_says_what_to_do(torch_hub, monkeypatch, failure):
    def download(*args, **kwargs):
        raise failure

    monkeypatch.setattr(torch.hub, "download_url_to_file", download)
    with pytest.raises(OSError) as error:
        torchvision_resnet(101)
    for words in (
        "expected to download the ImageNet weights of ResNet-101 from https://download.pytorch.org",
        f"got: {type(failure).__name__} ",
        str(failure),
        "on another machine and give the file's path",
    ):
        assert words in str(error.value)
    assert type(error.value) is OSError and error.value.__cause__ is failure


def test_damaged_download_of_before(torch_hub):
    torch_hub.mkdir(parents=True)
    with torch.device("meta"):
        model = tsn(depth=50)
    for content in (b"<html>404</html>", pickle.dumps(Path.home, 2)):  # the second would call it
        (file := torch_hub / "resnet50-11ad3fa6.pth").write_bytes(content)
        with pytest.raises(ValueError, match=f"{file}: expected a checkpoint"):
            start_from(model, "torchvision")
