"""What a recording's path says: one grammar per way of naming, each a pure function of the path below its set's folder.

A grammar reads names only; it decides nothing about what training may see. That is the manifest's business.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import PurePosixPath


@dataclass(frozen=True)
class Name:
    """The facts in one path. `anomaly` is 0, 1, or None where the name does not tell (unlabelled evaluation clips)."""

    machine: str
    unit: str
    partition: str
    anomaly: int | None
    domain: str = "unknown"
    attributes: str = ""


Grammar = Callable[[PurePosixPath], Name]

_LABELS = {"normal": 0, "anomaly": 1, None: None}


def dcase2020(path: PurePosixPath) -> Name:
    """`<machine>/train/normal_id_00_00000000.wav`, `<machine>/test/(normal|anomaly)_id_..`, unlabelled `id_01_..`."""
    machine, partition = _folders(path)
    match = re.fullmatch(r"(?:(normal|anomaly)_)?id_(\d+)_\d+", path.stem)
    if not match:
        raise ValueError("not named (normal_|anomaly_)id_<ii>_<number>")
    return _checked(Name(machine, match[2], partition, _LABELS[match[1]]))


def dcase2023(path: PurePosixPath) -> Name:
    """`<machine>/<train|test>/section_00_<domain>_<partition>_<label>_0000_<attributes>.wav`, or unlabelled `section_00_0000`.

    The tail after the number is one opaque attribute string. The word `test` may be missing (2024's RoboticArm), so the
    partition is the folder's. In 2021 the folders of test clips are `source_test` and `target_test`.
    """
    machine, partition = _folders(path)
    match = re.fullmatch(
        r"section_(\d+)(?:_(source|target))?(?:_(train|test))?(?:_(normal|anomaly))?_(\d+)(?:_(.*))?", path.stem
    )
    if not match:
        raise ValueError("not named section_<ss>_<source|target>_<train|test>_<normal|anomaly>_<nnnn>[_<attributes>]")
    unit, domain, word, label, _, attributes = match.groups()
    if word and word != partition:
        raise ValueError(f"called {word} in the folder {path.parts[1]}/")
    return _checked(Name(machine, unit, partition, _LABELS[label], domain or "unknown", attributes or ""))


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


GRAMMARS: dict[str, Grammar] = {"dcase2020": dcase2020, "dcase2023": dcase2023, "folder": folder}


_PARTITIONS = {"train": "train", "test": "test", "source_test": "test", "target_test": "test"}


def _folders(path: PurePosixPath) -> tuple[str, str]:
    if len(path.parts) != 3 or path.parts[1] not in _PARTITIONS:
        raise ValueError("not at <machine>/train/ or <machine>/test/")
    return path.parts[0], _PARTITIONS[path.parts[1]]


def _checked(name: Name) -> Name:
    if name.partition == "train" and name.anomaly == 1:
        raise ValueError("an anomaly among the training clips")
    return name
