"""Bundles: scores and thresholds against brute force, and what happens to one that is not as it was written."""

from __future__ import annotations

import hashlib
import math
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.stats
import soundfile
import torch
import yaml
from sklearn.neighbors import NearestNeighbors

from auscult.detector import bundle, score, thresholds
from auscult.detector.bundle import Bundle, FitSettings
from auscult.detector.manifest import write_manifest
from auscult.detector.signal import SignalRange
from auscult.errors import AuscultError
from auscult.files import digest
from auscult.scoring.knn import KnnSettings
from auscult.scoring.knn import left_out as left_out_of_the_pipeline
from support.projects import stage_environment
from support.trees import noise, write

RATE = 16000


def normals(folder: Path, count: int = 14, seconds: float = 1.0, tone: float = 300.0, seed: int = 0) -> Path:
    rng = np.random.default_rng(seed)
    for number in range(count):
        write(folder / f"day {number:02d}.wav", noise(rng, seconds, tone))
    return folder


@pytest.fixture(scope="module")
def recordings(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return normals(tmp_path_factory.mktemp("normal"))


@pytest.fixture(scope="module")
def fitted(recordings: Path, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return bundle.fit(recordings, tmp_path_factory.mktemp("out") / "pump")


@pytest.fixture
def copy(fitted: Bundle, tmp_path: Path) -> Path:
    shutil.copytree(fitted.folder, tmp_path / "copy")
    return tmp_path / "copy"


def sound(seed: int, tone: float = 300.0, seconds: float = 1.0) -> np.ndarray:
    return noise(np.random.default_rng(seed), seconds, tone)


# ----------------------------------------------------------------------------------------------------------------- scores
@pytest.mark.parametrize(("backend", "k"), [("knn_euclidean", 1), ("knn_cosine", 3)])
def test_scores_are_distances_to_the_nearest_normal_windows(
    recordings: Path, tmp_path: Path, backend: str, k: int
) -> None:
    made = bundle.fit(recordings, tmp_path / "b", FitSettings(backend=backend, k=k))
    metric = backend.removeprefix("knn_")
    windows = np.stack([sound(99), sound(98, 700.0)]).astype(np.float32) / 32768
    embeddings, own = made.embed(windows)
    assert np.isnan(own).all()
    search = NearestNeighbors(n_neighbors=k, metric=metric).fit(made.reference)
    np.testing.assert_allclose(made.scores(windows), search.kneighbors(embeddings)[0].mean(axis=1), rtol=1e-6)
    files = sorted(recordings.iterdir())
    heard = np.stack([soundfile.read(file, dtype="float32")[0] for file in files])
    np.testing.assert_allclose(made.embed(heard)[0], made.reference, atol=1e-4)
    left_out = []
    for i in range(len(files)):
        others = np.delete(made.reference, i, axis=0)
        z = ((made.reference - others.mean(0)) / others.std(0)).astype(np.float64)
        search = NearestNeighbors(n_neighbors=k, metric=metric).fit(np.delete(z, i, axis=0))
        left_out.append(search.kneighbors(z[i : i + 1])[0].mean())
    np.testing.assert_allclose(made.normal, np.sort(left_out), rtol=1e-4)


def test_a_recording_is_left_out_as_a_whole() -> None:
    """Against a search without it; of a single recording, only what overlaps a window is left out."""
    rng = np.random.default_rng(1)
    vectors = rng.standard_normal((30, 5)).astype(np.float32)
    group = np.repeat([0, 1, 2, 3, 4, 5], [3, 7, 5, 5, 2, 8])
    start = 50 * np.arange(30)
    for k in (1, 4):
        got = thresholds.left_out_scores(vectors, group, start, 100, k, "euclidean")
        alone = thresholds.left_out_scores(vectors, np.zeros(30), start, 100, k, "euclidean")
        for row in range(30):
            for found, kept in ((got, group != group[row]), (alone, np.abs(start - start[row]) >= 100)):
                near = np.sort(np.linalg.norm(vectors[kept] - vectors[row], axis=1))[:k]
                assert found[row] == pytest.approx(near.mean(), rel=1e-5)


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
def test_what_z_scores_is_left_out_with_the_recording(metric: thresholds.Metric) -> None:
    """Of 12 recordings, one dimension varies in one of them alone: as if each had come after the fit to the other eleven."""
    rng = np.random.default_rng(0)
    raw, group = rng.standard_normal((24, 5)) * [1, 5, 0.1, 2, 1] + 3, np.repeat(np.arange(12), 2)
    raw[0, 4] += 30
    vectors = ((raw - raw.mean(0)) / raw.std(0)).astype(np.float32)
    got = thresholds.left_out_scores(vectors, group, np.zeros(24), 1, 1, metric, scaled=24)
    for row in range(24):
        rest = raw[group != group[row]]
        z = (raw - rest.mean(0)) / rest.std(0)
        near = NearestNeighbors(n_neighbors=1, metric=metric, algorithm="brute").fit(z[group != group[row]])
        assert got[row] == pytest.approx(near.kneighbors(z[[row]])[0][0, 0], rel=1e-4)
    added = np.concatenate([vectors, vectors[:3] + 0.1])  # by an update, which scales nothing anew
    grown = thresholds.left_out_scores(added, np.r_[group, 20, 20, 21], np.zeros(27), 1, 1, metric, scaled=24)
    plain = thresholds.left_out_scores(added, np.r_[group, 20, 20, 21], np.zeros(27), 1, 1, metric)
    np.testing.assert_allclose(grown[24:], plain[24:], rtol=1e-6)


def test_windows_of_their_own_are_left_out_as_in_the_pipeline() -> None:
    import pandas as pd

    vectors = np.random.default_rng(2).standard_normal((300, 4)).astype(np.float32)
    meta = pd.DataFrame({"machine": "m", "unit": "00", "domain": "unknown"}, index=range(300))
    for backend in ("knn_cosine", "knn_euclidean"):
        metric = backend.removeprefix("knn_")
        got = thresholds.left_out_scores(vectors, np.arange(300), np.zeros(300), 1, 2, metric)
        wanted = left_out_of_the_pipeline(vectors, meta, KnnSettings(kind=backend, k=2))
        np.testing.assert_allclose(got, wanted, rtol=1e-4, atol=1e-6)


def test_a_method_with_a_score_of_its_own(recordings: Path, tmp_path: Path) -> None:
    made = bundle.fit(recordings, tmp_path / "b", FitSettings("ae", {"epochs": 1}, seed=3))
    assert made.backend == "native"
    assert not (made.folder / "reference.npy").exists()
    files = sorted(recordings.iterdir())
    heard = np.stack([soundfile.read(file, dtype="float32")[0] for file in files])
    np.testing.assert_allclose(np.sort(made.scores(heard)), made.normal, rtol=1e-5)
    again = bundle.fit(recordings, tmp_path / "again", FitSettings("ae", {"epochs": 1}, seed=3))
    np.testing.assert_array_equal(again.normal, made.normal)
    other = bundle.fit(recordings, tmp_path / "o", FitSettings("ae", {"epochs": 1}, "knn_cosine", seed=4))
    assert other.reference.shape == (14, 8)
    np.testing.assert_array_equal(again.embed(heard)[0], made.embed(heard)[0])
    assert not np.allclose(other.reference, made.embed(heard)[0])


FIT = """
import sys
from functools import partial
from pathlib import Path
import torch
from auscult.detector import fit as bundlefit
torch.set_num_threads(int(sys.argv[3]))
bundlefit.Train = partial(bundlefit.Train, checkpoint_seconds=0)
bundlefit.fit(Path(sys.argv[1]), Path(sys.argv[2]), bundlefit.FitSettings("ae", {"epochs": 15}, seed=3))
"""


def start_fit(recordings: Path, out: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", FIT, str(recordings), str(out), str(torch.get_num_threads())]
    return subprocess.Popen(command, env=stage_environment(), stderr=subprocess.PIPE, text=True)


def states(out: Path) -> dict[Path, int]:
    """Training states beside a bundle, each with its time stamp."""
    found = {}
    for path in (out.parent / f".{out.name}.resume").glob("*/*/[!.]*.pt"):
        with suppress(FileNotFoundError):
            found[path] = path.stat().st_mtime_ns
    return found


def test_an_interrupted_fit_continues_and_ends_in_the_same_bytes(recordings: Path, tmp_path: Path) -> None:
    straight = bundle.fit(recordings, tmp_path / "straight" / "b", FitSettings("ae", {"epochs": 15}, seed=3))
    out = tmp_path / "killed" / "b"
    process = start_fit(recordings, out)
    while process.poll() is None and len(states(out)) == 0:
        time.sleep(0.002)
    process.kill()
    process.communicate()
    assert process.returncode == -signal.SIGKILL, "finished before it could be killed"
    assert not out.exists()
    last = start_fit(recordings, out)
    assert "continuing after epoch" in last.communicate()[1]
    assert last.returncode == 0
    assert digest(out) == digest(straight.folder)
    assert [path.name for path in out.parent.iterdir()] == ["b"], "no state is left behind"


def test_a_state_belongs_to_these_very_recordings(
    recordings: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not to as many others of the same names and length."""
    found: list[Path] = []

    def train_arm(*arguments: object) -> None:
        found.append(Path(str(arguments[-2])).relative_to(tmp_path))
        raise KeyboardInterrupt

    monkeypatch.setattr("auscult.training.arm.train_arm", train_arm)
    for folder in (recordings, recordings, normals(tmp_path / "other", seed=9)):
        with pytest.raises(KeyboardInterrupt):
            bundle.fit(folder, tmp_path / "b", FitSettings("ae"))
    assert found[0] == found[1] != found[2]
    assert {path.parts[0] for path in found} == {".b.resume"}


def test_modes_of_operation_are_classes(recordings: Path, tmp_path: Path) -> None:
    """A classifier needs two; a window is measured against the class it fits best."""
    for seed, (mode, tone) in enumerate((("idle", 300.0), ("load", 900.0))):
        normals(tmp_path / "n" / mode, 5, tone=tone, seed=seed)
    small = {"train_steps": 0, "epochs": 1, "batch_size": 4, "valid_fraction": 0.0, "selection": "last"}
    made = bundle.fit(tmp_path / "n", tmp_path / "b", FitSettings("stgram_mfn", small))
    assert made.facts["training"]["units"] == {"idle": 5, "load": 5}
    assert made.backend == "native"
    assert np.isfinite(made.normal).all()
    with pytest.raises(AuscultError, match="cannot be trained on this: there is one class only"):
        bundle.fit(recordings, tmp_path / "c", FitSettings("stgram_mfn", small))
    assert not (tmp_path / "c").exists()


# ------------------------------------------------------------------------------------------------- thresholds, p-values
def test_p_values_by_hand() -> None:
    normal = np.array([1.0, 2.0, 2.0, 4.0])
    p = thresholds.p_values(normal, np.array([0.0, 1.0, 1.5, 2.0, 3.0, 4.0, 4.1]))
    np.testing.assert_allclose(p, np.array([5, 5, 4, 4, 2, 2, 1]) / 5)


@pytest.mark.parametrize("n", [10, 60, 99, 1000])
@pytest.mark.parametrize("rate", [0.01, 0.05, 0.1, 0.3])
def test_above_the_quantile_exactly_if_the_p_value_is_small(n: int, rate: float) -> None:
    rng = np.random.default_rng(n)
    normal, scores = rng.gamma(3, 2, n), rng.gamma(3, 3, 3000)
    limit = thresholds.quantile(normal, rate)
    np.testing.assert_array_equal(scores > limit, thresholds.p_values(normal, scores) <= rate + 1e-12)


def test_false_alarms_come_at_the_rate() -> None:
    """Of new normal scores at most the chosen part is above, on average over many sets of normals."""
    rng = np.random.default_rng(0)
    draws = rng.standard_normal((4000, 31))
    above = [row[30] > thresholds.quantile(row[:30], 0.1) for row in draws]
    assert np.mean(above) == pytest.approx(3 / 31, abs=0.015)


def test_how_far_the_true_rate_may_lie_from_the_chosen_one() -> None:
    """By drawing: nine of ten quantiles have as much normal sound above them as the bounds say."""
    rng = np.random.default_rng(0)
    low, high = thresholds.rate_bounds(0.1, 59)
    true = np.array([1 - thresholds.quantile(rng.random(59), 0.1) for _ in range(4000)])
    assert np.mean(true < low) == pytest.approx(0.05, abs=0.012)
    assert np.mean(true > high) == pytest.approx(0.05, abs=0.012)


def test_the_gamma_fit_is_that_of_the_baseline() -> None:
    values = np.random.default_rng(5).gamma(4, 2, 500)
    shape, place, scale = scipy.stats.gamma.fit(values)
    wanted = scipy.stats.gamma.ppf(0.95, shape, place, scale)
    assert thresholds.gamma_quantile(values, 0.05) == wanted
    assert thresholds.choose(values, 0.05, "gamma") == thresholds.Threshold(wanted, 0.05, "gamma")
    assert wanted == pytest.approx(scipy.stats.gamma.ppf(0.95, 4, scale=2), rel=0.1)


def test_a_rate_that_the_scores_do_not_support_is_refused_and_extrapolated_only_if_asked() -> None:
    values = np.random.default_rng(5).gamma(4, 2, 60)
    assert thresholds.choose(values, 1 / 61) == thresholds.Threshold(values.max(), 1 / 61, "quantile")
    for by in (None, "quantile"):
        with pytest.raises(
            AuscultError, match=r"60 windows of normal sound support a .*rate of 0\.016 at least"
        ) as caught:
            thresholds.choose(values, 0.01, by)  # type: ignore[arg-type]
        assert "99 are needed: record 39 more" in caught.value.fix
    assert thresholds.choose(values, 0.01, "gamma").by == "gamma"
    with pytest.raises(AuscultError, match="no gamma distribution"):
        thresholds.choose(np.ones(20), 0.01, "gamma")
    for rate in (0.0, 1.0, -1.0, math.nan):
        with pytest.raises(AuscultError, match="between 0 and 1"):
            thresholds.choose(values, rate)


def test_a_threshold_set_anew_leaves_a_bundle_whole(copy: Path) -> None:
    before = bundle.load(copy)
    found = bundle.set_threshold(copy, 0.25)
    after = bundle.load(copy)
    assert after.rule == found == thresholds.Threshold(float(before.normal[11]), 0.25, "quantile")
    np.testing.assert_array_equal(after.normal, before.normal)
    assert {**after.facts, "threshold": 0} == {**before.facts, "threshold": 0}
    assert [path.name for path in copy.iterdir() if path.name.startswith(".")] == []


# ------------------------------------------------------------------------------------------------------------ recordings
def test_the_same_sound_in_another_form_is_judged_the_same(fitted: Bundle, tmp_path: Path) -> None:
    """Files of one window, stereo at 44.1 kHz, and all of them in one long recording."""
    clips = [sound(50 + i, 300.0 if i < 3 else 1800.0) for i in range(6)]
    scores = [score.score_file(fitted, write(tmp_path / f"{i}.wav", clip)) for i, clip in enumerate(clips)]
    assert [found.anomalous for found in scores] == [False] * 3 + [True] * 3
    assert all(found.windows == 1 and (found.start, found.end, found.seconds) == (0, 1, 1) for found in scores)
    for number, (clip, found) in enumerate(zip(clips, scores, strict=True)):
        # Resampled in the frequency domain, an independent way, which is exact for the whole band.
        spectrum = np.fft.rfft(clip / 32768)
        wide = np.fft.irfft(np.pad(spectrum, (0, 22051 - len(spectrum))), 44100) * 44100 / 16000
        path = write(tmp_path / f"{number}.flac", np.stack([wide, wide], axis=1), 44100)
        again = score.score_file(fitted, path)
        assert (again.anomalous, again.windows) == (found.anomalous, 1)
        if number < 3:
            assert again.score == pytest.approx(found.score, rel=0.15)
    long = write(tmp_path / "long.wav", np.concatenate(clips))
    starts, curve = score.curve(fitted, long)
    np.testing.assert_allclose(starts, np.arange(0, 5.1, 0.5))
    np.testing.assert_allclose(curve[::2], [found.score for found in scores], rtol=1e-5)
    found = score.score_file(fitted, long)
    top = int(np.argmax(curve))
    assert (found.score, found.start, found.end) == (curve[top], starts[top], starts[top] + 1)
    assert found.anomalous
    assert found.above == np.sum(curve > fitted.threshold)
    assert found.windows == len(curve)
    assert found.p_value == 1 / 15


def test_any_recordings_become_a_bundle(tmp_path: Path) -> None:
    """Of different rates, lengths and formats; a remainder is left alone, so that no two windows share a sample."""
    rng = np.random.default_rng(0)
    for number in range(5):
        stereo = np.stack([noise(rng, 2.7, 300.0, 44100), noise(rng, 2.7, 900.0, 44100)], axis=1)
        write(tmp_path / "n" / f"{number}.flac", stereo, 44100)
        write(tmp_path / "n" / f"{number}.wav", noise(rng, 1.5, 300.0, 22050), 22050)
    (tmp_path / "n" / "notes.txt").write_text("sunny")
    made = bundle.fit(tmp_path / "n", tmp_path / "b", FitSettings(seconds=1.0))
    training = made.facts["training"]
    assert (training["windows"], training["recordings"], training["other_files"]) == (5 * 2 + 5, 10, 1)
    assert training["sha256"]["0.wav"] == hashlib.sha256((tmp_path / "n" / "0.wav").read_bytes()).hexdigest()
    assert (made.sample_rate, made.window, made.hop) == (16000, 16000, 8000)
    assert bundle.fit(tmp_path / "n", tmp_path / "c").window == 24000, "as long as the shortest"


def test_a_low_rate_is_taken_over(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for number in range(10):
        write(tmp_path / "n" / f"{number}.wav", noise(rng, 1.0, rate=8000), 8000)
    made = bundle.fit(tmp_path / "n", tmp_path / "b")
    assert (made.sample_rate, made.window) == (8000, 8000)
    with pytest.raises(AuscultError, match="have 8000 Hz only") as caught:
        bundle.fit(tmp_path / "n", tmp_path / "c", FitSettings(sample_rate=16000))
    assert "--sample-rate 8000" in caught.value.fix


def test_warnings(fitted: Bundle, tmp_path: Path) -> None:
    low = score.score_file(fitted, write(tmp_path / "l.wav", noise(np.random.default_rng(0), 1.0, rate=8000), 8000))
    assert "8000 Hz" in low.warning
    brief = score.score_file(fitted, write(tmp_path / "b.wav", sound(1, seconds=0.99)))
    assert brief.warning == "shorter than a window of 1 s"
    assert (brief.start, brief.end, brief.seconds) == (0, 0.99, 0.99)
    assert score.score_file(fitted, write(tmp_path / "g.wav", sound(1))).warning == ""


def test_windows_of_another_length(fitted: Bundle) -> None:
    with pytest.raises(AuscultError, match=r"\[n, 16000\] is wanted"):
        fitted.scores(np.zeros((1, 8000), np.float32))


# ------------------------------------------------------------------------------------------------------- what is refused
def test_recordings_that_make_no_bundle(tmp_path: Path) -> None:
    good = normals(tmp_path / "two", 2)
    normals(tmp_path / "bad")
    (tmp_path / "bad" / "x.wav").write_bytes(b"no sound")
    write(tmp_path / "bad" / "y.wav", np.zeros(16000, np.int16))
    normals(tmp_path / "mixed" / "normal")
    normals(tmp_path / "mixed" / "anomaly", 2)
    (tmp_path / "none").mkdir()
    for folder, words in (
        (good, r"2 window\(s\) of 1 s are too few"),
        (tmp_path / "bad", r"2 recording\(s\) cannot be used:.*x.wav: not a readable(.|\n)*y.wav: silent"),
        (tmp_path / "mixed", r"2 recording\(s\) are named as anomalies"),
        (tmp_path / "none", "no recordings below this folder"),
        (tmp_path / "nowhere", "there is no such folder"),
        (good / "day 00.wav", "this is a file"),
    ):
        with pytest.raises(AuscultError, match="(?s)" + words) as caught:
            bundle.fit(folder, tmp_path / "b")
        assert caught.value.fix
        assert not (tmp_path / "b").exists()


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"method": "spectral"}, "did you mean `spectral_knn`"),
        ({"backend": "loff"}, "unknown back-end"),
        ({"backend": "native"}, "has no score of its own"),
        ({"rate": 1.5}, "between 0 and 1"),
        ({"seconds": 0.01}, "too short"),
        ({"seconds": 5.0}, "14 of 14 recordings are shorter than a window"),
        ({"values": {"poling": ["max"]}}, "did you mean `pooling`"),
        ({"values": {"lowpass_hz": 100.0}}, "listens to all"),
        ({"channel": 1}, "1 channel"),
        ({"k": 0}, "at least 1"),
    ],
)
def test_settings_that_make_no_bundle(recordings: Path, tmp_path: Path, values: dict[str, object], words: str) -> None:
    with pytest.raises(AuscultError, match=words) as caught:
        bundle.fit(recordings, tmp_path / "b", FitSettings(**values))  # type: ignore[arg-type]
    assert caught.value.fix
    kept = [".b.resume"] if values == {"backend": "native"} else []  # a finished training, for the next call
    assert [path.name for path in tmp_path.iterdir()] == kept


def test_an_output_that_is_there(recordings: Path, copy: Path, tmp_path: Path) -> None:
    before = {path.name for path in copy.iterdir()}
    with pytest.raises(AuscultError, match="there is a bundle already") as caught:
        bundle.fit(recordings, copy)
    assert "--force" in caught.value.fix
    assert bundle.fit(recordings, copy, FitSettings(rate=0.2), force=True).rule.rate == 0.2
    assert {path.name for path in copy.iterdir()} == before
    mine = tmp_path / "thesis"
    mine.mkdir()
    (mine / "chapter1.txt").write_text("it")
    with pytest.raises(AuscultError, match="this exists and is no bundle"):
        bundle.fit(recordings, mine, force=True)
    assert (mine / "chapter1.txt").read_text() == "it"


# --------------------------------------------------------------------------------------------------- broken and malicious
def rewrite(folder: Path, change: Callable[[dict], object]) -> None:
    """Change bundle.yaml and make all digests right again, as somebody with bad intentions would."""
    text = (folder / "bundle.yaml").read_text().rpartition("sha256: ")[0]
    facts = yaml.safe_load(text)
    for name in facts["files"]:
        if (folder / name).is_file():
            facts["files"][name] = hashlib.sha256((folder / name).read_bytes()).hexdigest()
    change(facts)
    text = yaml.safe_dump(facts, sort_keys=False)
    (folder / "bundle.yaml").write_text(f"{text}sha256: {hashlib.sha256(text.encode()).hexdigest()}\n")


def test_a_rewritten_bundle_loads(copy: Path) -> None:
    """So that the refusals below are about what was changed."""
    rewrite(copy, lambda facts: facts.update(name="other"))
    assert bundle.load(copy).name == "other"


def test_a_bundle_of_the_first_versions(copy: Path, tmp_path: Path) -> None:
    """With the keys that these wrote alone. It loads, scores as it did, and nothing is claimed that it does not say."""
    now = bundle.load(copy)

    def as_written_first(facts: dict[str, Any]) -> None:
        for name in ("signal", "effective", "alike", "references", "updates"):
            facts.pop(name, None)
        for name in ("left_out", "same_sound", "overlapping", "notes", "above_by_others"):
            facts["training"].pop(name)

    rewrite(copy, as_written_first)
    made = bundle.load(copy)
    assert made.signal == SignalRange()
    assert made.known == replace(now.known, effective=float(made.facts["training"]["recordings"]), alike=())
    found = score.score_file(made, write(tmp_path / "a.wav", sound(1) // 4))
    assert (found.verdict, found.warning) == ("ANOMALOUS", "")


@pytest.mark.parametrize("name", ["threshold", "training"])
def test_a_bundle_that_does_not_say_what_a_verdict_takes(copy: Path, name: str) -> None:
    rewrite(copy, lambda facts: facts.pop(name))
    with pytest.raises(AuscultError, match=f"bundle.yaml.{name}: Field required") as caught:
        bundle.load(copy)
    assert caught.value.fix == "fit it again"


FILES = ["model/config.yaml", "model/history.csv", "model/weights.safetensors", "normal.npy", "reference.npy"]


@pytest.mark.parametrize("name", FILES)
def test_a_file_that_was_changed_or_is_missing(copy: Path, name: str) -> None:
    content = bytearray((copy / name).read_bytes())
    content[-1] ^= 1
    (copy / name).write_bytes(content)
    for do in (bundle.load, lambda folder: bundle.set_threshold(folder, 0.2)):
        with pytest.raises(AuscultError, match=f"not as it was written: {name} was changed") as caught:
            do(copy)
        assert caught.value.fix
    (copy / name).unlink()
    with pytest.raises(AuscultError, match=f"{name} is missing"):
        bundle.load(copy)


def test_a_file_that_was_added(copy: Path, tmp_path: Path) -> None:
    (copy / "model" / "evil.py").write_text("")
    with pytest.raises(AuscultError, match=r"model/evil\.py was added"):
        bundle.load(copy)
    (copy / "model" / "evil.py").unlink()
    shutil.move(copy / "normal.npy", tmp_path / "elsewhere.npy")
    (copy / "normal.npy").symlink_to(tmp_path / "elsewhere.npy")
    with pytest.raises(AuscultError, match=r"normal\.npy was changed"):
        bundle.load(copy)


def test_a_manifest_that_was_edited(copy: Path) -> None:
    path = copy / "bundle.yaml"
    text = path.read_text()
    for edited in (text.replace("rate: 0.1", "rate: 0.2"), text + "\n# mine\n", text[:200], "", "{[", "sha256: "):
        path.write_text(edited)
        with pytest.raises(AuscultError, match="not as it was written"):
            bundle.load(copy)
    path.unlink()
    with pytest.raises(AuscultError, match="there is no bundle here") as caught:
        bundle.load(copy)
    assert "auscult fit" in caught.value.fix


def test_another_format(copy: Path) -> None:
    rewrite(copy, lambda facts: facts.update(format=2, novelty=True))
    with pytest.raises(AuscultError, match="a bundle of format 2, and this version of auscult reads format 1"):
        bundle.load(copy)


@pytest.mark.parametrize(
    "change",
    [
        lambda facts: facts["files"].update({"../secret.npy": "0" * 64}),
        lambda facts: facts["files"].update({"/etc/passwd": "0" * 64}),
        lambda facts: facts["files"].pop("normal.npy"),
        lambda facts: facts.update(method="base"),
        lambda facts: facts.update(method="..resume"),
        lambda facts: facts.update(method="ae"),
        lambda facts: facts.update(window=8000),
        lambda facts: facts.update(hop=0),
        lambda facts: facts.update(k=0),
        lambda facts: facts.update(name="\x1b[2J"),
        lambda facts: facts.update(extra=1),
        lambda facts: facts["signal"].update(gain=math.nan),
        lambda facts: facts["signal"].update(gain=1e300),
        lambda facts: facts["signal"].update(gain=-1.0),
        lambda facts: facts["signal"].update(lowest=math.nan),
        lambda facts: facts["signal"].update(silence=math.inf),
        lambda facts: facts["signal"].update(code="x"),
        lambda facts: facts["threshold"].update(value=math.inf),
        lambda facts: facts["threshold"].update(value="1.0"),
        lambda facts: facts["threshold"].update(shell="rm"),
        lambda facts: facts.update(threshold={}),
    ],
)  # fmt: skip
def test_a_manifest_of_a_stranger(copy: Path, change: Callable[[dict], object]) -> None:
    rewrite(copy, change)
    with pytest.raises(AuscultError):
        bundle.load(copy)


def test_nothing_is_unpickled(copy: Path, tmp_path: Path) -> None:
    mark = tmp_path / "executed"

    class Evil:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return Path.touch, (mark,)  # type: ignore[return-value]

    import pickle

    import torch

    kept = {name: (copy / name).read_bytes() for name in FILES}

    def refused(name: str) -> None:
        rewrite(copy, lambda facts: None)
        with pytest.raises(AuscultError, match=r"makes no sense|disagree"):
            bundle.load(copy)
        assert not mark.exists()
        (copy / name).write_bytes(kept[name])

    np.save(copy / "normal.npy", np.array([Evil()] * 14, dtype=object), allow_pickle=True)
    refused("normal.npy")
    (copy / "reference.npy").write_bytes(pickle.dumps(Evil()))
    refused("reference.npy")
    torch.save({"machine/mean": Evil()}, copy / "model" / "weights.safetensors")
    refused("model/weights.safetensors")
    text = kept["model/config.yaml"].decode()
    for bad in ("!!python/object/apply:os.system ['true']", "[]", "{settings: 1}", text.replace("machine:", "m:")):
        (copy / "model" / "config.yaml").write_text(bad)
        refused("model/config.yaml")
    np.save(copy / "normal.npy", np.full(14, np.nan))
    refused("normal.npy")
    rewrite(copy, lambda facts: None)
    assert bundle.load(copy).method == "spectral_knn"


def test_a_frozen_encoder_names_the_checkpoint_it_needs(
    recordings: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from support.projects import ROOT

    shutil.copy(ROOT / "checkpoints.yaml", tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("AUSCULT_CHECKPOINTS", raising=False)
    with pytest.raises(AuscultError, match=r"`frozen` cannot be trained on this: .*BEATs"):
        bundle.fit(recordings, tmp_path / "b", FitSettings("frozen"))


def test_a_digest_is_of_what_decides_scores(fitted: Bundle, copy: Path, recordings: Path, tmp_path: Path) -> None:
    bundle.set_threshold(copy, 0.3)
    assert bundle.load(copy).digest == fitted.digest
    other = bundle.fit(recordings, tmp_path / "other", FitSettings(k=2))
    assert other.digest != fitted.digest


@pytest.mark.parametrize("count", [12, 30])
def test_false_alarms_after_a_fit_to_few_recordings_come_at_the_rate(count: int, tmp_path: Path) -> None:
    """Steady noise: the embedding is z-scored by the very windows that are left out, which once made the threshold too low."""
    made = bundle.fit(normals(tmp_path / "few", count, seed=100), tmp_path / "few.bundle", FitSettings(rate=0.1))
    later = np.stack([sound(1000 + seed) for seed in range(200)]).astype(np.float32) / 32768
    above = int((made.scores(later) > made.threshold).sum())
    assert scipy.stats.binomtest(above, 200, 0.1, alternative="greater").pvalue > 1e-3, above


def test_a_method_s_own_score_is_left_out_where_it_is_fitted_in_seconds(tmp_path: Path) -> None:
    """A mixture knows the very sound it was fitted to: all new sound would be above a threshold from that."""
    made = bundle.fit(
        normals(tmp_path / "n", 24, seed=7), tmp_path / "b", FitSettings("twfr_gmm", {"components": 1}, rate=0.2)
    )
    assert made.backend == "native"
    later = np.stack([sound(2000 + seed) for seed in range(100)]).astype(np.float32) / 32768
    above = int((made.scores(later) > made.threshold).sum())
    assert scipy.stats.binomtest(above, 100, 0.2, alternative="greater").pvalue > 1e-3, above


# ---------------------------------------------------------------------------------------- back-ends other than the usual ones
def test_any_back_end_scores_a_bundle_one_of_ones_own_too(
    recordings: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Scores and left-out scores against the formula of docs/add-a-back-end.md, by hand."""
    from auscult import scoring
    from auscult.detector.onnx.export import export
    from support.projects import ROOT

    code = (ROOT / "docs" / "add-a-back-end.md").read_text().split("```python\n")[1].split("```")[0]
    (tmp_path / "centre.py").write_text(code)
    monkeypatch.setattr(scoring, "__path__", [*scoring.__path__, str(tmp_path)])
    monkeypatch.setattr(scoring, "BACKENDS", [*scoring.BACKENDS, "centre"])
    scoring.backends.cache_clear()
    try:
        made = bundle.fit(recordings, tmp_path / "own", FitSettings(backend="centre"))
        assert made.facts["knobs"] == {"kind": "centre", "scope": "machine", "domain_banks": False}
        windows = np.stack([sound(seed) for seed in range(3)]).astype(np.float32) / 32768

        def by_hand(bank: np.ndarray, queries: np.ndarray) -> np.ndarray:
            unit = bank / np.linalg.norm(bank, axis=1, keepdims=True)
            centre = unit.mean(axis=0) / np.linalg.norm(unit.mean(axis=0))
            return 1 - queries @ centre / np.linalg.norm(queries, axis=1)

        expected = by_hand(made.reference, made.embed(windows)[0])
        assert made.scores(windows) == pytest.approx(expected, abs=1e-6)
        again = bundle.load(made.folder)
        assert again.scores(windows).tolist() == made.scores(windows).tolist()
        # Left-out scores are of fits without the recording: of all together they would be smaller on average.
        assert made.normal.mean() > by_hand(made.reference, made.reference).mean()
        with pytest.raises(AuscultError, match="`centre` cannot be exported"):
            export(made, tmp_path / "pump.onnx")
        facts = {**made.facts, "knobs": {"kind": "lof"}}
        write_manifest(made.folder / "bundle.yaml", facts)
        with pytest.raises(AuscultError, match="settings are not of"):
            bundle.load(made.folder)
    finally:
        monkeypatch.undo()
        scoring.backends.cache_clear()


@pytest.mark.parametrize("backend", ["mahalanobis", "ldn", "lof", "beam"])
def test_back_ends_of_the_pipeline_tell_a_strange_sound(backend: str, recordings: Path, tmp_path: Path) -> None:
    made = bundle.fit(recordings, tmp_path / backend, FitSettings(backend=backend))
    own, strange = (sound(seed, tone)[None].astype(np.float32) / 32768 for seed, tone in ((50, 300.0), (51, 3000.0)))
    assert made.scores(strange)[0] > made.threshold > made.scores(own)[0]
    assert "directions alone" not in str(made.facts["training"]["notes"])


def test_a_back_end_that_hears_directions_alone_says_so(recordings: Path, tmp_path: Path) -> None:
    made = bundle.fit(recordings, tmp_path / "b", FitSettings(backend="kmeans"))
    assert "`kmeans` looks at directions alone" in str(made.facts["training"]["notes"])


def test_a_back_end_that_there_is_not_is_named(recordings: Path, tmp_path: Path) -> None:
    with pytest.raises(AuscultError, match="did you mean `mahalanobis`"):
        bundle.fit(recordings, tmp_path / "none", FitSettings(backend="mahalanobi"))
