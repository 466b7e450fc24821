"""Alarm events to an MQTT broker, QoS 1: an event has arrived when the broker has acknowledged it.

`<topic>` gets the events as JSON, `<topic>/status` a retained `online` or `offline`; the latter is also the last will, so that
the broker says it if this program dies. Within one run, an event is handed to the client once, which sends it again on
each new connection until it is acknowledged.
"""

from __future__ import annotations

import json
import os
import ssl
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from auscult.detector.alarms import Event
from auscult.detector.outbox import Receiver
from auscult.errors import AuscultError
from auscult.packages import require

KEEPALIVE = 30
"""Seconds without a word after which a broker counts as gone."""
SOON, LATEST = 1.0, 60.0
"""Seconds until a broker that is away is tried again, at first and at most."""
SELDOM = 300.0
"""Seconds until one that refuses is tried again."""
_UNAVAILABLE = "Server unavailable"


@dataclass(frozen=True)
class Address:
    """Of a topic at a broker; `secret`, the password, is not part of what is shown.

    >>> Address.of("mqtts://line3@broker.plant/hall/pump", {"AUSCULT_MQTT_PASSWORD": "x"})
    Address(host='broker.plant', port=8883, topic='hall/pump', user='line3', tls=True)
    """

    host: str
    port: int
    topic: str
    user: str
    tls: bool
    secret: str | None = field(default=None, repr=False)

    @classmethod
    def of(cls, url: str, environment: Any = os.environ) -> Address:
        """Of `mqtt[s]://[user@]host[:port]/topic`; the password is that of AUSCULT_MQTT_PASSWORD, or in the file that
        AUSCULT_MQTT_PASSWORD_FILE names.

        Raises:
            AuscultError: no such address, or a password in it.
            OSError: the file cannot be read.
        """
        # No message repeats the address, not even in part: a password may stand anywhere in a wrong one.
        fix = "use mqtt://[user@]host[:port]/topic, or mqtts:// for TLS"
        try:
            parts = urlsplit(url)
            port = parts.port
        except ValueError:
            raise AuscultError("--mqtt is no address of a topic", fix=fix) from None
        if parts.password is not None:
            what = "--mqtt: a password on the command line can be read by every user of this machine"
            raise AuscultError(what, fix="put it into AUSCULT_MQTT_PASSWORD, or a file: AUSCULT_MQTT_PASSWORD_FILE")
        topic = unquote(parts.path[1:])
        if parts.scheme not in ("mqtt", "mqtts") or not parts.hostname or not topic or parts.query or parts.fragment:
            raise AuscultError("--mqtt is no address of a topic", fix=fix)
        if any(mark in topic for mark in "+#\0") or len(topic.encode()) > 60_000:
            raise AuscultError("--mqtt: a topic to send to has no wildcards (+ or #)", fix=fix)
        secret = environment.get("AUSCULT_MQTT_PASSWORD")
        if secret is None and (file := environment.get("AUSCULT_MQTT_PASSWORD_FILE")):
            secret = Path(file).read_text().rstrip("\r\n")
        tls = parts.scheme == "mqtts"
        default = 8883 if tls else 1883
        return cls(parts.hostname, port or default, topic, unquote(parts.username or ""), tls, secret)

    def __str__(self) -> str:
        return f"{'mqtts' if self.tls else 'mqtt'}://{self.host}:{self.port}"


class Mqtt(Receiver):
    """Sends events to a topic, in a thread of its own.

    Args:
        soon, seldom: see `SOON` and `SELDOM`.

    Raises:
        AuscultError: paho-mqtt is not installed.
    """

    name = "mqtt"

    def __init__(self, address: Address, soon: float = SOON, seldom: float = SELDOM) -> None:
        Client = require("paho.mqtt.client", "MQTT").Client
        CallbackAPIVersion = require("paho.mqtt.enums", "MQTT").CallbackAPIVersion
        super().__init__()
        self._address, self._soon, self._seldom = address, soon, seldom
        self._client: Any = Client(CallbackAPIVersion.VERSION2)
        if address.tls:
            self._client.tls_set()
        if address.user or address.secret:
            self._client.username_pw_set(address.user, address.secret)
        self._status = f"{address.topic}/status"
        self._client.will_set(self._status, "offline", 1, True)
        self._client.on_connect, self._client.on_publish = self._connected, self._published
        self._sent: dict[int, Event] = {}
        self._end = 0.0  # of the last wait; 0 = not yet
        self._closing = threading.Event()
        self._refused, self._said = "", ""

    def close(self, seconds: float) -> None:
        self._end = time.monotonic() + seconds
        self._closing.set()
        self._thread.join(seconds + 1.0)

    def _work(self) -> None:
        wait = self._soon
        while not self._over():
            self._refused, began = "", time.monotonic()
            problem = self._session()
            if not problem:
                return
            if time.monotonic() - began > LATEST:
                wait = self._soon  # it had worked for a while
            until = self._seldom if self._refused else wait
            if problem != self._said:
                self._say(
                    f"--mqtt {self._address}: {problem}; trying again {f'in {until:g} s' if self._refused else ''}".rstrip()
                )
            self._said = problem
            wait = min(2 * wait, LATEST)
            self._pause(until)

    def _pause(self, seconds: float) -> None:
        """At the end, tries come close together: there is little time left."""
        if not self._closing.wait(seconds):
            return
        time.sleep(min(self._soon, 0.5, max(0.0, self._end - time.monotonic())))

    def _over(self) -> bool:
        if not self._closing.is_set():
            return False
        return (not self._sent and self._waiting.empty()) or time.monotonic() > self._end

    def _session(self) -> str:
        """One connection, from its beginning to its end; why it ended, "" = because all is done."""
        client = self._client
        try:
            client.connect(self._address.host, self._address.port, KEEPALIVE)
        except ssl.SSLError as error:
            self._refused = f"no TLS connection ({getattr(error, 'verify_message', '') or error.reason or error})"
            return self._refused
        except (OSError, ValueError) as error:
            return str(getattr(error, "strerror", None) or error)
        while True:
            while client.is_connected() and not self._waiting.empty():
                event = self._waiting.get()
                self._sent[client.publish(self._address.topic, json.dumps(event), 1).mid] = event
            if client.loop(0.1) != 0:
                return self._refused or "the connection was lost"
            if self._over():
                client.publish(self._status, "offline", 1, True)
                client.loop(0.1)
                client.disconnect()
                return ""

    def _connected(self, client: Any, userdata: Any, flags: Any, reason: Any, properties: Any) -> None:
        if not reason.is_failure:
            client.publish(self._status, "online", 1, True)
            if self._said:
                self._say(f"--mqtt {self._address}: connected")
            self._said = ""
        elif str(reason) != _UNAVAILABLE:
            self._refused = f"the broker refuses ({reason}): check the user, and the password in AUSCULT_MQTT_PASSWORD"

    def _published(self, client: Any, userdata: Any, mid: int, reason: Any, properties: Any) -> None:
        event = self._sent.pop(mid, None)
        if event is not None:
            self._has_arrived(event)
