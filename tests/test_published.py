"""Further data sets in their published form: a miniature of each becomes the rows it should."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from listing import findings, listed
from PIL import Image
from videos import draw, write_video

from blvnet_lab.data import DataSet
from blvnet_lab.datasets.layouts import read_lists
from blvnet_lab.datasets.selection import reversal_table

EPIC = (
    "narration_id,participant_id,video_id,narration_timestamp,start_timestamp,stop_timestamp,"
    "start_frame,stop_frame,narration,verb,verb_class,noun,noun_class,all_nouns,all_noun_classes\n"
)
EPIC_LISTS = {
    "EPIC_100_train.csv": "\ufeff" + EPIC
    + "P01_01_0,P01,P01_01,00:00:00.56,00:00:00.14,00:00:00.80,8,202,open door,open,3,door,3,"
    "\"['door', 'cup']\",\"[3, 13]\"\n"
    "P01_01_1,P01,P01_01,00:00:01.00,00:00:00.80,00:00:01.36,8,202,turn-on light,turn-on,6,light,1,"
    "['light'],[1]\n"
    "P01_01_2,P01,P01_01,00:00:01.00,00:00:01.00,00:00:01.50,8,202,pull door,pull,3,door,3,"
    "['door'],[3]\n"
    "P01_01_3,P01,P01_01,00:00:01.00,00:00:01.20,00:00:01.50,8,202,open door,open,3,door,3,"
    "['door'],[3]\n",
    "EPIC_100_validation.csv": EPIC
    + "P02_101_0,P02,P02_101,00:00:00.56,00:00:01.00,00:00:01.5,8,202,close door,close,4,door,3,"
    "['door'],[3]\n"
    "P02_101_1,P02,P02_102,00:00:00.56,01:00:01.00,01:00:01.5,8,202,close door,close,4,door,3,"
    "['door'],[3]\n",
    "EPIC_100_test_timestamps.csv": "narration_id,participant_id,video_id\nP03_01_0,P03,P03_01\n",
}  # fmt: skip
EPIC_VIDEOS = ["P01/videos/P01_01.MP4", "P02/videos/P02_101.MP4"]
SEGMENTS = json.dumps({
    "database": {
        "-aBcDeF_1_2": {"annotations": [{"label": "Long jump", "segment": [0.12345678, 0.8]},
                                        {"label": "Archery", "segment": [0.8, 30]}],
                        "subset": "training", "duration": 1.92},
        "_12345678-0": {"annotations": [{"label": "Archery", "segment": [1, 1.5]}],
                        "subset": "validation", "duration": 1.92},
        "testtesttes": {"annotations": [], "subset": "testing", "duration": 1.92},
    }
})  # fmt: skip
SEGMENT_ROWS = [
    ("v_-aBcDeF_1_2", 0.1235, 0.8, "Long jump", 1, "train"),
    ("v_-aBcDeF_1_2", 0.8, 1.92, "Archery", 0, "train"),
    ("v__12345678-0", 1, 1.5, "Archery", 0, "val"),
]
SEGMENT_VIDEOS = ["Long jump/v_-aBcDeF_1_2.mp4", "Archery/v__12345678-0.mp4"]
CUT = ("part cut", "train", "v_-aBcDeF_1_2.mp4#t=0.8,30")
CHARADES = (
    "id,subject,scene,quality,relevance,verified,script,objects,descriptions,actions,length\n"
)
BANK = "(Rad)Schlag_die_Bank!_cartwheel_f_cm_np1_le_med_0.avi"
CATCH = "#1_&_more_catch_u_nm_np1_fr_med_1.avi"
W, D = None, {}  # a whole video; no findings
# The lists, the videos, the rows (file, start, end, class, label, split) and the findings.
MINIATURES = {
    **{
        f"epic-kitchens-100{kind}": (
            EPIC_LISTS, EPIC_VIDEOS,
            [("P01_01", 0.14, 0.8, *door, "train"), ("P01_01", 0.8, 1.36, *light, "train"),
             ("P01_01", 1.0, 1.5, *door, "train"), ("P01_01", 1.2, 1.5, *door, "train"),
             ("P02_101", 1.0, 1.5, *last, "val")],
            {("row without video", "val", "P02_102")},
        )
        for kind, door, light, last in (
            ("", ("open", 3), ("turn-on", 6), ("close", 4)),
            ("-nouns", ("door", 3), ("light", 1), ("door", 3)),
        )
    },
    "charades": (
        {"Charades_v1_classes.txt": "c000 Holding some clothes\nc001 Putting clothes, somewhere\n",
         "Charades_v1_train.csv": CHARADES
         + '46GP8,HR43,Kitchen,6,7,Yes,"A, b.",food,x,c001 0.90 1.20;c000 0.00 1.60,24.83\n'
         "N11GT,0KZ7,Stairs,6,7,Yes,b,c,d,,18.33\n",
         "Charades_v1_test.csv": CHARADES + "YSKX3,HR43,Kitchen,6,7,No,b,c,d,c000 0.10 1.30,30\n"},
        ["Charades_v1_480/46GP8.mp4", "Charades_v1_480/N11GT.mp4", "Charades_v1_480/YSKX3.mp4"],
        [("46GP8", 0.0, 1.6, "Holding some clothes", 0, "train"),
         ("46GP8", 0.9, 1.2, "Putting clothes, somewhere", 1, "train"),
         ("YSKX3", 0.1, 1.3, "Holding some clothes", 0, "val")],
        {("video without row", "", "N11GT.mp4")},
    ),
    "activitynet": ({"activity_net.v1-3.min.json": SEGMENTS}, SEGMENT_VIDEOS, SEGMENT_ROWS, {CUT}),
    "hacs": ({"HACS_segments_v1.1.1.json": SEGMENTS}, SEGMENT_VIDEOS, SEGMENT_ROWS, {CUT}),
    "hacs ": (
        {"HACS_segments_v1.1.1.json": SEGMENTS,
         "HACS_clips_v1.1.1.csv": "classname,youtube_id,subset,start,end,label\n"
         "Archery,-aBcDeF_1_2,training,0.0,1.0,-1\nLong jump,-aBcDeF_1_2,training,0.5,1.5,1\n"
         "Archery,_12345678-0,validation,0.0,1.0,1\n"},
        SEGMENT_VIDEOS,
        [("v_-aBcDeF_1_2", 0.5, 1.5, "Long jump", 1, "train"),
         ("v__12345678-0", 0.0, 1.0, "Archery", 0, "val")],
        D,
    ),
    "finegym": (
        {"gym99_train_element.txt": "0LtLS9wR_E_E_000000_000028_A_0000_0001 17\n"
         "0LtLS9wR_E_E_000001_000028_A_0000_0000 3\n",
         "gym99_val_element.txt": "-LtLS9wROrk_E_000001_000002_A_0000_0001 98\n"},
        ["0LtLS9wR_E.mp4", "-LtLS9wROrk.mkv"],
        [("-LtLS9wROrk", 1.0, 1.92, "98", 98, "val"), ("0LtLS9wR_E", 0.0, 1.0, "17", 17, "train")],
        {("unreadable", "train", "0LtLS9wR_E.mp4"), ("part cut", "val", "-LtLS9wROrk.mkv#t=1,2")},
    ),
    "diving48": (
        {"Diving48_V2_train.json": json.dumps([
            {"vid_name": "_8Vy3dlHg2w_00000", "label": 1, "start_frame": 0, "end_frame": 48}]),
         "Diving48_V2_test.json": json.dumps([
             {"vid_name": "-8Vy3dlHg2w_00012", "label": 0, "start_frame": 0, "end_frame": 48}]),
         "Diving48_vocab.json": json.dumps([
             ["Back", "15som", "05Twis", "FREE"], ["Reverse", "Dive", "NoTwis", "PIKE"]])},
        ["rgb/_8Vy3dlHg2w_00000.mp4", "rgb/-8Vy3dlHg2w_00012.mp4"],
        [("-8Vy3dlHg2w_00012", W, W, "Back 15som 05Twis FREE", 0, "val"),
         ("_8Vy3dlHg2w_00000", W, W, "Reverse Dive NoTwis PIKE", 1, "train")],
        D,
    ),
    "hmdb51": (
        {f"testTrainMulti_7030_splits/{name}_test_split{k}.txt": text
         for name, text in (("cartwheel", f"{BANK} 1 \n"), ("catch", f"{CATCH} 2\nunused.avi 0 \n"))
         for k in (1, 2, 3)},
        [f"cartwheel/{BANK}", f"catch/{CATCH}", "catch/unused.avi"],
        [(CATCH[:-4], W, W, "catch", 1, "val"), (BANK[:-4], W, W, "cartwheel", 0, "train")],
        {("video without row", "", "unused.avi")},
    ),
}  # fmt: skip


@pytest.fixture(scope="module")
def video(tmp_path_factory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("video")
    paths = {suffix: folder / f"a.{suffix}" for suffix in ("mp4", "mkv")}
    made = {suffix: write_video(path, 48, size=(32, 48)) for suffix, path in paths.items()}
    return made | {"avi": write_video(folder / "a.avi", 48, size=(32, 48), codec="mpeg4")}


def lay_out(root: Path, lists: dict[str, str], videos: list[str], video: dict[str, Path]) -> None:
    for name, text in lists.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text, "utf-8")
    for name in videos:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(video[name.rpartition(".")[2].lower()], root / name)


@pytest.mark.parametrize("dataset", MINIATURES)
def test_a_miniature_becomes_its_rows(dataset, video, tmp_path):
    lists, videos, expected, said = MINIATURES[dataset]
    lay_out(tmp_path / "set", lists, videos, video)
    found = listed(dataset.strip(), tmp_path / "set", tmp_path / "out")
    table = DataSet.read(found.manifest).rows.query("status == 'ok'")
    table["path"] = [Path(path).stem for path in table["path"]]
    columns = ["path", "part_start", "part_end", "class_name", "label", "split"]
    rows = table[columns].astype(object).where(table[columns].notna(), None)
    assert sorted(map(str, rows.itertuples(index=False, name=None))) == sorted(
        str(tuple(float(x) if k in (1, 2) and x is not None else x for k, x in enumerate(row)))
        for row in expected
    )
    assert findings(found) == set(said)


def test_parts_of_one_video_are_never_on_two_sides(video, tmp_path):
    """What is published otherwise is left out of training, and named."""
    lists, videos, *_ = MINIATURES["charades"]
    both = lists["Charades_v1_test.csv"] + "46GP8,HR43,Kitchen,6,7,No,b,c,d,c001 0.10 0.50,30\n"
    lay_out(tmp_path / "set", lists | {"Charades_v1_test.csv": both}, videos, video)
    found = listed("charades", tmp_path / "set", tmp_path / "out")
    table = DataSet.read(found.manifest).rows
    assert list(zip(table["split"], table["status"], strict=True)) == [
        ("train", "duplicate"), ("train", "duplicate"), ("val", "ok"), ("val", "ok"),
    ]  # fmt: skip
    assert {name for kind, _, name in findings(found) if kind == "video in several splits"} == {
        "46GP8.mp4#t=0,1.6", "46GP8.mp4#t=0.9,1.2",
    }  # fmt: skip


def test_classes_keep_their_published_numbers(video, tmp_path):
    lay_out(tmp_path, EPIC_LISTS, EPIC_VIDEOS, video)
    for dataset, count in (("epic-kitchens-100", 97), ("epic-kitchens-100-nouns", 300)):
        classes = read_lists(dataset, tmp_path).classes
        assert len(classes) == len(set(classes)) == count
    lay_out(tmp_path, *MINIATURES["hmdb51"][:2], video)
    clips = read_lists("hmdb51", tmp_path, fold=2).rows
    assert clips["source_id"].tolist() == ["(Rad)Schlag_die_Bank!", "#1_&_more"]


JESTER = """Swiping Left,Swiping Right,Swiping Down,Swiping Up,Pushing Hand Away,Pulling Hand In,\
Sliding Two Fingers Left,Sliding Two Fingers Right,Sliding Two Fingers Down,Sliding Two Fingers Up,\
Pushing Two Fingers Away,Pulling Two Fingers In,Rolling Hand Forward,Rolling Hand Backward,\
Turning Hand Clockwise,Turning Hand Counterclockwise,Zooming In With Full Hand,\
Zooming Out With Full Hand,Zooming In With Two Fingers,Zooming Out With Two Fingers,Thumb Up,\
Thumb Down,Shaking Hand,Stop Sign,Drumming Fingers,No gesture,Doing other things""".split(",")
HEAD = "video_id,label,frames,label_id,shape,format\n"


@pytest.mark.parametrize("generation", [1, 2])
def test_jester(generation, tmp_path):
    """Folders of pictures; in the second generation numbers come again in other splits."""
    root = tmp_path / "set"
    folders = ["20bn-jester-v1/1", "20bn-jester-v1/7", "20bn-jester-v1/148092"]
    lists = {
        "jester-v1-labels.csv": "\n".join(JESTER),
        "jester-v1-train.csv": "1;Swiping Left\n148092;Doing other things\n",
        "jester-v1-validation.csv": "7;Pulling Hand In\n",
        "jester-v1-test.csv": "9\n",
    }
    if generation == 2:
        folders = ["Train/1", "Validation/1", "Train/148092", "Test/1", "Validation/100"]
        numbered = "".join(f"{k + 100},{name},37,{k},x,jpg\n" for k, name in enumerate(JESTER))
        lists = {
            "Train.csv": f"{HEAD}148092,{JESTER[26]},37,26,x,jpg\n1,{JESTER[0]},37,0,x,jpg\n"
            + numbered,
            "Validation.csv": f"{HEAD}1,{JESTER[5]},37,5,x,jpg\n100,{JESTER[6]},37,6,x,jpg\n",
            "Test.csv": "id,frames\n1,37\n",
        }
    lay_out(root, lists, [], {})
    for number, name in enumerate(folders):
        (root / name).mkdir(parents=True)
        Image.fromarray(draw(number, (32, 48))).save(root / name / "00001.jpg")
    found = listed("jester", root, tmp_path / "out")
    data_set = DataSet.read(found.manifest)
    good = data_set.rows.query("status == 'ok'")
    rows = zip(good["path"], good["label"], good["split"], strict=True)
    assert {(path.removeprefix(f"{root}/"), *rest) for path, *rest in rows} == {
        (folders[0], 0, "train"), (folders[1], 5, "val"), (folders[2], 26, "train"),
        *((name, 6, "val") for name in folders[4:]),  # not those of Train/100, which is missing
    }  # fmt: skip
    assert list(data_set.classes) == JESTER
    swapped = {a: b for pair in ((0, 1), (6, 7), (14, 15)) for a, b in (pair, pair[::-1])}
    assert list(data_set.mirror) == [swapped.get(k, k) for k in range(27)]
    turned = {k: k ^ 1 for k in range(20)}  # played backwards a thumb that is up is up
    assert list(data_set.reversal) == [turned.get(k) for k in range(27)]


def test_reversals_by_name():
    for names, table in (
        (("Moving something away from something", "Moving something closer to something"), [1, 0]),
        (("Pulling something from left to right", "Pushing something from right to left",
          "Pushing something from left to right", "Pulling something from right to left"),
         [1, 0, 3, 2]),
        (("Pulling something from left to right", "Pulling something from right to left"),
         [None, None]),  # what pulls is at the other end when it is played backwards
        (("turn CW", "dance", "Turn Counter-Clockwise"), [2, None, 0]),
        (("dance in circle left", "dance in circle right"), [1, 0]),
        (("Left-handed throw", "Right-Handed throw"), [None, None]),
        (("Moving up", "Moving down", "moving UP"), [None, None, None]),  # which of the two?
        (("Thumbs up", "Thumbs down", "front dive"), [None, None, None]),
        (("right_then_left", "left_then_right"), [None, None]),  # the same backwards
    ):  # fmt: skip
        assert reversal_table(names) == table
    for written in (str.upper, str.lower, lambda name: name.title().replace(" ", "")):
        found = reversal_table([written(name) for name in JESTER[::-1]])
        assert found == [None] * 7 + [7 + (k ^ 1) for k in range(20)], "however it is written"


def test_lists_that_are_not_as_published(video, tmp_path):
    for number, (dataset, lists, words) in enumerate((
        ("diving48", {"Diving48_train.json": "[]", "Diving48_vocab.json": "[]"},
         "Diving48_V2_train.json, of version 2, .*: version 1 is not read"),
        ("hmdb51", {"catch_test_split1.csv": ""}, r"the file \*_test_split1\.txt in"),
        ("epic-kitchens-100", {}, r"EPIC_100_train\.csv"),
        ("kinetics401", {}, "one of the data sets kinetics400, "),
        ("folder", {}, "a root with a folder of videos for each class, got"),
        ("ucf101", {}, r"classInd\.txt"),
        ("moments-in-time", {}, r"moments_categories\.txt"),
        ("something-something-v1", {}, r"something-something-v1-labels\.csv"),
        ("something-something-v2", {}, r"something-something-v2-labels\.json or labels\.json"),
        ("jester", {}, r"Train\.csv"),
        ("charades", {}, r"Charades_v1_classes\.txt"),
        ("hacs", {}, r"HACS_segments_v1\.1\.1\.json"),
        ("activitynet", {"activity_net.v1-3.min.json": "<html>"}, r"min\.json: expected JSON, got"),
        ("activitynet", {"activity_net.v1-3.min.json": "[]"}, "lists of activitynet as pub"),
        ("finegym", {"gym99_train_element.txt": "a 3"}, "expected lists of finegym as published"),
        ("epic-kitchens-100", {"EPIC_100_train.csv": "a\n1", "EPIC_100_validation.csv": "a\n1"},
         "expected lists of epic-kitchens-100 as published, got .*verb_class"),
        ("hmdb51", {"catch_test_split1.txt": "a.avi"}, "hmdb51 as published, got .*unpack"),
        ("moments-in-time", {"moments_categories.txt": "a,b", "trainingSet.csv": "a/a.mp4,a",
                             "validationSet.csv": "a/a.mp4,a"}, r"published, got .*'b'\"\): take"),
        ("something-something-v2", {"labels.json": '{"a": "0"}', "train.json": '{"a": 1}'},
         "expected lists of something-something-v2 as published"),
        ("kinetics400", {}, r"expected the file train\.csv or val\.csv"),
    )):  # fmt: skip
        lay_out(tmp_path / str(number), lists, ["a.mp4"], video)
        with pytest.raises(ValueError, match=words):
            read_lists(dataset, tmp_path / str(number))
