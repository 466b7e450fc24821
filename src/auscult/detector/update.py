"""New normal sound for a bundle in use: more references, and a threshold for the same rate from all left-out scores.

The network stays, and with it the mean and deviation by which `spectral_knn` scales its dimensions: scores of before and after
are distances in one space, and with more references a distance can only become smaller. (Scaled anew, every score would move, and
no journal or curve of before could be read beside one of after.) What a network has learnt is not learnt anew either: where the
sound of the machine has changed so much that this matters, `fit` again.

Recordings of two kinds are taken in. *New normal recordings*, all of some days and not a choice among them: like the old ones
they become references, and their left-out scores count for the threshold. *False alarms*: normal sound that was called
anomalous. They become references, so that sound like them is normal from then on, but no threshold is taken from them: chosen
for their high scores, they would raise it beyond the rate.
"""

from __future__ import annotations

import math
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from auscult.data.audio import printable
from auscult.detector.backend import UNSETTLED, notes_on_parts
from auscult.detector.drift import interval, surprise
from auscult.detector.enough import DIFFER, cross_fitted, notes_on_check
from auscult.detector.fit import embed_all, name_of
from auscult.detector.folder import Bundle, load, sha256_of
from auscult.detector.manifest import MOST_BYTES, file_names, write_manifest
from auscult.detector.normals import Normals
from auscult.detector.places import require_new_bundle
from auscult.detector.recordings import look_at, refuse_faulty
from auscult.detector.references import References, references_of, stretches
from auscult.detector.score import NOTABLE
from auscult.detector.signal import SignalRange
from auscult.detector.stream import recordings
from auscult.detector.thresholds import OF_RATE, choose, notes_on, require_different
from auscult.detector.verdict import alikeness, effective
from auscult.detector.windows import cut_alike
from auscult.errors import AuscultError, listed
from auscult.evaluation.metrics import Floats
from auscult.files import atomic_folder

SURPRISING = 1e-3
"""Probability below which so many new normal windows above the threshold are no chance."""


@dataclass(frozen=True)
class Updated:
    """What became of a bundle.

    Attributes:
        bundle: as it is now; kept: where the old one lies if the new one took its place.
        left_out: recordings that were not taken in, and why.
        notes: what a user should know.
        still_above: share of the new windows above the new threshold, each scored without its own recording; NaN: they are
            false alarms.
    """

    bundle: Bundle
    kept: Path | None
    left_out: dict[str, str]
    notes: list[str]
    still_above: float


@dataclass
class _New:
    """New recordings as windows, with their embeddings [n, D] and what each window scored before [n]; the table of the windows
    is one of `References`."""

    normals: Normals
    vectors: np.ndarray
    score: Floats

    @property
    def table(self) -> pd.DataFrame:
        return self.normals.windows.table


def update(
    folder: Path | str,
    new: Sequence[Path | str],
    out: Path | str | None = None,
    false_alarms: bool = False,
    force: bool = False,
) -> Updated:
    """Take new normal recordings into a bundle.

    Args:
        new: recordings, or folders of them.
        out: folder to write; None = in place, and the old one is kept beside it as `<name>.<8 digits of its digest>`.
        false_alarms: whether they are, and not all of some days; see above.
        force: also if more of the new ones are anomalous than chance allows.

    Raises:
        AuscultError: nothing new; recordings that cannot be read or in which nothing is heard; too many that are anomalous; a
            bundle that cannot be updated.
    """
    folder = Path(folder)
    target = folder.resolve() if out is None else Path(out)
    if out is not None:
        require_new_bundle(target, force=False)
    bundle = load(folder)
    references = references_of(bundle)
    if false_alarms and bundle.backend == "native":
        what = (
            f"`{bundle.method}` scores by itself and compares with no recordings, so that false alarms teach it nothing"
        )
        raise AuscultError(what, str(folder), "fit again with them among the normal recordings")
    left_out: dict[str, str] = {}
    with atomic_folder(target) as part:
        work = part / "work.s16"
        files = _unknown(bundle, [Path(path) for path in new], left_out)
        added = _cut(bundle, files, work, false_alarms, left_out) if files else None
        if added is None or not _without_known(added, references, left_out):
            lines = [f"{name}: {reason}" for name, reason in left_out.items()] or ["there are no recordings"]
            raise AuscultError(f"nothing new:{listed(lines)}", str(folder), "give recordings that it does not know")
        entry, notes = _compared(bundle, added, force)
        facts, still_above = _write(bundle, references, added, part)
        work.unlink()
        if out is not None:
            facts["name"] = name_of(target)
        facts["training"]["left_out"] = {**facts["training"]["left_out"], **left_out}
        facts["updates"] = [*bundle.facts["updates"], {**entry, "threshold_after": facts["threshold"]["value"]}]
        write_manifest(part / "bundle.yaml", facts)
        kept = None
        if out is None:
            kept = target.with_name(f"{target.name}.{bundle.digest[:8]}")
            with atomic_folder(kept) as copy:
                shutil.copytree(target, copy, dirs_exist_ok=True)
    return Updated(load(target), kept, left_out, notes, still_above)


# ------------------------------------------------------------------------------------------------------- what is taken in
def _unknown(bundle: Bundle, paths: Sequence[Path], left_out: dict[str, str]) -> dict[str, Path]:
    """Recordings below `paths` whose bytes are new, by a name that no other recording of the bundle has: which update, and where
    below their common folder."""
    known = set(bundle.facts["training"]["sha256"].values())
    root = os.path.commonpath([path if path.is_dir() else path.parent for path in (each.absolute() for each in paths)])
    files = {}
    for path in dict.fromkeys(path.absolute() for path in recordings(paths)):
        name = printable(f"update-{len(bundle.facts['updates']) + 1}/{path.relative_to(root).as_posix()}")
        digest = sha256_of(path)
        if digest in known:
            left_out[name] = "known already"
        else:
            files[name] = path
        known.add(digest)
    return files


def _cut(
    bundle: Bundle, files: Mapping[str, Path], work: Path, labelled: bool, left_out: dict[str, str]
) -> _New | None:
    """Recordings cut as the bundle's, with its scores; None if nothing of them can be used."""
    folder = Path(os.path.commonpath([path.parent for path in files.values()]))
    refuse_faulty(files, printable(folder))
    found = look_at(files, bundle.channel, printable(folder))
    windows = cut_alike(found, work, bundle.sample_rate, bundle.window, bundle.channel, bundle.signal.gain)
    left_out |= windows.left_out
    if not len(windows.table):
        return None
    below = [name.partition("/")[2].rpartition("/")[0] for name in windows.table["name"]]
    windows.table = windows.table.assign(unit=[unit or "00" for unit in below], labelled=labelled)
    sums = {name: sha256_of(each.path) for name, each in found.items() if name not in left_out}
    normals = Normals(folder, windows, found, sums, bundle.sample_rate, bundle.window, 0)
    vectors, own = embed_all(bundle.trained, windows.audio)
    return _New(normals, vectors, bundle.of_embeddings(vectors, own))


def _without_known(new: _New, references: References, left_out: dict[str, str]) -> bool:
    """Leave out windows that a reference is of, too (a copy in another format); whether others are left.

    Only the samples of whole windows can be compared, for the old sound is not kept: a cut that begins elsewhere, or a copy that
    has lost something (MP3), is not recognised.
    """
    old, names = references.table, new.table["name"].astype(str).tolist()
    group = new.table["group"].to_numpy() + 1 + max(old["group"], default=-1)
    start, same = new.table["start"].to_numpy().copy(), references.same(new.vectors)
    for row in np.flatnonzero(same >= 0).tolist():
        twin, mine = old.iloc[same[row]], group == group[row]
        start[mine] += twin["start"] - start[row]
        group[mine] = twin["group"]
        if all(same[other] >= 0 for other, name in enumerate(names) if name == names[row]):
            left_out[names[row]] = f"the same sound as {twin['name']}"
    keep = same < 0
    new.normals.windows.table = new.table.assign(group=group, start=start)[keep].reset_index(drop=True)
    new.vectors, new.score = new.vectors[keep], new.score[keep]
    new.normals.sums = {name: digest for name, digest in new.normals.sums.items() if name not in left_out}
    return bool(keep.any())


# ------------------------------------------------------------------------------------------------ whether it is normal sound
def _compared(bundle: Bundle, new: _New, force: bool) -> tuple[dict[str, Any], list[str]]:
    """What the manifest says of the update, and notes.

    Raises:
        AuscultError: more windows of the new recordings are above the threshold than chance allows, or most of them.
    """
    rate, threshold, notes = bundle.rule.rate, bundle.threshold, []
    table = new.table.assign(above=new.score > threshold)
    above, false_alarms = int(table["above"].sum()), bool(table["labelled"].iloc[0])
    # Windows of one recording are alike: what is counted are recordings, each by its share of windows.
    shares = table.groupby("group")["above"].mean()
    unlikely = surprise(math.floor(shares.sum() + 1e-9), len(shares), rate, int(bundle.known.effective))
    too_many = (unlikely < SURPRISING or 2 * above > len(table)) and not false_alarms
    if too_many:
        low, high = interval(float(shares.sum()), len(shares))
        notes.append(
            f"{above} of {len(table)} new windows, of {len(shares)} recordings, score above the threshold: "
            f"{above / len(table):.0%} (95 % interval {low:.0%} to {high:.0%}), where {rate:.0%} of normal ones do"
        )
    signal = new.normals.windows.signal
    for by, word in (
        (signal.highest - bundle.signal.highest, "louder"),
        (bundle.signal.lowest - signal.lowest, "softer"),
    ):
        if by > NOTABLE:
            notes.append(
                f"up to {by:.2g} dB {word} than any recording before: was the microphone moved, or its gain changed?"
            )
    if too_many and not force:
        fix = "is the machine in order? leave out what is no normal sound; if all of it is, say so with --force"
        raise AuscultError("; ".join(notes), str(new.normals.folder), fix)
    entry = {
        "parent": bundle.digest, "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "recordings": int(table["name"].nunique()), "windows": len(table), "above": above, "false_alarms": false_alarms,
        "rate": rate, "threshold_before": threshold, "forced": too_many,
    }  # fmt: skip
    return entry, notes + new.normals.windows.notes


# -------------------------------------------------------------------------------------------------------- the bundle anew
def _write(bundle: Bundle, references: References, new: _New, part: Path) -> tuple[dict[str, Any], float]:
    """Write every file but bundle.yaml, whose content is returned; and the share of the new windows that is still above."""
    count, native, rate = len(bundle.normal), bundle.backend == "native", bundle.rule.rate
    grown, known = references.plus(new.vectors, new.table), bundle.facts["training"]
    rows = stretches(grown.table) if len(references.table) else []
    training, alike = _training(known, new.normals.facts()), bundle.known.alike
    if native:
        normal = np.concatenate([bundle.normal, new.score])
        recordings = bundle.recordings + int(new.table["group"].nunique())
    else:
        if not rows or grown.vectors.nbytes > MOST_BYTES["reference.npy"] - 1000:
            what = f"{len(grown.vectors)} windows are more than a bundle can be updated to"
            raise AuscultError(what, str(bundle.folder), "fit again, to fewer recordings or with longer windows")
        np.save(part / "reference.npy", grown.vectors)
        left_out = grown.left_out()
        normal, recordings = left_out[grown.counted], grown.recordings
        group = grown.table.loc[grown.counted, "group"].to_numpy()
        alike, check = alikeness(normal, group), cross_fitted(normal, group, rate)
        training["above_by_others"] = list(check)
        training["notes"] = [note for note in training["notes"] if not note.startswith((DIFFER, UNSETTLED))]
        training["notes"] += notes_on_parts(bundle.backend, left_out, grown.table["group"].to_numpy())
        training["notes"] += notes_on_check(*check, rate)
    require_different(normal, str(bundle.folder), bundle.backend)
    rule, independent = choose(normal, rate, bundle.rule.by), effective(len(normal), recordings, alike)
    np.save(part / "normal.npy", np.sort(normal))
    shutil.copytree(bundle.folder / "model", part / "model")
    training["notes"] = [note for note in training["notes"] if not OF_RATE.match(note)]
    training["notes"] += notes_on(rule, recordings, len(normal))
    old, added = bundle.signal, new.normals.windows.signal
    signal = SignalRange(
        gain=old.gain, lowest=min(old.lowest, added.lowest), highest=max(old.highest, added.highest),
        silence=max(old.silence, added.silence), clipped=max(old.clipped, added.clipped),
    )  # fmt: skip
    facts = {
        **bundle.facts, "threshold": asdict(rule), "signal": asdict(signal), "training": training, "references": rows,
        "effective": round(independent, 1), "alike": [list(each) for each in alike],
        "files": {name: sha256_of(part / name) for name in file_names(bundle.backend)},
    }  # fmt: skip
    return facts, float((normal[count:] > rule.value).mean()) if len(normal) > count else math.nan


def _training(known: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, Any]:
    """`training` of bundle.yaml: old and new recordings together."""
    whole = dict(known)
    for count in ("windows", "recordings", "seconds"):
        whole[count] += new[count]
    units = {**whole["units"], **new["units"]}
    whole["units"] = {name: whole["units"].get(name, 0) + new["units"].get(name, 0) for name in units}
    whole["overlapping"] = [*whole["overlapping"], *new["overlapping"]]
    whole["notes"] = [*whole["notes"], *(note for note in new["notes"] if note not in whole["notes"])]
    whole["sha256"] = {**whole["sha256"], **new["sha256"]}
    return whole
