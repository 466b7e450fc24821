"""The encoders, by name. A new one is a file beside this one, its name in `MODULES`, and its checkpoints in checkpoints.yaml.

Importing this imports no encoder, and no torch.
"""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import TYPE_CHECKING

from auscult.errors import AuscultError
from auscult.settings.section import near

if TYPE_CHECKING:
    from auscult.encoders.base import EncoderKind

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
    "dasheng": "dasheng",
    "m2d": "m2d",
    "fisher": "fisher",
    "echo": "echo",
    "openl3": "openl3",
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
