"""Pre-trained encoders. A new one is a module beside base.py and a line here: name -> module that holds `ENCODERS`."""

from __future__ import annotations

import importlib

from auscult.config import near
from auscult.encoders.base import EncoderKind
from auscult.errors import AuscultError

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
    "imagebind": "imagebind",
}


def encoder_kind(name: str) -> EncoderKind:
    """The encoder of this name; its module is imported now and not before.

    Raises:
        AuscultError: unknown name.
    """
    if name not in MODULES:
        raise AuscultError(f"unknown encoder `{name}`{near(name, list(MODULES))}", "encoder.name", f"use: {', '.join(MODULES)}")
    kinds: dict[str, EncoderKind] = importlib.import_module(f"auscult.encoders.{MODULES[name]}").ENCODERS
    return kinds[name]
