"""Reading weights without running code: safetensors, or torch files of tensors alone; and loading them key for key.

A pickle is a program. Files come from strangers, so nothing but tensors and plain values is ever unpickled.
"""

from __future__ import annotations

import json
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from auscult.errors import AuscultError, listed

if TYPE_CHECKING:  # the checks of a file below need no torch, and must not cost its import
    from torch import Tensor, nn

_LONGEST_HEADER = 100_000_000  # bytes, the format's own limit
_AGAIN = "download it again, and compare its size with the one its source states"
_CONVERT = (
    "do not load it here. On a machine that may run it, save its tensors alone with safetensors.torch.save_file, "
    "and use that .safetensors file"
)


def check_file(path: Path) -> None:
    """Look at the outside of a weights file, without torch and without reading it whole; or at a config .json beside it.

    Raises:
        AuscultError: missing, a folder, empty, a web page, a git-lfs pointer, not a checkpoint, or cut off. (Not seen: a
            change inside the file, which only a digest shows, and the missing end of torch files from before 2020.)
    """
    if path.is_dir():
        raise AuscultError("a folder stands where a weights file should be", str(path), "name the file in it")
    if not path.is_file():
        raise AuscultError("no such weights file", str(path), "put it there, or check the path")
    with open(path, "rb") as stream:
        head = stream.read(512)
    if not head:
        raise AuscultError("the weights file is empty", str(path), _AGAIN)
    text = head.removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    if text.startswith((b"<!doctype", b"<html", b"<head", b"<?xml", b"<script")):
        fix = "download the file itself: open the source page, and follow its download link"
        raise AuscultError("not a checkpoint: a web page was saved in its place", str(path), fix)
    if text.startswith(b"version https://git-lfs"):
        fix = "run `git lfs pull` where it was cloned, or download the file itself from its page"
        raise AuscultError("not a checkpoint: a git-lfs pointer, a few lines that stand for the file", str(path), fix)
    if path.suffix == ".safetensors":
        _check_safetensors(path)
    elif path.suffix == ".json":
        try:
            json.loads(path.read_bytes())
        except ValueError:
            raise AuscultError("not JSON, or cut off", str(path), _AGAIN) from None
    elif head.startswith(b"PK\x03\x04"):
        _check_zip(path)
    elif head[8:9] == b"{" and int.from_bytes(head[:8], "little") < path.stat().st_size:
        raise AuscultError("a safetensors file under another name", str(path), "let its name end with .safetensors")
    elif not head.startswith(b"\x80"):
        raise AuscultError("not a checkpoint: neither safetensors nor a torch file", str(path), _AGAIN)


def read_state(path: Path) -> dict[str, Any]:
    """What is in a weights file: key -> tensor (CPU), for torch files possibly nested, as {"cfg": ..., "model": ...}.

    Nothing in the file is executed. Tensors of a torch file are mapped, not read, until they are used: the file must stay.

    Raises:
        AuscultError: see `check_file`; or damaged inside; or a pickle of more than tensors and plain values, which is never
            loaded in any other way; or no mapping.
    """
    import torch
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    check_file(path)
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        # Files of torch before 1.6 are no zip archives, and cannot be mapped.
        state = torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path))
    except (OSError, MemoryError):
        raise
    except SafetensorError as error:
        raise AuscultError(f"a damaged safetensors file: {error}", str(path), _AGAIN) from None
    except Exception as error:  # a bent pickle can raise anything
        raise _explained(error, path) from None
    if not isinstance(state, dict):
        raise AuscultError(f"holds a {type(state).__name__}, not a mapping of weights", str(path), _CONVERT)
    return state


def load_strict(module: nn.Module, state: Mapping[str, Tensor], where: str) -> None:
    """Copy `state` into `module`: every key of `module.state_dict()`, each of its shape, and nothing else.

    Args:
        where: what messages call the weights (their file).

    Raises:
        AuscultError: keys missing, unexpected, or of another shape; five of each are named. The module is untouched then.
    """
    own = module.state_dict()
    missing = [f"{key} {tuple(value.shape)}" for key, value in own.items() if key not in state]
    unexpected = [f"{key} {_shape(value)}" for key, value in state.items() if key not in own]
    shapes = ((key, _shape(state[key]), str(tuple(value.shape))) for key, value in own.items() if key in state)
    ill = [f"{key} is {found}, should be {wanted}" for key, found, wanted in shapes if found != wanted]
    named = {"missing": missing, "unexpected": unexpected, "of another shape": ill}
    if any(named.values()):
        parts = [f"{len(keys)} {kind}:{listed(keys, 5)}" for kind, keys in named.items() if keys]
        what = f"these weights are not for this network ({len(own)} keys)\n  " + "\n  ".join(parts)
        raise AuscultError(what, where, "use the checkpoint of this architecture, or mend the sizes in its settings")
    module.load_state_dict(dict(state))


def _shape(value: Any) -> str:
    return str(tuple(value.shape)) if hasattr(value, "shape") else f"a {type(value).__name__}"


def _check_safetensors(path: Path) -> None:
    size = path.stat().st_size
    with open(path, "rb") as stream:
        start, opened = stream.read(8), stream.read(1)
        length = int.from_bytes(start, "little")
        if size > 8 and opened != b"{":  # looked at first: a header's length may begin like a pickle
            if start.startswith((b"PK\x03\x04", b"\x80")):
                fix = "give it the ending of its source (.pt, .pth, .bin, .ckpt): what it holds is checked then"
                raise AuscultError("not safetensors, but a torch file under its name", str(path), fix)
            raise AuscultError("not a safetensors file", str(path), _AGAIN)
        if length > _LONGEST_HEADER:
            raise AuscultError("not a safetensors file", str(path), _AGAIN)
        if 8 + length > size:
            raise AuscultError(f"the safetensors file is cut off ({size} bytes)", str(path), _AGAIN)
        stream.seek(8)
        try:
            ends = list(_ends(json.loads(stream.read(length))))
        except (ValueError, TypeError, AttributeError, LookupError, RecursionError):
            raise AuscultError("not a safetensors file: its header is none", str(path), _AGAIN) from None
    needed = 8 + length + max(ends, default=0)
    if size < needed:
        raise AuscultError(f"the safetensors file is cut off: {size} of {needed} bytes", str(path), _AGAIN)


def _ends(header: dict[str, Any]) -> Iterator[int]:
    return (int(entry["data_offsets"][1]) for name, entry in header.items() if name != "__metadata__")


def _check_zip(path: Path) -> None:
    try:
        with zipfile.ZipFile(path) as archive:
            names = [Path(name).name for name in archive.namelist()]
    except zipfile.BadZipFile:  # its table of contents stands at the end
        what = f"the torch file is cut off or damaged ({path.stat().st_size} bytes)"
        raise AuscultError(what, str(path), _AGAIN) from None
    if "data.pkl" not in names:
        fix = "unpack it, and take the weights file it holds"
        raise AuscultError("a zip archive, but not a torch file", str(path), fix)
    if "constants.pkl" in names:
        raise AuscultError("a TorchScript program, not weights: it would be executed", str(path), _CONVERT)


def _explained(error: Exception, path: Path) -> AuscultError:
    """What torch's refusal means: the pickle names something that is no tensor, or its bytes make no sense."""
    from pickle import UnpicklingError

    words = str(error)
    if isinstance(error, UnpicklingError) and ("nsupported" in words or "llowed" in words):
        named = words.partition("GLOBAL ")[2].split()[:1]
        what = "holds more than weights" + (f" ({named[0]})" if named else "") + ": loading it could run code"
        return AuscultError(what, str(path), _CONVERT)
    lines = [line for line in words.splitlines() if line.strip()] or [type(error).__name__]
    return AuscultError(f"the torch file is cut off or damaged: {lines[-1].strip()[:200]}", str(path), _AGAIN)
