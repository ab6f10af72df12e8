#!/usr/bin/env bash
# FFmpeg's `scale` filter takes the colour samples of 4:2:0 video to lie in the middle of their
# 2 x 2 pixels, also where the decoded frame says "left", as it does for H.264, HEVC and MPEG-4.
# `VideoFrame.reformat`, on the same libswscale, heeds the frame. The filter's colours lie half a
# pixel off.
#
# Why it matters: one reader with a filter graph and one with `reformat`, all flags equal, give
# pictures that are 5 of 255 levels apart on average where colours vary. For 8-bit video at its
# own size without ACCURATE_RND they agree, and a test at that size does not notice.
# Seen with: PyAV 18.1.0 (FFmpeg 8.1), 19.0.2 (FFmpeg 9.0).
# Source: `calc_chroma_pos` in FFmpeg's libavfilter/vf_scale.c is given the filter's option
# in_chroma_loc alone and falls back to the centre. `ff_fmt_from_frame` in libswscale/format.c,
# the way of `reformat`, reads the frame's chroma_location.
# Remedy: `reformat`, or name the place in the filter: in_chroma_loc=left.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
"${PYTHON:-python3}" -m venv venv
venv/bin/python -m pip install --quiet av==18.1.0 numpy==2.4.6

venv/bin/python - <<'PY'
from fractions import Fraction

import av
import numpy as np
from av.video.reformatter import Interpolation

SIDE = 128
EXACT = Interpolation.BICUBIC | Interpolation.ACCURATE_RND | Interpolation.FULL_CHR_H_INT


def encode_and_decode(frame):
    with av.open("clip.mkv", "w") as out:
        stream = out.add_stream("libx264", rate=25, options={"crf": "0"})
        stream.width, stream.height, stream.pix_fmt = SIDE, SIDE, "yuv420p"
        out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    with av.open("clip.mkv") as file:
        return next(file.decode(video=0))


def reformat(frame, side):
    return frame.reformat(side, side, "rgb24", interpolation=EXACT).to_ndarray().astype(int)


def scale(frame, side, more=""):
    graph = av.filter.Graph()
    source = graph.add_buffer(
        width=SIDE, height=SIDE, format=frame.format, time_base=Fraction(1, 25)
    )
    flags = "flags=bicubic+accurate_rnd+full_chroma_int"
    nodes = [source, graph.add("scale", f"{side}:{side}:{flags}{more}")]
    nodes += [graph.add("format", "rgb24"), graph.add("buffersink")]
    for one, other in zip(nodes, nodes[1:]):
        one.link_to(other)
    graph.configure()
    graph.push(frame)
    return graph.pull().to_ndarray().astype(int)


# Bluer by one level of Cb a pixel; the colour samples lie at the even pixels ("left").
ramp = av.VideoFrame(SIDE, SIDE, "yuv420p")
for plane, (first, step) in zip(ramp.planes, ((128, 0), (64, 2), (128, 0)), strict=True):
    row = first + step * np.arange(plane.line_size)
    plane.update(np.tile(row.astype(np.uint8), (plane.height, 1)))
ramp = encode_and_decode(ramp)
per_level = 1.772 * 255 / 224  # of Cb, in levels of blue
true_blue = (128 - 16) * 255 / 219 + per_level * (64 + np.arange(SIDE) - 128)


def pixels_off(rgb):
    inner = slice(32, 96)  # away from the borders and from 0 and 255
    return float((true_blue[inner] - rgb[SIDE // 2, inner, 2]).mean() / per_level)


blocks = np.random.default_rng(0).integers(0, 256, (16, 16, 3), np.uint8)
blocks = blocks.repeat(SIDE // 16, 0).repeat(SIDE // 16, 1)
blocks = encode_and_decode(av.VideoFrame.from_ndarray(blocks, format="rgb24"))
smaller = reformat(blocks, 96)

print("PyAV", av.__version__, "with FFmpeg", av.ffmpeg_version_info)
print("expected: the filter and reformat give the same picture, colours where they belong")
off = {"reformat": pixels_off(reformat(ramp, SIDE)), "scale": pixels_off(scale(ramp, SIDE))}
for name, pixels in off.items():
    print(f"seen: {name}: colours {pixels:.2f} pixels off")
apart = [abs(scale(blocks, 96, more) - smaller).mean() for more in ("", ":in_chroma_loc=left")]
print(f"seen: coloured blocks scaled to 96 x 96: {apart[0]:.2f} levels apart on average")
print(f"seen: the same with in_chroma_loc=left: {apart[1]:.2f}")

assert abs(off["reformat"]) < 0.05
assert abs(off["scale"] - 0.5) < 0.05, "the filter heeds the frame's chroma location now"
assert apart[0] > 4 and apart[1] == 0
PY
