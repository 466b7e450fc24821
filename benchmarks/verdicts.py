"""How many normal recordings are called anomalous, and how many faulty ones, by how long they are: a verdict by one window above
the threshold, and one that knows how many are expected (auscult/detector/verdict.py).

    PYTHONPATH=src python benchmarks/verdicts.py              # two minutes or so; writes metrics/verdicts.csv
    PYTHONPATH=src python benchmarks/verdicts.py --splits 5 --csv /tmp/few.csv

Valve: of the 25 normal clips of each of four working patterns 15 are fitted to, drawn anew for each split by a fixed seed; the
others, and the 100 faulty ones, are joined to recordings. Log-mel statistics over time (mean, deviation, maximum; Euclidean
distance to the nearest neighbour, as `spectral_knn`), put together from half windows. Windows are a whole clip, or 32 frames
(1 s), of which a clip has 18 that overlap by half. There is none across a join, where the valve's rhythm breaks.

Noise: scores alone, of recordings whose windows are alike in three ways; in one of them the training recordings have one window
each, so that nothing is known of that. The interval is of the mean over splits (1.96 standard errors).
"""

from __future__ import annotations

import sys
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import soundfile
import torch
from scipy.signal import lfilter

from auscult.detector.thresholds import left_out_scores, quantile
from auscult.detector.verdict import Known, alikeness, anomalous, effective
from auscult.errors import AuscultError
from auscult.features import exact_spectrogram
from auscult.scoring.knn import nearest
from common import ROOT, parser_of, valve_clips, write_table
from valve_splits import TRAINED

TABLE = ROOT / "metrics" / "verdicts.csv"
RATE = 0.1
LENGTHS = (1, 2, 5, 10, 20)
RECORDINGS = 20  # of each kind and length in a split
Tried = Iterator[tuple[str, int, str, bool, bool]]


class Detector:
    """A threshold, and what is known of the left-out scores that it comes from."""

    def __init__(self, normal: np.ndarray, group: np.ndarray) -> None:
        alike = alikeness(normal, group)
        self.normal, self.threshold = np.sort(normal), quantile(normal, RATE)
        count = len(np.unique(group))
        self.known = Known(RATE, len(normal), effective(len(normal), count, alike), alike)

    def verdicts(self, scores: np.ndarray, apart: int) -> tuple[bool, bool]:
        """By any window, and by how many are expected, of a recording with `apart` windows, and others between them [n]."""
        above = scores[scores > self.threshold]
        return len(above) > 0, anomalous(above, len(scores), apart, self.normal, self.known)


# ------------------------------------------------------------------------------------------------------------------ valve
def read(root: Path) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Log-mel float64 [200, 128, frames], pattern [200], whether faulty [200]."""
    if not root.is_dir():
        raise AuscultError("the valve clips are not there", str(root), "say where they are: --clips")
    table = pd.read_csv(root / "provenance.csv").sort_values("path")
    sounds = [soundfile.read(root / path, dtype="float32")[0][None] for path in table["path"]]
    mels = [exact_spectrogram(sound, "osscl", 16000)[0].astype(np.float64) for sound in sounds]
    names = table["official_name"].str
    return np.stack(mels), names.extract(r"(pat_\d\d)")[0].to_numpy(), names.contains("_anomaly_").to_numpy()


def halves(mels: np.ndarray, frames: int) -> np.ndarray:
    """Mean, mean square and maximum over `frames` frames each, [clips, parts, 3, 128]."""
    parts = mels.shape[2] // frames
    cut = mels[:, :, : parts * frames].reshape(*mels.shape[:2], parts, frames)
    return np.stack([cut.mean(3), (cut**2).mean(3), cut.max(3)], axis=1).transpose(0, 3, 1, 2)


def windows(parts: np.ndarray) -> np.ndarray:
    """Statistics [n, 384] of the windows of two parts each of a recording [n + 1, 3, 128]."""
    mean, square = (parts[:-1, :2] + parts[1:, :2]).transpose(1, 0, 2) / 2
    deviation = np.sqrt(np.maximum(square - mean**2, 0))
    return np.concatenate([mean, deviation, np.maximum(parts[:-1, 2], parts[1:, 2])], axis=1)


def valve(clips: Path, splits: int) -> Iterator[list[tuple[str, int, str, bool, bool]]]:
    mels, pattern, faulty = read(clips)
    for name, frames in (("valve, 10 s", mels.shape[2] // 2), ("valve, 1 s", 16)):
        parts = halves(mels, frames)
        for split in range(splits):
            rng = np.random.default_rng([split, frames])
            chosen = [
                rng.permutation(np.flatnonzero((pattern == each) & ~faulty))[:TRAINED] for each in np.unique(pattern)
            ]
            yield list(_valve(name, parts, pattern, faulty, np.concatenate(chosen), rng))


def _valve(
    name: str, parts: np.ndarray, pattern: np.ndarray, faulty: np.ndarray, train: np.ndarray, rng: np.random.Generator
) -> Tried:
    heard = [windows(parts[clip])[::2] for clip in train]  # without overlap
    vectors, group = np.concatenate(heard), np.repeat(np.arange(len(heard)), [len(each) for each in heard])
    mean, deviation = vectors.mean(0), vectors.std(0).clip(min=1e-6)
    vectors = ((vectors - mean) / deviation).astype(np.float32)
    left_out = left_out_scores(vectors, group, np.zeros(len(group)), 1, 1, "euclidean", scaled=len(vectors))
    detector = Detector(left_out, group)

    def verdicts(clips: np.ndarray) -> tuple[bool, bool]:
        sound = np.concatenate([windows(parts[clip]) for clip in clips])
        scores = nearest(vectors, ((sound - mean) / deviation).astype(np.float32), 1, "euclidean")
        return detector.verdicts(scores, len(clips) * parts.shape[1] // 2)

    fresh = np.setdiff1d(np.flatnonzero(~faulty), train)
    for length in LENGTHS:
        for _ in range(RECORDINGS):
            normal, bad = (rng.permutation(of)[:length] for of in (fresh, np.flatnonzero(faulty)))
            yield name, length, "normal", *verdicts(normal)
            yield name, length, "faulty", *verdicts(bad)
            if length > 1:
                yield name, length, "one clip of them faulty", *verdicts(np.append(normal[1:], bad[0]))
            same = rng.permutation(fresh[pattern[fresh] == rng.choice(np.unique(pattern))])[:length]
            if len(same) == length:
                yield name, length, "normal, of one pattern", *verdicts(same)


# ------------------------------------------------------------------------------------------------------------------ noise
def noise(splits: int) -> Iterator[list[tuple[str, int, str, bool, bool]]]:
    """Half of the variance of a half window is a first-order process that forgets within so many half windows."""
    for name, memory, count in (
        ("noise, not alike", 0, 1),
        ("noise, alike for 5 windows", 10, 1),
        ("noise, alike for 5 windows, measured", 10, 20),
        ("noise, alike for 100 windows", 200, 1),
        ("noise, alike for 100 windows, measured", 200, 20),
    ):
        for split in range(splits):
            yield list(_noise(name, memory, count, np.random.default_rng([split, memory, count])))


def _noise(name: str, memory: int, count: int, rng: np.random.Generator) -> Tried:
    heard = np.stack([_scores(rng, 2 * count, memory)[::2] for _ in range(60)])
    detector = Detector(heard.reshape(-1), np.repeat(np.arange(60), count))
    for length in (*LENGTHS, 360):
        for _ in range(RECORDINGS):
            yield name, length, "normal", *detector.verdicts(_scores(rng, 2 * length, memory), length)


def _scores(rng: np.random.Generator, parts: int, memory: int) -> np.ndarray:
    """Of the parts - 1 windows of two parts each: log-normal."""
    slow = rng.standard_normal(parts)
    if memory:
        keep = np.exp(-1 / memory)
        slow[1:] *= np.sqrt(1 - keep**2)
        slow = lfilter([1.0], [1.0, -keep], slow)
    z = np.sqrt(0.5) * (slow + rng.standard_normal(parts))
    scores: np.ndarray = np.exp(0.5 * (z[:-1] + z[1:]) / np.sqrt(2))
    return scores


def summed_up(splits: Iterator[list[tuple[str, int, str, bool, bool]]]) -> pd.DataFrame:
    """Percent called anomalous, with half a 95 % interval of the mean over splits."""
    shares: dict[tuple[str, int, str], list[tuple[float, float]]] = defaultdict(list)
    for number, split in enumerate(splits, 1):
        table = pd.DataFrame(split, columns=["sound", "length", "recordings", "any", "count"])
        means = 100 * table.groupby(["sound", "length", "recordings"])[["any", "count"]].mean()
        for sound, length, recordings, *both in means.reset_index().itertuples(index=False):
            shares[sound, length, recordings].append((both[0], both[1]))
        print(f"\r{number} splits", end="", file=sys.stderr)
    print(file=sys.stderr)
    rows = []
    for (sound, length, recordings), found in shares.items():
        mean, half = np.mean(found, axis=0), 1.96 * np.std(found, axis=0, ddof=1) / np.sqrt(len(found))
        rows.append((sound, recordings, length, mean[0], half[0], mean[1], half[1]))
    names = ["sound", "recordings", "length", "any_window", "any_window_interval", "expected", "expected_interval"]
    return pd.DataFrame(rows, columns=names).sort_values(names[:3])


def main() -> None:
    parser = parser_of(__doc__, splits=40, csv=TABLE)
    parser.add_argument("--clips", type=Path, help="default: those of the profile `dcase2023_valve`")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    table = pd.concat(
        [summed_up(valve(arguments.clips or valve_clips(), arguments.splits)), summed_up(noise(arguments.splits))]
    )
    write_table(table, arguments.csv)


if __name__ == "__main__":
    main()
