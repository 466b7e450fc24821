"""docs/peers.md: its arms, commands and counts are those of the project."""

from __future__ import annotations

import re
from pathlib import Path

from auscult.encoders import MODULES
from auscult.methods import METHODS
from auscult.papers.peers import ELSEWHERE, ENCODERS_ELSEWHERE, page
from auscult.settings.params import load_params

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "peers.md").read_text()
PARAMS = load_params(ROOT)
RECIPES = {
    "ae", "raw_spec", "raw_beats", "raw_eat", "dis_spec_adacos_fixed_wo_mixup", "dis_spec_adacos_fixed",
    "dis_spec_scac_fixed", "dis_spec_scac_trainable", "dis_spec_subspaceloss", "dis_spec_featex",
    "dis_multispec_scac_trainable", "dis_beats_scac_trainable", "dis_eat_scac_trainable",
}  # fmt: skip
"""ASDKit's figure 2."""


def rows(heading: str) -> list[list[str]]:
    """Cells of the table below a heading."""
    section = PAGE.split(f"## {heading}\n")[1].split("\n## ")[0]
    lines = [line.strip("|").split("|") for line in section.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line] for line in lines[2:]]


def test_every_recipe_has_one_arm_that_exists_where_its_command_runs_it() -> None:
    recipes = rows("ASDKit's recipes")
    assert sorted(row[0].strip("`") for row in recipes) == sorted(RECIPES)
    for _, arm, command in recipes + rows("The challenge's baselines"):
        name = re.match(r"`(\w+)`", arm)
        assert name, arm
        found = PARAMS.arm(name[1])  # refuses one that there is not
        runs = f"auscult run {found.study}" if found.study else "dvc repro"
        assert command == f"`{runs}`", name[1]


def test_the_counts_are_those_of_the_lists() -> None:
    assert page(PAGE) == PAGE, "run python -m auscult.papers.fidelity"
    methods, own = map(int, re.findall(r"Of (\d+) methods here (\d+) are", PAGE)[0])
    encoders, alone = map(int, re.findall(r"Of (\d+) encoders (\d+):", PAGE)[0])
    assert (methods, own) == (len(METHODS), len(set(METHODS) - ELSEWHERE))
    assert (encoders, alone) == (len(MODULES), len(set(MODULES) - ENCODERS_ELSEWHERE))
    assert set(ELSEWHERE) <= set(METHODS)
    assert set(ENCODERS_ELSEWHERE) <= set(MODULES)
    for name in set(METHODS) - ELSEWHERE | set(MODULES) - ENCODERS_ELSEWHERE:
        assert f"`{name}`" in PAGE
