"""What the ArcFace classifiers over units have in common: plain loss, validation loss, score and mixing.

A method gives `features`; one that trains by another loss writes its own `loss`.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from auscult.losses.arcface import ArcFace, margin_nll
from auscult.methods.base import Batch, Drawn, Network
from auscult.settings.sections import MixupSettings
from auscult.training import distributed


class ArcFaceClassifier(Network):
    """A network that embeds clips and tells units apart by the angles of the embedding to one centre per unit."""

    arcface: ArcFace
    score_margin: bool = True
    """Keep the margin in the test score, as the codes of STgram-MFN, Noisy-ArcMix and OS-SCL do."""

    def features(self, batch: Batch) -> Tensor:
        """What ArcFace sees, and the embedding of the clip: [B, E]."""
        raise NotImplementedError

    def loss(self, batch: Batch, drawn: Drawn) -> dict[str, Tensor]:
        """Cross-entropy of the clip's unit, with the margin on it."""
        x = distributed.sharded(self.features, batch)
        return {"loss": cross_entropy(self.arcface(x, batch.label), batch.label)}

    def valid_loss(self, batch: Batch) -> Tensor:
        """As `loss`, of each clean clip: [B]."""
        return cross_entropy(self.arcface(self.features(batch), batch.label), batch.label, reduction="none")

    def embed(self, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """Features [B, E], and `margin_nll` of the units the clip may belong to: [B], >= 0."""
        x = self.features(batch)
        margin = self.arcface.margin if self.score_margin else 0.0
        return x, {"native": margin_nll(self.arcface.cosine(x), batch.candidates, self.arcface.scale, margin)}


def draw_mixing(size: int, mixup: MixupSettings, rng: np.random.Generator) -> Drawn:
    """One lambda ~ Beta(alpha, alpha), not folded to >= 0.5, and one permutation for waveform and log-mel of a batch.

    As in the codes of Noisy-ArcMix and OS-SCL.

    Returns:
        "shares", float32 [2]: lambda and 1 - lambda, each rounded once; "partner", int64 [size]. Nothing with mode "none".
    """
    if mixup.mode == "none":
        return {}
    lam = rng.beta(mixup.alpha, mixup.alpha)
    return {
        "shares": torch.tensor([lam, 1 - lam], dtype=torch.float32),
        "partner": torch.from_numpy(rng.permutation(size)),
    }


def mix(batch: Batch, drawn: Drawn) -> tuple[Batch, Tensor, Tensor]:
    """Clips mixed as `draw_mixing` says; left as they are, with lambda 1, where it drew nothing.

    Returns:
        Mixed clips that keep their own labels y_a, the labels y_b (int64 [B]) of what was mixed in, and the shares of the
        two, float32 [2].
    """
    if not drawn:
        return batch, batch.label, torch.arange(1.0, -1.0, -1.0, device=batch.label.device)
    partner, shares = drawn["partner"], drawn["shares"]
    return batch.mixed(partner, shares), batch.label[partner], shares
