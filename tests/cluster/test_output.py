"""What an output holds: parts of one bundle, threshold and program, each recording once, and nothing of others is touched."""

from __future__ import annotations

import shutil
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

pytest.importorskip("distributed", reason="Dask is not installed (pip install 'auscult[cluster]')")


from auscult.cli import main
from auscult.cluster import bundles, fleet
from auscult.cluster.archive import Clip
from auscult.cluster.output import Known, Output, Owner
from auscult.cluster.parts import part_facts
from auscult.cluster.program import program
from auscult.detector.bundle import Bundle
from auscult.errors import AuscultError
from support.fleet import CLIPS, parts, rows


def test_another_bundle_is_refused(copy: Path, archive: Path, here: str, other: Bundle) -> None:
    with pytest.raises(AuscultError, match=r"scores of another bundle \(pump"):
        fleet.score_archive(other.folder, [str(archive)], here, str(copy))


def test_scores_of_two_thresholds_or_programs_do_not_mix(
    copy: Path, fitted: Bundle, archive: Path, here: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(fitted.folder, tmp_path / "other")
    assert main(["threshold", str(tmp_path / "other"), "--rate", "0.3"]) == 0
    before = parts(copy)
    with pytest.raises(AuscultError, match=r"verdicts by another threshold \([\d.]+, and now [\d.]+\)"):
        fleet.score_archive(tmp_path / "other", [str(archive)], here, str(copy))
    monkeypatch.setattr(fleet, "program", lambda: {**program(), "torch": "9.9"})
    with pytest.raises(AuscultError, match=r"another program: torch [\d.]+\S* \(here: 9\.9\)"):
        fleet.score_archive(fitted.folder, [str(archive)], here, str(copy))
    assert parts(copy) == before


def test_a_folder_that_holds_something_else_is_refused_and_left_alone(
    fitted: Bundle, archive: Path, here: str, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    out.mkdir()
    pd.DataFrame({"a": [1]}).to_parquet(out / "part-00000-0badcafe.parquet")
    (out / ".part-0.part").write_bytes(b"theirs")
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    with pytest.raises(AuscultError, match=r"other files than scores \(part-00000-0badcafe\.parquet"):
        fleet.score_archive(fitted.folder, [str(archive)], here, str(out))
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before
    with pytest.raises(AuscultError, match=r"other files than scores \(day0, day1"):
        fleet.score_archive(fitted.folder, [str(archive)], here, str(archive))


@pytest.mark.parametrize(
    ("name", "refused"),
    [("part-0.parquet", False), (".part-0.part", False), ("part-0123456789abcdef0123.parquet", True)],
)
def test_files_of_others_among_the_parts_stay(name: str, refused: bool, copy: Path) -> None:
    pd.DataFrame({"a": [1]}).to_parquet(copy / name)
    content = (copy / name).read_bytes()
    output = Output(str(copy))
    if refused:
        with pytest.raises(AuscultError, match="not written by auscult"):
            output.known()
    else:
        assert len(output.known().keys) == CLIPS
    assert (copy / name).read_bytes() == content


def test_a_part_of_which_the_end_is_lost_is_made_again(copy: Path) -> None:
    """As after a power cut: zeros, or nothing, from any byte on."""
    for number, (name, content) in enumerate(sorted(parts(copy).items())):
        at = number * (len(content) - 1) // (CLIPS // 4)
        for end in (b"", bytes(len(content) - at)):
            (copy / name).write_bytes(content[:at] + end)
            assert Output(str(copy)).known().torn == [name]
            assert not (copy / name).exists()


def test_a_byte_that_changes_in_any_column_is_seen(scored: Path) -> None:
    content = parts(scored).popitem()[1]
    assert part_facts(content, "")
    group = pq.ParquetFile(BytesIO(content)).metadata.row_group(0)
    for column in map(group.column, range(group.num_columns)):
        changed = bytearray(content)
        end = (column.dictionary_page_offset or column.data_page_offset) + column.total_compressed_size
        changed[end - 1] ^= 1
        assert part_facts(bytes(changed), "") is None, column.path_in_schema


def test_recordings_in_two_parts_are_told_with_the_parts(copy: Path) -> None:
    name = min(parts(copy))
    other = "part-0123456789abcdef0123.parquet"
    shutil.copy(copy / name, copy / other)
    with pytest.raises(AuscultError) as error:
        Output(str(copy)).known()
    count = len(pd.read_parquet(copy / name))
    assert error.value.what == f"{count} recordings stand in two of the parts {', '.join(sorted([name, other]))}"


def test_a_run_that_another_has_taken_over_writes_nothing_more(
    fitted: Bundle, archive: Path, here: str, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    taken = False

    def take_over(outcome: fleet.Outcome, workers: int) -> None:
        nonlocal taken
        if outcome.scored and not taken:
            taken = True
            Output(str(out)).begin(Owner("pump", fitted.digest, fitted.threshold, fleet.program()))

    with pytest.raises(AuscultError, match="another run has taken this output over"):
        fleet.score_archive(fitted.folder, [str(archive)], here, str(out), 1, take_over)
    assert taken
    left = len(parts(out))
    assert left < CLIPS
    fleet.score_archive(fitted.folder, [str(archive)], here, str(out), 5)
    assert len(rows(out)) == CLIPS
    assert rows(out)["key"].is_unique


def test_a_part_that_appears_beside_a_run_is_told(
    fitted: Bundle, archive: Path, here: str, tmp_path: Path, scored: Path
) -> None:
    """From a worker that had looked whose the output is just before this run began."""
    out = tmp_path / "out"

    def late(outcome: fleet.Outcome, workers: int) -> None:
        if outcome.scored and not (out / "part-0123456789abcdef0123.parquet").exists():
            shutil.copy(scored / min(parts(scored)), out / "part-0123456789abcdef0123.parquet")

    with pytest.raises(
        AuscultError, match=r"1 file among the parts came from neither .*: part-0123456789abcdef0123\.parquet"
    ):
        fleet.score_archive(fitted.folder, [str(archive)], here, str(out), 10, late)
    with pytest.raises(AuscultError, match=r"[34] recordings stand in two of the parts"):
        fleet.score_archive(fitted.folder, [str(archive)], here, str(out), 10)


def test_known_recordings_are_those_that_a_set_would_know() -> None:
    rng = np.random.default_rng(0)
    clips = [Clip(f"{number}.wav", int(rng.integers(100)), "") for number in range(500)]
    inside = [clip for clip in clips if rng.random() < 0.5]
    known = Known(np.sort(np.array([clip.key for clip in inside], "S16")))
    assert list(known.holds(clips)) == [clip in set(inside) for clip in clips]
    assert not Known(np.empty(0, "S16")).holds(clips).any()


def test_a_worker_with_another_bundle_is_refused_by_name(
    fitted: Bundle, other: Bundle, archive: Path, here: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a worker does that sees another folder by the name of the output."""
    put = fleet.put_bundle
    monkeypatch.setattr(fleet, "put_bundle", lambda output, folder, names: put(output, other.folder, names))
    with pytest.raises(AuscultError, match=r"another bundle \(other, [0-9a-f]{16}\) than the run's") as error:
        fleet.score_archive(fitted.folder, [str(archive)], here, str(tmp_path / "out"))
    assert "worker " in error.value.where


def test_a_bundle_that_changes_while_it_is_sent(
    fitted: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After it was checked, and before it is read."""
    shutil.copytree(fitted.folder, tmp_path / "bundle")
    real = bundles.check_files

    def check(folder: Path, manifest: Any) -> None:
        real(folder, manifest)
        (tmp_path / "bundle" / "reference.npy").write_bytes(b"another")

    monkeypatch.setattr(bundles, "check_files", check)
    with pytest.raises(AuscultError, match="changed while it was read"), bundles.checked_copy(tmp_path / "bundle"):
        pass
    with (
        pytest.raises(AuscultError, match=r"reference\.npy was changed") as error,
        bundles.checked_copy(tmp_path / "bundle"),
    ):
        pass
    assert error.value.where == str(tmp_path / "bundle")


def test_a_store_that_refuses_to_be_written(fitted: Bundle, archive: Path, here: str) -> None:
    with pytest.raises(AuscultError, match=r"cannot be written to \(AccessDenied\)") as error:
        fleet.score_archive(fitted.folder, [str(archive)], here, "refusing://out")
    assert error.value.where == "refusing://out"
