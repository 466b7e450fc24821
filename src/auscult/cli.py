"""The `auscult` command: what one wants to know or do outside the pipeline.

A new command is a file in `commands/` and a name in `COMMANDS`.
"""

from __future__ import annotations

import json
import os
import sys
from argparse import ArgumentParser, Namespace, RawDescriptionHelpFormatter
from collections.abc import Callable, Sequence
from typing import Any

from auscult.commands import Command
from auscult.commands.bench import bench
from auscult.commands.checkpoints import checkpoints
from auscult.commands.export import export
from auscult.commands.fit import fit
from auscult.commands.report import report
from auscult.commands.score import score
from auscult.commands.threshold import threshold
from auscult.commands.watch import watch
from auscult.errors import AuscultError

__all__ = ["COMMANDS", "Command", "main"]

COMMANDS = (fit, score, threshold, watch, export, bench, report, checkpoints)


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; `argv` without the program's name, None = the command line.

    Returns:
        Exit status: the command's; 2 with one message on what a user can mend, 130 on Ctrl-C. With --json the message is also
        an object on the standard output: `error`, `where`, `fix`.
    """
    arguments = _parser().parse_args(argv)
    try:
        status: int = arguments.run(arguments)
        sys.stdout.flush()
        return status
    except AuscultError as error:
        _complain(error, arguments)
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
        blocked = isinstance(error, (FileExistsError, NotADirectoryError))
        what = "there is a file where a folder is wanted" if blocked else error.strerror
        _complain(AuscultError(what, str(error.filename), fix), arguments)
    return 2


def _complain(error: AuscultError, arguments: Namespace) -> None:
    print(f"error: {error}", file=sys.stderr)
    if getattr(arguments, "json", False):
        print(json.dumps({"error": error.what, "where": error.where, "fix": error.fix}, indent=1))


def _parser() -> ArgumentParser:
    helps = {command.__name__: _paragraphs(command) for command in COMMANDS}
    example = "\n".join(f"  {text[-1].removeprefix('Example: ')}" for text in helps.values())
    parser = ArgumentParser(
        prog="auscult",
        description="Machine anomalous sound detection on your own recordings. Experiments run by `dvc repro`.",
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


if __name__ == "__main__":
    sys.exit(main())
