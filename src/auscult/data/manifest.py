"""The two tables every later stage starts from: `clips` (what may be known) and `labels` (the answers).

A clip's id is a hash of its bytes, and test clips are ordered by it: neither the name nor the label of a test clip can
leave a trace in anything computed from the tables.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path, PurePosixPath

import numpy as np
import pandas as pd
from tqdm import tqdm

from auscult.config import Profile
from auscult.data.audio import SUFFIXES, Header, probe, workers_or_cores
from auscult.data.grammar import GRAMMARS, Name
from auscult.errors import AuscultError, listed

CLIPS = [
    "clip_id",
    "path",
    "dataset",
    "set",
    "partition",
    "machine",
    "unit",
    "domain",
    "attributes",
    "seconds",
    "channels",
]
LABELS = ["clip_id", "anomaly", "domain"]


def build_manifest(profile: Profile, root: Path, workers: int = 0) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Read every recording's name and header below `root`.

    Returns:
        clips: columns `CLIPS`; `domain` and `attributes` are filled for training clips only. Sorted by set, machine,
            partition, unit, clip_id.
        labels: columns `LABELS`, test clips whose name tells the label.

    Raises:
        AuscultError: every bad file at once; a machine without training or test clips; a unit (class) only in the test set.
    """
    if profile.grammar not in GRAMMARS:
        raise AuscultError(
            f"unknown grammar `{profile.grammar}`", f"profile {profile.name}", f"use: {', '.join(GRAMMARS)}"
        )
    files = _find(profile, root)
    with ThreadPoolExecutor(workers_or_cores(workers)) as pool:
        headers = list(
            tqdm(pool.map(lambda file: _probe(file[1]), files), total=len(files), desc="manifest", unit="clip")
        )
    rows, bad = [], []
    for (set_name, path, below), header in zip(files, headers, strict=True):
        try:
            if isinstance(header, ValueError):
                raise header
            rows.append(
                _row(profile, set_name, path.relative_to(root).as_posix(), GRAMMARS[profile.grammar](below), header)
            )
        except ValueError as error:
            bad.append(f"{path}: {error}")
    if bad:
        raise AuscultError(f"{len(bad)} file(s) cannot be used:{listed(bad)}", fix="mend, rename or remove them")
    table = pd.DataFrame(rows)
    if profile.machines:
        table = table[table["machine"].isin(profile.machines)]
    if profile.holdout:
        chosen = (table["content"] % 1_000_003 < profile.holdout * 1_000_003) & (table["partition"] == "train")
        table.loc[chosen, "partition"] = "test"
    _check(table, profile)
    table["clip_id"] = _unique_ids(table)
    table = table.sort_values(["set", "machine", "partition", "unit", "clip_id"], ignore_index=True)
    _warn_of_copies(table)

    test = table["partition"] == "test"
    labels = table.loc[test & table["anomaly"].notna(), LABELS].astype({"anomaly": "int64"}).reset_index(drop=True)
    clips = table.copy()
    clips.loc[test, "domain"] = "unknown"  # hidden at test time from 2022 on, and no back-end may use it
    clips.loc[test, "attributes"] = ""
    return clips[CLIPS], labels


def _find(profile: Profile, root: Path) -> list[tuple[str, Path, PurePosixPath]]:
    """(set, path, path below the set's folder) of every recording, sorted by name."""
    found = []
    for set_name, folder in profile.sets.items():
        base = root / folder
        if not base.is_dir():
            raise AuscultError(
                f"the {set_name} set has no folder", str(base), "fetch the data, or mend `sets` of the profile"
            )
        for path in sorted(p for p in base.rglob("*") if p.suffix.lower() in SUFFIXES and p.is_file()):
            found.append((set_name, path, PurePosixPath(path.relative_to(base).as_posix())))
    if not found:
        raise AuscultError(f"no recordings ({', '.join(SUFFIXES)}) found", str(root))
    return found


def _probe(path: Path) -> Header | ValueError:
    try:
        return probe(path)
    except ValueError as error:
        return error


def _row(profile: Profile, set_name: str, path: str, name: Name, header: Header) -> dict[str, object]:
    return {
        "path": path, "dataset": profile.dataset, "set": set_name, "partition": name.partition,
        "machine": name.machine, "unit": name.unit, "domain": name.domain, "attributes": name.attributes,
        "seconds": header.seconds, "channels": header.channels, "anomaly": name.anomaly, "content": header.content,
    }  # fmt: skip


def _unique_ids(table: pd.DataFrame) -> np.ndarray:
    """Content hashes, the second and later copies of the same bytes moved to the next free number."""
    copies = table.groupby("content").cumcount()
    ids = (table["content"] + copies).to_numpy(np.int64)
    if len(np.unique(ids)) != len(ids):
        raise AuscultError(
            "two different recordings share a 63-bit hash", fix="add one sample of silence to one of them"
        )
    return ids


def _check(table: pd.DataFrame, profile: Profile) -> None:
    missing = sorted(set(profile.machines) - set(table["machine"]))
    if missing:
        raise AuscultError(
            f"machines of the profile without recordings: {', '.join(missing)}", f"profile {profile.name}"
        )
    train = table[table["partition"] == "train"]
    problems = []
    for machine, clips in table.groupby("machine", sort=True):
        known = set(train.loc[train["machine"] == machine, "unit"])
        for unit in sorted(set(clips["unit"]) - known):
            problems.append(f"{machine} unit {unit}: test clips but not one training clip")
    if problems:
        fix = "every unit needs normal training clips; remove its test clips or add training clips"
        raise AuscultError(f"classes that appear only in the test set:{listed(problems)}", fix=fix)


def _warn_of_copies(table: pd.DataFrame) -> None:
    """A test clip whose bytes are also in the training set makes every score on it worthless."""
    trained = set(table.loc[table["partition"] == "train", "content"])
    leaks = table[(table["partition"] == "test") & table["content"].isin(trained)]
    if len(leaks):
        tqdm.write(
            f"warning: {len(leaks)} test clip(s) are byte-identical to training clips:{listed(list(leaks['path']), 5)}"
        )
