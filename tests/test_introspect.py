"""Looking inside: capture and edit, taps and roles, receptive fields, importance, ablations.

The oracles are hooks registered by hand, the models' layers called by hand, numbers worked out on
paper, and invariants.
"""

import json
from functools import partial

import pandas as pd
import pytest
import torch
from nets import (
    BUILDERS,
    EXACT,
    ON_FRAMES,
    RESNETS,
    WITH_TAMS,
    count_hooks,
    network,
    random64,
    tam_resnet,
    tsm,
    watched,
)
from torch import nn
from torch.nn.utils import parametrize, prune

from blvnet_lab.deploy.export import export_model
from blvnet_lab.deploy.inference import optimize_for_inference
from blvnet_lab.introspect import (
    ablation_table,
    ablations,
    capture,
    channel_roles,
    compare_taps,
    deletion_table,
    derived_receptive_field,
    edit,
    edit_clip,
    edit_taps,
    effective_pair_taps,
    gradient_importance,
    hold_frames,
    identity_taps,
    layer_table,
    occlusion_importance,
    receptive_field,
    replace_with,
    shuffle_positions,
    tam_roles,
    tam_weights,
    tap_history,
    taps_table,
    tsm_taps,
    wake_residuals,
    zero,
)
from blvnet_lab.introspect.influence import frame_orders, label_score, predict
from blvnet_lab.models import TAM, blvnet, blvnet_tam, capture_points, count_cost, tsn, tsn_blnet
from blvnet_lab.models.tam import weighted_sum


def clip64(*, batch: int = 2, num_frames: int = 8, seed: int = 0) -> torch.Tensor:
    return random64(batch, num_frames, 3, 32, 32, seed=seed)


BIG = ["stage1.big", "stage2.big", "stage3.big"]


def by_hand(output, positions: int) -> torch.Tensor:
    """What a module returned, as (B, T or P, ...), one map at a time."""
    if isinstance(output, tuple):
        return torch.stack([m[:, k] for k in range(positions) for m in output], 1)
    if output.ndim == 4:
        return torch.stack([output[p::positions] for p in range(positions)], 1)
    return output


def captured(model: nn.Module, names="*", clip: torch.Tensor | None = None):
    """What a capture holds after one call."""
    with capture(model, names) as cache:
        model(clip64() if clip is None else clip)
    return cache


def assert_refused(context, words: str, error: type[Exception] = ValueError) -> None:
    with pytest.raises(error, match=words), context:
        pass


@pytest.fixture(scope="module")
def tam_model():
    return network()


# ---------------------------------------------------------------- capture
@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("builder", BUILDERS)
def test_captured_maps_are_what_a_hook_by_hand_sees(builder, training):
    model = network(builder, dropout=0.0).train(training)
    points, clip = capture_points(model), clip64()
    seen, plain = watched(model, *points), model(clip)
    with capture(model) as cache:
        logits = model(clip)
    assert torch.equal(logits, plain)  # looking changes nothing
    assert set(cache) == set(points)
    positions = 8 if builder in ON_FRAMES else 4
    for name in points:
        assert torch.equal(cache[name], by_hand(seen[name], positions)), name
        on_frames = positions == 8 or name in ("stem.tam", "stage1.tam", "stage2.tam", "stage3.tam")
        assert cache[name].shape[:2] == (2, 8 if on_frames else 4), name
        assert not cache[name].requires_grad


def test_patterns_and_single_names(tam_model):
    for names, expected in (
        ("stage2.big", ["stage2.big"]),
        ("*.little", ["stem.little", "stage1.little", "stage2.little", "stage3.little"]),
        (["stage1.big", "stage*.big", "stem.*m"], ["stem.tam", *BIG]),
        ([], []),
    ):
        assert list(captured(tam_model, names, clip64(batch=1))) == expected


def test_unknown_names_are_answered_with_the_near_ones():
    for builder, name, words in (
        (blvnet_tam, "stage2.litle", '"stage2.litle".*near: stage2.little.*capture_points'),
        (blvnet, "stem.tam", 'of this blvnet,.*"stem.tam"'),
        (tsn, "xyz", '"xyz".*near: nothing'),
    ):
        model = network(builder)
        for look in (capture(model, ["stem.out", name]), edit(model, {"*.out": zero, name: zero})):
            assert_refused(look, words)
            assert count_hooks(model) == 0


def test_reading_what_was_not_captured_says_what_there_is(tam_model):
    with capture(tam_model, "stage1.*g") as cache:
        with pytest.raises(KeyError, match="empty: call the model"):
            cache["stage1.big"]
        tam_model(clip64(batch=1))
    with pytest.raises(KeyError, match=r"stage1.little is not .* holds stage1.big"):
        cache["stage1.little"]


def test_hooks_are_removed_after_use_and_after_exceptions(tam_model):
    clip = clip64(batch=1)
    for context in (
        lambda: capture(tam_model),
        lambda: edit(tam_model, {"*.big": zero}),
        lambda: edit_clip(tam_model, torch.zeros_like),
    ):
        with context():
            assert count_hooks(tam_model) > 0
            tam_model(clip)
        assert count_hooks(tam_model) == 0
        with pytest.raises(ZeroDivisionError), context(), context():
            1 / 0  # noqa: B018
        with pytest.raises(ValueError, match="expected a clip"), context():
            tam_model(clip[:, :6])
        assert count_hooks(tam_model) == 0


def test_the_last_of_several_calls_is_kept_and_nested_captures_are_apart(tam_model):
    first, second = clip64(seed=1), clip64(seed=2, batch=1)
    with capture(tam_model, "stage1.out") as outer:
        tam_model(first)
        inner = captured(tam_model, ["stage1.out", "stem.out"], second)
        assert torch.equal(outer["stage1.out"], inner["stage1.out"])
        tam_model(first)
    assert len(outer["stage1.out"]) == 2 and len(inner["stage1.out"]) == 1


@pytest.mark.parametrize("detach", [True, False])
def test_captures_survive_layers_that_work_in_place(detach):
    """The library has none; a network that a learner changed may."""
    model = network(blvnet)
    with torch.no_grad():
        expected = captured(model, "stem.out")
        model.stage1.register_forward_pre_hook(lambda _, args: (args[0].mul_(-2), *args[1:]))
        with capture(model, "stem.out", detach=detach) as cache:
            model(clip64())
    assert torch.equal(cache["stem.out"], expected["stem.out"])


@pytest.mark.parametrize("builder", BUILDERS)
def test_without_detach_gradients_flow_to_and_through_captured_maps(builder):
    model, clip = network(builder), clip64().requires_grad_()
    plain = model(clip)
    (expected,) = torch.autograd.grad(plain.sum(), clip)
    with capture(model, detach=False) as cache:
        logits = model(clip)
    torch.testing.assert_close(logits, plain, **EXACT)
    names = list(cache)
    gradients = torch.autograd.grad(logits.sum(), list(cache.values()), retain_graph=True)
    for name, gradient in zip(names, gradients, strict=True):
        assert gradient.any() and gradient.shape == cache[name].shape, name
    weight = model.classifier.weight.sum(0)  # d logits / d stage4.out, worked out by hand
    maps = cache["stage4.out"]
    by_rule = weight[:, None, None].expand_as(maps) / maps.shape[1] / maps[0, 0, 0].numel()
    torch.testing.assert_close(gradients[names.index("stage4.out")], by_rule, **EXACT)
    (through,) = torch.autograd.grad(logits.sum(), clip, retain_graph=True)
    torch.testing.assert_close(through, expected, **EXACT)


@pytest.mark.gpu
def test_capture_and_edit_on_a_gpu():
    model, clip = network().cuda(), clip64().cuda()
    with capture(model) as cache:
        plain = model(clip)
    with edit(model, {"stage4.out": replace_with(cache["stage4.out"].cpu())}):
        assert torch.equal(model(clip), plain)
    labels = torch.zeros(2, dtype=torch.long)
    assert receptive_field(model, "*.out")["stem.out"].shape == (4, 8)
    for importance in (occlusion_importance, gradient_importance):
        assert importance(model, clip.cpu(), labels).shape == (2, 8)
    assert len(ablation_table(model, clip.cpu(), labels, lambda logits, labels: {"n": 1})) > 5


@pytest.mark.parametrize("builder", BUILDERS)
def test_under_autocast(builder):
    model, clip = network(builder).float(), clip64().float()
    with torch.autocast("cpu", torch.bfloat16), capture(model) as cache:
        logits = model(clip)
    assert {logits.dtype, *(maps.dtype for maps in cache.values())} == {torch.bfloat16}
    logits.sum().backward()
    gradients = [weight.grad for weight in model.parameters() if weight.requires_grad]
    assert all(grad.dtype == torch.float32 and grad.any() for grad in gradients)
    own = {name: replace_with(maps.float()) for name, maps in cache.items()}
    with torch.autocast("cpu", torch.bfloat16), edit(model, own), capture(model) as again:
        assert torch.equal(model(clip), logits)
    assert all(again[name].dtype == cache[name].dtype for name in cache)


# ---------------------------------------------------------------- edit
@pytest.mark.parametrize("name", ["stage4.out", "stage4.0", "stage2.merged", "classifier"])
def test_patching_everything_of_clip_b_into_a_gives_the_logits_of_b(tam_model, name):
    """Nothing gets past these points, so what comes after cannot know the difference."""
    a, b = clip64(seed=1), clip64(seed=2)
    with capture(tam_model, name) as cache:
        logits_b = tam_model(b)
    with edit(tam_model, {name: replace_with(cache[name])}):
        assert torch.equal(tam_model(a), logits_b)
    assert not torch.equal(tam_model(a), logits_b)


@pytest.mark.parametrize("first, branch, other", [(0, "little", "big"), (1, "big", "little")])
def test_editing_both_frames_of_a_pair_tam(tam_model, first, branch, other):
    """Zeroing the little frames' maps leaves the big frames', and the other way round."""

    def drop(maps):
        maps[:, first::2] = 0  # in place: the function has a copy of its own
        return maps

    plain = captured(tam_model, "stage1.*")
    with edit(tam_model, {"stage1.tam": drop}):
        cache = captured(tam_model, "stage1.*")
    assert not torch.equal(cache[f"stage1.{branch}"], plain[f"stage1.{branch}"])
    assert torch.equal(cache[f"stage1.{other}"], plain[f"stage1.{other}"])


@pytest.mark.parametrize("builder", BUILDERS)
def test_edits_that_change_nothing_change_nothing(builder):
    """Functions get copies, which they may change in place, also where gradients are computed."""
    model, clip = network(builder), clip64().requires_grad_()
    shapes = {}

    def look(name):
        return lambda maps: (shapes.setdefault(name, maps.shape), maps.mul_(2).div_(2))[1]

    with edit(model, {name: look(name) for name in capture_points(model)}):
        edited = model(clip)
    plain = model(clip)
    assert torch.equal(edited, plain)
    grads = [torch.autograd.grad(logits.sum(), clip)[0] for logits in (edited, plain)]
    assert torch.equal(*grads)
    cache = captured(model, clip=clip)
    assert shapes == {name: maps.shape for name, maps in cache.items()}


def test_several_edits_run_in_their_order_and_before_a_capture_inside(tam_model):
    edits = {"stage1.out": zero, "stage?.out": lambda maps: maps + 1}
    with capture(tam_model, "stage1.*") as outside, edit(tam_model, edits):
        inside = captured(tam_model, "stage1.out")
    assert (inside["stage1.out"] == 1).all()
    assert not (outside["stage1.out"] == 1).any()  # as it was before the edits


def test_edits_that_do_not_fit_are_named(tam_model):
    for function, words in (
        (lambda maps: maps[:, :2], r"stage1.big to .*\(2, 4, 32, 4, 4\).*\(2, 2, 32, 4, 4\)"),
        (lambda maps: None, "stage1.big to return .*NoneType"),
        (shuffle_positions([0, 1, 1, 3]), r"positions 0 to 3 once each.*got \[0, 1, 1, 3\]"),
    ):
        with pytest.raises(ValueError, match=words), edit(tam_model, {"stage1.big": function}):
            tam_model(clip64())
        assert count_hooks(tam_model) == 0


def test_shuffle_positions(tam_model):
    order = [2, 0, 3, 1]
    plain = captured(tam_model, "stage1.out")
    with edit(tam_model, {"stage1.out": shuffle_positions(torch.tensor(order))}):
        cache = captured(tam_model, "stage1.out")
    for position, source in enumerate(order):
        assert torch.equal(cache["stage1.out"][:, position], plain["stage1.out"][:, source])
    with edit_clip(tam_model, shuffle_positions(range(7, -1, -1))):
        reversed_inside = tam_model(clip64())
    assert torch.equal(reversed_inside, tam_model(clip64().flip(1)))


# ---------------------------------------------------------------- taps
def test_tam_weights_are_tidy(tam_model):
    table = tam_weights(tam_model)
    assert list(table.columns) == ["module", "channel", "tap", "offset", "weight"]
    names = [name for name, m in tam_model.named_modules() if isinstance(m, TAM)]
    assert list(table["module"].unique()) == names and len(names) == 6  # tiny: stage 4 has 2
    indexed = table.set_index(["module", "channel", "tap"])["weight"]
    for name in names:
        taps = tam_model.get_submodule(name).taps
        for row, tap in enumerate(("prev", "curr", "next")):
            assert indexed[name, 5, tap] == taps[row, 5].item()
        assert len(indexed[name]) == taps.numel()
    offsets = {("prev", -1), ("curr", 0), ("next", 1)}
    assert set(zip(table["tap"], table["offset"], strict=True)) == offsets
    for r, causal, names in (
        (5, False, "-2 -1 +0 +1 +2"),
        *((1, True, "+0"), (2, True, "-1 +0"), (3, True, "-2 prev curr")),
    ):
        model, first = network(num_taps=r, causal=causal), 1 - r if causal else -2
        for table in map(tam_weights, (model, nn.ModuleList([model]))):  # or a part of another
            assert table["tap"][:r].tolist() == names.split()
            assert table["offset"][:r].tolist() == list(range(first, first + r))
    bare = network(blvnet)
    assert tam_weights(bare).empty and tam_roles(bare).empty
    assert tap_history(log_of(bare, bare)).empty


@pytest.mark.parametrize("r, causal", [(1, False), (3, False), (5, False), (2, True), (4, True)])
def test_effective_pair_taps_do_what_the_network_does(r, causal):
    """After a merge a TAM over frames is a sum over pairs with the effective taps."""
    model, clip = network(num_taps=r, causal=causal), clip64()
    cache = captured(model, ["stage1.out", "stage2.tam"], clip)
    x = cache["stage1.out"]
    expected = torch.zeros_like(cache["stage2.tam"])
    table = effective_pair_taps(model)
    assert list(table.columns) == ["module", "frame", "channel", "pair_offset", "weight"]
    assert list(table["module"].unique()) == ["stage1.tam", "stage2.tam", "stage3.tam"]
    of_tam = table[table["module"] == "stage2.tam"]
    for (frame, offset), rows in of_tam.groupby(["frame", "pair_offset"]):
        weight = torch.tensor(rows.sort_values("channel")["weight"].to_numpy())[:, None, None]
        for k in range(4):
            if 0 <= k + offset < 4:
                expected[:, 2 * k + (frame == "big")] += weight * x[:, k + offset]
    torch.testing.assert_close(cache["stage2.tam"], expected.relu(), **EXACT)


CLEAR_CASES = {
    "keeps": [(0, 1, 0), (0.1, 0.9, -0.1), (0.02, 0.3, 0.03), (2,)],  # the size does not matter
    "looks_back": [(1, 0, 0), (0.5, 0.5, 0), (0.5, 0.2, 0.3, 0, 0)],
    "looks_ahead": [(0, 0, 1), (0.1, 0.5, 0.5)],
    "averages": [(1, 1, 1), (0.25, 0.5, 0.25), (1, 0, 1), (1, 1, 1, 1, 1)],
    "differences": [(-1, 1, 0), (-0.5, 0, 0.5), (-1, 2, -1)],
    # as good as silent; the ReLU lets nothing through; nothing there
    "silent": [(-0.9, 0.05, 0), (-1, -2, -1), (0, 0, 0)],
    "mixed": [(-0.2, 0.2, 0.6, 0, 0)],
}


def test_roles_of_clear_cases():
    for role, cases in CLEAR_CASES.items():
        for taps in cases:
            assert channel_roles(torch.tensor(taps).float()[:, None]) == [role], taps


@pytest.mark.parametrize("r", [1, 3, 5, 7])
def test_roles_in_reversed_time(r):
    """Played backwards, back becomes ahead; everything else stays what it is."""
    taps = torch.randn(r, 4000, generator=torch.Generator().manual_seed(r))
    mirror = {"looks_back": "looks_ahead", "looks_ahead": "looks_back"}
    roles = channel_roles(taps)
    assert channel_roles(taps.flip(0)) == [mirror.get(role, role) for role in roles]
    if r == 3:
        clear = "keeps looks_back looks_ahead averages differences silent"
        assert set(roles) == set(clear.split())


def test_tsm_taps_are_tsms_shift():
    frames = torch.randn(2, 5, 16, 3, 3)
    shifted = torch.zeros_like(frames)  # as in TSM: an eighth from the next frame, ...
    shifted[:, :-1, :2] = frames[:, 1:, :2]
    shifted[:, 1:, 2:4] = frames[:, :-1, 2:4]
    shifted[:, :, 4:] = frames[:, :, 4:]
    assert torch.equal(weighted_sum(frames, tsm_taps(16), first=-1), shifted)
    roles = ["looks_ahead"] * 4 + ["looks_back"] * 4 + ["keeps"] * 8
    assert channel_roles(tsm_taps(16, fold=4)) == roles


def log_of(*models: nn.Module) -> list[dict]:
    lines = []
    for epoch, model in enumerate(models):
        taps = {n: m.taps.tolist() for n, m in model.named_modules() if isinstance(m, TAM)}
        lines.append({"epoch": epoch, "train_loss": 1.0, "taps": taps})
    return lines


def test_tap_history_and_comparison(tmp_path, tam_model):
    torch.manual_seed(1)
    start = blvnet_tam(depth="tiny", num_frames=8, num_classes=5)
    lines = log_of(start, tam_model)
    history = tap_history(lines)
    assert list(history.columns) == ["epoch", "module", "channel", "tap", "offset", "weight"]
    (tmp_path / "log.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    with (tmp_path / "log.jsonl").open() as file:
        pd.testing.assert_frame_equal(tap_history(file), history)
    for epoch, model in enumerate((start, tam_model)):
        own = history[history["epoch"] == epoch].drop(columns="epoch").reset_index(drop=True)
        pd.testing.assert_frame_equal(own, tam_weights(model), rtol=1e-6)

    changes = compare_taps(history[history["epoch"] == 0], tam_weights(tam_model))
    columns = ["module", "channel", "tap", "offset", "before", "after", "change"]
    assert list(changes.columns) == columns and len(changes) == len(tam_weights(start))
    row = changes.set_index(["module", "channel", "tap"]).loc["stage2.tam", 7, "next"]
    before, after = start.stage2.tam.taps[2, 7].item(), tam_model.stage2.tam.taps[2, 7].item()
    assert (row["before"], row["after"]) == pytest.approx((before, after))
    assert row["change"] == pytest.approx(after - before)
    causal = network(causal=True)
    history_of_causal = tap_history(log_of(causal), causal=True)
    pd.testing.assert_frame_equal(history_of_causal.drop(columns="epoch"), tam_weights(causal))
    shorter = taps_table({"stem.tam": tsm_taps(8)})
    for before, words in ((history, "one epoch of each"), (shorter, "the same taps")):
        with pytest.raises(ValueError, match=words):
            compare_taps(before, tam_weights(tam_model))
    with pytest.raises(ValueError, match=r'"taps" in every line, .*got epoch, train_loss'):
        tap_history([{"epoch": 1, "train_loss": 0.5}])


def test_edit_taps_puts_them_in_and_restores_the_very_parameters(tam_model):
    clip = clip64()
    plain, own = tam_model(clip), dict(tam_model.named_parameters())
    versions = {name: p._version for name, p in own.items()}
    edits = {"stage*.tam": lambda taps: taps.flip(0), "stem.tam": replace_with(tsm_taps(8))}
    with edit_taps(tam_model, edits):
        assert not torch.equal(tam_model(clip), plain)
        assert torch.equal(tam_model.stem.tam.taps, tsm_taps(8).double())
        last = tam_model.get_submodule("stage4.1.tam").taps
        assert torch.equal(last.flip(0), own["stage4.1.tam.taps"])
    for _ in range(2):
        after = dict(tam_model.named_parameters())
        assert after.keys() == own.keys()
        assert all(after[name] is own[name] for name in own)
        assert versions == {name: p._version for name, p in after.items()}
        assert torch.equal(tam_model(clip), plain)
        with pytest.raises(ZeroDivisionError), edit_taps(tam_model, {"*": identity_taps}):
            1 / 0  # noqa: B018


def test_edit_taps_twice_on_one_tam_and_nested(tam_model):
    own = tam_model.stem.tam.taps
    with edit_taps(tam_model, {"stem.tam": identity_taps, "ste*": lambda taps: taps * 3}):
        with edit_taps(tam_model, {"*": torch.zeros_like}):
            assert not tam_model.stem.tam.taps.any()
        assert torch.equal(tam_model.stem.tam.taps, 3 * identity_taps(own))
    assert tam_model.stem.tam.taps is own


def test_edits_of_taps_that_do_not_fit(tam_model):
    """Those of a causal model may not look ahead."""
    causal, seen = network(causal=True), []
    for model, name, function, words in (
        (tam_model, "stage1.tan", identity_taps, '"stage1.tan".*near: stage1.tam'),
        (tam_model, "stage1.tam", replace_with(tsm_taps(16)), r"\(3, 8\).*stage1.tam, .*\(3, 16\)"),
        (causal, "stage1.tam", lambda taps: taps.flip(0), "stage1.tam, .*zeros after it, since it"),
        (causal, "stage1.tam", replace_with(tsm_taps(8)), r"\(5, 8\).* the middle one .*\(3, 8\)"),
    ):
        own = model.stem.tam.taps
        assert_refused(edit_taps(model, {"stem.tam": identity_taps, name: function}), words)
        assert model.stem.tam.taps is own
    assert_refused(edit_taps(network(blvnet), {"*": identity_taps}), "TAM in this model")
    with edit_taps(causal, {"stem.tam": lambda taps: seen.append(taps) or 2 * taps}):
        assert torch.equal(causal.stem.tam.taps, 2 * own)
    assert torch.equal(seen[0], torch.cat([own, torch.zeros_like(own)[:2]]))


def test_roles_of_a_causal_model():
    model = network(causal=True)
    columns = {"keeps": (0, 0, 1), "looks_back": (1, 0, 0), "differences": (0, -1, 1)}
    columns |= {"silent": (0, 0, -1), "mixed": (-0.1, 0.3, 0.6)}
    model.stem.tam.taps.data[:, :5] = torch.tensor(list(columns.values())).double().t()
    model.stem.tam.taps.data[:, 5:] = torch.tensor([0.5, 0, 0.5])[:, None].double()
    roles = tam_roles(model)
    stem_roles = roles[roles["module"] == "stem.tam"]["role"].tolist()
    assert stem_roles == [*columns, *["looks_back"] * 3]
    assert not set(roles["role"]) & {"looks_ahead", "averages"}


@pytest.mark.parametrize("r", [1, 2, 3])
def test_tam_off_in_a_causal_model_is_the_network_without_tam(r):
    model, clip = network(causal=True, num_taps=r), clip64()
    plain, expected = model(clip), without_tams(model)(clip)
    with ablations(model)["TAM off: everywhere"]:
        torch.testing.assert_close(model(clip), expected, **EXACT)
    assert torch.equal(model(clip), plain) and (plain - expected).abs().max() > 1e-6


def without_tams(model: nn.Module) -> nn.Module:
    """The bLVNet with the weights of a bLVNet-TAM."""
    bare, weights = network(blvnet), model.state_dict()
    bare.load_state_dict({name: weights[name] for name in bare.state_dict()})
    return bare


@pytest.mark.parametrize(
    "builder, arguments",
    [(tsn, {}), (tsn_blnet, {}), (blvnet, {}), (tsm, {"num_taps": 5}), (tsm, {"causal": True})]
    + [(tam_resnet, {"num_taps": r, "causal": r == 2}) for r in (1, 2, 3)]
    + [(blvnet_tam, {"num_taps": r}) for r in (1, 3, 5)]
    + [(blvnet_tam, {"num_taps": r, "causal": True}) for r in (1, 2, 3, 4)],
)
def test_measured_and_derived_receptive_fields_agree(builder, arguments):
    torch.manual_seed(0)
    num_frames = 12 if builder is blvnet_tam else 6  # those on frames reach less far, and take long
    model = builder(depth="tiny", num_frames=num_frames, num_classes=5, **arguments).double()
    derived = derived_receptive_field(model)
    measured = receptive_field(wake_residuals(model))
    assert set(measured) == set(derived) == set(capture_points(model))
    for name in derived:
        assert measured[name].shape == derived[name].shape, name
        assert torch.equal(measured[name] > 0, derived[name]), name


def test_receptive_field_by_hand():
    """T = 16, three taps: pair 4 (frames 8, 9) from the stem to the classifier."""
    field = derived_receptive_field(blvnet_tam(depth="tiny", num_frames=16))
    causal = derived_receptive_field(blvnet_tam(depth="tiny", num_frames=16, causal=True))
    without = derived_receptive_field(blvnet(depth="tiny", num_frames=16))
    for found, name, position, first, last in (
        (field, "stem.tam", 8, 7, 9),
        (field, "stem.little", 4, 7, 9),
        (field, "stem.big", 4, 8, 10),
        (field, "stage1.tam", 8, 5, 10),  # little frame: its own pair and the one before
        (field, "stage1.tam", 9, 7, 12),  # big frame: its own pair and the one after
        (field, "stage2.out", 4, 3, 14),
        (field, "stage3.out", 4, 1, 15),  # the clip ends
        (field, "stem.out", 0, 0, 2),
        (causal, "stem.tam", 8, 6, 8),  # two frames back, or one pair (both its frames)
        (causal, "stage1.out", 4, 4, 9),
        (causal, "stage4.out", 7, 0, 15),
        (without, "classifier", 4, 8, 9),
    ):
        seen = found[name][position].nonzero().flatten().tolist()
        assert seen == list(range(first, last + 1)), name


def test_receptive_field_leaves_mode_and_gradients_alone():
    model = network().train()
    model.set_grad_checkpointing()  # stem and stage 1 are computed twice, in eval mode both times
    model.stage3.eval()
    with torch.inference_mode():
        field = receptive_field(model, "stage1.out", clip=clip64(batch=1))
    with torch.no_grad():
        with edit_taps(model, {"*": identity_taps}):  # measured, whatever the structure allows
            cut = receptive_field(model, "classifier")["classifier"] > 0
    assert torch.equal(cut, torch.eye(4, dtype=torch.bool).repeat_interleave(2, 1))
    assert field["stage1.out"].shape == (4, 8)
    assert model.training and model.stage1.training and not model.stage3.training
    assert all(p.grad is None for p in model.parameters())
    assert count_hooks(model) == 0


# ---------------------------------------------------------------- frame importance
class OneFrame(nn.Module):
    """A 'model' that adds up the pixels of one frame for class 0, and gives class 1 nothing."""

    def __init__(self, frame: int):
        super().__init__()
        self.frame, self.scale = frame, nn.Parameter(torch.ones((), dtype=torch.float64))

    def forward(self, clip: torch.Tensor) -> torch.Tensor:
        score = self.scale * clip[:, self.frame].sum((1, 2, 3))
        return torch.stack([score, torch.zeros_like(score)], 1)


def numbered_clips(num_frames: int, batch: int = 1) -> torch.Tensor:
    """Frame t holds the number t."""
    t = torch.arange(float(num_frames), dtype=torch.float64)
    return t[None, :, None, None, None].expand(batch, -1, 1, 1, 1).clone()


def test_deleted_frames_show_the_nearest_one_left():
    for deleted, shown in (
        ([], [0, 1, 2, 3, 4, 5, 6, 7]),
        ([2], [0, 1, 3, 3, 4, 5, 6, 7]),  # the pair's other frame, though 1 is as near
        ([0, 7], [1, 1, 2, 3, 4, 5, 6, 6]),
        ([2, 3], [0, 1, 1, 4, 4, 5, 6, 7]),
        ([2, 3, 4], [0, 1, 1, 1, 5, 5, 6, 7]),  # 3 is as near to 1 as to 5: the earlier
        ([0, 1, 2, 3, 4, 5, 7], [6, 6, 6, 6, 6, 6, 6, 6]),
        ([2], [0, 1, 1]),  # the last of an odd number has no partner
    ):
        count = len(shown)
        mask = torch.zeros(2, count, dtype=torch.bool)
        mask[1, deleted] = True
        held = hold_frames(numbered_clips(count, batch=2), mask).flatten(1)
        assert held.tolist() == [[*range(count)], shown], "every clip has its own deletions"
    with pytest.raises(ValueError, match="at least one frame"):
        hold_frames(numbered_clips(3), torch.ones(1, 3, dtype=torch.bool))


def test_importance_by_hand():
    clips = numbered_clips(4, batch=2)
    model, labels = OneFrame(3), torch.tensor([0, 1])
    # log p = -log(1 + exp(-s)), s = 3 of label 0 and -3 of label 1; deleted, it is 2 and -2
    s = torch.tensor([[3.0, 2.0], [-3.0, -2.0]], dtype=torch.float64)
    log_p = -torch.log1p(torch.exp(-s))
    occlusion = occlusion_importance(model, clips, labels)
    with torch.inference_mode():
        gradient = gradient_importance(model, -clips, labels)  # d log p / ds = 1 / (1 + exp(s))
    assert occlusion.shape == gradient.shape == (2, 4)
    torch.testing.assert_close(occlusion[:, 3].double(), log_p[:, 0] - log_p[:, 1])
    torch.testing.assert_close(gradient[:, 3].double(), 3 / (1 + torch.exp(-s[:, 0])))
    assert not occlusion[:, :3].any() and not gradient[:, :3].any()


def test_each_of_several_labels_has_a_probability_of_its_own():
    model, clips, labels = network(), clip64(), torch.tensor([1, 2])
    model.multi_label = True
    deleted = torch.arange(8).expand(2, 8) == 3
    each = (predict(model, c).sigmoid().log() for c in (clips, hold_frames(clips, deleted)))
    whole, less = (shares[[0, 1], labels] for shares in each)
    torch.testing.assert_close(occlusion_importance(model, clips, labels)[:, 3], whole - less)


def test_a_faithful_importance_beats_the_control():
    torch.manual_seed(0)
    clips, labels = torch.randn(6, 8, 1, 2, 2, dtype=torch.float64), torch.zeros(6).long()
    clips[:, 5] = 2
    importance = torch.zeros(6, 8)
    importance[:, 5] = 1
    table = deletion_table(OneFrame(5), clips, labels, {"true": importance, "false": -importance})
    assert list(table.columns) == ["method", "seed", "deleted", "log_probability"]
    assert set(table["method"]) == {"true", "false", "random"} and len(table) == (2 + 5) * 8
    assert set(table["seed"]) == {-1, 0, 1, 2, 3, 4} and set(table["deleted"]) == set(range(8))
    curves = table.groupby(["method", "deleted"])["log_probability"].mean()
    whole = label_score(OneFrame(5), OneFrame(5)(clips), labels).mean().item()
    assert {round(curves[m, 0], 9) for m in ("true", "false", "random")} == {round(whole, 9)}
    assert curves["true", 1] < curves["random", 1] < curves["false", 1] == pytest.approx(whole)
    assert curves["false", 7] == pytest.approx(whole)  # the last frame left is the one that counts
    random = table[table["method"] == "random"].groupby("seed")["log_probability"].agg(tuple)
    assert random.nunique() == 5


@pytest.mark.parametrize("builder", BUILDERS)
def test_ablations_do_what_they_say(builder):
    model, clip = network(builder), clip64()
    with torch.no_grad():
        expected = {
            "nothing": model(clip),
            "frames of a pair exchanged": model(clip[:, [1, 0, 3, 2, 5, 4, 7, 6]]),
            "halves exchanged": model(clip[:, [4, 5, 6, 7, 0, 1, 2, 3]]),
            "frames reversed": model(clip.flip(1)),
        }
        outputs = {}
        own = {name: p for name, p in model.named_parameters() if name.endswith("taps")}
        for name, without in ablations(model).items():
            with without, capture(model) as cache:
                outputs[name] = model(clip), cache
                now = dict(model.named_parameters())
            changed = {n for n in own if now[n] is not own[n]}
            assert all(torch.equal(now[n], identity_taps(own[n])) for n in changed)
            place = name.partition(" off: ")[2].replace("everywhere", "st") or "-"
            assert changed == {n for n in own if n.startswith(place)}
        for name, logits in expected.items():
            assert torch.equal(outputs[name][0], logits), name
        if builder is blvnet_tam:
            off = outputs["TAM off: everywhere"][0]
            torch.testing.assert_close(off, without_tams(model)(clip), **EXACT)
    assert count_hooks(model) == 0
    assert torch.equal(model(clip), expected["nothing"])

    branches = {"no big", "no little"} if builder not in RESNETS else set()
    places = {"stage1", "stage2", "stage3", "stage4", "everywhere"}
    places |= {"stem"} if builder is blvnet_tam else set()
    kind = "shift" if builder is tsm else "TAM"
    off = {f"{kind} off: {place}" for place in places} if builder in WITH_TAMS else set()
    assert set(outputs) == {*expected, "frames shuffled"} | branches | off
    for branch in branches:
        zeroed = {n for n, maps in outputs[branch][1].items() if n.endswith(branch[2:].strip())}
        assert len(zeroed) == 4 and not any(outputs[branch][1][n].any() for n in zeroed)
    for name, (logits, _) in outputs.items():
        blind = builder in (tsn, tsn_blnet) or (builder is blvnet and name == "halves exchanged")
        same = torch.allclose(logits, expected["nothing"], **EXACT)
        assert same == (name == "nothing" or (blind and name not in branches)), name


def test_ablation_table(tam_model):
    clips, labels = clip64(batch=6), torch.tensor([0, 1, 2, 3, 4, 0])
    calls = []

    def score(logits, labels):
        calls.append(logits)
        return {"hit": (logits.argmax(1) == labels).double().mean().item(), "n": len(labels)}

    table = ablation_table(tam_model, clips, labels, score)
    assert list(table.columns) == ["ablation", "hit", "n"]
    assert table["ablation"].tolist() == list(ablations(tam_model)) and len(table) == 13
    assert table["ablation"][0] == "nothing" and (table["n"] == 6).all()
    torch.testing.assert_close(calls[0], tam_model(clips), **EXACT)
    assert torch.equal(calls[0], predict(tam_model, clips, batch_size=4))
    assert table["hit"][0] == pytest.approx((calls[0].argmax(1) == labels).double().mean().item())


@pytest.mark.parametrize("num_frames", [2, 3, 4, 5, 8, 16])
def test_frame_orders_all_differ_and_all_change_something(num_frames):
    orders = list(frame_orders(num_frames).values())
    assert all(sorted(order.tolist()) == list(range(num_frames)) for order in orders)
    different = {tuple(order.tolist()) for order in orders} | {tuple(range(num_frames))}
    assert len(different) == len(orders) + 1
    assert len(orders) == {2: 1, 3: 2, 5: 2}.get(num_frames, 4)  # odd: no pairs, no halves


def test_counting_cost_leaves_a_capture_alone(tam_model):
    with capture(tam_model, "stem.out") as cache:
        tam_model(clip64(batch=1))
        before = cache["stem.out"]
        count_cost(tam_model, (32, 32))
        layer_table(tam_model, (32, 32))
    assert cache["stem.out"] is before
    with edit(tam_model, {"stem.out": lambda maps: maps[:, :1]}):  # would fail, if it were run
        layer_table(tam_model, (32, 32))


# ---------------------------------------------------------------- what other tools have made of it
@pytest.fixture
def alone():
    """A process group of this process."""
    dist = torch.distributed
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    yield
    dist.destroy_process_group()


class Held(nn.Module):
    """A network in another tool's hands, as nnsight names it."""

    def __init__(self, model: nn.Module):
        super().__init__()
        self._module = model

    def forward(self, clips: torch.Tensor) -> torch.Tensor:
        return self._module(clips)


WRAPPERS = {
    "Held": Held,
    "DistributedDataParallel": nn.parallel.DistributedDataParallel,
    "DataParallel": nn.DataParallel,
    "AveragedModel": torch.optim.swa_utils.AveragedModel,
    "all": lambda model: torch.optim.swa_utils.AveragedModel(
        nn.DataParallel(torch.compile(Held(model), backend="eager"))
    ),
}


@pytest.mark.parametrize("wrapper", WRAPPERS)
def test_wrapped_networks_are_looked_into_as_they_are(wrapper, alone):
    model, wrapped = network(), WRAPPERS[wrapper](network()).eval()
    expected = captured(model, "stage*.tam")
    cache = captured(wrapped, "stage*.tam")
    assert list(cache) == list(expected) and len(cache) == 5
    assert all(torch.equal(cache[name], expected[name]) for name in cache)
    with edit(model, {"stage2.big": zero}), edit_taps(model, {"*": identity_taps}):
        logits = model(clip64())
    with edit(wrapped, {"stage2.big": zero}), edit_taps(wrapped, {"*": identity_taps}):
        assert torch.equal(wrapped(clip64()), logits)
    assert tam_weights(wrapped).equals(tam_weights(model))
    assert effective_pair_taps(wrapped).equals(effective_pair_taps(model))
    assert layer_table(wrapped, (64, 64)).equals(layer_table(model, (64, 64)))
    assert list(ablations(wrapped)) == list(ablations(model))
    fields, wanted = derived_receptive_field(wrapped), derived_receptive_field(model)
    assert all(torch.equal(fields[name], wanted[name]) for name in wanted)
    assert receptive_field(wrapped, "stem.out")["stem.out"].shape == (4, 8)


def test_what_holds_no_network_of_ours_or_copies_of_it():
    for thing in (nn.Linear(1, 1), nn.DataParallel(nn.Linear(1, 1))):
        name = type(thing).__name__
        assert_refused(capture(thing), f"blvnet_tam, got {name}: give the network", TypeError)
    wrapped = nn.DataParallel(network())
    wrapped.device_ids = [0, 1]  # a capture would hold what the last of them saw
    assert_refused(capture(wrapped), r"with 2 copies.*give model\.module", TypeError)


def test_shards_are_refused_in_words(alone):
    fsdp = pytest.importorskip("torch.distributed.fsdp")
    if not hasattr(fsdp, "fully_shard"):
        pytest.skip("this PyTorch has no fully_shard")
    mesh = torch.distributed.device_mesh.init_device_mesh("cpu", (1,))
    model = fsdp.fully_shard(network(), mesh=mesh)
    readers = tam_weights, effective_pair_taps, tam_roles, layer_table, receptive_field
    for read in (*readers, optimize_for_inference):
        with pytest.raises(ValueError, match=r"a shard of it: gather .*get_model_state_dict"):
            read(model)
    assert_refused(edit_taps(model, {"*": identity_taps}), "a shard of it: gather")
    cache = captured(model, "stage2.out")
    assert cache["stage2.out"].shape[:2] == (2, 4)


@pytest.mark.parametrize("tool", [prune.remove, parametrize.remove_parametrizations])
def test_computed_taps_are_not_edited_and_the_model_is_unharmed(tool):
    model = network()
    if tool is prune.remove:
        prune.l1_unstructured(model.stage1.tam, "taps", 0.3)
    else:
        parametrize.register_parametrization(model.stage1.tam, "taps", nn.ReLU())
    logits = model(clip64())
    assert_refused(
        edit_taps(model, {"stem.tam": identity_taps, "stage*.tam": identity_taps}),
        rf"stage1\.tam\.taps to be .*{tool.__name__}",
    )
    assert torch.equal(model(clip64()), logits)
    with pytest.raises(ValueError, match=rf"model\.stage1\.tam\.taps .*{tool.__name__}"):
        optimize_for_inference(model)
    tool(model.stage1.tam, "taps")
    with edit_taps(model, {"*": identity_taps}):
        edited = model(clip64())
    assert torch.equal(model(clip64()), logits) and not torch.equal(edited, logits)


@pytest.mark.parametrize("place", ["", "stage2.fusion.relu1"])
def test_replaced_forward_is_named(place, tmp_path):
    model = network()
    module = model.get_submodule(place)
    own = module.forward
    module.forward = lambda *args: own(*args)  # as accelerate and nnsight leave one
    where = rf"model\.{place}\.forward" if place else r"one whose model\.forward"
    for use in (optimize_for_inference, partial(export_model, path=tmp_path / "model.pt2")):
        with pytest.raises(ValueError, match=rf"{where} another tool has replaced"):
            use(model)
    assert list(captured(model, "stage2.out")) == ["stage2.out"]


@pytest.mark.parametrize("look", [capture, lambda model, name: edit(model, {name: zero})])
def test_forward_of_another_model_is_noticed(look):
    model = network()
    model.forward = network().forward  # as a copy has it, if its forward was a closure
    with pytest.raises(RuntimeError, match=r"to reach stage2\.out, but it did not: another tool"):
        with look(model, "stage2.out"):
            model(clip64())
    assert count_hooks(model) == 0
