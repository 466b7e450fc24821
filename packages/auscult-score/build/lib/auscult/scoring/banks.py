"""What a back-end is, and which training clips a test clip is compared with: those of its unit, of its machine type, or all.

A back-end is fitted to training clips and then scores test clips, each by itself. `per_bank` makes one of two functions
that know of one bank of training clips and of no unit: it applies them to every unit or machine type, with one bank or one
per domain and the smaller score (AnoPatch, section 3.3; Han et al., Eq. (13)). The domain of a test clip is never looked at.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar

import numpy as np
from pydantic import Field

from auscult.errors import AuscultError, listed
from auscult.evaluation.metrics import Floats
from auscult.scoring import NEIGHBOURS
from auscult.settings.section import Positive, Section

if TYPE_CHECKING:
    import pandas as pd  # reading params.yaml imports this file: the settings of the sweep are here

Scope = Literal["unit", "machine", "all"]
"""AnoPatch (2023) and Han et al. (2021 to 2024) compare with all clips of a machine type, in 2020 with those of a unit. "all":
nobody says which machine a test clip is of (arXiv 2602.16253; each machine's bank by itself: blind.py)."""
Metric = Literal["cosine", "euclidean"]
Seed = Annotated[int, Field(ge=0)]


# ---------------------------------------------------------------------------------------------------------------- settings
class BackendSettings(Section):
    """Base of the settings of every back-end; a subclass has its `kind` (or kinds) as a Literal, and its knobs."""

    kind: str
    scope: Scope | None = None
    """Whose training clips a test clip is compared with; null = as `score.scope`."""

    @property
    def one_per_domain(self) -> bool:
        """Whether each domain has a bank of its own."""
        return bool(getattr(self, "domain_banks", False))

    def filled(self: Settings, scope: Scope, domains: bool, rows: int = 1) -> Settings:
        """These settings with `scope` and, where the back-end knows them, `domain_banks` and `rows` in place of null."""
        values: dict[str, Any] = {"scope": self.scope or scope}
        for name, value in (("domain_banks", domains), ("rows", rows)):
            if name in type(self).model_fields and getattr(self, name, None) is None:
                values[name] = value
        return self.model_copy(update=values)


Settings = TypeVar("Settings", bound=BackendSettings)


class DomainSettings(BackendSettings):
    """Of a back-end that can have one bank per domain."""

    domain_banks: bool | None = None
    """One bank per domain and the minimum; null = as `score.domain_banks`."""


class NearestSettings(BackendSettings):
    """Of a back-end that looks for nearest neighbours."""

    k: Positive = NEIGHBOURS
    """Neighbours whose mean counts."""


# ---------------------------------------------------------------------------------------------------------------- back-end
@dataclass(frozen=True)
class Backend:
    """A back-end: what a file of `auscult.scoring` calls `BACKEND`.

    Attributes:
        settings: model of its knobs. In the functions below null has been filled in (`BackendSettings.filled`).
        fit: (embeddings float32 [training clips, D], their machine, unit and domain, settings) -> state.
        score: (state, embeddings float32 [test clips, D], their machine and unit) -> float64 [test clips], higher = more
            anomalous. Refuses clips of a unit or machine type that it was not fitted to.
        left_out: (embeddings, table, settings) -> score of each training clip as if it were none; None = not known exactly.
        transductive: whether a score depends on the other test clips, so that it is no official one.
    """

    settings: type[BackendSettings]
    fit: Callable[[np.ndarray, pd.DataFrame, Any], Any]
    score: Callable[[Any, np.ndarray, pd.DataFrame], Floats]
    left_out: Callable[[np.ndarray, pd.DataFrame, Any], Floats] | None = None
    transductive: bool = False


@dataclass(frozen=True)
class Fitted:
    """State of a back-end made by `per_bank`: (machine, unit), or machine -> the states of its banks."""

    settings: BackendSettings
    banks: dict[Any, list[Any]]


def smallest(scores: Sequence[Floats]) -> Floats:
    """The minimum over banks, [queries] each.

    >>> smallest([np.array([1.0, 4.0]), np.array([2.0, 3.0])]).tolist()
    [1.0, 3.0]
    """
    return np.asarray(np.min(scores, axis=0), dtype=np.float64)


def per_bank(
    settings: type[BackendSettings],
    fit: Callable[[np.ndarray, np.ndarray, Any], Any],
    score: Callable[[Any, np.ndarray, Any], Floats],
    *,
    least: int = 1,
    enlarge: Callable[[np.ndarray, np.ndarray, Any], tuple[np.ndarray, np.ndarray]] | None = None,
    combine: Callable[[Sequence[Floats]], Floats] = smallest,
    left_out: Callable[[np.ndarray, pd.DataFrame, Any], Floats] | None = None,
    transductive: bool = False,
) -> Backend:
    """A back-end from functions that are given one bank.

    Args:
        settings: model of its knobs; with a field `domain_banks` it can have one bank per domain.
        fit: (embeddings [clips, D] of a bank, at least one, their domains [clips], settings) -> state of the bank.
        score: (that state, embeddings [queries, D], settings) -> scores [queries].
        least: training clips that `fit` needs. Where a domain has fewer, all clips share one bank.
        enlarge: (embeddings, domains, settings) of a unit or type -> the same with clips added, before domains are parted.
        combine: scores by each bank -> scores.
        left_out, transductive: see `Backend`.
    """

    def fit_all(train: np.ndarray, meta: pd.DataFrame, knobs: BackendSettings) -> Fitted:
        domain = meta["domain"].to_numpy() if "domain" in meta else np.full(len(train), "unknown")
        states = {}
        for group, rows in groups(meta, knobs.scope or "unit").items():
            clips, of = train[rows], domain[rows]
            if enlarge is not None:
                clips, of = enlarge(clips, of, knobs)
            parts = by_domain(of, least) if knobs.one_per_domain else [np.arange(len(clips))]
            states[group] = [fit(clips[part], of[part], knobs) for part in parts]
        return Fitted(knobs, states)

    def score_all(state: Fitted, test: np.ndarray, meta: pd.DataFrame) -> Floats:
        scope = state.settings.scope or "unit"
        refuse_unknown(state.banks, meta, scope)
        scores = np.full(len(test), np.nan)
        for group, rows in groups(meta, scope).items():
            scores[rows] = combine([score(bank, test[rows], state.settings) for bank in state.banks[group]])
        return scores

    return Backend(settings, fit_all, score_all, left_out, transductive)


# ------------------------------------------------------------------------------------------------------------------- clips
def groups(meta: pd.DataFrame, scope: Scope = "unit") -> dict[Any, np.ndarray]:
    """(machine, unit), or machine, or "all" -> its rows.

    >>> import pandas as pd
    >>> table = pd.DataFrame({"machine": ["fan", "fan", "pump"], "unit": ["00", "02", "00"]})
    >>> {name: rows.tolist() for name, rows in groups(table).items()}
    {('fan', '00'): [0], ('fan', '02'): [1], ('pump', '00'): [2]}
    >>> {name: rows.tolist() for name, rows in groups(table, "machine").items()}
    {'fan': [0, 1], 'pump': [2]}
    """
    if scope == "all":
        return {"all": np.arange(len(meta))} if len(meta) else {}
    columns = ["machine", "unit"] if scope == "unit" else "machine"
    rows: dict[Any, np.ndarray] = meta.reset_index(drop=True).groupby(columns).indices  # type: ignore[assignment]
    return rows


def by_domain(domain: np.ndarray, least: int = 1) -> list[np.ndarray]:
    """Rows of the clips of each domain; all rows as one where a domain has fewer than `least`.

    >>> [rows.tolist() for rows in by_domain(np.array(["source", "target", "source"]))]
    [[0, 2], [1]]
    >>> [rows.tolist() for rows in by_domain(np.array(["source", "target", "source"]), least=2)]
    [[0, 1, 2]]
    """
    names, counts = np.unique(domain, return_counts=True)
    if counts.min() < least:
        return [np.arange(len(domain))]
    return [np.flatnonzero(domain == name) for name in names]


def refuse_unknown(known: dict[Any, Any], test_meta: pd.DataFrame, scope: Scope = "unit") -> None:
    """
    Raises:
        AuscultError: test clips of a unit (with scope "machine": a machine type; "all": any at all) that is not in `known`.
    """
    strange = sorted(set(groups(test_meta, scope)) - set(known))
    if strange:
        names = listed([pair if isinstance(pair, str) else " ".join(map(str, pair)) for pair in strange])
        what = f"test clips of {'units' if scope == 'unit' else 'machine types'} without training clips:{names}"
        raise AuscultError(what, fix="embed both partitions again")


def unit_length(embeddings: np.ndarray) -> np.ndarray:
    """Embeddings [clips, D] of length one; a zero vector stays zero.

    >>> unit_length(np.array([[3.0, 4.0], [0.0, 0.0]])).tolist()
    [[0.6, 0.8], [0.0, 0.0]]
    """
    length = np.linalg.norm(embeddings, axis=1, keepdims=True)
    unit: np.ndarray = embeddings / np.where(length > 0, length, 1)
    return unit
