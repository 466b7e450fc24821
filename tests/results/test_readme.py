"""README.md shows what is in metrics/, and its commands are the ones CI runs."""

from __future__ import annotations

from pathlib import Path

import pytest

from auscult.results.readme import PAGES, updated

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("page", PAGES)
def test_results_are_those_of_the_committed_metrics(page: str) -> None:
    assert updated(page, ROOT) == (ROOT / page).read_text(), "run: python -m auscult.results.readme"


def test_it_is_short_and_leads_with_pictures_of_both_doors() -> None:
    lines = (ROOT / "README.md").read_text().splitlines()
    assert len(lines) <= 150
    assert "\n".join(lines[:12]).count("](docs/pictures/") == 2
    assert {"## Your machine", "## Your paper"} <= set(lines)


def test_two_commands_that_set_themselves_up() -> None:
    lines = [line for line in (ROOT / "README.md").read_text().splitlines() if line.startswith("python3 -m venv")]
    assert [line.rsplit("&& ", 1)[1] for line in lines] == ["dvc repro", "pytest"]
