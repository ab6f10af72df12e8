#!/usr/bin/env bash
# Of one file FFmpeg's program shows pictures of 88 x 48, and PyAV and decord, which decode with
# FFmpeg's libraries, of 112 x 64: only the program crops to what an mp4 says is to be shown.
#
# Why it matters: an mp4's clean aperture (clap; DV and ProRes from editors have one) or Matroska's
# PixelCrop (mkvmerge --cropping) hides the edges of a picture. Boxes, masks and key points measured
# on pictures that the program wrote lie elsewhere in those that a data loader reads. Chromium 156
# shows the whole picture, as the libraries do, and so does the program 5.1.9.
# Seen with: FFmpeg's program 9.0.2 (imageio-ffmpeg 0.8.1); PyAV 18.1.0, decord2 3.4.0.
# Source: demuxers hand the edges on as side data of the stream (AV_PKT_DATA_FRAME_CROPPING), of
# which the program's own code (fftools) makes a filter; no decoder looks at it, nor does PyAV.
# Remedy: -apply_cropping codec for the program, which then shows what all others do.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
"${PYTHON:-python3}" -m venv venv
venv/bin/python -m pip install --quiet \
    imageio-ffmpeg==0.8.1 av==18.1.0 decord2==3.4.0 numpy==2.4.6

venv/bin/python - <<'PY'
import struct
import subprocess
from fractions import Fraction
from pathlib import Path

import av
import decord
import imageio_ffmpeg
import numpy as np

WIDTH, HEIGHT, SHOWN = 112, 64, (88, 48)

with av.open("plain.mp4", "w") as out:
    stream = out.add_stream("libx264", rate=25)
    stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
    for k in range(12):
        picture = np.full((HEIGHT, WIDTH, 3), 10 * k, np.uint8)
        frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
        frame.pts, frame.time_base = k, Fraction(1, 25)
        out.mux(stream.encode(frame))
    out.mux(stream.encode(None))

# The box clap, at the end of the description of the pictures: width, height, and how far the middle
# is off, as fractions. The boxes around it grow.
data = bytearray(Path("plain.mp4").read_bytes())
clap = struct.pack(">I4s8i", 40, b"clap", SHOWN[0], 1, SHOWN[1], 1, 0, 1, 0, 1)
start = data.index(b"avc1", data.index(b"stsd")) - 4
end = start + struct.unpack_from(">I", data, start)[0]
data[end:end] = clap
for box in (b"avc1", b"stsd", b"stbl", b"minf", b"mdia", b"trak", b"moov"):
    place = data.rindex(box, 0, start + 8) - 4
    struct.pack_into(">I", data, place, struct.unpack_from(">I", data, place)[0] + len(clap))
Path("clap.mp4").write_bytes(data)


def program(*options):
    """Width and height of the pictures that FFmpeg's program writes."""
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", *options, "-i", "clap.mp4"]
    command += ["-frames:v", "1", "-f", "image2pipe", "-c:v", "ppm", "-"]
    done = subprocess.run(command, stdout=subprocess.PIPE, check=True)
    return tuple(map(int, done.stdout.split(b"\n")[1].split()))


with av.open("clap.mp4") as file:
    picture = next(file.decode(video=0))
seen = {
    "FFmpeg's program": program(),
    "with -apply_cropping codec": program("-apply_cropping", "codec"),
    "PyAV": (picture.width, picture.height),
    "decord": decord.VideoReader("clap.mp4")[0].shape[1::-1],
}
print("FFmpeg", imageio_ffmpeg.get_ffmpeg_version(), "PyAV", av.__version__, decord.__version__)
print(f"expected: {SHOWN}, what the file says is to be shown, from all")
for name, size in seen.items():
    print(f"seen:     {size} from {name}")
assert [*seen.values()] == [SHOWN] + 3 * [(WIDTH, HEIGHT)], "they agree now"
PY
