"""The report in headless Chromium: it loads without a complaint, sorts, filters, explains, plays and prints."""

import re
import shutil
from types import SimpleNamespace

import pytest

from marble.results.report import report

CHROMIUM = shutil.which("chromium")
if CHROMIUM is None:
    pytest.skip("there is no chromium", allow_module_level=True)
playwright = pytest.importorskip("playwright.sync_api")


@pytest.fixture(scope="module")
def browser():
    with playwright.sync_playwright() as engine:
        browser = engine.chromium.launch(executable_path=CHROMIUM)
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def file(once, tmp_path_factory):
    """The page of four results, one of them of a synthetic task; their names are markup."""
    root = tmp_path_factory.mktemp("all")
    for number, (upstream, task, score) in enumerate(
        [("ten", "folder:b", 0.1), ("<b>two</b>", "folder:b", 0.25), ("ten", "folder:a", 0.5), ("ten", "synth", None)]
    ):
        result = once[0].model_copy(deep=True)
        result.upstream.name, result.task.name, result.identity = upstream, task, f"{number}" * 64
        result.task.synthetic = task == "synth"
        result.selected.test["accuracy"].mean = score
        path = result.save(root)
        shutil.copy((once[1] / once[0].path).with_suffix(".parquet"), path.with_suffix(".parquet"))
    page = root / "a page.html"
    interval = SimpleNamespace(difference=0.15, low=0.0, high=0.3)
    page.write_text(report(root, lambda *_: interval), encoding="utf-8")
    return page


@pytest.fixture(params=["light", "dark"])
def scheme(request):
    return request.param


@pytest.fixture
def page(browser, file):
    """The page, which may neither complain nor ask for anything but itself and local audio."""
    page = browser.new_page(viewport={"width": 1280, "height": 900})
    complaints, asked = [], []
    page.on("console", lambda message: complaints.append(message.text))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("request", lambda request: asked.append(request.url))
    page.goto(file.as_uri())
    yield page
    page.close()
    assert complaints == []
    assert asked[0] == file.as_uri()
    assert all(url.startswith("file:///") and url.endswith(".wav") for url in asked[1:])


def column(page, heading):
    """The texts of a column of the first leaderboard, hidden rows left out."""
    board = page.locator("table.board").first
    number = [name.split()[0] for name in board.locator("thead th").all_inner_texts()].index(heading)
    return [row.locator("td, th").nth(number).inner_text() for row in board.locator("tbody tr:visible").all()]


def test_a_press_on_a_heading_sorts_by_value(page):
    assert column(page, "Task") == ["folder:a", "folder:b", "folder:b"]
    button = page.locator("table.board").first.get_by_role("button", name="Score")
    button.click()
    assert [text[:5] for text in column(page, "Score")] == ["0.100", "0.250", "0.500"]
    assert page.locator("table.board th[aria-sort=ascending]").first.inner_text().startswith("Score")
    button.press("Enter")
    assert [text[:5] for text in column(page, "Score")] == ["0.500", "0.250", "0.100"]
    assert page.locator("table.board th[aria-sort=descending]").count() == 1


def test_filters_hide_what_is_of_another_upstream_or_task(page):
    status = page.locator("output")
    assert status.inner_text() == "4 of 4 rows of the leaderboards shown"
    page.get_by_label("Upstream").first.select_option("<b>two</b>")
    assert column(page, "Upstream") == ["<b>two</b>"]
    assert status.inner_text() == "1 of 4 rows of the leaderboards shown"
    assert page.locator("svg .series:visible").count() == page.locator("figure:visible").count() == 1
    page.get_by_role("button", name="Show all").click()
    page.get_by_label("Task").first.select_option("folder:a")
    assert column(page, "Task") == ["folder:a"]
    assert page.locator("figure:visible").count() == 1
    assert page.locator("section:has(#differences) table:visible").count() == 0
    page.get_by_role("button", name="Show all").click()
    page.get_by_label("Words in a row").fill("FOLDER:B ten")
    assert column(page, "Upstream") == ["ten"]
    page.get_by_label("Words in a row").fill("no such words")
    assert status.inner_text() == "0 of 4 rows of the leaderboards shown"


def test_tooltips_are_shown_under_pointer_and_focus_and_hidden_by_escape(page):
    tip = page.get_by_role("tooltip")
    cells = page.locator("section:has(#layers) table.moves").first.locator("td")
    assert tip.count() == 0
    cells.nth(0).hover()
    assert "layer 0" in tip.inner_text()
    page.keyboard.press("Escape")
    assert tip.count() == 0
    cells.nth(0).focus()
    assert cells.nth(0).get_attribute("aria-describedby") == "tip"
    page.keyboard.press("ArrowDown")
    assert "layer 1" in tip.inner_text()
    page.locator("svg .series path[data-tip]").first.hover(force=True)
    assert "95 % interval" in tip.inner_text()
    page.locator("h1").hover()
    assert tip.count() == 0
    page.locator("section:has(#confusion) summary").first.click()
    page.locator("table.counts").first.locator("td[class]").first.hover()
    assert re.fullmatch(r"high answered as (high|low|middle): \d+ of \d+", tip.inner_text())


def test_the_tab_key_reaches_every_part_and_shows_where_it_is(page):
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "To the leaderboard"
    seen = set()
    for _ in range(60):
        page.keyboard.press("Tab")
        seen.add(page.evaluate("document.activeElement.tagName"))
        style = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
        assert style != "none" or page.evaluate("document.activeElement === document.body")
    assert {"A", "SELECT", "INPUT", "BUTTON", "TD"} <= seen


def test_a_link_to_a_result_opens_its_details(page):
    details = page.locator("details[id^=result-]").first
    assert details.get_attribute("open") is None
    anchor = details.get_attribute("id")
    page.locator(f"table.board a[href='#{anchor}']").first.click()
    page.wait_for_function("id => document.getElementById(id).open", arg=anchor)


def test_local_audio_can_be_played(page):
    page.locator("audio").first.evaluate(
        """audio => new Promise((done, fail) => {
            audio.onloadedmetadata = done;
            audio.onerror = () => fail(audio.error.message);
            audio.preload = "metadata";
            audio.load();
        })"""
    )
    assert page.locator("audio").first.evaluate("audio => audio.duration") == pytest.approx(0.3, abs=0.01)


def test_every_picture_and_control_has_a_name(page):
    unnamed = page.evaluate(
        """() => [...document.querySelectorAll("svg[role=img], audio, input, select, button, a, table")].filter((element) => {
            const by = element.getAttribute("aria-labelledby");
            const text = element.getAttribute("aria-label") || (by && document.getElementById(by).textContent)
                || element.labels?.[0]?.textContent || element.caption?.textContent || element.textContent;
            return !text.trim();
        }).length"""
    )
    assert unnamed == 0
    levels = page.evaluate("[...document.querySelectorAll('h1, h2, h3, h4')].map((element) => +element.tagName[1])")
    assert levels.count(1) == 1
    assert page.evaluate("[...document.querySelectorAll('th')].every((element) => element.scope)")


@pytest.mark.parametrize("width", [1280, 360])
def test_it_fits_its_window_in_light_and_dark(browser, file, scheme, width, tmp_path):
    page = browser.new_page(viewport={"width": width, "height": 800}, color_scheme=scheme)
    page.goto(file.as_uri())
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    colour = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert colour == {"light": "rgb(255, 255, 255)", "dark": "rgb(20, 23, 27)"}[scheme]
    assert len(page.screenshot(path=tmp_path / f"{scheme}-{width}.png", full_page=True)) > 10_000
    page.close()


def test_it_prints_all_details(page, tmp_path):
    assert page.pdf(path=tmp_path / "page.pdf", format="A4").startswith(b"%PDF")
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    page.emulate_media(media="print", color_scheme="dark")
    assert page.locator("details:not([open])").count() == 0
    assert not page.locator("form").is_visible()
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    page.evaluate("dispatchEvent(new Event('afterprint'))")
    assert page.locator("details[open]").count() == 0


def test_without_script_everything_can_be_read(browser, file):
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(file.as_uri())
    assert not page.locator("form").is_visible()
    assert page.locator("table.board tbody tr").first.is_visible()
    assert page.locator("svg .series").first.is_visible()
    context.close()
