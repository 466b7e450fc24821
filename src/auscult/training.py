"""The one training loop, for every method.

All randomness of an epoch is a function of (seed, network, epoch, step), so a run continued at an epoch boundary ends in
the same weights as one that never stopped. Inside an epoch nothing waits for the device.
"""

from __future__ import annotations

import copy
import itertools
import sys
import time
import zlib
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from auscult.config import MethodSettings, Train
from auscult.data.store import ClipStore
from auscult.ema import WeightEMA
from auscult.errors import AuscultError
from auscult.methods.base import Batch, Method, Network, Phase, Shape
from auscult.resume import ResumeFolder
from auscult.schedule import Plan
from auscult.sections import EmaSettings

State = dict[str, Any]


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
        AuscultError: too few clips for the batch norms, or a loss that is no longer finite.
    """
    device, settings = store.device, phase.settings
    name = f"{name}.{phase.name}" if phase.name else name
    load = _loader(method, settings, store, rows, labels)
    started = time.monotonic()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(_seed(seed, name, 0))
        live = phase.build(shape).to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    live.start()
    if previous is not None:
        live.adopt(previous)
    train_clips, valid_clips = _split(len(rows), settings.valid_fraction, seed, name)
    _check(name, settings, len(train_clips), len(valid_clips))

    def all_clips() -> Iterator[Batch]:
        for part in _batches(np.arange(len(rows)), min(settings.batch_size, 64)):
            yield load(part)

    if type(live).prepare is not Network.prepare:
        live.eval()
        with torch.no_grad():
            live.prepare(all_clips())

    ema_settings: EmaSettings | None = getattr(settings, "ema", None)
    average = copy.deepcopy(live) if ema_settings and ema_settings.enabled else None
    ema = (
        WeightEMA(live, average, ema_settings.decay, ema_settings.shrink)
        if ema_settings and average is not None
        else None
    )
    optimizer = _optimizer(live, settings)
    chosen = average if average is not None else live  # the network that is validated and kept
    history: list[dict[str, float]] = []
    best: tuple[float, State] = (float("inf"), {})
    spent, first = 0.0, 0

    state = resume.load(name)
    if state:
        live.load_saved(state["live"])
        if average is not None:
            average.load_saved(state["average"])
        if optimizer is not None:
            optimizer.load_state_dict(state["optimizer"])
        history, best, spent, first = state["history"], tuple(state["best"]), state["seconds"], len(state["history"])
        print(f"{name}: continuing after epoch {first}", file=sys.stderr)

    frames = store.shape(method.mel(settings))[1] if method.mel(settings) else 0
    window, hop = method.window(settings, frames), method.hop(settings)
    starts = (frames - window) // hop + 1 if window else 1
    plan = Plan(settings, _count(len(train_clips) * starts, settings.batch_size))
    saved = time.monotonic()
    bar = tqdm(
        desc=f"train {name}", unit="batch", initial=min(first * plan.per_epoch, plan.passes), total=plan.passes,
        mininterval=0.5 if sys.stderr.isatty() else 15.0,
    )  # fmt: skip
    for epoch in range(first, plan.epochs):
        assert optimizer is not None
        live.train()
        torch.manual_seed(_seed(seed, name, 4, epoch))  # of dropout and layer-drop, which draw for themselves
        items = np.random.default_rng(_seed(seed, name, 1, epoch)).permutation(len(train_clips) * starts)
        totals: dict[str, Tensor] = {}
        seen, lr = 0, 0.0
        for step, part in enumerate(itertools.islice(_batches(items, settings.batch_size), plan.batches(epoch))):
            lr = plan.lr(epoch, step)
            batch = load(train_clips[part // starts], part % starts * hop if window else None)
            with torch.autocast(device.type, torch.bfloat16, enabled=train.precision == "bfloat16"):
                parts = live.loss(batch, np.random.default_rng(_seed(seed, name, 2, epoch, step)))
            if step % settings.accumulate == 0:
                optimizer.zero_grad(set_to_none=True)
            together = plan.together(epoch, step)
            (parts["loss"] / together if together > 1 else parts["loss"]).backward()
            if plan.updates(epoch, step):
                _update(optimizer, lr, settings.clip_gradient)
                if ema:
                    ema.step()
            for key, value in parts.items():  # summed on the device: one transfer per epoch
                totals[key] = totals.get(key, 0) + value.detach() * len(part)
            seen += len(part)
            bar.update()
        row = {"epoch": epoch + 1, "lr": lr}
        row |= {_column(key): float(value) / seen for key, value in totals.items()}
        if not np.isfinite(row["train_loss"]):
            raise AuscultError(
                f"the loss is {row['train_loss']} in epoch {epoch + 1}", f"network `{name}`", "lower `lr`"
            )
        if len(valid_clips):
            row["valid_loss"] = _validate(chosen, load, valid_clips, settings.batch_size)
        history.append(row)
        if settings.selection == "valid_loss" and row["valid_loss"] < best[0]:
            best = (row["valid_loss"], {key: value.clone() for key, value in chosen.saved_state().items()})
        shown: dict[str, str] = {key: f"{row[key]:.3f}" for key in ("train_loss", "valid_loss") if key in row}
        bar.set_postfix({"epoch": f"{epoch + 1}/{plan.epochs}"} | shown, refresh=False)

        if time.monotonic() - saved >= train.checkpoint_seconds or epoch + 1 == plan.epochs:
            spent, started, saved = spent + time.monotonic() - started, time.monotonic(), time.monotonic()
            resume.save(
                name,
                {
                    "live": live.saved_state(),
                    "average": average.saved_state() if average is not None else None,
                    "optimizer": optimizer.state_dict(),
                    "history": history,
                    "best": list(best),
                    "seconds": spent,
                },
            )
    bar.close()
    if best[1]:
        chosen.load_saved(best[1])
    chosen.eval()
    if type(chosen).finish is not Network.finish:
        with torch.no_grad():
            chosen.finish(all_clips())
    return chosen, history, spent + time.monotonic() - started


def _check(name: str, settings: MethodSettings, train_clips: int, valid_clips: int) -> None:
    if settings.trained and train_clips < 2:
        raise AuscultError(f"{train_clips} training clip(s) are too few", f"network `{name}`", "two are needed")
    if settings.trained and settings.selection == "valid_loss" and not valid_clips:
        fix = "set `valid_fraction` above 0, or `selection: last`"
        raise AuscultError("no clip is held out, so no epoch can be selected by its loss", f"network `{name}`", fix)


def _loader(
    method: Method, settings: MethodSettings, store: ClipStore, rows: np.ndarray, labels: np.ndarray
) -> Callable[..., Batch]:
    """`load(clips, first)`: the batch a method asks for, and nothing it does not; `clips` are positions in `rows`."""
    frontend, needs_wave = method.mel(settings), method.wave(settings)
    window = method.window(settings, store.shape(frontend)[1]) if frontend else 0

    def load(clips: np.ndarray, first: np.ndarray | None = None) -> Batch:
        where = torch.from_numpy(rows[clips])
        start = None if first is None else torch.from_numpy(first)
        return Batch(
            label=torch.from_numpy(labels[clips]).to(store.device, non_blocking=True),
            clip=torch.from_numpy(clips).to(store.device, non_blocking=True),
            wave=store.wave(where) if needs_wave else None,
            valid=store.valid(where) if needs_wave else None,
            mel=store.mel(where, frontend, start, window if start is not None else 0) if frontend else None,
        )

    return load


def _update(optimizer: torch.optim.Optimizer, lr: float, clip_gradient: float) -> None:
    for group in optimizer.param_groups:
        group["lr"] = lr * group["lr_scale"]
    if clip_gradient:
        weights = [weight for group in optimizer.param_groups for weight in group["params"]]
        torch.nn.utils.clip_grad_norm_(weights, clip_gradient)
    optimizer.step()


def _validate(network: Network, load: Callable[..., Batch], clips: np.ndarray, batch_size: int) -> float:
    network.eval()
    total: Tensor | float = 0.0
    size = min(batch_size, 64)  # whole clips, also where a batch counts windows
    with torch.inference_mode():
        for part in _batches(clips, size):
            total = total + network.valid_loss(load(part)).sum()
    return float(total) / len(clips)


def _optimizer(network: Network, settings: MethodSettings) -> torch.optim.Optimizer | None:
    groups = [{"lr_scale": 1.0, **group} for group in network.parameter_groups() if group["params"]]
    if not groups:
        return None
    groups = [{**group, "weight_decay": settings.weight_decay / group["lr_scale"]} for group in groups]
    kind = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}[settings.optimizer]
    return kind(groups, lr=settings.lr, fused=True)


def _split(clips: int, fraction: float, seed: int, name: str) -> tuple[np.ndarray, np.ndarray]:
    """Positions of training and validation clips. At least one clip is held out when a fraction is asked for."""
    order = np.random.default_rng(_seed(seed, name, 3)).permutation(clips)
    held = max(1, round(fraction * clips)) if fraction and clips > 2 else 0
    return np.sort(order[held:]), np.sort(order[:held])


def _count(items: int, size: int) -> int:
    """Batches of `size` items; a last one of a single item joins its neighbour, for batch norm needs two."""
    return max(1, items // size) if items % size == 1 else -(-items // size)


def _batches(items: np.ndarray, size: int) -> Iterator[np.ndarray]:
    """Consecutive parts of `size` items, `_count` of them."""
    count = _count(len(items), size)
    for number in range(count):
        yield items[number * size : (number + 1) * size if number + 1 < count else len(items)]


def _seed(*parts: int | str) -> int:
    """A 63-bit seed from numbers and names, the same on every machine."""
    text = "/".join(str(part) for part in parts).encode()
    return (zlib.crc32(text) << 31) ^ zlib.crc32(text[::-1])


def _column(key: str) -> str:
    return "train_loss" if key == "loss" else f"train_{key}"
