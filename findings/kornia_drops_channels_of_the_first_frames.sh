#!/usr/bin/env bash
# kornia's RandomChannelDropout in a VideoSequential drops a channel of the first few frames of the
# batch's first clip, and of nothing else: of four clips of eight frames, frames 0 to 3 of clip 0.
#
# Why it matters: one draw for all frames of a clip is what the container promises, and others keep
# to it (RandomGrayscale below). Here a clip flickers between colours at its beginning, with
# channels that were drawn for other clips, and 28 of 32 frames are as they were, with p=1. The more
# clips in a batch, the more frames of the first one are hit. Shapes fit and training runs.
# Seen with: kornia 0.9.0, PyTorch 2.14.1.
# Source: `ChannelDropoutGenerator` in kornia/augmentation/random_generator/_2d/channel_dropout.py
# counts the clips, 0 to 3, in a parameter `batch_idx`; VideoSequential repeats each parameter for
# all frames of its clip, and `apply_transform` takes the repeated counts for numbers of pictures.
# Remedy: draw the channels yourself: clips[torch.arange(B), torch.randint(3, (B,))] = 0.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
"${PYTHON:-python3}" -m venv venv
venv/bin/python -m pip install --quiet kornia==0.9.0 torch==2.14.1 numpy==2.4.6

venv/bin/python - <<'PY'
import kornia
import kornia.augmentation as K
import torch

CLIPS, FRAMES = 4, 8
torch.manual_seed(0)
clips = torch.rand(CLIPS, 3, 1, 16, 16).repeat(1, 1, FRAMES, 1, 1) + 0.1  # (B, C, T, H, W)


def dropped(found):
    """Return for each clip a letter a frame: the channel that is dropped, or "-"."""
    gone = (found == 0).flatten(3).all(3)  # (B, C, T)
    letters = torch.where(gone.any(1), gone.int().argmax(1), 3)
    return ["".join("RGB-"[c] for c in clip) for clip in letters.tolist()]


print("kornia", kornia.__version__, "PyTorch", torch.__version__)
print(f"expected: of each of {CLIPS} clips one channel, in all {FRAMES} frames")
drop = K.RandomChannelDropout(p=1.0)
shared = dropped(K.VideoSequential(drop, data_format="BCTHW", same_on_frame=True)(clips))
print("seen: in a VideoSequential:", shared)
pictures = dropped(drop(clips[:, :, 0])[:, :, None])
print("seen: of the first frames as a batch of pictures:", pictures)
grey = K.VideoSequential(K.RandomGrayscale(p=0.5), data_format="BCTHW", same_on_frame=True)(clips)
changed = (grey != clips).flatten(1).any(1)
assert changed.any() and not changed.all(), "control: this one changes some clips"
assert (grey == grey[:, :, :1]).all(), "control: and these are the same in all frames"

assert "-" not in pictures
assert "-" not in shared[0][:CLIPS], "no frame of the first clip is changed now"
assert {shared[0][CLIPS:], *shared[1:]} == {"-" * (FRAMES - CLIPS), "-" * FRAMES}, "others are, too"
PY
