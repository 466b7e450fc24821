"""`from auscult import Detector`: files and arrays give the same, signs are as they are said to be, nothing stays behind."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pytest
import soundfile
from scipy.signal import resample_poly

from auscult import Detector
from auscult.detector import bundle
from auscult.detector.arrays import Sound
from auscult.detector.bundle import FitSettings
from auscult.detector.score import score_file
from auscult.errors import AuscultError
from support.projects import ROOT, stage_environment
from support.trees import noise, write


def sound(seed: int, seconds: float = 1.0, tone: float = 300.0) -> np.ndarray:
    return noise(np.random.default_rng(seed), seconds, tone)


@pytest.fixture(scope="module")
def normal(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("normal")
    for seed in range(14):
        write(folder / f"{seed:02d}.wav", sound(seed))
    return folder


@pytest.fixture(scope="module")
def detector(normal: Path) -> Detector:
    return Detector.fit(str(normal))


def test_the_package_is_light_until_it_is_used() -> None:
    code = (
        "import sys, auscult; assert 'torch' not in sys.modules; from auscult import Detector; print(Detector.__name__)"
    )
    done = subprocess.run([sys.executable, "-c", code], env=stage_environment(), capture_output=True, text=True)
    assert done.stdout == "Detector\n", done.stderr
    with pytest.raises(ImportError, match="Detektor"):
        exec("from auscult import Detektor")


# ------------------------------------------------------------------------------------------------------- files and arrays
@pytest.mark.parametrize("rate", [16000, 44100, 8000, 15999])
@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("kind", ["int16", "float32", "float64"])
def test_samples_score_as_their_file_does_bit_for_bit(
    detector: Detector, tmp_path: Path, rate: int, channels: int, kind: str
) -> None:
    rng = np.random.default_rng(rate + channels)
    samples = 0.2 * rng.standard_normal((round(2.7 * rate), channels)).squeeze()
    samples = np.round(samples * 32767).astype(np.int16) if kind == "int16" else samples.astype(kind)
    path = tmp_path / "x.wav"
    soundfile.write(path, samples, rate, subtype={"int16": "PCM_16", "float32": "FLOAT", "float64": "DOUBLE"}[kind])
    file, array = detector.score(str(path)), detector.score(samples, sample_rate=rate)
    assert isinstance(file, bundle_score := type(array))
    assert bundle_score.__name__ == "FileScore"
    assert (file.file, array.file) == (str(path), "array")
    assert vars(file) | {"file": ""} == vars(array) | {"file": ""}
    assert array.windows == 5
    for ours, theirs in zip(detector.curve(samples, rate), detector.curve(path), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_fitted_to_arrays_or_to_their_files_is_the_same(normal: Path, tmp_path: Path) -> None:
    loud = [resample_poly(sound(seed) / 32768, 441, 160).astype(np.float32) for seed in range(12)]
    for number, samples in enumerate(loud):
        write(tmp_path / "files" / f"{number:02d}.wav", samples, rate=44100, subtype="FLOAT")
    one = Detector.fit(loud, tmp_path / "one.bundle", sample_rate=44100, rate=0.2, k=2)
    two = Detector.fit(str(tmp_path / "files"), rate=0.2, k=2)
    assert one.bundle.facts["files"] == two.bundle.facts["files"]  # of every array and weight
    assert (one.threshold, one.bundle.k, one.bundle.sample_rate) == (two.threshold, 2, 16000)
    slow = Detector.fit(loud, sample_rate=44100, settings=FitSettings(sample_rate=8000), k=3)
    assert (slow.bundle.sample_rate, slow.bundle.k) == (8000, 3)


def test_one_gives_one_and_many_give_a_list(detector: Detector, normal: Path) -> None:
    single = score_file(detector.bundle, normal / "00.wav")
    assert detector.score(normal / "00.wav") == single
    assert detector.score([normal / "00.wav"]) == [single]
    assert len(detector.score(str(normal))) == 14  # type: ignore[arg-type]
    mixed = detector.score([str(normal / "00.wav"), sound(0)])
    assert isinstance(mixed, list)
    assert [each.file for each in mixed] == [str(normal / "00.wav"), "array 1"]
    assert mixed[0].score == mixed[1].score


# ------------------------------------------------------------------------------------------------------ as scikit-learn's
def test_signs_are_those_of_scikit_learn(detector: Detector, tmp_path: Path) -> None:
    fault = sound(99, tone=900.0)
    rows = np.stack([sound(0), fault])
    scores = [detector.score(row).score for row in rows]  # type: ignore[union-attr]
    np.testing.assert_array_equal(detector.score_samples(rows), np.negative(scores))
    np.testing.assert_array_equal(detector.decision_function(rows), detector.threshold - np.array(scores))
    assert detector.predict(rows).tolist() == [1, -1]
    assert detector.predict([write(tmp_path / "f.wav", fault), sound(0)]).tolist() == [-1, 1]
    # Its level alone explains the score, so that no verdict is possible: no inlier.
    quiet = (sound(0) // 2).astype(np.int16)
    assert detector.score(quiet).verdict == "check recording"  # type: ignore[union-attr]
    assert detector.predict([quiet]).tolist() == [-1]


# ------------------------------------------------------------------------------------------------- threshold, disk, errors
def test_a_threshold_is_of_the_object_until_it_is_saved(normal: Path, tmp_path: Path) -> None:
    made = bundle.fit(str(normal), str(tmp_path / "pump.bundle"))
    detector = Detector.load(str(made.folder))
    text = (made.folder / "bundle.yaml").read_bytes()
    assert detector.set_threshold(0.3) == detector.threshold == np.sort(made.normal)[10] != made.threshold
    assert (made.folder / "bundle.yaml").read_bytes() == text
    detector.save(tmp_path / "other.bundle")
    other = Detector.load(tmp_path / "other.bundle")
    assert (other.threshold, other.bundle.digest) == (detector.threshold, made.digest)
    assert repr(other).startswith('Detector("other.bundle": spectral_knn, 14 normal windows of 1 s at 16000 Hz')
    with pytest.raises(AuscultError, match="there is a bundle already"):
        detector.save(tmp_path / "other.bundle")
    (made.folder / "normal.npy").write_bytes(b"")
    with pytest.raises(AuscultError, match=r"normal\.npy was changed"):
        detector.save(tmp_path / "third.bundle")
    assert not (tmp_path / "third.bundle").exists()


def test_what_is_not_kept_vanishes(normal: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    detector = Detector.fit([sound(seed) for seed in range(12)], sample_rate=16000)
    assert len(list(tmp_path.iterdir())) == 1
    detector.save(tmp_path / "kept")
    score = detector.score(sound(3))
    del detector
    assert [path.name for path in tmp_path.iterdir()] == ["kept"]
    assert Detector.load(tmp_path / "kept").score(sound(3)) == score
    with pytest.raises(AuscultError):
        Detector.fit([sound(0)], sample_rate=16000)
    assert [path.name for path in tmp_path.iterdir()] == ["kept"]


def test_what_is_no_recording_is_said(detector: Detector, tmp_path: Path) -> None:
    for samples, rate, words in (
        (np.zeros((2, 16000), np.float32), 16000, r"shape \[2, 16000\] is no recording"),
        (np.zeros(0, np.float32), 16000, r"shape \[0\]"),
        (np.zeros(16000, np.int64), 16000, "samples of type int64"),
        (np.full(16000, np.nan), 16000, "NaN"),
        (np.zeros(16000), 16000, "digital silence"),
        (np.zeros(100), 16000, "0.00625 of a window"),
        (sound(0), 5, "a sample rate of 5 Hz"),
        (sound(0), 16000.5, "a sample rate of 16000.5 Hz"),
    ):
        with pytest.raises(AuscultError, match=words) as caught:
            detector.score(samples, sample_rate=rate)  # type: ignore[arg-type]
        assert caught.value.fix
        assert "array" in caught.value.where
    with pytest.raises(AuscultError, match="float is no recording"):
        detector.score([0.1, 0.2])  # type: ignore[list-item]
    with pytest.raises(AuscultError, match="`metod` is no setting") as caught:
        Detector.fit("normal", metod="ae")
    assert "method, values" in caught.value.fix
    with pytest.raises(AuscultError, match="sample rate of 0 Hz"):
        Detector.fit([sound(0)])
    with pytest.raises(AuscultError, match="there is no bundle here"):
        Detector.load(str(tmp_path))


def test_strings_are_paths_everywhere(normal: Path, tmp_path: Path) -> None:
    made = bundle.fit(str(normal), str(tmp_path / "b"))
    assert bundle.load(str(tmp_path / "b")).digest == made.digest
    assert bundle.set_threshold(str(tmp_path / "b"), 0.3).rate == 0.3
    assert score_file(made, str(normal / "00.wav")).file == str(normal / "00.wav")


def test_a_sound_is_read_once_block_by_block() -> None:
    samples = np.arange(2 * 70000, dtype=np.int16).reshape(-1, 2)
    with Sound(samples, 16000, "x") as heard:
        blocks = list(heard.mono(1))
    assert [len(block) for block in blocks] == [2**16, 70000 - 2**16]
    np.testing.assert_array_equal(np.concatenate(blocks), samples[:, 1].astype(np.float32) / 32768)


def test_the_example_of_the_page(normal: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import re

    (example,) = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "api.md").read_text(), re.S)
    assert len(example.strip().splitlines()) <= 12
    monkeypatch.chdir(tmp_path)
    (tmp_path / "normal").symlink_to(normal)
    write(tmp_path / "today.wav", sound(50, tone=900.0))
    names: dict[str, object] = {}
    exec(example, names)
    assert names["found"].verdict == "ANOMALOUS"  # type: ignore[attr-defined]
    assert (tmp_path / "pump.bundle" / "bundle.yaml").is_file()
