"""Every year's profile from its archives to the manifest: synthetic sound under that year's names, from a local server."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile

from auscult.data.download.web import Patience
from auscult.data.download.zenodo import ZenodoSource, put_in_place
from auscult.data.inventory import root_of
from auscult.data.manifest import build_manifest
from auscult.data.synthetic import SyntheticSource
from auscult.data.synthetic.render import generate_clips
from auscult.settings.params import load_profile
from auscult.settings.section import validated
from support.site import serving

ROOT = Path(__file__).parents[2]
YEARS = range(2020, 2027)
NO_ATTRIBUTES = {"gearbox", "AirCompressor"}  # of 2024
PER_UNIT = 2  # training clips per unit, and test clips of either label


@pytest.fixture(scope="module")
def sound() -> Iterator[bytes]:
    """Different synthetic clips without end, WAV files of 0.1 s, cut from clips of 1 s."""
    source = SyntheticSource.model_validate({
        "kind": "synthetic", "version": 1, "seed": 5, "machines": {"fan": {"dev": ["00"]}}, "train_clips": 4, "test_normal": 1,
        "test_anomaly": 1, "snr_db": 5.0, "severity": 1.0, "sample_rate": 16000, "clip_seconds": 1.0,
    })  # fmt: skip

    def clips() -> Iterator[bytes]:
        first = 0
        while True:
            for clip in generate_clips(source, "fan", "00", "train", range(first, first + 100)):
                blob = io.BytesIO()
                soundfile.write(blob, clip[:1600], 16000, format="WAV", subtype="PCM_16")
                yield blob.getvalue()
            first += 100

    return clips()


def names(year: int, set_name: str, machine: str, kind: str) -> list[str]:
    """Paths below the machine's folder, of the training or test clips of a set, as that year calls them."""
    if year == 2020:
        unit = "00" if set_name == "dev" else "01"
        labels = ["normal_", "anomaly_"] if set_name == "dev" else ["", ""]
        if kind == "train":
            return [f"train/normal_id_{unit}_{i:08d}.wav" for i in range(PER_UNIT)]
        return [f"test/{label}id_{unit}_{i:08d}.wav" for i, label in enumerate(labels)]
    section = "00" if set_name == "dev" or year > 2022 else "03"
    tail = "noAttribute" if year == 2024 and machine in NO_ATTRIBUTES else "v_1_pat_A"
    if year == 2025:
        tail = ""  # an empty attribute
    if kind == "train":
        both = ["source", "target"]
        return [f"train/section_{section}_{domain}_train_normal_{i:04d}_{tail}.wav" for i, domain in enumerate(both)]
    if year == 2021:
        return [
            f"{domain}_test/section_{section}_{domain}_test_{label}{i:04d}.wav"
            for domain in ("source", "target")
            for i, label in enumerate(["normal_", "anomaly_"] if set_name == "dev" else ["", ""])
        ]
    if set_name == "eval":
        return [f"test/section_{section}_{i:04d}.wav" for i in range(4)]
    if year == 2024 and machine == "slider":  # the words in another order, as RoboticArm's list has them
        return [f"test/section_00_source_{label}_{i:04d}_w_1.wav" for i, label in enumerate(["normal", "anomaly"])]
    words = [f"{domain}_test_{label}" for domain in ("source", "target") for label in ("normal", "anomaly")]
    return [f"test/section_{section}_{word}_{i:04d}_{tail}.wav" for i, word in enumerate(words)]


def archive(machine: str, paths: list[str], sound: Iterator[bytes]) -> bytes:
    blob = io.BytesIO()
    with zipfile.ZipFile(blob, "w") as out:
        for path in paths:
            out.writestr(f"{machine}/{path}", next(sound))
    return blob.getvalue()


@pytest.mark.parametrize("year", YEARS)
def test_from_archives_to_the_manifest(
    year: int, sound: Iterator[bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    profile = load_profile(f"dcase{year}", ROOT / "profiles")
    source = validated(ZenodoSource, profile.source, "source")
    expected: dict[tuple[str, str], int] = {}
    with serving() as site:
        parts = []
        for part in source.parts:
            kinds = {m: _kinds(file.name, part.set) for m, file in part.files.items()}
            files = {}
            for machine, file in part.files.items():
                paths = [path for kind in kinds[machine] for path in names(year, part.set, machine, kind)]
                files[file.name] = archive(machine, paths, sound)
                expected[part.set, machine] = expected.get((part.set, machine), 0) + len(paths)
            site.record(part.record, files)
            # Only the checksums differ from the profile's: these are other archives of the same names.
            plain = {machine: {"name": file.name} for machine, file in part.files.items()}
            parts.append({"set": part.set, "record": part.record, "files": plain})
        changed = {key: value for key, value in profile.source.items() if key != "labels"}
        changed |= {"base": site.base, "parts": parts}
        raw = tmp_path / "data" / profile.name / "raw"
        put_in_place(profile, validated(ZenodoSource, changed, "source"), raw, 2, (), Patience(tries=2))
    clips, labels = build_manifest(profile.model_copy(update={"eval_labels": ""}), root_of(raw), workers=1)

    counts = clips.groupby(["set", "machine"]).size()
    assert counts.to_dict() == expected
    assert set(clips["machine"]) == set(profile.machines)
    test = clips[clips["partition"] == "test"]
    assert (test["domain"] == "unknown").all()
    assert (test["attributes"] == "").all()
    assert set(labels["clip_id"]) == set(test.loc[test["set"] == "dev", "clip_id"])  # evaluation names tell no label
    assert labels["anomaly"].isin([0, 1]).all()
    assert labels["anomaly"].nunique() == 2
    train = clips[clips["partition"] == "train"]
    assert set(train["domain"]) == ({"unknown"} if year == 2020 else {"source", "target"})
    if year == 2024:
        assert set(train.loc[train["machine"] == "gearbox", "attributes"]) == {"noAttribute"}
    if year == 2025:
        assert set(train["attributes"]) == {""}
    assert np.isfinite(clips["seconds"]).all()


def _kinds(name: str, set_name: str) -> list[str]:
    if set_name == "dev":
        return ["train", "test"]
    return ["test"] if "_test" in name else ["train"]
