"""Recordings that come beside the training clips since 2025: the machine alone, and the noise alone.

`clean` (the winner of 2025, L. Wang): the machine alone joins the training clips. `noise_probability` (SJTU-AITHU, 2025): to a
training clip noise alone of its own machine type is added, at a ratio drawn from `snr`; its label stays.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from auscult.data.store import SUPPLEMENTAL, ClipStore
from auscult.errors import AuscultError
from auscult.settings.sections import SupplementSettings
from auscult.training import distributed

OWN = "supplemental"
"""Attributes of a clean clip that the training clips do not tell: a class of its unit's own."""
KNOBS = {"machine": "supplement.clean", "noise": "supplement.noise_probability"}


def folder_of(features: Path, kind: str) -> Path:
    """Where a kind ("machine", "noise") is packed, below the folder of the training clips.

    Raises:
        AuscultError: there are none.
    """
    folder = features / SUPPLEMENTAL / kind
    if not (folder / "index.parquet").is_file():
        fix = "switch it off, or use a profile that has them (dcase2025, synthetic_stereo)"
        raise AuscultError(f"`{KNOBS[kind]}`, and there are no recordings of the {kind} alone", str(features), fix)
    return folder


def supplemented(
    opened: Callable[..., ClipStore], features: Path, settings: SupplementSettings
) -> tuple[ClipStore, Noises | None, list[Path]]:
    """Training clips with what these settings put beside them: clips, noises, and the packed folders that were read.

    Args:
        opened: the packed clips in a folder, with those in a folder `beside` behind them.
        features: of the training clips.
    """
    read = [features]
    beside = folder_of(features, "machine") if settings.clean else None
    store = opened(features, beside=beside)
    if beside is not None:
        read.append(beside)
    if not settings.noise_probability:
        return store, None, read
    read.append(folder_of(features, "noise"))
    return store, Noises(store, opened(read[-1]), settings), read


def classed(index: pd.DataFrame, clips: int) -> pd.DataFrame:
    """`index`, whose rows from `clips` on are clean ones, with attributes that make a class of each of these.

    Those in the name where training clips of the unit have them, those of all training clips of the unit where there are no
    others, else a class of the unit's clean clips.

    >>> clips = [("fan", "00", "a"), ("fan", "00", "b"), ("pump", "00", "c")]
    >>> clean = [("fan", "00", "b"), ("fan", "00", ""), ("pump", "00", "")]
    >>> classed(pd.DataFrame(clips + clean, columns=["machine", "unit", "attributes"]), 3)["attributes"].tolist()
    ['a', 'b', 'c', 'b', 'supplemental', 'c']
    """
    known = index[:clips].groupby(["machine", "unit"])["attributes"].agg(set).to_dict()
    attributes = list(index["attributes"])
    for row, (machine, unit) in enumerate(zip(index["machine"][clips:], index["unit"][clips:], strict=True), clips):
        there = known.get((machine, unit), set())
        if attributes[row] not in there:
            attributes[row] = next(iter(there)) if len(there) == 1 else OWN
    return index.assign(attributes=attributes)


class Noises:
    """The noise alone of each machine type, and what is drawn of it for a batch.

    Args:
        clips: training clips, whose machine types decide what may be added to which.
        noise: noise alone, as long as those and at their rate.
    """

    def __init__(self, clips: ClipStore, noise: ClipStore, settings: SupplementSettings) -> None:
        self.settings, self.store = settings, noise.repeating()
        machines = noise.index["machine"].to_numpy(str)
        order = np.argsort(machines, kind="stable")
        names, first, counts = np.unique(machines[order], return_index=True, return_counts=True)
        own = pd.Index(names).get_indexer(clips.index["machine"])
        # A last entry for machine types without noise.
        self.order, self.first = order, np.append(first, 0)[own]
        self.counts = np.append(counts, 0)[own]
        if not self.counts.all():
            lacking = ", ".join(sorted(set(clips.index["machine"][self.counts == 0])))
            distributed.say(f"no noise alone of {lacking}: no noise is added to their clips")

    def draw(self, rows: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """For clips at these rows: places in the batch that noise is added at, rows of the noises, and dB."""
        size = len(rows)
        added, which, level = rng.random(size), rng.random(size), rng.integers(len(self.settings.snr), size=size)
        places = np.flatnonzero((added < self.settings.noise_probability) & (self.counts[rows] > 0))
        clips = rows[places]
        noises = self.order[self.first[clips] + (which[places] * self.counts[clips]).astype(np.int64)]
        return places, noises, np.array(self.settings.snr)[level[places]]

    def mixed(self, wave: Tensor, valid: Tensor | None, rows: np.ndarray, rng: np.random.Generator) -> Tensor:
        """Waveforms [B, samples] of the clips `rows` with noise, over their first `valid` samples (None = all)."""
        places, noises, snr_db = self.draw(rows, rng)
        at = torch.from_numpy(places).to(wave.device)
        noise, own = self.store.wave(torch.from_numpy(noises)), wave[at]
        if valid is not None:
            noise = noise.where(torch.arange(wave.shape[1], device=wave.device) < valid[at][:, None], 0)
        return wave.index_copy(0, at, own + noise * gain(own, noise, torch.from_numpy(snr_db).to(wave.device)))


def gain(wave: Tensor, noise: Tensor, snr_db: Tensor) -> Tensor:
    """Factor [B, 1] that sets `noise` so many dB below `wave`, both [B, samples]; 0 where either is silent.

    >>> gain(torch.tensor([[2.0, -2.0], [1.0, 1.0]]), torch.tensor([[1.0, 1.0], [0.0, 0.0]]), torch.tensor([20.0, 5.0])).tolist()
    [[0.20000000298023224], [0.0]]
    """
    power, added = (x.square().mean(1, keepdim=True, dtype=torch.float64) for x in (wave, noise))
    ratio = torch.where(added > 0, power / added.clamp(min=1e-30), 0.0)
    return (ratio.sqrt() * 10 ** (-snr_db.double()[:, None] / 20)).to(wave.dtype)
