"""Writes the page: one folder that opens by a double click, without a network and without a server.

`index.html` holds the text; what a reader may never ask for (other tables, the curves of each arm) lies next to it in small
scripts that are loaded when they are shown. Scripts and not JSON, for a browser does not let a local page read other files.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from importlib.resources import files
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from auscult.errors import AuscultError
from auscult.files import atomic_folder
from auscult.packages import require
from auscult.pages.rendering import environment, marked, read, shared
from auscult.papers.frontier import beside
from auscult.results.page import agreement, clips, maps
from auscult.results.page.context import Context, Section
from auscult.results.page.gather import Group, costs, gather, groups, ordered_arms, thresholds_or_none
from auscult.results.page.plots import FEW_CLIPS, arm_data, best_arm, overview
from auscult.results.page.provenance import provenance
from auscult.results.page.tables import MARKS, blocks
from auscult.results.tables import official_types
from auscult.settings.project import Project

SCRIPTS = ("base.js", "page.js", "sort.js", "charts.js")
OWN = ("page.js", "charts.js")
MARKER = "report.json"
"""Says that a folder is a report, and may be replaced by another."""


def write_report(project: Project, out: Path, arms: Sequence[str] = (), studies: Sequence[str] | None = None) -> Path:
    """Write the report of a project's profile into the folder `out`, replaced as a whole.

    Args:
        out: folder; what is there must be a report, or empty.
        arms: those to show; none = every arm that has scores.
        studies: whose tables are shown with the project's own; None = all that hold one of the arms.

    Returns:
        The page, `out`/index.html.

    Raises:
        AuscultError: a needed package is missing, no arm has scores, an unknown arm, or `out` cannot be written or holds
            something else.
    """
    require_replaceable(out)
    script = _plotly()
    templates = environment("auscult.results.page")
    context = gather(project, arms)
    found = groups(project, context.arms, studies)
    measured = costs(project, context.arms)
    shown = {choice.key: (choice, one) for g in found for choice, one in blocks(g, measured, context.backends)}
    with atomic_folder(out) as part:
        (part / "assets").mkdir()
        (part / "data").mkdir()
        for name in ("style.css", *SCRIPTS):
            text = read("auscult.results.page", name) if name in OWN else shared(name)
            (part / "assets" / name).write_text(text, encoding="utf-8")
        (part / "assets" / "plotly.min.js").write_bytes(script)
        table = templates.get_template("table.html.j2")
        for number, (choice, one) in enumerate(shown.values()):
            text = table.render(block=one, marks=MARKS)
            _put(part / "data" / f"table{number}.js", f"table/{choice.key}", text)
        for number, arm in enumerate(context.arms):
            _put(
                part / "data" / f"arm{number}.js",
                f"arm/{arm}",
                arm_data(context, arm, thresholds_or_none(context, arm)),
            )
        sections = more_sections(context)
        for section in sections:
            _write_files(part, section)
        page = templates.get_template("page.html.j2")
        catalogue = _catalogue(context, shown)
        averages = overview(found, measured, context)
        text = page.render(
            context=context,
            clips=_clips(context),
            groups=found,
            catalogue=catalogue,
            overview=averages,
            best=best_arm(averages) or context.arms[0],
            few=FEW_CLIPS,
            first=shown[catalogue["first"]["key"]][1] if shown else None,
            marks=MARKS,
            published=_published(context, found),
            sections=sections,
            left_out=_by_reason(context.left_out),
            provenance=provenance(context),
            scripts=SCRIPTS,
            rate=project.section("submission").rate,
            level=project.section("evaluate").level,
        )
        (part / "index.html").write_text(text, encoding="utf-8")
        facts = {"format": 1, "profile": project.profile.name, "arms": list(context.arms)}
        (part / MARKER).write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")
    for line in context.stale:
        print(f"warning: {line}", file=sys.stderr)
    return out / "index.html"


def project_rows(project: Project) -> list[str]:
    """The arms of the project's own tables that have scores: what the pipeline's report shows."""
    rows = [name for name in project.params.rows() if project.scores_of(name).is_file()]
    return rows or ordered_arms(project)


def more_sections(context: Context) -> list[Section]:
    """Sounds, maps and agreement; a section that cannot be made says why in its place. Of scores alone: agreement."""
    found = []
    wanted = ((clips, "Worst clips"), (maps, "Maps"), (agreement, "Agreement"))
    for module, menu in wanted if context.profile.source else wanted[2:]:
        try:
            made: Section = module.section(context)
        except (AuscultError, FileNotFoundError) as error:
            reason = f'<p class="note">This part is missing: {marked(str(error))}</p>'
            made = Section(module.TITLE, module.ANCHOR, reason)
        found.append(replace(made, menu=menu))
    return found


# -------------------------------------------------------------------------------------------------------------- what is shown
def _published(context: Context, found: Sequence[Group]) -> list[str]:
    """Scores of others on the same data."""
    cells = [official_types(group.cells) for group in found if len(group.cells)]
    return beside(context.profile.dataset, {name: count for types in cells for name, count in types.items()})


def _catalogue(context: Context, shown: Mapping[str, Any]) -> dict[str, Any]:
    """Which data file holds what, for the selects."""
    tables = [
        {
            "key": choice.key, "file": f"data/table{number}.js", "group": choice.group_title, "set": choice.set,
            "how": choice.convention.split(":")[0], "metric": choice.metric,
        }
        for number, (choice, _) in enumerate(shown.values())
    ]  # fmt: skip
    arms = [{"name": arm, "file": f"data/arm{number}.js"} for number, arm in enumerate(context.arms)]
    wished = [table for table in tables if ".dev.per_unit." in table["key"]]
    return {"tables": tables, "arms": arms, "first": (wished or tables or [{}])[0]}


def _clips(context: Context) -> dict[str, int]:
    """What the test clips of the first arm are, for the head of the page."""
    table = context.headline(context.arms[0])
    marks = table["anomaly"]
    return {
        "machines": table["machine"].nunique(),
        "units": table[["machine", "unit"]].drop_duplicates().shape[0],
        "normal": int((marks == 0).sum()),
        "anomalous": int((marks == 1).sum()),
        "unlabelled": int(marks.isna().sum()),
    }


def _by_reason(left_out: Mapping[str, str]) -> list[tuple[str, list[str]]]:
    """Reason -> arms."""
    found: dict[str, list[str]] = {}
    for arm, reason in left_out.items():
        found.setdefault(reason, []).append(arm)
    return list(found.items())


# -------------------------------------------------------------------------------------------------------------------- writing
def _put(path: Path, key: str, value: Any) -> None:
    text = json.dumps(value, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    path.write_text(f"auscult.put({json.dumps(key)},{text});\n", encoding="utf-8")


def _write_files(folder: Path, section: Section) -> None:
    for name, content in section.files.items():
        path = folder / name
        if folder not in path.parents or ".." in Path(name).parts:
            raise ValueError(f"a section's file lies outside of the page: {name}")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)


def require_replaceable(out: Path, marker: str = MARKER, kind: str = "a report") -> None:
    """Refuse to write the folder `out` where it cannot be, or holds what is not of a `kind` that has a file `marker`.

    Raises:
        AuscultError: it is so.
    """
    if out.is_dir() and any(out.iterdir()) and not (out / marker).is_file():
        what = f"this folder holds something other than {kind}"
        raise AuscultError(what, str(out), "choose an empty or a new one: --out")
    if out.exists() and not out.is_dir():
        raise AuscultError("this is a file, and a folder is to be written", str(out), "choose another: --out")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        TemporaryDirectory(
            dir=out.parent
        ).cleanup()  # where the new page grows, until it takes the place of the old one
    except OSError as error:
        what = f"the folder of the report cannot be written: {error.strerror}"
        raise AuscultError(what, str(out), "choose another: --out") from None


def _plotly() -> bytes:
    """The drawing library, whole: the page must not ask a network for it."""
    return (files(require("plotly", "the report")) / "package_data" / "plotly.min.js").read_bytes()
