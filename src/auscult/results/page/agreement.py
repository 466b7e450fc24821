"""How far arms agree: rank correlation of their scores, clips that two get wrong, and clips that every arm gets wrong."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from pathlib import PurePosixPath

import numpy as np
import pandas as pd

from auscult.evaluation.evaluate import machine_order
from auscult.evaluation.metrics import Floats
from auscult.results.page.context import Context, Section

ARMS = 12
LISTED = 30
TITLE, ANCHOR = "Agreement between arms", "agreement"
STYLE = """<style>
.scroll:has(>.agreement){width:fit-content;max-width:100%}
.agreement{width:auto}
.agreement td{text-align:center;background:color-mix(in srgb,var(--c0,#0b63b0) var(--s,0%),transparent)}
.agreement td.less{background:color-mix(in srgb,var(--c1,#c4500a) var(--s,0%),transparent)}
.agreement thead th{writing-mode:vertical-rl;transform:rotate(180deg);text-align:left;vertical-align:top;padding:.6rem .3rem}
.agreement thead th:first-child{writing-mode:initial;transform:none}
</style>"""


def section(context: Context) -> Section:
    """Correlations, common mistakes, and the clips that no arm gets right; needs two arms."""
    table = score_matrix(context, context.plain_arms()[:ARMS])
    arms = [str(arm) for arm in table.columns if arm not in KEYS]
    if len(arms) < 2:
        return Section(TITLE, ANCHOR, '<p class="note">There are not two arms with scores to compare.</p>')
    titles = [context.titles[arm] for arm in arms]
    by_machine = correlations(table, arms)
    mean = _mean(list(by_machine.values()))
    more = "".join(
        f"<details><summary>{escape(machine)}</summary>{_heat(rho, titles, f'Rank correlation, {machine}')}</details>"
        for machine, rho in by_machine.items()
    )
    left = len(context.plain_arms()) - len(arms)
    html = (
        f"{STYLE}<p>Spearman&#8217;s rank correlation of two arms&#8217; scores over the test clips of a machine type, "
        "unit by unit, then averaged: 1 where both put the clips into the same order, 0 where one says nothing of the other. "
        "Arms that are good and agree little are worth an ensemble.</p>"
        + (f'<p class="note">The first {len(arms)} arms of the page; {left} more are left out.</p>' if left else "")
        + _heat(mean, titles, "Rank correlation, mean over machine types")
        + more
        + _mistakes(table, arms, titles, context.clip_names)
    )
    return Section(TITLE, ANCHOR, html)


# -------------------------------------------------------------------------------------------------------------- numbers
KEYS = ("clip_id", "machine", "unit", "anomaly")


def score_matrix(context: Context, arms: Sequence[str]) -> pd.DataFrame:
    """One row per test clip: `KEYS`, and a column of scores per arm (NaN = the arm has no score of the clip)."""
    columns, keys = {}, []
    for arm in arms:
        rows = context.headline(arm).astype({"machine": str, "unit": str}).set_index("clip_id")
        columns[arm] = rows["score"]
        keys.append(rows[["machine", "unit", "anomaly"]])
    if not keys:
        return pd.DataFrame(columns=list(KEYS))
    facts = pd.concat(keys)
    facts = facts[~facts.index.duplicated()]
    return facts.join(pd.DataFrame(columns)).rename_axis("clip_id").reset_index()


def correlations(table: pd.DataFrame, arms: Sequence[str]) -> dict[str, Floats]:
    """Machine -> Spearman's rho [arms, arms]: of each unit's test clips that both arms have scores of, mean over its units.

    Units have scales of their own, so a correlation over all of them would be about which unit a clip is of. NaN where no
    unit has three clips, or where an arm gives all the same score.
    """
    found: dict[str, Floats] = {}
    for machine in sorted(table["machine"].unique(), key=machine_order):
        units = table[table["machine"] == machine].groupby("unit")
        rho = [of[list(arms)].astype(np.float64).corr("spearman", min_periods=3) for _, of in units]
        found[str(machine)] = _mean([of_unit.to_numpy() for of_unit in rho])
    return found


def _mean(parts: Sequence[Floats]) -> Floats:
    """Mean over those that are not NaN, place by place; NaN where there is none."""
    stack = np.stack(parts)
    count = (~np.isnan(stack)).sum(0)
    mean: Floats = np.where(count > 0, np.nansum(stack, 0) / np.maximum(count, 1), np.nan)
    return mean


def wrong(table: pd.DataFrame, arms: Sequence[str]) -> pd.DataFrame:
    """Which labelled clips each arm gets wrong when it calls as many clips of a unit anomalies as there are.

    No threshold comes in, so that arms are compared by the order of their scores alone. Clips whose score equals that of the
    last one called are called too.

    Returns:
        bool [labelled clips of every arm, arms], indexed as `table`.
    """
    known = table[table["anomaly"].notna() & table[list(arms)].notna().all(axis=1)]
    out = pd.DataFrame(False, index=known.index, columns=list(arms))
    for _, of in known.groupby(["machine", "unit"]):
        anomaly = of["anomaly"].to_numpy() == 1
        count = int(anomaly.sum())
        scores = of[list(arms)].to_numpy(np.float64)
        limit = np.sort(scores, axis=0)[::-1][count - 1] if count else np.full(len(arms), np.inf)
        out.loc[of.index] = (scores >= limit) != anomaly[:, None]
    return out


def both_wrong(mistakes: np.ndarray) -> Floats:
    """Share of clips that two arms both get wrong [arms, arms], from bool [clips, arms]; the diagonal is an arm's own."""
    share: Floats = mistakes.T.astype(np.float64) @ mistakes / max(len(mistakes), 1)
    return share


# ------------------------------------------------------------------------------------------------------------- the page
def _mistakes(table: pd.DataFrame, arms: list[str], titles: list[str], names: Mapping[int, str]) -> str:
    mistakes = wrong(table, arms)
    if mistakes.empty:
        return '<p class="note">No clip has a label and a score of every arm, so common mistakes are not known.</p>'
    share = both_wrong(mistakes.to_numpy())
    html = (
        "<h3>Common mistakes</h3><p>Each arm calls as many clips of a unit anomalies as there are, those with the highest "
        "scores; no threshold comes in. A cell is the share of labelled clips that both arms get wrong, the diagonal what an "
        "arm gets wrong by itself; the closer a cell is to the smaller of its two diagonals, the less one arm helps the other."
        "</p>" + _heat(share, titles, "Clips that both arms get wrong, percent", percent=True)
    )
    every = table.loc[mistakes.index[mistakes.all(axis=1)]]
    html += (
        f"<h3>Clips that every arm gets wrong</h3><p>{len(every)} of {len(mistakes)} clips: listen to these first, or look at "
        "their labels. The place is the mean over arms of the share of the unit&#8217;s test clips that score no higher.</p>"
    )
    if every.empty:
        return html
    rank = table.groupby(["machine", "unit"])[arms].rank(pct=True).mean(axis=1)  # 1 = most anomalous of its unit
    every = every.assign(rank=rank).sort_values(
        ["anomaly", "machine", "unit", "rank"], ascending=[False, True, True, True]
    )
    rows = "".join(
        f"<tr><th scope='row'>{escape(str(machine))} {escape(str(unit))}</th><td>{'anomaly' if anomaly else 'normal'}</td>"
        f'<td class="n">{100 * place:.0f} %</td><td><code>{escape(_file(int(clip), names))}</code></td></tr>'
        for clip, machine, unit, anomaly, place in every[[*KEYS, "rank"]].head(LISTED).itertuples(index=False)
    )
    heads = "".join(f'<th scope="col">{head}</th>' for head in ("unit", "truth", "place", "file"))
    rest = f'<p class="note">{len(every) - LISTED} more are not listed.</p>' if len(every) > LISTED else ""
    return (
        html
        + _scroll(f"<table><thead><tr>{heads}</tr></thead><tbody>{rows}</tbody></table>", "Clips every arm gets wrong")
        + rest
    )


def _heat(values: np.ndarray, titles: Sequence[str], caption: str, percent: bool = False) -> str:
    """A matrix as a table whose cells are shaded by their values."""
    top = float(np.nanmax(values)) if percent and np.isfinite(values).any() else 1.0

    def cell(value: float) -> str:
        if np.isnan(value):
            return "<td>\N{EN DASH}</td>"
        text = f"{100 * value:.1f}" if percent else f"{value:.2f}".replace("-", "\N{MINUS SIGN}")
        side = ' class="less"' if value < 0 else ""
        return f'<td{side} style="--s:{50 * abs(value) / max(top, 1e-9):.0f}%">{text}</td>'

    heads = "".join(f'<th scope="col">{escape(title)}</th>' for title in titles)
    rows = "".join(
        f'<tr><th scope="row">{escape(title)}</th>{"".join(cell(float(value)) for value in row)}</tr>'
        for title, row in zip(titles, values, strict=True)
    )
    head = f'<caption>{escape(caption)}</caption><thead><tr><th scope="col">arm</th>{heads}</tr></thead>'
    return _scroll(f'<table class="agreement">{head}<tbody>{rows}</tbody></table>', caption)


def _scroll(table: str, label: str) -> str:
    return f'<div class="scroll" role="region" tabindex="0" aria-label="{escape(label)}">{table}</div>'


def _file(clip: int, names: Mapping[int, str]) -> str:
    return PurePosixPath(names[clip]).name if clip in names else f"clip {clip}"
