"""`update`: references and threshold against brute force, what is left out, what is refused, what the manifest says."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile
import yaml
from scipy.signal import iirpeak, lfilter, resample_poly
from scipy.stats import betabinom

from auscult import cli
from auscult.detector import bundle
from auscult.detector.backend import PARTS, UNSETTLED, notes_on_parts, scorer
from auscult.detector.bundle import Bundle, FitSettings
from auscult.detector.drift import interval, surprise
from auscult.detector.manifest import write_manifest
from auscult.detector.picking import folds
from auscult.detector.score import score_file
from auscult.detector.update import update
from auscult.errors import AuscultError
from support.trees import noise, write


def sound(seed: int, seconds: float = 1.0, tone: float = 300.0) -> np.ndarray:
    return noise(np.random.default_rng(seed), seconds, tone)


def folder_of(folder: Path, seeds: range, seconds: float = 1.0, tone: float = 300.0) -> Path:
    for seed in seeds:
        write(folder / f"{seed:03d}.wav", sound(seed, seconds, tone))
    return folder


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """Of 14 recordings of one to three windows each."""
    folder = tmp_path_factory.mktemp("normal")
    for seed in range(14):
        write(folder / f"{seed:03d}.wav", sound(seed, 1.0 + seed % 3))
    return bundle.fit(folder, tmp_path_factory.mktemp("out") / "pump", FitSettings(k=2))


@pytest.fixture
def fitted(original: Bundle, tmp_path: Path) -> Bundle:
    shutil.copytree(original.folder, tmp_path / "pump")
    return bundle.load(tmp_path / "pump")


def brute_force(vectors: np.ndarray, group: np.ndarray, counted: np.ndarray, k: int, scaled: int) -> np.ndarray:
    """Mean Euclidean distance of each to the k nearest of other groups, ascending; dimensions are divided by their deviation
    over those of the first `scaled` that are of other groups, for these."""
    scores = []
    for row in np.flatnonzero(counted):
        others = group != group[row]
        deviation = vectors[:scaled][others[:scaled]].astype(np.float64).std(0) if row < scaled else 1.0
        distance = np.linalg.norm((vectors[others].astype(np.float64) - vectors[row]) / deviation, axis=1)
        scores.append(np.sort(distance)[:k].mean())
    return np.sort(scores)


def groups_of(made: Bundle) -> tuple[np.ndarray, np.ndarray]:
    rows = made.facts["references"]
    return (
        np.repeat([row["group"] for row in rows], [row["windows"] for row in rows]),
        ~np.repeat([row["labelled"] for row in rows], [row["windows"] for row in rows]),
    )


# ------------------------------------------------------------------------------------------------------------ what is kept
def test_a_bundle_says_which_recording_its_references_are_of(original: Bundle) -> None:
    assert [row["windows"] for row in original.facts["references"]] == [1 + seed % 3 for seed in range(14)]
    assert [row["name"] for row in original.facts["references"]] == [f"{seed:03d}.wav" for seed in range(14)]
    group, counted = groups_of(original)
    np.testing.assert_allclose(brute_force(original.reference, group, counted, 2, 27), original.normal, rtol=1e-5)


def test_new_recordings_become_references_and_the_threshold_is_computed_anew(fitted: Bundle, tmp_path: Path) -> None:
    new, alarms = folder_of(tmp_path / "new", range(100, 120), 2.0), folder_of(tmp_path / "alarms", range(200, 203))
    first = update(fitted.folder, [alarms], tmp_path / "first", false_alarms=True).bundle
    done = update(str(first.folder), [str(new)], str(tmp_path / "next"))
    made = done.bundle
    assert made.reference.shape == (len(fitted.reference) + 43, fitted.reference.shape[1])
    np.testing.assert_array_equal(made.reference[: len(fitted.reference)], fitted.reference)
    heard = np.stack([sound(seed) for seed in range(200, 203)]).astype(np.float32) / 32768
    np.testing.assert_allclose(first.reference[-3:], fitted.embed(heard)[0], atol=1e-4)
    group, counted = groups_of(first)
    assert (counted.sum(), counted[-3:].any()) == (len(fitted.reference), False)
    np.testing.assert_allclose(brute_force(first.reference, group, counted, 2, 27), first.normal, rtol=1e-5)
    group, counted = groups_of(made)
    assert (len(np.unique(group)), counted.sum()) == (14 + 20 + 3, len(fitted.reference) + 40)
    np.testing.assert_allclose(brute_force(made.reference, group, counted, 2, 27), made.normal, rtol=1e-5)
    place = int(np.ceil((len(made.normal) + 1) * 0.9 - 1e-9))
    assert made.threshold == made.normal[place - 1]
    assert made.rule.rate == fitted.rule.rate
    assert made.digest != fitted.digest
    alarm, entry = made.facts["updates"]
    share = (made.normal > made.threshold).mean()
    assert 0 < done.still_above < 3 * share
    assert (entry["parent"], entry["recordings"], entry["windows"], entry["false_alarms"]) == (
        first.digest,
        20,
        40,
        False,
    )
    assert (alarm["parent"], alarm["recordings"], alarm["windows"], alarm["false_alarms"]) == (
        fitted.digest,
        3,
        3,
        True,
    )
    assert (entry["threshold_before"], entry["threshold_after"]) == (first.threshold, made.threshold)
    facts = made.facts["training"]
    assert (facts["recordings"], facts["windows"]) == (14 + 23, len(made.reference))
    assert len(facts["sha256"]) == 14 + 23
    assert made.name == "next"
    assert bundle.load(fitted.folder).digest == fitted.digest  # untouched


@pytest.mark.parametrize(("backend", "k"), [("knn_euclidean", 1), ("knn_euclidean", 3), ("knn_cosine", 1)])
def test_no_score_rises(tmp_path: Path, backend: str, k: int) -> None:
    made = bundle.fit(folder_of(tmp_path / "n", range(14)), tmp_path / "b", FitSettings(backend=backend, k=k))
    new = folder_of(tmp_path / "new", range(100, 110), tone=320)
    more = update(made.folder, [new], tmp_path / "c", force=True).bundle
    waves = np.random.default_rng(3).standard_normal((20, made.window)).astype(np.float32) * np.float32(0.1)
    assert (more.scores(waves) <= made.scores(waves) + 1e-6).all()
    assert (more.scores(waves) < made.scores(waves) - 1e-3).any()


def test_a_false_alarm_is_normal_from_then_on(tmp_path: Path) -> None:
    made = bundle.fit(folder_of(tmp_path / "n", range(14)), tmp_path / "b")
    alarm = write(tmp_path / "alarm.wav", sound(70, tone=600.0))
    assert score_file(made, alarm).anomalous
    done = update(made.folder, [alarm], tmp_path / "c", false_alarms=True)
    assert np.isnan(done.still_above)
    assert score_file(done.bundle, alarm).verdict == "normal"
    again = write(tmp_path / "again.wav", sound(71, tone=600.0))
    assert score_file(made, again).anomalous
    assert score_file(done.bundle, again).score < 0.7 * score_file(made, again).score
    assert len(done.bundle.normal) == len(made.normal)
    # The same sound as an unselected new recording raises the threshold more.
    assert update(made.folder, [alarm], tmp_path / "d", force=True).bundle.threshold >= done.bundle.threshold


def test_in_place_the_old_one_is_kept_and_updates_add_up(fitted: Bundle, tmp_path: Path) -> None:
    first = update(fitted.folder, [folder_of(tmp_path / "new", range(100, 106))])
    assert first.kept == tmp_path / f"pump.{fitted.digest[:8]}"
    assert first.kept is not None
    assert bundle.load(first.kept).digest == fitted.digest
    assert (first.bundle.folder, first.bundle.name) == (fitted.folder, "pump")
    shutil.rmtree(tmp_path / "new")
    second = update(
        fitted.folder, [folder_of(tmp_path / "new", range(106, 112))]
    )  # other recordings in the same folder
    assert [entry["parent"] for entry in second.bundle.facts["updates"]] == [fitted.digest, first.bundle.digest]
    names = [row["name"] for row in second.bundle.facts["references"]]
    assert len(set(names)) == 26
    assert {name.partition("/")[0] for name in names[14:]} == {"update-1", "update-2"}
    group, counted = groups_of(second.bundle)
    by_hand = brute_force(second.bundle.reference, group, counted, 2, 27)
    np.testing.assert_allclose(by_hand, second.bundle.normal, rtol=1e-5)
    assert sorted(path.name for path in tmp_path.iterdir() if path.name != "new") == sorted(
        ["pump", first.kept.name, second.kept.name]  # type: ignore[union-attr]
    )


def test_a_method_with_a_score_of_its_own_gets_a_threshold(tmp_path: Path) -> None:
    asked = FitSettings("ae", {"epochs": 1})
    made = bundle.fit(folder_of(tmp_path / "n", range(12)), tmp_path / "b", asked)
    assert (made.backend, len(made.facts["references"])) == ("native", 12)
    new = folder_of(tmp_path / "new", range(100, 110))
    done = update(made.folder, [new], tmp_path / "c", force=True)
    own = [score_file(made, path).score for path in sorted(new.iterdir())]
    np.testing.assert_allclose(done.bundle.normal, np.sort([*made.normal, *own]), rtol=1e-6)
    assert [row["name"] for row in done.bundle.facts["references"][-2:]] == ["update-1/108.wav", "update-1/109.wav"]
    write_manifest(made.folder / "bundle.yaml", {key: made.facts[key] for key in made.facts if key != "references"})
    older = update(made.folder, [new], tmp_path / "older", force=True).bundle
    np.testing.assert_array_equal(older.normal, done.bundle.normal)
    with pytest.raises(AuscultError, match="false alarms teach it nothing"):
        update(made.folder, [new], tmp_path / "d", false_alarms=True)


def test_a_bundle_that_does_not_say_which_windows_are_of_one_recording(fitted: Bundle, tmp_path: Path) -> None:
    write_manifest(
        fitted.folder / "bundle.yaml", {key: fitted.facts[key] for key in fitted.facts if key != "references"}
    )
    with pytest.raises(AuscultError, match="does not say which windows are of one recording") as caught:
        update(fitted.folder, [folder_of(tmp_path / "new", range(100, 106), 2.0)], tmp_path / "other")
    assert "fit again" in caught.value.fix


def moving(rng: np.random.Generator, moved: float) -> np.ndarray:
    """Noise whose band wanders, int16 [samples]."""
    poles = iirpeak(900 * (1 + moved) * np.exp(rng.normal(0, 0.01)), 8, 16000)
    return np.round(3000 * lfilter(*poles, rng.standard_normal(18000))[-16000:]).astype(np.int16)


def test_false_alarms_on_later_sound_fall_when_normal_sound_has_moved(tmp_path: Path) -> None:
    """Measured over many draws by benchmarks/updates.py."""
    rng = np.random.default_rng(0)
    for number in range(40):
        write(tmp_path / "old" / f"{number}.wav", moving(rng, 0.0))
        write(tmp_path / "new" / f"{number}.wav", moving(rng, 0.05 * number / 39))
    made = bundle.fit(tmp_path / "old", tmp_path / "b")
    done = update(made.folder, [tmp_path / "new"], tmp_path / "c", force=True)
    later = np.stack([moving(rng, 0.05) for _ in range(60)]).astype(np.float32) / 32768
    before, after = (
        (made.scores(later) > made.threshold).sum(),
        (done.bundle.scores(later) > done.bundle.threshold).sum(),
    )
    assert interval(float(before), 60)[0] > interval(float(after), 60)[1]


# --------------------------------------------------------------------------------------------------------- what is left out
def test_what_is_known_or_cannot_be_used_is_left_out_and_said(fitted: Bundle, tmp_path: Path) -> None:
    new = folder_of(tmp_path / "new", range(100, 104))
    write(new / "bytes.wav", sound(3))  # a recording of the bundle is longer: 003 has one window
    shutil.copy(new / "100.wav", new / "twice.wav")
    soundfile.write(new / "form.flac", sound(1, 2.0), 16000)
    longer = np.concatenate([sound(2, 3.0), sound(900, 2.0)])  # goes on where a known one ends
    write(new / "longer.wav", longer)
    write(new / "short.wav", sound(5, 0.5))
    write(new / "slow.wav", resample_poly(sound(6), 1, 2).astype(np.int16), rate=8000)
    (new / "readme.txt").write_text("")
    done = update(fitted.folder, [new], tmp_path / "next")
    assert done.left_out == {
        "update-1/bytes.wav": "known already",
        "update-1/twice.wav": "known already",
        "update-1/form.flac": "the same sound as 001.wav",
        "update-1/short.wav": "0.5 s long, and a window has 1 s",
        "update-1/slow.wav": "recorded at 8000 Hz only, and 16000 Hz are heard",
    }
    rows = {row["name"]: row for row in done.bundle.facts["references"]}
    assert len(rows) == 14 + 5
    assert (rows["update-1/longer.wav"]["windows"], rows["update-1/longer.wav"]["number"]) == (2, 3)
    assert rows["update-1/longer.wav"]["group"] == rows["002.wav"]["group"]
    assert rows["update-1/longer.wav"]["start"] == rows["002.wav"]["start"] + 3 * 16000
    assert done.bundle.facts["training"]["left_out"] == done.left_out
    for same in (new, new / "100.wav"):
        with pytest.raises(AuscultError, match="nothing new") as caught:
            update(done.bundle.folder, [same], tmp_path / "third")
        assert "known already" in caught.value.what


@pytest.mark.parametrize(
    ("name", "make", "words"),
    [
        ("stereo", lambda x: np.stack([0 * x, x], axis=1), "nothing but zeros on channel 0"),
        ("silent", lambda x: 0 * x, "nothing but zeros"),
        ("broken", None, "cannot be used"),
        ("short", lambda x: x[:100], "nothing new"),
    ],
)
def test_recordings_that_cannot_be_used(
    fitted: Bundle, tmp_path: Path, name: str, make: object, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    new = tmp_path / name
    for seed in range(2):
        if make is None:
            folder_of(new, range(100, 101))
            (new / f"{seed}.wav").write_bytes(b"RIFFnothing")
        else:
            write(new / f"{seed}.wav", make(sound(seed + 500)))  # type: ignore[operator]
    before = (fitted.folder / "bundle.yaml").read_bytes()
    capsys.readouterr()
    assert cli.main(["update", str(fitted.folder), str(new), "--in-place"]) == 2
    error = capsys.readouterr().err
    assert words in error
    assert "to do: " in error
    assert (fitted.folder / "bundle.yaml").read_bytes() == before
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(["pump", name])


# ------------------------------------------------------------------------------------------------- whether it is normal sound
def test_how_unlikely_so_many_are_is_right_by_simulation() -> None:
    """New and old scores of one distribution; the threshold is the old ones' quantile."""
    rng = np.random.default_rng(0)
    old, new = np.sort(rng.random((40000, 20)), axis=1), rng.random((40000, 15))
    above = (new > old[:, [18 - 1]]).sum(axis=1)  # ceil(21 * 0.85) = 18
    for count in (1, 4, 8, 12):
        assert surprise(count, 15, 0.15, 20) == pytest.approx((above >= count).mean(), abs=0.008)
    assert surprise(8, 15, 0.15, 20) == betabinom.sf(7, 15, 3, 18)


def test_faults_among_the_new_ones_are_refused(
    fitted: Bundle, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    normal, faults = folder_of(tmp_path / "new", range(100, 120)), folder_of(tmp_path / "f", range(120, 132), tone=700)
    out = ["-o", str(tmp_path / "next")]
    command = ["update", str(fitted.folder), str(normal)]
    assert cli.main([*command, str(faults), *out]) == 2
    error = capsys.readouterr().err
    assert "of 32 new windows, of 32 recordings, score above the threshold: " in error
    assert "where 10% of normal ones do" in error
    assert "--force" in error
    assert not (tmp_path / "next").exists()
    assert cli.main([*command, *out]) == 0  # of 20 normal ones so many are chance
    capsys.readouterr()
    assert cli.main([*command, str(faults), "-o", str(tmp_path / "forced"), "--force", "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["forced"]
    assert any("score above the threshold" in note for note in facts["notes"])
    # A single recording, of which most is anomalous.
    with pytest.raises(AuscultError, match="1 of 1 new windows"):
        update(fitted.folder, [faults / "120.wav"], tmp_path / "one")


def test_another_level_is_said(fitted: Bundle, tmp_path: Path) -> None:
    for seed in range(100, 110):
        write(tmp_path / "new" / f"{seed}.wav", sound(seed) // 4)
    with pytest.raises(
        AuscultError, match=r"up to 1[0-9] dB softer than any recording before: was the microphone moved"
    ):
        update(fitted.folder, [tmp_path / "new"], tmp_path / "next")
    made = update(fitted.folder, [tmp_path / "new"], tmp_path / "next", force=True).bundle
    assert made.signal.lowest < fitted.signal.lowest - 11
    assert made.signal.highest == fitted.signal.highest


# ------------------------------------------------------------------------------------------------------------- the command
def test_what_the_command_says(fitted: Bundle, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    new = folder_of(tmp_path / "new", range(100, 112))
    assert cli.main(["update", str(fitted.folder), str(new), "--in-place"]) == 0
    text = capsys.readouterr().out
    assert f"{fitted.folder}: 12 new recordings -> 12 windows; now 26 recordings" in text
    assert "of the new windows, " in text
    assert f"the bundle as it was: {fitted.folder}.{fitted.digest[:8]}" in text
    for arguments, words in (
        ([str(new), "-o", str(tmp_path / "new")], "this exists and is no bundle"),
        ([str(tmp_path / "nowhere"), "-o", str(tmp_path / "x")], "there is no such file or folder"),
        ([str(new), "-o", f"{fitted.folder}.{fitted.digest[:8]}"], "there is a bundle already"),
    ):
        assert cli.main(["update", str(fitted.folder), *arguments]) == 2
        assert words in capsys.readouterr().err
    assert cli.main(["update", str(new), str(new), "--in-place"]) == 2
    assert "there is no bundle here" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        cli.main(["update", str(fitted.folder), str(new)])
    assert "one of the arguments -o/--out --in-place is required" in capsys.readouterr().err


def test_a_bundle_whose_facts_were_emptied(fitted: Bundle, tmp_path: Path) -> None:
    new = folder_of(tmp_path / "new", range(100, 104))
    write_manifest(fitted.folder / "bundle.yaml", {**fitted.facts, "training": {}})
    with pytest.raises(AuscultError, match=r"training\.windows: Field required"):
        update(fitted.folder, [new], tmp_path / "next")
    for change in ({"windows": 10**9}, {"windows": -1}, {"group": 2**80}, {"start": "x"}, {"shell": 1}):
        facts = yaml.safe_load((fitted.folder / "bundle.yaml").read_text())
        del facts["sha256"]
        facts["references"][0] |= change
        write_manifest(fitted.folder / "bundle.yaml", facts)
        with pytest.raises(AuscultError):
            bundle.load(fitted.folder)
        facts["references"][0] = dict(fitted.facts["references"][0])
        write_manifest(fitted.folder / "bundle.yaml", facts)


# ---------------------------------------------------------------------------------------- back-ends other than the usual ones
@pytest.mark.parametrize("recordings", [1, 12])
def test_any_back_end_is_updated(recordings: int, tmp_path: Path) -> None:
    """Scores below zero are none that are alike; and of a single recording, left out, no scale is left."""
    folder = folder_of(tmp_path / "n", range(recordings), 12.0 / recordings)
    made = bundle.fit(folder, tmp_path / "b", FitSettings(backend="gmm", seconds=1.0))
    assert np.median(made.normal) < 0
    found = update(made.folder, [folder_of(tmp_path / "new", range(50, 54))]).bundle
    assert (len(found.reference), len(found.normal)) == (16, 16)
    assert np.isfinite(found.normal).all()
    if recordings == 1:  # five then, each a part of its own
        for row in range(12, 16):
            others = scorer(made.facts["knobs"], np.delete(found.reference, row, axis=0))
            assert np.abs(found.normal - others(found.reference[row : row + 1])).min() < 1e-6


def test_scores_that_depend_on_what_is_left_out_are_said() -> None:
    rng = np.random.default_rng(0)
    normal, group = rng.standard_normal(30), np.arange(30) // 2
    assert notes_on_parts("varmin", normal, group) == []
    apart = normal + 5 * folds(group, [""] * 30, PARTS, False, 0)
    (note,) = notes_on_parts("varmin", apart, group)
    assert note.startswith(UNSETTLED)
    assert "`varmin`" in note
    assert notes_on_parts("knn_cosine", apart, group) == []
