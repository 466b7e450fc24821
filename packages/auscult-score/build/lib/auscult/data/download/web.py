"""One question to a web server: asked again after growing pauses while the trouble may pass, refused when it will not."""

from __future__ import annotations

import json
import math
import socket
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from queue import Empty, SimpleQueue
from threading import Event, Thread
from typing import Any, TypeVar
from urllib.parse import urlsplit

import requests
import urllib3

from auscult.errors import AuscultError

T = TypeVar("T")
BUSY = {408, 425, 429}
"""Answers that ask to come back later, as every 5xx does."""
LONGEST_WAIT = 900.0
"""Seconds; a server that asks for more (Retry-After) gets no more."""
LARGEST_ANSWER = 2**24
"""Bytes of a record's list of files; the largest of these data sets has 40 kB."""
LONGEST_ANSWER = 120.0
"""Seconds it may take."""
AGAIN = "run the same command again, which continues where this one stopped"


@dataclass(frozen=True)
class Patience:
    """How long a server is given. A try that brought new bytes starts the count again."""

    tries: int = 8
    first: float = 1.0
    """Seconds before the second try; doubled each time up to `longest`."""
    longest: float = 60.0
    timeout: tuple[float, float] = (20.0, 60.0)
    """Seconds to connect, and without a byte."""
    sleep: Callable[[float], object] | None = None
    """Waits some seconds; None = wait, but end when the run ends."""
    stop: Event = field(default_factory=Event)
    """Set when the run ends."""
    reach: float = 27.0
    """Seconds for a server that has never answered in this run, all its tries and files together."""
    first_asked: dict[str, float] = field(default_factory=dict)
    """Server -> when (monotonic seconds), as long as it has not answered."""
    answered: set[str] = field(default_factory=set)

    def pause(self, seconds: float) -> None:
        (self.sleep or self.stop.wait)(seconds)
        self.check()

    def left(self, url: str) -> float:
        """Seconds for the server to be reached; endless once it was."""
        server = urlsplit(url).netloc
        if server in self.answered:
            return math.inf
        return self.first_asked.setdefault(server, time.monotonic()) + self.reach - time.monotonic()

    def check(self) -> None:
        if self.stop.is_set():
            raise Stopped


class Unreachable(AuscultError):
    """No answer at all: what holds for one file holds for all."""


class Trouble(Exception):
    """Something that may pass. `pause`: seconds the server asks for. `answered`: there is a server."""

    def __init__(self, message: str, pause: float = 0.0, answered: bool = True) -> None:
        super().__init__(message)
        self.pause, self.answered = pause, answered


class Stopped(Exception):
    """Another file's failure, or Ctrl-C, ended the run."""


def patiently(action: Callable[[], T], url: str, patience: Patience, measure: Callable[[], int] = lambda: 0) -> T:
    """`action()`, again after `Trouble`, until it succeeds or `patience.tries` tries in a row brought nothing new.

    Args:
        measure: bytes that have arrived so far.

    Raises:
        Unreachable: the last try found no server, or none was found in time.
        AuscultError: the server answers, but with nothing useful.
    """
    idle, best = 0, measure()
    while True:
        try:
            return action()
        except Trouble as trouble:
            best, idle = (measure(), 0) if measure() > best else (best, idle + 1)
            if idle >= patience.tries:
                kind = AuscultError if trouble.answered else Unreachable
                what = f"{patience.tries} tries in a row failed: {trouble}"
                raise kind(what, url, f"check the network and {AGAIN}") from None
            pause = max(trouble.pause, min(patience.longest, patience.first * 2.0 ** max(idle - 1, 0)))
            if not trouble.answered and math.isfinite(patience.left(url)):
                more = patience.left(url) - patience.reach / 4  # what the last try may take
                if more <= 0:
                    what = f"the server is not to be reached: {trouble}"
                    raise Unreachable(what, url, f"check the network (name, proxy, firewall) and {AGAIN}") from None
                pause = min(pause, more)
            patience.pause(pause)


def answer(url: str, headers: dict[str, str], patience: Patience) -> requests.Response:
    """The server's answer, whatever its status, its body still to be read."""
    left = patience.left(url)
    try:
        if math.isinf(left):
            return requests.get(url, headers=headers, stream=True, timeout=patience.timeout)
        found = _within(max(left, 0.0), url, headers, patience)
        patience.answered.add(urlsplit(url).netloc)
        return found
    except (requests.exceptions.InvalidURL, requests.exceptions.MissingSchema, requests.exceptions.InvalidSchema):
        fix = "mend it in the profile; where it is right, the server leads to a wrong one"
        raise AuscultError("this is no web address, or leads to none", url, fix) from None
    except (urllib3.exceptions.LocationParseError, UnicodeError, ValueError) as error:
        if isinstance(error, requests.RequestException):
            raise Trouble(f"no connection ({type(error).__name__})", answered=False) from None
        what = f"the server leads to an address that cannot be read ({type(error).__name__})"
        raise AuscultError(what, url, "try later, or another mirror (`source.base`)") from None
    except requests.RequestException as error:
        raise Trouble(f"no connection ({type(error).__name__})", answered=False) from None


def _within(seconds: float, url: str, headers: dict[str, str], patience: Patience) -> requests.Response:
    """The answer, if it comes in time, or later from a server that can be connected to. A name that nobody resolves, and each of
    a server's addresses, may take longer than any time limit of a connection: so in threads, which nobody waits for."""
    outcome: SimpleQueue[requests.Response | BaseException] = SimpleQueue()
    late, there = Event(), Event()

    def ask() -> None:
        try:
            found: requests.Response | BaseException = requests.get(
                url, headers=headers, stream=True, timeout=patience.timeout
            )
        except BaseException as error:
            found = error
        if late.is_set() and isinstance(found, requests.Response):
            found.close()
        outcome.put(found)

    def connect() -> None:
        server = urlsplit(url)
        with suppress(OSError, ValueError):  # said by `ask`
            port = server.port or (443 if server.scheme == "https" else 80)
            socket.create_connection((server.hostname or "", port), patience.timeout[0]).close()
            there.set()

    for work in (ask, connect):
        Thread(target=work, daemon=True).start()
    try:
        found = outcome.get(timeout=seconds)
    except Empty:
        if not there.is_set():
            late.set()
            raise Trouble(f"no answer within {patience.reach:g} s", answered=False) from None
        found = outcome.get()  # busy
    if isinstance(found, BaseException):
        raise found
    return found


def refuse(response: requests.Response, url: str) -> None:
    """Raise for every answer that does not bring what was asked for."""
    status = response.status_code
    if status in BUSY or status >= 500:
        raise Trouble(f"the server answers {status} {response.reason}", _retry_after(response))
    if status not in (200, 206):
        what = f"the server answers {status} {response.reason}"
        raise AuscultError(
            what, url, "compare record and name with the data set's page, and mend `source` of the profile"
        )


def fetch_json(url: str, patience: Patience) -> Any:
    """The parsed answer of a web interface.

    Raises:
        AuscultError: no such address, no server, or no JSON.
    """

    def ask() -> Any:
        with answer(url, {"Accept-Encoding": "identity"}, patience) as response:
            refuse(response, url)
            try:
                return json.loads(_body(response, url))
            except (ValueError, RecursionError, urllib3.exceptions.HTTPError, OSError) as error:
                raise Trouble(f"no JSON in the answer ({type(error).__name__})") from None

    return patiently(ask, url, patience)


def _body(response: requests.Response, url: str) -> bytes:
    """The whole answer, which must not be large, nor take long."""
    body, end = bytearray(), time.monotonic() + LONGEST_ANSWER
    while block := response.raw.read1(2**16, decode_content=False):
        body += block
        if len(body) > LARGEST_ANSWER or response.headers.get("Content-Encoding", "identity") != "identity":
            what = f"the answer is packed, or larger than {LARGEST_ANSWER} bytes: no list of files"
            raise AuscultError(what, url, "write the MD5s into the profile (`md5:`), from the data set's page")
        if time.monotonic() > end:
            raise Trouble(f"the answer takes longer than {LONGEST_ANSWER:g} s")
    return bytes(body)


def _retry_after(response: requests.Response) -> float:
    """Seconds the server asks for; the header gives them, or a date."""
    value = response.headers.get("Retry-After", "").strip()
    try:
        seconds = float(value) if value.isdigit() else _until(value)
    except (ValueError, TypeError):
        return 0.0
    return min(max(seconds, 0.0), LONGEST_WAIT)


def _until(date: str) -> float:
    return (parsedate_to_datetime(date) - datetime.now(UTC)).total_seconds()
