"""A pre-trained encoder as it is: pooled tokens of one layer, computed once and scored by any back-end.

Training-free systems differ in layer and pooling more than in anything else: GenRep (Saengthong and Shinozaki, 2024) takes an
early layer of BEATs and keeps its frequency rows apart, others average the last one.

---
deploy: {difference: 1e-07, torch: 3767, onnxruntime: 2730, remark: BEATs; its filter bank uses ONNX's DFT. Other encoders
  were not tried}
fidelity:
  frozen_beats:
    arms: [frozen_beats_rows, frozen_beats_mean_std, frozen_beats_8, frozen_beats_8_rows, frozen_beats_8_mean_std,
      frozen_beats_4, frozen_beats_4_rows, frozen_beats_4_mean_std, frozen_ced, frozen_eat, frozen_atst, frozen_ast,
      frozen_imagebind, frozen_clap, frozen_wavlm]
    source: "nobody's row; layer 4 and its rows follow Saengthong and Shinozaki, GenRep (arXiv 2409.05035)"
    golden:
      beats_tiny: tests/encoders/test_beats.py
      kaldi_fbank: tests/features/test_kaldi.py
    deviations:
      - {what: weights, paper: "BEATs iteration 3+, fine-tuned on AudioSet labels", here: "iteration 3, self-supervised",
         switch: encoder.checkpoint}
      - {what: target bank, paper: mixed with neighbours from the source (MemMixup), here: as it is; `smote` of the back-ends
         is of that kind}
      - {what: clips shorter than the year's longest (2023 on), here: looped to its length, switch:
         frozen.fill}
      - {what: scores, paper: standardised over the test clips, here: as they are}
"""

from __future__ import annotations

from typing import ClassVar, Literal

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
    any_length: ClassVar[bool] = True
    fill: Literal["none", "repeat", "zeros"] = "repeat"


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
        self.check_length(batch.wave.shape[1])
        tokens = self.encoder.tokens(self.front_end(batch.wave), self.layer).float()
        return POOLINGS[self.pooling](tokens, self.encoder.rows, self.encoder.class_token), {}


METHOD = Method(
    settings=FrozenSettings,
    build=Frozen,
    wave=lambda settings: True,
)
