"""The TAM explorer without a browser: its arithmetic, scores, pictures and edits.

The oracles are torch's own depthwise convolution, hooks registered by hand, deep copies of the
model whose parameters were really changed, and pictures of numbers worked out on paper.
"""

import base64
import copy
import io
import re
import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

from blvnet_lab import data, models, paths
from blvnet_lab.introspect import channel_roles, effective_pair_taps, tsm_taps, wake_residuals
from blvnet_lab.models import TAM, blvnet, blvnet_tam, tsn
from blvnet_lab.viz.explorers import tam as tam_module
from blvnet_lab.viz.explorers import tam_arithmetic, tam_controls, tam_views
from blvnet_lab.viz.explorers.tam import TamExplorer
from blvnet_lab.viz.theme import ROLE_COLOURS, coloured

TINY_TAMS = ("stem.tam", "stage1.tam", "stage2.tam", "stage3.tam", "stage4.0.tam", "stage4.1.tam")
DEEP_TAMS = (*TINY_TAMS, "stage4.2.tam")
NAMES = [f"kind {i}" for i in range(10)]


@pytest.fixture(scope="module")
def trained():
    """The shipped bLVNet-TAM and one clip (1, 8, 3, 64, 64); nothing may change the model."""
    model = models.load_model(paths.data_samples() / "checkpoints" / "blvnet_tam.safetensors")
    manifest = data.read_manifest(paths.data_samples() / "motion" / "manifest.csv")
    row = manifest[manifest["class_name"] == "grows_then_shrinks"].iloc[0]
    frames = data.read_frames(row["path"], data.sample_uniform(24, 8))
    return model, data.normalize(frames)[None]


@pytest.fixture
def explorer(trained):
    return TamExplorer(*trained, class_names=NAMES, label=8)


@pytest.fixture(scope="module")
def deep():
    """An untrained depth 50, all its branches awake, with taps that are not all alike."""
    torch.manual_seed(0)
    model = wake_residuals(blvnet_tam(depth=50, num_frames=16))
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, TAM):
                module.taps.add_(0.4 * torch.randn(module.taps.shape))
    return TamExplorer(model, torch.randn(16, 3, 64, 64))


def with_taps(model, changes):
    """A copy of the model whose own parameters hold the taps in `changes`, by TAM's name."""
    model = copy.deepcopy(model).eval()
    with torch.no_grad():
        for name, taps in changes.items():
            model.get_submodule(name).taps.copy_(taps)
    return model


def seen_by(model, clip, name):
    """What goes into and comes out of a TAM, on frames where it has frames: (1, T or P, C, H, W)."""
    seen = []
    handle = model.get_submodule(name).register_forward_hook(lambda *call: seen.extend(call[1:]))
    with torch.no_grad():
        copy.deepcopy(model).eval()  # the model itself is in eval mode already
        model(clip)
    handle.remove()
    (maps,), out = seen
    if isinstance(out, tuple):  # both frames of a pair get the pair's map
        return maps.repeat_interleave(2, dim=1), torch.stack(out, dim=2).flatten(1, 2)
    return maps, out


def convolved(maps, taps):
    """ReLU of torch's depthwise 3-D convolution: maps (1, T, C, H, W), taps (r, C)."""
    kernel = taps.t()[:, None, :, None, None]  # (C, 1, r, 1, 1)
    padding = (len(taps) // 2, 0, 0)
    out = F.conv3d(maps.transpose(1, 2), kernel, padding=padding, groups=maps.shape[2])
    return out.relu().transpose(1, 2)


def scores_of(explorer):
    """The probabilities that are shown, by class."""
    shown = explorer._html["scores"].value
    found = re.findall(r"data-class='([^']*)' data-score='([\d.]+)'", shown)
    return {name: float(score) for name, score in found}


def text_of(explorer, name):
    return re.sub(r"<[^>]*>", "", explorer._html[name].value)


def runs(line):
    """Colours of a line of pixels (W, 4), one entry for at least 20 opaque pixels of a colour."""
    found, length = [], 0
    for left, pixel in zip([None, *line.tolist()], line.tolist(), strict=False):
        length = length + 1 if pixel == left else 1
        if length == 20 and pixel[3] == 255:
            found.append(tuple(pixel[:3]))
    return found


def has_row(picture, values, limit=1.0):
    """Is there a line in the picture with tiles of just these values, from left to right?"""
    wanted = [tuple(c) for c in coloured(np.array([values], np.float32), limit)[0].tolist()]
    return any(runs(line) == wanted for line in picture)


# ---------------------------------------------------------------- the arithmetic


def check_arithmetic(explorer, name, channels):
    """Every position of some channels: the steps shown against hooks and a convolution."""
    model, clip = explorer._edits.model, explorer._edits.clip
    explorer.module.value = name
    maps, out = seen_by(model.eval(), clip, name)
    taps = model.get_submodule(name).taps.detach()
    torch.testing.assert_close(convolved(maps, taps), out, rtol=1e-4, atol=1e-5)
    count = maps.shape[1]
    assert explorer.frame.max == explorer.play.max == count - 1
    assert explorer.frame.description == ("pair" if name.startswith("stage4") else "frame")
    for channel in channels:
        explorer.channel.value = channel
        for position in range(count):
            explorer.frame.value = position
            shown = explorer.arithmetic
            expected = out[0, position, channel].double()
            torch.testing.assert_close(shown.result, expected, rtol=1e-4, atol=1e-5)
            torch.testing.assert_close(shown.taps, taps[:, channel].double())
            for tap, at, x, product in zip(
                taps[:, channel],
                range(position - 1, position + 2),
                shown.maps,
                shown.products,
                strict=True,
            ):
                assert (x is None) == (product is None) == (not 0 <= at < count)
                if x is not None:
                    torch.testing.assert_close(x, maps[0, at, channel].double())
                    torch.testing.assert_close(product, (tap * maps[0, at, channel]).double())
            row, column = shown.pixel
            assert shown.result[row, column] == shown.result.max()


@pytest.mark.parametrize("name", TINY_TAMS)
def test_arithmetic_is_the_modules(explorer, name):
    channels = explorer._edits.learned[name].shape[1]
    check_arithmetic(explorer, name, channels=(0, channels // 2, channels - 1))


@pytest.mark.parametrize("name", DEEP_TAMS)
def test_arithmetic_of_depth_50(deep, name):
    check_arithmetic(deep, name, channels=(5,))


def test_seven_taps_of_depth_50_can_be_chosen(deep):
    assert deep.module.options == DEEP_TAMS
    assert deep.summary() == "TamExplorer(7 TAMs, 16 frames of 64x64)"
    deep.module.value = "stage4.2.tam"
    assert len(deep.channel.options) == 2048
    assert deep.static_picture().shape[1] == tam_views.WIDTH


def test_numbers_at_the_marked_pixel(explorer):
    explorer.taps["prev"].value = -0.5
    explorer.frame.value = 3
    shown = explorer.arithmetic
    numbers = text_of(explorer, "numbers").replace("−", "-").replace("- ", "-").replace("+ ", "")
    row, column, *values = map(float, re.findall(r"-?\d+\.?\d*", numbers))
    assert (row, column) == shown.pixel
    taps, maps, (total, result) = values[0:6:2], values[1:6:2], values[6:]
    assert taps == pytest.approx(shown.taps.tolist(), abs=0.00501)
    at = [x[shown.pixel].item() for x in shown.maps]
    assert maps == pytest.approx(at, abs=0.00501)
    exact = sum(tap * x for tap, x in zip(shown.taps.tolist(), at, strict=True))
    assert total == pytest.approx(exact, abs=0.00501)
    assert result == pytest.approx(max(0, exact), abs=0.00501)


def test_numbers_where_there_is_nothing():
    nothing = tam_arithmetic.arithmetic(torch.zeros(4, 2, 2), torch.tensor([0.5, 1, -0.25]), 0)
    text = tam_arithmetic.in_numbers(nothing, limit=1.0)
    assert "0.50 × 0.00 + 1.00 × 0.00 − 0.25 × 0.00 = 0.00" in text and "All maps" in text
    assert nothing.maps[0] is None


def test_mark_where_the_relu_leaves_nothing():
    maps = torch.tensor([[[1.0, 2.0], [3.0, 1.0]]])
    steps = tam_arithmetic.arithmetic(maps, torch.tensor([0.0, -1.0, 0.0]), 0)
    assert not steps.result.any() and steps.pixel == (1, 0)


def test_small_numbers_are_told_apart():
    assert [tam_arithmetic.digits_for(limit) for limit in (40.0, 1.0, 0.5, 0.04)] == [2, 2, 3, 4]
    assert [tam_views.number(v) for v in (-0.004, -0.5, 0.25)] == ["0.00", "−0.50", "0.25"]


# ---------------------------------------------------------------- pictures of known numbers


def test_picture_of_the_arithmetic():
    side = 84  # a tile's: pixels are drawn as they are
    maps = torch.tensor([0.2, 0.5, 0.9, 0.7])[:, None, None].expand(4, side, side)
    steps = tam_arithmetic.arithmetic(maps, torch.tensor([0.5, 1.0, -1.0]), 1)
    picture = tam_arithmetic.arithmetic_picture(steps, 1, "pairs", limit=1.0)
    assert has_row(picture, [0.2, 0.5, 0.9])
    assert has_row(picture, [0.1, 0.5, -0.9, -0.3, 0.0])
    # At the clip's ends a place is empty, not a map of zeros.
    steps = tam_arithmetic.arithmetic(maps, torch.tensor([0.5, 1.0, -1.0]), 0)
    picture = tam_arithmetic.arithmetic_picture(steps, 0, "pairs", limit=1.0)
    assert has_row(picture, [0.2, 0.5]) and has_row(picture, [0.2, -0.5, -0.3, 0.0])


def test_mark_is_where_the_pixel_is():
    maps = torch.zeros(3, 4, 4)
    maps[1, 2, 3] = 1.0
    steps = tam_arithmetic.arithmetic(maps, torch.tensor([0.0, 1.0, 0.0]), 1)
    picture = tam_arithmetic.arithmetic_picture(steps, 1, "pairs", limit=1.0)
    black = (picture == (0, 0, 0, 255)).all(2)
    rows, columns = np.nonzero(black)
    x, y = tam_views.LABELS + 84 + 36, 40  # the tile of the middle map
    inside = (columns >= x - 1) & (columns <= x + 85) & (rows >= y - 1) & (rows <= y + 85)
    assert columns[inside].min() == pytest.approx(x + 3 * 21, abs=1)
    assert columns[inside].max() == pytest.approx(x + 4 * 21, abs=1)
    assert rows[inside].min() == pytest.approx(y + 2 * 21, abs=1)
    assert rows[inside].max() == pytest.approx(y + 3 * 21, abs=1)


@pytest.mark.parametrize("kind, count", [("pairs", 4), ("frames", 8), ("twins", 16)])
def test_picture_of_all_positions(kind, count):
    maps = torch.linspace(0.1, 0.9, count)[:, None, None].expand(count, 4, 4)
    frames = [np.full((8, 8, 3), 10 * t, np.uint8) for t in range(2 * count // (1 + (count > 4)))]
    pictures = [
        tam_arithmetic.maps_picture(frames, maps, -maps, 0.5 * maps, chosen, kind, limit=1.0)
        for chosen in range(count)
    ]
    for sign in (1, -1, 0.5):
        assert has_row(pictures[0], (sign * maps[:, 0, 0]).tolist())
    greys = [(10 * t,) * 3 for t in range(0, len(frames), len(frames) // count)]
    assert any(runs(line) == greys for line in pictures[0])
    differing = [np.nonzero((p != pictures[0]).any((0, 2)))[0].max() for p in pictures[1:]]
    assert differing == sorted(differing) and len(set(differing)) == count - 1, "frame moves right"


def test_strip_is_in_the_order_of_roles():
    taps = torch.tensor([[0.0, 1.0, 0.9, -0.5], [1.0, 0.1, 0.0, 1.0], [0.0, 0.0, 0.0, 0.0]])
    roles = channel_roles(taps)
    assert roles == ["keeps", "looks_back", "looks_back", "differences"]
    order = tam_views.channel_order(taps, roles)
    assert order == [1, 2, 3, 0]  # looks_back by size, differences, keeps
    picture = tam_views.strip(taps, roles, order, chosen=3)
    assert has_row(picture, [1.0, 0.9, -0.5, 0.0])
    assert any(
        runs(line) == [hex_colour("looks_back"), hex_colour("differences"), hex_colour("keeps")]
        for line in picture
    )
    text = tam_views.role_legend(roles)
    assert "<b>looks_back</b> 2:" in text and "<b>keeps</b> 1:" in text and "silent" not in text


def hex_colour(role):
    return tuple(int(ROLE_COLOURS[role][i : i + 2], 16) for i in (1, 3, 5))


def test_chosen_channel_of_many_is_seen():
    taps = torch.zeros(3, 2048)
    taps[1] = 1.0
    taps[:, 77] = torch.tensor([-1.0, 0.0, 0.0])
    roles = channel_roles(taps)
    order = tam_views.channel_order(taps, roles)
    blue = coloured(np.array([[-1.0]], np.float32), 1)[0, 0]
    wide = [
        (tam_views.strip(taps, roles, order, chosen)[..., :3] == blue).all(2).sum(1).max()
        for chosen in (77, 78)
    ]
    assert wide[0] >= 9 > 1 >= wide[1]


def test_network_is_drawn_from_the_models_names(explorer):
    explorer.module.value = "stage2.tam"
    explorer.taps["next"].value = 1.5
    root = ElementTree.fromstring(explorer._html["network"].value)
    texts = [text.text for text in root.iter("text")]
    assert [t for t in texts if t in ("stem", "stage1", "stage2", "stage3", "stage4")] == sorted(
        {name.partition(".")[0] for name in TINY_TAMS}, key=("stem", "stage").index
        if False
        else lambda place: (place != "stem", place)
    )
    assert texts.count("TAM") == 6 and texts.count("changed") == 1
    assert [t for t in texts if t.endswith("channels")] == [
        f"{c} channels" for c in (8, 8, 32, 64, 128, 256)
    ]
    framed = [r for r in root.iter("rect") if r.get("stroke-width") == "4"]
    assert len(framed) == 1
    column = int(float(framed[0].get("x")) // (tam_views.WIDTH / 6))
    assert column == 2, "the chosen TAM is framed"
