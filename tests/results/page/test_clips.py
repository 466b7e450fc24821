"""Worst clips: which are chosen, which training clip is nearest, and that pictures and players hold what they should."""

from __future__ import annotations

import io
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile
from PIL import Image

from auscult.pages.spectrogram import diverging, figure, gain_of, sequential, sound
from auscult.results.page.clips import best_arms, nearest_training, section, select, worst
from auscult.scoring.table import Embedded, read_embeddings
from support.evidence import SEED, evidence


def test_nearest_training_clip_is_that_of_a_search_by_hand() -> None:
    rng = np.random.default_rng(0)
    units = np.array(["00", "02", "04"])
    meta = [pd.DataFrame({"machine": "fan", "unit": rng.choice(units[:2], n)}) for n in (12, 9)]
    meta[1].loc[8, "unit"] = "04"  # a unit without training clips
    of = Embedded(rng.standard_normal((12, 4)), meta[0], rng.standard_normal((9, 4)), meta[1])
    nearest, distance, beyond = nearest_training(of)

    def cosine(a: np.ndarray, b: np.ndarray) -> float:
        return float(1 - a @ b / np.sqrt((a @ a) * (b @ b)))

    for row in range(8):
        bank = [i for i in range(12) if meta[0]["unit"][i] == meta[1]["unit"][row]]
        found = min(bank, key=lambda i: cosine(of.train[i], of.test[row]))
        assert nearest[row] == found
        assert distance[row] == pytest.approx(cosine(of.train[found], of.test[row]))
        assert beyond[row] == min(set(bank) - {found}, key=lambda i: cosine(of.train[i], of.train[found]))
    assert nearest[8] == beyond[8] == -1


def test_worst_clips_are_ordered_by_deviations_from_their_threshold() -> None:
    rows = pd.DataFrame(
        {
            "clip_id": range(9),
            "machine": "fan",
            "unit": list("aaaaabbbb"),
            "score": [0, 3, 1, 9, np.pi, 100, 300, 50, 400],
            "anomaly": [0, 0, 1, 1, np.nan, 0, 0, 1, 1],
        }
    )
    limits = {("fan", "a"): 2.0, ("fan", "b"): 40.0}
    found = select(rows, limits, 5).set_index("clip_id")
    spread = {"a": np.std([0, 3, 1, 9]), "b": np.std([100, 300, 50, 400])}
    # The anomaly 7 is above its threshold, but below normal clips of its unit; 0 is normal, below it, and below all anomalies.
    assert list(found.index[found["kind"] == "false alarm"]) == [6, 5, 1]
    assert list(found.index[found["kind"] == "miss"]) == [2, 7]
    assert found.loc[6, "margin"] == pytest.approx(260 / spread["b"])
    assert found.loc[2, "margin"] == pytest.approx(-1 / spread["a"])
    assert tuple(found.loc[1, ["rank", "of"]]) == (2, 4)
    assert len(select(rows, limits, 1)) == 2


def test_worst_looks_its_clips_up_in_the_embeddings(packed: Path, tmp_path: Path) -> None:
    context = evidence(packed, tmp_path, {"one": np.arange(16.0)})
    table = worst(context, "one", 1)
    of = read_embeddings(context.paths.embeddings("one", SEED))
    unit_of = dict(zip(of.train_meta["clip_id"], of.train_meta["unit"], strict=True))
    assert {(row.machine, row.kind) for row in table.itertuples()} <= {
        (machine, kind) for machine in ("fan", "valve") for kind in ("false alarm", "miss")
    }
    assert len(table) > 1
    for row in table.itertuples():
        assert unit_of[row.nearest] == unit_of[row.beyond] == row.unit
        assert row.nearest != row.beyond


def test_best_arms_are_those_with_the_highest_auc(packed: Path, tmp_path: Path) -> None:
    context = evidence(packed, tmp_path, {"bad": np.zeros(16), "good": np.zeros(16), "chance": np.zeros(16)})
    truth = context.headline("bad")["anomaly"].to_numpy()
    for arm, sign in (("bad", -1), ("good", 1)):
        context.scores[arm]["score"] = sign * truth
    assert best_arms(context) == ["good", "chance", "bad"]
    assert best_arms(context, 1) == ["good"]


def test_section_has_every_file_that_it_names(packed: Path, tmp_path: Path) -> None:
    context = evidence(packed, tmp_path, {"one": np.arange(16.0)})
    part = section(context)
    assert set(re.findall(r'src="([^"]+)"', part.html)) == set(part.files)
    assert "&lt;one&gt;" in part.html
    assert "<one>" not in part.html
    shown = len(worst(context, "one"))
    assert part.html.count("<article") == shown
    assert part.html.count("<audio") == 2 * shown
    assert re.search(r"strongest .+, [+\N{MINUS SIGN}]\d+ dB", part.html)
    for name, content in part.files.items():
        if name.endswith("webp"):
            assert Image.open(io.BytesIO(content)).size == (32, 128)
        else:
            audio, rate = soundfile.read(io.BytesIO(content))
            assert rate == 16000
            assert len(audio) == 16000


def test_section_gives_reasons(packed: Path, tmp_path: Path) -> None:
    context = evidence(packed, tmp_path, {"one": np.arange(16.0)})
    assert "No arm has scores of labelled clips" in section(replace(context, labels=context.labels.iloc[:0])).html
    (context.paths.data / "features").unlink()
    part = section(context)
    assert "No packed audio" in part.html
    assert not part.files


def test_players_hold_the_clip_at_the_gain_that_is_asked_for() -> None:
    time = np.arange(16000) / 16000
    clip = np.round(1000 * np.sin(2 * np.pi * 440 * time)).astype(np.int16)
    suffix, content = sound(clip, 16000, gain_of(1000))
    audio, _ = soundfile.read(io.BytesIO(content))
    assert suffix in ("mp3", "flac")
    spectrum = np.abs(np.fft.rfft(audio))
    assert spectrum.argmax() == 440
    assert 2 * spectrum[440] / len(audio) == pytest.approx(0.7, rel=0.02)


def test_pictures_have_low_bands_at_the_bottom_and_signs_in_colour() -> None:
    mel = np.full((64, 64), -60.0)
    mel[:16] = 0
    pixels = np.asarray(Image.open(io.BytesIO(sequential(mel, -60, 0)))).astype(int).sum(2)
    assert pixels[56:].min() > pixels[:40].max()
    diff = np.zeros((64, 64))
    diff[:, :20], diff[:, 44:] = -12, 12
    image = np.asarray(Image.open(io.BytesIO(diverging(diff, 12)))).astype(int)
    assert (image[:, 26:38, 3] == 0).all()
    assert (image[:, 50:, 0] > image[:, 50:, 2]).all()
    assert (image[:, :14, 2] > image[:, :14, 0]).all()


def test_axis_labels_do_not_run_into_each_other() -> None:
    html = figure("a.webp", "", "", 10.0, np.linspace(0, 8000, 129))
    heights = [float(y) for y in re.findall(r'y="([\d.]+)" class="end"', html)]
    assert len(heights) >= 3
    assert min(np.diff(sorted(heights))) >= 14


def test_an_arm_s_distance_is_its_back_end_s_or_its_method_s(packed: Path, tmp_path: Path) -> None:
    """As `auscult fit` chooses it: what a method with a score of its own says, too."""
    index = pd.read_parquet(packed / "test" / "index.parquet")
    context = evidence(packed, tmp_path, {"one": np.arange(len(index), dtype=float)})
    facts = context.paths.embeddings("one", SEED) / "network.json"
    for said, backend, metric in (
        ("euclidean", "native", "euclidean"),
        ("cosine", "native", "cosine"),
        ("euclidean", "knn_cosine", "cosine"),
        ("cosine", "knn_euclidean", "euclidean"),
    ):
        facts.write_text(f'{{"distance": "{said}"}}')
        judged = replace(context, backends={"one": backend})
        assert judged.metric("one") == metric
        if backend == "native":
            of = read_embeddings(context.paths.embeddings("one", SEED))
            nearest, _, _ = nearest_training(of, metric)  # type: ignore[arg-type]
            ids = of.train_meta["clip_id"].to_numpy()[nearest]
            expected = dict(zip(of.test_meta["clip_id"], ids, strict=True))
            found = worst(judged, "one", 3)
            assert [expected[clip] for clip in found["clip_id"]] == found["nearest"].tolist()
