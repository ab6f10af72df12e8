"""The four architectures: the equation, what each can and cannot see, structure, cost, files.

The oracles are PyTorch's own operations in float64, closed forms written out here, and invariants.
"""

import json
import math
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch
from nets import (
    BUILDERS,
    EXACT,
    RESNETS,
    WITH_TAMS,
    assert_same_gradients,
    assert_state,
    conv3d_tam,
    network,
    random64,
    randomized,
    state_of,
    tam_resnet,
    tiny,
    tsm,
    watched,
)
from torch import func, nn
from torch.nn.utils import prune
from torchvision.models.feature_extraction import create_feature_extractor

from blvnet_lab.deploy.inference import optimize_for_inference
from blvnet_lab.models import (
    TAM,
    PairTAM,
    blvnet,
    blvnet_tam,
    capture_points,
    count_cost,
    load_model,
    save_model,
    tsn,
    tsn_blnet,
)
from blvnet_lab.models.fast import fused_sum, split_pairs
from blvnet_lab.models.tam import weighted_sum

TAPS = [*((r, False) for r in (1, 3, 5, 7)), *((r, True) for r in (1, 2, 3, 4, 5))]


# ---------------------------------------------------------------- the equation
@pytest.mark.parametrize("num_frames", [1, 2, 3, 8])
@pytest.mark.parametrize("r, causal", TAPS)
def test_tam_is_relu_of_a_depthwise_conv3d(r, causal, num_frames):
    """Of a causal TAM, one that is padded on the left only."""
    tam = TAM(6, r, "kaiming", causal).double()
    frames = random64(3, num_frames, 6, 4, 5).requires_grad_()
    ours, expected = tam(frames), conv3d_tam(frames, tam.taps, causal)
    torch.testing.assert_close(ours, expected, **EXACT)
    assert_same_gradients([ours], [expected], (frames, tam.taps))


def test_tam_on_numbers_worked_out_by_hand():
    tam = TAM(1)
    with torch.no_grad():
        tam.taps.copy_(torch.tensor([[2.0], [3.0], [5.0]]))  # prev, curr, next
    frames = torch.tensor([1.0, 10.0, -100.0]).reshape(1, 3, 1, 1, 1)
    # 3*1 + 5*10; 2*1 + 3*10 - 5*100, negative; 2*10 - 3*100, negative
    assert tam(frames).flatten().tolist() == [53.0, 0.0, 0.0]


@pytest.mark.parametrize("num_frames", [1, 2, 5])
@pytest.mark.parametrize("first", [-3, -2, -1, 0])  # -3 of four taps: causal
@pytest.mark.parametrize("learned", [(True, True), (True, False), (False, True)])
def test_gradient_of_a_weighted_sum(first, num_frames, learned):
    """A custom one, so compared with differences; of frozen inputs there is none."""
    frames, taps = random64(2, num_frames, 2, 1, 2), random64(4, 2, seed=1)
    torch.testing.assert_close(
        weighted_sum(frames, taps, first), fused_sum(frames, taps, first), **EXACT
    )
    frames.requires_grad_(learned[0])
    taps.requires_grad_(learned[1])
    check = {"inputs": (frames, taps, first), "check_batched_grad": True}
    assert torch.autograd.gradcheck(fused_sum, **check, check_forward_ad=True)
    assert torch.autograd.gradgradcheck(fused_sum, **check, check_fwd_over_rev=True)
    fused_sum(frames, taps, first).sum().backward()
    assert [frames.grad is not None, taps.grad is not None] == [*learned]


def squares(form):
    """A scalar of frames and taps that is linear in neither."""
    weight = random64(2, 5, 3, 2, 2, seed=2)
    return lambda frames, taps: (form(frames, taps, -1).pow(3) * weight).sum()


BOTH = (0, 1)
DERIVATIVES = {
    "grad": lambda f, *at: func.grad(f, BOTH)(*at),
    "jvp": lambda f, *at: func.jvp(f, at, at),
    "jacfwd": lambda f, *at: func.jacfwd(f, BOTH)(*at),
    "hessian": lambda f, *at: func.hessian(f, BOTH)(*at),
    "reverse over reverse": lambda f, *at: func.jacrev(func.jacrev(f, BOTH), BOTH)(*at),
    "forward over forward": lambda f, *at: func.jacfwd(func.jacfwd(f, BOTH), BOTH)(*at),
    "reverse over forward": lambda f, *at: func.jacrev(func.jacfwd(f, BOTH), BOTH)(*at),
    "third": lambda f, *at: func.jacfwd(func.hessian(f, 1), 1)(*at),
    "a clip each": lambda f, *at: torch.vmap(func.grad(f, BOTH), (0, None))(
        torch.stack([at[0], -at[0]]), at[1]
    ),
    "taps each": lambda f, *at: torch.vmap(func.grad(f, BOTH), (None, 1))(
        at[0], torch.stack([at[1], -at[1]], 1)
    ),
    "hvp": lambda f, *at: torch.autograd.functional.hvp(f, at, at),
    "vhp": lambda f, *at: torch.autograd.functional.vhp(f, at, at),
    "vectorized": lambda f, *at: torch.autograd.functional.hessian(f, at, vectorize=True),
}


@pytest.mark.parametrize("kind", DERIVATIVES)
def test_derivatives_of_every_kind(kind):
    """PyTorch derives the plain form by itself, and is the oracle for the custom one.

    With the ReLU in place, as a TAM has it.
    """
    at = random64(2, 5, 3, 2, 2), random64(3, 3, seed=1)
    forms = (lambda *at: torch.relu_(fused_sum(*at)), lambda *at: torch.relu(weighted_sum(*at)))
    derive, leaves = DERIVATIVES[kind], torch.utils._pytree.tree_leaves
    ours, expected = (leaves(derive(squares(form), *at)) for form in forms)
    assert any(tensor.abs().max() > 0.1 for tensor in expected)
    for a, b in zip(ours, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-10)


def test_traced_network_has_its_tams():
    """As other programs take networks in; they know nothing of custom gradients."""
    model, clip = network(num_frames=4), random64(2, 4, 3, 32, 32)
    traced = torch.jit.trace(model, clip, check_trace=False)  # which is done here
    assert "^" not in str(traced.inlined_graph)
    other = random64(3, 4, 3, 32, 32, seed=1)
    with torch.no_grad():
        torch.testing.assert_close(traced(other), model(other), **EXACT)


@pytest.mark.parametrize("builder", BUILDERS)
def test_features_are_extracted_by_name(builder):
    """By torchvision, which records the network with torch.fx."""
    model, clips = network(builder, num_frames=4), random64(3, 4, 3, 32, 40)
    modules = dict(model.named_modules())
    places = [n for n in capture_points(model) if not isinstance(modules[n], PairTAM)]
    extract = create_feature_extractor(model, {name: name for name in places})
    learned = [parameter for parameter in model.parameters() if parameter.requires_grad]
    forms = torch.fx.symbolic_trace(model), model
    gradients = (torch.autograd.grad(form(clips).square().sum(), learned) for form in forms)
    torch.testing.assert_close(*gradients, **EXACT)
    found, expected = extract(clips), outputs_of(model, clips)
    torch.testing.assert_close(found, {name: expected[name] for name in places}, **EXACT)


@pytest.mark.parametrize("num_pairs", [1, 2, 5])
@pytest.mark.parametrize("r, causal", TAPS)
def test_pair_form_equals_the_frame_form_on_twins(r, causal, num_pairs):
    tam = PairTAM(6, r, "kaiming", causal).double()
    pairs = random64(2, num_pairs, 6, 4, 5).requires_grad_()
    frames = conv3d_tam(pairs.repeat_interleave(2, dim=1), tam.taps, causal)
    expected, ours = (frames[:, 0::2], frames[:, 1::2]), tam(pairs)
    torch.testing.assert_close(ours, expected, **EXACT)
    assert_same_gradients(ours, expected, (pairs, tam.taps))


@pytest.mark.parametrize("causal, middle", [(False, 2), (True, 4)])
@pytest.mark.parametrize("module", [TAM, PairTAM])
def test_taps_at_the_start(module, causal, middle):
    torch.manual_seed(0)
    identity, kaiming = (module(2048, 5, init, causal).taps for init in ("identity", "kaiming"))
    std = math.sqrt(2 / 2048)
    for i in range(5):
        assert abs(identity[i].mean() - int(i == middle)) < 0.01
        assert 0.045 < identity[i].std() < 0.055
        assert abs(kaiming[i].mean()) < 0.1 * std and 0.93 * std < kaiming[i].std() < 1.07 * std


@pytest.mark.parametrize("builder", BUILDERS)
def test_clips_of_a_batch_do_not_leak_into_each_other(builder):
    model, clips = network(builder), random64(3, 8, 3, 32, 32)
    with torch.no_grad():
        alone = torch.cat([model(clip[None]) for clip in clips])
        torch.testing.assert_close(model(clips), alone, **EXACT)
    assert (alone[1] - alone[0]).abs().max() > 1e-3


ORDERS = {
    "reversed": [7, 6, 5, 4, 3, 2, 1, 0],
    "shuffled": [3, 1, 6, 0, 7, 5, 2, 4],
    "pairs": [4, 5, 0, 1, 6, 7, 2, 3],
    "halves": [4, 5, 6, 7, 0, 1, 2, 3],
    "within one pair": [0, 1, 3, 2, 4, 5, 6, 7],
}


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("builder", BUILDERS)
def test_which_orders_of_the_frames_a_network_ignores(builder, order):
    model, clips = network(builder), random64(2, 8, 3, 32, 32)
    blind = () if builder in WITH_TAMS else ("pairs", "halves") if builder is blvnet else ORDERS
    with torch.no_grad():
        change = (model(clips) - model(clips[:, ORDERS[order]])).abs().max()
    assert (change < 1e-12) if order in blind else (change > 1e-3)


# ---------------------------------------------------------------- structure
def test_number_of_blocks():
    for depth, big, little, resnet in (  # big: n - 1; little: max(1, n // 4 - 1)
        ("tiny", (1, 1, 1), (1, 1, 1), [2, 2, 2, 2]),
        (101, (3, 7, 17), (1, 1, 3), [3, 4, 23, 3]),
        (152, (4, 11, 29), (1, 2, 6), [3, 8, 36, 3]),
    ):
        with torch.device("meta"):
            model, other = blvnet_tam(depth=depth), tsn(depth=depth)
        stages = (model.stage1, model.stage2, model.stage3)
        assert tuple(len(stage.big) for stage in stages) == big
        assert tuple(len(stage.little) - 1 for stage in stages) == little  # and "expand"
        assert len(model.stage4) - 1 == resnet[3]  # and "out"
        assert [len(other.get_submodule(f"stage{i}")) - 1 for i in (1, 2, 3, 4)] == resnet
        points = [name for name in capture_points(other) if name.startswith("stage3.")]
        assert points == [*(f"stage3.{i}" for i in range(resnet[2])), "stage3.out"]  # of two digits


def test_alpha_and_beta_divide_the_little_branch():
    with torch.device("meta"):
        model = blvnet_tam(depth=50, alpha=4, beta=2)
    assert [len(s.little) - 1 for s in (model.stage1, model.stage2, model.stage3)] == [1, 1, 2]
    assert model.stem.little[0].out_channels == 16
    assert [s.little[0].conv3.out_channels for s in (model.stage1, model.stage2)] == [64, 128]
    assert model.stage2.little.expand[0].in_channels == 128
    assert model.stage2.big[0].conv3.out_channels == 512  # the big branch keeps its width


@pytest.mark.parametrize("builder", [blvnet_tam, tsn])
def test_weights_at_the_start(builder):
    torch.manual_seed(0)
    model = builder(depth=50, num_frames=4)
    for name, module in model.named_modules():
        if isinstance(module, nn.Conv2d):
            assert module.bias is None, name
            if module.weight.numel() > 20_000:
                out, _, height, width = module.weight.shape
                expected = math.sqrt(2 / (out * height * width))  # Kaiming normal, fan_out
                assert 0.96 < module.weight.std() / expected < 1.04, name
        elif isinstance(module, nn.BatchNorm2d):
            last = name.endswith("bn3")
            assert module.weight.unique().tolist() == [0.0 if last else 1.0], name
            assert module.bias.abs().max() == 0, name
    assert 0.00098 < model.classifier.weight.std() < 0.00102
    assert model.classifier.bias.abs().max() == 0


def outputs_of(model: nn.Module, clip: torch.Tensor) -> dict:
    """What every module returns, by name."""
    seen = watched(model)
    with torch.no_grad():
        model(clip)
    return seen


@pytest.mark.parametrize("depth", ["tiny", 50])
def test_where_the_relus_are(depth):
    """The last of several big blocks leaves its ReLU to the merge; a single one keeps it."""
    model = randomized(blvnet_tam(depth=depth, num_frames=4))
    seen = outputs_of(model, random64(1, 4, 3, 64, 64))
    seen = {name: maps.min() for name, maps in seen.items() if isinstance(maps, torch.Tensor)}
    for stage in ("stage1", "stage2", "stage3"):
        assert seen[f"{stage}.big"] == 0 if depth == "tiny" else seen[f"{stage}.big"] < 0, stage
        assert seen[f"{stage}.big.0"] == seen[f"{stage}.little.0"] == 0
        assert seen[f"{stage}.little"] < 0
        assert seen[f"{stage}.merged"] == seen[f"{stage}.out"] == 0
    assert seen["stem.big"] < 0 and seen["stem.little"] < 0
    assert seen["stem.merged"] == seen["stem.out"] == seen["stage4"] == 0


def test_merge_is_the_sum_of_the_branches():
    seen = outputs_of(network(num_frames=4), random64(1, 4, 3, 65, 79))
    for stage in ("stem", "stage1", "stage3"):
        big, little = seen[f"{stage}.big"], seen[f"{stage}.little"]
        if stage != "stem":  # nearest neighbour: pixel i of n comes from i * m // n of m
            assert big.shape[-1] < little.shape[-1]
            (h, w), (m, n) = big.shape[-2:], little.shape[-2:]
            big = big[..., torch.arange(m) * h // m, :][..., torch.arange(n) * w // n]
        torch.testing.assert_close(seen[f"{stage}.merged"], (big + little).relu(), **EXACT)


def test_names_and_shapes_at_the_capture_points():
    """Of one clip of 64 x 64; the oracle is the documentation."""
    model = tiny(blvnet_tam, num_frames=4).eval()
    seen = outputs_of(model, torch.randn(1, 4, 3, 64, 64))
    shapes = {
        name: tuple(maps.shape) if isinstance(maps := seen[name], torch.Tensor) else "two maps"
        for name in capture_points(model)
    }
    expected = {"stem.tam": (1, 4, 8, 32, 32), "classifier": (1, 2, 5)}
    expected |= {f"stem.{name}": (2, 8, 16, 16) for name in ("big", "little", "merged", "out")}
    for stage, channels, side, out in ((1, 32, 16, 8), (2, 64, 8, 4), (3, 128, 4, 4)):
        expected |= {
            f"stage{stage}.tam": "two maps",
            f"stage{stage}.big": (2, channels, side // 2, side // 2),
            f"stage{stage}.little": (2, channels, side, side),
            f"stage{stage}.merged": (2, channels, side, side),
            f"stage{stage}.out": (2, channels, out, out),
        }
    expected |= {"stage4.0.tam": (1, 2, 128, 4, 4), "stage4.1.tam": (1, 2, 256, 2, 2)}
    expected |= {f"stage4.{name}": (2, 256, 2, 2) for name in ("0", "1", "out")}
    assert shapes == expected and list(shapes)[-1] == "classifier"
    torch.testing.assert_close(seen["classifier"].mean(1), seen[""])
    names = [f"{block}{part}" for block in "01" for part in ("", ".tam")] + ["out"]
    expected = {f"stage{i}.{name}" for i in (1, 2, 3, 4) for name in names}
    for builder in RESNETS:
        kept = {name for name in expected if builder is not tsn or "tam" not in name}
        assert set(capture_points(tiny(builder))) == kept | {"stem.out", "classifier"}


@pytest.mark.parametrize("form", ["eval", "train", "folded"])
@pytest.mark.parametrize("builder", BUILDERS)
def test_captured_maps_are_not_changed_in_place(builder, form):
    model, seen = network(builder, num_frames=4).train(form == "train"), []
    model = optimize_for_inference(model) if form == "folded" else model

    def keep(module, args, output):
        for maps in output if isinstance(output, tuple) else (output,):
            seen.append((maps, maps.detach().clone()))

    for name, module in model.named_modules():
        module.register_forward_hook(keep)
        assert not getattr(module, "inplace", False), name
    clip = random64(2, 4, 3, 64, 64)
    before = clip.clone()
    model(clip)
    assert torch.equal(clip, before) and len(seen) > 30
    assert all(torch.equal(maps, copy) for maps, copy in seen)


# ---------------------------------------------------------------- all kinds of input
def test_taps_that_start_as_a_shift():
    for num_taps, causal, rows in (
        (3, False, {2: range(2), 0: range(2, 4), 1: range(4, 16)}),
        (5, False, {3: range(2), 1: range(2, 4), 2: range(4, 16)}),
        (1, False, {0: range(16)}),
        (3, True, {1: range(2, 4), 2: [0, 1, *range(4, 16)]}),
    ):
        expected = torch.zeros(num_taps, 16)
        for row, channels in rows.items():
            expected[row, list(channels)] = 1
        assert torch.equal(TAM(16, num_taps, "shift", causal).taps, expected)


@pytest.mark.parametrize("layout", [torch.channels_last, torch.contiguous_format])
def test_gradients_of_a_pair_meet_in_the_layout_of_the_maps(layout):
    maps, grad = (torch.randn(8, 3, 5, 6).to(memory_format=layout) for _ in range(2))
    maps, grad = maps.unflatten(0, (2, 4)).requires_grad_(), grad.unflatten(0, (2, 4))
    halves = maps[:, 0::2], maps[:, 1::2]
    for learns in (maps, maps.detach()):
        assert all(map(torch.equal, split_pairs(learns), halves))
    grads = grad[:, 0::2], grad[:, 1::2]
    (found,) = torch.autograd.grad(split_pairs(maps), maps, grads)
    assert torch.equal(found, grad) and found.stride() == maps.stride()


@pytest.mark.parametrize("builder", BUILDERS)
def test_layout_of_memory_makes_no_difference(builder):
    model, clip = network(builder), random64(2, 8, 3, 48, 40)
    with torch.no_grad():
        expected = model(clip)
        model.to(memory_format=torch.channels_last)
        assert model.stem.conv.weight.is_contiguous(memory_format=torch.channels_last)
        torch.testing.assert_close(model(clip), expected, **EXACT)
        strided = clip.permute(0, 1, 3, 4, 2).contiguous().permute(0, 1, 4, 2, 3)
        torch.testing.assert_close(model(strided), expected, **EXACT)


@pytest.mark.parametrize("builder", BUILDERS)
def test_dropout_is_active_in_training_only(builder):
    clip = random64(2, 4, 3, 32, 32)
    for dropout, training, same in ((0.5, True, False), (0.5, False, True), (0.0, True, True)):
        model = network(builder, num_frames=4, dropout=dropout).train(training)
        with torch.no_grad():
            assert torch.equal(model(clip), model(clip)) == same, (dropout, training)


@pytest.mark.parametrize("builder", BUILDERS)
def test_every_parameter_learns(builder):
    model = network(builder, num_frames=4).train()
    model(random64(2, 4, 3, 64, 64)).square().sum().backward()
    without = [n for n, p in model.named_parameters() if p.grad is None or not p.grad.any()]
    assert without == [n for n, _ in model.named_parameters() if builder is tsm and "taps" in n]


def test_cost_is_as_published():
    for builder, arguments, side, gmacs, millions in (
        (tsm, {"depth": 50, "num_frames": 8, "num_classes": 400}, 224, 32.704, 24.328),
        (tam_resnet, {"depth": 50, "num_frames": 8, "num_classes": 400}, 224, 32.839, 24.367),
        (blvnet_tam, {"depth": 50, "num_frames": 16}, 224, 23.851, 25.020),
        (blvnet_tam, {"depth": 101, "num_frames": 64}, 224, 128.597, 40.177),
        (blvnet_tam, {"depth": 50, "num_frames": 16, "num_classes": 400}, 256, 31.15, 25.48),
        (tsn_blnet, {"depth": 50, "num_frames": 1, "num_classes": 1000}, 224, 2.856, 26.69),
        (tsn_blnet, {"depth": 101, "num_frames": 1, "num_classes": 1000}, 224, 3.893, 41.85),
        (tsn, {"depth": 50, "num_frames": 16}, 224, 65.4, 23.865),
    ):
        with torch.device("meta"):
            cost = count_cost(builder(**arguments), (side, side))
        for ours, published in ((cost.macs / 1e9, gmacs), (cost.parameters / 1e6, millions)):
            last_digit = 10 ** -len(str(published).partition(".")[2])
            assert abs(ours - published) < last_digit


OTHER_ARGUMENTS = {
    tsn: {"in_channels": 10, "dropout": 0.1},
    tsm: {"num_taps": 5, "causal": True},
    tam_resnet: {"num_taps": 5, "tap_init": "shift"},
    tsn_blnet: {"alpha": 4, "beta": 2, "in_channels": 2},
    blvnet: {"alpha": 1, "beta": 1, "dropout": 0.0},
    blvnet_tam: {"alpha": 4, "beta": 2, "num_taps": 4, "tap_init": "kaiming", "causal": True},
}


@pytest.mark.parametrize("other", [False, True])
@pytest.mark.parametrize("builder", BUILDERS)
def test_saved_and_loaded_is_the_same_model(builder, other, tmp_path):
    arguments = OTHER_ARGUMENTS[builder] if other else {}
    model = network(builder, num_frames=6, num_classes=11, **arguments).float()
    model.multi_label = other
    if other:
        model.to(memory_format=torch.channels_last)
    path = tmp_path / "new folder" / "model.safetensors"
    save_model(model, path)
    loaded = load_model(str(path))
    assert not loaded.training and type(loaded) is type(model) and loaded.multi_label == other
    assert (loaded.architecture, loaded.arguments) == (builder.__name__, model.arguments)
    expected = {"depth": "tiny", "num_frames": 6, "num_classes": 11, **arguments}
    assert expected.items() <= loaded.arguments.items()
    assert_state(loaded, state_of(model))
    clip = random64(1, 6, model.in_channels, 32, 32)
    with torch.no_grad():
        logits, expected = loaded.double()(clip), model.double()(clip)
    torch.testing.assert_close(logits, expected, rtol=1e-9, atol=1e-9)
    assert [p.name for p in path.parent.iterdir()] == ["model.safetensors"]
    with safetensors.safe_open(path, "pt") as file:
        assert file.metadata()["format"] == "pt"  # other tools ask for it
    saved = set()
    for _ in range(3):
        save_model(model, path)
        saved.add(path.read_bytes())
    assert len(saved) == 1


def test_failed_saving_leaves_no_half_written_file(tmp_path, monkeypatch):
    def full_disk(file, content):
        with file.open("wb") as half:
            half.write(content[: len(content) // 2])
        raise OSError("no space left on device")

    path, before = tmp_path / "model.safetensors", []
    for _ in range(2):  # without and with an older file, which must survive
        with monkeypatch.context() as patch:
            patch.setattr(Path, "write_bytes", full_disk)
            with pytest.raises(OSError, match="no space"):
                save_model(tiny(tsn), path)
        assert [file.read_bytes() for file in tmp_path.glob("model*")] == before
        save_model(tiny(tsn), path)
        before = [path.read_bytes()]


def test_files_that_are_no_model(tmp_path):
    path = tmp_path / "model.safetensors"
    with pytest.raises(ValueError, match=f"{path}.*there is no file|there is no file.*{path}"):
        load_model(path)
    save_model(tiny(tsn), path)
    for content in (b"", b"<html>404</html>" * 10, path.read_bytes()[:-1000]):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=r"expected a safetensors.*load_official") as error:
            load_model(path)
        assert str(path) in str(error.value)
    unknown = json.dumps({"architecture": "slowfast", "arguments": {}})
    for metadata, words in (
        ({"format": "pt"}, r"how its model was built; .*load_state_dict"),
        ({"blvnet_lab_taps": "{}"}, r"built; this one holds taps only: give the network that"),
        ({"blvnet_lab": unknown}, r"blvnet_tam\), got slowfast"),
    ):
        safetensors.torch.save_file({"x": torch.zeros(1)}, path, metadata=metadata)
        with pytest.raises(ValueError, match=words):
            load_model(path)


def test_what_would_not_load_is_not_saved(tmp_path):
    path, rng = tmp_path / "model.safetensors", torch.get_rng_state()
    for change, words in (
        (
            lambda model: prune.l1_unstructured(model.stage1.tam, "taps", 0.3),
            r"stage1\.tam\.taps to be a parameter.*prune\.remove",
        ),
        (
            lambda model: nn.utils.parametrizations.weight_norm(model.stem.conv),
            r"stem\.conv\.weight to be a parameter.*remove_parametrizations",
        ),
        (lambda m: setattr(m, "classifier", nn.Linear(9, 3)), r"others: classifier\.bias, classif"),
        (lambda m: setattr(m, "architecture", "mine"), "from tsn, .*, blvnet_tam, got mine"),
    ):
        model = tiny(blvnet_tam)
        change(model)
        torch.set_rng_state(rng)
        with pytest.raises((TypeError, ValueError), match=words):
            save_model(model, path)
        assert not path.exists() and torch.equal(torch.get_rng_state(), rng)
    with pytest.raises(TypeError, match=r"expected a model from tsn, .*got Linear: give the net"):
        save_model(nn.Linear(2, 2), path)


# ---------------------------------------------------------------- errors
def test_clip_that_does_not_fit():
    for builder, clip, got, remedy in (
        (tsn, torch.zeros(2, 3, 8, 32, 32), (2, 3, 8, 32, 32), "use clip.transpose(1, 2)"),
        (blvnet, torch.zeros(2, 8, 32, 32, 3), "", "use clip.permute(0, 1, 4, 2, 3)"),
        (tsn_blnet, torch.zeros(8, 3, 32, 32), (8, 3, 32, 32), "clip.unsqueeze(0)"),
        (blvnet_tam, torch.zeros(3, 32, 32), (3, 32, 32), "reshape"),
        (blvnet_tam, torch.zeros(2, 8, 1, 32, 32), (2, 8, 1, 32, 32), "in_channels=1"),
        (tsn, torch.zeros(2, 7, 3, 32, 32), (2, 7, 3, 32, 32), "num_frames=7"),
        (blvnet, torch.zeros(2, 7, 3, 32, 32), "", "7 frames are not pairs: sample 8 frames"),
        (tsn, torch.zeros(1, 8, 3, 8, 8, dtype=torch.uint8), "torch.uint8", "data.normalize"),
    ):
        with pytest.raises(ValueError) as error:
            tiny(builder)(clip)
        for words in ("expected a clip (B, T=8, C=3, H, W) float, got ", str(got), remedy):
            assert words in str(error.value)
        with pytest.raises(TypeError, match=r"got ndarray: torch\.from_numpy"):
            tiny(tsn)(np.zeros((1, 8, 3, 32, 32), np.float32))


def test_arguments_that_make_no_network():
    for builder, arguments, words in (
        (blvnet, {"depth": 34}, r"expected depth .*\['tiny', 50, 101, 152\], got 34"),
        (tsn, {"depth": 35}, r"expected depth .*\['tiny', 18, 34, 50, 101, 152\], got 35"),
        (blvnet, {"num_frames": 7}, r"expected an even num_frames, got 7: .*use 8"),
        (blvnet_tam, {"num_taps": 4}, r"num_taps to be odd and positive, .*got 4: .*use 3"),
        (blvnet_tam, {"num_taps": 0, "causal": True}, r"num_taps to be at least 1, got 0: use 3"),
        (blvnet_tam, {"tap_init": "zeros"}, r"expected tap_init .*'kaiming', .*got 'zeros'"),
        (blvnet_tam, {"alpha": 3}, r"divide the width 64 .*got alpha=3, .*paper uses alpha=2"),
        (blvnet, {"beta": 0}, r"beta to be at least 1, got alpha=2, beta=0"),
        (blvnet_tam, {"num_classes": 0}, r"num_classes.*at least 1, got 16, 0 and 3"),
    ):
        with pytest.raises(ValueError, match=words):
            builder(**arguments)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("builder", BUILDERS)
def test_building_takes_named_arguments_and_gives_no_warning(builder):
    with pytest.raises(TypeError):
        builder(50)
    tiny(builder).eval()(torch.randn(1, 8, 3, 32, 32))
