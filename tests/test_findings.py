"""What notebooks 08 and 09 let the reader find in the shipped networks, with its controls.

A new checkpoint may well have learned otherwise: then the notebooks' words must change with it.
"""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from blvnet_lab import data, introspect, models, paths
from blvnet_lab.runs.staircase import score

PER_CLASS = 8
YES, NO = 0.9, 0.1  # at least, at most


@pytest.fixture(scope="module")
def clips_and_labels() -> tuple[Tensor, Tensor]:
    motion = data.DataSet.read(paths.data_samples() / "motion" / "manifest.csv")
    transform = data.evaluation_transform((64, 64))
    return data.load_clips(motion, "val", 8, transform, per_class=PER_CLASS)


def trained(name: str) -> models.VideoNet:
    return models.load_model(paths.data_samples() / "checkpoints" / f"{name}.safetensors").eval()


def scores_with(name: str, point: str, function, clips_and_labels) -> dict[str, float]:
    model, (clips, labels) = trained(name), clips_and_labels
    with introspect.edit(model, {point: function}):
        return score(introspect.predict(model, clips, batch_size=len(clips)), labels)


@pytest.mark.parametrize(
    "point, read", [("stem.out", False), ("stage1.out", False), ("stage2.out", True)]
)
def test_order_is_read_in_stage_2(point, read, clips_and_labels):
    exchanged = introspect.shuffle_positions([2, 3, 0, 1])
    found = scores_with("blvnet_tam", point, exchanged, clips_and_labels)
    assert found["order"] >= YES if read else found["order"] <= NO
    assert found["direction"] >= YES, "control: the exchange does no harm by itself"
    control = scores_with("blvnet", point, exchanged, clips_and_labels)
    assert control["order"] == pytest.approx(0.5), "control: without TAM a coin toss, always"


def test_without_the_tams_of_stages_1_and_2_order_is_lost(clips_and_labels):
    model, (clips, labels) = trained("blvnet_tam"), clips_and_labels
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
    point, model = f"stage3.{branch}", trained("blvnet_tam")
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
