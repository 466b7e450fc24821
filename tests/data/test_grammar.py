"""What names say, checked against the names of the published data sets, year by year."""

from __future__ import annotations

from pathlib import PurePosixPath

import pytest

from auscult.data.grammar import GRAMMARS, Name, dcase2020, dcase2023, folder


def named(path: str) -> PurePosixPath:
    return PurePosixPath(path)


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("fan/train/normal_id_00_00000000.wav", Name("fan", "00", "train", 0)),
        ("fan/test/normal_id_06_00000099.wav", Name("fan", "06", "test", 0)),
        ("ToyCar/test/anomaly_id_01_00000263.wav", Name("ToyCar", "01", "test", 1)),
        ("valve/test/id_05_00000399.wav", Name("valve", "05", "test", None)),
    ],
)
def test_2020(path: str, name: Name) -> None:
    assert dcase2020(named(path)) == name


@pytest.mark.parametrize(
    ("path", "name"),
    [
        # 2021: the folder tells the domain of test clips, and so does the name; a spelling trap of the publishers'
        (
            "fan/train/section_00_source_train_normal_0000_strenght_1_ambient.wav",
            Name("fan", "00", "train", 0, "source", "strenght_1_ambient"),
        ),
        ("fan/source_test/section_00_source_test_normal_0000.wav", Name("fan", "00", "test", 0, "source")),
        ("fan/target_test/section_05_target_test_0123.wav", Name("fan", "05", "test", None, "target")),
        # 2022
        (
            "bearing/train/section_00_target_train_normal_0009_vel_6_loc_A.wav",
            Name("bearing", "00", "train", 0, "target", "vel_6_loc_A"),
        ),
        ("bearing/test/section_03_0199.wav", Name("bearing", "03", "test", None)),
        ("bearing/test/section_03_test_0199.wav", Name("bearing", "03", "test", None)),
        # 2023
        (
            "valve/test/section_00_target_test_anomaly_0049_pat_03_0.wav",
            Name("valve", "00", "test", 1, "target", "pat_03_0"),
        ),
        (
            "grinder/train/section_00_source_train_normal_0975_grindstone_1_plate_1.wav",
            Name("grinder", "00", "train", 0, "source", "grindstone_1_plate_1"),
        ),
        # 2024 and 2025: attributes not given, an empty one, and the word `test` missing
        (
            "gearbox/train/section_00_source_train_normal_0001_noAttribute.wav",
            Name("gearbox", "00", "train", 0, "source", "noAttribute"),
        ),
        ("ToyPet/train/section_00_source_train_normal_0000_.wav", Name("ToyPet", "00", "train", 0, "source", "")),
        (
            "RoboticArm/test/section_00_source_normal_0007_v1pat_A_v2pat_none.wav",
            Name("RoboticArm", "00", "test", 0, "source", "v1pat_A_v2pat_none"),
        ),
    ],
)
def test_2021_to_2025(path: str, name: Name) -> None:
    assert dcase2023(named(path)) == name


def test_attributes_are_opaque() -> None:
    """Nothing after the number is read, whatever it looks like."""
    tail = "normal_0001_target_test_anomaly_0002_section_01"
    name = dcase2023(named(f"fan/train/section_00_source_train_normal_0000_{tail}.wav"))
    assert name == Name("fan", "00", "train", 0, "source", tail)


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("normal/a.wav", Name("machine", "00", "train", 0)),
        ("anomaly/2024-05-01 night/a b.flac", Name("machine", "00", "test", 1)),
        ("test_normal/a.wav", Name("machine", "00", "test", 0)),
        ("press/normal/a.wav", Name("press", "00", "train", 0)),
        ("press/line 2/anomaly/deep/er/a.wav", Name("press", "line 2", "test", 1)),
    ],
)
def test_folder(path: str, name: Name) -> None:
    assert folder(named(path)) == name


@pytest.mark.parametrize("suffix", [".wav", ".WAV", ".flac", ".Flac"])
def test_suffix_is_no_part_of_the_name(suffix: str) -> None:
    assert dcase2020(named(f"fan/train/normal_id_00_00000000{suffix}")).unit == "00"
    assert dcase2023(named(f"fan/train/section_00_source_train_normal_0000_a{suffix}")).attributes == "a"


@pytest.mark.parametrize(
    ("grammar", "path", "message"),
    [
        ("dcase2020", "fan/train/clip1.wav", "not named"),
        ("dcase2020", "fan/train/normal_id_0a_00000000.wav", "not named"),
        ("dcase2020", "fan/train/xnormal_id_00_00000000.wav", "not named"),
        ("dcase2020", "fan/normal_id_00_00000000.wav", "not at <machine>/train/"),
        ("dcase2020", "dev/fan/train/normal_id_00_00000000.wav", "not at <machine>/train/"),
        ("dcase2020", "fan/valid/normal_id_00_00000000.wav", "not at <machine>/train/"),
        ("dcase2020", "fan/train/anomaly_id_00_00000000.wav", "an anomaly among the training clips"),
        ("dcase2023", "fan/train/normal_id_00_00000000.wav", "not named"),
        ("dcase2023", "fan/train/section_00_elsewhere_train_normal_0000.wav", "not named"),
        ("dcase2023", "fan/train/section_00_source_train_anomaly_0000.wav", "an anomaly among the training clips"),
        ("dcase2023", "fan/train/section_00_source_test_normal_0000.wav", "called test in the folder train/"),
        ("dcase2023", "fan/test/section_00_source_train_normal_0000_a.wav", "called train in the folder test/"),
        ("folder", "a.wav", "not below normal/"),
        ("folder", "press/a.wav", "not below normal/"),
        ("folder", "plant/press/2/normal/a.wav", "not below normal/"),
        ("folder", "normal/broken/anomaly/a.wav", "below more than one of normal/, anomaly/"),
    ],
)
def test_refused_names(grammar: str, path: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        GRAMMARS[grammar](named(path))
