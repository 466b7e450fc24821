"""An arm that tests another's weights: its training clips are those of the other, its test clips are changed."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from auscult.methods import load_method
from auscult.settings.training import ConditionSettings, Train
from auscult.training.arm import train_arm
from auscult.training.embed import embed_arm

TRAIN = Train(threads=1, device="cpu")


def test_a_condition_reaches_test_clips_alone(packed: Path, tmp_path: Path) -> None:
    settings = load_method("spectral_knn").settings(method="spectral_knn")
    features = {partition: packed / partition for partition in ("train", "test")}
    out = tmp_path
    train_arm(settings, "unit", TRAIN, 1, packed / "train", out / "m", out / "r", "code")
    embed_arm(out / "m", features, out / "clean", 8, TRAIN)
    noise = ConditionSettings(snr_db=0.0)
    embed_arm(out / "m", features, out / "noisy", 8, TRAIN, noise, out / "clean")
    embed_arm(out / "m", features, out / "whole", 8, TRAIN, noise)  # the training clips embedded again
    for name in ("train.npy", "train.parquet"):
        assert (out / "noisy" / name).read_bytes() == (out / "clean" / name).read_bytes()
        assert (out / "whole" / name).read_bytes() == (out / "clean" / name).read_bytes()
    clean, noisy, whole = (np.load(out / name / "test.npy") for name in ("clean", "noisy", "whole"))
    np.testing.assert_array_equal(noisy, whole)
    assert not np.allclose(noisy, clean)


def test_a_low_passed_arm_hears_no_more_under_a_condition(packed: Path, tmp_path: Path) -> None:
    """The lower of the two cut-offs holds, whichever came with training."""
    out, tests = tmp_path, {}
    features = {partition: packed / partition for partition in ("train", "test")}
    for trained, tested in ((0, 1000), (1000, 0), (1000, 4000), (4000, 1000)):
        settings = load_method("spectral_knn").settings(method="spectral_knn", lowpass_hz=trained)
        name = f"{trained}_{tested}"
        train_arm(settings, "unit", TRAIN, 1, packed / "train", out / name, out / "r", "code")
        condition = ConditionSettings(lowpass_hz=tested) if tested else None
        embed_arm(out / name, features, out / f"e{name}", 8, TRAIN, condition)
        tests[trained, tested] = np.load(out / f"e{name}" / "test.npy")
    np.testing.assert_array_equal(tests[1000, 0], tests[1000, 4000])
    assert not np.allclose(tests[1000, 0], tests[0, 1000])  # z-scored by other training clips
