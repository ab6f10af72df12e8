#!/usr/bin/env bash
# torchvision's ColorJitter draws one contrast for a whole video, and still makes a background that
# does not change brighten frame by frame while something bright enters at the other side.
#
# Why it matters: contrast mixes each frame with its own mean. With one factor for all frames one
# expects the same change for the same colour; instead a network for movements is given one
# that is nowhere in the video, and that tells how bright the rest of each frame is. Brightness and
# saturation do not do this. RandomAutocontrast and RandomEqualize do, and RandAugment uses them.
# Seen with: torchvision 0.29.1, PyTorch 2.14.1.
# Source: `adjust_contrast_image` in torchvision/transforms/v2/functional/_color.py takes the mean
# over colours, height and width; `adjust_contrast_video` calls it as it is.
# Remedy: give the frames side by side as one picture, (3, T * H, W), or leave contrast out.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
"${PYTHON:-python3}" -m venv venv
venv/bin/python -m pip install --quiet torchvision==0.29.1 torch==2.14.1 numpy==2.4.6

venv/bin/python - <<'PY'
import torch
import torchvision
from torchvision import tv_tensors
from torchvision.transforms import v2

FRAMES, SIDE = 8, 32
clip = torch.full((FRAMES, 3, SIDE, SIDE), 100, dtype=torch.uint8)
for t in range(FRAMES):
    clip[t, :, :, : 4 * t] = 250  # something bright comes in from the left; grey on the right
assert (clip[..., -1] == 100).all(), "the right edge is still"


def right_edge(transform):
    return transform(tv_tensors.Video(clip))[:, 0, SIDE // 2, -1].tolist()


def side_by_side(video):
    picture = video.movedim(1, 0).flatten(1, 2)  # (3, T * H, W)
    picture = v2.ColorJitter(contrast=(0.5, 0.5))(tv_tensors.Image(picture))
    return picture.unflatten(1, (FRAMES, SIDE)).movedim(0, 1)


print("torchvision", torchvision.__version__, "PyTorch", torch.__version__)
print("expected: the same value in all frames, for a pixel that does not change")
seen = {
    "brightness 0.5": right_edge(v2.ColorJitter(brightness=(0.5, 0.5))),
    "saturation 0.5": right_edge(v2.ColorJitter(saturation=(0.5, 0.5))),
    "contrast 0.5": right_edge(v2.ColorJitter(contrast=(0.5, 0.5))),
    "autocontrast": right_edge(v2.RandomAutocontrast(1)),
    "equalize": right_edge(v2.RandomEqualize(1)),
    "contrast 0.5, as one picture": right_edge(side_by_side),
}
for name, values in seen.items():
    print(f"seen: {name}: {values}")

flickers = {name for name, values in seen.items() if len(set(values)) > 1}
assert flickers == {"contrast 0.5", "autocontrast", "equalize"}, "still pixels stay still now"
assert max(seen["contrast 0.5"]) - min(seen["contrast 0.5"]) > 50
PY
