"""Han et al. (TASLP 2025): multi-branch LoRA, machine-aware group adapter and dual-level contrastive loss.

---
deploy: {difference: 5e-06, torch: -, onnxruntime: -, remark: "BEATs, as `frozen`: about its time"}
fidelity:
  han:
    source: "Han et al., TASLP 2025 (arXiv 2508.12230), Tables VI to X; no code was found"
    remark: "Branches of rank 32 on six matrices of twelve layers are 42.5 M trainable parameters. Connected, without dropout,
      they are one LoRA of rank 32 with another start and a longer step: studies/han_lora."
    golden:
      beats_tiny: tests/encoders/test_beats.py, tests/models/test_beats.py
      kaldi_fbank: tests/features/test_kaldi.py, tests/encoders/test_beats.py
    deviations:
      - {what: matrices with LoRA, paper: all of a layer, code: none, here: "q, k, v, out, fc1, fc2", switch: lora.maps}
      - {what: factor of LoRA, paper: not stated, code: none, here: "1", switch: lora.scale}
      - {what: LoRA's start and dropout, paper: not stated, code: none, here: "Kaiming-uniform A, zero B, no dropout", switch:
         "lora.init_scale, lora.dropout"}
      - {what: group adapter, paper: "mean over time, an MLP, vectors of norm 1; sums n_g + 1 groups (Eq. 6)", code: none,
         here: "768-192-32 with GELU, read from what enters the attention, n_g groups", switch: "group_adapter.hidden,
         group_adapter.groups, group_adapter.learn_scale"}
      - {what: nearest vector of the quantiser, paper: arg min of the cosine (Eq. 8), code: none, here: "arg max, as the text"}
      - {what: contrastive loss, paper: plain dot products (Eq. 9), code: none, here: of unit vectors, switch: dlcl.temperature}
      - {what: memory bank, paper: size not stated, code: none, here: "1,024, counts from 128 entries on", switch: "dlcl.bank,
         dlcl.start"}
      - {what: vectors of the quantiser, paper: nothing keeps them in use, code: none, here: "start from embeddings; one that
         is unused for 1,000 steps is put elsewhere", switch: dlcl.reseed_steps}
      - {what: classes, paper: "machine types or operating conditions (III-A), the metadata of each machine (III-D)", code:
         none, here: "machine type, unit and attributes of the file name; 2020, whose names have none: machine type and unit",
         switch: han.classes}
      - {what: clips without attributes, paper: contrastive loss (2024), code: none, here: left out of the classifier, switch:
         han.unattributed}
      - {what: "embedding, ArcFace, schedule, weight decay", paper: not stated, code: none, here: as AnoPatch, switch:
         "han.embedding, arcface.scale, han.arcface.margin, han.schedule, han.weight_decay"}
      - {what: a clip longer than 2 s in the test, paper: not stated, code: none, here: mean of the normalised embeddings of
         its chunks, switch: han.test_clip}
      - {what: chunks of a clip in training, paper: '"each audio file is segmented into 2-second chunks", so all of them',
         code: none, here: "one from a random place in each pass over the clips, so that a step has as many clips as chunks"}
      - {what: clips shorter than the year's longest (2023 on), paper: not stated, code: none, here: "looped; chunks, of training
         and test, lie in the recording", switch: han.fill}
      - {what: SpecAug, paper: widths not stated; "warping" of frequency channels, code: none, here: "80 bins, 80 frames, no
         warping", switch: "specaug.frequency, specaug.time"}
      - {what: front-end, paper: "128-dimensional MFCC, Hamming window", code: none, here: "the log-mel filter bank that BEATs
         was trained on, povey window"}
      - {what: scope of the kNN from 2021 on, paper: the machine type, code: none, here: "the section, as the challenge; from
         2023 on they are the same"}
      - {what: results of 2022, paper: "chance on ToyCar, ToyTrain of the evaluation set: a wrong list of labels, perhaps"}
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any, Literal

import numpy as np
import torch
from sklearn.cluster import KMeans
from torch import Tensor
from torch.nn.functional import normalize

from auscult.losses.dlcl import DualLevelContrast
from auscult.methods.base import Batch, Drawn, Method, Network, Phase, Shape, two_classes
from auscult.methods.finetuned import FineTuned, FineTuneSettings, encoder_size
from auscult.models.group_adapter import add_group_adapters
from auscult.models.lora import add_lora, lora_parameters, merge_lora
from auscult.settings.section import Positive
from auscult.settings.sections import DlclSettings, GroupAdapterSettings, LoraSettings
from auscult.training.classes import unattributed


class HanSettings(FineTuneSettings):
    method: Literal["han"] = "han"
    lora: LoraSettings = LoraSettings()
    group_adapter: GroupAdapterSettings = GroupAdapterSettings()
    dlcl: DlclSettings = DlclSettings()
    classes: Literal["profile", "attributes"] = "attributes"
    """What makes a class: as the profile says, or also the attributes wherever the names of the data set have any."""
    unattributed: Literal["contrast", "pseudo", "class"] = "contrast"
    """Clips without attributes, where attributes make the classes: are seen by the dual-level contrastive loss alone; are
    clustered after a training without them, and the clusters are classes of a second one; or are one class per unit."""
    pseudo_labels: Positive = 16
    """Clusters per unit, for "pseudo"."""
    chunk_seconds: float = 2.0
    test_clip: Literal["whole", "chunks"] = "chunks"
    train_steps: int = 60000
    warmup_steps: int = 960
    schedule: Literal["constant", "cosine"] = "constant"
    batch_size: int = 32
    lr: float = 1e-4
    weight_decay: float = 0.01


class Han(FineTuned):
    """An encoder with branches beside its linear maps and group vectors in its layers."""

    settings: HanSettings
    known: Tensor

    def __init__(self, settings: HanSettings, shape: Shape, pseudo_labels: int = 0) -> None:
        """
        Args:
            pseudo_labels: clusters per unattributed unit that this training takes for classes.
        """
        unlabelled = shape.unattributed
        super().__init__(
            settings,
            shape,
            () if settings.unattributed == "class" else unlabelled,
            extra=pseudo_labels * len(unlabelled),
        )
        self.unlabelled, self.pseudo_labels = unlabelled, pseudo_labels
        e, lora, adapter = self.encoder, settings.lora, settings.group_adapter
        if lora.rank:
            e.requires_grad_(not lora.frozen)
            maps = [name for role in lora.maps for name in e.linear_maps(role)]
            add_lora(e, maps, lora)
            self.moves |= {name: f"{name}.base" for name in maps}
        if adapter.position != "none":
            blocks = e.blocks(adapter.position)
            add_group_adapters(e, blocks, e.width, adapter)
            self.moves |= {name: f"{name}.inner" for name in blocks}
        contrast = unlabelled and settings.unattributed == "contrast"
        self.contrast = DualLevelContrast(settings.dlcl, settings.embedding) if contrast else None
        known = torch.ones(shape.classes, dtype=torch.bool)
        known[list(unlabelled)] = False
        self.register_buffer("known", known)
        self._clusters: Tensor | None = None  # [clips]: place in the head that a clip is given

    # ------------------------------------------------------------------------------------------------------- the weights
    def frozen(self) -> bool:
        return bool(self.settings.lora.rank) and self.settings.lora.frozen

    def parameter_groups(self) -> list[dict[str, Any]]:
        branches = list(lora_parameters(self.encoder))
        mine = {id(weight) for weight in branches}
        rest = [weight for weight in self.parameters() if weight.requires_grad and id(weight) not in mine]
        return [{"params": rest}, {"params": branches, "lr_scale": self.settings.lora.lr_scale}]

    def merge(self) -> None:
        """Eqs. (2) and (4)."""
        merge_lora(self.encoder)

    # ---------------------------------------------------------------------------------------------------------- training
    def adopt(self, previous: Network) -> None:
        """Everything but the head of the training before."""
        state = {k: v for k, v in previous.state_dict().items() if k.split(".")[0] in ("encoder", "pool", "project")}
        self.load_state_dict(state, strict=False)

    def prepare(self, batches: Iterable[Batch]) -> None:
        """First vectors of the quantiser, or pseudo-labels, from the embeddings of the unattributed training clips."""
        if self.contrast is not None:
            # As training will see them: batch norms that have seen nothing yet would put all embeddings side by side.
            untouched = {name: value.clone() for name, value in self.state_dict().items()}
            self.train()
            x, _, _ = self._unattributed(batches, lambda batch: self.embedding(batch.wave[:, : self.chunk]))
            self.eval()
            self.load_state_dict(untouched)
            self.contrast.initialise(x)
        elif self.pseudo_labels and self.unlabelled:
            x, labels, clips = self._unattributed(batches, self.features)
            self._cluster(x.cpu().numpy(), labels, clips)

    def _unattributed(
        self, batches: Iterable[Batch], embed: Callable[[Batch], Tensor]
    ) -> tuple[Tensor, np.ndarray, np.ndarray]:
        """Normalised embeddings [n, E], classes [n] and positions [n] of the unattributed training clips."""
        xs, labels, clips = [], [], []
        for batch in batches:
            here = ~self.known[batch.label]
            if here.any():
                xs.append(normalize(embed(batch))[here])
                labels.append(batch.label[here].cpu().numpy())
                clips.append(batch.clip[here].cpu().numpy())
        return torch.cat(xs), np.concatenate(labels), np.concatenate(clips)

    def _cluster(self, x: np.ndarray, labels: np.ndarray, clips: np.ndarray) -> None:
        """Static pseudo-labels (their section V-E, "PL"): k-means within each unattributed unit."""
        first = self.arcface.classes - self.pseudo_labels * len(self.unlabelled)
        given = np.full(clips.max() + 1, -1)
        for number, label in enumerate(self.unlabelled):
            mine = labels == label
            count = min(self.pseudo_labels, int(mine.sum()))
            found = KMeans(count, n_init=4, random_state=0).fit(x[mine]).labels_
            start = first + number * self.pseudo_labels
            given[clips[mine]] = start + found
            self.member[label, start : start + count] = True
        self._clusters = torch.from_numpy(given).to(self.member.device)

    def slots(self, batch: Batch) -> Tensor:
        """Place of each clip in the head [B]; -1 for a clip that only the contrastive loss sees."""
        slots = self.slot[batch.label]
        if self._clusters is None:
            return slots
        return torch.where(slots >= 0, slots, self._clusters[batch.clip.clamp(max=len(self._clusters) - 1)])

    def loss(self, batch: Batch, drawn: Drawn) -> dict[str, Tensor]:
        """Eq. (10): L_AAM + lambda L_DLCL."""
        x = self.training_embedding(batch, drawn)
        aam = self.class_loss(x, self.slots(batch))
        if self.contrast is None:
            return {"loss": aam}
        parts = self.contrast(x, self.known[batch.label])
        return {"loss": aam + self.settings.dlcl.weight * parts["dlcl"], "aam": aam, **parts}


def phases(settings: HanSettings) -> list[Phase]:
    """One training; for pseudo-labels two, the first of which knows the attributed clips alone."""
    last = Phase("", settings, partial(build, settings))
    return [Phase("offline", settings, partial(Han, settings)), last] if settings.unattributed == "pseudo" else [last]


def build(settings: HanSettings, shape: Shape) -> Han:
    """The network of the last training."""
    return Han(settings, shape, settings.pseudo_labels if settings.unattributed == "pseudo" else 0)


def untrainable(settings: HanSettings, counts: Mapping[str, int]) -> str:
    """Two classes must have a place in the head."""
    attributed = len(counts) - len(unattributed(counts))
    if settings.unattributed != "class" and len(counts) > attributed < 2:
        return f"{attributed} class(es) have attributes, and a classifier needs two (or set `unattributed: class`)"
    return two_classes(settings, counts)


METHOD = Method(
    settings=HanSettings,
    build=build,
    wave=lambda settings: True,
    encoder_size=encoder_size,
    phases=phases,
    divisible=True,
    untrainable=untrainable,
)
