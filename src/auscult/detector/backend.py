"""Any back-end of the pipeline as the score of a bundle, one of one's own too: all windows of normal sound are one bank, for
nobody says in which mode of operation a new window was recorded.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pandas as pd

from auscult.detector.manifest import BACKENDS
from auscult.detector.picking import folds
from auscult.detector.thresholds import LEAST
from auscult.errors import AuscultError
from auscult.evaluation.metrics import Floats
from auscult.scoring import backends
from auscult.scoring.banks import BackendSettings
from auscult.settings.section import near, validated
from auscult.training.modelfolder import Trained

PARTS = 5
"""In so many parts recordings are left out."""
UNSETTLED = "the back-end is unsettled:"
"""How the note of `notes_on_parts` begins."""
CHANCE = 1e-3
"""Below which so large a difference between parts is none."""


def known() -> list[str]:
    """Names of the back-ends that score one window at a time."""
    return [*BACKENDS, *(kind for kind, one in backends().items() if kind not in BACKENDS and not one.transductive)]


def require_known(name: str) -> None:
    """
    Raises:
        AuscultError: there is no such back-end.
    """
    if name not in BACKENDS and name not in known():
        raise AuscultError(f"unknown back-end `{name}`{near(name, known())}", fix=f"use: {', '.join(known())}")


def knobs_of(name: str, k: int, trained: Trained) -> dict[str, Any]:
    """Settings of a back-end, as bundle.yaml keeps them: its defaults, `k`, and the distance that the method says, for by another
    one strange sound may be near (notes_on_direction). None of those of `BACKENDS`."""
    if name in BACKENDS:
        return {}
    rows = max((int(getattr(network, "frequency_rows", 1)) for network in trained.networks.values()), default=1)
    model = backends()[name].settings
    asked = {"k": k, "metric": trained.method.distance}
    values = {"kind": name} | {knob: value for knob, value in asked.items() if knob in model.model_fields}
    return validated(model, values, "--backend").filled("machine", False, rows).model_dump(mode="json")


def scorer(knobs: Mapping[str, Any], reference: np.ndarray) -> Callable[[np.ndarray], Floats]:
    """What scores embeddings [n, D] -> [n], fitted to the embeddings of normal windows.

    Raises:
        AuscultError: a back-end, or settings of it, that this version does not have.
    """
    if knobs["kind"] not in backends():
        fix = "put its file in place (docs/add-a-back-end.md), or fit again with another --backend"
        raise AuscultError(f"there is no back-end `{knobs['kind']}` here, by which this bundle scores", fix=fix)
    backend = backends()[knobs["kind"]]
    settings: BackendSettings = validated(backend.settings, dict(knobs), "bundle.yaml: knobs")
    state = backend.fit(reference, _table(len(reference)), settings)
    return lambda embeddings: backend.score(state, embeddings, _table(len(embeddings)))


def left_out_by(knobs: Mapping[str, Any], vectors: np.ndarray, group: np.ndarray, scaled: int = 0) -> Floats:
    """The score [n] of each normal window by the back-end fitted without a fifth of the recordings, its own among them. Of a
    single recording windows are left out.

    Args:
        vectors: embeddings float32 [n, D]; group: their recordings [n].
        scaled: as for `thresholds.left_out_scores`.
    """
    owner, part = _parts(group)
    scores = np.empty(len(vectors))
    for number in range(int(part.max()) + 1):
        mine, seen = part == number, vectors
        others = vectors[:scaled][~mine[:scaled]]
        if len(np.unique(owner[:scaled][~mine[:scaled]])) > 1:  # of one recording alone there is no scale
            seen = (vectors - others.mean(axis=0)) / np.maximum(others.std(axis=0), LEAST)
        scores[mine] = scorer(knobs, seen[~mine])(seen[mine])
    return scores


def notes_on_parts(backend: str, normal: Floats, group: np.ndarray) -> list[str]:
    """A note where left-out scores [n] depend on the part that was left out, by an analysis of variance of the recordings'
    means: such a back-end gives another score with every bank, and those of the whole bank are none of these."""
    if backend in BACKENDS:
        return []
    owner, part = _parts(group)
    means = pd.Series(normal).groupby([part, owner]).mean()
    parts = [each.to_numpy() for _, each in means.groupby(level=0)]
    from scipy.stats import f_oneway  # half a second, which the usual back-ends do not take

    if len(means) <= len(parts) or f_oneway(*parts).pvalue >= CHANCE:
        return []
    return [
        f"{UNSETTLED} by `{backend}` normal sound scores differently with each fifth of the recordings that is left out, so "
        "that p-values and the threshold may be far off; record more, or take another --backend"
    ]


def notes_on_direction(knobs: Mapping[str, Any], vectors: np.ndarray, trained: Trained) -> list[str]:
    """A note where the back-end looks at the direction of embeddings [n, D] alone, and the method says by lengths, too, how far
    sound is from normal: z-scored, what is strangest lies in some direction that is no farther than others."""
    if not knobs or trained.method.distance == "cosine":
        return []
    score, some = scorer(knobs, vectors), vectors[:8]
    if not np.allclose(score(some), score(2 * some), rtol=1e-3, atol=1e-4):
        return []
    return [
        f"`{knobs['kind']}` looks at directions alone, which by `{trained.settings.method}` tell little: strange sound may be "
        "called normal; take another --backend"
    ]


def _parts(group: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Owner of each window [n], its recording or, of a single one, itself; and the part in which it is left out [n]."""
    owner = group if len(np.unique(group)) > 1 else np.arange(len(group))
    return owner, folds(owner, [""] * len(owner), min(PARTS, len(np.unique(owner))), False, 0)


def _table(count: int) -> pd.DataFrame:
    return pd.DataFrame({"machine": ["machine"] * count, "unit": "", "domain": "unknown"})
