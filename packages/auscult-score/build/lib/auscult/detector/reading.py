"""Reading files of an unknown source: bounded in memory and time, whatever they hold, and without running any of it."""

from __future__ import annotations

import hashlib
import json
import math
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from io import BufferedReader, BytesIO
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import yaml

from auscult.errors import AuscultError

_DEPTH = 12
"""Of nested lists and mappings."""
_SCALAR = 4096
"""Characters of one value: a number of more digits takes time that grows with their square."""
_HEADER = 2**20
"""Bytes of a safetensors header: some thousand tensors have a fifth of it."""
_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class _Loader(_LOADER):
    """Dates stay text, and `<<` is a key like any other."""

    yaml_implicit_resolvers: ClassVar = {
        first: [(tag, pattern) for tag, pattern in kinds if not tag.endswith((":timestamp", ":merge", ":value"))]
        for first, kinds in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }


@contextmanager
def regular(path: Path, most: int) -> Iterator[BufferedReader]:
    """Open a regular file of `most` bytes at most; a pipe, device, link or folder in its place is not waited for.

    Raises:
        AuscultError: something else is there, or the file is larger.
        OSError: it cannot be opened.
    """
    if not stat.S_ISREG(os.lstat(path).st_mode):
        raise AuscultError("not a regular file", str(path))
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)
    with open(os.open(path, flags), "rb") as stream:
        found = os.fstat(stream.fileno())
        if not stat.S_ISREG(found.st_mode):
            raise AuscultError("not a regular file", str(path))
        if found.st_size > most:
            raise AuscultError(f"{found.st_size} bytes, and such a file has {most} at most", str(path))
        yield stream


def read_bytes(path: Path, most: int) -> bytes:
    """The content of a regular file; see `regular`."""
    with regular(path, most) as stream:
        return stream.read(most)


def digest_of(path: Path, most: int) -> str:
    """SHA-256 (hex) of a regular file; see `regular`."""
    with regular(path, most) as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def plain_yaml(content: bytes, most: int) -> Any:
    """One YAML document of at most `most` values: no anchors, aliases, merge keys or tags, which can stand for more than they
    are; limits are kept before anything is made of it.

    >>> plain_yaml(b"a: [1, 2.5, 2024-01-01]", 20)
    {'a': [1, 2.5, '2024-01-01']}

    Raises:
        ValueError: no such document.
    """
    depth = 0
    try:
        for number, event in enumerate(yaml.parse(content, Loader=_Loader)):
            if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None) or getattr(event, "tag", None):
                raise ValueError("it holds anchors, aliases or tags")
            if isinstance(event, yaml.ScalarEvent) and len(event.value) > _SCALAR:
                raise ValueError("it holds a value that is too long")
            depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
            if depth > _DEPTH or number > most:
                raise ValueError("it is nested too deep, or holds too much")
        return yaml.load(content, Loader=_Loader)
    except (yaml.YAMLError, UnicodeError, RecursionError, TypeError, OverflowError) as error:
        first = str(error).partition("\n")[0]
        raise ValueError(f"no readable YAML ({first[:100]})") from None


def read_array(path: Path, dtype: type[np.generic], dimensions: int, most: int) -> np.ndarray:
    """A NumPy array whose header agrees with the size of the file.

    Raises:
        ValueError: of another type or shape, not finite, or not such a file.
    """
    content = read_bytes(path, most)
    wrong = f"{path.name} is no array of {dimensions} dimension(s) of finite {np.dtype(dtype).name}"
    stream = BytesIO(content)
    try:
        if np.lib.format.read_magic(stream) != (1, 0):
            raise ValueError(wrong)
        shape, fortran, found = np.lib.format.read_array_header_1_0(stream, max_header_size=1000)
    except Exception:  # the header is Python text: syntax errors, recursion
        raise ValueError(wrong) from None
    size = math.prod(shape) * found.itemsize
    if fortran or found != dtype or len(shape) != dimensions or min(shape) < 0 or len(content) - stream.tell() != size:
        raise ValueError(wrong)
    array = np.frombuffer(content, found, offset=stream.tell()).reshape(shape)
    if not np.isfinite(array).all():
        raise ValueError(wrong)
    return array


def tensor_shapes(path: Path, most: int) -> dict[str, tuple[str, tuple[int, ...]]]:
    """(type, shape) of each tensor by name, from the header of a safetensors file.

    Raises:
        ValueError: no such file.
    """
    with regular(path, most) as stream:
        length = int.from_bytes(stream.read(8), "little")
        if length > _HEADER:
            raise ValueError(f"{path.name} has a header of {length} bytes")
        text = stream.read(length)
    try:
        header = json.loads(text)
        header.pop("__metadata__", None)
        return {name: (str(each["dtype"]), tuple(map(int, each["shape"]))) for name, each in header.items()}
    except (RecursionError, KeyError, TypeError, AttributeError, OverflowError) as error:
        raise ValueError(f"{path.name} has no readable header ({type(error).__name__})") from None
