"""One error type for everything a user can cause and mend."""

from __future__ import annotations

import sys
from collections.abc import Callable


class AuscultError(Exception):
    """A problem the user can mend.

    Args:
        what: what is wrong, in one sentence.
        where: the file, key or clip it is about ("" when `what` says it).
        fix: what to do about it ("" when it is obvious).
    """

    def __init__(self, what: str, where: str = "", fix: str = "") -> None:
        self.what, self.where, self.fix = what, where, fix
        super().__init__(
            "\n".join(part for part in (what, where and f"  where: {where}", fix and f"  to do: {fix}") if part)
        )


def listed(items: list[str], limit: int = 20) -> str:
    """Join `items` one per line, at most `limit` of them, saying how many more there are."""
    shown = "".join(f"\n    {item}" for item in items[:limit])
    return shown + (f"\n    ... and {len(items) - limit} more" if len(items) > limit else "")


def run(main: Callable[[], None]) -> None:
    """Run `main` as a program: exit 1 with one message on what a user can mend, 130 on Ctrl-C.

    That is `AuscultError`, and an `OSError` about a file (missing, not permitted, read-only). Everything else is a bug and
    keeps its traceback.
    """
    try:
        main()
    except AuscultError as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        print("interrupted: nothing half-written is kept; the same command continues", file=sys.stderr)
        sys.exit(130)
    except FileNotFoundError as error:
        # pyarrow puts the path into the message alone.
        missing = error.filename or str(error)
        sys.exit(
            f"error: {AuscultError('a file is missing', str(missing), '`dvc repro` makes what earlier stages leave')}"
        )
    except OSError as error:
        if error.filename is None or error.strerror is None:
            raise
        fix = "check the path, its permissions and the disk"
        sys.exit(f"error: {AuscultError(error.strerror, str(error.filename), fix)}")
