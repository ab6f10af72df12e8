"""Damaged files, about two hundred: an error that names the file, or the right frames.

They are read in a child process, which says what it is doing as it goes, so that a crash or a hang
is laid to the file that caused it.

What can be promised, and is tested:

1. Always: no crash, no hang, no other error than VideoReadError, which names the file.
2. Of files that are cut short, have another's header, or lack pictures: every frame given is right.
3. Of files with altered bytes that `check_video` passes: every frame given is right, but for a few
   in which a plain decode of all, made here without the reader, finds no fault either.
4. Of files that `check_video` refuses, frames may be read nevertheless, and a few are not right:
   reading looks no further than it must.
"""

import collections
import json
import subprocess
import sys
from pathlib import Path

import av
import lab
import numpy as np
import pytest
from PIL import Image
from videos import copy_packets, draw, write_video

X265 = {"x265-params": "log-level=none:pools=none:frame-threads=1:keyint=12"}
VPX = {"cpu-used": "5", "lag-in-frames": "16", "auto-alt-ref": "1"}
FASTSTART = {"movflags": "+faststart"}
COUNT, SIZE, LIMIT_S = 36, (96, 160), 20

SOURCES = {
    "h264.mp4": {"b_frames": 2},
    "fast.mp4": {"b_frames": 2, "container_options": FASTSTART},
    "long.mp4": {"gop": 250, "b_frames": 2},
    "h264.mkv": {"b_frames": 2},
    "h264.avi": {"b_frames": 2},
    "h264.ts": {"b_frames": 2},
    "hevc.mp4": {"codec": "libx265", "b_frames": 2, "codec_options": X265},
    "mpeg4.avi": {"codec": "mpeg4"},
    "mpeg4_b.avi": {"codec": "mpeg4", "b_frames": 2},
    "mjpeg.avi": {"codec": "mjpeg", "pix_fmt": "yuvj420p"},
    "vp9.webm": {"codec": "libvpx-vp9", "codec_options": VPX},
    "vp8.webm": {"codec": "libvpx", "codec_options": VPX},
}
if "libsvtav1" in av.codecs_available:
    options = {"preset": "12", "svtav1-params": "keyint=12:lookahead=8"}
    SOURCES["av1.mp4"] = {"codec": "libsvtav1", "codec_options": options}


def cut(whole: bytes, rng: np.random.Generator, share: float) -> bytes:
    return whole[: int(len(whole) * share)]


def flip_bits(whole: bytes, rng: np.random.Generator, count: int) -> bytes:
    damaged = bytearray(whole)
    for place in rng.integers(0, 8 * len(whole), count):
        damaged[place // 8] ^= 1 << place % 8
    return bytes(damaged)


def blank(whole: bytes, rng: np.random.Generator, size: int) -> bytes:
    begin = int(rng.integers(0, len(whole) - size))
    return whole[:begin] + bytes(size) + whole[begin + size :]


KINDS = [
    *((f"cut_{share}", cut, share) for share in (0.05, 0.3, 0.6, 0.9, 0.99)),
    *((f"bits_{count}_{k}", flip_bits, count) for count, k in [(1, 0), (1, 1), (5, 0), (200, 0)]),
    *((f"blank_{size}", blank, size) for size in (64, 2000)),
]


@pytest.fixture(scope="module")
def damaged(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("damaged")
    rng = np.random.default_rng(0)
    wholes = {}
    for name, options in SOURCES.items():
        wholes[name] = write_video(folder / name, COUNT, size=SIZE, **options).read_bytes()
    name = "trimmed.mp4"
    longer = write_video(folder / "longer.mp4", COUNT + 17, size=SIZE, b_frames=2)
    # Cut 17 frames in without encoding again; what it then shows begins with 17.
    wholes[name] = copy_packets(longer, folder / name, -17).read_bytes()
    paths = []
    for name, whole in wholes.items():
        for kind, damage, amount in KINDS:
            paths.append(folder / f"{kind}_{name}")
            paths[-1].write_bytes(damage(whole, rng, amount))
    names = list(wholes)
    for first, second in zip(names, names[1:] + names[:1], strict=True):
        paths.append(folder / f"head_of_{second.split('.')[0]}_{first}")
        paths[-1].write_bytes(wholes[second][:400] + wholes[first][400:])
    for kind, damage, amount in (("cut", cut, 0.3), ("bits", flip_bits, 20), ("blank", blank, 500)):
        paths.append(folder / f"{kind}_pictures")
        paths[-1].mkdir()
        for k in range(COUNT):
            Image.fromarray(draw(k, SIZE)).save(paths[-1] / f"{k + 1:05d}.jpg")
        file = paths[-1] / "00020.jpg"
        file.write_bytes(damage(file.read_bytes(), rng, amount))
    return paths


READER = """
import faulthandler, json, os, sys
import av
from blvnet_lab.data.decoding import LENIENT
from blvnet_lab.data import VideoReadError, check_video, probe_video, read_frames
from videos import read_number

def plain(path):
    # What all frames show, or None if FFmpeg finds any fault: without a line of the reader.
    try:
        with av.open(path, **LENIENT) as container:
            stream = container.streams.best("video")
            stream.thread_type, stream.codec_context.thread_count = "SLICE", 2
            stream.codec_context.options = {"err_detect": "explode"}
            pictures = list(container.decode(stream))
    except (av.error.FFmpegError, AttributeError):
        return None
    times = [picture.pts for picture in pictures if picture.pts is not None]
    if any(picture.is_corrupt for picture in pictures) or times != sorted(set(times)):
        return None
    rgb = [picture.to_ndarray(format="rgb24") for picture in pictures]
    return [read_number(picture.transpose(2, 0, 1)) for picture in rgb]

limit = float(sys.argv[1])
for path in sys.argv[2:]:
    faulthandler.dump_traceback_later(limit, exit=True)
    print(json.dumps({"path": path}), flush=True)
    found = {"path": path, "errors": [], "shown": {}, "checked": {}}
    def attempt(read):
        try:
            return read()
        except VideoReadError as error:
            found["errors"].append([str(error), error.path])
    info = attempt(lambda: probe_video(path))
    if info is not None:
        n = info.num_frames
        wholes = attempt(lambda: check_video(path))
        found["whole"], found["damage"], found["n"] = wholes is not None, info.damage, n
        reads = [[int((k + 0.5) * n / 16) for k in range(16)], [n - 1], list(range(n)), [0, n // 2]]
        reads += [[k] for k in range(n)]
        for info_or_path in (info, path, *([wholes] if wholes else [])):
            for wanted in reads if info_or_path is info else reads[:3]:
                frames = attempt(lambda: read_frames(info_or_path, wanted))
                shown = found["checked" if info_or_path is wholes else "shown"]
                for index, frame in zip(wanted, [] if frames is None else frames, strict=False):
                    shown.setdefault(index, set()).add(read_number(frame.numpy()))
        found["plain"] = None if os.path.isdir(path) else plain(path)
    for kind in ("shown", "checked"):
        found[kind] = {index: sorted(seen) for index, seen in found[kind].items()}
    print(json.dumps(found), flush=True)
"""


@pytest.fixture(scope="module")
def results(damaged: list[Path]) -> list[dict]:
    command = [sys.executable, "-c", READER, str(LIMIT_S), *map(str, damaged)]
    options = {"cwd": Path(__file__).parent, "timeout": lab.LIMIT_S}
    done = subprocess.run(command, capture_output=True, text=True, **options)
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert done.returncode == 0, f"{lines[-1]['path']}: {done.stderr[-2000:]}"
    assert len(lines) == 2 * len(damaged)
    return lines[1::2]


def test_errors_name_the_file(results):
    assert len(results) >= 150
    # They are damaged in earnest, and yet not all beyond use.
    assert sum(bool(result["errors"]) for result in results) > len(results) / 2
    assert sum(bool(result["shown"]) for result in results) > len(results) / 2
    for result in results:
        for message, path in result["errors"]:
            assert message.startswith(result["path"]) and path == result["path"]


def not_right(result: dict, which: str) -> dict[int, list[int]]:
    """What was seen at a place that should show another number; -1 for what cannot be read."""
    first = 17 if "trimmed" in result["path"] else 0
    shown = {int(index): seen for index, seen in result[which].items()}
    return {index: seen for index, seen in shown.items() if seen != [index + first]}


def is_altered(result: dict) -> bool:
    return Path(result["path"]).name.startswith(("bits", "blank"))


def test_what_is_left_of_a_file_is_right(results):
    """Cut, or with another's header."""
    tried = [r for r in results if not is_altered(r)]
    assert len(tried) >= 80
    wrong = [(r["path"], not_right(r, w)) for r in tried for w in ("shown", "checked")]
    assert not [found for found in wrong if found[1]]


# The bounds leave room for other versions of FFmpeg: with twenty other seeds there were at most 3
# files of VP8 and 2 of HEVC, 2 others, and 7 that are refused.


def test_what_passes_the_check_is_right_or_sound_in_itself(results):
    passed = [r for r in results if is_altered(r) and r.get("whole")]
    assert len(passed) >= 15
    assert sum(r["n"] != COUNT for r in passed) <= 1, "frames are missing without a word"
    unnoticed = [r for r in passed if not_right(r, "checked") or not_right(r, "shown")]
    for result in unnoticed:
        if not result["path"].endswith("pictures"):  # each of which stands for itself
            assert result["plain"] is not None, result["path"]
            for index, seen in not_right(result, "checked").items():
                # What the file now holds, at the place where it holds it.
                assert seen == [result["plain"][index]], (result["path"], index)
    kinds = collections.Counter(Path(r["path"]).name.rpartition("_")[2] for r in unnoticed)
    others = sum(kinds.values()) - kinds["vp8.webm"] - kinds["hevc.mp4"]
    assert kinds["vp8.webm"] <= 4 and kinds["hevc.mp4"] <= 4 and others <= 3, kinds


def test_what_is_read_though_the_check_refuses_it_is_right_but_for_few(results):
    refused = [r for r in results if is_altered(r) and r.get("whole") is False]
    assert len(refused) >= 25
    wrong = [r for r in refused if not_right(r, "shown")]
    assert len(wrong) <= 10, [r["path"] for r in wrong]


def test_files_that_were_cut_are_known_to_be(results):
    """By probing alone, where the container says how long it is: all but a transport stream."""
    for result in results:
        name = Path(result["path"]).name
        if name.startswith("cut_0") and "n" in result and not name.endswith(".ts"):
            # The last bytes of an mp4 may be notes about it: then nothing that matters is lost.
            lost = not ("cut_0.99" in name and name.endswith(".mp4") and result["n"] == COUNT)
            assert bool(result["damage"]) == lost == (not result["whole"]), (name, result["damage"])
