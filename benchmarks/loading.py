"""Getting training batches, beside ASDKit's data set and collator.

PYTHONPATH=src python benchmarks/loading.py --help
"""

from __future__ import annotations

import json
import sys
import tempfile
import types
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch.utils.data import DataLoader

from auscult.data.store import ClipStore
from auscult.training.device import keep_freed_memory
from common import (
    CLOCKS,
    RATE,
    SECONDS,
    Row,
    both_clocks,
    command,
    decoder,
    packed_noise,
    parser_of,
    record,
    row,
    training_clips,
)

BATCH, LONGEST = 64, 18.0


def asdkit_loader(checkout: Path, folder: Path, seconds: float, shuffle: bool) -> DataLoader:
    """Its training loader over the WAV files below `folder`, its classes being (machine, section)."""
    sys.path.insert(0, str(checkout))
    # Its package's __init__ also imports Lightning, which loading does not use.
    package = types.ModuleType("asdkit.datasets")
    package.__path__ = [str(checkout / "asdkit" / "datasets")]
    sys.modules.setdefault("asdkit.datasets", package)
    from asdkit.datasets.collators import (  # type: ignore[import-not-found]
        DCASEWaveCollator,
        get_relative_dcase_path,
    )
    from asdkit.datasets.torch_dataset import WaveDataset  # type: ignore[import-not-found]

    dataset = WaveDataset([f"{folder}/formatted/dcase2023/raw/*/train/*.wav"])
    classes = sorted({"/".join(path.split("/")[-3:])[: -len("_0000_none.wav")] for path in dataset.path_list})
    index = {get_relative_dcase_path(path): number % len(classes) for number, path in enumerate(dataset.path_list)}
    labels = folder / "labels.json"
    labels.write_text(json.dumps({"path2idx_dict": index, "num_class": max(index.values()) + 1}))
    collator = DCASEWaveCollator(label_dict_path={"main": labels}, sec=seconds, sr=RATE, shuffle=shuffle)
    return DataLoader(dataset, batch_size=BATCH, shuffle=shuffle, num_workers=0, collate_fn=collator)


def arrange(folder: Path, raw: Path) -> list[str]:
    """Link our training files under names and folders that ASDKit reads; in its order, the names of ours."""
    found = []
    for number, path in enumerate(sorted(raw.glob("*/train/*.wav"))):
        unit = path.stem.split("_")[2]
        name = f"section_{unit}_source_train_normal_{number:04d}_none.wav"
        place = folder / "formatted" / "dcase2023" / "raw" / path.parts[-3] / "train" / name
        place.parent.mkdir(parents=True, exist_ok=True)
        place.hardlink_to(path)
        found.append((str(place), f"{path.parts[-3]}/train/{path.name}"))
    return [ours for _, ours in sorted(found)]


def their_epoch(loader: DataLoader) -> None:
    for _ in loader:
        pass


def our_epoch(gather: Callable[[torch.Tensor], torch.Tensor], labels: torch.Tensor, rng: np.random.Generator) -> None:
    order = torch.from_numpy(rng.permutation(len(labels)))
    for part in order.split(BATCH):
        gather(part)
        labels[part]


def measure(checkout: Path, clips: int, turns: int, threads: int) -> list[Row]:
    decoder()
    keep_freed_memory()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        packed_noise(folder, clips, SECONDS, [])  # writes the files
        pack_ms = 1000 * both_clocks(lambda: packed_noise(folder, clips, SECONDS, ["osscl"], threads))[0] / clips
        store, order = ClipStore(folder / "packed"), arrange(folder, folder / "raw")
        place = {path: at for at, path in enumerate(training_clips(folder / "raw", SECONDS)["path"])}
        theirs = next(iter(asdkit_loader(checkout, folder, SECONDS, shuffle=False)))
        ours = store.wave(torch.tensor([place[path] for path in order[:BATCH]]))
        if not torch.equal(theirs["wave"], ours):
            raise SystemExit("the two sides do not load the same waveforms")
        labels, rng = torch.arange(clips) % 4, np.random.default_rng(0)
        sides = {
            "wave": lambda: our_epoch(store.wave, labels, rng),
            "mel": lambda: our_epoch(lambda rows: store.mel(rows, "osscl"), labels, rng),
        }
        for length in (SECONDS, LONGEST):
            loader = asdkit_loader(checkout, folder, length, shuffle=True)
            sides[f"{length:g}"] = lambda loader=loader: their_epoch(loader)  # type: ignore[misc]
        for work in sides.values():
            work()
        times = np.array(
            [[both_clocks(work) for work in sides.values()] for _ in range(turns)]
        )  # [turns, sides, clocks]
    each = 1000 * times / clips
    note, found = f"batch {BATCH}, threads {threads}", []
    found.append(row("loading", f"pack once, with log-mel, threads {threads}", pack_ms, "ms per 10 s clip"))
    for mine, what in enumerate(("waveform", "log-mel")):
        for their, length in enumerate((SECONDS, LONGEST), start=2):
            for clock, of in enumerate(CLOCKS):
                ours_ms, theirs_ms = each[:, mine, clock], each[:, their, clock]
                found.append(
                    row("loading", f"{what}, {note}; ASDKit's batches of {length:g} s", float(np.median(ours_ms)),
                        f"ms per 10 s clip and epoch, {of} time", float(np.median(theirs_ms)),
                        float(np.median(theirs_ms / ours_ms)))
                )  # fmt: skip
    return found


def loading_vs_asdkit() -> None:
    """Time per clip and epoch of getting training batches: ours after the one-time pack, and ASDKit's dataset and collator.

        git clone https://github.com/TakuyaFujimura/dcase-asd-toolkit ../dcase-asd-toolkit
        PYTHONPATH=src python benchmarks/loading.py --asdkit ../dcase-asd-toolkit

    ASDKit reads, decodes and crops every clip in every epoch on the main thread (`num_workers: 0`): its `WaveDataset` and
    `DCASEWaveCollator` are run from its own files through torch's DataLoader, shuffled, batches of 64. Ours is
    `ClipStore.wave` (and, in a row of its own, the packed log-mel) on random rows, with the labels. Both go over the same WAV
    files of 10 s noise in the page cache, in turns; medians, by both clocks. ASDKit tiles clips to its year's longest (18 s
    in 2023); a row with 10 s is beside it, whose batches are first checked to be equal to ours. Where torchaudio lacks its
    decoder (torchcodec), soundfile stands in for it on ASDKit's side. The pack is a row of its own. Rows go to
    metrics/benchmarks.csv.
    """
    parser = parser_of(loading_vs_asdkit, clips=256, turns=7, threads=1)
    parser.add_argument("--asdkit", type=Path, required=True, help="checkout of ASDKit's repository")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    record(measure(arguments.asdkit.resolve(), arguments.clips, arguments.turns, arguments.threads))


if __name__ == "__main__":
    command({"loading_vs_asdkit": loading_vs_asdkit})
