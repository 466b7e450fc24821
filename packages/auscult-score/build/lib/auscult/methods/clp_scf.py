"""CLP-SCF (Guan et al., ICASSP 2023): contrastive pre-training over machine ids, then self-supervised fine-tuning.

The authors' repository could not be obtained: settings are those of its predecessor, the contrastive STgram-MFN code of the
same group.

---
deploy: {difference: 3e-06, torch: 135, onnxruntime: 90}
fidelity:
  clp_scf:
    source: "Guan et al., ICASSP 2023; official code not to be had, so the code of its predecessor (contrastive STgram-MFN)"
    parameters: {source: 1361686, unused: 0, words: in use; the predecessor's object also carries heads that nothing reads}
    golden:
      mfn_original_plan: tests/methods/test_clp_scf.py
    deviations:
      - {what: "tau, epochs and margin of the paper", paper: not seen, code: "0.1, 100 + 300, 1.0", here: as the code, switch:
         "clp_scf.pretrain, clp_scf.arcface.margin"}
      - {what: pre-training epochs, code: "101 run, checkpoint 100 used", here: "100", switch: clp_scf.pretrain.epochs}
      - {what: selection, code: development test set every second epoch, here: last epoch}
      - {what: schedule of the fine-tuning, code: "half a cosine over as many epochs as there are batches (about 242), then up
         again; floor 0", here: half a cosine over all epochs}
      - {what: contrastive denominator, code: the anchor itself included; anchors without a positive dropped, here: as the
         code; a dropped anchor stays a rival of the others}
      - {what: clips shorter than the year's longest (2023 on), code: none in its data, here: filled with zeros,
         switch: clp_scf.fill}
      - {what: last small batch, code: dropped, here: trained on}
"""

from __future__ import annotations

from functools import partial
from typing import Annotated, Literal

from pydantic import Field
from torch import Tensor, nn
from torch.nn.functional import normalize

from auscult.losses.supcon import supcon
from auscult.methods.base import Batch, Drawn, Method, Network, Phase, Shape, two_classes
from auscult.methods.classifier import ArcFaceClassifier, ClassifierSettings, arcface_head
from auscult.models.stgram import Stgram
from auscult.settings.section import Section
from auscult.settings.sections import ArcFaceSettings
from auscult.training import distributed


class ClpPretrainSettings(Section):
    """The first phase. Its learning rate is constant; all else is as in the second."""

    temperature: Annotated[float, Field(gt=0)] = 0.1
    epochs: Annotated[int, Field(ge=0)] = 100
    """0 = fine-tuning from scratch."""
    batch_size: Annotated[int, Field(ge=2)] = 128
    lr: Annotated[float, Field(gt=0)] = 5e-4


class ClpScfSettings(ClassifierSettings):
    """The encoder, and the second phase."""

    method: Literal["clp_scf"] = "clp_scf"
    frontend: str = "stgram"
    embedding: int = 128
    plan: Literal["current", "original"] = "original"
    epochs: int = 300
    batch_size: int = 128
    optimizer: Literal["adam", "adamw"] = "adam"
    lr: float = 1e-4
    schedule_delay: int = 20
    arcface: ArcFaceSettings = ArcFaceSettings(margin=1.0)
    pretrain: ClpPretrainSettings = ClpPretrainSettings()


class LinearBatchNorm(nn.Sequential):
    """Linear layer without bias and batch norm, [B, dim] -> [B, dim]."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.add_module("fc", nn.Linear(dim, dim, bias=False))
        self.add_module("bn", nn.BatchNorm1d(dim))


class ContrastivePretraining(Network):
    """Phase 1: clips of one unit attract each other, clips of all others repel each other."""

    def __init__(self, settings: ClpScfSettings, shape: Shape) -> None:
        super().__init__()
        dim = settings.embedding
        self.temperature = settings.pretrain.temperature
        self.stgram = Stgram(shape.mels, shape.frames, dim, settings.plan)
        self.projection = LinearBatchNorm(dim)
        self.rest = nn.Sequential(nn.ReLU(), LinearBatchNorm(dim), nn.ReLU(), LinearBatchNorm(dim))

    def features(self, batch: Batch) -> Tensor:
        """Unit vectors [B, E] that attract or repel each other."""
        return normalize(self.rest(self.projection(self.stgram(batch.mel, batch.wave))))

    def loss(self, batch: Batch, drawn: Drawn) -> dict[str, Tensor]:
        z = distributed.sharded(self.features, batch)
        return {"loss": supcon(z, batch.label, self.temperature)}


class ClpScf(ArcFaceClassifier):
    """Phase 2: ArcFace on the output of the projection's first layer."""

    def __init__(self, settings: ClpScfSettings, shape: Shape) -> None:
        super().__init__()
        self.stgram = Stgram(shape.mels, shape.frames, settings.embedding, settings.plan)
        self.projection = LinearBatchNorm(settings.embedding)
        self.arcface = arcface_head(settings, shape.classes, shape.names)

    def adopt(self, previous: Network) -> None:
        """Encoder and first layer of the projection (weights and running statistics); the centres are new."""
        assert isinstance(previous, ContrastivePretraining)
        self.stgram.load_state_dict(previous.stgram.state_dict())
        self.projection.load_state_dict(previous.projection.state_dict())

    def features(self, batch: Batch) -> Tensor:
        """[B, E], not normalised."""
        return self.projection(self.stgram(batch.mel, batch.wave))


def phases(settings: ClpScfSettings) -> list[Phase]:
    """Contrastive pre-training, which has no validation loss and so neither holds clips out nor selects; fine-tuning."""
    own = settings.pretrain.model_dump(include={"epochs", "batch_size", "lr"})
    own |= {"schedule": "constant", "valid_fraction": 0.0, "selection": "last"}
    return [
        Phase("pretrain", settings.model_copy(update=own), partial(ContrastivePretraining, settings)),
        Phase("", settings, partial(ClpScf, settings)),
    ]


METHOD = Method(
    settings=ClpScfSettings,
    build=ClpScf,
    wave=lambda settings: True,
    phases=phases,
    divisible=True,
    untrainable=two_classes,  # with one unit the contrastive loss, too, has nothing to repel
)
