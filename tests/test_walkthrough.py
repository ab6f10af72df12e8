"""The five commands of docs/first_subset.sh, as a reader types them: from a mirror to an answer."""

import json
import os
import shutil
import subprocess
import sys

import pandas as pd
import pytest
from lab import LIMIT_S, ROOT

from blvnet_lab.data import DataSet, probe_video
from blvnet_lab.training.checkpoint import load_trained


@pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash")
def test_from_a_mirror_to_an_annotated_film(tmp_path):
    out = tmp_path / "out"
    small = {"CLASSES": "2", "SIDE": "48", "VIEWS": "2x3", "TRAIN": "--epochs 1 --batch-size 4"}
    paths = {"OUT": str(out), "PYTHON": sys.executable, "PYTHONPATH": str(ROOT)}
    options = {"capture_output": True, "text": True, "timeout": LIMIT_S, "cwd": tmp_path}
    env, script = os.environ | small | paths | {"OMP_NUM_THREADS": "1"}, "docs/first_subset.sh"
    done = subprocess.run(["bash", str(ROOT / script)], env=env, **options)
    assert done.returncode == 0, done.stderr[-3000:]
    clips = DataSet.read(out / "prepared" / "manifest.csv").rows.query("status == 'ok'")
    assert set(clips["split"]) == {"train", "val"} and clips["class_name"].nunique() == 2
    assert all(min(probe_video(path).size) == 48 for path in clips["path"])
    trained = load_trained(out / "run" / "model.safetensors")
    assert trained.classes == tuple(sorted(clips["class_name"].unique()))
    scores = json.loads((out / "judged" / "scores.json").read_text())
    table = pd.read_csv(out / "judged" / "predictions.csv")
    judged = clips[clips["split"] == "val"]
    assert len(table) == len(judged)
    assert scores["top_1"] == pytest.approx(table["right"].mean())
    assert scores["views"] == "2x3"
    answer, film = (probe_video(path) for path in (out / "answer.mp4", judged["path"].iloc[0]))
    assert answer.num_frames == film.num_frames
    for name in trained.classes:
        assert name in done.stdout, "the answer names both classes"
