"""Two channels as one: what is heard of a near microphone (at the machine) and a far one (in the hall).

`w1`, linear cancellation (Ozeki et al., DCASE 2026 report 101, as kasahart/asd-experiments writes it down): per frequency the
one complex factor by which the far channel explains most of the near one over the whole clip; what it explains is taken away.
`ss`, spectral subtraction (Chu and Qian, DCASE 2026 report 65). The far microphone hears the machine, too: both may take away
what they should keep (studies/two_channels measures how much).
"""

from __future__ import annotations

from typing import get_args

import torch
from torch import Tensor

from auscult.settings.section import Input

INPUTS: tuple[str, ...] = get_args(Input)
PEAK = 0.9
"""Common peak of both channels while `w1` works: what 1e-12 is measured against."""
W1_LENGTH, SS_LENGTH = 1024, 512
"""Samples of a frame; it advances by half of that."""
SHORTEST = W1_LENGTH // 2 + 1
"""Samples that the edges can be reflected from."""
FLOOR = 0.1
"""Part of the near magnitude that `ss` leaves where the far one is larger."""


def heard(pair: Tensor, name: str, of: Tensor | None = None) -> Tensor:
    """One channel out of two.

    Args:
        pair: near and far, float [..., 2, samples].
        name: one of `INPUTS`. `difference` is half of near less far, as `mean` is half of their sum: neither leaves full scale.
        of: a part of the sound in `pair`, of its shape, that goes the way which the whole `pair` decides; None = `pair` itself.
            Parts that add up to `pair` give results that add up.

    Returns:
        float [..., samples], at the level of `pair`. A silent far channel leaves `w1` and `ss` the near one, a silent near
        channel leaves them silence.

    >>> pair = torch.tensor([[0.5, 0.25], [0.25, -0.25]])
    >>> heard(pair, "mean").tolist(), heard(pair, "difference").tolist()
    ([0.375, 0.0], [0.125, 0.25])
    >>> both = torch.randn(1, 4000).expand(2, -1)
    >>> heard(both, "w1").abs().max() < 1e-4 * both.abs().max()
    tensor(True)
    """
    of = pair if of is None else of
    near, far = of.unbind(-2)
    if name == "mean":
        return (near + far) / 2
    if name == "difference":
        return (near - far) / 2
    if name == "w1":
        return cancelled(pair, of)
    if name == "ss":
        return subtracted(pair, of)
    return {"near": near, "far": far}[name]


def cancelled(pair: Tensor, of: Tensor) -> Tensor:
    """`w1`: Y = C - H F with H = sum_t C conj(F) / (sum_t |F|^2 + 1e-12), C near and F far, per frequency over all frames t.

    Sizes as in `heard`.
    """
    peak = pair.abs().amax((-2, -1), keepdim=True)
    scale = torch.where(peak > 0, PEAK / peak, 1.0)
    c, f = (_stft(channel, W1_LENGTH) for channel in (pair * scale).unbind(-2))
    h = (c * f.conj()).sum(-1, keepdim=True) / (f.abs().square().sum(-1, keepdim=True) + 1e-12)
    if of is not pair:
        c, f = (_stft(channel, W1_LENGTH) for channel in (of * scale).unbind(-2))
    return _istft(c - h * f, W1_LENGTH, pair.shape[-1]) / scale[..., 0, :]


def subtracted(pair: Tensor, of: Tensor) -> Tensor:
    """`ss`: magnitude a - b where a > b, else 0.1 a, with a near and b far, and the near phase: a gain of each bin.

    Sizes as in `heard`.
    """
    near, far = (_stft(channel, SS_LENGTH) for channel in pair.unbind(-2))
    a, b = near.abs(), far.abs()
    gain = torch.where(a > b, (a - b) / a.clamp(min=torch.finfo(a.dtype).tiny), FLOOR)
    spectrum = near if of is pair else _stft(of.select(-2, 0), SS_LENGTH)
    return _istft(gain * spectrum, SS_LENGTH, pair.shape[-1])


def _stft(wave: Tensor, length: int) -> Tensor:
    """[..., samples] -> complex [..., bins, frames]: periodic Hann window, centred frames, reflected edges.

    A clip that ends more than half a hop behind the last frame's centre is reflected as far as the next one, for there the
    window has nearly faded, and the inverse would divide by it.
    """
    hop, samples = length // 2, wave.shape[-1]
    flat = wave.reshape(-1, samples)
    if samples % hop > hop // 2:
        flat = torch.nn.functional.pad(flat[:, None], (0, -samples % hop), mode="reflect")[:, 0]
    window = torch.hann_window(length, dtype=wave.dtype, device=wave.device)
    out = torch.stft(flat, length, hop, window=window, center=True, pad_mode="reflect", return_complex=True)
    return out.reshape(*wave.shape[:-1], *out.shape[-2:])


def _istft(spectrum: Tensor, length: int, samples: int) -> Tensor:
    """The inverse of `_stft`, [..., samples]."""
    flat = spectrum.reshape(-1, *spectrum.shape[-2:])
    window = torch.hann_window(length, dtype=spectrum.real.dtype, device=spectrum.device)
    return torch.istft(flat, length, length // 2, window=window, center=True, length=samples).reshape(
        *spectrum.shape[:-2], samples
    )
