#!/usr/bin/env bash
# `skip_frame = "NONKEY"`, PyAV's recipe for keyframes alone (thumbnails, a quick look), does
# nothing for VP9: of 24 frames with 3 keyframes all 24 are decoded and handed out. H.264, H.265,
# AV1, MPEG-2, MPEG-4 and VP8 give 3.
#
# Why it matters: code that takes what comes for keyframes samples a WebM otherwise than an mp4 of
# the same video, and a quick look takes as long as decoding all of it, which it is.
# Seen with: PyAV 18.1.0 (FFmpeg 8.1).
# Source: libavcodec leaves `skip_frame` to each decoder, but for "ALL"; by what is seen, that of
# VP9 does not look at it (its code was not read).
# Remedy: decode only packets with `packet.is_keyframe`, which works for all of these.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
"${PYTHON:-python3}" -m venv venv
venv/bin/python -m pip install --quiet av==18.1.0 numpy==2.4.6

venv/bin/python - <<'PY'
import os

import av
import numpy as np

os.environ["SVT_LOG"] = "-1"
COUNT, GROUP = 24, 8
QUICK = {"deadline": "realtime", "cpu-used": "8", "lag-in-frames": "0"}
CODECS = {
    "libx264": {"x264-params": "scenecut=0"},
    "libx265": {"x265-params": "log-level=none:scenecut=0"},
    "mpeg2video": {"sc_threshold": "1000000000"},
    "mpeg4": {"sc_threshold": "1000000000"},
    "libvpx": QUICK,
    "libvpx-vp9": QUICK,
    "libsvtav1": {"preset": "12"},
}


def write(path, codec):
    with av.open(path, "w") as out:
        stream = out.add_stream(codec, rate=25, options=CODECS[codec])
        stream.width, stream.height, stream.pix_fmt = 128, 72, "yuv420p"
        stream.codec_context.gop_size = GROUP
        for k in range(COUNT):
            picture = np.full((72, 128, 3), k, np.uint8)
            out.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        out.mux(stream.encode(None))


def skipping(path):
    with av.open(path) as file:
        stream = file.streams.video[0]
        stream.codec_context.skip_frame = "NONKEY"
        return sum(1 for _ in file.decode(stream))


def by_packets(path):
    """Frames decoded of the packets of keyframes, and how many such packets there are."""
    with av.open(path) as file:
        packets = [packet for packet in file.demux(video=0) if packet.is_keyframe]
        frames = [frame for packet in packets for frame in packet.decode()]
        return len(frames + file.streams.video[0].codec_context.decode(None)), len(packets)


print("PyAV", av.__version__, "with FFmpeg", av.ffmpeg_version_info)
print(f"expected: {COUNT // GROUP} frames of {COUNT}")
seen = {}
for codec in CODECS:
    write("video.mkv", codec)
    seen[codec] = skipping("video.mkv"), *by_packets("video.mkv")
    print("seen: {}: {}; by packets: {} of {} keyframes".format(codec, *seen[codec]))

assert seen.pop("libvpx-vp9") == (COUNT, 3, 3), "VP9 skips now"
assert set(seen.values()) == {(3, 3, 3)}
PY
