"""Sections of params.yaml that several methods read, so that `-S fph.reduction=32` is one knob.

A new one is a class here and its line in `SHARED`.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from auscult.settings.section import Fraction, Positive, Section


class SupplementSettings(Section):
    """Recordings of the machine alone and of the noise alone, which come beside the training clips since 2025."""

    clean: bool = False
    """The machine alone joins the training clips."""
    noise_probability: Annotated[float, Field(ge=0, le=1)] = 0.0
    """Chance that noise alone of the same machine type is added to a training clip."""
    snr: Annotated[tuple[float, ...], Field(min_length=1)] = (5.0, 10.0, 15.0, 20.0)
    """Power of the clip over that of the added noise, dB: one of these, drawn."""

    @property
    def used(self) -> bool:
        return self.clean or self.noise_probability > 0


class RowPooling(Section):
    """How the tokens of a row become one vector."""

    how: Literal["mean", "max", "gem", "gwrp", "rdp", "rdp_gem", "first"] = "mean"
    """`first`: the first token of each row, where some encoders (FISHER, ECHO) have one that stands for the clip."""
    gamma: Annotated[float, Field(ge=0)] = 8.0
    """Of `rdp`: 0 = mean; the larger, the more the tokens far from the mean count."""
    p: Annotated[float, Field(gt=0)] = 3.0
    """Of `gem`: 1 = mean of what is positive; the larger, the nearer to the maximum."""
    r: Annotated[float, Field(ge=0, le=1)] = 0.4
    """Of `gwrp`: 1 = mean, 0 = maximum."""


class LabelSettings(Section):
    """What makes a class of a clip whose machine type has no attributes: all of the type's are empty, or all equal."""

    missing: Literal["type", "domain", "kmeans", "ward", "subcentres"] = "type"
    """"type": nothing, all clips of a unit are one class. "domain": the domain. "kmeans", "ward": the cluster of its embedding by
    another arm. "subcentres": as "type", but the class has several centres, of which the nearest counts."""
    embeddings: str = ""
    """The arm whose embeddings are clustered."""
    clusters: Positive = 7
    """Of a unit's source clips ("kmeans"), or of all its clips ("ward")."""
    target_clusters: Positive = 1
    """Of a unit's target clips ("kmeans")."""
    distance: Annotated[float, Field(ge=0)] = 0.0
    """Of "ward": clusters are joined up to this distance (of embeddings of length one); 0 = until `clusters` are left."""
    sub_centres: Positive = 16
    seed: Annotated[int, Field(ge=0)] = 42
    """Of the first centres of "kmeans"."""
    withheld: tuple[str, ...] = ()
    """Machine types whose clips are trained on as if nobody had written their attributes down."""

    @property
    def clustered(self) -> bool:
        return self.missing in ("kmeans", "ward")


class ArcFaceSettings(Section):
    scale: Annotated[float, Field(gt=0)] = 30.0
    margin: Annotated[float, Field(ge=0)] = 0.7


class FphSettings(Section):
    reduction: Annotated[int, Field(ge=0)] = 64
    """Width R of the feature perturbation head; 0 = no head."""
    activation: Literal["relu", "leaky_relu"] = "relu"


class SupconSettings(Section):
    weight: Annotated[float, Field(ge=0)] = 1.0
    """0 switches the contrastive term off."""
    temperature: Annotated[float, Field(gt=0)] = 0.02
    base_temperature: Annotated[float, Field(gt=0)] | None = 0.07
    """The code multiplies by temperature / base_temperature; null = Eq. (1) as printed, without that factor."""
    reduction: Literal["mean", "sum"] = "mean"
    """"mean" as the code, "sum" as Eq. (1)."""


class MixupSettings(Section):
    mode: Literal["noisy_arcmix", "arcmix", "none"] = "noisy_arcmix"
    alpha: Annotated[float, Field(gt=0)] = 0.5
    """lambda ~ Beta(alpha, alpha), one per batch."""


class EmaSettings(Section):
    enabled: bool = True
    decay: Fraction = 0.9999
    shrink: Fraction = 2e-6
    """After each step every live float tensor is multiplied by 1 - shrink (the authors' code, not the paper); 0 = off."""


class EncoderSettings(Section):
    name: str = "beats"
    """An entry of auscult.encoders."""
    checkpoint: str = ""
    """An entry of checkpoints.yaml; "" = random weights."""
    size: dict[str, int | float] = Field(default_factory=dict)
    """Sizes that differ from the published architecture; with random weights only."""
    layer: Annotated[int, Field(ge=0)] = 0
    """Transformer layer whose tokens are used; 0 = the encoder's output."""
    layerdrop: Fraction = 0.0
    """Chance that a layer is left out in a training step (encoders that know it)."""
    gradient_decay: Annotated[float, Field(gt=0, le=1)] = 1.0
    """The gradient is multiplied by this once per layer on its way down (BEATs)."""
    activation_checkpointing: bool = False
    """Activations are computed again in the backward pass instead of kept: less memory, a third more time."""


class SpecAugSettings(Section):
    frequency: Annotated[int, Field(ge=0)] = 80
    """One mask of up to this many mel bins; 0 = none."""
    time: Annotated[int, Field(ge=0)] = 80
    """One mask of up to this many frames; 0 = none."""


class LoraSettings(Section):
    rank: Annotated[int, Field(ge=0)] = 32
    """0 = no LoRA: all weights of the encoder are trained."""
    branches: Positive = 8
    connected: bool = True
    """Each B_i sees the sum of all A_j x; otherwise its own A_i x."""
    frozen: bool = True
    """The encoder's own weights keep their values."""
    maps: tuple[Literal["q", "k", "v", "out", "fc1", "fc2"], ...] = ("q", "k", "v", "out", "fc1", "fc2")
    """Linear maps of a Transformer layer that get it."""
    scale: Annotated[float, Field(gt=0)] = 1.0
    """Of what the branches add: alpha / rank."""
    dropout: Fraction = 0.0
    """Of the input, drawn for each branch by itself."""
    init_scale: Annotated[float, Field(gt=0)] = 1.0
    """Spread of A's first values over Kaiming's."""
    lr_scale: Annotated[float, Field(gt=0)] = 1.0
    """Learning rate of A and B over that of the rest; their weight decay is divided by it."""


class GroupAdapterSettings(Section):
    position: Literal["none", "attention", "ffn", "layer"] = "attention"
    groups: Positive = 32
    temperature: Annotated[float, Field(gt=0)] = 0.1
    """tau_1"""
    hidden: Positive = 192
    learn_scale: bool = False
    """A learnt factor, 1 at first, on what is added."""


class DlclSettings(Section):
    weight: Annotated[float, Field(gt=0)] = 1.0
    """lambda"""
    temperature: Annotated[float, Field(gt=0)] = 0.1
    """tau_2"""
    codes: Positive = 64
    """n_q, vectors of the quantiser."""
    bank: Positive = 1024
    """n_b, labelled embeddings kept."""
    start: Positive = 128
    """Entries of the bank from which on the loss counts."""
    reseed_steps: Annotated[int, Field(ge=0)] = 1000
    """A vector that was nearest to nothing for so many steps takes the place of an embedding; 0 = never."""


class LossSettings(Section):
    """Of a classifier by angles (losses/): which one, and its sizes."""

    kind: Literal["scac_fixed", "scac_trainable", "subspace", "featex", "adaproj"] = "scac_trainable"
    sub_clusters: Positive = 16
    """K, centres of a class; 1 = AdaCos. Not of `adaproj`."""
    directions: Positive = 32
    """d, vectors that span the sub-space of a class (`adaproj`)."""
    exchange: Annotated[float, Field(ge=0, le=1)] = 0.5
    """How often a clip takes parts of other clips (`featex`)."""


SHARED: dict[str, type[Section]] = {
    "supplement": SupplementSettings,
    "encoder": EncoderSettings,
    "specaug": SpecAugSettings,
    "lora": LoraSettings,
    "group_adapter": GroupAdapterSettings,
    "dlcl": DlclSettings,
    "labels": LabelSettings,
    "arcface": ArcFaceSettings,
    "fph": FphSettings,
    "supcon": SupconSettings,
    "mixup": MixupSettings,
    "ema": EmaSettings,
    "loss": LossSettings,
}
