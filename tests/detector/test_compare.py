"""Candidates are judged by what they did not hear: by hand, and where nothing is to be noticed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from auscult.detector import bundle, compare
from auscult.detector.madeup import KINDS, made_up
from auscult.detector.score import score_file
from auscult.detector.settings import FitSettings
from auscult.detector.thresholds import quantile
from auscult.detector.trials import light
from auscult.errors import AuscultError
from auscult.features import exact_spectrogram
from auscult.methods import METHODS, load_method
from auscult.methods.about import declared
from auscult.settings.section import validated
from support.trees import noise, write

RATE = 16000
POOLINGS = {"mean": lambda x: x.mean(2), "max": lambda x: x.amax(2)}


def machine(rng: np.random.Generator) -> np.ndarray:
    """Noise that is louder or softer by up to 6 dB and brighter or duller, from recording to recording."""
    sound = noise(rng, 4.0).astype(np.float64)
    tilt = rng.uniform(-0.5, 0.5)
    sound[1:] += tilt * sound[:-1]
    return (sound * 10 ** (rng.uniform(-6, 6) / 20)).astype(np.int16)


def clicking(rng: np.random.Generator) -> np.ndarray:
    """The same with two clicks."""
    sound = machine(rng)
    for start in rng.integers(0, len(sound) - 100, 2):
        sound[start : start + 80] += (10000 * rng.standard_normal(80) * np.exp(-np.arange(80) / 30)).astype(np.int16)
    return sound


@pytest.fixture(scope="module")
def plant(module_path: Path) -> Path:
    """30 recordings of a machine, and five in which something clicks."""
    folder, rng = module_path / "plant", np.random.default_rng(0)
    for number in range(30):
        write(folder / "normal" / f"{number:02d}.wav", machine(rng))
    for number in range(5):
        write(folder / "clicks" / f"{number}.wav", clicking(rng))
    return folder


@pytest.fixture(scope="module")
def compared(plant: Path, module_path: Path) -> compare.Comparison:
    work = module_path / "work"
    work.mkdir()
    return compare.compare(plant / "normal", work, FitSettings(backend="gmm", rate=0.1), faults=plant / "clicks")


@pytest.fixture
def two(monkeypatch: pytest.MonkeyPatch) -> None:
    """The default and one more candidate, where it does not matter which there are."""
    monkeypatch.setattr(compare, "light", lambda others: light(others)[:2])


def heard(plant: Path, folder: str) -> np.ndarray:
    return np.stack([soundfile.read(file, dtype="int16")[0] for file in sorted((plant / folder).glob("*.wav"))])


@pytest.mark.parametrize("pooling", list(POOLINGS))
def test_scores_are_those_of_a_bundle_that_never_heard_the_recording(
    compared: compare.Comparison, plant: Path, pooling: str
) -> None:
    """Spectra, pooling, z-scores, distances and threshold anew, part by part."""
    trial = next(trial for trial in compared.trials if trial.values == {"pooling": [pooling]})
    normal, faults = heard(plant, "normal"), heard(plant, "clicks")
    changed = np.stack(list(made_up(normal[compared.changed], RATE).values()))

    def pooled(audio: np.ndarray) -> np.ndarray:
        mel = exact_spectrogram(audio.astype(np.float32) / 32768, "osscl", RATE)
        return POOLINGS[pooling](torch.from_numpy(mel)).double().numpy()  # type: ignore[no-untyped-call]

    x, y = pooled(normal), pooled(faults)
    z = np.stack([pooled(of) for of in changed])
    for part in range(5):
        bank, out = x[compared.fold != part], compared.fold == part
        mean, deviation = bank.mean(0), bank.std(0)
        bank = (bank - mean) / deviation

        def score(
            of: np.ndarray, bank: np.ndarray = bank, m: np.ndarray = mean, s: np.ndarray = deviation
        ) -> np.ndarray:
            return np.linalg.norm(((of - m) / s)[:, None] - bank, axis=2).min(axis=1)

        among = []
        for row in range(len(bank)):
            others = np.delete(bank, row, axis=0)
            among.append(np.linalg.norm((others - bank[row]) / others.std(0), axis=1).min())
        threshold = quantile(np.array(among), 0.1)
        np.testing.assert_allclose(trial.normal[out], score(x[out]) - threshold, atol=1e-3)
        np.testing.assert_allclose(trial.faults[part], score(y) - threshold, atol=1e-3)
        mine = np.isin(compared.changed, np.flatnonzero(out))
        for kind in range(len(KINDS)):
            np.testing.assert_allclose(trial.changed[kind, mine], score(z[kind][mine]) - threshold, atol=1e-3)
    assert np.isfinite(trial.changed).all()


def test_found_is_what_the_bundle_would_find(compared: compare.Comparison, plant: Path, tmp_path: Path) -> None:
    verdict = compared.verdict()
    for trial, row in zip(compared.trials, verdict.rows, strict=True):
        made = bundle.fit(
            plant / "normal", tmp_path / "b", FitSettings(trial.method, trial.values, rate=0.1), force=True
        )
        files = sorted((plant / "clicks").glob("*.wav"))
        judged = [score_file(made, file) for file in files]
        scores = [each.score - made.threshold for each in judged]
        rounding = 1e-5 * abs(made.threshold)  # of float32, of scores that are as large
        np.testing.assert_allclose(trial.faults[-1], scores, rtol=1e-4, atol=1e-3 + rounding)
        assert row.found == {file.name: each.anomalous for file, each in zip(files, judged, strict=True)}
        assert trial.backend == made.backend


def test_a_method_that_is_deaf_to_clicks_shows_none(compared: compare.Comparison) -> None:
    """The mean over time does not hear a click, made up or real, and hears a lost band."""
    verdict = compared.verdict()
    rows = {row.name: row for row in verdict.rows}
    mean, maximum, default = (
        rows["spectral_knn pooling=[mean]"],
        rows["spectral_knn pooling=[max]"],
        rows["spectral_knn"],
    )
    assert mean.noticed["clicks"] < 0.15 < 0.5 < maximum.noticed["clicks"]
    assert min(mean.noticed["lost band"], maximum.noticed["lost band"]) > 0.6
    assert mean.area_limits[0] < 0.5 < mean.area_limits[1]
    assert default.area > 0.95
    assert sum(mean.found.values()) == 0
    assert all(default.found.values())
    assert verdict.rows[verdict.take].area > 0.95
    assert verdict.worth is not None
    assert verdict.worth.found > 0.8


def test_where_nothing_is_changed_nothing_is_noticed(
    plant: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No candidate gets anything for its false alarms, and the default stays."""
    monkeypatch.setattr(
        "auscult.detector.madeup.KINDS", {kind: (lambda x, level, rate, rng: x.copy(), 0.0) for kind in KINDS}
    )
    verdict = compare.compare(plant / "normal", tmp_path, FitSettings(rate=0.3)).verdict()
    assert verdict.take == 0
    for row in verdict.rows:
        if row.holds:
            assert row.alarms > 0  # there are windows that are above the threshold as they are
            assert set(row.noticed.values()) == {0.0}


@pytest.mark.usefixtures("two")
def test_faults_that_sound_normal_are_a_tie(plant: Path, tmp_path: Path) -> None:
    rng = np.random.default_rng(9)
    for number in range(6):
        write(tmp_path / "f" / f"{number}.wav", machine(rng))
    (tmp_path / "work").mkdir()
    found = compare.compare(plant / "normal", tmp_path / "work", FitSettings(), faults=tmp_path / "f")
    verdict = found.verdict()
    row = verdict.rows[verdict.take]
    assert row.area_limits[0] < 0.5 < row.area_limits[1]
    assert verdict.worth is not None
    assert verdict.worth.area < 0.75


def test_every_declared_candidate_exists_and_the_default_is_the_first() -> None:
    trials = light()
    assert trials[0].method == FitSettings().method
    assert not trials[0].values
    for method in METHODS:
        for values in declared(method).get("compare", []):
            settings = validated(load_method(method).settings, {**values, "method": method}, method)
            assert not settings.trained, "light methods train nothing by gradient"
    assert [trial.name for trial in light(["ae", "twfr_gmm"])][len(trials) :] == ["ae"]


@pytest.mark.usefixtures("two")
def test_days_are_left_out_whole(plant: Path, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for day in range(4):
        for number in range(6):
            loud = noise(rng, 1.0) * (4 if day == 3 else 1)
            write(tmp_path / "n" / f"day {day}" / f"{number}.wav", loud.astype(np.int16))
    (tmp_path / "work").mkdir()
    found = compare.compare(tmp_path / "n", tmp_path / "work", FitSettings(one_mode=True))
    folder = found.normals.windows.table["name"].str[:5].to_numpy()
    assert all(len(set(found.fold[folder == day])) == 1 for day in set(folder))
    shares = found.by_folder(0)
    assert list(shares) == [f"day {day}" for day in range(4)]
    assert shares["day 3"] == 1  # nobody had heard it so loud
    assert shares["day 3"] > max(shares[f"day {day}"] for day in range(3))


@pytest.mark.usefixtures("two")
def test_of_many_windows_some_are_drawn_evenly(plant: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compare, "MOST", 40)
    found = compare.compare(plant / "normal", tmp_path, FitSettings(seconds=1.0))
    assert len(found.fold) == len(found.trials[0].normal) == 40
    assert found.normals.windows.table["name"].nunique() == 30
    assert any("40 of 120 windows are used" in note for note in found.normals.windows.notes)


@pytest.mark.usefixtures("two")
def test_few_recordings_get_the_rate_that_they_support(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for number in range(2):
        write(tmp_path / "n" / f"{number}.wav", np.concatenate([machine(rng) for _ in range(5)]))
    (tmp_path / "work").mkdir()
    found = compare.compare(tmp_path / "n", tmp_path / "work", FitSettings(seconds=4.0))
    assert found.rate == 1 / 6  # of five windows of one recording, when the other is left out


# -------------------------------------------------------------------------------------------------------------- bad input
def refused(words: str, *arguments: object, **more: object) -> None:
    with pytest.raises(AuscultError) as caught:
        compare.compare(*arguments, **more)  # type: ignore[arg-type]
    assert words in str(caught.value), str(caught.value)


@pytest.mark.usefixtures("two")
def test_what_cannot_be_compared(plant: Path, tmp_path: Path) -> None:
    rng, work = np.random.default_rng(1), tmp_path / "work"
    work.mkdir()
    normal, asked = plant / "normal", FitSettings()
    write(tmp_path / "one" / "long.wav", noise(rng, 30.0))
    refused("all windows are of one recording", tmp_path / "one", work, FitSettings(seconds=2.0))
    for number in range(4):
        write(tmp_path / "few" / f"{number}.wav", noise(rng, 2.0))
    refused("4 window(s) of 2 s are too few", tmp_path / "few", work, asked)
    refused("are too few for a rate of 0.01", normal, work, FitSettings(rate=0.01))
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "x.wav").write_bytes(b"RIFF no sound")
    refused("x.wav", normal, work, asked, faults=tmp_path / "broken")
    (tmp_path / "empty").mkdir()
    refused("no recordings below this folder", normal, work, asked, faults=tmp_path / "empty")
    write(tmp_path / "slow" / "x.wav", noise(rng, 4.0, rate=8000), rate=8000)
    refused("x.wav: recorded at 8000 Hz only", normal, work, asked, faults=tmp_path / "slow")
    write(tmp_path / "short" / "x.wav", noise(rng, 0.5))
    refused("x.wav: 0.5 s long, and a window has 4 s", normal, work, asked, faults=tmp_path / "short")
    for number in range(12):
        write(tmp_path / "stereo" / f"{number}.wav", np.stack([noise(rng, 1.0)] * 2, axis=1))
    refused(
        "0.wav: has 1 channel(s), so no channel 1",
        tmp_path / "stereo",
        work,
        FitSettings(channel=1),
        faults=plant / "clicks",
    )
    write(tmp_path / "twin" / "pump at night.flac", soundfile.read(normal / "07.wav", dtype="int16")[0])
    write(tmp_path / "twin" / "x.wav", clicking(rng))
    refused("pump at night.flac: as 07.wav", normal, work, asked, faults=tmp_path / "twin")


@pytest.mark.usefixtures("two")
def test_one_fault_of_another_rate_is_left_out_by_name(plant: Path, tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    write(tmp_path / "f" / "slow.wav", noise(rng, 4.0, rate=8000), rate=8000)
    click = write(tmp_path / "f" / "x.wav", clicking(rng))
    (tmp_path / "f" / "again.wav").write_bytes(click.read_bytes())
    (tmp_path / "work").mkdir()
    found = compare.compare(plant / "normal", tmp_path / "work", FitSettings(), faults=tmp_path / "f")
    assert found.faults is not None
    assert sorted(found.faults.left_out) == ["slow.wav", "x.wav"]  # a copy counts once
    verdict = found.verdict()
    assert list(verdict.rows[0].found) == ["again.wav"]
    assert verdict.worth is None


@pytest.mark.usefixtures("two")
def test_a_table_says_what_is_what(plant: Path, compared: compare.Comparison, tmp_path: Path) -> None:
    names = [f"normal/{number:02d}.wav" for number in range(30)] + [f"clicks/{number}.wav" for number in range(5)]
    rows = [f"{name},{'normal' if name.startswith('n') else 'anomaly'}" for name in names]
    table = tmp_path / "what.csv"
    table.write_text("\n".join(["file,label", *rows]))
    (tmp_path / "work").mkdir()
    found = compare.compare(plant, tmp_path / "work", FitSettings(labels=table))
    for one, other in zip(found.trials, compared.trials[:2], strict=True):
        np.testing.assert_array_equal(one.normal, other.normal)
        np.testing.assert_array_equal(one.faults, other.faults)
    made = bundle.fit(plant, tmp_path / "b", FitSettings(labels=table))
    assert made.facts["training"]["recordings"] == 30
    for text, words in (
        ("\n".join(["file,label", *rows, "gone.wav,anomaly"]), "no recording `gone.wav`"),
        ("\n".join(["file,label", *rows[1:]]), "no row for `normal/00.wav`"),
        ("\n".join(["file,label", *(row.replace("anomaly", "normal") for row in rows)]), "no recording an anomaly"),
        ("\n".join(["file,label", *(row.replace("normal", "anomaly", 2) for row in rows)]), "no recording `anomaly"),
    ):
        table.write_text(text)
        refused(words, plant, tmp_path / "work", FitSettings(labels=table))
    table.write_text("\n".join(["file,machine", *(f"{name},{name[0]}" for name in names)]))
    refused("the table is about 2 machines (c, n)", plant, tmp_path / "work", FitSettings(labels=table))
