"""Your own recordings: cut into clips, held out as a whole, told apart by folders or a table, bad input refused."""

from __future__ import annotations

import errno
import json
import shutil
from collections.abc import Callable
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import pandas as pd
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st

from auscult.data.download import fetch
from auscult.data.manifest import build_manifest
from auscult.data.names.encoding import attributes_in, clip_name, safe
from auscult.data.names.grammar import GRAMMARS, Name
from auscult.data.own import cutting
from auscult.data.own import source as ownrecordings
from auscult.data.own.cutting import measure, pieces
from auscult.errors import AuscultError
from auscult.settings.params import load_profile
from auscult.settings.profile import Profile
from support.packed import tiny_profile
from support.projects import make_project, run_here, run_stage
from support.trees import noise, write


def own(path: Path, grammar: str = "recordings", clip_seconds: float = 1.0, **keys: Any) -> Profile:
    source = {"kind": "recordings", "path": str(path), **keys}
    return tiny_profile(source=source, grammar=grammar, clip_seconds=clip_seconds)


def clips_of(profile: Profile, raw: Path) -> pd.DataFrame:
    """Fetch, and read the manifest: one row per clip, with its recording and label."""
    fetch(profile, raw, workers=1)
    clips, labels = build_manifest(profile, raw, workers=1)
    clips["recording"] = clips["path"].map(lambda path: PurePosixPath(path).name.split("__")[0])
    return clips.merge(labels[["clip_id", "anomaly"]], on="clip_id", how="left")


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(5)


@pytest.fixture
def mine(tmp_path: Path, rng: np.random.Generator) -> Path:
    """Ten normal recordings of 2.5 s and two anomalies, in a tree with a note beside them."""
    for number in range(10):
        write(tmp_path / "mine" / "normal" / f"day {number // 5}" / f"pump {number}.wav", noise(rng, 2.5))
    for number in range(2):
        write(tmp_path / "mine" / "anomaly" / f"leak {number}.flac", noise(rng, 2.5, 1500.0))
    (tmp_path / "mine" / "notes.txt").write_text("all fine")
    (tmp_path / "mine" / ".hidden.wav").write_text("a trace of another file system")
    return tmp_path / "mine"


# ---------------------------------------------------------------------------------------------------------------- cutting
@given(st.integers(1, 500), st.integers(1, 60), st.data())
def test_pieces_cover_a_recording_without_a_gap(frames: int, clip: int, data: st.DataObject) -> None:
    hop, minimum = data.draw(st.integers(1, clip)), data.draw(st.integers(0, clip))
    found = pieces(frames, clip, hop, minimum)
    covered = np.zeros(frames, bool)
    for start, length in found:
        assert 0 < length <= clip
        assert not covered[start : start + length].all(), "a clip without a sample of its own"
        covered[start : start + length] = True
    assert [start for start, _ in found] == [hop * i for i in range(len(found))]
    assert all(length == clip for _, length in found[:-1])
    assert len(found) == 1 or found[-1][1] >= minimum
    left = frames - covered.sum()
    assert covered[: frames - left].all()
    if left:  # one more clip would have been too short
        assert frames - hop * len(found) < minimum


@pytest.mark.parametrize("overlap", [0.0, 0.5, 0.9])
def test_clips_are_the_samples_of_the_recording(tmp_path: Path, rng: np.random.Generator, overlap: float) -> None:
    """16-bit samples bit by bit, at their own rate, all channels."""
    audio = rng.integers(-32768, 32768, (int(3.3 * 22050), 3)).astype(np.int16)
    write(tmp_path / "mine" / "normal" / "long.flac", audio, 22050)
    write(tmp_path / "mine" / "test_normal" / "other.wav", audio[:22050], 22050)
    fetch(own(tmp_path / "mine", overlap=overlap, minimum_seconds=0.1), tmp_path / "raw")
    found = sorted((tmp_path / "raw/machine/00/normal").glob("*.wav"))
    hop = round(22050 * (1 - overlap))
    assert len(found) == 1 + -(-(len(audio) - 22050) // hop)
    for i, path in enumerate(found):
        samples, rate = soundfile.read(path, dtype="int16")
        assert rate == 22050
        assert soundfile.info(path).subtype == "PCM_16"
        np.testing.assert_array_equal(samples, audio[i * hop :][:22050])
        assert path.name == f"long__{round(1000 * i * hop / 22050):08d}.wav"


@pytest.mark.parametrize(
    ("suffix", "subtype"), [(".wav", "PCM_24"), (".wav", "FLOAT"), (".aiff", "PCM_32"), (".wav", "PCM_U8")]
)
def test_other_depths_are_rounded_to_16_bits(tmp_path: Path, suffix: str, subtype: str) -> None:
    audio = np.linspace(-0.99, 0.99, 16000)
    path = write(tmp_path / "mine" / "normal" / f"a{suffix}", audio, subtype=subtype)
    write(tmp_path / "mine" / "test_normal" / f"b{suffix}", audio, subtype=subtype)
    exact = soundfile.read(path, dtype="float64")[0]
    fetch(own(tmp_path / "mine"), tmp_path / "raw")
    samples = soundfile.read(tmp_path / "raw/machine/00/normal/a__00000000.wav", dtype="int16")[0]
    np.testing.assert_array_equal(samples, np.clip(np.round(exact * 32768), -32768, 32767))


@pytest.mark.parametrize("suffix", [".ogg", ".mp3"])
def test_lossy_recordings(tmp_path: Path, rng: np.random.Generator, suffix: str) -> None:
    if suffix[1:].upper() not in soundfile.available_formats():
        pytest.skip("this libsndfile does not read it")
    audio = noise(rng, 3.0, 440.0, rate=44100) / 40000
    for label, name in (("normal", "a"), ("test_normal", "b")):
        path = tmp_path / "mine" / label / f"{name}{suffix}"
        path.parent.mkdir(parents=True)
        soundfile.write(path, audio, 44100)
    fetch(own(tmp_path / "mine"), tmp_path / "raw")
    found = sorted((tmp_path / "raw/machine/00/normal").glob("*.wav"))
    back = np.concatenate([soundfile.read(path)[0] for path in found])
    assert len(back) >= 44100 * 3
    assert np.corrcoef(back[:44000], audio[:44000])[0, 1] > 0.9


def test_memory_stays_flat(tmp_path: Path, rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch) -> None:
    """No read asks for more than a block while looking, nor for more than a clip while cutting."""
    write(tmp_path / "mine" / "normal" / "a.wav", noise(rng, 20.0))
    write(tmp_path / "mine" / "anomaly" / "b.wav", noise(rng, 20.0))
    monkeypatch.setattr("auscult.data.audio.BLOCK", 4096)
    asked: list[int] = []
    read = soundfile.SoundFile.read

    def watched(self: soundfile.SoundFile, frames: int = -1, *rest: Any, **more: Any) -> np.ndarray:
        asked.append(frames)
        return read(self, frames, *rest, **more)

    monkeypatch.setattr(soundfile.SoundFile, "read", watched)
    fetch(own(tmp_path / "mine", holdout=0), tmp_path / "raw", workers=1)
    assert len(asked) > 100
    assert 0 < min(asked) <= max(asked) <= 16000


def test_short_recordings_are_kept_whole(tmp_path: Path, rng: np.random.Generator) -> None:
    for number, seconds in enumerate((0.1, 0.3, 1.0, 1.4, 1.5)):
        write(tmp_path / "mine" / "normal" / f"{number}.wav", noise(rng, seconds))
    write(tmp_path / "mine" / "anomaly" / "x.wav", noise(rng, 1.0))
    clips = clips_of(own(tmp_path / "mine", holdout=0), tmp_path / "raw")
    lengths = clips[clips["anomaly"].isna()].groupby("recording")["seconds"].apply(lambda s: sorted(s))
    assert lengths.to_dict() == {"0": [0.1], "1": [0.3], "2": [1.0], "3": [1.0], "4": [0.5, 1.0]}


# ---------------------------------------------------------------------------------------------------------------- holding out
def test_whole_recordings_are_held_out(mine: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    clips = clips_of(own(mine), tmp_path / "raw")
    normal = clips[clips["anomaly"] != 1]
    assert normal.groupby("recording")["partition"].nunique().eq(1).all(), "a recording trained on and tested with"
    assert normal.groupby("partition")["recording"].nunique().to_dict() == {"train": 8, "test": 2}
    assert normal.groupby("recording").size().eq(3).all()
    assert (clips[clips["anomaly"] == 1]["partition"] == "test").all()
    said = capsys.readouterr().out
    assert "12 recordings (0.5 min) -> 36 clips: 24 to train on" in said
    assert "6 normal ones (of 2 recordings) and 6 anomalies" in said
    assert "passed over: 1 x .txt" in said
    assert json.loads((tmp_path / "raw" / "source.json").read_text())["path"] == "."


def test_which_are_held_out_depends_on_content_alone(mine: Path, tmp_path: Path) -> None:
    before = clips_of(own(mine), tmp_path / "raw")
    for number, path in enumerate(sorted((mine / "normal").rglob("*.wav"), reverse=True)):
        path.rename(mine / "normal" / f"{number}.wav")
    after = clips_of(own(mine), tmp_path / "raw2")
    for partition in ("train", "test"):
        ids = [set(clips.loc[clips["partition"] == partition, "clip_id"]) for clips in (before, after)]
        assert ids[0] == ids[1]


def test_copies_go_the_same_way(mine: Path, tmp_path: Path) -> None:
    for path in sorted((mine / "normal").rglob("*.wav")):
        shutil.copy(path, mine / "normal" / f"copy of {path.name}")
    clips = clips_of(own(mine), tmp_path / "raw")
    normal = clips[clips["anomaly"] != 1]
    assert normal.groupby("partition")["recording"].nunique().to_dict() == {"train": 16, "test": 4}
    assert normal.groupby(normal["recording"].str.extract(r"(pump_\d)")[0])["partition"].nunique().eq(1).all()


@pytest.mark.parametrize(("holdout", "tested"), [(0.0, 0), (0.01, 1), (0.34, 3), (0.99, 9)])
def test_the_share_that_is_held_out(mine: Path, tmp_path: Path, holdout: float, tested: int) -> None:
    clips = clips_of(own(mine, holdout=holdout), tmp_path / "raw")
    test = clips[(clips["anomaly"] == 0) & (clips["partition"] == "test")]
    assert test["recording"].nunique() == tested


def test_a_unit_with_test_recordings_of_its_own_keeps_all_for_training(mine: Path, tmp_path: Path) -> None:
    write(mine / "test_normal" / "own.wav", noise(np.random.default_rng(9), 1.0))
    clips = clips_of(own(mine), tmp_path / "raw")
    assert set(clips.loc[clips["anomaly"] == 0, "recording"]) == {"own"}
    assert clips.loc[clips["partition"] == "train", "recording"].nunique() == 10


def test_recordings_without_any_folder_are_normal(tmp_path: Path, rng: np.random.Generator) -> None:
    for number in range(5):
        write(tmp_path / "mine" / f"{number}.wav", noise(rng, 1.0))
    clips = clips_of(own(tmp_path / "mine"), tmp_path / "raw")
    assert set(clips["machine"]) == {"machine"}
    assert set(clips["unit"]) == {"00"}
    assert clips["partition"].value_counts().to_dict() == {"train": 4, "test": 1}
    assert clips.loc[clips["partition"] == "test", "anomaly"].tolist() == [0]


def test_names_are_safe_and_unique(tmp_path: Path, rng: np.random.Generator) -> None:
    names = [
        "normal/a b.wav",
        "normal/a_b.wav",
        "normal/A b.flac",
        "normal/x__00000000.wav",
        "normal/Größe/ü %.wav",
        "test_normal/a b.wav",
    ]
    for name in names:
        write(tmp_path / "mine" / "fan" / "03" / name, noise(rng, 0.5))
    clips = clips_of(own(tmp_path / "mine"), tmp_path / "raw")
    assert sorted(clips["recording"]) == ["A_b", "Größe-ü", "a_b-2", "a_b-3", "a_b-4", "x_00000000"]
    assert set(clips["machine"] + clips["unit"]) == {"fan03"}


@given(st.text(max_size=40), st.integers(0, 10**8), st.text(max_size=40, alphabet=st.characters(codec="utf-8")))
def test_names_are_read_as_written(recording: str, start: int, attributes: str) -> None:
    name = clip_name(safe(recording), start, attributes)
    assert "/" not in name
    assert attributes_in(PurePosixPath(name).stem) == attributes


def test_grammar() -> None:
    read = GRAMMARS["recordings"]
    assert read(PurePosixPath("fan/3/normal/a__00000000.wav")) == Name("fan", "3", "train", 0)
    assert read(PurePosixPath("fan/3/anomaly/a__00010000__speed%3D=1.wav")) == Name(
        "fan", "3", "test", 1, attributes="speed==1"
    )
    with pytest.raises(ValueError, match="not named"):
        read(PurePosixPath("fan/3/normal/a.wav"))


# ------------------------------------------------------------------------------------------------------------------- table
@pytest.fixture
def tabled(tmp_path: Path, rng: np.random.Generator) -> tuple[Path, Callable[[str], Path]]:
    """Six recordings with names that say nothing, and a function that writes the table beside them."""
    for number in range(6):
        write(tmp_path / "mine" / "sd card" / f"{number}.wav", noise(rng, 1.0))

    def table(text: str) -> Path:
        (tmp_path / "mine" / "table.csv").write_text(text, encoding="utf-8")
        return tmp_path / "mine"

    return tmp_path / "mine", table


GOOD = """\
file,machine,unit,attributes,label
sd card/0.wav,fan,1,"speed=1, load high/low",normal
sd card/1.wav,fan,1,speed=2,normal
sd card/2.wav,fan,1,speed=2,anomaly
sd card/3.wav,pump,007,,normal
sd card/4.wav,pump,007,,normal
sd card/5.wav,pump,007,,test_normal
"""


@pytest.mark.parametrize("change", [
    lambda text: text, lambda text: "\ufeff" + text.replace("\n", "\r\n") + "\r\n,,,,\r\n",
    lambda text: text.replace('"speed=1, load high/low"', "speed=1^ load high/low").replace(",", ";").replace("^", ","),
    lambda text: text.replace("sd card/", "sd card\\"),
], ids=["plain", "spreadsheet", "semicolons", "backslashes"])  # fmt: skip
def test_a_table_says_what_recordings_are(
    tabled: tuple[Path, Callable[[str], Path]],
    tmp_path: Path,
    change: Callable[[str], str],
    capsys: pytest.CaptureFixture[str],
) -> None:
    mine = tabled[1](change(GOOD))
    clips = clips_of(own(mine, table="table.csv"), tmp_path / "raw").set_index("recording")
    assert len(clips) == 6
    units = clips["machine"] + clips["unit"]
    assert units.to_dict() == {f"sd_card-{i}": "fan1" if i < 3 else "pump007" for i in range(6)}
    assert clips.loc[["sd_card-2", "sd_card-5"], "anomaly"].tolist() == [1, 0]
    train = clips[clips["partition"] == "train"]
    assert len(train) == 3, "one of the fan's two is held out, the pump has one of its own"
    assert set(train.loc[train["machine"] == "fan", "attributes"]) < {"speed=1, load high/low", "speed=2"}
    assert set(train.loc[train["machine"] == "pump", "attributes"]) == {""}
    assert "passed over" not in capsys.readouterr().out


def test_columns_may_be_absent(tabled: tuple[Path, Callable[[str], Path]], tmp_path: Path) -> None:
    mine = tabled[1]("file\n" + "".join(f"sd card/{i}.wav\n" for i in range(6)))
    clips = clips_of(own(mine, table="table.csv"), tmp_path / "raw")
    assert clips["partition"].value_counts().to_dict() == {"train": 5, "test": 1}


def test_a_bad_table_is_reported_row_by_row(tabled: tuple[Path, Callable[[str], Path]], tmp_path: Path) -> None:
    mine = tabled[1](
        "file,machine,label\nsd card/0.wav,fan,norml\nsd card/1.wav,,normal\nsd card/9.wav,fan,normal\n,fan,normal\n"
        "sd card/0.wav,fan,normal\nsd card/2.wav,a/b,normal\nsd card/3.wav,fan\n"
    )
    with pytest.raises(AuscultError) as caught:
        fetch(own(mine, table="table.csv"), tmp_path / "raw")
    said = str(caught.value)
    for line in (
        "row 2: label `norml` is none of normal, anomaly, test_normal (did you mean `normal`?)",
        "row 3: no machine",
        "row 4: no recording `sd card/9.wav` (did you mean",
        "row 5: no file",
        "row 6: `sd card/0.wav` for the second time",
        "row 7: `a/b` cannot be the name of a machine",
        "row 8: 2 cells under 3 columns",
        "no row for `sd card/3.wav`",
        "no row for `sd card/5.wav`",
    ):
        assert line in said
    assert "no row for `sd card/2.wav`" not in said
    assert not (tmp_path / "raw").exists()


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ("file,lable\n", "unknown column `lable` (did you mean `label`?)"),
        ("name,label\n", "no column `file`"),
        ("file,file\n", "column `file` stands twice"),
        ("", "no column `file`"),
    ],
)
def test_columns_are_checked(
    tabled: tuple[Path, Callable[[str], Path]], tmp_path: Path, table: str, message: str
) -> None:
    with pytest.raises(AuscultError) as caught:
        fetch(own(tabled[1](table), table="table.csv"), tmp_path / "raw")
    assert message in str(caught.value)


def test_a_table_that_is_not_there_or_no_text(tabled: tuple[Path, Callable[[str], Path]], tmp_path: Path) -> None:
    with pytest.raises(AuscultError, match="there is no such table"):
        fetch(own(tabled[0], table="table.csv"), tmp_path / "raw")
    (tabled[0] / "table.csv").write_bytes("file\nmüll".encode("latin-1"))
    with pytest.raises(AuscultError, match="not UTF-8"):
        fetch(own(tabled[0], table="table.csv"), tmp_path / "raw")


# --------------------------------------------------------------------------------------------------------------- bad input
def test_bad_recordings_are_listed_all_at_once(mine: Path, tmp_path: Path) -> None:
    normal, rng = mine / "normal", np.random.default_rng(1)
    whole = write(normal / "whole.wav", noise(rng, 1.0)).read_bytes()
    (normal / "cut.wav").write_bytes(whole[:3000])
    (normal / "empty.wav").touch()
    write(normal / "nan.wav", np.full(3200, np.nan), subtype="FLOAT")
    write(normal / "nothing.wav", np.zeros(0, np.int16))
    write(normal / "short.wav", noise(rng, 0.05))
    (normal / "text.wav").write_text("not a sound")
    (normal / "phone.m4a").touch()
    (normal / "dead.wav").symlink_to("nowhere.wav")
    aiff = write(normal / "cut.aiff", noise(rng, 1.0))
    aiff.write_bytes(aiff.read_bytes()[:3000])
    flac = write(normal / "cut.flac", noise(rng, 2.0))
    flac.write_bytes(flac.read_bytes()[:9000])
    with pytest.raises(AuscultError) as caught:
        fetch(own(mine), tmp_path / "raw")
    said = str(caught.value)
    assert "10 recording(s) cannot be used" in said
    for name, reason in {
        "cut.wav": "cut short: 3000 of", "empty.wav": "empty file", "nan.wav": "NaN", "nothing.wav": "no samples",
        "short.wav": "50 ms long, shorter than 100 ms", "text.wav": "not a readable recording",
        "phone.m4a": "convert it to WAV or FLAC", "dead.wav": "cannot be read", "cut.aiff": "cut short", "cut.flac": "",
    }.items():  # fmt: skip
        assert [line for line in said.splitlines() if f"{name}: " in line and reason in line], name
    assert not (tmp_path / "raw").exists()


def anomalies_only(folder: Path) -> None:
    write(folder / "anomaly" / "a.wav", noise(np.random.default_rng(0), 1.0))


def one_normal(folder: Path) -> None:
    write(folder / "normal" / "a.wav", noise(np.random.default_rng(0), 9.0))


def unsorted(folder: Path) -> None:
    write(folder / "pump" / "a.wav", noise(np.random.default_rng(0), 1.0))


def other_files(folder: Path) -> None:
    for name in ("a.pdf", "b.pdf", "README"):
        (folder / name).touch()


def machine_called_mean(folder: Path) -> None:
    write(folder / "mean" / "normal" / "a.wav", noise(np.random.default_rng(0), 1.0))


@pytest.mark.parametrize(
    ("make", "keys", "message"),
    [
        (lambda folder: None, {}, "no recordings below this folder"),
        (other_files, {}, "no recordings below this folder, only 2 x .pdf, 1 x README"),
        (anomalies_only, {}, "machine unit 00: not one normal recording"),
        (one_normal, {}, "one normal recording cannot be both trained on and held out"),
        (one_normal, {"holdout": 0}, "there is nothing to test with"),
        (unsorted, {}, "pump/a.wav: not below normal/, anomaly/ or test_normal/"),
        (machine_called_mean, {}, "`mean` cannot be the name of a machine"),
        (one_normal, {"holdout": 1}, "source.holdout: Input should be less than 1"),
        (one_normal, {"overlap": 0.95}, "source.overlap: Input should be less than or equal to 0.9"),
        (one_normal, {"minimum_seconds": 0.01}, "source.minimum_seconds: Input should be greater than"),
        (one_normal, {"minimum_seconds": 2}, "`source.minimum_seconds` is longer than a clip"),
        (one_normal, {"hold_out": 0}, "source.hold_out: unknown key (did you mean `holdout`?)"),
        (one_normal, {"grammar": "folder"}, "grammar `folder` does not read the names"),
    ],
)
def test_refused(tmp_path: Path, make: Callable[[Path], None], keys: dict[str, Any], message: str) -> None:
    (tmp_path / "mine").mkdir()
    make(tmp_path / "mine")
    with pytest.raises(AuscultError) as caught:
        fetch(own(tmp_path / "mine", **keys), tmp_path / "data" / "raw")
    assert message in str(caught.value)
    assert "to do: " in str(caught.value) or "mend these keys" in str(caught.value)
    assert not (tmp_path / "data").exists()


def test_clips_are_not_held_out(tmp_path: Path) -> None:
    """They would test with the recordings that were trained on."""
    source = {"kind": "recordings", "path": "mine", "holdout": 0.2}
    changes: dict[str, Any] = {"source": source, "grammar": "recordings"}
    assert load_profile("tiny", make_project(tmp_path / "right", changes) / "profiles").source == source
    project = make_project(tmp_path / "wrong", {**changes, "holdout": 0.2})
    with pytest.raises(AuscultError, match="`holdout` would part clips of one recording") as caught:
        load_profile("tiny", project / "profiles")
    assert caught.value.where == f"{project}/profiles/tiny.yaml: holdout"


def test_the_folder_must_be_a_folder_of_its_own(mine: Path, tmp_path: Path) -> None:
    for path, message in (
        (mine / "notes.txt", "this is a file"),
        (tmp_path / "nowhere", "is not there"),
        (tmp_path, "holds this project's data"),
    ):
        with pytest.raises(AuscultError, match=message):
            fetch(own(path), tmp_path / "data" / "raw")


def test_what_an_owner_may_not_expect_is_said(mine: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rng = np.random.default_rng(2)
    loud = write(mine / "anomaly" / "loud.wav", np.clip(rng.normal(0, 1, (44100, 2)), -2, 2), 44100, "FLOAT")
    write(mine / "other" / "normal" / "a.wav", noise(rng, 1.2))
    write(mine / "other" / "normal" / "b.wav", noise(rng, 1.0))
    fetch(own(mine), tmp_path / "raw")
    said = capsys.readouterr().out
    assert "sample rates: 14 x 16000 Hz, 1 x 44100 Hz; all become 16000 Hz" in said
    assert "channels: 14 x 1, 1 x 2; `data.input`" in said
    assert "1 recording(s) exceed full scale" in said
    assert "the rest of 1 recording(s) is too short" in said
    assert "no anomalies, so no AUC: other 00" in said
    clip = next((tmp_path / "raw").rglob("loud__*.wav"))
    expected = np.clip(np.round(soundfile.read(loud, dtype="float32")[0] * 32768), -32768, 32767)
    np.testing.assert_array_equal(soundfile.read(clip, dtype="int16")[0], expected)


def test_no_room(mine: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fetch(own(mine), tmp_path / "raw")
    taken = sum(path.stat().st_size for path in (tmp_path / "raw").rglob("*.wav"))
    usage = shutil.disk_usage(tmp_path)
    for free in (taken - 1, taken):
        monkeypatch.setattr(shutil, "disk_usage", lambda path, free=free: usage._replace(free=free))
        if free < taken:
            with pytest.raises(AuscultError, match="are free"):
                fetch(own(mine), tmp_path / "raw2")
            assert not (tmp_path / "raw2").exists()
        else:
            fetch(own(mine), tmp_path / "raw2")


def test_nothing_half_written_is_kept(mine: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither when the disk fills up nor when a recording goes bad meanwhile; the same call then starts again."""
    profile, raw = own(mine), tmp_path / "data" / "raw"
    fetch(profile, raw)
    before = {path: path.stat().st_mtime_ns for path in raw.rglob("*.wav")}
    written = cutting.cut

    def full(path: Path, *rest: Any) -> None:
        if path.name == "pump 7.wav":
            raise OSError(errno.ENOSPC, "no room")
        written(path, *rest)

    def gone(path: Path, *rest: Any) -> None:
        path.write_bytes(path.read_bytes()[:3000])
        written(path, *rest)

    for broken, message in ((full, "the disk is full"), (gone, "cut short: 3000 of")):
        monkeypatch.setattr(ownrecordings, "cut", broken)
        with pytest.raises(AuscultError, match=message):
            fetch(profile, raw)
        assert {path: path.stat().st_mtime_ns for path in raw.rglob("*.wav")} == before
        assert list(raw.parent.iterdir()) == [raw]


def test_measure_knows_a_recording_by_its_bytes(tmp_path: Path, rng: np.random.Generator) -> None:
    path = write(tmp_path / "a.wav", noise(rng, 0.5))
    first = measure(path)
    assert (first.sample_rate, first.channels, first.frames) == (16000, 1, 8000)
    assert measure(path.rename(tmp_path / "b.wav")) == first
    changed = bytearray((tmp_path / "b.wav").read_bytes())
    changed[-1] ^= 1
    (tmp_path / "b.wav").write_bytes(changed)
    assert measure(tmp_path / "b.wav").content != first.content


def test_through_the_stage_scripts(mine: Path, tmp_path: Path) -> None:
    """One message and exit status 1 on a bad recording; the same command goes through when it is mended."""
    source = {"kind": "recordings", "path": str(mine)}
    project = make_project(tmp_path / "project", {"source": source, "grammar": "recordings"})
    (mine / "normal" / "bad.wav").touch()
    failed = run_stage(project, "download", check=False)
    assert failed.returncode == 1
    assert "Traceback" not in failed.stderr
    assert f"{mine}/normal/bad.wav: empty file" in failed.stderr
    assert not list(project.glob("data/tiny/*")), "nothing is left, not even under a temporary name"
    (mine / "normal" / "bad.wav").unlink()
    assert "12 recordings" in run_here(project, "download").stdout
    run_here(project, "manifest")
    run_here(project, "features")
    assert len(pd.read_parquet(project / "data" / "tiny" / "features" / "train" / "index.parquet")) == 24
