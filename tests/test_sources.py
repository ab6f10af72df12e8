"""Clips of one source stay on one side: sources that were asked for, and those that names tell."""

from pathlib import Path

import pandas as pd
import pytest
from listing import listed
from PIL import Image
from videos import draw, write_video

from blvnet_lab.data import DataSet
from blvnet_lab.datasets.selection import Selection
from blvnet_lab.datasets.sources import divide, find_sources, one_sided_classes


def grouped(*paths: str, pattern: str = "", root: str = "nowhere") -> tuple[set, list[tuple]]:
    """Which of the paths [split/]class/.../clip are of one source; the findings."""
    splits = [path.partition("/")[0] for path in paths]
    splits = [split if split in ("train", "val") else "" for split in splits]
    classes = [path.split("/")[bool(split)] for path, split in zip(paths, splits, strict=True)]
    names = [(path,) for path in paths]
    rows = pd.DataFrame({"class_name": classes, "split": splits, "names": names})
    findings = []
    rows = find_sources(rows, Path(root), pattern, findings, in_folders=True)
    sources = rows.assign(path=paths).groupby("source_id")["path"].agg(frozenset)
    return {clips for clips in sources if len(clips) > 1}, findings


ONE_SOURCE = {
    "numbers": ["holiday_001.mp4", "holiday_002.mp4", "holiday_010.avi"],
    "without zeros": ["Holiday 1.mp4", "holiday 2.mp4"],
    "no separator": ["holiday1.mp4", "holiday2.mp4"],
    "in brackets": ["holiday.mp4", "holiday (1).mp4", "holiday (2).mp4", "holiday[3].mp4"],
    "parts": ["holiday-part1.mp4", "holiday-part2.mp4", "holiday.part3.mp4", "holiday_pt4.mp4"],
    "letters": ["holiday_a.mp4", "holiday_b.mp4"],
    "copies": ["holiday.mp4", "holiday - Copy.mp4", "holiday copy 2.mp4"],
    "times": ["x7Yq-_000010_000020.mp4", "x7Yq-_000131_000141.mp4"],
    "seconds": ["holiday_10s-20s.mp4", "holiday_0.5s-7s.mp4"],
    "numbers first": ["01-holiday.mp4", "02-holiday.mp4"],
    "several": ["holiday_001_cut1.mp4", "holiday_001_cut2.mp4", "holiday_002_cut1.mp4"],
    "UCF101": ["v_Dive_g01_c01.avi", "v_Dive_g01_c02.avi"],
    "HMDB51": ["April_09_dive_h_nm_np1_ba_goo_0.avi", "April_09_dive_u_cm_np2_fr_med_11.avi"],
    "sizes": ["holiday_720p.mp4", "holiday_1080p.mp4"],
    "suffixes": ["holiday.mp4", "holiday.webm"],
    "a space": ["holiday 7 .mp4", "holiday 8 .mp4"],
}
OTHERS = {"holiday": "beach", "Holiday": "beach", "x7": "x8", "g01": "g02", "April": "Juno"}


@pytest.mark.parametrize("kind", ONE_SOURCE)
def test_names_that_differ_in_numbers_only(kind):
    """Beside other clips of the class; other names of the same form are of other sources."""
    clips = [f"dive/{name}" for name in ONE_SOURCE[kind]]
    others = clips
    for here, there in OTHERS.items():
        others = [clip.replace(here, there) for clip in others]
    found, findings = grouped(*clips, *others, "dive/alone.mp4", "dive/another.mp4")
    assert found == {frozenset(clips), frozenset(others)}
    names = [name for kind, _, name, _ in findings if kind == "recognised source"]
    assert len(names) == len(findings) == 2


def test_a_source_may_have_clips_of_several_classes():
    clips = ["run/beach_1.mp4", "walk/beach_2.mp4"]
    assert grouped(*clips, "run/x.mp4", "walk/y.mp4")[0] == {frozenset(clips)}
    assert grouped("run/x.mp4", "walk/x.mp4", "run/y.mp4", "walk/y.mp4")[0] == set()


def test_a_class_that_is_merely_numbered_is_no_source():
    for names, said in (
        ([f"{k:03d}.mp4" for k in range(30)], None),
        ([f"clip_{k:03d}.mp4" for k in range(500)], "clip"),
        ([f"holiday{k}.mp4" for k in range(30)], "holiday"),
        ([f"holiday{k}.mp4" for k in range(30)] + ["other.mp4"], "holiday"),
        ([f"dive_{k}.mp4" for k in range(10)] + [f"beach{c}x.mp4" for c in "abcdefghij"], "dive"),
        ([f"IMG_{k}.MOV" for k in range(10)] + [f"beach{c}x.mp4" for c in "abcdefghij"], "img"),
        ([f"{c}{c}{k}{c}x.mp4" for k, c in enumerate("abcdefghij")], None),
    ):
        found, findings = grouped(*(f"dive/{name}" for name in names))
        assert found == set()
        named = [("numbered clips, perhaps of one source", "", said)] * (said is not None)
        assert [finding[:3] for finding in findings] == named
        if said:
            clips = sum(name.lower().startswith(said) for name in names)
            assert findings[0][3].startswith(f"{clips} clips (dive/")


def test_numbers_are_left_out_only_as_far_as_sources_remain():
    clips = [f"Dive/v_Dive_g{g:02d}_c{c:02d}.avi" for g in range(1, 26) for c in range(1, 5)]
    found, findings = grouped(*clips, "Dive/stray.avi")
    assert found == {frozenset(clips[4 * g : 4 * g + 4]) for g in range(25)}
    assert {kind for kind, *_ in findings} == {"recognised source"}


def test_folders_between_class_and_clip():
    clips = ["run/beach/1.mp4", "run/beach/2.mp4", "run/park/1.mp4", "run/park/deep/3.mp4",
             "walk/park/4.mp4", "walk/5.mp4"]  # fmt: skip
    park = frozenset(clips[2:5])
    assert grouped(*clips)[0] == {frozenset(clips[:2]), park}
    assert grouped(*(f"train/{clip}" for clip in clips))[0] == {
        frozenset(f"train/{clip}" for clip in clips[:2]), frozenset(f"train/{c}" for c in park)
    }  # fmt: skip
    # A folder that all clips are in is no source.
    inside = [clip.replace("/", "/videos/", 1) for clip in clips]
    assert len(grouped(*inside)[0]) == 2
    assert grouped("run/videos/a.mp4", "run/videos/b.mp4", "walk/videos/c.mp4")[0] == set()


def test_sources_that_were_asked_for():
    clips = [f"{name}/{person}_{name}_{k}.mp4" for name in ("run", "walk")
             for person in ("ann", "bob") for k in range(3)]  # fmt: skip
    by_person = {frozenset(c for c in clips if person in c) for person in ("ann", "bob")}
    for pattern in (
        "ann|bob",
        r"/(\w+?)_",
        r"/(?:(ann)|(bob))_",
        "[a-z]+(?=_[rw])",
        r"(ann|bob)_.+4",
    ):
        assert grouped(*clips, pattern=pattern) == (by_person, [])
    assert grouped(*clips, pattern=".+") == (set(), [])
    found, findings = grouped(*clips, "run/eve.mp4", pattern=r"/(\w+?)_")
    assert found == by_person
    assert [finding[:3] for finding in findings] == [("clip without source", "", "run/eve.mp4")]
    with pytest.raises(ValueError, match=r"such as run/ann_run_0.mp4, got 'eve', which is in none"):
        grouped(*clips, pattern="eve")
    with pytest.raises(ValueError, match=r"a regular expression for .*, got '\(' \(missing"):
        grouped(*clips, pattern="(")


def put(root: Path, *paths: str, same: int | None = None) -> Path:
    """Small videos, of which no two are equal; but all, if a number of frames is given."""
    for number, path in enumerate(paths):
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        write_video(root / path, same or 10 + number, size=(32, 48))
    return root


def split_of(found) -> dict[str, str]:
    good = DataSet.read(found.manifest).rows.query("status == 'ok'")
    return {"/".join(Path(row.path).parts[-2:]): row.split for row in good.itertuples()}


def kinds(found, kind: str) -> list[str]:
    return [Path(name).name for name in found.problems.query("kind == @kind")["name"]]


def test_families_are_not_torn_apart_by_the_draw(tmp_path):
    sources = ("on the beach", "in the park", "at home")
    root = put(tmp_path / "set", *(f"{name}/{source}{name * (source[0] == 'o')}_{k}.mp4"
               for name in ("run", "walk") for source in sources for k in (1, 2)))  # fmt: skip
    for seed in range(8):
        found = listed("folder", root, tmp_path / str(seed), seed=seed, val_share=0.3)
        splits = split_of(found)
        assert all(splits[path] == splits[path.replace("_1", "_2")] for path in splits)
        assert set(splits.values()) == {"train", "val"}
        assert len(kinds(found, "recognised source")) == 4
    asked = listed("folder", root, tmp_path / "out", source=".+", val_share=0.3)
    sources = DataSet.read(asked.manifest).rows["source_id"]
    assert sources.is_unique and kinds(asked, "recognised source") == []
    with pytest.raises(ValueError, match="expected no source, as the lists of kinetics400 name"):
        listed("kinetics400", root, tmp_path / "out", source="x")


def test_equal_files_are_on_one_side_and_named(tmp_path):
    """Also through links, in another class, and as folders of pictures."""
    root = put(tmp_path / "set", "run/alpha.mp4", "walk/beta.mp4", "walk/gamma.mp4", same=5)
    put(root, "run/x.mp4", "run/y.mp4", "walk/z.mp4", "walk/v.mp4")
    (root / "run" / "link.mp4").symlink_to(root / "run" / "x.mp4")
    for name in ("one", "two"):
        (root / "run" / name).mkdir()
        for k in (1, 2):
            Image.fromarray(draw(k, (32, 48))).save(root / "run" / name / f"{k:05d}.jpg")
    (root / "run" / "empty.mp4").touch()
    (root / "walk" / "empty.mp4").touch()
    for seed in range(6):
        found = listed("folder", root, tmp_path / str(seed), seed=seed, val_share=0.5)
        splits = split_of(found)
        for group in (("run/alpha.mp4", "walk/beta.mp4", "walk/gamma.mp4"),
                      ("run/x.mp4", "run/link.mp4"), ("run/one", "run/two")):  # fmt: skip
            assert len({splits[path] for path in group}) == 1
        assert len(kinds(found, "equal files")) == 4
    report = pd.read_csv(found.report, keep_default_na=False).query("kind == 'equal files'")
    assert all(detail.startswith(f"equal to {root}") for detail in report["detail"])


def test_what_others_divided_is_named_and_equal_files_are_left_out(tmp_path):
    root = put(tmp_path / "set", "train/run/beach_1.mp4", "train/run/beach_2.mp4",
               "val/run/beach_3.mp4", "train/run/x.mp4", "val/run/y.mp4", "train/run/clip_1.mp4",
               "val/run/clip_2.mp4", "train/run/001.mp4", "val/run/001.mp4", "train/run/same.mp4",
               "val/run/same.mp4", "train/run/park/1.mp4", "val/run/park/2.mp4")  # fmt: skip
    put(root, "train/run/equal.mp4", "val/run/as.mp4", "val/run/well.mp4", same=30)
    found = listed("folder", root, tmp_path / "out")
    assert sorted(kinds(found, "source in several splits")) == ["beach", "park", "same"]
    assert sorted(kinds(found, "equal files")) == ["equal.mp4", "well.mp4"]
    table = DataSet.read(found.manifest).rows
    status = {"/".join(Path(row.path).parts[-3:]): row.status for row in table.itertuples()}
    assert status.pop("train/run/equal.mp4") == "duplicate" and set(status.values()) == {"ok"}
    assert len(table) == 16
    put(tmp_path / "other", "train/run/a.mp4", "val/run/b.mp4", same=30)
    found = listed("folder", tmp_path / "other", tmp_path / "train", split=["train"])
    assert DataSet.read(found.manifest).rows["status"].tolist() == ["duplicate"], "none is opened"


def test_a_whole_class_that_others_divided():
    """Nothing is to be drawn here, so it may be one source; devices call all of theirs alike."""
    clips = ["train/run/holiday_1.mp4", "val/run/holiday_2.mp4"]
    assert grouped(*clips) == ({frozenset(clips)}, [])
    assert grouped("train/run/IMG_1.mp4", "val/run/IMG_2.mp4") == (set(), [])


def test_lists_without_splits_too(tmp_path):
    root = put(tmp_path / "set", *(f"{place}_{k}.mp4" for place in ("a park", "home", "beach")
                                   for k in (1, 2)))  # fmt: skip
    text = "".join(f"{path.name} run\n" for path in sorted(root.iterdir()))
    (tmp_path / "list.txt").write_text(text)
    found = listed("list", root, tmp_path / "out", annotations=tmp_path / "list.txt")
    splits = DataSet.read(found.manifest).rows.groupby("source_id")["split"]
    assert splits.agg(["size", "nunique"]).values.tolist() == [[2, 1]] * 3


def clip_table(*clips: tuple[str, str]) -> pd.DataFrame:
    return pd.DataFrame(clips, columns=["class_name", "source_id"])


def sides(table: pd.DataFrame, share: float, seed: int) -> dict[str, set[str]]:
    """Source -> the sides on which it is."""
    table = table.assign(split=divide(table, share, seed))
    return table.groupby("source_id")["split"].agg(set).to_dict()


def test_shares_of_each_class():
    """The share of the sources, at least one, and never all of them."""
    cases = (10, 0.2, 2), (10, 0.5, 5), (2, 0.01, 1), (2, 0.99, 1), (1, 0.5, 0), (7, 0.9, 6)
    for number, share, wanted in cases:
        table = clip_table(*((name, f"{name} {k}") for name in "ab" for k in range(number)))
        split = divide(table, share, 0)
        for begin in (0, number):
            assert split[begin : begin + number].count("val") == wanted


def test_what_is_drawn_depends_on_the_seed_and_hardly_on_what_comes_later():
    table = clip_table(*(("a", str(k)) for k in range(30)))
    drawn = {tuple(divide(table, 0.3, seed)) for seed in range(10)}
    assert len(drawn) == 10
    before, after = sides(table.iloc[:29], 0.3, 0), sides(table, 0.3, 0)
    assert sum(before[source] != after[source] for source in before) <= 1
    shuffled = table.sample(frac=1, random_state=0)
    assert sides(shuffled, 0.3, 0) == after, "the order of the rows does not matter"
    for share in (0, 1, -0.5):
        with pytest.raises(ValueError, match=rf"val_share between 0 and 1, got {share}"):
            Selection(val_share=share)


def test_classes_that_share_their_videos_may_be_on_one_side_which_is_said():
    """With two videos of which each has both classes, the second class goes where they went."""
    table = clip_table(("run", "a"), ("run", "b"), ("walk", "a"), ("walk", "c"))
    for seed in range(20):
        table = table.assign(split=divide(table, 0.5, seed), status="ok")
        there = {*table[["class_name", "split"]].itertuples(index=False, name=None)}
        said = {row[:3] for row in one_sided_classes(table, ("train", "val"))}
        lacking = {(name, split) for name in ("run", "walk") for split in ("train", "val")} - there
        assert said == {(f"class without {split}", split, name) for name, split in lacking}
    table["status"] = ["ok", "unreadable", "ok", "ok"]
    lacking = {"train", "val"} - {table["split"][0]}
    said = {row[:3] for row in one_sided_classes(table, ("train", "val"))}
    assert {(f"class without {split}", split, "run") for split in lacking} <= said
    assert {row[1] for row in one_sided_classes(table, ("val",))} <= {"val"}


def test_large_sources_are_for_training():
    """The share is one of clips; if all sources are too large for it, the smallest is "val"."""
    sizes = {"a": 70, "b": 10, "c": 12, "d": 8}
    table = clip_table(*(("run", source) for source, size in sizes.items() for _ in range(size)))
    for seed in range(10):
        found = sides(table, 0.2, seed)
        assert 8 <= sum(sizes[source] for source in sizes if found[source] == {"val"}) <= 20
    found = sides(table[table["source_id"].isin(["a", "b"])], 0.05, 0)
    assert found == {"a": {"train"}, "b": {"val"}}
    assert sides(table[table["source_id"] == "a"], 0.2, 0) == {"a": {"train"}}


def test_a_folder_with_a_whole_class_says_nothing_of_sources():
    """One that another class has too does: a person, a day."""
    run = [f"run/raw/clip{k}.mp4" for k in range(8)]
    jump = [f"jump/mp4/clip{k}.mp4" for k in range(8)]
    assert grouped(*run, *jump)[0] == set()
    people = [f"{name}/{who}/{k}.mp4" for name in ("run", "jump") for who in "ab" for k in (1, 2)]
    assert {len(clips) for clips in grouped(*people)[0]} == {4}, "of both classes"


def test_what_cannot_be_read_takes_no_place_in_a_split(tmp_path):
    for name in "ab":
        (tmp_path / "in" / name).mkdir(parents=True)
    for count, name in enumerate(("tree", "house", "river", "cloud", "stone"), start=8):
        write_video(tmp_path / "in" / "a" / f"{name}.mp4", count)
        write_video(tmp_path / "in" / "b" / f"{name}er.mp4", count + 5)
    for name in ("tree", "house"):
        (tmp_path / "in" / "a" / f"{name}.mp4").write_bytes(b"no video")
    found = listed("folder", tmp_path / "in", tmp_path / "out", val_share=0.34)
    rows = DataSet.read(found.manifest).rows.query("class_name == 'a' and status == 'ok'")
    assert sorted(rows["split"]) == ["train", "train", "val"]
    # A list that grows keeps most clips in their split, and names the others.
    for count, name in enumerate(("snow", "wind", "hill"), start=20):
        write_video(tmp_path / "in" / "a" / f"{name}.mp4", count)
    before = DataSet.read(found.manifest).rows.query("status == 'ok'").set_index("path")["split"]
    found = listed("folder", tmp_path / "in", tmp_path / "out", val_share=0.34)
    after = DataSet.read(found.manifest).rows.set_index("path")["split"][before.index]
    moved = found.problems.query("kind == 'video in another split'")
    (path,) = before.index[before != after]
    assert moved[["split", "name"]].to_numpy().tolist() == [["val", path]] and "river" in path
    assert moved["detail"].iloc[0].startswith("it was in train: for networks trained earlier, ")
