"""Reading a settings file: YAML whose keys are unique."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from auscult.errors import AuscultError

Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
"""Plain values alone; libyaml's where PyYAML was built with it: a tenth of the time, and a run reads some forty files."""


class _UniqueKeys(Loader):
    """YAML lets a key stand twice and keeps the last: here, a section given twice is an error."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [key.value for key, _ in node.value]
        for key in keys:
            if keys.count(key) > 1:
                raise yaml.YAMLError(f"`{key}` stands twice in one mapping{node.start_mark}")
        return super().construct_mapping(node, deep)


def read_yaml(path: Path) -> dict[str, Any]:
    """A mapping from a YAML file; keys must be unique."""
    try:
        content = yaml.load(path.read_text(encoding="utf-8"), _UniqueKeys)
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise AuscultError(f"not valid YAML: {error}", str(path)) from None
    if not isinstance(content, dict):
        raise AuscultError("a mapping of sections was expected", str(path))
    return content
