"""Training: an epoch by phase (`epoch`), every method (`methods`), strided convolutions in two forms (`strided`), memory of the
papers' fine-tunings (`memory`).

PYTHONPATH=src python benchmarks/training.py epoch --help
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn.functional import conv1d, conv2d

from auscult.data.store import ClipStore
from auscult.methods import METHODS, load_method
from auscult.methods.base import Batch, Shape
from auscult.methods.finetuned import FineTuned
from auscult.models.layers import framed_product
from auscult.settings.params import arm_settings, load_params
from auscult.settings.training import MethodSettings, Train
from auscult.training.device import pick_device, prepare
from auscult.training.embed import embed
from auscult.training.modelfolder import Trained
from common import (
    RATE,
    TINY_ENCODER,
    Marks,
    Phases,
    Row,
    command,
    in_child,
    packed_noise,
    profile,
    quiet,
    record,
    row,
    task,
    train,
)
from counting import settle

# --------------------------------------------------------------------------------------------------------------- epoch
ROOT = Path(__file__).parents[1]
SECONDS = 10.0


def epoch_settings_of(arm: str, epochs: int, batch: int) -> MethodSettings:
    """As in params.yaml, but for the length of the training and the size of batches of whole clips."""
    settings = arm_settings(load_params(ROOT), profile(SECONDS), arm)
    short = {"epochs": epochs} | ({"batch_size": batch} if settings.batch_size < 512 else {})
    return settings.model_copy(update=short)


def whole(folder: Path, settings: MethodSettings) -> list[float]:
    return train(settings, ClipStore(folder))[0]


def parts(folder: Path, settings: MethodSettings) -> tuple[dict[str, float], float]:
    """Seconds of each phase, and of all, from the end of the first epoch on."""
    store = ClipStore(folder)
    method, *_, shape = task(store, settings)
    with Phases(type(method.build(settings, shape))) as phases:
        first: list[dict[str, float]] = []

        def at_end() -> None:
            first.append({name: float(value[0]) for name, value in phases.totals.items()})

        seconds, _ = train(settings, store, marks=Marks(at_end))
    found = {name: float(value[0]) - first[0].get(name, 0.0) for name, value in phases.totals.items()}
    return found | {"rest": sum(seconds) - sum(found.values())}, sum(seconds)


def epoch_measure(arms: list[str], clips: int, epochs: int, batch: int, threads: int) -> list[Row]:
    found: list[Row] = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        frontends = sorted({str(epoch_settings_of(arm, 1, batch).model_dump()["frontend"]) for arm in arms})
        start = time.perf_counter()
        _, peak = in_child(packed_noise, folder, clips, SECONDS, frontends, threads)
        spent = time.perf_counter() - start
        note = f"{', '.join(frontends)}; with writing and reading of WAV files"
        found.append(row("epoch", f"pack once: {note}", 1000 * spent / clips, "ms per 10 s clip"))
        found.append(row("epoch", f"pack once: {note}", peak, "MiB at most"))
        for arm in arms:
            settings = epoch_settings_of(arm, epochs + 1, batch)
            seconds, peak = in_child(whole, folder / "packed", settings, threads=threads)
            variant = f"{arm}, batch {settings.batch_size}, threads {threads}"
            each = 1000 * float(np.median(seconds)) / clips
            found.append(row("epoch", variant, each, "ms per 10 s clip and epoch"))
            found.append(row("epoch", variant, peak, "MiB at most"))
            (phases, total), _ = in_child(parts, folder / "packed", settings, threads=threads)
            for phase, spent in phases.items():
                share = row("epoch", f"{variant}: {phase}", 1000 * spent / clips / epochs, "ms per 10 s clip and epoch")
                found.append(share | {"reference": float(f"{1000 * total / clips / epochs:.4g}"),
                                      "ratio": round(spent / total, 4)})  # fmt: skip
    return found


def epoch() -> None:
    """Time of an epoch on the CPU, end to end and by phase, of arms as params.yaml has them.

        PYTHONPATH=src python benchmarks/training.py epoch

    Noise of 10 s as WAV files is packed once (decode and log-mel; its own row), then `auscult.training.loop.fit` trains on
    it. The first epoch warms up, the median of the others is shown, per clip. The phases are those of one more training,
    wrapped around the calls that every training makes: `gather` (waveforms out of the packed file), `log-mel` (gathered, or
    computed where the front-end is not packed), forward pass and loss, backward, the optimiser, the moving average,
    validation; `rest` is what the loop itself takes. Each arm runs in a process of its own, whose peak of memory is shown,
    too. Rows go to metrics/benchmarks.csv.
    """
    parser = argparse.ArgumentParser(description=epoch.__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--arms", nargs="+", default=["logmel_os_scl", "tfst_os_scl", "ae"])
    parser.add_argument("--clips", type=int, default=32)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--batch", type=int, default=16, help="of whole clips")
    parser.add_argument("--threads", type=int, default=min(2, os.cpu_count() or 1))
    arguments = parser.parse_args()
    record(epoch_measure(arguments.arms, arguments.clips, arguments.epochs, arguments.batch, arguments.threads))


# ------------------------------------------------------------------------------------------------------------- methods
MOST, FEW = 16, 4
SLOW = {"glow_aff"}
"""Seconds per clip, so that `FEW` of them say enough; as with an encoder."""
OTHERWISE: dict[str, dict[str, Any]] = {"sc_adacos": {"sub_clusters": (1, 2, 3, 4, 5, 6, 7)}}
"""Seven networks of the published size, whose mixtures take fewer clips."""


def methods_settings_of(name: str, epochs: int, tiny: bool) -> MethodSettings:
    """The method's defaults for a short training of few clips; `tiny` encoders for a trial of the script."""
    method = load_method(name)
    fields, default = method.settings.model_fields, method.settings(method=name)
    values: dict[str, Any] = {"method": name, **OTHERWISE.get(name, {})}
    encoder = "encoder" in fields
    if encoder:
        values["encoder"] = TINY_ENCODER if tiny else {"checkpoint": ""}
    if default.trained:
        values |= {"epochs": epochs, "train_steps": 0, "warmup_steps": 0, "valid_fraction": 0.0, "selection": "last"}
        if not method.window(default, 1000):
            values["batch_size"] = min(default.batch_size, 2 if encoder else 8)
    return method.settings.model_validate(values)


def one(folder: Path, name: str, epochs: int, tiny: bool) -> tuple[float | None, float, bool]:
    """Milliseconds per clip of training (None: there is none) and of embedding; whether there is an encoder."""
    settings = methods_settings_of(name, epochs + 1, tiny)
    encoder = "encoder" in type(settings).model_fields
    store = ClipStore(folder)
    clips = FEW if encoder or name in SLOW else MOST
    store.index = store.index.iloc[:: max(1, len(store) // clips)].reset_index(drop=True)
    method, network_name, rows, _, classes, shape = task(store, settings)
    seconds, network = train(settings, store)
    trained = Trained(method, settings, {network_name: network}, {network_name: classes}, {network_name: shape}, {})
    times: list[float] = []
    while sum(times) < 1 and len(times) < 3:
        start = time.perf_counter()
        with quiet(), torch.no_grad():
            embed(trained, store, 64)
        times.append(time.perf_counter() - start)
    per_clip = 1000 / len(rows)
    return float(np.median(seconds)) * per_clip if seconds else None, min(times) * per_clip, encoder


def methods_measure(names: list[str], epochs: int, threads: int, tiny: bool) -> list[Row]:
    found = []
    with tempfile.TemporaryDirectory() as folder:
        settings = [load_method(name).settings(method=name) for name in names]
        frontends = sorted({load_method(s.method).mel(s) for s in settings} - {""})
        in_child(packed_noise, Path(folder), MOST, SECONDS, frontends, threads, 1)
        for name in names:
            (trained, embedded, encoder), peak = in_child(
                one, Path(folder) / "packed", name, epochs, tiny, threads=threads
            )
            variant = f"{name}{', random weights' if encoder else ''}, threads {threads}"
            if trained is not None:
                found.append(row("method: train", variant, trained, "ms per 10 s clip and epoch"))
            found.append(row("method: embed", variant, embedded, "ms per 10 s clip"))
            found.append(row("method: memory", variant, peak, "MiB at most"))
    return found


def methods() -> None:
    """Time per clip of training and of embedding, and peak of memory, of every registered method at its published size.

        PYTHONPATH=src python benchmarks/training.py methods

    Noise of 10 s of two units of a machine type, front-ends packed; settings are the methods' defaults, but for batches of 8
    clips (2 where an encoder of 90 M parameters is fine-tuned; windows as many as the method says), random weights in place
    of a checkpoint, and no clips held out. `train` is an epoch of `auscult.training.loop.fit`, all windows of a clip
    included, after one that warms up; of a method with several phases, the last. `embed` has its own score in it. Each method
    runs in a process of its own; its memory is that of both. Rows go to metrics/benchmarks.csv.
    """
    parser = argparse.ArgumentParser(description=methods.__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=METHODS)
    parser.add_argument("--epochs", type=int, default=1)
    parser.add_argument("--threads", type=int, default=min(2, os.cpu_count() or 1))
    parser.add_argument("--tiny", action="store_true", help="tiny encoders: a trial, not a measurement")
    arguments = parser.parse_args()
    if arguments.tiny:
        print("tiny encoders: these are no measurements", file=sys.stderr)
    record(methods_measure(arguments.methods, arguments.epochs, arguments.threads, arguments.tiny))


# -------------------------------------------------------------------------------------------------------------- strided
LAYERS = {"Tgram's first": (128, 1024, 512, 512), "TFgram's first": (64, 11, 5, 5)}
"""Filters, taps, stride and padding."""


def forms_of(layer: str, wave: torch.Tensor, weight: torch.Tensor) -> dict[str, Callable[[], torch.Tensor]]:
    """The layer as the models have it on a CPU and on a GPU, with what makes its output ready for the next one."""
    _, _, stride, padding = LAYERS[layer]
    if layer == "Tgram's first":
        return {
            "convolution": lambda: conv1d(wave, weight, None, stride, padding),
            "product": lambda: framed_product(wave, weight, stride, padding).mT.contiguous(),
        }
    image, flat = wave.unsqueeze(2), weight.unsqueeze(2)
    return {
        "convolution": lambda: conv2d(
            image.clone(memory_format=torch.channels_last), flat, None, (1, stride), (0, padding)
        ),
        "product": lambda: framed_product(wave, weight, stride, padding),
    }


def strided_measure(batch: int, seconds: float, turns: int, device: torch.device) -> list[Row]:
    def spent(form: Callable[[], torch.Tensor], weight: torch.Tensor, down: torch.Tensor) -> float:
        settle()
        clock = time.perf_counter if device.type == "cuda" else time.process_time
        start = clock()
        torch.autograd.grad(form(), weight, down)
        settle()
        return 1000 * (clock() - start)

    found = []
    for layer, (filters, taps, _, _) in LAYERS.items():
        for dtype in (torch.float32, torch.bfloat16) if device.type == "cuda" else (torch.float32,):
            wave = torch.randn(batch, 1, round(RATE * seconds), device=device, dtype=dtype)
            weight = torch.randn(filters, 1, taps, device=device, dtype=dtype, requires_grad=True)
            forms = forms_of(layer, wave, weight)
            times: dict[str, list[float]] = {name: [] for name in forms}
            downs = {name: torch.randn_like(form()) for name, form in forms.items()}
            for _ in range(1 + turns):  # in turns; the first warms up
                for name, form in forms.items():
                    times[name].append(spent(form, weight, downs[name]))
            each = {name: float(np.median(values[1:])) for name, values in times.items()}
            ratio = float(np.median(np.divide(times["convolution"][1:], times["product"][1:])))
            where = torch.cuda.get_device_name() if device.type == "cuda" else f"CPU, threads {torch.get_num_threads()}"
            kind = str(dtype).removeprefix("torch.")
            variant = f"{layer}, {batch} x {seconds:g} s, {kind}, {where}"
            unit = "ms forward and backward" + ("" if device.type == "cuda" else ", processor time")
            found.append(row("strided convolution", f"{variant}: convolution", each["convolution"], unit))
            found.append(row("strided convolution", f"{variant}: frames times a matrix", each["product"], unit,
                             each["convolution"], ratio))  # fmt: skip
    return found


def strided() -> None:
    """Strided convolutions of one channel, as PyTorch's convolution and as frames times a matrix, turn by turn in one run.

        PYTHONPATH=src python benchmarks/training.py strided

    Forward pass and weight gradient (the waveform has none) of the first layers of Tgram and TFgram. The ratio is the median
    of turns, convolution over product: above 1 the product is faster. On a GPU in bfloat16, too. Rows go to
    metrics/benchmarks.csv.
    """
    parser = argparse.ArgumentParser(description=strided.__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--seconds", type=float, default=SECONDS)
    parser.add_argument("--turns", type=int, default=7)
    parser.add_argument("--threads", type=int, default=min(2, os.cpu_count() or 1))
    parser.add_argument("--device", default="auto")
    arguments = parser.parse_args()
    device = pick_device(arguments.device)
    prepare(device, Train(threads=arguments.threads))
    record(strided_measure(arguments.batch, arguments.seconds, arguments.turns, device))


# -------------------------------------------------------------------------------------------------------------- memory
CASES: list[tuple[str, str, dict[str, Any]]] = [
    ("AnoPatch, 32 x 10 s", "anopatch", {}),
    ("AnoPatch, checkpointing", "anopatch", {"encoder": {"activation_checkpointing": True}}),
    ("Han et al., 32 x 2 s", "han", {}),
    ("Han et al., full fine-tuning", "han", {"lora": {"rank": 0}, "group_adapter": {"position": "none"}}),
    ("Han et al., checkpointing", "han", {"encoder": {"activation_checkpointing": True}}),
]


def kept(network: FineTuned, batch: Batch, dtype: torch.dtype) -> int:
    """Bytes that autograd keeps for the backward pass of `batch`, weights left out."""
    weights = {tensor.untyped_storage().data_ptr() for tensor in network.state_dict().values()}
    storages: dict[int, int] = {}
    alive: list[torch.Tensor] = []

    def save(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            storages[storage.data_ptr()] = storage.nbytes()
            alive.append(tensor)  # so that no address is used twice
        return tensor

    with (
        torch.autograd.graph.saved_tensors_hooks(save, lambda tensor: tensor),
        torch.autocast(batch.wave.device.type, dtype, enabled=dtype != torch.float32),
    ):
        network.loss(batch, network.draw(batch, np.random.default_rng(0)))["loss"].backward()
    return sum(storages.values())


def clips(count: int, device: torch.device) -> Batch:
    wave = 0.1 * torch.randn(count, round(SECONDS * RATE), device=device)
    return Batch(label=torch.zeros(count, dtype=torch.int64, device=device), wave=wave)


def memory_benchmark() -> None:
    """Memory of a training step at the papers' sizes, counted: weights, gradients, AdamW's moments, and what autograd keeps.

        PYTHONPATH=src python benchmarks/training.py memory            # a table, as Markdown

    Activations are the bytes of the distinct storages that autograd saves in a forward pass, less weights: of two and of four
    clips, from which a straight line leads to the batch. On a GPU, attention keeps at most as much (its kernels save no matrix
    of weights but the mask), and the allocator and the front-end's temporaries come on top: some 10 %.
    """
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    shape = Shape(classes=41, mels=0, frames=0, samples=round(SECONDS * RATE))
    print(
        "| training | parameters | trained | weights, gradients, moments (GB) | kept, float32 (GB) | kept, bfloat16 (GB) |"
    )
    print("|---|---|---|---|---|---|")
    for title, name, changes in CASES:
        changes = {**changes, "encoder": {"checkpoint": "", **changes.get("encoder", {})}}
        settings = load_method(name).settings.model_validate({"method": name, **changes})
        network = load_method(name).build(settings, shape).to(device).train()
        total = sum(weight.numel() for weight in network.parameters())
        trained = sum(weight.numel() for weight in network.parameters() if weight.requires_grad)
        fixed = 4 * total + 12 * trained
        sizes = []
        for dtype in (torch.float32, torch.bfloat16):
            two, four = (kept(network, clips(count, device), dtype) for count in (2, 4))
            sizes.append((two + (settings.batch_size - 2) * (four - two) / 2) / 1e9)
        print(
            f"| {title} | {total:,} | {trained:,} | {fixed / 1e9:.2f} | {sizes[0]:.1f} | {sizes[1]:.1f} |", flush=True
        )


if __name__ == "__main__":
    command({"epoch": epoch, "methods": methods, "strided": strided, "memory": memory_benchmark})
