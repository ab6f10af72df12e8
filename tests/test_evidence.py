"""Where and when: evidence that adds up, heat maps with their controls, the pointing game.

The oracles are the logits themselves, edits that leave one place only, the network's last part
called by hand, invariants of the methods, and small cases worked out on paper.
"""

import copy
from functools import partial

import numpy as np
import pytest
import torch
from nets import (
    BUILDERS,
    EXACT,
    assert_state,
    count_hooks,
    network,
    random64,
    state_of,
    tam_resnet,
    tsm,
)
from shown import MANIFEST
from torch import nn

from blvnet_lab import data
from blvnet_lab.datasets import motion
from blvnet_lab.deploy.inference import optimize_for_inference
from blvnet_lab.introspect import (
    Attribution,
    capture,
    edit,
    evidence,
    grad_cam,
    integrated_gradients,
    mean_frame,
    pointing_game,
    random_weights,
    with_controls,
)
from blvnet_lab.introspect.attribution import _along

LABELS, OTHERS = torch.tensor([3, 0, 4]), torch.tensor([1, 2, 0])


def clips64(num_frames: int = 8, count: int = 3) -> torch.Tensor:
    return random64(count, num_frames, 3, 64, 64)


def logits_of(model, clips, labels, minus=None):
    with torch.no_grad():
        logits = model(clips)
    each = torch.arange(len(clips))
    return logits[each, labels] - (0 if minus is None else logits[each, minus])


def compiled(model: nn.Module) -> nn.Module:
    return torch.compile(model, backend="eager")


FORMS = {
    "as built": lambda model: model,
    "in training mode": lambda model: model.train(),
    "optimized": optimize_for_inference,
    "compiled": compiled,
    "optimized and compiled": lambda model: compiled(optimize_for_inference(model)),
    "wrapped": lambda model: nn.DataParallel(model).eval(),
}


CASES = [(builder, "as built") for builder in BUILDERS]
CASES += [(BUILDERS[-1], form) for form in FORMS if form != "as built"]


@pytest.mark.parametrize("builder, form", CASES)
def test_evidence_adds_up_to_the_logit(builder, form):
    plain, clips = network(builder), clips64()
    nn.init.uniform_(plain.classifier.bias, 1, 3)
    model = FORMS[form](copy.deepcopy(plain))
    maps = evidence(model, clips, LABELS)
    assert maps.shape == (3, plain.num_positions, 2, 2) and not maps.requires_grad
    torch.testing.assert_close(maps.sum((1, 2, 3)), logits_of(plain, clips, LABELS))
    between = evidence(model, clips, LABELS, minus=OTHERS)
    torch.testing.assert_close(between.sum((1, 2, 3)), logits_of(plain, clips, LABELS, OTHERS))
    torch.testing.assert_close(between, maps - evidence(model, clips, OTHERS))
    one = evidence(model, clips, 2, minus=1)
    torch.testing.assert_close(one.sum((1, 2, 3)), logits_of(plain, clips, 2, 1))
    assert count_hooks(model) == 0 and model.training == (form == "in training mode")


@pytest.mark.parametrize("builder", BUILDERS)
def test_evidence_of_a_place_is_what_the_network_says_of_it_alone(builder):
    model, clips = network(builder), clips64()
    maps = evidence(model, clips, LABELS)
    for place in ((0, 0, 0), (1, 0, 1), (model.num_positions - 1, 1, 0)):

        def everywhere(features, place=place):
            p, y, x = place
            return features[:, p, None, :, y, x, None, None].expand_as(features)

        with edit(model, {"stage4.out": everywhere}):
            alone = logits_of(model, clips, LABELS)
        torch.testing.assert_close(maps[:, *place] * maps[0].numel(), alone, **EXACT)


def test_evidence_of_a_network_in_half_precision_is_in_float32():
    model, clips = network().bfloat16(), clips64()
    maps = evidence(model, clips, LABELS)
    assert maps.dtype == torch.float32
    wanted = logits_of(network(), clips, LABELS).float()
    torch.testing.assert_close(maps.sum((1, 2, 3)), wanted, rtol=0.05, atol=0.05)
    model, clips = network().float(), clips.float()
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16), capture(model) as cache:
        maps = evidence(model, clips, LABELS)
        model(clips)
    logits = model.classifier(cache["stage4.out"].float().mean((1, 3, 4)))
    wanted = logits.gather(1, LABELS[:, None])[:, 0]
    torch.testing.assert_close(maps.sum((1, 2, 3)), wanted, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("labels", [5, [0, -1, 0], [0, 1], [0, 1.5, 2]])
def test_labels_that_do_not_fit(labels):
    model, clips = network(), clips64()
    for asked in ({"labels": labels}, {"labels": 0, "minus": labels}):
        for method in (evidence, integrated_gradients, partial(grad_cam, point="stage3.out")):
            with pytest.raises((ValueError, RuntimeError), match=r"from 0 to 4, got|expanded size"):
                method(model, clips, **asked)


METHODS = {
    "evidence": evidence,
    "Grad-CAM": lambda *asked: grad_cam(*asked, "stage3.out", repeats=0).maps,
    "integrated": lambda *asked: integrated_gradients(*asked, steps=1, tolerance=9, repeats=0).maps,
}


@pytest.mark.parametrize("method", METHODS.values(), ids=METHODS)
def test_labels_of_any_type_and_clips_of_any_count_where_no_gradients_are_kept(method):
    class Wrapper(nn.Module):
        """As of several processes, whose forward would wait for the others."""

        def __init__(self, module):
            super().__init__()
            self.module = module

    model, clips = network(), clips64(count=5)
    labels = torch.tensor([1, 2, 3, 4, 1])  # as many as classes: of uint8 a mask that fits
    wanted = method(model, clips, labels)
    for same in (labels.byte(), labels.int(), labels.double(), labels.numpy(), labels.tolist()):
        assert torch.equal(method(model, clips, same), wanted)
    for without in (torch.no_grad, torch.inference_mode):
        with without():
            assert torch.equal(method(Wrapper(model), clips.clone(), labels), wanted)
    assert method(model, clips[:0], 1).numel() == 0


@pytest.mark.parametrize("builder", BUILDERS)
def test_grad_cam_at_the_end_is_the_positive_evidence(builder):
    model, clips = network(builder), clips64()
    nn.init.zeros_(model.classifier.bias)
    for minus in (None, OTHERS):
        drawn = grad_cam(model, clips, LABELS, "stage4.out", minus=minus, repeats=0)
        positive = evidence(model, clips, LABELS, minus).relu().float()
        torch.testing.assert_close(drawn.maps, positive)  # the mean gradient is the weight / N
        assert drawn.maps.any() and drawn.controls == {}


@pytest.mark.parametrize("form", ["as built", "optimized", "compiled"])
def test_grad_cam_inside_by_hand(form):
    plain, clips = network(), clips64()
    with torch.no_grad(), capture(plain, "stage3.out") as cache:
        plain(clips)
    maps = cache["stage3.out"].requires_grad_()  # (3, 4, C, 4, 4)
    last = plain.stage4(maps.flatten(0, 1), 4).unflatten(0, (3, 4))
    score = plain.forward_head(last)[torch.arange(3), LABELS].sum()
    weights = torch.autograd.grad(score, maps)[0].flatten(3).mean((1, 3))  # (3, C)
    wanted = torch.einsum("bc,bpchw->bphw", weights, maps.detach()).relu()
    model = FORMS[form](plain)
    state = state_of(model)
    drawn = grad_cam(model, clips, LABELS, "stage3.out", repeats=0)
    torch.testing.assert_close(drawn.maps, wanted.float())
    assert_state(model, state)
    assert count_hooks(model) == 0 and not any(p.grad is not None for p in model.parameters())


def test_points_without_maps_are_refused():
    for point in ("classifier", "stage*.out"):
        with pytest.raises(ValueError, match="expected one point with maps, got "):
            grad_cam(network(), clips64(), LABELS, point)


@pytest.mark.parametrize("form", ["as built", "in training mode", "optimized"])
def test_integrated_gradients_are_complete(form):
    plain, clips = network(), clips64()[..., :32, :32]
    model = FORMS[form](copy.deepcopy(plain))
    for baseline, minus in ((torch.zeros_like, None), (mean_frame, OTHERS)):
        asked = {"minus": minus, "baseline": baseline, "repeats": 0}
        # Begins with a single step, which is far off: only what is added up again holds.
        maps = integrated_gradients(model, clips, LABELS, steps=1, tolerance=0.05, **asked).maps
        assert maps.shape == (3, 8, 32, 32) and not maps.requires_grad
        wanted = logits_of(plain, clips, LABELS, minus)
        wanted = wanted - logits_of(plain, baseline(clips), LABELS, minus)
        gap = (maps.sum((1, 2, 3)) - wanted).abs()
        assert (gap <= 0.05 * wanted.abs().clamp(min=1)).all(), gap


def test_integrated_gradients_are_linear_in_the_logits_and_zero_where_nothing_changes():
    model, clips = network(), clips64()

    def held(clips):  # the first half of the clip is as it is
        return torch.cat([clips[:, :4], torch.zeros_like(clips[:, 4:])], 1)

    asked = {"baseline": held, "steps": 4, "tolerance": 1e9, "repeats": 0}
    asked_for = (LABELS,), (OTHERS,), (LABELS, OTHERS)
    maps = [integrated_gradients(model, clips, *two, **asked).maps for two in asked_for]
    one, other, between = maps
    torch.testing.assert_close(between, one - other)
    assert not one[:, :4].any() and one[:, 4:].any()


def test_many_steps_add_up_in_half_precision_too():
    class Brightness(nn.Module):
        def __init__(self):
            super().__init__()
            self.classifier = nn.Linear(1, 1, bias=False)
            nn.init.ones_(self.classifier.weight)

        def forward(self, clips):
            return self.classifier(clips.flatten(1).sum(1, keepdim=True))

    clip = torch.ones(2, 1, 2, 2, dtype=torch.bfloat16)  # in which 256 + 1 is 256
    asked = torch.ones(1, dtype=torch.bfloat16)
    found, total = _along(Brightness().bfloat16(), torch.zeros_like(clip), clip, asked, 512)
    assert found.unique().tolist() == [1] and total == 8


def test_maps_that_do_not_add_up_are_an_error(monkeypatch):
    monkeypatch.setattr("blvnet_lab.introspect.attribution.MAX_STEPS", 4)
    words = r"clip 0 to add up to 0% of .* in 4 steps, .*raise tolerance"
    with pytest.raises(ValueError, match=words):
        integrated_gradients(network(), clips64(), LABELS, steps=1, tolerance=1e-9)


def test_random_weights_are_the_same_numbers_elsewhere():
    model = network(tam_resnet)
    state = state_of(model)
    other = random_weights(model)
    assert_state(model, state)
    for (name, a), b in zip(model.named_parameters(), other.parameters(), strict=True):
        assert torch.equal(a.flatten().sort()[0], b.flatten().sort()[0]), name
        assert a.unique().numel() < 3 or not torch.equal(a, b), name
    for a, b in zip(model.buffers(), other.buffers(), strict=True):
        assert torch.equal(a, b)
    again, third = random_weights(model), random_weights(model, seed=1)
    assert torch.equal(other.classifier.weight, again.classifier.weight)
    assert not torch.equal(other.classifier.weight, third.classifier.weight)
    shift = network(tsm)  # whose taps are not learned
    shuffled = random_weights(shift).parameters()
    for (name, a), b in zip(shift.named_parameters(), shuffled, strict=True):
        assert torch.equal(a, b) == name.endswith(".taps") or a.unique().numel() < 3, name


@pytest.mark.parametrize("positions", [4, 8])
def test_controls_are_put_back_in_order(positions):
    """A map of the brightness of each frame or pair, which neither order nor weights change."""
    seen = []

    def brightness(model, clips):
        seen.append((model, clips))
        return clips.mean(2).unflatten(1, (positions, -1)).mean(2)

    model, clips = network(), clips64()
    drawn = with_controls(brightness, model, clips, repeats=2)
    assert list(drawn.controls) == ["random weights", "frames shuffled"]
    asked, shuffled, randomised = seen[0], seen[1::2], seen[2::2]
    assert asked[0] is model and torch.equal(asked[1], clips)
    assert all(m is model and not torch.equal(c, clips) for m, c in shuffled)
    assert not torch.equal(shuffled[0][1], shuffled[1][1])
    assert all(m is not model and torch.equal(c, clips) for m, c in randomised)
    first, second = (m.classifier.weight for m, _ in randomised)
    assert not torch.equal(first, second)
    kept = drawn.maps.expand(2, -1, -1, -1, -1)
    torch.testing.assert_close(drawn.controls["random weights"], kept)
    assert drawn.controls["frames shuffled"].shape == (2, 3, 8, 64, 64)
    if positions == 8:
        for name, maps in drawn.controls.items():
            torch.testing.assert_close(maps, drawn.maps.expand_as(maps))
            similar = drawn.similarity()[name]
            torch.testing.assert_close(similar, torch.ones(3, dtype=torch.float64))


def test_two_frames_are_exchanged_not_left_as_they_are():
    seen = []
    with_controls(lambda model, clips: seen.append(clips) or clips[:, :, 0], network(), clips64(2))
    assert all(torch.equal(shuffled, seen[0].flip(1)) for shuffled in seen[1::2])


def test_every_method_has_its_controls_and_tsn_does_not_see_the_shuffle():
    clips = clips64(count=2).float()
    for builder, blind in ((BUILDERS[0], True), (BUILDERS[-1], False)):
        model = network(builder).float()
        for drawn in (
            grad_cam(model, clips, 1, "stage1.out", repeats=1),
            integrated_gradients(model, clips, 0, steps=2, tolerance=1e9, repeats=1),
            with_controls(lambda model, clips: evidence(model, clips, 0), model, clips),
        ):
            (shuffled,) = drawn.controls["frames shuffled"][:1]
            maps = drawn.maps.repeat_interleave(shuffled.shape[1] // drawn.maps.shape[1], 1)
            assert torch.allclose(maps, shuffled, atol=1e-4 * maps.abs().max()) == blind
            assert not torch.allclose(drawn.maps, drawn.controls["random weights"][0])


def test_similarity_is_spearmans_with_ties():
    maps = torch.tensor([[1.0, 2, 3, 40], [1, 2, 3, 4], [0, 0, 1, 2], [5, 5, 5, 5], [1, 2, 3, 4]])
    first = torch.tensor([[10.0, 20, 21, 22], [4, 3, 2, 1], [0, 0, 5, 1], [1, 2, 3, 4], [0] * 4])
    second = torch.tensor(
        [first[0].tolist(), [1, 2, 3, 4], [0, 0, 5, 1], [4, 3, 2, 1], [1, 2, 3, 4]]
    )
    control = torch.stack([first, second]).view(2, 5, 1, 2, 2)
    maps = maps.view(5, 1, 2, 2).requires_grad_()  # as a draw of one's own may leave it
    similar = Attribution(maps, {"control": control}).similarity()["control"]
    # Third: ranks 1.5, 1.5, 3, 4 and 1.5, 1.5, 4, 3, so 3.5 / 4.5. A constant map has no ranks;
    # a constant control among others does not count.
    wanted = torch.tensor([1, 0, 3.5 / 4.5, torch.nan, 1], dtype=torch.float64)
    torch.testing.assert_close(similar, wanted, equal_nan=True)


def test_pointing_game_by_hand():
    masks = torch.zeros(2, 2, 4, 4, dtype=torch.bool)
    masks[0, 0, :2, :2] = True  # fills the upper left quarter in frame 0
    masks[0, 1, 0, 2] = True  # a quarter of the upper right one in frame 1
    masks[1, 1, 3, 3] = True  # only in frame 1
    maps = torch.zeros(2, 2, 2, 2)
    maps[0, 0, 0, 0] = maps[0, 1, 0, 1] = 1
    maps[1, 0, 0, 0] = maps[1, 1, 0, 1] = 1  # the first does not count, the second misses
    hits, coin = pointing_game(maps, masks)
    assert hits.tolist() == [1, 0] and coin.tolist() == [0.25, 0.25]
    # Of the pair the mask is in either frame; the quarter-filled cell is no hit beside a full one.
    hits, coin = pointing_game(maps[:, 1:], masks)
    assert hits.tolist() == [0, 0] and coin.tolist() == [0.25, 0.25]
    masks[0, 1, 0, 3] = True  # now half filled
    hits, coin = pointing_game(maps[:, 1:], masks)
    assert hits.tolist() == [1, 0] and coin.tolist() == [0.5, 0.25]
    fine = masks.float() + 0.01 * torch.rand(2, 2, 4, 4)
    assert pointing_game(fine, masks)[0].tolist() == [1, 1]
    assert pointing_game(torch.ones(2, 2, 2, 2), masks)[0].tolist() == [0, 0]  # points nowhere
    for wrong in (masks[:1], masks[:, :1], masks[0]):
        with pytest.raises(ValueError, match=r"expected masks \(B, T, H, W\) for maps"):
            pointing_game(maps, wrong)


@pytest.mark.parametrize("name", [name for name in motion.CLASSES if "clock" not in name])
def test_shape_masks_lie_on_what_is_bright_in_the_sample_videos(name):
    for row in MANIFEST[MANIFEST["class_name"] == name].groupby("split").head(2).itertuples():
        masks = motion.shape_masks(row.source_id, name)
        frames = data.read_frames(row.path, range(motion.FRAMES)).float().mean(1).numpy()
        assert masks.shape == frames.shape == (24, 64, 64)
        darker = np.array([f[~m].mean() for f, m in zip(frames, masks, strict=True)])
        brighter = np.array([np.median(f[m]) for f, m in zip(frames, masks, strict=True)])
        assert (brighter > darker + 40).all()


def test_shape_masks_move_as_their_class_says():
    x = np.arange(64)
    for place, (first, second) in enumerate(p.names for p in motion.PARTNERS):
        masks = motion.shape_masks(f"train_{place}_0000", first)
        partner = motion.shape_masks(f"train_{place}_0000", second)
        assert np.array_equal(partner, motion.partner_frames(masks, motion.KINDS[first]))
        torch.from_numpy(partner)  # takes no negative strides
    right = motion.shape_masks("val_0_0001", "moves_right")
    centres = [(m * x).sum() / m.sum() for m in right]
    assert (np.diff(centres) > 0).all()
    other = motion.shape_masks("val_0_0001", "moves_right", seed=1)
    assert not np.array_equal(right, other)
    with pytest.raises(ValueError, match=r"expected one of .*moves_right.* got 'turns_clockwise'"):
        motion.shape_masks("val_0_0001", "turns_clockwise")


@pytest.mark.gpu
def test_maps_of_a_gpu_are_those_of_the_cpu():
    model, clips = network(), clips64()[..., :32, :32]
    drawn = []
    for device in ("cpu", "cuda"):
        model.to(device)
        cam = grad_cam(model, clips, LABELS, "stage2.out", repeats=1)
        summed = integrated_gradients(model, clips, LABELS, steps=2, tolerance=9, repeats=1)
        drawn.append([evidence(model, clips, LABELS, OTHERS), cam.maps, summed.maps])
        drawn[-1] += [*cam.controls.values(), *summed.controls.values()]
    for on_cpu, on_gpu in zip(*drawn, strict=True):
        torch.testing.assert_close(on_gpu, on_cpu, rtol=1e-4, atol=1e-6)
