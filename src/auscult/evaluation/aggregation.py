"""Numbers of one ROC group (a unit, or all units pooled) and how they are aggregated to machines and sets.

One idea carries the file: each number is an array of 1 + R values, the plain one first and then its R bootstrap
replicates. Every aggregate is applied once to the whole array, so a replicate goes through exactly the arithmetic that
the number itself went through.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from types import MappingProxyType
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from auscult.errors import AuscultError, listed
from auscult.evaluation.intervals import (
    Spread,
    debiased_pauc,
    spread_of_auc,
    spread_of_mean,
    spread_of_minimum,
    spread_of_pauc,
)
from auscult.evaluation.metrics import Floats, bootstrap_areas, harmonic_mean, stratified_weights
from auscult.settings.rules import MetricRules

log = logging.getLogger(__name__)

DOMAINS = ("source", "target")
CONVENTIONS = ("pooled", "per_unit")
AGGREGATES = ("mean", "hmean")
NO_LABELS = "no labels"
"""Why the numbers of a set are undefined when not one of its clips is labelled: a challenge that is still open."""


@dataclass(frozen=True)
class Number:
    """[1 + R] values, why they are undefined or "", and what their interval needs beside them."""

    values: Floats
    reason: str
    spread: Spread


# metric -> number, of one ROC group
Numbers = dict[str, Number]
# ROC group ("" = all units pooled, else the unit) -> numbers, of one machine; None when no clip of it was scored
Groups = dict[str, Numbers] | None
# what gave the scores: arm, back-end, training seed
Source = tuple[str, str, int]


@dataclass(frozen=True)
class Clips:
    """Test clips of one machine in the order of their ids, as every source is judged by them.

    Attributes:
        ids: [clips], each once.
        anomaly: [clips], 0 or 1, -1 = unlabelled.
        unit, domain: [clips].
        of_unit: unit -> [clips], whether a clip is of it; in the order of their names.
        weights: [clips, 1 + R], ones and how often each clip is drawn in each replicate.
        unscored: unit that nothing scored -> why.
    """

    ids: pd.Index
    anomaly: NDArray[np.int64]
    unit: NDArray[np.str_]
    domain: NDArray[np.str_]
    of_unit: Mapping[str, NDArray[np.bool_]]
    weights: NDArray[Any]
    unscored: Mapping[str, str]


def machine_groups(
    table: pd.DataFrame,
    set_name: str,
    machine: str,
    sources: list[Source],
    rules: MetricRules,
    replicates: int,
    seed: int,
    unscored: Mapping[str, str] = MappingProxyType({}),
) -> dict[Source, Groups]:
    """Numbers of every ROC group of one machine, for every (arm, back-end, seed).

    A unit that a source has no score of, though others have, or that nobody has (`unscored`: unit -> why), makes its own
    numbers and the pooled ones undefined.

    Raises:
        AuscultError: a source scored some clips of a unit, and others more of them.
    """
    clips = table.drop_duplicates("clip_id").sort_values("clip_id")
    labelled = clips["anomaly"].notna().to_numpy()
    if 0 < labelled.sum() < len(clips):
        log.warning(
            "%s/%s: %d of %d clips have no label and are left out", set_name, machine, sum(~labelled), len(clips)
        )
    scored = dict(list(table.groupby(["arm", "backend", "seed"], sort=False)))
    if not labelled.any():
        nothing = undefined_numbers(rules, replicates, NO_LABELS)
        return {source: {"": nothing, "all": nothing} if source in scored else None for source in sources}
    y = clips["anomaly"].to_numpy(dtype=np.float64, na_value=-1).astype(np.int64)
    unit, domain = clips["unit"].to_numpy(dtype=np.str_), clips["domain"].to_numpy(dtype=np.str_)
    stray = labelled & ~np.isin(domain, DOMAINS)
    if rules.domains and 0 < stray.sum() < labelled.sum():
        log.warning("%s/%s: the domain of %d labelled clips is unknown", set_name, machine, stray.sum())

    strata = [f"{set_name}/{machine}/{u}/{d}/{label}" for u, d, label in zip(unit, domain, y, strict=True)]
    drawn = stratified_weights(strata, clips["clip_id"].to_numpy(), replicates, seed)
    plain = np.ones((len(clips), 1), dtype=drawn.dtype)
    of_unit = {name: unit == name for name in np.unique(unit).tolist()}
    weights = np.concatenate([plain, drawn.T], axis=1)
    of = Clips(pd.Index(clips["clip_id"]), y, unit, domain, of_unit, weights, unscored)
    where = f"{set_name} clips of {machine}"
    return {
        source: _groups(scored[source], of, source, where, rules) if source in scored else None for source in sources
    }


def _groups(rows: pd.DataFrame, clips: Clips, source: Source, where: str, rules: MetricRules) -> dict[str, Numbers]:
    """Numbers of every ROC group of one machine by one source, whose scores are `rows`."""
    s = np.full(len(clips.ids), np.nan)
    here = np.zeros(len(clips.ids), dtype=bool)
    places = clips.ids.get_indexer(pd.Index(rows["clip_id"]))
    s[places], here[places] = rows["score"].to_numpy(dtype=np.float64), True
    gone = {unit for unit, mask in clips.of_unit.items() if not here[mask].any()}
    partly = ~here & ~np.isin(clips.unit, list(gone))
    if partly.any():
        lacking = [str(clip) for clip in clips.ids[partly]]
        raise AuscultError(
            f"{source[0]} / {source[1]} scored {here.sum()} of the {len(here)} {where} that others scored; of unit "
            f"{', '.join(np.unique(clips.unit[partly]))} it lacks clip_id:{listed(lacking, 5)}",
            fix="score the same clips with every arm and back-end",
        )
    labelled = clips.anomaly >= 0
    lacking_units = dict(clips.unscored)
    lacking_units |= {unit: "no scores" for unit in gone if labelled[clips.of_unit[unit]].any()}
    replicates = clips.weights.shape[1] - 1
    found: dict[str, Numbers] = {}
    for name in ["", *sorted({*clips.of_unit, *lacking_units})]:
        lacking = [f"unit {unit}: {why}" for unit, why in sorted(lacking_units.items()) if name in ("", unit)]
        if lacking:
            found[name] = undefined_numbers(rules, replicates, "; ".join(lacking))
        else:
            mask = labelled & clips.of_unit[name] if name else labelled
            title = f"unit {name}" if name else "the machine type"
            weights = clips.weights[mask].T
            found[name] = _group(s[mask], clips.anomaly[mask], clips.domain[mask], weights, title, rules)
    return found


def undefined_numbers(rules: MetricRules, replicates: int, reason: str) -> Numbers:
    """Every metric of a ROC group as NaN."""
    return dict.fromkeys(rules.metrics, Number(np.full(1 + replicates, np.nan), reason, Spread(np.nan, np.nan)))


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
        spreads = _spreads(s[keep], y[keep], domain[keep], areas[:, 0], rules.max_fpr)
        cells = zip(metrics, areas, spreads, strict=False)
        numbers.update({metric: Number(values, reason, spread) for metric, values, spread in cells})
    return numbers


def _spreads(s: Floats, y: NDArray[np.int64], domain: NDArray[np.str_], areas: Floats, max_fpr: float) -> list[Spread]:
    """Of AUC and pAUC (`areas`, one or both) of one ROC group."""
    anomalies = int(y.sum())
    normals = len(y) - anomalies
    if not normals or not anomalies:
        return [Spread(np.nan, np.nan)] * 2
    strata = len(np.unique(domain[y == 0])), len(np.unique(domain[y == 1]))
    spreads = [spread_of_auc(float(areas[0]), normals, anomalies, strata)]
    if len(areas) > 1:
        debiased = debiased_pauc(s, y, max_fpr)
        spreads.append(spread_of_pauc(float(areas[1]), float(areas[0]), debiased, normals, anomalies, max_fpr, strata))
    return spreads


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
        return [undefined_numbers(rules, replicates, why)]
    if convention == "pooled":
        return [groups[""]]
    return [numbers for name, numbers in groups.items() if name]


def official_score(values: ArrayLike, rules: MetricRules) -> Any:
    """Official score from the numbers `rules.parts` of ROC groups: of a machine type, or with domains of a whole set.

    With domains the harmonic mean, numbers clamped at machine epsilon. Without, the arithmetic mean of a machine type's
    numbers (and of the types' scores, for a set): the challenge ranked, the papers print this. Which groups enter, one per
    unit or one per machine type, is the convention: `per_unit` is that of the official evaluators.

    Of the scores of both sets it is what the papers print as `all`; that is not the score of the union, which with 7 types
    in one set and 9 in the other (2024) would differ.

    Args:
        values: [k] or [k, ...] fractions, k numbers. A NaN makes the score NaN.

    >>> round(float(official_score([0.6411, 0.6695], MetricRules(scheme="dcase2022"))), 4)
    0.655
    >>> official_score([0.9, 0.8], MetricRules(scheme="dcase2020")).item()
    0.8500000000000001
    """
    return harmonic_mean(values) if rules.domains else np.mean(np.asarray(values, dtype=np.float64), axis=0)


def aggregate(
    machines: Mapping[str, list[Numbers]], convention: str, rules: MetricRules
) -> dict[tuple[str, str], Number]:
    """(machine, metric) -> number, for every machine, `mean` and, with domains, `hmean`."""
    metrics = [*rules.metrics, *(["mauc"] if convention == "per_unit" else []), "official"]
    parts = {metric: (metric,) for metric in metrics} | {"mauc": ("auc",), "official": rules.parts}
    table: dict[tuple[str, str], Number] = {}
    for machine, metric in product(machines, metrics):
        cells, reason = _cells({machine: machines[machine]}, parts[metric])
        if metric == "mauc":
            values = np.stack([cell.values for cell in cells])
            spread = spread_of_minimum(values, [cell.spread for cell in cells])
            table[machine, metric] = Number(values.min(axis=0), reason, spread)
        else:
            table[machine, metric] = average(cells, reason, harmonic=metric == "official" and rules.domains)
    for metric in metrics:
        cells, reason = _cells(machines, parts[metric])
        of_machines = [table[machine, metric] for machine in machines]
        table["mean", metric] = average(of_machines, reason)
        if rules.domains:
            table["hmean", metric] = average(of_machines if metric == "mauc" else cells, reason, harmonic=True)
    if not rules.domains:
        # There the official score is the mean of AUC and pAUC: the papers' tables know it by this name.
        table |= {(machine, "mean_auc_pauc"): table[machine, "official"] for machine in [*machines, "mean"]}
    return table


def average(numbers: Sequence[Number], reason: str, harmonic: bool = False) -> Number:
    """Mean of independent numbers, arithmetic or harmonic; `reason` = why it is undefined."""
    values = np.stack([number.values for number in numbers])
    mean: Floats = harmonic_mean(values) if harmonic else values.mean(axis=0)
    return Number(mean, reason, spread_of_mean(values, [number.spread for number in numbers], harmonic))


def _cells(machines: Mapping[str, list[Numbers]], parts: Sequence[str]) -> tuple[list[Number], str]:
    """The numbers `parts` of every ROC group of `machines`, and why they are undefined."""
    cells = [(name, unit[part]) for name, of_units in machines.items() for unit in of_units for part in parts]
    reasons = [(f"{name}: " if len(machines) > 1 else "") + cell.reason for name, cell in cells if cell.reason]
    if all(cell.reason == NO_LABELS for _, cell in cells):
        reasons = [NO_LABELS]
    return [cell for _, cell in cells], "; ".join(dict.fromkeys(reasons))
