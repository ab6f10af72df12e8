#!/usr/bin/env bash
# albumentations' noise stands still in a video: GaussNoise, ShotNoise, SaltAndPepper, PixelDropout
# and others put the same grains on the same pixels of each frame.
#
# Why it matters: a camera's noise changes from frame to frame. This one is like dirt on the lens:
# where the picture stands still, the difference of two frames is free of it, to the bit. A network
# for movements is in effect trained on clean videos, and meets noise that moves for the first time
# in use. Each frame, looked at alone, is right.
# torchvision's GaussianNoise draws its grains for each frame.
# Seen with: albumentations 2.0.8 (its successor albumentationsx 2.5.1 as well).
# Source: all frames of `images=` are changed by one set of parameters, as the documentation says,
# and for noise the parameters are the noise itself: `GaussNoise.get_params_dependent_on_data` in
# albumentations/augmentations/pixel/transforms.py makes the map from the first frame's shape.
# Remedy: call the transform for each frame: np.stack([noise(image=f)["image"] for f in clip]).
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
"${PYTHON:-python3}" -m venv venv
venv/bin/python -m pip install --quiet albumentations==2.0.8 numpy==2.4.6

NO_ALBUMENTATIONS_UPDATE=1 venv/bin/python - <<'PY'
import albumentations as A
import numpy as np

FRAMES = 8
still = np.empty((FRAMES, 64, 64, 3), np.uint8)
still[:] = np.linspace(100, 160, 64, dtype=np.uint8)[None, None, :, None]


def spread(clip):
    """Return the noise in one frame and in the difference of two, as a deviation in levels."""
    clip = clip.astype(float)
    return round(float((clip[0] - still[0]).std()), 1), round(float((clip[1] - clip[0]).std()), 1)


print("albumentations", A.__version__)
print("expected: noise in a frame, and 1.4 times as much in the difference of two frames")
kinds = {
    "GaussNoise": A.GaussNoise(std_range=(0.05, 0.05), p=1),
    "ShotNoise": A.ShotNoise(p=1),
    "AdditiveNoise": A.AdditiveNoise(spatial_mode="per_pixel", p=1),
    "MultiplicativeNoise": A.MultiplicativeNoise(elementwise=True, p=1),
    "SaltAndPepper": A.SaltAndPepper(p=1),
    "PixelDropout": A.PixelDropout(p=1),
}
for name, noise in kinds.items():
    compose = A.Compose([noise], seed=0)
    frame, difference = spread(np.asarray(compose(images=still)["images"]))
    by_frame = np.stack([compose(image=f)["image"] for f in still])
    print(f"seen: {name}: {frame} in a frame, {difference} in the difference;", end=" ")
    print(f"frame by frame {spread(by_frame)[1]} in the difference")
    assert frame > 1 and spread(by_frame)[1] > 1
    assert difference == 0, f"{name} draws for each frame now"
PY
