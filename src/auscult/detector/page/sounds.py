"""The sound behind a score: windows of recordings as a bundle hears them, the nearest normal ones, and pictures of where two
differ.

A bundle holds no sound. It says of each of its windows of normal sound in which recording it lies and where, and has the
SHA-256 of that recording; the recording itself is looked for in a folder that the user names.
"""

from __future__ import annotations

import math
from base64 import b64encode
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from html import escape
from pathlib import Path

import numpy as np
import torch

from auscult.data.audio import open_recording, printable
from auscult.detector.folder import Bundle, metric_of, sha256_of
from auscult.detector.places import require_folder
from auscult.detector.stream import below, rounded
from auscult.features import LOG_MELS
from auscult.features.logmel import LogMel, log_mel
from auscult.pages.differences import LOUDER, Patch, band_edges, best_shift, difference, patch_of, place_in_words
from auscult.pages.spectrogram import diverging, figure, gain_of, player, sequential, sound
from auscult.scoring.knn import distances

FRAMES = 640
"""Columns of a picture, at most."""
CANDIDATES = 40
"""Windows of normal sound that are compared by their spectra where the bundle does not say which is nearest."""
TRIES = 20
"""Recordings of normal sound that are looked for until one is there."""
SHIFT_SECONDS = 0.5
LIMIT_DB = 12.0
"""Full colour in the picture of a difference."""
TYPES = {"mp3": "audio/mpeg", "flac": "audio/flac"}


def windows_at(bundle: Bundle, path: Path, starts: Sequence[int]) -> list[np.ndarray]:
    """The windows float32 [window] of a recording that begin at these samples, shorter where it ends before.

    Raises:
        RecordingError: it cannot be read.
    """
    parts: dict[int, list[np.ndarray]] = {start: [np.empty(0, np.float32)] for start in starts}
    at, end = 0, max(starts) + bundle.window
    with open_recording(path) as recording:
        for block in rounded(recording, bundle.sample_rate, bundle.channel, bundle.signal.gain):
            for start, found in parts.items():
                found.append(block[max(0, start - at) : max(0, start + bundle.window - at)])
            at += len(block)
            if at >= end:
                break
    return [np.concatenate(parts[start]) for start in starts]


# ------------------------------------------------------------------------------------------------- the nearest normal sound
@dataclass(frozen=True)
class Normal:
    """A window of normal sound.

    Attributes:
        name: of its recording; start: seconds.
        window: float32 [window].
        nearer: how many recordings would have been nearer, and are not there.
        row: where it stands among the windows that are compared.
    """

    name: str
    start: float
    window: np.ndarray
    nearer: int
    row: int


class NormalSounds:
    """The recordings that a bundle was fitted to, as far as a folder still holds them.

    Attributes:
        by_spectrum: the nearest one is chosen by its spectrum among a few: the bundle has no reference embeddings, or was
            made before it said where they lie.
    """

    def __init__(self, bundle: Bundle, folder: Path) -> None:
        require_folder(folder, "recordings", "give the one the bundle was fitted to: --normal")
        self.bundle = bundle
        training = bundle.facts["training"]
        self._sums: dict[str, str] = training["sha256"]
        self._files: dict[str, list[tuple[str, Path]]] = {}
        for path in below(folder)[0]:
            whole = printable(path.relative_to(folder).as_posix())
            self._files.setdefault(_last(whole), []).append((whole, path))
        self._there: dict[str, Path | None] = {}
        self._rows = places_of(bundle)
        self.by_spectrum = bundle.backend == "native" or not self._rows
        self._spectra: list[tuple[int, np.ndarray]] = []
        if not self._rows:
            unused = {**training["left_out"], **training["same_sound"]}
            self._rows = [(name, 0) for name in self._sums if name not in unused]

    def nearest(self, window: np.ndarray) -> Normal | None:
        """The window of normal sound most like this one [window], of those whose recordings are there; None = there is none."""
        if self.by_spectrum:
            return self._first(self._by_spectrum(window))
        return self._first(self._by_embedding(self.bundle.embed(window[None])[0]))

    def next_to(self, normal: Normal) -> Normal | None:
        """The window of another recording that is most like a normal one: what two normal recordings differ by."""
        if self.by_spectrum:
            return self._first(self._by_spectrum(normal.window), normal.name)
        return self._first(self._by_embedding(self.bundle.reference[normal.row : normal.row + 1]), normal.name)

    def _by_embedding(self, vector: np.ndarray) -> Iterator[int]:
        ((_, distance),) = distances(vector, self.bundle.reference, metric_of(self.bundle.backend))
        yield from np.argsort(distance[0], kind="stable").tolist()

    def _by_spectrum(self, window: np.ndarray) -> Iterator[int]:
        """Candidates from all over the recordings, the one of the smallest mean squared difference first."""
        if not self._spectra:
            there = [row for row, (name, _) in enumerate(self._rows) if _last(name) in self._files]
            chosen = there[:: -(-len(there) // CANDIDATES) or 1]
            self._spectra = [
                (row, mel(self.bundle, self._window(row))) for row in chosen if self._path(self._rows[row][0])
            ]
        own = mel(self.bundle, window)
        error = {row: _unlike(self.bundle, own, other) for row, other in self._spectra}
        yield from sorted(error, key=lambda row: error[row])

    def _first(self, rows: Iterator[int], but: str = "") -> Normal | None:
        missing: dict[str, None] = {}
        for row in rows:
            name, number = self._rows[row]
            if name == but or name in missing:
                continue
            if self._path(name):
                start = number * self.bundle.window / self.bundle.sample_rate
                return Normal(name, start, self._window(row), len(missing), row)
            missing[name] = None
            if len(missing) >= TRIES:
                break
        return None

    def _window(self, row: int) -> np.ndarray:
        name, number = self._rows[row]
        path = self._path(name)
        assert path is not None
        return windows_at(self.bundle, path, [number * self.bundle.window])[0]

    def _path(self, name: str) -> Path | None:
        """The very recording that the bundle was fitted to, wherever it lies in the folder by now; None = it is not there."""
        if name not in self._there:
            self._there[name] = None
            # The one of the same path first.
            for _, path in sorted(self._files.get(_last(name), []), key=lambda each: each[0] != name):
                with suppress(OSError):
                    if sha256_of(path) == self._sums.get(name):
                        self._there[name] = path
                        break
        return self._there[name]


def _last(name: str) -> str:
    return name.rpartition("/")[2]


def places_of(bundle: Bundle) -> list[tuple[str, int]]:
    """(recording, number) of each window of normal sound, in the order of the bundle's reference embeddings; [] = not known."""
    rows = bundle.facts["references"]
    return [(each["name"], each["number"] + more) for each in rows for more in range(each["windows"])]


# ------------------------------------------------------------------------------------------------------------- the pictures
def front_end(bundle: Bundle) -> LogMel:
    """The log-mel of the pictures: bands as fine at any rate, and `FRAMES` columns at most."""
    hop = max(1, round(0.032 * bundle.sample_rate), math.ceil(bundle.window / FRAMES))
    size = 2 ** round(math.log2(4 * hop))
    return replace(LOG_MELS["osscl"], sample_rate=bundle.sample_rate, n_fft=size, hop=hop, mels=min(128, size // 4))


def mel(bundle: Bundle, window: np.ndarray) -> np.ndarray:
    """Log-mel [mels, frames] in dB of a window."""
    found: np.ndarray = log_mel(torch.from_numpy(window), front_end(bundle)).numpy()
    return found


def alone(bundle: Bundle, window: np.ndarray, heading: str, caption: str) -> str:
    """HTML of a window's picture and player."""
    return _shown(bundle, (window,), (heading,), (caption,))


def beside(bundle: Bundle, window: np.ndarray, normal: Normal, third: Normal | None, captions: tuple[str, str]) -> str:
    """HTML of a window, of the normal one it is compared with, and of where they differ.

    Args:
        third: another normal one, for what two of them differ by.
        captions: HTML below the two.
    """
    own, other = (mel(bundle, each) for each in (window, normal.window))
    frames = min(own.shape[1], other.shape[1])
    steps = _steps(bundle)
    diff, patch, shift = patch_of(own[:, :frames], other[:, :frames], steps)
    edges, seconds = band_edges(front_end(bundle)), len(window) / bundle.sample_rate
    words = sentence(patch, frames, seconds, edges)
    if shift:
        moved = abs(shift) * seconds / frames
        words += f" For the comparison the normal one is moved {moved:.2f} s {'later' if shift > 0 else 'earlier'}."
    if third is not None:
        another = mel(bundle, third.window)[:, :frames]
        usual = patch_of(other[:, : another.shape[1]], another, steps)[1].strength
        ratio = patch.strength / max(usual, 1e-9)
        times = f" That is {ratio:.1f} times what two normal recordings differ by."
        words += times if ratio > 1 else " Two normal recordings differ as much."
    pictures = _shown(bundle, (window, normal.window), ("This recording", "Nearest normal recording"), captions)
    return pictures + figure(
        uri("image/webp", diverging(diff - patch.overall, LIMIT_DB)), f"<b>Where they differ</b> {escape(words)}",
        f"difference of the two spectrograms. {words}", seconds, edges, patch, frames,
    )  # fmt: skip


def _shown(bundle: Bundle, windows: Sequence[np.ndarray], headings: Sequence[str], captions: Sequence[str]) -> str:
    """Windows in one range of colours, and at one gain."""
    mels = [mel(bundle, window) for window in windows]
    low, high = np.percentile(np.concatenate([each.ravel() for each in mels]), [1, 99.8])
    gain = gain_of(round(32768 * max(float(np.abs(window).max()) for window in windows)))
    edges, found = band_edges(front_end(bundle)), []
    for window, spectrum, heading, caption in zip(windows, mels, headings, captions, strict=True):
        suffix, content = sound(np.round(window * 32768).astype(np.int16), bundle.sample_rate, gain)
        text = f"<b>{escape(heading)}</b> {caption}{player(uri(TYPES[suffix], content), f'sound: {heading}')}"
        picture = uri("image/webp", sequential(spectrum, float(low), float(high)))
        found.append(figure(picture, text, f"spectrogram: {heading}", len(window) / bundle.sample_rate, edges))
    return "".join(found)


def sentence(patch: Patch, frames: int, seconds: float, edges: np.ndarray) -> str:
    """ "Most at 2.4-4.0 kHz, around 3.1 s: 9 dB louder than the normal one." """
    when, where = place_in_words(patch, frames, seconds, edges)
    words = f"Most {where if where.startswith('at') else f'at {where}'}, {when}: {_louder(patch.level)} than the normal one."
    if abs(patch.overall) >= LOUDER:
        words += f" (The whole is {_louder(patch.overall)}; that is taken off first.)"
    return words


def _louder(level: float) -> str:
    return f"{abs(level):.0f} dB {'louder' if level > 0 else 'quieter'}"


def uri(kind: str, content: bytes) -> str:
    """An address that holds the content itself."""
    return f"data:{kind};base64,{b64encode(content).decode()}"


def _steps(bundle: Bundle) -> int:
    return round(SHIFT_SECONDS * bundle.sample_rate / front_end(bundle).hop)


def _unlike(bundle: Bundle, one: np.ndarray, other: np.ndarray) -> float:
    frames = min(one.shape[1], other.shape[1])
    one, other = one[:, :frames], other[:, :frames]
    return float(np.nanmean(difference(one, other, best_shift(one, other, _steps(bundle))) ** 2))
