"""What every arm and every stage depends on, as small files that DVC compares: `data/<profile>/digests/`.

`arms/<arm>.json` has the arm's resolved settings, so merge rules and defaults count by what they give, and the digest of
the code that trains it. `stages/<stage>.json` has the digest of a stage's code, `studies/<study>.json` what the study's report
holds. A stage of DVC depends on one of them instead of on source files, and so runs again for a change of meaning alone.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from auscult.encoders import encoder_file
from auscult.encoders.checkpoints import status
from auscult.errors import AuscultError
from auscult.features import FRONTENDS
from auscult.files import atomic_file, atomic_folder, digest
from auscult.methods import load_method
from auscult.pipeline.digests import SRC, Code
from auscult.settings.project import Project
from auscult.settings.training import MethodSettings

PACKAGE = SRC / "auscult"
STAGES = SRC.parent / "stages"
CHOSEN = {
    "features": "features",
    "score": "scoring",
    "sweep": "scoring",
    "submission": "scoring",
    "confusion": "scoring",
}
"""Stages that import modules of a room by name, so that the source does not say which: they depend on the whole room."""


def training_code(settings: MethodSettings, code: Code | None = None) -> str:
    """Digest of what turns clips into an arm's weights: training, its method, its front-end, and its encoder if it has one."""
    start = [PACKAGE / "training" / "arm.py", PACKAGE / "methods" / f"{settings.method}.py"]
    encoder = getattr(settings, "encoder", None)
    if encoder is not None:
        start.append(encoder_file(encoder.name))
    frontend = FRONTENDS.get(load_method(settings.method).mel(settings))
    if frontend is not None:
        start.append(SRC / Path(*type(frontend).__module__.split(".")).with_suffix(".py"))
    return hashlib.sha256(f"{(code or Code()).digest(*start)} {frontend!r}".encode()).hexdigest()[:16]


def stage_code(stage: str, code: Code) -> str:
    """Digest of what `stages/<stage>.py` runs: its code, and the data files that lie beside its modules."""
    start = [STAGES / f"{stage}.py", *sorted((PACKAGE / CHOSEN[stage]).glob("*.py") if stage in CHOSEN else ())]
    rooms = {path.parent for path in code.closure(*start)}
    files = [path for path in sorted(PACKAGE.rglob("*")) if path.is_file() and _is_data(path) and _room(path) in rooms]
    return hashlib.sha256(f"{code.digest(*start)} {digest(*files)}".encode()).hexdigest()[:16]


def _is_data(path: Path) -> bool:
    """Whether a file of the package is no module: a table of a paper, a list of labels, a template."""
    return path.suffix not in (".py", ".pyc")


def _room(path: Path) -> Path:
    """The package that a file lies in."""
    return next(folder for folder in path.parents if (folder / "__init__.py").is_file())


def arm_inputs(project: Project, name: str, code: Code, checkpoints: dict[str, Any]) -> dict[str, Any]:
    """What an arm's weights, or the test of another arm's, depend on beside the clips.

    An arm that cannot be trained as it is set gives {"error": ...}: another arm's run must not fail for it.
    """
    arm = project.params.arm(name)
    if arm.weights != name:
        return {"weights": arm.weights, "condition": arm.condition.model_dump(mode="json") if arm.condition else None}
    try:
        settings = project.arm(name)
    except AuscultError as error:
        return {"error": str(error)}
    train = project.section("train").decisive()
    if not hasattr(settings, "encoder"):
        del train["long_on_cpu"]
    checkpoint = getattr(getattr(settings, "encoder", None), "checkpoint", "")
    return {
        "settings": settings.model_dump(mode="json"),
        "train": train,
        "class_label": project.profile.class_label,
        "checkpoint": checkpoints.get(checkpoint, {}),
        "code": training_code(settings, code),
    }


# ------------------------------------------------------------------------------------------------------------ the files
def write_inputs(project: Project, code: Code) -> None:
    """Write data/<profile>/digests.

    Raises:
        AuscultError: code that cannot be parsed, or an arm of the project itself that is not set as its profile allows.
    """
    paths = project.paths
    checkpoints = _checkpoints(project)
    arms = {name: arm_inputs(project, name, code, checkpoints) for name in project.params.arms}
    for name in project.params.rows():
        if "error" in arms[name]:
            project.arm(name)  # says what is wrong
    stages = {path.stem: {"code": stage_code(path.stem, code)} for path in sorted(STAGES.glob("*.py"))}
    reports = project.params.studies.items()
    studies = {name: study.model_dump(mode="json", exclude={"arms"}) for name, study in reports}
    with atomic_folder(paths.digests) as part:
        for folder, contents in (("arms", arms), ("stages", stages), ("studies", studies)):
            (part / folder).mkdir()
            for name, content in contents.items():
                (part / folder / f"{name}.json").write_text(json.dumps(content, indent=1) + "\n")


def _checkpoints(project: Project) -> dict[str, Any]:
    """State and digests of every checkpoint that an arm starts from, also written to checkpoints/found.json.

    That file is committed, and keeps what an earlier look has found where a file is missing now: models trained from it
    stay valid.
    """
    path = project.paths.checkpoints
    known = json.loads(path.read_text()) if path.is_file() else {}
    found: dict[str, Any] = {}
    for name in sorted({project.params.encoder(arm)[1] for arm in project.params.arms} - {""}):
        now = status(name)
        if now.state == "missing" and known.get(name, {}).get("sha256"):
            found[name] = known[name]
        else:
            # A digest that becomes known later changes no result.
            state = "in place" if now.usable else now.state
            found[name] = {"state": state, "sha256": dict(sorted(now.sha256.items()))}
    if found != known or not path.is_file():
        with atomic_file(path) as part:
            part.write_text(json.dumps(found, indent=1) + "\n")
    return found
