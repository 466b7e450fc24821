"""Work on many files at once, in threads: reading and writing leave Python's lock to others."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from tqdm import tqdm

from auscult.data.audio import workers_or_cores

T = TypeVar("T")
R = TypeVar("R")


def in_threads(
    work: Callable[[T], R],
    items: Sequence[T],
    workers: int,
    bar: tqdm[Any] | None = None,
    count: Callable[[T], int] = lambda item: 1,
) -> list[R]:
    """`[work(item) for item in items]`, several at a time. The first failure ends it: what has not begun is not begun.

    Args:
        workers: items at once; 0 = one per core.
        bar: advanced by `count(item)` when the results of the item and of all before it are there.

    Raises:
        Exception: what `work` raised on the earliest item that failed, once the items at work have ended.
    """
    results = []
    with ThreadPoolExecutor(workers_or_cores(workers)) as pool:
        try:
            for item, result in zip(items, pool.map(work, items), strict=True):
                results.append(result)
                if bar is not None:
                    bar.update(count(item))
        except BaseException:  # also Ctrl-C
            pool.shutdown(cancel_futures=True)
            raise
    return results
