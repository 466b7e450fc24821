"""No single recording decides for all: stubs, low rates, odd levels and copies are named, and the threshold is as without."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile

from auscult.detector import bundle
from auscult.detector.bundle import Bundle, FitSettings
from auscult.detector.recordings import Found, choose_rate, choose_seconds, odd_levels
from auscult.errors import AuscultError
from support.trees import noise, write

HERE = Path("recordings")


def of_seconds(*seconds: float) -> dict[str, Found]:
    return {f"{number}.wav": Found(HERE, 16000, round(16000 * each), 0.5, 0.1) for number, each in enumerate(seconds)}


@pytest.mark.parametrize(
    ("seconds", "window", "left_out"),
    [
        ([10.0] * 30 + [0.15], 10.0, [30]),
        ([10.0] * 10 + [0.2, 0.3], 10.0, [10, 11]),
        ([10.0, 9.99, 10.01, 9.98, 12.0], 9.98, []),
        ([60.0] * 4 + [6.0], 10.0, [4]),
        ([2.7] * 5 + [1.5] * 5, 1.5, []),
        ([1.5], 1.5, []),
    ],
)
def test_a_window_is_as_long_as_the_shortest_but_for_stubs(
    seconds: list[float], window: float, left_out: list[int]
) -> None:
    found, without, note = choose_seconds(of_seconds(*seconds), 0, HERE)
    assert (found, list(without)) == (window, [f"{number}.wav" for number in left_out])
    assert bool(note) == (1.5 < window < 2.5 or seconds == [2.7] * 5 + [1.5] * 5)


def test_all_that_are_too_short_are_named_at_once() -> None:
    found, without, _ = choose_seconds(of_seconds(10, 10, 10, 4), 8.0, HERE)
    assert (found, without) == (8.0, {"3.wav": "4 s long"})
    with pytest.raises(AuscultError, match=r"(?s)3 of 4 recordings are shorter than a window of 8 s.*1.wav.*3.wav"):
        choose_seconds(of_seconds(10, 1, 2, 4), 8.0, HERE)


def test_a_low_rate_of_few_does_not_become_that_of_all() -> None:
    found = {f"{i}": Found(HERE, 48000 if i else 8000, 480000, 0.5, 0.1) for i in range(10)}
    assert choose_rate(found, 0, HERE) == (16000, {"0": "recorded at 8000 Hz only"})
    half = {name: Found(HERE, 8000 if int(name) % 2 else 44100, 1, 1, 1) for name in found}
    assert choose_rate(half, 0, HERE) == (8000, {})
    with pytest.raises(AuscultError, match="5 of 10 recordings have 8000 Hz only") as caught:
        choose_rate(half, 16000, HERE)
    assert "--sample-rate 8000" in caught.value.fix


def test_an_odd_level_does_not_decide_the_gain() -> None:
    found = {f"{i}": Found(HERE, 16000, 1, 0.1, 0.01) for i in range(9)} | {
        "counts": Found(HERE, 16000, 1, 3000.0, 300.0)
    }
    assert odd_levels(found) == {"counts": "90 dB louder than most"}


# ------------------------------------------------------------------------------------------------------------------ copies
@pytest.fixture(scope="module")
def recordings(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("n")
    rng = np.random.default_rng(0)
    for number in range(20):
        write(folder / f"{number:02d}.wav", noise(rng, 1.0, 300.0))
    return folder


@pytest.fixture(scope="module")
def plain(recordings: Path, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return bundle.fit(recordings, tmp_path_factory.mktemp("out") / "b")


@pytest.mark.parametrize("form", ["name", "flac", "24 bit, a hair softer", "cuts", "ogg"])
def test_the_threshold_is_as_without_copies(recordings: Path, plain: Bundle, tmp_path: Path, form: str) -> None:
    folder = tmp_path / "n"
    shutil.copytree(recordings, folder)
    for path in sorted(recordings.iterdir()):
        sound, rate = soundfile.read(path)
        if form == "name":
            shutil.copy(path, folder / f"a copy of {path.name}")
        elif form == "flac":
            soundfile.write(folder / f"{path.stem}.flac", sound, rate)
        elif form == "cuts":
            soundfile.write(folder / f"{path.stem}_cut.wav", np.concatenate([sound[:100], sound])[:rate], rate)
        elif form == "ogg":
            soundfile.write(folder / f"{path.stem}.ogg", sound, rate)
        else:
            soundfile.write(folder / f"{path.stem}_24.wav", 0.999 * sound, rate, subtype="PCM_24")
    made = bundle.fit(folder, tmp_path / "b")
    facts = made.facts["training"]
    assert facts["recordings"] == facts["windows"] == len(facts["same_sound"]) == 20
    assert len(made.normal) == 20
    assert made.threshold == plain.threshold
    stems = {
        Path(name).stem.replace("a copy of ", "")[:2]: Path(of).stem[-2:] for name, of in facts["same_sound"].items()
    }
    assert all(name == of for name, of in stems.items())


def test_cuts_of_one_recording_are_left_out_together(tmp_path: Path) -> None:
    """As if it had been given as a whole; and a single one is said to be too few."""
    rng = np.random.default_rng(3)
    for number in range(10):
        whole = noise(rng, 4.0, 300.0)
        write(tmp_path / "whole" / f"{number}.wav", whole)
        for place in range(7):
            write(tmp_path / "cuts" / f"{number}-{place}.wav", whole[8000 * place : 8000 * place + 16000])
    whole = bundle.fit(tmp_path / "whole", tmp_path / "a", FitSettings(seconds=1.0))
    cuts = bundle.fit(tmp_path / "cuts", tmp_path / "b")
    assert [len(names) for names in cuts.facts["training"]["overlapping"]] == [7] * 10
    assert cuts.threshold == pytest.approx(whole.threshold, rel=0.03)
    alone = tmp_path / "alone"
    alone.mkdir()
    for path in (tmp_path / "cuts").glob("[01]-*.wav"):
        shutil.copy(path, alone)
    notes = bundle.fit(alone, tmp_path / "c").facts["training"]["notes"]
    assert any("for 2 recordings support no smaller one: for 0.1, 9 are needed" in note for note in notes)


def test_all_copies_of_one_are_nothing_to_tell_apart(recordings: Path, tmp_path: Path) -> None:
    (tmp_path / "n").mkdir()
    for number in range(12):
        shutil.copy(recordings / "00.wav", tmp_path / "n" / f"{number}.wav")
    with pytest.raises(AuscultError, match=r"1 window\(s\) of 1 s are too few"):
        bundle.fit(tmp_path / "n", tmp_path / "b")


# ---------------------------------------------------------------------------------------------------------- few recordings
def test_a_single_recording_is_said_to_be_too_few(tmp_path: Path) -> None:
    write(tmp_path / "n" / "a.wav", noise(np.random.default_rng(0), 20.0, 300.0))
    made = bundle.fit(tmp_path / "n", tmp_path / "b", FitSettings(seconds=1.0, rate=0.05))
    (note,) = made.facts["training"]["notes"]
    assert "the threshold comes from a single recording and is too low" in note
    assert "18 more recording(s)" in note


def test_modes_of_one_recording_are_refused_unless_they_are_days(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for number in range(10):
        write(tmp_path / "n" / f"day {number}" / "a.wav", noise(rng, 2.0, 300.0))
    with pytest.raises(AuscultError, match=r"10 of 10 sub-folders hold one recording each") as caught:
        bundle.fit(tmp_path / "n", tmp_path / "b", FitSettings(seconds=1.0))
    assert "--one-mode" in caught.value.fix
    made = bundle.fit(tmp_path / "n", tmp_path / "b", FitSettings(seconds=1.0, one_mode=True))
    assert made.facts["training"]["units"] == {"00": 20}
    for number in range(9):
        shutil.move(tmp_path / "n" / f"day {number}" / "a.wav", tmp_path / "n" / f"{number}.wav")
    with pytest.raises(AuscultError, match="1 of 2 sub-folders"):
        bundle.fit(tmp_path / "n", tmp_path / "c", FitSettings(seconds=1.0))
