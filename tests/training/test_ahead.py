"""Reading ahead: the same batches in the same order, no more of them than asked for, and errors where they belong."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import pytest
import torch

from auscult.data.store import Raw
from auscult.training.ahead import ahead

CPU = torch.device("cpu")


def number(n: int) -> Raw:
    return {"audio": torch.full((3,), n)}


def threads() -> int:
    return sum(thread.name == "ahead" for thread in threading.enumerate())


@pytest.mark.parametrize("depth", [1, 2, 5])
def test_everything_in_order(depth: int) -> None:
    got = list(ahead(range(20), number, CPU, depth))
    assert [n for n, _ in got] == list(range(20))
    assert all(torch.equal(raw["audio"], torch.full((3,), n)) for n, raw in got)
    assert threads() == 0


def test_nothing_wanted() -> None:
    assert list(ahead([], number, CPU, 2)) == []


@pytest.mark.parametrize("depth", [1, 3])
def test_no_more_than_so_many_are_read_ahead(depth: int) -> None:
    read: list[int] = []

    def gather(n: int) -> Raw:
        read.append(n)
        return number(n)

    most = 0
    for taken, _ in enumerate(ahead(range(12), gather, CPU, depth), start=1):
        until = time.monotonic() + 5
        while len(read) < min(taken + depth, 12) and time.monotonic() < until:
            time.sleep(0.001)  # it does read on while the batch is computed
        time.sleep(0.005)
        assert len(read) == min(taken + depth, 12)
        most = max(most, len(read) - taken)
    assert most == depth


def test_an_error_comes_when_its_batch_is_due() -> None:
    def gather(n: int) -> Raw:
        if n == 3:
            raise torch.OutOfMemoryError("no room")
        return number(n)

    batches = ahead(range(9), gather, CPU, 2)
    assert [next(batches)[0] for _ in range(3)] == [0, 1, 2]
    with pytest.raises(torch.OutOfMemoryError, match="no room"):
        next(batches)
    assert threads() == 0


def test_an_error_in_what_is_wanted() -> None:
    def wanted() -> Iterator[int]:
        yield 1
        raise ValueError("no more")

    with pytest.raises(ValueError, match="no more"):
        list(ahead(wanted(), number, CPU, 2))


def test_a_taker_that_stops_leaves_no_thread() -> None:
    batches = ahead(iter(int, 1), number, CPU, 2)  # endless
    next(batches)
    batches.close()  # type: ignore[attr-defined]
    assert threads() == 0
