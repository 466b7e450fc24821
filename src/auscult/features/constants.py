"""Tables that depend on sizes alone: made once, kept on their device, and constants of a compiled step."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache, wraps
from typing import ParamSpec, TypeVar

import torch

P = ParamSpec("P")
T = TypeVar("T")


def constant(function: Callable[P, T]) -> Callable[P, T]:
    """`function`, which makes such a table, called once for each of its arguments.

    torch.compile looks through caches: it would make the table anew in every step, on the CPU, and send it.

    Args:
        function: of numbers, strings, tuples of them, devices and types: what the compiler knows.
    """
    cached = lru_cache(maxsize=32)(function)

    @torch.compiler.assume_constant_result
    @wraps(function)
    def kept(*args: P.args, **kwargs: P.kwargs) -> T:
        return cached(*args, **kwargs)  # type: ignore[arg-type]

    kept.cache_clear = cached.cache_clear
    return kept
