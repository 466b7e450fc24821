"""Which pipeline files DVC's graph holds.

DVC reads every pipeline file several times in a command, whatever it is asked for: with all studies an experiment of the
project's own arms waits for the graph longer than for its stages, and warns of each stage that never ran. So `.dvcignore`
keeps the files of studies and of `extras/` out, and a line for each one that was asked for takes it in. Such a line goes with
the project into a queued experiment, and can be committed; without it, the file is out of the graph again.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from auscult.files import atomic_file
from auscult.settings.params import Params

IGNORE = ".dvcignore"
EXTRAS = "extras/dvc.yaml"
"""The page of results, the challenge's files, and every back-end on the project's arms."""


def kept_out_by(file: str) -> str:
    """The line of .dvcignore that keeps a pipeline file out.

    >>> kept_out_by("studies/lowpass/dvc.yaml")
    '/studies/**/dvc.yaml'
    """
    return f"/{EXTRAS}" if file == EXTRAS else "/studies/**/dvc.yaml"


def is_extra(name: str) -> bool:
    """Whether a name is `extras`, or a stage of it (`extras:submission`), and not a study."""
    return name.partition(":")[0] == "extras"


def file_of(study: str, backends: bool = False) -> str:
    """The pipeline file of a study; `backends`: the one that scores its arms with every back-end.

    >>> file_of("lowpass"), file_of("lowpass", backends=True)
    ('studies/lowpass/dvc.yaml', 'studies/lowpass/backends/dvc.yaml')
    """
    return f"studies/{study}/{'backends/' if backends else ''}dvc.yaml"


def needed(params: Params, study: str) -> list[str]:
    """A study and those that it rests on: whose arms are in its tables, or give weights or embeddings to its arms. None
    for extras, which rest on the project's own arms.

    Raises:
        AuscultError: there is no such study.
    """
    if is_extra(study):
        return []
    found = {study: None}
    todo = [study]
    while todo:
        name = todo.pop()
        arms = {*params.rows(name), *(arm.name for arm in params.own(name))}
        arms |= {params.arm(arm).weights for arm in arms}
        arms |= {labels.embeddings for labels in map(params.labels, arms) if labels.clustered}
        more = {params.arm(arm).study for arm in arms} - {*found, ""}
        found |= dict.fromkeys(sorted(more))
        todo += more
    return list(found)


def into_graph(
    params: Params, names: Sequence[str], backends: bool = False, root: Path = Path()
) -> tuple[list[str], list[str]]:
    """Take studies into the graph, with those that they rest on.

    Args:
        params: of the project in `root`.
        names: studies, `extras`, or stages of it (`extras:submission`); none = the project's own arms, always in the graph.
        backends: with the stages that score the arms by every back-end.

    Returns:
        The pipeline files, or stages, to run for them; and the files that were not in the graph before.

    Raises:
        AuscultError: there is no such study.
    """
    studies = [name for name in names if not is_extra(name)]
    extras = [name.replace("extras", EXTRAS, 1) for name in names if is_extra(name)]
    if backends and not studies:
        extras.append(f"{EXTRAS}:backends-project")
    below = list(dict.fromkeys(study for name in names for study in needed(params, name)))
    files = [file_of(name, kind) for kind in ((False, True) if backends else (False,)) for name in below]
    run = [*extras, *(file_of(study, backends) for study in studies)]
    return run or ["dvc.yaml"], include([EXTRAS, *files] if extras else files, root)


def included(root: Path = Path()) -> list[str]:
    """The pipeline files that .dvcignore lets in."""
    return [line[2:] for line in _lines(root) if line.startswith("!/") and line.endswith("dvc.yaml")]


def include(files: Iterable[str], root: Path = Path()) -> list[str]:
    """Let pipeline files into the graph; gives those that were not in it."""
    lines, inside = _lines(root), included(root)
    new = [file for file in dict.fromkeys(files) if kept_out_by(file) in lines and file not in inside]
    if new:
        with atomic_file(root / IGNORE) as part:
            part.write_text("".join(f"{line}\n" for line in [*lines, *(f"!/{file}" for file in new)]), encoding="utf-8")
    return new


def _lines(root: Path) -> list[str]:
    path = root / IGNORE
    return path.read_text(encoding="utf-8").splitlines() if path.is_file() else []


@contextmanager
def as_before(root: Path = Path()) -> Iterator[None]:
    """Put .dvcignore back at the end: an experiment in a copy of the project has its own, and leaves the workspace alone."""
    path = root / IGNORE
    before = path.read_bytes() if path.is_file() else None
    try:
        yield
    finally:
        if before is not None and path.read_bytes() != before:
            with atomic_file(path) as part:
                part.write_bytes(before)
