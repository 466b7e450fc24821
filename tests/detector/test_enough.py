"""How much is enough: the rate that few recordings support, the check by other recordings, days and hours."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from auscult.detector import bundle, enough
from auscult.detector.bundle import FitSettings
from auscult.detector.recordings import Found
from auscult.detector.thresholds import quantile
from auscult.errors import AuscultError
from support.trees import noise, write


def recordings(folder: Path, names: list[str], seconds: float = 1.0) -> Path:
    rng = np.random.default_rng(0)
    for name in names:
        write(folder / name, noise(rng, seconds, 300.0))
    return folder


def test_few_recordings_raise_the_rate_that_nobody_asked_for(tmp_path: Path) -> None:
    folder = recordings(tmp_path / "n", [f"{i}.wav" for i in range(4)], 3.0)
    made = bundle.fit(folder, tmp_path / "b", FitSettings(seconds=1.0))
    effective = made.facts["effective"]
    assert 4 <= effective < 9
    assert made.rule.rate == pytest.approx(1 / (int(effective) + 1))
    assert made.rule.value == quantile(made.normal, made.rule.rate)
    said = f"the rate of false alarms is {made.rule.rate:.2g}, for 4 recordings"
    assert any(said in note for note in made.facts["training"]["notes"])
    asked = bundle.fit(folder, tmp_path / "c", FitSettings(seconds=1.0, rate=0.1))
    assert asked.rule.rate == 0.1
    assert any("4 recordings are few for a rate of 0.1" in note for note in asked.facts["training"]["notes"])


def test_a_rate_that_is_not_supported_is_refused_before_the_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = recordings(tmp_path / "n", [f"{i}.wav" for i in range(12)])
    monkeypatch.setattr("auscult.training.arm.train_arm", lambda *arguments: pytest.fail("trained"))
    with pytest.raises(AuscultError, match=r"12 windows .* at least, not 0\.05") as caught:
        bundle.fit(folder, tmp_path / "b", FitSettings("ae", rate=0.05))
    assert "19 are needed: record 7 more like the 12" in caught.value.fix
    with pytest.raises(AuscultError, match="between 0 and 1"):
        bundle.fit(tmp_path / "nothing", tmp_path / "b", FitSettings(rate=7.0))


def test_the_check_judges_each_fifth_by_the_others() -> None:
    """Against a loop over recordings that are cut in five."""
    rng = np.random.default_rng(1)
    group = np.repeat(rng.permutation(23), rng.integers(1, 6, 23))
    normal = rng.gamma(3, 2, len(group))
    order = list(dict.fromkeys(group.tolist()))
    above = 0
    for part in (order[0:5], order[5:10], order[10:15], order[15:19], order[19:23]):
        mine = np.array([each in part for each in group])
        above += int((normal[mine] > quantile(normal[~mine], 0.1)).sum())
    assert enough.cross_fitted(normal, group, 0.1) == (above, len(group))
    assert enough.cross_fitted(normal[group == order[0]], np.zeros((group == order[0]).sum()), 0.1) == (0, 0)


def test_recordings_that_drift_are_said_to_differ() -> None:
    rng = np.random.default_rng(0)
    drift = np.arange(50.0) + rng.standard_normal(50)
    assert enough.notes_on_check(*enough.cross_fitted(drift, np.arange(50), 0.1), 0.1)
    assert not enough.notes_on_check(*enough.cross_fitted(rng.permutation(drift), np.arange(50), 0.1), 0.1)


# -------------------------------------------------------------------------------------------------------- days and hours
def used(folder: Path, names: list[str], times: list[float], seconds: float = 60.0) -> dict[str, Found]:
    found = {}
    for name, time in zip(names, times, strict=True):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
        os.utime(path, (time, time))
        found[name] = Found(path, 16000, int(16000 * seconds), 0.5, 0.1)
    return found


def test_one_hour_is_said_only_if_it_is_known(tmp_path: Path) -> None:
    plain = [f"{i}.wav" for i in range(10)]
    hour = [f"pump_2026-05-01_12-{i:02d}.wav" for i in range(10)]
    days = [f"2026050{i % 9 + 1}T1200{i:02d}.wav" for i in range(10)]
    as_recorded, copied = [60.0 * i for i in range(10)], [0.1 * i for i in range(10)]
    over_days = [86400.0 * i for i in range(10)]
    for number, (names, times, said) in enumerate((
        (plain, as_recorded, True),
        (plain, copied, False),  # the time of copying says nothing
        (plain, over_days, False),
        (hour, copied, True),
        (hour, as_recorded, True),
        (hour, over_days, False),  # they do not agree
        (days, copied, False),
        (days, as_recorded, False),
    )):  # fmt: skip
        notes = enough.notes_on_time(used(tmp_path / str(number), names, times), one_mode=False)
        assert any("all recordings were made within 9 min" in note for note in notes) == said, number
        assert len(notes) == said


def test_folders_of_days(tmp_path: Path) -> None:
    one = [f"2026-05-{i:02d}/a.wav" for i in range(1, 6)]
    several = [f"2026-05-{i:02d}/{k}.wav" for i in range(1, 6) for k in range(2)]
    modes = [f"{mode}/{k}.wav" for mode in ("idle", "load") for k in range(2)]

    def notes(names: list[str], one_mode: bool) -> str:
        times = [86400.0 * i for i in range(len(names))]
        return "\n".join(enough.notes_on_time(used(tmp_path, names, times), one_mode))

    assert "each of 5 sub-folders holds one recording" in notes(one, True)
    assert notes(several, True) == ""
    assert "look like days and are taken for modes" in notes(several, False)
    assert notes(modes, False) == notes(modes, True) == ""
