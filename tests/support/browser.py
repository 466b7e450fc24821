"""A headless Chromium that reads local pages: its start, its console, and what it asked the network for."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
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


def unreadable(driver: Any) -> list[str]:
    """What cannot be read on a page without eyes or a mouse: pictures and controls without a name, sections without a heading,
    headings that skip a level, ids given twice."""
    missing: list[str] = driver.execute_script("""
      const named = e => e.labels?.length || e.getAttribute('aria-label') || e.textContent.trim();
      return [
        ...document.querySelectorAll('img:not([alt]), [role=img]:not([aria-label]), audio:not([aria-label])'),
        ...Array.from(document.querySelectorAll('select, input, button')).filter(e => !named(e)),
        ...Array.from(document.querySelectorAll('section'))
          .filter(e => !document.getElementById(e.getAttribute('aria-labelledby'))),
      ].map(e => e.outerHTML.slice(0, 200))""")
    levels = driver.execute_script(
        "return Array.from(document.querySelectorAll('h1, h2, h3, h4'), h => Number(h.tagName[1]))"
    )
    if levels[0] != 1 or not all(after <= before + 1 for before, after in pairwise(levels)):
        missing.append(f"levels of headings {levels}")
    twice = driver.execute_script(
        "const i = Array.from(document.querySelectorAll('[id]'), e => e.id); return i.filter((n, k) => i.indexOf(n) < k)"
    )
    first = driver.execute_script("return document.querySelector('a, button').textContent")
    return [*missing, *(f"id {name} twice" for name in twice), *([] if first == "Skip to the content" else [first])]


def contrasts(driver: Any, theme: str) -> dict[str, float]:
    """WCAG 2.1, 1.4.3: contrast between every colour of text and both backgrounds, in a theme."""
    found: dict[str, float] = driver.execute_script(
        """
      const root = document.documentElement, before = root.dataset.theme;
      root.dataset.theme = arguments[0];
      const style = getComputedStyle(root), value = n => style.getPropertyValue('--' + n).trim();
      const light = hex => { const c = [1, 3, 5].map(i => parseInt(hex.slice(i, i + 2), 16) / 255)
        .map(v => v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
        return 0.2126 * c[0] + 0.7152 * c[1] + 0.0722 * c[2]; };
      const out = {};
      for (const ink of ['ink', 'soft', 'accent', 'better', 'worse', 'tie']) for (const back of ['paper', 'panel']) {
        const [a, b] = [light(value(ink)), light(value(back))].sort((x, y) => y - x);
        out[ink + ' on ' + back] = (a + 0.05) / (b + 0.05);
      }
      if (before) root.dataset.theme = before; else delete root.dataset.theme;
      return out""",
        theme,
    )
    return found
