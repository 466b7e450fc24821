"""Embeddings and native scores of every clip, from a trained arm."""

from __future__ import annotations

import json
import shutil
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch.utils.flop_counter import FlopCounterMode
from tqdm import tqdm

from auscult.data.condition import Condition
from auscult.data.store import ClipStore, Raw
from auscult.errors import AuscultError
from auscult.files import atomic_file, atomic_folder
from auscult.methods.base import Batch
from auscult.settings.training import ConditionSettings, Train
from auscult.training import modelfolder
from auscult.training.ahead import ahead
from auscult.training.batches import depth
from auscult.training.classes import candidates_of
from auscult.training.device import pick_device, prepare
from auscult.training.modelfolder import Trained

TOGETHER = 16
"""Batches whose results leave the device together."""


def embed_arm(
    model: Path,
    features: dict[str, Path],
    out: Path,
    cost: Path,
    batch_size: int,
    train: Train,
    condition: ConditionSettings | None = None,
    heard: Path | None = None,
) -> None:
    """Embed every clip of each partition in `features` and write what the scores are made of.

    Writes into the folder `out` {train,test}.npy and {train,test}.parquet, which holds clip_id, set, machine, unit, domain
    and the method's own scores (`native`, `native_<name>`); clips of networks that could not be trained are left out. Writes
    into the file `cost` parameters, multiply-accumulates and clips per second.

    Args:
        condition: done to test clips alone.
        heard: embeddings of the same weights, whose training clips are taken over: no condition reaches them.
    """
    device = pick_device(train.device)
    prepare(device, train)
    trained = modelfolder.load(model, str(device))
    for network in trained.networks.values():
        network.merge()
    lowpass_hz, clips, seconds, macs = trained.settings.lowpass_hz, 0, 0.0, 0
    with atomic_folder(out) as part:
        for partition, folder in features.items():
            if partition == "train" and heard is not None:
                for name in ("train.npy", "train.parquet"):
                    shutil.copyfile(heard / name, part / name)
                continue
            sound = Condition(lowpass_hz=lowpass_hz)
            if condition is not None and partition == "test":
                lowpass = min((hz for hz in (lowpass_hz, condition.lowpass_hz) if hz), default=0.0)
                sound = Condition(condition.snr_db, lowpass, condition.seed)
            store = ClipStore(folder, device, condition=sound)
            started = time.monotonic()
            ahead_by = depth(device, train.prefetch)
            vectors, index = embed(trained, store, batch_size, train.precision, partition, ahead_by)
            clips, seconds = clips + len(index), seconds + time.monotonic() - started
            macs = macs or multiply_accumulates(trained, store)
            np.save(part / f"{partition}.npy", vectors)
            index.to_parquet(part / f"{partition}.parquet", index=False)
    facts = {
        "parameters": sum(p.numel() for network in trained.networks.values() for p in network.parameters()),
        "networks": len(trained.networks),
        "macs_per_clip": macs,
        "clips_per_second": round(clips / seconds, 1),
    }
    with atomic_file(cost) as file:
        file.write_text(json.dumps(facts, indent=2) + "\n")


def embed(
    trained: Trained,
    store: ClipStore,
    batch_size: int,
    precision: str = "float32",
    desc: str = "clips",
    ahead_by: int = 0,
) -> tuple[np.ndarray, pd.DataFrame]:
    """Embeddings float32 [clips, D] of a store's clips in its order, and a table of them with the method's own scores.

    Args:
        ahead_by: batches that a thread reads while the device computes.

    Raises:
        AuscultError: clips of another length than the model's, a machine it was not trained on, a result that is not finite.
    """
    method = trained.method
    embedding: np.ndarray | None = None
    own: dict[str, np.ndarray] = {}
    kept = np.zeros(len(store), bool)
    bar = tqdm(total=len(store), desc=f"embed {desc}", unit="clip", mininterval=0.5 if sys.stderr.isatty() else 15.0)
    for name, clips in method.groups(store.index).items():
        if name in trained.skipped:
            bar.update(len(clips))
            continue
        if name not in trained.networks:
            raise AuscultError(f"no network for machine `{name}`", fix="train on a profile that has this machine")
        shape = trained.shapes[name]
        if store.samples != shape.samples:
            fix = f"use clips of {shape.samples} samples, or train on this length"
            raise AuscultError(f"clips of {store.samples} samples, a model for {shape.samples}", fix=fix)
        candidates = candidates_of(clips, trained.classes[name])
        rows = clips.index.to_numpy(copy=True)
        kept[rows] = True
        waiting: list[tuple[np.ndarray, torch.Tensor, dict[str, torch.Tensor]]] = []
        with torch.inference_mode():
            for part, batch in _each(trained, store, rows, candidates, batch_size, ahead_by):
                with torch.autocast(store.device.type, torch.bfloat16, enabled=precision == "bfloat16"):
                    vectors, scores = trained.networks[name].embed(batch)
                waiting.append((part, vectors, scores))
                if len(waiting) == TOGETHER or part[-1] == rows[-1]:  # the host waits for the device now and then
                    for clips_of, vectors, scores in waiting:
                        if embedding is None:
                            embedding = np.empty((len(store), vectors.shape[1]), np.float32)
                        embedding[clips_of] = vectors.float().cpu().numpy()
                        for key, values in scores.items():
                            column = own.setdefault(key, np.full(len(store), np.nan))
                            column[clips_of] = values.double().cpu().numpy()
                    waiting.clear()
                bar.update(len(part))
    bar.close()
    embedding = np.empty((len(store), 1), np.float32) if embedding is None else embedding
    if not np.isfinite(embedding[kept]).all():
        raise AuscultError("embeddings hold NaN or infinity", fix="train again with a lower `lr`")
    index = store.index[["clip_id", "set", "machine", "unit", "domain"]].assign(**own)
    return embedding[kept], index[kept].reset_index(drop=True)


def multiply_accumulates(trained: Trained, store: ClipStore) -> int:
    """Multiply-accumulates of one clip's embedding and own score (convolutions and matrix products), by torch's counter."""
    for name, clips in trained.method.groups(store.index).items():
        if name in trained.networks:
            rows = clips.index.to_numpy(copy=True)[:1]
            batch = _batch(trained, store, rows, candidates_of(clips.iloc[:1], trained.classes[name]))
            with FlopCounterMode(display=False) as counter, torch.no_grad():
                trained.networks[name].embed(batch)
            return int(counter.get_total_flops()) // 2
    return 0


def _each(
    trained: Trained, store: ClipStore, rows: np.ndarray, candidates: np.ndarray, size: int, ahead_by: int
) -> Iterator[tuple[np.ndarray, Batch]]:
    """`size` of the store's `rows` at a time, in order, and their batch."""
    parts = [slice(start, start + size) for start in range(0, len(rows), size)]
    kinds = store.streamed(trained.method.mel(trained.settings), trained.method.wave(trained.settings))
    pin = store.device.type == "cuda"

    def gather(part: slice) -> Raw:
        return store.gather(kinds, torch.from_numpy(rows[part]), None, 0, pin)

    for part, raw in ahead(parts, gather, store.device, ahead_by if kinds else 0):
        yield rows[part], _batch(trained, store, rows[part], candidates[part], raw)


def _batch(
    trained: Trained, store: ClipStore, rows: np.ndarray, candidates: np.ndarray, raw: Raw | None = None
) -> Batch:
    frontend, where = trained.method.mel(trained.settings), torch.from_numpy(rows)
    needs_wave = trained.method.wave(trained.settings)
    return Batch(
        candidates=torch.from_numpy(candidates).to(store.device, non_blocking=True),
        wave=store.wave(where, raw) if needs_wave else None,
        valid=store.valid(where) if needs_wave else None,
        mel=store.mel(where, frontend, raw=raw) if frontend else None,
    )
