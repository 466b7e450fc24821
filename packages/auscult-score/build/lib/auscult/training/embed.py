"""Embeddings and native scores of every clip, from a trained arm."""

from __future__ import annotations

import json
import shutil
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode
from tqdm import tqdm

from auscult.data.condition import Condition
from auscult.data.store import ClipStore
from auscult.errors import AuscultError
from auscult.files import atomic_folder
from auscult.methods.base import Network
from auscult.settings.training import ConditionSettings, Train
from auscult.training import modelfolder
from auscult.training.batches import Loader, depth, too_short
from auscult.training.classes import candidates_of
from auscult.training.device import pick_device, prepare
from auscult.training.modelfolder import Trained

BATCHES_PER_TRANSFER = 16
"""Batches whose results leave the device at once: the host waits for it now and then, not at each."""


def embed_arm(
    model: Path,
    features: dict[str, Path],
    out: Path,
    batch_size: int,
    train: Train,
    condition: ConditionSettings | None = None,
    train_from: Path | None = None,
    made_from: str = "",
) -> dict[str, Any]:
    """Embed every clip of each partition in `features` and write what the scores are made of.

    Writes into the folder `out` {train,test}.npy and {train,test}.parquet, which holds clip_id, set, machine, unit, domain
    and the method's native scores (`native`, `native_<name>`); clips of networks that could not be trained are left out; and
    network.json with parameters, multiply-accumulates, the distance that the method's neighbours are found by and, of embeddings
    that keep frequency rows apart, how many.

    Args:
        condition: done to test clips alone.
        train_from: embeddings of the same weights, whose training clips are taken over: no condition reaches them.
        made_from: digest of all that they are made from; kept with them (`is_made_from`).

    Returns:
        What it has cost: clips per second, which differ between equal runs.
    """
    device = pick_device(train.device)
    prepare(device, train)
    trained = modelfolder.load(model, str(device))
    for network in trained.networks.values():
        network.merge()
    lowpass_hz, clips, seconds, macs = trained.settings.lowpass_hz, 0, 0.0, 0
    with atomic_folder(out) as part:
        for partition, folder in features.items():
            if partition == "train" and train_from is not None:
                for name in ("train.npy", "train.parquet"):
                    shutil.copyfile(train_from / name, part / name)
                continue
            applied = Condition(lowpass_hz=lowpass_hz)
            if condition is not None and partition == "test":
                lowpass = min((hz for hz in (lowpass_hz, condition.lowpass_hz) if hz), default=0.0)
                applied = Condition(condition.snr_db, lowpass, condition.seed)
            store = ClipStore(folder, device, condition=applied, heard=trained.settings.input)
            started = time.monotonic()
            prefetch = depth(device, train.prefetch)
            vectors, index = embed(trained, store, batch_size, train.precision, partition, prefetch)
            clips, seconds = clips + len(index), seconds + time.monotonic() - started
            macs = macs or multiply_accumulates(trained, store)
            np.save(part / f"{partition}.npy", vectors)
            index.to_parquet(part / f"{partition}.parquet", index=False)
        size = {
            "parameters": sum(p.numel() for network in trained.networks.values() for p in network.parameters()),
            "networks": len(trained.networks),
            "macs_per_clip": macs,
            "distance": trained.method.distance,
        }
        # Of embeddings whose frequency rows are kept apart.
        rows = max((int(getattr(network, "frequency_rows", 1)) for network in trained.networks.values()), default=1)
        size |= {"rows": rows} if rows > 1 else {}
        (part / "network.json").write_text(json.dumps(size, indent=1) + "\n")
        (part / "made_from.txt").write_text(made_from + "\n")
    return {"clips_per_second": round(clips / seconds, 1)}


def is_made_from(embeddings: Path, made_from: str) -> bool:
    """Whether there are embeddings in this folder that were made from what this digest stands for."""
    note = embeddings / "made_from.txt"
    return note.is_file() and note.read_text().strip() == made_from


def embed(
    trained: Trained,
    store: ClipStore,
    batch_size: int,
    precision: str = "float32",
    desc: str = "clips",
    prefetch: int = 0,
) -> tuple[np.ndarray, pd.DataFrame]:
    """Embeddings float32 [clips, D] of a store's clips in its order, and a table of them with the method's native scores.

    Args:
        prefetch: batches that a thread reads while the device computes.

    Raises:
        AuscultError: clips of another length than the model's, a machine it was not trained on, a result that is not finite.
    """
    method, settings = trained.method, trained.settings
    embedding = np.empty((0, 1), np.float32)
    scores: dict[str, np.ndarray] = {}
    kept = np.zeros(len(store), bool)
    bar = tqdm(total=len(store), desc=f"embed {desc}", unit="clip", mininterval=0.5 if sys.stderr.isatty() else 15.0)
    for name, clips in method.groups(store.index, settings).items():
        if name in trained.skipped:
            bar.update(len(clips))
            continue
        rows = clips.index.to_numpy(copy=True)
        _check_network(trained, name, store, rows)
        kept[rows] = True
        load = Loader(
            method, settings, store, rows, candidates=candidates_of(clips, trained.classes[name]), depth=prefetch
        )
        for positions, vectors, found in _embedded(trained.networks[name], load, batch_size, precision):
            if not len(embedding):
                embedding = np.empty((len(store), vectors.shape[1]), np.float32)
            embedding[rows[positions]] = vectors
            for key, values in found.items():
                scores.setdefault(key, np.full(len(store), np.nan))[rows[positions]] = values
            bar.update(len(positions))
    bar.close()
    embedding = embedding[kept] if len(embedding) else embedding
    if not np.isfinite(embedding).all():
        raise AuscultError("embeddings hold NaN or infinity", fix="train again with a lower `lr`")
    index = store.index[["clip_id", "set", "machine", "unit", "domain"]].assign(**scores)
    return embedding, index[kept].reset_index(drop=True)


def _check_network(trained: Trained, name: str, store: ClipStore, rows: np.ndarray) -> None:
    if name not in trained.networks:
        raise AuscultError(f"no network for machine `{name}`", fix="train on a profile that has this machine")
    samples = trained.shapes[name].samples
    if store.samples != samples:
        fix = f"use clips of {samples} samples, or train on this length"
        raise AuscultError(f"clips of {store.samples} samples, a model for {samples}", fix=fix)
    if short := too_short(trained.method, trained.settings, store, rows):
        raise AuscultError(short, f"network `{name}`")


@torch.inference_mode()
def _embedded(
    network: Network, load: Loader, batch_size: int, precision: str
) -> Iterator[tuple[np.ndarray, np.ndarray, Mapping[str, np.ndarray]]]:
    """Positions of clips among a loader's, their embeddings float32 [B, D] and scores float64 [B] by name."""
    positions = np.arange(len(load.rows))
    parts = load.by_length(positions, lambda order: np.split(order, range(batch_size, len(order), batch_size)))
    waiting: list[tuple[np.ndarray, Tensor, dict[str, Tensor]]] = []
    for part, batch in zip(parts, load.each((part, None) for part in parts), strict=True):
        with torch.autocast(load.store.device.type, torch.bfloat16, enabled=precision == "bfloat16"):
            waiting.append((part, *network.embed(batch)))
        if len(waiting) == BATCHES_PER_TRANSFER or part is parts[-1]:
            for clips, vectors, scores in waiting:
                on_host = {key: values.double().cpu().numpy() for key, values in scores.items()}
                yield clips, vectors.float().cpu().numpy(), on_host
            waiting.clear()


def multiply_accumulates(trained: Trained, store: ClipStore) -> int:
    """Multiply-accumulates of one clip's embedding and native scores (convolutions and matrix products), by torch's counter."""
    for name, clips in trained.method.groups(store.index, trained.settings).items():
        if name in trained.networks:
            rows, candidates = clips.index.to_numpy(copy=True)[:1], candidates_of(clips.iloc[:1], trained.classes[name])
            batch = Loader(trained.method, trained.settings, store, rows, candidates=candidates)(np.zeros(1, np.int64))
            with FlopCounterMode(display=False) as counter, torch.no_grad():
                trained.networks[name].embed(batch)
            return int(counter.get_total_flops()) // 2
    return 0
