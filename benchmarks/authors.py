"""Beside the code of OS-SCL's authors: a training step (`train_step`), and an epoch from WAV files (`epoch_vs_authors`).

PYTHONPATH=src python benchmarks/authors.py train_step --help

Each side runs in a process of its own, as its users run it, and the two take turns, so that both meet the same load of the
machine. Shown are the medians, and the median of the ratios of neighbours, by the clock on the wall and as processor time, which
means more on a machine that is not idle (then with --threads 1).
"""

from __future__ import annotations

import argparse
import copy
import os
import subprocess
import sys
import tempfile
import time
import types
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from torch.utils.data import DataLoader

from auscult.data.store import ClipStore
from auscult.methods.base import Batch, Shape
from auscult.methods.os_scl import OsScl, OsSclSettings
from auscult.settings.sections import ArcFaceSettings, FphSettings
from auscult.training.device import keep_freed_memory
from auscult.training.state import WeightEMA
from common import (
    CLOCKS,
    ROOT,
    SECONDS,
    THREADS,
    Marks,
    Row,
    both_clocks,
    command,
    decoder,
    packed_noise,
    parser_of,
    record,
    row,
    task,
    train,
    training_clips,
    write_noise,
)

# Variant -> (our inputs, our head and margin, the authors' configuration). "fussion" is their spelling.
MODELS = {
    "tfst_os_scl": ("tfst", ("relu", 0.4), {"fussion": 1, "ht": "basic"}),
    "logmel_os_scl": ("logmel", ("leaky_relu", 0.7), {"fussion": 2, "ht": "leaky_relu"}),
}
KEEP_MEMORY = {"MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": "1000000000000"}
"""The allocator setting that ours makes for itself, as the environment says it."""


def our_settings(model: str, batch: int, epochs: int) -> OsSclSettings:
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


# --------------------------------------------------------------------------------------------------------------- two processes
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


class Side:
    """A process of this script that serves one side: each turn it does a step or an epoch.

    Args:
        name: what it serves, `--serve`.
        work: its folder, made anew.
        more: of its environment.
    """

    def __init__(
        self,
        benchmark: str,
        name: str,
        model: str,
        arguments: argparse.Namespace,
        work: Path,
        more: Mapping[str, str] = {},
    ) -> None:
        words = [sys.executable, str(Path(__file__).resolve()), benchmark, "--serve", name, "--model", model]
        words += ["--folder", str(work.parent), "--authors", str(arguments.authors)]
        words += ["--batch", str(arguments.batch), "--threads", str(arguments.threads)]
        work.mkdir()
        self.name, self.log = name, work / "log"
        environment = os.environ | {"PYTHONPATH": str(ROOT / "src"), **more}
        with self.log.open("w") as log:
            self.child = subprocess.Popen(
                words, cwd=work, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True
            )

    def turn(self) -> list[float]:
        """What it answers: seconds by each of `CLOCKS`.

        Raises:
            RuntimeError: it has failed.
        """
        assert self.child.stdin is not None
        assert self.child.stdout is not None
        try:
            self.child.stdin.write("\n")
            self.child.stdin.flush()
        except BrokenPipeError:
            pass  # it has ended, and there is no answer either
        answer = self.child.stdout.readline().split()
        if not answer:
            raise RuntimeError(f"{self.name} failed: {self.log.read_text()[-2000:]}")
        return [float(number) for number in answer]

    def close(self) -> None:
        self.child.kill()  # it waits for a turn that does not come
        self.child.wait()


def in_turns(sides: list[Side], warm_up: int, turns: int) -> np.ndarray:
    """Seconds [turns, sides, clocks]; the sides are closed."""
    try:
        for side in sides:
            for _ in range(warm_up):
                side.turn()
        return np.array([[side.turn() for side in sides] for _ in range(turns)])
    finally:
        for side in sides:
            side.close()


def compared(benchmark: str, variant: str, what: str, ours: np.ndarray, theirs: np.ndarray, clips: int) -> list[Row]:
    """A row for each clock, of seconds [turns, clocks] for so many clips."""
    each = 1000 / clips
    return [
        row(benchmark, variant, each * float(np.median(mine)), f"ms per 10 s {what}, {clock} time",
            each * float(np.median(other)), float(np.median(other / mine)))
        for clock, mine, other in zip(CLOCKS, ours.T, theirs.T, strict=True)
    ]  # fmt: skip


def options_of(benchmark: Callable[[], None], sides: tuple[str, ...], **defaults: Any) -> argparse.Namespace:
    """Those of both benchmarks, the ones that a `Side` is called with among them."""
    parser = parser_of(benchmark, batch=16, threads=THREADS, **defaults)
    parser.add_argument("--authors", type=Path, required=True, help="checkout of the authors' repository")
    parser.add_argument("--model", choices=MODELS, action="append", help="default: both")
    parser.add_argument("--serve", choices=sides, help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    arguments.authors = arguments.authors.resolve()
    arguments.model = arguments.model or list(MODELS)
    return arguments


def answers(arguments: argparse.Namespace) -> Any:
    """Of a side: the file that its answers go to; what their code prints goes elsewhere."""
    out = os.fdopen(os.dup(1), "w")
    sys.stdout = sys.stderr
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(2024)
    np.random.seed(2024)  # noqa: NPY002  (the authors' mixing draws from it)
    return out


# -------------------------------------------------------------------------------------------------------------------- a step
def clips(count: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Waveforms [B, samples], log-mels [B, mels, frames] and labels [B]."""
    generator = torch.Generator().manual_seed(0)
    wave = 0.1 * torch.randn(count, 160_000, generator=generator)
    mel = -40 + 20 * torch.randn(count, 128, 313, generator=generator)
    return wave, mel, torch.randint(0, 41, (count,), generator=generator)


def our_step(model: str, batch: int) -> Callable[[], None]:
    """One step of `auscult.training.loop` without its bookkeeping."""
    keep_freed_memory()
    settings = our_settings(model, batch, 1)
    live = OsScl(settings, Shape(classes=41, mels=128, frames=313, samples=160_000)).train()
    ema = WeightEMA(live, copy.deepcopy(live))
    optimizer = torch.optim.AdamW(live.parameters(), lr=1e-4, fused=True)
    wave, mel, label = clips(batch)
    data = Batch(label=label, mel=mel, wave=wave if settings.inputs != "logmel" else None)
    rng = np.random.default_rng(0)

    def step() -> None:
        loss = live.loss(data, live.draw(data, rng))["loss"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        ema.step()

    return step


def authors_step(model: str, batch: int, checkout: Path) -> Callable[[], None]:
    """One step of their trainer.py without its bookkeeping."""
    import_theirs(checkout)
    from model.net import SCLTFSTgramMFN  # type: ignore[import-not-found]
    from utils import mixup_data, os_scl  # type: ignore[import-not-found]

    from losses import ASDLoss, SupConLoss, WeightEMA  # type: ignore[import-not-found]

    cfg = configuration(checkout, model, batch)
    net, average = (SCLTFSTgramMFN(num_classes=41, m=cfg["m"], cfg=cfg).train() for _ in range(2))
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


def serve_steps(arguments: argparse.Namespace) -> None:
    out, model, batch = answers(arguments), arguments.model[0], arguments.batch
    step = our_step(model, batch) if arguments.serve == "ours" else authors_step(model, batch, arguments.authors)
    turns = Turns(out)
    while True:
        step()
        turns.done()


def train_step() -> None:
    """Time of one OS-SCL training step on the CPU: ours and the authors' code, side by side.

        git clone https://github.com/huangswt/OS-SCL ../OS-SCL
        PYTHONPATH=src python benchmarks/authors.py train_step --authors ../OS-SCL

    A step is mixing, forward, loss, backward, AdamW and the moving average, on random clips of 10 s held in memory; the
    sides take turns step by step. A third process runs the authors' code with the allocator setting that ours makes for itself
    (`auscult.training.device.keep_freed_memory`), which tells what of the gain is due to that.

    Rows go to metrics/benchmarks.csv, replacing earlier ones of the same benchmark and variant.
    """
    arguments = options_of(train_step, ("ours", "authors", "authors_keep_memory"), pairs=7, warm_up=3)
    if arguments.serve:
        serve_steps(arguments)
        return
    found: list[Row] = []
    for model in arguments.model:
        with tempfile.TemporaryDirectory() as name:
            sides = [
                Side("train_step", side, model, arguments, Path(name).resolve() / side, more)
                for side, more in (("ours", {}), ("authors", {}), ("authors_keep_memory", KEEP_MEMORY))
            ]
            seconds = in_turns(sides, arguments.warm_up, arguments.pairs)
        variant = f"{model}, batch {arguments.batch}, threads {arguments.threads}"
        for side, note in ((1, ""), (2, ", freed memory kept in both")):
            found += compared("train_step", variant + note, "clip", seconds[:, 0], seconds[:, side], arguments.batch)
    record(found)


# ------------------------------------------------------------------------------------------------------------------ an epoch
MACHINES = ("fan", "pump", "slider", "ToyCar", "ToyConveyor", "valve")
FIRST = {"ToyCar": 1, "ToyConveyor": 1}
LAST = {"ToyCar": 7, "ToyConveyor": 6}
UNITS = [
    (machine, f"{unit:02d}") for machine in MACHINES for unit in range(FIRST.get(machine, 0), LAST.get(machine, 6) + 1)
]
EPOCHS, TOLERANCE = 300, 1e-4


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
    from model.net import SCLTFSTgramMFN
    from utils import os_scl

    from losses import ASDLoss, SupConLoss

    torch.manual_seed(0)
    cfg, settings = configuration(checkout, model, batch), our_settings(model, batch, 1)
    dataset = train_dataset(str(folder / "raw"), list(MACHINES), cfg)
    net = SCLTFSTgramMFN(num_classes=41, m=cfg["m"], cfg=cfg).train()
    store = ClipStore(folder / "packed")
    *_, labels, classes, shape = task(store, settings)
    network = OsScl(settings, shape).train()
    network.load_state_dict(weights_of_theirs(net.state_dict(), network.state_dict()))
    place = {path: at for at, path in enumerate(training_clips(folder / "raw", SECONDS)["path"])}
    rows = torch.tensor([place[str(Path(path).relative_to(folder / "raw"))] for path in dataset.unrolled_files_list])
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
            needs_wave = settings.inputs != "logmel"
            batch_of_ours = Batch(
                label=label, mel=store.mel(rows[part], "osscl"), wave=store.wave(rows[part]) if needs_wave else None
            )
            found = ours.loss(batch_of_ours, ours.draw(batch_of_ours, np.random.default_rng(number)))["loss"]
        worst = max(worst, float((found - expected).abs() / expected.abs()))
    return worst


def drawn(settings: OsSclSettings, number: int, size: int) -> tuple[float, torch.Tensor]:
    """Lambda and permutation that `OsScl.draw` draws from the generator of this number."""
    rng = np.random.default_rng(number)
    alpha = settings.mixup.alpha
    return float(rng.beta(alpha, alpha)), torch.from_numpy(rng.permutation(size))


def serve_ours(folder: Path, model: str, batch: int, out: Any) -> None:
    turns = Turns(out)
    train(our_settings(model, batch, 1000), ClipStore(folder / "packed"), marks=Marks(turns.done))


def serve_theirs(folder: Path, checkout: Path, model: str, batch: int, out: Any) -> None:
    """Their train.py, on the processor and with fewer clips."""
    import_theirs(checkout)
    from dataloader import train_dataset
    from model.net import SCLTFSTgramMFN
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
    train_set, valid_set = dataset_split(train_dataset(str(folder / "raw"), list(MACHINES), cfg))
    loader = Loader(train_set, batch_size=batch, shuffle=True, num_workers=0)
    valid = DataLoader(valid_set, batch_size=batch, num_workers=0)
    net, average = (SCLTFSTgramMFN(num_classes=41, m=cfg["m"], cfg=cfg).to(device) for _ in range(2))
    for parameter in average.parameters():
        parameter.detach_()
    trainer = Trainer(device=device, net=net, ema_net=average, epochs=1000, cfg=cfg)
    turns = Turns(out)
    trainer.train(loader, valid)


def serve_epochs(arguments: argparse.Namespace) -> None:
    out, model = answers(arguments), arguments.model[0]
    if arguments.serve == "check":
        print(largest_difference(arguments.folder, arguments.authors, model, arguments.batch), file=out, flush=True)
    elif arguments.serve == "ours":
        serve_ours(arguments.folder, model, arguments.batch, out)
    else:
        serve_theirs(arguments.folder, arguments.authors, model, arguments.batch, out)


def measure(folder: Path, arguments: argparse.Namespace, model: str, pack_seconds: float) -> list[Row]:
    def side(name: str) -> Side:
        return Side("epoch_vs_authors", name, model, arguments, folder / f"{name}-{model}")

    (worst,) = side("check").turn()
    if not worst < TOLERANCE:
        raise SystemExit(f"{model}: the losses differ by {worst:.2g}, relative: nothing is compared")
    variant = f"{model}, from WAV files, batch {arguments.batch}, threads {arguments.threads}"
    found = [row("epoch vs authors", f"{variant}: loss on the same batches", worst, "largest relative difference")]
    seconds = in_turns([side("ours"), side("authors")], 1, arguments.turns)
    seconds[:, 0] += pack_seconds / EPOCHS
    what = "clip and epoch"
    return found + compared("epoch vs authors", variant, what, seconds[:, 0], seconds[:, 1], arguments.clips)


def epoch_vs_authors() -> None:
    """One OS-SCL epoch from WAV files on the CPU: ours and the authors' code, side by side, after the losses were found equal.

        git clone https://github.com/huangswt/OS-SCL ../OS-SCL
        PYTHONPATH=src python benchmarks/authors.py epoch_vs_authors --authors ../OS-SCL

    Noise of 10 s in their folders (six machine types, 41 units; `--clips`: at least one of each). First, in one process, both
    networks get the same weights and the same batches, theirs from their data set (decode and log-mel per clip), ours from the
    packed store, mixed alike: their losses must agree to 1e-4, relative. Then the two take turns epoch by epoch: theirs is
    their `Trainer.train` with the data set, loader (`num_workers=0`), split, validation and saving of their train.py; ours is
    `auscult.training.loop.fit` on the packed store, with the same split, validation and average. The first epoch of each warms
    up. Ours has its share of the one-time pack in it (manifest, decode and log-mel, divided by the 300 epochs of a training);
    the pack has a row of its own, too. Where torchaudio lacks its decoder (torchcodec), soundfile stands in for it on their
    side. Rows go to metrics/benchmarks.csv.
    """
    arguments = options_of(epoch_vs_authors, ("check", "ours", "authors"), clips=64, turns=3)
    if arguments.serve:
        serve_epochs(arguments)
        return
    found: list[Row] = []
    with tempfile.TemporaryDirectory() as name:
        folder, clips, threads = Path(name).resolve(), arguments.clips, arguments.threads
        write_noise(folder / "raw", clips, SECONDS, UNITS)
        spent, _ = both_clocks(lambda: packed_noise(folder, clips, SECONDS, ["osscl"], threads))
        what = f"pack once: manifest, decode, log-mel, threads {threads}"
        found.append(row("epoch vs authors", what, 1000 * spent / clips, "ms per 10 s clip"))
        for model in arguments.model:
            found += measure(folder, arguments, model, spent)
    record(found)


if __name__ == "__main__":
    command({"train_step": train_step, "epoch_vs_authors": epoch_vs_authors})
