"""From scores and labels to every number of a results table, with bootstrap intervals and paired comparisons.

Two conventions are always computed, because published tables mix them (neither bounds the other):

* `pooled`: one ROC over all test clips of a machine type, all units together (code of OS-SCL and of Noisy-ArcMix);
* `per_unit`: one ROC per unit, then the arithmetic mean over units (the challenge's evaluators and most papers).

`mauc`, the lowest AUC of a machine type's units, is per unit by definition and exists under `per_unit` only, also for
the tables that print it beside pooled numbers.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from auscult.aggregation import AGGREGATES, CONVENTIONS, DOMAINS, aggregate, machine_groups, units
from auscult.errors import AuscultError, listed
from auscult.metrics import Floats
from auscult.rules import MetricRules

__all__ = ["SUMMARY_COLUMNS", "Comparison", "Key", "MetricRules", "Replicates", "best", "compare", "evaluate", "joined"]
__all__ += ["machine_order", "replicate", "summarise", "undefined"]

log = logging.getLogger(__name__)

SUMMARY_COLUMNS = ["arm", "backend", "convention", "set", "machine", "metric", "value", "ci_low", "ci_high", "seeds"]


class Key(NamedTuple):
    """What one number is about."""

    arm: str
    backend: str
    convention: str
    set: str
    machine: str
    metric: str


@dataclass(frozen=True)
class Replicates:
    """Numbers of an evaluation as fractions: plain value first, then the bootstrap replicates, [1 + R] each."""

    rules: MetricRules
    values: dict[Key, Floats] = field(default_factory=dict)
    seeds: dict[Key, int] = field(default_factory=dict)
    reasons: dict[Key, str] = field(default_factory=dict)  # why a NaN is undefined


class Comparison(NamedTuple):
    """Paired difference first - second in percentage points; `verdict` is "better", "worse", "tie" or "undefined"."""

    difference: float
    ci_low: float
    ci_high: float
    verdict: str


def evaluate(
    scores: pd.DataFrame,
    labels: pd.DataFrame,
    rules: MetricRules,
    replicates: int = 1000,
    seed: int = 0,
    level: float = 0.95,
) -> pd.DataFrame:
    """All metrics of all arms in long form, percent, with bootstrap intervals (bias-corrected percentiles, see `_interval`).

    Args:
        scores: one row per clip and back-end: clip_id, set, machine, unit, domain, backend, score (higher = more
            anomalous); optional columns `arm` and `seed` (training seed) when several are in one table.
        labels: clip_id, anomaly (0/1), domain (true one). Clips without a row, or with an empty anomaly, are unlabelled
            and take no part. A domain known here overrides the one in `scores`.
        rules: the metric rules of the data set.
        replicates: bootstrap replicates R; 0 leaves the intervals empty.
        seed: seed of the resampling. The same clip gets the same weights in every arm and in every call.
        level: coverage of the intervals.

    Returns:
        Columns `SUMMARY_COLUMNS`. `machine` also holds `mean` (arithmetic, over machine types) and, where the rules
        know domains, `hmean` (harmonic, over every unit's number, as the official evaluators; equal to the harmonic
        mean over types when each has one unit). With several seeds the value is the mean over them, and a replicate
        draws seeds as well as clips. An undefined number has an empty value; why is logged and in `undefined(result)`.

    Raises:
        AuscultError: columns missing, a clip scored twice, a NaN score, a label that is neither 0 nor 1, or back-ends
            that scored different clips of the same machine.
    """
    return summarise(replicate(scores, labels, rules, replicates, seed), level)


def replicate(
    scores: pd.DataFrame, labels: pd.DataFrame, rules: MetricRules, replicates: int = 1000, seed: int = 0
) -> Replicates:
    """The evaluation behind `evaluate`, replicates kept, for `compare` and `best`. Arguments and errors as there."""
    table = joined(scores, labels)
    sources = list(table[["arm", "backend", "seed"]].drop_duplicates().itertuples(index=False, name=None))
    result = Replicates(rules)
    runs: dict[Key, list[Floats]] = {}
    for set_name, of_set in table.groupby("set", sort=True):
        machines = _ordered(of_set["machine"].unique())
        groups = {
            machine: machine_groups(
                of_set[of_set["machine"] == machine], str(set_name), machine, sources, rules, replicates, seed
            )
            for machine in machines
        }
        for source in sources:
            if all(groups[machine][source] is None for machine in machines):
                continue  # this arm has nothing to say about this set
            for convention in CONVENTIONS:
                parts = {machine: units(groups[machine][source], convention, rules, replicates) for machine in machines}
                for (machine, metric), (value, reason) in aggregate(parts, convention, rules).items():
                    key = Key(source[0], source[1], convention, str(set_name), machine, metric)
                    runs.setdefault(key, []).append(value)
                    if reason:
                        result.reasons[key] = reason
    for key, values in runs.items():
        result.values[key] = np.einsum("sr,sr->r", _seed_draws(len(values), replicates, seed), np.stack(values))
        result.seeds[key] = len(values)
    texts = [f"{key.set}/{key.machine}: {why}" for key, why in result.reasons.items() if key.machine not in AGGREGATES]
    for text in dict.fromkeys(texts):
        log.warning("undefined metrics, %s", text)
    return result


def summarise(result: Replicates, level: float = 0.95) -> pd.DataFrame:
    """Long table (columns `SUMMARY_COLUMNS`, percent) of a `Replicates`, with intervals at `level`."""
    rows = []
    for key, values in result.values.items():
        low, high = np.clip(_interval(values, level), 0, 1)
        rows.append((*key, 100 * values[0], 100 * low, 100 * high, result.seeds[key]))
    frame = pd.DataFrame(rows, columns=SUMMARY_COLUMNS)
    frame.attrs["undefined"] = [{**key._asdict(), "reason": reason} for key, reason in result.reasons.items()]
    return frame


def undefined(summary: pd.DataFrame) -> pd.DataFrame:
    """Why values of a table made by `evaluate` are empty: the key columns and `reason`, one row per empty value."""
    return pd.DataFrame(summary.attrs.get("undefined", []), columns=[*Key._fields, "reason"])


def compare(
    result: Replicates,
    first: tuple[str, str],
    second: tuple[str, str],
    metric: str = "auc",
    convention: str = "per_unit",
    set_name: str = "dev",
    machine: str = "mean",
    level: float = 0.95,
) -> Comparison:
    """Paired bootstrap difference between two (arm, back-end) pairs of `result` on one number.

    Both are resampled with the same clip weights, so what is common to them (hard clips, an easy machine) cancels.

    Returns:
        Difference first - second in percentage points with its interval at `level`; the verdict is a tie when the
        interval contains zero, and "undefined" when either number is.

    Raises:
        AuscultError: `result` lacks one of the two numbers.
    """
    arrays = []
    for arm, backend in (first, second):
        key = Key(arm, backend, convention, set_name, machine, metric)
        if key not in result.values:
            raise AuscultError(f"nothing evaluated for {'/'.join(key)}", fix="evaluate this arm and back-end too")
        arrays.append(result.values[key])
    difference = arrays[0] - arrays[1]
    low, high = _interval(difference, level)
    if np.isnan([difference[0], low, high]).any():
        verdict = "undefined"
    elif low <= 0 <= high:
        verdict = "tie"
    else:
        verdict = "better" if low > 0 else "worse"
    return Comparison(100 * float(difference[0]), 100 * low, 100 * high, verdict)


def best(result: Replicates, level: float = 0.95) -> pd.DataFrame:
    """The best (arm, back-end) of every number, and whether it is more than a tie with any other.

    Returns:
        Columns convention, set, machine, metric, arm, backend, clear: `clear` is true when the paired interval of the
        difference to every other (arm, back-end) lies above zero. Undefined numbers take no part.
    """
    columns: dict[tuple[str, ...], list[Key]] = {}
    for key, values in result.values.items():
        if not np.isnan(values[0]):
            columns.setdefault((key.convention, key.set, key.machine, key.metric), []).append(key)
    rows = []
    for column, keys in columns.items():
        top = max(keys, key=lambda key: result.values[key][0])
        others = [result.values[top] - result.values[key] for key in keys if key != top]
        clear = bool(others) and all(_interval(other, level)[0] > 0 for other in others)
        rows.append((*column, top.arm, top.backend, clear))
    return pd.DataFrame(rows, columns=["convention", "set", "machine", "metric", "arm", "backend", "clear"])


def machine_order(machine: str) -> tuple[bool, bool, str]:
    """Sort key: lower-case types first, then upper-case ones (the papers' order for 2020), aggregates last."""
    return machine in AGGREGATES, machine[:1].isupper(), "~" if machine == "hmean" else machine.lower()


def joined(scores: pd.DataFrame, labels: pd.DataFrame) -> pd.DataFrame:
    """Scores with labels and true domains beside them, checked."""
    for name, frame, needed in (
        ("scores", scores, ["clip_id", "set", "machine", "unit", "domain", "backend", "score"]),
        ("labels", labels, ["clip_id", "anomaly", "domain"]),
    ):
        lacking = [column for column in needed if column not in frame.columns]
        if lacking:
            raise AuscultError(f"the {name} table has no column {', '.join(lacking)}")
    if labels["clip_id"].duplicated().any():
        raise AuscultError("the labels table names a clip twice")
    marks = pd.to_numeric(labels["anomaly"], errors="coerce").astype(np.float64)
    if not marks.dropna().isin((0.0, 1.0)).all() or (marks.isna() & labels["anomaly"].notna()).any():
        raise AuscultError("the labels table holds an anomaly mark that is neither 0 nor 1")
    truth = pd.DataFrame({"clip_id": labels["clip_id"], "anomaly": marks, "true_domain": labels["domain"].astype(str)})
    table = scores.assign(
        arm=scores["arm"].astype(str) if "arm" in scores else "",
        seed=scores["seed"].astype(int) if "seed" in scores else 0,
        unit=scores["unit"].astype(str),
        backend=scores["backend"].astype(str),
    ).merge(truth, on="clip_id", how="left")
    known = table["true_domain"].isin(DOMAINS)
    table["domain"] = table["true_domain"].where(known, table["domain"].astype(str))
    if table.duplicated(["arm", "backend", "seed", "set", "clip_id"]).any():
        raise AuscultError("a clip has two scores from the same arm, back-end and seed")
    bad = table[table["score"].isna()]
    if len(bad):
        places = bad[["arm", "backend", "set", "machine", "unit"]].drop_duplicates().astype(str).agg("/".join, axis=1)
        raise AuscultError(
            f"{len(bad)} scores are NaN, in:{listed(list(places))}", fix="look at the training of these arms"
        )
    return table


def _seed_draws(seeds: int, replicates: int, seed: int) -> Floats:
    """Share of each training seed [seeds, 1 + R]: equal in the plain value, drawn with replacement in a replicate."""
    rng = np.random.default_rng([seed, *b"training seeds"])
    drawn = rng.multinomial(seeds, np.full(seeds, 1 / seeds), size=replicates)
    return np.vstack([np.ones(seeds), drawn]).T / seeds


def _interval(values: Floats, level: float) -> tuple[float, float]:
    """Bias-corrected percentile interval of [1 + R] values; (NaN, NaN) without replicates or with an undefined one.

    A replicate is to the plain value what that is to the truth. If replicates lie b above the plain value on average, that
    lies about b above the truth, so the percentiles of the replicates are moved back by 2 b. For the AUC b is zero. It is
    not for a minimum over units (mAUC) nor for the few highest normals that decide the pAUC: there plain percentiles of
    an average over 24 units cover the truth 60 to 75 times out of 100 at a level of 95 %, the corrected ones 93 to 97.
    """
    plain, drawn = values[0], values[1:]
    if len(drawn) == 0 or np.isnan(values).any():
        return float("nan"), float("nan")
    low, high = np.quantile(drawn, [(1 - level) / 2, (1 + level) / 2]) - 2 * (drawn.mean() - plain)
    return float(low), float(high)


def _ordered(machines: Iterable[Any]) -> list[str]:
    return sorted((str(machine) for machine in machines), key=machine_order)
