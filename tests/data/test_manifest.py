"""The two tables: what may be known of a clip, and the answers, whatever the test files are called."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable, Iterable
from pathlib import Path, PurePosixPath

import numpy as np
import pandas as pd
import pytest
import soundfile

from auscult.data.audio import Header, probe
from auscult.data.labels import shipped
from auscult.data.manifest import CLIPS, LABELS, build_manifest
from auscult.data.names.attributes import differences
from auscult.data.names.grammar import dcase2023
from auscult.data.pack import pack
from auscult.errors import AuscultError
from auscult.settings.profile import Profile
from auscult.settings.schema import Data
from auscult.training.classes import class_list
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


def test_copies_in_both_sets_keep_their_own_labels(tmp_path: Path) -> None:
    """The same bytes once called normal and once an anomaly: two clips, two ids, two answers."""
    write_tree_2020(tmp_path / "dev", {"fan": ["00"]}, seconds=0.2)
    write_tree_2020(tmp_path / "eval", {"fan": ["01"]}, seconds=0.2, seed=1)
    audio = noise(np.random.default_rng(8), 0.2)
    write(tmp_path / "dev" / "fan" / "test" / "normal_id_00_00000077.wav", audio)
    copy = write(tmp_path / "eval" / "fan" / "test" / "anomaly_id_01_00000077.wav", audio)
    clips, labels = tables(tmp_path, tiny_profile(sets={"dev": "dev", "eval": "eval"}))
    assert clips["clip_id"].is_unique
    pair = clips.merge(labels[["clip_id", "anomaly"]], on="clip_id")
    pair = pair[pair["path"].str.contains("00000077")].sort_values("set")
    content = probe(copy).content
    assert pair[["set", "clip_id", "anomaly"]].to_numpy().tolist() == [["dev", content, 0], ["eval", content + 1, 1]]


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


# ------------------------------------------------------------------------------------------- trees of names without audio
@pytest.fixture
def named_tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[Iterable[str]], Path]:
    """Make files of the given names; what their header would say is made up, each its own content."""

    def header(path: Path) -> Header:
        digest = hashlib.blake2b(str(path).encode(), digest_size=8).digest()
        return Header(10.0, 16000, 1, int.from_bytes(digest, "little") >> 1)

    def make(names: Iterable[str]) -> Path:
        for name in names:
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
        return tmp_path

    monkeypatch.setattr("auscult.data.manifest.probe", header)
    return make


def sectioned(machine: str, source: Iterable[str], target: Iterable[str], test_word: str = "_test") -> list[str]:
    """Two training clips of each attribute tail and one normal and one anomalous test clip of each domain."""
    train = [
        f"{machine}/train/section_00_{domain}_train_normal_{2 * number + twice:04d}_{tail}.wav"
        for domain, tails in (("source", source), ("target", target))
        for number, tail in enumerate(tails)
        for twice in (0, 1)
    ]
    test = [
        f"{machine}/test/section_00_{domain}{test_word}_{label}_0000_only_in_test.wav"
        for domain in ("source", "target")
        for label in ("normal", "anomaly")
    ]
    return train + test


def attributed(counts: dict[str, int]) -> list[str]:
    """Machines with so many attribute strings each, one of them in the target domain."""
    names = []
    for machine, count in counts.items():
        tails = [f"spd_{number}_mic_1" for number in range(count)]
        names += sectioned(machine, tails[:-1], tails[-1:], "" if machine == "RoboticArm" else "_test")
    return names


P_ATTRIBUTES = {"class_label": "attributes", "rules": {"scheme": "dcase2022"}}


def test_2020_has_41_classes(named_tree: Callable[[Iterable[str]], Path]) -> None:
    """Ids of both sets. The classes come from training names alone: the test clips of one unit more are refused."""
    units = {
        **dict.fromkeys(("fan", "pump", "slider", "valve"), "0246135"),
        "ToyCar": "1234567",
        "ToyConveyor": "123456",
    }
    names = []
    for machine, digits in units.items():
        development = 4 if len(digits) == 7 else 3
        for at, digit in enumerate(digits):
            folder = "dev" if at < development else "eval"
            names.append(f"{folder}/{machine}/train/normal_id_0{digit}_00000000.wav")
            test = "id" if folder == "eval" else "anomaly_id"
            names.append(f"{folder}/{machine}/test/{test}_0{digit}_00000000.wav")
    clips, labels = tables(named_tree(names), tiny_profile(sets={"dev": "dev", "eval": "eval"}))
    assert len(class_list(clips[clips["partition"] == "train"], "unit")) == 41
    assert len(labels) == 23
    assert "valve unit 07" in refused(
        named_tree(["dev/valve/test/normal_id_07_00000000.wav"]), tiny_profile(sets={"dev": "dev", "eval": "eval"})
    )


def test_2023_has_167_classes(named_tree: Callable[[Iterable[str]], Path]) -> None:
    dev = {"ToyCar": 26, "ToyTrain": 26, "bearing": 22, "gearbox": 19, "slider": 18, "fan": 4, "valve": 4}
    new = {"ToyTank": 12, "ToyNscale": 11, "ToyDrone": 6, "Vacuum": 6, "grinder": 6, "bandsaw": 4, "shaker": 3}
    root = named_tree([f"dev/{name}" for name in attributed(dev)] + [f"eval/{name}" for name in attributed(new)])
    clips, _ = tables(root, tiny_profile(grammar="dcase2023", sets={"dev": "dev", "eval": "eval"}, **P_ATTRIBUTES))
    assert len(class_list(clips[clips["partition"] == "train"], "attributes")) == 167


def test_2024_has_141_classes(named_tree: Callable[[Iterable[str]], Path]) -> None:
    """134 attribute strings, and one class for each of the 7 types without attributes, both domains together."""
    counts = {"ToyCar": 26, "bearing": 26, "fan": 4, "valve": 5, "3DPrinter": 4, "HairDryer": 22, "RoboticArm": 25}
    counts |= {"Scanner": 6, "ToyCircuit": 16}
    names = attributed(counts)
    plain = ("gearbox", "slider", "ToyTrain", "AirCompressor", "BrushlessMotor", "HoveringDrone", "ToothBrush")
    for machine in plain:
        names += sectioned(machine, ["noAttribute"], ["noAttribute"])
    clips, labels = tables(named_tree(names), tiny_profile(grammar="dcase2023", **P_ATTRIBUTES))
    classes = class_list(clips[clips["partition"] == "train"], "attributes")
    assert len(classes) == 141
    assert sorted(name for name in classes if name.endswith("/noAttribute")) == sorted(
        f"{machine}/00/noAttribute" for machine in plain
    )
    assert len(labels) == 4 * 16  # RoboticArm's too, without the word `test`


def test_supplemental_recordings_are_neither(
    named_tree: Callable[[Iterable[str]], Path], capsys: pytest.CaptureFixture[str]
) -> None:
    names = sectioned("bearing", [""], [""])
    more = [
        f"bearing/supplemental/section_00_{kind}_{number:04d}_.wav"
        for kind in ("machine", "noise")
        for number in (0, 1)
    ]
    more.append("bearing/supplemental/whatever.wav")
    clips, labels = tables(named_tree(names + more), tiny_profile(grammar="dcase2023", **P_ATTRIBUTES))
    beside = clips[clips["partition"] == "supplemental"]
    assert sorted(beside["path"]) == sorted(more[:-1])
    assert all(kind in path for kind, path in zip(beside["kind"], beside["path"], strict=True))
    rest = clips[clips["partition"] != "supplemental"]
    assert len(rest) == len(names)
    assert (rest["kind"] == "").all()
    assert not set(labels["clip_id"]) & set(beside["clip_id"])
    assert "1 supplemental recording(s) left out" in capsys.readouterr().out


# ------------------------------------------------------------------------------------------------------ evaluation labels
def toycar_2022(test_word: str = "") -> list[str]:
    """Training and evaluation names of one machine type of 2022."""
    names = []
    for section in ("03", "04", "05"):
        names += [f"eval/ToyCar/train/section_{section}_source_train_normal_{n:04d}_spd_28V.wav" for n in range(3)]
        names += [f"eval/ToyCar/test/section_{section}{test_word}_{n:04d}.wav" for n in range(200)]
    return names


def profile_2022(eval_labels: str, **changes: object) -> Profile:
    return tiny_profile(
        **{"grammar": "dcase2022", "sets": {"eval": "eval"}, "eval_labels": eval_labels, **P_ATTRIBUTES, **changes}
    )


@pytest.mark.parametrize("test_word", ["", "_test"])
def test_labels_of_a_year_reach_the_clips_by_name(named_tree: Callable[[Iterable[str]], Path], test_word: str) -> None:
    clips, labels = tables(named_tree(toycar_2022(test_word)), profile_2022("dcase2022"))
    known = {label.file.replace("_test", ""): label for label in shipped("dcase2022") if label.machine == "ToyCar"}
    merged = labels.merge(clips, on="clip_id", suffixes=("", "_hidden"))
    assert len(merged) == 600
    for row in merged.itertuples():
        label = known[Path(str(row.path)).name.replace("_test", "")]
        assert (row.anomaly, row.domain) == (label.anomaly, label.domain)
    assert set(merged["domain_hidden"]) == {"unknown"}


def test_labels_change_nothing_but_the_labels(named_tree: Callable[[Iterable[str]], Path]) -> None:
    root = named_tree(toycar_2022())
    with_labels, without = (tables(root, profile_2022(choice)) for choice in ("dcase2022", ""))
    pd.testing.assert_frame_equal(with_labels[0], without[0])
    assert len(with_labels[1]) == 600
    assert len(without[1]) == 0


def test_clips_without_a_label_are_counted(
    named_tree: Callable[[Iterable[str]], Path], capsys: pytest.CaptureFixture[str]
) -> None:
    tables(named_tree(toycar_2022()), profile_2022(""))
    assert "600 of the 600 test clips of the eval set have no label" in capsys.readouterr().out


def test_labels_that_do_not_fit_are_refused_before_a_recording_is_read(
    named_tree: Callable[[Iterable[str]], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    root = named_tree(toycar_2022())
    (root / "eval/ToyCar/test/section_04_0007.wav").rename(root / "eval/ToyCar/test/section_04_0200.wav")
    monkeypatch.setattr("auscult.data.manifest.probe", None)
    message = refused(root, profile_2022("dcase2022"))
    assert "1 clip(s) without a label:\n    ToyCar: section_04_0200" in message
    assert "1 label(s) without a clip:\n    ToyCar: section_04_0007" in message


def test_wrong_names_are_told_before_labels_without_a_clip(named_tree: Callable[[Iterable[str]], Path]) -> None:
    root = named_tree(toycar_2022())
    (root / "eval/ToyCar/test/section_04_0007.wav").rename(root / "eval/ToyCar/test/section_4a_0007.wav")
    message = refused(root, profile_2022("dcase2022"))
    assert "section_4a_0007.wav: not named" in message
    assert "label" not in message


def test_labels_need_an_evaluation_set(named_tree: Callable[[Iterable[str]], Path]) -> None:
    root = named_tree(toycar_2022())
    assert "without a set `eval`" in refused(root, profile_2022("dcase2022", sets={"dev": "eval"}))


def test_labels_of_2021_keep_the_domain_of_the_name(named_tree: Callable[[Iterable[str]], Path]) -> None:
    """From a list with Windows line ends, not sorted; development clips of the same machine bring their own labels."""
    names = [
        "dev/fan/train/section_00_source_train_normal_0000_a.wav",
        "eval/fan/train/section_03_source_train_normal_0000_a.wav",
    ]
    names += ["dev/fan/target_test/section_00_target_test_anomaly_0000.wav"]
    names += [f"eval/fan/{d}_test/section_03_{d}_test_{n:04d}.wav" for d in ("source", "target") for n in (0, 1)]
    root = named_tree(names)
    rows = [("target", 1, "anomaly"), ("source", 0, "anomaly"), ("target", 0, "normal"), ("source", 1, "normal")]
    lines = [f"section_03_{d}_test_{n:04d}.wav,section_03_{d}_test_{label}_{n:04d}.wav" for d, n, label in rows]
    (root / "list.csv").write_bytes("\r\n".join(["fan", *lines, ""]).encode())
    profile = tiny_profile(grammar="dcase2021", sets={"dev": "dev", "eval": "eval"}, eval_labels="list.csv")
    clips, labels = tables(root, profile)
    told = labels.merge(clips[["clip_id", "path"]], on="clip_id").set_index("path")[["anomaly", "domain"]]
    assert {Path(str(path)).stem: tuple(row) for path, row in zip(told.index, told.to_numpy(), strict=True)} == {
        "section_00_target_test_anomaly_0000": (1, "target"),
        "section_03_source_test_0000": (1, "source"),
        "section_03_source_test_0001": (0, "source"),
        "section_03_target_test_0000": (0, "target"),
        "section_03_target_test_0001": (1, "target"),
    }


def test_labels_are_for_the_evaluation_set_alone(named_tree: Callable[[Iterable[str]], Path]) -> None:
    names = [f"dev/fan/train/normal_id_0{unit}_00000000.wav" for unit in (0, 1)] + ["dev/fan/test/id_00_00000000.wav"]
    names += ["eval/fan/train/normal_id_01_00000001.wav", "eval/fan/test/id_01_00000000.wav"]
    root = named_tree(names)
    (root / "list.csv").write_text("fan\nid_01_00000000.wav,anomaly_id_01_00000064.wav,1\n")
    clips, labels = tables(root, tiny_profile(sets={"dev": "dev", "eval": "eval"}, eval_labels="list.csv"))
    assert clips.merge(labels, on="clip_id")["path"].tolist() == ["eval/fan/test/id_01_00000000.wav"]


def test_labels_without_domains_are_warned_of(
    named_tree: Callable[[Iterable[str]], Path], capsys: pytest.CaptureFixture[str]
) -> None:
    root = named_tree(toycar_2022())
    for section in ("03", "04", "05"):
        path = root / "gt" / "ground_truth_data" / f"ground_truth_ToyCar_section_{section}_test.csv"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("".join(f"section_{section}_{n:04d}.wav,{n % 2}\n" for n in range(200)))
    _, labels = tables(root, profile_2022("gt"))
    assert "do not tell source from target" in capsys.readouterr().out
    assert labels["anomaly"].sum() == 300
    assert set(labels["domain"]) == {"unknown"}


def test_the_wrong_list_of_2022_is_used_but_not_in_silence(
    named_tree: Callable[[Iterable[str]], Path], capsys: pytest.CaptureFixture[str]
) -> None:
    root = named_tree(toycar_2022())
    rows = [
        f"section_{s}_{n:04d}.wav,section_{s}_target_test_anomaly_{n:04d}_a.wav"
        for s in ("03", "04", "05")
        for n in range(200)
    ]
    (root / "labels").mkdir()
    (root / "labels" / "eval_data_list_2022.csv").write_text("\n".join(["ToyCar", *rows]))
    _, labels = tables(root, profile_2022("dcase2022_ntt_list"))
    assert set(labels["anomaly"]) == {1}
    assert "wrong for ToyCar and ToyTrain" in capsys.readouterr().out


def test_labels_of_no_use_are_warned_of(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_tree_2020(tmp_path / "eval", {"fan": ["00"]}, seconds=0.05)
    tables(tmp_path, tiny_profile(sets={"eval": "eval"}, eval_labels="dcase2020"))
    assert "`eval_labels` is of no use here" in capsys.readouterr().out


# --------------------------------------------------------------------------------------------------------------- warnings
def test_a_machine_that_is_not_tested_still_trains(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_tree_2020(tmp_path, {"fan": ["00"]}, seconds=0.05)
    write_tree_2020(tmp_path, {"pump": ["00"]}, normal=0, anomaly=0, seconds=0.05, seed=1)
    clips, _ = tables(tmp_path)
    assert (clips["machine"] == "pump").sum() == 4
    out = capsys.readouterr().out
    assert "warning: machines trained on, but without a test clip:\n    dev: pump" in out
    assert "fan" not in out


def rates(root: Path, *values: int) -> Path:
    """Clips of one machine at several sample rates, beside another machine at 16 kHz."""
    write_tree_2020(root, {"fan": ["00"]}, seconds=0.05)
    rng = np.random.default_rng(7)
    for number, rate in enumerate(values):
        for partition in ("train", "test"):
            write(root / "pump" / partition / f"normal_id_00_{number:08d}.wav", noise(rng, 0.05, rate=rate), rate)
    return root


def test_mixed_rates_below_that_of_the_profile_are_refused(tmp_path: Path) -> None:
    """What is missing above 4 kHz would tell a clip of 8 kHz from the others."""
    message = refused(rates(tmp_path, 16000, 8000, 16000))
    assert "some below the profile's 16000 Hz:\n    pump: 8000 Hz (2), 16000 Hz (4)" in message
    assert "fan" not in message
    assert "`sample_rate`" in message


def test_mixed_rates_that_resampling_makes_alike_are_warned_of(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    clips, _ = tables(rates(tmp_path, 16000, 44100, 48000))
    assert (clips["machine"] == "pump").sum() == 6
    out = capsys.readouterr().out
    assert "all resampled to 16000 Hz:\n    pump: 16000 Hz (2), 44100 Hz (2), 48000 Hz (2)" in out
    assert "fan" not in out


@pytest.mark.parametrize("rate", [8000, 48000])
def test_one_rate_per_machine_is_no_matter(tmp_path: Path, capsys: pytest.CaptureFixture[str], rate: int) -> None:
    tables(rates(tmp_path, rate, rate))
    assert "rate" not in capsys.readouterr().out


def attribute_csv(root: Path, change: Callable[[list[str]], list[str]]) -> str:
    """Write attributes_00.csv for a tree of 2023, `change` applied to its rows; what is printed then."""
    clips = sorted(path for folder in ("train", "test") for path in (root / "fan" / folder).glob("*.wav"))
    rows = [f"{path.relative_to(root).as_posix()},speed,{path.stem.rsplit('_', 1)[1]},," for path in clips]
    text = "\n".join(["file_name,d1p,d1v,d2p,d2v", *change(rows)])
    (root / "fan" / "attributes_00.csv").write_text(text)
    return text


def test_attribute_tables_are_held_against_the_names(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """14 clips called spd_0 to spd_2."""
    write_tree_2023(tmp_path, seconds=0.05)
    before = tables(tmp_path, P2023)
    attribute_csv(tmp_path, lambda rows: rows)
    tables(tmp_path, P2023)
    assert capsys.readouterr().out == ""

    def change(rows: list[str]) -> list[str]:
        other = [row.replace("speed,0", "speed,7").replace("speed,1", "speed,") for row in rows[3:]]
        return [*other, "fan/train/section_00_source_train_normal_0099_spd_0.wav,speed,0,,"]

    text = attribute_csv(tmp_path, change)
    after = tables(tmp_path, P2023)
    out = capsys.readouterr().out
    assert f"{tmp_path / 'fan' / 'attributes_00.csv'}: 3 clip(s) not in it, 1 row(s) without a clip, " in out
    assert f", {text.count('speed,7')} clip(s) whose name tells other values" in out
    for first, second in zip(before, after, strict=True):
        pd.testing.assert_frame_equal(first, second)


@pytest.mark.parametrize(
    ("values", "tail", "agree"),
    [
        ("weight,15,Bckg,F", "weight15_BckgF", True),
        ("background,None,,", "none", True),
        ("weight,15,,", "weight150_BckgF", False),
        ("weight,5,,", "weight15_BckgF", False),
        ("Bckg,A,,", "weight15_BckgF", False),
        (",,,", "noAttribute", True),
    ],
)
def test_values_are_found_as_a_whole(tmp_path: Path, values: str, tail: str, agree: bool) -> None:
    name = f"section_00_source_train_normal_0000_{tail}.wav"
    (tmp_path / "arm").mkdir()
    (tmp_path / "arm" / "attributes_00.csv").write_text(f"file_name,d1p,d1v,d2p,d2v\narm/train/{name},{values}\n")
    lines = differences(tmp_path, [(f"arm/train/{name}", dcase2023(PurePosixPath(f"arm/train/{name}")))])
    assert ["1 clip(s) whose name tells other values" in line for line in lines] == ([] if agree else [True])


@pytest.mark.parametrize("content", [b"", b"a,b\n1,2\n", b"file_name,d1v\n\xff\xfe,1\n"])
def test_an_unreadable_attribute_table_is_warned_of(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], content: bytes
) -> None:
    write_tree_2023(tmp_path, seconds=0.05)
    (tmp_path / "fan" / "attributes_00.csv").write_bytes(content)
    clips, _ = tables(tmp_path, P2023)
    assert len(clips) == 14
    assert "attributes_00.csv" in capsys.readouterr().out


def test_evaluation_clips_are_not_expected_in_the_attribute_table(
    named_tree: Callable[[Iterable[str]], Path], capsys: pytest.CaptureFixture[str]
) -> None:
    root = named_tree(toycar_2022())
    for section in ("03", "04", "05"):
        rows = [f"ToyCar/train/section_{section}_source_train_normal_{n:04d}_spd_28V.wav,speed,28V" for n in range(3)]
        (root / "eval" / "ToyCar" / f"attributes_{section}.csv").write_text("\n".join(["file_name,d1p,d1v", *rows]))
    tables(root, profile_2022("dcase2022"))
    assert capsys.readouterr().out == ""
