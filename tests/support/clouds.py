"""Embeddings of two machine types with units and domains, for the tests of all back-ends."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pandas as pd


class Clouds(NamedTuple):
    """In the order of a back-end's arguments."""

    train: np.ndarray
    train_meta: pd.DataFrame
    test: np.ndarray
    test_meta: pd.DataFrame


UNITS = [("fan", "00"), ("fan", "02"), ("valve", "00")]


def clouds(source: int = 20, target: int = 4, test: int = 7, dims: int = 6, seed: int = 0) -> Clouds:
    """Three units, each with a source and a target cloud, clips in mixed order; `source`, `target`, `test` clips a unit."""
    rng = np.random.default_rng(seed)
    centre = {(*unit, domain): rng.standard_normal(dims) * 2 for unit in UNITS for domain in ("source", "target")}

    def clips(counts: dict[str, int]) -> tuple[np.ndarray, pd.DataFrame]:
        rows = [(*unit, domain) for unit in UNITS for domain, count in counts.items() for _ in range(count)]
        rows = [rows[i] for i in rng.permutation(len(rows))]
        vectors = np.array([centre[row] + rng.standard_normal(dims) for row in rows]).reshape(len(rows), dims)
        meta = pd.DataFrame(rows, columns=["machine", "unit", "domain"]).assign(set="dev", clip_id=range(len(rows)))
        return vectors.astype(np.float32), meta

    train, train_meta = clips({"source": source, "target": target})
    queries, test_meta = clips({"source": test - test // 2, "target": test // 2})
    return Clouds(train, train_meta, queries, test_meta.assign(domain="unknown", clip_id=test_meta["clip_id"] + 1000))


def of_unit(parts: Clouds, machine: str, unit: str) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Embeddings and domains of a unit's training clips, embeddings and rows of its test clips."""
    here = ((parts.train_meta["machine"] == machine) & (parts.train_meta["unit"] == unit)).to_numpy()
    there = np.flatnonzero((parts.test_meta["machine"] == machine) & (parts.test_meta["unit"] == unit))
    return parts.train[here], parts.train_meta["domain"].to_numpy()[here], parts.test[there], there
