"""Kinds of files that are unusual and valid: read as FFmpeg's program shows them.

Each is made here, mostly by taking a plain file's packets apart. The frames show their numbers, so
that the right answer is known from how the file was made.
"""

import gc
import struct
import types
from collections.abc import Iterable
from contextlib import ExitStack
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from av.stream import Disposition
from PIL import Image, features
from videos import draw, mux, numbers, packets_of, stored, write_sound, write_video

from blvnet_lab.data import VideoReadError, check_video, probe_video, probing, read_frames
from blvnet_lab.data.decoding import UPRIGHT, ToRGB, slice_of
from blvnet_lab.data.probing import pack_info, part_of, unpack_info
from blvnet_lab.datasets.encoding import showing_of

SIZE = (64, 112)
CLOSED = {"x264-params": "scenecut=0:b-adapt=0"}
OPEN = {"x264-params": "open-gop=1:scenecut=0:b-adapt=0"}
X265 = "log-level=none:pools=none:frame-threads=1:keyint=12:min-keyint=12:scenecut=0"
VPX = {"cpu-used": "5", "lag-in-frames": "16", "auto-alt-ref": "1"}


def shows(path: Path, expected: Iterable[int]) -> None:
    """All frames, some of them, and after a check: the same right numbers."""
    expected = list(expected)
    info = probe_video(path)
    assert (info.num_frames, info.damage) == (len(expected), "")
    assert unpack_info(path, pack_info(info)) == info
    for known in (info, check_video(info)):
        some = [len(expected) - 1, len(expected) // 2, 0, len(expected) // 2]
        for wanted in (range(len(expected)), some):
            assert numbers(read_frames(known, wanted)) == [expected[k] for k in wanted]


def cut(whole: Path, target: Path, first: int, last: int | None = None) -> Path:
    """Packets `first` to `last`, as they are stored, moved to begin at 0."""
    begin = packets_of(whole)[first]
    start = begin.pts if begin.dts is None else begin.dts
    return mux(whole, target, stored(whole, -start)[first:last])


# --- Which way up -------------------------------------------------------------------------------
@pytest.mark.parametrize("mirrored", [False, True])
@pytest.mark.parametrize("degrees", [0, 90, 180, 270])
@pytest.mark.parametrize("suffix, codec", [("mp4", "libx264"), ("mov", "mpeg4"), ("mkv", "libx264"),
                                           ("webm", "libvpx-vp9")])  # fmt: skip
def test_all_eight_orientations(suffix, codec, degrees, mirrored, tmp_path):
    """As the matrix asks for: turned, and then mirrored, as phones write it for selfies."""
    path = write_video(
        tmp_path / f"a.{suffix}", 14, codec=codec, rotation=degrees, mirrored=mirrored,
        codec_options=VPX if codec == "libvpx-vp9" else {},
    )  # fmt: skip
    shows(path, range(14))
    assert probe_video(path).size == SIZE
    assert numbers(read_frames(path, [5, 9], size=(40, 90))) == [5, 9]


@pytest.mark.parametrize(
    "matrix, expected",
    [
        ((1, 0, 0, 1), UPRIGHT), ((0, 0, 0, 0), UPRIGHT),
        ((0, 2, -2, 0), (0, 1, -1, 0)), ((-1, 0.01, 0.01, 1), (-1, 0, 0, 1)),  # not quite straight
        ((0.866, 0.5, -0.5, 0.866), None),
    ],
)  # fmt: skip
def test_orientations_that_say_little_or_too_much(matrix, expected, tmp_path):
    path = write_video(tmp_path / "a.mp4", 2)
    content = bytearray(path.read_bytes())
    # Nine numbers, of 16 bits before the point and 16 after.
    a, b, c, d = (round(value * 65536) for value in matrix)
    numbers = a, b, 0, c, d, 0, 0, 0, 1 << 30
    struct.pack_into(">9i", content, content.index(b"tkhd") + 44, *numbers)
    path.write_bytes(content)
    if expected is not None:
        assert probe_video(path).orientation == expected
    else:
        with pytest.raises(VideoReadError, match=r"a\.mp4.*shown askew.*again upright"):
            probe_video(path)


def filtered(source: Path, target: Path, options: str, encoder: str = "") -> Path:
    """Copies a video through one of FFmpeg's filters of packets; for AV1 name its encoder."""
    with av.open(source) as file, av.open(target, "w") as out:
        if encoder:
            stream = out.add_stream(encoder, rate=25, height=SIZE[0], width=SIZE[1])
            stream.codec_context.time_base = Fraction(1, 25)
        else:
            stream = out.add_stream_from_template(file.streams.video[0])
        changing, last = av.BitStreamFilterContext(options, file.streams.video[0], stream), -1
        for packet in file.demux(video=0):
            for changed in changing.filter(packet if packet.size else None):
                last = max(last + 1, changed.dts)  # in mp4 no two have the same time
                changed.pts, changed.dts, changed.stream = last, last, stream
                out.mux(changed)
    return target


@pytest.mark.parametrize("degrees", [90, 180, 270])
def test_an_orientation_within_the_pictures(degrees, tmp_path):
    """H.264 may say it itself, and only once: it holds for all that follow."""
    plain = write_video(tmp_path / "plain.mp4", 20, rotation=degrees)
    plain = mux(plain, tmp_path / "unsaid.mp4", stored(plain))
    options = f"h264_metadata=display_orientation=insert:rotate={degrees}"
    path = filtered(plain, tmp_path / "sei.mp4", options)
    shows(path, range(20))
    assert not probe_video(path).decord_exact, "decord looks at the container only"


def test_each_picture_of_a_folder_says_how_it_is_turned(tmp_path):
    """As a camera writes them that is held sideways, in EXIF's eight ways."""
    undo = [
        lambda a: a, lambda a: a[:, ::-1], lambda a: np.rot90(a, 2), lambda a: a[::-1],
        lambda a: a.transpose(1, 0, 2), lambda a: np.rot90(a, 1),
        lambda a: np.rot90(a.transpose(1, 0, 2), 2), lambda a: np.rot90(a, -1),
    ]  # fmt: skip
    for number in range(16):
        picture = Image.fromarray(np.ascontiguousarray(undo[number % 8](draw(number, SIZE))))
        tags = Image.Exif()
        tags[0x0112] = 1 + number % 8
        picture.save(tmp_path / f"{number:03d}.jpg", exif=tags, quality=95)
    shows(tmp_path, range(16))


# --- Raw pictures and palettes ------------------------------------------------------------------
@pytest.mark.parametrize("suffix", ["avi", "mov"])
def test_raw_pictures_with_a_palette(suffix, tmp_path):
    """FFmpeg hands the palette over once, at the beginning: a jump would lose it."""
    palette, path = np.zeros((256, 4), np.uint8), tmp_path / f"palette.{suffix}"
    palette[:3] = (255, 25, 25, 25), (255, 230, 230, 230), (255, 210, 120, 40)
    with av.open(path, "w") as out:
        stream = out.add_stream("rawvideo", rate=25)
        stream.height, stream.width, stream.pix_fmt = *SIZE, "pal8"
        for number in range(12):
            colours = draw(number, SIZE)[..., None, :].astype(int)
            nearest = np.abs(colours - palette[:3, 1:]).sum(-1).argmin(-1).astype(np.uint8)
            frame = av.VideoFrame.from_ndarray((nearest, palette), format="pal8")
            frame.pts, frame.time_base = number, Fraction(1, 25)
            out.mux(stream.encode(frame))
    shows(path, range(12))
    assert np.array_equal(read_frames(path, [11])[0].permute(1, 2, 0), draw(11, SIZE))


# --- Decoders that say nothing of keyframes -----------------------------------------------------
NO_KEYS = {
    "qtrle": ("mov", "rgb24"), "svq1": ("mov", "yuv410p"), "msvideo1": ("avi", "rgb555le"),
    "rpza": ("mov", "rgb555le"), "cfhd": ("mov", "yuv422p10le"), "flashsv": ("flv", "bgr24"),
    "ffv1": ("mkv", "yuv420p"), "huffyuv": ("avi", "yuv422p"), "png": ("mov", "rgb24"),
    "prores": ("mov", "yuv422p10le"), "utvideo": ("avi", "yuv420p"),
    "mjpeg": ("mov mjpeg", "yuvj420p"),
    "mpeg2video": ("mpg", "yuv420p"), "mpeg1video": ("ts", "yuv420p"), "wmv2": ("asf", "yuv420p"),
    "flv": ("flv", "yuv420p"), "gif": ("gif", "rgb8"), "apng": ("apng", "rgb24"),
    "tiff": ("mov", "rgb24"), "libvpx": ("ivf", "yuv420p"),
}  # fmt: skip


@pytest.mark.parametrize("codec", [name for name in NO_KEYS if name in av.codecs_available])
def test_decoders_and_containers_of_all_kinds(codec, tmp_path):
    suffixes, pix_fmt = NO_KEYS[codec]
    options = {"size": (96, 160), "aspect": Fraction(1)}  # with it, JPEG gets its usual header
    for suffix in suffixes.split():
        path = write_video(tmp_path / f"a.{suffix}", 20, codec=codec, pix_fmt=pix_fmt, **options)
        shows(path, range(20))


@pytest.mark.parametrize("begin, before, end", [
    (b"", b"--x\r\nContent-type: image/jpeg\r\nContent-length: %d\r\n\r\n", b"--x--\r\n"),
    (b"", b"--x\r\nContent-type: image/jpeg\r\n\r\n", b"--x\r\n"),
    (struct.pack(">2s6sII4sIIHH4s4s", b"\0\n", b"SMJPEG", 0, 800, b"_VID", 12, 20, 112, 64, b"JFIF",
                 b"HEND"), b"vidD", b"DONE"),
])  # fmt: skip
def test_what_network_cameras_send(begin, before, end, tmp_path):
    """JPEG after JPEG, each after a few words (mpjpeg) or its time (smjpeg), and a mark at the end.
    Cut within a picture it is cut short."""
    path, pictures = tmp_path / "camera.bin", []
    for place, packet in enumerate(
        packets_of(write_video(tmp_path / "a.avi", 20, codec="mjpeg", pix_fmt="yuvj420p"))
    ):
        data = bytes(packet)
        head = before + struct.pack(">II", 40 * place, len(data)) if begin else before
        head = head.replace(b"%d", b"%d" % len(data))
        pictures.append(head + data + b"\r\n" * (not begin))
    content = begin + b"".join(pictures) + end
    path.write_bytes(content)
    shows(path, range(20))
    path.write_bytes(content[:-300])
    assert (probe_video(path).num_frames, probe_video(path).damage[:9]) == (19, "cut short")


@pytest.mark.parametrize("suffix, is_read", [
    ("webp", "webp_anim" in av.formats_available), ("avif", features.check("avif")),
    ("gif", True), ("apng", True),
])  # fmt: skip
def test_animated_pictures_are_a_video(suffix, is_read, tmp_path):
    """WebP's with PyAV 19; and an AVIF's first picture comes a second time, before them all."""
    if not is_read:
        pytest.skip("this version of PyAV or Pillow does not know it")
    pictures = [Image.fromarray(draw(number, SIZE)) for number in range(9)]
    path, kind = tmp_path / f"a.{suffix}", {"format": "PNG"} if suffix == "apng" else {}
    options = {"lossless": True} if suffix == "webp" else {}
    pictures[0].save(
        path, save_all=True, append_images=pictures[1:], duration=80, **options, **kind
    )
    shows(path, range(9))
    assert probe_video(path).fps == pytest.approx(12.5)


@pytest.mark.parametrize("codec", ["mpeg1video", "mpeg2video"])
def test_pictures_that_are_padded_to_a_constant_rate(codec, tmp_path):
    """As on Video CDs and DVDs; and in the sectors of a Video CD, as Windows copies them."""
    rate = {key: "1000000" for key in ("b", "minrate", "maxrate", "bufsize")}
    path = write_video(tmp_path / "a.mpg", 24, codec=codec, codec_options=rate,
                       container_options={"packetsize": "2324"})  # fmt: skip
    shows(path, range(24))
    content = path.read_bytes()
    parts = [content[k : k + 2324] for k in range(0, len(content), 2324)]
    sectors = b"".join(bytes([0, *[255] * 10, *[0] * 13]) + part + bytes(4) for part in parts)
    begin = struct.pack("<4sI8sI16x4sI", b"RIFF", len(sectors) + 36, b"CDXAfmt ", 16, b"data",
                        len(sectors))  # fmt: skip
    path.with_suffix(".dat").write_bytes(begin + sectors)
    shows(path.with_suffix(".dat"), range(24))


# --- Cut and joined without encoding again ------------------------------------------------------
CUT = {
    "h264": {"b_frames": 2, "codec_options": CLOSED},
    "h264_open": {"b_frames": 3, "codec_options": OPEN},
    "hevc_open": {
        "codec": "libx265", "b_frames": 3, "codec_options": {"x265-params": X265 + ":open-gop=1"},
    },
    "mpeg4": {"codec": "mpeg4", "b_frames": 2},
    "mpeg2": {"codec": "mpeg2video", "b_frames": 2},
    "vp9": {"codec": "libvpx-vp9", "codec_options": VPX},
    "vp8": {"codec": "libvpx", "codec_options": VPX},
}  # fmt: skip


@pytest.mark.parametrize("suffix", ["mp4", "mkv", "avi"])
@pytest.mark.parametrize("codec", CUT)
def test_cuts(codec, suffix, tmp_path):
    """From a keyframe into the last group: the frames that are shown before the first keyframe, of
    an open group, are lost; and of the last group those that were to be decoded after the cut.
    From between keyframes: it begins with the next. And a bare stream, which has no times: copied
    into a container, it has those of decoding."""
    if codec in ("vp8", "vp9") and suffix == "mp4":
        pytest.skip("mp4 does not hold VP8, and its writer gives the last VP9 frame no time")
    if suffix == "avi" and codec not in ("h264", "h264_open", "mpeg4"):
        pytest.skip("nobody writes such an avi")
    source = "ts" if suffix == "avi" and "h264" in codec else suffix  # to an avi copied as it is
    whole = write_video(tmp_path / f"whole.{source}", 60, gop=12, **CUT[codec])
    packets = packets_of(whole)
    first = [place for place, packet in enumerate(packets) if packet.is_keyframe][2]
    times = sorted(packet.pts for packet in packets)
    kept = [p.pts for p in packets[first:-5] if p.pts >= packets[first].pts]
    path = cut(whole, tmp_path / f"cut.{suffix}", first, -5)
    shows(path, sorted(times.index(pts) for pts in kept))
    if suffix == "mkv" and codec not in ("mpeg4", "vp8"):
        path = cut(whole, tmp_path / "between.mkv", first - 7)
        shows(path, range(times.index(packets[first].pts), 60))
    if "vp" not in codec:
        rows = [(data, k, k, is_key) for k, (data, *_, is_key) in enumerate(stored(whole))]
        shows(mux(whole, tmp_path / f"bare.{suffix}", rows, Fraction(1, 25)), range(60))


@pytest.mark.parametrize("first", [1, 2, 3])
@pytest.mark.parametrize("suffix", ["mp4", "mkv", "avi"])
@pytest.mark.parametrize(
    "params",
    ["open-gop=1:b-pyramid=none:b-adapt=0", "open-gop=1:tff=1", "intra-refresh=1:b-adapt=0"],
)
def test_cuts_of_h264_that_refer_to_what_is_gone(params, suffix, first, tmp_path):
    """With orders for lost pictures, or growing whole bit by bit: shown is what FFmpeg shows."""
    options = {"x264-params": params + ":scenecut=0"}
    whole = write_video(tmp_path / "whole.ts", 60, b_frames=2, codec_options=options)
    keyframes = [place for place, packet in enumerate(packets_of(whole)) if packet.is_keyframe]
    path = cut(whole, tmp_path / f"cut.{suffix}", keyframes[first])
    with av.open(path) as file:
        shown = [frame.to_ndarray(format="rgb24") for frame in file.decode(video=0)]
    expected = numbers(np.stack(shown).transpose(0, 3, 1, 2))
    assert expected == [*range(expected[0], 60)] and 60 - len(expected) < 12 * first + 16
    shows(path, expected)


def test_the_kind_of_a_picture_of_h264_however_it_is_stored():
    """After its length in 4 bytes or a start code; of shorter lengths nothing is said."""
    idr, inner, last = b"\x65\x88" + bytes(300), b"\x61\xb0\1", b"\1\x9e" + b"x" * 300
    for part, expected in [(idr, ("", True)), (inner, ("I", True)), (last, ("B", False))]:
        for before in (len(part).to_bytes(4), b"\0\0\0\2\x09\xf0" + len(part).to_bytes(4),
                       b"\0\0\0\1", b"\0\0\0\1\x09\xf0\0\0\1"):  # fmt: skip
            assert slice_of(av.Packet(before + part)) == expected
        assert slice_of(av.Packet(len(part).to_bytes(2) + part)) == ("", False)


@pytest.mark.parametrize("suffix", ["mp4", "avi"])
def test_damage_in_a_cut_is_noticed(suffix, tmp_path):
    whole = write_video(tmp_path / "whole.ts", 60, gop=12, **CUT["h264_open"])
    path = cut(whole, tmp_path / f"cut.{suffix}", 24)
    packet, content = packets_of(path)[16], bytearray(path.read_bytes())
    begin = packet.pos + packet.size // 2
    content[begin : begin + 30] = bytes(30)
    path.write_bytes(content)
    with pytest.raises(VideoReadError, match="damaged"):
        check_video(path)


def test_a_broadcast_that_was_tuned_in_to_and_another_after_it(tmp_path):
    content = write_video(tmp_path / "a.ts", 60, b_frames=2, codec_options=CLOSED).read_bytes()
    other = write_video(tmp_path / "b.ts", 30, b_frames=2, codec_options=CLOSED).read_bytes()
    middle = 188 * (len(content) // 188 // 3)
    (tmp_path / "tuned.ts").write_bytes(content[middle:])
    shows(tmp_path / "tuned.ts", range(24, 60))
    (tmp_path / "joined.ts").write_bytes(content + other)
    shows(tmp_path / "joined.ts", [*range(60), *range(30)])
    assert probe_video(tmp_path / "joined.ts").fps == 25
    # Where packets are lost amid a group, what follows is built on pictures that are not there.
    lost = 188 * (len(content) // 188 // 2)
    (tmp_path / "lossy.ts").write_bytes(content[:lost] + content[lost + 3 * 188 :])
    with pytest.raises(VideoReadError, match="damaged"):
        check_video(tmp_path / "lossy.ts")


@pytest.mark.parametrize("options", [CLOSED, OPEN])
def test_an_edit_list_of_two_parts(options, tmp_path):
    """Its middle was cut out, by a list; the frames that it skips are in the file, and decoded."""
    whole = write_video(tmp_path / "whole.mp4", 60, b_frames=2, codec_options=options)
    content = bytearray(whole.read_bytes())

    def number(box: bytes, offset: int) -> int:
        return struct.unpack_from(">I", content, content.index(box) + offset)[0]

    movie, media = number(b"mvhd", 16), number(b"mdhd", 16)
    place = content.index(b"elst") - 4
    old_size, begin = number(b"elst", -4), number(b"elst", 16)
    parts = [(movie * 20 // 25, begin), (movie * 20 // 25, begin + media * 40 // 25)]
    entries = b"".join(struct.pack(">IiI", *part, 1 << 16) for part in parts)
    content[place : place + old_size] = struct.pack(">I4sII", 40, b"elst", 0, 2) + entries
    for box in (b"edts", b"trak", b"moov"):
        at = content.rindex(box, 0, place) - 4
        size = struct.unpack_from(">I", content, at)[0]
        struct.pack_into(">I", content, at, size + 40 - old_size)
    path = tmp_path / "two_parts.mp4"
    path.write_bytes(content)
    shows(path, [*range(20), *range(40, 60)])


def test_a_fragment_whose_times_are_uneven_though_its_decoding_is_not(tmp_path):
    """FFmpeg writes them so where a fragment begins; a table for all of an mp4 would be altered."""
    plain = write_video(tmp_path / "a.mp4", 24)
    rows = [(data, pts - 400 * (k % 12 == 1), dts - 512, is_key)
            for k, (data, pts, dts, is_key) in enumerate(stored(plain, 512))]  # fmt: skip
    live = {"flags": "frag_keyframe+empty_moov"}
    shows(mux(plain, tmp_path / "live.mp4", rows, **live), range(24))
    with pytest.raises(VideoReadError, match="table of times was altered"):
        probe_video(mux(plain, tmp_path / "altered.mp4", rows))
    # Of MPEG-2 frames are counted, and FFmpeg writes such tables when it cuts it into an mp4.
    plain = write_video(tmp_path / "b.mp4", 24, codec="mpeg2video")
    rows = [(data, *times) for (data, *_), (_, *times) in zip(stored(plain), rows, strict=True)]
    shows(mux(plain, tmp_path / "counted.mp4", rows), range(24))


# --- Packets that give no frame of their own ----------------------------------------------------
def vop(data: bytes) -> int:
    """Where MPEG-4's picture begins."""
    return data.index(b"\0\0\1\xb6")


NOT_CODED = b"\0\0\1\xb6\x50\x43"  # a picture "as before": of kind P, and nothing of it coded


@pytest.mark.parametrize("suffix", ["avi", "mp4"])
def test_dropped_frames_of_mpeg4_are_not_shown(suffix, tmp_path):
    plain = write_video(tmp_path / "plain.avi", 30, codec="mpeg4")
    rows = []
    for place, (data, *_, is_key) in enumerate(stored(plain)):
        rows.append((data, len(rows), len(rows), is_key))
        if place in (5, 19):
            rows.append((NOT_CODED, len(rows), len(rows), False))
    shows(mux(plain, tmp_path / f"dropped.{suffix}", rows, Fraction(1, 25)), range(30))


@pytest.mark.parametrize("b_frames", [1, 2])
def test_packed_b_frames_with_a_placeholder_at_the_end(b_frames, tmp_path):
    """One packet holds a picture and the B-frame after it; one of a few bytes makes up for it."""
    plain = write_video(tmp_path / "plain.avi", 34, codec="mpeg4", gop=300, b_frames=b_frames,
                        codec_options={"b_strategy": "0"})  # fmt: skip
    datas = [bytes(packet) for packet in packets_of(plain)]
    says = b"\0\0\1\xb2DivX503b1393p"
    rows = [datas[0][: vop(datas[0])] + says + datas[0][vop(datas[0]) :]]
    is_b = [data[vop(data) + 4] >> 6 == 2 for data in datas] + [False]
    for place in range(1, len(datas)):
        own, after = b"" if is_b[place] else datas[place], is_b[place + 1] and datas[place + 1]
        rows.append(own + (after or b"") or NOT_CODED)
    rows = [(data, place, place, place == 0) for place, data in enumerate([*rows, NOT_CODED])]
    path = mux(plain, tmp_path / "packed.avi", rows, Fraction(1, 25))
    shows(path, range(34))
    part = part_of(probe_video(path), (0.2, 0.4))  # the first frame comes after 0.04 s
    assert numbers(read_frames(part, range(part.num_frames))) == [4, 5, 6, 7, 8]


def test_hidden_frames_of_vp9_in_packets_of_their_own(tmp_path):
    """Each keyframe but the first twice, before it without its bit that says "show this".

    The bit is cleared in the file, since its writer would join such a packet with the next.
    """
    plain = write_video(tmp_path / "a.mkv", 30, codec="libvpx-vp9", gop=12, codec_options=VPX)
    rows, keyframes = [], [data for data, *_, is_key in stored(plain)[1:] if is_key]
    for data, pts, _, is_key in stored(plain, 40):
        if data in keyframes:
            rows.append((data, pts - 20, pts - 20, True))
        rows.append((data, pts, pts, is_key))
    path = mux(plain, tmp_path / "hidden.webm", rows)
    content = bytearray(path.read_bytes())
    for data in keyframes:
        content[content.index(data)] &= ~2
    path.write_bytes(content)
    assert len(packets_of(path)) == 30 + len(keyframes) == 32
    shows(path, range(30))
    assert probe_video(path).pts is not None  # without decoding it all


@pytest.mark.skipif("libsvtav1" not in av.codecs_available, reason="PyAV without SVT-AV1")
@pytest.mark.parametrize("suffix", ["mp4", "mkv"])
def test_hidden_frames_of_av1_in_packets_of_their_own(suffix, tmp_path):
    options = {"preset": "12", "svtav1-params": "keyint=24:lookahead=8"}
    plain = write_video(tmp_path / "a.mp4", 30, codec="libsvtav1", codec_options=options)
    path = filtered(plain, tmp_path / f"split.{suffix}", "av1_frame_split", "libsvtav1")
    assert len(packets_of(path)) > 30
    shows(path, range(30))


def code(value: int) -> str:
    """One of H.264's numbers of variable length."""
    bits = f"{value + 1:b}"
    return "0" * (len(bits) - 1) + bits


def field_coded(count: int, blocks: tuple[int, int] = (2, 2)) -> bytes:
    """H.264 of which each packet is half a picture, its odd or its even rows, as in television.

    Frame k is grey, of the level 40 + 15 k, every block of 16 x 16 pixels stored as it is.
    """

    def unit(header: int, bits: str) -> bytes:
        bits += "1"
        bits += "0" * (-len(bits) % 8)
        return bytes([0, 0, 0, 1, header]) + int(bits, 2).to_bytes(len(bits) // 8, "big")

    sequence = f"{77:08b}{0:08b}{30:08b}" + code(0) + code(4) + code(0) + code(4) + code(1) + "0"
    sequence += code(blocks[1] - 1) + code(blocks[0] // 2 - 1) + "00100"
    picture = code(0) + code(0) + "00" + code(0) * 3 + "000" + code(0) * 3 + "100"
    stream = b""
    for k in range(count):
        block = "".join(f"{level:08b}" for level in [40 + 15 * k] * 256 + [128] * 128)
        stream += b"\0\0\0\1\x09\x10" + unit(0x67, sequence) + unit(0x68, picture)
        for bottom in (0, 1):
            bits = code(0) + code(7) + code(0) + f"{0:08b}1{bottom}"
            bits += f"{bottom:08b}0" if bottom else code(k) + f"{bottom:08b}00"
            bits += "1" + code(1)
            for _ in range(blocks[0] * blocks[1] // 2):
                bits += code(25)
                bits += "0" * (-len(bits) % 8) + block
            stream += (b"\0\0\0\1\x09\x10" if bottom else b"") + unit(0x25 - 4 * bottom, bits)
    return stream


@pytest.mark.parametrize("suffix", ["mkv", "ts"])
def test_two_fields_are_one_frame(suffix, tmp_path):
    plain, path = tmp_path / "fields.h264", tmp_path / f"fields.{suffix}"
    plain.write_bytes(field_coded(10))
    rows = [(bytes(p), k, k, p.is_keyframe) for k, p in enumerate(packets_of(plain))]
    assert len(rows) == 20
    mux(plain, path, rows, Fraction(1, 50))
    info = probe_video(path)
    assert (info.num_frames, info.damage, info.decord_exact) == (10, "", False)
    assert info.fps == pytest.approx(25, rel=0.02)
    for known in (info, check_video(info)):
        for wanted in ([*range(10)], [9, 4, 0, 4]):
            levels = read_frames(known, wanted).float().mean((1, 2, 3)).tolist()
            expected = [(24 + 15 * k) * 255 / 219 for k in wanted]  # 16 to 235 are 0 to 255
            assert levels == pytest.approx(expected, abs=1)


# --- What lasts longer than the video, and how quick it is --------------------------------------
def together(target: Path, *sources: Path) -> Path:
    """The first stream of each file, in one, and all of them marked as default."""
    with ExitStack() as stack:
        files = [stack.enter_context(av.open(source)) for source in sources]
        out = stack.enter_context(av.open(target, "w"))
        streams = [out.add_stream_from_template(file.streams[0]) for file in files]
        for stream in streams:
            stream.disposition = Disposition.default
        for file, stream in zip(files, streams, strict=True):
            for packet in file.demux():
                if packet.size:
                    packet.stream = stream
                    out.mux(packet)
    return target


def test_sound_that_outlasts_the_pictures(tmp_path):
    plain, sound = write_video(tmp_path / "a.mp4", 40), write_sound(tmp_path / "a.m4a", 4.5)
    for suffix in ("mkv", "mp4"):
        shows(together(tmp_path / f"both.{suffix}", sound, plain), range(40))


@pytest.mark.parametrize("suffix", ["mp4", "mkv", "ts"])
@pytest.mark.parametrize("heights, chosen", [((64, 64), 0), ((64, 96), 1), ((96, 64), 0)])
def test_of_several_streams_the_largest_counts_then_the_first(heights, chosen, suffix, tmp_path):
    """The first one here is the shorter."""
    plain = [write_video(tmp_path / f"{count}.ts", count, size=(height, 112))
             for count, height in zip((12, 32), heights, strict=True)]  # fmt: skip
    path = together(tmp_path / f"both.{suffix}", *plain)
    shows(path, range((12, 32)[chosen]))
    assert not probe_video(path).decord_exact, "decord may choose another"


@pytest.mark.parametrize("options", [
    {}, {"cues_to_front": "1"}, {"reserve_index_space": "500"}, {"live": "1"},
    {"cluster_time_limit": "300"}, {"cluster_size_limit": "1000"},
])  # fmt: skip
@pytest.mark.parametrize("suffix, codec", [("mkv", "libx264"), ("webm", "libvpx-vp9")])
def test_matroska_without_checksums_in_all_layouts(suffix, codec, options, tmp_path):
    """With the index at either end, in clusters of many sizes, or of none that it knows."""
    path = write_video(
        tmp_path / f"a.{suffix}", 30, codec=codec, codec_options=VPX if suffix == "webm" else {},
        container_options={"write_crc32": "0"} | options,
    )  # fmt: skip
    shows(path, range(30))


def test_a_last_picture_that_is_held(tmp_path):
    plain = write_video(tmp_path / "a.webm", 12, codec="libvpx-vp9", times=range(0, 24, 2),
                        codec_options={"lag-in-frames": "0"})  # fmt: skip
    path = tmp_path / "held.webm"
    with av.open(plain) as file, av.open(path, "w") as out:
        stream = out.add_stream_from_template(file.streams.video[0])
        for packet in packets_of(plain):
            packet.duration = 1500 if packet.pts == 22 * 40 else 80
            packet.stream = stream
            out.mux(packet)
    with av.open(path) as file:
        assert file.duration > 2.2 * av.time_base
    shows(path, range(12))
    assert probe_video(path).fps == pytest.approx(12.5, rel=0.01)


@pytest.mark.parametrize(
    "said, times, rate",
    [
        (None, range(0, 3000, 67), 1000 / 67),  # a browser's recording
        (1000, [*range(0, 2000, 67), *range(2010, 3000, 90)], 40 / 2.91),  # guessed by FFmpeg
        (60000, range(0, 1000, 40), 25), (30, range(0, 1000, 40), 25), (25, [0], 25), (None, [], 0),
        (25, [*range(0, 1000, 40), *range(90000, 91000, 40)], 25),  # a recording that paused
    ],
)  # fmt: skip
def test_the_rate_of_a_recording_that_says_none_or_nonsense(said, times, rate):
    stream = types.SimpleNamespace(average_rate=said, time_base=Fraction(1, 1000))
    assert probing._rate(stream, list(times)) == pytest.approx(rate)


@pytest.mark.parametrize("suffix, codec, b_frames, rate", [
    ("h264", "libx264", 2, 30), ("h264", "libx264", 0, 120), ("hevc", "libx265", 2, 60),
    ("m2v", "mpeg2video", 2, 50), ("m1v", "mpeg1video", 0, 30), ("m4v", "mpeg4", 2, 12),
])  # fmt: skip
def test_bare_streams_are_as_quick_as_they_say(suffix, codec, b_frames, rate, tmp_path):
    """They have no times, and FFmpeg gives them 25 frames a second, or uneven times."""
    path = write_video(
        tmp_path / f"a.{suffix}", 20, codec=codec, b_frames=b_frames, rate=rate,
        codec_options={"x265-params": X265} if suffix == "hevc" else {},
    )  # fmt: skip
    shows(path, range(20))
    info = probe_video(path)
    assert info.fps == rate and showing_of(info).fps == pytest.approx(rate)
    assert np.diff(showing_of(info).times or [0, 0]).std() < 1e-6
    part = part_of(info, (5 / rate, 9 / rate))
    assert numbers(read_frames(part, range(part.num_frames))) == [5, 6, 7, 8]


def test_a_bare_stream_that_states_its_clock_has_the_usual_rate(tmp_path):
    path = write_video(tmp_path / "a.h264", 20, rate=90000, times=range(0, 60000, 3000))
    shows(path, range(20))
    assert (probe_video(path).fps, showing_of(probe_video(path)).fps) == (25, 25)


@pytest.mark.parametrize("count, b_frames", [(8, 2), (12, 7), (30, 2)])
def test_h264_that_was_copied_to_avi_keeps_its_rate(count, b_frames, tmp_path):
    """Its times go back and forth, those of decoding do not, but the last frames have none."""
    plain = write_video(tmp_path / "a.ts", count, b_frames=b_frames, codec_options=CLOSED)
    path = mux(plain, tmp_path / "a.avi", stored(plain))
    shows(path, range(count))
    info = probe_video(path)
    assert (info.fps, showing_of(info).fps, showing_of(info).times) == (25, 25, None)


# --- Undecodable, and colours -------------------------------------------------------------------
def test_a_file_of_which_nothing_can_be_decoded_is_unreadable(tmp_path):
    plain = write_video(tmp_path / "a.mp4", 20)
    data = b"\0\0\0\x40" + bytes(range(64))
    rows = [(data, *times) for _, *times in stored(plain)]
    with pytest.raises(VideoReadError, match="not one frame in it that can be decoded"):
        probe_video(mux(plain, tmp_path / "rubbish.mp4", rows))


@pytest.mark.parametrize("pix_fmt", ["yuv420p", "yuv420p10le", "yuv422p", "yuv444p"])
@pytest.mark.parametrize("size", [None, (32, 56), (96, 168)])
def test_colours_lie_where_their_brightness_does(pix_fmt, size, tmp_path):
    """A red half beside a blue one: the middle between their colours is that of the picture."""
    picture = np.zeros((64, 112, 3), np.uint8)
    picture[:, :56, 0], picture[:, 56:, 2] = 255, 255
    frame = av.VideoFrame.from_ndarray(picture, format="rgb24").reformat(format=pix_fmt)
    rgb = ToRGB(size or SIZE)(frame).astype(float)
    assert rgb.shape == (*(size or SIZE), 3)
    red, blue = rgb[..., 0].mean() / 255, rgb[..., 2].mean() / 255
    assert red == pytest.approx(0.5, abs=0.02) and blue == pytest.approx(0.5, abs=0.02)
    mirrored = av.VideoFrame.from_ndarray(picture.transpose(1, 0, 2).copy(), format="rgb24")
    down = ToRGB((size or SIZE)[::-1])(mirrored.reformat(format=pix_fmt)).astype(float)
    assert down[..., 0].mean() / 255 == pytest.approx(0.5, abs=0.02)


def test_probing_holds_no_picture(tmp_path):
    """PyAV 18 puts a picture in a cycle with its side data, where somebody asks for that."""
    path = write_video(tmp_path / "a.mp4", 4, size=(40, 72))
    gc.collect()
    gc.disable()
    try:
        probe_video(path)
        frames = (thing for thing in gc.get_objects() if type(thing) is av.VideoFrame)
        assert (40, 72) not in [(frame.height, frame.width) for frame in frames]
    finally:
        gc.enable()


def test_times_of_kinds_that_only_decoding_tells(tmp_path):
    """A GIF whose third picture stays for two seconds."""
    pictures = [Image.fromarray(draw(k, SIZE)) for k in range(5)]
    path = tmp_path / "slow.gif"
    stays = [100, 100, 2000, 100, 100]
    pictures[0].save(path, save_all=True, append_images=pictures[1:], duration=stays, loop=0)
    info = probe_video(path)
    assert info.pts is None and info.num_frames == 5
    assert [float(time) for time in showing_of(info).times] == [0, 0.1, 0.2, 2.2, 2.3]
