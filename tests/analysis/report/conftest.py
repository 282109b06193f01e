"""The report of a small store, and a real browser to open it with."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from small_report import SmallReport, make_small_report

from analysis.report.screenshot import find_browser


@pytest.fixture(scope="session")
def small(tmp_path_factory: pytest.TempPathFactory) -> SmallReport:
    return make_small_report(tmp_path_factory.mktemp("report"))


@pytest.fixture(scope="module")  # while it is open, the thread's event loop is taken
def chromium() -> Iterator[Any]:
    browser = find_browser()
    if browser is None:
        pytest.skip("no Chromium: apt-get install chromium")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as driver:
        launched = driver.chromium.launch(executable_path=str(browser), args=["--no-sandbox"])
        yield launched
        launched.close()
