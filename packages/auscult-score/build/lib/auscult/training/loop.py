"""The one training loop, for every method.

All randomness of an epoch is a function of (seed, network, epoch, step), so a run continued at an epoch boundary ends in
the same weights as one that never stopped. Inside an epoch nothing waits for the device.
"""

from __future__ import annotations

import itertools
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from auscult.data.resident import to_device
from auscult.data.store import ClipStore
from auscult.errors import AuscultError
from auscult.methods.base import Batch, Method, Network, Phase, Shape
from auscult.models.global_batch_norm import global_batch_norms
from auscult.settings.training import MethodSettings, Train
from auscult.training import distributed
from auscult.training.batches import Loader, batches, count, depth, seed_of, split
from auscult.training.loss import Loss, training_loss
from auscult.training.resume import ResumeFolder
from auscult.training.schedule import Plan
from auscult.training.state import TrainingState
from auscult.training.supplement import Noises

History = list[dict[str, float]]
"""A row per epoch: its number, last learning rate, and the mean of every part of the loss."""


@dataclass(frozen=True)
class TrainingSet:
    """What one network is trained on.

    Attributes:
        store: packed clips.
        rows: of the store, that are this network's clips, int64 [clips].
        labels: class of each, int64 [clips].
        shape: number of classes, and sizes of a clip.
        noises: that are added to clips in training; None = none are.
    """

    store: ClipStore
    rows: np.ndarray
    labels: np.ndarray
    shape: Shape
    noises: Noises | None = None


@dataclass(frozen=True)
class Job:
    """What stays the same during the training of one network.

    Attributes:
        name: of the network and the phase; part of its random streams.
        clips: of the network, in all.
        train_clips, valid_clips: positions among them.
        load: the batch of some of them.
        window, hop: frames of a training item and between items of a clip; 0 and 1 for whole clips.
        starts: number of each training clip's first item, and of all items, int64 [train_clips + 1].
        plan: its length and learning rate.
    """

    name: str
    settings: MethodSettings
    train: Train
    seed: int
    device: torch.device
    clips: int
    train_clips: np.ndarray
    valid_clips: np.ndarray
    load: Loader
    window: int
    hop: int
    starts: np.ndarray
    plan: Plan

    def wanted(self, items: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
        """Clips of training items, and the frame that each one's window starts at."""
        at = np.searchsorted(self.starts, items, side="right") - 1
        return self.train_clips[at], (items - self.starts[at]) * self.hop if self.window else None

    def whole(self, clips: np.ndarray) -> Iterator[Batch]:
        """Batches of whole clips, also where a training batch counts windows, in order (but shorter clips first)."""
        parts = self.load.by_length(clips, lambda order: batches(order, min(self.settings.batch_size, 64)))
        return self.load.each((part, None) for part in parts)


def fit(
    name: str,
    method: Method,
    phase: Phase,
    train: Train,
    seed: int,
    data: TrainingSet,
    resume: ResumeFolder,
    previous: Network | None = None,
) -> tuple[Network, History, float]:
    """Train one network.

    Args:
        name: of the network ("all", or the machine type); part of its random streams.
        phase: which of the method's trainings, with its settings.
        seed: of all random streams.
        resume: where the states of this run are kept.
        previous: network of the phase before, which this one adopts.

    Returns:
        The selected network in eval mode, one history row per epoch, and the seconds spent (all starts together).

    Raises:
        AuscultError: too few clips for the batch norms, or a loss that is no longer finite, or memory that does not suffice.
    """
    job = _job(name, method, phase, train, seed, data)
    found = resume.load(job.name) or {}
    _check_equal(job, resume, found)
    if "finished" in found:
        network = phase.build(data.shape)
        network.load_saved(found["finished"])
        return _to_device(network, job).eval(), found["history"], found["seconds"]
    started = time.monotonic() - found.get("seconds", 0.0)
    try:
        network = _first_weights(job, phase, data.shape, previous)
        history: History = []
        if phase.settings.trained:
            network, history = _train(job, network, found, resume, started)
        network.eval()
        if type(network).finish is not Network.finish:
            with torch.no_grad():
                network.finish(job.whole(np.arange(job.clips)))
    except torch.OutOfMemoryError:
        fix = _memory_knobs(job.settings, train)
        raise AuscultError("the device is out of memory", f"network `{job.name}`", fix) from None
    seconds = time.monotonic() - started
    if distributed.rank() == 0:
        resume.save(job.name, {"finished": network.saved_state(), "history": history, "seconds": seconds})
    return network, history, seconds


def _job(name: str, method: Method, phase: Phase, train: Train, seed: int, data: TrainingSet) -> Job:
    settings, store, clips = phase.settings, data.store, len(data.rows)
    name = f"{name}.{phase.name}" if phase.name else name
    train_clips, valid_clips = split(clips, settings.valid_fraction, seed, name)
    window, hop = method.window(settings, data.shape.frames), method.hop(settings)
    if settings.trained:
        _check_clips(name, settings, len(train_clips), len(valid_clips))
    ahead = depth(store.device, train.prefetch)
    load = Loader(method, settings, store, data.rows, data.labels, depth=ahead, noises=data.noises)
    starts = load.window_starts(train_clips, hop)
    plan = Plan(settings, count(int(starts[-1]), settings.batch_size))
    return Job(
        name, settings, train, seed, store.device, clips, train_clips, valid_clips, load, window, hop, starts, plan
    )


def _check_clips(name: str, settings: MethodSettings, train_clips: int, valid_clips: int) -> None:
    if train_clips < 2:
        raise AuscultError(f"{train_clips} training clip(s) are too few", f"network `{name}`", "two are needed")
    if settings.selection == "valid_loss" and not valid_clips:
        fix = "set `valid_fraction` above 0, or `selection: last`"
        raise AuscultError("no clip is held out, so no epoch can be selected by its loss", f"network `{name}`", fix)


def _check_equal(job: Job, resume: ResumeFolder, found: dict[str, Any]) -> None:
    """Processes on several machines must start from the same; those of one machine do."""
    if not distributed.all_equal(seed_of(str(resume.folder.name), len(found.get("history", []))), job.device):
        what = "the machines of this training differ in their data, code, settings or saved states"
        fix = "run them in one project folder, on a file system that all of them share"
        raise AuscultError(what, f"network `{job.name}`", fix)


def _memory_knobs(settings: MethodSettings, train: Train) -> str:
    """What makes a training smaller."""
    encoder = getattr(settings, "encoder", None)
    knobs = ["a smaller `batch_size`"]
    if getattr(encoder, "activation_checkpointing", None) is False:
        knobs.append("`encoder.activation_checkpointing: true`")
    if train.precision != "bfloat16":
        knobs.append("`train.precision: bfloat16`")
    if train.resident_fraction:
        knobs.append("a smaller `train.resident_fraction`")
    return f"set {', '.join(knobs)}"


# ------------------------------------------------------------------------------------------------------------- the network
def _to_device(network: Network, job: Job) -> Network:
    return network.to(job.device, memory_format=torch.channels_last)  # type: ignore[call-overload]


def _first_weights(job: Job, phase: Phase, shape: Shape, previous: Network | None) -> Network:
    """The network before the first epoch."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed_of(job.seed, job.name, 0))
        network = _to_device(phase.build(shape), job)
    network.start()
    if previous is not None:
        network.adopt(previous)
    if type(network).prepare is not Network.prepare:
        network.eval()
        with torch.no_grad():
            network.prepare(job.whole(np.arange(job.clips)))
    return network


def _train(
    job: Job, network: Network, found: dict[str, Any], resume: ResumeFolder, started: float
) -> tuple[Network, History]:
    """All epochs that are not in the state that was found; the network of the selected one.

    Args:
        started: when the training began, as time.monotonic() tells it, had it not been interrupted.
    """
    if distributed.size() > 1:
        global_batch_norms(network)
    state, plan = TrainingState.of(network, job.settings), job.plan
    if found:
        state.restore(found)
        distributed.say(f"{job.name}: continuing after epoch {len(state.history)}")
    distributed.equalise(state.live, state.average)
    loss = training_loss(state.live, job.settings, job.train)
    saved, first = time.monotonic(), len(state.history)
    with tqdm(
        desc=f"train {job.name}", unit="batch", initial=min(first * plan.per_epoch, plan.passes), total=plan.passes,
        mininterval=0.5 if sys.stderr.isatty() else 15.0, disable=distributed.rank() > 0,
    ) as bar:  # fmt: skip
        for epoch in range(first, plan.epochs):
            row = _one_epoch(job, state, loss, epoch, bar)
            if len(job.valid_clips):
                row["valid_loss"] = _validate(job, state.chosen)
            state.history.append(row)
            if job.settings.selection == "valid_loss":
                state.keep_best(row["valid_loss"])
            shown: dict[str, str] = {key: f"{row[key]:.3f}" for key in ("train_loss", "valid_loss") if key in row}
            bar.set_postfix({"epoch": f"{epoch + 1}/{plan.epochs}"} | shown, refresh=False)
            if time.monotonic() - saved >= job.train.checkpoint_seconds or epoch + 1 == plan.epochs:
                saved = time.monotonic()
                if distributed.rank() == 0:
                    resume.save(job.name, state.saved() | {"seconds": saved - started})
    return state.selected(), state.history


def _one_epoch(job: Job, state: TrainingState, loss: Loss, epoch: int, bar: tqdm) -> dict[str, float]:
    """Train for one epoch; its row of the history."""
    settings, plan, lr = job.settings, job.plan, 0.0
    state.live.train()
    # Of dropout and layer-drop, which draw for themselves.
    torch.manual_seed(seed_of(job.seed, job.name, 4, epoch, *distributed.stream()))
    order = np.random.default_rng(seed_of(job.seed, job.name, 1, epoch)).permutation(int(job.starts[-1]))
    parts = list(itertools.islice(batches(order, settings.batch_size), plan.batches(epoch)))
    totals: dict[str, Tensor] = {}
    wanted = (job.wanted(items) for items in parts)
    for step, batch in enumerate(job.load.each(wanted, (job.seed, job.name, 5, epoch))):
        lr = plan.lr(epoch, step)
        update = plan.updates(epoch, step)
        if step % settings.accumulate == 0:
            state.optimizer.zero_grad(set_to_none=True)
        drawn = state.live.draw(batch, np.random.default_rng(seed_of(job.seed, job.name, 2, epoch, step)))
        drawn = {name: to_device(tensor, job.device) for name, tensor in drawn.items()}
        with torch.autocast(job.device.type, torch.bfloat16, enabled=job.train.precision == "bfloat16"):
            losses = loss(batch, drawn, update)
        divisor = plan.batches_per_update(epoch, step)
        (losses["loss"] / divisor if divisor != 1 else losses["loss"]).backward()
        if update:
            _update(state.optimizer, lr, settings.clip_gradient)
            if state.ema:
                state.ema.step()
        bar.update()
        for key, value in losses.items():  # summed on the device: one transfer per epoch
            totals[key] = totals.get(key, 0) + value.detach() * len(parts[step])
    seen = sum(map(len, parts))
    row = {"epoch": epoch + 1, "lr": lr}
    row |= {_column(key): float(value) / seen for key, value in totals.items()}
    if not np.isfinite(row["train_loss"]):
        what = f"the loss is {row['train_loss']} in epoch {epoch + 1}"
        raise AuscultError(what, f"network `{job.name}`", "lower `lr`")
    row |= distributed.provenance()
    return row


def _update(optimizer: torch.optim.Optimizer, lr: float, clip_gradient: float) -> None:
    for group in optimizer.param_groups:
        group["lr"] = lr * group["lr_scale"]
    if clip_gradient:
        weights = [weight for group in optimizer.param_groups for weight in group["params"]]
        torch.nn.utils.clip_grad_norm_(weights, clip_gradient)
    optimizer.step()


def _validate(job: Job, network: Network) -> float:
    """Mean loss of the clips held out, in float32."""
    network.eval()
    total: Tensor | float = 0.0
    with torch.inference_mode():
        for batch in job.whole(job.valid_clips):
            total = total + distributed.sharded(network.valid_loss, batch).sum()
    return float(total) / len(job.valid_clips)


def _column(key: str) -> str:
    return "train_loss" if key == "loss" else f"train_{key}"
