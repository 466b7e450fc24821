"""From scores and labels to every number of a results table, with bootstrap intervals.

Two conventions are always computed, because published tables mix them (neither bounds the other):

* `pooled`: one ROC over all test clips of a machine type, all units together (code of OS-SCL and of Noisy-ArcMix);
* `per_unit`: one ROC per unit, then the arithmetic mean over units (the challenge's evaluators and most papers).

`mauc`, the lowest AUC of a machine type's units, is per unit by definition and exists under `per_unit` only, also for
the tables that print it beside pooled numbers. `mean_auc_pauc`, half the sum of AUC and pAUC, exists where there are no
domains.

The official score follows the convention as every other number does: `official` under `per_unit` is the challenge's own,
under `pooled` that of a paper that pools the sections of a machine type. Of both sets together, set `all`, there is one
number per convention, formed as the papers do: the mean of the two averages over types of `mean_auc_pauc`, and with
domains the harmonic mean of the two sets' official scores.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from auscult.errors import AuscultError, listed
from auscult.evaluation.aggregation import (
    AGGREGATES,
    CONVENTIONS,
    DOMAINS,
    Groups,
    Number,
    Source,
    aggregate,
    average,
    machine_groups,
    units,
)
from auscult.evaluation.intervals import Spread, intervals, spread_of_seeds
from auscult.evaluation.metrics import Floats
from auscult.settings.rules import MetricRules

log = logging.getLogger(__name__)

SUMMARY_COLUMNS = ["arm", "backend", "convention", "set", "machine", "metric", "value", "ci_low", "ci_high", "seeds"]
SUMMARY_COLUMNS += ["std", "few_clips"]


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
    runs: dict[Key, Floats] = field(default_factory=dict)  # plain value of every training seed, [seeds]
    reasons: dict[Key, str] = field(default_factory=dict)  # why a NaN is undefined
    spreads: dict[Key, Spread] = field(default_factory=dict)  # what an interval needs beside the replicates
    unscored: int = 0  # labelled clips that nothing scored


def evaluate(
    scores: pd.DataFrame,
    labels: pd.DataFrame,
    rules: MetricRules,
    replicates: int = 1000,
    seed: int = 0,
    level: float = 0.95,
) -> pd.DataFrame:
    """All metrics of all arms in long form, percent, with bootstrap intervals (see intervals.py).

    Args:
        scores: one row per clip and back-end: clip_id, set, machine, unit, domain, backend, score (higher = more
            anomalous); optional columns `arm` and `seed` (training seed) when several are in one table.
        labels: clip_id, anomaly (0/1), domain (true one). Clips without a row, or with an empty anomaly, are unlabelled
            and take no part. A domain known here overrides the one in `scores`. With optional columns `machine`, `unit` (and
            `set`), a unit that nothing scored makes the averages over it undefined (with `set`, a machine type too);
            without, its clips are counted in a warning.
        rules: the metric rules of the data set.
        replicates: bootstrap replicates R; 0 leaves the intervals empty.
        seed: seed of the resampling. The same clip gets the same weights in every arm and in every call.
        level: coverage of the intervals.

    Returns:
        Columns `SUMMARY_COLUMNS`. `machine` also holds `mean` (arithmetic, over machine types) and, where the rules
        know domains, `hmean` (harmonic, over every unit's number, as the official evaluators; equal to the harmonic
        mean over types when each has one unit). With several seeds the value is the mean over them, `std` their sample
        standard deviation (empty for one seed), and a replicate draws seeds as well as clips, so that the interval is
        about both; of few seeds n it is too narrow by up to sqrt(1 - 1/n). An undefined number has an empty value;
        why is logged and in `undefined(result)`. An arm that lacks a machine, or a unit of one, which others have, has no
        average. A set or machine without labels, beside others that have some, is undefined (`NO_LABELS`); without a single
        label there are no rows. `few_clips` marks intervals of ROC groups so small that simulation does not vouch for them.

    Raises:
        AuscultError: columns missing, a clip scored twice, a NaN score, a label that is neither 0 nor 1, or back-ends
            that scored different clips of the same unit.
    """
    return summarise(replicate(scores, labels, rules, replicates, seed), level)


def replicate(
    scores: pd.DataFrame,
    labels: pd.DataFrame,
    rules: MetricRules,
    replicates: int = 1000,
    seed: int = 0,
    absent: Mapping[tuple[str, str], str] | None = None,
) -> Replicates:
    """The evaluation behind `evaluate`, replicates kept, for the paired differences of comparison.py.

    Args:
        absent: (arm, machine, or "all" for every machine) -> why it has no scores, for the reasons of undefined numbers.

    Other arguments and errors as for `evaluate`.
    """
    table = joined(scores, labels)
    sources = list(table[["arm", "backend", "seed"]].drop_duplicates().itertuples(index=False, name=None))
    lacking = unscored_units(scores, labels)
    unscored = int((labels["anomaly"].notna() & ~labels["clip_id"].isin(scores["clip_id"])).sum())
    result = Replicates(rules, unscored=unscored)
    if len(table) and table["anomaly"].isna().all():
        log.warning("not one of %d clips has a label: there is nothing to evaluate", table["clip_id"].nunique())
        return result
    if unscored:
        names = listed([" ".join(name) for name in lacking]) if lacking else ""
        log.warning("%d labelled clips have no score by anything and enter no number%s", unscored, names)
    runs: dict[Key, dict[int, Number]] = {}
    for set_name, of_set in table.groupby("set", sort=True):
        nobodys = {name for of, name, _ in lacking if of == set_name}
        machines = _ordered({*of_set["machine"].astype(str), *nobodys})
        groups: dict[str, dict[Source, Groups]] = {}
        for machine in machines:
            nowhere = {unit: "no scores" for of, name, unit in lacking if of in ("", set_name) and name == machine}
            rows = of_set[of_set["machine"] == machine]
            if not len(rows):  # a machine type that has labels, and that nothing scored
                groups[machine] = dict.fromkeys(sources)
                continue
            groups[machine] = machine_groups(rows, str(set_name), machine, sources, rules, replicates, seed, nowhere)
        for source, convention in product(sources, CONVENTIONS):
            if all(groups[machine][source] is None for machine in machines):
                continue  # this arm has nothing to say about this set
            parts = {}
            for machine in machines:
                why = _why(absent or {}, source[0], machine)
                parts[machine] = units(groups[machine][source], convention, rules, replicates, why)
            for (machine, metric), number in aggregate(parts, convention, rules).items():
                key = Key(source[0], source[1], convention, str(set_name), machine, metric)
                runs.setdefault(key, {})[source[2]] = number
    which = ("hmean", "official") if rules.domains else ("mean", "mean_auc_pauc")
    for source, convention in product(sources, CONVENTIONS):
        keys = [Key(source[0], source[1], convention, name, *which) for name in ("dev", "eval")]
        if all(source[2] in runs.get(key, {}) for key in keys):
            both = [runs[key][source[2]] for key in keys]
            reasons = [f"{key.set}: {one.reason}" for key, one in zip(keys, both, strict=True) if one.reason]
            number = average(both, "; ".join(reasons), harmonic=rules.domains)
            runs.setdefault(keys[0]._replace(set="all"), {})[source[2]] = number
    draws: dict[tuple[int, ...], Floats] = {}
    for key, of_seed in runs.items():
        seeds = tuple(sorted(of_seed))
        values = np.stack([of_seed[number].values for number in seeds])
        if seeds not in draws:
            draws[seeds] = _seed_draws(seeds, replicates, seed)
        result.values[key] = np.einsum("sr,sr->r", draws[seeds], values)
        result.runs[key] = values[:, 0]
        result.spreads[key] = spread_of_seeds([of_seed[number].spread for number in seeds])
        why_of = {number: of_seed[number].reason for number in seeds if of_seed[number].reason}
        if why_of:
            result.reasons[key] = _of_seeds(why_of, len(seeds))
    texts = [f"{key.set}/{key.machine}: {why}" for key, why in result.reasons.items() if key.machine not in AGGREGATES]
    for text in dict.fromkeys(texts):
        log.warning("undefined metrics, %s", text)
    return result


def summarise(result: Replicates, level: float = 0.95) -> pd.DataFrame:
    """Long table (columns `SUMMARY_COLUMNS`, percent) of a `Replicates`, with intervals at `level`."""
    rows = []
    bounds = 100 * intervals(list(result.values.values()), [result.spreads[key] for key in result.values], level)
    for (key, values), (low, high) in zip(result.values.items(), bounds, strict=True):
        of_seeds = 100 * result.runs[key]
        std = float(np.std(of_seeds, ddof=1)) if len(of_seeds) > 1 else np.nan
        rows.append((*key, 100 * values[0], low, high, len(of_seeds), std, result.spreads[key].few))
    frame = pd.DataFrame(rows, columns=SUMMARY_COLUMNS)
    frame.attrs["unscored"] = result.unscored
    frame.attrs["undefined"] = [{**key._asdict(), "reason": reason} for key, reason in result.reasons.items()]
    return frame


def undefined(summary: pd.DataFrame) -> pd.DataFrame:
    """Why values of a table made by `evaluate` are empty: the key columns and `reason`, one row per empty value."""
    return pd.DataFrame(summary.attrs.get("undefined", []), columns=[*Key._fields, "reason"])


def machine_order(machine: str) -> tuple[bool, bool, str]:
    """Sort key: lower-case types first, then upper-case ones (the papers' order for 2020), aggregates last.

    >>> sorted(["mean", "ToyCar", "valve", "fan"], key=machine_order)
    ['fan', 'valve', 'ToyCar', 'mean']
    """
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


def unscored_units(scores: pd.DataFrame, labels: pd.DataFrame) -> list[tuple[str, str, str]]:
    """(set or "", machine, unit) that have labels but not one score, where the labels say of which unit a clip is.

    >>> labels = pd.DataFrame({"clip_id": [1, 2], "machine": "fan", "unit": ["00", "02"], "anomaly": 0})
    >>> unscored_units(pd.DataFrame({"set": ["dev"], "machine": ["fan"], "unit": ["00"]}), labels)
    [('', 'fan', '02')]
    """
    if not {"machine", "unit"} <= set(labels.columns):
        return []
    columns = [name for name in ("set", "machine", "unit") if name in labels.columns]
    known = set(scores[columns].astype(str).itertuples(index=False, name=None))
    told = labels.loc[labels["anomaly"].notna(), columns].astype(str).drop_duplicates()
    lacking = sorted(set(told.itertuples(index=False, name=None)) - known)
    return [("", *name) if len(columns) == 2 else name for name in lacking]


def _why(absent: Mapping[tuple[str, str], str], arm: str, machine: str) -> str:
    return absent.get((arm, machine)) or absent.get((arm, "all")) or "no scores"


def _of_seeds(reasons: Mapping[int, str], seeds: int) -> str:
    """One text for the reasons of several seeds; the seeds are named when not all of them share it."""
    shared = list(dict.fromkeys(reasons.values()))
    if len(shared) == 1 and len(reasons) == seeds:
        return shared[0]
    return "; ".join(f"seed {seed}: {reason}" for seed, reason in sorted(reasons.items()))


def _seed_draws(seeds: Sequence[int], replicates: int, seed: int) -> Floats:
    """Share of each training seed [seeds, 1 + R]: equal in the plain value, drawn with replacement in a replicate.

    Arms trained with the same seeds get the same draws, so that what a seed does to both (an easy split, a lucky order)
    cancels in their difference; draws for different sets of seeds are independent.
    """
    rng = np.random.default_rng([seed, *f"training seeds {list(seeds)}".encode()])
    drawn = rng.multinomial(len(seeds), np.full(len(seeds), 1 / len(seeds)), size=replicates)
    return np.vstack([np.ones(len(seeds)), drawn]).T / len(seeds)


def _ordered(machines: Iterable[Any]) -> list[str]:
    return sorted((str(machine) for machine in machines), key=machine_order)
