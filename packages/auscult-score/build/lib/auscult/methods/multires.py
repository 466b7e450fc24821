"""Multi-branch CNN with losses by angle (ASDKit, DCASE Workshop 2025): spectrum and spectrograms at several resolutions.

Reads in the order of the code: mixing of waveforms, branches, loss. Which loss is a switch (`loss.kind`); with one spectrogram
(`ffts: [1024]`) it is their `dis_spec_*`. On arrays of features the branches are fully connected networks that all see the whole
array. The score is that of nearest neighbours; theirs is the back-end `smote` (ratio 0.2, two neighbours).

---
deploy: {difference: 6e-08, torch: -, onnxruntime: -, remark: "distance to the nearest; one spectrogram, width 16"}
fidelity:
  dis_multispec_scac_trainable:
    source: "Fujimura et al., arXiv 2507.10264 (DCASE Workshop 2025); code TakuyaFujimura/dcase-asd-toolkit ed27d82"
    arms: [dis_spec_adacos_fixed_wo_mixup, dis_spec_adacos_fixed, dis_spec_scac_fixed, dis_spec_scac_trainable,
      dis_spec_subspaceloss, dis_spec_featex]
    parameters: {source: 5336304, unused: 0, words: "counted on their network and loss; 5,000,432 without the 16 centres a class"}
    golden:
      multires: tests/models/test_multires.py, tests/losses/test_angular.py
    remark: "The spectrogram branches are those of Fujimura et al., ICASSP 2025; printed numbers are of four seeds."
    deviations:
      - {what: score, code: "1-NN, cosine, a bank for each domain, the target's filled by SMOTE (0.2, 2); half the distance",
         here: "1-NN with a bank for each domain is the headline; theirs is the back-end `smote`"}
      - {what: shorter clips, code: "repeated up to the year's longest, in training from a random place", here: "repeated from
         the start up to the profile's length", switch: multires.fill}
      - {what: clips of less than 4.4 s, code: a kernel longer than its input stops it, here: zeros behind the input}
      - {what: classes, code: "machine, section, attributes; of 2020 machine and identity", here: "the profile's `class_label`"}
      - {what: scale, code: "fixed, sqrt2 ln(C K - 1), in every recipe", here: "as the code; two centres in all, where that
         is 0, count as three"}
      - {what: random numbers, code: PyTorch's, here: "NumPy's, of the step; same distributions"}
  dis_spec_adaproj:
    as: dis_multispec_scac_trainable
    remark: "ASDKit has the loss and no recipe with it: the schedule is that of the others. The paper's network is another.
      Of a mixed clip no class counts as e^0, and the scale rose from 4 to 62 and 195 in sixty steps (two seeds, synthetic
      machines, 32 directions in 64 numbers)."
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, ClassVar, Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn

from auscult.losses.adacos import shares_of
from auscult.losses.adaproj import AdaProj
from auscult.losses.featex import FeatExLoss
from auscult.losses.scac import SubClusterAdaCos
from auscult.losses.subspace import SubSpaceLoss
from auscult.methods.base import Batch, Drawn, Method, Network, Shape, two_classes
from auscult.methods.classifier import ClassifierSettings, draw_mixing_by_clip, mix_by_clip
from auscult.models.multires import MultiResNet
from auscult.models.perceptron import perceptron
from auscult.models.standardise import Standardise
from auscult.settings.section import Positive
from auscult.settings.sections import LossSettings


class MultiresSettings(ClassifierSettings):
    """Defaults: ASDKit's `dis_multispec_scac_trainable`."""

    method: Literal["multires"] = "multires"
    sub_centred: ClassVar[bool] = False
    frontend: str = ""
    """ "" = waveforms; else the front-end (or `arrays`) whose values go through fully connected layers."""
    fill: Literal["none", "repeat", "zeros"] = "repeat"
    ffts: Annotated[tuple[Positive, ...], Field(min_length=1)] = (256, 1024, 4096)
    """n_fft of each spectrogram; the spectrum of the whole clip is always heard."""
    width: Annotated[int, Field(gt=0, multiple_of=8)] = 128
    """Numbers that each branch gives."""
    hidden: tuple[int, ...] = (512, 256)
    """Widths of the fully connected layers, with values of a front-end; there are as many branches as with waveforms."""
    floor: float = 1e-8
    """Added to those values before the logarithm; 0 = no logarithm."""
    mix: Annotated[float, Field(ge=0, le=1)] = 0.5
    """How often a clip is mixed with another, by a share uniform in 0 to 1."""
    epochs: int = 16
    batch_size: int = 64
    optimizer: Literal["adam", "adamw"] = "adamw"
    lr: float = 1e-3
    weight_decay: float = 0.01
    schedule: Literal["constant", "cosine"] = "constant"
    loss: LossSettings = LossSettings()


def build_loss(settings: LossSettings, parts: int, width: int, classes: int) -> nn.Module:
    """The loss of `settings.kind` for embeddings of `parts` parts of one width."""
    k = settings.sub_clusters
    if settings.kind == "subspace":
        return SubSpaceLoss(parts, width, classes, k)
    if settings.kind == "featex":
        return FeatExLoss(parts, width, classes, k)
    if settings.kind == "adaproj":
        return AdaProj(parts * width, classes, settings.directions)
    return SubClusterAdaCos(parts * width, classes, k, trainable=settings.kind == "scac_trainable")


class MultiRes(Network):
    def __init__(self, settings: MultiresSettings, shape: Shape) -> None:
        super().__init__()
        self.settings, self.classes, self.parts = settings, shape.classes, 1 + len(settings.ffts)
        if settings.frontend:
            values = shape.mels * shape.frames
            self.standardise = Standardise(values, floor=settings.floor)
            self.branches = nn.ModuleList(
                perceptron(values, settings.hidden, settings.width) for _ in range(self.parts)
            )
        else:
            self.net = MultiResNet(shape.samples, settings.ffts, settings.width, shape.sample_rate)
        self.angular = build_loss(settings.loss, self.parts, settings.width, shape.classes)

    def exact_spectra(self) -> None:
        if not self.settings.frontend:
            self.net.exact = True

    def prepare(self, batches: Iterable[Batch]) -> None:
        if self.settings.frontend:
            self.standardise.fit((b.mel.flatten(1), b.label.new_zeros(len(b.label))) for b in batches)

    def heard(self, batch: Batch) -> Tensor:
        """What is mixed: waveforms [B, samples], or z-scored values [B, mels * frames]."""
        return self.standardise(batch.mel.flatten(1)) if self.settings.frontend else batch.wave

    def embedding(self, x: Tensor) -> Tensor:
        """Of what is `heard`: [B, M * width], the parts one behind the other."""
        return torch.cat([branch(x) for branch in self.branches] if self.settings.frontend else self.net(x), 1)

    def draw(self, batch: Batch, rng: np.random.Generator) -> Drawn:
        """Mixup; for FeatEx "exchange", bool [B], which clips take parts of others, and "partners", int64 [M - 1, B], whose."""
        drawn = draw_mixing_by_clip(batch.size, self.settings.mix, rng)
        if isinstance(self.angular, FeatExLoss):
            drawn["exchange"] = torch.from_numpy(rng.random(batch.size) < self.settings.loss.exchange)
            order = np.tile(np.arange(batch.size), (self.parts - 1, 1))
            drawn["partners"] = torch.from_numpy(rng.permuted(order, axis=1))
        return drawn

    def loss(self, batch: Batch, drawn: Drawn) -> dict[str, Tensor]:
        targets = shares_of(batch.label, self.classes)
        embedding = self.embedding(mix_by_clip(self.heard(batch), drawn))
        exchange = [drawn[name] for name in ("exchange", "partners") if name in drawn]
        return {"loss": self.angular(embedding, mix_by_clip(targets, drawn), *exchange)}

    def valid_loss(self, batch: Batch) -> Tensor:
        each: Tensor = self.angular.each(self.embed(batch)[0], shares_of(batch.label, self.classes))  # type: ignore[operator]
        return each

    def embed(self, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """All branches [B, M * width]; no score of its own."""
        return self.embedding(self.heard(batch)), {}


METHOD = Method(
    settings=MultiresSettings,
    build=MultiRes,
    wave=lambda settings: not settings.frontend,
    untrainable=two_classes,
)
