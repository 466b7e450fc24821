"""Self-supervised classification of machine units with MobileNetV2 (Giri et al., DCASE 2020 workshop).

One network per machine type is trained to tell its units apart by a window of the log-mel; a window whose own unit is
improbable is anomalous. What the paper leaves open follows the MobileNetV2 baseline of the DCASE 2021 and 2022 challenges, a
later work after the same idea. Padding and batch norm: see `auscult.models.mobilenet_v2`.

---
deploy: {difference: 4e-05, torch: 1573, onnxruntime: 463, remark: "all windows of a clip in one pass: at 10 s some 300 images
  at once"}
fidelity:
  mobilenet_v2:
    source: "Giri et al., DCASE workshop 2020; no code, so the DCASE 2021/22 MobileNetV2 baseline (Keras)"
    parameters: {source: 696647, unused: 0, words: with 7 units; one network per machine type}
    deviations:
      - {what: "width, learning rate, epochs, hop", paper: not known, code: "0.5, 1e-5, 20, 8 / 1 frames", here: as the code,
         switch: mobilenet_v2}
      - {what: score, paper: "negative log-probability of the own unit, as recollected", code: "a misplaced bracket: log(max(1
         - p, eps) - log max(p, eps)), meant as log((1 - p) / p)", here: "all three: `native`, `native_coded`,
         `native_intended`"}
      - {what: logarithm, code: "of max(P, 2.2e-16)", here: of P + 2.2e-16, switch: mobilenet_v2.frontend}
      - {what: padding of even sizes, code: behind, here: on both sides}
      - {what: batch norm, code: "epsilon 1e-3, momentum 0.999", here: "1e-5, 0.1"}
      - {what: held out, code: last 10 % of windows, here: a tenth of the clips by seed, switch: mobilenet_v2.valid_fraction}
      - {what: a type with one unit, here: "not trained, and the table says why", switch: mobilenet_v2.scope}
      - {what: MFNV2 in Han et al. Table VIII, paper: the baseline of 2022, code: "one network per machine type, its sections as
         classes; trained apart for the evaluation sections", here: "the same arm; one network for all six sections"}
      - {what: clips shorter than the year's longest (2023 on), code: none in its data, here: "windows of each clip alone, to its
         last frame", switch: mobilenet_v2.fill}
"""

from __future__ import annotations

import math
import sys
from typing import Annotated, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.functional import cross_entropy

from auscult.methods.base import Batch, Drawn, Method, Network, Shape, two_classes
from auscult.methods.classifier import ClassifierSettings
from auscult.methods.windows import mean_over_windows
from auscult.models.mobilenet_v2 import MobileNetV2
from auscult.settings.section import Positive
from auscult.training import distributed

CHUNK = 256  # windows evaluated at once: about half a gigabyte at width 0.5
EPSILON = sys.float_info.epsilon  # of the baseline's score


class MobileNetV2Settings(ClassifierSettings):
    """Defaults: the DCASE 2021 MobileNetV2 baseline."""

    method: Literal["mobilenet_v2"] = "mobilenet_v2"
    sub_centred: ClassVar[bool] = False
    any_length: ClassVar[bool] = True
    fill: Literal["none", "repeat", "zeros"] = "none"
    frontend: str = "dcase_constant"
    scope: Literal["machine", "all"] = "machine"
    """A network per machine type, which tells its units apart; or one for all, whose classes are pairs of type and unit."""
    width: Annotated[float, Field(gt=0)] = 0.5
    """Factor on the channels of the network."""
    window: Positive = 64
    """Frames; of a shorter clip, all it has."""
    hop: Positive = 8
    """Frames between the windows of a clip in training (and of held-out clips)."""
    test_hop: Positive = 1
    """Frames between the windows of a clip that is scored."""
    epochs: int = 20
    batch_size: int = 32
    """Windows, not clips."""
    optimizer: Literal["adam", "adamw"] = "adam"
    lr: float = 1e-5
    schedule: Literal["constant", "cosine"] = "constant"
    valid_fraction: float = 0.1


def window_frames(settings: MobileNetV2Settings, frames: int) -> int:
    return min(settings.window, frames)


class SelfSupervisedMobileNetV2(Network):
    def __init__(self, settings: MobileNetV2Settings, shape: Shape) -> None:
        super().__init__()
        self.window = window_frames(settings, shape.frames)
        self.hop, self.test_hop = settings.hop, settings.test_hop
        self.encoder = MobileNetV2(settings.width)
        self.classifier = nn.Linear(self.encoder.features, shape.classes)
        nn.init.xavier_uniform_(self.classifier.weight)  # as Keras
        nn.init.zeros_(self.classifier.bias)

    def features(self, windows: Tensor) -> Tensor:
        """Pooled features [n, 1280] of windows [n, mels, width]."""
        image = windows.unsqueeze(1).expand(-1, 3, -1, -1)  # the one channel, three times
        return self.encoder(image.contiguous(memory_format=torch.channels_last))

    def logits(self, features: Tensor) -> Tensor:
        """[n, C], in float32 also where the encoder runs in bfloat16."""
        with torch.autocast(features.device.type, enabled=False):
            return self.classifier(features.float())

    def loss(self, batch: Batch, drawn: Drawn) -> dict[str, Tensor]:
        return {"loss": cross_entropy(self.logits(distributed.sharded(self.features, batch.mel)), batch.label)}

    def valid_loss(self, batch: Batch) -> Tensor:
        """Cross-entropy of each clip [B]: mean over its windows, at the hop of training."""

        def nll(windows: Tensor) -> tuple[Tensor]:
            return (-self.logits(self.features(windows)).log_softmax(1),)

        (loss,) = mean_over_windows(nll, batch.mel, self.window, self.hop, CHUNK)  # [B, C]
        return loss.gather(1, batch.label.unsqueeze(1)).squeeze(1)

    def embed(self, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """Mean features [B, 1280] of the windows of whole clips, and the scores of the likeliest candidate class [B]."""
        names: list[str] = []

        def evaluate(windows: Tensor) -> tuple[Tensor, ...]:
            features = self.features(windows)
            scores = window_scores(self.logits(features))
            names[:] = scores
            return features, *scores.values()

        features, *scores = mean_over_windows(evaluate, batch.mel, self.window, self.test_hop, CHUNK)
        others = ~batch.candidates
        return features, {
            name: score.masked_fill(others, math.inf).amin(1) for name, score in zip(names, scores, strict=True)
        }


def window_scores(logits: Tensor) -> dict[str, Tensor]:
    """Anomaly scores [n, C] of windows if they were of class c, whose probability is p = softmax(logits)[c].

    All three fall with p, so they order windows alike; clips they do not, for a clip has the mean of its windows. They
    follow from the log odds d, and so keep apart what p in float32 rounds to 0 or 1:

    * `native` = -log p = log(1 + e^d) (Giri et al.): flat for windows that are surely normal;
    * `native_intended` = log((1 - p) / p) = d, as the baseline's documentation says: straight on both sides;
    * `native_coded` = log(max(1 - p, eps) - log(max(p, eps))), as the baseline computes it, eps = 2.2e-16. The
      bracket of the first logarithm, meant to close before the minus, closes at the end. Near p = 1 it is
      log(2 (1 - p)), no less than -36; towards p = 0 it grows as the logarithm of `native`, up to 3.6: one confident
      window outweighs many improbable ones.

    >>> window_scores(torch.tensor([[2.0, 0.0]]))["native_intended"]
    tensor([[-2.,  2.]])
    """
    own = torch.eye(logits.shape[1], dtype=torch.bool, device=logits.device)
    others = logits.unsqueeze(1).masked_fill(own, -math.inf).logsumexp(2)  # [n, C]
    odds = others - logits  # log((1 - p) / p)
    nll = functional.softplus(odds)
    coded = (odds.sigmoid().clamp(min=EPSILON) + nll.clamp(max=-math.log(EPSILON))).log()
    return {"native": nll, "native_intended": odds, "native_coded": coded}


METHOD = Method(
    settings=MobileNetV2Settings,
    build=SelfSupervisedMobileNetV2,
    scope="machine",
    window=window_frames,
    hop=lambda settings: settings.hop,
    divisible=True,
    untrainable=two_classes,
)
