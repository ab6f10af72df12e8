"""What a video file holds: how many frames, of what size, shown when.

    info = probe_video("clip.mp4")
    packed = pack_info(info)             # a line of text, for the manifest
    info = known_video("clip.mp4", packed)

Nearly all files are of plain kinds, whose packets (compressed pictures) each hold one frame with
its own time: only the first is decoded. All other files are decoded once, and their frames counted.
"""

import json
import os
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from fractions import Fraction
from functools import lru_cache
from itertools import islice

import av
import numpy as np
from av.container import InputContainer
from av.format import Flags
from av.video.stream import VideoStream

from blvnet_lab.data import decoding
from blvnet_lab.data.decoding import UPRIGHT, Orientation, open_video, pictures, unreadable
from blvnet_lab.data.packets import Contents, first_hole, is_plain, scan

DECORD_CODECS = {"h264", "vp9", "av1", "mpeg4", "mjpeg"}
TIMES, TUPLES = {"pts", "keyframe_pts"}, {"size", "orientation", "part"}  # of VideoInfo
TOLERANCE = 6e-4  # seconds: Matroska and FLV round a time to milliseconds, `part_of` to 0.1 ms


@dataclass(frozen=True)
class VideoInfo:
    """Hold what is known of a video file, or of a part of it."""

    path: str
    num_frames: int  # that are shown and complete
    size: tuple[int, int]  # (height, width) in pixels, upright as shown
    fps: float  # frames per second, on average; 0.0 if unknown
    codec: str  # "h264", "vp9", ...
    container: str  # FFmpeg's name, such as "mov,mp4,m4a,3gp,3g2,mj2"
    decord_exact: bool  # whether decord gives the same frames, bit for bit
    # When each frame is shown, ascending, in the file's own units; None: the file is not of a plain
    # kind, and its frames are counted as they are decoded.
    pts: tuple[int, ...] | None = None
    keyframe_pts: tuple[int, ...] = ()  # where decoding may start; empty: only at the beginning
    damage: str = ""  # what is known to be wrong with the file, though some of it can be read
    num_bytes: int = 0  # the file's size, which tells whether it has been replaced
    whole: bool = False  # every frame was decoded once without a fault (`reading.check_video`)
    orientation: Orientation = UPRIGHT  # what turns a stored picture upright
    joined: bool = False  # cut or joined within an open group: FFmpeg must patch up a picture
    first_picture: str = ""  # of a folder of pictures, the first one's name
    part: tuple[float, ...] = ()  # start and end (s), if only that part of the file is meant
    first: int = 0  # number of frames before the part
    lead: int = 0  # number of these from the keyframe where decoding starts

    @property
    def seconds(self) -> float:
        return self.num_frames / self.fps if self.fps else 0.0


def probe_video(path: str | os.PathLike[str]) -> VideoInfo:
    """Find out what a video file, or a folder of numbered pictures (`picture_names`), holds.

    A truncated file is described as far as it is complete; `VideoInfo.damage` says so. Raises
    VideoReadError if it holds no video, or one that cannot be read.
    """
    path = os.fsdecode(path)
    if os.path.isdir(path):
        names = decoding.picture_names(path)
        size = decoding.decode_picture(path, names[0], 0)[-1]
        kind = "png" if names[0].lower().endswith("png") else "mjpeg", "folder of pictures"
        return VideoInfo(path, len(names), size, 0.0, *kind, False, first_picture=names[0])
    with open_video(path) as (container, stream):
        found, keyframes = scan(path, container, stream), ()
        # A mistake in some download: FFmpeg opens a picture as a video, of one frame or, with its
        # preview, of two. But some cameras write JPEG after JPEG.
        if len(found.all) < 3 and container.format.name.endswith(("_pipe", "image2", "mjpeg")):
            raise unreadable(path, f"FFmpeg reads it as a still picture ({stream.name})")
        found.picture = _decode_alone(stream, found.first)
        is_counted = found.picture is None or not is_plain(container, stream, found)
        if is_counted:
            _count(path, found)
        else:
            in_order = sorted(found.shown, key=lambda packet: packet.pts)
            found.times = [packet.pts for packet in in_order]
            # Decoding may start at keyframes if all that is stored after one is shown after it,
            # which is not so in an open group of pictures (GOP).
            pairs = zip(found.shown, in_order, strict=True)
            if all(stored is shown for stored, shown in pairs if stored.is_key):
                keyframes = tuple(sorted(packet.pts for packet in found.all if packet.is_key))
        if not found.times:
            raise unreadable(path, "there is not one frame in it that can be decoded")
        orientation = decoding.orientation_of(path, found.picture)
        codec, name = stream.codec_context.codec.canonical_name, container.format.name
        is_usual = len(found.shown) == len(found.all) and orientation == UPRIGHT
        is_usual = is_usual and bool(keyframes) and not (found.damage or found.is_open)
        is_usual = is_usual and len(container.streams.video) == 1  # decord may choose another
        return VideoInfo(
            path=path,
            num_frames=len(found.times),
            size=decoding.upright((found.picture.height, found.picture.width), orientation),
            fps=_rate(stream, [time for time in found.times if time is not None]),
            codec=codec,
            container=name,
            decord_exact=is_usual and codec in DECORD_CODECS and name != "avi",  # not found exact
            pts=None if is_counted else tuple(found.times),
            keyframe_pts=keyframes,
            damage=found.damage,
            num_bytes=os.path.getsize(path),
            whole=is_counted and not found.damage,
            orientation=orientation,
            joined=found.joined,
        )


def _decode_alone(stream: VideoStream, packet: av.Packet | None) -> av.VideoFrame | None:
    """Return a packet's picture, or None if it cannot be decoded without others."""
    try:
        # A copy, because the decoder would withhold the picture if an edit list hides the packet.
        found = stream.decode(av.Packet(bytes(packet))) if packet else []
        found += stream.decode(None)
    except av.error.FFmpegError:
        return None
    return found[0] if len(found) == 1 and not found[0].is_corrupt else None


def _count(path: str, found: Contents, strict: bool = True) -> None:
    """Decode up to the first fault, and note the frames' times."""
    decoded, damage = [], found.damage
    with open_video(path, strict) as (container, stream):
        is_ts = container.format.name == "mpegts"
        lacks = is_ts and first_hole([packet.dts for packet in found.all]) is not None
        try:
            for picture, is_key in pictures(container, stream, len(found.all) if damage else None):
                is_back = decoded and lacks and not is_key and picture.pts <= decoded[-1][0]
                if (picture.is_corrupt and strict) or is_back:
                    damage = damage or "damaged"
                    break
                found.picture = found.picture or picture
                decoded.append((picture.pts, picture.dts))
        except av.error.FFmpegError as error:
            if strict and (found.is_edited or isinstance(error, decoding.JoinedError)):
                found.joined = True
                return _count(path, found, strict=False)
            if len(decoded) < len(found.all):  # else it is about what follows the last
                damage = damage or f"damaged ({error.strerror})"
        found.times = _times(stream, decoded)
    # MPEG-TS has neither an index nor a length. Cutting without re-encoding may leave a hole at the
    # end, but would not cut through one of its packets, of 188 bytes (or 192, or 204).
    hole, num_bytes = first_hole(found.times), os.path.getsize(path)
    if is_ts and hole is not None and all(num_bytes % size for size in (188, 192, 204)):
        found.times = [time for time in found.times if time <= hole]
        damage = damage or "cut short"
    found.damage = damage


def _rate(stream: VideoStream, times: Sequence[int]) -> float:
    """Return frames per second: as the file says, unless its times differ; 0.0 if unknown."""
    # For formats that store no rate FFmpeg guesses one, up to 60,000 frames per second.
    said, steps, unit = float(stream.average_rate or 0), np.diff(times), stream.time_base
    if (total := int(steps.sum())) <= 0:
        return said
    # A recording may pause: then all but a few frames are as far apart as the file says.
    mean, usual = len(steps) / (total * unit), 1 / (max(np.median(steps), 1) * unit)
    is_so = any(abs(said / rate - 1) < 0.03 for rate in (mean, usual))
    return said if is_so else float(mean)


def pack_info(info: VideoInfo) -> str:
    """Write all but the path as a line of JSON, for a manifest's column `probe`."""
    values = {}
    for name, default in ((field.name, field.default) for field in fields(info)[1:]):
        if (value := getattr(info, name)) != default:  # defaults are left out
            values[name] = _to_runs(value) if name in TIMES else value
    return json.dumps(values, separators=(",", ":"))


def _to_runs(values: Sequence[int]) -> list[list[int]]:
    """Compress equal steps to (first, step, count): 0, 5, 10, 17 to [[0, 5, 3], [17, 0, 1]]."""
    runs: list[list[int]] = []
    for value in values:
        if runs and runs[-1][2] == 1:
            runs[-1][1:] = value - runs[-1][0], 2
        elif runs and value == runs[-1][0] + runs[-1][1] * runs[-1][2]:
            runs[-1][2] += 1
        else:
            runs.append([value, 0, 1])
    return runs


def unpack_info(path: str | os.PathLike[str], packed: str) -> VideoInfo:
    """Read what `pack_info` wrote."""
    values = json.loads(packed)
    values |= {name: tuple(values[name]) for name in TUPLES & values.keys()}
    for name in TIMES & values.keys():
        values[name] = tuple(a + step * k for a, step, count in values[name] for k in range(count))
    return VideoInfo(path=os.fsdecode(path), **values)


def known_video(path: str | os.PathLike[str], packed: str, part: Sequence[float] = ()) -> VideoInfo:
    """Unpack what is known of a file; probe it again if it was replaced or is not known.

    `part` is that of `part_of`; () or NaN mean all of the file.
    """
    part = tuple(round(time, 4) for time in part if time == time)  # a manifest has nine digits
    try:
        info = unpack_info(path, packed)
        # Each picture of a folder is looked at when it is read.
        is_same = info.first_picture or os.path.getsize(info.path) == info.num_bytes
    except (ValueError, TypeError, AttributeError, OSError):  # nothing, or edited by hand
        is_same = False
    if not is_same or info.part not in ((), part):
        info = probe_video(path)
    return info if info.part == part else part_of(info, part)


def frame_pts(info: VideoInfo, container: InputContainer, stream: VideoStream) -> Sequence:
    """Find when an opened video's frames are shown, in its own units, if need be by decoding."""
    if info.pts:
        return info.pts
    found = islice(pictures(container, stream), info.first, info.first + info.num_frames)
    return _times(stream, [(picture.pts, picture.dts) for picture, _ in found])


def _times(stream: VideoStream, decoded: Sequence[tuple[int | None, int | None]]) -> Sequence:
    """Choose when frames are shown, given each one's pts and dts as decoded."""
    rate = stream.codec_context.framerate
    rate = rate if rate and rate <= 1000 else stream.guessed_rate  # more is but a clock's rate
    pts, dts = [time for time, _ in decoded], []
    if rate and stream.container.format.flags & Flags.no_timestamps.value:
        # A bare stream, in no container: FFmpeg makes up its times, mostly at 25 frames a second.
        step = 1 / Fraction(rate) / stream.time_base  # PyAV 19 rounds its own products
        return [(stream.start_time or 0) + round(place * step) for place in range(len(pts))]
    if None in pts:
        return pts
    for own, time in decoded:  # the last ones come without dts
        last = 2 * dts[-1] - dts[-2] if len(dts) > 1 else own
        dts.append(last if time is None else time)
    # For an avi FFmpeg works out pts that may go backwards: then its program uses the dts.
    return min(pts, dts, key=lambda times: (np.diff(times) <= 0).sum())


@lru_cache(maxsize=32)
def _shown(info: VideoInfo) -> tuple[Sequence[int], np.ndarray]:
    """Find when frames are shown, in the file's units and in seconds; cached for its next part."""
    pts = (None,)
    if info.fps:
        with open_video(info.path, not info.joined) as (container, stream):
            pts, unit = frame_pts(info, container, stream), float(stream.time_base)
            origin = (container.start_time or 0) / av.time_base
    if None in pts:
        raise unreadable(info.path, "its frames have no times to find a part by", "take all of it")
    return pts, np.maximum.accumulate(np.array(pts) * unit - origin)


def part_of(info: VideoInfo, part: Sequence[float], *, cut: bool = False) -> VideoInfo:
    """Describe a part of a video: the frames that a player shows from its start to its end (s).

    With `cut`, a part that would go on longer ends with the video. Raises VideoReadError if the
    part is not in the video, or this is damaged or stores no times.
    """
    pts, times = _shown(refuse_damage(info))
    start, end, count = *(round(time, 4) for time in part), len(times)
    step = (times[-1] - times[0]) / (count - 1) if count > 1 else 1 / info.fps
    stop = round(float(times[-1]) + step, 4)
    end = stop if cut and end > stop + step else end
    first = max(0, int(np.searchsorted(times, start + TOLERANCE, "right")) - 1)
    last = int(np.searchsorted(times, end - TOLERANCE))
    if start >= stop or end > stop + step + TOLERANCE or first >= last:
        found = f"its part from {start:.9g} to {end:.9g} s is not in it: it ends at {stop:.9g} s"
        raise unreadable(info.path, found, "correct the times, or leave the part out")
    begin = max(0, bisect_right(info.keyframe_pts, pts[first]) - 1)
    keyframes = info.keyframe_pts[begin : bisect_right(info.keyframe_pts, pts[last - 1])]
    lead = first - bisect_left(pts, keyframes[0]) if keyframes else 0
    found = {"part": (start, end), "first": first, "lead": lead, "num_frames": last - first}
    pts = info.pts and info.pts[first:last]
    return replace(info, **found, pts=pts, keyframe_pts=keyframes, decord_exact=False)


def refuse_damage(info: VideoInfo) -> VideoInfo:
    """Return `info`; raise VideoReadError if damaged: what is left may show another action."""
    if info.damage:
        raise unreadable(info.path, f"it is {info.damage}, after {info.num_frames} frames")
    return info
