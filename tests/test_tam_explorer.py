"""The TAM explorer without a browser: its arithmetic, scores, pictures and edits.

The oracles are torch's own depthwise convolution, hooks registered by hand, deep copies of the
model whose parameters were really changed, and pictures of numbers worked out on paper.
"""

import copy
import re

import numpy as np
import pytest
import torch
from nets import conv3d_tam, tam_resnet, tsm
from shown import MANIFEST, bytes_of, decoded, plain, scores_in, shipped, shown

from blvnet_lab import data
from blvnet_lab.introspect import channel_roles, tam_roles, tsm_taps, wake_residuals
from blvnet_lab.models import TAM, blvnet, blvnet_tam, save_model, tsn
from blvnet_lab.viz.explorers import tam_views
from blvnet_lab.viz.explorers.tam import STEP, TamExplorer
from blvnet_lab.viz.explorers.tam_views import Arithmetic
from blvnet_lab.viz.images import digits_for
from blvnet_lab.viz.theme import BLUE, BRANCH_COLOURS, ROLE_COLOURS, coloured
from blvnet_lab.weights.taps import load_taps, save_taps

TINY_TAMS = ("stem.tam", "stage1.tam", "stage2.tam", "stage3.tam", "stage4.0.tam", "stage4.1.tam")
PICTURES = ("network", "strip", "arithmetic", "maps")
PREV_CURR_NEXT = ("prev", "curr", "next")
NAMES = [f"kind {i}" for i in range(10)]


@pytest.fixture(scope="module")
def trained():
    """The shipped bLVNet-TAM and one clip (1, 8, 3, 64, 64); nothing may change the model."""
    row = MANIFEST[MANIFEST["class_name"] == "grows_then_shrinks"].iloc[0]
    frames = data.read_frames(row["path"], data.sample_uniform(24, 8))
    return shipped("blvnet_tam"), data.normalize(frames)[None]


@pytest.fixture
def explorer(trained):
    return TamExplorer(*trained, class_names=NAMES, label=8)


def awake(builder, **arguments):
    """A tiny model with taps of all kinds, if they are learned, and a clip for it."""
    torch.manual_seed(0)
    size = {"depth": "tiny", "num_frames": 8, "num_classes": 10}
    model = wake_residuals(builder(**size, **arguments))
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, TAM) and builder is not tsm:
                module.taps.uniform_(-0.5, 1)
        model.classifier.weight.normal_(0, 0.1)
    return model, torch.randn(8, 3, 32, 32)


def with_taps(model, changes):
    """A copy of the model whose own parameters hold the taps in `changes`, by TAM's name."""
    model = copy.deepcopy(model).eval()
    with torch.no_grad():
        for name, taps in changes.items():
            model.get_submodule(name).taps.copy_(taps)
    return model


def seen_by(model, clip, name):
    """What goes into and comes out of a TAM: (1, T, C, H, W), in stage 4 (1, P, C, H, W)."""
    seen = []
    handle = model.get_submodule(name).register_forward_hook(lambda *call: seen.extend(call[1:]))
    with torch.no_grad():
        model(clip)
    handle.remove()
    (maps,), out = seen
    if isinstance(out, tuple):  # both frames of a pair get the pair's map
        return maps.repeat_interleave(2, dim=1), torch.stack(out, dim=2).flatten(1, 2)
    return maps, out


def probabilities(model, clip):
    with torch.no_grad():
        return copy.deepcopy(model).eval()(clip).softmax(1)[0].tolist()


def assert_close(maps, expected):
    torch.testing.assert_close(maps, expected.double(), rtol=1e-4, atol=1e-5)


def shown_scores(explorer):
    (scores,) = scores_in(explorer.scores.value).values()
    return scores


def assert_scores(explorer, model, clip):
    shown = list(shown_scores(explorer).values())
    assert shown == pytest.approx(probabilities(model, clip), abs=5.1e-5)


def text_of(explorer, name):
    return plain(getattr(explorer, name).value)


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


def check_arithmetic(explorer, name, channels, first=-1):
    """Some channels, at both ends and between them: the steps against hooks and a convolution."""
    model, clip = explorer._edits.model, explorer._edits.clip
    explorer.module.value = name
    maps, out = seen_by(model.eval(), clip, name)
    taps, count = model.get_submodule(name).taps.detach(), maps.shape[1]
    expected = conv3d_tam(maps, taps, causal=first == 1 - len(taps))
    torch.testing.assert_close(out, expected, rtol=1e-4, atol=1e-5)
    assert explorer.frame.max == explorer.play.max == count - 1
    is_paired = model.pairs and name.startswith("stage4")
    assert explorer.frame.description == ("pair" if is_paired else "frame")
    for channel in channels:
        explorer.channel.value = channel
        for position in (0, count // 2, count - 1):
            explorer.frame.value = position
            shown = explorer.steps
            assert_close(shown.result, out[0, position, channel])
            assert_close(shown.taps, taps[:, channel])
            for tap, at, x, product in zip(
                taps[:, channel],
                range(position + first, position + first + len(taps)),
                shown.maps,
                shown.products,
                strict=True,
            ):
                assert (x is None) == (product is None) == (not 0 <= at < count)
                if x is not None:
                    assert_close(x, maps[0, at, channel])
                    assert_close(product, tap * maps[0, at, channel])
            assert_close(shown.after(shown.taps), out[0, :, channel])
            row, column = shown.pixel
            assert shown.result[row, column] == shown.result.max()


@pytest.mark.parametrize("name", TINY_TAMS)
def test_arithmetic_is_the_modules(explorer, name):
    channels = explorer._edits.learned[name].shape[1]
    check_arithmetic(explorer, name, channels=(0, channels - 1))


@pytest.mark.parametrize("r", [2, 3])
@pytest.mark.parametrize("name", ["stem.tam", "stage2.tam", "stage4.1.tam"])
def test_arithmetic_of_a_causal_model(name, r):
    explorer = TamExplorer(*awake(blvnet_tam, num_taps=r, causal=True))
    check_arithmetic(explorer, name, channels=(0, 5), first=1 - r)


def test_numbers_at_the_marked_pixel(explorer):
    explorer.taps["prev"].value = -0.5
    explorer.frame.value = 3
    shown = explorer.steps
    numbers = text_of(explorer, "numbers").replace("−", "-").replace("- ", "-").replace("+ ", "")
    row, column, *values = map(float, re.findall(r"-?\d+\.?\d*", numbers))
    assert (row, column) == shown.pixel
    taps, at = shown.taps.tolist(), [x[shown.pixel].item() for x in shown.maps]
    exact = sum(tap * x for tap, x in zip(taps, at, strict=True))
    expected = [n for pair in zip(taps, at, strict=True) for n in pair] + [exact, max(0, exact)]
    assert values == pytest.approx(expected, abs=0.00501)


def steps_of(maps, taps, position, kind="pairs"):
    """The arithmetic of three taps, or of others around the position."""
    return Arithmetic(maps, torch.tensor(taps), -(len(taps) // 2), position, kind)


def test_numbers_and_mark_where_nothing_is_left():
    nothing = steps_of(torch.zeros(4, 2, 2), [0.5, 1.0, -0.25], 0)
    assert "0.50 × 0.00 + 1.00 × 0.00 − 0.25 × 0.00 = 0.00" in tam_views.in_numbers(nothing)
    assert nothing.maps[0] is None
    steps = steps_of(torch.tensor([[[1.0, 2.0], [3.0, 1.0]]]), [0.0, -1.0, 0.0], 0)
    assert not steps.result.any() and steps.pixel == (1, 0)
    assert [digits_for(limit) for limit in (40.0, 1.0, 0.5, 0.04)] == [2, 2, 3, 4]


def test_picture_of_the_arithmetic():
    side = 84  # a tile's: pixels are drawn as they are
    maps = torch.tensor([0.2, 0.5, 0.9, 0.7])[:, None, None].expand(4, side, side)
    for position, above, below in (
        (1, [0.2, 0.5, 0.9], [0.1, 0.5, -0.9, -0.3, 0.0]),
        (0, [0.2, 0.5], [0.2, -0.5, -0.3, 0.0]),  # beyond the end, a place is empty, not a map of 0
    ):
        steps = steps_of(maps, [0.5, 1.0, -1.0], position)
        picture = tam_views.arithmetic_picture(steps, PREV_CURR_NEXT)
        assert has_row(picture, above, limit=0.9) and has_row(picture, below, limit=0.9)


@pytest.mark.parametrize("position", [3, 4])
def test_edges_and_brackets_are_each_frames_own(position, written):
    steps = steps_of(torch.full((8, 4, 4), 0.5), [0.5, 1.0, -1.0], position, "twins")
    picture = tam_views.arithmetic_picture(steps, PREV_CURR_NEXT)
    for column, frame in enumerate(range(position - 1, position + 2)):
        edge = picture[60, tam_views.LABELS + column * 120 - 2, :3]
        assert edge.tolist() == bytes_of(BRANCH_COLOURS["big" if frame % 2 else "little"])
    pairs = [words for _, words in written if "pair" in words]
    expected = {3: ["one map: pair 1", "pair 2"], 4: ["pair 1", "one map: pair 2"]}
    assert pairs == expected[position]


def test_mark_is_where_the_pixel_is():
    maps = torch.zeros(3, 4, 4)
    maps[1, 2, 3] = 1.0
    picture = tam_views.arithmetic_picture(steps_of(maps, [0.0, 1.0, 0.0], 1), PREV_CURR_NEXT)
    rows, columns = np.nonzero((picture == (0, 0, 0, 255)).all(2))
    x, y = tam_views.LABELS + 84 + 36, 40  # the tile of the middle map
    inside = (columns >= x - 1) & (columns <= x + 85) & (rows >= y - 1) & (rows <= y + 85)
    ends = [f(a[inside]) for a in (columns, rows) for f in (np.min, np.max)]
    assert ends == pytest.approx([x + 3 * 21, x + 4 * 21, y + 2 * 21, y + 3 * 21], abs=1)


@pytest.mark.parametrize(
    "kind, count, chosen, first",
    [("pairs", 4, 3, 0), ("twins", 16, 0, 0), ("frames", 80, 7, 0), ("frames", 80, 79, 64)],
)
def test_picture_of_positions(kind, count, chosen, first):
    """All of them; of many, those around the chosen one."""
    maps = torch.linspace(0.1, 1.0, count)[:, None, None].expand(count, 4, 4)
    step = 2 if kind == "pairs" else 1
    frames = [np.full((8, 8, 3), t, np.uint8) for t in range(step * count)]
    steps = steps_of(maps, [0.0, 0.5, 0.0], chosen, kind)
    picture = tam_views.maps_picture(steps, torch.tensor([0.0, 0.25, 0.0]), frames)
    assert picture.shape[1] <= tam_views.WIDTH
    shown = range(first, first + min(count, 16))
    for factor in (1, 0.25, 0.5):
        assert has_row(picture, (factor * maps[shown, 0, 0]).tolist())
    greys = [(step * t,) * 3 for t in shown]
    assert any(runs(line) == greys for line in picture)


def test_strip_is_in_the_order_of_roles():
    taps = torch.tensor([[0.0, 1.0, 0.9, -0.5], [1.0, 0.1, 0.0, 1.0], [0.0, 0.0, 0.0, 0.0]])
    roles = channel_roles(taps)
    assert roles == ["keeps", "looks_back", "looks_back", "differences"]
    order = tam_views.channel_order(taps, roles)
    assert order == [1, 2, 3, 0]  # looks_back by size, differences, keeps
    picture = tam_views.strip(taps, PREV_CURR_NEXT, roles, order, chosen=3)
    assert has_row(picture, [1.0, 0.9, -0.5, 0.0])
    colours = [tuple(bytes_of(ROLE_COLOURS[r])) for r in ("looks_back", "differences", "keeps")]
    assert any(runs(line) == colours for line in picture)
    text = tam_views.role_legend(roles)
    assert "<b>looks_back</b> 2:" in text and "<b>keeps</b> 1:" in text and "silent" not in text


def test_network_is_drawn_from_the_models_names(explorer, written):
    explorer.module.value = "stage2.tam"
    written.clear()
    explorer.taps["next"].value = 1.5
    picture, step = decoded(explorer.network.value), tam_views.WIDTH / 6
    words = [words for _, words in written[:30]]
    places = [text for text in words if re.fullmatch(r"stem|stage\d", text)]
    assert places == ["stem", "stage1", "stage2", "stage3", "stage4"] and words.count("TAM") == 6
    assert [x // step for x, words in written[:30] if words == "changed"] == [2]
    channels = [text for text in words if text.endswith("channels")]
    assert channels == [f"{c} channels" for c in (8, 8, 32, 64, 128, 256)]

    def columns(colour, rows):
        """The TAMs where this colour occurs in these rows, with the number of its pixels."""
        found = np.nonzero((picture[rows] == [*bytes_of(colour), 255]).all(2))[1] // step
        return {int(tam): int((found == tam).sum()) for tam in np.unique(found)}

    assert [*columns(BLUE, slice(30, 35))] == [2], "the chosen TAM is framed"
    # stem to stage 3 have a lane of each branch, the blocks of stage 4 one of neither
    for branch, rows in (("little", slice(27, 32)), ("big", slice(45, 50))):
        assert [*columns(BRANCH_COLOURS[branch], rows)] == [0, 1, 2, 3]
    bars = {role: columns(colour, [64]) for role, colour in ROLE_COLOURS.items()}
    of_stem = {role: tams[0] for role, tams in bars.items() if 0 in tams}  # 5 differences, 3 keeps
    assert set(of_stem) == {"differences", "keeps"}
    assert of_stem["differences"] == pytest.approx(5 / 3 * of_stem["keeps"], abs=2)


@pytest.mark.parametrize("label", [8, None])
def test_scores_without_edits_are_the_models(trained, label):
    explorer = TamExplorer(*trained, class_names=NAMES if label else None, label=label)
    expected, scores = probabilities(*trained), shown_scores(explorer)
    assert list(scores) == (NAMES if label else [f"class {i}" for i in range(10)])
    assert list(scores.values()) == pytest.approx(expected, abs=5.1e-5)
    title = f"True class kind 8: {100 * expected[8]:.1f} %" if label else "Class probabilities"
    text = text_of(explorer, "scores")
    assert text.startswith(title) and "points" not in text


def test_edits_are_those_of_a_changed_model(trained, explorer):
    """Several TAMs and channels; the second sees what the first sends on."""
    model, clip = trained
    changes = {name: model.get_submodule(name).taps.detach().clone() for name in TINY_TAMS}
    for name, channel, tap, value in (
        ("stem.tam", 3, "prev", 1.5),
        ("stem.tam", 3, "curr", -1.25),
        ("stem.tam", 2, "next", 1.75),
        ("stage2.tam", 10, "curr", 0.0),
        ("stage4.1.tam", 200, "prev", 2.0),
    ):
        explorer.module.value, explorer.channel.value = name, channel
        explorer.taps[tap].value = value
        changes[name][("prev", "curr", "next").index(tap), channel] = value
    changed = with_taps(model, changes)
    expected, before = probabilities(changed, clip), probabilities(model, clip)
    assert max(abs(np.subtract(expected, before))) > 0.01, "they do too little to test anything"
    assert_scores(explorer, changed, clip)
    points = 100 * (expected[8] - before[8])
    shown = re.search(r"([+−][\d.]+) points", text_of(explorer, "scores"))[1]
    assert float(shown.replace("−", "-")) == pytest.approx(points, abs=0.051)
    words = "Changed channels: 2 of stem.tam, 1 of stage2.tam, 1 of stage4.1.tam."
    assert text_of(explorer, "message") == words
    for name in TINY_TAMS:
        explorer.module.value = name
        maps, out = seen_by(changed, clip, name)
        channel, position = explorer.channel.value, explorer.frame.value
        for x, at in zip(explorer.steps.maps, range(position - 1, position + 2), strict=True):
            if x is not None:
                assert_close(x, maps[0, at, channel])
        assert_close(explorer.steps.result, out[0, position, channel])


def test_sliders_follow_the_channel_and_keep_learned_taps(trained, explorer):
    learned = trained[0].stage2.tam.taps.detach()
    explorer.module.value = "stage2.tam"
    for channel in (31, 0, 17):
        explorer.channel.value = channel
        values = [slider.value for slider in explorer.taps.values()]
        assert values == pytest.approx(learned[:, channel].tolist(), abs=STEP / 2)
        # Binary fractions, which the browser's rounding leaves as they are.
        assert all((value / STEP).is_integer() for value in values)
    assert text_of(explorer, "message") == "All taps are the model's own."
    explorer.taps["next"].value = 0.75
    explorer.channel.value = 3
    explorer.channel.value = 17
    assert explorer.taps["next"].value == 0.75, "an edit stays with its channel"
    wide = with_taps(trained[0], {"stage2.tam": learned.index_fill(1, torch.tensor(3), -4.5)})
    explorer = TamExplorer(wide, trained[1])
    assert {(slider.min, slider.max) for slider in explorer.taps.values()} == {(-8, 8)}
    explorer.module.value, explorer.channel.value = "stage2.tam", 3
    assert explorer.taps["prev"].value == -4.5


def taps_by_hand(preset, learned, causal=False):
    """What the presets are said to be."""
    r, channels = learned.shape
    own, taps = r - 1 if causal else r // 2, torch.zeros_like(learned)
    if preset == "own":
        return learned
    if preset == "average":
        return torch.full_like(learned, 1 / r)
    taps[own] = 1
    if preset == "difference":
        taps[own - 1] = -1
    if preset == "TSM shift" and causal:
        back = slice(channels // 8, channels // 4)
        taps[own - 1 :, back] = torch.tensor([[1.0], [0.0]])
    elif preset == "TSM shift":
        taps[own - 1 : own + 2] = tsm_taps(channels)
    return taps


@pytest.mark.parametrize("preset", ["identity", "TSM shift", "difference", "average", "own"])
@pytest.mark.parametrize("scope", ["this channel", "this TAM", "all TAMs"])
def test_presets_and_scopes(trained, explorer, preset, scope):
    model, clip = trained
    first = explorer.channel.value  # of the stem
    explorer.taps["prev"].value = 0.125  # gone where the preset reaches
    explorer.module.value, explorer.channel.value = "stage2.tam", 3
    explorer.scope.value = scope
    explorer.presets[preset].click()
    changes = {name: model.get_submodule(name).taps.detach().double() for name in TINY_TAMS}
    changes["stem.tam"] = changes["stem.tam"].clone()
    changes["stem.tam"][0, first] = 0.125
    for name in TINY_TAMS if scope == "all TAMs" else ("stage2.tam",):
        new = taps_by_hand(preset, model.get_submodule(name).taps.detach().double())
        if scope == "this channel":
            new = torch.where(torch.arange(new.shape[1]) == 3, new, changes[name])
        changes[name] = new
    for name, taps in changes.items():
        torch.testing.assert_close(explorer._edits.taps[name], taps.float(), rtol=0, atol=0)
    changed = with_taps(model, changes)
    assert_scores(explorer, changed, clip)
    maps, _ = seen_by(changed, clip, "stage2.tam")
    assert_close(explorer.steps.maps[1], maps[0, explorer.frame.value, 3])
    at = [slider.value for slider in explorer.taps.values()]
    assert at == pytest.approx(changes["stage2.tam"][:, 3].tolist(), abs=STEP / 2)


def test_reset_leaves_no_trace(explorer):
    explorer.module.value, explorer.frame.value = "stage3.tam", 5
    first = shown(explorer)
    names = [*PICTURES, "legend", "title", "numbers", "message", "scores"]
    parts = {name: getattr(explorer, name) for name in names}
    before = {name: part.value for name, part in parts.items()}
    explorer.taps["curr"].value = -1.0
    same = {name for name, part in parts.items() if part.value == before[name]}
    assert same == {"title", "legend"}
    explorer.scope.value = "all TAMs"
    explorer.presets["difference"].click()
    explorer.module.value = "stem.tam"
    explorer.reset.click()
    assert text_of(explorer, "message") == "All taps are the model's own."
    explorer.module.value, explorer.scope.value = "stage3.tam", "this channel"
    assert shown(explorer) == first


@pytest.mark.parametrize("builder, what", [(tam_resnet, "TAM"), (tsm, "shift")])
def test_resnets_have_frames_and_no_branches(builder, what, written):
    model, clip = awake(builder)
    explorer = TamExplorer(model, clip)
    assert explorer.about == f"TamExplorer(8 {what}s, 8 frames of 32x32)"
    names = tuple(n for n, m in model.named_modules() if hasattr(m, "taps"))
    assert explorer.module.options == names
    for name in ("stage4.1.tam", "stage1.0.tam"):
        check_arithmetic(explorer, name, channels=(0, 1, 7))
    written.clear()
    explorer.taps["prev"].value = -0.75
    explorer.scope.value = f"this {what}"
    words = " ".join(words for _, words in written[:30])
    assert words.count(what) == 8 and words.count("changed") == 1
    assert text_of(explorer, "title") == "3\u2002Channel 7 of stage1.0.tam at frame 7"
    for other in ("pair", "little", "TAM" if what == "shift" else "shift"):
        assert other not in words + text_of(explorer, "message") + str(explorer.scope.options)
    for picture in (decoded(explorer.arithmetic.value), decoded(explorer.maps.value)):
        for colour in BRANCH_COLOURS.values():
            assert not (picture[..., :3] == bytes_of(colour)).all(2).any()
    taps = {"stage1.0.tam": model.stage1[0].tam.taps.detach().clone()}
    taps["stage1.0.tam"][0, 7] = -0.75
    assert_scores(explorer, with_taps(model, taps), clip[None])
    explorer.reset.click()
    assert_scores(explorer, model, clip[None])


def test_of_many_tams_each_has_its_place(written):
    explorer = TamExplorer(tam_resnet(depth=152, num_frames=4, num_classes=3))
    explorer.module.value = "stage3.35.tam"
    written.clear()
    explorer.taps["next"].value = 1.5
    (place,) = (x for x, words in written[:10] if words == "*")
    picture, step = decoded(explorer.network.value), tam_views.WIDTH / 50
    blue = np.nonzero((picture[38] == [*bytes_of(BLUE), 255]).all(1))[0]
    assert {place // step, *(blue // step)} == {3 + 8 + 35}


@pytest.mark.parametrize("builder", [blvnet_tam, tam_resnet, tsm])
def test_taps_alone_are_shown_with_an_example(builder, tmp_path):
    model, clip = awake(builder)
    save_model(model, tmp_path / "model.safetensors")
    save_taps(tmp_path / "model.safetensors", out=tmp_path / "taps.safetensors")
    alone = load_taps(tmp_path / "taps.safetensors")
    explorer = TamExplorer(alone, clip if builder is tsm else None)
    assert text_of(explorer, "scores").startswith("No clip, or taps alone: nothing is run")
    assert explorer.about.endswith("s, taps alone)")
    positions = {"stage1.tam": 4, "stage4.1.tam": 4 if model.pairs else 8}  # different maps
    for name in set(positions) & set(explorer.module.options):
        explorer.module.value, explorer.frame.value = name, 2
        example = torch.eye(positions[name])  # at every moment another column is 1
        example = example.repeat_interleave((explorer.frame.max + 1) // len(example), 0)
        taps = model.get_submodule(name).taps.detach()[:, explorer.channel.value]
        assert torch.equal(torch.stack(explorer.steps.maps)[:, 1].float(), example[1:4])
        row = sum(tap * x for tap, x in zip(taps, example[1:4], strict=True)).relu()
        assert_close(explorer.steps.result, row.expand(len(row), -1))
        explorer.taps["curr"].value = 2.0
        assert explorer.steps.taps[1] == 2 and name in text_of(explorer, "message")


def test_numbers_that_are_none_are_printed(trained):
    model = copy.deepcopy(trained[0])
    torch.nn.init.constant_(model.stage1.big[0].conv1.weight, torch.nan)
    model.stem.tam.taps.data[0, 6] = torch.nan
    explorer = TamExplorer(model, trained[1], class_names=NAMES, label=8)
    explorer.channel.value = 6
    assert "nan ×" in text_of(explorer, "numbers") and explorer.taps["prev"].value == 0
    explorer.module.value = "stage2.tam"
    assert "= nan" in text_of(explorer, "numbers") and "nan %" in text_of(explorer, "scores")
    explorer.taps["prev"].value = 0.5
    assert "nan points" in text_of(explorer, "scores")


def test_the_same_moment_in_frames_and_in_pairs(explorer):
    assert explorer.frame.value == 4
    explorer.frame.value = 5
    explorer.module.value = "stage4.0.tam"
    assert (explorer.frame.value, explorer.play.value, explorer.frame.max) == (2, 2, 3)
    assert "at pair 2" in text_of(explorer, "title")
    explorer.module.value = "stage1.tam"
    assert (explorer.frame.value, explorer.frame.max, explorer.play.max) == (4, 7, 7)
    assert "frame 4 (little, pair 2)" in text_of(explorer, "title")


OTHER_TAPS = "+0", "-2 -1 +0 +1 +2", "causal +0", "causal -1 +0", "causal -2 prev curr"


@pytest.mark.parametrize("taps", OTHER_TAPS)
def test_other_taps(taps):
    causal, names = "causal" in taps, taps.removeprefix("causal").split()
    model, clip = awake(blvnet_tam, num_taps=len(names), causal=causal)
    explorer = TamExplorer(model, clip)
    assert list(explorer.taps) == names
    roles = tam_roles(model).groupby("module")["role"].agg(list)
    assert explorer._edits.roles == roles.to_dict()
    presets = "identity", "TSM shift", "difference", "average", "own"
    assert tuple(explorer.presets) == (presets if len(names) > 1 else ("identity", "own"))
    explorer.scope.value = "this TAM"
    for name in ("stem.tam", "stage2.tam", "stage4.1.tam"):
        explorer.module.value = name
        for preset in explorer.presets:
            explorer.presets[preset].click()
            channel, learned = explorer.channel.value, model.get_submodule(name).taps.detach()
            edited = taps_by_hand(preset, learned, causal)
            assert_close(explorer._edits.taps[name].double(), edited)
            assert_close(explorer.steps.taps, edited[:, channel])
    expected = probabilities(with_taps(model, {"stage4.1.tam": edited}), clip[None])
    assert explorer._scores == pytest.approx(expected, abs=1e-6)
    assert explorer.static_picture().shape[1] == tam_views.WIDTH


def test_optical_flow_has_no_picture_and_other_shapes_are_kept():
    def drawn(part, channels, height):
        model = blvnet_tam(depth="tiny", num_frames=4, num_classes=3, in_channels=channels)
        return len(TamExplorer(model, torch.randn(4, channels, height, 64))._drawn[part])

    assert drawn("maps", 10, 64) < drawn("maps", 3, 64)
    assert drawn("arithmetic", 3, 64) - drawn("arithmetic", 3, 32) == 84


def test_models_without_tam():
    for model in (blvnet(depth="tiny", num_frames=8), tsn(depth="tiny", num_frames=8), TAM(8)):
        came = getattr(model, "architecture", "TAM")
        with pytest.raises(ValueError, match=f"a network with.*got {came}: build a blvnet_tam"):
            TamExplorer(model, torch.randn(8, 3, 64, 64))
