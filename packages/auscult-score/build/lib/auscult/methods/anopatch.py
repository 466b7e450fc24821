"""AnoPatch (Jiang et al., Interspeech 2024): a pre-trained encoder, all of it fine-tuned to tell units or attributes apart.

---
deploy: {difference: 8e-06, torch: -, onnxruntime: -, remark: "BEATs, as `frozen`: about its time"}
fidelity:
  anopatch_2020:
    source: "Jiang et al., Interspeech 2024; the code it names was not to be had"
    remark: "90 M parameters, all trained: BEATs has 90,311,792. The number printed for both sets (92.58) does not follow from
      its parts (92.61)."
    golden:
      beats_tiny: tests/encoders/test_beats.py, tests/models/test_beats.py
      kaldi_fbank: tests/features/test_kaldi.py, tests/encoders/test_beats.py
    deviations:
      - {what: scale and margin of ArcFace, paper: "not stated; 30 and 0.2 in the same authors' report on DCASE 2025
         (SJTU-AITHU)", code: none, here: 30 and 0.2; 0.5 and 0.7 in studies/anopatch_2023, switch: "arcface.scale,
         anopatch.arcface.margin"}
      - {what: what a step is, paper: "10,000 steps, 960 of them warm-up, 8 batches accumulated", code: none, here: "batches,
         so 1,250 updates", switch: anopatch.step}
      - {what: schedule after the warm-up, paper: not stated, code: none, here: constant, switch: anopatch.schedule}
      - {what: weight decay, paper: AdamW, code: none, here: "0.01, AdamW's default", switch: anopatch.weight_decay}
      - {what: SpecAug, paper: masks of up to 40 (2020) or 80 (2023) bins and 80 frames; how many and how filled not stated,
         code: none, here: "one of each kind in every training clip, zeros after normalisation", switch: "specaug.frequency,
         specaug.time"}
      - {what: pooling, paper: attentive statistics from ECAPA-TDNN, code: none, here: bottleneck 128, switch:
         anopatch.pooling}
      - {what: length of a clip, paper: not stated, code: none, here: "10 s at a random place in training, whole in the test",
         switch: "anopatch.chunk_seconds, anopatch.test_clip"}
      - {what: clips shorter than the year's longest (2023), paper: not stated, code: none, here: "looped to its length, 18 s; a
         chunk of training lies in the recording if it is long enough", switch: anopatch.fill}
      - {what: layer-drop and gradient decay of BEATs, paper: not stated, code: 0.05 and 0.6 in the configuration of iteration
         3+, here: "off", switch: "encoder.layerdrop, encoder.gradient_decay"}
      - {what: which epoch is kept, paper: not stated, code: none, here: the last, switch: anopatch.selection}
      - {what: soft scoring, paper: the smaller of two distances, code: later code of an author standardises both over the
         test clips, here: the smaller one as it is; the other as `knn_cosine_transductive`}
      - {what: precision, paper: not stated, code: none, here: float32, switch: train.precision}
  anopatch_2023:
    as: anopatch_2020
    arms: [anopatch_margin_05, anopatch_margin_07]
    source: "Jiang et al., Interspeech 2024, Table 2; the code it names was not to be had"
    remark: "Classes are machine type and attributes: 167 on the 2023 data, as the paper says. The two others set the margin
      alone."
"""

from __future__ import annotations

from typing import Literal

from auscult.methods.base import Method, two_classes
from auscult.methods.finetuned import FineTuned, FineTuneSettings, encoder_size


class AnopatchSettings(FineTuneSettings):
    method: Literal["anopatch"] = "anopatch"
    chunk_seconds: float = 10.0
    train_steps: int = 10000
    warmup_steps: int = 960
    schedule: Literal["constant", "cosine"] = "constant"
    batch_size: int = 32
    accumulate: int = 8
    lr: float = 1e-4
    weight_decay: float = 0.01


METHOD = Method(
    settings=AnopatchSettings,
    build=FineTuned,
    wave=lambda settings: True,
    encoder_size=encoder_size,
    divisible=True,
    untrainable=two_classes,
)
