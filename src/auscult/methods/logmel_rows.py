"""The band stack without an encoder: bands of a log-mel spectrogram as frequency rows, each pooled over time by itself.

Nothing is trained. A row's vector is that of its mel bands; the back-ends `beam` and `varmin` look for the nearest training
clip of each row alone. What is left of frozen encoders' best recipe (models/rows.py) when the encoder is taken away.

---
fidelity:
  logmel_rows_rdp8:
    arms: [logmel_rows_mean, logmel_rows_max, logmel_rows_gwrp, logmel_rows_rdp4]
    source: "nobody's row; rows, RDP, BEAM and VarMin as in kasahart/asd-experiments, docs/02-protocol.md (2026)"
    deviations:
      - {what: tokens, paper: of BEATs, here: "log-mel bands, each standardised over all frames of the machine's training clips"}
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

from auscult.errors import AuscultError
from auscult.methods.base import Batch, Method, Network, Shape
from auscult.models.rows import pool_rows
from auscult.settings.untrained import LogmelRowsSettings

LEAST = 1e-6
"""Smallest deviation that is divided by: a band that never changes carries nothing."""


class LogmelRows(Network):
    """z-scores every mel band, then pools each row over time.

    Attributes:
        mean, std: [mels], over all frames of the machine's training clips.
        frequency_rows: F, that the embedding keeps apart.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, settings: LogmelRowsSettings, shape: Shape) -> None:
        super().__init__()
        if shape.mels % settings.bands:
            raise AuscultError(
                f"{shape.mels} mel bands do not fall into {settings.bands} rows of equal width", "logmel_rows.bands"
            )
        self.rows, self.frequency_rows = settings.rows, settings.bands
        self.register_buffer("mean", torch.zeros(shape.mels))
        self.register_buffer("std", torch.ones(shape.mels))

    def prepare(self, batches: Iterable[Batch]) -> None:
        count, total, square = 0, torch.zeros_like(self.mean).double(), torch.zeros_like(self.mean).double()
        for batch in batches:
            x = batch.mel.double()  # [B, M, T]
            count += x.shape[0] * x.shape[2]
            total += x.sum((0, 2))
            square += x.square().sum((0, 2))
        mean = total / count
        self.mean.copy_(mean)
        self.std.copy_((square / count - mean.square()).clamp(min=0).sqrt().clamp(min=LEAST))

    def embed(self, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """[B, mels]: F rows of mels / F values, lowest first; no score of its own."""
        z = (batch.mel - self.mean[:, None]) / self.std[:, None]
        tokens = z.unflatten(1, (self.frequency_rows, -1)).permute(0, 3, 1, 2)  # [B, T, F, M / F]
        return pool_rows(tokens, self.rows).flatten(1), {}


METHOD = Method(
    settings=LogmelRowsSettings,
    build=LogmelRows,
    scope="machine",
    distance="euclidean",  # the bands are z-scored
)
