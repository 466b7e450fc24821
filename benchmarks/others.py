"""Beside other people's code: a training step and an epoch of OS-SCL's authors, the loading of ASDKit.

PYTHONPATH=src python benchmarks/others.py train_step --help
"""

from __future__ import annotations

import argparse
import copy
import json
import os
import subprocess
import sys
import tempfile
import time
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import torch
import torchaudio
import yaml
from torch.utils.data import DataLoader

from auscult.data.manifest import build_manifest
from auscult.data.pack import pack
from auscult.data.store import ClipStore
from auscult.methods.os_scl import OsScl, OsSclSettings
from auscult.settings.sections import ArcFaceSettings, FphSettings
from auscult.settings.training import MethodSettings
from auscult.training.device import keep_freed_memory
from common import RATE, TABLE, Marks, Row, command, packed_noise, profile, quiet, record, row, task, train

# ---------------------------------------------------------------------------------------------------------- train step
# Variant -> (our inputs, our head and margin, the authors' configuration). "fussion" is their spelling.
MODELS = {
    "tfst_os_scl": ("tfst", ("relu", 0.4), {"fussion": 1, "ht": "basic"}),
    "logmel_os_scl": ("logmel", ("leaky_relu", 0.7), {"fussion": 2, "ht": "leaky_relu"}),
}
SIDES = ("ours", "authors", "authors_keep_memory")
CLOCKS = ("wall", "processor")
Step = Callable[[], object]


def clips(count: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Waveforms [B, samples], log-mels [B, mels, frames] and labels [B]."""
    generator = torch.Generator().manual_seed(0)
    wave = 0.1 * torch.randn(count, 160_000, generator=generator)
    mel = -40 + 20 * torch.randn(count, 128, 313, generator=generator)
    return wave, mel, torch.randint(0, 41, (count,), generator=generator)


def our_step(model: str, batch: int) -> Step:
    """One step of `auscult.training.loop` without its bookkeeping."""
    from auscult.methods.base import Batch, Shape
    from auscult.methods.os_scl import OsScl, OsSclSettings
    from auscult.settings.sections import ArcFaceSettings, FphSettings
    from auscult.training.device import keep_freed_memory
    from auscult.training.state import WeightEMA

    keep_freed_memory()
    inputs, (activation, margin), _ = MODELS[model]
    settings = OsSclSettings(
        inputs=inputs,  # type: ignore[arg-type]
        fph=FphSettings(activation=activation),  # type: ignore[arg-type]
        arcface=ArcFaceSettings(margin=margin),
    )
    live = OsScl(settings, Shape(classes=41, mels=128, frames=313, samples=160_000)).train()
    ema = WeightEMA(live, copy.deepcopy(live))
    optimizer = torch.optim.AdamW(live.parameters(), lr=1e-4, fused=True)
    wave, mel, label = clips(batch)
    data = Batch(label=label, mel=mel, wave=wave if inputs != "logmel" else None)
    rng = np.random.default_rng(0)

    def step() -> None:
        loss = live.loss(data, live.draw(data, rng))["loss"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        ema.step()

    return step


def authors_step(model: str, batch: int, checkout: Path) -> Step:
    """One step of their trainer.py without its bookkeeping."""
    sys.path.insert(0, str(checkout))
    # They construct this augmentation but never call it; a stand-in saves installing its package.
    stand_in = types.ModuleType("torchlibrosa.augmentation")
    stand_in.SpecAugmentation = lambda **_: None  # type: ignore[attr-defined]
    sys.modules |= {"torchlibrosa": types.ModuleType("torchlibrosa"), "torchlibrosa.augmentation": stand_in}
    from model.net import SCLTFSTgramMFN  # type: ignore[import-not-found]
    from utils import mixup_data, os_scl  # type: ignore[import-not-found]

    from losses import ASDLoss, SupConLoss, WeightEMA  # type: ignore[import-not-found]

    _, (_, margin), configuration = MODELS[model]
    net = SCLTFSTgramMFN(num_classes=41, m=margin, cfg=configuration).train()
    average = SCLTFSTgramMFN(num_classes=41, m=margin, cfg=configuration)
    for parameter in average.parameters():
        parameter.detach_()
    optimizer = torch.optim.AdamW(net.parameters(), lr=1e-4)
    ema, criterion, contrast = WeightEMA(net, average), ASDLoss(), SupConLoss()
    wave, mel, label = clips(batch)
    wave, mel = wave.unsqueeze(1), mel.unsqueeze(1)

    def step() -> None:
        mixed_wave, mixed_mel, y_a, y_b, lam, _ = mixup_data(wave, mel, label, "cpu")
        logits, feature = net(mixed_wave, mixed_mel, label)
        loss = os_scl(criterion, logits, y_a, y_b, lam, contrast, feature)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        ema.step()

    return step


def train_step_serve(side: str, model: str, batch: int, threads: int, checkout: Path) -> None:
    """Child process: run a step for each line on standard input and answer with its seconds by both clocks."""
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    np.random.seed(0)  # noqa: NPY002  (the authors' mixing draws from it)
    step = our_step(model, batch) if side == "ours" else authors_step(model, batch, checkout)
    for _ in sys.stdin:
        wall, processor_time = time.perf_counter(), time.process_time()
        step()
        print(time.perf_counter() - wall, time.process_time() - processor_time, flush=True)


def train_step_start(side: str, arguments: argparse.Namespace, model: str) -> Callable[[], list[float]]:
    """Start a child; the returned function makes it run one step and returns its seconds by each of `CLOCKS`."""
    environment = dict(os.environ)
    if side == "authors_keep_memory":
        environment |= {"MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": "1000000000000"}
    options = ["--serve", side, "--model", model, "--authors", str(arguments.authors)]
    options += ["--batch", str(arguments.batch), "--threads", str(arguments.threads)]
    child = subprocess.Popen(
        [sys.executable, __file__, "train_step", *options],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=environment,
    )

    def step() -> list[float]:
        assert child.stdin is not None
        assert child.stdout is not None
        child.stdin.write("\n")
        child.stdin.flush()
        return [float(seconds) for seconds in child.stdout.readline().split()]

    return step


def train_step_measure(arguments: argparse.Namespace, model: str) -> list[dict[str, object]]:
    """Rows of one model."""
    sides = {side: train_step_start(side, arguments, model) for side in SIDES}
    for step in sides.values():
        for _ in range(arguments.warm_up):
            step()
    seconds = np.array([[step() for step in sides.values()] for _ in range(arguments.pairs)])  # [pairs, sides, clocks]
    rows: list[dict[str, object]] = []
    for clock, name in enumerate(CLOCKS):
        ours = seconds[:, 0, clock]
        for side, note in ((1, ""), (2, ", freed memory kept in both")):
            theirs = seconds[:, side, clock]
            rows.append(
                {
                    "benchmark": "train_step",
                    "variant": f"{model}, batch {arguments.batch}, threads {arguments.threads}{note}",
                    "value": round(1000 * np.median(ours) / arguments.batch, 1),
                    "unit": f"ms per 10 s clip, {name} time",
                    "reference": round(1000 * np.median(theirs) / arguments.batch, 1),
                    "ratio": round(np.median(theirs / ours), 2),
                }
            )
            print(*list(rows[-1].values())[1:6], f"(ratio from {min(theirs / ours):.2f} to {max(theirs / ours):.2f})")
    return rows


def train_step() -> None:
    """Time of one OS-SCL training step on the CPU: ours and the authors' code, side by side.

        git clone https://github.com/huangswt/OS-SCL ../OS-SCL
        PYTHONPATH=src python benchmarks/others.py train_step --authors ../OS-SCL

    A step is mixing, forward, loss, backward, AdamW and the moving average, on random clips of 10 s held in memory. Each
    side runs in a process of its own, as its users run it, and the two take turns step by step, so that both meet the same
    load of the machine. Reported: the median time per clip of each, and the median of the ratios of neighbouring steps; by
    the clock on the wall, and as processor time, which means more on a machine that is not idle (then with --threads 1). A
    third process runs the authors' code with the allocator setting that ours makes for itself
    (`auscult.training.device.keep_freed_memory`), which tells what of the gain is due to that.

    Rows go to metrics/benchmarks.csv, replacing earlier ones of the same benchmark and variant.
    """
    """Command line."""
    parser = argparse.ArgumentParser(
        description=train_step.__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--authors", type=Path, required=True, help="checkout of the authors' repository")
    parser.add_argument("--model", choices=MODELS, action="append", help="default: both")
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--pairs", type=int, default=7)
    parser.add_argument("--warm-up", type=int, default=3)
    parser.add_argument("--csv", type=Path, default=TABLE)
    parser.add_argument("--serve", choices=SIDES, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    models = arguments.model or list(MODELS)
    if arguments.serve:
        train_step_serve(arguments.serve, models[0], arguments.batch, arguments.threads, arguments.authors)
        return
    record([row for model in models for row in train_step_measure(arguments, model)], arguments.csv)


# --------------------------------------------------------------------------------------------------- loading vs asdkit
SECONDS, BATCH, LONGEST = 10.0, 64, 18.0


def decoder() -> None:
    """Give torchaudio a decoder where it has none."""
    try:
        import torchcodec  # type: ignore[import-not-found]  # noqa: F401
    except ImportError:

        def load(path: str, **_: Any) -> tuple[torch.Tensor, int]:
            audio, rate = soundfile.read(path, dtype="float32", always_2d=True)
            return torch.from_numpy(audio.T), rate

        torchaudio.load = load


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


def epoch(loader: DataLoader) -> None:
    for _ in loader:
        pass


def our_epoch(gather: Callable[[torch.Tensor], torch.Tensor], labels: torch.Tensor, rng: np.random.Generator) -> None:
    order = torch.from_numpy(rng.permutation(len(labels)))
    for part in order.split(BATCH):
        gather(part)
        labels[part]


def seconds(work: Callable[[], None]) -> tuple[float, float]:
    """By the clock on the wall, and of the processor."""
    wall, processor = time.perf_counter(), time.process_time()
    work()
    return time.perf_counter() - wall, time.process_time() - processor


def loading_vs_asdkit_measure(checkout: Path, clips: int, turns: int, threads: int) -> list[Row]:

    decoder()
    keep_freed_memory()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        packed_noise(folder, clips, SECONDS, [])  # writes the files
        start = time.perf_counter()
        packed = packed_noise(folder, clips, SECONDS, ["osscl"], threads)
        pack_ms = 1000 * (time.perf_counter() - start) / clips
        store, order = ClipStore(packed), arrange(folder, folder / "raw")
        with quiet():
            manifest, _ = build_manifest(profile(SECONDS), folder / "raw", workers=1)
        place = {path: at for at, path in enumerate(manifest[manifest["partition"] == "train"]["path"])}
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
            sides[f"{length:g}"] = lambda loader=loader: epoch(loader)  # type: ignore[misc]
        for work in sides.values():
            work()
        times = np.array([[seconds(work) for work in sides.values()] for _ in range(turns)])  # [turns, sides, clocks]
    each = 1000 * times / clips
    note, found = f"batch {BATCH}, threads {threads}", []
    found.append(row("loading", f"pack once, with log-mel, threads {threads}", pack_ms, "ms per 10 s clip"))
    for mine, what in enumerate(("waveform", "log-mel")):
        for their, length in enumerate((SECONDS, LONGEST), start=2):
            for clock, of in enumerate(("wall", "processor")):
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
        PYTHONPATH=src python benchmarks/others.py loading_vs_asdkit --asdkit ../dcase-asd-toolkit

    ASDKit reads, decodes and crops every clip in every epoch on the main thread (`num_workers: 0`): its `WaveDataset` and
    `DCASEWaveCollator` are run from its own files through torch's DataLoader, shuffled, batches of 64. Ours is
    `ClipStore.wave` (and, in a row of its own, the packed log-mel) on random rows, with the labels. Both go over the same WAV
    files of 10 s noise in the page cache, in turns; medians, by both clocks. ASDKit tiles clips to its year's longest (18 s
    in 2023); a row with 10 s is beside it, whose batches are first checked to be equal to ours. Where torchaudio lacks its
    decoder (torchcodec), soundfile stands in for it on ASDKit's side. The pack is a row of its own. Rows go to
    metrics/benchmarks.csv.
    """
    parser = argparse.ArgumentParser(
        description=loading_vs_asdkit.__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--asdkit", type=Path, required=True, help="checkout of ASDKit's repository")
    parser.add_argument("--clips", type=int, default=256)
    parser.add_argument("--turns", type=int, default=7)
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    record(loading_vs_asdkit_measure(arguments.asdkit.resolve(), arguments.clips, arguments.turns, arguments.threads))


# ---------------------------------------------------------------------------------------------------- epoch vs authors
MACHINES = ("fan", "pump", "slider", "ToyCar", "ToyConveyor", "valve")
FIRST = {"ToyCar": 1, "ToyConveyor": 1}
LAST = {"ToyCar": 7, "ToyConveyor": 6}
UNITS = [(machine, unit) for machine in MACHINES for unit in range(FIRST.get(machine, 0), LAST.get(machine, 6) + 1)]
EPOCHS, TOLERANCE = 300, 1e-4


def write_clips(folder: Path, clips: int) -> None:
    """Their tree: `clips` training clips in turn over the 41 units, and one test clip of each for our manifest."""
    rng = np.random.default_rng(0)
    for number in range(clips + len(UNITS)):
        machine, unit = UNITS[number % len(UNITS)]
        part = "train" if number < clips else "test"
        path = folder / machine / part / f"normal_id_{unit:02d}_{number:08d}.wav"
        path.parent.mkdir(parents=True, exist_ok=True)
        audio = np.round(3000 * rng.standard_normal(round(RATE * SECONDS))).clip(-32768, 32767)
        soundfile.write(path, audio.astype(np.int16), RATE)


def pack_all(folder: Path, threads: int) -> float:
    """Manifest and packing with log-mel; its seconds."""
    from auscult.settings.schema import Data

    start = time.perf_counter()
    with quiet():
        clips, _ = build_manifest(profile(SECONDS), folder / "dataset", workers=threads)
        clips = clips[clips["partition"] == "train"]
        data = Data(profile="bench", workers=threads)
        pack(clips, folder / "dataset", folder / "packed", profile(SECONDS), data, ["osscl"])
    (folder / "paths.json").write_text(json.dumps(list(clips["path"])))
    return time.perf_counter() - start


def our_settings(model: str, batch: int, epochs: int) -> MethodSettings:
    inputs, (activation, margin), _ = MODELS[model]
    return OsSclSettings(
        inputs=inputs, fph=FphSettings(activation=activation), arcface=ArcFaceSettings(margin=margin),  # type: ignore[arg-type]
        batch_size=batch, epochs=epochs,
    )  # fmt: skip


def import_theirs(checkout: Path) -> None:
    """Their modules on the path; a stand-in for an augmentation that they construct and never call."""
    sys.path.insert(0, str(checkout))
    stand_in = types.ModuleType("torchlibrosa.augmentation")
    stand_in.SpecAugmentation = lambda **_: None  # type: ignore[attr-defined]
    sys.modules |= {"torchlibrosa": types.ModuleType("torchlibrosa"), "torchlibrosa.augmentation": stand_in}
    decoder()


def configuration(checkout: Path, model: str, batch: int) -> dict[str, Any]:
    _, (_, margin), changes = MODELS[model]
    given: dict[str, Any] = yaml.safe_load((checkout / "config.yaml").read_text())
    return given | changes | {"m": margin, "batch_size": batch}


# ----------------------------------------------------------------------------------------------------------------- same losses
def weights_of_theirs(theirs: dict[str, torch.Tensor], ours: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Their tensors under our names. Within a part the order is the same, but for TFgram, where names decide."""
    found: dict[str, torch.Tensor] = {"arcface.weight": theirs["arcface.weight"]}
    for part, own in (("tgramnet", "tgram"), ("mobilefacenet", "mfn"), ("head", "fph")):
        mine = [name for name in ours if name.startswith(f"{own}.")]
        source = [name for name in theirs if name.startswith(f"{part}.")]
        found |= {name: theirs[other] for name, other in zip(mine, source, strict=False)}
    for name in ours:
        if name.startswith("tfgram."):
            found[name] = theirs[name.replace("tfgram.", "TFgramNet.pre_")]
    return found


def largest_difference(folder: Path, checkout: Path, model: str, batch: int) -> float:
    """Largest relative difference of the loss over the batches of an epoch, with the same weights, mixing and order."""
    import_theirs(checkout)
    from dataloader import train_dataset  # type: ignore[import-not-found]
    from model.net import SCLTFSTgramMFN  # type: ignore[import-not-found]
    from utils import os_scl  # type: ignore[import-not-found]

    from losses import ASDLoss, SupConLoss  # type: ignore[import-not-found]

    torch.manual_seed(0)
    cfg, settings = configuration(checkout, model, batch), our_settings(model, batch, 1)
    dataset = train_dataset(str(folder / "dataset"), list(MACHINES), cfg)
    net = SCLTFSTgramMFN(num_classes=41, m=cfg["m"], cfg=cfg).train()
    store = ClipStore(folder / "packed")
    *_, labels, classes, shape = task(store, settings)
    network = OsScl(settings, shape).train()  # type: ignore[arg-type]
    network.load_state_dict(weights_of_theirs(net.state_dict(), network.state_dict()))
    place = {path: at for at, path in enumerate(json.loads((folder / "paths.json").read_text()))}
    rows = torch.tensor(
        [place[str(Path(path).relative_to(folder / "dataset"))] for path in dataset.unrolled_files_list]
    )
    assert len(classes) == len(set(dataset.labels.tolist())) == 41
    worst = 0.0
    for number, part in enumerate(torch.randperm(len(rows)).split(batch)):
        if len(part) < 2:
            continue
        theirs, ours = copy.deepcopy(net), copy.deepcopy(network)
        lam, partner = drawn(settings, number, len(part))
        items = [dataset[int(at)] for at in part]
        wave, mel = (torch.stack([item[k] for item in items]) for k in range(2))
        label = torch.tensor(labels)[rows[part]]  # our numbers of the classes, for both
        mixed = [lam * x + (1 - lam) * x[partner] for x in (wave, mel)]
        with torch.no_grad():
            logits, feature = theirs(*mixed, label)
            expected = os_scl(ASDLoss(), logits, label, label[partner], lam, SupConLoss(), feature)
            from auscult.methods.base import Batch

            needs_wave = settings.inputs != "logmel"  # type: ignore[attr-defined]
            batch_of_ours = Batch(
                label=label, mel=store.mel(rows[part], "osscl"), wave=store.wave(rows[part]) if needs_wave else None
            )
            found = ours.loss(batch_of_ours, ours.draw(batch_of_ours, np.random.default_rng(number)))["loss"]
        worst = max(worst, float((found - expected).abs() / expected.abs()))
    return worst


def drawn(settings: MethodSettings, number: int, size: int) -> tuple[float, torch.Tensor]:
    """Lambda and permutation that `OsScl.draw` draws from the generator of this number."""
    rng = np.random.default_rng(number)
    alpha = settings.mixup.alpha  # type: ignore[attr-defined]
    return float(rng.beta(alpha, alpha)), torch.from_numpy(rng.permutation(size))


# -------------------------------------------------------------------------------------------------------------------- children
class Turns:
    """Waits for a line on standard input before each epoch, and answers with the seconds of the one before, by both clocks."""

    def __init__(self, out: Any) -> None:
        self.out, self.started = out, (0.0, 0.0)
        self.wait()

    def wait(self) -> None:
        if not sys.stdin.readline():
            os._exit(0)
        self.started = time.perf_counter(), time.process_time()

    def done(self) -> None:
        wall, processor = time.perf_counter() - self.started[0], time.process_time() - self.started[1]
        print(wall, processor, file=self.out, flush=True)
        self.wait()


def serve_ours(folder: Path, model: str, batch: int, out: Any) -> None:
    turns = Turns(out)
    train(our_settings(model, batch, 1000), ClipStore(folder / "packed"), marks=Marks(turns.done))


def serve_theirs(folder: Path, checkout: Path, model: str, batch: int, out: Any) -> None:
    """Their train.py, on the processor and with fewer clips."""
    import_theirs(checkout)
    from dataloader import train_dataset
    from model.net import SCLTFSTgramMFN
    from torch.utils.data import DataLoader
    from trainer import Trainer  # type: ignore[import-not-found]
    from utils import dataset_split

    class Loader(DataLoader):
        """An epoch begins where their loop asks for its first batch."""

        started = False

        def __iter__(self) -> Iterator[Any]:  # type: ignore[override]
            if self.started:
                turns.done()
            self.started = True
            return super().__iter__()

    cfg, device = configuration(checkout, model, batch), torch.device("cpu")
    train_set, valid_set = dataset_split(train_dataset(str(folder / "dataset"), list(MACHINES), cfg))
    loader = Loader(train_set, batch_size=batch, shuffle=True, num_workers=0)
    valid = DataLoader(valid_set, batch_size=batch, num_workers=0)
    net, average = (SCLTFSTgramMFN(num_classes=41, m=cfg["m"], cfg=cfg).to(device) for _ in range(2))
    for parameter in average.parameters():
        parameter.detach_()
    trainer = Trainer(device=device, net=net, ema_net=average, epochs=1000, cfg=cfg)
    turns = Turns(out)
    trainer.train(loader, valid)


def epoch_vs_authors_start(
    side: str, folder: Path, arguments: argparse.Namespace, model: str
) -> Callable[[], list[float]]:
    """Start a child; the returned function makes it run one epoch and returns its seconds by each of `CLOCKS`."""
    options = ["--serve", side, "--folder", str(folder), "--model", model, "--authors", str(arguments.authors)]
    options += ["--batch", str(arguments.batch), "--threads", str(arguments.threads)]
    work = folder / f"{side}-{model}"
    work.mkdir()
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[1] / "src")}
    child = subprocess.Popen(
        [sys.executable, str(Path(__file__).resolve()), "epoch_vs_authors", *options], cwd=work, env=environment,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=(work / "log").open("w"), text=True,
    )  # fmt: skip

    def epoch() -> list[float]:
        assert child.stdin is not None
        assert child.stdout is not None
        try:
            child.stdin.write("\n")
            child.stdin.flush()
        except BrokenPipeError:
            pass
        answer = child.stdout.readline().split()
        if len(answer) != len(CLOCKS):
            raise RuntimeError(f"{side} failed: {(work / 'log').read_text()[-2000:]}")
        return [float(seconds) for seconds in answer]

    def close() -> None:
        child.kill()  # at the end of an epoch it waits for a turn that does not come
        child.wait()

    epoch.close = close  # type: ignore[attr-defined]
    return epoch


def epoch_vs_authors_serve(arguments: argparse.Namespace) -> None:
    out = os.fdopen(os.dup(1), "w")  # their prints go elsewhere
    sys.stdout = sys.stderr
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(2024)
    model = arguments.model[0]
    if arguments.serve == "check":
        print(largest_difference(arguments.folder, arguments.authors, model, arguments.batch), file=out, flush=True)
    elif arguments.serve == "ours":
        serve_ours(arguments.folder, model, arguments.batch, out)
    else:
        serve_theirs(arguments.folder, arguments.authors, model, arguments.batch, out)


def epoch_vs_authors_measure(folder: Path, arguments: argparse.Namespace, model: str, pack_seconds: float) -> list[Row]:
    check = [
        sys.executable,
        __file__,
        "epoch_vs_authors",
        "--serve",
        "check",
        "--folder",
        str(folder),
        "--model",
        model,
    ]
    check += ["--authors", str(arguments.authors), "--batch", str(arguments.batch), "--threads", str(arguments.threads)]
    worst = float(subprocess.run(check, check=True, stdout=subprocess.PIPE, text=True).stdout)
    if not worst < TOLERANCE:
        raise SystemExit(f"{model}: the losses differ by {worst:.2g}, relative: nothing is compared")
    variant = f"{model}, from WAV files, batch {arguments.batch}, threads {arguments.threads}"
    found = [row("epoch vs authors", f"{variant}: loss on the same batches", worst, "largest relative difference")]
    sides = [epoch_vs_authors_start(side, folder, arguments, model) for side in ("ours", "authors")]
    try:
        for epoch in sides:
            epoch()
        seconds = np.array([[epoch() for epoch in sides] for _ in range(arguments.turns)])  # [turns, sides, clocks]
    finally:
        for epoch in sides:
            epoch.close()  # type: ignore[attr-defined]
    seconds[:, 0] += pack_seconds / EPOCHS
    for clock, name in enumerate(CLOCKS):
        ours, theirs = seconds[:, 0, clock], seconds[:, 1, clock]
        each = 1000 / arguments.clips
        found.append(
            row("epoch vs authors", variant, each * float(np.median(ours)), f"ms per 10 s clip and epoch, {name} time",
                each * float(np.median(theirs)), float(np.median(theirs / ours)))
        )  # fmt: skip
    return found


def epoch_vs_authors() -> None:
    """One OS-SCL epoch from WAV files on the CPU: ours and the authors' code, side by side, after the losses were found equal.

        git clone https://github.com/huangswt/OS-SCL ../OS-SCL
        PYTHONPATH=src python benchmarks/others.py epoch_vs_authors --authors ../OS-SCL

    Noise of 10 s in their folders (six machine types, 41 units). First, in one process, both networks get the same weights
    and the same batches, theirs from their data set (decode and log-mel per clip), ours from the packed store, mixed alike:
    their losses must agree to 1e-4, relative. Then each side trains in a process of its own, as its users run it, and the two
    take turns epoch by epoch: theirs is their `Trainer.train` with the data set, loader (`num_workers=0`), split, validation
    and saving of their train.py; ours is `auscult.training.loop.fit` on the packed store, with the same split, validation and
    average. The first epoch of each warms up. Ours has its share of the one-time pack in it (manifest, decode and log-mel,
    divided by the 300 epochs of a training); the pack has a row of its own, too. Medians, and the median of the ratios of
    neighbours, by the clock on the wall and of the processor, which means more on a machine that is not idle. Where
    torchaudio lacks its decoder (torchcodec), soundfile stands in for it on their side. Rows go to metrics/benchmarks.csv.
    """
    parser = argparse.ArgumentParser(
        description=epoch_vs_authors.__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--authors", type=Path, required=True, help="checkout of the authors' repository")
    parser.add_argument("--model", choices=MODELS, action="append", help="default: both")
    parser.add_argument("--clips", type=int, default=64, help="at least 41, one of each unit")
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--threads", type=int, default=min(2, os.cpu_count() or 1))
    parser.add_argument("--serve", choices=("check", "ours", "authors"), help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    arguments.authors = arguments.authors.resolve()
    if arguments.serve:
        epoch_vs_authors_serve(arguments)
        return
    found: list[Row] = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name).resolve()
        write_clips(folder / "dataset", arguments.clips)
        spent = pack_all(folder, arguments.threads)
        what = f"pack once: manifest, decode, log-mel, threads {arguments.threads}"
        found.append(row("epoch vs authors", what, 1000 * spent / arguments.clips, "ms per 10 s clip"))
        for model in arguments.model or list(MODELS):
            found += epoch_vs_authors_measure(folder, arguments, model, spent)
    record(found)


if __name__ == "__main__":
    command({"train_step": train_step, "loading_vs_asdkit": loading_vs_asdkit, "epoch_vs_authors": epoch_vs_authors})
