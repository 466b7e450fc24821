"""Bad input through the stage scripts: one clear message, exit status not 0, nothing half-written."""

from __future__ import annotations

import os
import resource
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from auscult.settings.paths import Paths
from support.forks import ended, forked, send, wait_for
from support.projects import make_project, run_here, run_script
from support.trees import noise, write, write_tree_2020

NAN = np.full(3200, np.nan)


def left_behind(project: Path) -> list[str]:
    """Everything below data/, except what whole stages left before."""
    data = project / "data"
    return sorted(
        path.relative_to(data).as_posix() for path in data.rglob("*") if path.is_file() or path.name.endswith(".part")
    )


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """Recordings of 0.2 s in place, the download stage run."""
    write_tree_2020(tmp_path / "recordings", seconds=0.2)
    make_project(tmp_path, {"clip_seconds": 0.2})
    run_here(tmp_path, "download")
    return tmp_path


def failing(project: Path, stage: str, *arguments: str) -> str:
    """stderr of a stage that must fail with a message, not a traceback."""
    result = run_here(project, stage, *arguments, check=False)
    return told(result.returncode, result.stderr)


def told(status: int | None, said: str) -> str:
    assert status == 1, said
    assert "Traceback" not in said
    message = said[said.index("error: ") :]
    assert "to do: " in message
    return message


# ------------------------------------------------------------------------------------------------------------ recordings
def test_bad_recordings_are_listed_all_at_once(project: Path) -> None:
    train, test = (project / "recordings" / "fan" / part for part in ("train", "test"))
    whole = next(train.iterdir()).read_bytes()
    (train / "normal_id_00_00000010.wav").write_bytes(whole[:3000])
    (train / "normal_id_00_00000011.wav").write_bytes(b"")
    write(train / "normal_id_00_00000012.wav", NAN, subtype="FLOAT")
    write(train / "normal_id_00_00000013.wav", np.zeros(0, np.int16))
    (train / "clip 14.wav").write_bytes(whole)
    (train / "normal_id_00_00000015.wav").symlink_to("nowhere.wav")
    (test / "normal_id_00_00000016.wav").write_bytes(b"a page of HTML instead of a recording" * 9)
    flac = write(test / "normal_id_00_00000017.flac", noise(np.random.default_rng(0), 2.0))
    flac.write_bytes(flac.read_bytes()[:9000])
    message = failing(project, "manifest")
    assert "8 file(s) cannot be used" in message
    lines = message.splitlines()
    for name, reason in {
        "normal_id_00_00000010.wav": "cut short: 3000 of 6444 bytes",
        "normal_id_00_00000011.wav": "empty file",
        "normal_id_00_00000012.wav": "NaN",
        "normal_id_00_00000013.wav": "no samples",
        "clip 14.wav": "not named",
        "normal_id_00_00000015.wav": "cannot be read",
        "normal_id_00_00000016.wav": "not a readable recording",
        "normal_id_00_00000017.flac": "",
    }.items():
        assert [line for line in lines if f"{name}: " in line and reason in line], name
    assert left_behind(project) == ["tiny/raw/source.json"]


def test_a_long_list_is_shortened_but_counted(project: Path) -> None:
    for number in range(30):
        (project / "recordings" / "fan" / "train" / f"bad {number}.wav").touch()
    message = failing(project, "manifest")
    assert "30 file(s) cannot be used" in message
    assert "and 10 more" in message


def test_recordings_that_went_bad_after_the_manifest(project: Path) -> None:
    run_here(project, "manifest")
    train = sorted((project / "recordings" / "fan" / "train").iterdir())
    train[0].unlink()
    train[1].write_bytes(train[1].read_bytes()[:20])
    valve = sorted((project / "recordings" / "valve" / "train").iterdir())[0]
    write(valve, NAN, subtype="FLOAT")
    train[2].write_bytes(train[2].read_bytes()[:3000])  # its header still says 0.2 s; libsndfile reads what there is
    before = left_behind(project)
    message = failing(project, "features")
    assert "4 recording(s) cannot be decoded" in message
    for path in (*train[:3], valve):
        assert path.name in message
    assert left_behind(project) == before


def test_a_channel_that_no_recording_has(project: Path) -> None:
    run_here(project, "manifest")
    params = yaml.safe_load((project / "params.yaml").read_text())
    params["data"]["input"] = 1
    (project / "params.yaml").write_text(yaml.safe_dump(params))
    assert "has 1 channel(s), so no channel 1 (counted from 0)" in failing(project, "features")


def test_a_class_only_in_the_test_set(project: Path) -> None:
    write_tree_2020(project / "recordings", {"fan": ["07"]}, train=0, normal=1, anomaly=1, seconds=0.2, seed=9)
    message = failing(project, "manifest")
    assert "fan unit 07: test clips but not one training clip" in message
    assert left_behind(project) == ["tiny/raw/source.json"]


def test_units_with_one_clip_go_all_the_way_to_scores(tmp_path: Path) -> None:
    write_tree_2020(tmp_path / "recordings", {"fan": ["00", "02"]}, train=1, normal=1, anomaly=1, seconds=0.2)
    arm, seed = "spectral_knn", "2024"
    make_project(tmp_path, {"clip_seconds": 0.2}, {"arms": [arm]})
    for stage in ("download", "manifest", "features"):
        run_here(tmp_path, stage)
    inputs = Paths("tiny", tmp_path).inputs(arm)  # as `digests` writes it
    inputs.parent.mkdir(parents=True)
    inputs.write_text("{}")
    for stage, *words in (("train", arm, seed), ("embed", seed, arm), ("score",)):
        run_here(tmp_path, stage, *words)
    import pandas as pd

    scores = pd.read_parquet(tmp_path / "data" / "tiny" / "scores" / "project" / "spectral_knn.parquet")
    assert len(scores) == 2 * 4  # two back-ends, two units of two test clips
    assert np.isfinite(scores["score"]).all()


def test_a_stage_before_its_input(tmp_path: Path) -> None:
    make_project(tmp_path)
    for stage, needed in (("manifest", "source.json"), ("features", "clips.parquet")):
        message = failing(tmp_path, stage)
        assert needed in message
        assert "dvc repro" in message
    assert not (tmp_path / "data").exists()


# -------------------------------------------------------------------------------------------------------------- settings
@pytest.mark.parametrize("stage", ["download", "manifest", "features"])
@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"features": {"frontend": ["osscl"]}}, "features.frontend: unknown key (did you mean `frontends`?)"),
        ({"score": {"k": 0}}, "score.k: "),
        ({"tain": {}}, "unknown section `tain` (did you mean `train`?)"),
        ({"data": {"profile": "tinny"}}, "there is no profile `tinny` (did you mean `tiny`?)"),
    ],
)
def test_unknown_or_misspelt_parameters(tmp_path: Path, stage: str, changes: dict[str, Any], message: str) -> None:
    make_project(tmp_path, params_overrides=changes)
    assert message in failing(tmp_path, stage)
    assert not (tmp_path / "data").exists()


def test_unknown_front_end(project: Path) -> None:
    run_here(project, "manifest")
    params = (project / "params.yaml").read_text().replace("- osscl", "- oscl")
    (project / "params.yaml").write_text(params)
    before = left_behind(project)
    assert "unknown front-end `oscl`" in failing(project, "features")
    assert left_behind(project) == before


# ------------------------------------------------------------------------------------------------------------- full disk
def with_file_limit(project: Path, stage: str, limit: int) -> None:
    """Run a stage that can write no file beyond `limit` bytes: what a full disk or a quota looks like to a program."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
    run_script(project, stage)


@pytest.mark.parametrize(
    ("stage", "limit", "output"),
    [
        ("download", 300, "raw"),
        ("manifest", 1000, "manifest/clips.parquet"),
        ("features", 20_000, "features/train"),
    ],
)
def test_file_limit_in_every_stage(project: Path, stage: str, limit: int, output: str) -> None:
    if stage == "features":
        run_here(project, "manifest")
    elif stage == "download":
        shutil.rmtree(project / "data")
        (project / "data").mkdir()
    before = left_behind(project)
    status = ended(forked(project / "log", with_file_limit, project, stage, limit))
    message = told(status, (project / "log").read_text())
    assert message.startswith("error: the disk is full, or a limit on file size is reached")
    assert f"where: data/tiny/{output}" in message
    assert left_behind(project) == before


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 512 kB, where mounting one is permitted."""
    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=512k", "tmpfs", disk], capture_output=True).returncode:
        pytest.skip("mounting a small disk needs root")
    yield disk
    subprocess.run(["umount", disk], check=True)


@pytest.mark.parametrize("kind", ["audio", "log-mel"])
def test_a_disk_that_is_really_full(tmp_path: Path, small_disk: Path, kind: str) -> None:
    """A write through a memory map would end in SIGBUS here: no message, and exit status -7."""
    seconds = (
        1.0 if kind == "audio" else 0.35
    )  # 20 clips of 32 kB do not fit; of 11 kB they do, and 3 x 6 kB more do not
    write_tree_2020(tmp_path / "recordings", {"fan": ["00"]}, train=20, normal=1, anomaly=1, seconds=seconds)
    project = make_project(
        tmp_path / "project", {"source": {"kind": "local", "path": "../recordings"}, "clip_seconds": seconds}
    )
    (project / "data").symlink_to(small_disk)
    run_here(project, "download")
    run_here(project, "manifest")
    if kind == "log-mel":
        params = (project / "params.yaml").read_text().replace("- osscl", "- osscl\n  - stgram\n  - dcase_constant")
        (project / "params.yaml").write_text(params)
    before = left_behind(project)
    free = shutil.disk_usage(small_disk).free
    status = ended(forked(project / "log", run_script, project, "features"))
    message = told(status, (project / "log").read_text())
    assert "the disk is full" in message
    assert "where: data/tiny/features/train" in message
    assert left_behind(project) == before
    assert shutil.disk_usage(small_disk).free == free


# ----------------------------------------------------------------------------------------------------------- interruption
def interrupted(project: Path, number: signal.Signals) -> tuple[int | None, str]:
    """Send a signal to the features stage while it packs; exit status and what it said."""
    process = forked(project / "log", run_script, project, "features")
    part = project / "data" / "tiny" / "features"
    wait_for(lambda: list(part.glob(".train.*.part/train/audio/*.npy")), process.is_alive)
    return send(process, number), (project / "log").read_text()


@pytest.fixture(scope="module")
def much(module_path: Path) -> Path:
    """So much to resample that a signal arrives in the middle."""
    folder, rng = module_path / "much", np.random.default_rng(0)
    for machine in ("fan", "valve"):
        for partition, count in (("train", 40), ("test", 2)):
            for clip in range(count):
                audio = noise(rng, 5.0, rate=44100)
                write(folder / "recordings" / machine / partition / f"normal_id_00_{clip:08d}.wav", audio, 44100)
    make_project(folder, {"clip_seconds": 5.0})
    run_here(folder, "download")
    run_here(folder, "manifest")
    return folder


@pytest.fixture
def slow_project(much: Path, tmp_path: Path) -> Path:
    shutil.copytree(much, tmp_path / "project", symlinks=True)
    return tmp_path / "project"


def test_ctrl_c_while_packing(slow_project: Path) -> None:
    before = left_behind(slow_project)
    status, stderr = interrupted(slow_project, signal.SIGINT)
    assert status == 130
    assert stderr.splitlines()[-1].startswith("interrupted: nothing half-written is kept")
    assert "Traceback" not in stderr
    assert left_behind(slow_project) == before


def test_kill_while_packing(slow_project: Path) -> None:
    before = left_behind(slow_project)
    status, _ = interrupted(slow_project, signal.SIGKILL)
    assert status == -signal.SIGKILL
    assert any(name.startswith("tiny/features/.train.") for name in left_behind(slow_project))
    assert not (slow_project / "data" / "tiny" / "features" / "train").exists()  # nothing a later run takes for whole
    run_here(slow_project, "features")
    names = left_behind(slow_project)
    assert not [name for name in names if ".part" in name]
    assert len(names) == len(before) + 2 * (2 + 2 * 2)  # index, facts, and two kinds for two machines, twice
    assert os.path.getsize(slow_project / "data/tiny/features/train/audio/fan.npy") == 128 + 40 * 80000 * 2
