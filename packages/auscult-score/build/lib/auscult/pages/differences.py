"""Where in time and frequency two recordings of a machine differ: align their log-mels, subtract, find the strongest patch."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import product

import numpy as np

from auscult.evaluation.metrics import Floats
from auscult.features.logmel import LogMel, filter_bank

WORTH = 0.1  # a shift counts when it takes this share off the mean squared difference (chosen)
LOUDER = 1.0  # dB of overall level that are worth a word (chosen)


@dataclass(frozen=True)
class Patch:
    """A rectangle of a difference picture.

    Attributes:
        start, stop: frames, `stop` not included.
        low, high: mel bands, `high` not included.
        level: mean difference inside beyond `overall`, dB; > 0 where the first clip is louder.
        overall: median difference of the whole picture, dB.
        strength: |level| * sqrt(area), dB: what the patch was chosen by.
    """

    start: int
    stop: int
    low: int
    high: int
    level: float
    overall: float
    strength: float


def best_shift(one: np.ndarray, other: np.ndarray, largest: int) -> int:
    """Frames by which `other` is to be moved later so that it lies best upon `one`; negative = earlier.

    Smallest mean squared difference where both are, the mean of each band taken off first: what a clip is as a whole must
    not move it. 0 unless a shift takes `WORTH` off; two steady sounds have no best shift.

    Args:
        one, other: log-mels [mels, frames] in dB, of one shape.
        largest: frames, either way.
    """
    a, b = (x - x.mean(1, keepdims=True) for x in (np.asarray(one, np.float64), np.asarray(other, np.float64)))
    largest = min(largest, a.shape[1] // 2)
    error = {s: float(np.mean((_part(a, s) - _part(b, -s)) ** 2)) for s in range(-largest, largest + 1)}
    best = min(error, key=lambda s: (error[s], abs(s)))
    return best if error[best] < (1 - WORTH) * error[0] else 0


def _part(x: np.ndarray, shift: int) -> np.ndarray:
    """The frames of a clip that have a partner when the other is moved `shift` frames later."""
    frames = x.shape[1]
    return x[:, max(0, shift) : frames + min(0, shift)]


def difference(one: np.ndarray, other: np.ndarray, shift: int = 0) -> Floats:
    """`one` - `other` moved `shift` frames later, dB [mels, frames]; NaN in frames that have no partner."""
    out = np.full(one.shape, np.nan)
    _part(out, shift)[:] = _part(np.asarray(one, np.float64), shift) - _part(np.asarray(other, np.float64), -shift)
    return out


def strongest_patch(diff: np.ndarray, widths: tuple[int, ...], heights: tuple[int, ...]) -> Patch:
    """The rectangle whose difference stands out most from that of the whole picture, which is taken off first.

    Its sum over the square root of its area is greatest: in noise of one variance all sizes have the same chance.

    Args:
        diff: dB [mels, frames], NaN in frames that do not count, at the edges only.
        widths, heights: sizes to try, frames and bands; larger than the picture = all of it.
    """
    counted = np.flatnonzero(~np.isnan(diff[0]))
    first, inner = int(counted[0]), np.asarray(diff[:, counted[0] : counted[-1] + 1], np.float64)
    overall = float(np.median(inner))
    sums = np.pad((inner - overall).cumsum(0).cumsum(1), ((1, 0), (1, 0)))  # of everything below and before
    best: Patch | None = None
    mels, frames = inner.shape
    for w, h in product(sorted({min(w, frames) for w in widths}), sorted({min(h, mels) for h in heights})):
        box = sums[h:, w:] - sums[:-h, w:] - sums[h:, :-w] + sums[:-h, :-w]
        low, start = np.unravel_index(np.abs(box).argmax(), box.shape)
        total, area = float(box[low, start]), w * h
        if best is None or abs(total) / np.sqrt(area) > best.strength:
            best = Patch(
                int(start) + first, int(start) + first + w, int(low), int(low) + h,
                total / area, overall, float(abs(total) / np.sqrt(area)),
            )  # fmt: skip
    assert best is not None
    return best


def patch_of(one: np.ndarray, other: np.ndarray, shift_frames: int) -> tuple[Floats, Patch, int]:
    """Difference, its strongest patch and the shift of two log-mels [mels, frames] in dB."""
    shift = best_shift(one, other, shift_frames)
    diff = difference(one, other, shift)
    mels, frames = diff.shape
    widths = tuple(max(1, round(frames * part)) for part in (0.02, 0.05, 0.1, 0.2, 0.4, 1.0))
    heights = tuple(max(1, round(mels * part)) for part in (0.03, 0.06, 0.12, 0.25, 0.5, 1.0))
    return diff, strongest_patch(diff, widths, heights), shift


# ---------------------------------------------------------------------------------------------------------------- in words
@lru_cache(maxsize=8)
def band_edges(frontend: LogMel) -> Floats:
    """Hz [mels + 1] between which each band of a front-end is drawn: half-way between the peaks of its triangles."""
    # A fine grid: the front-end's own FFT has no line at most of the peaks.
    fine = replace(frontend, n_fft=max(frontend.n_fft, 16384))
    nyquist = frontend.sample_rate / 2
    peaks = np.linspace(0, nyquist, fine.n_fft // 2 + 1)[filter_bank(fine).argmax(1)]
    return np.concatenate([[0.0], (peaks[1:] + peaks[:-1]) / 2, [nyquist]])


def in_words(patch: Patch, frames: int, seconds: float, edges: np.ndarray) -> str:
    """\"around 3.1 s, 2.4-4.0 kHz, +9 dB": where a patch lies and how much louder (+) or quieter (-) the clip is there.

    Arguments as of `place_in_words`.
    """
    when, where = place_in_words(patch, frames, seconds, edges)
    words = f"{when}, {where}, {decibels(patch.level)}"
    if abs(patch.overall) >= LOUDER:
        words += f" (beyond the {decibels(patch.overall)} of the clip as a whole)"
    return words


def place_in_words(patch: Patch, frames: int, seconds: float, edges: np.ndarray) -> tuple[str, str]:
    """("around 3.1 s", "2.4-4.0 kHz"): when and where a patch lies.

    Args:
        frames, seconds: length of the picture.
        edges: of `band_edges`.
    """
    per_frame = seconds / frames
    start, stop = patch.start * per_frame, patch.stop * per_frame
    share = (patch.stop - patch.start) / frames
    if share >= 0.8:
        when = "throughout"
    elif share <= 0.25:
        when = f"around {(start + stop) / 2:.1f} s"
    else:
        when = f"{start:.1f}\N{EN DASH}{stop:.1f} s"
    if patch.high - patch.low == len(edges) - 1:
        return when, "at all frequencies"
    return when, hertz(edges[patch.low], edges[patch.high])


def decibels(level: float) -> str:
    """A level with its sign: "+9 dB", "−3 dB", "0 dB"."""
    return f"{round(level):+d} dB".replace("+0", "0").replace("-", "\N{MINUS SIGN}")


def hertz(low: float, high: float) -> str:
    """A band: "120-480 Hz", "0.9-1.4 kHz"."""
    if high < 1000:
        return f"{low:.0f}\N{EN DASH}{high:.0f} Hz"
    return f"{low / 1000:.1f}\N{EN DASH}{high / 1000:.1f} kHz"
