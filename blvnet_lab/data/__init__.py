"""From video files to clips."""

from blvnet_lab.data.dataset import ClipDataset, load_clips
from blvnet_lab.data.dataset_files import DataSet, mirror_labels
from blvnet_lab.data.decoding import VideoReadError
from blvnet_lab.data.probing import probe_video
from blvnet_lab.data.reading import check_video, read_frames
from blvnet_lab.data.sampling import sample_dense, sample_uniform, sample_views
from blvnet_lab.data.transforms import (
    denormalize,
    evaluation_transform,
    normalize,
    training_transform,
    useful_short_side,
    view_transform,
)
