"""Tables that depend on sizes alone: made once, kept on their device, and constants of a compiled step."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache, wraps
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")
_CONSTANTS: list[Callable[..., object]] = []


def constant(function: Callable[P, T]) -> Callable[P, T]:
    """`function`, which makes such a table, called once for each of its arguments.

    torch.compile looks through caches: it would make the table anew in every step, on the CPU, and send it. `mark_constants`
    tells it not to.

    Args:
        function: of numbers, strings, tuples of them, devices and types: what the compiler knows.
    """
    cached = lru_cache(maxsize=32)(function)

    @wraps(function)
    def kept(*args: P.args, **kwargs: P.kwargs) -> T:
        return cached(*args, **kwargs)  # type: ignore[arg-type]

    kept.cache_clear = cached.cache_clear  # type: ignore[attr-defined]
    _CONSTANTS.append(kept)
    return kept


def mark_constants() -> None:
    """Tell the compiler, before it sees any of them. Not where they are defined: that would load the compiler, which takes more
    than a second, into every process."""
    import torch

    for function in _CONSTANTS:
        torch.compiler.assume_constant_result(function)
