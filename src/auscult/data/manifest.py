"""The two tables every later stage starts from: `clips` (what may be known) and `labels` (the answers).

A clip's id is a hash of its bytes, and test clips are ordered by it: neither the name nor the label of a test clip can
leave a trace in anything computed from the tables.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path, PurePosixPath

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
        AuscultError: every bad file at once; a machine of the profile without clips; a unit (class) only in the test set;
            no test clips at all.
    """
    if profile.grammar not in GRAMMARS:
        raise AuscultError(
            f"unknown grammar `{profile.grammar}`", f"profile {profile.name}", f"use: {', '.join(GRAMMARS)}"
        )
    found, bad = _find(profile, root)
    with ThreadPoolExecutor(workers_or_cores(workers)) as pool:
        probed = pool.map(_probe, [path for _, path, _ in found])
        headers = list(tqdm(probed, total=len(found), desc="manifest", unit="clip"))
    rows = []
    for (set_name, path, name), header in zip(found, headers, strict=True):
        if isinstance(header, ValueError):
            bad.append(f"{path}: {header}")
        else:
            rows.append(_row(profile, set_name, path.relative_to(root).as_posix(), name, header))
    if bad:
        raise AuscultError(
            f"{len(bad)} file(s) cannot be used:{listed(sorted(bad))}", fix="mend, rename or remove them"
        )
    table = pd.DataFrame(rows, columns=[*CLIPS[1:], "anomaly", "content"])
    if profile.holdout:
        chosen = (table["content"] % 1_000_003 < profile.holdout * 1_000_003) & (table["partition"] == "train")
        table.loc[chosen, "partition"] = "test"
    _check(table, profile)
    table = _with_ids(table).sort_values(["set", "machine", "partition", "unit", "clip_id"], ignore_index=True)
    _warn_of_copies(table)

    test = table["partition"] == "test"
    labels = table.loc[test & table["anomaly"].notna(), LABELS].astype({"anomaly": "int64"}).reset_index(drop=True)
    clips = table.copy()
    clips.loc[test, "domain"] = "unknown"  # hidden at test time from 2022 on, and no back-end may use it
    clips.loc[test, "attributes"] = ""
    return clips[CLIPS], labels


def _find(profile: Profile, root: Path) -> tuple[list[tuple[str, Path, Name]], list[str]]:
    """(set, path, what the name says) of every recording of the profile's machines, sorted by path; and the misnamed ones."""
    read = GRAMMARS[profile.grammar]
    found: list[tuple[str, Path, Name]] = []
    bad, seen = [], 0
    for set_name, folder in profile.sets.items():
        base = root / folder
        if not base.is_dir():
            raise AuscultError(
                f"the {set_name} set has no folder", str(base), "fetch the data, or mend `sets` of the profile"
            )
        # "Not a folder" rather than "a file": a link that leads nowhere is a missing recording, not nothing.
        for path in sorted(p for p in base.rglob("*") if p.suffix.lower() in SUFFIXES and not p.is_dir()):
            seen += 1
            try:
                name = read(PurePosixPath(path.relative_to(base).as_posix()))
            except ValueError as error:
                bad.append(f"{path}: {error}")
                continue
            if not profile.machines or name.machine in profile.machines:
                found.append((set_name, path, name))
    if not seen:
        raise AuscultError(f"no recordings ({', '.join(SUFFIXES)}) found", str(root), "mend `source` or `sets`")
    return found, bad


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


def _with_ids(table: pd.DataFrame) -> pd.DataFrame:
    """Add `clip_id`: the hash of the content, later copies of the same bytes moved to the next free number.

    Which copy is the first is decided by what may be known of a test clip, training first, so that no name decides.
    """
    order = table.assign(tested=table["partition"] == "test").sort_values(["tested", "set", "machine", "unit", "path"])
    ids = (order["content"] + order.groupby("content").cumcount()).astype("int64")
    if not ids.is_unique:
        raise AuscultError(
            "two different recordings share a 63-bit hash", fix="add one sample of silence to one of them"
        )
    return table.assign(clip_id=ids)


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
        fix += ", or lower `holdout`" if profile.holdout else ""
        raise AuscultError(f"classes that appear only in the test set:{listed(problems)}", fix=fix)
    if len(train) == len(table):
        fix = "add test recordings, or let `holdout` of the profile keep a part of the normal ones for testing"
        raise AuscultError("there is not one test clip", f"profile {profile.name}", fix)


def _warn_of_copies(table: pd.DataFrame) -> None:
    """A test clip whose bytes are also in the training set makes every score on it worthless."""
    trained = set(table.loc[table["partition"] == "train", "content"])
    leaks = table[(table["partition"] == "test") & table["content"].isin(trained)]
    if len(leaks):
        tqdm.write(
            f"warning: {len(leaks)} test clip(s) are byte-identical to training clips:{listed(list(leaks['path']), 5)}"
        )
