"""The data side: decoding, packing and gathering (`data`), front-ends (`features`), synthetic machines (`synthetic`).

PYTHONPATH=src python benchmarks/data.py features --help
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import soundfile
import torch
import torchaudio

from auscult.data.pack import pack
from auscult.data.store import ClipStore
from auscult.data.synthetic import SyntheticSource, generate_clips, write_tree
from auscult.features import FRONTENDS, spectrogram
from auscult.settings.params import load_profile
from auscult.settings.schema import Data
from auscult.training.device import keep_freed_memory
from common import (
    CLASSES,
    CLOCKS,
    RATE,
    ROOT,
    SECONDS,
    Row,
    both_clocks,
    command,
    in_child,
    packed_noise,
    parser_of,
    profile,
    record,
    row,
    training_clips,
)

# ---------------------------------------------------------------------------------------------------------------- data
DATA_BATCH = 64
Work = Callable[[], object]


def read(path: Path) -> torch.Tensor:
    """The usual way to get a waveform."""
    return torch.from_numpy(soundfile.read(path, dtype="float32")[0])


def usual_mel() -> torch.nn.Module:
    """The front-end `osscl` as torchaudio makes it."""
    transforms = torchaudio.transforms
    mel = transforms.MelSpectrogram(
        RATE,
        n_fft=2048,
        hop_length=512,
        n_mels=128,
        power=2.0,
        pad_mode="constant",
        norm="slaney",
        mel_scale="slaney",
    )
    return torch.nn.Sequential(mel, transforms.AmplitudeToDB("power"))


def compare(name: str, ours: Work, usual: Work, clips: int, unit: str, repeats: int) -> Row:
    """One row: both sides warmed up, then in turns."""
    ours(), usual()
    times = np.array([(both_clocks(ours)[0], both_clocks(usual)[0]) for _ in range(repeats)])
    value, reference = np.median(times, axis=0).tolist()
    ratio = float(np.median(times[:, 1] / times[:, 0]))
    if unit.startswith("clips/s"):
        return row(*name.split(": "), clips / value, unit, clips / reference, ratio)
    return row(*name.split(": "), 1000 * value / clips, unit, 1000 * reference / clips, ratio)


def data_measure(folder: Path, count: int, repeats: int) -> list[Row]:
    raw, plain = folder / "raw", profile(SECONDS)
    store = ClipStore(packed_noise(folder, count, SECONDS, ["osscl"], classes=CLASSES[:1]))
    clips = training_clips(raw, SECONDS)
    paths = [raw / path for path in clips["path"]]
    chosen = np.random.default_rng(1).permutation(count)[:DATA_BATCH]
    rows, files = torch.from_numpy(chosen), [paths[i] for i in chosen]
    assert torch.equal(store.wave(rows), torch.stack([read(path) for path in files]))

    found = []
    mel = usual_mel()
    for workers in (1, 2):
        data = Data(profile="bench", workers=workers)

        def again(*frontends: str, data: Data = data) -> None:
            pack(clips, raw, folder / "again", plain, data, list(frontends))

        found += [
            compare(
                f"pack: decode and write, {workers} worker(s)",
                again, lambda: [read(path) for path in paths], count, "clips/s (10 s)", repeats,
            ),
            compare(
                f"pack: decode, log-mel and write, {workers} worker(s)",
                lambda again=again: again("osscl"),  # type: ignore[misc]
                lambda: [mel(read(path)) for path in paths], count, "clips/s (10 s)", repeats,
            ),
        ]  # fmt: skip
    keep_freed_memory()
    found += [
        compare(
            f"gather: waveform, batch of {DATA_BATCH}",
            lambda: store.wave(rows), lambda: torch.stack([read(path) for path in files]),
            DATA_BATCH, "ms per 10 s clip", repeats,
        ),
        compare(
            f"gather: log-mel, batch of {DATA_BATCH}",
            lambda: store.mel(rows, "osscl"), lambda: torch.stack([mel(read(path)) for path in files]),
            DATA_BATCH, "ms per 10 s clip", repeats,
        ),
    ]  # fmt: skip
    return found


def data_benchmark() -> None:
    """Time of the data side: decode and pack, log-mel, and gathering a batch, each beside what data loaders usually do.

        PYTHONPATH=src python benchmarks/data.py data

    On WAV files of 10 s noise (16 kHz, 16 bit, mono) that lie in the page cache, so that no disk is measured. The usual way,
    on one thread as the peers run it: `soundfile.read` to float32 and a tensor per clip, then per clip
    `torchaudio.transforms.MelSpectrogram` and `AmplitudeToDB` with the same settings. The two sides take turns, so that
    both meet the same load of the machine; reported are the medians and the median of the ratios of neighbours. Torch itself
    has one thread; "2 workers" are `data.workers` of ours, the usual way keeps its one.

    Packing happens once per data set, the usual way once per epoch. Batches are gathered with the allocator setting of
    training on a CPU (`auscult.training.device`), on both sides. Rows go to metrics/benchmarks.csv.
    """
    arguments = parser_of(data_benchmark, clips=256, repeats=7).parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        record(data_measure(Path(folder), arguments.clips, arguments.repeats))


# ------------------------------------------------------------------------------------------------------------ features
FEATURES_BATCH = 16


def per_clip(frontend: str, batch: int, repeats: int) -> float:
    """Milliseconds, the median of `repeats` batches."""
    wave = 0.1 * torch.randn(batch, round(RATE * SECONDS), generator=torch.Generator().manual_seed(0))
    times = []
    for _ in range(repeats + 1):
        start = time.perf_counter()
        spectrogram(wave[0] if batch == 1 else wave, frontend, RATE)
        times.append(time.perf_counter() - start)
    return 1000 * sorted(times[1:])[repeats // 2] / batch


def features_measure(repeats: int, clips: int) -> list[Row]:
    found = []
    for frontend in FRONTENDS:
        for batch in (1, FEATURES_BATCH):
            each, _ = in_child(per_clip, frontend, batch, repeats * (FEATURES_BATCH if batch == 1 else 1))
            how = "clip by clip" if batch == 1 else f"batch of {batch}"
            found.append(row("features", f"{frontend}, {how}, threads 1", each, "ms per 10 s clip"))
    with tempfile.TemporaryDirectory() as folder:
        in_child(packed_noise, Path(folder), clips, SECONDS, [])  # writes the files
        for workers in (1, 2):
            _, peak = in_child(packed_noise, Path(folder), clips, SECONDS, ["osscl"], workers)
            found.append(row("features", f"decode, log-mel and write, {workers} worker(s)", peak, "MiB at most"))
    return found


def features() -> None:
    """Time of every log-mel front-end, per clip and over lengths of clips, and peak of memory of packing.

        PYTHONPATH=src python benchmarks/data.py features

    On one thread, clip by clip, as packing does it, on noise; beside it a batch of 16 at once, as training does where the
    front-end is not packed. Rows go to metrics/benchmarks.csv.
    """
    arguments = parser_of(features, repeats=5, clips=64).parse_args()
    record(features_measure(arguments.repeats, arguments.clips))


# ----------------------------------------------------------------------------------------------------------- synthetic
os.environ.setdefault("OMP_NUM_THREADS", "1")


def synthetic() -> None:
    """Speed of the synthetic machines as a multiple of real time, per core: generation alone, and with writing WAV files.

        PYTHONPATH=src python benchmarks/data.py synthetic

    Per machine type 32 clips (`--clips`) of the profile's length, in one process on one thread; processor time, which a busy
    machine does not distort, and wall time. Rows go to metrics/benchmarks.csv; `reference` is real time, one second of sound
    per second.
    """
    count = parser_of(synthetic, clips=32).parse_args().clips
    rows: list[Row] = []
    for name in ("synthetic", "synthetic_full"):
        profile = load_profile(name, ROOT / "profiles")
        length = {"sample_rate": profile.sample_rate, "clip_seconds": profile.clip_seconds}
        source = SyntheticSource.model_validate({**length, **profile.source})
        few = source.model_copy(update={"train_clips": 6, "test_normal": 1, "test_anomaly": 1})
        with tempfile.TemporaryDirectory() as folder:

            def generate(source: SyntheticSource = source) -> None:
                for machine, units in source.machines.items():
                    generate_clips(source, machine, units.dev[0], "train", range(count))

            def write(source: SyntheticSource = few, tree: Path = Path(folder) / "tree") -> None:
                write_tree(source, tree, workers=1, progress=False)

            units_in_all = sum(len(units.dev) + len(units.eval) for units in few.machines.values())
            works = (("", generate, count * len(source.machines)), (", written as WAV", write, 8 * units_in_all))
            for what, work, clips in works:
                audio, variant = clips * profile.clip_seconds, f"{profile.clip_seconds:g} s clips{what}"
                for clock, spent in zip(CLOCKS, both_clocks(work), strict=True):
                    speed = audio / spent
                    rows.append(row("synthetic", variant, speed, f"s of sound per s of {clock} time", 1, speed))
    record(rows)


if __name__ == "__main__":
    command({"data": data_benchmark, "features": features, "synthetic": synthetic})
