"""A stream is judged as the same sound in a file is; what goes wrong with a source is said, and it is connected to again."""

from __future__ import annotations

import csv
import io
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
import scipy.signal
import soundfile

from auscult import cli
from auscult.data.audio import open_recording
from auscult.detector import bundle as bundles
from auscult.detector.folder import set_threshold
from auscult.detector.follow import Followed
from auscult.detector.listen import COLUMNS, WAITING, Listener, _Feed
from auscult.detector.output import Output
from auscult.detector.score import judge, score_and_curve
from auscult.detector.sources import Connection, Microphone, SourceError, Stream
from auscult.detector.stream import cut, rounded
from auscult.detector.watch import Stop
from auscult.errors import AuscultError
from support.streams import Http, Rtsp, endless_wav
from support.trees import noise

av = pytest.importorskip("av")
RATE = 16000


def machine(seed: int, seconds: float = 1.0, level: float = 1.0) -> np.ndarray:
    """int16 [n]: noise over a tone."""
    return (level * noise(np.random.default_rng(seed), seconds, 300.0)).astype(np.int16)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("normal")
    for seed in range(20):
        soundfile.write(folder / f"{seed}.wav", machine(seed), RATE)
    return bundles.fit(folder, tmp_path_factory.mktemp("out") / "pump").folder


@pytest.fixture
def bundle(made: Path) -> bundles.Bundle:
    return bundles.load(made)


@pytest.fixture(scope="module")
def sound() -> np.ndarray:
    """Nine seconds, three of them of something else."""
    parts = [
        machine(50, 3),
        (machine(51, 3) * 0.3 + 3000 * np.sin(np.arange(3 * RATE))).astype(np.int16),
        machine(52, 3.3),
    ]
    return np.concatenate(parts)


def listen(
    bundle: bundles.Bundle, source: Any, out: Path, until: Callable[[list[dict[str, str]]], object], **more: Any
) -> list[dict[str, str]]:
    """Until what is in the output is enough; a minute at most."""
    stop, begin = Stop(), time.monotonic()

    def wait() -> None:
        while time.monotonic() - begin < 60 and not (out.exists() and until(rows(out))) and not stop.is_set():
            time.sleep(0.02)
        stop.set()

    with closing(Output(out, "auscult listen", COLUMNS, bundle.name, bundle.digest, bundle.threshold)) as output:
        threading.Thread(target=wait, daemon=True).start()
        Listener(bundle, source, output, **{"patience": 5.0, "soon": 0.05, **more}).listen(stop)
    stop.set()
    return rows(out)


def rows(out: Path) -> list[dict[str, str]]:
    with open(out, newline="") as stream:
        return list(csv.DictReader(stream))


def said(found: list[dict[str, str]]) -> list[str]:
    """Of lines without a score."""
    return [row["note"] for row in found if not row["score"]]


def scored(found: list[dict[str, str]]) -> list[tuple[float, float, bool]]:
    return [(float(row["start"]), float(row["score"]), row["anomalous"] == "1") for row in found if row["score"]]


def one_by_one(bundle: bundles.Bundle, path: Path) -> list[tuple[float, float, bool]]:
    """The windows of a file, each judged by itself."""
    found = []
    with open_recording(path) as recording:
        for first, windows in cut(rounded(recording, bundle.sample_rate, bundle.channel), bundle.window, bundle.hop, 1):
            each = judge(bundle, first / bundle.sample_rate, windows)
            found.append((float(each.start[0]), float(each.score[0]), bool(each.above[0])))
    return found


def compare_with_curve(bundle: bundles.Bundle, path: Path, found: list[dict[str, str]], tolerance: float) -> None:
    windows = score_and_curve(bundle, path)[1]
    got = scored(found)
    assert len(got) >= 17
    assert [start for start, _, _ in got] == windows.start[: len(got)].tolist()
    assert [above for _, _, above in got] == windows.above[: len(got)].tolist()
    np.testing.assert_allclose([score for _, score, _ in got], windows.score[: len(got)], rtol=tolerance)


def in_pieces(content: bytes) -> Callable[[Callable[[bytes], object]], None]:
    def send(write: Callable[[bytes], object]) -> None:
        for start in range(0, len(content), 5000):
            write(content[start : start + 5000])
            time.sleep(0.002)

    return send


# --------------------------------------------------------------------------------------------------------- the same scores
def test_a_wav_that_never_ends_is_scored_to_the_bit(bundle: bundles.Bundle, sound: np.ndarray, tmp_path: Path) -> None:
    """While it comes: the server holds the connection open. Against the same windows of a file; `auscult score` computes
    sixteen of them in one matrix product, whose last digit may differ."""
    soundfile.write(tmp_path / "sound.wav", sound, RATE, subtype="PCM_16")
    over = threading.Event()

    def send(write: Callable[[bytes], object]) -> None:
        in_pieces(endless_wav(sound, RATE))(write)
        over.wait(60)

    server = Http({"/radio": send})
    found = listen(bundle, Stream(f"{server.address}/radio"), tmp_path / "o.csv", lambda rows: len(rows) >= 17)
    over.set()
    assert scored(found)[:17] == one_by_one(bundle, tmp_path / "sound.wav")[:17]
    compare_with_curve(bundle, tmp_path / "sound.wav", found[:17], 1e-12)
    assert {above for _, _, above in scored(found)} == {True, False}
    assert said(found) == []
    server.close()


def test_a_camera_by_rtsp_is_scored_to_the_bit(bundle: bundles.Bundle, sound: np.ndarray, tmp_path: Path) -> None:
    """Nor does its password appear anywhere. Packets that are lost make a hole, over which no window reaches."""
    soundfile.write(tmp_path / "sound.wav", sound, RATE, subtype="PCM_16")
    server = Rtsp(sound, RATE)
    expected = one_by_one(bundle, tmp_path / "sound.wav")
    out = tmp_path / "o.csv"
    found = listen(bundle, Stream(server.address), out, lambda rows: len(rows) > len(expected))
    assert scored(found)[: len(expected)] == expected  # the last of which ends where the sound ends
    assert found[len(expected)]["note"] == "the source ended; trying again"
    assert "secret" not in out.read_text()
    server.close()
    server = Rtsp(sound, RATE, lost=tuple(range(100, 150)))
    found = listen(bundle, Stream(server.address), tmp_path / "p.csv", said)
    notes = said(found)
    assert "s of sound are missing; trying again" in notes[0]
    assert scored(found)[:3] == expected[:3]  # two seconds
    server.close()


@pytest.mark.parametrize(
    ("form", "subtype", "tolerance"), [("FLAC", "PCM_16", 1e-5), ("OGG", "VORBIS", 1e-3), ("WAV", "PCM_24", 1e-5)]
)
def test_another_rate_and_more_channels(
    bundle: bundles.Bundle, sound: np.ndarray, tmp_path: Path, form: str, subtype: str, tolerance: float
) -> None:
    """Also through another decoder: what the bundle listens to is the first channel."""
    wide = scipy.signal.resample(sound / 32768, len(sound) * 441 // 160)  # by its spectrum, which keeps the whole band
    path = tmp_path / f"sound.{form.lower()}"
    soundfile.write(path, np.stack([wide, -0.5 * wide], axis=1), 44100, subtype=subtype, format=form)
    server = Http({"/radio": in_pieces(path.read_bytes())})
    count = len(score_and_curve(bundle, path)[1].start)
    found = listen(bundle, Stream(f"{server.address}/radio"), tmp_path / "o.csv", lambda rows: len(rows) > count)
    compare_with_curve(bundle, path, found[:count], tolerance)
    server.close()


def test_an_mp3_stream_joined_in_the_middle(bundle: bundles.Bundle, sound: np.ndarray, tmp_path: Path) -> None:
    content = io.BytesIO()
    soundfile.write(content, sound / 32768, RATE, format="MP3", subtype="MPEG_LAYER_III")
    server = Http({"/radio": in_pieces(content.getvalue()[5000:])})
    found = listen(bundle, Stream(f"{server.address}/radio"), tmp_path / "o.csv", said)
    assert len(scored(found)) >= 12, found[-2:]
    server.close()


def test_a_file_ends_and_is_not_heard_again(
    made: Path, sound: np.ndarray, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """By the command, with its alarm."""
    soundfile.write(tmp_path / "sound.flac", sound, RATE, subtype="PCM_16")
    out = tmp_path / "o.jsonl"
    arguments = ["listen", str(made), str(tmp_path / "sound.flac"), "--out", str(out), "--alarm", "3/4"]
    assert cli.main(arguments) == 0
    out_text, err = capsys.readouterr()
    count = len(out.read_text().splitlines())
    assert f"{count} windows" in err
    assert "ALARM " in out_text
    assert " is over: " in out_text
    assert cli.main(arguments) == 0
    assert len(out.read_text().splitlines()) == 2 * count


# ------------------------------------------------------------------------------------------------------------ what goes wrong
def test_a_source_that_ends_and_comes_back(bundle: bundles.Bundle, sound: np.ndarray, tmp_path: Path) -> None:
    """Each time from its beginning, for no window joins two connections; a moment of less than a window is said."""
    lengths = [2 * RATE, RATE // 4, 3 * RATE]
    answers = iter(lengths)

    def send(write: Callable[[bytes], object]) -> None:
        in_pieces(endless_wav(sound[: next(answers, 0)], RATE))(write)

    server = Http({"/radio": send})
    found = listen(
        bundle,
        Stream(f"{server.address}/radio"),
        tmp_path / "o.csv",
        lambda rows: len([r for r in rows if r["score"]]) >= 8,
    )
    starts = [start for start, _, _ in scored(found)]
    assert starts == [0, 0.5, 1, 0, 0.5, 1, 1.5, 2]
    notes = said(found)
    assert notes[0] == "the source ended; trying again"
    assert notes[1].startswith("connected again after 0.")
    assert notes[2].startswith("0.25 of a window")
    server.close()


def test_a_source_that_stalls_and_a_stop_meanwhile(bundle: bundles.Bundle, sound: np.ndarray, tmp_path: Path) -> None:
    over = threading.Event()

    def send(write: Callable[[bytes], object]) -> None:
        write(endless_wav(sound[: 6 * RATE], RATE))
        over.wait(60)

    server = Http({"/radio": send})
    address = f"{server.address}/radio"
    found = listen(bundle, Stream(address), tmp_path / "o.csv", said, patience=0.5)
    assert said(found)[0] in ("nothing came in time; trying again", "nothing came for 0.5 s; trying again")
    assert len(scored(found)) >= 10
    begin = time.monotonic()
    listen(bundle, Stream(address), tmp_path / "p.csv", lambda rows: len(rows) >= 2, patience=60.0)
    assert time.monotonic() - begin < 5
    over.set()
    server.close()


def _video(path: Path) -> Path:
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=5)
        stream.width = stream.height = 32
        for _ in range(5):
            for packet in stream.encode(av.VideoFrame(32, 32, "yuv420p")):
                container.mux(packet)
        for packet in stream.encode(None):
            container.mux(packet)
    return path


def test_what_waiting_does_not_mend_ends_it_at_once(
    made: Path, bundle: bundles.Bundle, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "page.html").write_text("<html>sign in</html>" * 100)
    server = Http({"/secret": 403, "/page": (tmp_path / "page.html").read_bytes()})
    for source, words in [
        (f"{server.address}/nothing", "404 Not Found"), (f"{server.address}/secret", "403 Forbidden"),
        (f"{server.address}/page", "Invalid data"), (str(_video(tmp_path / "video.mp4")), "no sound in this stream"),
        (str(tmp_path / "no.wav"), "No such file"), (str(tmp_path / "page.html"), "Invalid data"),
        ("gopher9://x/y", "Protocol not found"),
    ]:  # fmt: skip
        assert cli.main(["listen", str(made), source, "--out", str(tmp_path / "o.csv")]) == 2, source
        err = capsys.readouterr().err
        assert words in err, (source, err)
        assert source in err
    server.close()


def test_a_server_that_is_not_there_yet_is_waited_for(
    bundle: bundles.Bundle, sound: np.ndarray, tmp_path: Path
) -> None:
    answers: dict[str, Any] = {"/radio": 503}
    server = Http(answers)

    def later() -> None:
        time.sleep(0.5)
        answers["/radio"] = in_pieces(endless_wav(sound, RATE))

    threading.Thread(target=later).start()
    found = listen(
        bundle, Stream(f"{server.address}/radio"), tmp_path / "o.csv", lambda rows: any(r["score"] for r in rows)
    )
    assert "trying again" in found[0]["note"]
    assert found[1]["note"].startswith("connected again after ")
    assert len(said(found)) == 2  # said once, however often it was tried
    server.close()


def test_silence_and_level_are_not_judged(bundle: bundles.Bundle, tmp_path: Path) -> None:
    """As in a file, by the same words."""
    parts = [machine(50, 2), np.zeros(2 * RATE, np.int16), (machine(51, 2) * 0.02).astype(np.int16)]
    path = tmp_path / "sound.wav"
    soundfile.write(path, np.concatenate(parts), RATE, subtype="PCM_16")
    found = listen(bundle, Stream(str(path)), tmp_path / "o.csv", lambda rows: False)
    windows = score_and_curve(bundle, path)[1]
    assert [not row["score"] for row in found] == np.isnan(windows.score).tolist()
    assert [row["note"].startswith("check recording: level") for row in found] == windows.by_level.tolist()
    assert [row["note"].startswith("not judged: digital silence") for row in found] == (windows.silence > 0).tolist()
    assert windows.by_level.any()


def test_a_threshold_that_is_set_meanwhile_and_an_output_of_another_bundle(
    made: Path, sound: np.ndarray, tmp_path: Path
) -> None:
    import shutil

    folder = tmp_path / "pump"
    shutil.copytree(made, folder)
    bundle, lines = bundles.load(folder), list[str]()
    soundfile.write(tmp_path / "sound.wav", sound, RATE, subtype="PCM_16")
    out, before = tmp_path / "o.csv", bundle.threshold
    with closing(Output(out, "auscult listen", COLUMNS, bundle.name, bundle.digest, bundle.threshold)) as output:
        followed = Followed(bundle, lines.append, lambda threshold: setattr(output, "threshold", threshold))

        def refresh() -> None:
            if output.count == 5:
                set_threshold(folder, 0.3)
            followed.look()

        Listener(bundle, Stream(str(tmp_path / "sound.wav")), output, refresh=refresh).listen(Stop())
    thresholds = [float(row["threshold"]) for row in rows(out)]
    assert thresholds[:5] == [before] * 5
    assert thresholds[5:] == [bundle.threshold] * (len(thresholds) - 5)
    assert bundle.threshold == bundles.load(folder).threshold != before
    assert lines == [f"{folder}: threshold {bundle.threshold:.6g} from now on, {before:.6g} before"]
    with pytest.raises(AuscultError, match="another bundle"):
        Output(out, "auscult listen", COLUMNS, bundle.name, "2" * 64, 0.0)


def test_memory_is_bounded_where_sound_comes_faster_than_it_is_heard() -> None:
    class Fast:
        name, ends, made = "fast", False, 0

        def connect(self, patience: float) -> Any:
            from contextlib import nullcontext

            return nullcontext(Connection(RATE, 1, self.blocks()))

        def blocks(self) -> Iterator[np.ndarray]:
            while True:
                self.made += 1
                yield np.zeros((1000, 1), np.float32)

    source, stop = Fast(), Stop()
    feed = _Feed(source, 5.0, stop)
    feed.connection()
    time.sleep(0.5)
    assert WAITING <= source.made <= WAITING + 2
    feed.close()
    assert not feed._thread.is_alive()


# ---------------------------------------------------------------------------------------------------------------- microphone
class FakeAudio(ModuleType):
    """What is used of sounddevice. `sounds`: of one connection each, int16 [n, channels]; then the device is gone."""

    PortAudioError = type("PortAudioError", (Exception,), {})

    def __init__(self, sounds: list[np.ndarray], rate: int = RATE, overflow: int = -1) -> None:
        super().__init__("sounddevice")
        self.sounds, self.rate, self.overflow, self.started = sounds, rate, overflow, 0

    def query_devices(self, device: Any = None, kind: str = "") -> Any:
        facts = {"name": "USB microphone", "default_samplerate": float(self.rate), "max_input_channels": 2}
        if not kind:
            return [facts, {**facts, "name": "loudspeaker", "max_input_channels": 0}]
        if device not in (None, 0, "USB"):
            raise ValueError(f"No input device matching {device!r}")
        if self.started and not self.sounds:
            raise self.PortAudioError("Device unavailable [PaErrorCode -9985]")
        return facts

    def _terminate(self) -> None:
        self.started += 1

    _initialize = query_devices

    def InputStream(self, channels: int, samplerate: int, blocksize: int, callback: Any, **more: Any) -> Any:
        sound, stream = (
            self.sounds.pop(0)[:, :channels],
            SimpleNamespace(active=True, abort=lambda: None, close=lambda: None),
        )

        def play() -> None:
            for number, start in enumerate(range(0, len(sound), blocksize)):
                status = SimpleNamespace(input_overflow=number == self.overflow)
                callback((sound[start : start + blocksize] / 32768).astype(np.float32), blocksize, None, status)
                time.sleep(0.002)
            stream.active = False

        stream.start = lambda: threading.Thread(target=play, daemon=True).start()
        return stream


def test_a_microphone_is_scored_to_the_bit_and_may_be_unplugged(
    bundle: bundles.Bundle, sound: np.ndarray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    soundfile.write(tmp_path / "sound.wav", sound, RATE, subtype="PCM_16")
    stereo = np.stack([sound, sound[::-1]], axis=1)
    monkeypatch.setitem(sys.modules, "sounddevice", FakeAudio([stereo, stereo]))
    expected = one_by_one(bundle, tmp_path / "sound.wav")
    found = listen(
        bundle, Microphone("USB", bundle.channel), tmp_path / "o.csv",
        lambda rows: len(said(rows)) >= 4,
    )  # fmt: skip
    assert scored(found) == expected * 2
    notes = said(found)
    assert notes[0] == notes[2] == "the microphone is gone: unplugged?; trying again"
    assert notes[1].startswith("connected again after ")
    assert notes[3].startswith("no microphone (Device unavailable")


def test_samples_that_a_microphone_drops_are_said(
    bundle: bundles.Bundle, sound: np.ndarray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stereo = np.stack([sound, sound], axis=1)
    monkeypatch.setitem(sys.modules, "sounddevice", FakeAudio([stereo, stereo], overflow=20))
    found = listen(
        bundle, Microphone("default", "mean"), tmp_path / "o.csv",
        lambda rows: len(said(rows)) >= 2,
    )  # fmt: skip
    notes = said(found)
    assert notes[0] == "the system dropped samples of the microphone; trying again"
    assert scored(found)[0][0] == 0


def test_no_such_microphone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sounddevice", FakeAudio([]))
    with pytest.raises(SourceError) as caught, Microphone("7", 0).connect(1.0):
        pass
    assert "No input device matching 7" in str(caught.value)
    assert "one of these: 0 (USB microphone)" in str(caught.value)


def test_without_portaudio(made: Path, tmp_path: Path) -> None:
    """The library of the system, which a machine without sound has not."""
    code = """
import sys
class None_:
    def find_spec(self, name, path=None, target=None):
        if name == "sounddevice":
            raise OSError("PortAudio library not found")
sys.meta_path.insert(0, None_())
from auscult import cli
sys.exit(cli.main(sys.argv[1:]))
"""
    command = [sys.executable, "-c", code, "listen", str(made), "--device", "default", "--out", str(tmp_path / "o.csv")]
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.returncode == 2
    assert (
        "error: a microphone needs the PortAudio library (PortAudio library not found)\n  to do: install it"
        in result.stderr
    )


@pytest.mark.parametrize(
    "arguments", [[], ["x.wav", "--device", "0"], ["x.wav", "--patience", "0"], ["x.wav", "--alarm", "2/1"]]
)
def test_a_wrong_command_line(tmp_path: Path, arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["listen", str(tmp_path / "no.bundle"), *arguments, "--out", str(tmp_path / "o.csv")]) == 2
    assert not (tmp_path / "o.csv").exists()
