"""The `auscult` command: what one wants to know or do outside the pipeline.

A new command is a file in `commands/` and a name in `COMMANDS`.
"""

from __future__ import annotations

import errno
import json
import os
import sys
import traceback
from argparse import Action, ArgumentParser, Namespace, RawDescriptionHelpFormatter
from collections.abc import Callable, Sequence
from io import TextIOWrapper
from typing import Any

import auscult
from auscult.commands import Command
from auscult.commands.bench import bench
from auscult.commands.checkpoints import checkpoints
from auscult.commands.compare import compare
from auscult.commands.drift import drift
from auscult.commands.evaluate import evaluate
from auscult.commands.export import export
from auscult.commands.figure import figure
from auscult.commands.fit import fit
from auscult.commands.info import info
from auscult.commands.listen import listen
from auscult.commands.report import report
from auscult.commands.run import run
from auscult.commands.score import score
from auscult.commands.terminal import tame
from auscult.commands.threshold import threshold
from auscult.commands.update import update
from auscult.commands.watch import watch
from auscult.errors import AuscultError
from auscult.packages import missing

__all__ = ["COMMANDS", "Command", "main"]

_OUTPUT_FAULTS = (errno.EPIPE, errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)

COMMANDS = (
    compare, fit, score, threshold, watch, listen, info, drift, update, export, bench, report, figure, evaluate, run, checkpoints,
)  # fmt: skip


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; `argv` without the program's name, None = the command line.

    Returns:
        Exit status: the command's; 2 with one message on what a user can mend, and for every fault of the program or the
        system, for 1 is a verdict; 130 on Ctrl-C. With --json the message is also an object on the standard output:
        `error`, `where`, `fix`.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):  # a file's name may hold what this terminal has no letters for
            stream.reconfigure(errors="backslashreplace")
    arguments = Namespace()
    try:
        arguments = _parser().parse_args(argv)
        status: int = arguments.run(arguments)
        sys.stdout.flush()
        return status
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    except AuscultError as error:
        _complain(error, arguments)
    except OSError as error:
        _complain_of_system(error, arguments)
    except ModuleNotFoundError as error:
        problem = missing(error, "this command")
        if problem is None:
            traceback.print_exc()
        else:
            _complain(problem, arguments)
    except Exception:
        traceback.print_exc()
    return 2


def _complain_of_system(error: OSError, arguments: Namespace) -> None:
    if error.filename is not None and error.strerror is not None:
        fix = "check the path, its permissions and the disk"
        blocked = isinstance(error, (FileExistsError, NotADirectoryError))
        what = "there is a file where a folder is wanted" if blocked else error.strerror
        _complain(AuscultError(what, os.fsdecode(error.filename), fix), arguments)
        return
    if error.errno not in _OUTPUT_FAULTS:
        traceback.print_exc()
        return
    # What is left of the output must not fail again when Python ends.
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    if error.errno != errno.EPIPE:  # unless the reader has seen enough (`| head`)
        print(f"error: the output cannot be written: {error.strerror}", file=sys.stderr)


def _complain(error: AuscultError, arguments: Namespace) -> None:
    print(tame(f"error: {error}"), file=sys.stderr)
    if getattr(arguments, "json", False):
        print(json.dumps({"error": error.what, "where": error.where, "fix": error.fix}, indent=1))


class _Version(Action):
    """argparse's own wants the version before anybody asks: it is in the package's metadata, which takes a while to read."""

    def __call__(self, parser: ArgumentParser, *_: Any) -> None:
        print(f"auscult {auscult.__version__}")
        parser.exit()


def _parser() -> ArgumentParser:
    helps = {command.__name__: _paragraphs(command) for command in COMMANDS}
    example = "\n".join(f"  {text[-1].removeprefix('Example: ')}" for text in helps.values())
    parser = ArgumentParser(
        prog="auscult",
        description="Machine anomalous sound detection on your own recordings. Experiments run by `dvc repro`.",
        epilog=f"examples:\n{example}\n\nauscult COMMAND --help tells more.",
        formatter_class=RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action=_Version, nargs=0, help="show the version and exit")
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
    """Of a command's help, which is its docstring; `python -OO` has none."""
    text = command.__doc__ or f"(no help by python -OO)\n\nExample: auscult {command.__name__} --help"
    lines = [line.strip() for line in text.strip().splitlines()]
    return "\n".join(lines).split("\n\n")


if __name__ == "__main__":
    sys.exit(main())
