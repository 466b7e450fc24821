"""As in a plant: real recordings are fitted to, and judged the same as files, as stereo FLAC of 44.1 kHz and in one long file.

The clips are licensed for use in place, not for copies: without them beside the checkout this file has nothing to test.
"""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import soundfile

from auscult import cli

CLIPS = Path(__file__).parents[3] / "shared" / "real" / "dcase2023_valve" / "valve"

pytestmark = pytest.mark.skipif(not CLIPS.is_dir(), reason="the real clips are not beside this checkout")


def test_the_same_decisions_in_any_form(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bundle = str(tmp_path / "valve.bundle")
    assert cli.main(["fit", str(CLIPS / "train"), "-o", bundle]) == 0
    files = sorted((CLIPS / "test").glob("*.wav"))[::14]
    sounds = [soundfile.read(file, dtype="int16")[0] for file in files]
    for file, sound in zip(files, sounds, strict=True):
        # By the frequency domain, which keeps the whole band.
        length = len(sound) * 441 // 160
        spectrum = np.fft.rfft(sound / 32768)
        wide = np.fft.irfft(np.pad(spectrum, (0, length // 2 + 1 - len(spectrum))), length) * length / len(sound)
        path = tmp_path / "flac" / f"{file.stem}.flac"
        path.parent.mkdir(exist_ok=True)
        soundfile.write(path, np.stack([wide, 0.5 * wide], axis=1), 44100, subtype="PCM_24")
    soundfile.write(tmp_path / "long.wav", np.concatenate(sounds), 16000, subtype="PCM_16")

    def scores(*arguments: object) -> list[dict[str, float]]:
        capsys.readouterr()
        assert cli.main(["score", bundle, *map(str, arguments), "--json", "--exit-zero"]) == 0
        found: list[dict[str, float]] = json.loads(capsys.readouterr().out)
        return found

    alone, flac = scores(*files), scores(tmp_path / "flac")
    assert {row["anomalous"] for row in alone} == {True, False}
    assert [row["anomalous"] for row in flac] == [row["anomalous"] for row in alone]
    np.testing.assert_allclose([row["score"] for row in flac], [row["score"] for row in alone], rtol=0.005)
    (long,) = scores(tmp_path / "long.wav", "--curve", tmp_path / "curve.csv")
    with open(tmp_path / "curve.csv", newline="") as stream:
        curve = {float(row["start"]): row for row in csv.DictReader(stream)}
    assert long["windows"] == len(curve) == 2 * len(files) - 1
    for number, row in enumerate(alone):
        there = curve[10.0 * number]
        assert bool(int(there["anomalous"])) == row["anomalous"]
        assert float(there["score"]) == pytest.approx(row["score"], rel=1e-5)
