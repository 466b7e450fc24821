"""Thresholds of arms, as the challenge's result files have them; of many arms in several processes at once."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from auscult.data.audio import workers_or_cores
from auscult.errors import AuscultError
from auscult.results.page.context import Context
from auscult.scoring import left_out_kinds
from auscult.scoring.banks import Scope
from auscult.scoring.submission import Unit, thresholds
from auscult.scoring.table import bank_rules

Limits = Mapping[Unit, float]
FEW = 8
"""Arms that one process has done before others have started."""


@dataclass(frozen=True)
class Request:
    """What the thresholds of one arm come from: its embeddings of training clips, and the settings (`thresholds`)."""

    folder: Path
    backend: str
    rate: float
    k: int
    domains: bool
    scope: Scope


def request(context: Context, arm: str) -> Request:
    """For the first seed of an arm."""
    rows, score = context.scores[arm], context.params.section("score")
    seed = int(rows["seed"].iloc[0]) if "seed" in rows else context.seeds[0]
    return Request(
        context.paths.embeddings(arm, seed),
        context.backends[arm],
        context.params.section("submission").rate,
        score.k,
        bank_rules(score, context.profile.rules.domains),
        score.scope,
    )


def limits(of: Request) -> dict[Unit, float]:
    """(machine, unit) -> the score beyond which a clip is called an anomaly (`submission.rate`).

    Raises:
        AuscultError: the back-end gives training clips no score.
        OSError: the embeddings of the training clips are not there.
    """
    meta = pd.read_parquet(of.folder / "train.parquet")
    if of.backend not in left_out_kinds() and of.backend not in meta:
        what = f"back-end `{of.backend}` gives training clips no score, so there is no threshold"
        raise AuscultError(what, str(of.folder / "train.parquet"))
    # An arm's own scores stand in its table: nobody needs the vectors.
    train: NDArray[np.float32] = (
        np.load(of.folder / "train.npy") if of.backend in left_out_kinds() else np.empty((len(meta), 0), np.float32)
    )
    return thresholds(train, meta, of.backend, of.rate, of.k, of.domains, of.scope)


def limits_or_reason(of: Request) -> dict[Unit, float] | str:
    """`limits`, or why there are none; "" = no embeddings, which is no fault."""
    try:
        return limits(of)
    except FileNotFoundError:
        return ""
    except AuscultError as error:
        return str(error)


def all_limits(context: Context, arms: Sequence[str], workers: int = 0) -> dict[str, Limits]:
    """arm -> its thresholds; an empty mapping where there are none, and the reason on stderr.

    Args:
        workers: processes at once; 0 = one per core. One distribution is fitted per unit, in a thousand small steps of
            Python, which threads would take one after the other.
    """
    wanted = [request(context, arm) for arm in arms]
    workers = min(workers_or_cores(workers), len(wanted) // FEW)
    if workers < 2:
        found = [limits_or_reason(one) for one in wanted]
    else:
        # "spawn": a child must not inherit PyTorch's threads.
        with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
            try:
                found = list(pool.map(limits_or_reason, wanted))
            except BrokenProcessPool as error:
                raise AuscultError("a process that computes thresholds died", fix="is there memory left?") from error
            except BaseException:  # also Ctrl-C
                pool.shutdown(cancel_futures=True)
                raise
    out: dict[str, Limits] = {}
    for arm, one in zip(arms, found, strict=True):
        if one and isinstance(one, str):
            print(f"{arm}: no thresholds: {one}", file=sys.stderr)
        out[arm] = {} if isinstance(one, str) else one
    return out
