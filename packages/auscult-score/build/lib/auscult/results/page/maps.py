"""Maps of the embeddings of the best arms, machine by machine: which clips a network puts side by side."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

import numpy as np
import pandas as pd
from sklearn.manifold import TSNE
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from auscult.data.parallel import in_threads
from auscult.evaluation.evaluate import machine_order
from auscult.evaluation.metrics import Floats
from auscult.results.page.adapters import adapter_maps
from auscult.results.page.clips import best_arms
from auscult.results.page.context import Context, Section
from auscult.scoring.banks import unit_length
from auscult.scoring.table import read_embeddings
from auscult.settings.params import arm_settings
from auscult.settings.sections import LabelSettings

POINTS = 1000  # per machine type: t-SNE takes seconds, and more dots would lie upon each other
SEED = 0
COLOURS = 8  # of the page
TITLE, ANCHOR = "Maps of embeddings", "maps"
STYLE = """<style>
.map{width:100%;height:auto;border:1px solid var(--line,#8888);border-radius:6px;display:block}
.map path{fill:none;stroke-linecap:round}
.map .train{stroke-width:16;opacity:.42}
.map .normal{stroke-width:24}
.map .anomaly{stroke-width:7}
.key.mark{background:none;width:1.1rem;height:1.1rem;vertical-align:-3px}
.unit{white-space:nowrap}
.maps{grid-template-columns:repeat(auto-fill,minmax(min(100%,340px),1fr))}
.weights rect{fill:var(--c0,#0b63b0)}
</style>"""


def section(context: Context) -> Section:
    """t-SNE of each machine type's clips; then the weights of group adapters, of arms that have them."""
    parts = []
    for number, arm in enumerate(best_arms(context) or list(context.arms[:1])):
        try:
            maps = _arm(context, arm)
        except OSError:
            maps = '<p class="note">Left out: no embeddings in the cache (<code>dvc pull</code>, or <code>dvc repro</code>).</p>'
        is_open = " open" if not number else ""
        parts.append(f"<details{is_open}><summary>{escape(context.titles[arm])}</summary>{maps}</details>")
    return Section(TITLE, ANCHOR, STYLE + _introduction() + "".join(parts) + adapter_maps(context))


# ------------------------------------------------------------------------------------------------------------ the points
def layout(embeddings: np.ndarray, cosine: bool, seed: int = SEED) -> Floats:
    """Places [clips, 2] in [0, 1]: t-SNE of the first 50 principal components; equal seeds give equal maps.

    Fewer than ten clips are placed by their first two principal components.

    Args:
        embeddings: float32 [clips, D].
        cosine: bring each to length one first, as the cosine distance does.
    """
    x = np.asarray(unit_length(embeddings) if cosine else embeddings, np.float64)
    if not np.ptp(x, axis=0).any():
        return np.full((len(x), 2), 0.5)
    u, s, _ = np.linalg.svd(x - x.mean(0), full_matrices=False)
    x = (u * s)[:, :50]
    if len(x) >= 10:
        perplexity = min(30.0, (len(x) - 1) / 3)
        start = x[:, :2] if x.shape[1] > 1 else np.pad(x, ((0, 0), (0, 1)))
        start = 1e-4 * start / max(float(start[:, 0].std()), 1e-12)
        # Half of scikit-learn's steps and its coarser angle: on maps of 200 to 1000 clips a clip keeps as many of its ten nearest
        # neighbours, in less than half of the time. One thread: the order of a sum must not be left to the number of cores.
        with threadpool_limits(1, "openmp"):
            method = TSNE(2, perplexity=perplexity, init=start, random_state=seed, n_jobs=1, max_iter=500, angle=0.7)
            x = method.fit_transform(x)
    places = np.zeros((len(x), 2))
    places[:, : min(2, x.shape[1])] = x[:, :2]
    span = np.ptp(places, axis=0)
    centred: Floats = 0.5 + (places - places.min(0) - span / 2) / span.max()
    return np.clip(centred, 0, 1)  # a last bit beyond


def chosen(clips: int, most: int, seed: int = SEED) -> np.ndarray:
    """Rows of at most `most` of so many clips, in order, drawn by the seed."""
    return np.sort(np.random.default_rng(seed).permutation(clips)[:most])


def points(context: Context, arm: str, most: int = POINTS) -> pd.DataFrame:
    """Where each clip of an arm lies: machine, unit, kind ("train", "normal", "anomaly", "unlabelled"), x, y in [0, 1].

    Where all of a machine type is of one unit and two domains, `unit` is both, "00 source": the colours tell domains apart.
    Of a machine type whose attributes were withheld in training there are training clips alone, and `unit` is what the
    network was not told: their attributes.

    Raises:
        OSError: the arm's embeddings are not there.
    """
    rows = context.headline(arm)
    of = read_embeddings(context.paths.embeddings(arm, context.seed(arm)))
    truth = rows.set_index("clip_id")[["anomaly", "domain"]].reindex(of.test_meta["clip_id"])
    anomaly, domain = truth["anomaly"].to_numpy(), truth["domain"].to_numpy()
    kind = np.select([anomaly == 0, anomaly == 1], ["normal", "anomaly"], "unlabelled")
    test = of.test_meta.assign(kind=kind, domain=domain)
    clips = pd.concat([of.train_meta.assign(kind="train"), test], ignore_index=True)
    vectors = np.concatenate([of.train, of.test])
    hidden = _withheld(context, arm)
    told = (
        pd.read_parquet(context.paths.clips).set_index("clip_id")["attributes"] if hidden else pd.Series(dtype=object)
    )

    def place(machine: str) -> pd.DataFrame:
        mine = np.flatnonzero((clips["machine"] == machine) & ((clips["kind"] == "train") | (machine not in hidden)))
        mine = mine[chosen(len(mine), most)]
        places = layout(vectors[mine], cosine=context.metric(arm) == "cosine")
        found = clips.loc[mine, ["machine", "unit", "kind"]].assign(x=places[:, 0], y=places[:, 1])
        if machine in hidden:
            return found.assign(unit=told[clips.loc[mine, "clip_id"]].to_numpy(str))
        domains = clips.loc[mine, "domain"].astype(str)
        if found["unit"].nunique() == 1 and set(domains) == {"source", "target"}:
            found["unit"] = found["unit"].astype(str) + " " + domains
        return found

    machines = sorted(clips["machine"].unique(), key=machine_order)
    return pd.concat(in_threads(place, machines, context.params.section("data").workers), ignore_index=True)


def _withheld(context: Context, arm: str) -> tuple[str, ...]:
    """Machine types whose attributes the arm was not told in training."""
    if arm not in context.params.arms:
        return ()
    labels = getattr(arm_settings(context.params, context.profile, arm), "labels", LabelSettings())
    return tuple(labels.withheld)


# -------------------------------------------------------------------------------------------------------------- the page
def _introduction() -> str:
    marks = "".join(
        f'<svg class="key mark map" viewBox="0 0 60 60" style="border:0;display:inline-block" aria-hidden="true">'
        f'<path class="{kind}" stroke="currentColor" d="{_mark(kind, 30, 30)}"/></svg> {text}'
        for kind, text in (("train", "training"), ("normal", "normal test"), ("anomaly", "anomalous test"))
    )
    return (
        "<p>Each mark is a clip; clips that the network finds alike lie side by side. Colours are units, or the domains of a "
        "single unit. An anomaly that lies among training clips of its unit is one that distance cannot find; units that run "
        "into each other are ones that the network cannot tell apart. t-SNE keeps neighbours, not distances: the room between "
        f'two groups, and their size, mean nothing.</p><p class="note">{marks}. At most {POINTS} clips per machine type, drawn '
        "at random.</p>"
    )


def _arm(context: Context, arm: str) -> str:
    table = points(context, arm)
    cards = [_map(str(machine), of) for machine, of in table.groupby("machine", sort=False)]
    return f'<div class="cards maps">{"".join(cards)}</div>'


def _map(machine: str, clips: pd.DataFrame) -> str:
    """One machine type's map as SVG: a path per unit and kind, so that a thousand marks are few elements."""
    units = sorted(clips["unit"].astype(str).unique())
    paths = []
    for kind in ("train", "unlabelled", "normal", "anomaly"):  # what matters most lies on top
        for unit in units:
            of = clips[(clips["kind"] == kind) & (clips["unit"] == unit)]
            if len(of):
                marks = "".join(_mark(kind, 30 + 940 * x, 970 - 940 * y) for x, y in zip(of["x"], of["y"], strict=True))
                look = "normal" if kind == "unlabelled" else kind
                paths.append(f'<path class="{look}" stroke="{colour(units, unit)}" d="{marks}"/>')
    label = f"map of {len(clips)} clips of {machine}"
    keys = "".join(
        f'<span class="unit"><span class="key" style="background:{colour(units, unit)}"></span> {escape(unit)}</span> '
        for unit in units
    )
    return (
        f'<figure><svg class="map" viewBox="0 0 1000 1000" role="img" aria-label="{escape(label)}">{"".join(paths)}</svg>'
        f"<figcaption><b>{escape(machine)}</b>{keys}</figcaption></figure>"
    )


def colour(units: Sequence[str], unit: str) -> str:
    """The page's colour of a unit; the same ones again from the ninth on."""
    return f"var(--c{list(units).index(unit) % COLOURS})"


def _mark(kind: str, x: float, y: float) -> str:
    """A dot (a line of no length with round ends), or a cross for an anomaly."""
    if kind == "anomaly":
        return f"M{x - 10:.0f} {y - 10:.0f}l20 20m0-20l-20 20"
    return f"M{x:.0f} {y:.0f}h0"
