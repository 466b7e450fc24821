"""`auscult figure`: what is asked for is drawn, by every format, and what cannot be drawn is named."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from matplotlib.figure import Figure

from auscult.errors import AuscultError
from auscult.results.draw import Wanted, draw
from auscult.results.page.build import write_report
from auscult.settings.project import Project


@pytest.fixture
def figures(monkeypatch: pytest.MonkeyPatch) -> list[Figure]:
    seen: list[Figure] = []
    save = Figure.savefig
    monkeypatch.setattr(Figure, "savefig", lambda self, *a, **k: (seen.append(self), save(self, *a, **k)))
    return seen


def texts(figure: Figure) -> set[str]:
    return {one.get_text() for one in figure.findobj(lambda part: hasattr(part, "get_text"))}


def test_chosen_arms_and_back_ends_in_every_format(project: Project, tmp_path: Path, figures: list[Figure]) -> None:
    paths = [tmp_path / f"auc.{kind}" for kind in ("pdf", "svg", "png")]
    draw(project, "auc", paths, Wanted(arms=("stgram_mfn", "ae"), backends=("knn_cosine",)))
    assert [path.read_bytes()[:4] for path in paths] == [b"%PDF", b"<?xm", b"\x89PNG"]
    assert {"stgram_mfn", "ae", "kNN (cosine)"} <= texts(figures[0])
    assert not {"spectral_knn", "native score"} & texts(figures[0])
    assert not any(
        word in path.read_bytes() for path in paths[:2] for word in (b"CreationDate", b"dc:date", b"matplotlib ")
    )


def test_roc_and_training_have_a_panel_each(project: Project, tmp_path: Path, figures: list[Figure]) -> None:
    draw(project, "roc", [tmp_path / "roc.svg"], Wanted(arms=("ae",), backends=("native", "knn_cosine")))
    draw(project, "training", [tmp_path / "training.svg"], Wanted(arms=("ae", "stgram_mfn")))
    roc, training = figures
    assert len([axis for axis in roc.axes if axis.get_visible()]) == 2  # a fan and a valve
    assert {"ae, native score", "ae, kNN (cosine)"} <= texts(roc)
    assert {"ae", "stgram_mfn", "training loss", "validation loss"} <= texts(training)


def ask(name: str, file: str = "x.pdf", **wanted: object) -> Callable[[Project, Path], None]:
    return lambda project, folder: draw(project, name, [folder / file], Wanted(**wanted))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        (ask("aux"), "did you mean `auc`"),
        (ask("auc", "x.jpeg"), "no format of a figure"),
        (ask("auc", arms=("aes",)), "did you mean `ae`"),
        (ask("auc", backends=("centre",)), "no numbers by the back-end `centre`"),
        (ask("roc", backends=("centre",)), "no scores by the back-end `centre`"),
        (ask("parameter"), "no parameter that was swept"),
        (ask("backends"), "no numbers to draw"),
        (ask("auc", study="none"), "there is no study"),
        (ask("auc", metric="aux"), "did you mean `auc`"),
        (ask("auc", machine="fann"), "did you mean `fan`"),
        (ask("backends", which="eval"), "--set"),
        (ask("roc", machine="fan"), "--machine"),
        (ask("training", backends=("native",)), "--backends"),
        (ask("parameter", arms=("ae",)), "--arms"),
    ],
)
def test_what_cannot_be_drawn_is_named(project: Project, tmp_path: Path, asked: object, words: str) -> None:
    with pytest.raises(AuscultError, match=words):
        asked(project, tmp_path)  # type: ignore[operator]
    assert list(tmp_path.iterdir()) == []


def test_the_page_says_above_its_numbers_that_they_are_of_other_settings(
    project: Project, page: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert 'class="warn"' not in (page / "index.html").read_text()
    root = {**project.params.root, "score": {**project.params.root["score"], "k": 3}}
    changed = replace(project, params=replace(project.params, root=root))
    text = write_report(changed, tmp_path / "out", ["ae", "stgram_mfn"]).read_text()
    sections = {part.split('"')[0]: part for part in text.split('<section id="')[1:]}
    for name in ("results", "cost", "arm"):
        assert 'class="warn"' in sections[name], name
    assert "<code>score.k</code> was 1 and is 3 now" in sections["results"]
    assert "`score.k` was 1 and is 3 now" in capsys.readouterr().err
