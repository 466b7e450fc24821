"""How often the intervals of the tables hold the true number, and how often equal systems are called better or worse.

    PYTHONPATH=src python benchmarks/coverage.py            # some minutes on two cores; writes the table of docs/scores.md
    PYTHONPATH=src python benchmarks/coverage.py --quick    # seconds, to the screen alone

Scores are drawn from distributions whose AUC and pAUC are known, and evaluated as the tables are (`evaluation.evaluate`). Seeds
are fixed: the same machine gives the same table. Written are the mean, lowest and highest share over all distributions.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.stats import norm, t

from auscult.evaluation.comparison import differences
from auscult.evaluation.evaluate import Key, Replicates, replicate, summarise
from auscult.evaluation.intervals import percentiles
from auscult.evaluation.metrics import Floats, harmonic_mean
from auscult.settings.rules import MetricRules

PAGE = Path(__file__).parents[1] / "docs" / "scores.md"
LEVEL = 0.95
DESIGNS = {  # machine types, units of each, clips of each class and unit, samples
    "24 units x (8 + 8)": (6, 4, 8, 300),
    "24 units x (100 + 100)": (6, 4, 100, 80),
    "1 unit x (50 + 50)": (1, 1, 50, 300),
    "1 unit x (200 + 200)": (1, 1, 200, 300),
}
METRICS = {
    "auc": "AUC",
    "pauc": "pAUC",
    "mauc": "mAUC",
    "mean_auc_pauc": "mean of AUC and pAUC",
    "official": "official 2022",
}


@dataclass(frozen=True)
class Scores:
    """Distributions of the scores of normal clips and anomalies.

    Attributes:
        normal, anomaly: (random numbers, count) -> scores.
        rate: false positive rates -> true positive rates.
    """

    normal: Callable[[np.random.Generator, int], Floats]
    anomaly: Callable[[np.random.Generator, int], Floats]
    rate: Callable[[Floats], Floats]

    def truth(self, max_fpr: float = 0.1) -> tuple[float, float]:
        """AUC and standardised pAUC."""
        middle = (np.arange(100_000) + 0.5) / 100_000
        area = max_fpr * float(self.rate(max_fpr * middle).mean())
        lowest = max_fpr**2 / 2
        return float(self.rate(middle).mean()), 0.5 * (1 + (area - lowest) / (max_fpr - lowest))


def standard(rng: np.random.Generator, count: int) -> Floats:
    return rng.standard_normal(count)


def two_normals(auc: float, slope: float = 1.0) -> Scores:
    """Normal distributions; that of anomalies is `slope` times as wide."""
    distance = float(norm.ppf(auc)) * np.sqrt(1 + slope**2)
    return Scores(
        standard,
        lambda rng, count: distance + slope * rng.standard_normal(count),
        lambda rate: norm.sf((norm.isf(rate) - distance) / slope),
    )


def heavy_tails(distance: float) -> Scores:
    """Student's t with three degrees of freedom."""
    return Scores(
        lambda rng, count: rng.standard_t(3, count),
        lambda rng, count: distance + rng.standard_t(3, count),
        lambda rate: t.sf(t.isf(rate, 3) - distance, 3),
    )


def half_alike() -> Scores:
    """Every second anomaly sounds like a normal clip."""
    return Scores(
        standard,
        lambda rng, count: rng.standard_normal(count) + 4.0 * (rng.random(count) < 0.5),
        lambda rate: (norm.sf(norm.isf(rate) - 4.0) + rate) / 2,
    )


def distributions(units: int) -> dict[str, list[Scores]]:
    """Name -> the scores of each unit."""
    found = {f"normal, AUC {auc}": [two_normals(auc)] * units for auc in (0.6, 0.8, 0.9, 0.98, 0.995)}
    found |= {f"normal, slope {slope}": [two_normals(0.8, slope)] * units for slope in (0.5, 2.0)}
    found |= {"heavy tails": [heavy_tails(2.0)] * units, "half of the anomalies alike": [half_alike()] * units}
    if units > 1:
        aucs = 0.6 + 0.39 * np.random.default_rng(1).permutation(units) / (units - 1)
        found["units that differ"] = [two_normals(float(auc)) for auc in aucs]
    return found


# ---------------------------------------------------------------------------------------------------------------- one study
def clips(types: int, units: int, each: int, domains: bool) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Test clips without scores, and their labels; with domains, half of each class and unit is of the target domain."""
    rows = [(f"m{m}", f"{u:02d}", i) for m in range(types) for u in range(units) for i in range(2 * each)]
    table = pd.DataFrame(rows, columns=["machine", "unit", "i"]).assign(set="dev", backend="native")
    table["clip_id"] = np.arange(len(table))
    table["domain"] = np.where(table["i"] % 2 == 0, "source", "target") if domains else "unknown"
    table["anomaly"] = (table["i"] >= each).astype(int)
    return table.drop(columns=["i", "anomaly"]), table[["clip_id", "anomaly", "domain"]]


def draw(rng: np.random.Generator, of_units: list[Scores], each: int) -> Floats:
    return np.concatenate([part for one in of_units for part in (one.normal(rng, each), one.anomaly(rng, each))])


def true_numbers(of_units: list[Scores], types: int) -> dict[str, float]:
    aucs, paucs = np.array([one.truth() for one in of_units]).T
    return {
        "auc": float(aucs.mean()),
        "pauc": float(paucs.mean()),
        "mauc": float(aucs.reshape(types, -1).min(axis=1).mean()),
        "mean_auc_pauc": float((aucs.mean() + paucs.mean()) / 2),
        "official": float(harmonic_mean(np.concatenate([aucs, aucs, paucs]))),
    }


def batches(
    of_units: list[Scores], design: tuple[int, int, int, int], systems: int, scheme: str, replicates: int
) -> Iterator[Replicates]:
    """Evaluations of samples of the design, some at a time as if they were arms; `systems` = 2: pairs of equal systems."""
    types, units, each, samples = design
    rng = np.random.default_rng(7)
    rules = MetricRules(scheme=scheme)  # type: ignore[arg-type]
    table, labels = clips(types, units, each, rules.domains)
    for start in range(0, samples, 20):
        parts = []
        for sample in range(start, min(start + 20, samples)):
            common = draw(rng, of_units, each)
            scores = common
            for system in range(systems):
                if systems > 1:  # what both score alike, and what each adds
                    scores = common + 0.7 * rng.standard_normal(len(common))
                parts.append(table.assign(arm=f"{sample}", backend="ab"[system], score=scores))
        yield replicate(pd.concat(parts, ignore_index=True), labels, rules, replicates, seed=start)


def coverage(name: str, design: tuple[int, int, int, int], replicates: int) -> dict[str, tuple[float, float]]:
    """Metric -> share of samples whose interval holds the truth, and the same of plain percentiles."""
    types, units, _, _ = design
    of_units = distributions(types * units)[name]
    truth = true_numbers(of_units, types)
    hits: dict[str, list[tuple[bool, bool]]] = {metric: [] for metric in METRICS}
    for scheme, machine in (("dcase2020", "mean"), ("dcase2022", "hmean")):
        metrics = [metric for metric in METRICS if (metric == "official") == (scheme == "dcase2022")]
        for result in batches(of_units, design, 1, scheme, replicates):
            rows = summarise(result, LEVEL)
            rows = rows[
                (rows["convention"] == "per_unit") & (rows["machine"] == machine) & rows["metric"].isin(metrics)
            ]
            values = [result.values[Key(*row[:6])] for row in rows.itertuples(index=False)]
            for row, (low, high) in zip(rows.itertuples(index=False), percentiles(values, LEVEL), strict=True):
                true = truth[str(row.metric)]
                inside = (row.ci_low <= 100 * true <= row.ci_high, low <= true <= high)
                hits[str(row.metric)].append(inside)
    shares = {metric: np.mean(found, axis=0) for metric, found in hits.items()}
    return {metric: (float(ours), float(plain)) for metric, (ours, plain) in shares.items()}


def false_alarms(name: str, design: tuple[int, int, int, int], replicates: int) -> dict[str, float]:
    """Metric -> share of pairs of equal systems that are called better or worse."""
    types, units, _, _ = design
    verdicts: dict[str, list[bool]] = {}
    for result in batches(distributions(types * units)[name], design, 2, "dcase2020", replicates):
        for arm in dict.fromkeys(key.arm for key in result.values):
            of = Replicates(result.rules, {key: values for key, values in result.values.items() if key.arm == arm})
            rows = differences(of, (arm, "a"), LEVEL)
            for row in rows[(rows["convention"] == "per_unit") & (rows["machine"] == "mean")].itertuples(index=False):
                if row.metric in METRICS and row.metric != "official":
                    verdicts.setdefault(str(row.metric), []).append(row.verdict != "tie")
    return {metric: float(np.mean(found)) for metric, found in verdicts.items()}


# --------------------------------------------------------------------------------------------------------------- the tables
def percent(shares: list[float]) -> str:
    """Mean, and in brackets the lowest and the highest."""
    mean, low, high = (round(100 * share) for share in (float(np.mean(shares)), min(shares), max(shares)))
    return f"{mean} ({low} to {high})"


def tables(quick: bool, workers: int) -> str:
    replicates = 100 if quick else 400
    designs = {name: (*design[:3], 20 if quick else design[3]) for name, design in DESIGNS.items()}
    if quick:
        designs = {name: design for name, design in designs.items() if design[2] < 100}
    jobs = [(label, name) for label, (types, units, _, _) in designs.items() for name in distributions(types * units)]
    pairs = [name for name in distributions(24) if not quick or name == "normal, AUC 0.8"]
    with ProcessPoolExecutor(workers) as pool:
        covered = list(pool.map(partial(_coverage, designs, replicates), jobs))
        alarms = list(
            pool.map(partial(false_alarms, design=designs["24 units x (8 + 8)"], replicates=replicates), pairs)
        )
    lines = ["| test clips (normal + anomalous) | interval | " + " | ".join(METRICS.values()) + " |"]
    lines.append("|---" * (2 + len(METRICS)) + "|")
    for label in designs:
        found = [one for job, one in zip(jobs, covered, strict=True) if job[0] == label]
        for place, form in enumerate(("of the tables", "plain percentiles")):
            cells = [percent([one[metric][place] for one in found]) for metric in METRICS]
            lines.append(f"| {label if place == 0 else ''} | {form} | {' | '.join(cells)} |")
    lines += ["", "Equal systems, 24 units x (8 + 8), called better or worse (nominally 5):", ""]
    names = [metric for metric in METRICS if metric != "official"]
    lines += ["| | " + " | ".join(METRICS[metric] for metric in names) + " |", "|---" * (1 + len(names)) + "|"]
    lines.append("| share, % | " + " | ".join(percent([one[metric] for one in alarms]) for metric in names) + " |")
    return "\n".join(lines)


def _coverage(
    designs: dict[str, tuple[int, int, int, int]], replicates: int, job: tuple[str, str]
) -> dict[str, tuple[float, float]]:
    label, name = job
    return coverage(name, designs[label], replicates)


def write(page: Path, text: str) -> None:
    """Put the tables between the marks of the page."""
    marks = "<!-- coverage: benchmarks/coverage.py -->", "<!-- end of coverage -->"
    pattern = re.escape(marks[0]) + ".*?" + re.escape(marks[1])
    new, count = re.subn(pattern, lambda _: f"{marks[0]}\n\n{text}\n\n{marks[1]}", page.read_text(), flags=re.S)
    if count != 1:
        raise SystemExit(f"{page} has no place for the table")
    page.write_text(new)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="few samples of the smaller designs")
    parser.add_argument("--page", type=Path, help="page to write to (default: docs/scores.md; with --quick none)")
    parser.add_argument("--workers", type=int, default=2)
    arguments = parser.parse_args()
    text = tables(arguments.quick, arguments.workers)
    print(text)
    page = arguments.page if arguments.page or arguments.quick else PAGE
    if page:
        write(page, text)


if __name__ == "__main__":
    main()
