"""What decides scores beside a bundle and a recording: the code and the libraries, to be compared between machines."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from functools import cache
from importlib.metadata import PackageNotFoundError, version

from auscult.errors import AuscultError
from auscult.pipeline.digests import SRC, Code

_LIBRARIES = ("torch", "torchaudio", "numpy", "scipy", "scikit-learn", "soundfile", "transformers")


@cache
def program() -> dict[str, str]:
    """Of this process: versions of what it builds on, and the digest of the meaning of the code that scores.

    Its own version is not among them: that is of the commit, and changes with a word of the documentation.
    """
    found = {"Python": ".".join(platform.python_version_tuple()[:2])}
    for name in _LIBRARIES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "none"
    return {**found, "code": Code().digest(SRC / "auscult" / "detector" / "score.py")}


def require_same(wanted: Mapping[str, str], who: str) -> None:
    """
    Raises:
        AuscultError: this process is another program than `wanted`.
    """
    here = program()
    other = [f"{name} {here.get(name)} (wanted: {value})" for name, value in wanted.items() if here.get(name) != value]
    if other:
        what = f"a worker runs another program: {', '.join(other)}"
        raise AuscultError(what, who, "install the same versions on all machines: one archive is scored by one program")
