#!/usr/bin/env bash
# torchvision's transforms (v2), given a clip as a list of frames, change the first frame alone if
# the frames are tensors, and all of them, with the same parameters, if they are PIL pictures.
#
# Why it matters: decoders give frames one by one, and "a list of pictures" is how many data sets
# hold a clip. A flip, a jitter of colours or an erased rectangle that changes no shape then makes
# clips whose first frame is another than the rest, and training runs. Only a change of size is
# found, by the next `stack`.
# Seen with: torchvision 0.29.1, PyTorch 2.14.1, Pillow 13.0.0.
# Source: `Transform._needs_transform_list` in torchvision/transforms/v2/_transform.py takes plain
# tensors after the first for labels or masks, which are to be left alone. The documentation of v2
# says so of a tuple (picture, label); of frames it does not speak.
# Remedy: one tensor (T, C, H, W), by `torch.stack(frames)`, or `tv_tensors.Image` for each frame.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
"${PYTHON:-python3}" -m venv venv
venv/bin/python -m pip install --quiet torchvision==0.29.1 torch==2.14.1 numpy==2.4.6 \
    pillow==13.0.0

venv/bin/python - <<'PY'
import torch
import torchvision
from torchvision import tv_tensors
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as F

left = torch.zeros(3, 8, 8, dtype=torch.uint8)
left[..., :4] = 200  # bright on the left
frames = [left.clone() for _ in range(4)]
kinds = {
    "one tensor": torch.stack(frames),
    "list of PIL pictures": [F.to_pil_image(frame) for frame in frames],
    "list of tv_tensors": [tv_tensors.Image(frame) for frame in frames],
    "list of tensors": frames,
}


def bright_sides(clip):
    pictures = [F.to_image(f) if not isinstance(f, torch.Tensor) else f for f in clip]
    return ["left" if f[..., :4].sum() > f[..., 4:].sum() else "right" for f in pictures]


print("torchvision", torchvision.__version__, "PyTorch", torch.__version__)
flip = v2.Compose([v2.RandomHorizontalFlip(p=1), v2.ColorJitter(brightness=0.1)])
print("expected:", ["right"] * 4, "for four frames that are bright on the left, flipped")
seen = {}
for name, clip in kinds.items():
    seen[name] = bright_sides(flip(clip))
    print(f"seen: {name}: {seen[name]}")

wrong = seen.pop("list of tensors")
assert all(sides == ["right"] * 4 for sides in seen.values())
assert wrong == ["right", "left", "left", "left"], "all frames of a list are changed now"
PY
