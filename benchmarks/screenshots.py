"""Pictures of a report for the documentation, made by a headless Chromium from a real run.

    auscult report --out /tmp/report && PYTHONPATH=src:tests python benchmarks/screenshots.py /tmp/report docs/pictures

Per section and width (desktop, phone) and theme one PNG: <section>-<width>-<theme>.png; `--only results-desktop-light` makes
one. Needs selenium, chromium and chromedriver.
"""

from __future__ import annotations

import argparse
import base64
import tempfile
from pathlib import Path
from typing import Any

from support.browser import WHY_NOT, available, browser, drawn

WIDTHS = {"desktop": (1280, 900), "phone": (390, 844)}
PLOTS = ("cost", "ranking", "roc", "histograms", "training")


def shoot(driver: Any, selector: str, path: Path, limit: int) -> None:
    """One element as a PNG, at most `limit` pixels of its height."""
    box = driver.execute_script(
        "const r = document.querySelector(arguments[0]).getBoundingClientRect();"
        "return {x: 0, y: r.top + scrollY, width: document.documentElement.clientWidth, height: r.height}",
        selector,
    )
    clip = {**box, "height": min(box["height"], limit), "scale": 1}
    shot = driver.execute_cdp_cmd("Page.captureScreenshot", {"clip": clip, "captureBeyondViewport": True})
    path.write_bytes(base64.b64decode(shot["data"]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("page", type=Path, help="folder of a report")
    parser.add_argument("out", type=Path, help="folder of the pictures")
    parser.add_argument("--only", default="", help="part of a picture's name")
    parser.add_argument("--arm", default="", help="arm whose curves are shown; default: the first")
    parser.add_argument("--limit", type=int, default=1800, help="height of a picture at most, in pixels")
    arguments = parser.parse_args()
    if not available():
        raise SystemExit(WHY_NOT)
    arguments.out.mkdir(parents=True, exist_ok=True)
    for width, size in WIDTHS.items():
        for theme in ("light", "dark"):
            if not any(arguments.only in f"{name}-{width}-{theme}" for name in ("", arguments.only.split("-")[0])):
                continue
            with tempfile.TemporaryDirectory() as folder, browser(Path(folder), *size, dark=theme == "dark") as driver:
                driver.get((arguments.page / "index.html").resolve().as_uri())
                if arguments.arm:
                    driver.execute_script(
                        "const s = document.querySelector('#arm-choice [name=arm]'); s.value = arguments[0];"
                        "s.dispatchEvent(new Event('change', {bubbles: true}))",
                        arguments.arm,
                    )
                for plot in PLOTS:
                    drawn(driver, plot)
                driver.execute_script("document.querySelector('.top').style.position = 'static'; scrollTo(0, 0)")
                names = driver.execute_script(
                    "return Array.from(document.querySelectorAll('main > section'), s => s.id)"
                )
                shoot(driver, "body", arguments.out / f"top-{width}-{theme}.png", arguments.limit)
                for name in names:
                    if arguments.only in f"{name}-{width}-{theme}":
                        shoot(driver, f"#{name}", arguments.out / f"{name}-{width}-{theme}.png", arguments.limit)
                print(f"{width}, {theme}: {len(names) + 1} pictures", flush=True)


if __name__ == "__main__":
    main()
