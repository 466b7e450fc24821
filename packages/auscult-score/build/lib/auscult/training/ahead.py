"""Reading batches ahead: while the device computes, a thread gathers what comes next and sends it on its way."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

import torch

from auscult.data.store import Raw

W = TypeVar("W")


def ahead(
    wanted: Iterable[W], gather: Callable[[W], Raw], device: torch.device, depth: int
) -> Iterator[tuple[W, Raw | None]]:
    """Each of `wanted`, in order, with what `gather` reads for it, on `device`.

    On a GPU the copy runs on a stream of its own, from page-locked memory if `gather` gives such, so it overlaps with the
    computation. Page-locked memory is torch's to reuse: its allocator waits for the copy. Memory of the device belongs to
    the copying stream, so the computing stream is noted at each tensor: else it would be filled again while in use.

    Args:
        gather: runs in a thread.
        depth: read and not yet taken, at most; 0 = nothing is read, and None stands with each.

    Raises:
        Whatever `wanted` or `gather` raises, when its turn comes.
    """
    if not depth:
        yield from ((each, None) for each in wanted)
        return
    side = torch.cuda.Stream(device) if device.type == "cuda" else None
    ready: queue.SimpleQueue[tuple[W, Raw, torch.cuda.Event | None] | BaseException | None] = queue.SimpleQueue()
    room, stopped = threading.Semaphore(depth), threading.Event()

    def work() -> None:
        try:
            for each in wanted:
                room.acquire()
                if stopped.is_set():
                    return
                ready.put((each, *_send(gather(each), device, side)))
            ready.put(None)
        except BaseException as problem:  # raised where the batch is waited for, out of memory among them
            ready.put(problem)

    thread = threading.Thread(target=work, name="ahead", daemon=True)
    thread.start()
    try:
        while (item := ready.get()) is not None:
            if isinstance(item, BaseException):
                raise item
            each, raw, copied = item
            del item  # or this batch's memory is held until the next one is there
            if copied is not None:
                stream = torch.cuda.current_stream(device)
                stream.wait_event(copied)
                for tensor in raw.values():
                    tensor.record_stream(stream)
            room.release()
            yield each, raw
            del raw
    finally:  # also when the taker has had enough
        stopped.set()
        room.release()
        thread.join()


def _send(raw: Raw, device: torch.device, side: torch.cuda.Stream | None) -> tuple[Raw, torch.cuda.Event | None]:
    """Start the copies; the event that follows them."""
    if side is None:
        return raw, None
    with torch.cuda.device(device), torch.cuda.stream(side):
        sent = {kind: tensor.to(device, non_blocking=True) for kind, tensor in raw.items()}
        copied = torch.cuda.Event()
        copied.record(side)
    return sent, copied
