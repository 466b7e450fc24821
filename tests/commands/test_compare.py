"""`auscult compare`: what it prints, that its recommendation can be typed, and that nothing stays."""

from __future__ import annotations

import csv
import json
import shlex
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from auscult import cli
from auscult.detector import bundle
from auscult.detector.compare import Comparison, compare
from support.trees import noise, write


@pytest.fixture
def plant(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """`my pump/normal`, two days of it, and `my pump/clicks`; temporary files lie in `temporary`."""
    rng = np.random.default_rng(0)
    for number in range(12):
        write(tmp_path / "my pump" / "normal" / f"day {number % 2}" / f"{number}.wav", noise(rng, 1.0, 300.0))
    for number in range(3):
        sound = noise(rng, 1.0, 300.0)
        sound[5000:5060] = 25000
        write(tmp_path / "my pump" / "clicks" / f"{number}.wav", sound)
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    monkeypatch.chdir(tmp_path)
    return Path("my pump")


def test_the_command_it_recommends_makes_a_bundle(plant: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["compare", str(plant / "normal"), "--faults", str(plant / "clicks"), "--rate", "0.2", "--one-mode"]
    assert cli.main(arguments) == 0
    text = capsys.readouterr().out
    lines = text.splitlines()
    assert max(map(len, lines)) <= 80
    assert "spectral_knn (default)" in text
    assert "20 false alarms in 100 windows" in " ".join(lines)
    assert sum(line.endswith(" of 3") for line in lines) == 6
    assert "nobody knows" not in text
    assert "Chosen anew without each fault" in text
    assert "false alarms by sub-folder" in text
    command = shlex.split(lines[-1])
    assert command[:5] == ["auscult", "fit", str(plant / "normal"), "-o", "my pump.bundle"]
    assert command[-3:] == ["--rate", "0.2", "--one-mode"]
    assert cli.main(command[1:]) == 0
    made = bundle.load(Path("my pump.bundle"))
    assert made.rule.rate == 0.2
    assert list(Path("temporary").iterdir()) == []


def test_without_faults_it_says_what_nobody_knows_and_why_one_cannot_be_tried(
    plant: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """In words and as JSON, of one comparison."""
    arguments = ["compare", str(plant / "normal"), "--one-mode", "--rate", "0.3", "--methods", "featex"]
    made: dict[str, Comparison] = {}

    def once(folder: Path, work: Path, *asked: Any) -> Comparison:
        key = repr((folder, asked))
        if key not in made:
            made[key] = compare(folder, work, *asked)
        return made[key]

    monkeypatch.setattr("auscult.detector.compare.compare", once)
    assert cli.main(arguments) == 0
    text = " ".join(capsys.readouterr().out.split())
    assert "told apart" not in text
    assert "nobody knows" in text
    assert "They are no faults" in text
    assert "left out: featex: `featex` cannot be trained on this: there is one class only" in text
    assert cli.main([*arguments, "--json"]) == 0
    assert len(made) == 1, "asked for the same"
    facts = json.loads(capsys.readouterr().out)
    assert (facts["recordings"], facts["windows"], facts["rate"], facts["worth"]) == (12, 12, 0.3, None)
    assert facts["candidates"][0]["method"] == "spectral_knn"
    assert set(facts["candidates"][0]["noticed"]) == {"clicks", "tone", "hiss", "lost band"}
    assert all(candidate["area"] is None for candidate in facts["candidates"])
    assert facts["command"].endswith("--rate 0.3 --one-mode")


def test_an_interruption_leaves_nothing(
    plant: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    before = sorted(Path().rglob("*"))

    def interrupted(*arguments: object) -> None:
        assert list(Path("temporary").iterdir())
        raise KeyboardInterrupt

    monkeypatch.setattr("auscult.detector.trials.train", interrupted)
    assert cli.main(["compare", str(plant / "normal")]) == 130
    assert sorted(Path().rglob("*")) == before


def test_what_is_wrong_is_said_at_once(plant: Path, capsys: pytest.CaptureFixture[str]) -> None:
    normal = str(plant / "normal")
    for arguments, words in (
        (["nowhere"], "there is no such folder\n  where: nowhere"),
        (["temporary"], "no recordings below this folder\n  where: temporary"),
        ([normal, "--faults", "nowhere"], "there is no such folder\n  where: nowhere"),
        ([normal, "--faults", normal], "hold the same sound as normal ones:\n    day 0/0.wav: as day 0/0.wav"),
        ([normal, "--faults", normal, "--labels", "x.csv"], "not both"),
        ([normal, "--labels", "x.csv"], "there is no such table\n  where: x.csv"),
        ([normal, "--methods", "aee"], "there is no method `aee` (did you mean `ae`?)"),
    ):
        assert cli.main(["compare", *arguments]) == 2
        error = capsys.readouterr().err
        assert words in error, error


def test_the_page_says_what_was_measured() -> None:
    """docs/your-own-machine.md against metrics/compare_valve.csv."""
    root = Path(__file__).parents[2]
    page = (root / "docs" / "your-own-machine.md").read_text()
    with open(root / "metrics" / "compare_valve.csv", newline="") as stream:
        rows = {row["system"]: row for row in csv.DictReader(stream)}
    for system in ("no fault known", "four faults known", "always spectral_knn", "always spectral_knn pooling=[max]"):
        row = {
            key: value if key in ("system", "taken") else float(value or "nan") for key, value in rows[system].items()
        }
        found, alarms = (
            f"{row[f'{name}_mean']:.0f} ({row[f'{name}_lowest']:.0f} to {row[f'{name}_highest']:.0f})"
            for name in ("found", "alarms")
        )
        assert f"| {found} | {alarms} |" in page, system
        taken = str(row["taken"]).replace("spectral_knn pooling=", "").replace("spectral_knn", "default")
        assert system.startswith("always") or f"| {taken} |" in page
    promised = rows["four faults known"]
    assert (
        f"promised {float(promised['promised_found']):.0f} and {float(promised['promised_alarms']):.0f} on average"
        in page
    )


def test_words_fit_the_numbers() -> None:
    """A tie is called one, and a default that is ahead is not."""
    from auscult.commands.compare import _advice
    from auscult.detector.compare import Row, Verdict

    class Found:
        faults = object()

        def by_folder(self, number: int) -> dict[str, float]:
            return {}

    def advice(first: float, second: float, take: int, holds: bool = True) -> str:
        rows = [
            Row(name, 0.1, (0.05, 0.2), good, {}, area, (0.5, 1.0), {"a.wav": True, "b.wav": False})
            for name, area, good in (("one", first, True), ("two", second, holds))
        ]
        return " ".join(_advice(Found(), Verdict(rows, take, None, 60)))  # type: ignore[arg-type]

    assert "a tie" in advice(0.8, 0.85, 0)
    assert "a tie" not in advice(0.9, 0.6, 0)
    assert "a tie" not in advice(0.8, 0.85, 0, holds=False)  # what sounds too many alarms is not in question
    assert advice(0.8, 0.99, 1).startswith(
        "Take two: faults are told from normal sound in 99 of 100 pairs, by the default in 80."
    )
    assert "does not find: b.wav" in advice(0.8, 0.99, 1)
    assert "With one fault nobody can tell" in advice(0.8, 0.99, 1)
