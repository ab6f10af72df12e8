"""Networks that others have published, read from their own files: TAM-ResNet, TSM and TSN.

Oracles: the logits that their code gives (`data/peer_logits.npz`), and, for what these cases do not
hold, torchvision's ResNet with the temporal module put in front of its first convolutions here.
"""

import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision
from lab import type_command
from nets import conv3d_tam, network, randomized, tam_resnet, tsm, watched
from test_official import assert_published_logits, assert_published_maps, official_tensor
from torch import nn

from blvnet_lab.introspect import derived_receptive_field, effective_pair_taps
from blvnet_lab.introspect.taps import tam_roles, tam_weights
from blvnet_lab.models import TAM, blvnet_tam, load_model, save_model, tsn
from blvnet_lab.runs.train import start_from
from blvnet_lab.weights import import_official, load_official, load_resnet
from blvnet_lab.weights.official import RELEASED
from blvnet_lab.weights.taps import load_taps, save_taps

DATA = Path(__file__).parent / "data"
CASES = json.loads((DATA / "peer_cases.json").read_text())
LOGITS = np.load(DATA / "peer_logits.npz")
FILES = {  # what wraps the tensors, and names of files, as the three code bases have them
    "ibm": ("SSV2-TAM-ResNet-f8.pth.tar", lambda state: {"state_dict": state}),
    "tsm": (
        "TSM_something_RGB_resnet50_shift8_blockres_avg_segment8_e45.pth",
        lambda state: {"epoch": 45, "arch": "resnet50", "state_dict": state, "best_prec1": 58.8},
    ),
    "mmaction2": (
        "tsm_imagenet-pretrained-r50.pth",
        lambda state: {"meta": {"cfg": "model = dict(shift_div = 8)"}, "state_dict": state},
    ),
}


def wrapped(layout: str, state: dict, folder: Path) -> Path:
    name, wrap = FILES[layout]
    torch.save(wrap(state), folder / name)
    return folder / name


def in_ours(name: str) -> str:
    """Where the outputs of a published module are found in our network."""
    last = name.split("layer")[-1] if "layer" in name else name.rpartition(".")[2]
    if "layer" not in name:
        return "stem.pool" if last == "maxpool" else "classifier"
    return "stage" + last.removesuffix(".conv")


@pytest.mark.parametrize("case", CASES)
def test_imported_network_gives_the_published_logits(case, tmp_path, monkeypatch, capsys):
    config, layout = CASES[case]["config"], CASES[case]["layout"]
    shapes = CASES[case]["state_dict_shapes"].items()
    state = {key: official_tensor(key, shape) for key, shape in shapes}
    path, out = wrapped(layout, state, tmp_path), tmp_path / "model.safetensors"
    type_command(monkeypatch, "import-official", path, out)
    assert f"{layout} checkpoint: " in capsys.readouterr().out
    model = load_model(out)
    expected = {"depth": config["depth"], "num_classes": config["num_classes"], "num_frames": 8}
    assert expected.items() <= model.arguments.items()
    is_shifted = config.get("shift")
    assert model.architecture == {None: "tam_resnet", True: "tsm", False: "tsn"}[is_shifted]

    seen = watched(model, *map(in_ours, CASES[case]["activations"]))
    assert_published_logits(model, case, CASES, LOGITS)
    for name, expected in CASES[case]["activations"].items():
        assert_published_maps(seen[in_ours(name)], expected, name)


class Temporal(nn.Module):
    """A function of clips (B, T, C, H, W) in front of a convolution on frames."""

    def __init__(self, function, num_frames: int, net: nn.Module):
        super().__init__()
        self.function, self.num_frames, self.net = function, num_frames, net

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        clips = x.unflatten(0, (-1, self.num_frames))
        return self.net(self.function(clips).flatten(0, 1))


def shifted(fold: int):
    def shift(x: torch.Tensor) -> torch.Tensor:
        y, moved = x.clone(), x.shape[2] // fold
        y[:, :, : 2 * moved] = 0
        y[:, :-1, :moved] = x[:, 1:, :moved]
        y[:, 1:, moved : 2 * moved] = x[:, :-1, moved : 2 * moved]
        return y

    return shift


def resnet(depth: int, num_classes: int = 5) -> nn.Module:
    torch.manual_seed(depth)
    return randomized(getattr(torchvision.models, f"resnet{depth}")(num_classes=num_classes))


def in_blocks(net: nn.Module, num_frames: int, function_of, every: int = 1) -> dict[str, nn.Module]:
    """Put a temporal function before the first convolution of every n-th block; return those."""
    found = {}
    for stage in (1, 2, 3, 4):
        for i, block in enumerate(getattr(net, f"layer{stage}")):
            if i % every == 0:
                function = function_of(f"layer{stage}.{i}", block.conv1.in_channels)
                conv = Temporal(function, num_frames, block.conv1)
                block.conv1 = found[f"layer{stage}.{i}"] = conv
    return found


def assert_same(model: nn.Module, net: nn.Module, num_frames: int) -> None:
    clip = torch.randn(2, num_frames, 3, 32, 32, dtype=torch.float64)
    with torch.no_grad():
        expected = net(clip.flatten(0, 1)).unflatten(0, (-1, num_frames)).mean(1)
        logits = model.double()(clip)
    assert (logits - expected).abs().max() <= 1e-6 * expected.abs().max()


def in_tsm(net: nn.Module) -> dict[str, torch.Tensor]:
    """The network under the names of TSM's files."""
    return {f"module.base_model.{key}": value for key, value in net.state_dict().items()}


@pytest.mark.parametrize("depth, fold, every", [(18, 8, 1), (34, 4, 1), (101, 8, 2)])
def test_tsm_of_other_depths_and_divisors(depth, fold, every, tmp_path):
    net = resnet(depth)
    in_blocks(net, 6, lambda name, channels: shifted(fold), every)
    torch.save({"state_dict": in_tsm(net)}, tmp_path / "mine.pth")
    found = import_official(tmp_path / "mine.pth", None, num_frames=6, shift_div=fold)
    assert (found.model.architecture, found.model.arguments["depth"]) == ("tsm", depth)
    assert_same(found.model, net, 6)


@pytest.mark.parametrize("depth, num_taps", [(34, 5), (18, 1)])  # 50 and 3 are above
def test_tam_resnet_of_other_depths_and_taps(depth, num_taps, tmp_path):
    net, taps = resnet(depth), {}

    def tam_of(name: str, channels: int):
        taps[name] = torch.rand(num_taps, channels, dtype=torch.float64) - 0.3
        return lambda x: conv3d_tam(x, taps[name])

    in_blocks(net, 4, tam_of)
    words = [f"blending_layers.{i}" for i in range(num_taps)]
    state = {key.replace(".net.", "."): value for key, value in net.state_dict().items()}
    for name, weights in taps.items():
        for word, row in zip(words, weights, strict=True):
            state[f"{name}.tam.{word}.fc1.weight"] = row.reshape(-1, 1, 1, 1)
    path = tmp_path / "checkpoint.pth.tar"
    arch = f"st2stv2-rgb-TAM-b{num_taps}-sum-resnet-{depth}-f4-cosine-bs72-e75"
    torch.save({"arch": arch, "state_dict": {f"module.{k}": v for k, v in state.items()}}, path)
    found = import_official(path, None)
    expected = {"depth": depth, "num_taps": num_taps, "num_frames": 4, "num_classes": 5}
    assert expected.items() <= found.model.arguments.items()
    assert_same(found.model, net, 4)
    with pytest.raises(ValueError, match=r"temporal pooling, got arch .*-max-"):
        load_official(found.model, {"arch": arch.replace("sum", "max"), "state_dict": state})


@pytest.mark.parametrize("depth", [18, 50])
def test_with_identity_taps_the_network_is_the_image_network_averaged(depth):
    net = resnet(depth)
    for builder in (tsn, tam_resnet):
        model = builder(depth=depth, num_frames=4, num_classes=5).eval()
        load_resnet(model, net.state_dict())
        model.classifier.load_state_dict(net.fc.state_dict())
        for module in model.modules():
            if isinstance(module, TAM):
                module.taps.data = torch.tensor([[0.0], [1.0], [0.0]]).expand_as(module.taps)
        assert_same(model, net, 4)


@pytest.fixture
def tsm_file(tmp_path) -> Path:
    net = resnet(18)
    in_blocks(net, 8, lambda name, channels: shifted(8))
    return wrapped("tsm", in_tsm(net), tmp_path)


def test_a_tam_resnet_starts_at_a_tsm(tsm_file):
    """The same function, whose taps can learn; with other classes, all but the classifier."""
    theirs = import_official(tsm_file, None).model
    ours = tam_resnet(depth=18, num_frames=8, num_classes=5).eval()
    assert not start_from(ours, str(tsm_file)).kept
    clip = torch.randn(1, 8, 3, 64, 64)
    with torch.no_grad():
        assert torch.equal(ours(clip), theirs(clip))
    assert all(p.requires_grad for p in ours.parameters())
    frozen = [name for name, p in theirs.named_parameters() if not p.requires_grad]
    assert frozen == [name for name, _ in theirs.named_parameters() if name.endswith("taps")]
    other = tam_resnet(depth=18, num_frames=8, num_classes=7).eval()
    report = start_from(other, str(tsm_file))
    assert report.kept == report.ignored == ["classifier.weight", "classifier.bias"]
    assert torch.equal(other.stage4[1].conv2.weight, ours.stage4[1].conv2.weight)


def test_weights_of_another_network_are_refused_in_words_of_the_command_line(tsm_file):
    options = "--network.architecture tsm --network.depth 18"
    for model in (blvnet_tam(depth="tiny"), tam_resnet(depth=34), tsn(depth=18)):
        with pytest.raises(ValueError, match=f"got those of a tsm of depth 18: .*{options}"):
            start_from(model, str(tsm_file))


def test_a_tsn_leaves_the_taps_as_they_were():
    state = {f"base_model.{key}": value for key, value in resnet(18).state_dict().items()}
    model = tam_resnet(depth=18, num_frames=8, num_classes=5)
    report = load_official(model, state)
    assert len(report.kept) == 8 and all(name.endswith(".taps") for name in report.kept)


def test_frames_and_divisor_are_asked_for(tsm_file):
    bare = tsm_file.rename(tsm_file.with_name("checkpoint.pth"))
    for given, words in (
        ({}, r"shifts, .*give shift_div, 8 in what .*--shift-div 8"),
        ({"shift_div": 8}, r"number of frames, .*give num_frames \(--num-frames\)"),
    ):
        with pytest.raises(ValueError, match=words):
            import_official(bare, None, **given)
    with pytest.raises(ValueError, match="give shift_div"):
        start_from(tsm(depth=18, num_frames=4, num_classes=5), str(bare))
    model = import_official(bare, None, shift_div=8, num_frames=4).model
    assert (model.num_frames, model.architecture) == (4, "tsm")


def test_a_hash_in_a_name_is_no_number_of_frames(tsm_file):
    name = "tsm_r50-dense-1x1x8_20220831-f55d3c2b.pth"
    with pytest.raises(ValueError, match="give num_frames"):
        import_official(tsm_file.rename(tsm_file.with_name(name)), None, shift_div=8)


def test_taps_that_mean_other_frames_or_would_replace_a_shift_are_refused(tsm_file, tmp_path):
    causal = tam_resnet(depth=18, num_frames=8, num_classes=5, causal=True)
    with pytest.raises(ValueError, match=r"causal=True, got those of one with causal=False"):
        start_from(causal, str(tsm_file))
    save_model(network(tam_resnet).float(), tmp_path / "learned.safetensors")
    with pytest.raises(ValueError, match="fixed shift of a tsm, got the learned taps of a tam_res"):
        start_from(network(tsm).float(), str(tmp_path / "learned.safetensors"))


@pytest.mark.parametrize(
    "config, frames, first", [("dict()", 8, 8), ("num_segments=16, shift_div = 4", 16, 16)]
)
def test_mmaction2_says_it_in_its_configuration(config, frames, first, tmp_path):
    net = resnet(18)
    in_blocks(net, 8, lambda name, channels: shifted(8))
    names = {".conv1.net.": ".conv1.conv.net.", ".conv2.": ".conv2.conv.", ".bn1.": ".conv1.bn."}
    names |= {".bn2.": ".conv2.bn.", ".downsample.0.": ".downsample.conv."}
    names |= {".downsample.1.": ".downsample.bn.", ".fc.": "cls_head.fc_cls."}
    state = {"data_preprocessor.mean": torch.zeros(3)}
    for key, value in net.state_dict().items():
        key = "." + key
        key = key.replace(".conv1.weight", ".conv1.conv.weight")
        for theirs, ours in names.items():
            key = key.replace(theirs, ours)
        state[key if key.startswith("cls_head") else "backbone" + key] = value
    torch.save({"meta": {"cfg": config}, "state_dict": state}, tmp_path / "model.pth")
    found = import_official(tmp_path / "model.pth", None)
    assert found.model.num_frames == frames and "data_preprocessor.mean" in found.report.ignored
    moved = found.model.stage1[1].tam.taps[2]  # of 64 channels
    assert moved.sum() == first and moved[:first].all()


class HistoryBuffer:
    """As in a file straight from mmaction2's training: an object, not a plain container."""


def test_what_is_another_network_is_refused(tsm_file, tmp_path):
    state = torch.load(tsm_file, weights_only=True)["state_dict"]
    torch.save({"message_hub": HistoryBuffer(), "state_dict": state}, tmp_path / "epoch_50.pth")
    with pytest.raises(ValueError, match=r"HistoryBuffer.*Save its tensors alone"):
        import_official(tmp_path / "epoch_50.pth", None)
    grown = state | {"module.base_model.layer2.0.nl.g.weight": torch.zeros(1)}
    unshifted = {key.replace("layer3.1.conv1.net", "layer3.1.conv1"): state[key] for key in state}
    mobile = {"module.base_model.features.0.0.weight": torch.zeros(32, 3, 3, 3)}
    for other, words in (
        (grown, "left over: stage2"),
        (unshifted, r"missing: stage3\.1\.tam\.taps"),
        (mobile, r"a network of depth 18 .*\(0, 0, 0, 0\)"),
    ):
        with pytest.raises(ValueError, match=words):
            load_official(tsm(depth=18, num_frames=8, num_classes=5), other, shift_div=8)


@pytest.mark.parametrize("builder", [blvnet_tam, tam_resnet, tsm])
def test_taps_in_a_file_are_the_networks(builder, tmp_path, monkeypatch, capsys):
    model = network(builder, causal=builder is blvnet_tam).float()
    source, out = tmp_path / "model.safetensors", tmp_path / "new" / "taps.safetensors"
    save_model(model, source)
    type_command(monkeypatch, "taps", source, "--out", out)
    count = sum(module.taps.numel() for module in model.modules() if isinstance(module, TAM))
    assert f"wrote {count:,} taps of" in capsys.readouterr().out
    assert out.stat().st_size < 4 * count + 4000
    found = load_taps(out)
    for function in (tam_weights, tam_roles, effective_pair_taps):
        assert function(found).equals(function(model))
    fields = derived_receptive_field(found)
    for name, seen in derived_receptive_field(model).items():
        assert torch.equal(fields[name], seen)


def test_taps_of_a_published_file(tsm_file, tmp_path):
    count = 3 * (3 * 64 + 2 * 128 + 2 * 256 + 512)
    out = tmp_path / "taps.safetensors"
    assert save_taps(tsm_file, out=out) == f"wrote {count:,} taps of 8 TAMs to {out}"
    taps = load_taps(out).stage1[0].tam.taps
    assert torch.equal(taps, import_official(tsm_file, None).model.stage1[0].tam.taps)


def test_what_holds_no_taps(tmp_path):
    save_model(network(tsn).float(), tmp_path / "tsn.safetensors")
    with pytest.raises(ValueError, match=r"with TAMs, got one without \(tsn\)"):
        save_taps(tmp_path / "tsn.safetensors", out=tmp_path / "taps.safetensors")
    with pytest.raises(ValueError, match=r"expected another file .* is read"):
        save_taps(tmp_path / "tsn.safetensors", out=tmp_path / "tsn.safetensors")
    (tmp_path / "text.safetensors").write_text("no weights")
    for name in ("tsn.safetensors", "text.safetensors"):
        with pytest.raises(ValueError, match=f"{name}: .*taps` wrote, got another one"):
            load_taps(tmp_path / name)


def test_a_name_is_downloaded_once_and_checked(torch_hub, monkeypatch, tsm_file):
    asked = []

    def download(url, path, hash_prefix, progress):
        asked.append((url.rpartition("/")[2], hash_prefix, progress))
        Path(path).write_bytes(tsm_file.read_bytes())

    monkeypatch.setattr(torch.hub, "download_url_to_file", download)
    model = tsm(depth=18, num_frames=8, num_classes=5)
    for _ in range(2):
        assert not start_from(model, "tsm-resnet50-k400").kept
    mm = "tsm_imagenet-pretrained-r50_8xb16-1x1x8-50e_sthv2-rgb_20230317-be0fc26e.pth"
    with pytest.raises(ValueError, match="give shift_div"):  # the name of this file does not say it
        import_official("mm-tsm-resnet50-ssv2", None)
    names = "TSM_kinetics_RGB_resnet50_shift8_blockres_avg_segment8_e50.pth", mm
    assert asked == [(names[0], None, True), (names[1], "be0fc26e", True)]
    assert sorted(path.name for path in torch_hub.iterdir()) == sorted(names)


def test_failed_download_says_what_to_do(torch_hub, monkeypatch):
    def download(*args, **options):
        raise OSError("no route")

    monkeypatch.setattr(torch.hub, "download_url_to_file", download)
    with pytest.raises(OSError, match=r"K400-TAM-ResNet-50-f32.*no route.*another machine"):
        start_from(tam_resnet(depth=50), "tam-resnet50-k400")
    with pytest.raises(ValueError, match=r"a name out of tam-resnet50-k400, .*no file tam-resnet5"):
        start_from(tam_resnet(depth=50), "tam-resnet5")


def test_the_page_of_weights_lists_the_names():
    page = Path(__file__).parents[1].joinpath("docs", "weights.md").read_text("utf-8")
    assert re.findall(r"^\| `([\w-]+)` \|", page, re.MULTILINE) == list(RELEASED)
