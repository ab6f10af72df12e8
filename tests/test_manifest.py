"""The manifest and its class list: what is written comes back, what is wrong is said."""

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pandas as pd
import pytest
from videos import write_video

from blvnet_lab.data import DataSet, dataset_files, mirror_labels
from blvnet_lab.data.dataset_files import COLUMNS
from blvnet_lab.datasets import inventory, layouts
from blvnet_lab.paths import LONGEST_NAME, atomic_write, data_root, plain_name
from blvnet_lab.progress import tqdm

REQUIRED = ["path", "label", "class_name", "split"]
HEAD = "path,label,class_name,split\n"
ROW = ("a.mp4", 0, "run", "val")


def table(*rows: tuple, columns: list[str] = REQUIRED) -> pd.DataFrame:
    return pd.DataFrame(rows, columns=columns)


FULL = dict(
    path="a/clip, one.mp4", label=0, class_name='say "hi"', split="train",
    source_id="-_4YTwq0-73", start=44, end=54.5, part_start=1.5, part_end=7, num_frames=300,
    fps=30000 / 1001, height=256, width=340, status="ok",
    probe='{"num_frames":300,"size":[256,340]}', votes="3",
)  # fmt: skip


def test_everything_comes_back(tmp_path):
    path = DataSet(pd.DataFrame([FULL])).save(tmp_path / "sub" / "manifest.csv")
    back = DataSet.read(path)
    assert list(back.rows.columns) == [*COLUMNS, "votes"]
    row = back.rows.iloc[0].to_dict()
    assert row.pop("path") == str(tmp_path / "sub" / "a" / "clip, one.mp4")
    assert row.pop("fps") == pytest.approx(30000 / 1001, rel=1e-8)
    assert row == {name: value for name, value in FULL.items() if name in row}
    assert back.save(tmp_path / "sub" / "again.csv").read_bytes() == path.read_bytes()


def test_what_is_not_said_is_empty(tmp_path):
    path = DataSet(table(ROW)).save(tmp_path / "manifest.csv")
    assert path.read_text() == HEAD + "a.mp4,0,run,val\n"
    data_set = DataSet.read(path)
    row = data_set.rows.iloc[0]
    assert row["status"] == "ok" and row["probe"] == row["source_id"] == ""
    assert all(pd.isna(row[name]) for name in ("start", "end", "num_frames", "fps", "height"))
    assert data_set.mirror is None


def test_a_folder_moves_with_its_manifest(tmp_path, monkeypatch):
    monkeypatch.setattr(dataset_files, "AT_ONCE", 1)  # written row by row
    inside, outside = tmp_path / "set" / "v" / "a.mp4", tmp_path / "elsewhere" / "b.mp4"
    rows = table((inside, 0, "run", "val"), (outside, 0, "run", "val"))
    path = DataSet(rows).save(tmp_path / "set" / "manifest.csv")
    (tmp_path / "set").rename(tmp_path / "moved")
    paths = DataSet.read(tmp_path / "moved" / path.name).rows["path"]
    assert paths.tolist() == [str(tmp_path / "moved" / "v" / "a.mp4"), str(outside)]


def test_names_stay_as_they_are(tmp_path):
    for name in ("NA", "null", "None", "007", "1e3", " padded ", "true"):
        rows = table((name, 0, name, name))
        found = DataSet.read(DataSet(rows, [name], [0]).save(tmp_path / name / "m.csv"))
        row = found.rows.iloc[0]
        assert (Path(row["path"]).name, row["class_name"], row["split"]) == (name, name, name)
        assert found.classes == (name,)


def test_files_that_are_no_manifest(tmp_path):
    path = tmp_path / "m.csv"
    with pytest.raises(ValueError, match=r"a manifest \(manifest\.csv\).*no file .*m\.csv"):
        DataSet.read(path)
    for text, words in (
        (HEAD + "a.mp4,one,run,val\n", "whole numbers from 0 on in the column label, got 'one'"),
        (HEAD + "a.mp4,1.5,run,val\n", "whole numbers from 0 on in the column label, got '1.5'"),
        (HEAD + "a.mp4,1e30,run,val\n", "column label, got '1e30'"),
        (HEAD + "a.mp4,,run,val\n", "column label, got ''"),
        (HEAD + "a.mp4,-1,run,val\n", "column label, got '-1'"),
        (HEAD[:-1] + ",fps\na.mp4,1,run,val,x\n", "expected numbers from 0 on in the column fps"),
        (HEAD[:-1] + ",fps\na.mp4,1,run,val,inf\n", "in the column fps, got 'inf'"),
        (HEAD[:-1] + ",num_frames\na.mp4,0,run,val,-24\n", "column num_frames, got '-24'"),
        (HEAD + "a.mp4,1,,val\n", "a class_name in every row"),
        (HEAD + "a.mp4,1,  ,val\n", "a class_name in every row"),
        (HEAD + "  ,1,run,val\n", "a path in every row"),
        (HEAD + "a.mp4,1,run,\n", "a split in every row"),
        (HEAD + "a.mp4,0,run,val\nb.mp4,0,walk,val\n", "expected label 0 to be run .*got walk"),
        ("# Notes\n\na, b\nc, d, e, f\n", "expected a CSV file with the columns path"),
        ("path;label\na.mp4;0\n", "columns path, label, .* got 'path;label'; missing: path"),
        ("path,label,name\na.mp4,0,run\n", "columns path, label, class_name.*: class_name, split"),
    ):
        path.write_text(text)
        with pytest.raises(ValueError, match=words) as error:
            DataSet.read(path)
        assert str(path) in str(error.value)


@pytest.mark.parametrize(
    "second",
    ["a.mp4,0,run,val", "./a.mp4,0,run,val", "a.mp4,1,walk,train", "x/../a.mp4,1,walk,test"],
)
@pytest.mark.parametrize("first", ["a.mp4,0,run,train", "a.mp4,0,run,val"])
def test_other_rows_of_one_video_are_refused(tmp_path, first, second):
    """It would be evaluated twice, or on what was trained on, or be of two classes."""
    path = tmp_path / "manifest.csv"
    path.write_text(HEAD + "\n".join([first, second, "b.mp4,1,walk,train"]))
    with pytest.raises(ValueError, match=r'got two of .*a\.mp4: .*only "train" may repeat one'):
        DataSet.read(path)
    rows = table(ROW, ROW).assign(status=["ok", "duplicate"])  # but for a row that is no good
    assert len(DataSet.read(DataSet(rows).save(path)).rows) == 2


def test_a_manifest_that_would_be_refused_is_not_written(tmp_path):
    for row, words in (
        (("b/../a.mp4", 0, "run", "val"), r"every video in one row, got two of a\.mp4"),
        (("b.mp4", 0, "walk", "val"), "expected label 0 to be run .*got walk"),
        (("b.mp4", 1, "hop", "val"), "expected label 1 to be no class"),
    ):
        with pytest.raises(ValueError, match=words):
            DataSet(table(ROW, row), ["run"], [0]).save(tmp_path / "new" / "m.csv")
        assert not (tmp_path / "new").exists()


def test_a_split_and_other_rows_are_of_the_same_classes(tmp_path):
    rows = table(("a.mp4", 1, "walk", "val"), ("b.mp4", 0, "run", "train"))
    found = DataSet(rows)
    assert found.classes == found.split("val").classes == ("run", "walk")
    assert found.split("val").rows["path"].tolist() == ["a.mp4"] and found.mirror is None
    assert found.with_rows(rows[:1]).classes == ("run", "walk")
    with pytest.raises(ValueError, match=r'"test", got none; .*\[\'train\', \'val\'\].* report'):
        found.split("test")


def test_labels_that_are_not_0_to_n():
    for labels in ((1, 2), (0, 2), (0, 0), (0, 1, 1)):
        pairs = [*zip(labels, ("run", "walk", "hop"), strict=False)]
        rows = table(*(("a.mp4", label, name, "val") for label, name in pairs))
        with pytest.raises(ValueError, match=r"expected the labels 0, 1, \.\.\.") as error:
            _ = DataSet(rows).classes
        assert f"{pairs[-1][0]} {pairs[-1][1]}" in str(error.value)


def test_class_list_with_mirror_images(tmp_path):
    names = ("left", "run", "right")
    mirror = mirror_labels(names, [("left", "right")])
    path = DataSet(table(("a.mp4", 1, "run", "val")), names, mirror).save(tmp_path / "m.csv")
    text = "label,class_name,mirror\n0,left,2\n1,run,1\n2,right,0\n"
    assert (tmp_path / "classes.csv").read_text() == text
    found = DataSet.read(path)
    assert found.classes == names and found.mirror == (2, 1, 0) and found.path == path
    assert found.class_list().to_csv(index=False) == text


def test_class_list_with_reversals(tmp_path):
    """One without them is brought up to date; data sets without any are written as before."""
    rows, names, pairs = table(ROW), ("run", "up", "down"), [None, 2, 1]
    old = DataSet(rows, names, [0, 1, 2]).save(tmp_path / "m.csv")
    assert DataSet.read(old).reversal is None
    assert DataSet(rows, names, [0, 1, 2], None, [None] * 3).save(old) == old
    path = DataSet(rows, names, [0, 1, 2], None, pairs).save(tmp_path / "new.csv")
    text = "label,class_name,mirror,reversal\n0,run,0,\n1,up,1,2\n2,down,2,1\n"
    assert (tmp_path / "classes.csv").read_text() == text
    assert DataSet.read(path).split("val").reversal == tuple(pairs)
    with pytest.raises(ValueError, match=r"classes\.csv is there and differs"):
        DataSet(rows, names, [0, 1, 2], None, [0, 2, 1]).save(tmp_path / "other.csv")


def test_class_list_in_another_order_and_with_gaps(tmp_path):
    path = tmp_path / "m.csv"
    path.write_text(HEAD + "a.mp4,0,a,val\n")
    (tmp_path / "classes.csv").write_text("label,class_name,mirror\n1,b,1\n0,a,\n")
    found = DataSet.read(path)
    assert found.classes == ("a", "b") and found.mirror == (None, 1)


def test_class_lists_that_do_not_fit(tmp_path):
    path = tmp_path / "m.csv"
    path.write_text(HEAD + "a.mp4,0,hop,val\n")
    for rows, words in (
        ("0,hop,0,1\n1,b,1,1", "each other's reversal, or .* label 0 has the reversal 1"),
        ("0,hop,1\n1,b,1", "each other's mirror image, or .* label 0 has the mirror 1"),
        ("0,hop,0\n1,b,5", "label 1 has the mirror 5"),
        ("0,hop,1\n1,b,", "label 0 has the mirror 1"),
        ("0,hop,\n2,b,", r"expected the labels 0, 1, \.\.\."),
        ("0,walk,0\n", "expected label 0 to be walk .*got hop"),
        ("", r"expected label 0 to be no class"),
    ):
        reversal = ",reversal" * (rows.count(",") > 2 * len(rows.split("\n")))
        (tmp_path / "classes.csv").write_text(f"label,class_name,mirror{reversal}\n{rows}")
        with pytest.raises(ValueError, match=words):
            DataSet.read(path)


def test_another_class_list_is_not_overwritten(tmp_path):
    for name in ("one.csv", "two.csv"):
        DataSet(table(ROW), ["run"], [0]).save(tmp_path / name)
    before = (tmp_path / "classes.csv").read_bytes()
    with pytest.raises(ValueError, match=r"classes\.csv is there and differs: write"):
        DataSet(table(ROW), ["run", "walk"], [0, 1]).save(tmp_path / "three.csv")
    assert (tmp_path / "classes.csv").read_bytes() == before
    assert not (tmp_path / "three.csv").exists()


def test_plain_names():
    texts = ["air drumming", "a/b: c\\d", ".", "..", "", ".x", "new\nline"]
    names = ["air drumming", "a_b_ c_d", "_", "__", "_", ".x", "new_line"]
    assert [plain_name(text) for text in texts] == names


def test_long_names_are_cut_but_stay_apart(tmp_path):
    for letter in ("a", "é", "日"):
        names = [plain_name(letter * number) for number in (60, 250, 251, 5000)]
        assert names[0] == letter * 60 and len(set(names)) == 4
        for name in names:
            assert len(name.encode()) <= LONGEST_NAME
            (tmp_path / name).mkdir()


def test_an_error_leaves_the_old_file(tmp_path):
    path = tmp_path / "file.txt"
    path.write_text("old")
    with pytest.raises(RuntimeError), atomic_write(path) as partial:
        partial.write_text("ne")
        raise RuntimeError
    assert path.read_text() == "old" and os.listdir(tmp_path) == ["file.txt"]
    with atomic_write(path) as partial:
        partial.write_text("new")
        assert path.read_text() == "old"
    assert path.read_text() == "new" and os.listdir(tmp_path) == ["file.txt"]


def test_where_data_sets_live(tmp_path, monkeypatch):
    monkeypatch.setenv("BLVNET_DATA", str(tmp_path))
    assert data_root() == tmp_path
    for name in (str(tmp_path / "nowhere"), ""):
        monkeypatch.setenv("BLVNET_DATA", name)
        with pytest.raises(FileNotFoundError, match=rf'BLVNET_DATA .*got "{name}": set it'):
            data_root()


def test_of_many_videos_only_some_are_held_at_once(tmp_path, monkeypatch):
    """And there is a bar from the first step on."""
    held, shown = [], []

    class Pool(ThreadPoolExecutor):
        def map(self, function, paths, parts, *others):
            held.append(len(parts))
            return super().map(function, paths, parts, *others)

    def bar(*words, **options):
        shown.append(options.get("desc") or words[1])
        return tqdm(*words, **options)

    monkeypatch.setattr(inventory, "AT_ONCE", 3)
    monkeypatch.setattr(inventory, "ThreadPoolExecutor", Pool)
    for module in (inventory, layouts):
        monkeypatch.setattr(module, "tqdm", bar)
    for k in range(8):
        path = tmp_path / "set" / f"class {k % 2}" / f"{'abcdefgh'[k] * 3}.mp4"
        path.parent.mkdir(parents=True, exist_ok=True)
        write_video(path, 12 + k)
    found = inventory.build_manifest("folder", tmp_path / "set", out=tmp_path / "out")
    rows = DataSet.read(found.manifest).rows
    assert held == [3, 3, 2] and set(rows["num_frames"]) == {*range(12, 20)}
    assert [shown[0], *shown[-2:]] == ["listing", "matching", "opening videos"]
