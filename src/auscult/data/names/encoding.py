"""Names of machines where not every character may stand."""

from __future__ import annotations

import re
import unicodedata


def metric_name(machine: str) -> str:
    """`machine` as a part of an MLflow metric's name: what may not stand there as `:<hex>:`, so that no two become one.

    Letters and digits of any script, `_`, `-`, `.` and spaces stay as they are.

    >>> metric_name("fan"), metric_name("pump (north)"), metric_name("pump+motor")
    ('fan', 'pump :28:north:29:', 'pump:2b:motor')
    """
    return re.sub(r"[^\w.\- ]", lambda found: f":{ord(found[0]):x}:", machine)


def name_fault(path: str, machine: str, unit: str) -> str:
    """Why tables and reports could not hold a recording of this path, machine and unit; "" if they can."""
    try:
        path.encode()
    except UnicodeEncodeError:
        return "its name is not UTF-8: rename it (convmv -f latin1 -t utf8 mends names from old archives)"
    for what, name in (("machine", machine), ("unit", unit)):
        if "\\" in name or any(unicodedata.category(letter) == "Cc" for letter in name):
            return f"`{name!r}` cannot be the name of a {what}: no backslash or control character, please"
    return ""
