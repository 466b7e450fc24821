"""An archive of recordings scored by the workers of a cluster: `auscult score --scheduler`.

A task is a part: some hundred recordings that one worker reads, scores and puts into the output as one file. What goes through
the scheduler is the names of recordings on the way there, and counts on the way back. A worker that is lost loses the part at
hand, which another one makes.
"""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from auscult.cluster.archive import Clip, check_unchanged, find, in_parts, read_ahead
from auscult.cluster.bundles import ONE, checked_copy, loaded_bundle, put_bundle
from auscult.cluster.connect import TIMEOUT, Tasks, connected, still_wanted, worker_name
from auscult.cluster.output import Known, Output, Owner
from auscult.cluster.parts import part_bytes, part_name, verdicts
from auscult.cluster.program import program, require_same
from auscult.data.audio import printable
from auscult.detector.words import counted, reason
from auscult.errors import AuscultError

if TYPE_CHECKING:
    from auscult.detector.bundle import Bundle

PART = 1000
"""Recordings of a part: minutes of work, against milliseconds for which a task keeps the scheduler busy."""
PART_BYTES = 2**31
"""Of the recordings of a part, so that parts of long ones take no hours."""
_SHOWN = 20


@dataclass
class Outcome:
    """What a run has done.

    Attributes:
        verdicts: how many of each, in all parts; before: how many of them an earlier run had scored.
        scored: by this run; failed: (file, reason) of recordings the store did not give, which are tried again next time.
        more_failed: how many beyond those.
        notes: what else is worth saying.
    """

    verdicts: Counter[str] = field(default_factory=Counter)
    before: int = 0
    scored: int = 0
    failed: list[tuple[str, str]] = field(default_factory=list)
    more_failed: int = 0
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Job:
    """What is the same for all parts of a run: the output and whose run may write there, and the bundle's folder and files in
    it."""

    output: str
    owner: Owner
    inside: str
    files: tuple[str, ...]


# --------------------------------------------------------------------------------------------------------------- on the head
def score_archive(
    bundle: Path,
    sources: Sequence[str],
    scheduler: str,
    out: str,
    most: int = PART,
    progress: Callable[[Outcome, int], object] = lambda outcome, workers: None,
    timeout: float = TIMEOUT,
) -> Outcome:
    """Score what has no row in the output yet. After an end of any kind the same call goes on.

    Args:
        sources: folders, patterns or files, as paths or addresses of fsspec.
        scheduler: see `connected`.
        out: folder or address for the parts.
        most: recordings of a part.
        progress: told every few seconds and after every part, with the number of threads at work.

    Raises:
        AuscultError: see `connected`, `find` and `Output`; or a worker of another version.
    """
    output = Output(_absolute(out))
    sources = [_absolute(source) for source in sources]
    with checked_copy(bundle) as (folder, manifest), connected(scheduler, timeout) as client:
        owner = output.begin(Owner(manifest.name, manifest.digest, manifest.threshold.value, program()))
        known = output.known()
        names = tuple(manifest.files)
        job = Job(output.place, owner, put_bundle(output, folder, names), names)
        outcome = Outcome(before=len(known.keys))
        outcome.notes += [f"{name} was not whole and is made again" for name in known.torn]
        for part in known.parts.values():
            outcome.verdicts.update(part["verdicts"])

        def halves(task: tuple[Job, list[Clip]]) -> list[tuple[Job, list[Clip]]]:
            """Of a part that workers die of, until the recording that does it is alone."""
            clips = task[1]
            if len(clips) == 1:
                why = "the process of every worker that read it ended"
                _note_failures(outcome, [(printable(clips[0].path), why)], 1)
                return []
            return [(job, clips[: len(clips) // 2]), (job, clips[len(clips) // 2 :])]

        tasks = Tasks(client, score_part, halves, lambda threads: progress(outcome, threads))
        parts = in_parts(_left(find(sources), known), most, PART_BYTES)
        try:
            for result in tasks.results((job, part) for part in parts):
                _take(outcome, known, result)
                progress(outcome, tasks.threads)
        except BaseException:
            with suppress(AuscultError):
                _write_manifest(output, owner, known, outcome)
            raise
        _write_manifest(output, owner, known, outcome)
        others = [name for name in output.names() if name.endswith(".parquet") and name not in known.parts]
        if others:
            first = ", ".join(others[:5])
            what = (
                f"{counted(len(others), 'file')} among the parts came from neither this run nor those before: {first}"
            )
            fix = "if another run was under way here, start again, which says what stands twice; if not, move them away"
            raise AuscultError(what, output.place, fix)
    return outcome


def _write_manifest(output: Output, owner: Owner, known: Known, outcome: Outcome) -> None:
    output.check_run(owner.run)
    sums = {"rows": outcome.verdicts.total(), "verdicts": dict(sorted(outcome.verdicts.items()))}
    output.write_manifest({**owner.facts, **sums}, known.parts)


def _absolute(place: str) -> str:
    """Workers have another working directory."""
    return place if "://" in place else str(Path(place).absolute())


def _left(clips: Iterator[Clip], known: Known) -> Iterator[Clip]:
    for some in in_parts(clips, 4096, 2**62):
        done = known.holds(some)
        yield from (clip for clip, there in zip(some, done, strict=True) if not there)


def _take(outcome: Outcome, known: Known, result: dict[str, Any]) -> None:
    if "refused" in result:
        raise AuscultError(*result["refused"])
    if result["rows"]:
        known.parts[result["part"]] = {name: result[name] for name in ("rows", "bytes", "verdicts")}
        outcome.verdicts.update(result["verdicts"])
        outcome.scored += result["rows"]
    _note_failures(outcome, result["failed"], result["failures"])


def _note_failures(outcome: Outcome, failed: Sequence[tuple[str, str]], count: int) -> None:
    shown = failed[: max(0, _SHOWN - len(outcome.failed))]
    outcome.failed += shown
    outcome.more_failed += count - len(shown)


# -------------------------------------------------------------------------------------------------------------- on a worker
def score_part(task: tuple[Job, list[Clip]]) -> dict[str, Any]:
    """Make a part, unless it is there: its name, rows, bytes and verdicts, and which recordings the store did not give.

    What a user can mend comes back as `refused`, in plain text, so that nothing depends on how an error travels.
    """
    job, clips = task
    try:
        return _score_part(job, clips)
    except AuscultError as error:
        where = f"{error.where} ({worker_name()})" if error.where else worker_name()
        return {"refused": (error.what, where, error.fix)}


def _score_part(job: Job, clips: Sequence[Clip]) -> dict[str, Any]:
    output, owner = Output(job.output), job.owner
    name = part_name(clips, owner.bundle_digest)
    output.check_run(owner.run)
    require_same(owner.program, worker_name())
    there = output.part(name)
    if there is not None:
        return {**_counts(name, there), "failed": [], "failures": len(clips) - there["rows"]}
    bundle = loaded_bundle(output, job.inside, job.files, owner.bundle_digest, owner.threshold)
    rows: list[dict[str, Any]] = []
    failed: list[tuple[str, str]] = []
    with tempfile.TemporaryDirectory(prefix="auscult-") as folder:
        for clip, place in read_ahead(clips, Path(folder)):
            if not still_wanted():
                raise AuscultError("this part was taken back", fix="start the same command again")
            found = reason(place) if isinstance(place, OSError) else _row(bundle, clip, place)
            if isinstance(found, str):
                failed.append((printable(clip.path), found))
            else:
                rows.append(found)
    content = part_bytes(rows, owner.facts) if rows else b""
    if rows:
        output.check_run(owner.run)
        try:
            output.put(name, content)
        except AuscultError:
            output.check_run(owner.run)  # a run that takes the output over removes what is being written
            raise
    made = {"rows": len(rows), "bytes": len(content), "verdicts": verdicts(rows)}
    return {**_counts(name, made), "failed": failed[:_SHOWN], "failures": len(failed)}


def _counts(name: str, part: dict[str, Any]) -> dict[str, Any]:
    return {"part": name, "rows": part["rows"], "bytes": part["bytes"], "verdicts": part["verdicts"]}


def _row(bundle: Bundle, clip: Clip, place: Path) -> dict[str, Any] | str:
    """Why there is none where it has changed meanwhile, or where one recording finds a bug, which must not keep the others."""
    from auscult.detector.score import score_file, verdict_without_score

    same = {
        "file": printable(clip.path), "size": clip.size, "state": clip.state, "key": clip.key, "threshold": bundle.threshold
    }  # fmt: skip
    try:
        try:
            with ONE:
                row = {**asdict(score_file(bundle, place)), **same}
        except AuscultError as error:
            row = {**same, "verdict": verdict_without_score(error), "warning": reason(error)}
        if str(place) == clip.path:
            check_unchanged(clip)
    except OSError as error:
        return reason(error)
    except Exception as error:
        return f"a bug: {type(error).__name__}: {error}"
    return row
