"""The benchmarks run and write what they say; and a regression is visible: two paths compared in one run, never seconds."""

from __future__ import annotations

import csv
import math
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile
import torch

from auscult.data.manifest import build_manifest
from auscult.data.pack import pack
from auscult.data.store import ClipStore
from auscult.features import spectrogram
from auscult.settings.params import load_params
from auscult.settings.schema import Data
from support.packed import tiny_profile

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / "benchmarks"
COLUMNS = ["benchmark", "variant", "value", "unit", "reference", "ratio", "machine", "versions"]


def benchmark(script: str, *arguments: str, table: Path) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"PYTHONPATH": str(ROOT / "src"), "BENCHMARKS_TABLE": str(table), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, str(FOLDER / f"{script}.py"), *arguments]
    return subprocess.run(command, env=environment, capture_output=True, text=True, cwd=table.parent)


def read(table: Path) -> list[dict[str, str]]:
    with table.open(newline="") as file:
        rows = list(csv.DictReader(file))
        assert list(rows[0]) == COLUMNS
    keys = [(row["benchmark"], row["variant"], row["unit"]) for row in rows]
    assert len(set(keys)) == len(keys)
    for row in rows:
        assert row["benchmark"], row
        assert row["variant"], row
        assert row["unit"], row
        assert math.isfinite(float(row["value"])), row
        assert (row["ratio"] == "") == (row["reference"] == ""), row
        assert row["machine"], row
        assert "torch" in row["versions"], row
    return rows


def test_one_command_writes_rows_and_a_picture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    table = tmp_path / "b.csv"
    chosen = ("epoch", "growth", "neighbours", "strided")
    done = benchmark("run", "--quick", *(f"--only={name}" for name in chosen), "--csv", str(table), table=table)
    assert done.returncode == 0, done.stdout + done.stderr
    rows = read(table)
    assert {"epoch", "growth with clips", "growth with length", "kNN", "strided convolution", "memory"} == {
        row["benchmark"] for row in rows
    }
    phases = {row["variant"].split(": ")[-1] for row in rows if row["benchmark"] == "epoch"}
    assert {"log-mel", "forward", "backward", "update", "validation", "rest"} <= phases
    shares = [float(row["ratio"]) for row in rows if row["benchmark"] == "epoch" and row["ratio"]]
    assert sum(shares) == pytest.approx(1, abs=1e-2)
    powers = [row for row in rows if row["unit"] == "exponent of time" and row["benchmark"] == "growth with clips"]
    assert len(powers) == 8
    assert table.with_suffix(".png").stat().st_size > 10_000

    monkeypatch.syspath_prepend(str(FOLDER))
    from common import record

    record([{**rows[0], "value": 1}], table)
    assert len(read(table)) == len(rows), "a row is replaced by its next measurement"
    assert {row["value"] for row in read(table) if row["variant"] == rows[0]["variant"]} >= {"1"}


def test_a_trial_does_not_reach_the_results_and_a_failure_is_told(tmp_path: Path) -> None:
    refused = benchmark("run", "--quick", table=tmp_path / "b.csv")
    assert refused.returncode == 2
    assert "--csv" in refused.stderr
    table = tmp_path / "c.csv"
    failed = benchmark(
        "run", "--quick", "--only=loading_vs_asdkit", "--asdkit", str(tmp_path), "--csv", str(table), table=table
    )
    assert failed.returncode == 1
    assert "No module named 'asdkit" in failed.stdout
    left_out = benchmark("run", "--quick", "--only=epoch_vs_authors", "--csv", str(table), table=table)
    assert left_out.returncode == 0
    assert "left out: it needs --authors" in left_out.stdout


def test_the_peak_of_a_program_is_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not that of whoever starts it, which Linux gives it to begin with."""
    monkeypatch.syspath_prepend(str(FOLDER))
    from common import spawned

    ours = np.ones(2**27, np.uint8)  # 128 MiB
    wall, processor, peak = spawned(tmp_path, "-S", "-c", "import time; time.sleep(0.2)")
    assert 0 < peak < len(ours) / 2**20, "MiB"
    assert wall > 0.2 > processor > 0
    with pytest.raises(RuntimeError, match="failed"):
        spawned(tmp_path, "-c", "raise SystemExit(3)")


def test_every_command_is_registered() -> None:
    listed = dict(re.findall(r'^    "(\w+)": Benchmark\(\s*"(\w+)"', (FOLDER / "run.py").read_text(), re.M))
    there = {}
    for path in FOLDER.glob("*.py"):
        found = re.search(r"^    command\(\{(.*?)\}\)", path.read_text(), re.M | re.S)
        there |= dict.fromkeys(re.findall(r'"(\w+)":', found[1]) if found else (), path.stem)
    assert listed == there
    others = {
        "run", "common", "counting", "calibrate_synthetic", "coverage", "parity", "valve_splits", "real_claims", "updates",
        "verdicts", "evening", "compare_valve", "fault_retention",
    }  # fmt: skip
    assert {path.stem for path in FOLDER.glob("*.py")} == {*there.values(), *others}


def test_claims_on_real_machines_are_of_arms_that_there_are_and_the_page_shows_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.syspath_prepend(str(FOLDER))
    import real_claims

    arms = set(load_params(FOLDER.parent).arms)
    assert {name for claim in real_claims.CLAIMS for name in (claim.arm, claim.other)} <= arms
    text = real_claims.PAGE.read_text()
    assert real_claims.page(text) == text
    assert len(pd.read_csv(real_claims.TABLE)) == len(real_claims.SHOWN) * len(real_claims.CLAIMS)


def test_paper_scale_runs_dry_and_beside_an_older_commit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Everything but the GPU: a training, its kernels, extrapolation and prediction; and a child with the package of a commit."""
    monkeypatch.syspath_prepend(str(FOLDER))
    import paper_scale

    def main(*arguments: str) -> tuple[pd.DataFrame, str]:
        out = tmp_path / "out"
        options = ["--tiny", "--device", "cpu", "--steps", "1", "--no-record", "--out", str(out), *arguments]
        monkeypatch.setattr(sys, "argv", ["paper_scale", *options])
        paper_scale.main()
        assert (out / "paper_scale.png").stat().st_size > 5_000
        return pd.read_csv(out / "kernels.csv"), (out / "paper_scale.md").read_text()

    kernels, page = main("--cases", "logmel_os_scl", "--set", "precision=float32")
    assert {"convolution", "norm", "copy", "optimiser"} <= set(kernels["kind"])
    assert 0.9 < kernels["share"].sum() <= 1.0001
    convolutions = kernels[kernels["kernel"].eq("aten::convolution_backward")]
    assert convolutions["times per step"].tolist() == [2 + 6 * 3 + 3], "MobileFaceNet's, once in a step"
    assert "| logmel_os_scl | now |" in page

    kernels, page = main("--cases", "han", "--against", "HEAD")
    assert set(kernels["of"]) == {"HEAD", "now"}
    assert "| han | HEAD |" in page


def test_paper_scale_says_what_it_leaves_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(FOLDER))
    import paper_scale

    arguments = paper_scale.argparse.Namespace(cases=["han"], seconds=0.0, tiny=False)
    found = list(paper_scale.all_cases(arguments, {"now": ROOT}))
    assert found == [("han", "now", "not begun: 0 s were left")]
    assert "| han | now | not begun: 0 s were left |" in paper_scale.page({"han": {"now": found[0][2]}})
    with pytest.raises(paper_scale.AuscultError, match="neither"):
        paper_scale.older("no-such-commit", ROOT)
    assert paper_scale.older(str(ROOT), ROOT) == ROOT
    assert len(paper_scale.CASES) * paper_scale.LEAST <= 280, "each has its turn"


def test_paper_scale_predicts_for_one_card_and_its_own_knobs_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """And what was measured otherwise is a row of its own, which takes no other's place."""
    monkeypatch.syspath_prepend(str(FOLDER))
    import paper_scale

    facts = {"device": "NVIDIA H200", "knobs": paper_scale.FAST | {"device": "cuda", "threads": 16}, "minutes": 20.0,
             "steps": 20, "ms per step": 10.0, "MiB": 1.0, "of peak FLOP/s": 0.1, "of peak bytes/s": 0.1}  # fmt: skip
    variants = set[object]()
    for change, expected in (
        ({}, paper_scale.CASES["han"].predicted), ({"device": "NVIDIA H100"}, ""),
        ({"knobs": facts["knobs"] | {"compile": "none"}}, ""), ({"knobs": facts["knobs"] | {"matmul": "highest"}}, ""),
    ):  # fmt: skip
        found = facts | change
        first, second, _ = paper_scale.rows_of("han", {"now": found}, False)
        assert first["reference"] == expected
        assert f"| 20.0 | {expected} | 35 |" in paper_scale.page({"han": {"now": found}})
        variants.add(second["variant"])
    assert len(variants) == 4


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("void cudnn::ops::nchwToNhwcKernel<__nv_bfloat16>", "memory order"),
        ("void cudnn::ops::nhwcToNchwKernel<float>", "memory order"),
        ("sm80_xmma_wgrad_implicit_gemm_bf16bf16_nhwckrsc_nhwc", "convolution"),
        ("nvjet_tst_128x64_64x8_bz_NTN", "product"),
        ("void at::native::batch_norm_backward_reduce_channels_last_kernel", "norm"),
        ("triton_poi_fused_add_3", "compiled"),
        ("Memcpy HtoD (Pageable -> Device)", "copy"),
        ("void at::native::elementwise_kernel", "other"),
    ],
)
def test_kernels_by_name(name: str, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(FOLDER))
    import paper_scale

    assert paper_scale.kind_of(name) == kind


# ------------------------------------------------------------------------------------------------- two paths in one run
def ratio(slow: Callable[[], object], fast: Callable[[], object], turns: int = 7) -> float:
    """How often `fast` could be done while `slow` is: median of turns, by processor time, which other loads hardly change."""

    def spent(work: Callable[[], object]) -> float:
        start = time.process_time()
        work()
        return time.process_time() - start

    slow(), fast()
    return float(np.median([spent(slow) / max(spent(fast), 1e-6) for _ in range(turns)]))


@pytest.fixture(scope="module")
def noise(module_path: Path) -> tuple[ClipStore, list[Path]]:
    """64 packed clips of 2 s, log-mel packed, and their files in the store's order."""
    folder, rng = module_path / "noise", np.random.default_rng(0)
    names = [f"fan/train/normal_id_00_{i:08d}.wav" for i in range(64)] + ["fan/test/normal_id_00_00000000.wav"]
    for name in names:
        (folder / "raw" / name).parent.mkdir(parents=True, exist_ok=True)
        audio = np.round(3000 * rng.standard_normal(32_000)).clip(-32768, 32767).astype(np.int16)
        soundfile.write(folder / "raw" / name, audio, 16000)
    profile = tiny_profile(clip_seconds=2.0)
    clips, _ = build_manifest(profile, folder / "raw", workers=1)
    clips = clips[clips["partition"] == "train"]
    pack(clips, folder / "raw", folder / "train", profile, Data(profile="tiny", workers=1), ["osscl"])
    return ClipStore(folder / "train"), [folder / "raw" / path for path in clips["path"]]


def decoded(path: Path) -> torch.Tensor:
    return torch.from_numpy(soundfile.read(path, dtype="float32")[0])


def test_gathering_beats_decoding_and_transforming(noise: tuple[ClipStore, list[Path]]) -> None:
    """Some sixty times in truth: a batch is copied, and not decoded and transformed clip by clip as the peers do it."""
    store, files = noise
    rows = torch.from_numpy(np.random.default_rng(1).permutation(len(files)))

    def usual() -> torch.Tensor:
        return torch.stack([spectrogram(decoded(files[at]), "osscl") for at in rows.tolist()])

    def gather() -> torch.Tensor:
        return store.mel(rows, "osscl")

    torch.testing.assert_close(gather(), usual())
    assert ratio(usual, gather) > 3


def test_gathering_opens_no_file(noise: tuple[ClipStore, list[Path]], monkeypatch: pytest.MonkeyPatch) -> None:
    """The structure behind the ratio above, counted: after the first batch an epoch reads the memory map and nothing else."""
    store, files = noise
    rows = torch.arange(len(files))
    store.mel(rows, "osscl"), store.wave(rows)

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("a file is opened")

    monkeypatch.setattr("builtins.open", refuse)
    monkeypatch.setattr(soundfile, "SoundFile", refuse)
    monkeypatch.setattr(np, "load", refuse)
    store.mel(rows, "osscl"), store.wave(rows)


@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
def test_neighbours_are_searched_in_chunks(metric: str) -> None:
    """In a child whose memory may not hold all distances at once (12,000 x 12,000 float32 are 550 MiB)."""
    script = """
import resource, sys
import numpy as np
from auscult.scoring.knn import nearest
rng = np.random.default_rng(0)
bank, queries = (rng.standard_normal((12_000, 8), dtype=np.float32) for _ in range(2))
nearest(bank[:50], queries[:50], 1, sys.argv[1])
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
nearest(bank, queries, 1, sys.argv[1])
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)
"""
    environment = os.environ | {"PYTHONPATH": str(ROOT / "src"), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-c", script, metric], env=environment, capture_output=True, text=True, check=True
    )
    assert int(done.stdout) < 275, "MiB: half of all distances"
