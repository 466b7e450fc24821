"""The band stack without an encoder: standardised bands by rows, and what the stages keep of the rows."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from auscult.errors import AuscultError
from auscult.methods.base import Batch, Shape
from auscult.methods.logmel_rows import METHOD, LogmelRows, LogmelRowsSettings
from auscult.models.rows import RowPooling


def batch(mel: np.ndarray) -> Batch:
    clips = len(mel)
    return Batch(
        wave=torch.zeros(clips, 1), mel=torch.from_numpy(mel), label=torch.zeros(clips, dtype=torch.int64),
        candidates=torch.ones(clips, 1, dtype=torch.bool),
    )  # fmt: skip


def test_rows_of_standardised_bands() -> None:
    rng = np.random.default_rng(0)
    mel = (rng.standard_normal((6, 8, 20)) * 5 - 40).astype(np.float32)
    shape = Shape(mels=8, frames=20, samples=320, sample_rate=16000, classes=1)
    network = METHOD.build(LogmelRowsSettings(bands=2, rows=RowPooling(how="mean")), shape)
    assert isinstance(network, LogmelRows)
    network.prepare([batch(mel[:4]), batch(mel[4:])])
    found, scores = network.embed(batch(mel))
    of_band = mel.transpose(1, 0, 2).reshape(8, -1).astype(np.float64)
    z = (mel - of_band.mean(1)[:, None]) / of_band.std(1)[:, None]
    np.testing.assert_allclose(
        found, z.mean(2), rtol=1e-4, atol=1e-6
    )  # rows one after another: the bands in their order
    assert (network.frequency_rows, scores) == (2, {})


def test_rows_of_unequal_width() -> None:
    with pytest.raises(AuscultError, match="128 mel bands do not fall into 7 rows"):
        METHOD.build(LogmelRowsSettings(bands=7), Shape(mels=128, frames=9, samples=99, sample_rate=16000, classes=1))
