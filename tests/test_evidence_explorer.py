"""The evidence explorer in Python: what it prints adds up, to what the networks say.

The oracles: networks called by hand, sums in decimals, matplotlib's own colours.
"""

import copy
import re
from decimal import Decimal

import matplotlib as mpl
import numpy as np
import pytest
import torch
from shown import MANIFEST, NAMES, decoded, plain, shipped

from blvnet_lab.data import denormalize, normalize, read_frames, sample_uniform
from blvnet_lab.introspect import evidence, wake_residuals
from blvnet_lab.models import blvnet_tam, tsn
from blvnet_lab.viz import EvidenceExplorer
from blvnet_lab.viz.explorers.evidence import adding_up

RIGHT, LEFT = NAMES.index("moves_right"), NAMES.index("moves_left")
ORDERS = {
    "as filmed": [0, 1, 2, 3, 4, 5, 6, 7],
    "frames of a pair exchanged": [1, 0, 3, 2, 5, 4, 7, 6],
    "halves exchanged": [4, 5, 6, 7, 0, 1, 2, 3],
    "frames reversed": [7, 6, 5, 4, 3, 2, 1, 0],
}
TOP, STEP = 32, 106  # of the overview of four pairs: its first tile, and from tile to tile
TILE = 96


@pytest.fixture(scope="module")
def networks():
    return {title: shipped(name) for title, name in (("TSN", "tsn"), ("TAM", "blvnet_tam"))}


@pytest.fixture(scope="module")
def clip():
    """A validation clip of moves_right, (8, 3, 64, 64)."""
    row = MANIFEST.query("split == 'val' and class_name == 'moves_right'").iloc[0]
    return normalize(read_frames(row["path"], sample_uniform(24, 8)))


@pytest.fixture
def explorer(networks, clip):
    return EvidenceExplorer(networks, clip, NAMES, label=RIGHT)


def decimals(text: str) -> list[Decimal]:
    return [Decimal(part) for part in text.replace("−", "-").replace("- ", "-").split()]


def sums_in(text: str) -> list[tuple[list[Decimal], Decimal]]:
    """Every sum that is written out: its terms and its result."""
    found = re.findall(r": ([−\d.+ ]+) = (−?[\d.]+\d)", text)
    return [(decimals(terms.replace("+ ", "")), *decimals(total)) for terms, total in found]


def cells_in(explorer: EvidenceExplorer) -> list[Decimal]:
    return [decimals(cell)[0] for cell in re.findall("<td>(.*?)</td>", explorer.closeup.value)]


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("minus", [-1, LEFT])
@pytest.mark.parametrize("title, positions", [("TSN", 8), ("TAM", 4)])
def test_what_is_printed_adds_up(explorer, networks, clip, title, positions, minus, order):
    explorer.network.value, explorer.minus.value, explorer.order.value = title, minus, order
    given = clip[None, ORDERS[order]]
    with torch.no_grad():
        logits = networks[title].eval()(given)[0].double()
    maps = evidence(networks[title], given, RIGHT, None if minus < 0 else minus)[0]
    expected = logits[RIGHT] - (0 if minus < 0 else logits[minus])
    assert explorer.position.max + 1 == positions == len(maps)
    for position in range(positions):
        explorer.position.value = position
        text = plain(explorer.sums.value)
        (cells, whole), (parts, total) = sums_in(text)
        assert sum(cells) == whole == parts[position] and sum(parts) == total
        assert cells_in(explorer) == cells, "the numbers over the picture"
        unit = 10.0 ** cells[0].as_tuple().exponent
        assert unit <= 0.01
        assert float(total) == pytest.approx(expected.item(), abs=unit / 2 + 1e-5)
        for printed, exact in ((cells, maps[position].flatten()), (parts, maps.sum((1, 2)))):
            np.testing.assert_allclose(np.array(printed, float), exact, atol=unit)
    held = ORDERS[order][-8 // positions :]
    words = " and ".join(map(str, held))
    kind = f"Pair 3, frames {words}:" if positions == 4 else f"Position 7, frame {words}:"
    assert text.startswith(kind)
    less = ", less that of moves_left" if minus == LEFT else ""
    assert f"= {str(total).replace('-', '−')}, the logit of moves_right{less}." in text
    chances = logits.softmax(0)
    best = f"{NAMES[chances.argmax()]} ({100 * chances.max():.1f} %). The clip's class is moves_ri"
    assert f"{title} answers {best}" in text


def test_numbers_are_rounded_as_little_as_adds_up():
    for parts, total, expected in (
        ([0.331, 0.338, 0.331], 1.0, [0.33, 0.34, 0.33]),  # up where most is lost
        ([-0.338, 0.001, -0.331], -0.668, [-0.34, 0.0, -0.33]),
        ([0.25, -0.5, 0.0], -0.25, [0.25, -0.5, 0.0]),
        ([0.006, 0.006], 0.012, [0.01, 0.0]),  # each alone would be 0.01, and both too much
    ):
        found = adding_up(np.array(parts), total, 2)
        np.testing.assert_allclose(found, expected, atol=1e-9)
        assert f"{found.sum():.2f}" == f"{total:.2f}"


@pytest.mark.parametrize("title, order", [("TAM", "as filmed"), ("TAM", "frames reversed")])
def test_the_picture_is_the_frames_with_the_evidence(explorer, networks, clip, title, order):
    explorer.network.value, explorer.order.value = title, order
    given = clip[ORDERS[order]]
    maps = evidence(networks[title], given[None], RIGHT)[0].numpy()
    # One scale, which knows the clip as filmed: what is weaker in this order looks weaker.
    limit = max(np.abs(maps).max(), evidence(networks[title], clip[None], RIGHT).abs().max().item())
    picture = decoded(explorer.maps.value)
    frames = denormalize(given).permute(0, 2, 3, 1).numpy().astype(float)
    left = picture.shape[1] - 4 * STEP
    for p in range(4):
        colours = 255 * mpl.colormaps["RdBu_r"]((maps[p] / limit + 1) / 2)[:, :, :3]
        both = frames[2 * p : 2 * p + 2]
        grey = both.mean((0, 3))[..., None]
        over = 0.6 * colours.repeat(32, 0).repeat(32, 1) + 0.4 * grey
        for line, expected in enumerate((*both, over)):
            tile = picture[TOP + line * STEP :, left + p * STEP :][:TILE, :TILE, :3]
            nearest = (np.arange(TILE) + 0.5).astype(int) * 64 // TILE
            assert abs(tile - expected[nearest][:, nearest]).mean() < 2, (p, line)
    label = f"±{limit:.2f}"
    assert label == {"as filmed": "±2.61", "frames reversed": "±2.61"}[order]
    beneath = picture[TOP + 3 * STEP :, left:, 3].any(0)
    assert all(beneath[p * STEP :][:TILE].any() for p in range(4)), "a sum under each"


def test_all_networks_share_one_scale(explorer):
    """TSN's weak evidence stays pale: hardly a colour."""

    def colour_of() -> int:
        lines = {"TSN": 1, "TAM": 2}[explorer.network.value]
        picture = decoded(explorer.maps.value)[..., :3]
        step = 86 + 10 if lines == 1 else STEP
        row = picture[TOP + lines * step + 8 :][:50, 120:800]
        return (row.max(-1) - row.min(-1)).max()

    explorer.network.value = "TAM"
    assert colour_of() > 80
    explorer.network.value = "TSN"
    assert colour_of() < 25
    alone = EvidenceExplorer(explorer._networks["TSN"], torch.zeros(8, 3, 64, 64), NAMES, RIGHT)
    assert alone.about == "EvidenceExplorer(tsn; 8 frames of 64x64)"


def test_another_network_is_shown_at_the_same_time_of_the_clip(explorer):
    explorer.position.value = 7
    explorer.network.value = "TAM"
    assert (explorer.position.value, explorer.position.max, explorer.play.max) == (3, 3, 3)
    assert explorer.position.description == "pair"
    explorer.network.value = "TSN"
    assert (explorer.position.value, explorer.position.max, explorer.play.max) == (6, 7, 7)
    assert explorer.position.description == "position"


def test_without_a_label_it_starts_with_the_first_networks_answer(networks, clip):
    explorer = EvidenceExplorer({"TAM": networks["TAM"]}, clip[None], NAMES)
    assert explorer.label.value == RIGHT and explorer.minus.value == -1
    assert "clip's class" not in plain(explorer.sums.value)
    text = plain(EvidenceExplorer(networks["TAM"], clip).sums.value)
    assert f"blvnet_tam answers class {RIGHT}" in text


def test_depth_50_has_49_cells_and_small_numbers_have_more_decimals():
    torch.manual_seed(0)
    model = wake_residuals(blvnet_tam(depth=50, num_frames=16, num_classes=9))
    explorer = EvidenceExplorer(model, torch.randn(16, 3, 224, 224), label=8)
    (cells, whole), (parts, total) = sums_in(plain(explorer.sums.value))
    assert cells_in(explorer) == cells and len(cells) == 49 and len(parts) == 8
    assert sum(cells) == whole == parts[0] and sum(parts) == total
    assert len({abs(cell) for cell in cells}) > 10 and cells[0].as_tuple().exponent <= -3
    assert decoded(explorer.maps.value).shape[1] <= 860
    assert int(re.search(r"width:(\d+)px", explorer.closeup.value)[1]) < 500


def test_bfloat16_optical_flow_and_numbers_that_are_none(networks, clip):
    half = copy.deepcopy(networks["TAM"]).bfloat16()
    explorer = EvidenceExplorer(half, clip, NAMES, RIGHT)
    assert "answers moves_right (" in plain(explorer.sums.value)
    model = tsn(depth="tiny", num_frames=4, num_classes=3, in_channels=10)
    explorer = EvidenceExplorer(model, torch.randn(4, 10, 32, 48))
    assert "tsn answers class" in explorer.sums.value
    model = shipped("blvnet_tam")
    torch.nn.init.constant_(model.classifier.weight, torch.nan)
    explorer = EvidenceExplorer(model, clip, NAMES, RIGHT)
    assert "nan + nan" in explorer.sums.value and explorer.static_picture().any()


def test_names_are_texts_not_html(networks, clip):
    names = [f"<i>{name}</i>" for name in NAMES]
    explorer = EvidenceExplorer({"<b>": networks["TAM"]}, clip, names, RIGHT)
    assert "&lt;i&gt;moves_right&lt;/i&gt;" in explorer.sums.value
    assert "<i>" not in explorer.sums.value and "<b>" not in explorer.sums.value


def test_what_does_not_fit_together(networks, clip):
    for change, words in (
        ({"networks": {}}, r"networks of the same classes, got \{\}"),
        ({"other": {"num_classes": 5}}, r"got \{'TAM': 10, 'other': 5\}; leave some out"),
        ({"other": {"num_frames": 16}}, "T=16"),
        ({"label": 10}, "expected labels from 0 to 9, got 10"),
        ({"label": -1}, "expected labels from 0 to 9, got -1"),
    ):
        arguments = {"networks": {"TAM": networks["TAM"]}, "clip": clip} | change
        if size := arguments.pop("other", None):
            arguments["networks"]["other"] = tsn(**{"depth": "tiny", "num_classes": 10} | size)
        with pytest.raises(ValueError, match=words):
            EvidenceExplorer(**arguments)
