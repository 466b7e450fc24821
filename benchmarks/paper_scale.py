"""How long OS-SCL, AnoPatch and Han et al. train at paper scale on a GPU: some steps measured, the rest extrapolated; which
kernels take the time; and both before and after a change.

    PYTHONPATH=src python benchmarks/paper_scale.py --out profile                       # every case of `CASES`
    PYTHONPATH=src python benchmarks/paper_scale.py --out profile --against COMMIT --cases tfst_os_scl han
    PYTHONPATH=src python benchmarks/paper_scale.py --out profile --tiny --device cpu   # a trial of the script in seconds

Clips are random int16 of 10 s, made on the device, all of known attributes; networks have the published sizes and random
weights, which rows say. Each case runs in a process of its own, by `auscult.training.loop.fit`: an epoch of `--steps` steps warms
up (and compiles), `EPOCHS` more count, the median of which, by proportion, gives the whole training, called extrapolated; one
more is recorded by torch.profiler. With `--against`, a case is measured with the package of that commit (or folder) first, by
this same script.

The number of steps is fixed, and what is left of `--seconds` (280) is each case's limit: a case that it does not suffice for is
stopped, or not begun, and says so.

Of one step, without the compiler, the FLOP of convolutions and matrix products are counted, and the bytes that each operation
reads and writes. Over the time of a step that is the achieved rate, and over the card's peak (`PEAKS`, by name; a processor's is
measured on the spot) the achieved fraction. Bytes are counted as if no operation shared a pass over memory with another, so a
fraction above 1 tells of fusion and caches.

Writes kernels.csv (time by kernel), paper_scale.md (a table), paper_scale.json and paper_scale.png into `--out`, and rows to
metrics/benchmarks.csv. Needs no more than the training itself does.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
import yaml

from auscult.data.store import ClipStore
from auscult.errors import AuscultError
from auscult.settings.params import arm_settings, load_params
from auscult.settings.training import MethodSettings
from auscult.training.batches import Loader
from auscult.training.device import pick_device
from common import RATE, TINY_ENCODER, Marks, Row, command, peak_mib, profile, record, row, task, train
from counting import Counter, peaks

ROOT = Path(__file__).parents[1]
EPOCHS = 3
LEAST = 40.0
"""Seconds that a case needs at least: imports, compiler and search for algorithms take most of them."""
PREDICTED_FOR = "H200"
FAST: dict[str, Any] = {"precision": "bfloat16", "matmul": "high", "compile": "compile"}


@dataclass(frozen=True)
class Case:
    """
    Attributes:
        arm: of the project or a study.
        steps: of the whole training.
        predicted, why: minutes on `PREDICTED_FOR`, written down before any run, and the reason.
        goal: minutes that are hoped for.
        knobs: of the section `train`.
    """

    arm: str
    steps: float
    predicted: float
    goal: float
    why: str
    knobs: dict[str, Any]


OS_SCL_STEPS = 300 * 0.95 * 31_000 / 64
CASES = {
    "tfst_os_scl": Case("tfst_os_scl", OS_SCL_STEPS, 43, 35, "69 min with `compile` before; a weight gradient of 10 ms of 28 "
                        "is a product of < 0.5 now, some 1 ms of copies between memory orders is gone", FAST),
    "han": Case("han", 60_000, 22, 35, "91 ms per step before, 41 of the device, of these 19 for the positional convolution and "
                "more than 700 casts; the rest is compiled", FAST),
    "anopatch_2020": Case("anopatch_2020", 10_000, 9, 12, "95 ms per step before, with the same slow convolution", FAST),
    "logmel_os_scl": Case("logmel_os_scl", OS_SCL_STEPS, 29, 20, "not measured before; the share of MobileFaceNet in TFSTgram",
                          FAST),
    "han_float32": Case("han", 60_000, 42, 52, "52 ms per step before, without `compile`", {"compile": "compile"}),
}  # fmt: skip
"""In the order in which they are measured."""


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


# ---------------------------------------------------------------------------------------------------------------------- kernels
KINDS = (
    ("memory order", r"nchwToNhwc|nhwcToNchw|transpose|permute"), ("attention", r"flash|fmha|attention|softmax"),
    ("convolution", r"conv|wgrad|dgrad|fprop|winograd"), ("product", r"gemm|cutlass|nvjet|xmma|addmm|bmm|::mm|linear"),
    ("norm", r"batch_?norm|layer_?norm|bn_"), ("compiled", r"triton|inductor"), ("optimiser", r"adam|multi_tensor|foreach"),
    ("copy", r"memcpy|memset|copy|clone|_to"),
)  # fmt: skip


def kind_of(kernel: str) -> str:
    """What a kernel does, by its name; the first of `KINDS` that fits."""
    return next((kind for kind, pattern in KINDS if re.search(pattern, kernel, re.I)), "other")


class Profiled(Marks):
    """Notes the end of each epoch, and has the last one recorded."""

    def __init__(self, device: torch.device, epochs: int) -> None:
        super().__init__(self.turn)
        kind = torch.profiler.ProfilerActivity
        self.device, self.last = device, epochs - 1
        kinds = [kind.CUDA if device.type == "cuda" else kind.CPU]
        self.profiler = torch.profiler.profile(activities=kinds, acc_events=True)

    def turn(self) -> None:
        if len(self.times) == self.last:
            self.profiler.start()
        elif len(self.times) == self.last + 1:
            self.profiler.stop()

    def kernels(self, steps: int, most: int = 60) -> list[dict[str, Any]]:
        """Of a step, those that take longest first; on a CPU operations."""
        spent: dict[str, list[float]] = {}
        for event in self.profiler.events() or ():
            on_device = event.device_type != torch.autograd.DeviceType.CPU
            if event.is_user_annotation:  # spans kernels that are counted by themselves
                continue
            if on_device == (self.device.type == "cuda"):
                one = spent.setdefault(event.name, [0.0, 0.0])
                one[0] += event.time_range.elapsed_us() if on_device else event.self_cpu_time_total
                one[1] += 1
        total = sum(us for us, _ in spent.values()) or 1.0
        longest = sorted(spent.items(), key=lambda item: -item[1][0])[:most]
        return [
            {"kernel": name[:160], "kind": kind_of(name), "times per step": round(count / steps, 2),
             "ms per step": round(us / 1000 / steps, 4), "share": round(us / total, 4)} for name, (us, count) in longest
        ]  # fmt: skip


# ---------------------------------------------------------------------------------------------------------------- one case
def settings_of(case: Case, root: Path, tiny: bool) -> MethodSettings:
    """As in params.yaml, but for the length of the training, and random weights in the place of a checkpoint."""
    settings = arm_settings(load_params(root), profile(1.0 if tiny else 10.0), case.arm)
    short: dict[str, Any] = {"epochs": EPOCHS + 2}
    if "encoder" in type(settings).model_fields:
        short |= {"train_steps": 0, "warmup_steps": 0, "encoder": {"checkpoint": ""}}
        if tiny:
            short |= {"encoder": TINY_ENCODER, "chunk_seconds": 0.4}
    if tiny:
        short["batch_size"] = 4
    return type(settings).model_validate(settings.model_dump() | short)


def clips_of(settings: MethodSettings, steps: int) -> int:
    """Clips of which so many full batches are left to train on."""
    wanted = steps * settings.batch_size
    clips = wanted
    while settings.valid_fraction and clips - max(1, round(settings.valid_fraction * clips)) < wanted:
        clips += 1
    return clips


def measure(
    case: Case, root: Path, steps: int, device: torch.device, tiny: bool, knobs: dict[str, Any]
) -> dict[str, Any]:
    """Times, memory, kernels, FLOP and bytes of a step of one case, by the package that this process has imported."""
    settings = settings_of(case, root, tiny)
    knobs = {**case.knobs, **knobs, "device": str(device), "threads": torch.get_num_threads()}
    with tempfile.TemporaryDirectory() as name:
        packed = random_clips(Path(name) / "packed", clips_of(settings, steps), 1.0 if tiny else 10.0, device)
        store = ClipStore(packed, device, 0.5)
        marks = Profiled(device, EPOCHS + 2)
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(device)  # the making of clips is no part of a training
        seconds, network = train(settings, store, knobs, marks)
        peak = torch.cuda.max_memory_allocated(device) / 2**20 if device.type == "cuda" else peak_mib()
        method, _, rows, labels, _, _ = task(store, settings)
        batch = Loader(method, settings, store, rows, labels)(np.arange(settings.batch_size))
        network.train()
        drawn = {key: value.to(device) for key, value in network.draw(batch, np.random.default_rng(0)).items()}
        precision, matmul = str(knobs.get("precision", "float32")), str(knobs.get("matmul", "highest"))
        with Counter() as counter:
            with torch.autocast(device.type, torch.bfloat16, enabled=precision == "bfloat16"):
                loss = network.loss(batch, drawn)["loss"]
            loss.backward()
    step = float(np.median(seconds[:EPOCHS])) / steps
    device_name, flops, bandwidth = peaks(device, precision, matmul)
    return {
        "device": device_name, "torch": torch.__version__, "knobs": knobs, "batch": settings.batch_size, "steps": steps,
        "seconds of each epoch": [round(s, 4) for s in seconds[:EPOCHS]], "ms per step": 1000 * step,
        "minutes": step * case.steps / 60, "MiB": peak, "GFLOP": counter.flop / 1e9, "GB": counter.bytes / 1e9,
        "of peak FLOP/s": counter.flop / step / flops, "of peak bytes/s": counter.bytes / step / bandwidth,
        "kernels": marks.kernels(steps),
    }  # fmt: skip


# ----------------------------------------------------------------------------------------------------------------- all cases
def older(against: str, folder: Path) -> Path:
    """The package of a commit, unpacked into `folder`; or of a folder, where it lies.

    Raises:
        AuscultError: neither.
    """
    if (Path(against) / "src" / "auscult").is_dir():
        return Path(against).resolve()
    parts = ["src", "params.yaml", "profiles", "studies", "checkpoints.yaml"]
    done = subprocess.run(
        ["git", "-C", str(ROOT), "archive", "--format=zip", against, "--", *parts], capture_output=True
    )
    if done.returncode:
        fix = "name a commit of this repository, or a folder that holds src/auscult"
        raise AuscultError(f"`{against}` is neither: {done.stderr.decode().strip()}", "--against", fix)
    with zipfile.ZipFile(io.BytesIO(done.stdout)) as archive:  # which writes nothing outside of the folder
        archive.extractall(folder)
    return folder


def in_process(name: str, root: Path, arguments: argparse.Namespace, seconds: float) -> dict[str, Any] | str:
    """What `measure` finds in a process that imports the package from `root`; or why there is nothing."""
    with tempfile.TemporaryDirectory() as folder:
        found = Path(folder) / "found.json"
        command = [sys.executable, str(Path(__file__).resolve()), "paper_scale", "--cases", name, "--one", str(found)]
        command += ["--root", str(root), "--steps", str(arguments.steps), "--device", arguments.device]
        command += [*(["--tiny"] if arguments.tiny else []), "--set", *arguments.set]
        log, environment = Path(folder) / "log", os.environ | {"PYTHONPATH": str(root / "src")}
        with log.open("w") as text:
            # A session of its own: the compiler's processes end with it.
            child = subprocess.Popen(command, env=environment, stdout=text, stderr=text, start_new_session=True)
            try:
                status = child.wait(seconds)
            except subprocess.TimeoutExpired:
                return f"stopped after {seconds:.0f} s: the time is up"
            finally:
                if child.poll() is None:
                    os.killpg(child.pid, signal.SIGKILL)
                    child.wait()
        if status:
            return f"failed: {' | '.join(log.read_text(errors='replace').strip().splitlines()[-3:])}"
        facts: dict[str, Any] = json.loads(found.read_text())
        return facts


def all_cases(arguments: argparse.Namespace, sides: dict[str, Path]) -> Iterator[tuple[str, str, dict[str, Any] | str]]:
    """(case, side, what was found or why nothing was), each as soon as it is there."""
    end = time.monotonic() + arguments.seconds
    for name in arguments.cases:
        for side, root in sides.items():
            left = end - time.monotonic()
            if arguments.tiny and root == ROOT:
                device = pick_device(arguments.device)
                yield name, side, measure(CASES[name], root, arguments.steps, device, True, settings_given(arguments))
            elif left < LEAST and not arguments.tiny:
                yield name, side, f"not begun: {max(left, 0):.0f} s were left"
            else:
                yield name, side, in_process(name, root, arguments, left)


def settings_given(arguments: argparse.Namespace) -> dict[str, Any]:
    given = {key: yaml.safe_load(value) for key, value in (pair.split("=", 1) for pair in arguments.set)}
    return {"compile": "none"} | given if arguments.tiny else given


# -------------------------------------------------------------------------------------------------------------------- results
def changed(case: Case, facts: dict[str, Any]) -> str:
    """Knobs that `--set` has turned, each behind a comma."""
    knobs = {key: value for key, value in facts["knobs"].items() if key not in ("device", "threads")}
    return "".join(f", {key} {value}" for key, value in knobs.items() if case.knobs.get(key) != value)


def predicted(case: Case, facts: dict[str, Any]) -> float | None:
    """Minutes, if what was measured is what they were predicted for: that card, and those knobs."""
    return case.predicted if PREDICTED_FOR in facts["device"] and not changed(case, facts) else None


def rows_of(name: str, found: dict[str, dict[str, Any]], tiny: bool) -> list[Row]:
    """Rows of one case. A trial has no prediction."""
    case, now = CASES[name], found["now"]
    made = "random clips" if case.arm.endswith("os_scl") else "random clips and weights"
    variant = f"{name} on {now['device']}, {now['knobs'].get('precision', 'float32')}, {made}{changed(case, now)}"
    variant += ", tiny: a trial" if tiny else ""
    how = f"{case.steps:,.0f} steps, extrapolated from {EPOCHS} x {now['steps']}"
    minutes = None if tiny else predicted(case, now)
    expected = ("", "") if minutes is None else (minutes, minutes / now["minutes"])
    how += "" if minutes is None else "; predicted"
    rows = [
        row("paper scale", f"{variant}: {how}", now["minutes"], "min", *expected),
        row("paper scale", variant, now["ms per step"], "ms per step"),
        row("paper scale", variant, now["MiB"], "MiB at most"),
    ]
    before = [side for side in found if side != "now"]
    for side in before:
        ms = found[side]["ms per step"]
        rows.append(
            row(
                "paper scale",
                f"{variant}: beside {side}",
                now["ms per step"],
                "ms per step",
                ms,
                ms / now["ms per step"],
            )
        )
    return rows


def page(found: dict[str, dict[str, dict[str, Any] | str]]) -> str:
    """The table of all cases, as Markdown."""
    first = f"| case | of | ms per step | minutes, extrapolated | predicted ({PREDICTED_FOR}) | aim |"
    lines = [
        first + " MiB | of peak FLOP/s | of peak bytes/s |",
        "|---|---|--:|--:|--:|--:|--:|--:|--:|",
    ]
    for name, sides in found.items():
        for side, facts in sides.items():
            if isinstance(facts, str):
                lines.append(f"| {name} | {side} | {facts} | | | | | | |")
                continue
            minutes = predicted(CASES[name], facts)
            times = f"{facts['ms per step']:.1f} | {facts['minutes']:.1f} | {'' if minutes is None else format(minutes, 'g')}"
            times += f" | {CASES[name].goal:g}"
            reached = f"{facts['of peak FLOP/s']:.1%} | {facts['of peak bytes/s']:.1%}"
            lines.append(f"| {name} | {side} | {times} | {facts['MiB']:,.0f} | {reached} |")
    return "\n".join(lines) + "\n"


def picture(kernels: pd.DataFrame, out: Path) -> None:
    """Milliseconds of a step by kind of kernel, a bar for each case and side."""
    import matplotlib as mpl

    mpl.use("Agg")
    shares = kernels.pivot_table(index=["case", "of"], columns="kind", values="ms per step", aggfunc="sum", sort=False)
    axes = shares.plot.barh(stacked=True, figsize=(9, 1.5 + 0.4 * len(shares)), width=0.7, colormap="tab10")
    axes.invert_yaxis()
    axes.set_xlabel("ms per step on the device")
    axes.set_ylabel("")
    axes.legend(fontsize=8)
    axes.figure.savefig(out, dpi=100, bbox_inches="tight")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", nargs="+", choices=CASES, default=list(CASES))
    parser.add_argument(
        "--against", metavar="COMMIT", help="or a folder with src/auscult: measured first, with this script"
    )
    parser.add_argument("--steps", type=int, default=0, help="of an epoch; default: 20, of a trial 2")
    parser.add_argument("--seconds", type=float, default=280.0, help="for everything together")
    parser.add_argument("--device", default="auto")
    parser.add_argument(
        "--set", nargs="*", default=[], metavar="KEY=VALUE", help="of the section train, for every case"
    )
    parser.add_argument(
        "--tiny", action="store_true", help="short clips, small encoders, no compiler: a trial, no measurement"
    )
    parser.add_argument("--out", type=Path, help="folder for tables and picture")
    parser.add_argument("--no-record", action="store_true", help="do not write metrics/benchmarks.csv")
    parser.add_argument("--one", type=Path, help=argparse.SUPPRESS)  # what the processes of this script are called with
    parser.add_argument("--root", type=Path, default=ROOT, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    arguments.steps = arguments.steps or (2 if arguments.tiny else 20)
    if arguments.one:
        device, knobs = pick_device(arguments.device), settings_given(arguments)
        facts = measure(CASES[arguments.cases[0]], arguments.root, arguments.steps, device, arguments.tiny, knobs)
        arguments.one.write_text(json.dumps(facts))
        return
    found: dict[str, dict[str, dict[str, Any] | str]] = {}
    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as folder:
        before = {arguments.against: older(arguments.against, Path(folder))} if arguments.against else {}
        for name, side, facts in all_cases(arguments, before | {"now": ROOT}):
            found.setdefault(name, {})[side] = facts
            if isinstance(facts, str):
                print(f"{name}, {side}: {facts}", flush=True)
            elif side == "now":
                measured = {other: one for other, one in found[name].items() if not isinstance(one, str)}
                rows += rows_of(name, measured, arguments.tiny)
    print(page(found))
    if arguments.out:
        write(found, arguments.out)
    if not arguments.no_record:
        record(rows)


def write(found: dict[str, dict[str, dict[str, Any] | str]], out: Path) -> None:
    """Tables and picture."""
    out.mkdir(parents=True, exist_ok=True)
    (out / "paper_scale.json").write_text(json.dumps(found, indent=2) + "\n")
    (out / "paper_scale.md").write_text(page(found))
    kernels = pd.DataFrame([
        {"case": name, "of": side, **kernel}
        for name, sides in found.items() for side, facts in sides.items() if not isinstance(facts, str)
        for kernel in facts["kernels"]
    ])  # fmt: skip
    kernels.to_csv(out / "kernels.csv", index=False, lineterminator="\n")
    if len(kernels):
        picture(kernels, out / "paper_scale.png")


if __name__ == "__main__":
    command({"paper_scale": main})
