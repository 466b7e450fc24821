"""One OS-SCL epoch from WAV files on the CPU: ours and the authors' code, side by side, after the losses were found equal.

    git clone https://github.com/huangswt/OS-SCL ../OS-SCL
    PYTHONPATH=src python benchmarks/epoch_vs_authors.py --authors ../OS-SCL

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
import yaml

from auscult.data.manifest import build_manifest
from auscult.data.pack import pack
from auscult.data.store import ClipStore
from auscult.methods.os_scl import OsScl, OsSclSettings
from auscult.settings.sections import ArcFaceSettings, FphSettings
from auscult.settings.training import MethodSettings
from loading_vs_asdkit import decoder
from measure import RATE, Marks, Row, profile, quiet, row, task, train
from record import record
from train_step import MODELS

MACHINES = ("fan", "pump", "slider", "ToyCar", "ToyConveyor", "valve")
FIRST = {"ToyCar": 1, "ToyConveyor": 1}
LAST = {"ToyCar": 7, "ToyConveyor": 6}
UNITS = [(machine, unit) for machine in MACHINES for unit in range(FIRST.get(machine, 0), LAST.get(machine, 6) + 1)]
SECONDS, EPOCHS, TOLERANCE = 10.0, 300, 1e-4
CLOCKS = ("wall", "processor")


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
            found = ours.loss(batch_of_ours, np.random.default_rng(number))["loss"]
        worst = max(worst, float((found - expected).abs() / expected.abs()))
    return worst


def drawn(settings: MethodSettings, number: int, size: int) -> tuple[float, torch.Tensor]:
    """Lambda and permutation that `OsScl.loss` draws from the generator of this number."""
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


def start(side: str, folder: Path, arguments: argparse.Namespace, model: str) -> Callable[[], list[float]]:
    """Start a child; the returned function makes it run one epoch and returns its seconds by each of `CLOCKS`."""
    options = ["--serve", side, "--folder", str(folder), "--model", model, "--authors", str(arguments.authors)]
    options += ["--batch", str(arguments.batch), "--threads", str(arguments.threads)]
    work = folder / f"{side}-{model}"
    work.mkdir()
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[1] / "src")}
    child = subprocess.Popen(
        [sys.executable, str(Path(__file__).resolve()), *options], cwd=work, env=environment,
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


def serve(arguments: argparse.Namespace) -> None:
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


def measure(folder: Path, arguments: argparse.Namespace, model: str, pack_seconds: float) -> list[Row]:
    check = [sys.executable, __file__, "--serve", "check", "--folder", str(folder), "--model", model]
    check += ["--authors", str(arguments.authors), "--batch", str(arguments.batch), "--threads", str(arguments.threads)]
    worst = float(subprocess.run(check, check=True, stdout=subprocess.PIPE, text=True).stdout)
    if not worst < TOLERANCE:
        raise SystemExit(f"{model}: the losses differ by {worst:.2g}, relative: nothing is compared")
    variant = f"{model}, from WAV files, batch {arguments.batch}, threads {arguments.threads}"
    found = [row("epoch vs authors", f"{variant}: loss on the same batches", worst, "largest relative difference")]
    sides = [start(side, folder, arguments, model) for side in ("ours", "authors")]
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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
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
        serve(arguments)
        return
    found: list[Row] = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name).resolve()
        write_clips(folder / "dataset", arguments.clips)
        spent = pack_all(folder, arguments.threads)
        what = f"pack once: manifest, decode, log-mel, threads {arguments.threads}"
        found.append(row("epoch vs authors", what, 1000 * spent / arguments.clips, "ms per 10 s clip"))
        for model in arguments.model or list(MODELS):
            found += measure(folder, arguments, model, spent)
    record(found)


if __name__ == "__main__":
    main()
