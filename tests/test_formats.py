"""Every data set's own layout, as published, becomes rows of a manifest, and a report."""

import errno
import os
import sys
from pathlib import Path

import pandas as pd
import pytest
from lab import type_command
from listing import findings, listed, rows
from PIL import Image
from videos import draw, write_video

from blvnet_lab.data import ClipDataset, DataSet
from blvnet_lab.data import probing as probing_module
from blvnet_lab.datasets.layouts import find_videos, read_lists
from blvnet_lab.datasets.selection import Selection, mirror_table, mirrored_names


@pytest.fixture(scope="module")
def clips(tmp_path_factory) -> dict[str, Path]:
    """One small video of each suffix."""
    folder = tmp_path_factory.mktemp("clips")
    made = {"mp4": write_video(folder / "a.mp4", 6, size=(32, 48))}
    made["avi"] = write_video(folder / "a.avi", 5, size=(32, 48), codec="mpeg4")
    made["webm"] = write_video(folder / "a.webm", 4, size=(32, 48), codec="libvpx-vp9")
    made["mkv"] = write_video(folder / "a.mkv", 6, size=(32, 48))
    return made


@pytest.fixture
def put(tmp_path, clips):
    """Puts a video at each of the paths below tmp_path/set, no two equal; returns that folder."""

    def put(*paths: str) -> Path:
        for path in paths:
            target = tmp_path / "set" / path
            target.parent.mkdir(parents=True, exist_ok=True)
            kind, mark = path.rpartition(".")[2], path.encode()
            header = {"mp4": (len(mark) + 8).to_bytes(4, "big") + b"free", "avi": b""}
            header = header.get(kind, b"\xec" + bytes([128 + len(mark)]))  # Matroska's nothing
            target.write_bytes(clips[kind].read_bytes() + header + mark)
        return tmp_path / "set"

    return put


def write(root: Path, name: str, text: str) -> None:
    (root / name).parent.mkdir(parents=True, exist_ok=True)
    (root / name).write_bytes(text.encode())


def write_pictures(folder: Path, count: int, first: int = 0) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for k in range(count):
        Image.fromarray(draw(first + k, (32, 48))).save(folder / f"{k + 1:05d}.jpg")


# ---------------------------------------------------------------- Kinetics
K400_TRAIN = """label,youtube_id,time_start,time_end,split,is_cc
abseiling,_4YTwq0-73Y,44,54,train,0
"air drumming",_axE99QAhe8,26,36,train,0
"massaging person's head",-GTpqutxCK0,88,98,train,0
abseiling,missing0000,0,10,train,0
"""
K400_VAL = """label,youtube_id,time_start,time_end,split,is_cc
"massaging person's head",_GTpqutxCK0,88,98,val,0
abseiling,-4YTwq0-73Z,100000,100010,val,0
"""
K400_FILES = {
    "_4YTwq0-73Y_000044_000054": "abseiling",
    "_axE99QAhe8_000026_000036": "air drumming",
    "-GTpqutxCK0_000088_000098": "massaging person's head",
    "_GTpqutxCK0_000088_000098": "massaging person's head",
    "-4YTwq0-73Z_100000_100010": "abseiling",
}


def write_kinetics(root: Path, *, train: str = "", val: str = "", where: str = "") -> None:
    """The two lists of Kinetics-400, and more rows of each."""
    write(root, f"{where}train.csv", K400_TRAIN + train)
    write(root, f"{where}val.csv", K400_VAL + val)


def table_of(found) -> pd.DataFrame:
    return DataSet.read(found.manifest).rows


def paths_below(root: Path, table: pd.DataFrame) -> list[str]:
    return [Path(path).relative_to(root).as_posix() for path in table["path"]]


@pytest.mark.parametrize("layout", ["flat", "splits", "classes", "underscores", "bare", "mkv"])
@pytest.mark.parametrize("where", ["", "annotations/"])
def test_kinetics_as_people_have_it(layout, where, put, tmp_path):
    for i, (name, label) in enumerate(K400_FILES.items()):
        folder = {
            "splits": ("train/" if i < 3 else "val/"),
            "classes": f"{label}/",
            "underscores": f"{'train' if i < 3 else 'val'}/{label.replace(' ', '_')}/",
        }.get(layout, "")
        suffix = "mkv" if layout == "mkv" else "mp4"
        root = put(f"{folder}{name[:11] if layout == 'bare' else name}.{suffix}")
    write_kinetics(root, where=where)
    found = listed("kinetics400", root, tmp_path / "out")
    columns = ("class_name", "label", "split", "source_id", "start", "end", "status")
    assert [row for row in rows(found.manifest, *columns) if row[-1] == "ok"] == [
        ("abseiling", 0, "train", "_4YTwq0-73Y", 44, 54, "ok"),
        ("abseiling", 0, "val", "-4YTwq0-73Z", 100000, 100010, "ok"),
        ("air drumming", 1, "train", "_axE99QAhe8", 26, 36, "ok"),
        ("massaging person's head", 2, "train", "-GTpqutxCK0", 88, 98, "ok"),
        ("massaging person's head", 2, "val", "_GTpqutxCK0", 88, 98, "ok"),
    ]
    assert findings(found) == {("row without video", "train", "missing0000_000000_000010")}
    table = table_of(found)
    ok = table[table["status"] == "ok"]
    assert (ok[["num_frames", "fps", "height", "width"]] == [6, 25, 32, 48]).all(axis=None)
    assert table.loc[table["status"] == "missing", "num_frames"].isna().all()
    assert list(DataSet.read(found.manifest).mirror) == [0, 1, 2]
    # It is what training wants.
    clip, label = ClipDataset(DataSet(table), "train", 4, lambda frames: frames)[0]
    assert clip.shape == (4, 3, 32, 48) and label == 0


@pytest.mark.parametrize("dataset", ["kinetics600", "kinetics700-2020"])
def test_other_kinetics_lack_a_column_and_say_validate(dataset, put, tmp_path):
    root = put("abc-defghij_000001_000011.mp4", "train/abcdefghijk_000001_000011.mp4")
    header = "label,youtube_id,time_start,time_end,split\r\n"
    write(root, f"{dataset}/train.csv", header + "adjusting glasses,abcdefghijk,1,11,train\r\n")
    val = "\ufeff" + header + "zumba,abc-defghij,1,11,validate\r\n"
    write(root, f"{dataset}/validate.csv", val)
    write(root, f"{dataset}/test.csv", "youtube_id,time_start,time_end,split\r\nabcd,1,11,test\r\n")
    found = listed(dataset, root, tmp_path / "out")
    kept = rows(found.manifest, "class_name", "split", "status")
    assert kept == [("adjusting glasses", "train", "ok"), ("zumba", "val", "ok")]
    assert findings(found) == set()


def test_every_kind_of_finding(put, tmp_path):
    root = put(
        "train/_4YTwq0-73Y_000044_000054.mp4",
        "val/_4YTwq0-73Y_000044_000054.mp4",  # the same clip in two places
        "_axE99QAhe8_000026_000036.mp4",
        "-GTpqutxCK0_000088_000098.mp4",
        "_GTpqutxCK0_000088_000098.mp4",
        "nobody knows.mp4",
        "sub/.hidden.mp4",
    )
    (root / "_axE99QAhe8_000026_000036.mp4").write_text("<html>404</html>")
    fast = {"container_options": {"movflags": "+faststart"}}
    whole = write_video(tmp_path / "b.mp4", 48, size=(32, 48), **fast).read_bytes()
    (root / "-GTpqutxCK0_000088_000098.mp4").write_bytes(whole[: len(whole) * 3 // 4])
    more = {"train": "abseiling,_4YTwq0-73Y,44,54,train,0\n"}
    write_kinetics(root, **more, val="abseiling,_axE99QAhe8,50,60,val,0\n")
    found = listed("kinetics400", root, tmp_path / "out")
    assert findings(found) == {
        ("duplicate video", "train", "_4YTwq0-73Y_000044_000054.mp4"),
        ("duplicate row", "train", "_4YTwq0-73Y_000044_000054"),
        ("row without video", "train", "missing0000_000000_000010"),
        ("row without video", "val", "_axE99QAhe8_000050_000060"),
        ("row without video", "val", "-4YTwq0-73Z_100000_100010"),
        ("video without row", "", "nobody knows.mp4"),
        ("unreadable", "train", "_axE99QAhe8_000026_000036.mp4"),
        ("damaged", "train", "-GTpqutxCK0_000088_000098.mp4"),
    }
    expected = {"damaged": 1, "duplicate": 1, "missing": 1, "ok": 1, "unreadable": 1}
    assert found.counts.loc["train"].to_dict() == expected
    kept = table_of(found).query("source_id == '_4YTwq0-73Y' and status == 'ok'")
    assert Path(kept["path"].iloc[0]).parent.name == "train", "the one in the folder of its split"


@pytest.mark.parametrize("names", [("0", "1"), ("abseiling", "air drumming")])
def test_a_list_of_paths_and_labels(names, put, tmp_path):
    root = put("some folder/a b.mp4", "c.mp4", "d.avi")
    first, second = names
    write(root, "train.txt", f"some folder/a b.mp4 {first}\nd.avi {second}\n")
    write(root, "val.txt", f"/elsewhere/set/c.mp4 {second}\n")
    found = listed("list", root, tmp_path / "out", annotations=root)
    assert rows(found.manifest, "path", "class_name", "label", "split") == [
        ("a b.mp4", first, 0, "train"),
        ("c.mp4", second, 1, "val"),
        ("d.avi", second, 1, "train"),
    ]
    one = listed("list", root, tmp_path / "one", annotations=root / "train.txt")
    assert set(table_of(one)["split"]) == {"train"}, "of two classes of one source"
    write(root, "one_based.txt", "d.avi 2\n")
    assert read_lists("list", root, annotations=root / "one_based.txt").classes == ["0", "1", "2"]


def test_lists_that_make_no_sense(put, tmp_path):
    root = put("c.mp4")
    for text, words in (
        (None, "as annotations a file of lines `path label`, .*found none at"),
        ("", "as annotations a file of lines `path label`, .*found none at"),
        ("c.mp4 20231201\n", r"numbers below 100,000, got 20231201: number them from 0 on"),
        ("my c.MP4 \n", r"`path label` in every line, got 'my c\.MP4'"),
        ("\nc.mp4\n", r"a\.txt: expected `path label` in every line, got 'c\.mp4'"),
        ("run/a.mp4 120 0\nb.mp4 90 1\n", r"`path frames label`: take the number of frames"),
        ("run/a 120 0\nb 90 1\n", r"`path frames label`: take the number of frames"),
        ("caf\xe9/c.mp4 0\n", r"a\.txt: expected text in UTF-8, got .* byte 0xe9 .*: save it"),
        ("path,label\nc.mp4,\n", "as annotations a file of lines `path label`, .*found none at"),
    ):
        if text is not None:
            (root / "a.txt").write_text(text, "latin-1")
        with pytest.raises(ValueError, match=words):
            listed("list", root, tmp_path, annotations=root / "a.txt")


def test_lists_in_more_files(put, tmp_path):
    """Of videos whose names differ in suffix or folder only; some were written on Windows."""
    root, lists = put("run/a.mp4", "b.mp4", "run/a.mkv", "walk/b.mp4"), tmp_path / "lists"
    write(lists, "train.txt", "run\\a.mp4 0\r\nb.mp4 1\r\nrun\\a.mkv 1\r\nwalk\\b.mp4 0\r\n")
    found = listed("list", root, tmp_path / "out", annotations=lists)
    table = table_of(found)
    labels = dict(zip(paths_below(root, table), table["label"], strict=True))
    assert labels == {"run/a.mkv": 1, "run/a.mp4": 0, "b.mp4": 1, "walk/b.mp4": 0}


# ---------------------------------------------------------------- a subset of what is there
def many_clips(put) -> Path:
    names = [f"{k:011d}_000000_000010" for k in range(24)]
    root = put(*(f"{name}.mp4" for name in names))
    for name in names[:4]:
        (root / f"{name}.mp4").write_text("broken")
    lines = [f"class {k % 3},{name[:11]},0,10" for k, name in enumerate(names)]
    write(root, "train.csv", "\n".join(["label,youtube_id,time_start,time_end", *lines]))
    return root


def test_a_subset_is_drawn_from_the_readable_clips(put, tmp_path):
    root = many_clips(put)
    chosen = {"classes": ["class 0", "class 2"], "clips_per_class": 6}
    found = listed("kinetics400", root, tmp_path / "a", **chosen, seed=1)
    table = table_of(found)
    sizes = table.query("status == 'ok'").groupby(["class_name", "label"]).size()
    assert sizes.to_dict() == {("class 0", 0): 6, ("class 2", 1): 6}
    assert "video without row" not in found.problems["kind"].tolist(), "those of class 1 have rows"
    again = listed("kinetics400", root, tmp_path / "b", **chosen, seed=1)
    other = listed("kinetics400", root, tmp_path / "c", **chosen, seed=2)
    texts = [found.manifest.read_text(), again.manifest.read_text(), other.manifest.read_text()]
    assert texts[0] == texts[1] != texts[2]
    # Of class 0 two clips are broken, so that 6 of the 8 are all; more cannot be had.
    found = listed("kinetics400", root, tmp_path / "d", classes=["class 0"],
                           clips_per_class=7)  # fmt: skip
    assert ("class with fewer clips", "train", "class 0") in findings(found)
    assert (table_of(found)["status"] == "ok").sum() == 6


def test_another_class_list_is_noticed_before_the_work(put, tmp_path, monkeypatch):
    root = many_clips(put)
    listed("kinetics400", root, tmp_path / "out", classes=["class 0"])
    monkeypatch.setattr(probing_module, "probe_video", None)
    with pytest.raises(ValueError, match=r"classes\.csv is there and differs"):
        listed("kinetics400", root, tmp_path / "out")


NAMES = ["abseiling", "air drumming", "applauding", "archery", "massaging person's head", "a, b"]


def test_choosing_classes_by_name_by_a_file_or_a_number(tmp_path):
    for typed, names in (
        (["archery,", "abseiling"], ["abseiling", "archery"]),
        (["abseiling, air drumming"], ["abseiling", "air drumming"]),
        (['archery, "a, b"'], ["archery", "a, b"]),
        (['"a, b", massaging person\'s head'], ["massaging person's head", "a, b"]),
        ([], NAMES),
    ):
        assert Selection(classes=typed).choose_classes(NAMES) == names
    file, empty = tmp_path / "names.txt", tmp_path / "empty.txt"
    file.write_text('# mine\n"air drumming"\n\nmassaging person\'s head\n')
    empty.write_text("# none yet\n")
    (odd := tmp_path / "odd.txt").write_bytes(b"na\xefve\n")
    chosen = Selection(class_list=file).choose_classes(NAMES)
    assert chosen == ["air drumming", "massaging person's head"]
    drawn = {tuple(Selection(num_classes=3, seed=seed).choose_classes(NAMES)) for seed in range(20)}
    assert len(drawn) > 5 and all(len(set(few)) == 3 for few in drawn)
    again = Selection(num_classes=3, seed=4).choose_classes(NAMES[::-1])
    assert again[::-1] == Selection(num_classes=3, seed=4).choose_classes(NAMES)
    for wish, words in [
        ({"classes": ["archery", "abseling"]}, "classes, got 'abseling'; near it are abs"),
        ({"num_classes": 7}, "1 to 6 classes, got 7"),
        ({"class_list": empty}, "names of classes, got 'none'"),
        ({"class_list": odd}, r"odd\.txt: expected text in UTF-8, got .* byte 0xef"),
        ({"num_classes": 2, "classes": ["archery"]}, "one way to choose classes"),
    ]:
        with pytest.raises(ValueError, match=words):
            Selection(**wish).choose_classes(NAMES)
    with pytest.raises(ValueError, match="names of classes, got 'none'"):  # "none" may be a class
        Selection(class_list=empty).choose_classes([*NAMES, "none"])
    for number in (0, -3):
        with pytest.raises(ValueError, match=f"at least one clip a class, got {number}"):
            Selection(clips_per_class=number)


TEMPLATES = [f"Doing [something] number {k}" for k in range(174)]
TEMPLATES[86] = "Pulling [something] from left to right"
TEMPLATES[87] = "Pulling [something] from right to left"


@pytest.mark.parametrize("generation", ["something-something-v2-{}.json", "labels/{}.json"])
def test_something_something_v2(generation, put, tmp_path):
    root = put("20bn-something-something-v2/78687.webm", "20bn-something-something-v2/42.webm")
    plain = [name.replace("[", "").replace("]", "") for name in TEMPLATES]
    labels = {name: str(k) for k, name in reversed(list(enumerate(plain)))}
    entry = '{{"id":"{}","label":"pulling a pen","template":"{}","placeholders":["a pen"]}}'
    write(root, generation.format("labels"), str(labels).replace("'", '"'))
    write(root, generation.format("train"), f"[{entry.format(78687, TEMPLATES[86])}]")
    write(root, generation.format("validation"), f"[{entry.format(42, TEMPLATES[3])}]")
    write(root, generation.format("test"), '[{"id":"1420"}]')
    found = listed("something-something-v2", root, tmp_path / "out")
    assert rows(found.manifest, "source_id", "label", "class_name", "split", "num_frames") == [
        ("42", 3, plain[3], "val", 4),
        ("78687", 86, "Pulling something from left to right", "train", 4),
    ]
    assert findings(found) == set()
    mirror = list(DataSet.read(found.manifest).mirror)
    swapped = {86: 87, 87: 86, 93: 94, 94: 93, 166: 167, 167: 166}
    assert mirror == [swapped.get(k, k) for k in range(174)]


def test_something_something_v1_in_folders_of_pictures(tmp_path):
    root = tmp_path / "set"
    for name in ("100218", "7"):
        write_pictures(root / "frames" / name, 5)
    (root / "frames" / "7" / "00002.jpg").unlink()
    names = [f"Doing something number {k}" for k in range(174)]
    write(root, "something-something-v1-labels.csv", "\n".join(names))
    write(root, "something-something-v1-train.csv", f"100218;{names[2]}\n7;{names[0]}\n")
    write(root, "something-something-v1-validation.csv", f"9;{names[5]}\n")
    write(root, "something-something-v1-test.csv", "11\n")
    found = listed("something-something-v1", root, tmp_path / "out")
    assert rows(found.manifest, "source_id", "label", "split", "status") == [
        ("100218", 2, "train", "ok"),
        ("7", 0, "train", "unreadable"),
        ("9", 5, "val", "missing"),
    ]
    assert findings(found) == {("unreadable", "train", "7"), ("row without video", "val", "9")}
    swapped = {2: 4, 4: 2, 30: 41, 41: 30, 52: 66, 66: 52}
    mirror = list(DataSet.read(found.manifest).mirror)
    assert mirror == [swapped.get(k, k) for k in range(174)]
    clip, _ = ClipDataset(DataSet.read(found.manifest), "train", 4, lambda frames: frames)[0]
    assert clip.shape == (4, 3, 32, 48)


def test_labels_of_something_something(tmp_path):
    write(tmp_path, "labels/train.json", '\ufeff[{"id":"1","template":"Throwing [something]"}]')
    for labels, words in (
        ('{"Throwing something": "1", "Catching something": "2"}', "number its classes 0, 1"),
        ('["Throwing something"]', "number its classes 0, 1"),
        ("<html>", r"labels\.json: expected JSON, got"),
        ('{"Catching something": "0"}', "got 'Throwing something': take lists of the same"),
    ):
        write(tmp_path, "labels/labels.json", labels)
        with pytest.raises(ValueError, match=words):
            read_lists("something-something-v2", tmp_path)
    labels = '\ufeff{"Throwing something": "0", "Catching something": "1"}'
    write(tmp_path, "labels/labels.json", labels)
    found = read_lists("something-something-v2", tmp_path)
    assert found.classes == ["Throwing something", "Catching something"]
    assert found.mirrored == [], "somebody's own part of it has none of the known pairs"


def test_moments_in_time(put, tmp_path):
    """One name of a file in both splits, and in two classes."""
    paths = ["training/adult+male+singing/a.mp4", "training/clapping/a.mp4",
             "validation/clapping/a.mp4"]  # fmt: skip
    root = put(*paths)
    write(root, "moments_categories.txt", "clapping,0\nadult+male+singing,1\n")
    write(root, "trainingSet.csv", "adult+male+singing/a.mp4,adult+male+singing,3,0\n"
          "clapping/a.mp4,clapping,4,1\n")  # fmt: skip
    write(root, "validationSet.csv", "clapping/a.mp4,clapping,5,0\n")
    found = listed("moments-in-time", root, tmp_path / "out")
    table = table_of(found)
    assert paths_below(root, table) == paths
    assert rows(found.manifest, "class_name", "label", "split", "status") == [
        ("adult+male+singing", 1, "train", "ok"),
        ("clapping", 0, "train", "ok"),
        ("clapping", 0, "val", "ok"),
    ]
    assert findings(found) == {("source in several splits", "", "a.mp4")}


@pytest.mark.parametrize("flat", [False, True])
@pytest.mark.parametrize("fold", [1, 2])
def test_ucf101(fold, flat, put, tmp_path):
    files = ["v_Archery_g01_c01", "v_Archery_g01_c02", "v_Archery_g08_c01", "v_Biking_g01_c01"]
    paths = [f"{name.split('_')[1]}/{name}.avi" for name in files]
    root = put(*(f"{name}.avi" for name in files) if flat else (f"UCF-101/{p}" for p in paths))
    lists = root if flat else root / "ucfTrainTestlist"
    write(lists, "classInd.txt", "1 Archery\n2 Biking\n")
    train, test = ([2], [0, 1, 3]) if fold == 1 else ([0, 1, 3], [2])
    labelled = [f"{paths[k]} {1 + ('Biking' in paths[k])}\r\n" for k in train]
    write(lists, f"trainlist0{fold}.txt", "".join(labelled))
    write(lists, f"testlist0{fold}.txt", "".join(f"{paths[k]}\r\n" for k in test))
    found = listed("ucf101", root, tmp_path / "out", fold=fold)
    columns = ("path", "label", "class_name", "split", "source_id", "num_frames")
    split = ["train" if k in train else "val" for k in range(4)]
    assert rows(found.manifest, *columns) == [
        ("v_Archery_g01_c01.avi", 0, "Archery", split[0], "Archery_g01", 5),
        ("v_Archery_g01_c02.avi", 0, "Archery", split[1], "Archery_g01", 5),
        ("v_Archery_g08_c01.avi", 0, "Archery", split[2], "Archery_g08", 5),
        ("v_Biking_g01_c01.avi", 1, "Biking", split[3], "Biking_g01", 5),
    ]
    assert findings(found) == set()


def test_a_folder_for_each_class(put, tmp_path):
    names = [f"{name}/{k}.{suffix}" for name in ("wave left", "wave right", "turn left", "jump")
             for k, suffix in enumerate(["mp4", "avi", "webm", "mkv", "mp4"])]  # fmt: skip
    root = put(*names, "loose.mp4")
    write(root, "jump/notes.txt", "not a video")
    found = listed("folder", root, tmp_path / "out", val_share=0.4, seed=3)
    table = table_of(found)
    assert table.groupby(["class_name", "split"]).size().to_dict() == {
        (name, split): count
        for name in ("wave left", "wave right", "turn left", "jump")
        for split, count in (("train", 3), ("val", 2))
    }
    data_set = DataSet.read(found.manifest)
    assert data_set.classes == ("jump", "turn left", "wave left", "wave right")
    assert data_set.mirror == (0, None, 3, 2)
    said = {("video without row", "", "loose.mp4"), ("files passed over", "", ".txt")}
    assert findings(found) == said
    again = listed("folder", root, tmp_path / "again", val_share=0.4, seed=3)
    assert again.manifest.read_bytes() == found.manifest.read_bytes()
    other = listed("folder", root, tmp_path / "other", val_share=0.4, seed=4)
    assert other.manifest.read_bytes() != found.manifest.read_bytes()


SPLITS = ("train", "val"), ("Train", "valid"), ("training", "Validation"), ("TRAIN", "test")


@pytest.mark.parametrize("first, second", SPLITS)
def test_folders_of_splits(first, second, put, tmp_path):
    root = put(f"{first}/run/a.mp4", f"{first}/walk/b.mp4", f"{second}/run/a.mp4",
               f"{second}/walk/deep/c.avi")  # fmt: skip
    (root / first / "run" / "a.mp4").rename(root / first / "run" / "A.MP4")
    found, split = listed("folder", root, tmp_path / "out"), second[:4].lower()
    split = "test" if second == "test" else "val"
    assert rows(found.manifest, "path", "class_name", "split", "status") == [
        ("A.MP4", "run", "train", "ok"),
        ("a.mp4", "run", split, "ok"),
        ("b.mp4", "walk", "train", "ok"),
        ("c.avi", "walk", split, "ok"),
    ]
    only = listed("folder", root, tmp_path / "val", split=[split])
    assert set(DataSet.read(only.manifest).rows["split"]) == {split}
    with pytest.raises(ValueError, match=rf"splits among {split}, train|train, {split}, got vla"):
        listed("folder", root, tmp_path / "vla", split=["vla"])


def one_sided(names, pairs):
    """Classes whose mirror image belongs to no class."""
    return [n for n, other in zip(names, mirror_table(names, pairs), strict=True) if other is None]


def test_mirror_images_however_they_are_written():
    for one, other in (
        ("Left turn", "Right turn"), ("SwipingLeft", "SwipingRight"), ("LEFTTurn", "RIGHTTurn"),
        ("TurnLeft90", "TurnRight90"), ("top-left", "top-right"), ("\u00c0 left", "\u00e0 right"),
        ("Left-Handed throw", "Right-Handed throw"), ("TURN_CW", "TURN_CCW"),
        ("Turning Clockwise", "Turning Counter-Clockwise"),
        ("turn clockwise", "turn anticlockwise"),
        ("roll left clockwise", "roll right counterclockwise"),
        ("Pushing from Left to Right", "Pushing from Right to Left"),
    ):  # fmt: skip
        for names in ([one, "jump", other], [other, one]):
            (pair,) = mirrored_names(names)
            assert set(pair) == {one, other} and one_sided(names, [pair]) == []
        assert mirrored_names([one, "jump"]) == [] and one_sided([one, "jump"], []) == [one]
        with_others = [one, "cleft", other, "go left", "left-handed"]
        assert one_sided(with_others, mirrored_names(with_others)) == ["go left", "left-handed"]


def test_names_that_only_look_like_mirror_images():
    for names in (
        ["Wleft", "Wright"], ["leftover", "rightover"], ["upleft", "upright"], ["L", "R"],
        ["left\u00e9", "right\u00e9"], ["lefty", "righty"], ["clockwisely", "counterclockwisely"],
    ):  # fmt: skip
        assert mirrored_names(names) == [] == one_sided(names, [])
    # There is no telling which of two is the partner; and all that has a side changes it.
    names = ["go left", "Go Left", "go right"]
    assert mirrored_names(names) == [] and one_sided(names, []) == names
    assert mirrored_names(["left clockwise", "right clockwise"]) == []
    assert mirrored_names(["camera 1 left", "camera 2 right"]) == []


# ---------------------------------------------------------------- what is not there
def test_no_video_at_all_says_what_was_looked_for(put, tmp_path):
    root = put("other/name.mp4")
    write(root, "train.csv", K400_TRAIN)
    with pytest.raises(ValueError, match=r"in .*, such as _4YTwq0-73Y_000044_000054, "):
        listed("kinetics400", root, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_the_command(put, tmp_path, monkeypatch, capsys):
    put("kinetics400/_4YTwq0-73Y_000044_000054.mp4")
    write(tmp_path / "set" / "kinetics400", "train.csv", K400_TRAIN)
    command = ["manifest", "kinetics400", "--out", "out", "--classes"]
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("BLVNET_DATA", str(tmp_path / "set"))
    type_command(monkeypatch, *command, "abseiling, air drumming", "--split", "train")
    said = capsys.readouterr().out
    assert "missing" in said and "row without video" in said
    assert sorted(os.listdir(tmp_path / "out")) == ["classes.csv", "manifest.csv", "report.csv"]
    with pytest.raises(SystemExit, match="near it are abseiling"):
        type_command(monkeypatch, *command, "absailing")


@pytest.mark.parametrize(
    "folders, broken, kept, finding",
    [
        (("train", "val"), None, "val", "duplicate video"),
        (("copies", "val"), "val", "copies", "replaced video"),
        (("other", "train"), None, "other", "duplicate video"),  # the first by name, as neither
    ],
)
def test_of_two_copies_one_counts(folders, broken, kept, finding, put, tmp_path):
    """The readable one, or that in the folder of its split; folders above do not matter."""
    name = "_4YTwq0-73Y_000044_000054.mp4"
    root = put(*(f"val/{folder}/{name}" for folder in folders)) / "val"
    if broken:
        (root / broken / name).write_bytes(b"")
    write(root, "val.csv", K400_TRAIN.replace(",train,", ",val,"))
    write(root, "train.csv", "label,youtube_id,time_start,time_end\n")
    found = listed("kinetics400", root, tmp_path / "out")
    table = table_of(found).query("status == 'ok'")
    assert table["path"].tolist() == [str(root / kept / name)]
    assert (finding, "val", name) in findings(found)


def test_a_corrupt_clip_of_kinetics_has_a_replacement(put, tmp_path):
    """As unpacked: a folder of files whose first eleven characters are the ids of clips."""
    names = [f"_4YTwq0-73Y_{begin:06d}_{begin + 10:06d}" for begin in (44, 100)]
    names.append("_axE99QAhe8_000026_000036")
    root = put(
        "val/_GTpqutxCK0_000088_000098.mp4",
        *(f"train/{name}.mp4" for name in names),
        "replacement_for_corrupted_k400/_4YTwq0-73Y.mp4",
        "replacement_for_corrupted_k400/_axE99QAhe8_000026_000036_new.mp4",
        "replacement_for_corrupted_k400/missing0000.mp4",
        "replacement_for_corrupted_k400/whoever0000.mp4",
    )
    for name in names:
        (root / f"train/{name}.mp4").write_bytes(b"corrupt")
    write_kinetics(root, train="abseiling,_4YTwq0-73Y,100,110,train,0\n")
    found = listed("kinetics400", root, tmp_path / "out")
    assert rows(found.manifest, "status", "path", "class_name")[:4] == [
        ("duplicate", "_4YTwq0-73Y.mp4", "abseiling"),  # it stands in for one clip
        ("missing", "-4YTwq0-73Z_100000_100010", "abseiling"),
        ("missing", "-GTpqutxCK0_000088_000098", "massaging person's head"),
        ("ok", "_4YTwq0-73Y.mp4", "abseiling"),
    ]
    assert len(table_of(found).query("status == 'ok'")) == 4
    assert findings(found) == {
        *(("replaced video", "train", f"{name}.mp4") for name in names),
        ("row without video", "train", "-GTpqutxCK0_000088_000098"),
        ("row without video", "val", "-4YTwq0-73Z_100000_100010"),
        ("video without row", "", "whoever0000.mp4"),
    }
    # That of another class is no finding, nor that of a clip that is well.
    root = put("replacement_for_corrupted_k400/_GTpqutxCK0.mp4")
    found = listed("kinetics400", root, tmp_path / "few", classes=["massaging person's head"])
    assert {kind for kind, _, _ in findings(found)} == {"row without video", "video without row"}
    assert ("video without row", "", "whoever0000.mp4") in findings(found)


# ---------------------------------------------------------------- what was there before
def test_an_older_manifest_that_differs_is_kept(put, tmp_path):
    root, out = many_clips(put), tmp_path / "out"
    write(out, "manifest.csv", "what,ever\n")
    write(out, "report.csv", "my notes\n")
    first = listed("kinetics400", root, out, classes=["class 0"])
    assert [path.name for path in first.backups] == ["manifest.1.csv", "report.1.csv"]
    assert f"{out / 'manifest.1.csv'} is the file that was there before" in str(first)
    assert (out / "manifest.1.csv").read_text() == "what,ever\n"
    assert (out / "report.1.csv").read_text() == "my notes\n"
    full = first.manifest.read_bytes()
    assert listed("kinetics400", root, out, classes=["class 0"]).backups == ()
    fewer = listed("kinetics400", root, out, classes=["class 0"], clips_per_class=2)
    assert [path.name for path in fewer.backups] == ["manifest.2.csv"]
    assert (out / "manifest.2.csv").read_bytes() == full


def test_again_without_changes_nothing_is_kept_and_only_broken_files_are_opened(
    put, tmp_path, monkeypatch
):
    """Also with rows that have no video, and with duplicates of another class and split."""
    root = put(*(f"{name}.mp4" for name in K400_FILES))
    broken, other = (root / f"{[*K400_FILES][k]}.mp4" for k in (0, 3))
    broken.write_bytes(b"no video")
    write_kinetics(root, val="abseiling,_axE99QAhe8,26,36,val,0\n")
    monkeypatch.chdir(root)
    probe, looked = probing_module.probe_video, []
    for k in range(3):
        found = listed("kinetics400", "../set", "../out")
        assert found.backups == ()
        assert set(table_of(found)["status"]) == {"missing", "duplicate", "unreadable", "ok"}
        assert [Path(path) for path in looked] == [broken] * k
        monkeypatch.setattr(probing_module, "probe_video", lambda p: looked.append(p) or probe(p))
    write_video(other, 12, size=(32, 48))
    table = table_of(listed("kinetics400", "../set", "../out"))
    assert table.loc[table["path"] == str(other), "num_frames"].item() == 12


def test_videos_that_differ_in_their_suffix_or_folder_only(put, tmp_path):
    root = put("run/a.mp4", "run/a.mkv", "walk/a.mp4", "walk/run/a.mp4")
    found = listed("folder", root, tmp_path / "out", val_share=0.5)
    table = table_of(found)
    assert sorted(zip(paths_below(root, table), table["class_name"], strict=True)) == [
        ("run/a.mkv", "run"), ("run/a.mp4", "run"), ("walk/a.mp4", "walk"),
        ("walk/run/a.mp4", "walk"),
    ]  # fmt: skip
    assert set(table["status"]) == {"ok"}
    said = {("class without val", "val", "run"), ("recognised source", "", "a")}
    assert findings(found) == said
    of_a = table[table["source_id"] == "run/a"]
    assert len(of_a) == 2 and of_a["split"].nunique() == 1, "one video in two formats"


def test_links_are_followed_and_circles_noticed(put, tmp_path):
    root = put("elsewhere/a.mp4", "set/walk/b.mp4", "set/.trash/c.mp4", "set/walk/.d.mp4") / "set"
    (root / "run").symlink_to(root.parent / "elsewhere")
    (root / "walk" / "back").symlink_to(root)
    (root / "walk" / "itself").symlink_to(root / "walk")
    (root / "walk" / "broken.mp4").symlink_to(root / "nowhere.mp4")
    (root / "walk" / "linked.mp4").symlink_to(root.parent / "elsewhere" / "a.mp4")
    found = listed("folder", root, tmp_path / "out", val_share=0.5)
    kept = [("a.mp4", "run", "ok"), ("b.mp4", "walk", "ok"), ("linked.mp4", "walk", "ok")]
    assert rows(found.manifest, "path", "class_name", "status") == kept
    assert findings(found) == {
        ("class without val", "val", "run"),  # it has only one video
        ("equal files", "", "linked.mp4"),
        ("files passed over", "", "hidden"),
        ("files passed over", "", ".mp4"),  # a link to nothing
    }
    for here, there in ("ab", "ba"):
        write(tmp_path / "c", f"{here}/1.mp4", "")
        (tmp_path / "c" / here / f"to_{there}").symlink_to(tmp_path / "c" / there)
    names = [os.path.relpath(path, tmp_path / "c") for path in find_videos(tmp_path / "c")[0]]
    assert names == ["a/1.mp4", "a/to_b/1.mp4", "b/1.mp4", "b/to_a/1.mp4"]


# ---------------------------------------------------------------- what files may look like
def test_marks_that_editors_leave(put, tmp_path):
    """Byte-order marks, capitals, spaces and times like 44.0."""
    root = put("_4YTwq0-73Y_000044_000054.mp4")
    (root / "_4YTwq0-73Y_000044_000054.mp4").rename(root / "_4YTwq0-73Y_000044_000054.MP4")
    header = "\ufeffLabel, YouTube_ID ,time_start,time_end,split\n"
    write(root, "train.csv", header + "abseiling,_4YTwq0-73Y,44.0,54.0,train\n")
    found = listed("kinetics400", root, tmp_path / "out")
    (row,) = rows(found.manifest, "path", "start", "status")
    assert row == ("_4YTwq0-73Y_000044_000054.MP4", 44, "ok")
    for text in (header + "abseiling,_4YTwq0-73Y,x,54,train\n", "label,youtube,start\n"):
        write(root, "train.csv", text)
        with pytest.raises(ValueError, match=r"train\.csv: expected the columns label, "):
            listed("kinetics400", root, tmp_path / "b")
    write(root, "classInd.txt", "\ufeff1 Archery\n")
    write(root, "trainlist01.txt", "Archery/v_Archery_g01_c01.avi 1\n")
    write(root, "testlist01.txt", "Archery/v_Archery_g02_c01.avi\n")
    assert read_lists("ucf101", root).classes == ["Archery"]


def test_folders_of_pictures_hold_no_videos_of_their_own(tmp_path):
    """Below a folder of pictures nothing is looked for; beside videos pictures are none."""
    for name in ("1/00001.jpg", "sub/2/00001.jpg", "2/extra/00001.jpg", "2/00001.jpg", "3/a.mp4",
                 "3/a1.jpg", "4/cover.jpg"):  # fmt: skip
        write(tmp_path, name, "")
    videos, findings, others = find_videos(tmp_path, frames_from=1)
    names = [Path(path).relative_to(tmp_path).as_posix() for path in videos]
    assert names == ["1", "2", "3/a.mp4", "sub/2"] and findings == []
    others = {kind: len(paths) for kind, paths in others.items()}
    assert others == {".jpg": 2, "folders beside pictures": 1}
    videos, _, others = find_videos(tmp_path)
    assert videos == [str(tmp_path / "3" / "a.mp4")] and len(others[".jpg"]) == 6


def test_every_file_is_read_or_named(put, tmp_path):
    """Cameras' and old suffixes are read; of all others the report names some."""
    root = put("run/a.mp4", "walk/b.mp4")
    (root / "run" / "a.mp4").rename(root / "run" / "a.divx")
    for suffix in ("MTS", "m2ts", "ogv", "vob", "asf", "3g2", "dv", "mxf", "m2v", "f4v"):
        write(root, f"walk/{suffix}.{suffix}", "")
    write_video(root / "walk" / "b.gif", 5, size=(32, 48), codec="gif", pix_fmt="rgb8")
    for name in (
        "run/a.srt", "run/b.srt", "run/c.SRT", "walk/d.srt", "walk/cover.jpg", "x",
        "run/.a.mp4", ".trash/b.mp4", "skip/.x", "walk/clip/sound.wav", "walk/clip/flow/1.jpg",
        "walk/clip/00001.jpg", "walk/other/img_0001.png", "walk/posters/none.jpg",
    ):  # fmt: skip
        write(root, name, "")
    (root / "jump" / "deep").mkdir(parents=True)
    found = listed("folder", root, tmp_path / "out", val_share=0.5)
    table = table_of(found)
    ok = table["path"][table["status"] == "ok"]
    assert {Path(path).name for path in ok} == {"a.divx", "b.mp4", "b.gif"}
    assert set(table["status"]) == {"ok", "unreadable"} and len(table) == 15
    others = found.problems[found.problems["kind"] == "files passed over"]
    assert dict(zip(others["name"], others["detail"], strict=True)) == {
        ".jpg": "2: walk/cover.jpg, walk/posters/none.jpg",
        ".srt": "4: run/a.srt, run/b.srt, run/c.SRT, ...",
        ".wav": "1: walk/clip/sound.wav",
        "folders beside pictures": "1: walk/clip/flow",
        "empty folders": "2: jump/deep, skip",
        "hidden": "3: .trash, run/.a.mp4, skip/.x",
        "without suffix": "1: x",
    }
    assert {Path(path).name for path in table["path"]} > {"clip", "other", "MTS.MTS"}


@pytest.mark.parametrize("top", ["", "train/"])
def test_folders_of_pictures_below_a_folder_for_each_class(top, put, tmp_path):
    """Below the classes' folders only: pictures in one of these are not the class as a video."""
    names = [f"{top}{name}" for name in ("run/1", "run/deep/2", "walk/3", "walk/4")]
    for number, name in enumerate(names):
        write_pictures(tmp_path / "set" / name, 3, first=10 * number)
    root = put(f"{top}run/1.mp4")
    write(root, f"{top}run/cover1.jpg", "")
    Image.fromarray(draw(0, (32, 48))).save(root / top / "walk" / "cover1.jpg")
    found = listed("folder", root, tmp_path / "out", val_share=0.5)
    table = table_of(found)
    assert sorted(paths_below(root, table)) == sorted([*names, f"{top}run/1.mp4"])
    assert set(table["status"]) == {"ok"} and sorted(table["num_frames"]) == [3, 3, 3, 3, 6]
    said = {kind for kind, _, _ in findings(found)}
    assert "files passed over" in said and "duplicate video" not in said  # run/1, run/1.mp4


def test_a_folder_that_cannot_be_read_is_a_finding(put, tmp_path, monkeypatch):
    root = put("run/a.mp4", "run/b.mp4", "walk/a.mp4", "walk/b.mp4", "lost+found/c.mp4")
    scan = os.scandir

    def scandir(path):
        if Path(path).name in closed:
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
        return scan(path)

    monkeypatch.setattr(os, "scandir", scandir)
    closed = {"lost+found"}
    found = listed("folder", root, tmp_path / "out", val_share=0.5)
    assert findings(found) == {("folder that cannot be read", "", "lost+found")}
    assert found.problems["detail"].tolist() == ["Permission denied"]
    assert set(table_of(found)["class_name"]) == {"run", "walk"}
    closed = {"set"}
    with pytest.raises(PermissionError):
        find_videos(root)


@pytest.mark.skipif(sys.platform != "linux", reason="needs names that are any bytes (Linux)")
def test_names_that_are_not_utf_8_are_a_finding(put, tmp_path):
    root = put("run/a.mp4", "run/b.mp4", "run/c.mp4", "old/d.mp4", "run/notes.txt.mp4")
    os.rename(root / "run" / "c.mp4", os.fsencode(root) + b"/run/caf\xe9.mp4")
    os.rename(root / "old", os.fsencode(root) + b"/\xe9t\xe9")
    found = listed("folder", root, tmp_path / "out", val_share=0.5)
    names = "caf\\udce9.mp4", "\\udce9t\\udce9"
    assert findings(found) == {("name that is not UTF-8", "", name) for name in names}
    assert (table_of(found)["status"] == "ok").sum() == 3
