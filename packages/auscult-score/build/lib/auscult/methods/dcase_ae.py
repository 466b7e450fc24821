"""Autoencoder of the DCASE 2023 to 2026 Task 2 baselines (Harada et al., EUSIPCO 2023), with its scores.

Five log-mel frames x_t in, the same five out: r(x_t). One network per machine type, trained on the squared error. What is left
over, delta = x_t - r(x_t), is one vector per frame, five per window. A clip's scores:

* `mse`: the mean over its windows of the mean square of delta;
* `mahala`, selective Mahalanobis as published: the mean over windows of min(D_source, D_target), where D_d is the mean of
  delta' P_d delta over the window's frames, and P_d the inverse covariance of delta in the training clips of domain d;
* `mahala_coded`, as the baseline computes it: it multiplies all vectors of a clip with all others and averages over all pairs.
  The mean over pairs of delta_i' P delta_j is m' P m with m the *mean residual of the clip*, and the smaller of both domains is
  taken once per clip. A fault that makes a band louder as often as softer leaves it as it is. The results published as MAHALA
  are of this one.

---
deploy: {difference: 8e-07, torch: -, onnxruntime: -, remark: "each of the three scores; about the time of `ae`"}
fidelity:
  dcase_ae:
    source: "Harada et al., EUSIPCO 2023; code nttcslab/dcase2023_task2_baseline_ae 9b64dc4, the baseline from 2023 to 2026"
    parameters: {source: 267928, unused: 0, words: "one network per machine type; the source's two covariances are no weights"}
    remark: "Official scores of the evaluation sets, MSE / MAHALA: 2024 56.508 / 56.489, 2025 54.428 / 56.506; 2026 MSE 59.803.
      Han et al. (Tables II and X) print the same run of 2024 as 55.63: each of their cells is the mean of pAUC and the harmonic
      mean of both AUC (nine of nine agree with the evaluator's numbers to 0.01), not the harmonic mean of the three."
    golden:
      dcase_ae: tests/methods/test_dcase_ae.py
    deviations:
      - {what: Mahalanobis score, paper: mean over windows of the smaller distance, code: "Mahalanobis norm of the clip's mean
         residual, the smaller once per clip", here: "both: `native_mahala`, `native_mahala_coded`", switch: dcase_ae.score}
      - {what: distance of a window, paper: "its equation was not at hand, only its minimum over domains per window", code: five
         vectors of 128 with one covariance, here: "mean over the five, as the code; factors change no ranking"}
      - {what: covariance, paper: of the residuals of a domain, code: "centred within each batch (some 2.6 target windows),
         divided by windows less one, at five vectors each", here: "as the code, averaged over all shuffles of the windows"}
      - {what: clips behind the covariance, code: the 90 % of windows that are trained on, here: "all training clips, the
         held-out ones too: of ten target clips none is lost"}
      - {what: no target clip, code: covariance of the source, here: as the code}
      - {what: covariance without an inverse, code: torch.inverse in float32, here: pseudo-inverse in float64}
      - {what: held out, code: a tenth of the windows, here: a tenth of the clips by seed; neither selects an epoch, switch:
         dcase_ae.valid_fraction}
      - {what: training data of the evaluation units until 2022, code: trained apart from the development units, here: one
         network on both}
      - {what: logarithm, code: "of max(P, 2.2e-16)", here: of P + 2.2e-16, switch: dcase_ae.frontend}
      - {what: clips shorter than the year's longest, code: "each machine type has clips of one length", here: "windows of each
         clip alone, to its last frame", switch: dcase_ae.fill}
      - {what: threshold, code: "from the scores of shuffled batches of 256 windows, not of clips", here: from those of clips}
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from math import comb
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from auscult.methods.base import Batch, Drawn, Method, Shape
from auscult.methods.windows import WindowErrors, mean_over_windows
from auscult.models.autoencoder import Autoencoder
from auscult.settings.training import MethodSettings

FRAMES = 5
LATENT = 8
SCORES = ("mse", "mahala", "mahala_coded")


class DcaseAeSettings(MethodSettings):
    method: Literal["dcase_ae"] = "dcase_ae"
    any_length: ClassVar[bool] = True
    fill: Literal["none", "repeat", "zeros"] = "none"
    frontend: str = "dcase_constant"
    score: Literal["mse", "mahala", "mahala_coded"] = "mse"
    """Which one is called `native`; the others are `native_<name>`."""
    epochs: int = 100
    batch_size: int = 256
    """Windows, not clips."""
    optimizer: Literal["adam", "adamw"] = "adam"
    lr: float = 1e-3
    schedule: Literal["constant", "cosine"] = "constant"
    valid_fraction: float = 0.1


class DcaseAe(WindowErrors):
    width = FRAMES
    precision: Tensor

    def __init__(self, settings: DcaseAeSettings, shape: Shape) -> None:
        super().__init__()
        self.score, self.batch_size, self.mels = settings.score, settings.batch_size, shape.mels
        self.autoencoder = Autoencoder(FRAMES * shape.mels, FRAMES * shape.mels, bottleneck=LATENT)
        for module in self.autoencoder.modules():
            if isinstance(module, nn.BatchNorm1d):
                module.eps, module.momentum = 1e-3, 0.01
        # Inverse covariance of source and target; of no meaning before `finish`.
        self.register_buffer("precision", torch.eye(shape.mels).repeat(2, 1, 1))

    def residuals(self, windows: Tensor) -> tuple[Tensor, Tensor]:
        """Bottleneck [n, 8] and delta, float32 [n, 5, mels], of windows [n, mels, 5]."""
        window = windows.transpose(1, 2)  # frame-major
        output, latent = self.autoencoder(window.flatten(1))
        return latent, window - output.float().unflatten(1, (FRAMES, self.mels))

    def loss(self, batch: Batch, drawn: Drawn) -> dict[str, Tensor]:
        return {"loss": self.residuals(batch.mel)[1].square().mean()}

    def valid_loss(self, batch: Batch) -> Tensor:
        return super().embed(batch)[1]["native"]

    def evaluate(self, windows: Tensor) -> tuple[Tensor, Tensor]:
        """Of windows [n, mels, 5]: bottleneck, mean residual and smaller distance side by side [n, 8 + mels + 1], error [n]."""
        latent, delta = self.residuals(windows)
        with torch.autocast(delta.device.type, enabled=False):
            distance = self.distances(delta).mean(2).amin(0)
        return torch.cat([latent.float(), delta.mean(1), distance.unsqueeze(1)], 1), delta.square().mean((1, 2))

    def distances(self, delta: Tensor) -> Tensor:
        """delta' P_d delta [2, ...] of vectors [..., mels], by the source's and the target's precision."""
        return torch.stack([((delta @ precision) * delta).sum(-1) for precision in self.precision])

    def embed(self, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """Mean bottleneck [B, 8] over all windows of whole clips, and the three scores [B]."""
        means, errors = super().embed(batch)
        latent, residual, distance = means.split([LATENT, self.mels, 1], 1)
        with torch.autocast(residual.device.type, enabled=False):
            coded = self.distances(residual).amin(0)
        scores = dict(zip(SCORES, (errors["native"], distance.squeeze(1), coded), strict=True))
        return latent, {"native" if name == self.score else f"native_{name}": scores[name] for name in SCORES}

    def finish(self, batches: Iterable[Batch]) -> None:
        """The precisions, from all training clips."""
        domains = [Sums(self.mels, self.precision.device) for _ in range(2)]
        for batch in batches:
            for sums, mine in zip(domains, (~batch.target, batch.target), strict=True):
                if mine.any():
                    mean_over_windows(partial(self._add, sums), batch.mel[mine], FRAMES)
        windows = sum(sums.windows for sums in domains)
        known = [sums.covariance(windows, self.batch_size) for sums in domains if sums.windows > 1]
        self.precision.copy_(torch.linalg.pinv(torch.stack([known[0], known[-1]]), hermitian=True))

    def _add(self, sums: Sums, windows: Tensor) -> tuple[Tensor, ...]:
        sums.add(self.residuals(windows)[1])
        return ()


class Sums:
    """What the covariance of a domain's residuals is made of, added up in float64.

    With v a residual [mels] and w the sum of the five of its window: sums of v v', w w' and w.
    """

    def __init__(self, mels: int, device: torch.device) -> None:
        self.windows = 0
        self.of_vectors, self.of_windows = torch.zeros(2, mels, mels, dtype=torch.float64, device=device)
        self.total = torch.zeros(mels, dtype=torch.float64, device=device)

    def add(self, delta: Tensor) -> None:
        """Residuals of windows [n, 5, mels]."""
        vectors, windows = delta.double().flatten(0, 1), delta.double().sum(1)
        self.windows += len(windows)
        self.of_vectors += vectors.T @ vectors
        self.of_windows += windows.T @ windows
        self.total += windows.sum(0)

    def covariance(self, windows: int, batch_size: int) -> Tensor:
        """[mels, mels], as the baseline forms it in batches of shuffled windows, averaged over all shuffles.

        A batch with k of the domain's n windows is centred by their mean, which takes s s' / 5k off the sum of v v', s being
        the sum of their w. Over shuffles, s s' has the mean k/n sum(w w') + k(k-1)/n(n-1) (sum(w) sum(w)' - sum(w w')). Added up
        over batches, all k are n and all k - 1 are n less the number of batches that hold any of the domain's windows.

        Args:
            windows: of both domains.
        """
        n, full = self.windows, min(batch_size, windows)
        sizes = ((full, windows // full), (windows % full, 1))
        held = sum(count * (1 - comb(windows - n, size) / comb(windows, size)) for size, count in sizes)
        pairs = torch.outer(self.total, self.total) - self.of_windows
        centre = (held * self.of_windows + (n - held) / (n - 1) * pairs) / (FRAMES * n)
        return (self.of_vectors - centre) / (n - 1)


METHOD = Method(
    settings=DcaseAeSettings,
    build=DcaseAe,
    scope="machine",
    window=lambda settings, frames: FRAMES,
    domains=True,
)
