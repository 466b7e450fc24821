"""Write the synthetic machines as a folder of WAV files, named and laid out like the challenge's data."""

from __future__ import annotations

import errno
import shutil
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

import soundfile
from tqdm import tqdm

from auscult.data.synthetic.render import domain_of, generate_clips, setting_of
from auscult.data.synthetic.source import Partition, SyntheticSource
from auscult.errors import AuscultError
from auscult.files import atomic_folder

CLIPS_PER_JOB = 32


@dataclass(frozen=True)
class Job:
    """Some clips of one unit and partition, written by one process."""

    source: SyntheticSource
    folder: Path
    machine: str
    unit: str
    partition: Partition
    start: int
    stop: int


def file_name(source: SyntheticSource, machine: str, unit: str, partition: Partition, index: int) -> str:
    """Name of a clip: the grammar of 2020, or that of 2023 with a section per unit when there are two domains."""
    label = "anomaly" if partition == "test_anomaly" else "normal"
    if source.domain_shift == 0.0:
        return f"{label}_id_{unit}_{index:08d}.wav"
    part = "train" if partition == "train" else "test"
    domain, setting = domain_of(partition, index), setting_of(partition, index)
    if partition in ("machine", "noise"):
        return f"section_{unit}_{partition}_{index:04d}_.wav"
    attributes = "noAttribute" if machine in source.unattributed else f"spd_{setting}"
    return f"section_{unit}_{domain}_{part}_{label}_{index:04d}_{attributes}.wav"


def jobs(source: SyntheticSource, root: Path) -> Iterator[Job]:
    """All clips of `source` in jobs of at most `CLIPS_PER_JOB`."""
    counts: dict[Partition, int] = {
        "train": source.train_clips,
        "test_normal": source.test_normal,
        "test_anomaly": source.test_anomaly,
        "machine": source.machine_clips,
        "noise": source.noise_clips,
    }
    folders = {"train": "train", "machine": "supplemental", "noise": "supplemental"}
    for machine, units in source.machines.items():
        for name, ids in (("dev", units.dev), ("eval", units.eval)):
            for unit in ids:
                for partition, count in counts.items():
                    folder = root / name / machine / folders.get(partition, "test")
                    for start in range(0, count, CLIPS_PER_JOB):
                        stop = min(start + CLIPS_PER_JOB, count)
                        yield Job(source, folder, machine, unit, partition, start, stop)


def write_job(job: Job) -> int:
    """Render and write the clips of `job`; the number written."""
    indices = range(job.start, job.stop)
    clips = generate_clips(job.source, job.machine, job.unit, job.partition, indices)
    for index, clip in zip(indices, clips, strict=True):
        path = job.folder / file_name(job.source, job.machine, job.unit, job.partition, index)
        soundfile.write(path, clip.T, job.source.sample_rate, subtype="PCM_16")
    return len(indices)


def bytes_needed(source: SyntheticSource) -> int:
    """Size of the tree in bytes: samples and WAV headers."""
    units = sum(len(sets.dev) + len(sets.eval) for sets in source.machines.values())
    clips = source.train_clips + source.test_normal + source.test_anomaly + source.machine_clips + source.noise_clips
    return units * clips * (2 * source.samples * (1 if source.far is None else 2) + 44)


def write_tree(source: SyntheticSource, root: Path, workers: int = 0, progress: bool = True) -> None:
    """Write every clip of `source` under `root` as 16-bit WAV.

    One domain: `<root>/<dev|eval>/<machine>/train/normal_id_00_00000000.wav` and `.../test/{normal,anomaly}_id_...wav`, as
    in the 2020 data (training clips of evaluation units are the "additional training" set). Two domains
    (`domain_shift > 0`): the names of 2023, one section per unit. The tree is made in a sibling folder and renamed when
    whole, so `root` is never half written.

    Args:
        root: must not exist, or be an empty folder.
        workers: processes; 0 = this one. The bytes do not depend on it.

    Raises:
        AuscultError: `root` has something in it, or the disk has no room.
    """
    root = Path(root)
    if root.is_dir() and not any(root.iterdir()):
        root.rmdir()
    if root.exists():
        raise AuscultError("the folder for the synthetic data is not empty", str(root), "remove it or name another")
    if workers < 0:
        raise AuscultError(f"workers must be 0 or more, not {workers}")
    root.parent.mkdir(parents=True, exist_ok=True)
    _require_room(source, root.parent)
    with atomic_folder(root) as temporary:
        try:
            _write_all(source, temporary, workers, progress)
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise _no_room(source, root.parent) from error
            raise
        except soundfile.LibsndfileError as error:  # libsndfile reports a full disk as a system error of its own
            if shutil.disk_usage(root.parent).free < CLIPS_PER_JOB * 2 * source.samples:
                raise _no_room(source, root.parent) from error
            raise


def _write_all(source: SyntheticSource, folder: Path, workers: int, progress: bool) -> None:
    todo = list(jobs(source, folder))
    for directory in {job.folder for job in todo}:
        directory.mkdir(parents=True)
    total = sum(job.stop - job.start for job in todo)
    with tqdm(total=total, desc="synthetic machines", unit="clip", disable=not progress) as bar:
        if workers == 0:
            for job in todo:
                bar.update(write_job(job))
            return
        # "spawn": the caller may hold threads (PyTorch's, say), which a forked child must not inherit.
        with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
            try:
                for count in pool.map(write_job, todo):
                    bar.update(count)
            except BrokenProcessPool as error:
                raise AuscultError("a worker process died while writing", str(folder), "try fewer workers") from error
            except BaseException:
                pool.shutdown(wait=True, cancel_futures=True)
                raise


def _require_room(source: SyntheticSource, folder: Path) -> None:
    if shutil.disk_usage(folder).free < bytes_needed(source):
        raise _no_room(source, folder)


def _no_room(source: SyntheticSource, folder: Path) -> AuscultError:
    gigabytes = bytes_needed(source) / 1e9
    return AuscultError(
        f"the disk has no room for the synthetic data ({gigabytes:.2f} GB)",
        str(folder),
        "free some room, or ask for fewer clips",
    )
