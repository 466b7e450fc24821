"""Random numbers that belong to a clip, not to the program that asks for them.

Every clip owns a set of Philox streams, keyed by a hash of (version, seed, machine, unit, partition, index). Philox is
counter based (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011): a key and a counter give the
numbers, so there is no state to share and no order to keep. One stream per purpose keeps the purposes apart: a fault that
draws nothing leaves every other draw of the clip as it was.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]

PURPOSES = ("nuisance", "jitter", "events", "turbulence", "background", "background_colour")


def key_of(*parts: str | int) -> int:
    """128-bit key of `parts`: BLAKE2b of their text, separated so that no two different lists give the same text."""
    text = "\x1f".join(str(part) for part in parts)
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=16).digest(), "little")


def stream(key: int, purpose: str) -> np.random.Generator:
    """The generator of one `purpose` (one of `PURPOSES`) under `key`; streams of different purposes never overlap."""
    counter = (
        PURPOSES.index(purpose) << 192
    )  # the top 64-bit word of the counter: 2^192 blocks away from the next purpose
    return np.random.Generator(np.random.Philox(key=key, counter=counter))


def normals(keys: Sequence[int], purpose: str, count: int) -> FloatArray:
    """Standard normal numbers, [len(keys), count]."""
    out = np.empty((len(keys), count))
    for row, key in zip(out, keys, strict=True):  # one generator per clip; the numbers themselves come in one call
        stream(key, purpose).standard_normal(out=row)
    return out


def uniforms(keys: Sequence[int], purpose: str, count: int) -> FloatArray:
    """Uniform numbers of mean 0 and standard deviation 1, that is in [-sqrt(3), sqrt(3)), [len(keys), count].

    Bounded on purpose: the headroom of a clip can be stated.
    """
    out = np.empty((len(keys), count))
    for row, key in zip(out, keys, strict=True):
        stream(key, purpose).random(out=row)
    return (2.0 * out - 1.0) * np.sqrt(3.0)
