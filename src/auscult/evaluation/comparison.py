"""Which of two arms is better, and whether by more than chance: paired differences between the numbers of an evaluation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd

from auscult.errors import AuscultError
from auscult.evaluation.evaluate import Key, Replicates
from auscult.evaluation.intervals import percentiles
from auscult.evaluation.metrics import Floats

DIFFERENCE_COLUMNS = ["arm", "backend", "reference", "reference_backend", "convention", "set", "machine", "metric"]
DIFFERENCE_COLUMNS += ["difference", "ci_low", "ci_high", "verdict", "level"]


class Comparison(NamedTuple):
    """Paired difference first - second in percentage points; `verdict` is "better", "worse", "tie" or "undefined"."""

    difference: float
    ci_low: float
    ci_high: float
    verdict: str


def compare(
    result: Replicates,
    first: tuple[str, str],
    second: tuple[str, str],
    metric: str = "auc",
    convention: str = "per_unit",
    set_name: str = "dev",
    machine: str = "mean",
    level: float = 0.95,
) -> Comparison:
    """Paired bootstrap difference between two (arm, back-end) pairs of `result` on one number.

    Both are resampled with the same clip weights, so what is common to them (hard clips, an easy machine) cancels.

    Returns:
        Difference first - second in percentage points with the percentiles of its replicates at `level`; the verdict is a
        tie when these enclose zero, and "undefined" when either number is.

    Raises:
        AuscultError: `result` lacks one of the two numbers.
    """
    arrays = []
    for arm, backend in (first, second):
        key = Key(arm, backend, convention, set_name, machine, metric)
        if key not in result.values:
            raise AuscultError(f"nothing evaluated for {'/'.join(key)}", fix="evaluate this arm and back-end too")
        arrays.append(result.values[key])
    return _comparisons([arrays[0] - arrays[1]], level)[0]


def differences(result: Replicates, reference: tuple[str, str], level: float = 0.95) -> pd.DataFrame:
    """`compare` of every number with the same one of `reference`, an (arm, back-end) pair, for all machines and averages.

    Returns:
        Columns `DIFFERENCE_COLUMNS`, percentage points; no rows for the reference itself. The verdict is "undefined",
        and the number empty, where either of the two is.
    """
    keys = [key for key in result.values if (key.arm, key.backend) != reference]
    nothing = np.full(len(next(iter(result.values.values()))), np.nan) if keys else np.empty(0)
    others = [result.values.get(key._replace(arm=reference[0], backend=reference[1]), nothing) for key in keys]
    found = _comparisons([result.values[key] - other for key, other in zip(keys, others, strict=True)], level)
    rows = [(*key[:2], *reference, *key[2:], *one, level) for key, one in zip(keys, found, strict=True)]
    return pd.DataFrame(rows, columns=DIFFERENCE_COLUMNS)


def best(result: Replicates, level: float = 0.95) -> pd.DataFrame:
    """The best (arm, back-end) of every number, and whether it is more than a tie with any other.

    Returns:
        Columns convention, set, machine, metric, arm, backend, clear: `clear` is true when the paired interval of the
        difference to every other (arm, back-end) lies above zero. Undefined numbers take no part.
    """
    columns: dict[tuple[str, ...], list[Key]] = {}
    for key, values in result.values.items():
        if not np.isnan(values[0]):
            columns.setdefault((key.convention, key.set, key.machine, key.metric), []).append(key)
    rows = []
    for column, keys in columns.items():
        top = max(keys, key=lambda key: result.values[key][0])
        others = [result.values[top] - result.values[key] for key in keys if key != top]
        clear = bool(others) and bool((percentiles(others, level)[:, 0] > 0).all())
        rows.append((*column, top.arm, top.backend, clear))
    return pd.DataFrame(rows, columns=["convention", "set", "machine", "metric", "arm", "backend", "clear"])


def _comparisons(differences: Sequence[Floats], level: float) -> list[Comparison]:
    """Verdicts on differences as fractions, [1 + R] each."""
    found = []
    for values, (low, high) in zip(differences, percentiles(differences, level).tolist(), strict=True):
        if np.isnan([values[0], low, high]).any():
            verdict = "undefined"
        elif low <= 0 <= high:
            verdict = "tie"
        else:
            verdict = "better" if low > 0 else "worse"
        found.append(Comparison(100 * float(values[0]), 100 * low, 100 * high, verdict))
    return found
