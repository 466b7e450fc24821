"""What each file of a data set must be: size and MD5, from the profile, else from the record, then pinned for good.

The pins stand in checksums/<profile>.yaml of the project. Commit it: from then on a file that has changed is an error, on
every machine. To accept a new version, remove its line.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from tqdm import tqdm

from auscult.data.download.web import Patience, fetch_json
from auscult.errors import AuscultError
from auscult.files import atomic_file
from auscult.settings.paths import project_root
from auscult.settings.section import near


@dataclass(frozen=True)
class Checksum:
    """`md5` "" and `bytes` 0: not known."""

    md5: str = ""
    bytes: int = 0


class Pins:
    """The checksums of one profile. Keys: `<record>/<name>` of an archive, the address of any other file."""

    def __init__(self, profile: str) -> None:
        self.path = project_root() / "checksums" / f"{profile}.yaml"
        self._known = _read(self.path)

    def of(self, key: str, stated: Checksum) -> Checksum:
        """What the profile states, completed by the pin.

        Raises:
            AuscultError: they contradict each other.
        """
        return _merged(key, stated, self._known.get(key, Checksum()), "the profile", str(self.path))

    def complete(self, record: int, stated: dict[str, Checksum], base: str, patience: Patience) -> dict[str, Checksum]:
        """Size and MD5 of files of one record, asking the record for what is not known; the answer is pinned.

        Args:
            stated: by file name. Where all MD5s are known, a record that does not answer is no error.

        Raises:
            AuscultError: no such file in the record; a contradiction; no answer and an MD5 missing.
        """
        known = {name: self.of(f"{record}/{name}", checksum) for name, checksum in stated.items()}
        if all(checksum.md5 and checksum.bytes for checksum in known.values()):
            return known
        address = f"{base}/api/records/{record}"
        try:
            listed = _listed(fetch_json(address, patience), address)
        except AuscultError:
            if all(checksum.md5 for checksum in known.values()):
                tqdm.write(f"warning: {address} does not answer; sizes are not known in advance")
                return known
            raise
        for name, checksum in known.items():
            if name not in listed:
                fix = "the record may have a newer version of it: mend `source.parts` of the profile"
                raise AuscultError(f"the record has no file `{name}`{near(name, list(listed))}", address, fix)
            known[name] = _merged(f"{record}/{name}", checksum, listed[name], "what is known", address)
        self.pin({f"{record}/{name}": checksum for name, checksum in known.items()})
        return known

    def pin(self, checksums: dict[str, Checksum]) -> None:
        """Remember, in the file that is to be committed."""
        if all(self._known.get(key) == checksum for key, checksum in checksums.items()):
            return
        self._known |= checksums
        content = {key: {"md5": value.md5, "bytes": value.bytes} for key, value in sorted(self._known.items())}
        with atomic_file(self.path) as out:
            head = "# Written on the first download; commit it. A file that no longer matches is refused.\n"
            out.write_text(head + yaml.safe_dump(content, sort_keys=False, width=200))


def _merged(key: str, first: Checksum, second: Checksum, whose: str, other: str) -> Checksum:
    for one, two in ((first.md5, second.md5), (first.bytes, second.bytes)):
        if one and two and one != two:
            what = f"two checksums for one file: {one} ({whose}), {two} ({other})"
            fix = "if the file was reissued and you want the new one, remove the old checksum (profile, checksums/)"
            raise AuscultError(what, key, fix)
    return Checksum(first.md5 or second.md5, first.bytes or second.bytes)


def _listed(answer: Any, address: str) -> dict[str, Checksum]:
    """Files of a record as its web interface lists them: `files: [{key, size, checksum: "md5:..."}, ...]`."""
    try:
        files: Iterable[dict[str, Any]] = answer["files"]
        return {
            str(file["key"]): Checksum(str(file["checksum"]).removeprefix("md5:"), int(file["size"])) for file in files
        }
    except (KeyError, TypeError, ValueError):
        fix = "write the MD5s into the profile (`md5:`), from the data set's page"
        raise AuscultError("the record's list of files is not understood", address, fix) from None


def _read(path: Path) -> dict[str, Checksum]:
    if not path.is_file():
        return {}
    try:
        content = yaml.safe_load(path.read_text()) or {}
        return {key: Checksum(str(value["md5"]), int(value["bytes"])) for key, value in content.items()}
    except (yaml.YAMLError, KeyError, TypeError, ValueError, AttributeError):
        fix = "mend it, or delete it: it is written anew"
        raise AuscultError("this file of checksums is not readable", str(path), fix) from None
