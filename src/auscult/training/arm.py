"""Train one arm: split the clips by the method's scope, fit each network, write the model."""

from __future__ import annotations

import platform
import resource
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from auscult.data.condition import Condition
from auscult.data.store import ClipStore
from auscult.files import digest
from auscult.methods import load_method
from auscult.methods.base import Method, Network, Shape
from auscult.settings.training import MethodSettings, Train
from auscult.training import distributed, launch, modelfolder
from auscult.training.batches import too_short
from auscult.training.classes import ClassLabel, class_list, class_scheme, labels_of, unattributed, withheld
from auscult.training.device import pick_device, prepare
from auscult.training.loop import TrainingSet, fit
from auscult.training.modelfolder import Trained
from auscult.training.resume import ResumeFolder, run_key
from auscult.training.supplement import Noises, classed, folders

LONG = 1e12
"""Training clips times parameters of an encoder that take hours on a CPU: about 600 floating-point operations each."""


def train_arm(
    settings: MethodSettings,
    class_label: ClassLabel,
    train: Train,
    seed: int,
    features: Path,
    model: Path,
    resume: Path,
    code: str,
) -> dict[str, Any]:
    """Train every network of an arm on the packed clips in `features` and write the folder `model`.

    A network that its method calls untrainable on these clips is left out with the reason: a long run goes on, and the
    tables explain the empty cells.

    Args:
        class_label: what makes a class of a clip, as profiles say it; a method whose settings have `classes` may ask for more.
        resume: where states of all trainings are kept.
        code: digest of the code that the weights depend on (pipeline/inputs.py): states of other code are not continued.

    Returns:
        What it has cost, and on what: seconds, memory, device, versions. They differ between equal runs.
    """
    device = pick_device(train.device)
    prepare(device, train)
    method = load_method(settings.method)
    condition = Condition(lowpass_hz=settings.lowpass_hz)
    store = ClipStore(features, device, train.resident_fraction, condition, settings.input)
    unreadable = _unreadable(method, settings, store)
    supplements = () if unreadable else tuple(folders(features, settings.supplement))
    clean = settings.supplement.clean and bool(supplements)
    if clean:
        store = ClipStore(features, device, train.resident_fraction, condition, settings.input, supplements[0])
    noises = None
    if settings.supplement.noise_probability and supplements:
        noise = ClipStore(supplements[-1], device, train.resident_fraction, condition, settings.input)
        noises = Noises(store, noise, settings.supplement)
    data = digest(*(each / name for each in (features, *supplements) for name in ("index.parquet", "facts.json")))
    key = run_key(
        code, settings.model_dump(mode="json"), train.decisive(), seed, class_label, device.type, data,
    )  # fmt: skip
    states = ResumeFolder(resume, key)
    if distributed.rank() == 0:
        states.remove_old()
    known = withheld(store.index, getattr(settings, "withheld", ()))
    known = classed(known, store.clips) if clean else known
    class_label = class_scheme(known, getattr(settings, "classes", ""), class_label)
    trained = Trained(method, settings, {}, {}, {}, {})
    sets: dict[str, TrainingSet] = {}
    history: list[dict[str, Any]] = []
    seconds = 0.0
    for name, clips in method.groups(known, settings).items():
        if unreadable:
            trained.skipped[name] = unreadable
            distributed.say(f"network `{name}` is left out: {unreadable}")
            continue
        classes = class_list(clips, class_label)
        labels = labels_of(clips, class_label, classes)
        mels, frames = store.shape(method.mel(settings)) if method.mel(settings) else (0, 0)
        sizes = (len(classes), mels, frames, store.samples, store.sample_rate)
        shape = Shape(*sizes, unattributed(classes), tuple(classes))
        counts = dict(zip(classes, np.bincount(labels, minlength=len(classes)).tolist(), strict=True))
        short = too_short(method, settings, store, clips.index.to_numpy())
        reason = _untrainable(method, settings, counts, frames) or short or _too_long(method, settings, train, device)
        if reason:
            trained.skipped[name] = reason
            distributed.say(f"network `{name}` is left out: {reason}")
            continue
        trained.classes[name], trained.shapes[name] = classes, shape
        sets[name] = TrainingSet(store, clips.index.to_numpy(), labels, shape, noises)
    networks = Networks(settings, train, seed, sets, states)
    unfinished = networks.unfinished()
    for name in sorted(sets.keys() - set(unfinished)):
        distributed.say(f"{name}: was finished before, and is taken from its saved state")
    if device.type == "cpu" and settings.trained and distributed.size() == 1:
        networks = networks.side_by_side(unfinished)
    for name in sets:
        trained.networks[name], epochs, spent = networks.fit(name)
        history += epochs
        seconds += spent
    if distributed.rank() == 0:
        columns = None if history else ["scope", "epoch", "train_loss"]
        modelfolder.save(model, trained, pd.DataFrame(history, columns=columns), code)
        states.finish()
    return _cost(seconds, device)


@dataclass(frozen=True)
class Networks:
    """The networks of an arm that can be trained, by name. None depends on another."""

    settings: MethodSettings
    train: Train
    seed: int
    sets: dict[str, TrainingSet]
    states: ResumeFolder

    def fit(self, name: str) -> tuple[Network, list[dict[str, Any]], float]:
        """All phases of one network: what it has become, its history, seconds."""
        method, network = load_method(self.settings.method), None
        history, seconds = [], 0.0
        for phase in method.trainings(self.settings):
            network, epochs, spent = fit(
                name, method, phase, self.train, self.seed, self.sets[name], self.states, network
            )
            history += [{"scope": f"{name} ({phase.name})" if phase.name else name, **row} for row in epochs]
            seconds += spent
        assert network is not None
        return network, history, seconds

    def unfinished(self) -> list[str]:
        return [name for name in self.sets if "finished" not in (self.states.load(name) or {})]

    def side_by_side(self, names: Sequence[str]) -> Networks:
        """Train several of them at once, each in a process and with its share of the threads; small ones gain next to
        nothing from threads of their own. What comes out lies in the saved states, where `fit` finds it finished.

        How many threads a network has follows from `train.threads` and the number of networks alone, and so does the result.
        """
        at_once = min(self.train.threads, len(self.sets))
        if at_once < 2:
            return self
        shared = replace(self, train=self.train.model_copy(update={"threads": self.train.threads // at_once}))
        torch.set_num_threads(shared.train.threads)
        if len(names) > 1:
            parts = [names[number::at_once] for number in range(min(at_once, len(names)))]
            launch.side_by_side(_fit_some, [(shared, part) for part in parts])
        return shared


def _fit_some(networks: Networks, names: Sequence[str]) -> None:
    prepare(torch.device("cpu"), networks.train)
    for name in names:
        networks.fit(name)


def _unreadable(method: Method, settings: MethodSettings, store: ClipStore) -> str:
    """Why a method cannot read clips of this kind (audio, arrays) or shape; "" if it can."""
    frontend = method.mel(settings)
    if (reason := store.cannot_give(frontend, method.wave(settings))) or not frontend:
        return reason
    (bands, frames), found = method.smallest, store.shape(frontend)
    if found[0] < bands or found[1] < frames:
        return f"its network needs {bands} bands and {frames} frames, and the clips have {found[0]} and {found[1]}"
    return ""


def _untrainable(method: Method, settings: MethodSettings, counts: dict[str, int], frames: int) -> str:
    """Why a network cannot be trained on clips of these classes and this length; "" if it can."""
    absent = modelfolder.missing_checkpoint(settings)
    if absent:
        return absent
    window = method.window(settings, frames)
    if window > frames:
        return f"a window of {window} frames is longer than the clips ({frames} frames)"
    if settings.trained and sum(counts.values()) < 2:
        return "there is one training clip only, and batch norms need two"
    return method.untrainable(settings, counts)


def _too_long(method: Method, settings: MethodSettings, train: Train, device: torch.device) -> str:
    """Why this is no training for a CPU; "" if it is one, or if it is asked for."""
    if device.type != "cpu" or train.long_on_cpu or not settings.train_steps:
        return ""
    batches = settings.train_steps * (settings.accumulate if settings.step == "update" else 1)
    weights = method.encoder_size(settings)
    if batches * settings.batch_size * weights < LONG:
        return ""
    what = (
        f"{batches:,} batches of {settings.batch_size} through {weights / 1e6:.0f} M parameters are too long for a CPU"
    )
    return f"{what}: run this on a GPU (`dvc repro -s -f <stage>` there if it was left out before), or set `train.long_on_cpu`"


def _cost(seconds: float, device: torch.device) -> dict[str, Any]:
    cuda = device.type == "cuda"
    here, started = resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN)
    peak = torch.cuda.max_memory_allocated(device) if cuda else max(here.ru_maxrss, started.ru_maxrss) * 1024
    return {
        "train_seconds": round(seconds, 2),
        "peak_memory_mib": round(peak / 2**20, 1),
        "device": torch.cuda.get_device_name(device) if cuda else platform.processor() or platform.machine(),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "python": platform.python_version(),
    }
