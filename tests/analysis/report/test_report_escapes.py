"""Whatever stands in results of others is text in the report: it makes no element, no attribute."""

from __future__ import annotations

import json
import shutil
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

from small_report import SmallReport, request

from analysis.report.gather import gather
from analysis.report.page import render
from experiments.store.records import seal
from experiments.store.store import Store

HOSTILE = (
    "\"><img src=x onerror=alert(1)>'</script><script>alert(2)</script><!-- --> javascript:x "
    "{{ 7 * 7 }} {% raw %} </style></textarea>&lt;b&gt;\u2028"
)


class Shape(HTMLParser):
    """Every element with the names of its attributes, and where links lead."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, tuple[str, ...]]] = []
        self.links: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, tuple(sorted(name for name, _ in attrs))))
        self.links += [value or "" for name, value in attrs if name in ("href", "src", "action")]


def poisoned(document: Any, text: str) -> Any:
    """The document with ``text`` behind every text in it that no check or lookup reads."""
    if isinstance(document, dict):
        return {
            key: value if key in ("spec", "version", "run_id", "code") else poisoned(value, text)
            for key, value in document.items()
        }
    if isinstance(document, list):
        return [poisoned(value, text) for value in document]
    return document + text if isinstance(document, str) else document


def page_of(small: SmallReport, folder: Path, text: str) -> str:
    """The report of the small store with ``text`` behind whatever its files say."""
    results = shutil.copytree(small.results, folder)
    store = Store(results)
    for run_id in store.run_ids():
        path = store.folder(run_id).record
        document = store.peek(run_id)
        if document is None:
            path.write_text("{" + text)
            continue
        document.pop("sha256")
        kept = {name: document[name] for name in ("result_digest", "per_image_sha256")}
        path.write_text(seal(poisoned(document, text) | kept))
    for path in (*results.glob("runs/*/failure.json"), *results.glob("benchmarks/*.json")):
        path.write_text(json.dumps(poisoned(json.loads(path.read_text()), text)))
    for path in results.glob("figures/*.txt"):
        path.write_text(text)
    return render(gather(request(small.folder, results)))


def test_no_text_of_any_file_becomes_an_element(small: SmallReport, tmp_path: Path) -> None:
    hostile = page_of(small, tmp_path / "hostile", HOSTILE)
    plain = page_of(small, tmp_path / "plain", " and so on")
    assert hostile.count("onerror=alert(1)") > 20, "the texts do not reach the page"
    assert HOSTILE not in hostile
    assert Shape(hostile).elements == Shape(plain).elements
    assert not [link for link in Shape(hostile).links if link.lower().startswith("javascript")]


def test_a_picture_that_is_none_is_a_sentence(small: SmallReport, tmp_path: Path) -> None:
    results = shutil.copytree(small.results, tmp_path / "results")
    (picture,) = results.glob("figures/*.png")
    for content in (b"", b"<svg onload=alert(1)>", picture.read_bytes()[:60]):
        picture.write_bytes(content)
        data = gather(request(small.folder, results))
        (figure,) = [each for each in data.figures if "is no picture" in each.blocked]
        assert figure.picture is None
        assert "`./run_all.sh figures`" in figure.blocked
