"""Servers of sound on this machine: HTTP, as an Internet radio or a recorder, and RTSP, as a camera."""

from __future__ import annotations

import struct
import threading
from collections.abc import Callable
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from socketserver import StreamRequestHandler, ThreadingTCPServer
from typing import Any

import numpy as np

Sender = Callable[[Callable[[bytes], object]], None]
"""Gets `write`, and sends until it returns, which closes the connection."""


def endless_wav(sound: np.ndarray, rate: int) -> bytes:
    """WAV of int16 [n] or [n, channels] whose header states no length, as one that is still recorded."""
    channels = 1 if sound.ndim == 1 else sound.shape[1]
    form = struct.pack("<IHHIIHH", 16, 1, channels, rate, 2 * channels * rate, 2 * channels, 16)
    no = b"\xff\xff\xff\xff"
    return b"RIFF" + no + b"WAVEfmt " + form + b"data" + no + sound.astype("<i2").tobytes()


class Http:
    """`answers[path]` is a sender, a content of stated length, or a status that is no success; calls are counted in `asked`."""

    def __init__(self, answers: dict[str, Sender | bytes | int]) -> None:
        self.asked: list[str] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.0"

            def do_GET(self) -> None:
                outer.asked.append(self.path)
                answer = answers.get(self.path, 404)
                if isinstance(answer, int):
                    self.send_error(answer)
                    return
                self.send_response(200)
                self.send_header("Content-Type", "audio/x-something")
                if isinstance(answer, bytes):
                    self.send_header("Content-Length", str(len(answer)))
                self.end_headers()
                with suppress(OSError):
                    if isinstance(answer, bytes):
                        self.wfile.write(answer)
                    else:
                        answer(self.wfile.write)

            def log_message(self, *arguments: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        self.address = f"http://127.0.0.1:{self._server.server_port}"

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


class Rtsp:
    """Sends int16 [n] at `rate` Hz as L16 (RFC 3551) over the connection itself (RFC 2326, interleaved), then closes it.

    `lost`: numbers of packets, of 320 samples each, that are never sent.
    """

    def __init__(self, sound: np.ndarray, rate: int, lost: tuple[int, ...] = ()) -> None:
        description = (
            f"v=0\r\no=- 0 0 IN IP4 127.0.0.1\r\ns=x\r\nt=0 0\r\nm=audio 0 RTP/AVP 96\r\na=rtpmap:96 L16/{rate}/1\r\n"
        )
        description += "a=control:track\r\n"

        class Handler(StreamRequestHandler):
            def handle(self) -> None:
                while line := self.rfile.readline().decode().strip():
                    fields = {}
                    while field := self.rfile.readline().decode().strip():
                        name, _, value = field.partition(": ")
                        fields[name.lower()] = value
                    method = line.split()[0]
                    self._answer(method, fields)
                    if method == "PLAY":
                        with suppress(OSError):
                            self._play()
                        return

            def _answer(self, method: str, fields: dict[str, str]) -> None:
                head, body = f"RTSP/1.0 200 OK\r\nCSeq: {fields['cseq']}\r\nSession: 1\r\n", ""
                if method == "OPTIONS":
                    head += "Public: OPTIONS, DESCRIBE, SETUP, PLAY, TEARDOWN\r\n"
                elif method == "DESCRIBE":
                    head += f"Content-Type: application/sdp\r\nContent-Length: {len(description)}\r\n"
                    body = description
                elif method == "SETUP":
                    head += f"Transport: {fields['transport']}\r\n"
                self.wfile.write(f"{head}\r\n{body}".encode())

            def _play(self) -> None:
                for number, start in enumerate(range(0, len(sound), 320)):
                    if number in lost:
                        continue
                    packet = struct.pack(">BBHII", 0x80, 96, number & 0xFFFF, start, 7)
                    packet += sound[start : start + 320].astype(">i2").tobytes()
                    self.wfile.write(b"$\0" + struct.pack(">H", len(packet)) + packet)

        self._server = ThreadingTCPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        self.address = f"rtsp://user:secret@127.0.0.1:{self._server.server_address[1]}/sound"

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
