"""A headless Chromium that reads local pages: its start, its console, and what it asked the network for."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

WHY_NOT = "no Chromium with its driver, or no selenium: sudo apt install chromium chromium-driver; pip install selenium"


def available() -> bool:
    try:
        import selenium  # noqa: F401
    except ModuleNotFoundError:
        return False
    return bool(shutil.which("chromium") and shutil.which("chromedriver"))


@contextmanager
def browser(folder: Path, width: int = 1280, height: int = 900, dark: bool = False) -> Iterator[Any]:
    """A driver whose window is `width` CSS pixels wide, a phone's too; its profile lies in `folder`."""
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    options.binary_location = str(shutil.which("chromium"))
    for word in (
        "headless=new", "no-sandbox", "disable-gpu", "disable-dev-shm-usage", "disable-background-networking", "disable-sync",
        "disable-component-update", "no-first-run", "hide-scrollbars", f"user-data-dir={folder}", f"window-size={width},{height}",
    ):  # fmt: skip
        options.add_argument(f"--{word}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options, webdriver.ChromeService(str(shutil.which("chromedriver"))))
    try:
        driver.set_page_load_timeout(120)
        driver.set_script_timeout(120)
        metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}
        driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
        scheme = [{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}]
        driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": scheme})
        driver.get("about:blank")
        requests(driver)  # what the browser's own first page has asked for
        yield driver
    finally:
        driver.quit()


def wait(driver: Any, script: str, seconds: float = 60) -> Any:
    """What the expression `script` gives once it is true; fails after `seconds`."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        found = driver.execute_script(f"return ({script})")
        if found:
            return found
        time.sleep(0.1)
    raise AssertionError(f"not within {seconds} s: {script}")


def requests(driver: Any) -> set[str]:
    """Addresses that were asked for since the last call."""
    messages = [json.loads(entry["message"])["message"] for entry in driver.get_log("performance")]
    return {m["params"]["request"]["url"] for m in messages if m["method"] == "Network.requestWillBeSent"}


def drawn(driver: Any, plot: str) -> None:
    """Bring a plot into view and wait until it is drawn."""
    place = f"document.querySelector('[data-plot=\"{plot}\"]')"
    driver.execute_script(f"{place}.scrollIntoView({{behavior: 'instant', block: 'center'}})")
    wait(driver, f"{place}.querySelector('.main-svg') || {place}.querySelector('p')")
