"""What others have reached, year by year: `state_of_the_art.csv`, the page made from it, and the lines beside tables of ours.

A row is a score as printed, with how it was formed and what is to be known of it (`FLAGS`). Rows whose flags are in `LEAKS` stand
on the page, and never beside our numbers.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from importlib.resources import files

import pandas as pd

KINDS = {
    "single": "single model",
    "ensemble": "ensemble",
    "training_free": "training-free",
    "winner": "challenge winner",
    "baseline": "baseline",
}
FLAGS = {
    "test_statistics": "scores are standardised with statistics of the test clips themselves",
    "wrong_labels": "judged with the list of 2022 that is wrong for ToyCar and ToyTrain ([scores](scores.md)), in its labels "
    "(probably: Han et al.) or in its domains (ASDKit, which mended the labels)",
    "chosen_on_test": "knobs, or which of several systems is printed, were chosen by the labels of this very set",
    "test_attributes": "classes are numbered from the names of test clips, too",
    "one_seed": "one training",
    "after_challenge": "made when the labels were public",
    "secondary": "read in another publication than the system's own",
}
LEAKS = frozenset(("test_statistics", "wrong_labels", "chosen_on_test", "test_attributes"))
SETS = {"dev": "Development set", "eval": "Evaluation set"}
SIZES = {
    "2020": {"dev": (6, 23), "eval": (6, 18)},
    "2021": {"dev": (7, 21), "eval": (7, 21)},
    "2022": {"dev": (7, 21), "eval": (7, 21)},
    "2023": {"dev": (7, 7), "eval": (7, 7)},
    "2024": {"dev": (7, 7), "eval": (9, 9)},
    "2025": {"dev": (7, 7), "eval": (8, 8)},
    "2026": {"dev": (7, 7), "eval": (5, 5)},
}
"""Machine types and units of each set: an average over fewer is another number."""
_READ_WITH_CARE = """\
* From 2023 on a machine type has one section, and pooled and per-unit AUC are one number.
* arXiv 2603.04605 quotes, in its table V, as evaluation score of Han et al. what they print for both sets together (93.1, 66.6,
  68.7 and 65.5 for 95.01, 61.69, 73.70 and 66.95).
* Half a point is no difference: the standard deviation over four seeds of one system is 0.5 to 2.9 on the evaluation sets of
  2023 and 2024 (ASDKit).
* Which of the two lists judged a score of the evaluation set of 2022 is known of the two flagged rows alone.
* A development set's labels are public from the start. Few reports say how their knobs were set; a row without a flag is one of
  which nothing of the kind is known, not one that is known to be clean.
* No number here was made with this project. Score files that teams publish can be judged again by `auscult evaluate`.
"""


@cache
def published() -> pd.DataFrame:
    """Every row: year, set (dev, eval), kind (`KINDS`), system, score (percent, as printed), convention (per_unit, pooled), flags
    (of `FLAGS`, with spaces between), source; and `value`, the score as a number."""
    with files(__package__).joinpath("state_of_the_art.csv").open(encoding="utf-8") as stream:
        table = pd.read_csv(stream, dtype=str, keep_default_na=False)
    return table.assign(value=table["score"].astype(float))


def beside(dataset: str, types: Mapping[str, int]) -> list[str]:
    """What to say of a data set's official scores beside a table of ours: one paragraph per convention that was published.

    The best of each kind, without those that leak. None where nothing was published, as of synthetic machines.

    Args:
        types: set -> how many machine types the table has; a set that lacks some is left out.

    >>> beside("synthetic", {"dev": 6}), beside("dcase2021", {"eval": 1})
    ([], [])
    >>> print(beside("dcase2021", {"eval": 7})[0][:103])
    Published official scores of 2021, AUC per unit. Evaluation set: single model 67.62, ASDKit, BEATs with
    """
    rows = published()
    year = dataset.removeprefix("dcase")
    sets = [name for name, size in SIZES.get(year, {}).items() if types.get(name) == size[0]]
    rows = rows[(rows["year"] == year) & rows["set"].isin(sets)]
    leaks = rows["flags"].map(lambda flags: bool(LEAKS & set(flags.split()))).astype(bool)
    clean = rows[~leaks]
    lines = []
    for convention in ("per_unit", "pooled"):
        parts = []
        for name, words in SETS.items():
            of_set = clean[(clean["convention"] == convention) & (clean["set"] == name)]
            best = of_set.sort_values("value", ascending=False, kind="stable").drop_duplicates("kind").set_index("kind")
            said = [
                f"{KINDS[kind]} {best['score'][kind]}, {best['system'][kind]}" for kind in KINDS if kind in best.index
            ]
            parts += [f"{words}: {'; '.join(said)}."] if said else []
        if parts:
            how = "per unit" if convention == "per_unit" else "pooled"
            what = f"Published official scores of {year}, AUC {how}"
            lines.append(f"{what}. {' '.join(parts)} Sources: docs/state-of-the-art.md.")
    return lines


def document() -> str:
    """docs/state-of-the-art.md."""
    rows = published()
    lines = [
        "# State of the art",
        "",
        "What others print for DCASE Task 2. Made by `python -m auscult.papers.fidelity` from",
        "[state_of_the_art.csv](../src/auscult/papers/state_of_the_art.csv). Percent; the official score of a set, for 2020 the",
        "mean of AUC and pAUC (the challenge ranked). *Pooled*: one ROC over all units of a machine type, a number of another",
        "kind ([scores](scores.md)). A year's tables of results show the best of each kind that no flag of the first four speaks",
        "against.",
        "",
        *[f"* `{flag}`: {words}." for flag, words in FLAGS.items()],
    ]
    for year, of_year in rows.groupby("year"):
        lines += ["", f"## {year}", "", "| kind | system | dev | eval | AUC | flags | source |"]
        lines += ["|---|---|---:|---:|---|---|---|"]
        for kind, words in KINDS.items():
            of_kind = of_year[of_year["kind"] == kind]
            for system, cells in of_kind.groupby("system", sort=False):
                lines.append(_row(words, str(system), cells))
    return "\n".join([*lines, "", "## Read with care", "", _READ_WITH_CARE])


def _row(kind: str, system: str, cells: pd.DataFrame) -> str:
    scores = cells.set_index("set")["score"]
    flags: dict[str, list[str]] = {}
    for row in cells.itertuples(index=False):
        for flag in str(row.flags).split():
            flags.setdefault(flag, []).append(str(row.set))
    said = [flag if len(where) == len(cells) else f"{flag} ({where[0]})" for flag, where in flags.items()]
    how = ", ".join(dict.fromkeys(cells["convention"].str.replace("_", " ")))
    source = "; ".join(dict.fromkeys(cells["source"]))
    shown = (scores.get("dev", ""), scores.get("eval", ""))
    return f"| {kind} | {system} | {shown[0]} | {shown[1]} | {how} | {', '.join(said)} | {source} |"
