"""Templates of pages, and texts that are safe in them."""

from __future__ import annotations

import re
from html import escape
from importlib.resources import files
from typing import Any

from auscult.packages import require


def shared(name: str) -> str:
    """The content of a file that every page may use: `style.css`, `base.js`, `sort.js`."""
    return read("auscult.pages", name)


def read(package: str, name: str) -> str:
    """The content of a file in the folder `templates` of a package."""
    return (files(package) / "templates" / name).read_text(encoding="utf-8")


def environment(package: str) -> Any:
    """Jinja2 with the templates of a package; what is put into them is escaped.

    Raises:
        AuscultError: jinja2 is not installed.
    """
    jinja2 = require("jinja2", "the page")
    made = jinja2.Environment(
        loader=jinja2.FunctionLoader(lambda name: read(package, name)), autoescape=True, undefined=jinja2.StrictUndefined,
        trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    made.filters["marked"] = marked
    made.filters["minus"] = lambda text: text.replace("-", "\N{MINUS SIGN}")
    made.policies["json.dumps_kwargs"] = {"sort_keys": False}
    return made


def marked(text: str) -> str:
    """HTML of a message: what stands between backticks is code.

    >>> marked("put `a<b` there")
    'put <code>a&lt;b</code> there'
    """
    return re.sub(r"`([^`]+)`", r"<code>\1</code>", escape(text))
