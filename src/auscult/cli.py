"""The `auscult` command: what one wants to know or do outside the pipeline.

A new command is a function here, which declares its arguments and returns what runs it, and its name in `COMMANDS`. Its
docstring is its help; what it needs is imported when it runs, so that `auscult --help` answers at once.
"""

from __future__ import annotations

import json
import os
import sys
from argparse import ArgumentParser, Namespace, RawDescriptionHelpFormatter
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from auscult.errors import AuscultError

if TYPE_CHECKING:
    from auscult.checkpoints import Checkpoint, CheckpointStatus

Command = Callable[[Namespace], int]
"""What runs: parsed arguments -> exit status (0 = as it should be, 1 = not; 2 is for what the user can mend)."""


def checkpoints(parser: ArgumentParser) -> Command:
    """which checkpoints of pre-trained encoders are in place, and where to get the others

    States: present (digest as expected), unverified (in place; no digest is known to compare with), missing, wrong.
    Exit status: 1 if a named checkpoint is missing or wrong; without names, if any is wrong.

    Example: auscult checkpoints beats_iter3
    """
    parser.add_argument("names", metavar="NAME", nargs="*", help="an entry of checkpoints.yaml; none = all of them")
    parser.add_argument("--json", action="store_true", help="everything that is known, for programs")
    return _checkpoints


COMMANDS = (checkpoints,)


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; `argv` without the program's name, None = the command line.

    Returns:
        Exit status: the command's; 2 with one message on what a user can mend, 130 on Ctrl-C.
    """
    arguments = _parser().parse_args(argv)
    try:
        status: int = arguments.run(arguments)
        sys.stdout.flush()
        return status
    except AuscultError as error:
        print(f"error: {error}", file=sys.stderr)
    except BrokenPipeError:  # the reader has seen enough (`| head`); Python's own flush at exit must not fail again
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    except OSError as error:
        if error.filename is None or error.strerror is None:
            raise
        fix = "check the path, its permissions and the disk"
        print(f"error: {AuscultError(error.strerror, str(error.filename), fix)}", file=sys.stderr)
    return 2


def _parser() -> ArgumentParser:
    helps = {command.__name__: _paragraphs(command) for command in COMMANDS}
    example = "\n".join(f"  {text[-1].removeprefix('Example: ')}" for text in helps.values())
    parser = ArgumentParser(
        prog="auscult",
        description="Machine anomalous sound detection. Run it in the project's folder; experiments run by `dvc repro`.",
        epilog=f"examples:\n{example}\n\nauscult COMMAND --help tells more.",
        formatter_class=RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(metavar="COMMAND", required=True, title="commands")
    for command in COMMANDS:
        text = helps[command.__name__]
        own = commands.add_parser(
            command.__name__,
            help=text[0],
            description=f"{text[0][0].upper()}{text[0][1:]}.",
            epilog="\n\n".join(text[1:]),
            formatter_class=RawDescriptionHelpFormatter,
        )
        own.set_defaults(run=command(own))
    return parser


def _paragraphs(command: Callable[..., Any]) -> list[str]:
    lines = [line.strip() for line in (command.__doc__ or "").strip().splitlines()]
    return "\n".join(lines).split("\n\n")


# -------------------------------------------------------------------------------------------------------------- checkpoints
def _checkpoints(arguments: Namespace) -> int:
    from auscult.checkpoints import find, load_checkpoints, status

    names = arguments.names or list(load_checkpoints())
    entries = {name: find(name) for name in names}
    found = {name: status(name) for name in entries}
    if arguments.json:
        print(json.dumps([_facts(found[name], entry) for name, entry in entries.items()], indent=1))
    else:
        _print_table(
            [("checkpoint", "state", "size", "licence", "where"), *map(_row, found.values(), entries.values())]
        )
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


def _print_table(rows: Sequence[Sequence[str]]) -> None:
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    for row in rows:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def _print_notes(found: CheckpointStatus, entry: Checkpoint) -> None:
    """What to do about a checkpoint that is not as it should be, and what to know of it."""
    from auscult.checkpoints import folder_of, to_do

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
    from auscult.checkpoints import folder_of

    own = {"name": found.name, "state": found.state, "reason": found.reason, "path": str(found.path)}
    return {**own, "folder": str(folder_of(found.name)), "sha256": found.sha256, "entry": entry.model_dump(mode="json")}


if __name__ == "__main__":
    sys.exit(main())
