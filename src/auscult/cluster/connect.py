"""A Dask cluster: the one behind an address, or workers on this machine; and tasks that are handed out a few at a time."""

from __future__ import annotations

import logging
import os
import pickle
import queue
import re
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

from auscult.errors import AuscultError
from auscult.packages import require

if TYPE_CHECKING:
    from distributed import Client, Future

TIMEOUT = 15.0
"""Seconds in which a scheduler must answer."""
_BEYOND = 2.0
"""Seconds after those, in which Dask should say so itself."""
_LOOK = 5.0
"""Seconds between two counts of the workers."""
_LOCAL = re.compile(r"local(?::([1-9]\d{0,3}))?")
_SLOW = ["distributed", "numpy", "pandas", "pyarrow.parquet", "scipy.signal", "soundfile", "torch", "torchaudio"]
"""Packages of others that take seconds to load."""


@contextmanager
def connected(address: str, timeout: float = TIMEOUT) -> Iterator[Client]:
    """A client of the scheduler at `address` (`tcp://host:8786`, `tls://...`), or of a cluster made for this call: `local`, a
    worker per core, or `local:4`. Certificates for TLS are those of Dask's own configuration.

    Workers on this machine listen on the loopback interface alone, and talk TLS with a key that only they have: a Dask
    scheduler runs what it is sent, and other users of the machine could send it something.

    Raises:
        AuscultError: Dask is not installed, no such address, or nobody answers in time.
    """
    distributed = require("distributed", "--scheduler")
    local = _LOCAL.fullmatch(address)
    with suppress_reconnects():
        if local:
            count = int(local[1] or os.cpu_count() or 1)
            with _workers_here(count) as cluster, distributed.Client(cluster) as client:
                yield client
            return
        try:
            client = _client(address, timeout)
        except (OSError, TimeoutError) as error:
            what = f"no Dask scheduler answers within {timeout:g} s"
            fix = "start one (dask scheduler) or mend the address; tls:// needs certificates in Dask's configuration"
            raise AuscultError(what, f"{address} ({_first_line(error)})", fix) from None
        except (ValueError, TypeError) as error:
            fix = "say --scheduler tcp://host:8786, or --scheduler local:4"
            raise AuscultError(f"this is no address of a scheduler ({_first_line(error)})", address, fix) from None
        with client:
            yield client


def _client(address: str, timeout: float) -> Client:
    """In a thread that can be left behind: Dask's own timeout does not end the wait for one that takes the connection and says
    nothing."""
    from distributed import Client

    made: queue.SimpleQueue[Client | Exception] = queue.SimpleQueue()

    def make() -> None:
        try:
            made.put(Client(address, timeout=timeout, name="auscult"))
        except Exception as error:
            made.put(error)

    threading.Thread(target=make, daemon=True).start()
    try:
        client = made.get(timeout=timeout + _BEYOND)
    except queue.Empty:
        raise TimeoutError("something takes the connection and does not talk as one") from None
    if isinstance(client, Exception):
        raise client
    return client


@contextmanager
def _workers_here(count: int) -> Iterator[Any]:
    """Processes of one thread each; one that ends is started again. Memory is not limited: a limit pauses workers, and the
    network alone may take most of a share of a small machine.

    On Linux all are forked from one process that has loaded what is slow to load, so that neither many nor new ones wait.
    """
    import dask
    from distributed import LocalCluster, Security
    from distributed.utils import get_mp_context

    forked = {"distributed.worker.multiprocessing-method": "forkserver"} if sys.platform.startswith("linux") else {}
    settings: dict[str, object] = {
        "distributed.scheduler.http.routes": [], "distributed.worker.http.routes": [],
        "distributed.deploy.lost-worker-timeout": "1 hour",  # or a worker that starts again slowly is ended
        **forked,
    }  # fmt: skip
    with dask.config.set(settings):
        if forked:
            get_mp_context().set_forkserver_preload(_SLOW)
        with LocalCluster(
            n_workers=count, threads_per_worker=1, host="127.0.0.1", protocol="tls://", security=Security.temporary(),
            dashboard_address="127.0.0.1:0", scheduler_kwargs={"dashboard": False}, memory_limit=0,
            silence_logs=logging.CRITICAL,
        ) as cluster:  # fmt: skip
            yield cluster


@contextmanager
def suppress_reconnects() -> Iterator[None]:
    """Without the log lines of a connection that ends, which we say ourselves."""
    loggers = [logging.getLogger(f"distributed.{name}") for name in ("client", "core", "comm.tcp", "batched")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


class Tasks:
    """Hands out tasks a few per thread of the cluster, so that neither the scheduler nor this process ever holds them all.

    Args:
        function: of a task; a module's function, for workers import it by name.
        more: called with a task whose workers died again and again; gives smaller ones to be done in its place.
        look: called every few seconds with the number of threads of all workers.
    """

    def __init__(
        self,
        client: Client,
        function: Callable[..., Any],
        more: Callable[[Any], Iterable[Any]] = lambda task: (),
        look: Callable[[int], object] = lambda threads: None,
    ) -> None:
        self._client, self._function, self._more, self._told = client, function, more, look
        self._waiting: list[Any] = []
        self._running: dict[Any, Any] = {}
        self._ended: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._looked = -_LOOK
        self.threads = 0

    def results(self, tasks: Iterable[Any]) -> Iterator[Any]:
        """What `function` returns, in the order in which tasks end. Leaving early takes back what has been handed out.

        Raises:
            AuscultError: the scheduler is gone, or lacks this package.
        """
        source = iter(tasks)
        try:
            self._look()
            self._hand_out(source)
            while self._running:
                self._look()
                try:
                    ended = [self._ended.get(timeout=_LOOK)]
                except queue.Empty:
                    continue
                while not self._ended.empty():
                    ended.append(self._ended.get())
                results = [self._result(future) for future in ended]
                self._hand_out(source)
                yield from (result for result in results if result is not None)
        finally:
            with suppress(Exception):  # the scheduler may be gone
                self._client.cancel(list(self._running))
            self._running.clear()

    def _look(self) -> None:
        if time.monotonic() - self._looked > _LOOK:
            try:
                self.threads = sum(self._client.nthreads().values())
            except (OSError, TimeoutError):
                raise _lost() from None
            loop, cluster = self._client.loop, self._client.cluster
            if cluster is not None and loop is not None:
                loop.add_callback(_replace_ended, cluster)
            self._told(self.threads)
            self._looked = time.monotonic()

    def _hand_out(self, source: Iterator[Any]) -> None:
        """Together, for each call costs the scheduler milliseconds."""
        tasks: list[Any] = []
        while len(self._running) + len(tasks) < 2 * max(1, self.threads) + 2:
            task = self._waiting.pop() if self._waiting else next(source, None)
            if task is None:
                break
            tasks.append(task)
        if tasks:
            # As bytes: Dask would look into every name in it for results of other tasks.
            packed, function = [pickle.dumps(task) for task in tasks], [self._function] * len(tasks)
            futures = self._client.map(_unpacked, function, packed, pure=False)
            self._running.update(zip(futures, tasks, strict=True))
            for future in futures:
                future.add_done_callback(self._ended.put)

    def _result(self, future: Future) -> Any:
        """None where there is none yet, or never will be."""
        from distributed import CancelledError, KilledWorker

        if future.status in ("pending", "lost"):
            # Its worker ended before the result was fetched: it is done again, while there is a scheduler.
            if self._client.status != "running":
                raise _lost()
            future.add_done_callback(self._ended.put)
            return None
        task = self._running.pop(future)
        try:
            return future.result()
        except KilledWorker:
            self._waiting += self._more(task)
            return None
        except CancelledError:
            raise _lost() from None
        except Exception as found:
            error = found
        if isinstance(error, ModuleNotFoundError) or "deserialization" in str(error):
            what = f"the scheduler or a worker lacks what this machine has ({_first_line(error.__cause__ or error)})"
            raise AuscultError(what, fix="install the same auscult, with its extra `cluster`, on scheduler and workers")
        raise error


def _lost() -> AuscultError:
    what = "the connection to the scheduler is lost"
    return AuscultError(what, fix="start it again; the same command goes on where this one ended")


def _replace_ended(cluster: Any) -> None:
    """Start workers of this machine anew whose nannies gave up: those that were killed while they started."""
    from distributed.core import Status

    for name, nanny in list(cluster.workers.items()):
        if nanny.status in (Status.closed, Status.failed):
            del cluster.workers[name]
    if len(cluster.workers) < len(cluster.worker_spec):
        cluster.scale(len(cluster.worker_spec))


def _unpacked(function: Callable[..., Any], task: bytes) -> Any:
    return function(pickle.loads(task))


def still_wanted() -> bool:
    """Within a task: whether somebody waits for its result. False once it was taken back, or its client is gone."""
    from distributed import get_worker

    try:
        worker = get_worker()
    except ValueError:  # not in a task
        return True
    state = worker.state.tasks.get(worker.get_current_task())
    return state is not None and state.state != "cancelled"


def worker_name() -> str:
    """Of the worker that runs this task, to be found in its log."""
    from distributed import get_worker

    try:
        worker = get_worker()
    except ValueError:
        return "this process"
    return f"worker {worker.name} at {worker.address}"


def _first_line(error: BaseException) -> str:
    return (str(error) or type(error).__name__).splitlines()[0]
