"""The report as a site: every link leads somewhere, every page stands alone."""

from __future__ import annotations

import argparse
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest
from small_report import HOSTILE, SmallReport
from test_report_page import Outline

from analysis.report.__main__ import write, write_site
from analysis.report.page import render, render_site
from experiments.errors import StoreError
from experiments.store.workspace import DEFAULT_DATA_ROOT


@pytest.fixture(scope="module")
def pages(small: SmallReport) -> dict[str, Outline]:
    return {name: Outline(text) for name, text in render_site(small.data).items()}


def test_each_table_has_a_page_and_the_rest_one_each(
    small: SmallReport, pages: dict[str, Outline]
) -> None:
    tables = {table.name for profile in small.data.profiles for table in profile.tables}
    others = {"index.html", "claims.html", "figures.html", "masks.html", "runs.html"}
    assert set(pages) == others | {f"{name}.html" for name in tables}


def test_every_link_leads_to_an_anchor_that_is_there(pages: dict[str, Outline]) -> None:
    links = [(name, link) for name, page in pages.items() for link in page.links]
    assert len(links) > 5 * len(pages)
    for name, link in links:
        if link.startswith("https://"):
            continue
        file, _, anchor = link.partition("#")
        assert anchor in pages[file or name].ids, (name, link)


def test_each_page_is_whole_and_loads_nothing(pages: dict[str, Outline]) -> None:
    for name, page in pages.items():
        assert len(page.ids) == len(set(page.ids)), name
        assert page.unnamed == [], name
        assert all(source.startswith("data:") for source in page.loaded), name


def test_a_page_carries_the_details_of_its_own_rows_alone(small: SmallReport) -> None:
    site = render_site(small.data)
    some = next(iter(small.data.runs))
    assert some in site["runs.html"]
    assert some not in site["index.html"]
    assert HOSTILE not in "".join(site.values())


class _Texts(HTMLParser):
    """The texts of ``<pre>`` by their ids."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.texts: dict[str, str] = {}
        self._open = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "pre":
            self._open = str(dict(attrs).get("id"))
            self.texts[self._open] = ""

    def handle_data(self, data: str) -> None:
        if self._open:
            self.texts[self._open] += data

    def handle_endtag(self, tag: str) -> None:
        if tag == "pre":
            self._open = ""


def test_a_tables_latex_and_csv_can_be_taken_from_its_page(small: SmallReport) -> None:
    profile = small.data.profiles[0]
    for table in profile.tables:
        texts = _Texts(render_site(small.data)[f"{table.name}.html"]).texts
        assert texts[f"{profile.name}.{table.name}.csv"] == table.texts["CSV"]
        assert texts[f"{profile.name}.{table.name}.latex"] == table.texts["LaTeX"]
        assert "\\begin{table" in table.texts["LaTeX"]


def test_pages_have_titles_captions_and_addresses_of_rows_and_claims(
    small: SmallReport, pages: dict[str, Outline]
) -> None:
    site = render_site(small.data)
    titles = [text.partition("<title>")[2].partition("</title>")[0] for text in site.values()]
    assert len(set(titles)) == len(site)
    for name, text in site.items():
        assert text.count("<table") == text.count("<caption"), name
        assert text.count("<h1") == text.count("<main") == 1, name
    for page, anchor in (
        ("states.html", "three.states"),
        ("states.html", "three.states.full"),
        ("claims.html", "three.claim.states.full-helps"),
    ):
        assert anchor in pages[page].ids
        assert f"#{anchor}" in pages[page].links


def test_a_profile_without_the_table_says_so(small: SmallReport) -> None:
    first = small.data.profiles[0]
    bare = replace(first, name="bare", tables=())
    data = replace(small.data, profiles=(first, bare), claims=(), figures=(), scenes=())
    page = render_site(data)["states.html"]
    assert "The profile bare does not have this table" in page
    assert f"The profile {first.name} does not" not in page
    assert "does not have this table" not in render(data)


def test_a_page_of_somebody_else_stays(small: SmallReport, tmp_path: Path) -> None:
    pages = render_site(small.data)
    write_site(pages, tmp_path / "site")
    write_site(pages, tmp_path / "site")  # its own is written anew
    (tmp_path / "claims.html").write_text("mine")
    with pytest.raises(StoreError, match=r"claims\.html is no page of a report"):
        write_site(pages, tmp_path)
    assert not (tmp_path / "index.html").exists()
    assert (tmp_path / "claims.html").read_text() == "mine"


@pytest.mark.slow
def test_a_reader_without_runs_sees_the_shipped_ones_marked_so(tmp_path: Path) -> None:
    options = argparse.Namespace(
        items=["table8"],
        profile=["quick"],
        results=tmp_path / "results",
        data_root=DEFAULT_DATA_ROOT,
        registry=[],
        site=tmp_path / "site",
    )
    assert write(options) == tmp_path / "site" / "index.html"
    text = (tmp_path / "site" / "index.html").read_text(encoding="utf-8")
    assert "These are not your runs." in text
    assert "7 of the 7 rows" in text
    assert not (tmp_path / "results").exists()
