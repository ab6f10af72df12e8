#!/usr/bin/env bash
# In field-coded H.264 (interlaced television and camcorders) a packet is one field, half a
# picture. The number of packets and the number of frames that mp4 states are twice the number of
# frames decoded, and half of the packets give nothing.
#
# Why it matters: sampling positions and progress computed from `stream.frames` lie beyond the
# end, and a check that each packet gives a picture calls the file damaged. Interlaced video does
# not do it by itself: the encoders at hand (x264) put both fields into one packet.
# Seen with: PyAV 18.1.0 (FFmpeg 8.1).
# Source: ITU-T H.264, 3: an access unit holds one primary coded picture, and that is a frame or a
# field; ISO/IEC 14496-15 makes each access unit a sample. FFmpeg's H.264 decoder
# (`h264_field_start` in libavcodec/h264_slice.c) pairs the fields.
# Remedy: count decoded frames.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
"${PYTHON:-python3}" -m venv venv
venv/bin/python -m pip install --quiet av==18.1.0 numpy==2.4.6

venv/bin/python - <<'PY'
from fractions import Fraction

import av

FRAMES, WIDTH, HEIGHT = 10, 32, 32


def code(value):
    """Exp-Golomb code, the variable-length numbers of H.264."""
    bits = f"{value + 1:b}"
    return "0" * (len(bits) - 1) + bits


def to_bytes(bits):
    bits += "0" * (-len(bits) % 8)
    return int(bits, 2).to_bytes(len(bits) // 8, "big")


def unit(header, bits):
    return b"\0\0\0\1" + bytes([header]) + to_bytes(bits + "1")


def field(k, bottom):
    """One field of frame k, every block of 16 x 16 stored as it is (I_PCM)."""
    bits = code(0) + code(7) + code(0) + f"{0:08b}" + "1" + f"{bottom:b}"  # an I slice, of a field
    bits += f"{bottom:08b}" + "0" if bottom else code(k) + f"{bottom:08b}" + "00"  # number, order
    bits += "1" + code(1)  # quantiser as it is, no deblocking
    block = "".join(f"{byte:08b}" for byte in [50 + 20 * k] * 256 + [128] * 128)
    for _ in range(WIDTH // 16 * HEIGHT // 32):
        bits += code(25)
        bits += "0" * (-len(bits) % 8) + block
    return unit(0x21 if bottom else 0x25, bits)


def write_stream(path):
    sequence = f"{77:08b}{0:08b}{30:08b}" + code(0) + code(4) + code(0) + code(4) + code(1) + "0"
    sequence += code(WIDTH // 16 - 1) + code(HEIGHT // 32 - 1) + "00" + "1" + "0" + "0"
    picture = code(0) + code(0) + "00" + code(0) * 3 + "000" + code(0) * 3 + "100"
    delimiter = b"\0\0\0\1\x09\x10"
    with open(path, "wb") as file:
        for k in range(FRAMES):
            file.write(delimiter + unit(0x67, sequence) + unit(0x68, picture) + field(k, 0))
            file.write(delimiter + field(k, 1))


def wrap(source, target):
    with av.open(source, format="h264") as file, av.open(target, "w") as out:
        stream = out.add_stream_from_template(file.streams.video[0])
        for k, packet in enumerate(p for p in file.demux(video=0) if p.size):
            packet.pts = packet.dts = k
            packet.duration, packet.time_base, packet.stream = 1, Fraction(1, 50), stream
            out.mux(packet)


write_stream("fields.h264")
print("PyAV", av.__version__, "with FFmpeg", av.ffmpeg_version_info)
print(f"expected: {FRAMES} packets for {FRAMES} frames")
seen = {}
for path in ("fields.mp4", "fields.ts"):
    wrap("fields.h264", path)
    with av.open(path) as file:
        listed = file.streams.video[0].frames
        packets = sum(packet.size > 0 for packet in file.demux(video=0))
    with av.open(path) as file:
        levels = [round(frame.to_ndarray()[:HEIGHT].mean()) for frame in file.decode(video=0)]
    print(f"seen: {path}: stream.frames {listed}, {packets} packets, {len(levels)} frames")
    assert levels == [50 + 20 * k for k in range(FRAMES)]
    seen[path] = listed, packets

assert seen["fields.mp4"] == (2 * FRAMES, 2 * FRAMES), "a packet is a frame now"
assert seen["fields.ts"] == (0, 2 * FRAMES), "a packet is a frame now"
PY
