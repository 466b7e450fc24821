"""How long TFSTgram OS-SCL takes at paper scale: some epochs measured, the rest extrapolated; and where the time goes.

    PYTHONPATH=src python benchmarks/paper_scale.py --set precision=bfloat16 --out profile    # on a GPU
    PYTHONPATH=src python benchmarks/paper_scale.py --clips 64 --device cpu                     # a trial

31,000 clips of 10 s, 300 epochs, batches of 64, validation and moving average as in params.yaml. The clips are the packed
training clips of `--features` (data/synthetic_full/features/train), or, where none are given, random int16 made on the
device and packed in a temporary folder, which the rows say. Log-mels are computed from the waveforms on the device unless
they are packed.

1. `auscult.training.loop.fit` trains `--epochs` epochs (5) after one that warms up, with the section `train` as given by
   `--set`; the time of 300 epochs of 31,000 clips follows by proportion, and is called extrapolated.
2. One more epoch, of few clips, waits for the device around every phase, which tells their shares.
3. A few more steps count the bytes that each operation reads and writes and the FLOP of convolutions and matrix products,
   by phase. Over the time of the phase, that is the achieved rate; over the card's peak (`PEAKS`, by name; a processor's
   is measured on the spot), the achieved fraction. Bytes are counted as if no operation shared a pass over memory with
   another and no cache helped, so a fraction above 1 tells of caches and fusion.

Writes paper_scale.json, paper_scale.md (a table) and paper_scale.png into `--out`; rows go to metrics/benchmarks.csv.
Needs no more than the training itself does.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
import yaml
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry

from auscult.data.store import ClipStore
from auscult.settings.params import arm_settings, load_params
from auscult.settings.training import MethodSettings
from auscult.training.device import pick_device
from common import RATE, Marks, Phases, Row, batches_of, command, peak_mib, profile, record, row, task, train

ROOT = Path(__file__).parents[1]
SCALE, EPOCHS, GOAL = 31_000, 300, 60.0
PEAKS = {  # dense TFLOP/s in bfloat16, TF32 and float32; memory in TB/s (makers' data sheets, SXM cards)
    "H200": (989, 494, 67, 4.8), "H100": (989, 494, 67, 3.35), "B200": (2250, 1100, 75, 8.0), "GH200": (989, 494, 67, 4.0),
    "A100-SXM4-80GB": (312, 156, 19.5, 2.04), "A100": (312, 156, 19.5, 1.56), "L40S": (362, 183, 91.6, 0.864),
    "A10": (125, 62.5, 31.2, 0.6), "RTX 4090": (165, 82.6, 82.6, 1.01), "RTX 3090": (71, 35.6, 35.6, 0.936),
}  # fmt: skip


# ------------------------------------------------------------------------------------------------------------------------ data
def random_clips(folder: Path, clips: int, seconds: float, device: torch.device, units: int = 41) -> Path:
    """A packed folder of random int16, made on the device: noise at -20 dB, `units` classes over six machine types."""
    samples = round(RATE * seconds)
    machines = ("ToyCar", "ToyConveyor", "fan", "pump", "slider", "valve")
    number = np.sort(np.arange(clips) % min(units, max(2, clips // 2)))
    machine, unit = number % len(machines), number // len(machines)
    order = np.lexsort((unit, machine))
    machine, unit = machine[order], unit[order]
    (folder / "audio").mkdir(parents=True)
    generator = torch.Generator(device).manual_seed(0)
    for at, name in enumerate(machines):
        count = int((machine == at).sum())
        if not count:
            continue
        part = np.lib.format.open_memmap(folder / "audio" / f"{name}.npy", "w+", np.int16, (count, samples))
        for start in range(0, count, 512):
            size = min(512, count - start)
            noise = torch.randn(size, samples, generator=generator, device=device).mul_(3277).clamp_(-32768, 32767)
            part[start : start + size] = noise.to(torch.int16).cpu().numpy()
        part.flush()
        del part
    index = pd.DataFrame({
        "clip_id": np.arange(clips), "set": "dev", "machine": [machines[m] for m in machine],
        "unit": [f"{u:02d}" for u in unit], "domain": "source", "attributes": "", "valid": samples,
    })  # fmt: skip
    index.to_parquet(folder / "index.parquet", index=False)
    (folder / "facts.json").write_text(json.dumps({"sample_rate": RATE, "samples": samples, "channel": 0}) + "\n")
    return folder


# --------------------------------------------------------------------------------------------------------------------- counting
def flop_of(operation: Any, args: Any, kwargs: Any, out: Any) -> float:
    """Two per multiply-add. Convolutions here: torch's own rule forgets the groups of their backward pass."""
    aten = torch.ops.aten
    if operation in (aten.convolution, aten.conv1d, aten.conv2d):
        return 2.0 * out.numel() * args[1][0].numel()
    if operation is aten.convolution_backward:
        return 2.0 * args[0].numel() * args[2][0].numel() * sum(args[-1][:2])
    if operation is aten.linear:
        return 2.0 * out.numel() * args[1].shape[1]
    if operation is aten.matmul:
        return 2.0 * out.numel() * args[0].shape[-1]
    return float(flop_registry[operation](*args, **kwargs, out_val=out)) if operation in flop_registry else 0.0


class Counter(TorchDispatchMode):
    """FLOP of convolutions and matrix products, and bytes that every operation reads and writes."""

    def __init__(self) -> None:
        super().__init__()
        self.flop, self.bytes = 0.0, 0.0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        self.flop += flop_of(func._overloadpacket, args, kwargs or {}, out)
        if not func.is_view:
            tensors = [leaf for leaf in tree_leaves((args, kwargs, out)) if isinstance(leaf, torch.Tensor)]
            self.bytes += sum(tensor.numel() * tensor.element_size() for tensor in tensors)
        return out

    def reading(self) -> np.ndarray:
        return np.array([self.flop, self.bytes])


def settle() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def by_phase(settings: MethodSettings, store: ClipStore, knobs: dict[str, Any], counted: bool) -> dict[str, np.ndarray]:
    """Per step, of each phase: seconds; or, counted, FLOP and bytes. The first epoch warms up."""
    method, *_, shape = task(store, settings)
    counter = Counter()
    first: list[dict[str, np.ndarray]] = []
    phases = Phases(type(method.build(settings, shape)), counter.reading if counted else None, settle)
    marks = Marks(lambda: first.append({name: value.copy() for name, value in phases.totals.items()}))
    with phases:
        if counted:
            with counter:
                train(settings, store, knobs, marks)
        else:
            seconds, _ = train(settings, store, knobs, marks)
    zero = np.zeros(2 if counted else 1)
    found = {name: value - first[0].get(name, zero) for name, value in phases.totals.items()}
    if not counted:
        found["rest"] = np.array([sum(seconds)]) - sum(found.values())
    steps = batches_of(len(store), settings) * (settings.epochs - 1)
    return {name: value / steps for name, value in found.items()}


# ------------------------------------------------------------------------------------------------------------------------ peaks
def peaks(device: torch.device, precision: str, matmul: str) -> tuple[str, float, float]:
    """Name of the device, its FLOP/s for this arithmetic and its bytes/s."""
    if device.type == "cuda":
        name = torch.cuda.get_device_name(device)
        for key in sorted(PEAKS, key=len, reverse=True):
            if key.lower() in name.lower():
                bf16, tf32, float32, memory = PEAKS[key]
                arithmetic = bf16 if precision == "bfloat16" else tf32 if matmul != "highest" else float32
                return name, arithmetic * 1e12, memory * 1e12
    flop, moved = measured_peaks(device)
    return (
        (torch.cuda.get_device_name(device) if device.type == "cuda" else "processor") + ", peaks measured",
        flop,
        moved,
    )


def measured_peaks(device: torch.device, size: int = 1024) -> tuple[float, float]:
    """FLOP/s of a square product in float32 and bytes/s of a copy of 256 MB, the best of five."""
    a, big = torch.randn(size, size, device=device), torch.ones(1 << 26, device=device)
    target = torch.empty_like(big)
    flop, moved = [], []
    for _ in range(5):
        for work, rates, amount in (
            (lambda: a @ a, flop, 2 * size**3),
            (lambda: target.copy_(big), moved, 8 * big.numel()),
        ):
            settle()
            start = time.perf_counter()
            work()
            settle()
            rates.append(amount / (time.perf_counter() - start))
    return max(flop), max(moved)


# --------------------------------------------------------------------------------------------------------------------- results
def measure(arguments: argparse.Namespace, folder: Path) -> tuple[dict[str, Any], list[Row]]:
    device = pick_device(arguments.device)
    knobs = {key: yaml.safe_load(value) for key, value in (pair.split("=", 1) for pair in arguments.set)}
    knobs |= {"device": str(device), "threads": torch.get_num_threads()}
    given = arm_settings(load_params(ROOT), profile(arguments.seconds), arguments.arm)
    settings = given.model_copy(update={"batch_size": arguments.batch, "epochs": arguments.epochs + 1})
    packed, made = arguments.features, "recorded clips"
    if packed is None:
        packed, made = random_clips(folder / "packed", arguments.clips, arguments.seconds, device), "random clips"
    fraction = float(knobs.get("resident_fraction", 0.5))
    store = ClipStore(packed, device, fraction)
    seconds, _ = train(settings, store, knobs)
    per_clip = float(np.median(seconds)) / len(store)
    peak = torch.cuda.max_memory_allocated(device) / 2**20 if device.type == "cuda" else peak_mib()

    few = ClipStore(packed, device, fraction)
    few.index = few.index.iloc[:: max(1, len(few) // (arguments.batch * arguments.steps))].reset_index(drop=True)
    plain = {**knobs, **{key: value for key, value in (("compile", "none"), ("prefetch", 0)) if key in arguments.known}}
    short = settings.model_copy(update={"epochs": 2})
    spent = by_phase(short, few, plain, counted=False)
    counts = by_phase(short, few, plain, counted=True)
    precision, matmul = str(knobs.get("precision", "float32")), str(knobs.get("matmul", "highest"))
    name, flops, bandwidth = peaks(device, precision, matmul)
    phases = {
        phase: {
            "ms per step": 1000 * float(time_of[0]), "share": float(time_of[0]) / sum(float(v[0]) for v in spent.values()),
            **({"GFLOP": counts[phase][0] / 1e9, "GB": counts[phase][1] / 1e9,
                "of peak FLOP/s": counts[phase][0] / time_of[0] / flops,
                "of peak bytes/s": counts[phase][1] / time_of[0] / bandwidth} if phase in counts else {}),
        } for phase, time_of in spent.items()
    }  # fmt: skip
    total = np.sum([counts[phase] for phase in counts], axis=0)
    step = per_clip * arguments.batch
    minutes = per_clip * SCALE * EPOCHS / 60
    facts = {
        "device": name, "torch": torch.__version__, "clips": len(store), "made of": made, "epochs measured": len(seconds),
        "seconds of each epoch": [round(s, 3) for s in seconds], "ms per clip": 1000 * per_clip, "knobs": knobs,
        "minutes of 300 epochs of 31,000 clips, extrapolated": minutes, "peak memory (MiB)": peak,
        "of peak FLOP/s, whole step": total[0] / step / flops, "of peak bytes/s, whole step": total[1] / step / bandwidth,
        "peak FLOP/s": flops, "peak bytes/s": bandwidth, "phases": phases,
    }  # fmt: skip
    variant = f"{arguments.arm} on {name}, {precision}, {made}"
    how = f"{SCALE} clips, {EPOCHS} epochs, extrapolated from {len(seconds)} epoch(s) of {len(store)} clips"
    how += f" of {arguments.seconds:g} s"
    found = [
        row("paper scale", f"{variant}: {how}", minutes, "min", GOAL, GOAL / minutes),
        row("paper scale", f"{variant}: an epoch", 1000 * per_clip, "ms per clip"),
        row("paper scale", variant, peak, "MiB at most"),
        row("paper scale", f"{variant}: arithmetic of the whole step", total[0] / step, "FLOP/s", flops, total[0] / step / flops),
        row("paper scale", f"{variant}: memory of the whole step", total[1] / step, "bytes/s", bandwidth,
            total[1] / step / bandwidth),
    ]  # fmt: skip
    return facts, found


def page(facts: dict[str, Any]) -> str:
    """The table of phases, as Markdown."""
    lines = [
        f"{facts['device']}, torch {facts['torch']}: {facts['ms per clip']:.3g} ms per clip and epoch, "
        f"{facts['minutes of 300 epochs of 31,000 clips, extrapolated']:.1f} minutes for 300 epochs of 31,000 clips, "
        f"extrapolated from {facts['epochs measured']} epoch(s) of {facts['clips']} {facts['made of']}; "
        f"{facts['peak memory (MiB)']:,.0f} MiB at most.", "",
        "| phase | ms per step | share | GFLOP | GB | of peak FLOP/s | of peak bytes/s |", "|---|---|---|---|---|---|---|",
    ]  # fmt: skip
    for name, phase in facts["phases"].items():
        counted = [f"{phase[key]:.3g}" if key in phase else "" for key in ("GFLOP", "GB")]
        reached = [f"{phase[key]:.1%}" if key in phase else "" for key in ("of peak FLOP/s", "of peak bytes/s")]
        cells = [name, f"{phase['ms per step']:,.1f}", f"{phase['share']:.1%}", *counted, *reached]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def picture(facts: dict[str, Any], out: Path) -> None:
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    names = list(facts["phases"])
    columns = [("ms per step", "ms per step, waiting for each phase"), ("of peak FLOP/s", "of the peak FLOP/s"),
               ("of peak bytes/s", "of the peak bytes/s")]  # fmt: skip
    figure, places = plt.subplots(1, 3, figsize=(12, 0.4 * len(names) + 1.8), sharey=True, layout="constrained")
    for axes, (key, label) in zip(places, columns, strict=True):
        values = [facts["phases"][name].get(key, 0.0) for name in names]
        axes.barh(names, values, color="tab:blue")
        for at, value in enumerate(values):
            text = (f"{value:.3g}" if value < 1000 else f"{value:,.0f}") if key == "ms per step" else f"{value:.1%}"
            axes.annotate(text, (value, at), xytext=(3, 0), textcoords="offset points", va="center", fontsize=8)
        axes.set_xlim(0, max([*values, 1e-9]) * 1.25)
        axes.set_xlabel(label)
        axes.spines[["top", "right"]].set_visible(False)
    places[0].invert_yaxis()
    figure.suptitle(facts["device"], fontsize=9)
    figure.savefig(out, dpi=100)
    plt.close(figure)


def main() -> None:
    from auscult.settings.training import Train

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--features", type=Path, help="packed training clips; default: random ones")
    parser.add_argument("--clips", type=int, default=SCALE, help="of random ones")
    parser.add_argument("--seconds", type=float, default=10.0, help="of random ones")
    parser.add_argument("--epochs", type=int, default=5, help="measured, after one that warms up")
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--steps", type=int, default=4, help="of the epochs that tell phases")
    parser.add_argument("--arm", default="tfst_os_scl")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--set", nargs="*", default=[], metavar="KEY=VALUE", help="of the section train")
    parser.add_argument("--out", type=Path, help="folder for table and picture")
    parser.add_argument("--no-record", action="store_true", help="do not write metrics/benchmarks.csv")
    arguments = parser.parse_args()
    arguments.known = set(Train.model_fields)
    with tempfile.TemporaryDirectory() as name:
        facts, found = measure(arguments, Path(name))
    print(page(facts))
    if arguments.out:
        arguments.out.mkdir(parents=True, exist_ok=True)
        (arguments.out / "paper_scale.json").write_text(json.dumps(facts, indent=2) + "\n")
        (arguments.out / "paper_scale.md").write_text(page(facts))
        picture(facts, arguments.out / "paper_scale.png")
    if not arguments.no_record:
        record(found)


if __name__ == "__main__":
    command({"paper_scale": main})
