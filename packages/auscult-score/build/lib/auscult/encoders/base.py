"""What a pre-trained encoder is to the methods: waveforms in, tokens out, and where adapters may be put; with random weights or
those of a checkpoint."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from torch import Tensor, nn

from auscult.encoders import encoder_kind
from auscult.encoders.checkpoints import find, path_of
from auscult.errors import AuscultError
from auscult.settings.section import near
from auscult.settings.sections import EncoderSettings

Role = Literal["q", "k", "v", "out", "fc1", "fc2"]
Place = Literal["attention", "ffn", "layer"]


class Encoder(nn.Module):
    """A Transformer over a waveform's frames or a spectrogram's patches.

    Attributes:
        sample_rate: of the waveforms it expects (Hz).
        min_samples: shortest waveform that gives a token.
        width: D, size of a token.
        depth: number of Transformer layers.
        class_token: whether the first token stands for the clip.
        rows: tokens of one time step (frequency patches; the tokens are time-major); 1 for frames.
        spectrogram: whether `front_end` gives [B, frames, bins], which can be masked; otherwise waveforms.
    """

    sample_rate: int = 16000
    min_samples: int
    width: int
    depth: int
    class_token: bool = False
    rows: int = 1
    spectrogram: bool = True

    def front_end(self, wave: Tensor) -> Tensor:
        """[B, samples] in [-1, 1) at `sample_rate` -> normalised spectrogram [B, frames, bins], or waveform [B, n].

        Without parameters: nothing here is trained. float32 in, float32 out; a spectrogram of float64 is computed and
        returned in float64, as detectors want it (`Pretrained.exact_spectra`).
        """
        raise NotImplementedError

    def tokens(self, x: Tensor, layer: int = 0) -> Tensor:
        """What `front_end` gave -> tokens [B, T, D] after Transformer layer `layer` (1 = first); 0 = the encoder's output."""
        raise NotImplementedError

    def linear_maps(self, role: Role) -> list[str]:
        """Dotted names of the `nn.Linear` modules of a role, one per layer, first layer first."""
        raise NotImplementedError

    def blocks(self, place: Place) -> list[str]:
        """Dotted names of the modules at a place, one per layer: each is called with the hidden states [B, T, D] entering it
        as first argument, and returns a tensor [B, T, D], for attention and ffn before the residual sum."""
        raise NotImplementedError


@dataclass(frozen=True)
class EncoderKind:
    """Registry line of an encoder.

    Attributes:
        build: encoder with random weights, from settings whose `size` changes single sizes of the published architecture.
        load: puts the weights of a checkpoint file, or folder, into an encoder; strict, errors name the keys.
    """

    build: Callable[[EncoderSettings], Encoder]
    load: Callable[[Any, Path], None]


def sized(published: Mapping[str, int | float], settings: EncoderSettings, name: str) -> dict[str, int | float]:
    """The published sizes with those of `settings.size` in their place.

    Raises:
        AuscultError: a size that the architecture does not have.
    """
    for key in settings.size:
        if key not in published:
            fix = f"use: {', '.join(published)}"
            raise AuscultError(f"encoder `{name}` has no size `{key}`{near(key, list(published))}", "encoder.size", fix)
    return {**published, **settings.size}


def new_encoder(settings: EncoderSettings) -> Encoder:
    """An encoder with random weights: of the published sizes, or its checkpoint's where they differ, or `settings.size`.

    Raises:
        AuscultError: unknown encoder or checkpoint, a checkpoint of another encoder, or sizes set beside a checkpoint, whose
            weights have their own.
    """
    if settings.checkpoint:
        entry = find(settings.checkpoint)
        if entry.encoder != settings.name:
            what = f"the checkpoint `{settings.checkpoint}` is one of `{entry.encoder}`, not of `{settings.name}`"
            raise AuscultError(what, "encoder", f"set encoder.name to {entry.encoder}")
        if settings.size:
            fix = "leave `size` empty, or `checkpoint`"
            raise AuscultError(f"the weights of `{settings.checkpoint}` have sizes of their own", "encoder.size", fix)
        settings = settings.model_copy(update={"size": entry.size})
    return encoder_kind(settings.name).build(settings)


def read_checkpoint(encoder: Encoder, settings: EncoderSettings) -> None:
    """Put the weights of `settings.checkpoint` into an encoder that `new_encoder` made from the same settings.

    Raises:
        AuscultError: the checkpoint is missing, damaged, or does not fit.
    """
    encoder_kind(settings.name).load(encoder, path_of(settings.checkpoint))
