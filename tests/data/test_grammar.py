"""What names say, checked against the names of the published data sets, year by year."""

from __future__ import annotations

import string
from pathlib import PurePosixPath

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from auscult.data.names.grammar import GRAMMARS, Name, dcase2020, dcase2021, dcase2022, dcase2023, folder


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


@pytest.mark.parametrize(
    ("path", "name"),
    [
        # development: attributes in training names only; two spellings, `none` and `None`
        (
            "fan/train/section_00_source_train_normal_0999_strength_1_ambient.wav",
            Name("fan", "00", "train", 0, "source", "strength_1_ambient"),
        ),
        (
            "fan/train/section_02_target_train_normal_0002_strenght_2.wav",
            Name("fan", "02", "train", 0, "target", "strenght_2"),
        ),
        (
            "gearbox/train/section_01_source_train_normal_1007_none.wav",
            Name("gearbox", "01", "train", 0, "source", "none"),
        ),
        (
            "gearbox/train/section_01_target_train_normal_0000_None.wav",
            Name("gearbox", "01", "train", 0, "target", "None"),
        ),
        ("pump/source_test/section_00_source_test_normal_0000.wav", Name("pump", "00", "test", 0, "source")),
        ("pump/target_test/section_02_target_test_anomaly_0099.wav", Name("pump", "02", "test", 1, "target")),
        # evaluation: the domain is told, the label is not
        ("ToyCar/source_test/section_03_source_test_0000.wav", Name("ToyCar", "03", "test", None, "source")),
        ("ToyTrain/target_test/section_05_target_test_0199.wav", Name("ToyTrain", "05", "test", None, "target")),
        (
            "valve/test/section_05_target_test_0199.wav",
            Name("valve", "05", "test", None, "target"),
        ),  # unpacked together
    ],
)
def test_2021(path: str, name: Name) -> None:
    assert dcase2021(named(path)) == name


@pytest.mark.parametrize(
    ("path", "name"),
    [
        (
            "ToyCar/train/section_00_source_train_normal_0000_car_A1_spd_28V_mic_1_noise_1.wav",
            Name("ToyCar", "00", "train", 0, "source", "car_A1_spd_28V_mic_1_noise_1"),
        ),
        (
            "bearing/test/section_02_target_test_anomaly_0049_vel_25.wav",
            Name("bearing", "02", "test", 1, "target", "vel_25"),
        ),
        ("fan/test/section_00_source_test_normal_0001_m-n_X.wav", Name("fan", "00", "test", 0, "source", "m-n_X")),
        ("fan/test/section_03_0000.wav", Name("fan", "03", "test", None)),
        ("fan/test/section_05_test_0199.wav", Name("fan", "05", "test", None)),
    ],
)
def test_2022(path: str, name: Name) -> None:
    assert dcase2022(named(path)) == name


@pytest.mark.parametrize(
    ("path", "name"),
    [
        # 2024: words missing or in another order; numbering from 0000 or 0001
        (
            "RoboticArm/test/section_00_source_normal_0035_weight15_BckgF.wav",
            Name("RoboticArm", "00", "test", 0, "source", "weight15_BckgF"),
        ),
        (
            "RoboticArm/test/section_00_anomaly_target_0091_weight35_BckgE.wav",
            Name("RoboticArm", "00", "test", 1, "target", "weight35_BckgE"),
        ),
        (
            "3DPrinter/test/section_00_target_test_anomaly_0001_mdl_B_spd_2.wav",
            Name("3DPrinter", "00", "test", 1, "target", "mdl_B_spd_2"),
        ),
        (
            "AirCompressor/test/section_00_source_test_normal_0001_noAttribute.wav",
            Name("AirCompressor", "00", "test", 0, "source", "noAttribute"),
        ),
        ("AirCompressor/test/section_00_0200.wav", Name("AirCompressor", "00", "test", None)),
        # 2025: an empty attribute, in test too; 2026: the emulated types
        ("ToyPet/test/section_00_target_test_anomaly_0000_.wav", Name("ToyPet", "00", "test", 1, "target", "")),
        ("AutoTrash/test/section_00_0000.wav", Name("AutoTrash", "00", "test", None)),
        (
            "ToyCarEmu/train/section_00_source_train_normal_0000_v1pat_A_v2pat_none.wav",
            Name("ToyCarEmu", "00", "train", 0, "source", "v1pat_A_v2pat_none"),
        ),
        # 2025's third folder: declared, whatever its recordings are called
        (
            "bearing/supplemental/section_00_machine_0000_.wav",
            Name("bearing", "00", "supplemental", None, kind="machine"),
        ),
        (
            "fan/supplemental/section_00_source_clean_0000_m-n_W.wav",
            Name("fan", "00", "supplemental", None, attributes="m-n_W", kind="machine"),
        ),
        ("bearing/supplemental/section_00_noise_0099_.wav", Name("bearing", "00", "supplemental", None, kind="noise")),
        ("bearing/supplemental/section_00_hall_0099.wav", Name("bearing", "00", "supplemental", None)),
        ("bearing/supplemental/somebody's.wav", Name("bearing", "", "supplemental", None)),
    ],
)
def test_2024_to_2026(path: str, name: Name) -> None:
    assert dcase2023(named(path)) == name


MACHINES = st.text(string.ascii_letters + string.digits, min_size=1)
UNITS = st.integers(0, 99).map("{:02d}".format)
DOMAINS = st.sampled_from(["source", "target"])
LABELS = st.sampled_from(["normal", "anomaly"])
NUMBERS = st.integers(0, 9999).map("{:04d}".format)
TAILS = st.text(string.ascii_letters + string.digits + "_-", max_size=30)


@settings(deadline=None)
@given(MACHINES, UNITS, st.integers(0, 10**8 - 1), LABELS, st.booleans())
def test_round_trip_2020(machine: str, unit: str, number: int, label: str, told: bool) -> None:
    clip = f"id_{unit}_{number:08d}.wav"
    assert dcase2020(named(f"{machine}/train/normal_{clip}")) == Name(machine, unit, "train", 0)
    path = f"{machine}/test/{f'{label}_' if told else ''}{clip}"
    assert dcase2020(named(path)) == Name(machine, unit, "test", int(label == "anomaly") if told else None)


@settings(deadline=None)
@given(MACHINES, UNITS, DOMAINS, NUMBERS, LABELS, st.booleans(), TAILS)
def test_round_trip_2021(machine: str, unit: str, domain: str, number: str, label: str, told: bool, tail: str) -> None:
    path = f"{machine}/train/section_{unit}_{domain}_train_normal_{number}_{tail}.wav"
    assert dcase2021(named(path)) == Name(machine, unit, "train", 0, domain, tail)
    path = f"{machine}/{domain}_test/section_{unit}_{domain}_test_{f'{label}_' if told else ''}{number}.wav"
    anomaly = int(label == "anomaly") if told else None
    assert dcase2021(named(path)) == Name(machine, unit, "test", anomaly, domain)


@settings(deadline=None)
@given(MACHINES, UNITS, DOMAINS, NUMBERS, LABELS, st.booleans(), TAILS)
def test_round_trip_2022_to_2026(
    machine: str, unit: str, domain: str, number: str, label: str, test: bool, tail: str
) -> None:
    for grammar in (dcase2022, dcase2023):
        path = f"{machine}/train/section_{unit}_{domain}_train_normal_{number}_{tail}.wav"
        assert grammar(named(path)) == Name(machine, unit, "train", 0, domain, tail)
        path = f"{machine}/test/section_{unit}_{domain}_test_{label}_{number}_{tail}.wav"
        assert grammar(named(path)) == Name(machine, unit, "test", int(label == "anomaly"), domain, tail)
        path = f"{machine}/test/section_{unit}_{'test_' if test else ''}{number}.wav"
        assert grammar(named(path)) == Name(machine, unit, "test", None)


@settings(deadline=None)
@given(UNITS, NUMBERS, st.permutations(["target", "test", "anomaly"]), st.booleans(), TAILS)
def test_round_trip_of_words_in_any_order(unit: str, number: str, words: list[str], short: bool, tail: str) -> None:
    said = [word for word in words if not (short and word == "test")]
    path = f"RoboticArm/test/section_{unit}_{'_'.join(said)}_{number}_{tail}.wav"
    assert dcase2023(named(path)) == Name("RoboticArm", unit, "test", 1, "target", tail)


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
        ("dcase2023", "fan/test/section_00_source_target_test_normal_0000_a.wav", "called both source and target"),
        ("dcase2023", "fan/test/section_00_normal_test_normal_0000_a.wav", "called both normal and normal"),
        ("dcase2023", "fan/fan/train/section_00_source_train_normal_0000_a.wav", "unpacked one folder too deep"),
        ("dcase2020", "fan/fan/train/normal_id_00_00000000.wav", "unpacked one folder too deep"),
        ("dcase2021", "fan/source_test/section_00_target_test_normal_0000.wav", "called target in the folder source"),
        ("dcase2021", "fan/source_test/section_00_source_train_normal_0000.wav", "called train in the folder source"),
        ("dcase2021", "fan/source_test/section_00_source_test_normal_0000_a.wav", "a test clip with attributes"),
        ("dcase2021", "fan/test/section_03_0000.wav", "without `source` or `target`"),
        ("dcase2021", "fan/train/section_00_source_train_0000_a.wav", "not called normal"),
        ("dcase2022", "fan/source_test/section_00_source_test_normal_0000_a.wav", "not at <machine>/train/"),
        ("dcase2022", "fan/test/section_03_source_test_0000.wav", "without `normal` or `anomaly`"),
        ("dcase2022", "fan/test/section_03_test_0000_a.wav", "without `normal` or `anomaly`"),
        ("dcase2022", "fan/test/section_03_test_normal_0000.wav", "without `source` or `target`"),
        ("dcase2022", "fan/train/section_03_0000.wav", "not called normal"),
        ("dcase2022", "fan/supplemental/section_00_noise_0000_.wav", "not at <machine>/train/"),
        ("folder", "a.wav", "not below normal/"),
        ("folder", "press/a.wav", "not below normal/"),
        ("folder", "plant/press/2/normal/a.wav", "not below normal/"),
        ("folder", "normal/broken/anomaly/a.wav", "below more than one of normal/, anomaly/"),
    ],
)
def test_refused_names(grammar: str, path: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        GRAMMARS[grammar](named(path))
