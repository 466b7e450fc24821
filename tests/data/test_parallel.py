"""Work in threads: results in order, an end at the first failure, and a bar that counts what is there."""

from __future__ import annotations

import threading
import time

import pytest
from tqdm import tqdm

from auscult.data.parallel import in_threads


@pytest.mark.parametrize("workers", [0, 1, 3])
def test_results_come_in_the_order_of_the_items(workers: int) -> None:
    def work(item: int) -> str:
        time.sleep(0.002 * (item % 3))
        return f"{item}!"

    assert in_threads(work, range(20), workers) == [f"{item}!" for item in range(20)]
    assert in_threads(work, [], workers) == []


def test_items_are_worked_on_at_the_same_time() -> None:
    both = threading.Barrier(2, timeout=30)
    in_threads(lambda item: both.wait(), range(2), 2)


def test_what_has_not_begun_at_a_failure_is_not_begun() -> None:
    begun: list[int] = []
    failed = threading.Event()

    def work(item: int) -> None:
        begun.append(item)
        if item == 1:
            failed.set()
            raise OSError("no room")
        if item > 1:
            assert failed.wait(30)
            time.sleep(0.05)

    with pytest.raises(OSError, match="no room"), tqdm(total=1000, disable=False) as bar:
        in_threads(work, range(1000), 2, bar)
    assert bar.n == 1
    assert len(begun) < 100
    assert sorted(begun) == list(range(len(begun)))


def test_the_bar_counts_what_an_item_stands_for() -> None:
    with tqdm(total=10) as bar:
        in_threads(lambda start: None, range(0, 10, 4), 2, bar, lambda start: min(4, 10 - start))
    assert bar.n == 10
