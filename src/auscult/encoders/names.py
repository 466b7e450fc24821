"""Which module of auscult.encoders holds which encoder. A new encoder is a module there and a line here."""

from __future__ import annotations

from pathlib import Path

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
