"""What the benchmarks share: commands, rows of the table, children with a peak of memory of their own, made-up data, epochs."""

from __future__ import annotations

import argparse
import contextlib
import csv
import functools
import io
import multiprocessing
import os
import platform
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import soundfile
import torch

import auscult.training.loop
from auscult.data.manifest import build_manifest
from auscult.data.pack import pack
from auscult.data.store import ClipStore
from auscult.errors import AuscultError
from auscult.files import atomic_file
from auscult.methods import load_method
from auscult.methods.base import Method, Network, Shape
from auscult.settings.params import load_profile
from auscult.settings.profile import Profile
from auscult.settings.rules import MetricRules
from auscult.settings.schema import Data
from auscult.settings.training import MethodSettings, Train
from auscult.training.classes import class_list, labels_of, unattributed
from auscult.training.device import prepare
from auscult.training.loop import TrainingSet
from auscult.training.resume import ResumeFolder
from auscult.training.state import WeightEMA

ROOT = Path(__file__).parents[1]
RATE = 16000
SECONDS = 10.0
"""Of a clip, where nothing else is said."""
THREADS = min(2, os.cpu_count() or 1)
Row = dict[str, object]
TINY_ENCODER: dict[str, Any] = {
    "name": "beats", "checkpoint": "",
    "size": {"layers": 2, "width": 32, "ffn": 64, "heads": 2, "embed": 16, "position_kernel": 16, "position_groups": 2},
}  # fmt: skip
"""BEATs for a trial of a script."""


def command(commands: Mapping[str, Callable[[], None]]) -> None:
    """Run the benchmark that the first argument names, on the arguments behind it; one alone need not be named."""
    if len(commands) == 1 and sys.argv[1:2] != [*commands]:
        sys.argv.insert(1, *commands)
    if len(sys.argv) < 2 or sys.argv[1] not in commands:
        sys.exit(f"usage: {Path(sys.argv[0]).name} {{{','.join(commands)}}} [--help] ...")
    commands[sys.argv.pop(1)]()


def parser_of(benchmark: Callable[[], None] | str, **defaults: Any) -> argparse.ArgumentParser:
    """Options with these defaults and of their types (a list takes one value or more, False is a switch), and words of help."""
    words = benchmark if isinstance(benchmark, str) else benchmark.__doc__
    parser = argparse.ArgumentParser(description=words, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in defaults.items():
        option = f"--{name.replace('_', '-')}"
        if default is False:
            parser.add_argument(option, action="store_true")
        elif isinstance(default, list):
            parser.add_argument(option, nargs="+", type=type(default[0]), default=default)
        else:
            parser.add_argument(option, type=type(default), default=default)
    return parser


def valve_clips() -> Path:
    """Where the 200 real clips of the profile `dcase2023_valve` lie, which are used in place.

    Raises:
        AuscultError: they do not.
    """
    folder = ROOT / str(load_profile("dcase2023_valve", ROOT / "profiles").source["path"])
    if not folder.is_dir():
        fix = "put them there, or set `source.path` of the profile"
        raise AuscultError("the valve clips are not there", str(folder), fix)
    return folder


def write_table(table: pd.DataFrame, path: Path, digits: int = 1) -> None:
    """Of one row per system, as a whole, and shown."""
    with atomic_file(path) as part:
        table.to_csv(part, index=False, float_format=f"%.{digits}f", lineterminator="\n")
    print(table.to_string(index=False, float_format=f"%.{digits}f"))


# ------------------------------------------------------------------------------------------------------------------ the table
COLUMNS = ("benchmark", "variant", "value", "unit", "reference", "ratio", "machine", "versions")
KEY = ("benchmark", "variant", "unit")
TABLE = Path(os.environ.get("BENCHMARKS_TABLE") or ROOT / "metrics" / "benchmarks.csv")
"""Where rows go: `run.py --csv` names another file. Who writes a row again replaces it."""


def record(rows: Sequence[dict[str, object]], path: Path = TABLE) -> None:
    """Put `rows` (columns `COLUMNS`; `machine` and `versions` are filled in) in the place of those with the same `KEY`."""
    rows = [{"machine": machine(), "versions": versions(), **row} for row in rows]
    new = {tuple(str(row[column]) for column in KEY) for row in rows}
    kept: list[dict[str, object]] = []
    if path.exists():
        with path.open(newline="") as file:
            kept = [dict(row) for row in csv.DictReader(file) if tuple(row[column] for column in KEY) not in new]
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(sorted([*kept, *rows], key=lambda row: tuple(str(row[column]) for column in KEY)))


def machine() -> str:
    """Processor and number of cores."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return f"{names[0] if names else platform.processor()}, {os.cpu_count()} cores"


def versions() -> str:
    return f"torch {torch.__version__}, Python {platform.python_version()}"


def row(
    benchmark: str, variant: str, value: float, unit: str, reference: float | str = "", ratio: float | str = ""
) -> Row:
    """A line of the table, shown at once. Numbers keep four digits."""
    numbers = {"value": value, "reference": reference, "ratio": ratio}
    short = {key: float(f"{number:.4g}") if isinstance(number, float) else number for key, number in numbers.items()}
    found: Row = {"benchmark": benchmark, "variant": variant, "value": short["value"], "unit": unit}
    found |= {"reference": short["reference"], "ratio": short["ratio"]}
    beside = f"  (reference {found['reference']}, ratio {found['ratio']})" if ratio != "" else ""
    print(f"{found['value']!s:>10} {unit}  {benchmark}: {variant}{beside}", flush=True)
    return found


# ------------------------------------------------------------------------------------------------------------------ children
def peak_mib() -> float:
    """Highest resident memory of this process so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


CLOCKS = ("wall", "processor")


def both_clocks(work: Callable[[], object]) -> tuple[float, float]:
    """Seconds of `work` by each of `CLOCKS`, those of the processes that it has waited for among the second."""

    def now() -> tuple[float, float]:
        children = resource.getrusage(resource.RUSAGE_CHILDREN)
        return time.perf_counter(), time.process_time() + children.ru_utime + children.ru_stime

    before = now()
    work()
    after = now()
    return after[0] - before[0], after[1] - before[1]


def in_child(work: Callable[..., Any], *arguments: Any, threads: int = 1) -> tuple[Any, float]:
    """Run `work` in a forked child: what it returns, and the child's peak of memory in MiB (imports included).

    The parent must not have computed with several threads before: OpenMP's do not survive a fork.

    Raises:
        RuntimeError: the child failed; its traceback is on the screen.
    """
    context = multiprocessing.get_context("fork")
    receive, send = context.Pipe(duplex=False)

    def child() -> None:
        torch.set_num_threads(threads)
        result = work(*arguments)
        send.send((result, peak_mib()))

    process = context.Process(target=child)
    process.start()
    send.close()
    try:
        answer: tuple[Any, float] = receive.recv()
    except EOFError:
        process.join()
        raise RuntimeError(f"{work.__name__} failed with exit status {process.exitcode}") from None
    process.join()
    return answer


SPAWN = """
import os, sys, time
os.chdir(sys.argv[1])
start = time.perf_counter()
pid = os.posix_spawn(sys.argv[2], sys.argv[2:], os.environ)
_, status, usage = os.wait4(pid, 0)
print("measured", time.perf_counter() - start, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024)
sys.exit(os.waitstatus_to_exitcode(status))
"""


def spawned(folder: Path, *words: str) -> tuple[float, float, float]:
    """Seconds by the clock and of the processor, and MiB at most, of Python run on `words` in `folder`.

    By a small process in between: Linux counts the memory of whoever starts a program as the least of that program's peak.

    Raises:
        RuntimeError: it failed.
    """
    command = [sys.executable, "-S", "-c", SPAWN, str(folder), sys.executable, *words]
    done = subprocess.run(
        command, env=os.environ | {"PYTHONPATH": str(ROOT / "src")}, stdout=subprocess.PIPE, text=True
    )
    if done.returncode:
        raise RuntimeError(f"{' '.join(words)} failed")
    wall, processor, peak = map(float, done.stdout.rpartition("measured ")[2].split())
    return wall, processor, peak


def exponent(sizes: list[int] | list[float], costs: list[float]) -> float:
    """p of the best cost = c * size ** p, by least squares on logarithms."""
    return float(np.polyfit(np.log(sizes), np.log(np.maximum(costs, 1e-9)), 1)[0])


# ------------------------------------------------------------------------------------------------------------------ data sets
def profile(seconds: float) -> Profile:
    return Profile(
        name="bench", dataset="bench", title="noise", licence="none", source={}, grammar="dcase2020", sets={"dev": "."},
        clip_seconds=seconds, rules=MetricRules(),
    )  # fmt: skip


CLASSES = [(f"machine{m}", f"{u:02d}") for m in range(2) for u in range(2)]
"""(machine type, unit) of made-up clips."""


def write_noise(folder: Path, clips: int, seconds: float, classes: Sequence[tuple[str, str]] = CLASSES) -> Path:
    """WAV files (16 bit, mono) in the 2020 grammar: `clips` training clips in turn over the units, one test clip each."""
    rng = np.random.default_rng(0)
    length = round(RATE * seconds)
    noise = np.round(3000 * rng.standard_normal(length + clips + len(classes))).clip(-32768, 32767).astype(np.int16)
    for number in range(clips + len(classes)):
        machine, unit = classes[number % len(classes)]
        path = folder / machine / ("train" if number < clips else "test") / f"normal_id_{unit}_{number:08d}.wav"
        path.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(path, noise[number : number + length], RATE)
    return folder


def packed_noise(
    folder: Path, clips: int, seconds: float, frontends: list[str], workers: int = 1,
    classes: Sequence[tuple[str, str]] = CLASSES,
) -> Path:  # fmt: skip
    """The packed training clips of `write_noise`, through the project's own code; the WAV files may be there already."""
    raw = folder / "raw"
    if not raw.exists():
        write_noise(raw, clips, seconds, classes)
    train = training_clips(raw, seconds, workers)
    with quiet():
        pack(train, raw, folder / "packed", profile(seconds), Data(profile="bench", workers=workers), frontends)
    return folder / "packed"


def training_clips(raw: Path, seconds: float, workers: int = 1) -> pd.DataFrame:
    """The manifest's rows of the training clips below `raw`, in the order in which they are packed."""
    with quiet():
        found, _ = build_manifest(profile(seconds), raw, workers=workers)
    return found[found["partition"] == "train"]


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """No progress bars."""
    with contextlib.redirect_stderr(io.StringIO()):
        yield


def decoder() -> None:
    """Give torchaudio a decoder where it has none."""
    import torchaudio

    try:
        import torchcodec  # type: ignore[import-not-found]  # noqa: F401
    except ImportError:

        def load(path: str, **_: Any) -> tuple[torch.Tensor, int]:
            audio, rate = soundfile.read(path, dtype="float32", always_2d=True)
            return torch.from_numpy(audio.T), rate

        torchaudio.load = load


# --------------------------------------------------------------------------------------------------------------------- epochs
class Marks(ResumeFolder):
    """Saves no state; notes the time at which `fit` offers one, that is the end of each epoch."""

    def __init__(self, at_end: Callable[[], None] = lambda: None) -> None:
        super().__init__(Path(), "benchmark")
        self.times: list[float] = []
        self.at_end = at_end

    def load(self, name: str) -> None:
        return None

    def save(self, name: str, state: Mapping[str, Any]) -> None:
        if "finished" in state:  # the whole training
            return
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        self.times.append(time.perf_counter())
        self.at_end()


def task(store: ClipStore, settings: MethodSettings) -> tuple[Method, str, np.ndarray, np.ndarray, list[str], Shape]:
    """Method, name, rows, labels, classes and shape of the first network of an arm."""
    method = load_method(settings.method)
    name, clips = next(iter(method.groups(store.index, settings).items()))
    classes = class_list(clips, "unit")
    mels, frames = store.shape(method.mel(settings)) if method.mel(settings) else (0, 0)
    shape = Shape(len(classes), mels, frames, store.samples, store.sample_rate, unattributed(classes))
    return method, name, clips.index.to_numpy(), labels_of(clips, "unit", classes), classes, shape


def train(
    settings: MethodSettings, store: ClipStore, knobs: Mapping[str, Any] = {}, marks: Marks | None = None
) -> tuple[list[float], Network]:
    """Train the last phase of an arm's first network by `auscult.training.loop.fit`.

    Args:
        knobs: of the section `train`.

    Returns:
        Seconds of every epoch but the first, which warms up (its time holds the building of the network), and the network.
    """
    method, name, rows, labels, _, shape = task(store, settings)
    marks = marks or Marks()
    section = Train(**{"threads": torch.get_num_threads(), **knobs, "checkpoint_seconds": 0.0})
    prepare(store.device, section)  # as a stage does: TF32 or not, cuDNN's search, freed memory
    phase = method.trainings(settings)[-1]
    with quiet():
        data = TrainingSet(store, rows, labels, shape)
        network = auscult.training.loop.fit(name, method, phase, section, 0, data, marks)[0]
    return list(np.diff(marks.times)), network


class Phases(contextlib.AbstractContextManager["Phases"]):
    """Time spent in the parts of a training, each without what it calls of the others.

    Wraps what every training must call, whatever the loop looks like: the store's gathers, the network's losses, the
    backward pass, the optimiser's and the average's steps. Loads of the validation count as loads.

    Attributes:
        totals: phase -> seconds.
    """

    def __init__(self, network: type[Network]) -> None:
        self.totals: dict[str, float] = {}
        self._inner: list[float] = []
        self._places: list[tuple[type, str, str]] = [
            (ClipStore, "wave", "gather"), (ClipStore, "valid", "gather"), (ClipStore, "mel", "log-mel"),
            (network, "loss", "forward"), (network, "valid_loss", "validation"), (torch.Tensor, "backward", "backward"),
            (torch.optim.AdamW, "step", "update"), (torch.optim.Adam, "step", "update"), (WeightEMA, "step", "average"),
        ]  # fmt: skip
        self._before: list[tuple[type, str, Any]] = []

    def __enter__(self) -> Phases:
        for owner, name, phase in self._places:
            if name in vars(owner):
                self._before.append((owner, name, vars(owner)[name]))
                setattr(owner, name, self._timed(vars(owner)[name], phase))
            elif issubclass(owner, Network):  # inherited: wrap it here, take it away afterwards
                self._before.append((owner, name, None))
                setattr(owner, name, self._timed(getattr(owner, name), phase))
        return self

    def __exit__(self, *_: object) -> None:
        for owner, name, function in reversed(self._before):
            if function is None:
                delattr(owner, name)
            else:
                setattr(owner, name, function)

    def _timed(self, function: Callable[..., Any], phase: str) -> Callable[..., Any]:
        @functools.wraps(function)
        def timed(*arguments: Any, **named: Any) -> Any:
            start = time.perf_counter()
            self._inner.append(0.0)
            try:
                return function(*arguments, **named)
            finally:
                spent, inner = time.perf_counter() - start, self._inner.pop()
                self.totals[phase] = self.totals.get(phase, 0.0) + spent - inner
                if self._inner:
                    self._inner[-1] += spent

        return timed
