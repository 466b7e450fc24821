"""Putting recordings in place: used where they lie, or generated."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from auscult.data.download import fetch
from auscult.data.inventory import describe, root_of
from auscult.errors import AuscultError
from support.packed import tiny_profile
from support.projects import make_project, run_stage
from support.trees import write_tree_2020

SYNTHETIC: dict[str, Any] = {
    "kind": "synthetic", "version": 1, "seed": 7, "machines": {"fan": {"dev": ["00"]}},
    "train_clips": 2, "test_normal": 1, "test_anomaly": 1, "snr_db": 6.0, "severity": 1.0,
}  # fmt: skip


def local(path: object) -> dict[str, Any]:
    return {"kind": "local", "path": str(path)}


def test_local_recordings_are_listed_and_left_where_they_are(tmp_path: Path) -> None:
    write_tree_2020(tmp_path / "there", seconds=0.1)
    (tmp_path / "there" / "notes.txt").write_text("no recording")
    (tmp_path / "there" / "folder.wav").mkdir()
    before = sorted(tmp_path.rglob("*"))
    raw = tmp_path / "data" / "raw"
    fetch(tiny_profile(source=local(tmp_path / "there")), raw)
    assert [path.name for path in raw.iterdir()] == ["source.json"]
    facts = json.loads((raw / "source.json").read_text())
    files = {
        path.relative_to(tmp_path / "there").as_posix(): path.stat().st_size
        for path in (tmp_path / "there").rglob("*.wav")
    }
    del files["folder.wav"]
    assert facts == {"path": str(tmp_path / "there"), "bytes": files}
    assert root_of(raw) == tmp_path / "there"
    assert [path for path in sorted(tmp_path.rglob("*")) if tmp_path / "data" not in [path, *path.parents]] == before


def test_a_relative_path_is_relative_to_the_checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also in the temporary workspace of a queued experiment, where DVC_ROOT names the checkout."""
    write_tree_2020(tmp_path / "checkout" / "recordings", {"fan": ["00"]}, seconds=0.1)
    (tmp_path / "workspace").mkdir()
    monkeypatch.chdir(tmp_path / "workspace")
    monkeypatch.setenv("DVC_ROOT", str(tmp_path / "checkout"))
    fetch(tiny_profile(source=local("recordings")), Path("data/raw"))
    assert root_of(Path("data/raw")) == tmp_path / "checkout" / "recordings"
    assert json.loads(Path("data/raw/source.json").read_text())["path"] == "recordings"


def test_a_new_inventory_replaces_the_old(tmp_path: Path) -> None:
    write_tree_2020(tmp_path / "there", {"fan": ["00"]}, seconds=0.1)
    profile = tiny_profile(source=local(tmp_path / "there"))
    fetch(profile, tmp_path / "raw")
    next((tmp_path / "there").rglob("*.wav")).unlink()
    fetch(profile, tmp_path / "raw")
    assert len(json.loads((tmp_path / "raw" / "source.json").read_text())["bytes"]) == 9


def test_a_dead_link_is_left_for_the_manifest_to_report(tmp_path: Path) -> None:
    write_tree_2020(tmp_path / "there", {"fan": ["00"]}, seconds=0.1)
    (tmp_path / "there" / "fan" / "train" / "normal_id_00_00000009.wav").symlink_to("nowhere")
    fetch(tiny_profile(source=local(tmp_path / "there")), tmp_path / "raw")
    assert (tmp_path / "raw" / "source.json").is_file()


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ({"kind": "ftp", "path": "x"}, "unknown kind of source `ftp`"),
        ({}, "unknown kind of source `None`"),
        ({"kind": "local"}, "source.path: Field required"),
        ({"kind": "local", "path": "x", "pth": "y"}, "source.pth: unknown key (did you mean `path`?)"),
        ({**SYNTHETIC, "train_clip": 3}, "source.train_clip: unknown key (did you mean `train_clips`?)"),
        (local("/nowhere/at/all"), "the folder of recordings is not there"),
    ],
)
def test_bad_sources(tmp_path: Path, source: dict[str, Any], message: str) -> None:
    with pytest.raises(AuscultError) as caught:
        fetch(tiny_profile(source=source), tmp_path / "raw")
    assert message in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_without_recordings(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "a.mp3").touch()
    with pytest.raises(AuscultError, match=r"no recordings \(\.wav, \.flac\)"):
        fetch(tiny_profile(source=local(tmp_path / "there")), tmp_path / "raw")


@pytest.mark.parametrize("workers", [1, 2])
def test_the_download_stage_generates_with_any_number_of_processes(tmp_path: Path, workers: int) -> None:
    """Worker processes import the stage script again: it must not run there."""
    project = make_project(
        tmp_path / "project", {"source": SYNTHETIC, "sets": {"dev": "dev"}}, {"data": {"workers": workers}}
    )
    stale = project / "data" / "tiny" / ".raw.0123abcd.part"
    stale.mkdir(parents=True)  # of a process that was killed
    run_stage(project, "download")
    raw = project / "data" / "tiny" / "raw"
    assert len(list(raw.rglob("*.wav"))) == 4
    assert root_of(raw) == raw
    assert not stale.exists()


def test_describe_and_root_of_agree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DVC_ROOT", raising=False)
    for path, root in ((".", tmp_path), ("/abs/olute", Path("/abs/olute")), ("../near", Path("../near"))):
        describe(tmp_path, path, {})
        assert root_of(tmp_path) == root
