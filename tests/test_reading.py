"""Reading frames: the right ones from every kind of file, through both decoders; clear errors."""

import importlib.machinery
import importlib.util
import os
import pickle
import runpy
import sys
import types
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from PIL import Image
from videos import (
    copy_packets,
    count_pictures,
    draw,
    mux,
    numbers,
    packets_of,
    stored,
    write_sound,
    write_video,
)

from blvnet_lab.data import (
    VideoReadError,
    check_video,
    decoding,
    decord_reader,
    probe_video,
    probing,
    read_frames,
    reading,
)
from blvnet_lab.data.decoding import VPX as VPX_DECODER
from blvnet_lab.data.decord_reader import read_with_decord
from blvnet_lab.data.probing import known_video, pack_info, unpack_info
from blvnet_lab.datasets.encoding import write_h264

HAS_DECORD = importlib.util.find_spec("decord") is not None
needs_decord = pytest.mark.skipif(not HAS_DECORD, reason="decord is not installed")

VPX = {"cpu-used": "5", "lag-in-frames": "16", "auto-alt-ref": "1"}


def x264(params: str, **options) -> dict:
    return {"codec_options": {"x264-params": params}} | options


def x265(params: str, **options) -> dict:
    params = f"log-level=none:pools=none:frame-threads=1:keyint=24:min-keyint=24:{params}"
    return {"codec": "libx265", "codec_options": {"x265-params": params}} | options


def vp9(**options) -> dict:
    return {"codec": "libvpx-vp9", "codec_options": VPX} | options


B, LATE = {"b_frames": 2}, {"times": range(125, 161)}
UNEVEN = np.cumsum(np.arange(48) % 4 + 1).tolist()
ALT_REF = {"cpu-used": "5", "lag-in-frames": "25", "auto-alt-ref": "6", "arnr-maxframes": "7"}

# name -> (how many frames, how to write them, is decord exact?)
GOOD = {
    "gop12.mp4": (48, B, True),
    "gop12.mkv": (48, B, True),
    "long_gop.mp4": (72, B | {"gop": 250}, True),
    "no_b.mp4": (48, {}, True),
    "one.mp4": (1, {}, True),
    "two.mp4": (2, {}, True),
    "three.mp4": (3, B, True),
    "narrow.mp4": (24, {"size": (64, 96)}, True),  # decord may fail
    "open_gop.mp4": (60, x264("open-gop=1:b-adapt=0:scenecut=0", gop=12, b_frames=3), False),
    "refresh.mp4": (60, x264("intra-refresh=1", gop=12), False),
    "hevc.mp4": (60, x265("open-gop=0", b_frames=3), False),
    "hevc_open_gop.mp4": (60, x265("open-gop=1", b_frames=3), False),
    "vp9.webm": (48, vp9(gop=24), True),
    "odd.webm": (24, vp9(size=(65, 99)), True),
    "odd.mp4": (24, {"size": (65, 99), "pix_fmt": "yuv444p"}, True),
    "vp8.webm": (48, {"codec": "libvpx"}, False),
    "mpeg4.avi": (48, {"codec": "mpeg4"}, False),
    "mpeg4_b.avi": (48, B | {"codec": "mpeg4"}, False),
    "h264_b.avi": (48, B, False),
    "mjpeg.avi": (24, {"codec": "mjpeg", "pix_fmt": "yuvj420p"}, False),
    "transport.ts": (48, B, False),
    "turned_90.mp4": (24, {"rotation": 90}, False),
    "turned_180.mp4": (24, {"rotation": 180}, False),
    "turned_270.mp4": (24, {"rotation": 270}, False),
    "late_start.mp4": (36, LATE, True),
    "late_start.mkv": (36, LATE, True),
    "uneven.mp4": (48, B | {"times": UNEVEN}, True),
    "pyramid.mp4": (
        60, x264("b-pyramid=normal:b-adapt=0:scenecut=0:ref=4", gop=30, b_frames=7), True,
    ),
    "hevc_pyramid.mp4": (60, x265("open-gop=0:b-pyramid=1", b_frames=4), False),
    "ten_bits.mp4": (36, B | {"pix_fmt": "yuv420p10le"}, True),
    "hevc_ten_bits.mp4": (36, x265("open-gop=0", pix_fmt="yuv420p10le"), False),
    "vp9_long.webm": (120, vp9(gop=128, codec_options=ALT_REF), True),
    "turned_90.webm": (24, vp9(rotation=90), False),
    "turned_180.webm": (24, vp9(rotation=180), False),
    "live.mkv": (36, B | {"container_options": {"live": "1"}}, True),
    # Cut by stream copy 17 frames in: 12 frames are gone, 5 are hidden by an edit list.
    "cut.mp4": (31, B, False),
    "cut_long_gop.mp4": (43, B | {"gop": 250}, False),
    "cut_late.mp4": (22, B | {"gop": 250}, False),
    "cut_at_keyframe.mp4": (36, B, True),
}  # fmt: skip
# The number that the first frame shows, where it is not 0: so many were cut off before it.
FIRST = {"cut.mp4": 17, "cut_long_gop.mp4": 17, "cut_late.mp4": 228, "cut_at_keyframe.mp4": 12}
if "libsvtav1" in av.codecs_available:
    AV1 = {"preset": "12", "svtav1-params": "keyint=24:lookahead=8"}
    GOOD["av1.mp4"] = (48, {"codec": "libsvtav1", "codec_options": AV1}, True)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("videos")


@pytest.fixture
def good(folder: Path):
    """Gives the path of a file of GOOD, which is made when first asked for."""

    def make(name: str) -> Path:
        path, (count, options, _), first = folder / name, GOOD[name], FIRST.get(name, 0)
        if not path.exists() and first:
            whole = write_video(folder / "whole.mp4", first + count, **options)
            copy_packets(whole, path, -first)
        elif not path.exists():
            write_video(path, count, **options)
        return path

    return make


def patterns(n: int) -> dict[str, list[int]]:
    return {
        "uniform": [(2 * k + 1) * n // 16 for k in range(8)],
        "all": list(range(n)),
        "reversed": list(range(n - 1, -1, -1)),
        "repeated": [n // 2, 0, n // 2, n - 1, n - 1],
        "last": [n - 1],
        "scattered": np.random.default_rng(0).integers(n, size=12).tolist(),
    }


# --- The right frames ---------------------------------------------------------------------------
@pytest.mark.parametrize("name", GOOD)
def test_exactly_the_frames_asked(name, good, monkeypatch):
    count, _, is_decord_exact = GOOD[name]
    path, first = good(name), FIRST.get(name, 0)
    decoded = count_pictures(probing, monkeypatch)
    info, checked = probe_video(path), check_video(path)
    assert (info.num_frames, info.damage, info.decord_exact) == (count, "", is_decord_exact)
    # All kinds but these are what people have: 240,000 videos are probed in minutes.
    is_counted = name in ("mpeg4_b.avi", "h264_b.avi", "transport.ts")
    assert info.whole == is_counted == (info.pts is None) == bool(decoded)
    assert checked == replace(info, whole=True)
    for pattern, wanted in patterns(count).items():
        for known in (path, info, checked) if pattern == "scattered" else (info,):
            frames = read_frames(known, wanted)
            assert frames.dtype == torch.uint8 and frames.permute(0, 2, 3, 1).is_contiguous()
            assert frames.shape == (len(wanted), 3, *info.size)
            assert numbers(frames) == [first + index for index in wanted], pattern
    packed = pack_info(checked)
    assert "\n" not in packed and str(path) not in packed
    assert unpack_info(path, packed) == checked
    assert len(packed) < (600 if name == "uneven.mp4" else 300)


def test_hidden_reference_frames_of_vp8_do_not_count(good, folder):
    rows = stored(good("vp8.webm"))
    for place in (5, 17):
        data, *others = rows[place]
        rows[place] = bytes([data[0] & ~16]) + data[1:], *others  # the bit for "show this frame"
    path = mux(good("vp8.webm"), folder / "vp8_hidden.webm", rows)
    shown = [number for number in range(48) if number not in (5, 17)]
    info = probe_video(path)
    assert info.num_frames == 46 and not info.decord_exact
    for wanted in patterns(46).values():
        assert numbers(read_frames(path, wanted)) == [shown[index] for index in wanted]


@pytest.mark.parametrize("frames_off", [-12, 12, 0.25])
def test_a_jump_to_the_wrong_place_is_noticed(frames_off, good, monkeypatch):
    """Files exist whose index lies: the keyframes are not where it says."""
    path = good("gop12.mp4")
    truth = probe_video(path)
    off = round(frames_off * (truth.pts[1] - truth.pts[0]))
    lie = replace(truth, keyframe_pts=tuple(pts + off for pts in truth.keyframe_pts))
    monkeypatch.setattr(reading, "probe_video", lambda path: lie)
    assert numbers(read_frames(path, [30, 5, 47])) == [30, 5, 47]


@pytest.mark.parametrize("name", ["gop12.mp4", "cut.mp4", "hevc.mp4"])
def test_pyav_jumps_to_the_keyframe_before(name, good, monkeypatch):
    decoded = count_pictures(reading, monkeypatch)
    count, first = GOOD[name][0], FIRST.get(name, 0)
    assert numbers(read_frames(good(name), [3, count - 1])) == [first + 3, first + count - 1]
    assert len(decoded) <= 4 + 12


def test_what_probing_tells(good):
    info = probe_video(str(good("gop12.mp4")))
    assert (info.num_frames, info.size, info.fps, info.codec) == (48, (64, 112), 25.0, "h264")
    assert "mp4" in info.container and info.seconds == pytest.approx(48 / 25)
    assert len(info.pts) == 48 and list(info.keyframe_pts) == list(info.pts[::12])
    assert info.decord_exact and not info.whole
    # The size is the displayed one: the stored pictures of a clip turned by 90 degrees are wide.
    tall = write_video(good("gop12.mp4").with_name("tall.mp4"), 3, size=(96, 64), rotation=90)
    assert probe_video(tall).size == (96, 64)


# --- Colours and sizes --------------------------------------------------------------------------
@pytest.mark.parametrize("name", ["gop12.mp4", "vp9.webm", "turned_270.mp4", "ten_bits.mp4"])
def test_colours_are_those_that_were_drawn(name, good):
    drawn = torch.from_numpy(draw(7, (64, 112))).permute(2, 0, 1)
    assert (read_frames(good(name), [7])[0].float() - drawn.float()).abs().mean() < 8


@needs_decord
@pytest.mark.parametrize("size", [None, (80, 56), (33, 129), (128, 224)])
@pytest.mark.parametrize("name", [name for name in GOOD if GOOD[name][-1]])
def test_both_decoders_give_the_same_bits(name, size, good):
    """Whatever the size, the number of bits and the sampling of colours."""
    info = check_video(good(name))
    for pattern, wanted in patterns(info.num_frames).items():
        if size and pattern in ("all", "reversed"):
            continue  # which take long, and know no size
        try:
            frames = read_with_decord(info, wanted, size)
        except VideoReadError as error:
            # Some widths decord cannot do, and it measures no length of a live recording.
            assert name in ("narrow.mp4", "live.mkv") and "decord fails" in str(error)
        else:
            assert torch.equal(frames, read_frames(info, wanted, size))


@pytest.mark.parametrize("name", ["gop12.mp4", "turned_90.mp4", "odd.webm", "mpeg4_b.avi"])
@pytest.mark.parametrize("size", [(80, 56), (33, 129), (128, 224)])
def test_resizing_while_decoding(name, size, good):
    frames = read_frames(good(name), [3, 11], size=size)
    assert frames.shape == (2, 3, *size) and numbers(frames) == [3, 11]


def test_pictures_that_change_size_on_the_way_come_in_the_first_size(folder):
    rows = []
    for start, size in ((0, (64, 112)), (480, (96, 160))):  # milliseconds
        part = write_video(folder / f"{start}.webm", 12, **vp9(size=size))
        rows += stored(part, start)
    frames = read_frames(mux(part, folder / "two_sizes.webm", rows), range(24))
    assert frames.shape == (24, 3, 64, 112)
    assert numbers(frames) == [*range(12), *range(12)]


# --- decord's traps -----------------------------------------------------------------------------
@pytest.mark.parametrize("name", [name for name in GOOD if not GOOD[name][-1]])
def test_decord_is_not_even_asked_for_kinds_that_it_is_not_exact_for(name, good, monkeypatch):
    monkeypatch.setattr(decord_reader, "import_decord", None)
    with pytest.raises(VideoReadError, match="not exact for its kind; use read_frames"):
        read_with_decord(good(name), [0])


@needs_decord
@pytest.mark.parametrize("fault", ["count", "times", "error"])
def test_decord_is_not_believed_if_it_sees_another_video(fault, good, monkeypatch):
    decord = decord_reader.import_decord()

    class Reader(decord.VideoReader):
        def __len__(self):
            return super().__len__() - (fault == "count")

        def get_frame_timestamp(self, indices):
            return super().get_frame_timestamp(indices)[:: -1 if fault == "times" else 1]

        def get_batch(self, indices):
            raise decord.DECORDError("made up")

    monkeypatch.setattr(decord, "VideoReader", Reader)
    words = "decord fails" if fault == "error" else "decord sees other frames"
    with pytest.raises(VideoReadError, match=words):
        read_with_decord(good("gop12.mp4"), [9, 2])


def test_decord_gets_no_damaged_file(good, folder):
    path = spoil(good("no_b.mp4"), folder / "not_for_decord.mp4", 24, 30)
    with pytest.raises(VideoReadError, match="frame 24 of its 48 cannot be decoded"):
        read_with_decord(path, [3])


@needs_decord
def test_a_bridge_that_the_user_set_is_left_alone(good):
    import decord

    path = good("gop12.mp4")
    for bridge, kind in (("torch", "Tensor"), ("native", "NDArray")):
        decord.bridge.set_bridge(bridge)
        assert numbers(read_with_decord(path, [5, 1])) == [5, 1]
        assert type(decord.VideoReader(str(path), num_threads=1)[0]).__name__ == kind


def test_importing_decord_looks_away_from_the_cuda_libraries(tmp_path, monkeypatch):
    """decord2 asks find_spec("nvidia") where they are; here it must learn nothing."""
    for name in [name for name in sys.modules if name.split(".")[0] == "decord"]:
        monkeypatch.delitem(sys.modules, name)
    nvidia = types.ModuleType("nvidia")
    nvidia.__spec__ = importlib.machinery.ModuleSpec("nvidia", None)
    monkeypatch.setitem(sys.modules, "nvidia", nvidia)
    (tmp_path / "decord.py").write_text("import importlib.util\nimportlib.util.find_spec('nvidia')")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ValueError, match=r"nvidia\.__spec__ is None"):
        decord_reader.import_decord.__wrapped__()
    assert sys.modules["nvidia"] is nvidia


# --- Broken files -------------------------------------------------------------------------------
BROKEN = {  # how it is made, and what is said of it
    "missing": (lambda path: None, "does not exist"),
    "folder": (Path.mkdir, "is a folder without numbered pictures"),
    "empty": (Path.touch, "0 bytes"),
    "text": (lambda path: path.write_text("<html>404 Not Found</html>" * 50), "cannot be opened"),
    "random": (
        lambda path: path.write_bytes(np.random.default_rng(0).bytes(20_000)), "cannot be opened"
    ),
    "sound": (write_sound, "no pictures"),
    "picture": (lambda path: Image.new("RGB", (112, 64)).save(path, "png"), "still picture"),
    "photo and its preview": (
        lambda path: Image.new("RGB", (112, 64)).save(path, "jpeg") or path.write_bytes(
            2 * path.read_bytes()), "still picture"
    ),
    "no_index": (lambda path: os.truncate(write_video(path, 24), 1000), "cut short"),
}  # fmt: skip


@pytest.mark.parametrize("kind", BROKEN)
def test_a_file_without_video_is_named(kind, tmp_path, capfd):
    make, words = BROKEN[kind]
    path = tmp_path / "a.mp4"
    make(path)
    for read in (probe_video, lambda path: read_frames(path, [0])):
        with pytest.raises(VideoReadError, match=words) as caught:
            read(path)
        assert str(path) in str(caught.value) and "; " in str(caught.value)
        assert caught.value.path == str(path)
    assert capfd.readouterr().err == ""


def spoil(path: Path, target: Path, first: int, last: int) -> Path:
    """Overwrites with zeros from the middle of one packet to the end of another."""
    packets, content = packets_of(path), bytearray(path.read_bytes())
    begin = packets[first].pos + packets[first].size // 2
    end = packets[last].pos + packets[last].size
    content[begin:end] = bytes(end - begin)
    target.write_bytes(content)
    return target


@pytest.mark.parametrize(
    "name, last, lost", [("no_b.mp4", 30, [25]), ("no_b.mp4", 24, [24, 25, 35]),
                         ("mpeg4.avi", 24, [24, 25, 35])],
)  # fmt: skip
def test_frames_that_cannot_be_decoded_or_are_built_on_damage(name, last, lost, good, folder):
    """The decoder patches up frame 24, and refuses 25 to 30; keyframes are at 24 and 36."""
    path = spoil(good(name), folder / f"damaged_{last}_{name}", 24, last)
    assert numbers(read_frames(path, [0, 23, 36, 47])) == [0, 23, 36, 47]
    for index in lost:
        with pytest.raises(VideoReadError, match=f"frame {index} of its 48 cannot") as caught:
            read_frames(path, [3, index])
    assert last == 24 or isinstance(caught.value.__cause__, av.error.FFmpegError)


def test_what_follows_a_lost_picture_is_not_given(good, monkeypatch):
    """Up to the next keyframe: it is built on the lost one, though no decoder complains of it."""
    path, decode = good("gop12.mp4"), reading.pictures
    lost = probe_video(path).pts[26]

    def losing(*args):
        return (found for found in decode(*args) if found[0].pts != lost)

    monkeypatch.setattr(reading, "pictures", losing)
    assert numbers(read_frames(path, [0, 25, 36, 47])) == [0, 25, 36, 47]
    for index in (26, 27, 35):
        with pytest.raises(VideoReadError, match=f"frame {index} of its 48 cannot"):
            read_frames(path, [index])


def flip(path: Path, target: Path, place: int, bit: int = 0) -> Path:
    content = bytearray(path.read_bytes())
    content[place] ^= 1 << bit
    target.write_bytes(content)
    return target


def test_the_checksums_of_matroska_are_checked(good, folder):
    """A flipped bit in a picture, of which the decoder may say nothing."""
    path = good("gop12.mkv")
    assert path.read_bytes().count(b"\xbf\x84") >= 4
    for packet in packets_of(path)[::7]:
        place = packet.pos + packet.size - 2
        damaged = flip(path, folder / "altered.mkv", place)
        with pytest.raises(VideoReadError, match="checksum"):
            read_frames(damaged, [0])


@pytest.mark.parametrize("bit", [0, 4, 7])
@pytest.mark.parametrize("part", ["size of a block", "name of a block", "name of a cluster"])
def test_a_webm_of_which_ffmpeg_passes_over_a_part(part, bit, folder):
    """Without a word it goes on with the next cluster, if there is one. WebM has no checksums."""
    path = write_video(
        folder / "parts.webm", 48, codec="libvpx-vp9", codec_options=VPX,
        container_options={"cluster_time_limit": "700"},
    )  # fmt: skip
    content = path.read_bytes()
    packet = bytes(packets_of(path)[20])
    # Name, size (of 1 byte or 2), 4 bytes with the track, the time and flags; then the picture.
    block = content.rindex(b"\xa3", 0, content.index(packet) - 4)
    cluster = content.rindex(b"\x1f\x43\xb6\x75", 0, block)
    places = {"size of a block": block + 1, "name of a block": block, "name of a cluster": cluster}
    damaged = flip(path, folder / "passed_over.webm", places[part], bit)
    assert len(packets_of(damaged)) < 48
    info = probe_video(damaged)
    assert 10 <= info.num_frames <= 21  # the altered one may be the last
    kept = range(min(info.num_frames, 20))
    assert numbers(read_frames(info, kept)) == [*kept]
    with pytest.raises(VideoReadError, match=r"damaged \(its parts do not fit together"):
        check_video(damaged)


@pytest.mark.parametrize("entry", [3, 10, 20])
@pytest.mark.parametrize("bit", [1, 2, 3])
def test_times_in_an_mp4_that_contradict_each_other(entry, bit, good, folder):
    """A frame is said to be shown too early or late, and would take another one's place."""
    path = good("gop12.mp4")
    table = path.read_bytes().index(b"ctts") + 12  # entries of a count and an offset
    damaged = flip(path, folder / "times.mp4", table + 8 * entry + 6, bit)
    with pytest.raises(VideoReadError, match="table of times"):
        probe_video(damaged)


def test_an_avi_whose_list_of_pictures_is_lost(good, folder):
    """FFmpeg finds pictures even so, but not the first one."""
    path, damaged = good("mpeg4.avi"), folder / "listless.avi"
    content = path.read_bytes()
    place = content.index(b"movi")
    damaged.write_bytes(content[: place - 8] + bytes(12) + content[place + 4 :])
    with pytest.raises(VideoReadError, match="beginning of its list of pictures is missing"):
        probe_video(damaged)


@pytest.mark.skipif(VPX_DECODER not in av.codecs_available, reason="PyAV without libvpx")
def test_damaged_vp9_is_noticed(good, folder):
    """Of files with one flipped bit in a picture, most that show another number are refused."""
    path = good("vp9.webm")
    packets = [(packet.pos, packet.size) for packet in packets_of(path)]
    rng, harmed, unnoticed = np.random.default_rng(3), 0, 0
    for _ in range(60):
        pos, size = packets[rng.integers(len(packets))]
        place = pos + int(rng.integers(4, size))
        damaged = flip(path, folder / "flipped.webm", place, int(rng.integers(8)))
        try:
            with av.open(damaged) as container:
                pictures = [picture.to_ndarray(format="rgb24") for picture in container.decode()]
        except av.error.FFmpegError:
            continue  # so bad that any decoder notices
        if numbers(torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2)) == [*range(48)]:
            continue
        harmed += 1
        try:
            check_video(damaged)
        except VideoReadError:
            continue
        unnoticed += 1
    assert harmed >= 10 and unnoticed <= 0.3 * harmed


def test_the_error_travels_between_processes(folder):
    with pytest.raises(VideoReadError) as caught:
        probe_video(folder / "nowhere.mp4")
    copy = pickle.loads(pickle.dumps(caught.value))
    assert (str(copy), copy.path) == (str(caught.value), str(folder / "nowhere.mp4"))
    assert isinstance(VideoReadError(str(copy)), OSError)  # as a data loader builds it


# --- Keeping what was found ---------------------------------------------------------------------
def test_a_file_that_changed_is_looked_at_again(folder, monkeypatch):
    path = write_video(folder / "changing.mp4", 20)
    info = check_video(path)
    packed = pack_info(info)
    monkeypatch.setattr(probing, "probe_video", None)
    assert known_video(path, packed) == info
    monkeypatch.undo()
    write_video(path, 30, gop=250, times=range(3, 93, 3))
    assert numbers(read_frames(known_video(path, packed), [29])) == [29]
    with pytest.raises(VideoReadError, match=r"changing\.mp4"):  # with what was known before
        read_frames(info, [5, 19])
    path.unlink()
    for read in (lambda: known_video(path, packed), lambda: read_frames(info, [0])):
        with pytest.raises(VideoReadError, match="does not exist; check the path"):
            read()


@pytest.mark.parametrize("text", ["", "[1]", "{not json", '{"num_frames": 3}', '{"pts": 1}'])
def test_what_nobody_packed(text, good):
    assert known_video(good("one.mp4"), text) == probe_video(good("one.mp4"))


# --- Folders of JPEGs ---------------------------------------------------------------------------
def jpegs(path: Path, count: int = 3) -> Path:
    path.mkdir()
    for number in range(count):
        Image.fromarray(draw(number, (96, 160))).save(path / f"{number + 1:05d}.jpg", quality=90)
    return path


def test_a_folder_of_pictures_is_a_video(folder):
    path = jpegs(folder / "78687", 12)
    # Names that are no pictures of the series are left aside.
    others = ("0000².jpg", "00004.jpeg", "00006.png", "x.jpg", "._00001.jpg", "flow_x_00001.jpg")
    for name in (*others, "notes.txt"):
        (path / name).write_bytes((path / "00001.jpg").read_bytes())
    info = probe_video(path)
    assert (info.num_frames, info.size, info.fps, info.damage) == (12, (96, 160), 0.0, "")
    assert numbers(read_frames(path, [3, 3, 11, 0])) == [3, 3, 11, 0]
    small = read_frames(info, [7], size=(24, 40))
    assert small.shape == (1, 3, 24, 40) and numbers(small) == [7]
    assert check_video(path).whole
    assert known_video(path, pack_info(info)) == info
    with pytest.raises(IndexError, match="12 frames"):
        read_frames(path, [12])
    # libjpeg (through Pillow) enlarges chroma in another way at the edges of the cells.
    with Image.open(path / "00002.jpg") as picture:
        expected = np.asarray(picture.convert("RGB")).astype(int)
    ours = read_frames(path, [1])[0].permute(1, 2, 0).numpy().astype(int)
    assert np.abs(ours - expected).mean() < 3


@pytest.mark.parametrize(
    "pattern, start",
    [
        ("%05d.jpg", 0), ("%06d.jpg", 1), ("%d.jpg", 0), ("%d.JPG", 1), ("img_%05d.jpg", 1),
        ("image_%04d.jpeg", 0), ("v1_g2 %03d.jpg", 1), ("%010d.png", 0),
    ],
)  # fmt: skip
def test_pictures_are_numbered_in_many_ways(pattern, start, tmp_path):
    """Twelve pictures, so that 10 follows 9 and not 1; beside them what else lies there."""
    numbers_given = range(min(start, 1), 12 + min(start, 1))
    for number in numbers_given:
        picture = Image.fromarray(draw(number, (48, 80)))
        picture.save(tmp_path / (pattern % number), quality=95)
        if "v1" not in pattern:
            picture.save(tmp_path / f"flow_x_{number:05d}.jpg")
    info = probe_video(tmp_path)
    assert (info.num_frames, check_video(info).whole) == (12, True)
    assert numbers(read_frames(info, range(12))) == [*numbers_given]
    assert unpack_info(tmp_path, pack_info(info)) == info
    (tmp_path / (pattern % 7)).unlink()
    with pytest.raises(VideoReadError, match="is missing") as caught:
        probe_video(tmp_path)
    assert pattern % 7 in str(caught.value)


@pytest.mark.parametrize(
    "names, words",
    [
        (["00002.jpg", "00003.jpg"], "00001.jpg is missing; number them from .* or name a video"),
        (["a1.jpg", "b1.jpg"], r"several series of pictures: a\*.jpg, b\*.jpg"),
        (["1.jpg", "01.jpg"], "2.jpg is missing|02.jpg is missing"),
        (["1.jpg", "02.jpg"], "2.jpg is missing"),
        (["00000000000000001690000000.jpg"], "00000000000000000000000001.jpg is missing"),
    ],
)
def test_folders_of_pictures_that_are_refused(names, words, tmp_path):
    for name in names:
        Image.fromarray(draw(3, (48, 80))).save(tmp_path / name)
    with pytest.raises(VideoReadError, match=words):
        probe_video(tmp_path)


@pytest.mark.parametrize("size", [b"\xff\xff\xff\xff", b"\x30\x00\x30\x00"])
def test_a_picture_that_claims_a_huge_size(size, tmp_path):
    """Not a decompression bomb, and not an error of another type."""
    path = jpegs(tmp_path / "huge")
    content = (path / "00002.jpg").read_bytes()
    place = content.index(b"\xff\xc0") + 5
    (path / "00002.jpg").write_bytes(content[:place] + size + content[place + 4 :])
    assert numbers(read_frames(path, [0, 2])) == [0, 2]
    with pytest.raises(VideoReadError, match=r"00002\.jpg is damaged"):
        read_frames(path, [1])


@pytest.mark.parametrize("size", [0, 700])
@pytest.mark.parametrize("name", ["00001.jpg", "00003.jpg"])
def test_a_picture_that_is_damaged(name, size, tmp_path):
    path = jpegs(tmp_path / "50%d_none")
    os.truncate(path / name, size)
    with pytest.raises(VideoReadError, match=f"{name} is damaged"):
        check_video(path)


def test_a_picture_of_another_size_and_a_grey_one(tmp_path):
    path = jpegs(tmp_path / "mixed")
    Image.fromarray(draw(1, (96, 160))).convert("L").save(path / "00002.jpg")
    assert numbers(check_video(path) and read_frames(path, [0, 1, 2])) == [0, -1, 2]
    Image.fromarray(draw(1, (48, 80))).save(path / "00002.jpg")
    with pytest.raises(VideoReadError, match="frame 1 is 48 x 80 and the first one 96 x 160"):
        check_video(path)


# --- Indices and sizes that make no sense -------------------------------------------------------
@pytest.mark.parametrize("outside", [[48], [-1], [0, 47, 48], [10**6]])
def test_indices_outside_the_video(outside, good):
    with pytest.raises(IndexError, match=r"gop12.mp4.*48 frames.*0 to 47") as caught:
        read_frames(good("gop12.mp4"), outside)
    assert str(outside[-1]) in str(caught.value)


def test_kinds_of_indices_and_paths(good):
    path = good("gop12.mp4")
    kinds = [
        [4, 2], (4, 2), range(4, 1, -2), np.array([4, 2]), np.array([4, 2], np.uint8),
        torch.tensor([4, 2]), torch.tensor([4, 2], dtype=torch.int32), [np.int64(4), 2],
    ]  # fmt: skip
    for indices in kinds:
        assert numbers(read_frames(path, indices)) == [4, 2]
    assert numbers(read_frames(os.fsencode(path), [7])) == [7]
    for unfit in ([], [0.0, 1.0], torch.tensor([0.5]), np.array([True]), 3, torch.tensor(3), ["1"]):
        with pytest.raises(TypeError, match=r"integers, such as \[0, 5, 10\]"):
            read_frames(path, unfit)


NAMES = "12:30.mp4 concat:gop12.mp4 %03d.mp4 -i.mp4 pipe:.mp4 file:a.mp4 a?b=c#d.mp4".split()


@pytest.mark.parametrize("name", NAMES)
def test_a_name_that_looks_like_something_else_is_a_path(name, good, folder, monkeypatch):
    """Absolute and relative, for every reader, and on writing. `concat:a.mp4` would read a.mp4."""
    monkeypatch.chdir(folder)
    good("gop12.mp4")
    write_video(folder / "other.mp4", 6).rename(name)
    for path in (name, folder / name):
        info = check_video(path)
        assert numbers(read_frames(path, [3, 1])) == [3, 1]
        if HAS_DECORD:
            assert numbers(read_with_decord(info, range(6))) == [*range(6)]
    Path(name).unlink()
    write_h264(name, [draw(number, (64, 112)) for number in range(4)], 25, gop=4, x264="qp=10")
    assert numbers(read_frames(folder / name, range(4))) == [*range(4)]


def test_a_title_that_is_not_utf8(good, folder):
    """Here the name of the program that wrote the file."""
    named = folder / "named.mp4"
    named.write_bytes(good("no_b.mp4").read_bytes().replace(b"Lavf", b"L\xfcvf"))
    with pytest.raises(UnicodeDecodeError) if decoding.LENIENT else nullcontext():
        av.open(named)
    assert probe_video(named).num_frames == 48


@pytest.mark.parametrize("version, takes", [("18.1.0", True), ("19.0.2", False), ("20.0", False)])
def test_only_a_pyav_that_knows_it_is_asked_to_overlook_metadata(version, takes, monkeypatch):
    monkeypatch.setattr(av, "__version__", version)
    assert ("metadata_errors" in runpy.run_path(decoding.__file__)["LENIENT"]) is takes
