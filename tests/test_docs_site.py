"""The documentation as a site: built without a warning, whole, and searchable without a server."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote

import pytest
from lab import PROJECT

if not any((Path(p) / "mkdocs").is_dir() for p in sys.path):
    pytest.skip("mkdocs is missing: ./run_all.sh docs installs it", allow_module_level=True)


class _Page(HTMLParser):
    """Its ids, links and sources, and the text that it shows."""

    def __init__(self, path: Path) -> None:
        super().__init__(convert_charrefs=True)
        self.ids: set[str] = set()
        self.targets: list[str] = []
        self.text = ""
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        self.ids.add(str(given.get("id")))
        for name in ("href", "src"):
            if given.get(name) and tag in ("a", "img", "script", "link"):
                self.targets.append(str(given[name]))

    def handle_data(self, data: str) -> None:
        self.text += data


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("docs")
    built = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "-d", str(folder)],
        cwd=PROJECT,
        env=os.environ | {"NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (built.returncode, built.stderr) == (0, "")
    return folder


def test_every_link_and_picture_of_every_page_is_there(site: Path) -> None:
    pages = {path: _Page(path) for path in site.rglob("*.html") if path.name != "404.html"}
    assert len(pages) > 25
    for path, page in pages.items():
        for target in page.targets:
            file, _, anchor = target.partition("#")
            if "://" in target or target.startswith(("data:", "mailto:")):
                continue
            aim = (path.parent / unquote(file)).resolve() if file else path
            assert aim.exists(), (path.name, target)
            if anchor and aim in pages:
                assert unquote(anchor) in pages[aim].ids | {"__search", "__drawer"}, (path, target)


def test_the_api_says_shapes_and_errors(site: Path) -> None:
    text = _Page(site / "api.html").text
    assert "build_classifier" in text
    assert "ConfigurationError" in text
    assert "(B, D, h, w)" in text
    assert "a name in CLASSIFIERS" in text
    assert not re.search(r":[a-z]+:\w", text), "a role of Sphinx's is shown as text"


def test_nothing_of_the_pages_is_loaded_from_elsewhere(site: Path) -> None:
    page = (site / "index.html").read_text(encoding="utf-8")
    assert "fonts.googleapis.com" not in page
    assert (site / "search" / "search_index.js").is_file()
