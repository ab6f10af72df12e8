"""What notebooks 08 and 09 let the reader find in the shipped networks, with its controls.

A new checkpoint may well have learned otherwise: then the notebooks' words must change with it.
"""

import pytest
import torch
from shown import MOTION, shipped
from torch import Tensor

from blvnet_lab import data, introspect, models
from blvnet_lab.datasets.motion import shape_masks
from blvnet_lab.runs.staircase import score

PER_CLASS = 8
YES, NO = 0.9, 0.1  # at least, at most


@pytest.fixture(scope="module")
def clips_and_labels() -> tuple[Tensor, Tensor]:
    transform = data.evaluation_transform((64, 64))
    return data.load_clips(MOTION, "val", 8, transform, per_class=PER_CLASS)


def scores_with(name: str, point: str, function, clips_and_labels) -> dict[str, float]:
    model, (clips, labels) = shipped(name), clips_and_labels
    with introspect.edit(model, {point: function}):
        return score(introspect.predict(model, clips, batch_size=len(clips)), labels)


@pytest.mark.parametrize("point, read", [("stem.out", 0), ("stage1.out", 0), ("stage2.out", 1)])
def test_order_is_read_in_stage_2(point, read, clips_and_labels):
    exchanged = introspect.shuffle_positions([2, 3, 0, 1])
    found = scores_with("blvnet_tam", point, exchanged, clips_and_labels)
    assert found["order"] >= YES if read else found["order"] <= NO
    assert found["direction"] >= YES, "control: the exchange does no harm by itself"
    control = scores_with("blvnet", point, exchanged, clips_and_labels)
    assert control["order"] == pytest.approx(0.5), "control: without TAM a coin toss, always"


def test_without_the_tams_of_stages_1_and_2_order_is_lost(clips_and_labels):
    model, (clips, labels) = shipped("blvnet_tam"), clips_and_labels
    found = {}
    for off in ("*", "stage[12].*", "stage2.*", "stage1.*", "stage[34].*"):
        taps_off = {off: introspect.identity_taps}
        with introspect.edit_taps(model, taps_off):
            found[off] = score(introspect.predict(model, clips), labels)["order"]
    assert found["*"] == pytest.approx(0.5) and found["stage[12].*"] <= 0.65
    assert 0.6 <= found["stage2.*"] <= 0.85, "the one that is missed most"
    assert min(found["stage1.*"], found["stage[34].*"]) >= YES


@pytest.mark.parametrize("branch, partners_answer", [("little", True), ("big", False)])
def test_in_stage_3_the_little_branch_has_the_time(branch, partners_answer, clips_and_labels):
    clips, labels = clips_and_labels
    point, model = f"stage3.{branch}", shipped("blvnet_tam")
    with torch.no_grad(), introspect.capture(model, point) as cache:
        model(clips)
    where = torch.arange(len(labels)) % PER_CLASS
    for kind, donors in {
        "partner": (labels ^ 1) * PER_CLASS + where,
        "same class": labels * PER_CLASS + (where + 1) % PER_CLASS,
    }.items():
        patch = introspect.replace_with(cache[point][donors])
        found = scores_with("blvnet_tam", point, patch, clips_and_labels)
        if kind == "partner" and partners_answer:
            assert max(found["direction"], found["order"]) <= NO
        else:
            assert min(found["direction"], found["order"]) >= YES, kind


def mean_parts(model: models.VideoNet, clips: Tensor, label: int) -> Tensor:
    """What each position gives to the class less its partner, mean over the clips, in logits."""
    return introspect.evidence(model, clips, label, minus=label ^ 1).sum((2, 3)).mean(0)


def test_opinions_of_blvnet_cancel_and_those_of_blvnet_tam_agree(clips_and_labels):
    clips, labels = clips_and_labels
    parts = {  # of clips that grow first, and those that shrink first
        name: [mean_parts(shipped(name), clips[labels == label], label) for label in (8, 9)]
        for name in ("blvnet", "blvnet_tam")
    }
    grows, shrinks = parts["blvnet"]
    assert (grows[:2] < 0).all() and (grows[2:] > 0).all()
    assert float(grows.sum()) == pytest.approx(-float(shrinks.sum()), abs=1e-3)
    assert all((part > 0).all() for part in parts["blvnet_tam"])


def test_tam_resnet_reads_shrinking_first_off_the_edges_of_the_clip(clips_and_labels):
    clips, labels = clips_and_labels
    model, own = shipped("tam_resnet"), clips[labels == 9]
    parts = mean_parts(model, own, 9)
    assert min(parts[0], parts[-1]) > 1 and (parts[1:-1] < 0).all()
    longer = models.tsn(temporal="tam", depth="tiny", num_frames=16, num_classes=10).eval()
    longer.load_state_dict(model.state_dict())
    held = own[:, torch.arange(-4, 12).clamp(0, 7)]  # first and last frame for four frames more
    parts = 2 * mean_parts(longer, held, 9)
    assert min(parts[0], parts[-1]) > 0.5, "they move with the edge"
    assert max(parts[4], parts[11]) < 0, "not with the frames"


def test_which_heat_maps_find_the_shape_and_which_of_them_need_no_network(clips_and_labels):
    rows = MOTION.split("val").rows.sort_values("label", kind="stable").groupby("label")
    seen = data.sample_uniform(24, 8)
    masks = torch.stack(
        [
            torch.from_numpy(shape_masks(row.source_id, row.class_name)[seen])
            for row in rows.head(PER_CLASS).itertuples()
        ]
    )[::2]
    clips, labels = (each[::2] for each in clips_and_labels)

    def hits(maps: Tensor) -> float:
        return introspect.pointing_game(maps, masks[: len(maps)])[0].mean().item()

    assert hits(clips.mean(2)) == 1, "the brightest pixel"
    model = shipped("blvnet_tam")
    parts = introspect.evidence(model, clips, labels)
    coin = introspect.pointing_game(parts, masks)[1].mean().item()
    assert abs(hits(parts) - coin) < 0.15, "what adds up need not point"
    drawn = introspect.grad_cam(model, clips, labels, "stage1.out", repeats=1)
    by_frame = hits(drawn.maps.repeat_interleave(2, 1))  # as of shuffled frames, put back in order
    assert hits(drawn.maps) > 0.6
    assert hits(drawn.maps) > by_frame + 0.05 > hits(drawn.controls["frames shuffled"][0]) + 0.15
    assert hits(drawn.controls["random weights"][0]) < 0.3
    blind = introspect.grad_cam(shipped("tsn_blnet"), clips, labels, "stage1.out", repeats=0)
    assert hits(blind.maps) < 0.5

    quick = {"baseline": introspect.mean_frame, "steps": 4, "tolerance": 9, "repeats": 1}
    integrated = introspect.integrated_gradients(model, clips[:10], labels[:10], **quick)
    by_chance = integrated.controls["random weights"][0]
    assert min(hits(integrated.maps), hits(by_chance)) > 0.5, "points without what was learned"
    assert integrated.similarity()["random weights"].abs().mean() < 0.1
    sizes = introspect.Attribution(integrated.maps.abs(), {"": by_chance[None].abs()}).similarity()
    assert sizes[""].mean() > 0.4, "the signs differ, the sizes are those of the movement"
