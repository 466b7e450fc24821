"""Labels of evaluation clips whose names do not carry them: read from lists, and joined to the clips by name.

Never by order: one clip too few would shift every label after it. Four forms are read: the tables of this package
(`auscult.data.labels`), the block lists `eval_data_list*.csv`, and the evaluators' folders with one file per machine and
section, which hold either answers (`ground_truth_data`, `ground_truth_domain`) or telling names (`ground_truth_attributes`).
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

from auscult.data.labels import SHIPPED, Label, shipped
from auscult.data.names.grammar import section
from auscult.errors import AuscultError, listed

NTT_LIST = "dcase2022_ntt_list"
"""2022's list as the baseline's repository has it: wrong for ToyCar and ToyTrain, wanted to reproduce published numbers."""
_NTT_FILE = "labels/eval_data_list_2022.csv"

_EVALUATOR_FILE = re.compile(r"ground_truth_(.+?)_section_\d+(?:_(?:source|target))?_test")


# --------------------------------------------------------------------------------------------------- reading a choice
def read_labels(choice: str, root: Path) -> list[Label]:
    """The labels a profile's `eval_labels` chooses: a year of SHIPPED, NTT_LIST, or a file or folder below `root`.

    Raises:
        AuscultError: nothing there, or lines that cannot be read; every one at once.
    """
    if choice in SHIPPED:
        return shipped(choice)
    path = root / (_NTT_FILE if choice == NTT_LIST else choice)
    paths = label_files(choice, root)
    if not paths and choice == NTT_LIST:
        fix = (
            "its licence forbids shipping it: put datasets/eval_data_list_2022.csv of dcase2023_task2_baseline_ae there"
        )
        raise AuscultError("the baseline's list of 2022 is not there", str(path), fix)
    if not paths:
        names = ", ".join((*SHIPPED, NTT_LIST))
        raise AuscultError(
            "there are no labels", str(path), f"`eval_labels` is {names}, or a place below the recordings"
        )
    labels: list[Label] = []
    domains: list[Label] = []
    bad: list[str] = []
    for file in paths:
        (domains if file.parent.name == "ground_truth_domain" else labels).extend(_read(file, bad))
    if bad:
        raise AuscultError(
            f"{len(bad)} line(s) of the labels cannot be read:{listed(bad)}", str(path), "mend the files"
        )
    return _with_domains(labels, domains, str(path)) if domains else labels


def label_files(choice: str, root: Path) -> list[Path]:
    """The files `read_labels` reads, sorted; none for the tables of this package.

    Of an evaluator's folder those with answers: 2022's `ground_truth_attributes` contradict them, and are wrong. The telling
    names are read where there are no answers (2026).
    """
    if not choice or choice in SHIPPED:
        return []
    path = root / (_NTT_FILE if choice == NTT_LIST else choice)
    if path.is_file():
        return [path]
    answers = sorted(path.glob("ground_truth_data/*.csv"))
    if answers:
        return answers + sorted(path.glob("ground_truth_domain/*.csv"))
    return sorted(path.glob("ground_truth_attributes/ground_truth_*.csv")) or sorted(path.glob("*.csv"))


def _read(file: Path, bad: list[str]) -> list[Label]:
    try:
        text = file.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        bad.append(f"{file}: not a text file")
        return []
    match = _EVALUATOR_FILE.fullmatch(file.stem)
    problems: list[str] = []
    labels = parse_answers(text, match[1], problems) if match else parse_blocks(text, problems)
    bad += [f"{file}: {problem}" for problem in problems]
    return labels


def _with_domains(labels: list[Label], domains: list[Label], where: str) -> list[Label]:
    """`labels` with the domains of the files in `ground_truth_domain`, whose marks say 1 for the target domain."""
    known = {(label.machine, label.file): ("source", "target")[label.anomaly] for label in domains}
    differ = sorted({(label.machine, label.file) for label in labels} ^ set(known))
    if differ:
        what = f"{len(differ)} name(s) have a label or a domain, not both:{listed([f'{m}: {f}' for m, f in differ])}"
        raise AuscultError(what, where, "take ground_truth_data and ground_truth_domain from the same evaluator")
    return [label._replace(domain=known[label.machine, label.file]) for label in labels]


# -------------------------------------------------------------------------------------------------------- the two forms
def parse_blocks(text: str, bad: list[str]) -> list[Label]:
    """A list in blocks: a line with the machine alone, then `name,renamed[,label]` with the label in words or as 0 or 1.

    Args:
        bad: gets a message for each line that cannot be read.
    """
    labels: list[Label] = []
    machine = ""
    for number, fields in _lines(text):
        if len(fields) == 1:
            machine = fields[0]
            continue
        label = _label(machine, fields)
        if isinstance(label, str) or not machine:
            bad.append(f"line {number}: {label if isinstance(label, str) else 'no machine before it'}")
        else:
            labels.append(label)
    return labels


def parse_answers(text: str, machine: str, bad: list[str]) -> list[Label]:
    """An evaluator's file: `name,0|1`, or `name,renamed[,...]` with the label in words.

    Args:
        bad: gets a message for each line that cannot be read.
    """
    labels: list[Label] = []
    for number, fields in _lines(text):
        label = _label(machine, fields)
        if isinstance(label, str):
            bad.append(f"line {number}: {label}")
        else:
            labels.append(label)
    return labels


def _lines(text: str) -> Iterable[tuple[int, list[str]]]:
    """(number, fields) of the lines that are not empty, whatever ends them."""
    for number, line in enumerate(text.splitlines(), 1):
        fields = [field.strip() for field in line.split(",")]
        while fields and not fields[-1]:
            fields.pop()
        if fields:
            yield number, fields


def _label(machine: str, fields: Sequence[str]) -> Label | str:
    """What one line says, or what is wrong with it."""
    if len(fields) < 2 or not fields[0]:
        return f"not `name,label`: {','.join(fields)}"
    said = None if fields[1] in ("0", "1") else told(fields[1])
    own = told(fields[0])
    marks = {int(field) for field in fields[1:3] if field in ("0", "1")}
    marks |= {mark for mark, _ in (said or (None, ""), own) if mark is not None}
    if len(marks) != 1:
        return f"{'two labels' if marks else 'no label (0, 1, normal or anomaly)'}: {','.join(fields)}"
    domains = {domain for _, domain in (said or (None, "unknown"), own)} - {"unknown"}
    if len(domains) > 1:
        return f"two domains: {','.join(fields)}"
    return Label(machine, fields[0], marks.pop(), domains.pop() if domains else "unknown")


def told(file: str) -> tuple[int | None, str]:
    """(anomaly, domain) as far as a file's name tells them."""
    stem = file.removesuffix(".wav")
    if word := re.match(r"(normal|anomaly)_id_\d+_\d+$", stem):
        return int(word[1] == "anomaly"), "unknown"
    try:
        words = section(stem)
    except ValueError:
        return None, "unknown"
    return words.anomaly, words.domain


# ------------------------------------------------------------------------------------------------------------ joining
def key(file: str) -> str:
    """What two names of one clip have in common: without suffix, and 2022's `section_03_test_0000` as `section_03_0000`."""
    return re.sub(r"^(section_\d+)_test_(\d+)$", r"\1_\2", re.sub(r"\.\w+$", "", file))


def match(clips: Sequence[tuple[str, str]], labels: Iterable[Label], where: str) -> list[Label]:
    """The label of each of `clips` (machine, file), in their order. Labels of machines without a clip are left out.

    Args:
        where: what the labels are called in the message.

    Raises:
        AuscultError: clips without a label, labels without a clip, names that stand twice: all of them.
    """
    machines = {machine for machine, _ in clips}
    labels = [label for label in labels if label.machine in machines]
    wanted = [(machine, key(file)) for machine, file in clips]
    there = [(label.machine, key(label.file)) for label in labels]
    problems = {
        "clip(s) without a label": sorted(set(wanted) - set(there)),
        "label(s) without a clip": sorted(set(there) - set(wanted)),
        "clip(s) of the same name": _twice(wanted),
        "name(s) labelled twice": _twice(there),
    }
    if any(problems.values()):
        what = "".join(
            f"\n  {len(names)} {words}:{listed([f'{machine}: {name}' for machine, name in names], 10)}"
            for words, names in problems.items()
            if names
        )
        fix = 'fetch what is missing, or choose other labels ("" where the names carry them)'
        raise AuscultError(f"the labels do not fit the clips:{what}", f"eval_labels: {where}", fix)
    by_name = dict(zip(there, labels, strict=True))
    return [by_name[name] for name in wanted]


def _twice(names: list[tuple[str, str]]) -> list[tuple[str, str]]:
    return sorted(name for name, count in Counter(names).items() if count > 1)
