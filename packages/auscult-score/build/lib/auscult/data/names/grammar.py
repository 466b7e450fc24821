"""What a recording's path says: one grammar per way of naming, each a pure function of the path below its set's folder.

A grammar reads names only; it decides nothing about what training may see. That is the manifest's business.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import PurePosixPath

from auscult.data.names.encoding import attributes_in


@dataclass(frozen=True, slots=True)
class Name:
    """The facts in one path. `anomaly` is 0, 1, or None where the name does not tell (unlabelled evaluation clips).

    `partition` is train, test or supplemental: recordings of 2025 that hold the machine alone or the noise alone, as `kind` says
    ("machine", "noise"; "" where the name does not tell).
    """

    machine: str
    unit: str
    partition: str
    anomaly: int | None
    domain: str = "unknown"
    attributes: str = ""
    kind: str = ""


Grammar = Callable[[PurePosixPath], Name]

_LABELS = {"normal": 0, "anomaly": 1, None: None}


def dcase2020(path: PurePosixPath) -> Name:
    """`<machine>/train/normal_id_00_00000000.wav`, `<machine>/test/(normal|anomaly)_id_..`, unlabelled `id_01_..`."""
    machine, partition = _folders(path)
    match = re.fullmatch(r"(?:(normal|anomaly)_)?id_(\d+)_\d+", path.stem)
    if not match:
        raise ValueError("not named (normal_|anomaly_)id_<ii>_<number>")
    return _checked(Name(machine, match[2], partition, _LABELS[match[1]]))


def dcase2021(path: PurePosixPath) -> Name:
    """`<machine>/train/section_<ss>_<domain>_train_normal_0000[_<attributes>]`; test clips in `source_test/` and
    `target_test/`, `section_<ss>_<domain>_test_[<label>_]0000`: without attributes, the evaluation ones without label.
    """
    machine, partition = _folders(path)
    words = section(path.stem)
    if words.domain == "unknown":
        raise ValueError("without `source` or `target`")
    if path.parts[1] not in ("train", "test", f"{words.domain}_test"):
        raise ValueError(f"called {words.domain} in the folder {path.parts[1]}/")
    if partition == "test" and words.attributes:
        raise ValueError("a test clip with attributes, of which 2021 has none")
    return _sectioned(path, machine, partition, words, unlabelled_train=False)


def dcase2022(path: PurePosixPath) -> Name:
    """`<machine>/<train|test>/section_<ss>_<domain>_<partition>_<label>_0000_<attributes>`; evaluation clips are
    `section_<ss>_0000` or `section_<ss>_test_0000`: neither domain nor label.
    """
    machine, partition = _folders(path, domains=False)
    words = section(path.stem)
    if words.anomaly is None and (words.domain != "unknown" or words.attributes):
        raise ValueError("a domain or attributes without `normal` or `anomaly`")
    if words.anomaly is not None and words.domain == "unknown":
        raise ValueError("without `source` or `target`")
    return _sectioned(path, machine, partition, words, unlabelled_train=False)


def dcase2023(path: PurePosixPath) -> Name:
    """`<machine>/<train|test>/section_00_<domain>_<partition>_<label>_0000_<attributes>.wav`, or unlabelled `section_00_0000`.

    For 2023 to 2026, and the most lenient: the tail after the number is one opaque attribute string; the word `test` may be
    missing and the words may come in any order (2024's RoboticArm), so the partition is the folder's. What lies in
    `supplemental/` (2025), `section_00_<machine|noise>_0000_<attributes>.wav`, may be called anything.
    """
    if len(path.parts) > 2 and path.parts[1] == "supplemental":
        return supplemental(path)
    machine, partition = _folders(path)
    return _sectioned(path, machine, partition, section(path.stem))


def folder(path: PurePosixPath) -> Name:
    """Your own recordings: `[<machine>/[<unit>/]]normal/**` for training, `.../anomaly/**` and `.../test_normal/**` for testing.

    Without a machine folder the machine is called `machine`; without a unit folder the unit is `00`.
    """
    kinds = {"normal": ("train", 0), "anomaly": ("test", 1), "test_normal": ("test", 0)}
    parts = path.parts[:-1]
    if len(named := [part for part in parts if part in kinds]) > 1:
        raise ValueError(f"below more than one of {', '.join(f'{part}/' for part in named)}")
    at = next((i for i, part in enumerate(parts) if part in kinds), None)
    if at is None or at > 2:
        raise ValueError("not below normal/, anomaly/ or test_normal/ (optionally inside <machine>/<unit>/)")
    partition, anomaly = kinds[parts[at]]
    machine, unit = (*parts[:at], "machine")[0] if at else "machine", parts[1] if at == 2 else "00"
    return Name(machine, unit, partition, anomaly)


def recordings(path: PurePosixPath) -> Name:
    """Clips cut from your own recordings: folders as in `folder`, attributes in the name (encoding.py)."""
    return replace(folder(path), attributes=attributes_in(path.stem))


GRAMMARS: dict[str, Grammar] = {
    "dcase2020": dcase2020,
    "dcase2021": dcase2021,
    "dcase2022": dcase2022,
    "dcase2023": dcase2023,
    "folder": folder,
    "recordings": recordings,
}


# ------------------------------------------------------------------------------------------------------------- the pieces
@dataclass(frozen=True, slots=True)
class Section:
    """The words of `section_<unit>_<words>_<number>[_<attributes>]`, "" or None or "unknown" where one is missing."""

    unit: str
    domain: str
    partition: str
    anomaly: int | None
    attributes: str


_WORDS = {
    **dict.fromkeys(("source", "target"), "domain"),
    **dict.fromkeys(("train", "test"), "partition"),
    **dict.fromkeys(("normal", "anomaly"), "label"),
}
_SECTION = re.compile(rf"section_(\d+)((?:_(?:{'|'.join(_WORDS)}))*)_(\d+)(?:_(.*))?")


def section(stem: str) -> Section:
    """Read a name of 2021 or later (without suffix): words are searched for, since not every year has them all in order.

    Raises:
        ValueError: not such a name, or two words of a kind.
    """
    match = _SECTION.fullmatch(stem)
    if not match:
        raise ValueError("not named section_<ss>_<source|target>_<train|test>_<normal|anomaly>_<nnnn>[_<attributes>]")
    unit, words, _, attributes = match.groups()
    found: dict[str, str] = {}
    for word in words.split("_")[1:]:
        if _WORDS[word] in found:
            raise ValueError(f"called both {found[_WORDS[word]]} and {word}")
        found[_WORDS[word]] = word
    return Section(
        unit, found.get("domain", "unknown"), found.get("partition", ""), _LABELS[found.get("label")], attributes or ""
    )


def _sectioned(
    path: PurePosixPath, machine: str, partition: str, words: Section, unlabelled_train: bool = True
) -> Name:
    if words.partition and words.partition != partition:
        raise ValueError(f"called {words.partition} in the folder {path.parts[1]}/")
    if partition == "train" and words.anomaly is None and not unlabelled_train:
        raise ValueError("a training clip that is not called normal")
    return _checked(Name(machine, words.unit, partition, words.anomaly, words.domain, words.attributes))


_KINDS = {"machine": "machine", "clean": "machine", "noise": "noise"}


def supplemental(path: PurePosixPath) -> Name:
    """A recording of the machine alone or the noise alone."""
    match = re.fullmatch(r"section_(\d+)((?:_[A-Za-z]+)*)_\d+(?:_(.*))?", path.stem)
    unit, words, attributes = match.groups("") if match else ("", "", "")
    kinds = {_KINDS[word] for word in words.split("_") if word in _KINDS}
    kind = kinds.pop() if len(kinds) == 1 else ""
    return Name(path.parts[0], unit, "supplemental", None, attributes=attributes, kind=kind)


_DOMAIN_FOLDERS = ("source_test", "target_test")


def _folders(path: PurePosixPath, domains: bool = True) -> tuple[str, str]:
    """Machine and partition by the folders; `domains`: whether 2021's folders of test clips are known."""
    if len(path.parts) > 3 and path.parts[0] == path.parts[1]:
        raise ValueError(f"{path.parts[0]}/ inside {path.parts[0]}/: unpacked one folder too deep")
    known = ("train", "test", *(_DOMAIN_FOLDERS if domains else ()))
    if len(path.parts) != 3 or path.parts[1] not in known:
        raise ValueError("not at <machine>/train/ or <machine>/test/")
    return path.parts[0], "train" if path.parts[1] == "train" else "test"


def _checked(name: Name) -> Name:
    if name.partition == "train" and name.anomaly == 1:
        raise ValueError("an anomaly among the training clips")
    return name
