"""Recordings in folders and stores: found, read, and told of where a store does not give them."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

pytest.importorskip("distributed", reason="Dask is not installed (pip install 'auscult[cluster]')")

import fsspec

from auscult.cluster import fleet
from auscult.cluster.archive import Clip, find, store_of
from auscult.cluster.output import Output
from auscult.detector.bundle import Bundle
from auscult.detector.score import score_file
from auscult.detector.stream import below
from auscult.errors import AuscultError
from support.fleet import CLIPS, rows
from support.trees import noise, write


def test_a_recording_that_the_store_refuses_is_tried_again_next_time(
    fitted: Bundle, archive: Path, here: str, tmp_path: Path
) -> None:
    store = fsspec.filesystem("memory")
    for name in ("a.wav", "secret.wav"):
        store.pipe_file(f"/in/{name}", (archive / "day0" / "00.wav").read_bytes())
    out = str(tmp_path / "out")
    for before in (0, 1):
        outcome = fleet.score_archive(fitted.folder, ["refusing://in"], here, out)
        assert (outcome.before, outcome.scored) == (before, 1 - before)
        assert outcome.failed == [("refusing://in/secret.wav", "AccessDenied")]


@pytest.mark.parametrize(
    ("place", "when"),
    [("here", "before it is read"), ("here", "while it is scored"), ("in a store", "before it is read")],
)
def test_a_recording_that_is_replaced_after_it_was_listed(
    place: str, when: str, fitted: Bundle, here: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By another one of equal length: it gets no row, and the next run judges what is there then."""
    folder = str(tmp_path / "in") if place == "here" else "memory://replaced"
    store, path = store_of(folder)
    for number in range(2):
        write(tmp_path / "first" / f"{number}.wav", noise(np.random.default_rng(number), 0.3, 300.0))
    write(tmp_path / "other.wav", noise(np.random.default_rng(7), 0.3, 900.0))
    for source in (tmp_path / "first").iterdir():
        store.makedirs(path, exist_ok=True)
        store.pipe_file(f"{path}/{source.name}", source.read_bytes())
    real_find, real_score = fleet.find, score_file

    def replaced(sources: list[str]) -> Iterator[Clip]:
        clips = list(real_find(sources))
        store.pipe_file(f"{path}/1.wav", (tmp_path / "other.wav").read_bytes())
        return iter(clips)

    def scored_slowly(bundle: Bundle, file: Path) -> Any:
        found = real_score(bundle, file)
        if file.name == "1.wav":
            store.pipe_file(f"{path}/1.wav", (tmp_path / "other.wav").read_bytes())
        return found

    if when == "before it is read":
        monkeypatch.setattr(fleet, "find", replaced)
    else:
        monkeypatch.setattr("auscult.detector.score.score_file", scored_slowly)
    out = tmp_path / "out"
    outcome = fleet.score_archive(fitted.folder, [folder], here, str(out))
    assert [(Path(file).name, why) for file, why in outcome.failed] == [("1.wav", "it has changed since it was listed")]
    assert outcome.scored == 1
    monkeypatch.undo()
    assert fleet.score_archive(fitted.folder, [folder], here, str(out)).scored == 1
    assert list(rows(out)["score"])[1] == score_file(fitted, tmp_path / "other.wav").score


def test_from_a_store_to_a_store(fitted: Bundle, archive: Path, here: str, scored: Path) -> None:
    store = fsspec.filesystem("memory")
    for path in (archive / "day1").glob("*.wav"):
        store.pipe_file(f"/fleet/in/day1/{path.name}", path.read_bytes())
    outcome = fleet.score_archive(fitted.folder, ["memory://fleet/in"], here, "memory://fleet/out", 4)
    table = pd.concat([pd.read_parquet(f"memory://{name}") for name in store.glob("/fleet/out/part-*")])
    assert outcome.scored == len(table) == CLIPS // 2
    local = rows(scored).assign(name=lambda table: table["file"].str[-6:]).set_index("name")["score"]
    assert dict(zip(table["file"].str[-6:], table["score"], strict=True)) == dict(
        local[local.index.isin(table["file"].str[-6:])]
    )
    store.rm("/fleet", recursive=True)


@pytest.mark.parametrize(("place", "what"), [("nowhere", "no such file or folder"), ("empty", "no recordings here")])
def test_sources_without_recordings(place: str, what: str, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(AuscultError, match=what):
        list(find([str(tmp_path / place)]))


def test_the_host_of_an_address_reaches_the_workers(fitted: Bundle, archive: Path, here: str, tmp_path: Path) -> None:
    fsspec.filesystem("memory").pipe_file("/hosted/day/a.wav", (archive / "day0" / "00.wav").read_bytes())
    outcome = fleet.score_archive(fitted.folder, ["hosted://me@there/hosted"], here, str(tmp_path / "out"))
    assert outcome.failed == []
    assert list(rows(tmp_path / "out")["file"]) == ["hosted://me@there/hosted/day/a.wav"]
    assert [clip.path for clip in find(["hosted://me@there/hosted/*/a.wav"])] == ["hosted://me@there/hosted/day/a.wav"]


@pytest.mark.parametrize(("name", "why"), [("closed", "AccessDenied"), ("nobody", "Unable to locate credentials")])
def test_a_folder_below_that_cannot_be_listed_is_named(name: str, why: str) -> None:
    fsspec.filesystem("memory").pipe_file(f"/above-{name}/{name}/a.wav", b"")
    with pytest.raises(AuscultError, match=rf"does not let itself be read \({why}\)") as error:
        list(find([f"refusing://above-{name}"]))
    assert error.value.where.endswith(f"/{name}")
    with pytest.raises(AuscultError, match=rf"the output cannot be read \({why}\)"):
        Output(f"refusing://above-{name}/{name}").names()


def test_what_lies_in_a_folder_is_found_as_by_the_command_without_a_cluster(archive: Path, tmp_path: Path) -> None:
    shutil.copytree(archive, tmp_path / "a")
    (tmp_path / "a" / "link.wav").symlink_to("day0/00.wav")
    (tmp_path / "a" / "nowhere.wav").symlink_to("gone.wav")
    (tmp_path / "a" / "day0" / "up").symlink_to("..")
    (tmp_path / "a" / "folder.wav").mkdir()
    os.mkfifo(tmp_path / "a" / "pipe.wav")
    found = list(find([str(tmp_path / "a")]))
    assert sorted(Path(clip.path) for clip in found) == below(tmp_path / "a")[0]
    assert len({clip.key for clip in found}) == len(found)
    size = {Path(clip.path).name: clip.size for clip in found}
    assert size["link.wav"] == size["00.wav"]


def test_a_store_of_no_kind() -> None:
    with pytest.raises(AuscultError, match="no store of this kind"):
        store_of("nonsense://bucket/x")
