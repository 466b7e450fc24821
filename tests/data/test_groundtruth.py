"""Labels of evaluation clips: the tables we ship against the published counts, every form of list, and joining by name."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from auscult.data.labels import SHIPPED, Label, packed, shipped, unpacked
from auscult.data.labels.groundtruth import NTT_LIST, key, label_files, match, parse_answers, parse_blocks, read_labels
from auscult.errors import AuscultError


def write(path: Path, text: str, newline: str = "\n") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text.replace("\n", newline).encode())
    return path


def refused(choice: str, root: Path) -> str:
    with pytest.raises(AuscultError) as caught:
        read_labels(choice, root)
    return str(caught.value)


# ------------------------------------------------------------------------------------------------------ tables we ship
def test_2020_has_the_published_counts() -> None:
    """Normal and anomalous test clips of each machine and id of the evaluation set."""
    counts = Counter((label.machine, label.file[3:5], label.anomaly) for label in shipped("dcase2020"))
    three = {
        "fan": [(100, 326), (100, 358), (109, 349)],
        "pump": [(100, 116), (100, 113), (100, 248)],
        "slider": [(100, 178)] * 3,
        "valve": [(100, 120), (100, 120), (100, 400)],
        "ToyCar": [(250, 265)] * 3,
        "ToyConveyor": [(200, 355)] * 3,
    }
    ids = {"ToyCar": ("05", "06", "07"), "ToyConveyor": ("04", "05", "06")}
    expected = {
        (machine, unit, anomaly): numbers[anomaly]
        for machine, units in three.items()
        for unit, numbers in zip(ids.get(machine, ("01", "03", "05")), units, strict=True)
        for anomaly in (0, 1)
    }
    assert counts == expected
    assert sum(counts.values()) == 7103


def test_2021_has_the_published_counts() -> None:
    """Source normal and anomalous, target normal and anomalous clips; 100 each but in four sections."""
    labels = shipped("dcase2021")
    counts = Counter((label.machine, label.file[8:10], label.domain, label.anomaly) for label in labels)
    others = {
        ("gearbox", "03"): (130, 104, 104, 182),
        ("gearbox", "04"): (144, 108, 104, 130),
        ("gearbox", "05"): (108, 102, 110, 102),
        ("slider", "05"): (103, 101, 103, 100),
    }
    expected = {
        (machine, section, domain, anomaly): others.get((machine, section), (100,) * 4)[2 * target + anomaly]
        for machine in ("fan", "gearbox", "pump", "slider", "valve", "ToyCar", "ToyTrain")
        for section in ("03", "04", "05")
        for target, domain in enumerate(("source", "target"))
        for anomaly in (0, 1)
    }
    assert counts == expected
    assert sum(counts.values()) == 8635
    assert all(f"_{label.domain}_test_" in label.file for label in labels)


def test_2022_is_balanced_in_every_section() -> None:
    counts = Counter((label.machine, label.file[8:10], label.domain, label.anomaly) for label in shipped("dcase2022"))
    assert set(counts.values()) == {50}
    assert {machine for machine, *_ in counts} == {"bearing", "fan", "gearbox", "slider", "valve", "ToyCar", "ToyTrain"}
    assert {section for _, section, *_ in counts} == {"03", "04", "05"}
    assert sum(counts.values()) == 4200


@pytest.mark.parametrize(
    ("year", "machine", "file", "anomaly", "domain"),
    [
        # The first clips of the published files.
        ("dcase2020", "ToyCar", "id_05_00000000.wav", 1, "unknown"),
        ("dcase2020", "ToyCar", "id_05_00000001.wav", 0, "unknown"),
        ("dcase2021", "valve", "section_05_target_test_0199.wav", 1, "target"),
        ("dcase2021", "valve", "section_05_target_test_0195.wav", 0, "target"),
        ("dcase2022", "ToyCar", "section_03_0000.wav", 1, "target"),
        ("dcase2022", "ToyCar", "section_03_0001.wav", 0, "source"),
    ],
)
def test_single_clips(year: str, machine: str, file: str, anomaly: int, domain: str) -> None:
    assert Label(machine, file, anomaly, domain) in shipped(year)


@settings(deadline=None)
@given(st.dictionaries(st.sampled_from(["fan", "valve"]), st.lists(st.tuples(st.integers(0, 1), st.booleans()))))
def test_packed_tables_say_the_same(answers: dict[str, list[tuple[int, bool]]]) -> None:
    labels = [
        Label(machine, f"section_03_{number:04d}.wav", anomaly, "target" if target else "source")
        for machine, clips in answers.items()
        for number, (anomaly, target) in enumerate(clips)
    ]
    assert sorted(unpacked("# a comment\n" + packed(labels[::-1], hidden=True))) == sorted(labels)
    named = [label._replace(file=label.file.replace("03_", "03_target_test_"), domain="target") for label in labels]
    assert sorted(unpacked(packed(named, hidden=False))) == sorted(named)


def test_a_gap_cannot_be_packed() -> None:
    with pytest.raises(ValueError, match="fan/id_01_: not numbered from 0 without a gap"):
        packed([Label("fan", "id_01_00000001.wav", 0)], hidden=False)


# ----------------------------------------------------------------------------------------------------------- block lists
@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_block_lists_of_every_year(tmp_path: Path, newline: str) -> None:
    """2020 with a column, 2021 and 2022 in words, 2024's RoboticArm without the word `test`; rows in any order."""
    text = """\
fan
id_01_00000001.wav,anomaly_id_01_00000064.wav,1
id_01_00000000.wav,normal_id_01_00000098.wav,0
gearbox
section_03_source_test_0001.wav,section_03_source_test_anomaly_0007.wav
bearing
section_04_0199.wav,section_04_target_test_anomaly_0199_vel_25.wav

section_03_0000.wav,section_03_source_test_normal_0000_vel_21_test_anomaly.wav
RoboticArm
section_00_0000.wav,section_00_source_normal_0035_weight15_BckgF.wav
ToyPet,
section_00_0001.wav,section_00_target_test_anomaly_0000_.wav
"""
    write(tmp_path / "lists" / "eval_data_list.csv", "\ufeff" + text, newline)
    expected = [
        Label("fan", "id_01_00000001.wav", 1),
        Label("fan", "id_01_00000000.wav", 0),
        Label("gearbox", "section_03_source_test_0001.wav", 1, "source"),
        Label("bearing", "section_04_0199.wav", 1, "target"),
        Label("bearing", "section_03_0000.wav", 0, "source"),
        Label("RoboticArm", "section_00_0000.wav", 0, "source"),
        Label("ToyPet", "section_00_0001.wav", 1, "target"),
    ]
    assert read_labels("lists", tmp_path) == expected
    assert read_labels("lists/eval_data_list.csv", tmp_path) == expected


def test_lines_that_cannot_be_read_are_all_listed(tmp_path: Path) -> None:
    write(
        tmp_path / "list.csv",
        "section_00_0000.wav,section_00_source_test_normal_0000_.wav\n"
        "fan\n"
        "section_00_0001.wav,section_00_source_test_0001_.wav\n"
        "section_00_0002.wav,section_00_source_test_normal_0002.wav,1\n"
        "section_00_source_test_0003.wav,section_00_target_test_normal_0003.wav\n"
        ",1\n"
        "section_00_0004.wav,section_00_source_test_normal_0004.wav\n",
    )
    message = refused("list.csv", tmp_path)
    assert "5 line(s)" in message
    for words in ("line 1: no machine", "line 3: no label", "line 4: two labels", "line 5: two domains", "line 6: not"):
        assert words in message
    bad: list[str] = []
    assert [label.file for label in parse_blocks((tmp_path / "list.csv").read_text(), bad)] == ["section_00_0004.wav"]


def test_a_list_that_is_no_text(tmp_path: Path) -> None:
    (tmp_path / "list.csv").write_bytes(b"\xff\xfe\x00fan")
    assert "not a text file" in refused("list.csv", tmp_path)


# ------------------------------------------------------------------------------------------------------------ evaluators
def test_evaluators_folders_with_a_domain(tmp_path: Path) -> None:
    file = "ground_truth_ToyCar_section_03_test.csv"
    write(tmp_path / "gt/ground_truth_data" / file, "section_03_0001.wav,0\nsection_03_0000.wav,1\n", "\r\n")
    write(tmp_path / "gt/ground_truth_domain" / file, "section_03_0000.wav,1\nsection_03_0001.wav,0\n")
    # 2022's third folder contradicts the other two, and is wrong.
    write(tmp_path / "gt/ground_truth_attributes/ToyCar/attributes_03.csv", "file_name,d1p,d1v\n")
    write(tmp_path / "gt/teams/a/anomaly_score_ToyCar_section_03_test.csv", "section_03_0000.wav,0.3\n")
    assert read_labels("gt", tmp_path) == [
        Label("ToyCar", "section_03_0001.wav", 0, "source"),
        Label("ToyCar", "section_03_0000.wav", 1, "target"),
    ]
    assert [path.parent.name for path in label_files("gt", tmp_path)] == ["ground_truth_data", "ground_truth_domain"]
    write(tmp_path / "gt/ground_truth_domain" / file, "section_03_0002.wav,1\nsection_03_0001.wav,0\n")
    message = refused("gt", tmp_path)
    assert "2 name(s) have a label or a domain, not both" in message
    assert "ToyCar: section_03_0000.wav" in message
    assert "ToyCar: section_03_0002.wav" in message


def test_evaluators_folders_of_2021_tell_the_domain_by_name(tmp_path: Path) -> None:
    file = "ground_truth_ToyCar_section_03_target_test.csv"
    write(tmp_path / "ground_truth_data" / file, "section_03_target_test_0000.wav,1\n")
    assert read_labels(".", tmp_path) == [Label("ToyCar", "section_03_target_test_0000.wav", 1, "target")]


def test_evaluators_folders_with_telling_names_alone(tmp_path: Path) -> None:
    """2026. The tail of a name may hold anything, and a second telling name may follow (2024)."""
    folder = tmp_path / "gt/ground_truth_attributes"
    write(
        folder / "ground_truth_ToyDrone_section_00_test.csv",
        "section_00_0000.wav,section_00_target_test_anomaly_0012_car_C1_spd_1\n"
        "section_00_0001.wav,section_00_source_test_normal_0001_noAttribute,section_00_source_test_normal_0001_a_1.wav\n",
    )
    assert read_labels("gt", tmp_path) == [
        Label("ToyDrone", "section_00_0000.wav", 1, "target"),
        Label("ToyDrone", "section_00_0001.wav", 0, "source"),
    ]


def test_answers_are_0_or_1() -> None:
    bad: list[str] = []
    assert parse_answers("a.wav,2\nb.wav\nc.wav,1\n", "fan", bad) == [Label("fan", "c.wav", 1)]
    assert [line.split(":")[0] for line in bad] == ["line 1", "line 2"]


# --------------------------------------------------------------------------------------------------------------- choices
def test_choices_that_are_not_there(tmp_path: Path) -> None:
    message = refused("dcase2019", tmp_path)
    assert "there are no labels" in message
    assert str(tmp_path / "dcase2019") in message
    assert "dcase2020, dcase2021, dcase2022" in message
    (tmp_path / "labels").mkdir()
    assert "there are no labels" in refused("labels", tmp_path)
    message = refused(NTT_LIST, tmp_path)
    assert str(tmp_path / "labels" / "eval_data_list_2022.csv") in message
    assert "licence" in message


def test_the_wrong_list_of_2022_is_chosen_by_name(tmp_path: Path) -> None:
    line = "section_03_0000.wav,section_03_source_test_normal_0000_a.wav\n"
    write(tmp_path / "labels" / "eval_data_list_2022.csv", f"ToyCar\n{line}")
    assert read_labels(NTT_LIST, tmp_path) == [Label("ToyCar", "section_03_0000.wav", 0, "source")]


@pytest.mark.parametrize("choice", ["", *SHIPPED])
def test_what_we_ship_reads_no_file_of_the_user(tmp_path: Path, choice: str) -> None:
    write(tmp_path / "eval_data_list.csv", "fan\na.wav,normal_id_00_00000000.wav,0\n")
    assert label_files(choice, tmp_path) == []


# --------------------------------------------------------------------------------------------------------------- joining
def test_labels_are_joined_by_name_whatever_their_order() -> None:
    labels = shipped("dcase2022")
    clips = [(label.machine, label.file) for label in labels]
    rng = np.random.default_rng(0)
    shuffled = [labels[i] for i in rng.permutation(len(labels))]
    assert match(clips, shuffled, "") == labels


def test_names_of_2022_with_and_without_the_word_test() -> None:
    assert key("section_03_test_0007.wav") == key("section_03_0007.wav") == key("section_03_0007.flac")
    assert key("section_03_source_test_0007.wav") != key("section_03_0007.wav")
    label = Label("fan", "section_03_0007.wav", 1, "target")
    assert match([("fan", "section_03_test_0007.WAV")], [label], "") == [label]


def test_what_does_not_fit_is_listed_by_name() -> None:
    labels = [Label("fan", f"id_01_0000000{number}.wav", 0) for number in (0, 1, 2, 2)]
    labels.append(Label("pump", "id_01_00000000.wav", 0))  # a machine that is not used
    clips = [("fan", f"id_01_0000000{number}.wav") for number in (0, 2, 3)] + [("fan", "id_01_00000000.flac")]
    with pytest.raises(AuscultError) as caught:
        match(clips, labels, "labels")
    message = str(caught.value)
    for words, name in {
        "1 clip(s) without a label": "fan: id_01_00000003",
        "1 label(s) without a clip": "fan: id_01_00000001",
        "1 clip(s) of the same name": "fan: id_01_00000000",
        "1 name(s) labelled twice": "fan: id_01_00000002",
    }.items():
        assert f"{words}:\n    {name}" in message
    assert "pump" not in message
    assert "eval_labels: labels" in message
