"""The pictures of docs/ and README.md, from real runs: `python docs/make_screenshots.py`, in a project with results.

`--only mlflow`, `dvc`, `cli` or `report` makes a part of them. MLflow's pages are of the `mlflow.db` of the folder it runs in,
DVC's page is what `dvc plots diff` writes, the terminal's text is what the commands print, and the page of results is the
one of `auscult report`. Nothing is published or changed.

Needs what `pip install -e '.[docs]'` brings, and chromium with chromedriver. DVC's page has its scripts in
it (offline_plots.py), so that no picture depends on a network.
"""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from argparse import ArgumentParser, Namespace
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from io import BytesIO
from pathlib import Path
from urllib.parse import quote

from PIL import Image, ImageChops
from selenium import webdriver
from selenium.webdriver.chrome.options import Options
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By

PICTURES = Path(__file__).parent / "pictures"
PORT = 5077
SIDE = "workflowType=machine_learning"  # MLflow's pages have two sides and open on that of language models
ADDRESS = f"http://127.0.0.1:{PORT}/"
FLAGS = (
    "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update",
    "--disable-sync", "--no-first-run", "--hide-scrollbars",
)  # fmt: skip
LIMIT = 200_000  # bytes of a picture
CLOSE = (
    "//button[@aria-label='Close']",  # a chat window takes a quarter of the page
)
HIDE = """
const style = document.createElement('style'); style.textContent = '.modebar {display: none}'; document.head.append(style);
for (const one of document.querySelectorAll('body *'))
    if (getComputedStyle(one).position === 'fixed' && one.offsetWidth < 80 && one.offsetHeight < 80) one.style.display = 'none';
"""  # a chart's buttons, the chat's button
TERMINAL = """<body style="margin: 0; background: #16181d"><pre style="display: inline-block; margin: 0; padding: 22px 28px;
color: #e6e6e6; font: 15px/1.35 'DejaVu Sans Mono', monospace">%s</pre></body>"""


@contextmanager
def browser(width: int = 1500, height: int = 950) -> Iterator[webdriver.Chrome]:
    options = Options()
    with tempfile.TemporaryDirectory() as profile:
        for flag in (*FLAGS, f"--window-size={width},{height}", f"--user-data-dir={profile}"):
            options.add_argument(flag)
        driver = webdriver.Chrome(options, Service("/usr/bin/chromedriver"))
        driver.command_executor.client_config.timeout = 600  # a page of many charts, on a busy machine
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        try:
            yield driver
        finally:
            driver.quit()


@contextmanager
def server(store: str) -> Iterator[None]:
    command = [sys.executable, "-m", "mlflow", "ui", "--host", "127.0.0.1", "--port", str(PORT), "--workers", "1"]
    process = subprocess.Popen(
        [*command, "--backend-store-uri", store], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        for _ in range(120):
            try:
                urllib.request.urlopen(ADDRESS, timeout=5).close()
                break
            except (urllib.error.URLError, TimeoutError):
                time.sleep(1)
        yield
    finally:
        process.terminate()
        process.wait()


def save(driver: webdriver.Chrome, name: str, height: int = 10_000) -> None:
    """What the window shows, at most `height` pixels of it, without an empty border on the right and below.

    Few colours: a page of tables and lines loses nothing, and a picture stays small.
    """
    picture = Image.open(BytesIO(driver.get_screenshot_as_png())).convert("RGB")
    picture = picture.crop((0, 0, picture.width, min(picture.height, height)))
    corner = picture.getpixel((picture.width - 1, picture.height - 1))
    box = ImageChops.difference(picture, Image.new("RGB", picture.size, corner)).getbbox()
    assert box is not None, f"{name} is empty"
    picture = picture.crop((0, 0, min(box[2] + 12, picture.width), min(box[3] + 12, picture.height)))
    path = PICTURES / f"{name}.png"
    for colours in (256, 96, 48):
        picture.quantize(colours, dither=Image.Dither.NONE).save(path, optimize=True)
        if path.stat().st_size < LIMIT:
            break
    print(f"{path}: {picture.width} x {picture.height}, {path.stat().st_size} bytes", flush=True)


def settled(driver: webdriver.Chrome, texts: tuple[str, ...], seconds: float = 180, rest: float = 10) -> None:
    """Wait until the page shows every one of `texts`, then for what moves to come to rest."""
    end = time.monotonic() + seconds
    while missing := [text for text in texts if text not in driver.execute_script("return document.body.innerText")]:
        if time.monotonic() > end:
            print(f"not on the page after {seconds:.0f} s: {missing}", file=sys.stderr)
            break
        time.sleep(0.5)
    time.sleep(rest)


def mlflow_pictures(store: str, study: str, run: str) -> None:
    from mlflow.tracking import MlflowClient

    client = MlflowClient(store)
    home = next(one for one in client.search_experiments() if one.name.startswith("auscult/"))
    experiment = home.experiment_id
    rows = client.search_runs([experiment], f"tags.`auscult.rows` LIKE '%,{study},%'", max_results=100)
    chosen = client.search_runs([experiment], f"tags.`auscult.arm` = '{run}'")[0].info.run_id
    ids = quote(json.dumps([row.info.run_id for row in rows], separators=(",", ":")))
    compared = f"#/compare-runs?runs={ids}&experiments={quote(json.dumps([experiment]))}&{SIDE}"
    pages = {
        "mlflow-runs": (f"#/experiments/{experiment}/runs?{SIDE}", (f"project/{home.name.split('/')[1]}",), 547),
        "mlflow-compare": (compared, ("Parallel Coordinates",), 650),
        "mlflow-run": (f"#/experiments/{experiment}/runs/{chosen}?{SIDE}", ("auc/mean",), 950),
    }
    with server(store), browser() as driver:
        for name, (page, texts, height) in pages.items():
            driver.get("about:blank")
            driver.get(ADDRESS + page)
            settled(driver, texts)
            for path in CLOSE:
                for button in driver.find_elements(By.XPATH, path):
                    driver.execute_script("arguments[0].click()", button)
            time.sleep(3)
            if name == "mlflow-runs":  # the studies unfolded, the column of names wide enough
                for button in driver.find_elements(By.CSS_SELECTOR, ".ag-cell button"):
                    driver.execute_script("arguments[0].click()", button)
                edge = driver.find_element(By.CSS_SELECTOR, "[col-id*='Run Name'] .ag-header-cell-resize")
                ActionChains(driver).drag_and_drop_by_offset(edge, 90, 0).move_by_offset(300, -150).perform()
                time.sleep(3)
            driver.execute_script(HIDE)
            time.sleep(3)
            save(driver, name, height)


def dvc_picture(revisions: list[str]) -> None:
    from offline_plots import template

    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "page.html").write_text(template())
        made = ["--out", folder, "--html-template", f"{folder}/page.html", "-q"]
        subprocess.run(["dvc", "plots", "diff", *revisions, *made], check=True)
        with browser(1400, 1000) as driver:
            driver.get((Path(folder) / "index.html").as_uri())
            settled(driver, (), rest=8)
            save(driver, "dvc-plots-diff")
            print(len(driver.find_elements(By.CSS_SELECTOR, "canvas, svg.marks")), "plots are drawn")


def in_terminal(command: list[str], folder: str, width: int) -> str:
    """What a command prints into a terminal of so many columns, with its colours."""
    own, theirs = pty.openpty()
    environment = {**os.environ, "COLUMNS": str(width), "TERM": "xterm"}
    process = subprocess.Popen(command, cwd=folder, env=environment, stdout=theirs, stderr=subprocess.DEVNULL)
    os.close(theirs)
    text = b""
    with suppress(OSError):  # that is how its end is told
        while part := os.read(own, 4096):
            text += part
    process.wait()
    os.close(own)
    return text.decode().replace("\r\n", "\n")


def cli_pictures(recordings: Path) -> None:
    """Two terminals: `--help`, and a bundle made of `normal/` that judges `today/`."""
    from rich.console import Console
    from rich.terminal_theme import SVG_EXPORT_THEME
    from rich.text import Text

    commands = {
        "cli-help": ["auscult --help"],
        "cli-score": ["auscult fit normal -o valve.bundle", "auscult score valve.bundle today/"],
    }
    with tempfile.TemporaryDirectory() as folder, browser(1400, 1000) as driver:
        for part in ("normal", "today"):
            (Path(folder) / part).symlink_to((recordings / part).resolve())
        for name, lines in commands.items():
            console = Console(width=110, record=True, file=Path("/dev/null").open("w"))
            for line in lines:
                console.print(Text(f"$ {line}", style="bold #8fd694"))
                command = [
                    sys.executable,
                    "-c",
                    "from auscult.cli import main; raise SystemExit(main())",
                    *line.split()[1:],
                ]
                shown = Text.from_ansi(in_terminal(command, folder, console.width).rstrip("\n"))
                console.print(shown, "\n", sep="", soft_wrap=True)
            text = console.export_html(theme=SVG_EXPORT_THEME, inline_styles=True, code_format="{code}").rstrip()
            page = Path(folder) / "page.html"
            page.write_text(f'<meta charset="utf-8">{TERMINAL % text}')
            driver.get(page.as_uri())
            save(driver, name)


def wanted(arguments: Namespace, part: str) -> bool:
    return not arguments.only or part in arguments.only


def main() -> None:
    parser = ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--only", nargs="+", choices=("mlflow", "dvc", "cli", "report"), default=[])
    parser.add_argument("--store", default="sqlite:///mlflow.db", help="MLflow's tracking URI")
    parser.add_argument("--study", default="fph_reduction")
    parser.add_argument("--run", default="tfst_os_scl", help="arm of the page of one run")
    parser.add_argument("--dvc", nargs="+", default=["HEAD", "workspace"], help="revisions to compare")
    parser.add_argument("--recordings", type=Path, help="a folder with normal/ and today/, for the terminal")
    parser.add_argument(
        "--page", type=Path, default=Path("data/synthetic/report"), help="what `auscult report` has written"
    )
    arguments = parser.parse_args()
    PICTURES.mkdir(exist_ok=True)
    if wanted(arguments, "mlflow"):
        mlflow_pictures(arguments.store, arguments.study, arguments.run)
    if wanted(arguments, "dvc"):
        dvc_picture(arguments.dvc)
    if wanted(arguments, "cli") and arguments.recordings:
        cli_pictures(arguments.recordings)
    if wanted(arguments, "report"):
        from pictures_report import report_pictures

        report_pictures(arguments.page, PICTURES)


if __name__ == "__main__":
    main()
