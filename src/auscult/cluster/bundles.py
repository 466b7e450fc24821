"""The bundle of an archive's scores: put below the output by the head, loaded from there by each worker."""

from __future__ import annotations

import shutil
import tempfile
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from auscult.cluster.output import Output
from auscult.detector.manifest import Manifest, check_files, read_manifest
from auscult.errors import AuscultError
from auscult.files import digest_of

if TYPE_CHECKING:
    from auscult.detector.bundle import Bundle

ONE = threading.Lock()
"""A worker of several threads computes in one of them; the others read. One thread per worker is what is meant."""
_BUNDLES: dict[str, Bundle] = {}


@contextmanager
def checked_copy(bundle: Path) -> Iterator[tuple[Path, Manifest]]:
    """A copy that nobody changes while it is sent, and what its bundle.yaml says.

    Raises:
        AuscultError: the bundle is not whole, or is changed at this moment.
    """
    manifest = read_manifest(bundle)
    check_files(bundle, manifest)
    with tempfile.TemporaryDirectory(prefix="auscult-") as folder:
        copy = Path(folder)
        try:
            for name in (*manifest.files, "bundle.yaml"):
                (copy / name).parent.mkdir(exist_ok=True)
                shutil.copyfile(bundle / name, copy / name)
            manifest = read_manifest(copy)
            check_files(copy, manifest)
        except (AuscultError, FileNotFoundError):
            raise AuscultError("the bundle was changed while it was read", str(bundle), "start again") from None
        yield copy, manifest


def put_bundle(output: Output, folder: Path, names: Sequence[str]) -> str:
    """Put a bundle's files below the output, bundle.yaml last; gives the folder's name there.

    Raises:
        AuscultError: the store does not take them.
    """
    inside = f"_bundle/{digest_of((folder / 'bundle.yaml').read_text(encoding='utf-8'))[:16]}"
    if output.get(f"{inside}/bundle.yaml") is None:
        for name in (*names, "bundle.yaml"):
            output.put(f"{inside}/{name}", (folder / name).read_bytes())
    return inside


def loaded_bundle(output: Output, inside: str, names: Sequence[str], digest: str, threshold: float) -> Bundle:
    """The bundle below an output, loaded once per process, by one thread of the processor: the last bits depend on their number.

    Raises:
        AuscultError: it is not whole, or not the one of this digest and threshold, with which the run began.
    """
    import torch
    from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

    from auscult.detector.folder import load

    torch.set_num_threads(1)
    with ONE:
        if inside not in _BUNDLES:
            threadpool_limits(1)
            with tempfile.TemporaryDirectory(prefix="auscult-") as folder:
                _get(output, inside, names, Path(folder))
                bundle = load(folder)
            if bundle.digest != digest or bundle.threshold != threshold:
                what = (
                    f"a worker has another bundle ({bundle.name}, {bundle.digest[:16]}) than the run's, {digest[:16]}"
                )
                fix = "is the output a folder that all machines share? start again"
                raise AuscultError(what, f"{output.place}/{inside}", fix)
            _BUNDLES.clear()
            _BUNDLES[inside] = bundle
        return _BUNDLES[inside]


def _get(output: Output, inside: str, names: Sequence[str], folder: Path) -> None:
    for name in (*names, "bundle.yaml"):
        content = output.get(f"{inside}/{name}")
        if content is not None:  # what is missing is missed when it is loaded
            (folder / name).parent.mkdir(exist_ok=True)
            (folder / name).write_bytes(content)
