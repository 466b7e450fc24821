"""Names where not every character may stand: of machines and units, of clips cut from a recording.

A clip is called `<recording>__<start in ms>.wav`, with `__<attributes>` before the suffix if any. A recording's part never holds
`__`, and attributes are percent-encoded, so what was written is what is read.
"""

from __future__ import annotations

import re
import unicodedata
from urllib.parse import quote, unquote


def name_fault(path: str, machine: str, unit: str) -> str:
    """Why tables and reports could not hold a recording of this path, machine and unit; "" if they can."""
    try:
        path.encode()
    except UnicodeEncodeError:
        return "its name is not UTF-8: rename it (convmv -f latin1 -t utf8 mends names from old archives)"
    for what, name in (("machine", machine), ("unit", unit)):
        if "\\" in name or any(unicodedata.category(letter) == "Cc" for letter in name):
            return f"`{name!r}` cannot be the name of a {what}: no backslash or control character, please"
    return ""


# ------------------------------------------------------------------------------------------------------------------ clips
LONGEST = 120
"""Bytes that an encoded attribute string may take: a file name has 255 for everything."""


def safe(words: str) -> str:
    """`words` as letters, digits, `.`, `-` and single `_`, at most 80 bytes of them: good in any shell and file system."""
    kept = re.sub(r"_{2,}", "_", re.sub(r"[^\w.-]+", "_", words)).strip("_.")
    return kept.encode()[:80].decode(errors="ignore").rstrip("_.") or "recording"


def encoded(attributes: str) -> str:
    return quote(attributes, safe="=,;+")


def clip_name(recording: str, start_ms: int, attributes: str = "") -> str:
    """File name of the clip of `recording` (made by `safe`) that starts after `start_ms` milliseconds."""
    return f"{recording}__{start_ms:08d}{f'__{encoded(attributes)}' if attributes else ''}.wav"


def attributes_in(stem: str) -> str:
    """The attributes in a clip's name without its suffix; "" if there are none.

    Raises:
        ValueError: not a name that `clip_name` writes.
    """
    match = re.fullmatch(r"(?:(?!__).)+?__\d+(?:__(.+))?", stem)
    if not match:
        raise ValueError("not named <recording>__<start in ms>[__<attributes>]")
    return unquote(match[1] or "")
