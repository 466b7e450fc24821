"""What each part of OS-SCL does on real machines: paired differences between arms, with intervals over clips and seeds.

    PYTHONPATH=src python benchmarks/real_claims.py                  # writes metrics/real_claims.csv and docs/real-machines.md

The studies are run as their READMEs say: the training-free one with every back-end, the others with five seeds.

A table of results compares every arm with one reference by that arm's own score. A claim about a part needs another pair: the arm
with the part and the one without, both by the same score. Everything else is `auscult.evaluation`: the same resamples of the
same test clips in both arms, plain percentiles of the difference, a tie where the interval contains zero.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import pandas as pd

from auscult.errors import AuscultError, run
from auscult.evaluation.comparison import differences
from auscult.evaluation.evaluate import replicate
from auscult.files import atomic_file
from auscult.results.names import METRICS, backend_name
from auscult.results.table import plain_table
from auscult.results.text import markdown_table
from auscult.settings.project import Project

ROOT = Path(__file__).parents[1]
TABLE, PAGE = ROOT / "metrics" / "real_claims.csv", ROOT / "docs" / "real-machines.md"
PROFILE = "dcase2020_modspec"
OWN, NEAREST, EUCLIDEAN = "native", "knn_cosine", "knn_euclidean"
SHOWN = ("auc", "pauc")


class Claim(NamedTuple):
    """What is compared: (arm, back-end) with the part, and without."""

    group: str
    part: str
    arm: str
    backend: str
    other: str
    other_backend: str


def both(group: str, part: str, arm: str, other: str) -> list[Claim]:
    """The same pair of arms by their own score, and by the nearest neighbour."""
    return [Claim(group, part, arm, backend, other, backend) for backend in (OWN, NEAREST)]


ADDED, WHOLE, HEAD, SCORE, FREE, DENSITY = (
    "added to plain ArcFace", "in the whole of OS-SCL", "width of the perturbation head, against R = 64",
    "nearest neighbour instead of own score",
    "trained instead of the training-free row with the best AUC (z-scored per unit, kNN)",
    "trained instead of the training-free row with the best pAUC (logarithms, kNN with local density)",
)  # fmt: skip
CLAIMS = [
    *both(ADDED, "margin (against none)", "modspec_arcface", "modspec_softmax"),
    *both(ADDED, "mixing", "modspec_arcface_arcmix", "modspec_arcface"),
    *both(ADDED, "noisy labels (against mixing without)", "modspec_arcface_noisy", "modspec_arcface_arcmix"),
    *both(ADDED, "contrastive loss", "modspec_arcface_supcon", "modspec_arcface"),
    *both(ADDED, "perturbation head", "modspec_arcface_fph", "modspec_arcface"),
    *both(ADDED, "moving average", "modspec_arcface_ema", "modspec_arcface"),
    *both(ADDED, "all of it", "modspec_os_scl", "modspec_arcface"),
    *both(WHOLE, "margin", "modspec_os_scl", "modspec_no_arcface"),
    *both(WHOLE, "mixing with noisy labels", "modspec_os_scl", "modspec_no_mixup"),
    *both(WHOLE, "noisy labels", "modspec_os_scl", "modspec_no_label_noise"),
    *both(WHOLE, "contrastive loss", "modspec_os_scl", "modspec_no_supcon"),
    *both(WHOLE, "perturbation head", "modspec_os_scl", "modspec_no_fph"),
    *both(WHOLE, "moving average", "modspec_os_scl", "modspec_no_ema"),
    *(claim for r in (128, 32, 16, 8, 4) for claim in both(HEAD, f"R = {r}", f"modspec_fph_{r}", "modspec_os_scl")),
    *(
        Claim(SCORE, arm, arm, NEAREST, arm, OWN)
        for arm in ("modspec_softmax", "modspec_arcface", "modspec_no_supcon", "modspec_os_scl")
    ),
    *(
        Claim(group, arm, arm, NEAREST, *free)
        for group, free in ((FREE, ("modspec_log_unit", EUCLIDEAN)), (DENSITY, ("modspec_log", "ldn")))
        for arm in ("modspec_softmax", "modspec_arcface", "modspec_no_supcon", "modspec_os_scl")
    ),
]


def main() -> None:
    project = Project.open(ROOT)
    if project.paths.profile != PROFILE:
        raise AuscultError(f"the profile is `{project.paths.profile}`", "params.yaml: data.profile", f"set {PROFILE}")
    found = compared(scores(project), pd.read_parquet(project.paths.labels), project)
    with atomic_file(TABLE) as part:
        found.to_csv(part, index=False, float_format="%.2f", lineterminator="\n")
    with atomic_file(PAGE) as part:
        part.write_text(page(PAGE.read_text(encoding="utf-8")), encoding="utf-8")


def page(text: str) -> str:
    """`text` with the tables between `<!-- claims -->` and `<!-- end -->` made anew from metrics/real_claims.csv."""
    before, opened, rest = text.partition("<!-- claims -->\n")
    after = rest.partition("<!-- end -->")[2]
    return f"{before}{opened}{tables(pd.read_csv(TABLE))}<!-- end -->{after}"


def scores(project: Project) -> pd.DataFrame:
    """Scores of all arms of the claims, by the back-ends that they name."""
    wanted = {pair for claim in CLAIMS for pair in ((claim.arm, claim.backend), (claim.other, claim.other_backend))}
    parts = []
    for arm in sorted({arm for arm, _ in wanted}):
        path = project.scores_of(arm)
        if not path.is_file():
            raise AuscultError(f"there are no scores of `{arm}`", str(path), "run the studies first (top of this file)")
        table = pd.read_parquet(path)
        parts.append(table[[(arm, backend) in wanted for backend in table["backend"]]].assign(arm=arm))
    return pd.concat(parts, ignore_index=True)


def compared(table: pd.DataFrame, labels: pd.DataFrame, project: Project) -> pd.DataFrame:
    """A row per claim and metric: difference in percentage points, its interval, verdict."""
    settings = project.section("evaluate")
    result = replicate(table, labels, project.profile.rules, settings.replicates, settings.seed)
    rows = []
    for reference in dict.fromkeys((claim.other, claim.other_backend) for claim in CLAIMS):
        apart = differences(result, reference, settings.level)
        apart = apart[(apart["convention"] == "per_unit") & (apart["machine"] == "mean") & apart["metric"].isin(SHOWN)]
        for claim in (claim for claim in CLAIMS if (claim.other, claim.other_backend) == reference):
            mine = apart[(apart["arm"] == claim.arm) & (apart["backend"] == claim.backend)]
            for one in mine.itertuples():
                numbers = (one.difference, one.ci_low, one.ci_high, one.verdict)
                rows.append((CLAIMS.index(claim), *claim, one.metric, *numbers))
    columns = ["number", *Claim._fields, "metric", "difference", "low", "high", "verdict"]
    return pd.DataFrame(rows, columns=columns).sort_values(["number", "metric"]).drop(columns="number")


def tables(found: pd.DataFrame) -> str:
    """A Markdown table per group: a row per part, a column per score and metric."""
    text = []
    for group, rows in found.groupby("group", sort=False):
        columns = list(dict.fromkeys(zip(rows["backend"], rows["metric"], strict=True)))
        cells = {
            (one.part, one.backend, one.metric): words(one.difference, one.low, one.high, one.verdict)
            for one in rows.itertuples()
        }
        lines = [[part, *(cells[part, *column] for column in columns)] for part in dict.fromkeys(rows["part"])]
        heads = [f"{METRICS[metric]}, {backend_name(backend)}" for backend, metric in columns]
        text += [
            f"**{str(group)[0].upper()}{str(group)[1:]}**\n",
            *markdown_table(plain_table(["part", *heads], lines)),
            "",
        ]
    return "\n".join(text)


def words(difference: float, low: float, high: float, verdict: str) -> str:
    """
    >>> words(1.25, 0.5, 2.0, "better")
    '+1.25 [0.50, 2.00] better'
    """
    return f"{difference:+.2f} [{low:.2f}, {high:.2f}] {verdict}"


if __name__ == "__main__":
    run(main)
