"""`auscult checkpoints`."""

from __future__ import annotations

import json
from argparse import ArgumentParser, Namespace
from typing import TYPE_CHECKING, Any

from auscult.commands import Command, print_table

if TYPE_CHECKING:
    from auscult.encoders.checkpoints import Checkpoint, CheckpointStatus


def checkpoints(parser: ArgumentParser) -> Command:
    """which checkpoints of pre-trained encoders are in place, and where to get the others

    States: present (digest as expected), unverified (in place; no digest is known to compare with), missing, wrong.
    Exit status: 1 if a named checkpoint is missing or wrong; without names, if any is wrong.

    Example: auscult checkpoints beats_iter3
    """
    parser.add_argument("names", metavar="NAME", nargs="*", help="an entry of checkpoints.yaml; none = all of them")
    parser.add_argument("--json", action="store_true", help="everything that is known, for programs")
    return _run


def _run(arguments: Namespace) -> int:
    from auscult.encoders.checkpoints import find, load_checkpoints, status

    names = arguments.names or list(load_checkpoints())
    entries = {name: find(name) for name in names}
    found = {name: status(name) for name in entries}
    if arguments.json:
        print(json.dumps([_facts(found[name], entry) for name, entry in entries.items()], indent=1))
    else:
        print_table([("checkpoint", "state", "size", "licence", "where"), *map(_row, found.values(), entries.values())])
        for name, entry in entries.items():
            _print_notes(found[name], entry)
    bad = [each for each in found.values() if each.state == "wrong" or (arguments.names and not each.usable)]
    return 1 if bad else 0


def _row(found: CheckpointStatus, entry: Checkpoint) -> tuple[str, ...]:
    sizes = [file.mib for file in entry.files if file.mib]
    if found.sha256:
        folder = found.path if len(entry.files) > 1 else found.path.parent
        size = f"{sum((folder / name).stat().st_size for name in found.sha256) / 2**20:.0f} MiB"
    else:
        size = f"~{sum(sizes):.0f} MiB" if sizes else "unknown"
    return (found.name, found.state, size, entry.licence, str(found.path))


def _print_notes(found: CheckpointStatus, entry: Checkpoint) -> None:
    """What to do about a checkpoint that is not as it should be, and what to know of it."""
    from auscult.encoders.checkpoints import folder_of, to_do

    if found.state == "present":
        return
    print(f"\n{found.name}: {entry.title}")
    if found.state != "missing":
        print(f"  {found.reason}")
    if not found.usable:
        print(f"  {to_do(found.name, entry, list(entry.files), str(folder_of(found.name)))}")
    for name, digest in found.sha256.items():
        print(f"  {name}: sha256 {digest}")
    for remark in entry.remarks:
        print(f"  note: {remark}")
    if entry.unchecked:
        print(f"  note: recalled, not read at the source: {', '.join(entry.unchecked)}")


def _facts(found: CheckpointStatus, entry: Checkpoint) -> dict[str, Any]:
    from auscult.encoders.checkpoints import folder_of

    own = {"name": found.name, "state": found.state, "reason": found.reason, "path": str(found.path)}
    return {**own, "folder": str(folder_of(found.name)), "sha256": found.sha256, "entry": entry.model_dump(mode="json")}
