#!/usr/bin/env bash
# Of an animated WebP or AVIF Pillow tells the duration of the frame before, or of none, from `seek`
# until the picture is loaded. GIF and PNG tell the right one at once.
#
# Why it matters: `for frame in ImageSequence.Iterator(im)` with `frame.info["duration"]` first and
# the pixels second shifts all times by a frame: a pause is shown at the next picture. With one
# duration for all frames only the first is missing, so that a test with even times, or with a GIF,
# finds nothing. Frames that are skipped without being loaded leave older durations behind.
# Seen with: Pillow 12.3.0. From 13.0.0 on there is no duration until then, which a default such as
# `info.get("duration", 100)` takes for one.
# Source: `load` in PIL/WebPImagePlugin.py and PIL/AvifImagePlugin.py decodes the frame, and sets
# info["duration"] only there; `seek` keeps a number. GifImagePlugin.py sets it in `seek`.
# Remedy: `frame.load()` before `frame.info`.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
"${PYTHON:-python3}" -m venv venv
venv/bin/python -m pip install --quiet pillow==12.3.0 numpy==2.4.6

venv/bin/python - <<'PY'
import numpy as np
import PIL
from PIL import Image, ImageSequence

DURATIONS = [40, 40, 40, 400, 40, 40, 200, 40]  # ms
pictures = [Image.new("RGB", (32, 32), (20 * k, 0, 0)) for k in range(len(DURATIONS))]


def durations(path, *, load_first):
    found = []
    with Image.open(path) as file:
        for k, frame in enumerate(ImageSequence.Iterator(file)):
            if load_first:
                frame.load()
            duration = frame.info.get("duration")
            found.append(duration if duration is None else round(duration))
            red = np.asarray(frame.convert("RGB"))[..., 0].mean()
            assert abs(red - 20 * k) < 10, "the picture is the right one"
    return found


print("Pillow", PIL.__version__)
print("expected:", DURATIONS)
seen = {}
for suffix in ("gif", "png", "webp", "avif"):
    path = f"clip.{suffix}"
    pictures[0].save(path, save_all=True, append_images=pictures[1:], duration=DURATIONS)
    seen[suffix] = durations(path, load_first=False)
    print(f"seen: {path}:", seen[suffix])
    assert durations(path, load_first=True) == DURATIONS

assert seen["gif"] == seen["png"] == DURATIONS
assert seen["webp"] == seen["avif"] == [None, *DURATIONS[:-1]], "durations are right at once now"
PY
