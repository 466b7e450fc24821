"""A pre-trained encoder as it is: pooled tokens of one layer, computed once and scored by any back-end.

Training-free systems differ in layer and pooling more than in anything else: GenRep (Saengthong and Shinozaki, 2024) takes an
early layer of BEATs and keeps its frequency rows apart, others average the last one.
"""

from __future__ import annotations

from typing import Literal

from torch import Tensor

from auscult.errors import AuscultError
from auscult.methods.base import Batch, Method, Shape
from auscult.methods.pretrained import Pretrained
from auscult.models.pooling import POOLINGS
from auscult.settings.sections import EncoderSettings
from auscult.settings.training import MethodSettings


class FrozenSettings(MethodSettings):
    method: Literal["frozen"] = "frozen"
    encoder: EncoderSettings = EncoderSettings(checkpoint="beats_iter3")
    pooling: Literal["mean", "mean_std", "max", "class_token", "rows"] = "mean"
    """Over the tokens of a clip; "rows" averages over time alone."""


class Frozen(Pretrained):
    """Nothing is trained, and nothing is saved that the checkpoint holds."""

    def __init__(self, settings: FrozenSettings, shape: Shape) -> None:
        super().__init__(settings.encoder, shape)
        self.pooling = settings.pooling
        self.encoder.requires_grad_(False)
        if settings.pooling == "class_token" and not self.encoder.class_token:
            raise AuscultError(f"encoder `{settings.encoder.name}` has no class token", "pooling", "use another one")

    def frozen(self) -> bool:
        return True

    def embed(self, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """Pooled tokens [B, D] (twice or eight times as many for some poolings); no score of its own."""
        tokens = self.encoder.tokens(self.front_end(self.whole(batch)), self.layer).float()
        return POOLINGS[self.pooling](tokens, self.encoder.rows, self.encoder.class_token), {}


METHOD = Method(
    settings=FrozenSettings,
    build=Frozen,
    scope="all",
    mel=lambda settings: "",
    wave=lambda settings: True,
)
