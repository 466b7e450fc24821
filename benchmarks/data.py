"""Time of the data side: decode and pack, log-mel, and gathering a batch, each beside what data loaders usually do.

    PYTHONPATH=src python benchmarks/data.py

On WAV files of 10 s noise (16 kHz, 16 bit, mono) that lie in the page cache, so that no disk is measured. The usual way,
on one thread as the peers run it: `soundfile.read` to float32 and a tensor per clip, then per clip
`torchaudio.transforms.MelSpectrogram` and `AmplitudeToDB` with the same settings. The two sides take turns, so that
both meet the same load of the machine; reported are the medians and the median of the ratios of neighbours. Torch itself
has one thread; "2 workers" are `data.workers` of ours, the usual way keeps its one.

Packing happens once per data set, the usual way once per epoch. Batches are gathered with the allocator setting of
training on a CPU (`auscult.training.device`), on both sides. Rows go to metrics/benchmarks.csv.
"""

from __future__ import annotations

import argparse
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
from auscult.settings.profile import Profile
from auscult.settings.rules import MetricRules
from auscult.settings.schema import Data
from auscult.training.device import keep_freed_memory
from record import record

RATE, SECONDS, BATCH = 16000, 10.0, 64
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
        RATE, n_fft=2048, hop_length=512, n_mels=128, power=2.0, pad_mode="constant", norm="slaney", mel_scale="slaney"
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


def measure(folder: Path, count: int, repeats: int) -> list[dict[str, object]]:
    paths = write_clips(folder / "raw", count)
    profile = Profile(
        name="bench", dataset="bench", title="noise", licence="none", source={}, grammar="dcase2020", sets={"dev": "."},
        clip_seconds=SECONDS, rules=MetricRules(),
    )  # fmt: skip
    clips, _ = build_manifest(profile, folder / "raw")
    clips = clips[clips["partition"] == "train"]
    pack(clips, folder / "raw", folder / "packed", profile, Data(profile="bench"), ["osscl"])
    store = ClipStore(folder / "packed")
    chosen = np.random.default_rng(1).permutation(count)[:BATCH]
    rows, files = torch.from_numpy(chosen), [folder / "raw" / clips["path"].iloc[i] for i in chosen]
    assert torch.equal(store.wave(rows), torch.stack([read(path) for path in files]))

    found = []
    mel = usual_mel()
    for workers in (1, 2):
        data = Data(profile="bench", workers=workers)

        def again(*frontends: str, data: Data = data) -> None:
            pack(clips, folder / "raw", folder / "again", profile, data, list(frontends))

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
            f"gather: waveform, batch of {BATCH}",
            lambda: store.wave(rows), lambda: torch.stack([read(path) for path in files]),
            BATCH, "ms per 10 s clip", repeats,
        ),
        compare(
            f"gather: log-mel, batch of {BATCH}",
            lambda: store.mel(rows, "osscl"), lambda: torch.stack([mel(read(path)) for path in files]),
            BATCH, "ms per 10 s clip", repeats,
        ),
    ]  # fmt: skip
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clips", type=int, default=256)
    parser.add_argument("--repeats", type=int, default=7)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        record(measure(Path(folder), arguments.clips, arguments.repeats))


if __name__ == "__main__":
    main()
