"""The page in a real browser, opened as a file: it draws, sorts and switches, complains of nothing, and asks no network."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from support.accessible import Accessible
from support.browser import WHY_NOT, available, browser, drawn, requests, wait

pytestmark = pytest.mark.skipif(not available(), reason=WHY_NOT)

PLOTS = ("cost", "ranking", "roc", "histograms", "training")


@pytest.fixture(scope="module")
def driver(page: Path, module_path: Path) -> Iterator[Any]:
    with browser(module_path / "browser") as found:
        found.get((page / "index.html").as_uri())
        yield found


@pytest.fixture(autouse=True)
def clean(driver: Any) -> Iterator[None]:
    """Whatever a test did: nothing in the console, no address but of files and of data that the page holds."""
    yield
    assert [entry["message"] for entry in driver.get_log("browser") if entry["level"] != "INFO"] == []
    assert {address for address in requests(driver) if not address.startswith(("file:", "data:", "blob:"))} == set()


def column(driver: Any, number: int) -> list[str]:
    script = "return Array.from(document.querySelectorAll('#table tbody tr'), r => r.cells[arguments[0]].firstChild.textContent)"
    found: list[str] = driver.execute_script(script, number)
    return found


def choose(driver: Any, form: str, name: str, value: str) -> None:
    driver.execute_script(
        "const s = document.getElementById(arguments[0]).elements[arguments[1]];"
        "s.value = arguments[2]; s.dispatchEvent(new Event('change', {bubbles: true}))",
        form, name, value,
    )  # fmt: skip


def keys(driver: Any) -> list[float]:
    script = "return Array.from(document.querySelectorAll('#table tbody tr'), r => r.cells[2].dataset.v)"
    script += ".filter(v => v).map(Number)"
    found: list[float] = driver.execute_script(script)
    return found


def test_it_opens_on_the_best_arm(driver: Any) -> None:
    assert driver.execute_script("return document.querySelector('#arm-choice [name=arm]').value") == "stgram_mfn"


def test_tables_sort_by_click_and_by_key(driver: Any) -> None:
    from selenium.webdriver.common.by import By
    from selenium.webdriver.common.keys import Keys

    heading = "#table thead th:nth-child(3)"
    button = driver.find_element(By.CSS_SELECTOR, f"{heading} button")
    driver.execute_script("arguments[0].click()", button)
    assert keys(driver) == sorted(keys(driver), reverse=True)
    assert len(set(keys(driver))) > 1
    assert driver.find_element(By.CSS_SELECTOR, heading).get_attribute("aria-sort") == "descending"
    button.send_keys(Keys.ENTER)
    assert keys(driver) == sorted(keys(driver))
    assert driver.find_element(By.CSS_SELECTOR, heading).get_attribute("aria-sort") == "ascending"
    name = driver.find_element(By.CSS_SELECTOR, "#table thead th:first-child button")
    name.send_keys(Keys.SPACE)
    assert column(driver, 0) == sorted(column(driver, 0))
    assert driver.find_element(By.CSS_SELECTOR, heading).get_attribute("aria-sort") == "none"


def test_another_table_is_loaded_when_it_is_chosen(driver: Any) -> None:
    choose(driver, "table-choice", "metric", "pAUC")
    wait(driver, "document.querySelector('#table caption').textContent.startsWith('pAUC')")
    visible = "Array.from(document.querySelectorAll('#table tbody tr')).filter(r => r.offsetParent).length"
    assert driver.execute_script(f"return {visible}") == 3  # each arm by the score it is judged by
    driver.execute_script("document.querySelector('#table-choice [name=others]').click()")
    assert driver.execute_script(f"return {visible}") == 5
    choose(driver, "table-choice", "metric", "AUC")
    wait(driver, "document.querySelector('#table caption').textContent.startsWith('AUC')")


def test_a_table_with_more_at_its_right_says_so_until_it_is_scrolled_there(driver: Any) -> None:
    box = "document.querySelector('#table .scroll')"
    driver.execute_script(f"{box}.style.width = '300px'")
    wait(driver, f"{box}.classList.contains('more')")
    assert driver.execute_script(f"return getComputedStyle({box}).maskImage") == "none"  # no number fades
    driver.execute_script(f"{box}.scrollLeft = 9999")
    wait(driver, f"!{box}.classList.contains('more')")
    driver.execute_script(f"{box}.style.width = ''; {box}.scrollLeft = 0")


@pytest.mark.parametrize("plot", PLOTS)
def test_plots_are_drawn(driver: Any, plot: str) -> None:
    choose(driver, "arm-choice", "arm", "stgram_mfn")
    drawn(driver, plot)
    marks = "path.point, .js-line, .bars path, .scatterlayer path"
    wait(driver, f"document.querySelectorAll('[data-plot=\"{plot}\"] :is({marks})').length > 1")


def test_what_an_arm_has_nothing_of_is_not_shown(driver: Any) -> None:
    shown = "document.getElementById('training').offsetParent !== null"
    choose(driver, "arm-choice", "arm", "spectral_knn")
    wait(driver, f"!({shown})")
    choose(driver, "arm-choice", "arm", "stgram_mfn")
    wait(driver, shown)


def test_the_theme_switches_text_and_plots(driver: Any) -> None:
    drawn(driver, "roc")
    paper = "getComputedStyle(document.body).backgroundColor"
    plot = "document.querySelector('[data-plot=\"roc\"] .main-svg').style.background"
    before = driver.execute_script(f"return [{paper}, {plot}]")
    driver.execute_script("document.getElementById('theme').click()")
    wait(driver, f"{plot} !== {before[1]!r}")
    assert driver.execute_script(f"return {paper}") != before[0]
    assert (
        driver.execute_script("return document.getElementById('theme').textContent") == "Light theme"
    )  # what it gives
    driver.execute_script("document.getElementById('theme').click()")
    wait(driver, f"{plot} === {before[1]!r}")


def test_sounds_and_pictures_load(driver: Any) -> None:
    driver.execute_script("document.querySelectorAll('details').forEach(d => d.open = true)")
    assert driver.execute_script("return document.querySelectorAll('audio').length") > 0
    driver.execute_script("document.querySelectorAll('audio').forEach(a => { a.preload = 'metadata'; a.load(); })")
    wait(driver, "Array.from(document.querySelectorAll('audio')).every(a => a.readyState >= 1 && a.duration > 0.5)")
    driver.execute_script("document.querySelectorAll('img').forEach(i => { i.loading = 'eager'; })")
    wait(driver, "Array.from(document.images).every(i => i.complete && i.naturalWidth > 0)")


class TestAccessible(Accessible):
    """Of this page."""


def test_the_menu_has_room(driver: Any) -> None:
    menu = driver.execute_script(
        "const n = document.querySelector('header nav'); return [n.scrollWidth, n.clientWidth]"
    )
    assert menu[0] <= menu[1]


def test_a_phone_scrolls_downwards_only(driver: Any) -> None:
    size = {"width": 390, "height": 844, "deviceScaleFactor": 1, "mobile": True}
    driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    driver.refresh()
    for plot in PLOTS:
        drawn(driver, plot)
    wide = driver.execute_script(
        "return [document.documentElement.scrollWidth, document.documentElement.clientWidth, innerWidth]"
    )
    assert wide[0] <= wide[1] <= wide[2] == 390
