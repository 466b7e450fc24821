"""The one training loop, for every method.

All randomness of an epoch is a function of (seed, network, epoch, step), so a run continued at an epoch boundary ends in
the same weights as one that never stopped. Inside an epoch nothing waits for the device.
"""

from __future__ import annotations

import copy
import sys
import time
import zlib
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from auscult.config import EmaSettings, MethodSettings, Train
from auscult.data.store import ClipStore
from auscult.ema import WeightEMA
from auscult.errors import AuscultError
from auscult.methods.base import Batch, Method, Network, Phase, Shape
from auscult.resume import ResumeFolder
from auscult.schedule import cosine_lr

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
    load = _loader(method, settings, store)
    started = time.monotonic()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(_seed(seed, name, 0))
        live = phase.build(shape).to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    if previous is not None:
        live.adopt(previous)
    train_rows, valid_rows = _split(len(rows), settings.valid_fraction, seed, name)
    if settings.epochs and len(train_rows) < 2:
        raise AuscultError(f"{len(train_rows)} training clip(s) are too few", f"network `{name}`", "two are needed")

    if settings.epochs and settings.selection == "valid_loss" and not len(valid_rows):
        fix = "set `valid_fraction` above 0, or `selection: last`"
        raise AuscultError("no clip is held out, so no epoch can be selected by its loss", f"network `{name}`", fix)

    def all_clips() -> Iterator[Batch]:
        for part in _batches(np.arange(len(rows)), min(settings.batch_size, 64)):
            yield load(rows[part], labels[part])

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
        live.load_state_dict(state["live"])
        if average is not None:
            average.load_state_dict(state["average"])
        if optimizer is not None:
            optimizer.load_state_dict(state["optimizer"])
        history, best, spent, first = state["history"], tuple(state["best"]), state["seconds"], len(state["history"])
        print(f"{name}: continuing after epoch {first}", file=sys.stderr)

    frames = store.shape(method.mel(settings))[1] if method.mel(settings) else 0
    window, hop = method.window(settings, frames), method.hop(settings)
    starts = (frames - window) // hop + 1 if window else 1
    saved = time.monotonic()
    bar = tqdm(
        range(first, settings.epochs), desc=f"train {name}", unit="epoch", initial=first, total=settings.epochs,
        mininterval=0.5 if sys.stderr.isatty() else 15.0,
    )  # fmt: skip
    for epoch in bar:
        assert optimizer is not None
        lr = settings.lr
        if settings.schedule == "cosine":
            lr = cosine_lr(epoch, settings.epochs, settings.lr, settings.lr_min, settings.schedule_delay)
        for group in optimizer.param_groups:
            group["lr"] = lr
        live.train()
        items = np.random.default_rng(_seed(seed, name, 1, epoch)).permutation(len(train_rows) * starts)
        totals: dict[str, Tensor] = {}
        for step, part in enumerate(_batches(items, settings.batch_size)):
            clip = train_rows[part // starts]
            batch = load(rows[clip], labels[clip], part % starts * hop if window else None)
            with torch.autocast(device.type, torch.bfloat16, enabled=train.precision == "bfloat16"):
                parts = live.loss(batch, np.random.default_rng(_seed(seed, name, 2, epoch, step)))
            optimizer.zero_grad(set_to_none=True)
            parts["loss"].backward()
            optimizer.step()
            if ema:
                ema.step()
            for key, value in parts.items():  # summed on the device: one transfer per epoch
                totals[key] = totals.get(key, 0) + value.detach() * len(part)
        row = {"epoch": epoch + 1, "lr": lr}
        row |= {_column(key): float(value) / len(items) for key, value in totals.items()}
        if not np.isfinite(row["train_loss"]):
            raise AuscultError(
                f"the loss is {row['train_loss']} in epoch {epoch + 1}", f"network `{name}`", "lower `lr`"
            )
        if len(valid_rows):
            row["valid_loss"] = _validate(chosen, load, rows[valid_rows], labels[valid_rows], settings.batch_size)
        history.append(row)
        if settings.selection == "valid_loss" and row["valid_loss"] < best[0]:
            best = (row["valid_loss"], {key: value.clone() for key, value in chosen.state_dict().items()})
        bar.set_postfix({key: f"{row[key]:.3f}" for key in ("train_loss", "valid_loss") if key in row}, refresh=False)

        if time.monotonic() - saved >= train.checkpoint_seconds or epoch + 1 == settings.epochs:
            spent, started, saved = spent + time.monotonic() - started, time.monotonic(), time.monotonic()
            resume.save(
                name,
                {
                    "live": live.state_dict(),
                    "average": average.state_dict() if average is not None else None,
                    "optimizer": optimizer.state_dict(),
                    "history": history,
                    "best": list(best),
                    "seconds": spent,
                },
            )
    if best[1]:
        chosen.load_state_dict(best[1])
    chosen.eval()
    if type(chosen).finish is not Network.finish:
        with torch.no_grad():
            chosen.finish(all_clips())
    return chosen, history, spent + time.monotonic() - started


def _loader(method: Method, settings: MethodSettings, store: ClipStore) -> Callable[..., Batch]:
    """`load(rows, labels, first)`: the batch a method asks for, and nothing it does not."""
    frontend, needs_wave = method.mel(settings), method.wave(settings)
    window = method.window(settings, store.shape(frontend)[1]) if frontend else 0

    def load(rows: np.ndarray, labels: np.ndarray, first: np.ndarray | None = None) -> Batch:
        where = torch.from_numpy(rows)
        start = None if first is None else torch.from_numpy(first)
        return Batch(
            label=torch.from_numpy(labels).to(store.device, non_blocking=True),
            wave=store.wave(where) if needs_wave else None,
            mel=store.mel(where, frontend, start, window if start is not None else 0) if frontend else None,
        )

    return load


def _validate(
    network: Network, load: Callable[..., Batch], rows: np.ndarray, labels: np.ndarray, batch_size: int
) -> float:
    network.eval()
    total: Tensor | float = 0.0
    clips = min(batch_size, 64)  # whole clips, also where a batch counts windows
    with torch.inference_mode():
        for part in _batches(np.arange(len(rows)), clips):
            total = total + network.valid_loss(load(rows[part], labels[part])).sum()
    return float(total) / len(rows)


def _optimizer(network: Network, settings: MethodSettings) -> torch.optim.Optimizer | None:
    parameters = list(network.parameters())
    if not parameters:
        return None
    kind = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}[settings.optimizer]
    return kind(parameters, lr=settings.lr, weight_decay=settings.weight_decay, fused=True)


def _split(clips: int, fraction: float, seed: int, name: str) -> tuple[np.ndarray, np.ndarray]:
    """Positions of training and validation clips. At least one clip is held out when a fraction is asked for."""
    order = np.random.default_rng(_seed(seed, name, 3)).permutation(clips)
    held = max(1, round(fraction * clips)) if fraction and clips > 2 else 0
    return np.sort(order[held:]), np.sort(order[:held])


def _batches(items: np.ndarray, size: int) -> Iterator[np.ndarray]:
    """Consecutive parts of `size` items; a last part of one joins its neighbour, for batch norm needs two."""
    count = max(1, len(items) // size) if len(items) % size == 1 else -(-len(items) // size)
    for number in range(count):
        yield items[number * size : (number + 1) * size if number + 1 < count else len(items)]


def _seed(*parts: int | str) -> int:
    """A 63-bit seed from numbers and names, the same on every machine."""
    text = "/".join(str(part) for part in parts).encode()
    return (zlib.crc32(text) << 31) ^ zlib.crc32(text[::-1])


def _column(key: str) -> str:
    return "train_loss" if key == "loss" else f"train_{key}"
