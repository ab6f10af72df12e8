"""What does a coding cost in disk, and buy in reading? The codings of `prepare` were chosen by it.

    python tests/coding_speed.py VIDEO ...

Mean of the videos given, or, without any, of one made for it: a camera pans over a picture full of
detail. All times are CPU time on one core, the codings by turns: figures to look at, not a test.
"""

import sys
import time
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pandas as pd
import torch
from torchvision.transforms.v2.functional import resize

from blvnet_lab.benchmark.measure import time_alternately
from blvnet_lab.benchmark.reading import FPS, SECONDS, SHORT_SIDE, STRIDES, draw_scene
from blvnet_lab.data import check_video, probe_video, read_frames, sample_views
from blvnet_lab.data.dataset import smaller_size
from blvnet_lab.datasets.encoding import write_h264, write_mpeg4
from blvnet_lab.datasets.reencoding import CODINGS

X264 = CODINGS["h264"]["x264"]
SLOW = {"with CABAC": "crf=23:no-deblock=1:weightp=0", "smoothed": "crf=23:cabac=0:weightp=0"}
ROWS = {f"h264, {gop}": partial(write_h264, gop=gop, x264=X264) for gop in (12, 24, 6, 4, 3, 2, 1)}
ROWS |= {f"h264, 6, {name}": partial(write_h264, gop=6, x264=x264) for name, x264 in SLOW.items()}
ROWS |= {
    f"mpeg4, {gop}, quantizer {q}": partial(write_mpeg4, gop=gop, quantizer=q)
    for gop, q in [(12, 5), (8, 5), (6, 5), (5, 5), (4, 5), (3, 5), (1, 5), (5, 4), (5, 6)]
}


def ssim(one: np.ndarray, other: np.ndarray) -> float:
    """Compare the brightness of frames (T, H, W, 3) in blocks of 8 x 8 pixels."""
    blocks = []
    for frames in (one, other):
        grey = frames @ np.array([0.299, 0.587, 0.114], np.float32)
        count, height, width = grey.shape
        grey = grey[:, : height // 8 * 8, : width // 8 * 8].reshape(count, height // 8, 8, -1, 8)
        blocks.append(grey.swapaxes(2, 3).reshape(-1, 64))
    (a, b), means = blocks, [block.mean(1) for block in blocks]
    covariance, small, less = (a * b).mean(1) - means[0] * means[1], 2.55**2, 7.65**2
    brightness = (2 * means[0] * means[1] + small) / (means[0] ** 2 + means[1] ** 2 + small)
    return float((brightness * (2 * covariance + less) / (a.var(1) + b.var(1) + less)).mean())


def measure(frames: np.ndarray, folder: Path) -> pd.DataFrame:
    """Encode frames (T, H, W, 3) in each of the ways; a row each."""
    table, steps, some = pd.DataFrame(index=[*ROWS]), {}, np.arange(3, len(frames), 7)
    for row, write in ROWS.items():
        path = folder / f"{row}.mp4"
        write(path, frames, FPS)
        info, found = check_video(path), read_frames(path, some).permute(0, 2, 3, 1).numpy()
        errors = (found.astype(np.float32) - frames[some]).reshape(len(some), -1)
        table.loc[row, "disk"] = info.num_bytes
        table.loc[row, "PSNR"] = 10 * np.log10(255**2 / (errors**2).mean(1)).mean()
        table.loc[row, "SSIM"] = ssim(found, frames[some])
        for sampling, stride in STRIDES.items():
            (indices,) = sample_views(len(frames), 16, 1, stride)
            steps[row, f"{sampling} ms"] = partial(read_frames, info, indices)
    times = 1e3 * time_alternately(steps, 7, time.process_time).median().unstack(sort=False)
    return table.join(times)


if __name__ == "__main__":
    torch.set_num_threads(1)
    tables = []
    with TemporaryDirectory() as place:
        for name in sys.argv[1:] or [""]:
            if name:
                info = probe_video(name)
                height, width = (side // 2 * 2 for side in smaller_size(info.size, SHORT_SIDE))
                frames = read_frames(info, range(info.num_frames), (height, width))
                frames = frames.permute(0, 2, 3, 1).numpy()
            else:
                scene = map(torch.from_numpy, draw_scene(720, 1280, SECONDS * FPS))
                small = [resize(frame.permute(2, 0, 1), [256, 456]) for frame in scene]
                frames = torch.stack(small).permute(0, 2, 3, 1).numpy()
            table = measure(frames, Path(place))
            tables.append(table.assign(disk=table["disk"] / table["disk"].iloc[0]))
    mean = sum(tables) / len(tables)
    for column in [column for column in mean if column.endswith("ms")]:
        mean[f"times as fast, {column[:-3]}"] = mean[column].iloc[0] / mean[column]
    print(mean.round(3).to_string())
