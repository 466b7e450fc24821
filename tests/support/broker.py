"""A real MQTT broker in a process of its own, mosquitto where it is installed, otherwise amqtt; a wire to it that can be cut."""

from __future__ import annotations

import json
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import yaml

MOSQUITTO = shutil.which("mosquitto")


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


class Broker:
    """On a port of this machine, until `stop`.

    Args:
        folder: for its configuration.
        user: (name, password) that it lets in; None = everyone.
        certificate: (certificate, key), PEM: it speaks TLS.
    """

    def __init__(
        self, folder: Path, user: tuple[str, str] | None = None, certificate: tuple[Path, Path] | None = None
    ) -> None:
        self.port, self._certificate = free_port(), certificate
        make = self._mosquitto if MOSQUITTO else self._amqtt
        self._command = make(folder, user)
        self._log = folder / "broker.log"
        self.start()

    def start(self) -> None:
        with open(self._log, "ab") as log:
            self._process = subprocess.Popen(self._command, stdout=log, stderr=log)
        for _ in range(600):
            with suppress(OSError), socket.create_connection(("127.0.0.1", self.port), timeout=1) as plain:
                if self._certificate:  # one that only connects is an error to some
                    context = ssl.create_default_context()
                    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
                    context.wrap_socket(plain).close()
                return
            assert self._process.poll() is None, self._log.read_text()
            time.sleep(0.05)
        raise AssertionError("the broker does not start")

    def stop(self, number: signal.Signals = signal.SIGKILL) -> None:
        self._process.send_signal(number)
        self._process.wait()

    def _mosquitto(self, folder: Path, user: tuple[str, str] | None) -> list[str]:
        lines = [f"listener {self.port} 127.0.0.1", f"allow_anonymous {'false' if user else 'true'}", "user root"]
        if user:
            passwords = folder / "passwords"
            passwords.write_text(f"{user[0]}:{user[1]}\n")
            subprocess.run(["mosquitto_passwd", "-U", str(passwords)], check=True)
            lines.append(f"password_file {passwords}")
        if self._certificate:
            lines += [f"certfile {self._certificate[0]}", f"keyfile {self._certificate[1]}"]
        path = folder / "mosquitto.conf"
        path.write_text("\n".join(lines))
        return [str(MOSQUITTO), "-c", str(path)]

    def _amqtt(self, folder: Path, user: tuple[str, str] | None) -> list[str]:
        listener: dict[str, Any] = {"type": "tcp", "bind": f"127.0.0.1:{self.port}"}
        if self._certificate:
            listener |= {"ssl": True, "certfile": str(self._certificate[0]), "keyfile": str(self._certificate[1])}
        plugins: dict[str, Any] = {"amqtt.plugins.authentication.AnonymousAuthPlugin": {"allow_anonymous": True}}
        if user:
            from pwdlib import PasswordHash

            passwords = folder / "passwords"
            passwords.write_text(f"{user[0]}:{PasswordHash.recommended().hash(user[1])}\n")
            plugins = {"amqtt.plugins.authentication.FileAuthPlugin": {"password_file": str(passwords)}}
        path = folder / "amqtt.yaml"
        path.write_text(yaml.safe_dump({"listeners": {"default": listener}, "plugins": plugins}))
        return [str(Path(sys.executable).with_name("amqtt")), "-c", str(path)]


class Wire:
    """A port that leads to another one, which can be cut and mended; what flows to the broker may be let through alone."""

    def __init__(self, to: int) -> None:
        self.port, self._to, self._open, self.deaf = free_port(), to, True, False
        self._sockets: list[socket.socket] = []
        self._server: socket.socket | None = None
        self.mend()

    def cut(self) -> None:
        self._open = False
        if self._server:
            with suppress(OSError):
                self._server.shutdown(socket.SHUT_RDWR)
            self._server.close()
        for each in self._sockets:
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()
        self._sockets.clear()

    def mend(self) -> None:
        self._open, self.deaf = True, False
        self._server = socket.create_server(("127.0.0.1", self.port))
        threading.Thread(target=self._accept, args=(self._server,), daemon=True).start()

    def _accept(self, server: socket.socket) -> None:
        while self._open:
            with suppress(OSError):
                here, _ = server.accept()
                there = socket.create_connection(("127.0.0.1", self._to), timeout=5)
                there.settimeout(None)
                self._sockets += [here, there]
                threading.Thread(target=self._carry, args=(here, there, False), daemon=True).start()
                threading.Thread(target=self._carry, args=(there, here, True), daemon=True).start()
            if server.fileno() < 0:
                return

    def _carry(self, source: socket.socket, sink: socket.socket, answers: bool) -> None:
        with suppress(OSError):
            while content := source.recv(4096):
                if not (answers and self.deaf):
                    sink.sendall(content)
        for each in (source, sink):
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)


class Subscriber:
    """Acknowledges all that comes on a topic and below it; back by itself when the broker is.

    Attributes:
        got: (unix time, event) of the topic itself; status: what came on <topic>/status.
        ready: set while it is subscribed.
    """

    def __init__(self, port: int, topic: str, user: tuple[str, str] | None = None) -> None:
        from paho.mqtt.client import Client
        from paho.mqtt.enums import CallbackAPIVersion

        self.got: list[tuple[float, dict[str, Any]]] = []
        self.status: list[str] = []
        self.ready, self._topic = threading.Event(), topic
        self._client: Any = Client(CallbackAPIVersion.VERSION2)
        if user:
            self._client.username_pw_set(*user)
        self._client.on_connect = lambda client, *rest: client.subscribe([(topic, 1), (f"{topic}/status", 1)])
        self._client.on_subscribe = lambda *rest: self.ready.set()
        self._client.on_disconnect = lambda *rest: self.ready.clear()
        self._client.on_message = self._message
        self._client.reconnect_delay_set(0.1, 0.5)
        self._client.connect_async("127.0.0.1", port)
        self._client.loop_start()
        assert self.ready.wait(30)

    def _message(self, client: Any, userdata: Any, message: Any) -> None:
        if message.topic == self._topic:
            self.got.append((time.time(), json.loads(message.payload)))
        else:
            self.status.append(message.payload.decode())

    def close(self) -> None:
        self._client.disconnect()
        self._client.loop_stop()
