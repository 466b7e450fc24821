"""Numbers of one ROC group (a unit, or all units pooled) and how they are aggregated to machines and sets.

One idea carries the file: each number is an array of 1 + R values, the plain one first and then its R bootstrap
replicates. Every aggregate is applied once to the whole array, so a replicate goes through exactly the arithmetic that
the number itself went through.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from auscult.errors import AuscultError, listed
from auscult.evaluation.metrics import Floats, bootstrap_areas, harmonic_mean, stratified_weights
from auscult.settings.rules import MetricRules

log = logging.getLogger(__name__)

DOMAINS = ("source", "target")
CONVENTIONS = ("pooled", "per_unit")
AGGREGATES = ("mean", "hmean")
NO_LABELS = "no labels"
"""Why the numbers of a set are undefined when not one of its clips is labelled: a challenge that is still open."""

# metric -> ([1 + R] values, why they are undefined or ""), of one ROC group
Numbers = dict[str, tuple[Floats, str]]
# ROC group ("" = all units pooled, else the unit) -> numbers, of one machine; None when no clip of it was scored
Groups = dict[str, Numbers] | None
# what gave the scores: arm, back-end, training seed
Source = tuple[str, str, int]


def machine_groups(
    table: pd.DataFrame,
    set_name: str,
    machine: str,
    sources: list[Source],
    rules: MetricRules,
    replicates: int,
    seed: int,
) -> dict[Source, Groups]:
    """Numbers of every ROC group of one machine, for every (arm, back-end, seed)."""
    clips = table.drop_duplicates("clip_id").sort_values("clip_id")
    labelled = clips["anomaly"].notna().to_numpy()
    if 0 < labelled.sum() < len(clips):
        log.warning(
            "%s/%s: %d of %d clips have no label and are left out", set_name, machine, sum(~labelled), len(clips)
        )
    scored = dict(list(table.groupby(["arm", "backend", "seed"], sort=False)))
    if not labelled.any():
        nothing = dict.fromkeys(rules.metrics, (np.full(1 + replicates, np.nan), NO_LABELS))
        return {source: {"": nothing, "all": nothing} if source in scored else None for source in sources}
    y = clips["anomaly"].to_numpy(dtype=np.float64, na_value=-1).astype(np.int64)
    unit, domain = clips["unit"].to_numpy(dtype=np.str_), clips["domain"].to_numpy(dtype=np.str_)
    stray = labelled & ~np.isin(domain, DOMAINS)
    if rules.domains and 0 < stray.sum() < labelled.sum():
        log.warning("%s/%s: the domain of %d labelled clips is unknown", set_name, machine, stray.sum())

    strata = [f"{set_name}/{machine}/{u}/{d}/{label}" for u, d, label in zip(unit, domain, y, strict=True)]
    drawn = stratified_weights(strata, clips["clip_id"].to_numpy(), replicates, seed)
    plain = np.ones((len(clips), 1), dtype=drawn.dtype)
    columns = np.concatenate([plain, drawn.T], axis=1)
    members = {"": labelled, **{name: labelled & (unit == name) for name in np.unique(unit)}}
    result: dict[Source, Groups] = {}
    for source in sources:
        if source not in scored:
            result[source] = None
            continue
        rows = scored[source]
        if len(rows) != len(clips):
            missing = sorted(set(clips["clip_id"]) - set(rows["clip_id"]))
            raise AuscultError(
                f"{source[0]} / {source[1]} scored {len(rows)} of the {len(clips)} {set_name} clips of {machine} that "
                f"others scored; missing clip_id:{listed([str(clip) for clip in missing], 5)}",
                fix="score the same clips with every arm and back-end",
            )
        s = rows.sort_values("clip_id")["score"].to_numpy(dtype=np.float64)
        result[source] = {
            name: _group(
                s[mask], y[mask], domain[mask], columns[mask].T, f"unit {name}" if name else "the machine type", rules
            )
            for name, mask in members.items()
        }
    return result


def _group(
    s: Floats, y: NDArray[np.int64], domain: NDArray[np.str_], weights: NDArray[Any], name: str, rules: MetricRules
) -> Numbers:
    """Every metric of one ROC group (a unit, or all units pooled)."""
    subsets: dict[str, tuple[NDArray[np.bool_], tuple[str, ...]]] = {"": (np.ones(len(y), dtype=bool), ("auc", "pauc"))}
    for side in DOMAINS if rules.domains else ():
        here = domain == side
        if rules.scheme == "dcase2021":
            subsets[side] = (here, (f"auc_{side}", f"pauc_{side}"))
        else:
            subsets[side] = (here | (y == 1), (f"auc_{side}",))
    numbers: Numbers = {}
    for side, (keep, metrics) in subsets.items():
        limits = (1.0, rules.max_fpr)[: len(metrics)]
        areas = bootstrap_areas(s[keep], y[keep], weights.T[keep].T, limits)
        reason = _lack(y[keep], side, name, rules)
        numbers.update({metric: (values, reason) for metric, values in zip(metrics, areas, strict=True)})
    return numbers


def _lack(y: NDArray[np.int64], side: str, name: str, rules: MetricRules) -> str:
    """Which class a ROC group lacks, in words; "" when it has both."""
    if len(y) == 0:
        return f"{name} has no labelled {side + ' ' if side else ''}clips"
    if not (y == 0).any():
        return f"{name} has no {side + ' ' if side else ''}normal clips"
    if not (y == 1).any():
        return f"{name} has no {side + ' ' if side and rules.scheme == 'dcase2021' else ''}anomalies"
    return ""


def units(
    groups: Groups, convention: str, rules: MetricRules, replicates: int, why: str = "no scores"
) -> list[Numbers]:
    """ROC groups of one machine under a convention; a machine that was not scored (`why`) is one undefined group."""
    if groups is None:
        return [{metric: (np.full(1 + replicates, np.nan), why) for metric in rules.metrics}]
    if convention == "pooled":
        return [groups[""]]
    return [numbers for name, numbers in groups.items() if name]


def official_score(values: ArrayLike, rules: MetricRules) -> Any:
    """Official score from the numbers `rules.parts` of ROC groups: of a machine type, or with domains of a whole set.

    With domains the harmonic mean, numbers clamped at machine epsilon. Without, the arithmetic mean of a machine type's
    numbers (and of the types' scores, for a set): the challenge ranked, the papers print this. Which groups enter, one per
    unit or one per machine type, is the convention: `per_unit` is that of the official evaluators.

    Args:
        values: [k] or [k, ...] fractions, k numbers. A NaN makes the score NaN.
    """
    return harmonic_mean(values) if rules.domains else np.mean(np.asarray(values, dtype=np.float64), axis=0)


def of_both_sets(dev: ArrayLike, evaluation: ArrayLike, rules: MetricRules) -> Any:
    """What the papers print as `all`: the mean of the two sets' scores, harmonic in the years with domains.

    Neither is the score of the union: with 7 types in one set and 9 in the other (2024) that would differ.
    """
    if rules.domains:
        return harmonic_mean(np.stack([np.asarray(dev), np.asarray(evaluation)]))
    return (np.asarray(dev) + np.asarray(evaluation)) / 2


def aggregate(
    machines: Mapping[str, list[Numbers]], convention: str, rules: MetricRules
) -> dict[tuple[str, str], tuple[Floats, str]]:
    """(machine, metric) -> (values, reason) for every machine, `mean` and, with domains, `hmean`."""
    table: dict[tuple[str, str], tuple[Floats, str]] = {}

    def stack(names: Iterable[str], parts: Iterable[str]) -> tuple[Floats, str]:
        cells = [(name, unit[part]) for name in names for unit in machines[name] for part in parts]
        several = len({name for name, _ in cells}) > 1
        reasons = [(f"{name}: " if several else "") + reason for name, (_, reason) in cells if reason]
        if all(reason == NO_LABELS for _, (_, reason) in cells):
            reasons = [NO_LABELS]
        return np.stack([values for _, (values, _) in cells]), "; ".join(dict.fromkeys(reasons))

    metrics = [*rules.metrics, *(["mauc"] if convention == "per_unit" else []), "official"]
    needs = {metric: {"mauc": ("auc",), "official": rules.parts}.get(metric, (metric,)) for metric in metrics}
    for machine in machines:
        for metric in metrics:
            values, reason = stack([machine], needs[metric])
            if metric == "mauc":
                value = values.min(axis=0)
            elif metric == "official":
                value = official_score(values, rules)
            else:
                value = values.mean(axis=0)
            table[machine, metric] = (value, reason)
    for metric in metrics:
        values, reason = stack(machines, needs[metric])
        per_machine = np.stack([table[machine, metric][0] for machine in machines])
        table["mean", metric] = (per_machine.mean(axis=0), reason)
        if rules.domains:
            table["hmean", metric] = (harmonic_mean(per_machine if metric == "mauc" else values), reason)
    if (
        not rules.domains
    ):  # there the official score is the mean of AUC and pAUC: the papers' tables know it by this name
        table |= {(machine, "mean_auc_pauc"): table[machine, "official"] for machine in [*machines, "mean"]}
    return table
