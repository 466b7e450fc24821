"""Sub-cluster AdaCos (Wilkinghoff, IJCNN 2021): one network per number of sub-clusters, their scores added up.

Reads in the order of the authors' code, which is followed throughout: z-scored log-mel, mixing of the input, residual
network, Sub-cluster AdaCos, Gaussian mixtures of the embeddings, accumulated score. The networks, there trained one after
another, are trained side by side on the sum of their losses. They share no weight, so each still sees its own gradient only;
they do share the order of batches and the draws of the mixing.

---
deploy: {difference: 7e-06, torch: 17, onnxruntime: 15, remark: difference after one epoch on the valve}
fidelity:
  sc_adacos:
    source: "Wilkinghoff, IJCNN 2021; code sub-cluster-AdaCos"
    parameters: {source: 6035104, unused: 0, words: "seven networks of 766,944, and 5,248 for each of 127 sub-clusters"}
    deviations:
      - {what: order of training, code: "n = 1, 2, 4, ..., 64 one after another", here: "side by side on the sum of their
         losses: each gets the gradients it would get alone, but all share batches and mixing", switch:
         sc_adacos.sub_clusters}
      - {what: score, code: accumulated over n, here: "both: `native` accumulated, `native_single` of the largest n"}
      - {what: ToyConveyor, code: one Gaussian on the mean spectrum instead, here: "a score of its own for every machine,
         `native_mean_spectrum`"}
      - {what: clips shorter than the year's longest (2023 on), code: none in its data, here: filled with zeros,
         switch: sc_adacos.fill}
      - {what: long clips, code: last 313 frames, here: first 10 s}
      - {what: adaptive scale, code: "the median angle of a class is summed over its sub-clusters, so the limit of pi/4 nearly
         always holds for n of 2 or more", here: as the code}
      - {what: a mel band that does not vary, code: divides by its deviation + 1e-12, here: centred only}
      - {what: class weights, code: by the clip's own label before mixing, here: as the code}
      - {what: mixtures and loss, code: "k-means from a random start; cross-entropy clipped at a probability of 1e-7", here: "a
         start with a fixed seed; not clipped"}
      - {what: too few clips, here: "a class with fewer clips than the largest n is refused, and the table says why"}
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Annotated, ClassVar, Literal, cast

import numpy as np
import torch
from pydantic import Field, field_validator
from torch import Tensor, nn
from torch.nn.functional import normalize

from auscult.losses.adacos import SubClusterAdaCos, mixed_cross_entropy, shares_of
from auscult.methods.base import Batch, Drawn, Method, Network, Shape, two_classes
from auscult.methods.classifier import ClassifierSettings
from auscult.models.adacos_resnet import AdaCosResNet, kernels
from auscult.models.gaussians import ClassMixtures
from auscult.settings.section import Positive
from auscult.training import distributed


class ScAdacosSettings(ClassifierSettings):
    """Defaults: the authors' code."""

    method: Literal["sc_adacos"] = "sc_adacos"
    sub_centred: ClassVar[bool] = False
    frontend: str = "sc_adacos"
    embedding: Positive = 128
    sub_clusters: Annotated[tuple[Positive, ...], Field(min_length=1)] = (1, 2, 4, 8, 16, 32, 64)
    """One network each; scores are added up. A class needs as many training clips as the largest."""
    l2: Annotated[float, Field(ge=0)] = 1e-5
    """Times the sum of squares of all kernels; biases, norms and centres are free."""
    reg_covar: Annotated[float, Field(gt=0)] = 1e-3
    """Added to the variances of the mixtures."""
    epochs: int = 400
    batch_size: int = 64
    optimizer: Literal["adam", "adamw"] = "adam"
    lr: float = 1e-3
    schedule: Literal["constant", "cosine"] = "constant"

    @field_validator("sub_clusters")
    @classmethod
    def _rising(cls, value: tuple[int, ...]) -> tuple[int, ...]:
        if list(value) != sorted(set(value)):
            raise ValueError("numbers must rise")
        return value


class Member(nn.Module):
    """Network, classifier and mixtures of one number of sub-clusters."""

    def __init__(self, sub_clusters: int, embedding: int, shape: Shape) -> None:
        super().__init__()
        self.sub_clusters = sub_clusters
        self.resnet = AdaCosResNet(shape.mels, shape.frames, embedding)
        self.head = SubClusterAdaCos(embedding, shape.classes, sub_clusters)
        self.mixtures = ClassMixtures()

    def unit_embedding(self, image: Tensor) -> Tensor:
        """[B, 1, mels, frames] -> unit vectors float32 [B, embedding]."""
        return normalize(self.resnet(image).float())

    def penalty(self) -> Tensor:
        """Sum of squares of all kernels."""
        return torch.stack([layer.weight.square().sum() for layer in kernels(self.resnet)]).sum()


class ScAdacos(Network):
    mel_mean: Tensor
    mel_deviation: Tensor
    class_weight: Tensor

    def __init__(self, settings: ScAdacosSettings, shape: Shape) -> None:
        super().__init__()
        self.settings, self.classes = settings, shape.classes
        self.register_buffer("mel_mean", torch.zeros(shape.mels))
        self.register_buffer("mel_deviation", torch.ones(shape.mels))
        self.register_buffer("class_weight", torch.ones(shape.classes))
        self.net = nn.ModuleList(Member(n, settings.embedding, shape) for n in settings.sub_clusters)
        self.spectra = ClassMixtures()

    @property
    def members(self) -> list[Member]:
        return cast(list[Member], list(self.net))

    def prepare(self, batches: Iterable[Batch]) -> None:
        """Mean and deviation of each mel band over all training frames; balanced class weights N / (C N_c)."""
        clips = torch.zeros(self.classes, dtype=torch.float64, device=self.mel_mean.device)
        frames = 0
        total, squares = torch.zeros(2, len(self.mel_mean), dtype=torch.float64, device=clips.device)
        for batch in batches:
            mel = batch.mel.double()
            frames += mel.shape[0] * mel.shape[2]
            total += mel.sum((0, 2))
            squares += mel.square().sum((0, 2))
            clips += torch.bincount(batch.label, minlength=self.classes)
        mean = total / frames
        deviation = (squares / frames - mean.square()).clamp(min=0).sqrt()
        self.mel_mean.copy_(mean)
        # A band that never moved (silence) would be divided by zero; it is left in dB.
        self.mel_deviation.copy_(deviation.where(deviation > 1e-3, 1.0))
        self.class_weight.copy_(clips.sum() / (self.classes * clips))

    def image(self, batch: Batch) -> Tensor:
        """z-scored log-mel [B, 1, mels, frames]."""
        return ((batch.mel - self.mel_mean[:, None]) / self.mel_deviation[:, None]).unsqueeze(1)

    def draw(self, batch: Batch, rng: np.random.Generator) -> Drawn:
        """ "lam", float32 [B]."""
        return {"lam": torch.from_numpy(rng.random(batch.size, np.float32))}

    def loss(self, batch: Batch, drawn: Drawn) -> dict[str, Tensor]:
        image, label, lam = self.image(batch), batch.label, drawn["lam"]
        shares = shares_of(label, self.classes)
        # Always mixed, each clip by a lambda of its own with the clip at the same place of the reversed batch.
        image = image.lerp(image.flip(0), 1 - lam.view(-1, 1, 1, 1))
        shares = shares.lerp(shares.flip(0), 1 - lam.view(-1, 1))
        weight = self.class_weight[label]  # of the clip's own class, not of its partner's
        parts: dict[str, Tensor] = {}
        total = torch.zeros((), device=image.device)
        for member in self.members:
            log_probabilities = member.head(distributed.sharded(member.resnet, image), shares)
            entropy = (weight * mixed_cross_entropy(log_probabilities, shares)).mean()
            total = total + entropy + self.settings.l2 * member.penalty()
            parts[f"entropy_{member.sub_clusters}"] = entropy
            parts[f"scale_{member.sub_clusters}"] = member.head.scale.clone()
        return {"loss": total, **parts}

    def valid_loss(self, batch: Batch) -> Tensor:
        image, shares = self.image(batch), shares_of(batch.label, self.classes)
        each = [mixed_cross_entropy(member.head(member.resnet(image), shares), shares) for member in self.members]
        return torch.stack(each).sum(0)

    def finish(self, batches: Iterable[Batch]) -> None:
        """Fit the mixtures of every class: to the embeddings of each network, and one Gaussian to the mean spectra."""
        labels: list[np.ndarray] = []
        seen: list[list[np.ndarray]] = [[] for _ in range(len(self.members) + 1)]
        for batch in batches:
            image = self.image(batch)
            labels.append(batch.label.cpu().numpy())
            vectors = [*(member.unit_embedding(image) for member in self.members), mean_spectrum(image)]
            for kept, new in zip(seen, vectors, strict=True):
                kept.append(new.cpu().numpy())
        label, (*embeddings, spectra) = np.concatenate(labels), [np.concatenate(part) for part in seen]
        regularisation = self.settings.reg_covar
        for x, member in zip(embeddings, self.members, strict=True):
            starts = member.head.centres().cpu().numpy()
            member.mixtures.fit(x, label, self.classes, member.sub_clusters, regularisation, starts)
        self.spectra.fit(spectra, label, self.classes, 1, regularisation)

    def embed(self, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """Unit vectors [B, E] of the network with the most sub-clusters, and the scores:

        * native: minus the log-density of the nearest component of the clip's class, summed over all networks;
        * native_single: the same of the network with the most sub-clusters alone;
        * native_mean_spectrum: minus the log-density of the clip's mean spectrum (code, ToyConveyor).

        Of several candidate classes the best counts.
        """
        image = self.image(batch)
        vectors = [member.unit_embedding(image) for member in self.members]
        each = [
            -member.mixtures.nearest_log_density(x) for member, x in zip(self.members, vectors, strict=True)
        ]  # [B, C]
        by_class = {
            "native": torch.stack(each).sum(0),
            "native_single": each[-1],
            "native_mean_spectrum": -self.spectra.nearest_log_density(mean_spectrum(image)),
        }
        others = ~batch.candidates
        return vectors[-1], {name: score.masked_fill(others, math.inf).amin(1) for name, score in by_class.items()}


def mean_spectrum(image: Tensor) -> Tensor:
    """Time-mean of the z-scored log-mel: [B, 1, mels, frames] -> float32 [B, mels]."""
    return image.squeeze(1).mean(2)


def untrainable(settings: ScAdacosSettings, counts: Mapping[str, int]) -> str:
    """A mixture needs as many clips as it has components, and a covariance two."""
    if reason := two_classes(settings, counts):
        return reason
    name = min(counts, key=lambda key: counts[key])
    need = max(*settings.sub_clusters, 2)
    if counts[name] >= need:
        return ""
    return f"class `{name}` has {counts[name]} training clip(s) and its Gaussian mixture needs {need} (`sub_clusters`)"


METHOD = Method(
    settings=ScAdacosSettings,
    build=ScAdacos,
    smallest=(5, 5),  # its first convolution and pooling
    divisible=True,
    untrainable=untrainable,
)
