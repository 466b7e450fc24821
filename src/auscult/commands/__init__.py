"""The commands of `auscult`, one file each; `cli.py` lists them.

A command is a function that declares its arguments and returns what runs it. Its docstring is its help, the last paragraph
`Example: auscult ...`; what it needs is imported when it runs, so that `auscult --help` answers at once.
"""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Callable
from typing import Any

from auscult.commands.terminal import print_table

__all__ = ["Command", "apart", "print_table"]

Command = Callable[[Namespace], int]
"""What runs: parsed arguments -> exit status (0 = as it should be, 1 = not; 2 is for what went wrong)."""


def apart(work: Callable[..., Any], *arguments: Any) -> Any:
    """The result of `work` in a fresh process: its memory is its own, and so is its end.

    Raises:
        AuscultError: raised by `work`, or in the words of whatever else was; or its process ended without a result.
    """
    import multiprocessing

    from auscult.errors import AuscultError

    context = multiprocessing.get_context("spawn")
    receive, send = context.Pipe(duplex=False)
    process = context.Process(target=_in_process, args=(send, work, arguments), daemon=True)
    process.start()
    send.close()
    try:
        kind, value = receive.recv()
    except EOFError:
        process.join()
        what = f"the process that read it ended early (status {process.exitcode}): out of memory?"
        raise AuscultError(what, fix="close other programs, or give it less at once") from None
    finally:
        process.join()
    if kind == "error":
        raise AuscultError(*value)
    return value


def _in_process(send: Any, work: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
    import traceback

    from auscult.detector.words import reason
    from auscult.errors import AuscultError

    try:
        send.send(("value", work(*arguments)))
    except AuscultError as error:
        send.send(("error", (error.what, error.where, error.fix)))
    except Exception as error:  # want of memory is not what ended it
        traceback.print_exc()
        send.send(("error", (reason(error),)))
