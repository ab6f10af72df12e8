#!/usr/bin/env bash
# pytorch-grad-cam takes any input of five axes to be (batch, channels, depth, height, width). For a
# video model whose clips are (batch, time, channels, height, width) it returns maps with three
# steps in place of eight frames, without a word: time is squeezed into the number of colours.
#
# Why it matters: the maps have the height and width of the clip and look right one by one, but
# say the wrong time. Here the second of eight frames is bright; of the three maps it is the middle
# one. In a clip of three frames with three colours not even the shape tells.
# Seen with: grad-cam 1.5.7, PyTorch 2.14.1.
# Source: `BaseCAM.get_target_width_height` takes the last three sizes of the input, and
# `scale_cam_image` stretches each map to them with scipy's zoom. `reshape_transform` is for the
# activations only; nothing tells of the input.
# Remedy: wrap the model so that it takes (batch, channels, time, height, width), turn the clips
# before the call, and check the shape of what comes back.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
"${PYTHON:-python3}" -m venv venv
venv/bin/python -m pip install --quiet torch==2.14.1 torchvision==0.29.1 grad-cam==1.5.7 numpy==2.4.6

venv/bin/python - <<'PY'
import warnings
from importlib.metadata import version

import torch

warnings.simplefilter("ignore")
from pytorch_grad_cam import GradCAM

FRAMES = 8


class FrameByFrame(torch.nn.Module):
    """Brightness of a clip (batch, time, channels, height, width), by a convolution."""

    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Conv2d(3, 1, 1, bias=False)
        torch.nn.init.ones_(self.layer.weight)

    def forward(self, clips):
        return self.layer(clips.flatten(0, 1)).unflatten(0, clips.shape[:2]).mean((1, 3, 4))


class ChannelsFirst(torch.nn.Module):
    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, clips):
        return self.model(clips.transpose(1, 2))


def clips_alone(maps):  # (batch * time, channels, h, w) -> (batch, channels, time, h, w)
    return maps.unflatten(0, (-1, FRAMES)).transpose(1, 2)


def maps_of(model, layer, clips):
    with GradCAM(model, [layer], reshape_transform=clips_alone) as cam:
        return cam(clips, None)


model = FrameByFrame().eval()
clips = torch.zeros(1, FRAMES, 3, 16, 20)
clips[:, 1] = 1  # of all frames the second is bright
as_it_is = maps_of(model, model.layer, clips)
turned = maps_of(ChannelsFirst(model), model.layer, clips.transpose(1, 2))
print("grad-cam", version("grad-cam"), "PyTorch", torch.__version__)
print("expected:", (1, FRAMES, 16, 20), "with frame 1 the brightest, or an error")
print("seen:", as_it_is.shape, "by frame", as_it_is.mean((0, 2, 3)).round(2).tolist())
print("seen, clips turned:", turned.shape, "by frame", turned.mean((0, 2, 3)).round(2).tolist())

assert as_it_is.shape == (1, 3, 16, 20), "time keeps its frames now"
assert as_it_is.mean((0, 2, 3)).argmax() == 1
assert turned.shape == (1, FRAMES, 16, 20) and turned.mean((0, 2, 3)).argmax() == 1
PY
