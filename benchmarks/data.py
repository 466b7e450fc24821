"""The data side: decoding, packing and gathering (`data`), front-ends (`features`), synthetic machines (`synthetic`).

PYTHONPATH=src python benchmarks/data.py features --help
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import soundfile
import torch
import torchaudio

from auscult.data.manifest import build_manifest
from auscult.data.pack import pack
from auscult.data.store import ClipStore
from auscult.data.synthetic import SyntheticSource, generate_clips, write_tree
from auscult.features import FRONTENDS, spectrogram
from auscult.settings.params import load_profile
from auscult.settings.schema import Data
from auscult.training.device import keep_freed_memory
from common import RATE, Row, command, in_child, packed_noise, profile, record, row

# ---------------------------------------------------------------------------------------------------------------- data
SECONDS, DATA_BATCH = 10.0, 64
Work = Callable[[], object]


def write_clips(folder: Path, count: int) -> list[Path]:
    """`count` training clips in the 2020 grammar, and the one test clip a data set needs."""
    rng = np.random.default_rng(0)
    names = [f"fan/train/normal_id_00_{i:08d}.wav" for i in range(count)] + ["fan/test/normal_id_00_00000000.wav"]
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        audio = np.round(3000 * rng.standard_normal(round(RATE * SECONDS))).clip(-32768, 32767)
        soundfile.write(folder / name, audio.astype(np.int16), RATE)
    return [folder / name for name in names[:-1]]


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


def seconds(work: Work) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def compare(name: str, ours: Work, usual: Work, clips: int, unit: str, repeats: int) -> dict[str, object]:
    """One row: both sides warmed up, then in turns."""
    ours(), usual()
    times = np.array([(seconds(ours), seconds(usual)) for _ in range(repeats)])
    per_second = unit.startswith("clips/s")
    value, reference = (clips / t if per_second else 1000 * t / clips for t in np.median(times, axis=0))
    benchmark, variant = name.split(": ")
    row: dict[str, object] = {
        "benchmark": benchmark,
        "variant": variant,
        "value": float(f"{value:.3g}"),
        "unit": unit,
        "reference": float(f"{reference:.3g}"),
        "ratio": round(float(np.median(times[:, 1] / times[:, 0])), 2),
    }
    print(*row.values())
    return row


def data_measure(folder: Path, count: int, repeats: int) -> list[dict[str, object]]:
    paths = write_clips(folder / "raw", count)
    plain = profile(SECONDS)
    clips, _ = build_manifest(plain, folder / "raw")
    clips = clips[clips["partition"] == "train"]
    pack(clips, folder / "raw", folder / "packed", plain, Data(profile="bench"), ["osscl"])
    store = ClipStore(folder / "packed")
    chosen = np.random.default_rng(1).permutation(count)[:DATA_BATCH]
    rows, files = torch.from_numpy(chosen), [folder / "raw" / clips["path"].iloc[i] for i in chosen]
    assert torch.equal(store.wave(rows), torch.stack([read(path) for path in files]))

    found = []
    mel = usual_mel()
    for workers in (1, 2):
        data = Data(profile="bench", workers=workers)

        def again(*frontends: str, data: Data = data) -> None:
            pack(clips, folder / "raw", folder / "again", plain, data, list(frontends))

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
    parser = argparse.ArgumentParser(
        description=data_benchmark.__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--clips", type=int, default=256)
    parser.add_argument("--repeats", type=int, default=7)
    arguments = parser.parse_args()
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
    parser = argparse.ArgumentParser(description=features.__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--clips", type=int, default=64)
    arguments = parser.parse_args()
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
    parser = argparse.ArgumentParser(
        description=synthetic.__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--clips", type=int, default=32)
    count = parser.parse_args().clips
    rows: list[dict[str, object]] = []
    for name in ("synthetic", "synthetic_full"):
        profile = load_profile(name, Path(__file__).parents[1] / "profiles")
        length = {"sample_rate": profile.sample_rate, "clip_seconds": profile.clip_seconds}
        source = SyntheticSource.model_validate({**length, **profile.source})
        wall, processor = time.perf_counter(), _processor_time()
        for machine, units in source.machines.items():
            generate_clips(source, machine, units.dev[0], "train", range(count))
        audio = count * len(source.machines) * profile.clip_seconds
        rows += _rows(f"{profile.clip_seconds:g} s clips", audio, wall, processor)

        few = source.model_copy(update={"train_clips": 6, "test_normal": 1, "test_anomaly": 1})
        units_in_all = sum(len(units.dev) + len(units.eval) for units in few.machines.values())
        with tempfile.TemporaryDirectory() as folder:
            wall, processor = time.perf_counter(), _processor_time()
            write_tree(few, Path(folder) / "tree", workers=1, progress=False)
        rows += _rows(
            f"{profile.clip_seconds:g} s clips, written as WAV",
            8 * units_in_all * profile.clip_seconds,
            wall,
            processor,
        )
    for each in rows:
        print(*each.values())
    record(rows)


def _processor_time() -> float:
    """Seconds of this process and of the workers it has waited for."""
    return sum(os.times()[:4])


def _rows(variant: str, audio: float, wall: float, processor: float) -> list[dict[str, object]]:
    spent = {"processor": _processor_time() - processor, "wall": time.perf_counter() - wall}
    return [
        {"benchmark": "synthetic", "variant": variant, "value": round(audio / seconds, 1),
         "unit": f"s of sound per s of {clock} time", "reference": 1, "ratio": round(audio / seconds, 1)}
        for clock, seconds in spent.items()
    ]  # fmt: skip


if __name__ == "__main__":
    command({"data": data_benchmark, "features": features, "synthetic": synthetic})
