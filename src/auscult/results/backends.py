"""Every arm under every back-end of the sweep: a summary, a table and a heat map.

The number is the profile's headline: the official score with domains, the mean of AUC and pAUC without. All others, and
the further native scores that some arms have, stand in summary.csv.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from auscult.evaluation.aggregation import CONVENTIONS
from auscult.evaluation.evaluate import SUMMARY_COLUMNS, Key, replicate, summarise, undefined
from auscult.evaluation.metrics import Floats
from auscult.files import atomic_folder
from auscult.results.arms import ArmFiles, skipped
from auscult.results.cells import SETS
from auscult.results.choice import Choice, choice_table, choices
from auscult.results.figures import heat_panel, panels, say
from auscult.results.names import BACKEND_NOTES, METRICS, UNKNOWN, backend_name, set_name
from auscult.results.results import NOT_RUN, all_scores, arm_remarks
from auscult.results.stale import backends_settings, write_record
from auscult.results.table import Cell, Column, Document, Row, Table, number
from auscult.results.tables import FEW, UNLABELLED, caption_of
from auscult.results.text import latex, markdown
from auscult.scoring.fusion import ensemble
from auscult.settings.profile import Profile
from auscult.settings.rules import MetricRules
from auscult.settings.schema import BackendSweep, Evaluate


def write_backends(
    profile: Profile, evaluate: Evaluate, sweep: BackendSweep, arms: Mapping[str, ArmFiles], labels: Path, out: Path
) -> None:
    """Evaluate all arms under all back-ends and write summary.csv, table.{csv,md,tex}, heatmap.png and choice.csv.

    Args:
        profile: whose rules and name the results carry.
        evaluate: level and seed; the number of replicates is the sweep's own.
        sweep: its back-ends are the columns, those ensembles whose arms are all here are further rows.
        arms: arm -> its files, `scores` being its table of the sweep; in the order of the rows. One without scores
            keeps its row, which says why.
        labels: parquet of clip_id, set, machine, unit, anomaly, domain.
        out: folder, replaced as a whole.

    Raises:
        AuscultError: no arm has any scores, or they cannot be evaluated.
    """
    absent = skipped(arms)
    folders = list(dict.fromkeys(files.scores.parent for files in arms.values()))
    record = partial(
        write_record, settings=backends_settings(profile, evaluate, sweep, arms), scores=folders, digests=True
    )
    if arms and all((arm, "all") in absent for arm in arms):
        remarks = {arm: absent[arm, "all"] for arm in arms}
        _write(pd.DataFrame(columns=SUMMARY_COLUMNS), Report([*arms], [], remarks), profile, sweep, out, record)
        return
    scores = all_scores(arms, absent)
    remarks = arm_remarks(arms, scores, absent)
    parts = [scores]
    ensembles = {name: one for name, one in sweep.ensembles.items() if set(one.arms) <= set(arms)}
    for name, settings in ensembles.items():
        lacking = [arm for arm in settings.arms if arm not in set(scores["arm"])]
        if lacking:
            absent[name, "all"] = f"not formed: no scores of {', '.join(lacking)}"
            continue
        members = [scores[scores["arm"] == arm] for arm in settings.arms]
        parts.append(ensemble(members, settings.backend, settings.how).assign(arm=name))
        what = "mean of the ranks" if settings.how == "rank" else f"{settings.how} of the standardised scores"
        remarks[name] = f"{what} of {', '.join(settings.arms)}"
    scores = pd.concat(parts, ignore_index=True).drop(columns=["standardised", "rank"])
    truth = pd.read_parquet(labels)
    summary = summarise(
        replicate(scores, truth, profile.rules, sweep.replicates, evaluate.seed, absent), evaluate.level
    )
    backends = [name for name in sweep.sweep if (scores["backend"] == name).any()]
    rows = [*arms, *ensembles]
    for name in rows:
        if not (scores["arm"] == name).any():
            remarks[name] = absent.get((name, "all")) or remarks.get(name) or "; ".join(_of(absent, name)) or NOT_RUN
    why = undefined(summary)
    reasons = {Key(*row[:-1]): str(row[-1]) for row in why[[*Key._fields, "reason"]].itertuples(index=False)}
    picks = choices(arms, headline(summary, profile.rules), sweep)
    _write(summary, Report(rows, backends, remarks, reasons, evaluate.level, picks), profile, sweep, out, record)


@dataclass(frozen=True)
class Report:
    """Rows and columns, and what is said of them: arm -> remark, number -> why it is undefined, choices."""

    arms: Sequence[str]
    backends: Sequence[str]
    remarks: Mapping[str, str]
    reasons: Mapping[Key, str] = field(default_factory=dict)
    level: float = 0.95
    choices: Sequence[Choice] = ()


def _write(
    summary: pd.DataFrame, report: Report, profile: Profile, sweep: BackendSweep, out: Path,
    record: Callable[[Path], None],
) -> None:  # fmt: skip
    table = headline(summary, profile.rules)
    document = backend_document(table, report, sweep, profile.name)
    with atomic_folder(out) as part:
        record(part)
        # Without domains `official` is `mean_auc_pauc` by another name; this file is large enough.
        kept = summary if profile.rules.domains else summary[summary["metric"] != "official"]
        kept.to_csv(part / "summary.csv", index=False, float_format="%.2f", lineterminator="\n")
        table.to_csv(part / "table.csv", index=False, float_format="%.4f", lineterminator="\n")
        if report.choices:
            pd.DataFrame(report.choices).to_csv(
                part / "choice.csv", index=False, float_format="%.4f", lineterminator="\n"
            )
        (part / "table.md").write_text(markdown(document), encoding="utf-8")
        (part / "table.tex").write_text(latex(document), encoding="utf-8")
        plot_heatmap(table, part / "heatmap.png", list(report.arms), list(report.backends), report.remarks)


def _of(absent: Mapping[tuple[str, str], str], arm: str) -> list[str]:
    return list(dict.fromkeys(reason for (name, _), reason in absent.items() if name == arm))


def headline(summary: pd.DataFrame, rules: MetricRules) -> pd.DataFrame:
    """The rows of `summary` that hold the profile's headline number."""
    metric, machine = ("official", "hmean") if rules.domains else ("mean_auc_pauc", "mean")
    return summary[(summary["metric"] == metric) & (summary["machine"] == machine)].reset_index(drop=True)


def plot_heatmap(
    table: pd.DataFrame, path: Path, arms: list[str], backends: list[str], remarks: Mapping[str, str]
) -> None:
    """Arms x back-ends, one panel per set, under the per-unit convention; an arm without numbers says why in its row.

    Args:
        table: of `headline`.
        path: PNG.
        arms, backends: rows and columns, in order.
        remarks: arm -> why it has no scores.
    """
    table = table[(table["convention"] == "per_unit") & table["value"].notna()]
    sets = [name for name in ("dev", "eval") if (table["set"] == name).any()]
    columns = [backend_name(name) for name in backends]
    height = 1.2 + 0.075 * max(map(len, columns), default=1) + 0.23 * len(arms)
    width = 0.4 + 0.085 * max(map(len, arms), default=1) / max(1, len(sets)) + 0.5 * len(backends)
    with panels(len(sets), path, size=(max(width, 3.4), height)) as (figure, axes):
        if not sets:
            say(axes[0], "no arm has this number")
            return
        limits = (math.floor(table["value"].min()), math.ceil(table["value"].max()))
        for place, (axis, name) in enumerate(zip(axes, sets, strict=True)):
            values = _values(table[table["set"] == name], arms, backends)
            heat_panel(axis, values, arms if place == 0 else [""] * len(arms), columns, limits, digits=1, size=7.5)
            for row in np.flatnonzero(np.isnan(values).all(axis=1)):
                _cover(axis, int(row), len(backends), remarks.get(arms[row], "undefined").split(":")[0])
            axis.set_title(set_name(name, str(table["metric"].iloc[0])))
        metric = str(table["metric"].iloc[0])
        figure.suptitle(f"{METRICS.get(metric, metric)} (%), per unit", fontsize=12)


def _values(table: pd.DataFrame, arms: Sequence[str], backends: Sequence[str]) -> Floats:
    wide = table.pivot(index="arm", columns="backend", values="value").reindex(index=list(arms), columns=list(backends))
    return wide.to_numpy(dtype=np.float64)


def _cover(axis: Any, row: int, columns: int, text: str) -> None:
    """One text in place of a row's dashes."""
    axis.axhspan(row - 0.5, row + 0.5, color="#e2e2e2", zorder=4)
    axis.text((columns - 1) / 2, row, text, ha="center", va="center", fontsize=7.5, color="#555555", zorder=5)


def backend_document(table: pd.DataFrame, report: Report, sweep: BackendSweep, profile: str) -> Document:
    """A block per set and convention of `headline`: an arm per row, a back-end per column."""
    columns = [Column("arm", "label"), Column("spread", "label")]
    columns += [Column(backend_name(name)) for name in report.backends]
    said = _preamble(report.level) if len(table) else [UNLABELLED]
    said += [f"{backend_name(name)}: {note}." for name in report.backends if (note := _note(name, sweep))]
    said += [FEW] if "few_clips" in table and table["few_clips"].any() else []
    blocks = []
    for name, how in product(SETS, CONVENTIONS):
        rows = table[(table["set"] == name) & (table["convention"] == how)]
        if len(rows):
            key = (name, how, str(rows["metric"].iloc[0]))
            blocks.append(Table(caption_of(*key), columns, _rows(rows, report), key))
    if report.choices:
        blocks.append(choice_table(report.choices))
    if not report.backends:
        said = ["No arm of this table has been trained here:"]
        said.append("\n".join(f"* `{arm}`: {report.remarks[arm]}" for arm in report.arms))
    return Document(f"Every back-end on every arm, profile {profile}", said, [("", blocks)])


def _preamble(level: float) -> list[str]:
    return [
        f"Percent, with the {100 * level:g} % bootstrap interval over test clips in brackets (with ±: mean and deviation over "
        "training seeds). All columns score the same embeddings; what the back-ends are: docs/backends.md.",
        "Spread: highest minus lowest number of the row, percentage points. The highest number of a row is not what its arm "
        "would reach: it was picked with the labels of these very clips. Last row: the mean over all arms that have a number "
        "under every back-end; of the native scores only if all of these have one.",
    ]


def _note(name: str, sweep: BackendSweep) -> str:
    settings = sweep.sweep.get(name)
    return BACKEND_NOTES.get(name if settings is None else settings.kind, "")


def _rows(table: pd.DataFrame, report: Report) -> list[Row]:
    """A row per arm, and the means."""
    cells = {(row.arm, row.backend): row for row in table.itertuples(index=False)}
    values = _values(table, report.arms, report.backends)
    rows = []
    for arm, of_arm in zip(report.arms, values, strict=True):
        head = [Cell(arm, style="code", note=report.remarks.get(arm, "")), Cell(_spread(of_arm))]
        found = [_cell(cells.get((arm, backend)), report.reasons) for backend in report.backends]
        rows.append(Row([*head, *found], arm))
    others = np.array([name != "native" for name in report.backends], dtype=bool)
    whole = ~np.isnan(values[:, others]).any(axis=1)
    if whole.sum() > 1 and others.any():
        means = values[whole].mean(axis=0)  # NaN under "native" if one of them has no native score
        texts = [UNKNOWN if math.isnan(mean) else f"{mean:.1f}" for mean in means]
        rows.append(Row([Cell(text) for text in (f"mean over {whole.sum()} arms", _spread(means), *texts)]))
    return rows


def _cell(row: Any, reasons: Mapping[Key, str]) -> Cell:
    if row is None:
        return Cell(UNKNOWN)
    if math.isnan(row.value):
        key = Key(row.arm, row.backend, row.convention, row.set, row.machine, row.metric)
        return Cell("undefined", note=reasons.get(key, ""))
    return number(row)


def _spread(values: Floats) -> str:
    defined = values[~np.isnan(values)]
    return f"{np.ptp(defined):.1f}" if len(defined) > 1 else ""
