"""Scores a source of sound window by window while it is made: the windows, scores and verdicts that `auscult score --curve` would
give of the same sound as a file.

A source that ends, stalls or loses samples is connected to again. Sound before and after a hole is never joined: each
connection is cut into windows by itself, the last of which ends where its sound ends. Memory is bounded: a reader thread
waits when `WAITING` blocks are not heard yet.
"""

from __future__ import annotations

import math
import queue
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import numpy as np

from auscult.data.audio import Channel
from auscult.data.resampling import resampled
from auscult.detector.folder import Bundle
from auscult.detector.output import Output
from auscult.detector.score import judge, remark
from auscult.detector.sources import CONNECT, Connection, Source, SourceError
from auscult.detector.stream import cut, to_16_bits
from auscult.detector.watch import Counts, Stop
from auscult.errors import AuscultError

COLUMNS = (
    "time", "source", "start", "score", "p_value", "anomalous", "note", "bundle", "threshold", "bundle_digest",
)  # fmt: skip
"""Of a line. `time`: when the window was scored (UTC). `start`: of the window, seconds since the connection was made. `note`: why
there is no score, a warning, or a hole."""
WAITING = 500
"""Blocks; PyAV's have some thousand samples, a microphone's 0.1 s."""
SOON, LATEST = 1.0, 60.0
"""Seconds until a source is connected to again, at first and at most."""


@dataclass
class Listener:
    """A source, a bundle and an output.

    Attributes:
        patience: seconds without a sample after which a source counts as gone.
        say: is told of each line and of what a user should know.
        refresh: is called before each window; written: is told of each line, after it is on the disk.
        soon: see `SOON`.
    """

    bundle: Bundle
    source: Source
    output: Output
    patience: float = 30.0
    say: Callable[[str], None] = lambda line: None
    refresh: Callable[[], None] = lambda: None
    written: Callable[[dict[str, Any]], None] = lambda row: None
    soon: float = SOON
    counts: Counts = field(default_factory=Counts)

    _reached: bool = False
    _lost: float | None = None
    _said: str = ""

    def listen(self, stop: Stop) -> Counts:
        """Until `stop` is set, or the end of a source that has one.

        Raises:
            AuscultError: the source cannot be heard, and waiting does not mend that; the output cannot be written; the bundle
                became another one.
        """
        wait = self.soon
        while not stop.is_set():
            before = self.counts.scored
            problem = self._connected(stop)
            if stop.is_set() or (problem is None and self.source.ends):
                break
            if problem is not None and (self.source.ends or (problem.lasting and not self._reached)):
                raise problem
            self._lost = self._lost or time.monotonic()
            what = problem.what if problem else "the source ended"
            if what != self._said:
                self._note(f"{what}; trying again")
            self._said = what
            if self.counts.scored > before:
                wait = self.soon
            stop.wait(wait)
            wait = min(2 * wait, LATEST)
        return self.counts

    def _connected(self, stop: Stop) -> SourceError | None:
        """One connection, from its beginning to its end; why it ended, None = so did the source."""
        feed = _Feed(self.source, self.patience, stop)
        try:
            connection = feed.connection()
            channel = self.bundle.channel
            if channel != "mean" and channel >= connection.channels:
                what = f"has {connection.channels} channel(s), so no channel {channel} (counted from 0)"
                raise SourceError(
                    what, self.source.name, "choose another source, or fit to another channel", lasting=True
                )
            self._begun(connection)
            sound = resampled(_chosen(feed.blocks(), channel), connection.rate, self.bundle.sample_rate)
            for first, windows in self._windows(to_16_bits(sound, self.bundle.signal.gain)):
                self.refresh()
                self._judged(first / self.bundle.sample_rate, windows)
            return feed.problem
        except SourceError as error:
            return error
        finally:
            feed.close()

    def _windows(self, sound: Iterator[np.ndarray]) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """One by one, each as soon as it is whole."""
        try:
            yield from cut(sound, self.bundle.window, self.bundle.hop, 1, self.source.name)
        except SourceError:
            raise
        except AuscultError as error:  # shorter than a window
            self._note(error.what)

    def _begun(self, connection: Connection) -> None:
        if self._lost is not None:
            self._note(f"connected again after {time.monotonic() - self._lost:.1f} s")
        what = f"{self.source.name}: {connection.rate} Hz, {connection.channels} channel(s)"
        if connection.rate < self.bundle.sample_rate:
            what += f", so that the upper band of the {self.bundle.sample_rate} Hz heard is empty"
        self.say(what)
        self._reached, self._lost, self._said = True, None, ""

    def _judged(self, start: np.ndarray, windows: np.ndarray) -> None:
        found = judge(self.bundle, start, windows)
        score, note = float(found.score[0]), remark(self.bundle, found)
        if math.isnan(score):
            self._note(f"not judged: {note}", float(start[0]))
            return
        anomalous, p_value = bool(found.above[0]), float(self.bundle.p_values(found.score)[0])
        verdict = "ANOMALOUS" if anomalous else "normal"
        if found.by_level[0]:
            verdict, note = "check recording", f"check recording: {note}"
        self.counts.scored += 1
        self.counts.anomalous += anomalous
        row = self._write(start=float(start[0]), score=score, p_value=p_value, anomalous=anomalous, note=note)
        self.say(f"{start[0]:.1f} s: {score:.6g} (p = {p_value:.3g}) {verdict}{f'; {note}' if note else ''}")
        self.written(row)

    def _note(self, text: str, start: float | None = None) -> None:
        """A line without a score."""
        self.written(self._write(start=start, note=" ".join(text.split())))
        self.say(f"{self.source.name}: {text}")

    def _write(self, **values: Any) -> dict[str, Any]:
        now = datetime.now(UTC).isoformat(timespec="milliseconds")
        return self.output.write({"time": now, "source": self.source.name, **values})


def _chosen(blocks: Iterator[np.ndarray], channel: Channel) -> Iterator[np.ndarray]:
    for block in blocks:
        mono = block.mean(axis=1) if channel == "mean" else np.ascontiguousarray(block[:, channel])
        if not np.isfinite(mono).all():
            raise SourceError("samples that are no numbers")
        yield mono


class _Feed:
    """One connection, read in a thread: a read that hangs must not keep a signal from being heard.

    Attributes:
        problem: why the blocks ended; None = so did the source.
    """

    def __init__(self, source: Source, patience: float, stop: Stop) -> None:
        self.problem: SourceError | None = None
        self._source, self._patience, self._stop = source, patience, stop
        self._items: queue.Queue[Connection | np.ndarray | Exception | None] = queue.Queue(WAITING)
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._read, name="listen", daemon=True)
        self._thread.start()

    def connection(self) -> Connection:
        """Raises:
        SourceError: there is none.
        """
        item = self._next(CONNECT + self._patience)
        if isinstance(item, Connection):
            return item
        raise self.problem or SourceError("the source ended before it began", self._source.name)

    def blocks(self) -> Iterator[np.ndarray]:
        while isinstance(item := self._next(self._patience), np.ndarray):
            yield item

    def close(self) -> None:
        self._over.set()
        self._thread.join(1.0)  # a read that hangs ends by its own time limit

    def _next(self, seconds: float) -> Connection | np.ndarray | None:
        end = time.monotonic() + seconds
        while not self._stop.is_set():
            try:
                item = self._items.get(timeout=0.1)
            except queue.Empty:
                if time.monotonic() > end:
                    self.problem = SourceError(f"nothing came for {seconds:g} s", self._source.name)
                    return None
                continue
            if isinstance(item, SourceError):
                self.problem = item
                return None
            if isinstance(item, Exception):
                raise item
            return item
        return None

    def _read(self) -> None:
        try:
            with self._source.connect(self._patience) as connection:
                self._put(connection)
                for block in connection.blocks:
                    self._put(block)
                    if self._over.is_set():
                        return
            self._put(None)
        except Exception as error:  # of whatever kind: it is the main thread's to tell
            self._put(error)

    def _put(self, item: Connection | np.ndarray | Exception | None) -> None:
        while not self._over.is_set():
            try:
                self._items.put(item, timeout=0.1)
                return
            except queue.Full:
                continue
