"""What others have reached: rows that say how they were formed, numbers that are the printed tables', a page made from them."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from auscult.papers import printed
from auscult.papers.frontier import FLAGS, KINDS, LEAKS, SIZES, beside, document, published
from auscult.results.tables import write_tables
from auscult.settings.schema import TableSettings

ROWS = published()
# (year, system) -> printed table, its row
TABLES = {
    ("2020", "OS-SCL (TFSTgram)"): ("os_scl_table5", "TFSTgram(OS-SCL)"),
    ("2020", "Han et al."): ("han_table06", "Ours"),
    ("2020", "AnoPatch"): ("anopatch_table1", "AnoPatch (Ours)"),
    ("2020", "Giri et al., ensemble"): ("han_table06", "2020 No.1"),
    ("2021", "Han et al."): ("han_table07", "Ours"),
    ("2021", "No. 1"): ("han_table07", "2021 No.1"),
    ("2022", "Han et al."): ("han_table08", "Ours"),
    ("2022", "No. 1 (Zeng et al.)"): ("han_table08", "2022 No.1"),
    ("2023", "AnoPatch"): ("anopatch_table2", "AnoPatch (Ours)"),
    ("2023", "Han et al."): ("han_table09", "Ours"),
    ("2023", "No. 1 (Wang J. et al.)"): ("han_table09", "2023 No.1"),
    ("2024", "Han et al."): ("han_table10", "Ours"),
    ("2024", "No. 2 of the challenge"): ("han_table10", "2024 No.2"),
    ("2024", "No. 1 (AITHU), ensemble"): ("han_table10", "2024 No.1"),
}


def test_every_row_says_what_it_is() -> None:
    assert set(ROWS["year"]) == {str(year) for year in range(2020, 2027)}
    assert set(ROWS["set"]) == {"dev", "eval"}
    assert set(ROWS["kind"]) == set(KINDS)
    assert set(ROWS["convention"]) == {"per_unit", "pooled"}
    assert {flag for flags in ROWS["flags"] for flag in flags.split()} == set(FLAGS)
    assert not ROWS.duplicated(["year", "set", "kind", "system"]).any()
    assert ROWS["value"].between(50, 100).all()
    assert (ROWS["source"] != "").all()
    for year, of_year in ROWS.groupby("year"):
        assert {"training_free", "winner", "baseline"} <= set(of_year.loc[of_year["set"] == "eval", "kind"]), year


@pytest.mark.parametrize("key", TABLES, ids=" ".join)
def test_scores_are_those_of_the_printed_tables(key: tuple[str, str]) -> None:
    table, row = TABLES[key]
    cells = printed(table)
    cells = cells[(cells["row"] == row) & cells["machine"].isin(["mean", "hmean"]) & (cells["split"] != "all")]
    cells = cells[cells["metric"].isin(["mean_auc_pauc", "hmean_auc_pauc"])]
    of = ROWS[(ROWS["year"] == key[0]) & (ROWS["system"] == key[1])]
    assert dict(zip(of["set"], of["score"], strict=True)) == dict(zip(cells["split"], cells["text"], strict=True))
    assert len(of) == 2


def test_rows_of_the_three_papers_are_compared() -> None:
    """None of theirs is left out above."""
    theirs = ROWS[ROWS["source"].str.contains(r"2508\.12230|2406\.11364|2509\.13853")]
    assert set(theirs[["year", "system"]].itertuples(index=False, name=None)) == set(TABLES)


def test_what_leaks_does_not_stand_beside_ours() -> None:
    for year in range(2020, 2027):
        types = {name: size[0] for name, size in SIZES[str(year)].items()}
        text = " ".join(beside(f"dcase{year}", types))
        of_year = ROWS[ROWS["year"] == str(year)]
        assert "challenge winner" in text
        for row in of_year.itertuples():
            if LEAKS & set(row.flags.split()):
                assert f"{row.score}, {row.system}" not in text
    assert "single model 74.23, AnoPatch;" in beside("dcase2023", {"eval": 7})[0]
    per_unit, pooled = beside("dcase2020", {"dev": 6, "eval": 6})
    assert "91.65, ASDKit" in per_unit
    assert "OS-SCL" not in per_unit
    assert pooled.startswith(
        "Published official scores of 2020, AUC pooled. Development set: single model 92.96, OS-SCL"
    )
    assert beside("dcase2020", {"dev": 5}) == beside("synthetic", {"dev": 6}) == []
    assert beside("dcase2023_valve_split", {"dev": 7}) == []


@pytest.mark.parametrize(("dataset", "lines"), [("dcase2020", 2), ("synthetic", 0)])
def test_the_tables_of_a_year_show_it(tmp_path: Path, dataset: str, lines: int) -> None:
    cell = {
        "arm": "ae",
        "backend": "native",
        "convention": "per_unit",
        "set": "dev",
        "metric": "official",
        "value": 70.0,
    }
    cell |= {"ci_low": 68.0, "ci_high": 72.0, "seeds": 1, "std": float("nan")}
    machines = ["fan", "pump", "slider", "valve", "ToyCar", "ToyConveyor", "mean"]
    summary = pd.DataFrame([cell | {"machine": machine} for machine in machines])
    tables = {"main": TableSettings(title="t", metrics=("official",))}
    (tmp_path / "out").mkdir()
    said = write_tables(summary, tables, tmp_path / "out", ("p", dataset)).preamble
    assert sum(line.startswith("Published official scores of 2020") for line in said) == lines
    assert not any("Evaluation set" in line for line in said)
    said = write_tables(summary.iloc[1:], tables, tmp_path / "out", ("p", dataset)).preamble
    assert not any(line.startswith("Published") for line in said)


def test_the_page_has_every_row() -> None:
    text = document()
    for row in ROWS.itertuples():
        (line,) = [
            line
            for line in text.split(f"## {row.year}")[1].split("\n## ")[0].splitlines()
            if f"| {KINDS[row.kind]} | {row.system} |" in line
        ]
        assert line.split(" | ")[2 + (row.set == "eval")].strip() == row.score
    assert "wrong_labels (eval)" in text
