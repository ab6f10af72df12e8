#!/usr/bin/env bash
# H.264 may say that its leftmost columns are not to be shown. FFmpeg's decoder leaves them in the
# frame if their number is no multiple of 32: rows are to begin at aligned addresses. Columns on the
# right are taken off. So a frame is wider than the file's own header says, without a word.
#
# Why it matters: after a crop without encoding again (the filter h264_metadata, or x264's crop-rect)
# frames have borders that should be gone, and another width than FFmpeg's program gives: since
# FFmpeg 7.1 it crops by itself, to the column. Browsers show the borders too.
# Seen with: PyAV 18.1.0 (FFmpeg 8.1).
# Source: `av_frame_apply_cropping` in FFmpeg's libavutil/frame.c rounds the offset down, unless
# AV_FRAME_CROP_UNALIGNED is given; libavcodec gives it if AV_CODEC_FLAG_UNALIGNED is set.
# Remedy: that flag, `codec_context.flags |= Flags.unaligned` in PyAV, before decoding.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
"${PYTHON:-python3}" -m venv venv
venv/bin/python -m pip install --quiet av==18.1.0 numpy==2.4.6

venv/bin/python - <<'PY'
import av
import numpy as np
from av.codec.context import Flags

WIDTH, HEIGHT = 192, 112


def write(left, right):
    """A video whose pixels are as bright as their column, cropped in its own header."""
    with av.open("whole.mp4", "w") as out:
        stream = out.add_stream("libx264", rate=25, options={"crf": "1"})
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "gray"
        ramp = np.tile(np.arange(40, 40 + WIDTH, dtype=np.uint8), (HEIGHT, 1))
        out.mux(stream.encode(av.VideoFrame.from_ndarray(ramp, format="gray")))
        out.mux(stream.encode(None))
    with av.open("whole.mp4") as file, av.open("cropped.mp4", "w") as out:
        source = file.streams.video[0]
        stream = out.add_stream_from_template(source)
        options = f"h264_metadata=crop_left={left}:crop_right={right}"
        cropping = av.BitStreamFilterContext(options, source, stream)
        for packet in file.demux(source):
            for changed in cropping.filter(packet if packet.size else None):
                changed.stream = stream
                out.mux(changed)


def read(flags=0):
    """The width of the first frame, and the level of its first column."""
    with av.open("cropped.mp4") as file:
        file.streams.video[0].codec_context.flags |= flags
        picture = next(file.decode(video=0)).to_ndarray(format="gray")
        return picture.shape[1], int(picture[:, 0].mean().round())


print("PyAV", av.__version__, "with FFmpeg", av.ffmpeg_version_info)
write(0, 10)
print("expected: width 182, whichever side 10 columns are cropped on")
print("seen: on the right, width", (right := read())[0])
write(10, 0)
print("seen: on the left, width", (left := read())[0])
print("seen: on the left with the flag, width", (flagged := read(Flags.unaligned))[0])
assert right[0] == flagged[0] == WIDTH - 10
assert left[0] == WIDTH, "the columns are taken off now"
print("seen: level of the first column", left[1], "and with the flag", flagged[1])
assert flagged[1] - left[1] > 5
PY
