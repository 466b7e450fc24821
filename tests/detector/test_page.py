"""The pages of a bundle: what they show is what was scored, the nearest normal sound is the nearest, and no network is asked."""

from __future__ import annotations

import csv
import io
import json
import os
import re
from collections.abc import Iterator
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from scipy.spatial.distance import cdist

from auscult import cli
from auscult.detector import bundle
from auscult.detector.bundle import Bundle, FitSettings
from auscult.detector.network import embed
from auscult.detector.page import charts, fitted, scored, sounds
from auscult.detector.places import require_page
from auscult.detector.score import score_and_curve
from auscult.detector.thresholds import quantile
from auscult.errors import AuscultError
from auscult.pages.differences import band_edges, patch_of
from support.accessible import Accessible
from support.browser import WHY_NOT, available, browser, requests, unreadable, wait
from support.trees import noise, write

CLIPS = Path(__file__).parents[3] / "shared" / "real" / "dcase2023_valve" / "valve"
RATE = 16000


@pytest.fixture(scope="module")
def normal(module_path: Path) -> Path:
    """Twelve recordings of a second; one of four with silence inside, one that begins in the middle of it, one at 44.1 kHz."""
    folder, rng = module_path / "normal", np.random.default_rng(0)
    for number in range(12):
        write(folder / f"{number:02d}.wav", noise(rng, 1.0, 300.0))
    long = noise(rng, 4.0, 300.0)
    long[RATE : RATE + RATE // 2] = 0
    write(folder / "long.wav", long)
    later = np.concatenate([long[2 * RATE + 5000 :], noise(rng, 2.0, 300.0)])
    write(folder / "later.wav", later)
    write(folder / "wide.flac", np.stack([noise(rng, 2.0, 300.0, 44100)] * 2, axis=1), 44100)
    return folder


@pytest.fixture(scope="module")
def pump(normal: Path, module_path: Path) -> Bundle:
    return bundle.fit(normal, module_path / "pump", FitSettings(seconds=1.0))


@pytest.fixture(scope="module")
def today(module_path: Path) -> Path:
    """Normal; a fault from 2 s to 3 s in twelve seconds, a whole one, one too quiet, and two that cannot be judged."""
    folder, rng = module_path / "today", np.random.default_rng(7)
    write(folder / "a.wav", noise(rng, 1.0, 300.0))
    tones = [300.0, 300.0, 2000.0, *[300.0] * 9]
    write(folder / "b <b>bold.wav", np.concatenate([noise(rng, 1.0, tone) for tone in tones]))
    write(folder / "c.wav", noise(rng, 1.0, 3000.0))
    write(folder / "d.wav", noise(rng, 1.0, 300.0) // 16)
    write(folder / "e.wav", np.zeros(RATE, np.int16))
    (folder / "f.wav").write_bytes(b"no sound")
    os.rename(folder / "a.wav", os.fsencode(folder) + b"/\xff.wav")
    return folder


@pytest.fixture(scope="module")
def page(pump: Bundle, normal: Path, today: Path, module_path: Path) -> Path:
    out = module_path / "page.html"
    assert cli.main(["score", str(pump.folder), str(today), "--html", str(out), "--normal", str(normal), "--json"]) == 2
    return out


class Parsed(HTMLParser):
    """Tags with their attributes, and the text of everything but scripts and style."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self._open: list[str] = []
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        while self._open and self._open.pop() != tag:
            pass

    def handle_data(self, data: str) -> None:
        if not {"script", "style"} & set(self._open):
            self.text += " " + " ".join(data.split())


# --------------------------------------------------------------------------------------------------------- what is shown
def test_the_window_that_is_shown_is_the_one_that_was_scored(pump: Bundle, tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    wave = np.concatenate([noise(rng, 1.0, tone, 44100) for tone in (300.0, 300.0, 300.0, 2500.0, 300.0)])
    path = write(tmp_path / "x.flac", np.stack([wave, wave], axis=1), 44100)
    found, windows = score_and_curve(pump, path)
    starts = np.round(windows.start * RATE).astype(int).tolist()
    heard = np.stack(sounds.windows_at(pump, path, starts))
    assert len(heard) == 9
    np.testing.assert_array_equal(pump.scores(heard), windows.score)
    (worst,) = sounds.windows_at(pump, path, [round(found.start * RATE)])
    assert pump.scores(worst[None])[0] == found.score


def test_a_bundle_says_where_each_of_its_windows_lies(pump: Bundle, normal: Path) -> None:
    """Without those that hold silence or that another recording holds, for recordings of any rate."""
    rows = sounds.places_of(pump)
    assert len(rows) == len(pump.reference)
    assert [number for name, number in rows if name == "long.wav"] == [0, 2, 3]
    heard = np.stack([sounds.windows_at(pump, normal / name, [number * RATE])[0] for name, number in rows])
    # By torch, as the references were made: NumPy sums the deviation of a band in another order.
    np.testing.assert_allclose(embed(pump.trained, heard)[0], pump.reference, rtol=1e-5, atol=1e-5)


def test_what_a_bundle_says_of_its_windows_is_doubted(pump: Bundle, normal: Path) -> None:
    """It may come from anybody."""
    window = noise(np.random.default_rng(0), 1.0, 300.0).astype(np.float32) / 32768
    training = {**pump.facts["training"], "sha256": {"00.wav": "7", "../x": "0"}}
    assert (
        sounds.NormalSounds(replace(pump, facts={**pump.facts, "training": training}), normal).nearest(window) is None
    )
    library = sounds.NormalSounds(replace(pump, facts={**pump.facts, "references": ()}), normal)
    assert library.by_spectrum
    found = library.nearest(sounds.windows_at(pump, normal / "05.wav", [0])[0])
    assert found is not None
    assert found.name == "05.wav"


def test_the_nearest_normal_sound_is_the_nearest(pump: Bundle, normal: Path, tmp_path: Path) -> None:
    library, rows = sounds.NormalSounds(pump, normal), sounds.places_of(pump)
    rng = np.random.default_rng(3)
    for tone in (300.0, 320.0, 1500.0):
        window = noise(rng, 1.0, tone).astype(np.float32) / 32768
        distance = cdist(pump.embed(window[None])[0].astype(np.float64), pump.reference.astype(np.float64))[0]
        found = library.nearest(window)
        assert found is not None
        assert (found.name, found.start) == rows[int(distance.argmin())]
        assert found.nearer == 0
        assert distance.min() == pytest.approx(pump.scores(window[None])[0])
        between = cdist(pump.reference[[found.row]].astype(np.float64), pump.reference.astype(np.float64))[0]
        between[[name == found.name for name, _ in rows]] = np.inf
        other = library.next_to(found)
        assert other is not None
        assert (other.name, other.start) == rows[int(between.argmin())]
    # Only the very recordings that were fitted to count; of those that are there, the nearest.
    order = list(dict.fromkeys(rows[row][0] for row in np.argsort(distance, kind="stable")))
    (tmp_path / "elsewhere").mkdir()
    for name in order[2:]:
        (tmp_path / "elsewhere" / name).write_bytes((normal / name).read_bytes())
    write(tmp_path / order[0], noise(rng, 1.0, 300.0))
    found = sounds.NormalSounds(pump, tmp_path).nearest(window)
    assert found is not None
    assert (found.name, found.nearer) == (order[2], 2)
    (tmp_path / "none").mkdir()
    assert sounds.NormalSounds(pump, tmp_path / "none").nearest(window) is None


def test_a_method_with_a_score_of_its_own_compares_spectra(normal: Path, tmp_path: Path) -> None:
    made = bundle.fit(normal, tmp_path / "b", FitSettings("ae", {"epochs": 1}, seconds=1.0))
    assert made.backend == "native"
    library = sounds.NormalSounds(made, normal)
    for name in ("03.wav", "07.wav"):
        (window,) = sounds.windows_at(made, normal / name, [0])
        found = library.nearest(window)
        assert found is not None
        assert found.name == name, "the same sound differs least"
        other = library.next_to(found)
        assert other is not None
        assert other.name != name
    strict = replace(made, rule=replace(made.rule, value=float(made.normal[0])))
    page = scored.ScorePage(tmp_path / "page.html", strict, normal)
    fault = write(tmp_path / "fault.wav", noise(np.random.default_rng(0), 1.0, 3000.0))
    page.add(fault, *score_and_curve(strict, fault))
    text = page.write().read_text()
    assert "Nearest normal recording" in text
    assert "by its spectrum, among a few" in text


@pytest.mark.parametrize("rate", [100, 1000, 8000, 16000, 48000, 192000])
def test_pictures_of_any_rate_and_length(pump: Bundle, rate: int) -> None:
    rng = np.random.default_rng(0)
    for seconds in (0.1, 10.0, 200.0):
        if rate * seconds > 2**22:
            continue
        other = replace(pump, sample_rate=rate, window=int(rate * seconds))
        window = (0.1 * rng.standard_normal(other.window)).astype(np.float32)
        mel = sounds.mel(other, window)
        assert np.isfinite(mel).all()
        assert mel.shape[1] <= sounds.FRAMES + 1
        assert (mel > -99).mean() > 0.9, "no band without a line of the spectrum"
        edges = band_edges(sounds.front_end(other))
        assert len(edges) == mel.shape[0] + 1
        patch_of(mel, mel[:, ::-1], 3)


def test_where_two_sounds_differ_is_said(pump: Bundle) -> None:
    rng = np.random.default_rng(0)
    base = (0.05 * rng.standard_normal(RATE)).astype(np.float32)
    fault = base.copy()
    fault[RATE // 2 :] += 0.1 * np.sin(2 * np.pi * 3000 * np.arange(RATE // 2) / RATE).astype(np.float32)
    own, other = sounds.mel(pump, fault), sounds.mel(pump, base)
    _, patch, _ = patch_of(own, other, 0)
    words = sounds.sentence(patch, own.shape[1], 1.0, band_edges(sounds.front_end(pump)))
    found = re.fullmatch(
        r"Most at ([\d.]+)-([\d.]+) kHz, ([\d.]+)-([\d.]+) s: (\d+) dB louder than the normal one\.",
        words.replace("\N{EN DASH}", "-"),
    )
    assert found is not None, words
    low, high, start, stop, level = map(float, found.groups())
    assert low <= 3.0 <= high < low + 1
    assert (start, stop) == (pytest.approx(0.5, abs=0.1), pytest.approx(1.0, abs=0.1))
    assert level > 6


# --------------------------------------------------------------------------------------------------------------- the page
def test_the_summary_stands_first_and_the_worst_recording_next(page: Path) -> None:
    parsed = Parsed(page)
    assert "6 recordings: 1 normal, 2 ANOMALOUS, 1 to check, 1 unusable, 1 unreadable" in parsed.text
    body = page.read_text()[page.read_text().index("<tbody>") :]
    listed = re.findall(r'<tr data-verdict="([^"]+)"><th scope="row">([^<]+)</th>', body)
    assert [verdict for verdict, _ in listed] == [
        "ANOMALOUS", "ANOMALOUS", "check recording", "unusable", "unreadable", "normal",
    ]  # fmt: skip
    assert {name for _, name in listed[:2]} == {"b &lt;b&gt;bold.wav", "c.wav"}
    assert listed[-1][1] == "\\udcff.wav"
    assert "0:02.0 to 0:03.0" in parsed.text
    assert "of 23 windows above the threshold, 2.3 expected of normal sound" in parsed.text
    assert "digital silence (1 s of one value)" in parsed.text
    assert "dB below any training recording" in parsed.text
    assert not re.search(r"\b(AUC|kNN|k-NN|embedding|backend|p-value|quantile)", parsed.text)


def test_names_are_text_and_nothing_is_loaded(page: Path) -> None:
    parsed = Parsed(page)
    assert "bold" in parsed.text
    assert not any(tag == "b" and attributes for tag, attributes in parsed.tags)
    assert "<b>bold" not in page.read_text()
    for tag, attributes in parsed.tags:
        for name in ("src", "href"):
            address = attributes.get(name)
            assert address is None or address.startswith(("data:", "#")), (tag, address)
    assert "url(" not in page.read_text()


def test_no_section_is_empty(pump: Bundle, normal: Path, today: Path, tmp_path: Path) -> None:
    """One normal recording: no chart of one point, no alarms. Nothing readable: no scores at all."""
    for files, anchors in (
        ([normal / "00.wav"], ["verdicts", "threshold", "bundle"]),
        ([today / "f.wav", today / "e.wav"], ["verdicts", "threshold", "bundle"]),
        ([today / "c.wav"], ["verdicts", "alarms", "threshold", "bundle"]),
        ([today / "b <b>bold.wav"], ["verdicts", "scores", "alarms", "threshold", "bundle"]),
    ):
        out = tmp_path / "page.html"
        cli.main(["score", str(pump.folder), *map(str, files), "--html", str(out)])
        parsed = Parsed(out)
        assert [attributes["id"] for tag, attributes in parsed.tags if tag == "section"] == anchors
        assert ("--normal FOLDER" in parsed.text) == ("alarms" in anchors)
        links = {(attributes.get("href") or "")[1:] for tag, attributes in parsed.tags if tag == "a"}
        ids = {attributes["id"] for _, attributes in parsed.tags if "id" in attributes}
        assert links <= ids


def test_output_and_status_are_those_without_a_page(
    pump: Bundle, normal: Path, today: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for more in (["--format", "csv"], ["--json"], ["--format", "jsonl"], [], ["--exit-zero"]):
        command = ["score", str(pump.folder), str(today / "c.wav"), str(normal / "00.wav"), *more]
        capsys.readouterr()
        status, plain = cli.main(command), capsys.readouterr()
        assert cli.main([*command, "--html", str(tmp_path / "x.html")]) == status == (0 if "--exit-zero" in more else 1)
        shown = capsys.readouterr()
        assert shown.out == plain.out
        assert shown.err == f"page: {tmp_path / 'x.html'}\n"


def test_only_so_many_alarms_are_shown_and_the_rest_is_counted(pump: Bundle, normal: Path, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for number in range(scored.ALARMS + 5):
        write(tmp_path / "x" / f"{number:02d}.wav", noise(rng, 1.0, 1000.0 + 100 * number))
    out = tmp_path / "page.html"
    command = ["score", str(pump.folder), str(tmp_path / "x"), "--html", str(out), "--normal", str(normal)]
    assert cli.main([*command, "--json"]) == 1
    parsed = Parsed(out)
    assert sum(tag == "audio" for tag, _ in parsed.tags) == 2 * scored.ALARMS
    assert f"the {scored.ALARMS} worst recordings (5 more are not shown)" in parsed.text


def test_a_recording_that_goes_away_is_still_listed(pump: Bundle, tmp_path: Path) -> None:
    path = write(tmp_path / "x.wav", noise(np.random.default_rng(0), 1.0, 3000.0))
    page = scored.ScorePage(tmp_path / "page.html", pump)
    page.add(path, *score_and_curve(pump, path))
    path.unlink()
    text = page.write().read_text()
    assert "Not shown: cannot be read (No such file or directory)." in text
    assert "1 recording: 1 ANOMALOUS" in text


@pytest.mark.parametrize(
    ("out", "message"),
    [
        ("page.wav", "ends in .html"),
        ("folder.html", "this is a folder"),
        ("missing/page.html", "no such folder"),
    ],
)
def test_a_place_for_no_page_is_refused_before_the_work(
    out: str, message: str, pump: Bundle, normal: Path, today: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "folder.html").mkdir()
    for command in (["score", str(pump.folder), str(today)], ["fit", str(normal), "-o", str(tmp_path / "b")]):
        capsys.readouterr()
        assert cli.main([*command, "--html", str(tmp_path / out)]) == 2
        shown = capsys.readouterr()
        assert message in shown.err
        assert shown.out == ""
    assert not (tmp_path / "b").exists()


def test_the_folder_of_normal_sound_is_checked_first(
    pump: Bundle, today: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["score", str(pump.folder), str(today), "--normal", str(tmp_path / "missing")]
    assert cli.main(command) == 2
    assert "--normal without --html" in capsys.readouterr().err
    assert cli.main([*command, "--html", str(tmp_path / "x.html")]) == 2
    assert "no such folder" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


# ----------------------------------------------------------------------------------------------------------------- charts
def test_a_thinned_curve_keeps_every_peak() -> None:
    rng = np.random.default_rng(0)
    score = rng.standard_normal(5000)
    score[1000:1010] = np.nan
    time, values = charts.thinned(np.arange(5000.0), score, 1200)
    assert len(time) == 1000
    wanted = [
        np.nanmax(score[at : at + 5]) if np.isfinite(score[at : at + 5]).any() else np.nan for at in range(0, 5000, 5)
    ]
    np.testing.assert_array_equal(values, wanted)
    np.testing.assert_array_equal(score[time.astype(int)], values)


def test_marks_lie_where_their_scores_are() -> None:
    """And those beyond the axis at its end; what has no score has no mark, and the place is left free."""
    normal = np.linspace(1, 2, 50)
    scores = [1.5, 1.9, float("nan"), 2.5, 1000.0]
    at = charts.scale(1.95, normal, [score for score in scores if score == score])
    assert at.high < 10
    verdicts = ["normal", "normal", "unreadable", "ANOMALOUS", "ANOMALOUS"]
    svg = charts.over_recordings(at, [(s, v, "") for s, v in zip(scores, verdicts, strict=True)], "label")
    wide = svg[: svg.index('class="chart narrow"')]
    dots = re.findall(r'class="normal" d="M([\d.]+) ([\d.]+)h0"', wide)
    crosses = re.findall(r'class="alarm" d="M([\d.]+) ([\d.]+)l', wide)
    assert (len(dots), len(crosses)) == (2, 2)
    (limit,) = re.findall(r'class="limit" d="M\d+ ([\d.]+)h', wide)
    heights = {1.5: float(dots[0][1]), 1.9: float(dots[1][1]), 2.5: float(crosses[0][1]) + 4, 1.95: float(limit)}
    slope = (heights[1.9] - heights[1.5]) / 0.4
    for score, height in heights.items():
        assert height == pytest.approx(heights[1.5] + slope * (score - 1.5), abs=0.2)
    assert float(crosses[1][1]) + 4 == pytest.approx(16, abs=0.1), "the upper edge"
    places = [float(x) for x, _ in dots] + [float(x) + 4 for x, _ in crosses]
    np.testing.assert_allclose(np.diff(places), np.array([1, 2, 1]) * (places[1] - places[0]), atol=0.2)


# ----------------------------------------------------------------------------------------------------------- the page of fit
def test_the_page_of_a_fit(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rng = np.random.default_rng(0)
    for number in range(14):
        sound = noise(rng, 1.0, 300.0)
        write(tmp_path / "n" / f"{number:02d}.wav", sound)
    write(tmp_path / "n" / "odd one.wav", noise(rng, 1.0, 4000.0))
    write(tmp_path / "n" / "copy.flac", sound)
    write(tmp_path / "n" / "stub.wav", noise(rng, 0.2, 300.0))
    out = tmp_path / "fit.html"
    assert cli.main(["fit", str(tmp_path / "n"), "-o", str(tmp_path / "b"), "--html", str(out), "--json"]) == 0
    shown = capsys.readouterr()
    facts = json.loads(shown.out)
    assert f"page: {out}" in shown.err
    parsed = Parsed(out)
    assert [attributes["id"] for tag, attributes in parsed.tags if tag == "section"] == [
        "notes",
        "threshold",
        "odd",
        "bundle",
    ]
    assert "From 15 recordings (0.2 minutes), in 15 windows of 1 s. 2 were left out." in parsed.text
    for name, reason in (("stub.wav", "0.2 s long"), ("copy.flac", "holds the same sound as 13.wav")):
        assert name in {**facts["training"]["same_sound"], **facts["training"]["left_out"]}
        assert f"{name} {reason}" in parsed.text
    names = re.findall(r'<article class="mistake"><h3>([^<]+)</h3>', out.read_text())
    assert names[0] == "odd one.wav"
    assert len(names) == fitted.SHOWN
    assert sum(tag == "audio" for tag, _ in parsed.tags) == fitted.SHOWN


def test_the_sound_of_the_page_of_a_fit_is_the_recording_s(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for number in range(6):
        write(tmp_path / "n" / f"{number}.wav", noise(rng, 2.0, 300.0))
    odd = np.concatenate([noise(rng, 1.0, 300.0), noise(rng, 1.0, 4000.0)])
    write(tmp_path / "n" / "odd.wav", odd)
    page = fitted.FitPage(tmp_path / "x.html")
    made = bundle.fit(tmp_path / "n", tmp_path / "b", FitSettings(seconds=1.0), listen=page.listen)
    assert (page.odd[0].name, page.odd[0].start) == ("odd.wav", 1.0)
    np.testing.assert_array_equal(np.round(page.odd[0].window * 32768), odd[RATE:])
    assert page.odd[0].score == made.normal[-1]
    assert [one.score for one in page.odd] == sorted((one.score for one in page.odd), reverse=True)
    assert len({one.name for one in page.odd}) == len(page.odd), "one window of each recording"


def test_what_a_smaller_rate_needs_is_what_the_quantile_needs() -> None:
    for rate, a_day, words in fitted.smaller_rates(0.1, 60):
        share = float(rate.rstrip(" %")) / 100
        wanted = int(words.split(":")[0].replace(",", ""))
        assert np.isfinite(quantile(np.arange(float(wanted)), share))
        assert not np.isfinite(quantile(np.arange(float(wanted - 1)), share))
        assert float(a_day) == pytest.approx(24 * share, rel=0.01)
        assert ("more" in words) == (wanted > 60)
    assert fitted.smaller_rates(0.1, 60)[-1][2] == "199: 139 more recordings"


# ------------------------------------------------------------------------------------------------------------- in a browser
@pytest.fixture(scope="module")
def driver(page: Path, module_path: Path) -> Iterator[Any]:
    if not available():
        pytest.skip(WHY_NOT)
    with browser(module_path / "browser") as found:
        found.get(page.as_uri())
        yield found
        assert [entry["message"] for entry in found.get_log("browser") if entry["level"] != "INFO"] == []
        assert {address for address in requests(found) if not address.startswith(("file:", "data:", "blob:"))} == set()


class TestAccessible(Accessible):
    """Of this page."""


def test_recordings_are_found_and_sorted(driver: Any) -> None:
    rows = "Array.from(document.querySelectorAll('.verdicts tbody tr'))"
    visible = f"{rows}.filter(r => r.offsetParent).map(r => r.dataset.verdict)"
    change = "s.dispatchEvent(new Event('input', {bubbles: true}))"
    driver.execute_script(f"const s = document.querySelector('[name=verdict]'); s.value = 'ANOMALOUS'; {change}")
    assert driver.execute_script(f"return {visible}") == ["ANOMALOUS"] * 2
    driver.execute_script(f"const s = document.querySelector('[name=find]'); s.value = 'BOLD'; {change}")
    assert driver.execute_script("return document.getElementById('shown').textContent") == "1 shown"
    driver.execute_script(f"const s = document.querySelector('#choice'); s.reset(); {change}")
    assert len(driver.execute_script(f"return {visible}")) == 6
    driver.execute_script("document.querySelector('.verdicts thead th:nth-child(3) button').click()")
    keys = "Array.from(document.querySelectorAll('.verdicts td:nth-child(3)'), c => c.dataset.v).filter(v => v).map(Number)"
    found = driver.execute_script(f"return {keys}")
    assert len(found) == 4
    assert found == sorted(found, reverse=True)


def test_sounds_and_pictures_load(driver: Any) -> None:
    assert driver.execute_script("return document.querySelectorAll('audio').length") == 6
    driver.execute_script("document.querySelectorAll('audio').forEach(a => { a.preload = 'metadata'; a.load(); })")
    wait(driver, "Array.from(document.querySelectorAll('audio')).every(a => a.readyState >= 1 && a.duration > 0.9)")
    driver.execute_script("document.querySelectorAll('img').forEach(i => { i.loading = 'eager'; })")
    wait(driver, "Array.from(document.images).every(i => i.complete && i.naturalWidth > 0)")


@pytest.mark.skipif(not available(), reason=WHY_NOT)
def test_a_phone_scrolls_downwards_only(page: Path, tmp_path: Path) -> None:
    with browser(tmp_path, width=390, height=844, dark=True) as phone:
        phone.get(page.as_uri())
        wide = phone.execute_script(
            "return [document.documentElement.scrollWidth, document.documentElement.clientWidth]"
        )
        assert wide[0] <= wide[1]
        shown = "Array.from(document.querySelectorAll('svg.chart[role=img]')).filter(s => s.clientWidth).map(s => s.classList[1])"
        assert set(phone.execute_script(f"return {shown}")) == {"narrow"}
        assert unreadable(phone) == []


# --------------------------------------------------------------------------------------------------------- the real machine
@pytest.mark.skipif(not CLIPS.is_dir(), reason="the real clips are not beside this checkout")
def test_the_page_of_a_real_machine(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made = str(tmp_path / "valve.bundle")
    assert cli.main(["fit", str(CLIPS / "train"), "-o", made, "--html", str(tmp_path / "fit.html")]) == 0
    files = sorted(map(str, (CLIPS / "test").glob("*.wav")))[::14]
    out = tmp_path / "page.html"
    capsys.readouterr()
    assert (
        cli.main(["score", made, *files, "--format", "csv", "--html", str(out), "--normal", str(CLIPS / "train")]) == 1
    )
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    anomalous = sum(row["verdict"] == "ANOMALOUS" for row in rows)
    parsed = Parsed(out)
    assert f"10 recordings: {10 - anomalous} normal, {anomalous} ANOMALOUS" in parsed.text
    assert sum(tag == "audio" for tag, _ in parsed.tags) == 2 * anomalous > 0
    nearest = {name.split(",")[0] for name in re.findall(r"Nearest normal recording</b> ([^<]+)", out.read_text())}
    assert nearest <= {path.name for path in (CLIPS / "train").iterdir()}
    assert out.stat().st_size < 300_000 * anomalous + 200_000
    with soundfile.SoundFile(CLIPS / "train" / nearest.pop()) as one:
        assert one.samplerate == 16000


def test_a_page_has_a_name_of_its_own(tmp_path: Path) -> None:
    for name in ("x.html", "X.HTM"):
        require_page(tmp_path / name)
    with pytest.raises(AuscultError, match=r"ends in \.html"):
        require_page(tmp_path / "x")
