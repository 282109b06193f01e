"""The written page: whole, closed in itself, the same bytes each time."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest
from lab import assert_clear, environment, finished
from small_report import HOSTILE, SmallReport, request

from analysis.report.gather import Request, gather
from analysis.report.page import embeddable, render
from experiments.declare.load import load_registry
from experiments.store.workspace import REFERENCE, Workspace

VOID = {"meta", "link", "img", "input", "br", "hr", "source"}


class Outline(HTMLParser):
    """What a page consists of; complains where elements are not closed in their order."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.ids: list[str] = []
        self.loaded: list[str] = []  # addresses that a browser would fetch
        self.links: list[str] = []
        self.unnamed: list[str] = []  # pictures without alt, buttons without a name
        self.labels: set[str] = set()
        self.controls: list[dict[str, str | None]] = []
        self._open: list[str] = []
        self._button: tuple[str, list[str]] | None = None
        self.feed(text)
        self.close()
        assert self._open == [], self._open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        assert len(given) == len(attrs), f"an attribute stands twice in {tag} {attrs}"
        if given.get("id"):
            self.ids.append(str(given["id"]))
        for name in ("src", "srcset", "data", "poster", "action"):
            if given.get(name):
                self.loaded.append(str(given[name]))
        if tag == "link":
            self.loaded.append(str(given.get("href")))
        if tag == "a":
            self.links.append(str(given.get("href")))
        if tag == "img" and "alt" not in given:
            self.unnamed.append(str(attrs))
        if tag == "label" and given.get("for"):
            self.labels.add(str(given["for"]))
        if tag in ("input", "select"):
            self.controls.append(given)
        if tag == "button":
            self._button = (str(attrs), [given.get("aria-label") or ""])
        if tag not in VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in ("line", "circle"):
            self.handle_starttag(tag, attrs)

    def handle_data(self, data: str) -> None:
        if self._button:
            self._button[1].append(data)

    def handle_endtag(self, tag: str) -> None:
        assert self._open, f"</{tag}> closes nothing"
        assert self._open.pop() == tag, f"</{tag}> closes another element"
        if tag == "button" and self._button:
            if not "".join(self._button[1]).strip():
                self.unnamed.append(self._button[0])
            self._button = None


@pytest.fixture(scope="module")
def text(small: SmallReport) -> str:
    return small.page.read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def outline(text: str) -> Outline:
    return Outline(text)


def test_ids_are_unique_and_links_lead_somewhere(outline: Outline) -> None:
    assert len(outline.ids) == len(set(outline.ids))
    inside = [link[1:] for link in outline.links if link.startswith("#")]
    assert set(inside) <= set(outline.ids)
    outside = [link for link in outline.links if not link.startswith("#")]
    assert outside == ["https://arxiv.org/abs/2405.06525"]


def test_nothing_is_loaded_from_anywhere(outline: Outline, text: str) -> None:
    assert outline.loaded
    assert all(address.startswith("data:") for address in outline.loaded)
    assert "default-src 'none'" in text
    style = re.search(r"<style>(.*?)</style>", text, re.S)
    assert style is not None
    assert "url(" not in style[1]
    assert "@import" not in style[1]


def test_every_picture_button_and_field_has_a_name(outline: Outline) -> None:
    assert outline.unnamed == []
    for control in outline.controls:
        wrapped = control.get("id") is None  # stands inside its label
        assert wrapped or control["id"] in outline.labels or control.get("aria-label"), control


def test_texts_are_escaped_everywhere(text: str) -> None:
    assert HOSTILE not in text
    assert "<script>alert" not in text
    assert text.count("</script>") == 3  # theme, data, script
    assert "&lt;/script&gt;&lt;script&gt;alert" in text


@pytest.mark.parametrize("bad", ["</script>", "<!--", "]]>", "a & b", "\u2028"])
def test_embedded_data_cannot_leave_its_element(bad: str) -> None:
    import json

    text = embeddable({"label": bad})
    assert not set(text) & set("<>&\u2028")
    assert json.loads(text) == {"label": bad}


def test_equal_records_give_equal_bytes(small: SmallReport, text: str) -> None:
    assert render(gather(request(small.folder, small.results))) == text


def test_missing_stale_and_failed_rows_say_so_in_words(text: str) -> None:
    plain = re.sub(r"<[^>]+>", " ", text.split('<script type="application/json"')[0])
    words = " ".join(plain.split())
    for said in (
        "1 of 3 seeds",
        "changed since: experiments.train.config",
        "the last attempt failed: it diverged",
        "Not run: seed 0: no record",
        "Its mIoU is not compared with the paper’s",
        "Read one way of two.",
    ):
        assert said in words, said


def test_the_command_writes_the_page(small: SmallReport, tmp_path: Path, text: str) -> None:
    results = tmp_path / "results"
    shutil.copytree(small.results, results, ignore=shutil.ignore_patterns("report"))
    shared = ["--registry", str(small.folder), "--data-root", str(small.folder / "no-data")]
    start = [sys.executable, "-W", "ignore", "-m", "experiments", "report"]
    made = finished([*start, "states", "--results", str(results), *shared])
    assert made.returncode == 0, made.stderr
    written = Path(made.stdout.strip())
    assert written == results / "report" / "index.html"
    assert written.read_text(encoding="utf-8") == text

    wrong = finished([*start, "--profile", "trhee", "--results", str(results), *shared])
    assert_clear(wrong, 2, "three")


def test_a_screenshot_of_nothing_is_one_sentence(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "analysis.report.screenshot"]
    command += [str(tmp_path / "none.html"), str(tmp_path / "out.png")]
    failed = subprocess.run(command, capture_output=True, text=True, env=environment(), check=False)
    assert_clear(failed, 1, "report" if "none.html" in failed.stderr else "chromium")


@pytest.fixture(scope="module")
def shipped(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The page of what the project ships, in a copy, without any data set."""
    results = tmp_path_factory.mktemp("shipped") / "reference"
    shutil.copytree(REFERENCE, results)
    registry = load_registry()
    tables = tuple(name for name in registry.tables if registry.tables[name].model == "seaformer_l")
    assert len(tables) >= 8
    workspace = Workspace(results=results, data_root=results / "no-data")
    return render(gather(Request(registry, workspace, items=tables)))


def test_the_shipped_results_stay_under_ten_megabytes(shipped: str) -> None:
    assert len(shipped.encode()) < 10e6
    Outline(shipped)
    assert 'data-profile="camvid"' in shipped
    assert 'data-profile="quick"' in shipped
