"""What a bundle computes as one network: waveform [n, window] in, score [n] out."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from auscult.detector.onnx.spectrum import ExportLogMel
from auscult.errors import AuscultError
from auscult.features import LOG_MELS
from auscult.methods.base import Method, Network
from auscult.training.inputs import Inputs
from auscult.training.modelfolder import Trained


class Neighbours(nn.Module):
    """Mean distance to the `k` nearest of a bank [m, D], as `auscult.scoring.knn.nearest` on CPUs."""

    bank: Tensor
    squares: Tensor

    def __init__(self, bank: np.ndarray, k: int, metric: str) -> None:
        super().__init__()
        reference = torch.from_numpy(np.asarray(bank, np.float64))
        if metric == "cosine":
            reference = reference / reference.norm(dim=1, keepdim=True).clamp(min=np.finfo(np.float64).tiny)
        elif metric != "euclidean":
            raise AuscultError(f"a bank with distance `{metric}` cannot be exported", fix="use cosine or euclidean")
        self.k, self.metric = min(k, len(bank)), metric
        # In float64: |x - y|^2 from three large products would lose half the digits.
        self.register_buffer("bank", reference)
        self.register_buffer("squares", reference.square().sum(1))

    def forward(self, vectors: Tensor) -> Tensor:
        """[n, D] -> float64 [n]."""
        x = vectors.double()
        if self.metric == "cosine":
            norm = x.square().sum(1, keepdim=True).sqrt().clamp(min=1e-300)
            distance = (1.0 - (x / norm) @ self.bank.T).clamp(min=0.0)
        else:
            square = x.square().sum(1, keepdim=True) + self.squares - 2.0 * (x @ self.bank.T)
            distance = square.clamp(min=0.0).sqrt()
        return distance.topk(self.k, dim=1, largest=False).values.mean(1)


class Scorer(nn.Module):
    """Waveform [n, window] -> score [n]: what is exported.

    Args:
        method, settings, network: as in a model folder.
        sample_rate: Hz.
        classes: of the network; every one is a candidate.
        backend: from embeddings [n, D] to scores [n]; None = the method's own score.
    """

    candidates: Tensor

    def __init__(
        self, method: Method, settings: Any, network: Network, sample_rate: int, classes: int, backend: nn.Module | None
    ) -> None:
        super().__init__()
        if settings.lowpass_hz:
            raise AuscultError("a bundle with a low-pass (`lowpass_hz`) cannot be exported", fix="fit one without")
        self.inputs = Inputs.of(method, settings)
        name = self.inputs.frontend
        if name and name not in LOG_MELS:
            raise AuscultError(f"the front-end `{name}` cannot be exported", fix=f"use one of: {', '.join(LOG_MELS)}")
        self.front_end = ExportLogMel(LOG_MELS[name], sample_rate) if name else nn.Identity()
        self.network, self.backend = network, backend
        self.register_buffer("candidates", torch.ones(1, classes, dtype=torch.bool))

    def forward(self, waveform: Tensor) -> Tensor:
        """float32 [n, window] in [-1, 1) -> float32 [n]."""
        batch = self.inputs.batch(
            wave=lambda: waveform,
            mel=lambda frontend: self.front_end(waveform),
            candidates=self.candidates.expand(waveform.shape[0], -1),
        )
        vectors, own = self.network.embed(batch)
        score = own["native"] if self.backend is None else self.backend(vectors)
        return score.float()


def scorer(trained: Trained, sample_rate: int, bank: np.ndarray | None, k: int = 1, metric: str = "cosine") -> Scorer:
    """What is exported, of a model with one network.

    Args:
        bank: reference embeddings float32 [m, D]; None = the method's own score.

    Raises:
        AuscultError: more networks than one.
    """
    if bank is not None and not trained.method.exports_embedding:
        what = f"`{trained.settings.method}` is exported with its own score alone"
        raise AuscultError(what, fix="fit it with the back-end `native`")
    if len(trained.networks) != 1:
        what = f"the model has {len(trained.networks)} networks ({', '.join(trained.networks)}), and a file holds one"
        raise AuscultError(what, fix="fit a bundle per machine")
    ((name, network),) = trained.networks.items()
    network.eval()
    backend = None if bank is None else Neighbours(bank, k, metric)
    return Scorer(trained.method, trained.settings, network, sample_rate, trained.shapes[name].classes, backend).eval()
