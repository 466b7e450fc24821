"""The pictures of docs/mlflow-and-dvc.md, from a real run: `python docs/make_screenshots.py`, in a project with results.

Needs what `pip install -e '.[docs]'` brings, and chromium with chromedriver. It publishes nothing: MLflow's pages are of the
`mlflow.db` of the folder it runs in, DVC's page is what `dvc plots diff` writes. DVC's page asks a public server for the Vega
scripts; here they come from the package vl-convert-python, so that no picture depends on a network.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from argparse import ArgumentParser
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path

import vl_convert
from PIL import Image
from selenium import webdriver
from selenium.webdriver.chrome.options import Options
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By

PICTURES = Path(__file__).parent / "pictures"
PORT = 5077
ADDRESS = f"http://127.0.0.1:{PORT}/"
FLAGS = (
    "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update",
    "--disable-sync", "--no-first-run", "--hide-scrollbars", "--force-device-scale-factor=1",
)  # fmt: skip
LIMIT = 200_000  # bytes of a picture


@contextmanager
def browser(width: int = 1500, height: int = 950) -> Iterator[webdriver.Chrome]:
    options = Options()
    with tempfile.TemporaryDirectory() as profile:
        for flag in (*FLAGS, f"--window-size={width},{height}", f"--user-data-dir={profile}"):
            options.add_argument(flag)
        driver = webdriver.Chrome(options, Service("/usr/bin/chromedriver"))
        driver.command_executor.client_config.timeout = 600  # a page of many charts, on a busy machine
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


def save(driver: webdriver.Chrome, name: str) -> None:
    """Few colours: a page of tables and lines loses nothing, and a picture stays small."""
    picture = Image.open(BytesIO(driver.get_screenshot_as_png())).convert("RGB")
    path = PICTURES / f"{name}.png"
    for colours in (256, 96, 48):
        picture.quantize(colours, dither=Image.Dither.NONE).save(path, optimize=True)
        if path.stat().st_size < LIMIT:
            break
    print(f"{path}: {path.stat().st_size} bytes")


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

    from auscult.runviews import TAG, compare_link, rows_of, view_link

    client = MlflowClient(store)
    home = next(one for one in client.search_experiments() if any(tag.startswith(TAG) for tag in one.tags))
    experiment = home.experiment_id
    rows = client.search_runs([experiment], rows_of(study), max_results=100)
    chosen = client.search_runs([experiment], f"tags.`auscult.arm` = '{run}'")[0].info.run_id
    with server(store), browser() as driver:
        pages = {
            "mlflow-experiment": (
                view_link(experiment, "project-compare").replace("compareRunsMode=CHART&", ""),
                (run,),
            ),
            "mlflow-view": (view_link(experiment, f"{study}-compare"), ("What differs", run)),
            "mlflow-curves": (view_link(experiment, f"{study}-curves"), ("Training curves", "curve/train_loss")),
            "mlflow-compare": (compare_link(experiment, [row.info.run_id for row in rows]), ("Parallel Coordinates",)),
            "mlflow-run": (f"#/experiments/{experiment}/runs/{chosen}", ("auc/mean",)),
        }
        for name, (page, texts) in pages.items():
            driver.get("about:blank")
            driver.get(ADDRESS + page)
            settled(driver, texts)
            for label in ("Close", "Close assistant"):  # a chat window that takes a quarter of the page
                for button in driver.find_elements(By.CSS_SELECTOR, f"button[aria-label='{label}']"):
                    driver.execute_script("arguments[0].click()", button)
            style = "var s = document.createElement('style'); s.textContent = '.modebar {display: none}'; document.head.append(s)"
            driver.execute_script(style)
            time.sleep(3)
            save(driver, name)


def dvc_picture(revisions: list[str]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run(["dvc", "plots", "diff", *revisions, "--out", folder, "-q"], check=True)
        page = Path(folder) / "index.html"
        text = re.sub(r'<script[^>]*src="https://[^"]*vega[^"]*"[^>]*></script>', "", page.read_text())
        bundle = vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;")
        (Path(folder) / "vega.js").write_text(bundle)
        page.write_text(text.replace("<head>", '<head><script src="vega.js"></script>', 1))
        with browser(1500, 1000) as driver:
            driver.get(page.as_uri())
            settled(driver, (), rest=8)
            save(driver, "dvc-plots-diff")
            print(len(driver.find_elements(By.CSS_SELECTOR, "canvas, svg.marks")), "plots are drawn")


def main() -> None:
    parser = ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--store", default="sqlite:///mlflow.db", help="MLflow's tracking URI")
    parser.add_argument("--study", default="fph_reduction")
    parser.add_argument("--run", default="tfst_os_scl", help="arm of the page of one run")
    parser.add_argument(
        "--dvc", nargs="*", default=["HEAD", "workspace"], help="revisions to compare; none = no picture"
    )
    arguments = parser.parse_args()
    PICTURES.mkdir(exist_ok=True)
    if arguments.store:
        mlflow_pictures(arguments.store, arguments.study, arguments.run)
    if arguments.dvc:
        dvc_picture(arguments.dvc)


if __name__ == "__main__":
    main()
