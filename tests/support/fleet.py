"""A cluster in this process, what an output holds, and stores that refuse or have hosts."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import fsspec
import pandas as pd
from fsspec.implementations.memory import MemoryFileSystem

CLIPS = 23


@contextmanager
def threads(count: int = 2) -> Iterator[str]:
    """The address of workers in this process, that do not measure themselves."""
    import dask
    from distributed import LocalCluster  # who asks for it is skipped without

    quiet = {"distributed.worker.profile.enabled": False, "distributed.admin.system-monitor.interval": "10s"}
    with dask.config.set(quiet), LocalCluster(
        n_workers=count, threads_per_worker=1, processes=False, dashboard_address=":0"
    ) as cluster:  # fmt: skip
        yield cluster.scheduler_address


def rows(out: Path) -> pd.DataFrame:
    return pd.read_parquet(out).sort_values("file", ignore_index=True)


def parts(out: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in out.glob("part-*")}


class Refusing(MemoryFileSystem):
    """The files of memory://, which nobody may write through this, and whose `secret` ones nobody may read."""

    protocol = "refusing"

    @classmethod
    def _strip_protocol(cls, path: str) -> str:
        return str(super()._strip_protocol(path.replace("refusing://", "memory://")))

    def _open(self, path: str, mode: str = "rb", **options: Any) -> Any:
        if mode != "rb":
            raise PermissionError(13, "AccessDenied")
        return super()._open(path, mode, **options)

    def get_file(self, path: str, target: str, **options: Any) -> None:
        if "secret" in path:
            raise PermissionError(13, "AccessDenied")
        super().get_file(path, target, **options)

    def ls(self, path: str, detail: bool = True, **options: Any) -> Any:
        if path.endswith("/closed"):
            raise PermissionError(13, "AccessDenied")
        if path.endswith("/nobody"):
            raise NoCredentialsError("Unable to locate credentials")
        return super().ls(path, detail, **options)


class Hosted(MemoryFileSystem):
    """The files of memory://, by addresses with a host that is not in the paths, as of sftp:// and hdfs://."""

    protocol = "hosted"

    def __init__(self, host: str, **options: Any) -> None:
        super().__init__(**options)

    @classmethod
    def _strip_protocol(cls, path: str) -> str:
        return "/" + path.partition("://")[2].partition("/")[2] if "://" in path else path.rstrip("/")

    @staticmethod
    def _get_kwargs_from_urls(path: str) -> dict[str, str]:
        host = path.partition("://")[2].partition("/")[0]
        return {"host": host} if host else {}


NoCredentialsError = type("NoCredentialsError", (Exception,), {"__module__": "botocore.exceptions"})
fsspec.register_implementation("refusing", Refusing)
fsspec.register_implementation("hosted", Hosted)
