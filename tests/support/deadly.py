"""A task of which workers die; in a module of its own, for they import it by its name."""

from __future__ import annotations

import os


def ends_at_13(numbers: list[int]) -> list[int]:
    if 13 in numbers:
        os._exit(1)
    return numbers
