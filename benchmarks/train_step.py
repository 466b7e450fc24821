"""Time of one OS-SCL training step on the CPU: ours and the authors' code, side by side.

    git clone https://github.com/huangswt/OS-SCL ../OS-SCL
    PYTHONPATH=src python benchmarks/train_step.py --authors ../OS-SCL

A step is mixing, forward, loss, backward, AdamW and the moving average, on random clips of 10 s held in memory. Each
side runs in a process of its own, as its users run it, and the two take turns step by step, so that both meet the same
load of the machine. Reported: the median time per clip of each, and the median of the ratios of neighbouring steps; by
the clock on the wall, and as processor time, which means more on a machine that is not idle (then with --threads 1). A
third process runs the authors' code with the allocator setting that ours makes for itself
(`auscult.training.device.keep_freed_memory`), which tells what of the gain is due to that.

Rows go to metrics/benchmarks.csv, replacing earlier ones of the same benchmark and variant.
"""

from __future__ import annotations

import argparse
import copy
import os
import subprocess
import sys
import time
import types
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from record import TABLE, record

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
        loss = live.loss(data, rng)["loss"]
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


def serve(side: str, model: str, batch: int, threads: int, checkout: Path) -> None:
    """Child process: run a step for each line on standard input and answer with its seconds by both clocks."""
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    np.random.seed(0)  # noqa: NPY002  (the authors' mixing draws from it)
    step = our_step(model, batch) if side == "ours" else authors_step(model, batch, checkout)
    for _ in sys.stdin:
        wall, processor_time = time.perf_counter(), time.process_time()
        step()
        print(time.perf_counter() - wall, time.process_time() - processor_time, flush=True)


def start(side: str, arguments: argparse.Namespace, model: str) -> Callable[[], list[float]]:
    """Start a child; the returned function makes it run one step and returns its seconds by each of `CLOCKS`."""
    environment = dict(os.environ)
    if side == "authors_keep_memory":
        environment |= {"MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": "1000000000000"}
    options = ["--serve", side, "--model", model, "--authors", str(arguments.authors)]
    options += ["--batch", str(arguments.batch), "--threads", str(arguments.threads)]
    child = subprocess.Popen(
        [sys.executable, __file__, *options],
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


def measure(arguments: argparse.Namespace, model: str) -> list[dict[str, object]]:
    """Rows of one model."""
    sides = {side: start(side, arguments, model) for side in SIDES}
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


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
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
        serve(arguments.serve, models[0], arguments.batch, arguments.threads, arguments.authors)
        return
    record([row for model in models for row in measure(arguments, model)], arguments.csv)


if __name__ == "__main__":
    main()
