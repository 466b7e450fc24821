"""Embeddings and native scores of every clip, from a trained arm."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from auscult import modelfolder
from auscult.classes import candidates_of
from auscult.config import Train
from auscult.data.store import ClipStore
from auscult.device import pick_device
from auscult.errors import AuscultError
from auscult.files import atomic_folder
from auscult.memory import keep_freed_memory
from auscult.methods.base import Batch
from auscult.modelfolder import Trained


def embed_arm(model: Path, features: dict[str, Path], out: Path, batch_size: int, train: Train) -> None:
    """Embed every clip of each partition in `features`; write {train,test}.npy and {train,test}.parquet into `out`.

    The parquet holds clip_id, set, machine, unit, domain and `native`, the method's own score (NaN where it has none).
    """
    torch.set_num_threads(train.threads)
    device = pick_device(train.device)
    if device.type == "cpu":
        keep_freed_memory()
    trained = modelfolder.load(model, str(device))
    with atomic_folder(out) as part:
        for partition, folder in features.items():
            store = ClipStore(folder, device)
            embedding, native = embed(trained, store, batch_size, train.precision, partition)
            np.save(part / f"{partition}.npy", embedding)
            index = store.index[["clip_id", "set", "machine", "unit", "domain"]].assign(native=native)
            index.to_parquet(part / f"{partition}.parquet", index=False)


def embed(
    trained: Trained, store: ClipStore, batch_size: int, precision: str = "float32", desc: str = "clips"
) -> tuple[np.ndarray, np.ndarray]:
    """Embeddings float32 [clips, D] and native scores float64 [clips] of a store, in its order.

    Raises:
        AuscultError: clips of another length than the model's, a machine it was not trained on, a result that is not finite.
    """
    method, settings = trained.method, trained.settings
    frontend, needs_wave = method.mel(settings), method.wave(settings)
    embedding: np.ndarray | None = None
    native = np.full(len(store), np.nan)
    bar = tqdm(total=len(store), desc=f"embed {desc}", unit="clip", mininterval=0.5 if sys.stderr.isatty() else 15.0)
    for name, clips in method.groups(store.index).items():
        if name not in trained.networks:
            raise AuscultError(f"no network for machine `{name}`", fix="train on a profile that has this machine")
        shape = trained.shapes[name]
        if store.samples != shape.samples:
            fix = f"use clips of {shape.samples} samples, or train on this length"
            raise AuscultError(f"clips of {store.samples} samples, a model for {shape.samples}", fix=fix)
        candidates = candidates_of(clips, trained.classes[name])
        rows = clips.index.to_numpy(copy=True)
        with torch.inference_mode():
            for start in range(0, len(rows), batch_size):
                part = slice(start, start + batch_size)
                where = torch.from_numpy(rows[part])
                batch = Batch(
                    candidates=torch.from_numpy(candidates[part]).to(store.device),
                    wave=store.wave(where) if needs_wave else None,
                    mel=store.mel(where, frontend) if frontend else None,
                )
                with torch.autocast(store.device.type, torch.bfloat16, enabled=precision == "bfloat16"):
                    vectors, scores = trained.networks[name].embed(batch)
                if embedding is None:
                    embedding = np.empty((len(store), vectors.shape[1]), np.float32)
                embedding[rows[part]] = vectors.float().cpu().numpy()
                if scores is not None:
                    native[rows[part]] = scores.double().cpu().numpy()
                bar.update(len(where))
    bar.close()
    assert embedding is not None
    if not np.isfinite(embedding).all():
        raise AuscultError("embeddings hold NaN or infinity", fix="train again with a lower `lr`")
    return embedding, native
