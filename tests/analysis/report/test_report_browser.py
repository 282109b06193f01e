"""The report in a real headless Chromium, as a reader with mouse or keyboard uses it."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from lab import PATIENCE_S
from small_report import HOSTILE, SmallReport

from analysis.report.page import render_site
from analysis.report.screenshot import find_browser

if find_browser() is None:
    pytest.skip("no Chromium: apt-get install chromium", allow_module_level=True)

CARD = "[data-anchor='states']"
FULL = "[data-cell='three/states/full/miou']"


TOP = ".getBoundingClientRect().top"


def until(page: Any, holds: Callable[[], bool]) -> None:
    """Wait for the page; its policy forbids what playwright's own waiting evaluates."""
    end = time.monotonic() + PATIENCE_S
    while not holds():
        assert time.monotonic() < end, "waited in vain"
        page.wait_for_timeout(20)


@pytest.fixture
def page(chromium: Any, small: SmallReport) -> Iterator[Any]:
    """The small report, opened; whatever the console says against it fails the test."""
    context = chromium.new_context(
        viewport={"width": 1280, "height": 860}, color_scheme="light", offline=True
    )
    opened, complaints = context.new_page(), []
    opened.on("console", lambda m: complaints.append(m.text) if m.type != "log" else None)
    opened.on("pageerror", lambda error: complaints.append(str(error)))
    opened.on("requestfailed", lambda request: complaints.append(request.url))
    opened.goto(small.page.as_uri())
    yield opened
    context.close()
    assert complaints == []


def labels(page: Any) -> list[str]:
    return page.locator(f"{CARD} tbody tr:visible .label").all_text_contents()


def test_a_column_sorts_up_down_and_back_with_the_missing_last(page: Any) -> None:
    before = labels(page)
    button = page.locator(f"{CARD} thead .sort", has_text="mIoU")
    head = button.locator("xpath=..")
    button.click()
    assert head.get_attribute("aria-sort") == "ascending"
    up = labels(page)
    assert up[0] == "Baseline"
    assert set(up[-2:]) == {"It broke", HOSTILE}
    button.click()
    assert head.get_attribute("aria-sort") == "descending"
    down = labels(page)
    assert down[0] == "SSA-Seg"
    assert set(down[-2:]) == {"It broke", HOSTILE}
    page.locator(f"{CARD} thead .sort", has_text="Method").click()
    assert head.get_attribute("aria-sort") is None
    assert labels(page) == sorted(before, key=str.lower)
    button.click()
    button.click()
    button.click()
    assert labels(page) == before


def test_the_filter_counts_and_says_when_nothing_is_left(page: Any) -> None:
    count = page.locator("#count")
    assert count.text_content() == "6 rows"
    assert count.get_attribute("aria-live") == "polite"
    page.keyboard.press("/")
    page.keyboard.type("segnext one")
    assert count.text_content() == "1 of 6 rows"
    assert labels(page) == ["One seed of three"]
    page.fill("#filter", "no such thing")
    assert page.locator(CARD).is_hidden()
    assert page.get_by_text("No row fits the filter.").is_visible()
    page.fill("#filter", "")
    page.select_option("#state", "stale")
    assert labels(page) == ["Old code"]


def test_a_cell_opens_with_its_runs_and_gives_the_focus_back(page: Any) -> None:
    cell = page.locator(FULL)
    cell.focus()
    page.keyboard.press("Enter")
    panel = page.locator("#panel")
    assert panel.is_visible()
    assert page.evaluate("document.activeElement.id") == "panel-title"
    assert panel.locator("[data-run]").count() == 3
    said = " ".join(panel.inner_text().split())
    for words in ("over 3 seeds", "not comparable", "git checkout", "--rows full", "differ from"):
        assert words in said
    assert panel.locator("svg.curve path.seed").count() == 3
    assert "ends at" in str(panel.locator("svg.curve").get_attribute("aria-label"))
    for _ in range(30):  # the focus stays inside, however often one goes on
        page.keyboard.press("Tab")
        assert page.evaluate(
            "document.activeElement === document.body ||"
            " document.getElementById('panel').contains(document.activeElement)"
        )
    page.keyboard.press("Escape")
    assert panel.is_hidden()
    assert cell.evaluate("element => element === document.activeElement")


def test_from_a_cell_to_one_of_its_runs(page: Any) -> None:
    page.locator(FULL).click()
    page.locator("#panel [data-run]").first.click()
    said = " ".join(page.locator("#panel").inner_text().split())
    for words in ("cpu: a processor", "c" * 40, "Deviations none", "All ", "settings of the run"):
        assert words in said
    page.locator("#panel-close").click()
    assert page.locator(FULL).evaluate("element => element === document.activeElement")


def test_every_cell_and_every_run_opens(page: Any) -> None:
    for button in page.locator("[data-cell], .runs [data-run]").all():
        button.click()
        assert page.locator("#panel").is_visible()
        assert page.locator("#panel-title").inner_text()
        page.keyboard.press("Escape")


def test_the_slider_moves_the_line_between_the_masks(page: Any) -> None:
    slider = page.locator(".slider")
    over, stage = page.locator(".stage .over"), page.locator(".stage")
    before = over.evaluate("element => getComputedStyle(element).clipPath")
    slider.focus()
    for _ in range(10):
        page.keyboard.press("ArrowRight")
    assert slider.input_value() == "60"
    assert over.evaluate("element => getComputedStyle(element).clipPath") != before
    assert "60 % Baseline" in str(slider.get_attribute("aria-valuetext"))
    box = stage.bounding_box()
    assert box is not None
    page.mouse.click(box["x"] + 0.25 * box["width"], box["y"] + box["height"] / 2)
    assert slider.input_value() == "25"
    assert stage.get_attribute("aria-label") == (
        "scenes 00001, SegNeXt-T: Baseline left of the slider, SSA-Seg right of it"
    )
    page.select_option(".viewer .left", "truth")
    page.check(".viewer .veil")
    assert "60" not in str(slider.get_attribute("aria-valuetext"))
    assert page.locator(".stage .over img").count() == 2
    assert page.locator(".stage .under img").count() == 3
    loaded = "pictures => pictures.every(picture => picture.complete && picture.naturalWidth > 0)"
    assert page.locator(".viewer img").evaluate_all(loaded)


def test_the_theme_is_chosen_and_kept(page: Any) -> None:
    back = "getComputedStyle(document.body).backgroundColor"
    light = page.evaluate(back)
    button = page.locator("#theme")
    assert button.get_attribute("aria-pressed") == "false"
    button.click()
    assert button.get_attribute("aria-pressed") == "true"
    dark = page.evaluate(back)
    assert dark != light
    page.reload()
    assert page.evaluate(back) == dark
    page.locator("#theme").click()
    page.emulate_media(color_scheme="dark")
    assert page.evaluate(back) == light  # the choice outweighs the system


def test_deep_links_open_tables_rows_and_cells(page: Any, small: SmallReport) -> None:
    def go(anchor: str) -> None:
        page.goto(f"{small.page.as_uri()}#{anchor}")

    go("states")
    until(page, lambda: page.evaluate(f"document.querySelector({CARD!r})" + TOP) < 120)
    go("three.states.stale")
    page.wait_for_selector("tr.target .label >> text='Old code'")
    go("cell=three/states/full/macs_g")
    page.wait_for_selector("#panel >> text=99.9")
    page.keyboard.press("Escape")
    until(page, lambda: page.evaluate("location.hash") == "")
    go("cell=three/states/nothing/miou")
    page.wait_for_timeout(50)  # in which nothing opens
    assert page.locator("#panel").is_hidden()


def test_a_reader_with_a_keyboard_alone_gets_from_the_top_to_a_cell(page: Any) -> None:
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    page.keyboard.press("Enter")
    for _ in range(40):
        page.keyboard.press("Tab")
        outline = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
        assert outline != "none", page.evaluate("document.activeElement.outerHTML")
        if page.evaluate("document.activeElement.dataset.cell || ''").endswith("/miou"):
            break
    page.keyboard.press("Space")
    assert page.locator("#panel").is_visible()


CONTRAST = Path(__file__).with_name("contrast.js").read_text()


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_texts_stand_out_from_what_is_behind_them(
    page: Any, small: SmallReport, theme: str
) -> None:
    page.goto(f"{small.page.as_uri()}?theme={theme}")
    assert page.evaluate(CONTRAST) == []
    page.evaluate("document.querySelectorAll('details').forEach(one => { one.open = true; })")
    page.locator("[data-cell='three/states/stale/miou']").click()
    page.wait_for_timeout(300)
    assert page.evaluate(CONTRAST) == []


def test_the_tree_that_a_screen_reader_gets_names_everything(page: Any) -> None:
    """Each control that can be reached has a name, each table region a label."""
    nameless = page.evaluate(
        """() => [...document.querySelectorAll('button, a, input, select, [tabindex], [role=img]')]
        .filter(e => e.checkVisibility() && !e.closest('[hidden]'))
        .filter(e => !(e.getAttribute('aria-label') || e.getAttribute('aria-labelledby') ||
          e.innerText || e.textContent.trim() || (e.labels && e.labels.length)))
        .map(e => e.outerHTML)"""
    )
    assert nameless == []
    broken = page.evaluate(
        """() => [...document.querySelectorAll('[aria-labelledby], [aria-describedby]')]
        .flatMap(e => [e.getAttribute('aria-labelledby'), e.getAttribute('aria-describedby')])
        .filter(id => id && !document.getElementById(id))"""
    )
    assert broken == []
    levels = page.evaluate(
        """() => [...document.querySelectorAll('h1, h2, h3')].filter(e => e.checkVisibility())
        .map(e => Number(e.tagName[1]))"""
    )
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(later - earlier <= 1 for earlier, later in itertools.pairwise(levels))


@pytest.mark.parametrize("width", [360, 800, 1280, 1920])
def test_nothing_sticks_out_at_any_width(page: Any, width: int) -> None:
    page.set_viewport_size({"width": width, "height": 800})
    assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_it_prints_with_its_notes_and_without_its_controls(page: Any, tmp_path: Path) -> None:
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    page.emulate_media(media="print", color_scheme="dark")
    assert page.locator("#filter").is_hidden()
    assert page.locator("nav").is_hidden()
    assert page.locator("li", has_text="Read one way of two.").is_visible()
    back = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert back == "rgb(255, 255, 255)"
    printed = page.pdf(path=str(tmp_path / "print.pdf"), prefer_css_page_size=True)
    assert printed.startswith(b"%PDF")
    assert len(printed) > 20_000


def test_without_script_the_first_profile_can_be_read(chromium: Any, small: SmallReport) -> None:
    context = chromium.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(small.page.as_uri())
    assert page.locator(f"{CARD} tbody tr").count() == 6
    assert page.get_by_text("Without JavaScript this page").is_visible()
    assert page.locator("#filter").is_hidden()
    context.close()


def test_the_site_goes_from_a_claim_to_its_table_and_copies_it(
    chromium: Any, small: SmallReport, tmp_path: Path
) -> None:
    paper = replace(small.data.paper, name="W" * 30)  # wider than a telephone
    for name, text in render_site(replace(small.data, paper=paper)).items():
        (tmp_path / name).write_text(text, encoding="utf-8")
    context = chromium.new_context(viewport={"width": 1280, "height": 860}, offline=True)
    context.grant_permissions(["clipboard-read", "clipboard-write"])
    opened, complaints = context.new_page(), []
    opened.on("console", lambda m: complaints.append(m.text) if m.type != "log" else None)
    opened.on("pageerror", lambda error: complaints.append(str(error)))
    opened.goto((tmp_path / "index.html").as_uri())
    opened.locator(".side a:visible", has_text="Claims").click()
    link = opened.locator("table.claims td a:visible").first
    target = str(link.get_attribute("href"))
    link.click()
    assert opened.url.endswith(target)
    card = opened.locator(f"[id='{target.partition('#')[2]}']")
    assert card.is_visible()
    cell = card.locator("button[data-tip]").first
    cell.focus()
    hint = opened.locator("#hint")
    assert hint.is_visible()
    assert "Reported: " in hint.text_content()
    assert cell.get_attribute("aria-describedby") == "hint"
    box = hint.bounding_box()
    assert box["x"] >= 0
    assert box["x"] + box["width"] <= 1280
    opened.keyboard.press("Escape")
    assert hint.is_hidden()
    opened.locator("[data-cell='three/states/full/miou']").press("Enter")
    run = small.data.runs[small.row("full").runs[0]]  # type: ignore[attr-defined]
    panel = str(opened.locator("#panel-body").text_content())
    for wanted in (
        "42.50 %",
        "95 % interval",
        "Seed",
        run.result_digest[:10],
        "./run_all.sh states",
    ):
        assert wanted in panel, wanted
    opened.keyboard.press("Escape")
    card.locator("details.texts summary").press("Enter")
    card.get_by_role("button", name="Copy CSV").press("Enter")
    until(opened, lambda: opened.locator("#copied").text_content() == "CSV copied")
    opened.set_viewport_size({"width": 360, "height": 700})
    for path in sorted(tmp_path.iterdir()):
        opened.goto(path.as_uri())
        assert opened.evaluate("document.documentElement.scrollWidth") <= 360, path.name
    context.close()
    assert complaints == []
