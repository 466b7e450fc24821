"""Pictures and players of the clips that a page shows, and pictures of what two clips differ by."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cached_property
from html import escape

import numpy as np
import pandas as pd
import torch

from auscult.data.store import ClipStore
from auscult.evaluation.metrics import Floats
from auscult.features import LOG_MELS
from auscult.pages.differences import band_edges, in_words, patch_of
from auscult.pages.spectrogram import diverging, figure, gain_of, player, sequential, sound

FRONTEND = "osscl"
SHIFT_SECONDS = 0.5
LIMIT_DB = 12.0  # full colour in a difference picture


@dataclass
class Media:
    """Pictures and sounds of the clips that are shown; what two arms both show is made once."""

    test: ClipStore
    train: ClipStore
    files: dict[str, bytes] = field(default_factory=dict)
    _levels: dict[str, tuple[float, float, float]] = field(default_factory=dict)  # machine -> darkest, brightest, gain

    @cached_property
    def seconds(self) -> float:
        return self.test.samples / self.test.sample_rate

    @cached_property
    def edges(self) -> Floats:
        """Hz [mels + 1]."""
        return band_edges(replace(LOG_MELS[FRONTEND], sample_rate=self.test.sample_rate))

    @cached_property
    def _row(self) -> dict[int, int]:
        return {int(clip): row for row, clip in enumerate(self.test.index["clip_id"])}

    @cached_property
    def _train_row(self) -> dict[int, int]:
        return {int(clip): row for row, clip in enumerate(self.train.index["clip_id"])}

    def where(self, clip_id: int) -> tuple[ClipStore, int]:
        """The store that has a clip, and its row there."""
        return (self.test, self._row[clip_id]) if clip_id in self._row else (self.train, self._train_row[clip_id])

    def mel(self, clip_id: int) -> np.ndarray:
        """Log-mel [mels, frames] in dB."""
        store, row = self.where(clip_id)
        mel: np.ndarray = store.mel(torch.tensor([row]), FRONTEND)[0].numpy()
        return mel

    def audio(self, clip_id: int) -> np.ndarray:
        """int16 [samples]."""
        store, row = self.where(clip_id)
        audio: np.ndarray = (store.wave(torch.tensor([row]))[0] * 32768).round().to(torch.int16).numpy()
        return audio

    def set_levels(self, tables: list[pd.DataFrame]) -> None:
        """One range of colours and one gain per machine, from the clips that are shown: they can be compared."""
        shown = pd.concat(tables, ignore_index=True) if tables else pd.DataFrame({"machine": [], "clip_id": []})
        for machine, clips in shown.groupby("machine", observed=True):
            ids = [int(clip) for clip in clips["clip_id"].unique()]
            low, high = np.percentile(np.stack([self.mel(clip)[:, ::4] for clip in ids]), [1, 99.8])
            peak = max(int(np.abs(self.audio(clip).astype(int)).max()) for clip in ids)
            self._levels[str(machine)] = float(low), float(high), gain_of(peak)

    def shown(self, clip_id: int, machine: str, heading: str, caption: str) -> str:
        """Picture, caption and player of one clip."""
        low, high, gain = self._levels[machine]
        name = _name(clip_id)
        picture = f"{name}.webp"
        if picture not in self.files:
            self.files[picture] = sequential(self.mel(clip_id), low, high)
            suffix, content = sound(self.audio(clip_id), self.test.sample_rate, gain)
            self.files[f"{name}.{suffix}"] = content
        suffix = "mp3" if f"{name}.mp3" in self.files else "flac"
        text = f"<b>{escape(heading)}</b> {caption}{player(f'{name}.{suffix}', heading)}"
        return figure(picture, text, f"log-mel spectrogram: {heading}", self.seconds, self.edges)

    def compared(self, clip_id: int, other: int, third: int | None) -> str:
        """Difference picture of two clips, with its strongest patch, in words, with what two normal clips differ by."""
        steps = round(SHIFT_SECONDS * self.test.sample_rate * self.test.shape(FRONTEND)[1] / self.test.samples)
        diff, patch, shift = patch_of(self.mel(clip_id), self.mel(other), steps)
        name = f"{_name(clip_id)}-{_name(other).removeprefix('clips/')}.webp"
        self.files[name] = diverging(diff - patch.overall, LIMIT_DB)
        words = in_words(patch, diff.shape[1], self.seconds, self.edges)
        caption = f"<b>Difference</b> strongest {escape(words)}."
        if shift:
            moved = abs(shift) * self.seconds / diff.shape[1]
            caption += f" The normal clip is moved {moved:.2f} s {'later' if shift > 0 else 'earlier'}."
        if third is not None:
            ratio = patch.strength / max(patch_of(self.mel(other), self.mel(third), steps)[1].strength, 1e-9)
            caption += f" That is {ratio:.1f} times what this normal clip and its own neighbour differ by"
            caption += ": no more than two normal clips do." if ratio <= 1 else "."
        return figure(name, caption, f"difference: {words}", self.seconds, self.edges, patch, diff.shape[1])


def _name(clip_id: int) -> str:
    """Address of a clip's files without suffix."""
    return f"clips/{clip_id % 2**64:016x}"
