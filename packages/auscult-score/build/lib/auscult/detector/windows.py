"""Recordings of normal sound as windows that do not overlap, for `auscult fit`, without silence and copies."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd
from tqdm import tqdm

from auscult.data.audio import Channel, open_recording
from auscult.detector.copies import copies, find_shared_sound
from auscult.detector.recordings import Found, quiet
from auscult.detector.signal import FAINT, SILENCE, SignalRange, clipped, constant_stretch, gain_for, levels
from auscult.detector.stream import cut, rounded
from auscult.errors import AuscultError, listed

FEWEST = 10
"""Windows; fewer say nothing about a false-alarm rate."""
_LOSSY = (".mp3", ".ogg", ".oga", ".opus")


@dataclass
class Windows:
    """The windows of all recordings that are used.

    Attributes:
        audio: int16 [windows, samples].
        table: `name` of the recording of each window, its `unit`, `group` and `start` (see `copies.Place`; in samples), and
            `number`: it starts after so many windows of its recording.
        signal: what they are like.
        left_out: recording -> why it is not used.
        same_sound: recordings that were left out because another one holds their sound -> that one.
        overlapping: names of recordings that share sound otherwise, together one recording each.
        notes: what a user should know beyond that.
    """

    audio: np.ndarray
    table: pd.DataFrame
    signal: SignalRange
    left_out: dict[str, str] = field(default_factory=dict)
    same_sound: dict[str, str] = field(default_factory=dict)
    overlapping: list[list[str]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def cut_windows(
    found: Mapping[str, Found], file: Path, sample_rate: int, samples: int, channel: Channel, gain: float | None = None
) -> Windows:
    """Cut recordings into whole windows, kept as int16 in `file`; leave out what is silent, and what another one holds.

    Args:
        gain: of every sample; None = as these recordings want it.

    Raises:
        AuscultError: see `data.audio`; nothing is left.
    """
    if gain is None:
        gain = gain_for([each.peak for each in found.values()], [each.rms for each in found.values()])
    rows: list[tuple[str, int]] = []
    with open(file, "wb") as out:
        for name in tqdm(found, desc="cut", unit="recording", **quiet()):
            with open_recording(found[name].path) as recording:
                sound = _filled(rounded(recording, sample_rate, channel, gain), samples)
                place = 0
                for first, parts in cut(sound, samples, samples):
                    # Without the one that overlaps its neighbour to reach the end.
                    whole = parts[first % samples == 0]
                    out.write((whole * 32768).astype("<i2").tobytes())
                    rows += [(name, place + number) for number in range(len(whole))]
                    place += len(whole)
    audio = np.memmap(file, np.dtype("<i2"), "r", shape=(len(rows), samples))
    table = pd.DataFrame(rows, columns=["name", "number"])
    table["start"] = table["number"] * samples
    table["unit"] = [name.rpartition("/")[0] or "00" for name in table["name"]]
    made = Windows(audio, table, SignalRange(gain=gain))
    facts = _facts(audio, sample_rate)
    keep = _leave_out_silence(made, facts, sample_rate)
    keep = _leave_out_copies(made, keep, sample_rate)
    if keep.any():
        made.signal = SignalRange(
            gain=gain, lowest=facts["level"][keep].min(), highest=facts["level"][keep].max(),
            silence=max(SILENCE, facts["silence"][keep].max()), clipped=facts["clipped"][keep].max(),
        )  # fmt: skip
    if not keep.all():
        made.audio, made.table = audio[keep], made.table[keep].reset_index(drop=True)
    if gain != 1:
        made.notes.append(f"recordings are taken {20 * np.log10(gain):+.0f} dB before they are rounded to 16 bits")
    made.notes += [f"{name}: {note}" for name, each in found.items() for note in each.notes]
    return made


def cut_alike(
    found: Mapping[str, Found], file: Path, sample_rate: int, samples: int, channel: Channel, gain: float
) -> Windows:
    """Cut recordings as others were cut before; `left_out` says what does not fit and why. There may be no window at all."""
    left_out = {}
    for name, each in found.items():
        if each.rate < sample_rate:
            left_out[name] = f"recorded at {each.rate} Hz only, and {sample_rate} Hz are heard"
        elif each.seconds * sample_rate < samples * (1 - 1e-4):
            left_out[name] = f"{each.seconds:.3g} s long, and a window has {samples / sample_rate:.3g} s"
    used = {name: each for name, each in found.items() if name not in left_out}
    if not used:
        empty = pd.DataFrame(columns=["name", "number", "start", "unit", "group"])
        return Windows(np.empty((0, samples), np.int16), empty, SignalRange(gain=gain), left_out)
    made = cut_windows(used, file, sample_rate, samples, channel, gain)
    copied = {name: f"the same sound as {other}" for name, other in made.same_sound.items()}
    made.left_out = {**left_out, **made.left_out, **copied}
    return made


def _filled(blocks: Iterable[np.ndarray], samples: int) -> Iterable[np.ndarray]:
    """The sound without mirroring: a recording that is a window but for the rounding of its rate gets its last sample."""
    length = 0
    for block in blocks:
        length += len(block)
        yield block
    if 0 < samples - length <= max(2, 1e-4 * samples):
        yield np.zeros(samples - length, np.float32)


def _facts(audio: np.ndarray, sample_rate: int) -> pd.DataFrame:
    """`level` (dBFS), `silence` (seconds of one value, 0 below `SILENCE`) and `clipped` (share of samples) of each window."""
    parts = []
    least = min(int(SILENCE * sample_rate) + 2, audio.shape[1])
    for start in range(0, len(audio), 64):
        windows = audio[start : start + 64].astype(np.float32) * np.float32(1 / 32768)
        silence = constant_stretch(windows, least) / sample_rate
        parts.append(pd.DataFrame({"level": levels(windows), "silence": silence, "clipped": clipped(windows)}))
    return pd.concat(parts, ignore_index=True)


def _leave_out_silence(made: Windows, facts: pd.DataFrame, sample_rate: int) -> np.ndarray:
    """Which windows are used [n]: not those with digital silence, unless a quarter of the recordings has some."""
    nothing = (facts["level"] < FAINT) | (facts["silence"] * sample_rate >= made.audio.shape[1] - 2)
    silent = facts["silence"] > 0
    names = made.table["name"]
    if 4 * names[silent & ~nothing].nunique() > names.nunique():
        silent = nothing
    keep = ~(silent | nothing).to_numpy()
    for name in names[~keep].unique():
        lost = (names == name) & ~keep
        what = f"digital silence in {lost.sum()} of {(names == name).sum()} windows"
        if (names[keep] == name).any():
            made.notes.append(f"{name}: {what}: these are not used")
        else:
            made.left_out[name] = what if silent[lost].any() else f"nothing is heard of it at {sample_rate} Hz"
    return keep


def _leave_out_copies(made: Windows, keep: np.ndarray, sample_rate: int) -> np.ndarray:
    """`keep` without windows of recordings that another one holds; adds `group` to the table, and moves `start` into it."""
    table = made.table
    # Of copies the first one is kept: better one that lost nothing.
    names = sorted(dict.fromkeys(table["name"][keep]), key=lambda name: name.lower().endswith(_LOSSY))
    first = table.groupby("name")["start"].idxmin()
    count = table.groupby("name").size()
    sounds = [made.audio[first[name] : first[name] + count[name]].reshape(-1) for name in names]
    places = dict(zip(names, find_shared_sound(sounds, sample_rate), strict=True))
    held_by = copies(list(places.values()), [len(sound) for sound in sounds])
    made.same_sound = {names[number]: names[other] for number, other in held_by.items()}
    kept = keep & ~table["name"].isin(list(made.same_sound)).to_numpy()
    groups: dict[int, list[str]] = {}
    for name in names:
        if name not in made.same_sound:
            groups.setdefault(places[name].group, []).append(name)
    made.overlapping = [together for together in groups.values() if len(together) > 1]
    if made.overlapping:
        what = f"{sum(map(len, made.overlapping))} recordings share sound and are taken for {len(made.overlapping)}:"
        lines = [
            f"{', '.join(one[:3])}{f' and {len(one) - 3} more' if len(one) > 3 else ''}" for one in made.overlapping
        ]
        made.notes.append(what + listed(lines, 10))
    table["group"] = [places[name].group if name in places else -1 for name in table["name"]]
    table["start"] += [places[name].start if name in places else 0 for name in table["name"]]
    return kept


def check_count(count: int, seconds: float, folder: Path) -> None:
    if count < FEWEST:
        what = f"{count} window(s) of {seconds:g} s are too few to know what is normal, {FEWEST} are needed"
        raise AuscultError(what, str(folder), "record more normal sound, or use shorter windows (--seconds)")
