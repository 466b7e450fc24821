"""AnoPatch (Jiang et al., Interspeech 2024): a pre-trained encoder, all of it fine-tuned to tell units or attributes apart.

The authors' code was not to be had. What the paper leaves open, and what is done here: ArcFace's scale and margin (30, 0.2);
whether its 10,000 steps are batches or updates of eight (batches: `step`); the schedule after the warm-up (constant); the
number of SpecAug masks (one of each kind, filled with zero, in every training clip); the bottleneck of the pooling (128); the
epoch that is kept (the last); clips longer than 10 s (10 s of them in training, the whole clip in the test).
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
    scope="all",
    mel=lambda settings: "",
    wave=lambda settings: True,
    encoder_size=encoder_size,
    divisible=True,
    untrainable=two_classes,
)
