"""The one training loop, for every method.

All randomness of an epoch is a function of (seed, network, epoch, step), so a run continued at an epoch boundary ends in
the same weights as one that never stopped. Inside an epoch nothing waits for the device.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from auscult.data.store import ClipStore
from auscult.errors import AuscultError
from auscult.methods.base import Batch, Method, Network, Phase, Shape
from auscult.models.global_batch_norm import global_batch_norms
from auscult.settings.training import MethodSettings, Train
from auscult.training import distributed
from auscult.training.batches import Loader, batches, count, depth, pieces, seed_of, split
from auscult.training.compiling import compiled_loss
from auscult.training.outofmemory import next_parts
from auscult.training.resume import ResumeFolder
from auscult.training.schedule import Plan
from auscult.training.state import TrainingState


@dataclass(frozen=True)
class Job:
    """What stays the same during the training of one network.

    Attributes:
        name: of the network and the phase; part of its random streams.
        clips: of the network, in all.
        train_clips, valid_clips: positions among them.
        load: the batch of some of them.
        window, hop, starts: frames of a training item and between items, and items per clip; 0, 1, 1 for whole clips.
        plan: its length and learning rate.
        parts: in how many a batch is processed, for want of memory.
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
    starts: int
    plan: Plan
    parts: int = 1

    def wanted(self, items: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
        """Clips of training items, and the frame that each one's window starts at."""
        return self.train_clips[items // self.starts], items % self.starts * self.hop if self.window else None

    def whole(self, clips: np.ndarray) -> Iterator[Batch]:
        """Batches of whole clips, also where a training batch counts windows, in order."""
        return self.load.each(
            (part, None) for part in batches(clips, max(1, min(self.settings.batch_size, 64) // self.parts))
        )


def fit(
    name: str,
    method: Method,
    phase: Phase,
    train: Train,
    seed: int,
    store: ClipStore,
    rows: np.ndarray,
    labels: np.ndarray,
    shape: Shape,
    resume: ResumeFolder,
    previous: Network | None = None,
) -> tuple[Network, list[dict[str, float]], float]:
    """Train one network on clips `rows` of `store` with class `labels`.

    Args:
        name: of the network ("all", or the machine type); part of its random streams.
        phase: which of the method's trainings, with its settings.
        seed: of all random streams.
        resume: where states of an interrupted run are kept.
        previous: network of the phase before, which this one adopts.

    Returns:
        The selected network in eval mode, one history row per epoch, and the seconds spent (all attempts together).

    Raises:
        AuscultError: too few clips for the batch norms, or a loss that is no longer finite, or memory that does not suffice.
    """
    job = _job(name, method, phase, train, seed, store, rows, labels)
    clock = Clock()
    while True:
        try:
            return _attempt(job, phase, shape, resume, previous, clock)
        except torch.OutOfMemoryError:
            pass  # what the failed step holds is free only outside this block
        job = replace(job, parts=next_parts(job.parts, job.name, job.settings, train))


class Clock:
    """Seconds of a training, all attempts together."""

    def __init__(self) -> None:
        self.started, self.before = time.monotonic(), 0.0

    def seconds(self) -> float:
        return self.before + time.monotonic() - self.started


def _attempt(
    job: Job, phase: Phase, shape: Shape, resume: ResumeFolder, previous: Network | None, clock: Clock
) -> tuple[Network, list[dict[str, float]], float]:
    """`fit`, from the last saved state on."""
    state = _set_up(job, phase, shape, previous)
    job = _restore(job, state, resume, clock)
    distributed.equalise(state.live, state.average)
    loss = distributed.replicate(state.live, partly=hasattr(job.settings, "encoder"))
    if job.train.compile != "none" and distributed.size() == 1:
        loss = compiled_loss(state.live, job.train.compile, accumulates=job.settings.accumulate > 1 or job.parts > 1)
    saved, plan, first = time.monotonic(), job.plan, len(state.history)
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
                state.take_note(row["valid_loss"])
            shown: dict[str, str] = {key: f"{row[key]:.3f}" for key in ("train_loss", "valid_loss") if key in row}
            bar.set_postfix({"epoch": f"{epoch + 1}/{plan.epochs}"} | shown, refresh=False)
            if time.monotonic() - saved >= job.train.checkpoint_seconds or epoch + 1 == plan.epochs:
                saved = time.monotonic()
                if distributed.rank() == 0:
                    resume.save(job.name, state.saved() | {"seconds": clock.seconds(), "parts": job.parts})
    return _finish(job, state), state.history, clock.seconds()


def _job(
    name: str, method: Method, phase: Phase, train: Train, seed: int, store: ClipStore, rows: np.ndarray, labels: np.ndarray
) -> Job:  # fmt: skip
    settings = phase.settings
    name = f"{name}.{phase.name}" if phase.name else name
    train_clips, valid_clips = split(len(rows), settings.valid_fraction, seed, name)
    frames = store.shape(method.mel(settings))[1] if method.mel(settings) else 0
    window, hop = method.window(settings, frames), method.hop(settings)
    starts = (frames - window) // hop + 1 if window else 1
    _check(name, settings, len(train_clips), len(valid_clips))
    return Job(
        name, settings, train, seed, store.device, len(rows), train_clips, valid_clips,
        Loader(method, settings, store, rows, labels, depth(store.device, train.prefetch)), window, hop, starts,
        Plan(settings, count(len(train_clips) * starts, settings.batch_size)),
    )  # fmt: skip


def _check(name: str, settings: MethodSettings, train_clips: int, valid_clips: int) -> None:
    if settings.trained and train_clips < 2:
        raise AuscultError(f"{train_clips} training clip(s) are too few", f"network `{name}`", "two are needed")
    if settings.trained and settings.selection == "valid_loss" and not valid_clips:
        fix = "set `valid_fraction` above 0, or `selection: last`"
        raise AuscultError("no clip is held out, so no epoch can be selected by its loss", f"network `{name}`", fix)


def _set_up(job: Job, phase: Phase, shape: Shape, previous: Network | None) -> TrainingState:
    """The network with its first weights, its average and its optimiser, before the first epoch."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed_of(job.seed, job.name, 0))
        live = phase.build(shape).to(job.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    live.start()
    if previous is not None:
        live.adopt(previous)
    if type(live).prepare is not Network.prepare:
        live.eval()
        with torch.no_grad():
            live.prepare(job.whole(np.arange(job.clips)))
    if distributed.size() > 1:
        global_batch_norms(live)
    return TrainingState.of(live, job.settings)


def _restore(job: Job, state: TrainingState, resume: ResumeFolder, clock: Clock) -> Job:
    """Take over the state of an interrupted run, if there is one; the job in at least as many parts as it was."""
    found = resume.load(job.name)
    if not found:
        return job
    state.restore(found)
    if job.parts == 1:  # otherwise this process has trained since, and knows
        clock.before = found["seconds"]
    distributed.say(f"{job.name}: continuing after epoch {len(state.history)}")
    return replace(job, parts=max(job.parts, found["parts"]))


def _one_epoch(job: Job, state: TrainingState, loss: distributed.Loss, epoch: int, bar: tqdm) -> dict[str, float]:
    """Train for one epoch; its row of the history: number, last learning rate, and the mean of every part of the loss."""
    settings, plan, optimizer = job.settings, job.plan, state.optimizer
    assert optimizer is not None
    state.live.train()
    # Of dropout and layer-drop, which draw for themselves.
    torch.manual_seed(seed_of(job.seed, job.name, 4, epoch, *distributed.stream()))
    order = np.random.default_rng(seed_of(job.seed, job.name, 1, epoch)).permutation(len(job.train_clips) * job.starts)
    totals: dict[str, Tensor] = {}
    seen, lr, rng = 0, 0.0, np.random.default_rng()
    todo = list(pieces(order, settings.batch_size, plan.batches(epoch), job.parts))
    for piece, batch in zip(todo, job.load.each(job.wanted(piece.items) for piece in todo), strict=True):
        if piece.first:
            lr = plan.lr(epoch, piece.step)
            rng = np.random.default_rng(seed_of(job.seed, job.name, 2, epoch, piece.step))
            if piece.step % settings.accumulate == 0:
                optimizer.zero_grad(set_to_none=True)
        with torch.autocast(job.device.type, torch.bfloat16, enabled=job.train.precision == "bfloat16"):
            parts = loss(batch, rng, piece.last and plan.updates(epoch, piece.step))
        divisor = plan.together(epoch, piece.step) / piece.share
        (parts["loss"] / divisor if divisor != 1 else parts["loss"]).backward()
        if piece.last:
            if plan.updates(epoch, piece.step):
                _update(optimizer, lr, settings.clip_gradient)
                if state.ema:
                    state.ema.step()
            bar.update()
        for key, value in parts.items():  # summed on the device: one transfer per epoch
            totals[key] = totals.get(key, 0) + value.detach() * len(piece.items)
        seen += len(piece.items)
    row = {"epoch": epoch + 1, "lr": lr}
    row |= {_column(key): float(value) / seen for key, value in totals.items()}
    if not np.isfinite(row["train_loss"]):
        what = f"the loss is {row['train_loss']} in epoch {epoch + 1}"
        raise AuscultError(what, f"network `{job.name}`", "lower `lr`")
    row |= distributed.provenance()
    return row if job.parts == 1 else row | {"parts": job.parts}


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


def _finish(job: Job, state: TrainingState) -> Network:
    """The network of the selected epoch, in eval mode, with what it learns of all clips after training."""
    if state.best[1]:
        state.chosen.load_saved(state.best[1])
    chosen = state.chosen.eval()
    if type(chosen).finish is not Network.finish:
        with torch.no_grad():
            chosen.finish(job.whole(np.arange(job.clips)))
    return chosen


def _column(key: str) -> str:
    return "train_loss" if key == "loss" else f"train_{key}"
