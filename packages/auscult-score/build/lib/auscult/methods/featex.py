"""FeatEx (Wilkinghoff, Self-Supervised Learning for Anomalous Sound Detection, ICASSP 2024; code ssl4asd).

Reads in the order of the authors' code main_statex+featex.py: mixing of the waveforms, spectrum and spectrogram, statistics
exchange between the spectrograms of a batch, a network with two branches, feature exchange between their outputs, and two
Sub-cluster AdaCos: one with fixed centres on what the branches give, one with trained centres on what was exchanged.

---
fidelity:
  featex:
    source: "Wilkinghoff, ICASSP 2024; code wilkinghoff/ssl4asd 37aa21d"
    remark: "The authors' number is of five networks on DCASE 2023: mean and deviation over them. Their third loss has the
      weight 0 and is not built."
    golden:
      featex: tests/methods/test_featex.py, tests/losses/test_exchange.py
    deviations:
      - {what: score, code: "16 centres of the source clips and all target clips of a section, cosine", here: "1-NN with a bank
         for each domain is the headline; theirs is the back-end `kmeans` (docs/backends.md)"}
      - {what: classes, code: "section, attributes and domain, of the test clips of the development set too", here: "section and
         attributes, of training clips"}
      - {what: shorter clips, code: "repeated from a random place up to 18 s, in the test too", here: "repeated from the start up
         to the profile's length", switch: featex.fill}
      - {what: exchange of statistics, paper: along time or frequency, code: "of the frames of the same time, mean and deviation
         over frequency, alone", here: as the code, switch: featex.statex}
      - {what: adaptive scale, code: "the angle of a class is summed over its sub-clusters", here: as the code}
      - {what: cross-entropy, code: clipped at a probability of 1e-7, here: not clipped}
"""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from auscult.losses.adacos import SubClusterAdaCos, mixed_cross_entropy, shares_of
from auscult.losses.exchange import exchanged_features, exchanged_shares, exchanged_statistics
from auscult.methods.base import Batch, Drawn, Method, Network, Shape, two_classes
from auscult.methods.classifier import ClassifierSettings
from auscult.models.two_view import WIDTH, TwoViewNet, magnitudes, whole_spectrum
from auscult.settings.section import Positive

Probability = Annotated[float, Field(ge=0, le=1)]


class FeatexSettings(ClassifierSettings):
    """Defaults: the authors' code."""

    method: Literal["featex"] = "featex"
    sub_centred: ClassVar[bool] = False
    fill: Literal["none", "repeat", "zeros"] = "repeat"
    sub_clusters: Positive = 16
    mix: Probability = 0.5
    """How often a clip is mixed with its partner, by a share uniform in 0 to 1."""
    statex: Probability = 0.5
    """How often a clip's spectrogram takes its partner's statistics; 0 = never, and no classes for it."""
    featex: Probability = 0.5
    """How often a clip's spectrogram branch is its partner's."""
    l2: Annotated[float, Field(ge=0)] = 1e-5
    """Times the sum of squares of all kernels but those of the gates."""
    epochs: int = 10
    batch_size: int = 64
    optimizer: Literal["adam", "adamw"] = "adam"
    lr: float = 1e-3
    schedule: Literal["constant", "cosine"] = "constant"


class FeatEx(Network):
    def __init__(self, settings: FeatexSettings, shape: Shape) -> None:
        super().__init__()
        self.settings, self.classes = settings, shape.classes
        self.net = TwoViewNet(shape.samples)
        self.plain = SubClusterAdaCos(2 * WIDTH, shape.classes, settings.sub_clusters)
        self.plain.weight.requires_grad_(False)
        made = shape.classes * (9 if settings.statex else 3)
        self.exchanged = SubClusterAdaCos(2 * WIDTH, made, settings.sub_clusters)
        self._exact = False

    def exact_spectra(self) -> None:
        self._exact = True

    def branches(self, wave: Tensor, statex: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Waveforms [B, samples] -> [B, 128] of the spectrum and of the spectrogram; `statex`: bool [B], who exchanges."""
        wave = wave.double() if self._exact else wave.float()
        with torch.autocast(wave.device.type, enabled=False):
            spectrum, spectrogram = whole_spectrum(wave).float(), magnitudes(wave).float()
        if statex is not None:
            spectrogram = exchanged_statistics(spectrogram, statex)
        return self.net.of_spectrum(spectrum), self.net.of_spectrogram(spectrogram)

    def draw(self, batch: Batch, rng: np.random.Generator) -> Drawn:
        """Shares "lam" float32 [B, 1], and who is mixed and who exchanges what: "mix", "statex", "featex", bool [B]."""
        lam = torch.from_numpy(rng.random((batch.size, 1), np.float32))
        chances = {"mix": self.settings.mix, "statex": self.settings.statex, "featex": self.settings.featex}
        if not self.settings.statex:
            del chances["statex"]
        who = {name: torch.from_numpy(rng.random(batch.size) < chance) for name, chance in chances.items()}
        return {"lam": lam, **who}

    def loss(self, batch: Batch, drawn: Drawn) -> dict[str, Tensor]:
        wave, shares = batch.wave, shares_of(batch.label, self.classes)
        lam = drawn["lam"].where(drawn["mix"][:, None], 1.0)
        wave, mixed = wave.lerp(wave.flip(0), 1 - lam), shares.lerp(shares.flip(0), 1 - lam)
        statex, featex = drawn.get("statex"), drawn["featex"]
        first, second = self.branches(wave, statex)
        made = mixed if statex is None else exchanged_shares(mixed, statex)
        targets = exchanged_shares(made, featex)
        plain = mixed_cross_entropy(self.plain(torch.cat([first, second], 1), mixed), mixed).mean()
        joined = torch.cat([first, exchanged_features(second, featex)], 1)
        exchanged = mixed_cross_entropy(self.exchanged(joined, targets), targets).mean()
        loss = plain + exchanged + self.settings.l2 * self.net.penalty()
        return {"loss": loss, "plain": plain, "exchanged": exchanged}

    def valid_loss(self, batch: Batch) -> Tensor:
        """Of the fixed centres, on clips as they are: [B]."""
        shares = shares_of(batch.label, self.classes)
        return mixed_cross_entropy(self.plain(self.embed(batch)[0], shares), shares)

    def embed(self, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """Both branches [B, 256]; no score of its own."""
        return torch.cat(self.branches(batch.wave), 1), {}


METHOD = Method(
    settings=FeatexSettings,
    build=FeatEx,
    wave=lambda settings: True,
    untrainable=two_classes,
)
