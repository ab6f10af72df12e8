#!/usr/bin/env bash
# Where a network sends the frames of a clip one by one through the same encoder and a layer of that
# encoder is asked for, captum answers for the last frame alone, and pytorch-grad-cam for the first.
# Nothing says that the others are left out.
#
# Why it matters: the result has one map for each clip, as it should for a picture, and the map is
# that of a frame. Here frame 1 of three has nearly all of the weight: both tools give heat maps of
# black frames next to it. captum's `LayerConductance`, whose sum is to be that of the logits, gives
# the last frame's share.
# Seen with: captum 0.9.0, grad-cam 1.5.7, PyTorch 2.14.1.
# Source: in `_forward_layer_distributed_func` of captum/_utils/gradient.py a hook puts the layer's
# output into a dictionary under the layer, so that each call replaces the one before.
# `ActivationsAndGradients` of pytorch_grad_cam keeps all calls in a list, and
# `compute_cam_per_layer` takes the i-th entry for the i-th layer, that is the first one.
# Remedy: fold time into the batch and call the encoder once, encoder(clips.flatten(0, 1)).
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
"${PYTHON:-python3}" -m venv venv
venv/bin/python -m pip install --quiet torch==2.14.1 torchvision==0.29.1 captum==0.9.0 \
    grad-cam==1.5.7 numpy==2.4.6

venv/bin/python - <<'PY'
import warnings
from importlib.metadata import version

import torch

warnings.simplefilter("ignore")
from captum.attr import LayerActivation, LayerConductance, LayerGradCam
from pytorch_grad_cam import GradCAM
from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

WEIGHTS = (1.0, 8.0, 2.0)  # of the frames


class OneByOne(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Conv2d(1, 1, 1, bias=False)
        torch.nn.init.ones_(self.layer.weight)

    def forward(self, clips):  # (batch, frames, height, width), grey
        frames = [self.layer(clips[:, t : t + 1]) for t in range(len(WEIGHTS))]
        return sum(w * maps.mean((2, 3)) for w, maps in zip(WEIGHTS, frames))  # one logit


model, clip = OneByOne().eval(), torch.zeros(1, 3, 4, 4)
for frame in range(3):
    clip[0, frame, frame, frame] = 1  # a bright pixel, on the diagonal


def bright(maps):
    return torch.as_tensor(maps).detach().reshape(4, 4).nonzero().tolist()


kept = bright(LayerActivation(model, model.layer).attribute(clip))
captum_cam = bright(LayerGradCam(model, model.layer).attribute(clip, target=0))
conductance = LayerConductance(model, model.layer).attribute(clip, target=0).sum().item()
with GradCAM(model, [model.layer]) as cam:
    other_cam = bright(cam(clip, [ClassifierOutputTarget(0)]))
logit = model(clip).item()
print("captum", version("captum"), "grad-cam", version("grad-cam"), "PyTorch", torch.__version__)
print("expected: bright pixels [[0, 0], [1, 1], [2, 2]], or the maps of each frame, or an error")
print("seen: captum, activation:", kept, "Grad-CAM:", captum_cam)
print("seen: pytorch-grad-cam:", other_cam)
print(f"expected: conductance {logit:.4f}, seen: {conductance:.4f}, of the last {2 / 16:.4f}")

assert kept == captum_cam == [[2, 2]], "captum takes all calls now"
assert other_cam == [[0, 0]], "pytorch-grad-cam takes all calls now"
assert abs(conductance - 2 / 16) < 1e-3 and abs(logit - 11 / 16) < 1e-6
PY
