"""What a process listens on, as Linux tells it, and what happens when it is sent a pickle."""

from __future__ import annotations

import ipaddress
import os
import pickle
import socket
import struct
import threading
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import Any

from torch.distributed import DistError, TCPStore

LISTEN = "0A"
Address = tuple[str, int]


def children(parent: int) -> list[int]:
    """Process ids of a process's children, the eldest first."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if int((folder / "stat").read_text().rsplit(")", 1)[1].split()[1]) == parent:
                found.append(int(folder.name))
        except (OSError, IndexError):
            continue
    return sorted(found)


def listening(process: int) -> list[Address]:
    """Address and port of every TCP socket on which a process waits for connections."""
    folder, mine = Path("/proc") / str(process), set()
    for link in (folder / "fd").iterdir():
        target = os.readlink(link) if link.is_symlink() else ""
        mine.add(target.removeprefix("socket:[").removesuffix("]"))
    found = []
    for name in ("tcp", "tcp6"):
        for line in (folder / "net" / name).read_text().splitlines()[1:]:
            _, local, _, state, *_, inode = line.split()[:10]
            if state == LISTEN and inode in mine:
                address, port = local.split(":")
                words = struct.pack(
                    f"={len(address) // 8}I", *struct.unpack(f">{len(address) // 8}I", bytes.fromhex(address))
                )
                found.append((str(ipaddress.ip_address(words)), int(port, 16)))
    return found


def is_loopback(address: Address) -> bool:
    found = ipaddress.ip_address(address[0])
    mapped = getattr(found, "ipv4_mapped", None)
    return (mapped or found).is_loopback


class Bomb:
    """Makes a folder when it is unpickled."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.folder),)


def send_bomb(address: Address, folder: Path) -> None:
    """A pickle that makes `folder`: as it is, and with its length before it as Python's and other listeners have it."""
    bomb = pickle.dumps(Bomb(folder))
    for message in (bomb, struct.pack("!i", len(bomb)) + bomb, struct.pack("<Q", len(bomb)) + bomb):
        with socket.create_connection(address, timeout=5) as connection:
            connection.sendall(message)


def is_store(address: Address) -> bool:
    """Whether it is a store of PyTorch, through which torchrun's processes send each other pickles.

    PyTorch waits for ever for the answer of what is none: in a thread, which ends with the connection.
    """
    found = []

    def connect() -> None:
        with suppress(DistError):
            found.append(TCPStore(*address, is_master=False, timeout=timedelta(seconds=1)))

    thread = threading.Thread(target=connect, daemon=True)
    thread.start()
    thread.join(2)
    return bool(found)
