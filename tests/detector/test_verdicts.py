"""What is known is said: level, digital silence, clipping and dead channels instead of a wrong verdict."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from auscult import cli
from auscult.detector import bundle
from auscult.detector.bundle import Bundle, FitSettings
from auscult.detector.score import UnusableError, curve, score_file
from auscult.detector.thresholds import Threshold
from auscult.errors import AuscultError
from support.trees import noise, write


def machine(seed: int, seconds: float = 1.0, fault: bool = False, gain: float = 1.0) -> np.ndarray:
    """float64 [samples]: a hum with noise; a fault is another tone."""
    rng = np.random.default_rng(seed)
    sound = noise(rng, seconds, 300.0) / 32768
    if fault:
        sound = sound + 0.02 * np.sin(2 * np.pi * 2350 * np.arange(len(sound)) / 16000)
    return gain * sound


def folder_of(folder: Path, form: object = lambda x: x, count: int = 20, subtype: str = "PCM_16") -> Path:
    for seed in range(count):
        write(folder / f"{seed:02d}.wav", form(machine(seed)), subtype=subtype)  # type: ignore[operator]
    return folder


@pytest.fixture(scope="module")
def fitted(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    folder = folder_of(tmp_path_factory.mktemp("normal"))
    return bundle.fit(folder, tmp_path_factory.mktemp("out") / "b", FitSettings(rate=0.05))


@pytest.fixture(scope="module")
def seeds(fitted: Bundle, tmp_path_factory: pytest.TempPathFactory) -> list[int]:
    """Of sounds that are normal as they are."""
    folder = tmp_path_factory.mktemp("probe")
    found = []
    for seed in range(100, 120):
        if score_file(fitted, write(folder / f"{seed}.wav", machine(seed))).verdict == "normal":
            found.append(seed)
    assert len(found) >= 10
    return found


# ------------------------------------------------------------------------------------------------------------------- level
@pytest.mark.parametrize("decibel", [-12.0, -6.0, 6.0])
def test_another_level_alone_is_no_anomaly(fitted: Bundle, seeds: list[int], tmp_path: Path, decibel: float) -> None:
    side = "above" if decibel > 0 else "below"
    for seed in seeds[:6]:
        normal = score_file(fitted, write(tmp_path / "n.wav", machine(seed, gain=10 ** (decibel / 20))))
        assert normal.score > fitted.threshold
        assert (normal.verdict, normal.anomalous, normal.above) == ("check recording", False, 0)
        assert f"dB {side} any training recording, which alone explains the score" in normal.warning
        assert float(normal.warning.split()[1]) == pytest.approx(abs(decibel), abs=1)
        fault = score_file(fitted, write(tmp_path / "f.wav", machine(seed, fault=True, gain=10 ** (decibel / 20))))
        assert (fault.verdict, fault.anomalous) == ("ANOMALOUS", True)
        assert f"dB {side} any training recording" in fault.warning


def test_pascals_and_very_quiet_captures_are_judged_as_others_are(fitted: Bundle, tmp_path: Path) -> None:
    for name, gain, subtype in (("pascal", 200.0, "FLOAT"), ("quiet", 1e-4, "PCM_24")):
        normal = folder_of(tmp_path / name, lambda x, gain=gain: gain * x, subtype=subtype)
        made = bundle.fit(normal, tmp_path / f"{name}.bundle", FitSettings(rate=0.05))
        assert made.signal.gain * gain == pytest.approx(0.7, rel=0.5)
        assert made.threshold == pytest.approx(fitted.threshold, rel=0.03)
        assert any("dB before they are rounded" in note for note in made.facts["training"]["notes"])
        found = score_file(made, write(tmp_path / "f.wav", machine(900, fault=True, gain=gain), subtype=subtype))
        assert found.verdict == "ANOMALOUS"
    assert fitted.signal.gain == 1


# ------------------------------------------------------------------------------------------- silence, dead channels, clips
def test_nothing_heard_is_unusable(fitted: Bundle, tmp_path: Path) -> None:
    dither = np.random.default_rng(0).integers(-1, 2, 16000).astype(np.int16)
    for sound, words in (
        (np.zeros(16000), "digital silence"),
        (np.full(16000, 0.2), "digital silence"),
        (dither, "nothing but the rounding"),
        (machine(1, gain=1e-5), "digital silence|nothing but the rounding"),
    ):
        with pytest.raises(UnusableError, match=f"unusable: .*({words}).* on channel 0") as caught:
            score_file(fitted, write(tmp_path / "s.wav", sound))
        assert caught.value.fix


def test_silence_inside_is_named_and_the_rest_is_judged(fitted: Bundle, tmp_path: Path) -> None:
    patient = replace(fitted, rule=Threshold(1.3 * fitted.threshold, 0.05, "gamma"))
    sound = machine(7, 8.0)
    sound[40000:72000] = 0
    path = write(tmp_path / "gap.wav", sound)
    found = score_file(patient, path)
    assert (found.verdict, found.windows) == ("check recording", 15)
    assert "digital silence" in found.warning
    assert "in 5 of 15 windows, from 2.0 s on" in found.warning
    starts, scores = curve(patient, path)
    assert starts[np.isnan(scores)].tolist() == [2.0, 2.5, 3.0, 3.5, 4.0]
    sound[90000:106000] = machine(1, fault=True)
    found = score_file(patient, write(path, sound))
    assert (found.verdict, found.anomalous) == ("ANOMALOUS", True)
    assert 5 <= found.start < 6.7
    assert "digital silence" in found.warning


def test_a_noise_gate_in_training_is_no_fault_later(tmp_path: Path) -> None:
    def gated(sound: np.ndarray) -> np.ndarray:
        return np.concatenate([sound[:6000], np.zeros(3000), sound[9000:]])

    made = bundle.fit(folder_of(tmp_path / "n", gated), tmp_path / "b")
    assert made.signal.silence == pytest.approx(3000 / 16000, abs=0.001)
    assert score_file(made, write(tmp_path / "a.wav", gated(machine(7)))).warning == ""
    with pytest.raises(UnusableError, match="digital silence"):
        score_file(made, write(tmp_path / "c.wav", np.concatenate([machine(7)[:8000], np.zeros(8000)])))


def test_clipping_is_said(fitted: Bundle, tmp_path: Path) -> None:
    found = score_file(fitted, write(tmp_path / "c.wav", np.clip(machine(1, gain=8.0), -1, 1 - 2**-15)))
    assert "clipped: up to" in found.warning
    assert "above any training recording" in found.warning


def test_a_file_that_says_nothing_of_the_machine_does_not_stop_the_others(
    fitted: Bundle, seeds: list[int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "today"
    write(folder / "a.wav", machine(seeds[0]))
    write(folder / "b.wav", machine(seeds[0], gain=0.5))
    write(folder / "c.wav", np.zeros(16000))
    (folder / "d.wav").write_bytes(b"no sound")
    capsys.readouterr()
    assert cli.main(["score", str(fitted.folder), str(folder), "--format", "csv"]) == 2
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert [row["verdict"] for row in rows] == ["normal", "check recording", "unusable", "unreadable"]
    assert [row["anomalous"] for row in rows] == ["0", "0", "", ""]
    assert [bool(row["score"]) for row in rows] == [True, True, False, False]
    assert all(row["warning"] for row in rows[1:])
    assert cli.main(["score", str(fitted.folder), str(folder), "--json"]) == 2
    found = json.loads(capsys.readouterr().out)
    assert [row["verdict"] for row in found] == [row["verdict"] for row in rows]
    assert cli.main(["score", str(fitted.folder), str(folder)]) == 2
    table = capsys.readouterr().out
    assert all(word in table for word in ("normal", "check recording", "unusable", "unreadable"))
    assert cli.main(["score", str(fitted.folder), str(folder / "a.wav"), str(folder / "b.wav")]) == 2
    assert cli.main(["score", str(fitted.folder), str(folder / "a.wav")]) == 0


def test_watch_writes_what_score_says(fitted: Bundle, seeds: list[int], tmp_path: Path) -> None:
    folder, out = tmp_path / "in", tmp_path / "out.csv"
    write(folder / "a.wav", machine(seeds[0]))
    write(folder / "b.wav", machine(seeds[0], gain=0.5))
    write(folder / "c.wav", np.zeros(16000))
    command = ["watch", str(fitted.folder), str(folder), "--out", str(out), "--once"]
    assert cli.main([*command, "--interval", "0.1", "--patience", "0.2"]) == 2
    with open(out, newline="") as stream:
        rows = {row["file"]: row for row in csv.DictReader(stream)}
    assert [rows[name]["anomalous"] for name in ("a.wav", "b.wav", "c.wav")] == ["0", "0", ""]
    assert rows["a.wav"]["note"] == ""
    assert rows["b.wav"]["note"].startswith("check recording: level 6 dB below")
    assert rows["c.wav"]["note"].startswith("unusable: digital silence")


# --------------------------------------------------------------------------------------------------------- what fit refuses
def test_fit_refuses_what_is_not_heard_and_says_which_channel_is(tmp_path: Path) -> None:
    def dead(sound: np.ndarray) -> np.ndarray:
        return np.stack([0 * sound, sound, sound], axis=1)

    for name, form, channel, words, fix in (
        ("dead", dead, 0, "20 .*nothing but zeros on channel 0", "--channel 1 or 2"),
        ("constant", lambda x: np.full_like(x, 0.01), 0, "nothing but the value 0.00998", "mend"),
        ("opposite", lambda x: np.stack([x, -x], 1), "mean", "on the mean of its channels", "--channel 0 or 1"),
        ("high", lambda x: 0.2 * np.sin(3.1 * np.arange(len(x))), 0, "too few|all alike|nothing", "record"),
    ):
        folder = folder_of(tmp_path / name, form)
        with pytest.raises(AuscultError, match=f"(?s){words}") as caught:
            bundle.fit(folder, tmp_path / "b", FitSettings(channel=channel))  # type: ignore[arg-type]
        assert fix in caught.value.fix
        assert not (tmp_path / "b").exists()
    made = bundle.fit(tmp_path / "dead", tmp_path / "b", FitSettings(channel=1))
    stereo = write(tmp_path / "x.wav", dead(machine(50))[:, ::-1])
    assert score_file(made, stereo).verdict in ("normal", "ANOMALOUS")
    with pytest.raises(UnusableError, match="on channel 1"):
        score_file(made, write(tmp_path / "y.wav", np.stack([machine(50), 0 * machine(50)], axis=1)))
