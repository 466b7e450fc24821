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
    """Run `main` as a program: exit 1 with the message on `AuscultError` or a full disk, 130 on Ctrl-C."""
    try:
        main()
    except AuscultError as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        print("interrupted: nothing half-written is kept; the same command continues", file=sys.stderr)
        sys.exit(130)
    except OSError as error:
        if error.errno not in (28, 122):  # ENOSPC, EDQUOT
            raise
        sys.exit(
            f"error: {AuscultError('the disk is full', str(error.filename or ''), 'free some room and run the same command again')}"
        )
