"""Pictures of what is inside a model: the table of its parts, and figures that show their numbers.

The oracles are costs worked out on paper, captured maps, and orders sorted by hand.
"""

from collections import Counter

import numpy as np
import pandas as pd
import plotly.graph_objects as go
import pytest
import torch
from matplotlib.colors import to_hex
from matplotlib.patches import FancyBboxPatch, Rectangle
from matplotlib.text import Text
from nets import BUILDERS, RESNETS, count_hooks, tam_resnet, tiny, tsm
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from blvnet_lab import viz
from blvnet_lab.introspect import (
    derived_receptive_field,
    effective_pair_taps,
    layer_table,
    tam_roles,
    tam_weights,
    tap_history,
    taps_table,
)
from blvnet_lab.models import TAM, blvnet_tam, count_cost, tsn, tsn_blnet
from blvnet_lab.paths import data_samples
from blvnet_lab.viz.interactive import DECIMALS
from blvnet_lab.viz.theme import BLUE, ORANGE, ROLE_COLOURS, SIGNED

FRAMES = (torch.arange(8, dtype=torch.uint8) * 20)[:, None, None, None].expand(8, 3, 6, 8)


def table_of(builder) -> pd.DataFrame:
    return layer_table(tiny(builder), (64, 64))


def texts(figure) -> list[str]:
    found = [text.get_text() for text in figure.findobj(Text) if text.get_visible()]
    return [text for text in found if text]


@pytest.mark.parametrize("depth", ["tiny", 50])
@pytest.mark.parametrize("builder", BUILDERS)
def test_the_parts_add_up_to_the_model(builder, depth):
    with torch.device("meta"):
        model = builder(depth=depth, num_frames=4, num_classes=7, in_channels=10).eval()
    sizes = (224, 224), (66, 90)  # the second one is halved to odd sizes
    for size in sizes if depth == "tiny" else sizes[1:]:
        table, cost = layer_table(model, size), count_cost(model, size)
        clip = torch.empty(1, 4, 10, *size, device="meta")
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            model(clip)
        assert cost.macs - cost.tam_macs == counter.get_total_flops() // 2
        assert cost.macs == table["macs"].sum()
        # The taps of a shift are no weights.
        named = model.named_parameters()
        learned = [p for name, p in named if builder is not tsm or "taps" not in name]
        assert cost.parameters == sum(values.numel() for values in learned)


def test_parts_by_hand():
    table = table_of(blvnet_tam)
    parts = {(row[0], row[1]): list(row[2:]) for row in table.itertuples(index=False)}
    weights = 8 * 3 * 7 * 7
    assert parts["stem", "conv"] == [8, 8, 32, 32, 8 * 32 * 32 * weights, weights + 2 * 8]
    # On frames: both of a pair, 3 taps each.
    assert parts["stage2", "tam"] == [8, 32, 8, 8, 3 * 8 * 32 * 8 * 8, 3 * 32]
    # Half of the frames, half of the channels.
    kernels = [(8 * 4 * 9, 32 * 32), (4 * 4 * 9, 16 * 16), (4 * 8, 16 * 16)]
    macs = 4 * sum(weights * pixels for weights, pixels in kernels)
    parameters = sum(weights for weights, _ in kernels) + 2 * (4 + 4 + 8)
    assert parts["stem", "little"] == [4, 8, 16, 16, macs, parameters]
    assert parts["stage3", "merged"] == [4, 128, 4, 4, 0, 0]
    # The last block and its TAM: what the TAM has is not counted with the block.
    assert parts["stage4", "tam"] == [4, 256, 2, 2, 3 * 4 * 256 * 2 * 2, 3 * 256]
    weights = 256 * 64 + 64 * 64 * 9 + 64 * 256
    block = [4, 256, 2, 2, 4 * 2 * 2 * weights, weights + 2 * (64 + 64 + 256)]
    assert parts["stage4", "block"] == block
    assert parts["classifier", "classifier"] == [4, 5, 1, 1, 4 * 256 * 5, 256 * 5 + 5]


def test_a_tam_is_counted_wherever_it_is():
    model = tiny(tsn, num_classes=3)
    model.train()
    before = layer_table(model, (64, 64))
    assert model.training and next(model.parameters()).device.type == "cpu"
    assert not count_hooks(model)
    block = model.stage2[1]
    block.conv1 = nn.Sequential(nn.Unflatten(0, (-1, 8)), TAM(64), nn.Flatten(0, 1), block.conv1)
    table = layer_table(model, (64, 64))
    assert table["macs"].sum() - before["macs"].sum() == 3 * 8 * 64 * 8 * 8
    assert table["parameters"].sum() == sum(p.numel() for p in model.parameters())


@pytest.mark.parametrize("depth", ["tiny", 50])
@pytest.mark.parametrize("builder", BUILDERS)
def test_architecture_has_a_box_for_every_part(builder, depth):
    with torch.device("meta"):
        table = layer_table(builder(depth=depth, num_frames=16))
    figure = viz.architecture_figure(table, "a network")
    (axes,) = figure.axes
    boxes = [patch for patch in axes.patches if isinstance(patch, FancyBboxPatch)]
    drawn = table[table["part"] != "merged"]
    if builder in RESNETS:  # one box for all TAMs of a stage
        drawn = drawn[(drawn["part"] != "tam") | ~drawn.duplicated(["stage", "part"])]
    again = (drawn["part"] == "block") & (drawn["part"] == drawn["part"].shift())
    again &= drawn["stage"] == drawn["stage"].shift()
    assert len(boxes) == (~again).sum()
    assert texts(figure).count("+") == (table["part"] == "merged").sum()
    # No two boxes overlap, and all are on the page, beside the bars.
    bars = [patch for patch in axes.patches if isinstance(patch, Rectangle)]
    edges = [(b.get_x(), b.get_y(), b.get_width(), b.get_height()) for b in boxes]
    for i, (x, y, width, height) in enumerate(edges):
        assert x > 0.9 and y > 0 and x + width < min(bar.get_x() for bar in bars)
        for x2, y2, width2, height2 in edges[:i]:
            beside = x + width <= x2 or x2 + width2 <= x
            assert beside or y + height <= y2 or y2 + height2 <= y


def test_architecture_names_outputs_and_costs():
    words = texts(viz.architecture_figure(table_of(blvnet_tam), "tiny"))
    assert "little 4 × 32 × 16 × 16\n0.901 MMACs" in words
    assert "TAM\n8 × 8\n× 32 × 32\n0.197 MMACs" in words
    cost = count_cost(tiny(blvnet_tam), (64, 64))
    assert f"tiny: {cost.macs / 1e6:.3g} MMACs a clip of 8 frames, 0.244 M parameters" in words
    assert f"TAM: {100 * cost.tam_macs / cost.macs:.3g} %" in words
    assert words.count("enlarged") == 3  # the stem's branches give maps of one size
    assert any("little branch (frames 0, 2, ...)" in word for word in words)
    words = texts(viz.architecture_figure(table_of(tsn_blnet)))
    assert any("big branch (every frame)" in word for word in words)
    assert not any("TAM" in word for word in words)
    with torch.device("meta"):
        table = layer_table(tsn(depth=50))
    words = texts(viz.architecture_figure(table))
    assert "6 blocks\n16 × 1024\n× 14 × 14\n23.4 GMACs" in words
    assert not any("branch" in word for word in words)


def test_architecture_bars_are_the_costs():
    table = table_of(blvnet_tam)
    (axes,) = viz.architecture_figure(table).axes
    bars = [patch for patch in axes.patches if isinstance(patch, Rectangle)]
    by_colour = Counter()
    for bar in bars:
        by_colour[to_hex(bar.get_edgecolor())] += bar.get_width()
    total = sum(by_colour.values())
    for part, colour in viz.BRANCH_COLOURS.items():
        share = table.loc[table["part"] == part, "macs"].sum() / table["macs"].sum()
        assert by_colour[colour.lower()] / total == pytest.approx(share)
    widths = pd.Series([bar.get_width() for bar in bars])
    rows = widths.groupby([round(bar.get_y(), 3) for bar in bars]).sum().sort_index(ascending=False)
    macs = table.groupby("stage", sort=False)["macs"].sum()
    np.testing.assert_allclose(rows / rows.sum(), macs / macs.sum())


def maps_of(positions: int, size: int, seed: int) -> torch.Tensor:
    return torch.randn(positions, size, size, generator=torch.Generator().manual_seed(seed))


def test_attributions_lie_over_their_frames_on_one_scale():
    pairs, frames = maps_of(4, 2, 0), maps_of(8, 3, 1) / 100
    figure = viz.attribution_figure(FRAMES, {"as asked": pairs.requires_grad_(), "weak": frames})
    top, *rows = [axes for axes in figure.axes if axes.images]
    assert [image.get_array()[0, 0, 0] for image in top.images] == [20 * t for t in range(8)]
    limit = pairs.abs().max().item()
    for axes, maps in zip(rows, (pairs.repeat_interleave(2, 0), frames), strict=True):
        for t in range(8):
            ground, cells = axes.images[2 * t : 2 * t + 2]
            assert (ground.get_array() == 20 * t).all() and ground.get_clim() == (0, 255)
            np.testing.assert_allclose(cells.get_array(), maps[t].detach())
            assert cells.get_clim() == pytest.approx((-limit, limit)), "a scale of its own"
            assert (cells.get_interpolation(), cells.get_cmap().name) == ("nearest", SIGNED)
            assert ground.get_extent() == cells.get_extent() and 0.3 < cells.get_alpha() < 0.8
    edges = [np.array([image.get_extent() for image in axes.images[::2]]) for axes in rows]
    gaps = [edge[1:, 0] - edge[:-1, 1] for edge in edges]
    np.testing.assert_allclose(gaps[0], [0, 0.16] * 3 + [0], atol=1e-9)  # of a pair, none
    np.testing.assert_allclose(gaps[1], [0.08] * 7)
    low, high = (float(bound) for bound in pairs.detach().aminmax())
    label = f"as asked\n{low:.2g} to {high:.2g}".replace("-", "−")
    assert [top.get_ylabel(), rows[0].get_ylabel()] == ["frames", label]
    words = texts(figure)
    assert "attribution\n/ logits" in words and "frame" in words and words.count("7") == 1
    (zero,) = viz.attribution_figure(FRAMES, {"none": torch.zeros(8, 2, 2)}).axes[1].images[1:2]
    assert zero.get_clim() == (-1, 1)


def test_attributions_of_other_frames_are_refused():
    words = r"\(positions, h, w\) of 8 frames or of their pairs, got odd \(.*give .* maps\[0\]"
    for shape in ((1, 4, 2, 2), (3, 2, 2), (4, 2)):
        with pytest.raises(ValueError, match=words):
            viz.attribution_figure(FRAMES, {"odd": torch.zeros(shape)})
    with pytest.raises(ValueError, match="expected maps by name, got none"):
        viz.attribution_figure(FRAMES, {})


@pytest.fixture(scope="module")
def taps():
    """Taps of five by two modules, and roles that are not in the order of pictures."""
    generator = torch.Generator().manual_seed(0)
    taps = {"a.tam": torch.randn(5, 4, generator=generator), "b.tam": torch.zeros(5, 2)}
    weights = taps_table(taps).sample(frac=1, random_state=0)  # rows in no order
    weights = weights.sort_values("module", kind="stable")
    roles = pd.DataFrame(
        [("a.tam", c, role) for c, role in enumerate(["keeps", "looks_back", "silent", "keeps"])]
        + [("b.tam", 0, "mixed"), ("b.tam", 1, "averages")],
        columns=["module", "channel", "role"],
    )
    return taps, weights, roles


def sorted_by_hand(taps: torch.Tensor) -> list[int]:
    first, second = (0, 3) if taps[2, 0] >= taps[2, 3] else (3, 0)  # both keep: larger curr first
    return [1, first, second, 2]


def test_taps_are_sorted_by_role_then_weight(taps):
    taps, weights, roles = taps
    figure = viz.taps_figure(weights, roles, "title")
    panel_a, panel_b = figure.axes[:2]
    order = sorted_by_hand(taps["a.tam"])
    strip, cells = panel_a.images
    expected = taps["a.tam"][:, order] / taps["a.tam"].abs().max()
    np.testing.assert_allclose(cells.get_array(), expected, atol=1e-6)
    assert cells.get_clim() == (-1, 1) and cells.get_cmap().name == SIGNED
    names = [label.get_text() for label in panel_a.get_yticklabels()]
    assert names == ["−2", "−1", "+0", "+1", "+2"]
    assert [label.get_text() for label in panel_a.get_xticklabels()] == [str(c) for c in order]
    colours = [to_hex(colour).upper() for colour in strip.get_array()[0]]
    assert colours == [ROLE_COLOURS[r] for r in ("looks_back", "keeps", "keeps", "silent")]
    assert (panel_b.images[1].get_array() == 0).all()  # no division by zero
    legend = [text.get_text() for text in figure.legends[0].get_texts()]
    assert legend == ["looks_back (1)", "averages (1)", "keeps (2)", "silent (1)", "mixed (1)"]


def test_taps_of_2048_channels():
    model = blvnet_tam(depth=50, num_frames=4)
    weights, roles = tam_weights(model), tam_roles(model)
    panel = viz.taps_figure(weights, roles).axes[6]
    assert panel.images[1].get_array().shape == (3, 2048) and panel.get_xticks().size == 0
    assert len(viz.taps_hover(weights, roles).to_json()) < 500_000


@pytest.mark.parametrize(
    "builder, kind, other", [(tsm, "shift", "TAM"), (tam_resnet, "TAM", "shift")]
)
def test_a_shift_is_not_called_a_tam(builder, kind, other):
    model = tiny(builder)
    weights, roles = tam_weights(model), tam_roles(model)
    if kind == "TAM":  # that changes nothing: zeros and ones, too
        weights = weights.assign(weight=(weights["offset"] == 0).astype(float))
    scale = viz.taps_hover(weights, roles).data[1].colorbar.title.text
    figures = viz.architecture_figure(layer_table(model)), viz.taps_figure(weights, roles)
    words = [scale, *texts(figures[0]), *texts(figures[1])]
    assert sum(kind in word for word in words) == 7  # scales, legend, a box in each stage
    assert not any(other in word for word in words)


def test_pair_taps_of_both_frames_are_in_one_order():
    model = tiny(blvnet_tam)
    with torch.no_grad():
        model.stage2.tam.taps.uniform_(-1, 1)
    prev, curr, after = model.stage2.tam.taps.detach()
    order = (after - prev).argsort()  # from looking back to looking ahead
    figure = viz.pair_taps_figure(effective_pair_taps(model), "stage2.tam")
    little, big = figure.axes[:2]
    for axes, title, taps, pairs in (
        (little, "little frames", [prev, curr + after], ["pair −1", "own pair"]),
        (big, "big frames", [prev + curr, after], ["own pair", "pair +1"]),
    ):
        cells = axes.images[0].get_array()
        np.testing.assert_allclose(cells, torch.stack(taps)[:, order], atol=1e-6)
        assert axes.get_title() == title
        assert [label.get_text() for label in axes.get_yticklabels()] == pairs
    assert little.images[0].get_clim() == big.images[0].get_clim()


def test_figures_of_a_causal_model():
    model = tiny(blvnet_tam, causal=True)
    weights, roles = tam_weights(model), tam_roles(model)
    panel = viz.taps_figure(weights, roles).axes[0]
    assert [label.get_text() for label in panel.get_yticklabels()] == ["−2", "prev", "curr"]
    assert list(viz.taps_hover(weights, roles).data[1].y) == ["−2", "prev", "curr"]
    figure = viz.pair_taps_figure(effective_pair_taps(model), "stage2.tam")
    for axes in figure.axes[:2]:
        assert [label.get_text() for label in axes.get_yticklabels()] == ["pair −1", "own pair"]
        assert axes.get_xlabel().endswith("looking back ... least")
    history = weights.assign(epoch=0)
    titles = [axes.get_title() for axes in viz.tap_history_figure(history, "stem.tam").axes]
    assert titles == ["−2", "prev", "curr"]
    figure = viz.tap_history_hover(history, "stem.tam", roles)
    earliest, prev, _ = model.stem.tam.taps.detach()
    (trace,) = figure.data
    for values, taps in ((trace.x, prev), (trace.y, earliest)):
        expected = taps[[*trace.hovertext]]
        np.testing.assert_allclose(np.array(values, float), expected, atol=10**-DECIMALS)
    titles = [axis.title.text[:5] for axis in (figure.layout.xaxis, figure.layout.yaxis)]
    assert titles == ["prev:", "−2: w"]
    model = tsn(depth="tiny", num_frames=8, temporal="tam", num_taps=5)
    history = tam_weights(model).assign(epoch=0)
    figure = viz.tap_history_hover(history, "stage1.0.tam", tam_roles(model))
    assert figure.layout.xaxis.title.text == "−1: weight of the frame before"
    assert figure.layout.yaxis.title.text == "+1: weight of the frame after"


def test_hover_holds_every_weight_and_who_it_is(taps):
    taps, weights, roles = taps
    figure = viz.taps_hover(weights, roles)
    strips, cells = figure.data[0:4:2], figure.data[1:4:2]
    order = sorted_by_hand(taps["a.tam"])
    np.testing.assert_allclose(cells[0].z, taps["a.tam"][:, order], atol=10**-DECIMALS)
    assert list(cells[0].y) == ["−2", "−1", "+0", "+1", "+2"]
    names = [f"{c}, {roles['role'][c]}" for c in order]
    assert list(cells[0].x) == list(strips[0].x) == names
    assert cells[0].zmin == -cells[0].zmax < 0
    # Or the theme's template would choose the colours.
    assert cells[0].autocolorscale is strips[0].autocolorscale is False
    assert all(trace.hoverongaps is False for trace in (*strips, *cells))  # or one hides the other
    for strip in strips:
        shown = [colour_at(strip, value) for value in strip.z[0]]
        assert shown == [ROLE_COLOURS[name.split(", ")[1]] for name in strip.x]
    legend = [trace.name for trace in figure.data[4:]]
    assert legend == ["looks_back", "averages", "keeps", "silent", "mixed"]


@pytest.mark.parametrize("r", [1, 3, 7])
def test_there_is_room_for_the_name_of_every_tap(r):
    model = tsn(depth="tiny", num_frames=8, temporal="tam", num_taps=r)
    figure = viz.taps_hover(tam_weights(model), tam_roles(model))
    top, *_ = figure.select_yaxes()
    margins = figure.layout.margin.to_plotly_json()
    inner = figure.layout.height - 100 - margins["b"]  # plotly's own at the top: 100
    assert inner * np.ptp(top.domain) / (r + 1) > 13, "pixels of a row; text is 12 high"


def colour_at(strip: go.Heatmap, value: float) -> str:
    place = (value - strip.zmin) / (strip.zmax - strip.zmin)
    return [colour for start, colour in strip.colorscale if start < place][-1]


def test_hover_of_the_shipped_network_is_small():
    with open(data_samples() / "checkpoints" / "blvnet_tam.jsonl") as lines:
        history = tap_history(lines)
    last = history[history["epoch"] == history["epoch"].max()]
    roles = last.drop_duplicates(["module", "channel"]).assign(role="keeps")
    over_time = viz.tap_history_hover(history, "stage4.1.tam", roles)
    for figure in (viz.taps_hover(last, roles), over_time):
        assert len(figure.to_json()) < 200_000
    assert "bdata" not in viz.taps_hover(last, roles).to_json()  # lists, which GitHub can read


@pytest.fixture(scope="module")
def history():
    generator = torch.Generator().manual_seed(1)
    epochs = {e: torch.randn(3, 4, generator=generator, dtype=torch.float64) for e in (0, 1, 2)}
    lines = [{"epoch": e, "taps": {"x.tam": t.tolist()}} for e, t in epochs.items()]
    return epochs, tap_history(lines)


def test_history_has_a_line_per_channel(history):
    epochs, table = history
    figure = viz.tap_history_figure(table.sample(frac=1, random_state=0), "x.tam")
    assert [axes.get_title() for axes in figure.axes] == ["prev", "curr", "next"]
    for tap, axes in enumerate(figure.axes):
        *channels, median, zero = axes.lines
        values = torch.stack([taps[tap] for taps in epochs.values()])  # (epochs, channels)
        for channel, line in enumerate(channels):
            assert list(line.get_xdata()) == [0, 1, 2]
            np.testing.assert_allclose(line.get_ydata(), values[:, channel])
        assert len(channels) == 4 and list(zero.get_ydata()) == [0, 0]
        np.testing.assert_allclose(median.get_ydata(), np.median(values, axis=1))
    with pytest.raises(ValueError, match=r'a module of this table, got "stem.tam"; it has x.tam'):
        viz.tap_history_figure(table, "stem.tam")


def test_history_plays_every_epoch_on_fixed_axes(history):
    epochs, table = history
    names = ["keeps", "silent", "keeps", "averages"]
    roles = pd.DataFrame({"module": "x.tam", "channel": range(4), "role": names})
    figure = viz.tap_history_hover(table, "x.tam", roles)
    assert [frame.name for frame in figure.frames] == ["0", "1", "2"]
    labels = [int(label) for trace in figure.data for label in trace.hovertext]
    assert sorted(labels) == [0, 1, 2, 3]
    shown = [(frame.name, frame.data) for frame in figure.frames]
    for epoch, traces in [*shown, ("2", figure.data)]:  # at the end where no one can play it
        x = [value for trace in traces for value in trace.x]
        y = [value for trace in traces for value in trace.y]
        prev, _, after = epochs[int(epoch)][:, labels]
        np.testing.assert_allclose(x, prev, atol=10**-DECIMALS)
        np.testing.assert_allclose(y, after, atol=10**-DECIMALS)
        expected = [ROLE_COLOURS[role] for role in ("averages", "keeps", "silent")]
        assert [trace.marker.color for trace in traces] == expected
    for axis in (figure.layout.xaxis, figure.layout.yaxis):
        low, high = axis.range
        reach = max(float(taps[[0, 2]].abs().max()) for taps in epochs.values())
        assert low == -high and high > reach
    assert [step.args[0][0] for step in figure.layout.sliders[0].steps] == ["0", "1", "2"]


def test_fields_are_row_normalised_and_outlined():
    derived = derived_receptive_field(tiny(blvnet_tam))
    generator = torch.Generator().manual_seed(0)
    names = ["stem.tam", "stem.out", "stage4.out"]
    fields = {name: torch.rand(derived[name].shape, generator=generator) for name in names}
    fields["stem.out"][1] = 0  # nothing moves it: no division by zero
    figure = viz.receptive_field_figure(fields, derived, "title")
    panels = [axes for axes in figure.axes if axes.images]
    for axes, name in zip(panels, names, strict=True):
        assert axes.get_title() == name
        shown = np.asarray(axes.images[0].get_array())
        largest = fields[name].max(1, keepdim=True).values
        np.testing.assert_allclose(shown, (fields[name] / largest).nan_to_num(), rtol=1e-6)
        labels = axes.get_xticklabels()
        assert [label.get_text() for label in labels] == [str(t) for t in range(8)]
        ticks = [tick.tick1line for tick in axes.xaxis.get_major_ticks()]
        assert [tick.get_markeredgecolor() for tick in ticks] == [ORANGE, BLUE] * 4
        # An edge between any True cell and one that is none, and no other.
        cells = np.pad(derived[name].numpy(), 1).astype(int)
        across, down = (np.argwhere(np.diff(cells, axis=axis)) for axis in (1, 0))
        middles = {(c - 0.5, r - 1) for r, c in across} | {(c - 1, r - 0.5) for r, c in down}
        edges = np.asarray(axes.collections[0].get_segments())
        assert {tuple(edge) for edge in edges.mean(1).tolist()} == middles
    assert [axes.get_ylabel() for axes in panels] == ["frame", "pair", "pair"]


def test_fields_of_single_frames():
    figure = viz.receptive_field_figure(derived_receptive_field(tiny(tsn)))
    axes = figure.axes[0]
    assert (axes.images[0].get_array() == np.eye(8)).all() and not axes.collections
    ticks = [tick.tick1line for tick in axes.xaxis.get_major_ticks()]
    assert ORANGE not in [tick.get_markeredgecolor() for tick in ticks] and not figure.legends


ABLATIONS = pd.DataFrame(
    {
        "ablation": ["nothing", "no big", "TAM off: everywhere"],
        "top_1": [0.9, 0.2, 0.5],
        "direction": [0.98, 0.5, 0.97],
        "order": [0.99, 0.49, 0.51],
    }
)


def test_ablations_beside_their_control():
    (axes,) = viz.ablation_figure(ABLATIONS).axes
    bars = [bar.get_width() for bar in axes.patches]
    np.testing.assert_allclose(bars, [98, 50, 97, 99, 49, 51])
    colours = [to_hex(bar.get_facecolor()).upper() for bar in axes.patches]
    assert colours == [ORANGE] * 3 + [BLUE] * 3
    middles = np.array([bar.get_y() + bar.get_height() / 2 for bar in axes.patches])
    np.testing.assert_allclose((middles[:3] + middles[3:]) / 2, axes.get_yticks(), atol=1e-9)
    assert [label.get_text() for label in axes.get_yticklabels()] == ABLATIONS["ablation"].tolist()
    lines = {line.get_xdata()[0]: line.get_color() for line in axes.lines}
    assert lines.keys() == {98, 99, 50} and (lines[98], lines[99]) == (ORANGE, BLUE)


def test_importance_stands_under_its_frame():
    methods = {"occlusion / nats": torch.linspace(-1, 1, 8), "gradient": torch.arange(8.0)}
    figure = viz.importance_figure(FRAMES, methods)
    top, *panels = figure.axes
    figure.draw_without_rendering()  # lays out the panels
    assert len(panels) == 2
    for axes, (name, values) in zip(panels, methods.items(), strict=True):
        np.testing.assert_allclose([bar.get_height() for bar in axes.patches], values)
        assert axes.get_ylabel().replace("\n", " ") == name
        for bar, image in zip(axes.patches, top.images, strict=True):
            left, right = image.get_extent()[:2]
            middle = bar.get_x() + bar.get_width() / 2
            assert middle == pytest.approx((left + right) / 2)
            on_page = [a.transData.transform((middle, 0))[0] for a in (top, axes)]
            assert on_page[0] == pytest.approx(on_page[1], abs=0.5)
    for t, image in enumerate(top.images):
        assert (image.get_array() == 20 * t).all()


DELETIONS = pd.DataFrame(
    [("occlusion", -1, k, -2.0 * k) for k in range(3)]
    + [("random", seed, k, -1.0 * k + 0.1 * seed * k) for seed in range(3) for k in range(3)],
    columns=["method", "seed", "deleted", "log_probability"],
)


def test_deletion_beside_its_control():
    (axes,) = viz.deletion_figure(DELETIONS).axes
    random, occlusion = axes.lines
    np.testing.assert_allclose(random.get_ydata(), [0, -0.9, -1.8])
    np.testing.assert_allclose(occlusion.get_ydata(), [0, -2, -4])
    assert occlusion.get_label() == "occlusion" and "control, 3 orders" in random.get_label()
    one = viz.deletion_figure(DELETIONS[DELETIONS["seed"] < 1]).axes[0].lines[0]
    assert one.get_label() == "random (control, 1 order)"
    band = axes.collections[0].get_paths()[0].vertices
    for deleted, low, high in ((0, 0, 0), (1, -1, -0.8), (2, -2, -1.6)):
        edge = band[band[:, 0] == deleted, 1]
        assert (edge.min(), edge.max()) == (pytest.approx(low), pytest.approx(high))
