"""Another sampling rate, block by block and without seams, for each block is resampled with its surroundings: the samples are
those of the whole sound resampled at once by torchaudio's windowed sinc, with `SINC_WIDTH` and `SINC_ROLLOFF`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator

import numpy as np

from auscult.errors import AuscultError

_STRETCH = 2**17  # samples resampled at once, about
_LARGEST = 2**26  # weights of a resampler: 256 MiB
SINC_WIDTH, SINC_ROLLOFF = 256, 0.998
"""Zero crossings of the sinc and roll-off: an edge far steeper than by torchaudio's defaults. Those let the uppermost mel bands
sag, so that a recording at another rate than the normal ones would stand out by its resampling alone."""


def resampled(blocks: Iterable[np.ndarray], rate: int, wanted: int, where: str = "") -> Iterator[np.ndarray]:
    """`blocks` float32 [n] of a sound at `rate` Hz as blocks of the same sound at `wanted` Hz.

    Together they are what `torchaudio.transforms.Resample` with these settings makes of the whole, to float32 rounding
    (1e-6 of full scale).

    Raises:
        AuscultError: the two rates have so small a common divisor that the filter would not fit into memory.
    """
    if rate == wanted:
        yield from blocks
        return
    import torch
    from torchaudio.transforms import Resample

    divisor = math.gcd(rate, wanted)
    step, out = rate // divisor, wanted // divisor  # `step` samples become `out`
    width = math.ceil(SINC_WIDTH * step / (min(step, out) * SINC_ROLLOFF))  # as torchaudio's
    if out * (2 * width + step) > _LARGEST:
        what = f"{rate} Hz cannot be brought to {wanted} Hz block by block"
        raise AuscultError(what, where, "convert it to a common rate (16000, 44100, 48000 Hz)")
    resample = Resample(rate, wanted, lowpass_filter_width=SINC_WIDTH, rolloff=SINC_ROLLOFF)
    around = math.ceil(width / step) + 1  # steps of surroundings on either side
    stretch = max(1, _STRETCH // step)
    left, held = 0, np.empty(0, np.float32)
    for block in blocks:
        held = np.concatenate([held, block])
        while len(held) >= (left + stretch + around) * step:
            part = resample(torch.from_numpy(held[: (left + stretch + around) * step])).numpy()
            yield part[left * out : (left + stretch) * out]
            keep = max(0, left + stretch - around)
            left, held = left + stretch - keep, held[keep * step :]
    if len(held) > left * step:
        yield resample(torch.from_numpy(np.ascontiguousarray(held))).numpy()[left * out :]
