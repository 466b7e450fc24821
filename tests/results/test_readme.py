"""README.md shows what is in metrics/, and its commands are the ones CI runs."""

from __future__ import annotations

from pathlib import Path

from auscult.results.readme import updated

ROOT = Path(__file__).parents[2]


def test_results_are_those_of_the_committed_metrics() -> None:
    text = (ROOT / "README.md").read_text()
    assert updated(text, ROOT) == text, "run: python -m auscult.results.readme"


def test_two_commands_that_set_themselves_up() -> None:
    lines = [line for line in (ROOT / "README.md").read_text().splitlines() if line.startswith("python3 -m venv")]
    assert [line.rsplit("&& ", 1)[1] for line in lines] == ["dvc repro", "pytest"]
