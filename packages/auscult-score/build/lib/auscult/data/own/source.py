"""Your own recordings of any length, rate and number of channels, cut into clips that the other stages can use."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Annotated, Literal

from pydantic import Field
from tqdm import tqdm

from auscult.data.audio import NOT_READ, QUIETEST_PEAK, READ, RecordingError, printable, unread_format
from auscult.data.inventory import describe
from auscult.data.names.encoding import LONGEST, clip_name, encoded, safe
from auscult.data.own.cutting import SHORTEST, Measured, cut, measure, pieces
from auscult.data.own.facts import Facts, facts_of_folders, facts_of_table
from auscult.data.parallel import in_threads
from auscult.errors import AuscultError, listed
from auscult.files import atomic_folder, require_room
from auscult.settings.paths import project_root
from auscult.settings.profile import Profile
from auscult.settings.section import Fraction, Positive, Section, validated

HIGHEST_PEAK = 0.25
"""Of what is trained on, where the level is changed."""
Piece = tuple[int, int]


@dataclass(frozen=True)
class Recording:
    path: Path
    name: str
    """What its clips are called after: unique within its machine and unit."""
    facts: Facts
    sound: Measured


class RecordingsSource(Section):
    """Recordings on this machine; their clips are written into the project's data folder."""

    kind: Literal["recordings"]
    path: str
    """Folder, absolute or relative to the project root."""
    table: str = ""
    """CSV (see facts.py), relative to `path`; "" = folders tell what a recording is."""
    overlap: Annotated[float, Field(ge=0, le=0.9)] = 0.0
    """Of consecutive clips, as a part of their length."""
    minimum_seconds: Annotated[float, Field(ge=SHORTEST)] | None = None
    """A recording's last clip is dropped below this, unless it is its only one; None = half a clip."""
    holdout: Fraction = 0.2
    """Part of each unit's normal recordings kept for testing, at least one. Units with `test_normal` keep all."""
    version: Positive = 1
    """Raise it when the recordings have changed: only a changed setting makes the stage look again."""


def write_clips(profile: Profile, raw: Path, workers: int) -> None:
    """Cut the recordings of `profile.source` into raw/<machine>/<unit>/<label>/, or leave `raw` as it was.

    Raises:
        AuscultError: everything that is wrong with the settings, the table, the folders or the files; no room on the disk.
    """
    source = validated(RecordingsSource, profile.source, "source")
    _check_settings(profile, source)
    folder = _folder(source.path, raw)
    files, passed_over = _files(folder, source.table)
    names = list(files)
    facts = facts_of_table(folder / source.table, names) if source.table else facts_of_folders(names)
    recordings = hold_out(_measured(files, facts, workers), source.holdout)
    gains = _gains(recordings)
    plan = [(one, _pieces(one.sound, profile.clip_seconds, source)) for one in recordings]
    require_room(
        raw.absolute().parent,
        sum(2 * one.sound.channels * length + 44 for one, found in plan for _, length in found),
        "the clips take {wanted}, and {free} are free",
        "free some room, or put fewer recordings into the folder",
    )
    with atomic_folder(raw) as out, tqdm(total=sum(len(found) for _, found in plan), desc="cut", unit="clip") as bar:

        def write(item: tuple[Recording, list[Piece]]) -> str:
            one, found = item
            target = out / one.facts.machine / one.facts.unit / one.facts.label
            target.mkdir(parents=True, exist_ok=True)

            def name(start: int) -> Path:
                milliseconds = round(1000 * start / one.sound.sample_rate)
                return target / clip_name(one.name, milliseconds, one.facts.attributes)

            try:
                cut(one.path, found, gains[one.facts.machine], name, bar.update)
            except AuscultError as error:
                return f"{error.where}: {error.what}"
            return ""

        _refuse([problem for problem in in_threads(write, plan, workers) if problem])
        describe(out, ".", {}, gains={machine: gain for machine, gain in gains.items() if gain != 1})
    tqdm.write(_summary(profile, plan, gains, passed_over))


# ------------------------------------------------------------------------------------------------------- what is asked for
def _check_settings(profile: Profile, source: RecordingsSource) -> None:
    where = f"profile {profile.name}"
    if profile.grammar != "recordings":
        fix = "set `grammar: recordings`"
        raise AuscultError(f"grammar `{profile.grammar}` does not read the names of cut clips", where, fix)
    if source.minimum_seconds and source.minimum_seconds > profile.clip_seconds:
        fix = f"set it to {profile.clip_seconds:g} or less"
        raise AuscultError("`source.minimum_seconds` is longer than a clip (`clip_seconds`)", where, fix)


def _folder(path: str, raw: Path) -> Path:
    folder = project_root() / Path(path).expanduser()
    if folder.is_file():
        raise AuscultError("this is a file; a folder of recordings is wanted", str(folder), "give the folder it is in")
    if not folder.is_dir():
        raise AuscultError("the folder of recordings is not there", str(folder), "put it there, or mend `source.path`")
    if folder.resolve() in raw.resolve().parents:
        fix = "put the recordings into a folder of their own"
        raise AuscultError("the folder of recordings holds this project's data", str(folder), fix)
    return folder


def _files(folder: Path, table: str) -> tuple[dict[str, Path], Counter[str]]:
    """Recordings by their names below `folder`, sorted; and how many other files of each suffix are passed over."""
    paths = {path.relative_to(folder).as_posix(): path for path in sorted(folder.rglob("*")) if not path.is_dir()}
    seen = {name: path for name, path in paths.items() if not any(part[0] == "." for part in name.split("/"))}
    files = {name: path for name, path in seen.items() if path.suffix.lower() in (*READ, *NOT_READ)}
    others = Counter(path.suffix.lower() or path.name for name, path in seen.items() if name not in {*files, table})
    if not files:
        what = f"no recordings below this folder{f', only {_counts(others)}' if others else ''}"
        fix = f"put some there: {', '.join(READ)}"
        if others[".csv"]:
            fix += (
                "; numbers of a vibration logger become sound by soundfile.write(name, values, rate, subtype='FLOAT')"
            )
        raise AuscultError(what, str(folder), fix)
    return files, others


def _measured(files: dict[str, Path], facts: dict[str, Facts], workers: int) -> list[Recording]:
    def one(name: str) -> Measured | AuscultError:
        try:
            if files[name].suffix.lower() in NOT_READ:
                raise unread_format(files[name])
            if len(encoded(facts[name].attributes)) > LONGEST:
                raise RecordingError(f"its attributes take more than {LONGEST} bytes in a file name", files[name])
            return measure(files[name])
        except AuscultError as error:
            return error

    with tqdm(total=len(files), desc="read", unit="recording") as bar:
        sounds = dict(zip(files, in_threads(one, list(files), workers, bar), strict=True))
    _refuse([f"{sound.where}: {sound.what}" for sound in sounds.values() if isinstance(sound, AuscultError)])
    recordings: list[Recording] = []
    taken: set[tuple[str, str, str]] = set()
    for name, sound in sounds.items():
        of, parts = facts[name], PurePosixPath(name).with_suffix("").parts
        below = parts[parts.index(of.label) + 1 :] if of.label in parts[:-1] else parts
        stem, number = safe("-".join(below)), 1
        unique = stem
        # Of all labels together, for held-out recordings move; and some file systems do not tell `A` from `a`.
        while (of.machine, of.unit, unique.casefold()) in taken:
            number += 1
            unique = f"{stem}-{number}"
        taken.add((of.machine, of.unit, unique.casefold()))
        assert isinstance(sound, Measured)
        recordings.append(Recording(files[name], unique, of, sound))
    return recordings


def _refuse(problems: list[str]) -> None:
    if problems:
        what = f"{len(problems)} recording(s) cannot be used:{listed(problems)}"
        raise AuscultError(what, fix="mend, convert or remove them")


def _gains(recordings: list[Recording]) -> dict[str, float]:
    """What the sound of each machine is multiplied by to fit 16 bits: by what is trained on alone.

    1 where it fits. Where peaks exceed full scale (floats in Pa or g), or use less than 8 bits, the power of two that
    brings the highest one to at most a quarter: four times of it, 12 dB, are left to sound that is louder.
    """
    peaks: dict[str, float] = {}
    for one in recordings:
        if one.facts.label == "normal":
            peaks[one.facts.machine] = max(peaks.get(one.facts.machine, 0.0), one.sound.peak)
    fits = {machine: peak == 0 or QUIETEST_PEAK <= peak <= 1 for machine, peak in peaks.items()}
    return {
        machine: 1.0 if fits[machine] else 2.0 ** math.floor(math.log2(HIGHEST_PEAK / peak))
        for machine, peak in peaks.items()
    }


def _pieces(sound: Measured, clip_seconds: float, source: RecordingsSource) -> list[Piece]:
    clip = max(1, round(clip_seconds * sound.sample_rate))
    minimum = source.minimum_seconds or clip_seconds / 2
    return pieces(sound.frames, clip, max(1, round(clip * (1 - source.overlap))), round(minimum * sound.sample_rate))


# --------------------------------------------------------------------------------------------------- what is held out
def hold_out(recordings: list[Recording], holdout: float) -> list[Recording]:
    """Label some normal recordings `test_normal`: of each unit those with the lowest hashes, so no name decides.

    Copies of a recording go the same way.
    """
    units: dict[tuple[str, str], list[Recording]] = {}
    for one in recordings:
        units.setdefault((one.facts.machine, one.facts.unit), []).append(one)
    held: set[tuple[str, str, int]] = set()
    problems = []
    for (machine, unit), of_unit in sorted(units.items()):
        normal = sorted({one.sound.content for one in of_unit if one.facts.label == "normal"})
        if not normal:
            problems.append(f"{machine} unit {unit}: not one normal recording, so nothing to train on")
        elif holdout and all(one.facts.label != "test_normal" for one in of_unit):
            if len(normal) == 1:
                problems.append(f"{machine} unit {unit}: one normal recording cannot be both trained on and held out")
            count = min(max(1, round(holdout * len(normal))), len(normal) - 1)
            held |= {(machine, unit, content) for content in normal[:count]}
    if problems:
        fix = "add normal recordings (or cut a long one in two), or set `source.holdout` to 0"
        raise AuscultError(f"too few recordings:{listed(problems)}", fix=fix)
    out = []
    for one in recordings:
        chosen = one.facts.label == "normal" and (one.facts.machine, one.facts.unit, one.sound.content) in held
        out.append(replace(one, facts=replace(one.facts, label="test_normal")) if chosen else one)
    if all(one.facts.label == "normal" for one in out):
        fix = "add some to anomaly/ or test_normal/, or set `source.holdout`"
        raise AuscultError("there is nothing to test with: every recording is normal and trained on", fix=fix)
    return out


# ------------------------------------------------------------------------------------------------------------ what is said
def _summary(
    profile: Profile, plan: list[tuple[Recording, list[Piece]]], gains: dict[str, float], passed_over: Counter[str]
) -> str:
    """What became of the recordings, and what their owner may not expect."""
    clips = Counter[str]()
    for one, found in plan:
        clips[one.facts.label] += len(found)
    minutes = sum(one.sound.frames / one.sound.sample_rate for one, _ in plan) / 60
    tested = sum(one.facts.label == "test_normal" for one, _ in plan)
    length = f"{minutes / 60:.1f} h" if minutes > 90 else f"{minutes:.1f} min"
    lines = [
        f"{len(plan)} recordings ({length}) -> {clips.total()} clips: {clips['normal']} to train on, to test with "
        f"{clips['test_normal']} normal ones (of {tested} recordings) and {clips['anomaly']} anomalies"
    ]
    dropped = sum(sum(found[-1]) < one.sound.frames for one, found in plan)
    if dropped:
        lines.append(f"the rest of {dropped} recording(s) is too short for a clip (`source.minimum_seconds`)")
    rates = Counter(one.sound.sample_rate for one, _ in plan)
    if set(rates) != {profile.sample_rate}:
        lines.append(f"sample rates: {_counts(rates, ' Hz')}; all become {profile.sample_rate} Hz")
    channels = Counter(one.sound.channels for one, _ in plan)
    if set(channels) != {1}:
        lines.append(f"channels: {_counts(channels)}; `data.input` says which is used (0 = the first, or `mean`)")
    for machine, gain in gains.items():
        if gain != 1:
            lines.append(
                f"{machine}: the sound is multiplied by {gain:g}, to fit 16 bits (the level of what is trained on)"
            )
    if loud := sum(one.sound.peak * gains[one.facts.machine] > 1 for one, _ in plan):
        lines.append(f"{loud} recording(s) exceed full scale: their peaks are cut off")
    if wrong := [f"{printable(one.path)}: {note}" for one, _ in plan for note in one.sound.notes]:
        lines.append(f"{len(wrong)} header(s) are wrong:{listed(wrong, 5)}")
    units: dict[str, set[str]] = {}
    for one, _ in plan:
        units.setdefault(f"{one.facts.machine} {one.facts.unit}", set()).add(one.facts.label)
    for label, words in (("anomaly", "no anomalies"), ("test_normal", "no normal recordings to test with")):
        if lacking := [unit for unit, labels in units.items() if label not in labels]:
            lines.append(f"{words}, so no AUC: {', '.join(lacking)}")
    if passed_over:
        lines.append(f"files that are no recordings passed over: {_counts(passed_over)}")
    return "\n".join(lines)


def _counts(counter: Counter[str] | Counter[int], unit: str = "") -> str:
    return ", ".join(f"{number} x {name}{unit}" for name, number in sorted(counter.items(), key=str))
