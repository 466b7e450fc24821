"""Worst false alarms and misses: each clip next to the nearest normal training clip of its unit, and where the two differ."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from pathlib import PurePosixPath
from typing import Any

import numpy as np
import pandas as pd
from sklearn.neighbors import NearestNeighbors

from auscult.data.store import ClipStore
from auscult.errors import AuscultError
from auscult.evaluation.evaluate import machine_order
from auscult.evaluation.metrics import Floats, auc
from auscult.pages.rendering import marked
from auscult.pages.spectrogram import STYLE
from auscult.results.names import SETS, backend_name
from auscult.results.page.clipmedia import FRONTEND, LIMIT_DB, Media
from auscult.results.page.context import Context, Section
from auscult.results.page.gather import thresholds_of
from auscult.scoring.banks import Metric, groups
from auscult.scoring.table import Embedded, read_embeddings

ARMS = 3
PER_KIND = 3
BUDGET = 20e6  # bytes of pictures and sounds: what stays of 30 MB belongs to the rest of the page
NO_CLIP = -1
TITLE, ANCHOR = "Worst false alarms and misses", "worst-clips"
PLURAL = {"false alarm": "false alarms", "miss": "misses"}
KINDS = {"false alarm": "Worst false alarms", "miss": "Worst misses"}


def section(context: Context) -> Section:
    """Clips of the best arms, machine by machine; reasons instead, where there are no labels, embeddings or audio."""
    arms = best_arms(context)
    if not arms:
        return Section(
            TITLE, ANCHOR, "<p>No arm has scores of labelled clips of both kinds, so none is known to be wrong.</p>"
        )
    try:
        test, train = (ClipStore(context.paths.features(part)) for part in ("test", "train"))
    except (AuscultError, OSError):
        what = f"No packed audio in <code>{escape(str(context.paths.features('test')))}</code>, so there is nothing to show "
        return Section(
            TITLE,
            ANCHOR,
            f"<p>{what}or to play: <code>dvc pull features</code> or <code>dvc repro features</code>.</p>",
        )
    if test.arrays:
        why = "The clips of this profile are arrays of features: there is no sound to play and no spectrum to draw."
        return Section(TITLE, ANCHOR, f"<p>{why}</p>")
    media, parts, shown = Media(test, train), [], []
    for arm in arms:
        try:
            shown.append((arm, worst(context, arm, _count(context, media, len(arms)))))
        except (AuscultError, OSError) as problem:
            parts.append(f"<h3>{escape(context.titles[arm])}</h3><p>Left out: {marked(str(problem))}</p>")
    media.set_levels([table for _, table in shown])
    names = context.clip_names
    parts += [_arm(context, arm, table, media, names, first=not i) for i, (arm, table) in enumerate(shown)]
    return Section(TITLE, ANCHOR, STYLE + _introduction(context) + "".join(parts), media.files)


# ----------------------------------------------------------------------------------------------------------- which clips
def best_arms(context: Context, limit: int = ARMS) -> list[str]:
    """Arms whose mistakes are worth hearing: the highest mean over machines of the pooled AUC, tested as they were trained.

    Among the project's own rows, where the context has any of them; arms without labelled clips of both kinds do not count.
    """
    plain = context.plain_arms()
    mean: dict[str, float] = {}
    for arm in [arm for arm in plain if arm in context.params.rows()] or plain:
        rows = context.headline(arm)
        rows = rows[rows["anomaly"].notna()]
        areas = [auc(of["score"], of["anomaly"]) for _, of in rows.groupby("machine", observed=True)]
        if areas and not np.isnan(areas).all():
            mean[arm] = float(np.nanmean(areas))
    return sorted(mean, key=lambda arm: -mean[arm])[:limit]


def worst(context: Context, arm: str, count: int = PER_KIND) -> pd.DataFrame:
    """The normal test clips furthest above their unit's threshold, and the anomalies furthest below, of an arm.

    Returns:
        kind ("false alarm", "miss"), clip_id, set, machine, unit, domain, score, threshold, margin, rank and of (1 = the most
        anomalous of so many labelled test clips of the unit), nearest (clip_id of the nearest training clip of the unit),
        distance, and beyond (clip_id of the training clip nearest to that one; `NO_CLIP` if there is no other).

    Raises:
        AuscultError, OSError: no embeddings of the arm's first seed, or a back-end that training clips have no scores by.
    """
    rows = context.headline(arm)
    of = read_embeddings(context.paths.embeddings(arm, context.seed(arm)))
    chosen = thresholds_of(context, arm)
    nearest, distance, beyond = nearest_training(of, context.metric(arm))
    ids = np.append(of.train_meta["clip_id"].to_numpy(np.int64), NO_CLIP)  # row -1 is no clip
    found = {"nearest": ids[nearest], "distance": distance, "beyond": ids[beyond]}
    places = pd.DataFrame({"clip_id": of.test_meta["clip_id"], **found})
    return select(rows, chosen, count).merge(places, on="clip_id", how="inner")


def select(rows: pd.DataFrame, limits: Mapping[tuple[str, str], float], count: int) -> pd.DataFrame:
    """At most `count` false alarms and `count` misses of each machine, the worst first.

    The margin is score - threshold in standard deviations of the scores of the unit's test clips: units have scales of their
    own. A normal clip counts that is above its threshold or above an anomaly of its unit, an anomaly that is not above its
    threshold or not above a normal clip of its unit: what a decision or an AUC holds against the arm. (A network that fits
    its training clips closely has thresholds that nearly every test clip exceeds, and misses all the same.)

    Args:
        rows: clip_id, machine, unit, score, anomaly (0, 1, NaN = not counted), one row per clip.
        limits: (machine, unit) -> threshold; a clip is called an anomaly above it.
    """
    rows = rows[rows["anomaly"].notna()].copy()
    unit = [rows["machine"].astype(str), rows["unit"].astype(str)]
    score, anomaly = rows["score"], rows["anomaly"] == 1
    scores = score.groupby(unit)
    rows["threshold"] = [limits[pair] for pair in zip(*unit, strict=True)]
    rows["rank"] = scores.rank(ascending=False, method="min").astype(int)
    rows["of"] = scores.transform("size")
    spread = scores.transform("std", ddof=0).to_numpy()
    rows["margin"] = (score - rows["threshold"]) / np.where(spread > 0, spread, 1)
    highest_normal = score.where(~anomaly).groupby(unit).transform("max")  # NaN, and no comparison, where there is none
    lowest_anomaly = score.where(anomaly).groupby(unit).transform("min")
    alarm = score > rows["threshold"]
    wrong = {
        "false alarm": ~anomaly & (alarm | (score >= lowest_anomaly)),
        "miss": anomaly & (~alarm | (score <= highest_normal)),
    }
    found = []
    for kind, which in wrong.items():
        clips = rows[which].assign(kind=kind).sort_values(["margin", "clip_id"], ascending=[kind == "miss", True])
        found.append(clips.groupby("machine", observed=True).head(count))
    return pd.concat(found, ignore_index=True)


def nearest_training(of: Embedded, metric: Metric = "cosine") -> tuple[np.ndarray, Floats, np.ndarray]:
    """Of each test clip the nearest training clip of its unit, and what is nearest to that among the other training clips.

    Returns:
        Rows of the training clips int64 [test clips], distances float64, and rows int64; -1 where a unit has no (other) clip.
    """
    nearest, beyond = np.full(len(of.test), -1), np.full(len(of.test), -1)
    distance = np.full(len(of.test), np.nan)
    banks = groups(of.train_meta)
    for unit, rows in groups(of.test_meta).items():
        bank = banks.get(unit)
        if bank is None:
            continue
        search = NearestNeighbors(n_neighbors=1, metric=metric, algorithm="brute").fit(of.train[bank])
        far, place = search.kneighbors(of.test[rows])
        nearest[rows], distance[rows] = bank[place[:, 0]], far[:, 0]
        if len(bank) > 1:
            others = search.kneighbors(None, 1, return_distance=False)[:, 0]
            beyond[rows] = bank[others[place[:, 0]]]
    return nearest, distance, beyond


def _count(context: Context, media: Media, arms: int) -> int:
    """Clips per machine and kind that the budget allows, at most `PER_KIND`, at least one."""
    seconds = media.test.samples / media.test.sample_rate
    frames = media.test.shape(FRONTEND)[1]
    bytes_each = 2 * 5000 * seconds + 3 * 60 * frames  # two players; three pictures of about 60 bytes a frame
    machines = media.test.index["machine"].nunique()
    return max(1, min(PER_KIND, int(BUDGET / (bytes_each * len(KINDS) * machines * arms))))


# --------------------------------------------------------------------------------------------------------------- the page
def _introduction(context: Context) -> str:
    rate = context.params.section("submission").rate
    return (
        "<p>The mistakes that cost the most: normal test clips furthest above the threshold of their unit, and anomalies "
        "furthest below it. Where a machine has too few of these, clips on the right side of the threshold follow that stand in "
        "the wrong order: a normal clip above an anomaly of its unit, an anomaly below a normal clip. "
        f"The threshold is what a share of {rate:g} of the unit&#8217;s own training clips would exceed (no test "
        "clip has a say in it); distances to it are in standard deviations of the unit&#8217;s scores. Next to each clip "
        "stands the normal training clip of the same unit that the arm&#8217;s embedding puts nearest, then the difference of "
        f'the two log-mels: <span class="louder">louder</span> and <span class="quieter">quieter</span> than the normal clip, '
        f"full colour at {LIMIT_DB:g} dB, the framed patch is the strongest. Players of one machine share one gain. "
        f"Recordings: {escape(context.profile.title)}; licence: {escape(context.profile.licence)}. Pass this folder on only as "
        "that licence allows.</p>"
    )


def machines(context: Context, arm: str) -> list[str]:
    """Machine types of an arm's test clips, in the order of the tables."""
    known = {str(machine) for machine in context.headline(arm)["machine"].unique()}
    return sorted(known, key=machine_order)


def _arm(context: Context, arm: str, table: pd.DataFrame, media: Media, names: Mapping[int, str], first: bool) -> str:
    parts = [f"<h3>{escape(context.titles[arm])}, {escape(backend_name(context.backends[arm]))}</h3>"]
    for number, machine in enumerate(machines(context, arm)):
        of_machine = table[table["machine"] == machine]
        counts = [(kind, int((of_machine["kind"] == kind).sum())) for kind in KINDS]
        summary = ", ".join(f"{count} {kind if count == 1 else PLURAL[kind]}" for kind, count in counts)
        parts.append(
            f"<details{' open' if first and not number else ''}><summary>{escape(machine)}: {summary} shown</summary>"
        )
        for kind, heading in KINDS.items():
            clips = of_machine[of_machine["kind"] == kind].to_dict("records")
            parts.append(f"<h4>{heading}</h4>" + ("" if clips else "<p>None.</p>"))
            parts += [_clip({str(key): value for key, value in clip.items()}, media, names) for clip in clips]
        parts.append("</details>")
    return "".join(parts)


def _clip(clip: Mapping[str, Any], media: Media, names: Mapping[int, str]) -> str:
    """One mistake: the facts, and the clip, its neighbour and the difference side by side."""
    own, other, beyond = int(clip["clip_id"]), int(clip["nearest"]), int(clip["beyond"])
    machine, unit = str(clip["machine"]), str(clip["unit"])
    domain = f", {clip['domain']} domain" if clip["domain"] in ("source", "target") else ""
    side = "above" if clip["margin"] > 0 else "below"
    facts = (
        f"{escape(machine)} {escape(unit)}{escape(domain)} ({escape(SETS.get(str(clip['set']), str(clip['set'])))}): score "
        f"<b>{_number(clip['score'])}</b>, threshold {_number(clip['threshold'])} "
        f"({abs(clip['margin']):.1f} deviations {side} it), rank {clip['rank']} of {clip['of']} in its unit (1 = most anomalous)"
    )
    truth = "normal" if clip["kind"] == "false alarm" else "anomaly"
    pictures = [media.shown(own, machine, f"Test clip ({truth})", _file(own, names))]
    if other != NO_CLIP:
        caption = f"{_file(other, names)}, distance {clip['distance']:.3g}"
        pictures.append(media.shown(other, machine, "Nearest normal training clip", caption))
        pictures.append(media.compared(own, other, None if beyond == NO_CLIP else beyond))
    return f'<article class="mistake"><p>{facts}.</p><div class="pictures">{"".join(pictures)}</div></article>'


def _file(clip_id: int, names: Mapping[int, str]) -> str:
    name = names.get(clip_id, f"clip {clip_id}")
    return f'<code title="{escape(name)}">{escape(PurePosixPath(name).name)}</code>'


def _number(value: float) -> str:
    return f"{value:.4g}".replace("-", "\N{MINUS SIGN}")
