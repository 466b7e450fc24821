"""Train one arm: split the clips by the method's scope, fit each network, write the model."""

from __future__ import annotations

import platform
import resource
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from auscult.data.condition import Condition
from auscult.data.store import ClipStore
from auscult.files import digest
from auscult.methods import load_method
from auscult.methods.base import Method, Shape
from auscult.settings.sections import LabelSettings
from auscult.settings.training import MethodSettings, Train
from auscult.training import distributed, modelfolder
from auscult.training.batches import too_short
from auscult.training.classes import (
    ClassLabel,
    Known,
    class_list,
    class_scheme,
    completed,
    labels_of,
    unattributed,
    withheld,
)
from auscult.training.device import pick_device, prepare
from auscult.training.loop import TrainingSet, fit
from auscult.training.modelfolder import Trained
from auscult.training.resume import ResumeFolder, run_key

LONG = 1e12
"""Training clips times parameters of an encoder that take hours on a CPU: about 600 floating-point operations each."""


def train_arm(
    settings: MethodSettings,
    known: ClassLabel | Known,
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
        known: what makes a class of a clip, as profiles say it, and the clusters of clips without attributes; a method whose
            settings have `classes` may ask for more.
        resume: where states of all trainings are kept.
        code: digest of the code that the weights depend on (pipeline/inputs.py): states of other code are not continued.

    Returns:
        What it has cost, and on what: seconds, memory, device, versions. They differ between equal runs.
    """
    device = pick_device(train.device)
    prepare(device, train)
    method = load_method(settings.method)
    store = ClipStore(features, device, train.resident_fraction, Condition(lowpass_hz=settings.lowpass_hz))
    known = known if isinstance(known, Known) else Known(known)
    clusters = [known.clusters] if known.clusters is not None and known.clusters.is_file() else []
    data = digest(features / "index.parquet", features / "facts.json", *clusters)
    key = run_key(
        code, settings.model_dump(mode="json"), train.decisive(), seed, known.label, device.type, data,
    )  # fmt: skip
    states = ResumeFolder(resume, key)
    if distributed.rank() == 0:
        states.remove_old()
    labels = getattr(settings, "labels", LabelSettings())
    index = withheld(store.index, labels.withheld)
    scheme = class_scheme(index, getattr(settings, "classes", ""), known.label)
    index, scheme = completed(index, scheme, labels, known.clusters)
    trained = Trained(method, settings, {}, {}, {}, {})
    history, seconds = [], 0.0
    unreadable = _unreadable(method, settings, store)
    for name, clips in method.groups(index, settings).items():
        if refused := unreadable or _unclustered(clips, labels):
            trained.skipped[name] = refused
            distributed.say(f"network `{name}` is left out: {refused}")
            continue
        classes = class_list(clips, scheme)
        of_clips = labels_of(clips, scheme, classes)
        mels, frames = store.shape(method.mel(settings)) if method.mel(settings) else (0, 0)
        sizes = (len(classes), mels, frames, store.samples, store.sample_rate)
        shape = Shape(*sizes, unattributed(classes), tuple(classes))
        counts = dict(zip(classes, np.bincount(of_clips, minlength=len(classes)).tolist(), strict=True))
        short = too_short(method, settings, store, clips.index.to_numpy())
        reason = _untrainable(method, settings, counts, frames) or short
        reason = reason or _too_long(method, settings, train, device, len(clips))
        if reason:
            trained.skipped[name] = reason
            distributed.say(f"network `{name}` is left out: {reason}")
            continue
        trained.classes[name], trained.shapes[name] = classes, shape
        training_set = TrainingSet(store, clips.index.to_numpy(), of_clips, shape)
        for phase in method.trainings(settings):
            previous = trained.networks.get(name)
            trained.networks[name], epochs, spent = fit(
                name, method, phase, train, seed, training_set, states, previous
            )
            history += [{"scope": f"{name} ({phase.name})" if phase.name else name, **row} for row in epochs]
            seconds += spent
    if distributed.rank() == 0:
        columns = None if history else ["scope", "epoch", "train_loss"]
        modelfolder.save(model, trained, pd.DataFrame(history, columns=columns), code)
        states.finish()
    return _cost(seconds, device)


def _unclustered(clips: pd.DataFrame, labels: LabelSettings) -> str:
    """Why some of these clips have no class; "" if all have one."""
    few = int(clips["attributes"].isna().sum())
    return (
        f"{few} clip(s) without attributes are in no cluster: `{labels.embeddings}` was left out on them" if few else ""
    )


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


def _too_long(method: Method, settings: MethodSettings, train: Train, device: torch.device, clips: int) -> str:
    """Why this is no training for a CPU; "" if it is one, or if it is asked for."""
    if device.type != "cpu" or train.long_on_cpu:
        return ""
    batches = settings.train_steps * (settings.accumulate if settings.step == "update" else 1)
    batches = batches or settings.epochs * clips // settings.batch_size
    weights = method.encoder_size(settings)
    if batches * settings.batch_size * weights < LONG:
        return ""
    what = (
        f"{batches:,} batches of {settings.batch_size} through {weights / 1e6:.0f} M parameters are too long for a CPU"
    )
    return f"{what}: run this on a GPU (`dvc repro -s -f <stage>` there if it was left out before), or set `train.long_on_cpu`"


def _cost(seconds: float, device: torch.device) -> dict[str, Any]:
    cuda = device.type == "cuda"
    peak = (
        torch.cuda.max_memory_allocated(device) if cuda else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    )
    return {
        "train_seconds": round(seconds, 2),
        "peak_memory_mib": round(peak / 2**20, 1),
        "device": torch.cuda.get_device_name(device) if cuda else platform.processor() or platform.machine(),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "python": platform.python_version(),
    }
