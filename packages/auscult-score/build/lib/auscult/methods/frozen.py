"""A pre-trained encoder as it is: pooled tokens of one layer, computed once and scored by any back-end.

Training-free systems differ in layer and pooling more than in anything else: GenRep (Saengthong and Shinozaki, 2024) takes an
early layer of BEATs and keeps its frequency rows apart, others average the last one.

---
deploy: {difference: 1e-07, torch: 3767, onnxruntime: 2730, remark: BEATs; its filter bank uses ONNX's DFT. Other encoders
  were not tried}
fidelity:
  frozen_beats:
    arms: [frozen_beats_rows, frozen_beats_mean_std, frozen_beats_8, frozen_beats_8_rows, frozen_beats_8_mean_std,
      frozen_beats_4, frozen_beats_4_rows, frozen_beats_4_mean_std, frozen_ced, frozen_eat,
      frozen_eat_clean, frozen_atst, frozen_ast,
      frozen_imagebind, frozen_clap, frozen_wavlm, frozen_sslam, frozen_eat_large, frozen_ced_tiny, frozen_dasheng,
      frozen_dasheng_rdp, frozen_m2d, frozen_m2d_clap, frozen_openl3, frozen_openl3_rdp, frozen_fisher, frozen_echo,
      frozen_beats_ft1_4_rows]
    source: "nobody's row; layer 4 and its rows follow Saengthong and Shinozaki, GenRep (arXiv 2409.05035)"
    golden:
      beats_tiny: tests/encoders/test_beats.py
      kaldi_fbank: tests/features/test_kaldi.py
      dasheng: tests/encoders/test_dasheng.py
      m2d: tests/encoders/test_m2d.py
      openl3: tests/encoders/test_openl3.py
      fisher: tests/encoders/test_banded.py
      echo: tests/encoders/test_banded.py
    deviations:
      - {what: weights, paper: "BEATs iteration 3+, fine-tuned on AudioSet labels", here: "iteration 3, self-supervised;
         GenRep's in frozen_beats_ft1_4_rows", switch: encoder.checkpoint}
      - {what: "to be hit by frozen_dasheng_rdp and frozen_openl3_rdp, 2025 dev and eval", paper: "61.3, 57.9 and 60.6, 58.6
         (arXiv 2603.04605, table V)", here: "not run: it takes data and checkpoints"}
      - {what: resampling before OpenL3, paper: resampy, here: torchaudio}
      - {what: target bank, paper: mixed with neighbours from the source (MemMixup), here: "as it is; `memmixup` of the
         back-ends does it"}
      - {what: clips shorter than the year's longest (2023 on), here: looped to its length, switch:
         frozen.fill}
      - {what: clean-up of EAT's tokens, paper: "0.1 from below; above 0.5 squashed by tanh, formula not printed", here: "0.5 +
         tanh(x - 0.5) above; off in every arm but frozen_eat_clean", switch: frozen.clean}
      - {what: scores, paper: standardised over the test clips, here: as they are}
  stack_rdp8:
    arms: [stack_mean_all, stack_mean, stack_max, stack_gem, stack_gwrp, stack_rdp_gem, stack_rdp4]
    source: "kasahart/asd-experiments, docs/02-protocol.md and results/03-beats (2026); RDP, GeM: arXiv 2603.04605"
    golden:
      beats_tiny: tests/encoders/test_beats.py
    deviations:
      - {what: to be hit on DCASE 2026 dev (near channel), paper: "mean over all tokens 57.16; rows 57.94; rows, BEAM 60.14,
         VarMin 60.28; RDP4, VarMin 61.32; RDP8, VarMin 62.02", here: "not run: it takes the data and BEATs iteration 3"}
      - {what: distance of BEAM, paper: (1 - cos) / 2, here: "1 - cos, which orders alike"}
      - {what: GeM with RDP, paper: weights of whole frames, here: of each row}
"""

from __future__ import annotations

from typing import ClassVar, Literal

from torch import Tensor

from auscult.errors import AuscultError
from auscult.methods.base import Batch, Method, Shape
from auscult.methods.pretrained import Pretrained
from auscult.models.pooling import POOLINGS, Clean, cleaned
from auscult.models.rows import RowPooling, grid, pool_rows
from auscult.settings.sections import EncoderSettings
from auscult.settings.training import MethodSettings


class FrozenSettings(MethodSettings):
    method: Literal["frozen"] = "frozen"
    encoder: EncoderSettings = EncoderSettings(checkpoint="beats_iter3")
    pooling: Literal["mean", "mean_std", "max", "class_token", "rows"] = "mean"
    """Over the tokens of a clip; "rows" pools over time alone, as `rows` says."""
    rows: RowPooling = RowPooling()
    clean: Clean = "none"
    """Of every token, before pooling; "eat" is meant for EAT."""
    any_length: ClassVar[bool] = True
    fill: Literal["none", "repeat", "zeros"] = "repeat"


class Frozen(Pretrained):
    """Nothing is trained, and nothing is saved that the checkpoint holds.

    Attributes:
        frequency_rows: F, that the embedding keeps apart.
    """

    def __init__(self, settings: FrozenSettings, shape: Shape) -> None:
        super().__init__(settings.encoder, shape)
        self.pooling, self.rows, self.clean = settings.pooling, settings.rows, settings.clean
        self.frequency_rows = self.encoder.rows if settings.pooling == "rows" else 1
        self.encoder.requires_grad_(False)
        if settings.pooling == "class_token" and not self.encoder.class_token:
            raise AuscultError(f"encoder `{settings.encoder.name}` has no class token", "pooling", "use another one")

    def frozen(self) -> bool:
        return True

    def embed(self, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """Pooled tokens [B, D] (twice as many for `mean_std`, [B, F * D] for `rows`); no score of its own."""
        self.check_length(batch.wave.shape[1])
        tokens = cleaned(self.encoder.tokens(self.front_end(batch.wave), self.layer).float(), self.clean)
        if self.pooling == "rows":
            return pool_rows(grid(tokens, self.encoder.rows, self.encoder.class_token), self.rows).flatten(1), {}
        return POOLINGS[self.pooling](tokens, self.encoder.class_token), {}


METHOD = Method(
    settings=FrozenSettings,
    build=Frozen,
    wave=lambda settings: True,
)
