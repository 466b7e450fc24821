"""Pre-trained encoders by name, with random weights or those of a checkpoint. A new one is a file beside this one, its name in
`MODULES`, and an entry of checkpoints.yaml. Importing this imports no encoder, and no torch."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import TYPE_CHECKING

from auscult.encoders.checkpoints import find, path_of
from auscult.errors import AuscultError
from auscult.settings.section import near
from auscult.settings.sections import EncoderSettings

if TYPE_CHECKING:
    from auscult.encoders.base import Encoder, EncoderKind

MODULES = {
    "beats": "beats",
    "wav2vec2": "speech",
    "hubert": "speech",
    "unispeech": "speech",
    "wavlm": "speech",
    "ast": "ast",
    "clap": "clap",
    "eat": "eat",
    "ced": "ced",
    "atst": "atst",
    "atst_clip": "atst",
    "imagebind": "imagebind",
}
"""Name of the encoder -> module that has it in its `ENCODERS`."""


def encoder_file(name: str) -> Path:
    """Source of an encoder."""
    return Path(__file__).parent / f"{MODULES[name]}.py"


def encoder_kind(name: str) -> EncoderKind:
    """The encoder of this name; its module is imported now and not before.

    Raises:
        AuscultError: unknown name.
    """
    if name not in MODULES:
        raise AuscultError(
            f"unknown encoder `{name}`{near(name, list(MODULES))}", "encoder.name", f"use: {', '.join(MODULES)}"
        )
    kinds: dict[str, EncoderKind] = importlib.import_module(f"auscult.encoders.{MODULES[name]}").ENCODERS
    return kinds[name]


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
