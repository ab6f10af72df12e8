"""From an opened video file to its pictures: in display order, upright, as RGB.

All of it as FFmpeg's own program does it, except that a fault raises an error where that program
patches up the picture.
"""

import os
import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from fractions import Fraction

import av
import numpy as np
from av.container import InputContainer
from av.filter import Graph
from av.sidedata.sidedata import SideDataContainer
from av.sidedata.sidedata import Type as SideDataType
from av.stream import Disposition
from av.video.stream import VideoStream

# Faults are errors: otherwise FFmpeg would patch up the picture and only log it. Three decoders,
# however, reject what FFmpeg's own encoders write.
STRICT = {"err_detect": "explode+bitstream"}
STRICT_OTHERWISE = {f"mpeg{k}video": {"err_detect": "explode"} for k in (1, 2)} | {"tiff": {}}
SLICES = {"1010": "B", "100111": "B", "1011": "I", "10001000": "I"}  # how they begin in H.264
VPX = "libvpx-vp9"
NUMBERED = re.compile(r"(|[^.].*?)([0-9]+)\.(jpe?g|png)", re.IGNORECASE | re.ASCII)  # a picture
# Titles and comments in a file are not always UTF-8, and do not matter here. PyAV 19 accepts them.
LENIENT = {"metadata_errors": "ignore"} if int(av.__version__.split(".")[0]) < 19 else {}

# Makes a tiny copy without the kinds of side data that PyAV 18 does not know and fails on (EXIF).
# `picture.side_data` would not do: it and the picture keep each other in memory until Python's
# garbage collector runs, which so few objects do not trigger.
NEWEST = max(kind.value for kind in SideDataType)
TINY = [("scale", "16:16:flags=neighbor"), ("format", "rgb24")]
TINY += [("sidedata", f"delete:type={kind}") for kind in range(NEWEST + 1, NEWEST + 5)]

Opened = tuple[InputContainer, VideoStream]
Orientation = tuple[int, int, int, int]  # see `orientation_of`
UPRIGHT: Orientation = (1, 0, 0, 1)


class VideoReadError(OSError):
    """Report which video file (`path`) cannot be read, what was found and what helps."""

    # The path may be missing: data loaders pass errors between processes by message alone.
    def __init__(self, message: str, path: str = "") -> None:
        super().__init__(message)
        self.path = path


def unreadable(
    path: str, found: str, remedy: str = "fetch or make the file again, or leave it out"
) -> VideoReadError:
    return VideoReadError(f"{path}: expected a video file, but {found}; {remedy}", path)


def file_url(path: str | os.PathLike[str]) -> str:
    """Write a path so that FFmpeg takes it for a path: it would read "12:30.mp4" as a URL."""
    return f"file:{os.fsdecode(path)}"


def picture_names(folder: str) -> list[str]:
    """Name a folder's pictures in the order of their numbers: 00001.jpg, 00002.jpg, ...

    The numbers begin with 0 or 1, and none is missing. Of several series, one without a name or
    with one that begins with "im" or "frame" is preferred (others are often optical flow,
    flow_x_00001.jpg), then the longest.
    """
    try:
        found = list(filter(None, map(NUMBERED.fullmatch, os.listdir(folder))))
    except OSError as error:
        raise unreadable(folder, f"it cannot be listed ({error.strerror})", "check it") from error
    if not found:
        words = "it is a folder without numbered pictures, such as 00001.jpg, 00002.jpg, ..."
        raise unreadable(folder, words, "name a video, or number the pictures like that")
    series = defaultdict(list)
    for match in found:
        prefix, number, suffix = match.groups()
        series[prefix, suffix].append((int(number), match[0]))

    def rank(key: tuple[str, str]) -> tuple[bool, int]:
        return not key[0] or key[0].lower().startswith(("im", "frame")), len(series[key])

    best = max(map(rank, series))
    chosen, *others = [key for key in series if rank(key) == best]
    if others:
        names = ", ".join(sorted(f"{prefix}*.{suffix}" for prefix, suffix in [chosen, *others]))
        raise unreadable(folder, f"it holds several series of pictures: {names}")
    numbers, names = zip(*sorted(series[chosen]), strict=True)
    for index, name in enumerate(names, start=min(1, numbers[0]) - numbers[0]):
        if name != (expected := picture_name(names[0], index)):
            found = f"it is a folder: of its pictures up to {names[-1]}, {expected} is missing"
            raise unreadable(folder, found, "number them from 0 or 1 on, or name a video")
    return [*names]


def picture_name(first: str, index: int) -> str:
    """Name picture `index` of a folder whose first picture is `first`."""
    prefix, number, suffix = NUMBERED.fullmatch(first).groups()
    return f"{prefix}{int(number) + index:0{len(number)}d}.{suffix}"


def decode_picture(folder: str, first: str, index: int) -> tuple[av.VideoFrame, Orientation, tuple]:
    """Decode picture `index` of a folder; also return its orientation and (height, width), upright.

    Raises VideoReadError if it is missing or damaged, or not of the kind of the `first`, picture 0.
    """
    name = picture_name(first, index)
    coder = av.CodecContext.create("png" if name.lower().endswith("png") else "mjpeg", "r")
    coder.options, coder.thread_count = STRICT, 1
    try:
        with open(os.path.join(folder, name), "rb") as file:
            (picture,) = coder.decode(av.Packet(file.read())) or coder.decode(None)
        if picture.is_corrupt:
            raise ValueError("a part of the picture is missing")
    except (av.error.FFmpegError, OSError, ValueError) as error:
        picture_names(folder)  # raises if one is missing
        fault = "damaged, or of another kind" if index else "damaged"
        raise unreadable(folder, f"its picture {name} is {fault}") from error
    orientation = orientation_of(folder, picture)
    return picture, orientation, upright((picture.height, picture.width), orientation)


@contextmanager
def open_video(path: str, strict: bool = True, with_motion: bool = False) -> Iterator[Opened]:
    """Open a file and its main video stream; if `strict`, what FFmpeg would patch up is an error.

    with_motion: pictures come with the codec's motion vectors, if the decoder provides them.
    """
    if not os.path.isfile(path):
        raise unreadable(path, "it does not exist", "check the path")
    try:
        container = av.open(file_url(path), **LENIENT)
    except (av.error.FFmpegError, OSError) as error:
        found = f"its {os.path.getsize(path)} bytes cannot be opened as one ({error.strerror})"
        raise unreadable(path, f"{found}: it is something else, or cut short") from error
    with container:
        stream = _main_stream(container)
        if stream is None:
            raise unreadable(path, "it holds no pictures, only sound or data")
        if stream.codec_context is None:
            raise unreadable(path, "there is no decoder for it", "encode it again as H.264")
        codec = stream.codec_context.codec.canonical_name
        stream.thread_type = "NONE"  # a data loader has its own workers
        if codec == "vp8":  # only in slices does it notice that it runs past the end of the data
            stream.thread_type, stream.codec_context.thread_count = "SLICE", 2
        options = STRICT_OTHERWISE.get(codec, STRICT) if strict else {}
        more = {"export_side_data": "mvs"} if with_motion else {}
        stream.codec_context.options = options | more
        try:
            yield container, stream
        except OSError as error:
            if isinstance(error, (VideoReadError, av.error.FFmpegError)):
                raise
            found = f"it cannot be read ({error.strerror or error})"
            raise unreadable(path, found, "check the disk") from error


def _main_stream(container: InputContainer) -> VideoStream | None:
    """Choose the stream marked as default, then the largest that is no still, then the first."""

    def rank(stream: VideoStream) -> tuple[bool, int, bool]:
        coder, is_default = stream.codec_context, stream.disposition & Disposition.default
        # Before an animation, AVIF holds its first picture as a stream of its own.
        return bool(is_default), coder.width * coder.height if coder else 0, stream.frames > 1

    # An audio file may hold its cover as a "video" of one picture: that does not count.
    streams = [s for s in container.streams.video if not s.disposition & Disposition.attached_pic]
    return max(streams, key=rank, default=None)


def may_be_fields(coder: av.VideoCodecContext) -> bool:
    """Tell whether packets may hold fields, each half a picture, as those of H.264 can."""
    return coder.codec.canonical_name == "h264" and coder.field_order != 1  # AV_FIELD_PROGRESSIVE


def slice_of(packet: av.Packet) -> tuple[str, bool]:
    """Tell H.264's kind of a picture, I, P or B ("" for IDR), and if others are built on it."""
    data = memoryview(packet)
    # Each part follows its length in 4 bytes (if it is in fewer, nothing is found here), or a 1.
    place = 4 if int.from_bytes(data[:4], "big") < len(data) - 3 else len(data)
    if data[:4] == b"\0\0\0\1":
        place = next((m.end() for m in re.finditer(rb"\0\0\x01(?=[!AaEe%\x01])", data)), len(data))
    while place + 1 < len(data) and data[place] & 31 not in (1, 5):
        place += 4 + int.from_bytes(data[place - 4 : place], "big")
    kind, begin = bytes(data[place : place + 2]).ljust(2, b"\0")
    found = next((SLICES[k] for k in SLICES if f"{begin:08b}".startswith(k)), "P")
    return found if kind & 31 == 1 else "", kind & 96 > 0


class JoinedError(av.error.InvalidDataError):
    """Report pictures, stored after a keyframe but shown before it, whose references are gone."""


def pictures(
    container: InputContainer, stream: VideoStream, num_packets: int | None = None
) -> Iterator[tuple[av.VideoFrame, bool]]:
    """Yield (picture, whether it stands on its own) from here to the end, or from `num_packets`.

    What cannot be decoded before the first keyframe is skipped: a broadcast recording begins in the
    middle of a group. Raises FFmpegError at a later fault, and JoinedError where videos were joined
    by copying within an open group, where FFmpeg's program shows what it can.
    """
    decoder, coder, picture = _decoder(stream), stream.codec_context, None
    keyframes, opening, is_first, num_given = set(), "", False, 0
    codec, in_fields = coder.codec.canonical_name, may_be_fields(coder)

    def with_key(picture: av.VideoFrame) -> tuple[av.VideoFrame, bool]:
        # Some decoders mark no picture as a keyframe, and some containers store no times.
        is_key = picture.pts is not None and picture.pts in keyframes
        return picture, picture.key_frame or is_key

    for number, packet in enumerate(container.demux(stream)):
        if not packet.size:  # the end; or nothing; or, in Theora, the previous picture again
            if codec == "theora" and packet.pts is not None and picture is not None:
                yield picture, False
            continue
        if number == num_packets:
            return
        if packet.is_keyframe:
            key, is_first = packet.pts, True
            opening = slice_of(packet)[0] if codec == "h264" and not keyframes else ""
            keyframes.add(key)
        elif is_first and opening == "I" and slice_of(packet) == ("B", False):
            continue  # of the group before
        try:
            decoded = decoder.decode(packet)
        except av.error.InvalidDataError as error:
            if not any(bytes(packet)):
                raise  # all zeros: a hole in the file, not a picture
            # In an open group that begins the video, what is shown before its keyframe refers to
            # lost pictures, and the next may have orders for them; intra refresh begins so, too.
            may_lack = opening == "I" and (is_first or in_fields) and not packet.is_keyframe
            may_lack = not num_given and (opening == "P" or may_lack)
            if not keyframes or (may_lack and opening == "I" and slice_of(packet)[0] == "B"):
                continue
            is_early = key is not None and (packet.pts is None or packet.pts < key)
            if may_lack or (is_first and is_early):
                raise JoinedError(error.errno, error.strerror) from error
            raise
        if is_first and not packet.is_keyframe:
            is_first = opening == "I" and slice_of(packet)[0] == "B"
        for picture in decoded:
            if num_given or not picture.is_corrupt:
                num_given += 1
                yield with_key(picture)
    if num_packets is None:
        yield from map(with_key, decoder.decode(None))


def _decoder(stream: VideoStream) -> av.CodecContext:
    """Return the stream's own decoder; for VP9 libvpx, as fast as FFmpeg's and stricter."""
    coder = stream.codec_context
    is_vp9 = coder.codec.canonical_name == "vp9" and coder.format is not None
    # libvpx may be built for 8 bits only.
    if not is_vp9 or coder.format.components[0].bits != 8 or VPX not in av.codecs_available:
        return coder
    decoder = av.CodecContext.create(VPX, "r")
    decoder.thread_count = 1
    return decoder


def orientation_of(path: str, picture: av.VideoFrame) -> Orientation:
    """Find what turns a stored picture upright: (a, b, c, d), each -1, 0 or 1.

    The stored pixel (x, y) is shown at (a x + c y, b x + d y), shifted back into the picture: four
    rotations, each plain or mirrored.

    Raises VideoReadError if the rotation is not a quarter turn, or there is no conversion to RGB.
    """
    try:
        graph = _make_graph(picture, TINY)
        graph.vpush(picture)
        side_data = SideDataContainer(graph.vpull()).get("DISPLAYMATRIX")
    except av.error.FFmpegError as error:
        found = f"its colours ({picture.format.name}) cannot be converted to RGB ({error.strerror})"
        raise unreadable(path, found, "encode it again as H.264, in yuv420p") from error
    if side_data is None:
        return UPRIGHT
    matrix = np.frombuffer(bytes(side_data), np.int32, 9).reshape(3, 3)[:2, :2]
    scale = np.linalg.norm(matrix, axis=0)
    if not scale.all():
        return UPRIGHT  # FFmpeg's program ignores such a matrix
    exact = (matrix / scale).ravel()
    if abs(exact - exact.round()).max() > 0.02:
        raise unreadable(path, "it is to be shown askew", "encode it again upright")
    return tuple(exact.round().astype(int).tolist())


def motion_vectors(picture: av.VideoFrame) -> np.ndarray | None:
    """Get a picture's motion vectors, if `open_video` was asked for them and there are any."""
    found = SideDataContainer(picture).get("MOTION_VECTORS")
    return None if found is None else found.to_ndarray()


def upright(size: tuple[int, int], orientation: Orientation) -> tuple[int, int]:
    """Convert a picture's (height, width) from as stored to as shown, or back."""
    return size if orientation[0] else size[::-1]


def _make_graph(picture: av.VideoFrame, filters: Sequence[tuple[str, str]]) -> Graph:
    graph = Graph()
    graph.threads = 1
    size = {"width": picture.width, "height": picture.height}  # any time base will do
    source = graph.add_buffer(**size, format=picture.format.name, time_base=Fraction(1, 25))
    nodes = [graph.add(name, options) for name, options in [*filters, ("buffersink", "")]]
    graph.link_nodes(source, *nodes).configure()
    return graph


class ToRGB:
    """Make pictures RGB, upright and of one size (height, width), with FFmpeg's filter `scale`.

    FFmpeg's program and decord use it too, and all three agree in every bit. PyAV's
    VideoReformatter does not when it resizes or gets more than 8 bits: it heeds a file's chroma
    location for 4:2:0 and 4:2:2, and differs by 5 to 6 levels of 255 in a colourful picture.
    """

    def __init__(self, size: tuple[int, int]) -> None:
        self.size = size
        self._graph, self._made_for = None, None

    def __call__(self, picture: av.VideoFrame, orientation: Orientation = UPRIGHT) -> np.ndarray:
        """Convert a picture to uint8 (H, W, 3), not always contiguous."""
        height, width = upright(self.size, orientation)
        made_for = (picture.width, picture.height, picture.format.name, height, width)
        if made_for != self._made_for:  # the size may change within a video
            filters = [("scale", f"{width}:{height}:flags=bicubic"), ("format", "rgb24")]
            self._graph, self._made_for = _make_graph(picture, filters), made_for
        self._graph.vpush(picture)
        rgb = self._graph.vpull().to_ndarray()
        a, b, c, d = orientation
        return rgb[::d, ::a] if a else rgb.transpose(1, 0, 2)[::b, ::c]
