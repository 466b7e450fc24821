"""The pictures of the page of results, for README.md and docs/read-the-report.md, and of a bundle's page, for docs/decisions.md.

    auscult report --out /tmp/report && python docs/pictures_report.py /tmp/report
    auscult score valve.bundle today --normal normal --html page.html && python docs/pictures_report.py page.html

Made by a headless Chromium from a real page. `report.png` puts parts of one page side by side, for no window shows them all;
nothing in them is changed. Show only pages of recordings that may be passed on.
"""

from __future__ import annotations

import sys
import tempfile
import time
from argparse import ArgumentParser
from base64 import b64decode
from io import BytesIO
from pathlib import Path
from typing import Any

from PIL import Image

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from support.browser import WHY_NOT, available, browser, drawn, wait

PICTURES = Path(__file__).parent / "pictures"
LIMIT = 300_000  # bytes of a picture
TELLING = """
const ratio = article => Number((article.textContent.match(/That is ([0-9.]+) times/) || [0, 0])[1]);
const misses = Array.from(document.querySelectorAll('#worst-clips article')).filter(a => a.textContent.includes('(anomaly)'));
window.telling = misses.reduce((best, one) => ratio(one) > ratio(best) ? one : best);
const machine = window.telling.closest('details');
document.querySelectorAll('#worst-clips details').forEach(one => { one.open = one === machine; });
machine.id = 'telling';
const parts = Array.from(machine.querySelectorAll('h4, article')), of = parts.filter(one => misses.includes(one));
const kept = [window.telling, ...of.filter(one => one !== window.telling)].slice(0, 2);
parts.forEach(one => { one.hidden = !kept.includes(one) && one.textContent !== 'Worst misses'; });
"""
"""Marks the miss that differs most from its nearest normal clip; opens its machine type, and leaves two misses of it."""
COVER = """
const main = document.querySelector('main'), keep = document.createElement('div');
const table = document.getElementById('table'), cost = document.querySelector('#cost figure');
const clip = window.telling, title = document.querySelector('h1');
const below = document.createElement('div'), beside = document.createElement('div');
below.style.cssText = 'display: grid; grid-template-columns: minmax(0, 1fr) minmax(0, 2.1fr); gap: 1.2rem; align-items: start';
title.style.cssText = 'margin: 1rem 0 .4rem; font-size: 1.5rem';
beside.innerHTML = '<h3 style="margin: .4rem 0 .2rem">' + document.getElementById('worst-clips-h').textContent + '</h3>';
clip.hidden = false;
beside.append(clip);
below.append(cost, beside);
keep.append(title, table, below);
table.querySelectorAll('.note').forEach(note => note.remove());
cost.querySelector('figcaption').hidden = true;
clip.querySelectorAll('.spectrogram').forEach(one => { one.style.flexBasis = '13rem'; });
document.head.append(...document.querySelectorAll('main style'));
main.replaceChildren(keep);
main.style.paddingBottom = '0';
document.querySelector('footer').remove();
scrollTo(0, 0);
const plot = cost.querySelector('.plot');
Plotly.relayout(plot, { width: plot.clientWidth, height: 385 });
"""
"""Leaves the table, the plot of quality and cost, and the marked clip."""


def report_pictures(page: Path, out: Path = PICTURES) -> list[Path]:
    """Write report.png, report-clips.png and report-maps.png of the page in a folder.

    Args:
        page: folder that `auscult report` wrote.
        out: folder of the pictures.
    """
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder, browser(Path(folder), 1440, 900) as driver:
        driver.get((page / "index.html").resolve().as_uri())
        drawn(driver, "cost")
        driver.execute_script("for (const i of document.images) i.loading = 'eager'")
        driver.execute_script(TELLING)
        wait(driver, "Array.from(document.images).every(i => i.complete)")
        driver.execute_script("document.querySelector('.top').style.position = 'static'; scrollTo(0, 0)")
        made = [
            _shoot(driver, "#telling", out / "report-clips.png", 1150),
            _shoot(driver, "#maps", out / "report-maps.png", 1250),
        ]
        driver.execute_script(COVER)
        place = "document.querySelector('[data-plot=cost]')"
        wait(driver, f"{place}.querySelector('.main-svg').clientWidth <= {place}.clientWidth")
        time.sleep(1)  # the plot moves its names
        return [_shoot(driver, "body", out / "report.png", 900), *made]


def score_pictures(page: Path, out: Path = PICTURES) -> list[Path]:
    """Write page.png (the top of it) and page-alarm.png (the worst alarm) of the page that `auscult score --html` wrote."""
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder, browser(Path(folder), 1400, 900) as driver:
        driver.get(page.resolve().as_uri())
        driver.execute_script("for (const i of document.images) i.loading = 'eager'")
        driver.execute_script("document.querySelector('.top').style.position = 'static'")
        driver.execute_script("document.querySelector('.scroll').style.maxHeight = '19rem'")
        wait(driver, "Array.from(document.images).every(i => i.complete)")
        return [
            _shoot(driver, "body", out / "page.png", 1180, 150_000),
            _shoot(driver, "#alarm-1", out / "page-alarm.png", 600, 150_000, 1000),
        ]


def _shoot(driver: Any, selector: str, path: Path, height: int, limit: int = LIMIT, width: int = 1280) -> Path:
    """One element as wide as the window, at most `height` pixels of it; `width` pixels wide, of few colours if it is large."""
    box = driver.execute_script(
        "const r = document.querySelector(arguments[0]).getBoundingClientRect();"
        "return {x: 0, y: r.top + scrollY, width: document.documentElement.clientWidth, height: r.height}",
        selector,
    )
    clip = {**box, "height": min(box["height"], height), "scale": width / box["width"]}
    shot = driver.execute_cdp_cmd("Page.captureScreenshot", {"clip": clip, "captureBeyondViewport": True})
    picture = Image.open(BytesIO(b64decode(shot["data"]))).convert("RGB")
    picture.save(path, optimize=True)
    for colours in (256, 128, 64, 32):
        if path.stat().st_size > limit:
            picture.quantize(colours, Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE).save(path, optimize=True)
    print(f"{path}: {picture.width} x {picture.height}, {path.stat().st_size} bytes", flush=True)
    return path


def main() -> None:
    parser = ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("page", type=Path, help="folder of a report, or the page of `auscult score --html`")
    parser.add_argument("--out", type=Path, default=PICTURES, help="folder of the pictures")
    arguments = parser.parse_args()
    if not available():
        raise SystemExit(WHY_NOT)
    if arguments.page.is_file():
        score_pictures(arguments.page, arguments.out)
    else:
        report_pictures(arguments.page, arguments.out)


if __name__ == "__main__":
    main()
