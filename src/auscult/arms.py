"""Train one arm: split the clips by the method's scope, fit each network, write model and cost."""

from __future__ import annotations

import json
import platform
import resource
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from auscult import modelfolder
from auscult.classes import class_list, labels_of
from auscult.config import MethodSettings, Profile, Train
from auscult.data.store import ClipStore
from auscult.device import pick_device
from auscult.files import atomic_file, digest
from auscult.memory import keep_freed_memory
from auscult.methods import load_method
from auscult.methods.base import Shape
from auscult.modelfolder import Trained
from auscult.resume import ResumeFolder, run_key
from auscult.training import fit


def train_arm(
    settings: MethodSettings, profile: Profile, train: Train, features: Path, model: Path, cost: Path, resume: Path
) -> None:
    """Train every network of an arm on the packed clips in `features`; write the folder `model` and the file `cost`."""
    torch.set_num_threads(train.threads)
    device = pick_device(train.device)
    if device.type == "cpu":
        keep_freed_memory()
    method = load_method(settings.method)
    store = ClipStore(features, device, train.resident_fraction)
    key = run_key(
        settings.model_dump(mode="json"), train.model_dump(exclude={"checkpoint_seconds"}), profile.class_label, device.type,
        digest(features / "index.parquet", features / "facts.json"),
    )  # fmt: skip
    states = ResumeFolder(resume, key)
    trained = Trained(method, settings, {}, {}, {})
    history, seconds = [], 0.0
    for name, clips in method.groups(store.index).items():
        classes = class_list(clips, profile.class_label)
        labels = labels_of(clips, profile.class_label, classes)
        mels, frames = store.shape(method.mel(settings)) if method.mel(settings) else (0, 0)
        shape = Shape(len(classes), mels, frames, store.samples)
        rows = clips.index.to_numpy()
        network, epochs, spent = fit(name, method, settings, train, store, rows, labels, shape, states)
        trained.networks[name], trained.classes[name], trained.shapes[name] = network, classes, shape
        history += [{"scope": name, **row} for row in epochs]
        seconds += spent
    modelfolder.save(
        model, trained, pd.DataFrame(history, columns=None if history else ["scope", "epoch", "train_loss"])
    )
    _write_cost(cost, seconds, device, trained)
    states.clear()


def _write_cost(path: Path, seconds: float, device: torch.device, trained: Trained) -> None:
    """What differs between equal runs and so stays out of the model folder."""
    cuda = device.type == "cuda"
    peak = (
        torch.cuda.max_memory_allocated(device) if cuda else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    )
    facts: dict[str, Any] = {
        "train_seconds": round(seconds, 2),
        "peak_memory_mib": round(peak / 2**20, 1),
        "parameters": sum(p.numel() for network in trained.networks.values() for p in network.parameters()),
        "device": torch.cuda.get_device_name(device) if cuda else platform.processor() or platform.machine(),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "python": platform.python_version(),
    }
    with atomic_file(path) as part:
        part.write_text(json.dumps(facts, indent=2) + "\n")
