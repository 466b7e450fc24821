"""bundle.yaml: what it holds, how it is written, and what is checked before anything else of a bundle is opened.

Reading it takes neither torch nor the network: `auscult info` answers at once.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Mapping
from itertools import islice
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import Field

from auscult.data.audio import printable
from auscult.detector.places import require_bundle
from auscult.detector.reading import digest_of, plain_yaml, read_bytes
from auscult.detector.signal import SignalRange
from auscult.detector.thresholds import By, Threshold
from auscult.errors import AuscultError
from auscult.files import atomic_file
from auscult.methods import METHODS
from auscult.settings.section import Section, validated

FORMAT = 1
MOST_SAMPLES = 2**22
"""Of a window: more of them would take more than a gigabyte to score. 262 s at 16 kHz."""
MOST_ENTRIES = 1_000_000
"""Values in bundle.yaml, which holds a digest and its places for each recording."""
MOST_BYTES = {
    "bundle.yaml": 2**24, "model/config.yaml": 2**22, "model/history.csv": 2**24, "model/weights.safetensors": 2**29,
    "normal.npy": 2**26, "reference.npy": 2**28,
}  # fmt: skip
"""Size of each file. The published encoders have 370 MB of weights; a day in windows of a second has 265 MB of embeddings."""
BACKENDS = ("native", "knn_cosine", "knn_euclidean")
"""Whose left-out scores are exact; of others (backend.py) they are those of five parts."""
_MODEL = ("model/config.yaml", "model/history.csv", "model/weights.safetensors")
_LEFTOVER = re.compile(r"\.bundle\.yaml\.[0-9a-f]{8}\.part|\.bundle\.\d+\.part\.yaml")
"""Of a call that was killed while it set the threshold."""

Count = Annotated[int, Field(ge=0, le=2**53)]
Length = Annotated[float, Field(ge=0, allow_inf_nan=False)]
_Share = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
Finite = Annotated[float, Field(allow_inf_nan=False)]


class Stretch(Section):
    """Windows of normal sound that follow each other in one recording.

    `number`: so many windows of the recording are before the first. `group`, `start` (of the first, in samples): see
    `copies.Place`. `labelled`: they were called false alarms. Selected by their scores, they say nothing of how normal sound
    scores: they are compared with, and no threshold is taken from them.
    """

    name: str
    number: Count
    group: Count
    start: Annotated[int, Field(ge=-(2**53), le=2**53)]
    windows: Annotated[int, Field(ge=1, le=2**53)]
    labelled: bool = False


class Update(Section):
    """What `auscult update` did: to the bundle of which digest, when (UTC), with how many recordings and windows, of which how
    many were above the threshold there was."""

    parent: str
    date: str
    recordings: Count
    windows: Count
    above: Count
    false_alarms: bool = False
    rate: Finite
    threshold_before: Finite
    threshold_after: Finite
    forced: bool = False


class Rule(Section):
    """See `thresholds.Threshold`."""

    value: Annotated[float, Field(strict=True, allow_inf_nan=False)]
    rate: Annotated[float, Field(strict=True, gt=0, lt=1)]
    by: By


class Training(Section):
    """The recordings of normal sound that a bundle was fitted to, and those that updates took in.

    `windows`, `recordings`, `seconds`: that are used; `units`: mode of operation -> its windows. `left_out`: recording -> why it
    is not used. `same_sound`: recordings left out because another one holds their sound -> that one. `overlapping`: those that
    share sound otherwise. `other_files`: that are no recordings. `sha256`: of every recording found. `above_by_others`: windows
    above a threshold from other recordings, of how many (`enough.cross_fitted`). What older bundles do not say has a default.
    """

    windows: Count
    recordings: Annotated[int, Field(ge=1, le=2**53)]
    seconds: Length
    window_seconds: Length
    units: dict[str, Count]
    left_out: dict[str, str] = Field(default_factory=dict)
    same_sound: dict[str, str] = Field(default_factory=dict)
    overlapping: list[list[str]] = Field(default_factory=list)
    notes: list[str] = Field(default_factory=list)
    other_files: Count
    sha256: dict[str, str]
    above_by_others: tuple[Count, Count] = (0, 0)


class Manifest(Section):
    """bundle.yaml without its last line."""

    format: int
    name: str
    method: str
    backend: Annotated[str, Field(pattern=r"^[a-z0-9_]{1,50}$")]
    knobs: dict[str, Any] = Field(default_factory=dict)
    """Settings of a back-end that is none of `BACKENDS`."""
    k: int
    sample_rate: int
    window: int
    hop: int
    channel: Literal["mean"] | int
    seed: int
    signal: SignalRange = SignalRange()
    threshold: Rule
    made_with: dict[str, str]
    training: Training
    files: dict[str, str]
    effective: Annotated[float, Field(ge=0, le=1e9, allow_inf_nan=False)] = 0.0
    """As many independent left-out scores tell as much as these; 0 = older bundles do not say, see `independent`."""
    alike: Annotated[tuple[tuple[Annotated[int, Field(ge=2)], _Share, _Share], ...], Field(max_length=64)] = ()
    """See `verdict.alikeness`."""
    references: tuple[Stretch, ...] = ()
    """Where the windows of normal sound lie, in the order of reference.npy; empty = not kept (too many, or an older version)."""
    updates: tuple[Update, ...] = ()
    """Oldest first."""

    @property
    def independent(self) -> float:
        """How many scores the threshold comes from, as far as they are independent."""
        return self.effective or float(self.training.recordings)

    @property
    def rule(self) -> Threshold:
        return Threshold(**self.threshold.model_dump())

    @property
    def digest(self) -> str:
        """SHA-256 of all that decides its scores: two bundles of one digest score alike, whatever their names and thresholds."""
        return digest_of_scores(self.model_dump())


def digest_of_scores(facts: Mapping[str, Any]) -> str:
    """SHA-256 of all that decides the scores of a bundle, of which `facts` are the content of bundle.yaml."""
    named = ("method", "backend", "k", "sample_rate", "window", "hop", "channel", "signal", "files")
    said = {name: facts[name] for name in named} | ({"knobs": facts["knobs"]} if facts.get("knobs") else {})
    return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()


def write_manifest(path: Path, facts: Mapping[str, Any]) -> None:
    text = yaml.safe_dump(_as_text(facts), sort_keys=False, allow_unicode=True)
    with atomic_file(path) as part:
        part.write_bytes(f"{text}sha256: {hashlib.sha256(text.encode()).hexdigest()}\n".encode())


def _as_text(value: Any) -> Any:
    """A file's name may be no text; then its bytes stand as `\\udcXX`."""
    if isinstance(value, str):
        return printable(value)
    if isinstance(value, Mapping):
        return {_as_text(key): _as_text(inside) for key, inside in value.items()}
    return value


def read_manifest(folder: Path) -> Manifest:
    """What bundle.yaml says, after its own digest was compared and its values were checked; nothing else is opened.

    Raises:
        AuscultError: no bundle, one of another format, or one that is not as it was written.
    """
    path = folder / "bundle.yaml"
    require_bundle(folder)
    content = read_bytes(path, MOST_BYTES["bundle.yaml"])
    text, mark, digest = content.rpartition(b"sha256: ")
    whole = bool(mark) and digest.strip() == hashlib.sha256(text).hexdigest().encode()
    try:
        facts = plain_yaml(text, MOST_ENTRIES)
    except ValueError:
        facts = None
    if isinstance(facts, dict) and type(facts.get("format")) is int and facts["format"] != FORMAT:
        what = f"a bundle of format {str(facts['format'])[:20]}, and this version of auscult reads format {FORMAT}"
        raise AuscultError(what, str(folder), "use the version of auscult that made it, or fit it again")
    if not whole or not isinstance(facts, dict) or len(facts) > 100:
        fix = "fit it again or copy it again; a threshold is set by `auscult threshold`"
        raise AuscultError("bundle.yaml is not as it was written", str(folder), fix)
    try:
        manifest = validated(Manifest, facts, str(path))
    except AuscultError as error:
        raise AuscultError(error.what, str(folder), "fit it again") from None
    if manifest.method not in METHODS or set(manifest.files) != set(file_names(manifest.backend)):
        what = "bundle.yaml names a method or files that no bundle has"
    elif manifest.knobs.get("kind", "") != ("" if manifest.backend in BACKENDS else manifest.backend):
        what = "bundle.yaml names a back-end that its settings are not of"
    elif not re.fullmatch(r"[\w.-]{1,100}", manifest.name):
        what = "the name in bundle.yaml is none"
    elif not (manifest.k > 0 < manifest.sample_rate < 10**8 and 0 < manifest.window <= MOST_SAMPLES):
        what = f"bundle.yaml names sizes that no bundle has: a window is {MOST_SAMPLES} samples long at most"
    elif manifest.hop != max(1, manifest.window // 2) or (manifest.channel != "mean" and manifest.channel < 0):
        what = "bundle.yaml names a hop or a channel that no bundle has"
    else:
        return manifest
    raise AuscultError(what, str(folder), "fit it again; do not use a bundle from a source you doubt")


def file_names(backend: str) -> tuple[str, ...]:
    """Every file of a bundle but bundle.yaml. Nothing else is opened, whatever a manifest says."""
    return (*_MODEL, "normal.npy") if backend == "native" else (*_MODEL, "normal.npy", "reference.npy")


def check_files(folder: Path, manifest: Manifest) -> None:
    """Compare every file of a bundle with its digest.

    Raises:
        AuscultError: one was changed, added or is missing.
    """
    wanted = {*manifest.files, "bundle.yaml"}
    problems = [f"{name} was added" for name in _names_in(folder) if name not in wanted]
    for name, digest in manifest.files.items():
        try:
            changed = digest_of(folder / name, MOST_BYTES[name]) != digest
        except (FileNotFoundError, NotADirectoryError):
            problems.append(f"{name} is missing")
        except (AuscultError, OSError) as error:
            problems.append(f"{name} was changed: {getattr(error, 'what', error)}")
        else:
            problems += [f"{name} was changed"] if changed else []
    if problems:
        what = f"the bundle is not as it was written: {'; '.join(problems[:5])}"
        raise AuscultError(what, str(folder), "copy it again from where it was made, or fit it again")


def _names_in(folder: Path) -> list[str]:
    """What lies in a bundle's two folders, sorted; more than a bundle can have is not listed to its end."""
    found = []
    for inside, prefix in ((folder, ""), (folder / "model", "model/")):
        if not inside.is_dir() or (prefix and inside.is_symlink()):
            found += [prefix.strip("/")] if os.path.lexists(inside) else []
            continue
        with os.scandir(inside) as entries:
            names = [entry.name for entry in islice(entries, 100)]
        found += [prefix + name for name in names if prefix or name != "model" if not _LEFTOVER.fullmatch(name)]
    return sorted(found)
