"""Which training clips a test clip is compared with: those of its unit or machine type, in one bank or one per domain.

A back-end on one bank is a function that is given the training clips and returns the function that scores test clips
(`Fit`). It knows of no unit, no test clip and no label. `fit_and_score` applies one to every unit or machine type,
`per_domain` makes one that has a bank per domain and takes the smaller score (AnoPatch, section 3.3; Han et al.,
Eq. (13)). The domain of a test clip is never looked at.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, Protocol

import numpy as np
import pandas as pd

from auscult.errors import AuscultError, listed
from auscult.evaluation.metrics import Floats

Scope = Literal["unit", "machine"]
"""AnoPatch (2023) and Han et al. (2021 to 2024) compare with all clips of a machine type, in 2020 with those of a unit."""
Metric = Literal["cosine", "euclidean"]
Scorer = Callable[[np.ndarray], Floats]
"""Scores [queries], higher = more anomalous, of embeddings [queries, D], each by itself."""
Fit = Callable[[np.ndarray, np.ndarray], Scorer]
"""From embeddings float32 [clips, D] and domains [clips] of a bank, at least one clip, to its scorer."""


class Backend(Protocol):
    """Scores [test clips] from embeddings [clips, D] and tables with machine, unit, domain (training clips only), in order.

    `k` and `domains` do nothing in a back-end that has no neighbours or always one bank; each says so.
    """

    def __call__(
        self,
        train: np.ndarray,
        train_meta: pd.DataFrame,
        test: np.ndarray,
        test_meta: pd.DataFrame,
        k: int = 1,
        domains: bool = False,
        *,
        scope: Scope = "unit",
    ) -> np.ndarray: ...


def groups(meta: pd.DataFrame, scope: Scope = "unit") -> dict[Any, np.ndarray]:
    """(machine, unit), or machine -> its rows."""
    columns = ["machine", "unit"] if scope == "unit" else "machine"
    rows: dict[Any, np.ndarray] = meta.reset_index(drop=True).groupby(columns).indices  # type: ignore[assignment]
    return rows


def banks(train_meta: pd.DataFrame, domains: bool, scope: Scope = "unit") -> dict[Any, list[np.ndarray]]:
    """As `groups` -> rows of the training clips in each bank: one, or with `domains` one per domain that has clips."""
    found: dict[Any, list[np.ndarray]] = {}
    for group, bank in groups(train_meta, scope).items():
        found[group] = [bank]
        if domains:
            domain = train_meta["domain"].to_numpy()[bank]
            found[group] = [bank[domain == name] for name in np.unique(domain)]
    return found


def refuse_strangers(train_meta: pd.DataFrame, test_meta: pd.DataFrame, scope: Scope = "unit") -> None:
    """
    Raises:
        AuscultError: test clips of a unit (with scope "machine": a machine type) without training clips.
    """
    strange = sorted(set(groups(test_meta, scope)) - set(groups(train_meta, scope)))
    if strange:
        names = listed([pair if isinstance(pair, str) else " ".join(map(str, pair)) for pair in strange])
        what = f"test clips of {'units' if scope == 'unit' else 'machine types'} without training clips:{names}"
        raise AuscultError(what, fix="embed both partitions again")


def fit_and_score(
    fit: Fit,
    train: np.ndarray,
    train_meta: pd.DataFrame,
    test: np.ndarray,
    test_meta: pd.DataFrame,
    scope: Scope = "unit",
) -> Floats:
    """Scores of the test clips, each by what was fitted to the training clips of its own unit or machine type.

    Args:
        train, test: embeddings float32 [clips, D].
        train_meta, test_meta: machine, unit and, for training clips, domain of each row.

    Returns:
        float64 [test clips].

    Raises:
        AuscultError: see `refuse_strangers`.
    """
    refuse_strangers(train_meta, test_meta, scope)
    domain = train_meta["domain"].to_numpy() if "domain" in train_meta else np.full(len(train), "unknown")
    own = groups(train_meta, scope)
    scores = np.full(len(test), np.nan)
    for group, rows in groups(test_meta, scope).items():
        bank = own[group]
        scores[rows] = fit(train[bank], domain[bank])(test[rows])
    return scores


def per_domain(fit: Fit, domains: bool, least: int = 1) -> Fit:
    """`fit` with one bank per domain and the minimum over them; without `domains`, `fit` itself.

    Args:
        least: training clips that `fit` needs. Where a domain has fewer, all clips share one bank.
    """
    if not domains:
        return fit

    def both(bank: np.ndarray, domain: np.ndarray) -> Scorer:
        names, counts = np.unique(domain, return_counts=True)
        if counts.min() < least:
            return fit(bank, domain)
        scorers = [fit(bank[domain == name], domain[domain == name]) for name in names]
        return lambda queries: np.min([scorer(queries) for scorer in scorers], axis=0)

    return both


def unit_length(embeddings: np.ndarray) -> np.ndarray:
    """Embeddings [clips, D] of length one; a zero vector stays zero."""
    length = np.linalg.norm(embeddings, axis=1, keepdims=True)
    unit: np.ndarray = embeddings / np.where(length > 0, length, 1)
    return unit
