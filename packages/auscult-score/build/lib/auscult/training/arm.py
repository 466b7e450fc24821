"""Train one arm: split the clips by the method's scope, fit each network, write the model."""

from __future__ import annotations

import platform
import resource
from dataclasses import replace
from functools import partial
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
)  # fmt: skip
from auscult.training.device import pick_device, prepare
from auscult.training.loop import TrainingSet
from auscult.training.modelfolder import Trained
from auscult.training.networks import Networks
from auscult.training.resume import ResumeFolder, run_key
from auscult.training.supplement import classed, supplemented

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
    known = known if isinstance(known, Known) else Known(known)
    condition = Condition(lowpass_hz=settings.lowpass_hz)
    opened = partial(
        ClipStore, device=device, resident_fraction=train.resident_fraction, condition=condition,
        heard=settings.input,
    )  # fmt: skip
    store, noises, folders = opened(features), None, [features]
    unreadable = _unreadable(method, settings, store)
    if settings.supplement.used and not unreadable:
        store, noises, folders = supplemented(opened, features, settings.supplement)
        if noises is not None and not settings.trained:
            distributed.say(
                "`supplement.noise_probability` changes nothing: noise is added in steps, and this method takes none"
            )
    states = ResumeFolder(resume, _key(settings, known, train, seed, (code, device.type, folders)))
    if distributed.rank() == 0:
        states.remove_old()
    index, scheme = _classes(store, settings, known)
    trained = Trained(method, settings, {}, {}, {}, {})
    sets: dict[str, TrainingSet] = {}
    for name, clips in method.groups(index, settings).items():
        reason = unreadable or _unclustered(clips, settings)
        if not reason:
            found = _training_set(store, clips, scheme, method, settings)
            reason = _untrainable(method, settings, found) or _too_long(method, settings, train, device, len(clips))
        if reason:
            trained.skipped[name] = reason
            distributed.say(f"network `{name}` is left out: {reason}")
            continue
        sets[name] = replace(found, noises=noises)
        trained.classes[name], trained.shapes[name] = list(found.shape.names), found.shape
    fitted = Networks(settings, train, seed, sets, states).fit_all(device)
    trained.networks.update({name: network for name, (network, _, _) in fitted.items()})
    history = [row for _, epochs, _ in fitted.values() for row in epochs]
    if distributed.rank() == 0:
        columns = None if history else ["scope", "epoch", "train_loss"]
        modelfolder.save(model, trained, pd.DataFrame(history, columns=columns), code)
        states.finish()
    return _cost(sum(seconds for _, _, seconds in fitted.values()), device)


def _key(settings: MethodSettings, known: Known, train: Train, seed: int, made_of: tuple[str, str, list[Path]]) -> str:
    """Of the saved states; `made_of`: digest of the code, kind of device, and folders of packed clips."""
    code, device, folders = made_of
    files = [folder / name for folder in folders for name in ("index.parquet", "facts.json")]
    if known.clusters is not None and known.clusters.is_file():
        files.append(known.clusters)
    return run_key(code, settings.model_dump(mode="json"), train.decisive(), seed, known.label, device, digest(*files))


def _classes(store: ClipStore, settings: MethodSettings, known: Known) -> tuple[pd.DataFrame, ClassLabel]:
    """The clips with what is known of their attributes, or stands for them, and what makes a class."""
    labels = getattr(settings, "labels", LabelSettings())
    index = withheld(store.index, labels.withheld)
    clips, clean = index[: store.clips], index[store.clips :]
    scheme = class_scheme(clips, getattr(settings, "classes", ""), known.label)
    clips, scheme = completed(clips, scheme, labels, known.clusters)
    return classed(pd.concat([clips, clean]), store.clips) if len(clean) else clips, scheme


def _training_set(
    store: ClipStore, clips: pd.DataFrame, scheme: ClassLabel, method: Method, settings: MethodSettings
) -> TrainingSet:
    """What the network of these clips is trained on."""
    classes = class_list(clips, scheme)
    mels, frames = store.shape(method.mel(settings)) if method.mel(settings) else (0, 0)
    sizes = (len(classes), mels, frames, store.samples, store.sample_rate)
    shape = Shape(*sizes, unattributed(classes), tuple(classes))
    return TrainingSet(store, clips.index.to_numpy(), labels_of(clips, scheme, classes), shape)


def _unclustered(clips: pd.DataFrame, settings: MethodSettings) -> str:
    """Why some of these clips have no class; "" if all have one."""
    few = int(clips["attributes"].isna().sum())
    if not few:
        return ""
    arm = getattr(settings, "labels", LabelSettings()).embeddings
    return f"{few} clip(s) without attributes are in no cluster: `{arm}` was left out on them"


def _unreadable(method: Method, settings: MethodSettings, store: ClipStore) -> str:
    """Why a method cannot read clips of this kind (audio, arrays) or shape; "" if it can."""
    frontend = method.mel(settings)
    if (reason := store.cannot_give(frontend, method.wave(settings))) or not frontend:
        return reason
    (bands, frames), found = method.smallest, store.shape(frontend)
    if found[0] < bands or found[1] < frames:
        return f"its network needs {bands} bands and {frames} frames, and the clips have {found[0]} and {found[1]}"
    return ""


def _untrainable(method: Method, settings: MethodSettings, found: TrainingSet) -> str:
    """Why a network cannot be trained on clips of these classes and this length; "" if it can."""
    absent = modelfolder.missing_checkpoint(settings)
    if absent:
        return absent
    names, frames = found.shape.names, found.shape.frames
    counts = dict(zip(names, np.bincount(found.labels, minlength=len(names)).tolist(), strict=True))
    window = method.window(settings, frames)
    if window > frames:
        return f"a window of {window} frames is longer than the clips ({frames} frames)"
    if settings.trained and sum(counts.values()) < 2:
        return "there is one training clip only, and batch norms need two"
    return method.untrainable(settings, counts) or too_short(method, settings, found.store, found.rows)


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
