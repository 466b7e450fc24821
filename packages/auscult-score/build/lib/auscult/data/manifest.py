"""The two tables every later stage starts from: `clips` (what may be known) and `labels` (the answers).

A clip's id is a hash of its bytes, and test clips are ordered by it: neither the name nor the label of a test clip can
leave a trace in anything computed from the tables.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path, PurePosixPath

import numpy as np
import pandas as pd
from tqdm import tqdm

from auscult.data.audio import QUIETEST_PEAK, SUFFIXES, printable, probe
from auscult.data.labels import groundtruth
from auscult.data.names.attributes import differences
from auscult.data.names.encoding import name_fault
from auscult.data.names.grammar import GRAMMARS, Name
from auscult.data.parallel import in_threads
from auscult.errors import AuscultError, listed
from auscult.settings.profile import Profile

CLIPS = [
    "clip_id", "path", "dataset", "set", "partition", "kind", "machine", "unit", "domain", "attributes", "seconds", "channels",
]  # fmt: skip
NAMED = ["partition", "kind", "machine", "unit", "domain", "attributes"]
LABELS = ["clip_id", "set", "machine", "unit", "anomaly", "domain"]


Found = list[tuple[str, str, Name]]
"""(set, path below the root, what the name says) of each recording."""
HEADER = np.dtype(
    [
        ("seconds", np.float64),
        ("rate", np.int64),
        ("channels", np.int64),
        ("content", np.int64),
        ("peak", np.float64),
    ]
)
BATCH = 64
"""Recordings read by one task of a thread."""


def build_manifest(profile: Profile, root: Path, workers: int = 0) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Read every recording's name and header below `root`, or the table of arrays there.

    Returns:
        clips: columns `CLIPS`; `domain` and `attributes` are not filled for test clips. Sorted by set, machine,
            partition, unit, clip_id.
        labels: columns `LABELS`, test clips whose label is known, by their name or by the profile's `eval_labels`.

    Raises:
        AuscultError: every bad file at once; labels that do not fit the clips; a machine of the profile without clips, or
            with sample rates that tell clips apart; a unit (class) only in the test set; no test clips at all.
    """
    table = _of_arrays(profile, root) if profile.arrays else _of_recordings(profile, root, workers)
    if profile.holdout:
        chosen = (table["content"] % 1_000_003 < profile.holdout * 1_000_003) & (table["partition"] == "train")
        table.loc[chosen, "partition"] = "test"
    _check(table, profile)
    _check_rates(table, profile)
    table = _with_ids(table, profile.arrays).sort_values(
        ["set", "machine", "partition", "unit", "clip_id"], ignore_index=True
    )
    _warn(table)
    test = table["partition"] == "test"
    labels = table.loc[test & table["anomaly"].notna(), LABELS].astype({"anomaly": "int64"}).reset_index(drop=True)
    clips = table.copy()
    clips.loc[test, "domain"] = "unknown"  # hidden at test time from 2022 on, and no back-end may use it
    clips.loc[test, "attributes"] = ""
    return clips[CLIPS], labels


def _of_arrays(profile: Profile, root: Path) -> pd.DataFrame:
    """The table that the download stage left beside the arrays (arrays/source.py)."""
    nothing_heard = {"seconds": 0.0, "channels": 0, "rate": 0}
    return pd.read_parquet(root / "clips.parquet").assign(dataset=profile.dataset, kind="", **nothing_heard)


def _of_recordings(profile: Profile, root: Path, workers: int) -> pd.DataFrame:
    if profile.grammar not in GRAMMARS:
        raise AuscultError(
            f"unknown grammar `{profile.grammar}`", f"profile {profile.name}", f"use: {', '.join(GRAMMARS)}"
        )
    named, bad = _find(profile, root)
    # Labels first, before minutes of reading; but not when a wrong name would show as a label without a clip.
    found = named if bad else _with_labels(named, profile, root)
    headers = _headers(root, [path for _, path, _ in found], workers, bad)
    if bad:
        raise AuscultError(
            f"{len(bad)} file(s) cannot be used:{listed(sorted(bad))}", fix="mend, rename or remove them"
        )
    if lines := differences(root, [(path, name) for _, path, name in named]):
        tqdm.write(f"warning: attribute tables differ from the names, which are used:{listed(lines)}")
    return _table(found, headers, profile)


def _find(profile: Profile, root: Path) -> tuple[Found, list[str]]:
    """Every recording of the profile's machines, sorted by path; and a message for each misnamed one."""
    read = GRAMMARS[profile.grammar]
    found: Found = []
    bad, seen, unknown = [], 0, 0
    for set_name, folder in profile.sets.items():
        base = root / folder
        if not base.is_dir():
            raise AuscultError(
                f"the {set_name} set has no folder", str(base), "fetch the data, or mend `sets` of the profile"
            )
        for below in _recordings(base):
            seen += 1
            try:
                name = read(PurePosixPath(below))
                if fault := name_fault(below, name.machine, name.unit):
                    raise ValueError(fault)
            except ValueError as error:
                bad.append(f"{printable(base / below)}: {error}")
                continue
            if name.partition == "supplemental" and not name.kind:
                unknown += 1
            elif not profile.machines or name.machine in profile.machines:
                found.append((set_name, (PurePosixPath(folder) / below).as_posix(), name))
    if not seen:
        raise AuscultError(f"no recordings ({', '.join(SUFFIXES)}) found", str(root), "mend `source` or `sets`")
    if unknown:
        tqdm.write(f"{unknown} supplemental recording(s) left out: their names tell neither `machine` nor `noise`")
    return found, bad


def _recordings(base: Path) -> Iterator[str]:
    """Path below `base` of every recording, folder by folder. A link that leads nowhere is one too, and will be missed."""
    for folder, folders, names in os.walk(base):
        folders.sort()
        below = Path(folder).relative_to(base).as_posix()
        prefix = "" if below == "." else f"{below}/"
        yield from (f"{prefix}{name}" for name in sorted(names) if os.path.splitext(name)[1].lower() in SUFFIXES)


def _with_labels(found: Found, profile: Profile, root: Path) -> Found:
    """`found` with the labels of `eval_labels`, joined by name to the evaluation clips whose names carry none."""
    if not profile.eval_labels:
        return found
    if "eval" not in profile.sets:
        raise AuscultError(
            "`eval_labels` without a set `eval`", f"profile {profile.name}", 'mend `sets`, or set it to ""'
        )
    at = [
        i for i, (s, _, name) in enumerate(found) if s == "eval" and name.partition == "test" and name.anomaly is None
    ]
    labels = groundtruth.read_labels(profile.eval_labels, root)
    matched = groundtruth.match(
        [(found[i][2].machine, PurePosixPath(found[i][1]).name) for i in at], labels, profile.eval_labels
    )
    out = list(found)
    for i, label in zip(at, matched, strict=True):
        set_name, path, name = found[i]
        out[i] = set_name, path, replace(name, anomaly=label.anomaly, domain=label.domain)
    if not at:
        tqdm.write("warning: `eval_labels` is of no use here: no evaluation clip lacks a label")
    if profile.rules.domains and any(out[i][2].domain == "unknown" for i in at):
        tqdm.write("warning: the labels do not tell source from target, so that the scores of a domain cannot be had")
    if profile.eval_labels == groundtruth.NTT_LIST:
        tqdm.write(
            f"warning: {groundtruth.NTT_LIST} is wrong for ToyCar and ToyTrain: it serves to compare with numbers that used it"
        )
    return out


def _headers(root: Path, paths: list[str], workers: int, bad: list[str]) -> np.ndarray:
    """HEADER [clips] of the recordings at `paths` below `root`; `bad` gets a message for each that cannot be used."""

    notes: list[str] = []

    def read(start: int) -> list[str]:
        problems = []
        for i in range(start, min(start + BATCH, len(paths))):
            try:
                header = probe(root / paths[i])
            except AuscultError as error:
                problems.append(f"{error.where}: {error.what}")
                continue
            headers[i] = header.seconds, header.sample_rate, header.channels, header.content, header.peak
            notes.extend(f"{root / paths[i]}: {note}" for note in header.notes)
        return problems

    headers = np.zeros(len(paths), HEADER)
    with tqdm(total=len(paths), desc="manifest", unit="clip") as bar:
        starts = range(0, len(paths), BATCH)
        for problems in in_threads(read, starts, workers, bar, lambda start: min(BATCH, len(paths) - start)):
            bad += problems
    if notes:
        tqdm.write(f"warning: headers that are wrong:{listed(sorted(notes))}")
    _warn_of_levels(headers["peak"], root, paths)
    return headers


def _warn_of_levels(peaks: np.ndarray, root: Path, paths: list[str]) -> None:
    """Samples become 16 bit, and not every recording of floats fits that. `peaks` [clips]: 0 = of 16 bit, or silent."""
    cut_off = [str(root / paths[i]) for i in np.flatnonzero(peaks > 1)]
    crushed = [str(root / paths[i]) for i in np.flatnonzero((peaks > 0) & (peaks < QUIETEST_PEAK))]
    for names, what in (
        (cut_off, "exceed full scale: their peaks are cut off"),
        (crushed, "have less than 8 of 16 bits left"),
    ):
        if names:
            fix = "`source.kind: recordings` fits the level of each machine"
            tqdm.write(f"warning: {len(names)} recording(s) {what} ({fix}):{listed(names, 5)}")


def _table(found: Found, headers: np.ndarray, profile: Profile) -> pd.DataFrame:
    names = [name for _, _, name in found]
    return pd.DataFrame({
        "path": [path for _, path, _ in found],
        "dataset": [profile.dataset] * len(found),
        "set": [set_name for set_name, _, _ in found],
        **{c: [getattr(name, c) for name in names] for c in NAMED},
        **{c: headers[c] for c in ("seconds", "channels", "content", "rate")},
        "anomaly": np.array([np.nan if name.anomaly is None else name.anomaly for name in names], np.float64),
    })  # fmt: skip


def _with_ids(table: pd.DataFrame, arrays: bool) -> pd.DataFrame:
    """Add `clip_id`: the hash of the content, later copies of the same bytes moved to the next free number.

    Which copy is the first is decided by what may be known of a test clip, training first, so that no name decides. The path of
    an array is its row, which means nothing: copies that differ in anything are put in order by that.
    """
    more = ["domain", "attributes"] if arrays else []
    keys = ["tested", "set", "machine", "unit", *more, "path"]
    order = table.assign(tested=table["partition"].map({"train": 0, "test": 1, "supplemental": 2})).sort_values(keys)
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
    test = table[table["partition"] == "test"]
    for machine, clips in test.groupby("machine", sort=True):
        known = set(train.loc[train["machine"] == machine, "unit"])
        for unit in sorted(set(clips["unit"]) - known):
            problems.append(f"{machine} unit {unit}: test clips but not one training clip")
    if problems:
        fix = "every unit needs normal training clips; remove its test clips or add training clips"
        fix += ", or lower `holdout`" if profile.holdout else ""
        raise AuscultError(f"classes that appear only in the test set:{listed(problems)}", fix=fix)
    if test.empty:
        fix = "add test recordings, or let `holdout` of the profile keep a part of the normal ones for testing"
        raise AuscultError("there is not one test clip", f"profile {profile.name}", fix)


def _check_rates(table: pd.DataFrame, profile: Profile) -> None:
    """Several sample rates inside a machine: what lies above half of the lowest would tell clips apart, not their sound.

    Rates from the profile's upwards end up alike by resampling; below it a rate leaves the upper band empty.
    """
    mixed: dict[str, str] = {}
    for machine, rates in table.groupby("machine")["rate"]:
        counts = rates.value_counts().sort_index()
        if len(counts) > 1:
            mixed[str(machine)] = ", ".join(f"{rate} Hz ({count})" for rate, count in counts.items())
    low = set(table.loc[table["rate"] < profile.sample_rate, "machine"]) & set(mixed)
    if low:
        raise AuscultError(
            f"machines with several sample rates, some below the profile's {profile.sample_rate} Hz:"
            + listed([f"{machine}: {mixed[machine]}" for machine in sorted(low)]),
            f"profile {profile.name}",
            "remove the recordings of a lower rate, or set `sample_rate` to the lowest",
        )
    if mixed:
        lines = [f"{machine}: {rates}" for machine, rates in sorted(mixed.items())]
        tqdm.write(f"warning: several sample rates, all resampled to {profile.sample_rate} Hz:{listed(lines)}")


def _warn(table: pd.DataFrame) -> None:
    """What is no reason to stop: copies, machines that are not tested, clips without a label."""
    train, test = (table[table["partition"] == partition] for partition in ("train", "test"))
    # A test clip whose bytes are also in the training set makes every score on it worthless.
    leaks = test[test["content"].isin(set(train["content"]))]
    if len(leaks):
        tqdm.write(
            f"warning: {len(leaks)} test clip(s) are byte-identical to training clips:{listed(list(leaks['path']), 5)}"
        )
    tested = set(test["set"] + ": " + test["machine"])
    if untested := sorted(set(train["set"] + ": " + train["machine"]) - tested):
        tqdm.write(f"warning: machines trained on, but without a test clip:{listed(untested)}")
    for set_name, clips in test.groupby("set"):
        if unlabelled := int(clips["anomaly"].isna().sum()):
            tqdm.write(
                f"{unlabelled} of the {len(clips)} test clips of the {set_name} set have no label: scored, but in no table"
            )
