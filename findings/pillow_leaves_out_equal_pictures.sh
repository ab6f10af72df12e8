#!/usr/bin/env bash
# Of ten frames that Pillow writes as GIF, WebP or animated PNG four are in the file if the other
# six equal the one before them. AVIF keeps ten, and so does PNG where no duration is given; a GIF
# without durations loses them all the same, and their time with them.
#
# Why it matters: masks of a video, drawn examples and clips that stand still for a while have equal
# frames. Frame k of the animation is then not frame k of the video, and labels by number belong to
# others. It plays as it should, so looking at it shows nothing, and random frames, as in tests, all
# come back. matplotlib's PillowWriter writes this way.
# Seen with: Pillow 13.0.0.
# Source: `_write_multiple_frames` in PIL/GifImagePlugin.py and PIL/PngImagePlugin.py compares each
# frame with the one before and adds its duration to that one's; for WebP the encoder does it.
# Remedy: go by the times (the sum of the durations before), not by numbers; or a video format.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
"${PYTHON:-python3}" -m venv venv
venv/bin/python -m pip install --quiet pillow==13.0.0

venv/bin/python - <<'PY'
import PIL
from PIL import Image

LEVELS = [0, 0, 0, 50, 50, 100, 100, 100, 100, 200]
FRAMES = [Image.new("RGB", (32, 32), (level,) * 3) for level in LEVELS]
OPTIONS = {"gif": {}, "webp": {"lossless": True}, "png": {}, "avif": {}}


def durations(kind, **given):
    """Of each frame in the file, in milliseconds."""
    name = f"frames.{kind}"
    FRAMES[0].save(name, save_all=True, append_images=FRAMES[1:], **OPTIONS[kind], **given)
    found = []
    with Image.open(name) as file:
        for k in range(file.n_frames):
            file.seek(k)
            file.load()
            found.append(int(file.info.get("duration") or 0))
    return found


print("Pillow", PIL.__version__)
print("expected:", len(FRAMES), "frames")
seen = {}
for kind in OPTIONS:
    seen[kind] = durations(kind, duration=40), durations(kind)
    print(f"seen: {kind}, 40 ms each: {len(seen[kind][0])} frames, {seen[kind][0]}")
    print(f"seen: {kind}, no duration: {len(seen[kind][1])} frames")

for kind in ("gif", "webp", "png"):
    assert seen[kind][0] == [120, 80, 160, 40], "equal frames are kept now"
assert seen["avif"][0] == [40] * 10
assert len(seen["png"][1]) == 10 and seen["gif"][1] == [0] * 4
PY
