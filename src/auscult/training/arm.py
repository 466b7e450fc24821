"""Train one arm: split the clips by the method's scope, fit each network, write model and cost."""

from __future__ import annotations

import json
import platform
import resource
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from auscult.data.condition import Condition
from auscult.data.store import ClipStore
from auscult.files import atomic_file, digest
from auscult.methods import load_method
from auscult.methods.base import Method, Network, Shape
from auscult.settings.profile import Profile
from auscult.settings.training import MethodSettings, Train
from auscult.training import distributed, modelfolder
from auscult.training.classes import class_list, labels_of, unattributed
from auscult.training.device import pick_device, prepare
from auscult.training.loop import fit
from auscult.training.modelfolder import Trained
from auscult.training.resume import ResumeFolder, run_key

LONG = 1e12
"""Training clips times parameters of an encoder that take hours on a CPU: about 600 floating-point operations each."""

WITHOUT_EFFECT = {"checkpoint_seconds", "on_out_of_memory", "prefetch", "processes", "resident_fraction", "seeds"}
"""Keys of `train` that a network's weights do not depend on, or that its saved state tells."""


def train_arm(
    settings: MethodSettings,
    profile: Profile,
    train: Train,
    seed: int,
    features: Path,
    model: Path,
    cost: Path,
    resume: Path,
) -> None:
    """Train every network of an arm on the packed clips in `features`; write the folder `model` and the file `cost`.

    A network that its method calls untrainable on these clips is left out with the reason: a long run goes on, and the
    tables explain the empty cells.
    """
    device = pick_device(train.device)
    prepare(device, train)
    method = load_method(settings.method)
    store = ClipStore(features, device, train.resident_fraction, Condition(lowpass_hz=settings.lowpass_hz))
    key = run_key(
        settings.model_dump(mode="json"), train.model_dump(exclude=WITHOUT_EFFECT), seed,
        profile.class_label, device.type, digest(features / "index.parquet", features / "facts.json"),
    )  # fmt: skip
    states = ResumeFolder(resume, key)
    trained = Trained(method, settings, {}, {}, {}, {})
    history, seconds = [], 0.0
    for name, clips in method.groups(store.index).items():
        classes = class_list(clips, profile.class_label)
        labels = labels_of(clips, profile.class_label, classes)
        mels, frames = store.shape(method.mel(settings)) if method.mel(settings) else (0, 0)
        shape = Shape(len(classes), mels, frames, store.samples, store.sample_rate, unattributed(classes))
        counts = dict(zip(classes, np.bincount(labels, minlength=len(classes)).tolist(), strict=True))
        reason = _untrainable(method, settings, counts, frames) or _too_long(method, settings, train, device)
        if reason:
            trained.skipped[name] = reason
            distributed.say(f"network `{name}` is left out: {reason}")
            continue
        rows = clips.index.to_numpy()
        network: Network | None = None
        for phase in method.trainings(settings):
            network, epochs, spent = fit(
                name, method, phase, train, seed, store, rows, labels, shape, states, network
            )  # fmt: skip
            history += [{"scope": f"{name} ({phase.name})" if phase.name else name, **row} for row in epochs]
            seconds += spent
        assert network is not None
        trained.networks[name], trained.classes[name], trained.shapes[name] = network, classes, shape
    distributed.barrier()  # all have read the states that are removed below
    if distributed.rank() > 0:
        return
    modelfolder.save(
        model, trained, pd.DataFrame(history, columns=None if history else ["scope", "epoch", "train_loss"])
    )
    _write_cost(cost, seconds, device)
    states.clear()


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


def _write_cost(path: Path, seconds: float, device: torch.device) -> None:
    """What differs between equal runs and so stays out of the model folder."""
    cuda = device.type == "cuda"
    peak = (
        torch.cuda.max_memory_allocated(device) if cuda else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    )
    facts: dict[str, Any] = {
        "train_seconds": round(seconds, 2),
        "peak_memory_mib": round(peak / 2**20, 1),
        "device": torch.cuda.get_device_name(device) if cuda else platform.processor() or platform.machine(),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "python": platform.python_version(),
    }
    with atomic_file(path) as part:
        part.write_text(json.dumps(facts, indent=2) + "\n")
