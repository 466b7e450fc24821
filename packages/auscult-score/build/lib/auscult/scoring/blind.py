"""Nobody says which machine a test clip is of: it is scored by every machine's training clips, and the smallest counts.

The protocol of Wilkinghoff, Imoto and Tan (arXiv 2602.16253): test clips of all machines are mixed, training clips and metrics
stay, and what a number per machine type loses says how much a system rested on being told the machine. Its abstract and
summaries were read, its formulas not: whether the banks' scores are put on one scale before the smallest is taken is therefore
a knob. So are the machines: here all that the profile trains on, of both sets. `scope: all` of a back-end is the other way,
one bank of all machines; with k = 1 and plain distances both are the same.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import numpy as np

from auscult.evaluation.metrics import Floats
from auscult.scoring import backends
from auscult.scoring.banks import BackendSettings, Scope, groups
from auscult.scoring.fusion import standardised

if TYPE_CHECKING:
    import pandas as pd

    from auscult.scoring.table import Embedded


class BlindSettings(BackendSettings):
    """An entry of a sweep: the scores that another would give without knowing the machine."""

    kind: Literal["blind"]
    of: str
    """A back-end of the same sweep."""
    standardise: bool = True
    """Each machine's scores by its own left-out training clips, so that no machine with small distances claims all clips."""


def blind(of: Embedded, settings: BackendSettings, left_out: Floats, standardise: bool) -> Floats:
    """The smallest score [test clips] over all units (machine types, if that is the back-end's scope).

    Args:
        of: embeddings and tables; `machine` and `unit` of test clips are not looked at.
        settings: of the back-end, filled in.
        left_out: its scores of the training clips, each left out.
    """
    backend, smallest, scope = backends()[settings.kind], np.full(len(of.test), np.inf), settings.scope or "unit"
    for rows in groups(of.train_meta, scope).values():
        here = of.train_meta.iloc[rows]
        told = _as(of.test_meta, here.iloc[0], scope)
        scores = backend.score(backend.fit(of.train[rows], here, settings), of.test, told)
        if standardise:
            scores = standardised(scores, told, left_out, of.train_meta)
        smallest = np.minimum(smallest, scores)
    return smallest


def _as(meta: pd.DataFrame, clip: pd.Series, scope: Scope) -> pd.DataFrame:
    """The table as if all clips were of one clip's unit. With a wider scope they are of none, so that the scale, too, is that of
    all clips in the bank."""
    return meta.assign(machine="" if scope == "all" else clip["machine"], unit=clip["unit"] if scope == "unit" else "")
