"""What every section of settings is: an immutable model that refuses unknown keys, and how its errors are told."""

from __future__ import annotations

import difflib
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from auscult.errors import AuscultError


class Section(BaseModel):
    """Base of every section: immutable, unknown keys refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")


S = TypeVar("S", bound=BaseModel)
Positive = Annotated[int, Field(gt=0)]
Fraction = Annotated[float, Field(ge=0, lt=1)]
Input = Literal["near", "far", "mean", "difference", "w1", "ss"]
"""What is heard of a near and a far channel (features/cancel.py)."""


def near(word: str, words: list[str]) -> str:
    """ " (did you mean ...?)" if one of `words` is close, otherwise "".

    >>> near("margn", ["margin", "scale"])
    ' (did you mean `margin`?)'
    """
    close = difflib.get_close_matches(word, words, n=1)
    return f" (did you mean `{close[0]}`?)" if close else ""


def validated(model: type[S], values: Any, where: str) -> S:
    """`model(**values)`; each unknown key, wrong type or range is reported with its full name, all at once."""
    try:
        return model.model_validate(values)
    except ValidationError as error:
        problems = []
        for item in error.errors():
            key = ".".join(str(part) for part in item["loc"])
            hint = near(str(item["loc"][-1]), _keys(model, item["loc"])) if item["type"] == "extra_forbidden" else ""
            message = "unknown key" if item["type"] == "extra_forbidden" else item["msg"]
            problems.append(f"{where}.{key}: {message}{hint}" if key else f"{where}: {message}")
        raise AuscultError("settings are not valid:\n    " + "\n    ".join(problems), fix="mend these keys") from None


def _keys(model: type[BaseModel], loc: tuple[int | str, ...]) -> list[str]:
    """The keys known where a problem lies: those of the model itself, or of the section nested at `loc[:-1]`."""
    for part in loc[:-1]:
        inner = model.model_fields[part].annotation if part in model.model_fields else None
        if not (isinstance(inner, type) and issubclass(inner, BaseModel)):
            return []
        model = inner
    return list(model.model_fields)


def flat(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested mappings as one, keys joined by dots.

    >>> flat({"epochs": 3, "fph": {"reduction": 64}})
    {'epochs': 3, 'fph.reduction': 64}
    """
    out: dict[str, Any] = {}
    for key, value in values.items():
        out |= flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return out
