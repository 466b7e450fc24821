"""Glow_Aff: one normalising flow per unit, taught that its unit is likely and that its neighbours are not.

Dohi et al., "Flow-based self-supervised density estimation for anomalous sound detection", ICASSP 2021. The abstract
says: flows (Glow here) trained to give the sounds of the target unit a higher likelihood and those of the other units of
the machine type a lower one; the score is the negative log-likelihood. There is no public code, and the size of the
flow, the outlier term and the training are not known here. So these are choices, each defended beside its setting:

* loss of a flow = mean NLL of its own unit's windows + `outlier_weight` * mean hinge(NLL of those + `margin` - NLL of
  another unit's window), NLL in nats per dimension. Lowering a likelihood without end would carry the loss to minus
  infinity; the hinge is never negative and lets go of a window that is `margin` less likely than the unit's own;
* a batch gives every flow at most T = ceil(B / C) windows of its own unit and T of the others, drawn anew at each step:
  twice the cost of plain flows, not C times. Those of a unit that has more than T in the batch wait for the next epoch;
* a machine type with one unit has no outliers: its flow is trained on likelihood alone, which is the paper's starting
  point and a complete method; leaving the cells empty would hide a valid score.

---
deploy: {difference: 4e-07, torch: -, onnxruntime: -, remark: own score alone; additive coupling was not tried}
fidelity:
  glow_aff:
    source: "Dohi et al., ICASSP 2021; no public code, and the paper's body was not at hand"
    remark: "Known is the idea (one flow per unit, more likely for its own sounds and less for its neighbours'), the coupling,
      and the negative log-likelihood as score. Everything else is a choice, defended in `methods/glow_aff.py`. One flow per
      unit."
    deviations:
      - {what: outlier term, paper: not known, code: none, here: "hinge: a neighbour's window costs until it is `margin` nats
         per dimension less likely than the unit's own", switch: "glow_aff.outlier_weight, glow_aff.margin"}
      - {what: size, paper: not known, code: none, here: "3 levels of 12 steps, 128 channels", switch: "glow_aff.levels,
         glow_aff.steps, glow_aff.hidden"}
      - {what: training, paper: not known, code: none, here: "Adam 5e-4, cosine, 100 epochs; each flow sees as many outliers
         as windows of its own", switch: glow_aff}
      - {what: input, paper: "32 frames of 128 mels, as recollected", code: none, here: "the same, z-scored by mel band, cut
         at 10 deviations", switch: glow_aff.frontend}
      - {what: clips shorter than the year's longest (2023 on), paper: not known, code: none, here: "windows of each clip alone,
         to its last frame", switch: glow_aff.fill}
      - {what: a type with one unit, here: a plain flow without the outlier term}
      - {what: too few clips, here: "under four clips of a unit the type is left out, and the table says why"}
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Annotated, ClassVar, Literal, cast

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn

from auscult.methods.base import Batch, Drawn, Method, Network, Shape
from auscult.models.glow import Glow
from auscult.settings.training import MethodSettings

FRAMES = 32
MIN_CLIPS = 4
"""A flow has more weights than three clips have values that differ: it would hold copies of them, not a density."""
INIT_WINDOWS = 64
"""Windows per unit for the data-dependent initialisation, one from each of the first clips."""
CHUNK = 256
"""Windows per pass when whole clips are scored: what bounds the memory."""
LIMIT = 10.0
"""Standard deviations beyond which the input is cut, so that silence or a step in gain is unlikely, but not infinitely."""


class GlowAffSettings(MethodSettings):
    """Nothing but method, coupling and score comes from the paper: see the top of this file and each comment."""

    method: Literal["glow_aff"] = "glow_aff"
    any_length: ClassVar[bool] = True
    fill: Literal["none", "repeat", "zeros"] = "none"
    frontend: str = "stgram"
    """n_fft 1024, hop 512, 128 mels (recollected of the paper; HTK bands and reflection are a choice)."""
    coupling: Literal["affine", "additive"] = "affine"
    """Glow_Aff or Glow_Add."""
    levels: Annotated[int, Field(ge=1, le=16)] = 3
    """Glow for 32 x 32 images has three: 32 frames leave 4 columns in the last."""
    steps: Annotated[int, Field(ge=1)] = 12
    """Steps per level. Glow's 32 suit 50,000 images; a unit has about a thousand clips."""
    hidden: Annotated[int, Field(ge=1)] = 128
    """Channels inside a coupling, a quarter of Glow's 512, for the same reason."""
    squeeze: Annotated[int, Field(ge=2)] = 2
    """Side of the squares that become channels; 2 is Glow's."""
    hop: Annotated[int, Field(ge=1)] = 16
    """Frames between windows, in training and in the score: every frame but the last few is seen twice."""
    outlier_weight: Annotated[float, Field(ge=0)] = 1.0
    """0 = plain flows, one per unit. At 1 a violation of the margin weighs as much as the likelihood it is measured in."""
    margin: Annotated[float, Field(ge=0)] = 0.3
    """In nats per dimension; a window already this much less likely costs nothing. Of 0.1, 0.3 and 1 on one synthetic
    type, 0.3 told the units of held-out normal clips apart best: no anomaly had a part in the choice."""
    epochs: int = 100
    batch_size: int = 512
    """Windows: about 73 of its own for each of seven flows."""
    optimizer: Literal["adam", "adamw"] = "adam"
    """As in Glow."""
    lr: float = 5e-4
    """Half of Glow's 0.001, which that code reaches after a warm-up that this one has not."""
    schedule: Literal["constant", "cosine"] = "cosine"
    valid_fraction: float = 0.1
    """Watched: the NLL of held-out clips of the own unit shows over-fitting. Never selected by."""


class GlowAff(Network):
    mean: Tensor
    std: Tensor

    def __init__(self, settings: GlowAffSettings, shape: Shape) -> None:
        super().__init__()
        self.settings = settings
        self.window = window(settings, shape.frames)
        size = (settings.levels, settings.steps, settings.hidden, settings.squeeze, settings.coupling)
        self.each = nn.ModuleList(Glow(shape.mels, self.window, *size) for _ in range(shape.classes))
        self.register_buffer("mean", torch.zeros(shape.mels, 1))
        self.register_buffer("std", torch.ones(shape.mels, 1))

    @property
    def flows(self) -> list[Glow]:
        """One per unit."""
        return [cast(Glow, flow) for flow in self.each]

    def prepare(self, batches: Iterable[Batch]) -> None:
        """Mean and deviation of each mel band over all clips, then the first pass of each flow over its own unit."""
        count, total = 0, self.mean.new_zeros(len(self.mean), dtype=torch.float64)
        square = total.clone()
        windows: list[list[Tensor]] = [[] for _ in self.flows]
        for batch in batches:
            mel = batch.mel.double()
            count += len(mel) * mel.shape[2]
            total, square = total + mel.sum((0, 2)), square + mel.square().sum((0, 2))
            clip = torch.arange(len(mel), device=mel.device)
            first = clip * self.window % (mel.shape[2] - self.window + 1)  # from all parts of the clips
            cut = batch.mel.unfold(2, self.window, 1)[clip, :, first]
            for unit, kept in enumerate(windows):
                if sum(map(len, kept)) < INIT_WINDOWS:
                    kept.append(cut[batch.label == unit][:INIT_WINDOWS])
        mean = total / count
        deviation = (square / count - mean.square()).clamp(min=0).sqrt().clamp(min=0.1)  # dB: silence has none
        self.mean.copy_(mean[:, None])
        self.std.copy_(deviation[:, None])
        for flow, kept in zip(self.flows, windows, strict=True):
            own = torch.cat(kept)
            if len(own):
                flow(self._normalised(own), initialise=True)

    def draw(self, batch: Batch, rng: np.random.Generator) -> Drawn:
        """ "noise", float32 [C, B]: the order in which each flow takes windows."""
        return {"noise": torch.from_numpy(rng.random((len(self.flows), batch.size), dtype=np.float32))}

    def loss(self, batch: Batch, drawn: Drawn) -> dict[str, Tensor]:
        units = torch.arange(len(self.flows), device=batch.label.device)[:, None]
        outliers = len(self.flows) > 1 and self.settings.outlier_weight > 0
        pick = _pick(batch.label, units, drawn["noise"], outliers)  # [C, T + O]
        windows = self._normalised(batch.mel)
        # A loop over flows: at equal speed (measured) plainer than their weights stacked in grouped convolutions.
        nll = torch.stack([flow.nll(*flow(windows[rows])) for flow, rows in zip(self.flows, pick, strict=True)])
        own = batch.label[pick] == units
        target = _mean(nll, own)  # [C]
        present = own.any(1)
        likelihood = _mean(target, present)
        if not outliers:
            return {"loss": likelihood}
        # Relative to the targets of this very step, as a constant: the hinge must not pull their likelihood down.
        bound = target.detach()[:, None] + self.settings.margin
        outlier = _mean(_mean((bound - nll).relu(), ~own), present)
        return {"loss": likelihood + self.settings.outlier_weight * outlier, "nll": likelihood, "outlier": outlier}

    def valid_loss(self, batch: Batch) -> Tensor:
        """NLL per dimension under the flow of the own unit, mean over windows [B]; without the outlier term."""
        units = torch.arange(len(self.flows), device=batch.label.device)
        return self._score(batch.mel, batch.label[:, None] == units)[1]

    def embed(self, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """Mean and root mean square of the latent variables over time [B, D] (0 and 1 for a normal clip), and the NLL per
        dimension [B], both of the likeliest candidate's flow."""
        embedding, score = self._score(batch.mel, batch.candidates)
        return embedding, {"native": score}

    def _score(self, mel: Tensor, candidates: Tensor) -> tuple[Tensor, Tensor]:
        """Embedding and score of `embed`. Only the candidates' flows run, each on its own clips."""
        windows = (
            self._normalised(mel).unfold(2, self.window, self.settings.hop).transpose(1, 2)
        )  # [B, W, mels, window]
        if torch.compiler.is_exporting():
            return mel.mean(2), self._score_of_all(windows)
        best = windows.new_full((len(mel),), math.inf)
        embedding = best.new_zeros(len(mel), 2 * sum(channels * rows for channels, rows, _ in self.flows[0].shapes))
        for unit, flow in enumerate(self.flows):
            clips = candidates[:, unit].nonzero()[:, 0]
            for part in clips.split(max(1, CHUNK // windows.shape[1])) if len(clips) else ():
                latent, log_det = flow(windows[part].flatten(0, 1))
                nll = flow.nll(latent, log_det).unflatten(0, (len(part), -1)).mean(1)
                pooled = torch.cat([_pooled(z, len(part)) for z in latent], 1)
                better = nll < best[part]
                embedding[part] = torch.where(better[:, None], pooled, embedding[part])
                best[part] = torch.where(better, nll, best[part])
        return embedding, best

    def _score_of_all(self, windows: Tensor) -> Tensor:
        """As `_score` in words that ONNX has, where every unit is a candidate and nobody reads the embedding."""
        rows = windows.flatten(0, 1)
        each = [flow.nll(*flow(rows)).unflatten(0, (windows.shape[0], windows.shape[1])).mean(1) for flow in self.flows]
        return torch.stack(each).amin(0)

    def _normalised(self, mel: Tensor) -> Tensor:
        return ((mel.float() - self.mean) / self.std).clamp(-LIMIT, LIMIT)


def window(settings: GlowAffSettings, frames: int) -> int:
    """Frames of a window: 32, or of a shorter clip as many as the squeezes divide; more than `frames` if they divide none."""
    unit = settings.squeeze**settings.levels
    return max(unit, min(FRAMES, frames) // unit * unit)


def untrainable(settings: GlowAffSettings, counts: Mapping[str, int]) -> str:
    few = [f"`{name}` has {clips}" for name, clips in counts.items() if clips < MIN_CLIPS]
    return f"each unit has a flow of its own, which needs {MIN_CLIPS} training clips: {', '.join(few)}" if few else ""


def _pick(label: Tensor, units: Tensor, noise: Tensor, outliers: bool) -> Tensor:
    """Rows of the batch that each flow sees, [C, T] or [C, T + O]: at most T of its own, then others, by `noise` [C, B].

    A flow with fewer than T of its own has others in their place, so that shapes never depend on the labels and nothing
    waits for the device.
    """
    batch, count = len(label), -(-len(label) // len(units))
    order = (noise + (label != units)).argsort(1)  # own units first
    others = min(count, batch - count) if outliers else 0
    return torch.cat([order[:, :count], order[:, batch - others :]], 1)


def _mean(values: Tensor, mask: Tensor) -> Tensor:
    """Mean over the last axis where `mask` holds, 0 where it holds nowhere."""
    return torch.where(mask, values, 0.0).sum(-1) / mask.sum(-1).clamp(min=1)


def _pooled(latent: Tensor, clips: int) -> Tensor:
    """Mean and root mean square over windows and frames: [clips * W, c, h, w] -> [clips, 2 * c * h]."""
    rows = latent.unflatten(0, (clips, -1))
    return torch.cat([rows.mean((1, 4)), rows.square().mean((1, 4)).sqrt()], 1).flatten(1)


METHOD = Method(
    settings=GlowAffSettings,
    build=GlowAff,
    scope="machine",
    window=window,
    hop=lambda settings: settings.hop,
    exports_embedding=False,
    untrainable=untrainable,
)
