"""What the ArcFace classifiers over units have in common: plain loss, validation loss, score and mixing.

A method gives `features`; one that trains by another loss writes its own `loss`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
import torch
from pydantic import field_validator
from pydantic_core import PydanticCustomError
from torch import Tensor
from torch.nn.functional import cross_entropy

from auscult.losses.arcface import ArcFace, margin_nll
from auscult.methods.base import Batch, Drawn, Network
from auscult.settings.sections import LabelSettings, MixupSettings
from auscult.settings.training import MethodSettings
from auscult.training import distributed
from auscult.training.classes import centres_of


class ClassifierSettings(MethodSettings):
    """Of methods that tell classes apart."""

    labels: LabelSettings = LabelSettings()
    sub_centred: ClassVar[bool] = True
    """Whether a class may have several centres of its own (ArcFace)."""

    @field_validator("labels")
    @classmethod
    def _has_centres(cls, value: LabelSettings) -> LabelSettings:
        if value.missing == "subcentres" and not cls.sub_centred:
            raise PydanticCustomError("labels", "`missing: subcentres` needs ArcFace, which this method has not")
        return value


def arcface_head(settings: Any, classes: int, names: Sequence[str]) -> ArcFace:
    """ArcFace of so many classes, by the `embedding`, `arcface` and `labels` of a method's settings.

    `names` of the first of them (() = nobody knows them) decide how many centres each has.
    """
    centres = centres_of(names, settings.labels)
    centres += [1] * (classes - len(centres))
    return ArcFace(settings.embedding, classes, settings.arcface.scale, settings.arcface.margin, centres)


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


def draw_mixing_by_clip(size: int, probability: float, rng: np.random.Generator) -> Drawn:
    """Whether each clip is mixed, by a share of its own that is uniform in 0 to 1, and with whom: ASDKit's mixup.

    Returns:
        "share", float32 [size, 1], of the clip itself, 1 where it is left alone; "partner", int64 [size].

    >>> draw_mixing_by_clip(2, 0.0, np.random.default_rng(0))["share"].flatten()
    tensor([1., 1.])
    """
    share = np.where(rng.random(size) < probability, rng.random(size), 1.0).astype(np.float32)
    return {"share": torch.from_numpy(share[:, None]), "partner": torch.from_numpy(rng.permutation(size))}


def mix_by_clip(x: Tensor, drawn: Drawn) -> Tensor:
    """Rows [B, n] (sound, or shares of classes) mixed as `draw_mixing_by_clip` says."""
    return x.lerp(x[drawn["partner"]], 1 - drawn["share"])
