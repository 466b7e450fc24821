"""A bundle that is in use while somebody may set its threshold, fit it anew or take it away."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import asdict

from auscult.detector.folder import Bundle
from auscult.detector.manifest import read_manifest
from auscult.errors import AuscultError


class Followed:
    """What bundle.yaml says now, of a bundle that is in memory.

    Args:
        say: is told of what changed.
        changed: is told of a new threshold.
    """

    def __init__(self, bundle: Bundle, say: Callable[[str], None], changed: Callable[[float], None]) -> None:
        self.bundle, self.say, self.changed = bundle, say, changed
        self._digest, self._said = bundle.digest, ""
        self._seen: tuple[int, ...] = ()

    def look(self) -> None:
        """Take over a threshold that was changed. What is in memory goes on where the folder is gone or half written.

        Raises:
            AuscultError: the folder holds a bundle now that scores otherwise.
        """
        try:
            state = self._state()
            if state == self._seen:
                return
            manifest = read_manifest(self.bundle.folder)
        except (AuscultError, OSError) as error:
            problem = error.what if isinstance(error, AuscultError) else str(error.strerror)
            if problem != self._said:
                self.say(f"{self.bundle.folder}: {problem}; going on with the bundle as it was")
            self._said = problem
            return
        rule = manifest.rule
        if manifest.digest != self._digest:
            what = "the bundle was replaced while in use by one that scores otherwise: scores of the two do not compare"
            raise AuscultError(what, str(self.bundle.folder), "start again with another --out")
        if rule != self.bundle.rule:
            before, self.bundle.rule = self.bundle.threshold, rule
            self.bundle.facts["threshold"] = asdict(rule)
            self.say(f"{self.bundle.folder}: threshold {rule.value:.6g} from now on, {before:.6g} before")
            self.changed(rule.value)
        self._seen, self._said = state, ""

    def _state(self) -> tuple[int, ...]:
        found = os.stat(self.bundle.folder / "bundle.yaml")
        return found.st_mtime_ns, found.st_size, found.st_ino
