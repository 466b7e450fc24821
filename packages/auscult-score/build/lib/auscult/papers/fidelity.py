"""docs/fidelity.md: how far each arm follows its source; and the table of docs/deploy.md: what of each method can be exported.

`python -m auscult.papers.fidelity` writes both, and docs/state-of-the-art.md, whose text is `frontier`'s. Printed numbers, our
results, parameter counts and switches are looked up; what a source says and what differs stands in the first lines of each
method's file, below `---`, and in papers/fidelity.yaml for arms that are no method's own. Networks are built at the size of the
2020 data, so this is the one module here that needs torch.
"""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from auscult.files import atomic_file
from auscult.methods import METHODS, load_method
from auscult.methods.about import declared
from auscult.papers import PRINTED_ROW, frontier, peers, printed
from auscult.results.names import backend_name
from auscult.settings.params import Params, arm_settings, load_params
from auscult.settings.profile import Profile
from auscult.settings.rules import MetricRules
from auscult.settings.section import flat

# Of the 2020 data: units, mels, frames and samples of 10 s; units of one machine type.
CLASSES, MELS, SAMPLES, UNITS = 41, 128, 160_000, 7
OURS = ("synthetic",)
"""Profiles whose committed results are named."""


def ledger() -> dict[str, Any]:
    """Arm -> source, parameters, golden, deviations, and `arms`: others that this is true of."""
    found: dict[str, Any] = {}
    for method in METHODS:
        found |= declared(method).get("fidelity", {})
    found |= yaml.safe_load(files("auscult.papers").joinpath("fidelity.yaml").read_text())
    shared = ("source", "golden", "deviations")
    entries = {}
    for arm, entry in found.items():
        other = found[entry["as"]] if "as" in entry else {}
        entries[arm] = {"golden": {}, **{key: other[key] for key in shared if key in other}, **entry}
        entries[arm]["deviates_as"] = "" if "deviations" in entry else entry["as"]
    return entries


DEPLOY = "| method | difference | torch (ms) | onnxruntime (ms) | remark |\n|---|---|---|---|---|\n"


def with_deploy_table(page: str) -> str:
    """docs/deploy.md with its table made anew: a row for each method whose file has one."""
    before, _, rest = page.partition(DEPLOY)
    after = rest[rest.index("\n\n") :]
    rows = []
    for method in METHODS:
        row = declared(method).get("deploy")
        if row:
            cells = (row["difference"], row["torch"], row["onnxruntime"], row.get("remark", ""))
            rows.append(f"| `{method}` | " + " | ".join(map(str, cells)) + " |")
    return before + DEPLOY + "\n".join(rows) + after


def plain_profile() -> Profile:
    """Overrides nothing: the settings of the papers."""
    return Profile(
        name="paper", dataset="dcase2020", title="", licence="", source={}, grammar="dcase2020", sets={"dev": "dev"},
        clip_seconds=10.0, rules=MetricRules(scheme="dcase2020"),
    )  # fmt: skip


def parameter_count(params: Params, arm: str) -> int:
    """Trainable parameters of one network of an arm, at the size of the 2020 data. Nothing is allocated."""
    import torch

    from auscult.features import FRONTENDS, frames
    from auscult.methods.base import Shape

    settings = arm_settings(params, plain_profile(), arm)
    method = load_method(settings.method)
    frontend = method.mel(settings)
    assert not frontend or FRONTENDS[frontend].mels == MELS
    classes = CLASSES if method.scope_of(settings) == "all" else UNITS
    shape = Shape(classes, MELS, frames(SAMPLES, frontend) if frontend else 0, SAMPLES)
    with torch.device("meta"):
        network = method.build(settings, shape)
    return sum(p.numel() for p in network.parameters() if p.requires_grad)


def document(root: Path = Path()) -> str:
    """The whole text."""
    params, entries = load_params(root), ledger()
    lines = [
        "# Fidelity",
        "",
        "How far each arm follows its source. Made by `python -m auscult.papers.fidelity` from the first lines of each",
        "method's file, `papers/fidelity.yaml`, the printed tables, the code and the committed results. *Printed* numbers are of",
        "DCASE 2020 Task 2, average over machine types, as printed; *ours* are of the synthetic machines, native",
        "score, and stand here to show that the arm was run: the two do not compare. Parameters are counted at the size of the",
        "2020 data (41 units, 10 s), per network; a difference is an output layer that the source computes and nobody reads,",
        "which is not built here.",
        "",
        "| arm | AUC printed | pAUC printed | mAUC printed | mean of AUC and pAUC printed | AUC ours (synthetic) "
        "| parameters, source | ours | difference |",
        "|---|---:|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for arm, entry in entries.items():
        ours = parameter_count(params, arm)
        counted = entry.get("parameters") or {}
        source = counted.get("source")
        gap = f"{source - ours:,}" if source else ""
        cells = [
            *_printed(arm),
            _result(params, arm, root),
            f"{source:,}" if source else "not stated",
            f"{ours:,}",
            gap,
        ]
        lines.append(f"| [`{arm}`](#{arm}) | " + " | ".join(cells) + " |")
    for arm, entry in entries.items():
        lines += ["", f"## {arm}", "", *_section(params, arm, entry)]
    return "\n".join(lines) + "\n"


def _printed(arm: str) -> list[str]:
    """AUC, pAUC and mAUC as printed in OS-SCL, and the mean of the first two there, in AnoPatch or in Han et al.;
    averages over machine types of the development set."""
    cells = []
    both = ("os_scl_table5", "anopatch_table1", "anopatch_table3", "han_table06")
    for metric, tables in (
        ("auc", _TABLES), ("pauc", _TABLES), ("mauc", ("os_scl_table4",)), ("mean_auc_pauc", both),
    ):  # fmt: skip
        found = [_lookup(arm, table, metric) for table in tables]
        cells.append(next((text for text in found if text), "not printed"))
    return cells


_TABLES = ("os_scl_table2", "os_scl_table3", "os_scl_table6")


def _lookup(arm: str, table: str, metric: str) -> str:
    cells = printed(table)
    cells = cells[cells["row"] == PRINTED_ROW.get(table, {}).get(arm)]
    cells = cells[(cells["metric"] == metric) & (cells["machine"] == "mean") & (cells["split"] == "dev")]
    return str(cells["text"].iloc[0]) if len(cells) else ""


def _result(params: Params, arm: str, root: Path) -> str:
    """Mean AUC per unit with its interval, from the committed metrics of the study that owns the arm."""
    study = params.arm(arm).study
    for profile in OURS:
        folder = root / "studies" / study / "metrics" / profile if study else root / "metrics" / profile
        if not (folder / "summary.csv").is_file():
            continue
        summary = pd.read_csv(folder / "summary.csv")
        rows = summary[
            (summary["arm"] == arm) & (summary["metric"] == "auc") & (summary["convention"] == "per_unit")
            & (summary["machine"] == "mean") & (summary["set"] == "dev")
        ]  # fmt: skip
        if len(rows):
            first = rows.iloc[0]
            name = "" if first["backend"] == "native" else f" {backend_name(str(first['backend']))}"
            return f"{first['value']:.1f} [{first['ci_low']:.1f}, {first['ci_high']:.1f}]{name}"
    return "not run"


def _section(params: Params, arm: str, entry: dict[str, Any]) -> list[str]:
    settings = arm_settings(params, plain_profile(), arm)
    where = params.arm(arm).file
    lines = [f"Source: {entry['source']}. Method `{settings.method}`, arm in `{where}`.", ""]
    if entry.get("remark"):
        lines += [entry["remark"].strip(), ""]
    if entry.get("arms"):
        lines += ["The same holds for " + ", ".join(f"`{arm}`" for arm in entry["arms"]) + ".", ""]
    counted = entry.get("parameters") or {}
    if counted.get("words"):
        lines += [f"Parameters: {counted['words']}.", ""]
    set_apart = flat({key: value for _, values in params.arm(arm).layers for key, value in values.items()})
    if set_apart:
        lines += ["Set apart by: " + ", ".join(f"`{key}={value}`" for key, value in set_apart.items()) + ".", ""]
    if entry.get("golden"):
        lines += ["Agrees with the authors' code, to float32 rounding:", ""]
        lines += [f"* `{name}`: {tests}" for name, tests in entry["golden"].items()]
        lines += [""]
    else:
        lines += ["No vectors of the authors' code are at hand.", ""]
    if entry["deviates_as"]:
        return [*lines, f"Differs from it as [`{entry['deviates_as']}`](#{entry['deviates_as']})."]
    lines += ["| what | paper | code | here | switch |", "|---|---|---|---|---|"]
    for item in entry["deviations"]:
        cells = [str(item.get(key, "")).replace("|", r"\|") for key in ("what", "paper", "code", "here")]
        switch = f"`{item['switch']}`" if item.get("switch") else ""
        lines.append("| " + " | ".join([*cells, switch]) + " |")
    return lines


def pages(root: Path = Path()) -> dict[str, str]:
    """What the pages below docs/ should be, by name; a method that declares nothing is in none of them."""
    deploy = (root / "docs" / "deploy.md").read_text()
    made = {"fidelity.md": document(root), "deploy.md": with_deploy_table(deploy)}
    return made | {"state-of-the-art.md": frontier.document()}


def main(root: Path = Path()) -> None:
    counts = peers.page((root / "docs" / "peers.md").read_text())  # of all methods
    for name, text in {**pages(root), "peers.md": counts}.items():
        with atomic_file(root / "docs" / name) as part:
            part.write_text(text)


if __name__ == "__main__":
    main()
