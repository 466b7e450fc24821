"""Recordings that hold the same sound: copies in another format or under another name, and cuts that overlap.

A threshold is taken from the scores of windows whose own recording is left out. A second file with the same sound would stay
in, be the nearest neighbour of its twin at a distance of nothing, and make the threshold far too low.

Two steps. Fingerprints (Haitsma and Kalker, "A highly robust audio fingerprinting system", ISMIR 2002) propose pairs of
recordings and the lag between them, in a time that grows with the recordings and not with the pairs. The waveforms decide:
aligned, and whitened so that every frequency counts alike (generalised cross-correlation with phase transform), the same sound
correlates by 0.6 and more even after MP3, an 8-bit copy or a change of rate; two recordings of one machine, mains hum and
regular strokes included, by less than 0.2, for what differs between them is the noise at most frequencies.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import blake2b

import numpy as np
from scipy.fft import irfft, rfft

COHERENT = 0.4
"""Whitened correlation of aligned waveforms from which on two recordings hold the same sound."""
COVERED = 0.95
"""Part of a recording that another must hold for the first to be its copy: encoders add and drop some milliseconds."""
SAME_LEVEL = 1.0
"""dB by which a copy may be louder or softer; beyond, it tells something of its own."""
ALIKE = 0.95
"""Plain correlation of the waveforms from which on one is a copy of the other: nine tenths of the energy are the same. Below, the
same noise lies under another sound, as in mixtures."""
_BITS = 18
_STEP = 4
"""Frames between the two that a bit of a fingerprint compares."""
_LONGEST = 10
"""Seconds of waveform that are compared."""


@dataclass(frozen=True)
class Place:
    """Where a recording lies among those it shares sound with.

    Attributes:
        group: number of the recording that opens the group; one that shares nothing is alone in its own.
        start: its first sample on the time axis of that recording.
        level: dB above that recording, of the sound they share.
        alike: correlation of the waveforms, the lowest on the way to that recording.
    """

    group: int
    start: int = 0
    level: float = 0.0
    alike: float = 1.0


def find_shared_sound(sounds: Sequence[np.ndarray], sample_rate: int) -> list[Place]:
    """The place of each of `sounds` (int16 [samples], mono) in its group."""
    places = [Place(number) for number in range(len(sounds))]
    first_of: dict[bytes, int] = {}
    for number, sound in enumerate(sounds):
        twin = first_of.setdefault(blake2b(np.ascontiguousarray(sound).data).digest(), number)
        places[number] = Place(twin)
    distinct = sorted(first_of.values())
    pairs = _candidates([fingerprint(sounds[number], sample_rate) for number in distinct])
    hop = _frame(sample_rate) // 8
    for first, second, lag in pairs[: 100 + 5 * len(distinct)]:
        one, other = distinct[first], distinct[second]
        if places[one].group != places[other].group:
            found = _compare(sounds[one], sounds[other], lag * hop, sample_rate)
            if found is not None:
                _join(places, one, other, *found)
    return places


def copies(places: Sequence[Place], lengths: Sequence[int]) -> dict[int, int]:
    """Of each recording that another one holds (nearly) whole at the same level: the number of that one.

    The longest of a group, or the first of equal ones, is never a copy. `lengths` in samples.
    """
    found: dict[int, int] = {}
    kept: dict[int, list[int]] = {}
    for number in sorted(range(len(places)), key=lambda i: (-lengths[i], i)):
        place, length = places[number], lengths[number]
        for other in kept.get(place.group, []):
            start, end = places[other].start, places[other].start + lengths[other]
            shared = min(end, place.start + length) - max(start, place.start)
            alike = (
                abs(place.level - places[other].level) <= SAME_LEVEL and min(place.alike, places[other].alike) >= ALIKE
            )
            if alike and shared >= COVERED * length:
                found[number] = other
                break
        else:
            kept.setdefault(place.group, []).append(number)
    return found


def fingerprint(sound: np.ndarray, sample_rate: int) -> np.ndarray:
    """uint32 [frames], one every 8 ms: in which of 18 pairs of neighbouring bands the lower one has lost energy to the upper."""
    frame = _frame(sample_rate)
    hop = frame // 8
    if len(sound) < frame + _STEP * hop:
        return np.empty(0, np.uint32)
    # Bands of equal width on a mel scale between 1/80 and 9/20 of the sample rate.
    edges = 0.04375 * sample_rate * (np.geomspace(1 + 0.2 / 0.7, 1 + 7.2 / 0.7, _BITS + 2) - 1)
    bins = np.round(edges * frame / sample_rate).astype(int)
    views = np.lib.stride_tricks.sliding_window_view(sound, frame)[::hop]
    taper = np.hanning(frame).astype(np.float32)
    weights = 1 << np.arange(_BITS, dtype=np.uint32)
    prints = []
    for start in range(0, len(views) - _STEP, 512):
        power = np.abs(rfft(views[start : start + 512 + _STEP] * taper, axis=1)) ** 2
        slope = np.diff(np.log(np.add.reduceat(power, bins, axis=1)[:, :-1] + 1e-3), axis=1)
        prints.append((slope[_STEP:] > slope[:-_STEP]) @ weights)
    return np.concatenate(prints)


def _frame(sample_rate: int) -> int:
    """Samples of the power of two next to 64 ms."""
    return max(64, 2 ** int(np.round(np.log2(0.064 * sample_rate))))


def _candidates(prints: Sequence[np.ndarray]) -> list[tuple[int, int, int]]:
    """(first, second, frames by which the second begins later), most likely first: three equal fingerprints at one lag."""
    counts = [len(each) for each in prints]
    if not sum(counts):
        return []
    value = np.concatenate(prints)
    recording = np.repeat(np.arange(len(prints)), counts)
    frame = np.concatenate([np.arange(count) for count in counts])
    order = np.argsort(value, kind="stable")
    value, recording, frame = value[order], recording[order], frame[order]
    found = [np.empty((0, 3), np.int64)]
    for distance in range(1, max(2, min(64, 20_000_000 // len(value)))):
        equal = np.flatnonzero(value[distance:] == value[:-distance])
        if not len(equal):
            break
        one, other = recording[equal], recording[equal + distance]
        rows = np.stack([one, other, frame[equal] - frame[equal + distance]], axis=1)
        found.append(rows[one != other])
    pairs, votes = np.unique(np.concatenate(found), axis=0, return_counts=True)
    likely = np.flatnonzero(votes >= 3)
    return [tuple(pairs[i].tolist()) for i in likely[np.argsort(-votes[likely], kind="stable")]]


def _compare(one: np.ndarray, other: np.ndarray, lag: int, sample_rate: int) -> tuple[int, float, float] | None:
    """(exact lag, level in dB, plain correlation) of `other` against `one` if they share sound where they overlap, else None."""
    begin, end = max(0, lag), min(len(one), lag + len(other))
    length = min(end - begin, _LONGEST * sample_rate)
    begin = (begin + end - length) // 2
    if length < 2 * _frame(sample_rate):
        return None
    a = one[begin : begin + length].astype(np.float64)
    b = other[begin - lag : begin - lag + length].astype(np.float64)
    taper = np.hanning(length)
    x, y = _whitened(rfft(taper * (a - a.mean()))), _whitened(rfft(taper * (b - b.mean())))
    power = np.sqrt((np.abs(x) ** 2).sum() * (np.abs(y) ** 2).sum())
    if not power:
        return None
    correlation = np.abs(irfft(x * y.conj(), length)) * length / (2 * power)
    near = 2 * _frame(sample_rate) // 8
    shifts = np.arange(-near, near + 1)
    best = shifts[np.argmax(correlation[shifts])]
    if correlation[best] < COHERENT:
        return None
    if best >= 0:
        a, b = a[best:], b[: length - best]
    else:
        a, b = a[:best], b[-best:]
    return lag + int(best), float(10 * np.log10(b.var() / a.var())), abs(float(np.corrcoef(a, b)[0, 1]))


def _whitened(spectrum: np.ndarray) -> np.ndarray:
    """Every bin at a magnitude of one; those 60 dB below the average fade, for they hold rounding alone."""
    size = np.abs(spectrum)
    floor = 1e-3 * np.sqrt((size**2).mean())
    return spectrum / (size + floor) if floor else spectrum


def _join(places: list[Place], one: int, other: int, lag: int, level: float, alike: float) -> None:
    """Move the group of `other` onto the time axis of the group of `one`."""
    a, b = places[one], places[other]
    later, louder = a.start + lag - b.start, a.level + level - b.level
    for number, place in enumerate(places):
        if place.group == b.group:
            places[number] = Place(a.group, place.start + later, place.level + louder, min(place.alike, alike, a.alike))
