"""Where the data lies changes nothing: on the device, in the memory map, read ahead; and what fits is counted rightly."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

import auscult.data.resident
import auscult.training.embed
import auscult.training.loop
from auscult.data.store import ClipStore
from auscult.files import digest
from auscult.methods import load_method
from auscult.settings.training import Train
from auscult.training.arm import train_arm
from auscult.training.batches import Loader
from auscult.training.embed import embed_arm
from support.methods import small

CASES = {
    "windows stored": ("ae", {"frontend": "osscl"}),
    "windows computed": ("idnn", {}),
    "waveform and log-mel stored": ("os_scl", {}),
    "waveform, log-mel computed": ("stgram_mfn", {}),
    "low-passed": ("mfn", {"lowpass_hz": 3000.0}),
}


def made(case: str, packed: Path, out: Path) -> list[str]:
    """Digests of the model and the embeddings."""
    name, changes = CASES[case]
    settings = type(small(name)).model_validate({**small(name, epochs=1).model_dump(), **changes})
    train = Train(threads=1, device="cpu", checkpoint_seconds=0)
    train_arm(settings, "unit", train, 1, packed / "train", out / "m", out / "r", "code")
    features = {part: packed / part for part in ("train", "test")}
    embed_arm(out / "m", features, out / "e", 4, train)
    return [digest(out / "m"), digest(out / "e")]


@pytest.mark.parametrize("case", CASES)
def test_resident_streamed_and_read_ahead_give_the_same_bytes(
    case: str, packed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    plain = made(case, packed, tmp_path / "plain")
    assert "data set" not in capsys.readouterr().err
    with monkeypatch.context() as patch:
        patch.setattr(auscult.data.resident, "free_memory", lambda device: 10**9)
        patch.setattr(auscult.data.resident, "PIECE", 100_000)  # three clips
        assert made(case, packed, tmp_path / "resident") == plain
        assert "kept on the device" in capsys.readouterr().err
    with monkeypatch.context() as patch:
        patch.setattr(auscult.data.resident, "free_memory", lambda device: 1000)
        for module in (auscult.training.loop, auscult.training.embed):
            patch.setattr(module, "depth", lambda device, prefetch: 3)
        assert made(case, packed, tmp_path / "ahead") == plain
        assert "streamed from disk" in capsys.readouterr().err


def test_arrays_share_the_room(
    packed: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """20 clips of 16000 samples are 640,000 bytes of audio, and 128 x 32 values each 327,680 bytes of log-mel."""
    for free, streamed in (
        (2_000_000, []),
        (1_500_000, ["osscl"]),
        (1_000_000, ["audio"]),
        (500_000, ["audio", "osscl"]),
    ):
        monkeypatch.setattr(auscult.data.resident, "free_memory", lambda device, free=free: free)
        store = ClipStore(packed / "train", "cpu", 0.5)
        assert store.streamed("osscl", True) == streamed, free
        assert store.streamed("osscl", True) == streamed  # decided once, and said once
        lines = capsys.readouterr().err.splitlines()
        assert [" streamed " in line for line in lines] == ["audio" in streamed, "osscl" in streamed]
        assert f"{free / 1e9:.2f} GB free" in lines[0]
        assert store.wave(torch.tensor([3, 1])).shape == (2, 16000)
    assert ClipStore(packed / "train").streamed("stgram", False) == ["audio"]  # it is computed from that
    assert ClipStore(packed / "train").streamed("", True) == ["audio"]


def test_only_what_a_method_reads_is_moved(packed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(auscult.data.resident, "free_memory", lambda device: 10**9)
    store = ClipStore(packed / "train", "cpu", 0.5)
    rows = np.arange(len(store))
    for machine in (rows[:10], rows[10:]):  # networks of several machine types share the arrays
        Loader(load_method("ae"), small("ae").model_copy(update={"frontend": "osscl"}), store, machine, rows[:10])
    assert set(store._arrays) == {"osscl"}


class Largest(TorchDispatchMode):
    """Elements of the largest tensor that owns its memory among the results of operations."""

    def __init__(self) -> None:
        super().__init__()
        self.elements = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        out = func(*args, **(kwargs or {}))
        for tensor in out if isinstance(out, (tuple, list)) else [out]:
            if isinstance(tensor, Tensor):
                self.elements = max(self.elements, tensor.untyped_storage().nbytes() // tensor.element_size())
        return out


@pytest.mark.parametrize("resident", [False, True])
@pytest.mark.parametrize("name", ["ae", "idnn"])
def test_no_more_windows_exist_than_a_batch_holds(
    name: str, resident: bool, packed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All windows of the 20 clips would be 20 x 28 x 5 x 128 values; the stored arrays themselves are read, not copied."""
    monkeypatch.setattr(auscult.data.resident, "free_memory", lambda device: 10**9 if resident else None)
    method, settings = load_method(name), small(name).model_copy(update={"frontend": "osscl"})
    store = ClipStore(packed / "train", "cpu", 0.5)
    rows = np.arange(len(store))
    load = Loader(method, settings, store, rows, np.zeros(20, np.int64))
    load(rows[:2], rows[:2])  # whatever is opened or moved at the first batch
    with Largest() as seen:
        batch = load(rows[:16] % 5, rows[:16])
    assert batch.mel is not None
    assert batch.mel.shape == (16, 128, 5)
    stored = (store._array("osscl").resident if resident else store._array("osscl")._parts[0]).numel()  # type: ignore[union-attr]
    assert seen.elements in (batch.mel.numel(), stored)  # a view counts as what it looks at
    assert stored < 20 * 28 * 5 * 128 / 3


LARGE = """
import resource, sys, torch
from pathlib import Path
from auscult.data.store import ClipStore
store = ClipStore(Path(sys.argv[1]))
store.wave(torch.arange(4))
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
for start in range(0, len(store), len(store) // 20):
    wave = store.wave(torch.arange(start, min(start + 4, len(store))))
    assert not wave.any()
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="sparse files, and memory as Linux counts it")
def test_a_data_set_larger_than_the_machine_s_memory_is_read_in_place(packed: Path, tmp_path: Path) -> None:
    """A file with nothing in it but its length, twice the memory of this machine."""
    clips, memory = 100_000, os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    samples = int(2 * memory / 2 / clips) // 1000 * 1000
    (tmp_path / "audio").mkdir()
    path = tmp_path / "audio" / "fan.npy"
    with open(path, "wb") as file:
        header = {"descr": "<i2", "fortran_order": False, "shape": (clips, samples)}
        np.lib.format.write_array_header_1_0(file, header)
        try:
            file.truncate(file.tell() + clips * samples * 2)
        except OSError:
            pytest.skip("no sparse files of this length here")
    index = pd.read_parquet(packed / "train" / "index.parquet").iloc[[0] * clips].reset_index(drop=True)
    index.assign(machine="fan", valid=samples).to_parquet(tmp_path / "index.parquet", index=False)
    (tmp_path / "facts.json").write_text(json.dumps({"sample_rate": 16000, "samples": samples, "channel": 0}))
    run = subprocess.run(
        [sys.executable, "-c", LARGE, str(tmp_path)],
        capture_output=True,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert run.returncode == 0, run.stderr
    touched = 20 * 4 * samples * 2
    assert int(run.stdout) < 4 * touched < memory / 20  # what was asked for, as int16 and as one batch of float32
