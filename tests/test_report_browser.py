"""The pages of runs in headless Chromium: what is drawn, what is written, what is asked for, and what follows a run."""

from __future__ import annotations

import itertools
import json
import re
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from report_case import SUMMARY, lines, make_run, record, serving

from gpunn.recipes.digits import Options, train_digits
from gpunn.recipes.digits_rows import Options as RowsOptions
from gpunn.recipes.digits_rows import train_digits_rows
from gpunn.report import write_page
from gpunn.runs import lock

webdriver = pytest.importorskip("selenium.webdriver", reason="selenium is not installed")
BROWSER, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
if BROWSER is None or DRIVER is None:
    pytest.skip("Chromium or its driver is not installed", allow_module_level=True)
pytestmark = pytest.mark.browser

FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
)


@pytest.fixture(scope="module")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    options = webdriver.ChromeOptions()
    options.binary_location = BROWSER
    for flag in (*FLAGS, f"--user-data-dir={tmp_path_factory.mktemp('profile')}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options, webdriver.ChromeService(DRIVER))
    yield driver
    driver.quit()


@pytest.fixture
def browser(chromium: Any) -> Iterator[Any]:
    """A browser 1,200 pixels wide, in light colours, whose console stays empty."""
    chromium.get("about:blank")
    for log in ("browser", "performance"):
        chromium.get_log(log)
    screen(chromium)
    yield chromium
    assert messages(chromium) == []


def screen(browser: Any, width: int = 1200, **features: str) -> None:
    size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    named = [{"name": name.replace("_", "-"), "value": value} for name, value in features.items()]
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": named})


def messages(browser: Any) -> list[str]:
    """What the console says since the last look."""
    return [entry["message"] for entry in browser.get_log("browser")]


def open_page(browser: Any, folder: Path) -> None:
    write_page(folder, folder / "page.html")
    browser.get((folder / "page.html").as_uri())
    wait_for(lambda: browser.find_element("id", "name").text != "")
    wait_for(lambda: browser.execute_script("return !document.querySelector('#tiles:empty')"))


def wait_for(holds: Callable[[], Any], seconds: float = 60) -> None:
    until = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < until, f"waited for {seconds} s"
        time.sleep(0.05)


def table(browser: Any, section: str = "epochs") -> list[list[str]]:
    """The texts of a table's cells, the head first."""
    script = "return [...document.querySelectorAll(arguments[0])].map(r => [...r.cells].map(c => c.textContent))"
    return browser.execute_script(script, f"#{section} tr")  # type: ignore[no-any-return]


def assert_table_is(browser: Any, metrics: str) -> None:
    """Every number in the table is written as in the file, which the numbers of Python and JavaScript would not be."""
    head, *rows = table(browser)
    assert len(rows) == len(metrics.splitlines())
    for line, row in zip(metrics.splitlines(), rows, strict=True):
        written = {name: text.strip('"') for name, text in re.findall(r'"(\w+)": ("[^"]*"|[^,}]+)', line)}
        assert len(written) == len(json.loads(line))
        assert {name: text for name, text in zip(head, row, strict=True) if text} == written


def vertices(browser: Any) -> dict[str, dict[str, list[tuple[float, float]]]]:
    """The points of each line of each panel, as they are drawn."""
    script = """return [...document.querySelectorAll("#curves figure")].map(f => [f.dataset.quantity,
        [...f.querySelectorAll(".legend")].map(e => e.textContent),
        [...f.querySelectorAll(".chart path.line")].map(e => e.getAttribute("d"))])"""
    found = {}
    for quantity, names, paths in browser.execute_script(script):
        points = [[(float(x), float(y)) for x, y in re.findall(r"[ML](\S+) ([^ML]+)", path)] for path in paths]
        found[quantity] = dict(zip(names, points, strict=True))
    return found


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder, _ = train_digits(Options(epochs=4, batch_size=128), tmp_path_factory.mktemp("runs") / "digits")
    return folder


# ---- the page as a file --------------------------------------------------------------------------------------------


def test_the_numbers_are_those_of_the_run(browser: Any, digits: Path) -> None:
    open_page(browser, digits)
    metrics = (digits / "metrics.jsonl").read_text()
    assert_table_is(browser, metrics)
    summary = json.loads((digits / "summary.json").read_text())
    assert dict(table(browser, "summary"))["test_accuracy"] == str(summary["test_accuracy"])
    assert dict(table(browser, "environment"))["versions numpy"] == summary["versions"]["numpy"]
    assert dict(table(browser, "config"))["batch_size"] == "128"
    tiles = browser.find_element("id", "tiles").text
    assert f"{summary['test_accuracy']:.2%}".replace("%", " %") in tiles
    assert f"{summary['parameters']:,}" in tiles
    assert browser.find_element("id", "status").text == "finished"


def test_the_curves_are_those_of_the_run(browser: Any, digits: Path) -> None:
    open_page(browser, digits)
    records = [json.loads(line) for line in (digits / "metrics.jsonl").read_text().splitlines()]
    drawn = vertices(browser)
    assert {quantity: list(series) for quantity, series in drawn.items()} == {
        "loss": ["training", "test"], "accuracy": ["test"],
    }  # fmt: skip
    for quantity, name, label in (
        ("loss", "train_loss", "training"), ("loss", "test_loss", "test"), ("accuracy", "test_accuracy", "test"),
    ):  # fmt: skip
        points = drawn[quantity][label]
        assert len(points) == len(records)
        # x is linear in the epoch; of y, higher is higher: the axis may be logarithmic.
        steps = [b[0] - a[0] for a, b in itertools.pairwise(points)]
        assert max(steps) - min(steps) < 0.03
        by_height = sorted(range(len(points)), key=lambda i: -points[i][1])
        assert by_height == sorted(range(len(points)), key=lambda i: records[i][name])


def test_the_figures_are_shown(browser: Any, digits: Path) -> None:
    open_page(browser, digits)
    script = (
        "return [...document.querySelectorAll('#figures img')].map(i => [i.alt, i.complete && i.naturalWidth > 100])"
    )
    assert browser.execute_script(script) == [
        ["Confusion matrix", True], ["Misclassified images", True], ["Filters of the first convolution", True],
    ]  # fmt: skip


def test_pointing_at_a_curve_tells_its_values(browser: Any, digits: Path) -> None:
    open_page(browser, digits)
    records = [json.loads(line) for line in (digits / "metrics.jsonl").read_text().splitlines()]
    chart = browser.find_element("css selector", "figure[data-quantity=loss] .chart")
    x, y = vertices(browser)["loss"]["test"][1]
    width, height = chart.size["width"], chart.size["height"]
    actions = webdriver.ActionChains(browser)
    actions.move_to_element_with_offset(chart, round(x - width / 2), round(y - height / 2)).perform()
    tip = browser.find_element("css selector", "figure[data-quantity=loss] .tip").text
    assert tip.startswith("epoch 2")
    for name in ("train_loss", "test_loss"):
        assert f"{records[1][name]:.4g}" in tip
    browser.execute_script("arguments[0].focus()", chart)
    chart.send_keys("\ue014")  # the right arrow
    assert browser.find_element("css selector", "figure[data-quantity=loss] .tip").text.startswith("epoch 3")


def test_nothing_is_asked_for(browser: Any, digits: Path) -> None:
    browser.execute_cdp_cmd("Network.enable", {})
    offline = {"offline": True, "latency": 0, "downloadThroughput": -1, "uploadThroughput": -1}
    browser.execute_cdp_cmd("Network.emulateNetworkConditions", offline)
    try:
        open_page(browser, digits)
        assert len(table(browser)) == 5
        log = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    finally:
        browser.execute_cdp_cmd("Network.emulateNetworkConditions", offline | {"offline": False})
    asked = [each["params"]["request"]["url"] for each in log if each["method"] == "Network.requestWillBeSent"]
    assert (digits / "page.html").as_uri() in asked
    assert {url.split(":")[0] for url in asked} <= {"file", "data"}
    assert [url for url in asked if url.startswith("file:")] == [(digits / "page.html").as_uri()]


def luminance(browser: Any, property: str) -> float:
    colour = browser.execute_script(f"return getComputedStyle(document.body).{property}")
    return sum(map(int, re.findall(r"\d+", colour)[:3])) / 765


def test_light_and_dark(browser: Any, digits: Path) -> None:
    open_page(browser, digits)
    assert luminance(browser, "backgroundColor") > 0.9 > 0.2 > luminance(browser, "color")
    screen(browser, prefers_color_scheme="dark")
    assert luminance(browser, "backgroundColor") < 0.15 < 0.8 < luminance(browser, "color")


@pytest.mark.parametrize("width", [320, 400, 768, 1200])
def test_no_screen_is_too_narrow(width: int, browser: Any, digits: Path) -> None:
    screen(browser, width)
    open_page(browser, digits)
    assert browser.execute_script("return document.documentElement.scrollWidth") <= width
    for chart in browser.find_elements("css selector", ".chart"):
        assert 0 <= chart.rect["x"] <= chart.rect["x"] + chart.rect["width"] <= width
    screen(browser, 1000 - width // 2)  # turned
    wait_for(lambda: browser.execute_script("return document.documentElement.scrollWidth") <= 1000 - width // 2)


def test_several_networks_have_a_line_each(browser: Any, tmp_path: Path) -> None:
    options = RowsOptions(epochs=2, batch_size=256, hidden_size=8)
    folder, _ = train_digits_rows(options, tmp_path / "run")
    open_page(browser, folder)
    assert_table_is(browser, (folder / "metrics.jsonl").read_text())
    drawn = vertices(browser)
    assert list(drawn["accuracy"]) == ["RNN test", "LSTM test", "GRU test"]
    assert {len(points) for series in drawn.values() for points in series.values()} == {2}


def test_measures_of_every_size_are_drawn(browser: Any, tmp_path: Path) -> None:
    sizes = [5e-324, 1e-5, 1.0, 12345.678901234567, 1e22, 1.7e308]
    records = [record(n, train_loss=size, test_bits_per_character=2.0, lr=1e-5) for n, size in enumerate(sizes, 1)]
    records += [record(7), {"epoch": 8}, record(9), record(10**16), record(10**16 + 2)]
    metrics = lines(*records)
    open_page(browser, make_run(tmp_path, metrics, SUMMARY))
    assert_table_is(browser, metrics)
    drawn = vertices(browser)
    assert list(drawn) == ["loss", "accuracy", "bits_per_character", "lr"]
    assert len(drawn["loss"]["training"]) == len(records) - 2  # one is missing, one beyond what can be drawn
    assert len(drawn["lr"]["lr"]) == 6


def test_hostile_texts_are_shown_and_nothing_runs(browser: Any, tmp_path: Path) -> None:
    hostile = "</script><script>document.title='x'</script><img src=x onerror=\"document.title='y'\">\u2028"
    folder = make_run(
        tmp_path / "<script>alert(1)<", lines(record(1, cell=hostile) | {hostile: 1}) + f'{{"{hostile}\n',
        SUMMARY | {"status": hostile, "error": hostile, hostile: hostile}, images=hostile, recipe=hostile,
    )  # fmt: skip
    (folder / "sample.txt").write_text(hostile, encoding="utf-8")
    (folder / "confusion.png").write_text(hostile, encoding="utf-8")
    open_page(browser, folder)
    assert browser.title == folder.name
    assert browser.execute_script("return document.querySelectorAll('img, #name *, #error *, pre *').length") == 0
    assert browser.execute_script("return document.scripts.length") == 2
    assert browser.execute_script("return document.getElementById('error').textContent") == hostile
    assert dict(table(browser, "config"))["images"] == hostile
    assert hostile in table(browser)[0]
    assert hostile.upper() in next(iter(vertices(browser)["loss"]))


def test_a_run_without_epochs(browser: Any, tmp_path: Path) -> None:
    folder = make_run(tmp_path / "run")
    write_page(folder, tmp_path / "page.html")
    browser.get((tmp_path / "page.html").as_uri())
    wait_for(lambda: browser.find_element("id", "status").text == "not finished")
    assert browser.find_element("id", "remaining").text == "no epoch is done yet"
    assert not browser.find_element("id", "curves").is_displayed()
    assert not browser.find_element("id", "epochs").is_displayed()


def test_damaged_lines_are_told(browser: Any, tmp_path: Path) -> None:
    folder = make_run(tmp_path, lines(record(1)) + '{"epoch": \n' + lines(record(3)))
    open_page(browser, folder)
    assert browser.find_element("id", "problems").text.startswith("metrics.jsonl, line 2: not JSON")
    assert [row[0] for row in table(browser)[1:]] == ["1", "3"]


# ---- the live page -------------------------------------------------------------------------------------------------


def rows(browser: Any) -> int:
    return len(table(browser)) - 1


def test_a_run_is_followed_as_it_trains(browser: Any, tmp_path: Path) -> None:
    folder, epochs, may_end = tmp_path / "run", 4, threading.Semaphore(1)

    def on_epoch(record: dict[str, Any]) -> None:  # so the page is there before the run is over, however slow it is
        assert may_end.acquire(timeout=300)

    with ThreadPoolExecutor(1) as pool:
        training = pool.submit(train_digits, Options(epochs=epochs, batch_size=128), folder, on_epoch=on_epoch)
        try:
            wait_for(lambda: (folder / "config.json").exists() or training.done())
            with serving(folder) as server:
                browser.get(server.url)
                wait_for(lambda: rows(browser) >= 1)
                assert browser.find_element("id", "status").text == "training"
                assert browser.find_element("id", "connection").text == "live"
                assert re.match(r"epoch \d+ of 4 done", browser.find_element("id", "remaining").text)
                assert rows(browser) < epochs  # so what comes now comes by events
                may_end.release(epochs)
                wait_for(lambda: browser.find_element("id", "status").text == "finished", 120)
                training.result()
                metrics = (folder / "metrics.jsonl").read_text()
                wait_for(lambda: rows(browser) == epochs)
                assert_table_is(browser, metrics)
                assert len(vertices(browser)["loss"]["training"]) == epochs
                assert "test accuracy" in browser.find_element("id", "headline").text
                assert not browser.find_element("id", "progress").is_displayed()
                wait_for(lambda: len(browser.find_elements("css selector", "#figures img")) == 3)
                browser.find_element("css selector", "#file a").click()  # the page as one file
                wait_for(lambda: browser.current_url.endswith("/report") and rows(browser) == epochs)
                assert_table_is(browser, metrics)
                browser.get("about:blank")
        finally:
            may_end.release(epochs)


def test_a_page_waits_for_the_first_epoch_and_follows_a_resumption(browser: Any, tmp_path: Path) -> None:
    folder = make_run(tmp_path / "run")
    with serving(folder) as server:
        browser.get(server.url)
        wait_for(lambda: "no epoch is done yet" in browser.find_element("id", "remaining").text)
        with (folder / "metrics.jsonl").open("w") as file:
            file.write(lines(record(1)) + '{"epoch": 2, ')
            file.flush()
            wait_for(lambda: rows(browser) == 1)
            file.write('"train_loss": 0.5}\n')
        wait_for(lambda: rows(browser) == 2)
        (folder / "summary.json").write_text(json.dumps(SUMMARY | {"status": "interrupted"}))
        wait_for(lambda: browser.find_element("id", "status").text == "interrupted")
        (folder / "summary.json").unlink()
        (folder / "metrics.jsonl").write_text(lines(record(1), record(2), record(3)))
        wait_for(lambda: rows(browser) == 3)
        assert_table_is(browser, (folder / "metrics.jsonl").read_text())
        assert browser.find_element("id", "status").text == "not finished"
        with lock.locked(folder):
            wait_for(lambda: browser.find_element("id", "status").text == "training")
        (folder / "lock").write_text("process 7 on here")
        wait_for(lambda: browser.find_element("id", "status").text == "killed")
        shutil.rmtree(folder)
        wait_for(lambda: "lacks a config.json" in browser.find_element("id", "problems").text)
        make_run(folder, lines(record(1)))
        wait_for(lambda: rows(browser) == 1)
        assert browser.find_element("id", "problems").text == ""
        browser.get("about:blank")


def test_a_page_finds_its_server_again(browser: Any, tmp_path: Path) -> None:
    folder = make_run(tmp_path, lines(record(1)))
    with serving(folder) as server:
        browser.get(server.url)
        wait_for(lambda: rows(browser) == 1)
        port = int(server.url.rstrip("/").rsplit(":", 1)[1])
    wait_for(lambda: "trying again" in browser.find_element("id", "connection").text)
    (folder / "metrics.jsonl").write_text(lines(record(1), record(2)))
    with serving(folder, port=port):
        wait_for(lambda: browser.find_element("id", "connection").text == "live")
        wait_for(lambda: rows(browser) == 2)
        browser.get("about:blank")
    assert all("/events - Failed to load resource" in text for text in messages(browser))  # while there was none
