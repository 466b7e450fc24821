"""What a method is to the rest of the project: its inputs, its settings, and a network with a loss and an embedding.

The training loop and the embedding stage know nothing else about it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, final

import numpy as np
from torch import Tensor, nn

from auscult.methods.shape import Shape as Shape
from auscult.settings.training import MethodSettings

if TYPE_CHECKING:
    import pandas as pd


MaybeNone: TypeAlias = Any
"""`Tensor | MaybeNone` (typeshed's idiom): a part that is None where the method did not ask for it."""


@final
@dataclass(frozen=True)
class Batch:
    """One batch on the device. Parts the method does not ask for are None and were never computed.

    Attributes:
        label: int64 [B], index into the class list (training and validation).
        clip: int64 [B], position among the network's training clips (training and validation).
        target: bool [B], whether a clip is of the target domain (training and validation, where a method asks for it).
        candidates: bool [B, C], the classes a clip may belong to (embedding).
        wave: float32 [B, samples] in [-1, 1).
        valid: int64 [B], samples of a recording that is shorter than the clips (see `fill`); None where all are heard whole.
        mel: float32 [B, mels, frames] in dB; in training of a windowed method [B, mels, window].
    """

    label: Tensor | MaybeNone = None
    clip: Tensor | MaybeNone = None
    target: Tensor | MaybeNone = None
    candidates: Tensor | MaybeNone = None
    wave: Tensor | MaybeNone = None
    valid: Tensor | None = None
    mel: Tensor | MaybeNone = None

    def first(self, samples: int, frames: int) -> Batch:
        """The first `samples` samples of the waveforms, and the first `frames` frames of the log-mels."""
        wave = None if self.wave is None else self.wave[:, :samples].contiguous()
        return replace(self, wave=wave, mel=None if self.mel is None else self.mel[:, :, :frames].contiguous())

    @property
    def size(self) -> int:
        """B."""
        return next(len(part) for part in (self.label, self.mel, self.wave) if part is not None)

    def mixed(self, partner: Tensor, shares: Tensor) -> Batch:
        """lam * x + (1 - lam) * x[partner] of waveform and log-mel (in dB, not recomputed), for `shares` (lam, 1 - lam)."""
        own, other = shares

        def mix(x: Tensor | None) -> Tensor | None:
            return None if x is None else own * x + other * x[partner]

        return replace(self, wave=mix(self.wave), mel=mix(self.mel))


Drawn: TypeAlias = dict[str, Tensor]
"""What is random in one step's loss, by name."""


class Network(nn.Module):
    """A method's network. `saved_state` (buffers included) is all that is kept of it."""

    def saved_state(self) -> dict[str, Tensor]:
        """Every tensor that cannot be had again by building the network; all of them, unless a checkpoint holds some."""
        return self.state_dict()

    def load_saved(self, state: Mapping[str, Tensor]) -> None:
        """
        Raises:
            RuntimeError: tensors are missing, too many, or of another shape.
        """
        self.load_state_dict(state)

    def parameter_groups(self) -> list[dict[str, Any]]:
        """What is trained, as an optimiser's groups; `lr_scale` of a group multiplies the learning rate and divides the
        weight decay, so that what decays in a step stays the same."""
        return [{"params": [weight for weight in self.parameters() if weight.requires_grad]}]

    def merge(self) -> None:
        """Fold what was added for training into the weights it was added to; once, before embedding."""

    def exact_spectra(self) -> None:
        """From now on compute any spectra of its own in float64 (see `auscult.features.exact_spectrogram`); detectors ask so."""

    def start(self) -> None:
        """Take over the weights of a checkpoint, before training; the default has random weights."""

    def prepare(self, batches: Iterable[Batch]) -> None:
        """See all training clips, with labels, before training (statistics, initialisation); the default does not look."""

    def draw(self, batch: Batch, rng: np.random.Generator) -> Drawn:
        """Everything that `loss` of this batch leaves to chance, but for dropout and layer-drop; the default has nothing.

        Tensors in host memory, from `rng` (this step's own) and the batch's sizes alone; batches of one size get tensors of one
        shape and type. A compiled loss reads them as inputs, where it would take numbers for constants and be compiled anew.
        """
        return {}

    def loss(self, batch: Batch, drawn: Drawn) -> dict[str, Tensor]:
        """Training loss, by what `draw` gave for this batch: scalar under "loss", and any parts worth a curve."""
        raise TypeError(f"{type(self).__name__} is not trained by gradient: set its epochs to 0")

    def valid_loss(self, batch: Batch) -> Tensor:
        """Loss of each clean clip [B], in eval mode."""
        raise TypeError(f"{type(self).__name__} has no validation loss: set valid_fraction to 0")

    def finish(self, batches: Iterable[Batch]) -> None:
        """See all training clips once after training (densities of the embeddings); the default does not look."""

    def adopt(self, previous: Network) -> None:
        """Take over what the network of the phase before has learnt."""
        raise TypeError(f"{type(self).__name__} follows no other phase")

    def embed(self, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """Embedding [B, D] of whole clips, and the method's own anomaly scores [B] (higher = more anomalous) by name.

        The headline score is called "native", any further one "native_<name>"; a method without a headline of its own is judged
        by nearest neighbours at the distance its `Method` says.
        """
        raise NotImplementedError


@dataclass(frozen=True)
class Phase:
    """One of several trainings that follow each other.

    Attributes:
        name: of the phase; "" for the last one, whose network is the arm's.
        settings: how it is trained.
        build: its network; from the second phase on it adopts what the one before has learnt.
    """

    name: str
    settings: MethodSettings
    build: Callable[[Shape], Network]


def own_frontend(settings: MethodSettings) -> str:
    """The front-end a method's settings name, if they name one."""
    return str(getattr(settings, "frontend", ""))


def always_trainable(settings: MethodSettings, counts: Mapping[str, int]) -> str:
    return ""


def two_classes(settings: MethodSettings, counts: Mapping[str, int]) -> str:
    """A classifier learns from differences: with one class its loss is zero from the start."""
    return "" if len(counts) > 1 else f"there is one class only (`{next(iter(counts))}`) and a classifier needs two"


@dataclass(frozen=True)
class Method:
    """Registry line of a method.

    Attributes:
        settings: its pydantic model, whose defaults are the paper's values.
        build: network from settings and shape.
        scope: one network for all machines, or one per machine type; settings that have a `scope` decide for themselves.
        mel, wave: which inputs it reads, given its settings; `mel` is a front-end's name, "" for none, and by default what the
            settings call `frontend`. By `arrays` a batch's `mel` is the stored values [B, rows, columns].
        window: frames of a training item, given the settings and the frames of a clip; 0 = a whole clip.
        hop: frames between the starts of the windows of one clip.
        domains: whether its training batches say which clips are of the target domain.
        smallest: bands and frames that the network needs at least.
        phases: trainings that follow each other, given the settings; None = one, with the settings themselves.
        divisible: whether several processes can compute one loss together: it takes what it needs of the network through
            `distributed.sharded`, and all else follows from that and the batch.
        encoder_size: parameters of the encoder that is fine-tuned, given the settings; 0 = none.
        distance: by which nearest neighbours of embeddings are found where the method has no score of its own.
        exports_embedding: whether embeddings can be exported to ONNX; otherwise the method's own score alone.
        untrainable: why a network cannot be trained on these classes (name -> training clips), "" if it can. The arm
            goes on without that network, and its cells in the tables say why they are empty.
    """

    settings: type[MethodSettings]
    build: Callable[..., Network]
    scope: Literal["all", "machine"] = "all"
    mel: Callable[..., str] = own_frontend
    wave: Callable[..., bool] = lambda settings: False
    window: Callable[..., int] = lambda settings, frames: 0
    hop: Callable[..., int] = lambda settings: 1
    domains: bool = False
    smallest: tuple[int, int] = (1, 1)
    phases: Callable[..., list[Phase]] | None = None
    divisible: bool = False
    encoder_size: Callable[..., int] = lambda settings: 0
    distance: Literal["cosine", "euclidean"] = "cosine"
    exports_embedding: bool = True
    untrainable: Callable[..., str] = always_trainable

    def trainings(self, settings: MethodSettings) -> list[Phase]:
        """All phases, the last of which is called ""."""
        if self.phases is not None:
            return self.phases(settings)
        return [Phase("", settings, partial(self.build, settings))]

    def scope_of(self, settings: MethodSettings) -> str:
        """ "all" or "machine", given the settings."""
        return str(getattr(settings, "scope", self.scope))

    def groups(self, index: pd.DataFrame, settings: MethodSettings) -> dict[str, pd.DataFrame]:
        """The clips of each network by its name: "all", or the machine type."""
        if self.scope_of(settings) == "all":
            return {"all": index}
        return {str(machine): clips for machine, clips in index.groupby("machine", sort=True)}
