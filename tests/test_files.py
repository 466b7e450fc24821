"""Whole or absent: files and folders under success, failure, interruption and what a killed process left."""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from auscult.errors import AuscultError, listed, run
from auscult.files import atomic_file, atomic_folder, digest, require_room
from support.projects import stage_environment


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


HOLDER = """
import sys, pathlib
from auscult.files import atomic_file, atomic_folder
with atomic_folder(pathlib.Path("out")) as folder, atomic_file(pathlib.Path("table.csv")) as file:
    (folder / "half").touch()
    file.touch()
    print("at work", flush=True)
    sys.stdin.read()
"""


def test_file_appears_only_when_whole(tmp_path: Path) -> None:
    path = tmp_path / "new" / "table.csv"
    with atomic_file(path) as part:
        assert part.suffix == ".csv"  # writers choose the format by it
        part.write_text("a")
        assert not path.exists()
    assert path.read_text() == "a"
    assert names(path.parent) == ["table.csv"]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit])
def test_a_failure_keeps_the_old_and_leaves_nothing_else(tmp_path: Path, error: type[BaseException]) -> None:
    (tmp_path / "a.csv").write_text("old")
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "x").write_text("old")

    def half_a_file() -> None:
        with atomic_file(tmp_path / "a.csv") as part:
            part.write_text("half")
            raise error

    def half_a_folder() -> None:
        with atomic_folder(tmp_path / "b") as part:
            (part / "x").write_text("half")
            raise error

    with pytest.raises(error):
        half_a_file()
    with pytest.raises(error):
        half_a_folder()
    assert names(tmp_path) == ["a.csv", "b"]
    assert (tmp_path / "a.csv").read_text() == (tmp_path / "b" / "x").read_text() == "old"


def test_folder_is_replaced_as_a_whole(tmp_path: Path) -> None:
    for name in ("first", "second"):
        with atomic_folder(tmp_path / "out") as part:
            assert names(part) == []
            (part / name).touch()
    assert names(tmp_path / "out") == ["second"]
    assert names(tmp_path) == ["out"]


def test_a_link_is_replaced_and_what_it_points_to_is_kept(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "x").touch()
    (tmp_path / "out").symlink_to(tmp_path / "elsewhere")
    with atomic_folder(tmp_path / "out") as part:
        (part / "y").touch()
    assert not (tmp_path / "out").is_symlink()
    assert names(tmp_path / "out") == ["y"]
    assert names(tmp_path / "elsewhere") == ["x"]
    assert names(tmp_path) == ["elsewhere", "out"]


def test_what_a_living_process_has_begun_is_kept_and_what_a_killed_one_left_is_removed(tmp_path: Path) -> None:
    """Whatever its id: in another container the same id is another process's, or nobody's."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER], cwd=tmp_path, env=stage_environment(), text=True, stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )  # fmt: skip
    assert process.stdout is not None
    assert process.stdout.readline() == "at work\n"
    (tmp_path / ".out.0123abcd.part").mkdir()  # killed before it had a lock
    others = {".out.1.part", ".outer.0123abcd.part", ".out.x.0123abcd.part"}
    for name in others:
        (tmp_path / name).mkdir()

    def write() -> set[str]:
        with atomic_folder(tmp_path / "out") as part, atomic_file(tmp_path / "table.csv") as file:
            (part / "mine").touch()
            file.write_text("mine")
        assert names(tmp_path / "out") == ["mine"]
        return {name for name in names(tmp_path) if name.endswith(".part")} - others

    begun = write()
    assert {name.rpartition(".")[0][:-9] for name in begun} == {".out", ".table.csv"}
    process.kill()
    process.communicate()
    assert write() == set()
    assert set(names(tmp_path)) == others | {"out", "table.csv"}


REPLACER = """
import os, pathlib, signal
from auscult import files
if {plain}:
    files._exchanged = lambda new, path: False
rename = os.replace
def replace(source, target):
    if {plain} and pathlib.Path(source).name == "out" and pathlib.Path(target).name == "out":
        os.kill(os.getpid(), signal.SIGKILL)  # the old one is aside, and the new one not yet in its place
    rename(source, target)
os.replace = replace
files._tidy = lambda folder, path: os.kill(os.getpid(), signal.SIGKILL)
with files.atomic_folder(pathlib.Path("out")) as part:
    (part / "new").touch()
"""


@pytest.mark.parametrize("plain", [False, True])
def test_killed_while_a_folder_is_replaced(tmp_path: Path, plain: bool) -> None:
    """The old one or the new one is there: at once where names can be exchanged, else after the next call."""
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "old").touch()
    code = REPLACER.format(plain=plain)
    assert subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=stage_environment()).returncode == -9
    assert (tmp_path / "out").exists() != plain
    with pytest.raises(ValueError, match="given up"), atomic_folder(tmp_path / "out"):
        raise ValueError("given up")
    assert names(tmp_path / "out") == (["old"] if plain else ["new"])
    assert names(tmp_path) == ["out"]


@pytest.mark.parametrize("mask", [0o022, 0o027, 0o077])
def test_modes_are_those_of_any_new_file(tmp_path: Path, mask: int) -> None:
    """Also where a library makes files for their owner alone."""
    before = os.umask(mask)
    try:
        with atomic_folder(tmp_path / "folder") as part, atomic_file(tmp_path / "a.bin") as file:
            for path in (part / "private", part / "plain", file):
                path.touch(0o600 if path.name != "plain" else 0o666)
    finally:
        os.umask(before)
    made = [tmp_path / "a.bin", *(tmp_path / "folder").iterdir()]
    assert {path.stat().st_mode & 0o777 for path in made} == {0o666 & ~mask}


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG])
def test_full_disk_is_one_message_with_the_final_path(tmp_path: Path, number: int) -> None:
    for atomic in (atomic_file, atomic_folder):
        with pytest.raises(AuscultError) as caught, atomic(tmp_path / "out"):
            raise OSError(number, os.strerror(number))
        assert "the disk is full" in str(caught.value)
        assert str(tmp_path / "out") in str(caught.value)
    assert names(tmp_path) == []


WRITERS = {
    "numpy": "import numpy; numpy.save(part, numpy.ones(10**6))",
    "pandas": "import pandas; pandas.DataFrame({'x': range(10**6)}).to_parquet(part)",
    "text": "part.write_text('x' * 10**7)",
    "torch": "import torch; torch.save(torch.rand(10**6), part)",
    "safetensors": "import torch, safetensors.torch as s; s.save_file({'x': torch.rand(10**6)}, part)",
}


@pytest.mark.parametrize("writer", WRITERS)
def test_full_disk_through_every_writer_in_use(tmp_path: Path, writer: str) -> None:
    """Libraries hide the error number; a limit on file size stands in for a disk that fills up."""
    code = f"""
import resource, pathlib
from auscult.errors import run
from auscult.files import atomic_file
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
def main():
    with atomic_file(pathlib.Path("out.npy")) as part:
        {WRITERS[writer]}
run(main)
"""
    result = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=stage_environment(), capture_output=True, text=True
    )
    assert result.returncode == 1, result.stderr
    assert result.stderr.startswith("error: the disk is full")
    assert "where: out.npy" in result.stderr
    assert names(tmp_path) == []


def test_other_errors_pass_unchanged(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="bug"), atomic_folder(tmp_path / "out"):
        raise ValueError("bug")
    with pytest.raises(FileNotFoundError), atomic_file(tmp_path / "out"):
        raise FileNotFoundError(errno.ENOENT, "no", "x")


def test_digest_is_of_names_and_contents(tmp_path: Path) -> None:
    def make(folder: Path, files: dict[str, str]) -> str:
        for name, text in files.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text(text)
        return digest(folder)

    files = {"a": "1", "b/c": "2"}
    first = make(tmp_path / "1" / "x", files)
    assert make(tmp_path / "2" / "x", dict(reversed(files.items()))) == first
    others = [{"a": "1", "b/d": "2"}, {"a": "1", "b/c": "3"}, {"a": "2", "b/c": "1"}, {"a": "1"}]
    others_digests = {make(tmp_path / f"other{i}" / "x", other) for i, other in enumerate(others)}
    assert len(others_digests | {first}) == 5
    inner = hashlib.sha256(b"1").digest()
    assert digest(tmp_path / "1" / "x" / "a") == hashlib.sha256(b"a" + inner).hexdigest()


def raising(error: BaseException) -> None:
    raise error


@pytest.mark.parametrize(
    ("error", "words", "more"),
    [
        (AuscultError("what", "where", "fix"), "error: what\n  where: where\n  to do: fix", ""),
        (FileNotFoundError(errno.ENOENT, "No such file or directory", "x.parquet"), "x.parquet", "dvc repro"),
        (FileNotFoundError(errno.ENOENT, "Failed to open local file 'x.parquet'"), "x.parquet", "dvc repro"),
        (PermissionError(errno.EACCES, "Permission denied", "data"), "Permission denied", "data"),
    ],
)
def test_run_turns_what_a_user_can_mend_into_one_message(error: BaseException, words: str, more: str) -> None:
    with pytest.raises(SystemExit) as caught:
        run(lambda: raising(error))
    assert isinstance(caught.value.code, str)  # printed to stderr, exit status 1
    assert caught.value.code.startswith("error: ")
    assert words in caught.value.code
    assert more in caught.value.code


def test_run_keeps_the_traceback_of_a_bug() -> None:
    with pytest.raises(OSError, match="no number"):
        run(lambda: raising(OSError("no number")))
    with pytest.raises(ZeroDivisionError):
        run(lambda: raising(ZeroDivisionError()))


def test_run_reports_an_interruption(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        run(lambda: raising(KeyboardInterrupt()))
    assert caught.value.code == 130
    assert capsys.readouterr().err.startswith("interrupted: ")


def test_listed_says_how_many_are_left_out() -> None:
    assert listed(["a", "b"]) == "\n    a\n    b"
    assert listed([str(i) for i in range(25)], limit=3) == "\n    0\n    1\n    2\n    ... and 22 more"
    assert "more" not in listed([str(i) for i in range(20)])


def test_room_is_required_where_the_folder_will_be(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Path] = []

    def usage(place: Path) -> object:
        asked.append(place)
        return type("Usage", (), {"free": 2_500_000_000})

    monkeypatch.setattr(shutil, "disk_usage", usage)
    what = "it takes {wanted}, and {free} are free"
    require_room(tmp_path / "not" / "yet", 2_500_000_000, what, "free some")
    with pytest.raises(AuscultError) as caught:
        require_room(tmp_path / "not" / "yet", 2_500_000_001, what, "free some")
    assert (caught.value.what, caught.value.fix) == ("it takes 2.5 GB, and 2.5 GB are free", "free some")
    assert caught.value.where == str(tmp_path)
    assert asked == [tmp_path, tmp_path]
