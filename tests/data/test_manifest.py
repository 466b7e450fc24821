"""The two tables: what may be known of a clip, and the answers, whatever the test files are called."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile

from auscult.config import Data, Profile
from auscult.data.audio import probe
from auscult.data.manifest import CLIPS, LABELS, build_manifest
from auscult.data.pack import pack
from auscult.errors import AuscultError
from support.packed import tiny_profile
from support.trees import noise, write, write_tree_2020, write_tree_2023, write_tree_folder

P2023 = tiny_profile(grammar="dcase2023", class_label="attributes", rules={"scheme": "dcase2022"})


def tables(root: Path, profile: Profile | None = None) -> tuple[pd.DataFrame, pd.DataFrame]:
    return build_manifest(profile or tiny_profile(), root, workers=2)


def refused(root: Path, profile: Profile | None = None) -> str:
    with pytest.raises(AuscultError) as caught:
        tables(root, profile)
    return str(caught.value)


def test_every_recording_once_with_what_its_name_and_header_say(tmp_path: Path) -> None:
    write_tree_2020(tmp_path, seconds=0.3)
    clips, labels = tables(tmp_path)
    assert list(clips.columns) == CLIPS
    assert list(labels.columns) == LABELS
    files = sorted(path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*.wav"))
    assert sorted(clips["path"]) == files
    assert len(files) == 30
    for row in clips.itertuples():
        machine, partition, name = str(row.path).split("/")
        assert (row.machine, row.partition, row.unit) == (machine, partition, name.split("_")[2])
        assert row.clip_id == probe(tmp_path / str(row.path)).content
        assert (row.seconds, row.channels, row.set, row.dataset) == (0.3, 1, "dev", "tiny")
    assert clips["clip_id"].is_unique
    assert (clips[["clip_id"]].dtypes == np.int64).all()


def test_labels_are_those_of_test_clips_only(tmp_path: Path) -> None:
    write_tree_2020(tmp_path, seconds=0.3)
    clips, labels = tables(tmp_path)
    merged = labels.merge(clips, on="clip_id")
    assert len(merged) == len(labels) == 18
    assert set(merged["partition"]) == {"test"}
    assert (merged["anomaly"] == merged["path"].str.contains("anomaly").astype(int)).all()
    assert not {"anomaly", "label"} & set(clips.columns)


def test_unlabelled_test_clips_are_clips_without_an_answer(tmp_path: Path) -> None:
    write_tree_2020(tmp_path, {"fan": ["01"]}, seconds=0.3)
    for path in (tmp_path / "fan" / "test").glob("anomaly*"):
        path.rename(path.with_name(path.name.removeprefix("anomaly_").replace("0000000", "1000000")))
    clips, labels = tables(tmp_path)
    assert (clips["partition"] == "test").sum() == 6
    assert labels["anomaly"].tolist() == [0, 0, 0]


def test_domain_and_attributes_of_test_clips_are_hidden(tmp_path: Path) -> None:
    write_tree_2023(tmp_path, seconds=0.3)
    clips, labels = tables(tmp_path, P2023)
    train, test = clips[clips["partition"] == "train"], clips[clips["partition"] == "test"]
    assert set(test["domain"]) == {"unknown"}
    assert set(test["attributes"]) == {""}
    assert train.groupby("domain")["attributes"].unique().map(sorted).to_dict() == {
        "source": ["spd_0", "spd_1"],
        "target": ["spd_2"],
    }
    merged = labels.merge(test, on="clip_id", suffixes=("", "_hidden"))
    assert (merged["domain"] == merged["path"].str.extract(r"section_00_(\w+?)_")[0]).all()
    assert set(labels["domain"]) == {"source", "target"}


def test_order_is_by_what_is_known_then_by_content(tmp_path: Path) -> None:
    write_tree_2020(tmp_path / "dev", {"valve": ["02", "00"], "fan": ["00"]}, seconds=0.2)
    write_tree_2020(tmp_path / "eval", {"fan": ["01"]}, seconds=0.2, seed=1)
    clips, _ = tables(tmp_path, tiny_profile(sets={"eval": "eval", "dev": "dev"}))
    keys = ["set", "machine", "partition", "unit", "clip_id"]
    assert clips[keys].to_records(index=False).tolist() == sorted(clips[keys].to_records(index=False).tolist())
    assert set(clips.loc[clips["set"] == "eval", "path"].str.split("/").str[0]) == {"eval"}


def test_renamed_test_files_change_neither_ids_nor_order_nor_packed_bytes(tmp_path: Path) -> None:
    """Every clip gets another's name, with its label, number, domain and attributes, and another suffix."""
    write_tree_2023(tmp_path / "a", seconds=0.2, test=3)
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    files = sorted((tmp_path / "b" / "fan" / "test").iterdir())
    for number, path in enumerate(files):
        path.rename(path.with_name(f"{number}.moving"))
    for number, path in enumerate(files):
        (path.parent / f"{number}.moving").rename(files[number - 5].with_suffix(".WAV"))
    packed = []
    for name in ("a", "b"):
        clips, _ = tables(tmp_path / name, P2023)
        test = clips[clips["partition"] == "test"]
        pack(test, tmp_path / name, tmp_path / f"{name}.out", P2023, Data(profile="tiny"), ["osscl"])
        files_out = sorted(path for path in (tmp_path / f"{name}.out").rglob("*") if path.is_file())
        packed.append({path.relative_to(tmp_path / f"{name}.out"): path.read_bytes() for path in files_out})
    (first, first_labels), (second, second_labels) = (tables(tmp_path / name, P2023) for name in ("a", "b"))
    known = [column for column in CLIPS if column != "path"]
    pd.testing.assert_frame_equal(first[known], second[known])
    assert packed[0] == packed[1]
    assert len(packed[0]) == 4
    assert not first_labels.equals(second_labels)


def test_suffixes_in_capitals_and_flac(tmp_path: Path) -> None:
    write_tree_2020(tmp_path, {"fan": ["00"]}, seconds=0.2)
    for path, suffix in zip(sorted(tmp_path.rglob("*.wav")), (".WAV", ".Wav", ".flac", ".FLAC"), strict=False):
        if "flac" in suffix.lower():
            write(path.with_suffix(suffix), soundfile.read(path, dtype="int16")[0])
            path.unlink()
        else:
            path.rename(path.with_suffix(suffix))
    (tmp_path / "fan" / "attributes_00.csv").write_text("not a recording")
    clips, _ = tables(tmp_path)
    assert len(clips) == 10
    assert clips["path"].str.rsplit(".").str[-1].str.lower().value_counts().to_dict() == {"wav": 8, "flac": 2}


def test_only_the_machines_of_the_profile_are_read(tmp_path: Path) -> None:
    """A broken clip of another machine is not this profile's business."""
    write_tree_2020(tmp_path, seconds=0.2)
    next((tmp_path / "valve" / "train").iterdir()).write_bytes(b"")
    clips, labels = tables(tmp_path, tiny_profile(machines=["fan"]))
    assert set(clips["machine"]) == {"fan"}
    assert len(labels) == 12
    assert "empty file" in refused(tmp_path)


def test_own_recordings_with_a_holdout(tmp_path: Path) -> None:
    write_tree_folder(tmp_path, normal=40, anomaly=0, test_normal=0, seconds=0.05)
    profile = tiny_profile(grammar="folder", holdout=0.25)
    clips, labels = tables(tmp_path, profile)
    held = clips[clips["partition"] == "test"]
    assert 3 <= len(held) <= 20
    assert len(clips) == 40
    assert labels["clip_id"].tolist() == held["clip_id"].tolist()
    assert set(labels["anomaly"]) == {0}

    # Which clips are held out follows from their content: names, and clips that come later, change nothing.
    for number, path in enumerate(sorted((tmp_path / "normal").iterdir())):
        path.rename(path.with_name(f"{97 * number % 41}.wav"))
    write(tmp_path / "normal" / "later.wav", noise(np.random.default_rng(5), 0.05))
    again, _ = tables(tmp_path, profile)
    held_again = set(again.loc[again["partition"] == "test", "clip_id"])
    assert held_again & set(clips["clip_id"]) == set(held["clip_id"])


def test_holdout_never_moves_test_clips_and_hides_attributes(tmp_path: Path) -> None:
    write_tree_2023(tmp_path, source=20, target=6, seconds=0.05)
    without, _ = tables(tmp_path, P2023)
    clips, labels = tables(tmp_path, P2023.model_copy(update={"holdout": 0.5}))
    before = set(without.loc[without["partition"] == "test", "clip_id"])
    test = clips[clips["partition"] == "test"]
    assert before < set(test["clip_id"])
    assert set(test["attributes"]) == {""}
    assert set(test["domain"]) == {"unknown"}
    moved = labels[~labels["clip_id"].isin(before)]
    assert set(moved["anomaly"]) == {0}
    assert set(moved["domain"]) <= {"source", "target"}


def test_holdout_is_monotonic(tmp_path: Path) -> None:
    write_tree_folder(tmp_path, normal=30, anomaly=1, test_normal=0, seconds=0.05)
    sizes = []
    held: set[int] = set()
    for part in (0.1, 0.3, 0.6):
        clips, _ = tables(tmp_path, tiny_profile(grammar="folder", holdout=part))
        now = set(clips.loc[clips["partition"] == "test", "clip_id"])
        assert held <= now
        held = now
        sizes.append(len(now))
    assert sizes[0] < sizes[-1]


# ----------------------------------------------------------------------------------------------------------- duplicates
def test_the_same_bytes_twice_in_training_are_two_clips(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_tree_2020(tmp_path, {"fan": ["00"]}, seconds=0.2)
    train = tmp_path / "fan" / "train"
    shutil.copy(train / "normal_id_00_00000001.wav", train / "normal_id_00_00000009.wav")
    clips, _ = tables(tmp_path)
    assert clips["clip_id"].is_unique
    pair = clips[clips["path"].str.contains("00000001.wav|00000009.wav") & (clips["partition"] == "train")]
    content = probe(train / "normal_id_00_00000001.wav").content
    assert sorted(pair["clip_id"]) == [content, content + 1]
    assert "warning" not in capsys.readouterr().out


def test_a_training_clip_among_the_test_clips_is_warned_of(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_tree_2020(tmp_path, {"fan": ["00"]}, seconds=0.2)
    before, _ = tables(tmp_path)
    copied = tmp_path / "fan" / "test" / "normal_id_00_00000009.wav"
    shutil.copy(tmp_path / "fan" / "train" / "normal_id_00_00000001.wav", copied)
    clips, labels = tables(tmp_path)
    captured = capsys.readouterr()
    assert "warning: 1 test clip(s) are byte-identical to training clips" in captured.out + captured.err
    assert "fan/test/normal_id_00_00000009.wav" in captured.out + captured.err
    train = clips[clips["partition"] == "train"].reset_index(drop=True)
    pd.testing.assert_frame_equal(train, before[before["partition"] == "train"].reset_index(drop=True))  # ids too
    assert len(labels) == 7


def test_names_of_copies_in_the_test_set_do_not_decide_their_ids(tmp_path: Path) -> None:
    """The same bytes in two units, named so that once the one and once the other comes first."""
    seen = []
    for name, labels in (("a", ("normal", "anomaly")), ("b", ("anomaly", "normal"))):
        write_tree_2020(tmp_path / name, {"fan": ["00", "02"]}, seconds=0.2)
        audio = noise(np.random.default_rng(8), 0.2)
        for unit, label in zip(("00", "02"), labels, strict=True):
            write(tmp_path / name / "fan" / "test" / f"{label}_id_{unit}_00000077.wav", audio)
        clips, _ = tables(tmp_path / name)
        seen.append(clips[[column for column in CLIPS if column != "path"]])
    pd.testing.assert_frame_equal(seen[0], seen[1])


# --------------------------------------------------------------------------------------------------------------- refusals
def test_a_unit_only_in_the_test_set(tmp_path: Path) -> None:
    write_tree_2020(tmp_path, {"fan": ["00", "02", "04"]}, seconds=0.2)
    for unit in ("02", "04"):
        for path in (tmp_path / "fan" / "train").glob(f"*_id_{unit}_*"):
            path.unlink()
    message = refused(tmp_path)
    assert "classes that appear only in the test set" in message
    assert "fan unit 02" in message
    assert "fan unit 04" in message
    assert "fan unit 00" not in message


def test_a_unit_of_one_training_clip_is_enough(tmp_path: Path) -> None:
    write_tree_2020(tmp_path, {"fan": ["00"]}, train=1, normal=1, anomaly=1, seconds=0.2)
    assert len(tables(tmp_path)[0]) == 3


def test_no_test_clip_at_all(tmp_path: Path) -> None:
    write_tree_folder(tmp_path, anomaly=0, test_normal=0, seconds=0.2)
    message = refused(tmp_path, tiny_profile(grammar="folder"))
    assert "not one test clip" in message
    assert "holdout" in message


def test_a_holdout_that_takes_all_of_a_unit(tmp_path: Path) -> None:
    write_tree_folder(tmp_path, normal=2, anomaly=1, seconds=0.2)
    message = refused(tmp_path, tiny_profile(grammar="folder", holdout=0.999999))
    assert "lower `holdout`" in message


def test_machines_that_are_not_there(tmp_path: Path) -> None:
    write_tree_2020(tmp_path, seconds=0.2)
    message = refused(tmp_path, tiny_profile(machines=["fan", "pump", "slider"]))
    assert "without recordings: pump, slider" in message


def test_missing_folders_and_empty_ones(tmp_path: Path) -> None:
    assert "the dev set has no folder" in refused(tmp_path, tiny_profile(sets={"dev": "dev"}))
    assert "no recordings" in refused(tmp_path)
    assert "unknown grammar" in refused(tmp_path, tiny_profile(grammar="dcase1999"))


def test_workers_do_not_matter(tmp_path: Path) -> None:
    write_tree_2020(tmp_path, seconds=0.2)
    one, two = (build_manifest(tiny_profile(), tmp_path, workers=workers) for workers in (1, 4))
    for first, second in zip(one, two, strict=True):
        pd.testing.assert_frame_equal(first, second)
